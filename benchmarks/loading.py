"""Loading files into the engine's table, with DuckDB beside it.

    python benchmarks/loading.py [--quick] [--rows 200000]

The same requests as JSON Lines, CSV and Parquet go into an empty store in memory and into an empty table of
DuckDB, by turns; DuckDB parses the same columns and keeps no index. The peak of memory is that of a whole
process that loads the JSON Lines into a directory; it is measured on Linux only.
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

import duckdb
import pyarrow as pa
from measure import Bar, report
from pyarrow import parquet

from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage.store import Store

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


async def ours(path: Path) -> float:
    """Seconds of a load into an empty store in memory."""
    driver = ChdbDriver()
    await driver.open()
    store = Store(driver)
    await store.open()
    begun = time.perf_counter()
    await store.load(path)
    taken = time.perf_counter() - begun
    await store.aclose()
    await driver.aclose()
    return taken


def theirs(path: Path) -> float:
    """Seconds of a load into an empty table of DuckDB."""
    typed = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    source = {
        ".jsonl": f"read_json('{path}', format = 'newline_delimited', columns = {{{typed}}})",
        ".csv": f"read_csv('{path}')",
        ".parquet": f"'{path}'",
    }[path.suffix]
    with duckdb.connect() as connection:
        begun = time.perf_counter()
        connection.execute(f"CREATE TABLE requests AS SELECT * FROM {source}")  # noqa: S608 - of this script
        return time.perf_counter() - begun


def peak(path: Path, directory: Path) -> float:
    """The peak of memory of a load in a separate process, in megabytes."""
    command = [sys.executable, "-c", CHILD, str(path), str(directory)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def bars(count: int, rounds: int, directory: Path) -> Iterator[Bar]:
    """The ratios of each format, and the memory."""
    paths = write(directory, count)
    for ending, path in paths.items():
        figures = [(asyncio.run(ours(path)), theirs(path)) for _ in range(rounds)]
        mine, other = (min(each) for each in zip(*figures, strict=True))
        yield Bar.of(f"{ending}: seconds", mine)
        yield Bar.of(f"{ending}: over DuckDB", mine / other, most=MOST)
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
