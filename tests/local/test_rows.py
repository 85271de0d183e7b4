"""Data in: rows and files of every form give the same answer, and what cannot be read is named."""

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions import ConfigurationError, F, HeliconeClient, MissingExtra
from helicone_sessions.local import LocalServer

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

Row = dict[str, Any]

TIME = "2026-11-01T12:00:00Z"


def _row(number: int) -> Row:
    properties = {"Helicone-Session-Id": f"s{number % 7}", "Helicone-Session-Name": "chat"}
    properties |= {"env": ["prod", "test, \"quoted\"\nand 'more'"][number % 2]} if number % 5 else {}
    made = datetime(2026, 10, 31, 23, 59, tzinfo=UTC) + timedelta(seconds=3 * number, milliseconds=number)
    return {
        "request_id": str(UUID(int=number + 1)),
        "request_created_at": made,
        "latency": 100 * number if number % 3 else None,
        "prompt_tokens": number,
        "cost": number / 8,
        "model": ["gpt-4o", "o3", "日本😀"][number % 3],
        "threat": [True, False, None][number % 3],
        "cache_enabled": number % 2 == 0,
        "properties": properties,
        "scores": {"quality": number % 4} if number % 2 else None,
        "assets": [f"a{number % 3}", "b,c"] if number % 4 else None,
        "session_tag": ["vip"] if number % 7 == 2 else None,
        "request_body": 'say "x",\n\\ and \t more',
    }


ROWS = [_row(number) for number in range(40)]
TREES: list[tuple[Any, ...]] = [
    ("and", ("cost", "gt", 1.5), ("latency", "lte", 3000)),
    ("or", ("properties", "contains", 'QUOTED"\n', "env"), ("scores", "equals", "3", "quality")),
    ("or", ("assets", "equals", "a2"), ("session_tag", "equals", "vip")),
    ("and", ("not", ("threat", "equals", True)), ("cache_enabled", "equals", True)),
    ("and", ("request_body", "like", 'say "x",\n\\\\%\t%more'), ("model", "equals", "日本😀")),
    ("and", ("property_key", "equals", "env"), ("request_created_at", "gte", ROWS[20]["request_created_at"])),
]


def _as_json(row: Row) -> Row:
    return {**row, "request_created_at": row["request_created_at"].isoformat()}


def _json_lines() -> bytes:
    return "\n".join(json.dumps(_as_json(row)) for row in ROWS).encode()


def _csv() -> bytes:
    def cell(value: object) -> object:
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(ROWS[0]))
    table.writeheader()
    table.writerows({name: cell(value) for name, value in _as_json(row).items()} for row in ROWS)
    return text.getvalue().encode()


def _parquet() -> bytes:
    pa = pytest.importorskip("pyarrow", reason="the extra `local` is not installed")
    from pyarrow import parquet

    types = {
        "request_created_at": pa.timestamp("ms", tz="Europe/Berlin"),
        "cost": pa.decimal128(18, 9),
        "properties": pa.map_(pa.string(), pa.string()),
        "scores": pa.map_(pa.string(), pa.int64()),
    }
    rows = [row | {"cost": Decimal(row["cost"])} for row in ROWS]
    table = pa.table(
        {name: pa.array([row[name] for row in rows], types.get(name)) for name in ROWS[0]},
    )
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "r.jsonl": _json_lines,
    "r.ndjson": lambda: b"\xef\xbb\xbf" + _json_lines().replace(b"\n", b"\r\n\n"),
    "r.jsonl.gz": lambda: gzip.compress(_json_lines()),
    "r.json": lambda: json.dumps([_as_json(row) for row in ROWS]).encode(),
    "answer.json": lambda: json.dumps({"data": [_as_json(row) for row in ROWS], "error": None}).encode(),
    "r.json.gz": lambda: gzip.compress(json.dumps([_as_json(row) for row in ROWS]).encode()),
    "r.csv": _csv,
    "two.dots.CSV": _csv,
    "r.csv.gz": lambda: gzip.compress(_csv()),
    "r.parquet": _parquet,
}


