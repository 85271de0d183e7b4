"""The forms in which people have their data: units, zones, other names, frames and several files."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import ConfigurationError, F, HeliconeClient
from helicone_sessions.local import LocalServer
from helicone_sessions.local.storage.fields import as_markdown
from helicone_sessions.local.storage.rows import Loaded

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

Row = dict[str, Any]
TIME = "2026-10-01T12:00:00Z"


async def load(data: Any, **options: Any) -> Loaded:
    async with LocalServer(data, **options) as server:
        return server.loaded


async def cost_of(data: Any, filter_: Any = None, **options: Any) -> float | None:
    async with (
        LocalServer(data, **options) as server,
        HeliconeClient(server.api_key, base_url=server.url, cautions="ignore") as client,
    ):
        return (await client.get_metrics(filter_)).average.session_cost


def lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_fields_are_documented() -> None:
    """The documentation shows the table of fields."""
    page = Path(__file__).parents[2] / "docs" / "loading.md"
    if not page.exists():
        pytest.skip("the documentation is not installed")
    assert as_markdown() in page.read_text()


@pytest.mark.parametrize("count", [1, 100])
async def test_costs_in_billionths(tmp_path: Path, count: int) -> None:
    """A dump of Helicone's own table is refused until its unit is given."""
    rows = [{"request_created_at": TIME, "cost": 250_000_000}] * count
    path = lines(tmp_path / "dump.jsonl", rows)
    with pytest.raises(ConfigurationError, match=r"250000000 is implausible .*cost_unit='billionths'"):
        await load(path)
    with pytest.raises(ConfigurationError, match="line 1, field 'cost'"):
        await load(path, rejects=tmp_path / "rejects.jsonl")
    assert count * 0.25 == await cost_of(path, cost_unit="billionths")
    assert count * 250e6 == await cost_of(path, cost_unit="dollars")


@pytest.mark.parametrize("count", [1, 100])
async def test_cost_counts_before_cost_usd(tmp_path: Path, count: int) -> None:
    """The stored cost counts before the one that the API works out again; differences are counted."""
    rows = [{"request_created_at": TIME, "cost": 0.25, "costUSD": 0.5}] * count
    rows += [{"request_created_at": TIME, "cost": 0.25, "costUSD": 0.25}, {"request_created_at": TIME}]
    loaded = await load(lines(tmp_path / "r.jsonl", rows))
    assert (count, 1) == (loaded.cost_differences, loaded.without_cost)
    assert 0.25 * (count + 1) == await cost_of(tmp_path / "r.jsonl")


@pytest.mark.parametrize("count", [1, 100])
async def test_missing_values_are_counted(tmp_path: Path, count: int) -> None:
    """The result of a load tells how many requests have no cost, status or model."""
    rows: list[Row] = [{"request_created_at": TIME, "model": None, "status": 200}] * count
    rows += [{"request_created_at": TIME, "cost": 0, "model": "o3"}]
    loaded = await load(lines(tmp_path / "r.jsonl", rows))
    assert (count, 1, count) == (loaded.without_cost, loaded.without_status, loaded.without_model)
    assert f"{count} of {count + 1} requests have no cost" in " ".join(loaded.remarks())


@pytest.mark.parametrize("zone", ["UTC", UTC, "Europe/Berlin"])
@pytest.mark.parametrize("count", [1, 100])
async def test_times_without_zone(tmp_path: Path, zone: Any, count: int) -> None:
    """Times without a zone, as ClickHouse writes them, are in the zone that is assumed."""
    path = lines(tmp_path / "r.jsonl", [{"request_created_at": "2026-10-01 12:00:00.5", "cost": 1}] * count)
    with pytest.raises(ConfigurationError, match="`assume_time_zone` is for times without one"):
        await load(path)
    hour = 10 if zone == "Europe/Berlin" else 12
    same = F.request_created_at == datetime(2026, 10, 1, hour, 0, 0, 500_000, tzinfo=UTC)
    assert float(count) == await cost_of(path, same, assume_time_zone=zone)


@pytest.mark.parametrize("count", [1, 100])
async def test_columns_of_another_name(tmp_path: Path, count: int) -> None:
    """A column of another name holds the field that it is mapped to, before one of that name."""
    rows = [{"Started": TIME, "cost": 5, "price": 1}] * count
    path = lines(tmp_path / "r.jsonl", rows)
    mapped = {"Started": "request_created_at", "price": "cost"}
    assert float(count) == await cost_of(path, columns=mapped)
    assert mapped == {
        name: column for name, column in (await load(path, columns=mapped)).mapped.items() if name in mapped
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"columns": {"a": "costs"}}, "got 'costs'. Did you mean 'cost'"),
        ({"columns": 5}, "columns must be a mapping"),
        ({"cost_unit": "cents"}, "cost_unit must be 'dollars' or 'billionths', got 'cents'"),
        ({"assume_time_zone": "Mars"}, "assume_time_zone must be the name of a time zone, got 'Mars'"),
        ({"assume_time_zone": 5}, "assume_time_zone must be the name of a time zone, got 5"),
    ],
)
def test_wrong_options(options: Row, problem: str) -> None:
    """An option that cannot be used is refused at once."""
    with pytest.raises(ConfigurationError, match=problem):
        LocalServer(**options)


