"""``helicone-sessions sql``."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from helicone_sessions.local import LocalServer
from tests.cli.conftest import Done, Run

pytest.importorskip("chdb")
pytest.importorskip("cyclopts")
pytest.importorskip("rich")

BY_MODEL = "SELECT model, sum(cost) AS dollars FROM requests GROUP BY model ORDER BY model"


def process(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """The command in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "helicone_sessions", "sql", "--unconfined", *map(str, arguments)],
        capture_output=True,
        timeout=120,
        check=False,
        env={"PATH": "", "COLUMNS": "100"},
    )


def sql(run: Run, *arguments: str | Path) -> Done:
    """The command in this process."""
    return run(None, "sql", "--unconfined", *map(str, arguments))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a store with the requests of two models."""
    directory = tmp_path_factory.mktemp("sql") / "store"
    rows = [
        {"request_created_at": "2026-11-01T12:00:00Z", "model": model, "cost": 0.25}
        for model in ("gpt-4o", "o3", "gpt-4o")
    ]

    async def fill() -> None:
        async with LocalServer(rows, path=directory):
            pass

    asyncio.run(fill())
    return directory


def test_a_table_shows_the_rows(run: Run, path: Path) -> None:
    """The table has a header row and a line for each row, and no note if none is missing."""
    done = sql(run, BY_MODEL, "--path", path)

    lines = [line.split() for line in done.stdout.splitlines()]
    assert (0, "") == (done.returncode, done.stderr)
    assert ["model", "dollars"] == lines[0]
    assert [["gpt-4o", "0.5"], ["o3", "0.25"]] == lines[2:]


def test_csv_and_json_are_data_alone(run: Run, path: Path) -> None:
    """The note that rows are missing goes to the standard error."""
    csv = sql(run, BY_MODEL, "--path", path, "--output", "csv", "--limit", "1")
    rows = sql(run, BY_MODEL, "--path", path, "--output", "json", "--limit", "0")

    assert (0, "model,dollars\ngpt-4o,0.5\n") == (csv.returncode, csv.stdout)
    assert "The output is cut at --limit 1; --limit 0 returns all rows.\n" == csv.stderr
    assert [{"model": "gpt-4o", "dollars": 0.5}, {"model": "o3", "dollars": 0.25}] == json.loads(rows.stdout)
    assert "" == rows.stderr


def test_parquet_keeps_the_types(path: Path) -> None:
    """Other programs read the file with its numbers and texts."""
    polars = pytest.importorskip("polars")
    done = process(BY_MODEL, "--path", path, "--output", "parquet")

    assert [("gpt-4o", 0.5), ("o3", 0.25)] == polars.read_parquet(io.BytesIO(done.stdout)).rows()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("SELECT costs FROM requests",), "Unknown expression identifier `costs`"),
        (("SELECT 1 FROM",), "Syntax error"),
        ((BY_MODEL, "--limit", "-1"), "--limit must be 0 or more, got -1"),
        ((BY_MODEL, "--max-seconds", "0"), "--max-seconds must be a number above 0, got 0"),
        (
            ("SELECT groupArray(number) FROM numbers(100000000)", "--max-memory", "32"),
            "--max-memory is 33554432 bytes",
        ),
        (("SELECT", "count()", "FROM", "requests"), "a statement is one argument: write it in quotes"),
        ((), "there is no statement"),
    ],
)
def test_an_error_names_the_option(run: Run, path: Path, arguments: tuple[str, ...], message: str) -> None:
    """The command ends with code 2, and its message is in the words of the command line."""
    done = sql(run, *arguments, "--path", path)

    assert (2, "") == (done.returncode, done.stdout)
    assert message in done.stderr
    assert "Exception" not in done.stderr


async def test_a_store_of_a_server_is_in_use(path: Path) -> None:
    """The message says which process has the store and what to do."""
    async with LocalServer(path=path):
        done = await asyncio.to_thread(process, BY_MODEL, "--path", path)

    assert 2 == done.returncode
    assert "is open in another process" in done.stderr.decode()
    assert "Stop that process, run the statement, and restart the process" in done.stderr.decode()