async def _same(serve: Any, oracle: Any, data: Any) -> None:
    known = oracle(ROWS)
    async with serve(data) as client:
        for tree in TREES:
            assert known.answer(tree) == oracle.summary(await client.get_metrics(oracle.built(tree)))


@pytest.mark.parametrize("form", [list, tuple, iter, lambda rows: (row for row in rows)])
async def test_rows_in_memory(serve: Any, oracle: Any, form: Callable[[list[Row]], Any]) -> None:
    """Rows come as a list, a tuple, an iterator or a generator."""
    await _same(serve, oracle, form(ROWS))


@pytest.mark.parametrize(("name", "form"), [("r.jsonl", str), *((name, Path) for name in FILES)])
async def test_files(serve: Any, oracle: Any, tmp_path: Path, name: str, form: type) -> None:
    """A file of every format gives the same answers as its rows in memory; its path may be text."""
    (tmp_path / name).write_bytes(FILES[name]())
    await _same(serve, oracle, form(tmp_path / name))


def test_every_tree_divides(oracle: Any) -> None:
    """Each of the filters that these tests ask with selects some of the rows and leaves some out."""
    assert [True] * len(TREES) == [0 < len(oracle(ROWS).requests(tree)) < len(ROWS) for tree in TREES]


EXPORTED = {
    "status": "response_status",
    "latency": "delay_ms",
    "user_id": "request_user_id",
    "cost": "costUSD",
    "properties": "request_properties",
    "assets": "asset_ids",
}


async def _answers(serve: Any, data: Any, *asked: Any) -> list[float | None]:
    async with serve(data) as served:
        client = served.with_options(cautions="ignore")
        return [(await client.get_metrics(each)).average.session_cost for each in asked]


async def test_export_names(serve: Any) -> None:
    """The columns of Helicone's request export are read as those of the table."""
    row = {
        "request_created_at": TIME,
        "status": 201,
        "latency": 30,
        "user_id": "u1",
        "cost": 2.5,
        "properties": {"Helicone-Session-Id": "s1"},
        "assets": ["a1"],
    }
    asked = [
        F.status == 201,
        F.latency == 30,
        F.user_id == "u1",
        F.cost == 2.5,
        F.session_session_id == "s1",
        F.assets == "a1",
    ]
    exported = {EXPORTED.get(name, name): value for name, value in row.items()}
    assert [2.5] * 6 == await _answers(serve, [row], *asked) == await _answers(serve, [exported], *asked)


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["request_model"], "request_model"),
        (["request_model", "response_model"], "response_model"),
        (["request_model", "response_model", "model_override"], "model_override"),
        (["request_model", "response_model", "model_override", "model"], "model"),
    ],
)
async def test_model_of_an_export(serve: Any, names: list[str], model: str) -> None:
    """Of the names of a model that an export holds, the nearest to what was billed counts."""
    row = {"request_created_at": TIME, "cost": 1} | {name: name for name in names}
    assert [1.0] == await _answers(serve, [row], F.model == model)


async def test_first_value_counts(serve: Any) -> None:
    """Where the first of two names of a column holds null, the second counts."""
    row = {"request_created_at": TIME, "costUSD": None, "cost": 3, "latency": None, "delay_ms": 7}
    assert [3.0] == await _answers(serve, [row], F.latency == 7)


