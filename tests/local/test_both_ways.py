"""Files: what ClickHouse reads of them is what Python reads, and no content of a file is a traceback."""

import csv
import io
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from helicone_sessions import HeliconeError
from helicone_sessions.local.drivers import Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage import loader, readers
from helicone_sessions.local.storage.fields import FIELDS, RowOptions
from helicone_sessions.local.storage.readers import read_blocks
from helicone_sessions.local.storage.rows import Loaded, RowEncoder
from helicone_sessions.local.storage.store import Store
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

# `nox -s mutations` reads many more.
COUNT = int(os.environ.get("HELICONE_SESSIONS_MUTATIONS") or repeats(30))
START = datetime(2026, 10, 1, 12, tzinfo=UTC)
NEVER, ALWAYS = 10**9, 1


@attrs.frozen
class Outcome:
    """All that a load leaves behind."""

    error: str | None
    loaded: Loaded | None
    rows: list[list[Any]]
    tags: list[list[Any]]
    rejects: str


async def outcome(path: Path, few: int, options: RowOptions, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Load a file; blocks of fewer rows than *few* are left to Python."""
    monkeypatch.setattr(loader, "_FEW", few)
    rejects = path.with_name("rejects.jsonl")
    rejects.unlink(missing_ok=True)
    driver = ChdbDriver()
    await driver.open()
    try:
        store = Store(driver)
        await store.open()
        error, loaded = None, None
        try:
            loaded = await store.load(path, rejects=rejects, row_options=options)
        except HeliconeError as refused:
            error = str(refused)
        tables = store.tables
        rows = await driver.query(Statement(f"SELECT * EXCEPT version FROM {tables.requests} ORDER BY ALL"))  # noqa: S608
        tags = await driver.query(Statement(f"SELECT entity_id, tag FROM {tables.tags} ORDER BY ALL"))  # noqa: S608
        await store.aclose()
    finally:
        await driver.aclose()
    return Outcome(error, loaded, rows.rows, tags.rows, rejects.read_text() if rejects.exists() else "")


async def both(path: Path, options: RowOptions, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """The outcome of a load, which is the same whoever reads the file."""
    by_python = await outcome(path, NEVER, options, monkeypatch)
    by_clickhouse = await outcome(path, ALWAYS, options, monkeypatch)
    assert by_python == by_clickhouse
    return by_python


# Values at the edges of the rules; each may be in any field, as itself or as text.
ODD: list[Any] = [
    None,
    "",
    " ",
    "null",
    "NaN",
    "nan",
    "inf",
    "-1",
    "1e3",
    "1E-7",
    "007",
    "1.0",
    "1.50",
    "-0",
    "0x10",
    "+5",
    ".5",
    "5.",
    "1_000",
    "٣",
    "true",
    "False",
    "TRUE",
    "yes",
    "[]",
    "[1]",
    '["a"]',
    "{}",
    '{"a": 1}',
    '{""a"":""b""}',
    '{"a":{"b":1}}',
    '{"a":1,"a":2}',
    '{"a":NaN}',
    '{"":NaN,"":1}',
    '{"a": 1e5}',
    '{"a":1.0}',
    '{"a":null}',
    "{broken",
    '{"helicone_message": "x"}',
    "7e12",
    "7e12ab",
    "123456789012345678901234567890",
    "é\u2028\t\"'\\",
    "a\nb",
    "a\r\nb",
    "😀",
    "\x01",
    "\ufeff",
    0,
    1,
    -1,
    2,
    200,
    999,
    1000,
    1000.5,
    250_000_000,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63),
    1.0,
    0.5,
    1.5,
    2.5,
    1e-7,
    5e-7,
    1e-5,
    0.1 + 0.2,
    1e15,
    1e21,
    1e22,
    1e300,
    1.0000000005,
    123456789.123456789,
    -0.0,
    True,
    False,
    [],
    [1],
    ["a", "b"],
    ["a", None],
    {},
    {"a": "b"},
    {"a": 1.0, "b": -0.0, "c": 1e-7, "d": 10**25},
    {"a": [1, {"b": 2.0}]},
    {"quality": {"value": 4, "valueType": "number"}},
    {"a": True, "b": None, "c": "7"},
    {"helicone_message": "elsewhere"},
    "2026-10-01T12:00:00Z",
    "2026-10-01 12:00:00 UTC",
    "2026-10-01t12:00:00z",
    "2026-10-01T12:00:00.123456789Z",
    "2026-10-01T12:00:00.1+00:00",
    "2026-10-01 12:00:00",
    "2026-10-01T12:00:00+05:30",
    "2026-02-30T12:00:00Z",
    "2026-13-01T12:00:00Z",
    "2026-10-01T24:00:00Z",
    "2026-10-01T12:60:00Z",
    "2024-02-29T23:59:59Z",
    "1900-12-31T23:59:59Z",
    "1901-01-01T00:00:00Z",
    "2298-12-31T23:59:59.999Z",
    "2299-01-01T00:00:00Z",
    "1969-12-31T23:59:59.9Z",
    "2026-10-01T12:00Z",
    "2026-10-01",
    "20261001T120000Z",
    "0001-01-01T00:00:00Z",
    "7d4d7a2e-0c4e-4c7e-9c43-6b9c2f6f1a10",
    "7D4D7A2E-0C4E-4C7E-9C43-6B9C2F6F1A10",
    "7d4d7a2e0c4e4c7e9c436b9c2f6f1a10",
    "{7d4d7a2e-0c4e-4c7e-9c43-6b9c2f6f1a10}",
]
NAMES = [
    *(
        name
        for field in FIELDS.values()
        for name in field.names
        if name not in ("request_id", "organization_id")
    ),
    "properties.env",
    "request_properties.a b",
    "scores.quality",
    "session_id",
    "Helicone-Session-Name",
    "session_tag",
    "feedback_rating",
    "total_tokens",
    "colour",
    "storage_location",
    "cache_reference_id",
    "cost",
    "costUSD",
]


def plain_row(number: int, chance: random.Random) -> dict[str, Any]:
    moment = START + timedelta(seconds=number, milliseconds=chance.randrange(1000))
    return {
        "request_id": str(UUID(int=number + 1)),
        "request_created_at": moment.isoformat().replace("+00:00", chance.choice(["Z", "+00:00"])),
        "delay_ms": chance.choice([chance.randrange(5000), chance.random() * 1000, None]),
        "response_status": 200,
        "costUSD": chance.choice([chance.random(), round(chance.random(), 3), chance.random() * 1e-5]),
        "model": chance.choice(["gpt-4o", "日本", ""]),
        "properties": {
            "Helicone-Session-Id": UUID(int=chance.getrandbits(128)).hex,
            "n": chance.choice(["1", "a,b", 'x"y']),
        },
        "scores": {"quality": chance.randrange(5)},
        "request_body": chance.choice(["text", '{"messages": []}', {"messages": [1]}, "line\nline"]),
    }


def odd_rows(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Rows of which most have an odd value somewhere."""
    rows = [plain_row(number, chance) for number in range(count)]
    for row in rows:
        for _ in range(chance.choice([0, 1, 1, 2])):
            value = chance.choice(ODD)
            if chance.random() < 0.2 and not isinstance(value, str):
                value = json.dumps(value)
            row[chance.choice(NAMES)] = value
        if chance.random() < 0.2:
            del row["request_id"]
        # One implausible cost refuses the whole load.
        if not isinstance(row.get("cost"), str) and chance.random() < 0.9:
            row.pop("cost", None)
    return rows


def json_lines(rows: list[dict[str, Any]], chance: random.Random) -> bytes:
    lines = [json.dumps(row, ensure_ascii=chance.random() < 0.5) for row in rows]
    return "".join(line + chance.choice(["\n", "\n", "\n", "\r\n", ",\n", "\n\n"]) for line in lines).encode()


def csv_rows(rows: list[dict[str, Any]], chance: random.Random) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    table = csv.writer(text, quoting=chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    table.writerow(names)
    for row in rows:
        cells = [row.get(name) for name in names]
        table.writerow([json.dumps(cell) if isinstance(cell, (dict, list)) else cell for cell in cells])
    return text.getvalue().encode()


KINDS = ["text", "int64", "float64", "bool", "texts", "numbers"]


def arrow(pa: Any, values: list[Any], kind: str) -> Any:
    """The values of one type as a column; the others are missing there."""

    def whole(value: Any) -> int | None:
        return value if type(value) is int and abs(value) < 2**62 else None

    maps = [value if isinstance(value, dict) else {} for value in values]
    match kind:
        case "text":
            as_text = [json.dumps(value) if not isinstance(value, str) else value for value in values]
            return pa.array(
                [None if value is None else text for value, text in zip(values, as_text, strict=True)]
            )
        case "int64":
            return pa.array([whole(value) for value in values], pa.int64())
        case "float64":
            return pa.array([value if isinstance(value, float) else None for value in values], pa.float64())
        case "bool":
            return pa.array([value if isinstance(value, bool) else None for value in values], pa.bool_())
        case "texts":
            items = [
                [(key, item if isinstance(item, str) else None) for key, item in each.items()]
                for each in maps
            ]
            return pa.array(items, pa.map_(pa.string(), pa.string()))
    items = [[(key, whole(item)) for key, item in each.items()] for each in maps]
    return pa.array(items, pa.map_(pa.string(), pa.int64()))


def parquet(rows: list[dict[str, Any]], chance: random.Random) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="the extra `local` is not installed")
    from pyarrow import parquet

    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        kind = "text" if name == "request_created_at" or chance.random() < 0.6 else chance.choice(KINDS)
        columns[name] = arrow(pa, values, kind)
    if chance.random() < 0.5:
        moments = [START + timedelta(milliseconds=place) for place in range(len(rows))]
        zone = chance.choice(["UTC", "Europe/Berlin"])
        columns["request_created_at"] = pa.array(
            moments, pa.timestamp(chance.choice(["ms", "us", "ns"]), zone)
        )
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out, row_group_size=chance.choice([7, 1000]))
    return out.getvalue()