async def test_unknown_columns_are_explained(tmp_path: Path) -> None:
    """An unknown column is reported with the field that it probably means."""
    (tmp_path / "r.csv").write_text(f",request_created_at,Session ID,note\n0,{TIME},s1,x\n")
    with pytest.warns(UserWarning, match=r"ignored: '', Session ID \(did you mean session_id\? .*, note$"):
        loaded = await load(tmp_path / "r.csv")
    assert 1 == loaded.rows


def _pandas(columns: Row) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def _polars(columns: Row) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


def _arrow(columns: Row) -> Any:
    return pytest.importorskip("pyarrow").table(columns)


@pytest.mark.parametrize("make", [_pandas, _polars, _arrow])
@pytest.mark.parametrize("count", [1, 100])
async def test_frames(make: Callable[[Row], Any], count: int) -> None:
    """A frame is data like a file; missing values of pandas are missing."""
    frame = make(
        {
            "request_created_at": [datetime(2026, 10, 1, tzinfo=UTC)] * count,
            "session_id": ["a"] * count,
            "cost": [0.5] * (count - 1) + [float("nan")],
            "latency": [850.5] * count,
        }
    )
    loaded = await load(frame)
    assert (count, 1) == (loaded.rows, loaded.without_cost)
    assert (count - 1) * 0.5 == await cost_of(frame, F.latency == 850)


async def test_several_files(tmp_path: Path) -> None:
    """A list of files or a pattern is all of them, in order."""
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", [{"request_created_at": TIME, "cost": 1}] * 3)
    for data in ([tmp_path / "a.jsonl", str(tmp_path / "b.jsonl")], str(tmp_path / "*.jsonl")):
        assert 6.0 == await cost_of(data)
    with pytest.raises(ConfigurationError, match=r"data matches no file: .*\*.csv"):
        await load(str(tmp_path / "*.csv"))
    with pytest.raises(ConfigurationError, match="is the data itself"):
        await load(str(tmp_path / "*.jsonl"), rejects=tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        '[{"request_created_at": "2026-10-01T12:00:00Z", "cost": 2},\n]',
        '\ufeff[{"request_created_at": "2026-10-01T12:00:00Z", "cost": 2},',
    ],
)
async def test_lists_with_a_trailing_comma(tmp_path: Path, text: str) -> None:
    """A list of rows may end with a comma, as a writer that appends rows leaves it."""
    (tmp_path / "r.json").write_text(text)
    assert 2.0 == await cost_of(tmp_path / "r.json")


@pytest.mark.parametrize("count", [1, 100])
async def test_lines_with_marks_and_commas(tmp_path: Path, count: int) -> None:
    """A byte order mark may begin any line, as in files that were joined, and a comma may end one."""
    row = json.dumps({"request_created_at": TIME, "cost": 1})
    (tmp_path / "r.jsonl").write_text(f"\ufeff{row},\n" * count)
    assert float(count) == await cost_of(tmp_path / "r.jsonl")


async def test_utf_16(tmp_path: Path) -> None:
    """A file in UTF-16 is refused with what it is."""
    (tmp_path / "r.csv").write_text("request_created_at\n", encoding="utf-16")
    with pytest.raises(ConfigurationError, match=r"r\.csv is UTF-16\. Save it as UTF-8"):
        await load(tmp_path / "r.csv")


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("form", [lambda body: body, json.dumps])
async def test_placeholders_of_bodies(tmp_path: Path, form: Callable[[Row], Any], count: int) -> None:
    """A notice that the API sends in place of a body is no body."""
    body = form({"helicone_message": "fetching body from signed_url"})
    rows = [{"request_created_at": TIME, "cost": 1, "request_body": body, "storage_location": "s3"}] * count
    path = lines(tmp_path / "r.jsonl", rows)
    assert float(count) == await cost_of(path, F.request_body == "")
    assert set() == (await load(path)).ignored


async def test_blank_lines_of_csv(tmp_path: Path) -> None:
    """Blank lines between the rows of a CSV file are no rows, and spaces after its commas no content."""
    row = "2026-10-01T12:00:00Z, a, 0.5\n\n"
    (tmp_path / "r.csv").write_text(f"request_created_at, session_id, cost\n{row * 100}")
    assert 50.0 == await cost_of(tmp_path / "r.csv", F.session_session_id == "a")