@pytest.mark.parametrize(
    ("column", "value", "asked"),
    [
        ("properties.env", "prod", F.properties["env"] == "prod"),
        ("properties.a.b", "c", F.properties["a.b"] == "c"),
        ("properties.n", 5, F.properties["n"] == "5"),
        ("scores.quality", 4, F.scores["quality"] == 4),
        ("scores.quality", "4", F.scores["quality"] == 4),
        ("scores.good", True, F.scores["good"] == 1),
        ("session_id", "s9", F.session_session_id == "s9"),
        ("session_name", "chat", F.session_session_name == "chat"),
        ("session_path", "/a", F.properties["Helicone-Session-Path"] == "/a"),
        ("feedback_rating", True, F.helicone_score_feedback.is_true()),
        ("feedback_rating", "false", F.helicone_score_feedback.is_false()),
        ("session_tag", "vip", F.session_tag == "vip"),
        ("session_tags", ["vip", "beta"], F.session_tag == "beta"),
        ("session_tags", '["vip", "beta"]', F.session_tag == "beta"),
        ("assets", '["a", "b"]', F.assets == "b"),
        ("properties", '{"env": "prod"}', F.properties["env"] == "prod"),
        ("request_id", UUID(int=5), F.request_id == str(UUID(int=5))),
        ("request_id", UUID(int=5).hex.upper(), F.request_id == UUID(int=5)),
        ("threat", "TRUE", F.threat.is_true()),
        ("threat", "0", F.threat.is_false()),
        ("latency", "12", F.latency == 12),
        ("latency", 12.0, F.latency == 12),
        ("latency", Decimal(12), F.latency == 12),
        ("total_tokens", 5, F.total_tokens.lt(0) | F.prompt_tokens.lt(0) | F.cost.eq(1)),
    ],
)
async def test_forms_of_values(serve: Any, column: str, value: object, asked: Any) -> None:
    """Flat columns stand for a key of a map, and values may come as text, as CSV has nothing else."""
    rows = [
        {"request_created_at": TIME, "cost": 1, "session_id": "one"} | {column: value},
        {"request_created_at": TIME, "cost": 100, "session_id": "another"},
    ]
    assert [1.0] == await _answers(serve, rows, asked)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 1, 12, 0, 0, 1999, tzinfo=UTC),
        datetime(2026, 11, 1, 7, 0, 0, 1000, tzinfo=timezone(timedelta(hours=-5))),
        "2026-11-01T12:00:00.001Z",
        "2026-11-01 13:00:00.001+01:00",
    ],
)
async def test_times(serve: Any, moment: object) -> None:
    """A time comes in any zone, as a datetime or as text, and is kept to the millisecond."""
    same = F.request_created_at == datetime(2026, 11, 1, 12, 0, 0, 1000, tzinfo=UTC)
    assert [2.0] == await _answers(serve, [{"request_created_at": moment, "cost": 2}], same)


@pytest.mark.parametrize(
    ("dollars", "found"),
    [(0.1, 0.1), ("0.123456789", 0.123456789), (Decimal("1e-9"), 1e-9), (0, 0.0), (None, 0.0), (1e9, 1e9)],
)
async def test_costs(serve: Any, dollars: object, found: float) -> None:
    """A cost in dollars is kept in billionths, without loss."""
    asked = (F.cost >= found) & (F.cost <= found) & (F.cost == found)
    assert [found] == await _answers(serve, [{"request_created_at": TIME, "costUSD": dollars}], asked)


async def test_cost_of_a_session_beyond_the_type(serve: Any) -> None:
    """A session may cost more than a column of billionths of a dollar can hold."""
    assert [2e10] == await _answers(serve, [{"request_created_at": TIME, "costUSD": 1e10}] * 2, None)


async def test_seconds_before_1970(serve: Any) -> None:
    """A duration is the difference of whole seconds, before 1970 too."""
    rows = [
        {"request_created_at": f"1969-12-31T23:59:{second}Z"} for second in ("57.900", "58.100", "59.999")
    ]
    async with serve(rows) as client:
        assert 2.0 == (await client.get_metrics()).average.session_duration


async def test_unknown_columns_are_named() -> None:
    """Columns that no filter can ask for are left out with a warning that names each of them once."""
    rows = [
        {"request_created_at": TIME, "colour": 1, "request_path": "/"},
        {"request_created_at": TIME, "b": 2},
    ]
    server = LocalServer(rows)
    with pytest.warns(UserWarning, match="unknown columns are ignored: b, colour$") as caught:
        await server.start()
    await server.aclose()
    assert 1 == len(caught)
    assert ({"b", "colour"}, 2) == (server.loaded.ignored, server.loaded.rows)