FORMS = {"jsonl": json_lines, "csv": csv_rows, "parquet": parquet}
OPTIONS = [
    RowOptions(),
    RowOptions(cost_unit="dollars"),
    RowOptions(cost_unit="billionths", assume_time_zone="UTC"),
    RowOptions(
        columns={"colour": "model", "delay_ms": "time_to_first_token"}, assume_time_zone="Europe/Berlin"
    ),
]


@pytest.mark.parametrize("ending", FORMS)
async def test_odd_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Rows with odd values are read, or rejected with the same reason, whoever reads them."""
    rejected = 0
    for seed in range(max(1, COUNT // 10)):
        chance = random.Random(seed)  # noqa: S311 - the same rows at every run
        rows = odd_rows(chance, 60)
        path = tmp_path / f"r.{ending}"
        path.write_bytes(FORMS[ending](rows, chance))
        found = await both(path, OPTIONS[seed % len(OPTIONS)], monkeypatch)
        rejected += found.loaded.rejected if found.loaded else 0
    assert rejected


@pytest.mark.parametrize("ending", FORMS)
def test_many_mutations(tmp_path: Path, ending: str) -> None:
    """A file with bytes changed, left out or repeated is read, or refused with its name."""
    for seed in range(12 * COUNT):
        chance = random.Random(seed)  # noqa: S311 - the same bytes at every run
        content = FORMS[ending]([plain_row(number, chance) for number in range(8)], chance)
        path = tmp_path / f"r.{ending}"
        path.write_bytes(mutated(content, chance))
        encoder = RowEncoder(with_rejects=True)
        rejects: list[str] = []
        refusal = path.name
        try:
            rows = (placed for block in read_blocks(path, RowOptions()) for placed in block.rows())
            while (batch := encoder.next_batch(rows)) is not None:
                rejects += batch.rejects
        except HeliconeError as refused:
            refusal = str(refused)
        assert refusal.startswith(path.name)
        for line in rejects:
            assert json.loads(line)["_rejected"]["where"].startswith(f"r.{ending}, ")


def test_csv_without_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of CSV that are rows by themselves are the rows that the module `csv` finds."""
    path = tmp_path / "r.csv"
    by_line = 0
    for seed in range(12 * COUNT):
        chance = random.Random(seed)  # noqa: S311 - the same bytes at every run
        rows = [plain_row(number, chance) for number in range(chance.choice([1, 3]))]
        content = csv_rows(rows, chance)
        path.write_bytes(mutated(content, chance) if chance.random() < 0.8 else content)
        found = csv_outcome(path)
        by_line += sum(isinstance(block, readers.CsvLines) for block in found[1])
        with monkeypatch.context() as patch:
            patch.setattr(readers, "_is_row_per_line", lambda *_: False)
            assert csv_outcome(path)[0] == found[0]
    assert by_line > COUNT


