"""The store on disk: what is kept from one process to the next, and through kills."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions.local.drivers import Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage.store import Store
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")

KILLS = repeats(20)
BATCHES = 16
ROWS = BATCHES * 500
LOADS = 40


class Probe(Store):
    """A store that can be asked what it holds."""

    async def ask(self, columns: str, source: str | None = None) -> list[list[Any]]:
        text = f"SELECT {columns} FROM {source or self.tables.requests}"  # noqa: S608 - of these tests alone
        return (await self._driver.query(Statement(text))).rows


@asynccontextmanager
async def _on_disk(path: Path) -> AsyncIterator[Probe]:
    driver = ChdbDriver(path)
    await driver.open()
    try:
        store = Probe(driver, "kept", directory=path)
        await store.open()
        yield store
        await store.aclose()
    finally:
        await driver.aclose()


def _row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "request_id": UUID(int=number + 1),
        "request_created_at": datetime(2026, 11, 1, tzinfo=UTC),
        **more,
    }


def _files(directory: Path) -> int:
    return sum(path.is_file() for path in directory.rglob("*"))


async def test_kept_on_disk(tmp_path: Path) -> None:
    """A named store keeps its requests and its organisation, and later loads replace and add."""
    async with _on_disk(tmp_path) as store:
        await store.load(
            [_row(number, session_tag="vip", session_id="s") for number in range(20)],
            organizations=[UUID(int=4)],
        )
    async with _on_disk(tmp_path) as store:
        assert ({UUID(int=4)}, 20) == (store.organizations, (await store.ask("count()"))[0][0])
        loaded = await store.load([_row(0, status=1), _row(0, status=2), _row(30)])
        assert (3, 2) == (loaded.rows, loaded.replaced)
    async with _on_disk(tmp_path) as store:
        assert [[21, 2]] == await store.ask("count(), max(status)")
        assert [["vip"]] == await store.ask("tag", store.tables.tags)


async def test_many_small_loads_leave_few_files(tmp_path: Path) -> None:
    """A load of one row leaves a dozen files, not a file for each column in each table."""
    async with _on_disk(tmp_path) as store:
        for number in range(LOADS):
            await store.load([_row(number, session_id="s", properties={"Tier": "pro"})])
        assert [[LOADS]] == await store.ask("count()")
        assert _files(tmp_path) < 25 * LOADS


async def test_loads_are_on_the_disk(tmp_path: Path) -> None:
    """The tables that queries read, and their merged parts, are written through to the disk."""
    async with _on_disk(tmp_path) as store:
        found = await store.ask("engine_full", "system.tables WHERE name IN ('request_response_rmt', 'tags')")
    assert 2 == len(found)
    for setting in ("fsync_after_insert", "fsync_part_directory", "min_rows_to_fsync_after_merge"):
        assert all(f"{setting} = 1" in text for (text,) in found)


async def test_killed_loads(tmp_path: Path) -> None:
    """After a kill at any moment of a load the store opens with every acknowledged row in it."""
    chance = random.Random(20)  # noqa: S311 - the same moments at every run
    due = 0
    for _ in range(KILLS):
        # Half of the rows that were acknowledged are sent again.
        first = due // 2
        told = await asyncio.to_thread(_killed, tmp_path, first, after=chance.randrange(1, BATCHES))
        due = max(due, first + told)
        await _check(tmp_path, due)
    assert due > 0


@pytest.mark.parametrize("at", ["DELETE", "ALTER", "TRUNCATE"])
async def test_killed_at_the_end_of_a_load(tmp_path: Path, at: str) -> None:
    """After a kill between the steps that end a load the store opens with all of its rows, each once."""
    async with _on_disk(tmp_path) as store:
        await store.load([_row(number) for number in range(3000)])
    assert ROWS == await asyncio.to_thread(_killed, tmp_path, 1000, at=at)
    await _check(tmp_path, 1000 + ROWS)
    async with _on_disk(tmp_path) as store:
        # Another load finds nothing left over.
        loaded = await store.load([_row(number) for number in range(2000)])
        assert (2000, 2000) == (loaded.rows, loaded.replaced)


async def _check(path: Path, due: int) -> None:
    async with _on_disk(path) as store:
        ids = "reinterpretAsUInt128(reverse(unhex(replaceAll(toString(request_id), '-', ''))))"
        ((found, rows, distinct),) = await store.ask(
            f"countIf({ids} <= {due}), count(), uniqExact(request_id)"
        )
        assert (due, rows) == (found, distinct)
        if due:
            assert [["vip"]] == await store.ask("DISTINCT tag", store.tables.tags)


def _killed(path: Path, first: int, *, after: int | None = None, at: str = "") -> int:
    """The number of acknowledged rows of a load that was killed after some batches or at a statement."""
    program = str(Path(__file__).with_name("killed_load.py"))
    command = [sys.executable, program, str(path), str(first), str(first + ROWS), at]
    told = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "0\n" == process.stdout.readline()
        for batch, line in enumerate(process.stdout, 1):
            if line == "done\n":
                break
            # The last line may have been cut short.
            told = int(line) if line.endswith("\n") else told
            if batch == after:
                process.kill()
        process.kill()
    return told