REFUSED: list[tuple[str, Row, str]] = [
    ("request_created_at", {"request_created_at": "yesterday"}, "an aware datetime or ISO 8601 text"),
    ("request_created_at", {"request_created_at": 1_700_000_000}, "an aware datetime or ISO 8601 text"),
    ("request_created_at", {"request_created_at": "2026-11-01T00:00:00"}, "a time with its zone"),
    ("request_created_at", {"request_created_at": datetime(2026, 11, 1)}, "a time with its zone"),  # noqa: DTZ001
    ("response_created_at", {"response_created_at": "soon"}, "an aware datetime or ISO 8601 text"),
    ("cost", {"cost": -0.01}, "dollars from 0"),
    ("cost", {"cost": "cheap"}, "must be a number, got 'cheap'"),
    ("cost", {"cost": float("inf")}, "must be a finite number, got inf"),
    ("cost", {"cost": 1e11}, "dollars from 0"),
    ("costUSD", {"costUSD": "-1"}, "dollars from 0"),
    ("latency", {"latency": "many"}, "must be a number, got 'many'"),
    ("latency", {"latency": -1}, "must be milliseconds, 0 or more, got -1"),
    ("prompt_tokens", {"prompt_tokens": 1.5}, "must be a whole number, got 1.5"),
    ("prompt_tokens", {"prompt_tokens": "-1"}, "must be a whole number, 0 or more, got '-1'"),
    ("latency", {"latency": True}, "must be a number, got True"),
    ("latency", {"latency": 2**63}, "must be milliseconds, 0 or more"),
    ("delay_ms", {"delay_ms": []}, "must be a number, got []"),
    ("response_status", {"response_status": "ok"}, "must be a number, got 'ok'"),
    ("prompt_tokens", {"prompt_tokens": float("inf")}, "must be a finite number, got inf"),
    ("request_id", {"request_id": 7}, "must be a UUID, got 7"),
    (
        "response_created_at",
        {"response_created_at": "1850-01-01T00:00:00Z"},
        "must be a time between the years 1900 and 2299, got '1850-01-01T00:00:00Z'",
    ),
    ("model", {"model": [4]}, "must be text, got [4]"),
    ("request_referrer", {"request_referrer": {"a": "b" * 500}}, "must be text, got {'a': 'bbbb"),
    ("threat", {"threat": "maybe"}, "must be true or false, got 'maybe'"),
    ("assets", {"assets": [1]}, "must be a list of strings, got [1]"),
    ("session_tags", {"session_tags": {"a": 1}}, "must be a list of strings"),
    ("properties", {"properties": 5}, "must be an object with strings as keys, got 5"),
    ("properties", {"properties": {5: "x"}}, "must be an object with strings as keys"),
    ("properties", {"properties": "{broken"}, "must be an object, or the JSON text of one, got '{broken'"),
    (
        "properties",
        {"properties": '{"a": [NaN]}'},
        "must be JSON, which has null in place of NaN and infinity, got [nan]",
    ),
    ("response_body", {"response_body": {"a": [b"x"]}}, "must be text, got b'x': JSON has no bytes"),
    ("cost", {"cost": "1e999999999"}, "must be dollars from 0 to 18 billion, got '1e999999999'"),
    ("latency", {"latency": "-1e999999999"}, "must be milliseconds, 0 or more, got '-1e999999999'"),
    ("session_tag", {"session_tag": "vip"}, "because the row has no session_id"),
    ("scores", {"scores": {"quality": "good"}}, "must be a number, got 'good'"),
    ("scores.quality", {"scores.quality": 0.5}, "must be a whole number, got 0.5"),
]


async def _refusal(data: Any) -> str:
    server = LocalServer(data)
    with pytest.raises(ConfigurationError) as caught:
        await server.start()
    with pytest.raises(ConfigurationError, match=r"is not running|was stopped"):
        _ = server.url
    error = caught.value
    return f"{error.argument or error.field} {error.problem}"


@pytest.mark.parametrize(("field", "wrong", "due"), REFUSED, ids=lambda value: str(value)[:30])
async def test_refused_values(field: str, wrong: Row, due: str) -> None:
    """The error of an invalid value names its row, its field and the expected form."""
    message = await _refusal([{"request_created_at": TIME}, {"request_created_at": TIME} | wrong])
    assert message.startswith(f"row 1, field '{field}' ")
    assert due in message
    assert len(message) < 200