def csv_outcome(path: Path) -> tuple[list[Any], list[readers.Block]]:
    """All rows of a file with their places, or the error, and its blocks."""
    blocks = []
    try:
        blocks += read_blocks(path, RowOptions())
    except HeliconeError as error:
        return [str(error)], blocks
    rows = [placed for block in blocks for placed in block.rows()]
    return [(placed.where, placed.row, placed.identity) for placed in rows], blocks


@pytest.mark.parametrize("ending", FORMS)
async def test_mutated_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """A file with bytes changed, left out or repeated is read, or refused with the file's name."""
    for seed in range(COUNT):
        chance = random.Random(seed)  # noqa: S311 - the same bytes at every run
        content = FORMS[ending]([plain_row(number, chance) for number in range(8)], chance)
        path = tmp_path / f"r.{ending}"
        path.write_bytes(mutated(content, chance))
        found = await both(path, RowOptions(), monkeypatch)
        if found.error is not None:
            assert "r." in found.error
        for line in found.rejects.splitlines():
            assert json.loads(line)["_rejected"]["where"].startswith(f"r.{ending}, ")


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(len(changed))
        match chance.randrange(5):
            case 0:
                changed[place] = chance.randrange(256)
            case 1:
                changed[place : place + 1] = chance.choice(
                    [b'"', b",", b"\n", b"{", b"\\", b"\xff", b"\0", b"\r", b"9"]
                )
            case 2:
                del changed[place : place + chance.choice([1, 1, 3, 50])]
            case 3:
                changed[place:place] = changed[place : place + chance.choice([1, 5, 100])]
            case 4:
                changed[place:place] = b"\xef\xbb\xbf"
        changed = changed or bytearray(b"\n")
    return bytes(changed)


async def test_rejects_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rejected row that is fixed in the file of rejects can be loaded from there."""
    path, fixed = tmp_path / "r.csv", tmp_path / "fixed.jsonl"
    path.write_text("request_created_at,cost,session_id\n2026-10-01T12:00:00Z,dear,s1\n")
    found = await outcome(path, ALWAYS, RowOptions(), monkeypatch)
    row = json.loads(found.rejects) | {"cost": 0.5}
    fixed.write_text(json.dumps(row))
    again = await outcome(fixed, ALWAYS, RowOptions(), monkeypatch)
    assert (1, 0, set()) == (again.loaded.rows, again.loaded.rejected, again.loaded.ignored)
