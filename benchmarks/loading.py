"""Loading files into a store on disk, with DuckDB beside it.

    python benchmarks/loading.py [--quick] [--rows 200000]

Both load the same requests from JSON Lines, CSV and Parquet, by turns, into an empty database on disk, and
keep the same columns: ids as UUIDs, times with a zone, costs as whole billionths of a dollar, properties and
scores as maps, and beside them the id and the name of the session and the keys of the properties. DuckDB
closes its database afterwards, so that all of it is on the disk. A store does more: it checks every value,
replaces requests that are there already, sorts by time, keeps indexes, and knows afterwards whether a session
has several names.

The second figure of each format compares with the least that DuckDB can do: a table in memory with the
columns as `read_json`, `read_csv` and `read_parquet` find them, where the maps of a CSV file are still text.

The ratios are medians over the rounds. The peak of memory is that of a whole process that loads the JSON
Lines; it is measured on Linux only.
"""

import argparse
import asyncio
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs
import duckdb
import pyarrow as pa
from measure import Bar, report
from pyarrow import parquet

from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.table import OWN_DATABASE

START: Final = datetime(2026, 8, 1, tzinfo=UTC)
DAYS: Final = 90
MOST: Final = 2.5
MOST_MEMORY: Final = 1024.0
COLUMNS: Final = {
    "request_id": "UUID",
    "request_created_at": "TIMESTAMPTZ",
    "response_created_at": "TIMESTAMPTZ",
    "response_status": "BIGINT",
    "delay_ms": "BIGINT",
    "model": "VARCHAR",
    "provider": "VARCHAR",
    "request_user_id": "VARCHAR",
    "prompt_tokens": "BIGINT",
    "completion_tokens": "BIGINT",
    "cost": "DOUBLE",
    "country_code": "VARCHAR",
    "target_url": "VARCHAR",
    "request_properties": "MAP(VARCHAR, VARCHAR)",
    "scores": "MAP(VARCHAR, BIGINT)",
}
SELECTED: Final = """
request_id::UUID AS request_id, request_created_at, response_created_at, response_status, delay_ms, model,
provider, request_user_id, prompt_tokens, completion_tokens, (cost * 1e9)::UBIGINT AS cost, country_code,
target_url, {map}::MAP(VARCHAR, VARCHAR) AS properties, {scores}::MAP(VARCHAR, BIGINT) AS scores,
properties['Helicone-Session-Id'] AS session_id, properties['Helicone-Session-Name'] AS session_name,
map_keys(properties) AS property_keys"""
# Prints the peak of its memory in megabytes; that of `getrusage` begins with the memory of the parent.
CHILD: Final = """
import asyncio, re, sys
from pathlib import Path
from helicone_sessions.local import LocalServer
async def load():
    async with LocalServer(sys.argv[1], path=sys.argv[2]):
        pass
asyncio.run(load())
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Requests with ids of 32 digits and seven properties, in order of time."""
    chance = random.Random(1)  # noqa: S311 - the same rows in every run
    sessions = [UUID(int=chance.getrandbits(128)).hex for _ in range(count // 12 + 1)]
    for place in range(count):
        moment = START + timedelta(days=DAYS) * (place / count)
        yield {
            "request_id": str(UUID(int=chance.getrandbits(128), version=4)),
            "request_created_at": moment,
            "response_created_at": moment + timedelta(milliseconds=850),
            "response_status": 429 if chance.random() < 0.02 else 200,
            "delay_ms": chance.randrange(100, 5000),
            "model": chance.choice(["gpt-4o", "gpt-4o-mini", "claude-sonnet-4"]),
            "provider": "OPENAI",
            "request_user_id": f"user-{chance.randrange(500)}",
            "prompt_tokens": chance.randrange(5000),
            "completion_tokens": chance.randrange(900),
            "cost": chance.random() * 0.05,
            "country_code": "DE",
            "target_url": "https://api.openai.com/v1/chat/completions",
            "request_properties": {
                "Helicone-Session-Id": chance.choice(sessions),
                "Helicone-Session-Name": chance.choice(["chat", "research", "code"]),
                "env": "prod",
                "team": chance.choice(["a", "b"]),
                "plan": "pro",
                "version": "1.4.2",
                "region": "eu-central-1",
            },
            "scores": {"quality": chance.randrange(5)},
        }


def write(directory: Path, count: int) -> dict[str, Path]:
    """The same rows as files of each format."""
    directory.mkdir(exist_ok=True)
    paths = {ending: directory / f"requests.{ending}" for ending in ("jsonl", "csv", "parquet")}
    made = list(rows(count))
    texts = [
        {
            name: f"{value:%FT%T.%f}"[:23] + "Z" if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in made
    ]
    with paths["jsonl"].open("w") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in texts)
    with paths["csv"].open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(
            [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
            for row in texts
        )
    types = {
        "request_created_at": pa.timestamp("ms", "UTC"),
        "response_created_at": pa.timestamp("ms", "UTC"),
        "request_properties": pa.map_(pa.string(), pa.string()),
        "scores": pa.map_(pa.string(), pa.int64()),
    }
    columns = {name: pa.array([row[name] for row in made], types.get(name)) for name in COLUMNS}
    parquet.write_table(pa.table(columns), paths["parquet"])
    return paths


@attrs.frozen
class Taken:
    """Seconds of a load."""

    wall: float
    processor: float

    @classmethod
    def since(cls, begun: "Taken") -> "Taken":
        now = cls.now()
        return cls(now.wall - begun.wall, now.processor - begun.processor)

    @classmethod
    def now(cls) -> "Taken":
        return cls(time.perf_counter(), time.process_time())


async def ours(path: Path) -> Taken:
    """A load into an empty store."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        directory = Path(folder) / "store"
        driver = ChdbDriver(directory)
        await driver.open()
        store = Store(driver, OWN_DATABASE, directory=directory)
        await store.open()
        begun = Taken.now()
        await store.load(path)
        taken = Taken.since(begun)
        await store.aclose()
        await driver.aclose()
    return taken


def theirs(path: Path, *, selected: str | None) -> Taken:
    """A load into an empty database of DuckDB: on disk, or in memory without a selection."""
    typed = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    source = {
        ".jsonl": f"read_json('{path}', format = 'newline_delimited', columns = {{{typed}}})",
        ".csv": f"read_csv('{path}')",
        ".parquet": f"'{path}'",
    }[path.suffix]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        database = ":memory:" if selected is None else f"{folder}/duck.db"
        begun = Taken.now()
        with duckdb.connect(database) as connection:
            connection.execute(f"CREATE TABLE requests AS SELECT {selected or '*'} FROM {source}")  # noqa: S608 - of this script
        return Taken.since(begun)


def selected(path: Path) -> str:
    """The columns of the table, out of those of a file."""
    is_text = path.suffix == ".csv"
    return SELECTED.format(
        map="request_properties::JSON" if is_text else "request_properties",
        scores="scores::JSON" if is_text else "scores",
    )


def peak(path: Path, directory: Path) -> float:
    """The peak of memory of a load in a separate process, in megabytes."""
    command = [sys.executable, "-c", CHILD, str(path), str(directory)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def bars(count: int, rounds: int, directory: Path) -> Iterator[Bar]:
    """The ratios of each format, and the memory."""
    paths = write(directory, count)
    # The first load in a process imports what it needs.
    for path in write(directory / "few", 100).values():
        asyncio.run(ours(path))
    for ending, path in paths.items():
        rows = [
            (asyncio.run(ours(path)), theirs(path, selected=selected(path)), theirs(path, selected=None))
            for _ in range(rounds)
        ]
        yield Bar.of(f"{ending}: seconds", *(mine.wall for mine, _, _ in rows))
        yield Bar.of("  over DuckDB", *(mine.wall / duck.wall for mine, duck, _ in rows), most=MOST)
        yield Bar.of(
            "  … by processor time", *(mine.processor / duck.processor for mine, duck, _ in rows), most=MOST
        )
        yield Bar.of(
            "  … over a plain table in memory", *(mine.processor / plain.processor for mine, _, plain in rows)
        )
    if sys.platform == "linux":
        size = paths["jsonl"].stat().st_size / 1024**2
        most = peak(paths["jsonl"], directory / "store")
        yield Bar.of(f"MB of memory for {size:,.0f} MB", most, most=MOST_MEMORY)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, so rougher figures")
    parser.add_argument("--rows", type=int, default=200_000, help="the number of requests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count = 20_000 if arguments.quick else arguments.rows
        found = list(bars(count, 2 if arguments.quick else 5, Path(folder)))
    sys.exit(report("Loading, each beside DuckDB:", found))