async def test_refused_path() -> None:
    """A path that is empty, as of a variable that is not set, is refused by name."""
    assert "data is an empty path" == await _refusal("")


async def test_requests_without_assets() -> None:
    """Requests with no assets and requests without the field are the same."""
    assets: list[Any] = [["a"], [], None, ["", "b"], []]
    rows = [{"request_created_at": TIME, "cost": cost, "assets": of} for cost, of in enumerate(assets)]
    async with LocalServer(rows) as server, HeliconeClient(server.api_key, base_url=server.url) as client:
        metrics = await client.get_metrics(F.assets.is_empty())
    assert 1 + 2 + 4 == metrics.average.session_cost


@pytest.mark.parametrize("text", ["r-1", "x" * 32])
async def test_refused_uuids(text: str) -> None:
    """Text that is no UUID is refused like every other wrong value."""
    message = await _refusal([{"request_created_at": TIME, "request_id": text}])
    assert f"row 0, field 'request_id' must be a UUID, got {text!r}" == message


@pytest.mark.parametrize("row", [None, 5, "text", ["a"], b"x"])
async def test_rows_are_objects(row: object) -> None:
    """A row that is no object is refused with its place."""
    expected = f"row 1 must be an object, got {row!r}"
    assert expected == await _refusal([{"request_created_at": TIME}, row])


@pytest.mark.parametrize(
    ("row", "more"),
    [
        ({}, ""),
        ({"request_created_at": None}, ""),
        ({"cost": 1}, ", only 'cost'"),
        (
            {"cost": 1, "Started": TIME},
            ", only 'cost', 'Started'. If 'Started' is its time, map it with `columns`",
        ),
        (dict.fromkeys("abcdefghi"), ", only 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', …"),
    ],
)
async def test_requests_need_a_time(row: Row, more: str) -> None:
    """A request without the time it was made is refused with its place and the columns that it has."""
    message = await _refusal([{"request_created_at": TIME}, row])
    assert f"row 1 has no request_created_at{more}" == message


@pytest.mark.parametrize("data", [5, None, {"request_created_at": TIME}, b"rows"])
async def test_data_is_rows_or_a_path(data: object) -> None:
    """Data that is neither a path nor rows is refused."""
    assert f"data must be a path or an iterable of rows, got {type(data).__name__}" == await _refusal(data)


BAD: dict[str, tuple[bytes, str]] = {
    "a.jsonl": (
        b'{"request_created_at": "2026-11-01T12:00:00Z"}\n\n{"cost": -1}',
        "line 3, field 'cost' must be",
    ),
    "b.jsonl": (b'{"request_created_at": "2026-11-01T12:00:00Z"}\n{"cost":', "line 2 is not JSON: "),
    "c.jsonl": (b'{"cost": 1}', "line 1 has no request_created_at"),
    "nan.jsonl": (
        b'{"request_created_at": "2026-11-01T12:00:00Z", "properties": {"a": [NaN]}}',
        "line 1, field 'properties' must be JSON, which has null",
    ),
    "d.jsonl": (b"[1]", "line 1 must be an object, got [1]"),
    "e.json": (
        b'[{"request_created_at": "2026-11-01T12:00:00Z"}, {"latency": "x"}]',
        "row 1, field 'latency' must be",
    ),
    "f.json": (
        b'{"request_created_at": "2026-11-01T12:00:00Z"}',
        "must be a list of rows",
    ),
    "g.json": (b"[{}", "is not JSON: "),
    "h.json": (b"[" * 100_000, "is not JSON: "),
    "i.csv": (
        b"request_created_at,cost\n2026-11-01T12:00:00Z,1\n2026-11-01T12:00:00Z,-1\n",
        "line 3, field 'cost'",
    ),
    "j.csv": (
        b"request_created_at,cost\n2026-11-01T12:00:00Z,1,2\n",
        "line 2 does not have as many fields",
    ),
    "k.csv": (b"request_created_at,cost\n2026-11-01T12:00:00Z\n", "line 2 does not have as many fields"),
    "l.csv": (b'request_created_at,model\n2026-11-01T12:00:00Z,"a"b\n', "line 2 is not CSV: "),
    "l2.csv": (
        b'request_created_at,model\n2026-11-01T12:00:00Z,"a\nb\n',
        "line 3 is not CSV: unexpected end of data (the row begins at line 2)",
    ),
    "l3.csv": (b'request_created_at,"model"x\n', "line 1 is not CSV: "),
    "l4.csv": (b"request_created_at,model\n\n2026-11-01T12:00:00Z,\xff\n", "line 3 is not UTF-8"),
    "l5.csv": (b"request_created_at,\xff\n", "line 1 is not UTF-8"),
    "m.jsonl": (b'{"cost": 1\n{"model": "\xff"}', "line 1 is not JSON: "),
    "m2.jsonl": (b'\n{"model": "\xff"}', "line 2 is not UTF-8: "),
    "m3.json": (b'[{"model": "\xff"}]', "cannot be read: "),
    "m4.csv": (b"a,b,a\n1,2,3\n", "line 1 has the column 'a' twice"),
    "n.jsonl.gz": (b"no gzip", "cannot be read: Not a gzipped file"),
    "o.jsonl.gz": (
        gzip.compress(b'{"request_created_at": "2026-11-01T12:00:00Z"}\n' * 9)[:-9],
        "cannot be read: ",
    ),
    "p.parquet": (b"PAR1 but no more PAR1", "cannot be read: "),
    "q.parquet": (b"", "cannot be read: "),
    "r.parquet.gz": (gzip.compress(b"PAR1"), "cannot be read: "),
    "s.txt": (b"", "has an unknown format"),
    "t": (b"", "has an unknown format"),
    "u.gz": (b"", "has an unknown format"),
}


@pytest.mark.parametrize("name", BAD)
async def test_refused_files(tmp_path: Path, name: str) -> None:
    """A file that cannot be read is refused with its name, the place in it and what is wrong."""
    if ".parquet" in name:
        pytest.importorskip("pyarrow", reason="the extra `local` is not installed")
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    assert re.search(rf"(^|/){re.escape(name)}[:,]? {re.escape(message)}", await _refusal(tmp_path / name))


async def test_directory(tmp_path: Path) -> None:
    """The error for a directory says what is expected."""
    (tmp_path / "data.jsonl").mkdir()
    assert (await _refusal(tmp_path / "data.jsonl")).startswith(f"{tmp_path / 'data.jsonl'} is a directory")


async def test_empty_csv(serve: Any, tmp_path: Path) -> None:
    """A CSV file without a head has no rows, and empty lines are none."""
    (tmp_path / "r.csv").write_text("")
    (tmp_path / "s.csv").write_text("request_created_at,cost\n\n2026-11-01T12:00:00Z,2\n\n")
    assert [None] == await _answers(serve, tmp_path / "r.csv", None)
    assert [2.0] == await _answers(serve, tmp_path / "s.csv", None)


async def test_refused_parquet_value(tmp_path: Path) -> None:
    """A value of a Parquet file that cannot be read is refused with its row and field."""
    pa = pytest.importorskip("pyarrow", reason="the extra `local` is not installed")
    from pyarrow import parquet

    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"request_created_at": [TIME, TIME], "cost": [1.0, -1.0]}), path)
    assert (await _refusal(path)).startswith("r.parquet, row 1, field 'cost' must be dollars")


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.json", "gone.csv", "gone.jsonl.gz", "gone.parquet"])
async def test_missing_files(tmp_path: Path, name: str) -> None:
    """A file that is not there is named."""
    if name == "gone.parquet":
        pytest.importorskip("pyarrow", reason="the extra `local` is not installed")
    assert re.match(f"{name} cannot be read: .*No such file", await _refusal(tmp_path / name))


async def test_missing_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Parquet file where pyarrow is not installed names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "r.parquet").touch()
    with pytest.raises(MissingExtra) as caught:
        await LocalServer(tmp_path / "r.parquet").start()
    assert "local" == caught.value.extra


@pytest.mark.parametrize("first", [{"organization_id": str(UUID(int=1))}, {}])
async def test_one_organisation(first: Row) -> None:
    """Rows of two organisations are refused: a server answers for one."""
    rows: list[Row] = [
        {"request_created_at": TIME, **row} for row in (first, {"organization_id": UUID(int=2)})
    ]
    assert (await _refusal(rows)).startswith("row 1, field 'organization_id' must be ")


async def test_named_organisation(serve: Any) -> None:
    """The organisation that the rows name is theirs, and that of the rows which name none."""
    rows = [{"request_created_at": TIME, "cost": 1, "organization_id": UUID(int=9)}]
    rows += [{"request_created_at": TIME, "cost": 2}]
    assert [3.0, None] == await _answers(
        serve, rows, F.organization_id == UUID(int=9), F.organization_id != UUID(int=9)
    )


@pytest.mark.parametrize("batch", [20_000, 1, 2])
async def test_sent_again(serve: Any, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """A request that is in the data several times counts once, in its last form."""
    monkeypatch.setattr("helicone_sessions.local.storage.rows._BATCH", batch)
    again: Row = {"request_id": str(UUID(int=1)), "request_created_at": TIME}
    rows = [again | {"cost": cost, "model": f"m{cost}"} for cost in (5, 1, 4, 2, 3)]
    rows += [{"request_created_at": TIME, "cost": 10}]
    async with serve(rows) as client:
        every = (await client.get_metrics()).average
        assert (2.0, 13.0) == (every.session_count, every.session_cost)
        assert 3.0 == (await client.get_metrics(F.model == "m3")).average.session_cost
        assert (await client.get_metrics(F.model == "m5")).average.session_cost is None


async def test_same_request_without_id(serve: Any) -> None:
    """Requests without an id differ by their position in the data."""
    async with serve([{"request_created_at": TIME}] * 3) as client:
        assert 3.0 == (await client.get_metrics()).average.session_count


async def test_error_of_a_generator_comes_through() -> None:
    """An exception of the user's generator is raised unchanged."""

    def rows() -> Any:
        yield {"request_created_at": TIME}
        raise LookupError("the user's own")

    with pytest.raises(LookupError, match="the user's own"):
        await LocalServer(rows()).start()


@pytest.mark.parametrize("count", [9, 10, 11, 25])
async def test_many_batches(serve: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Rows beyond one batch are all taken in, from whatever months."""
    monkeypatch.setattr("helicone_sessions.local.storage.rows._BATCH", 10)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = ({"request_created_at": start + timedelta(days=30 * n), "cost": 1} for n in range(count))
    async with serve(rows) as client:
        assert float(count) == (await client.get_metrics()).average.session_count


async def test_text_of_a_map_is_nested_too_deeply() -> None:
    """A map whose text is nested too deeply is refused like other text that is no map."""
    row = {"request_created_at": TIME, "properties": "[" * 100_000}
    assert (await _refusal([row])).startswith("row 0, field 'properties' must be")


async def test_gzip_with_a_wrong_block(tmp_path: Path) -> None:
    """A gzip file whose content was changed is refused with its name."""
    content = bytearray(gzip.compress(_json_lines()))
    content[10] = 0xFF
    (tmp_path / "r.jsonl.gz").write_bytes(content)
    assert (await _refusal(tmp_path / "r.jsonl.gz")).startswith("r.jsonl.gz cannot be read: ")


@pytest.mark.parametrize(
    "row", [{"model": "\ud800"}, {"properties": {"\ud800": "x"}}, {"assets": ["\udfff"]}]
)
async def test_half_a_surrogate_pair(row: Row) -> None:
    """Text that cannot be encoded is refused with its row and field."""
    message = await _refusal([{"request_created_at": TIME}, {"request_created_at": TIME, **row}])
    assert message.startswith(f"row 1, field '{next(iter(row))}' ")


@pytest.mark.parametrize("tag", ["[beta] users", "[", "[x]"])
async def test_tag_in_brackets(serve: Any, tag: str) -> None:
    """A tag that begins with a bracket and is no JSON list is taken as it stands."""
    rows = [{"request_created_at": TIME, "cost": 1, "session_id": "s", "session_tag": tag}]
    assert [1.0] == await _answers(serve, rows, F.session_tag == tag)
