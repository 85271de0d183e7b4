"""Queries of the embedded engine end: by their limits, with their caller, and when it is closed."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helicone_sessions import ConfigurationError
from helicone_sessions.local.drivers import DriverError, Limits, Statement
from helicone_sessions.local.drivers import chdb as chdb_module
from helicone_sessions.local.drivers.chdb import ChdbDriver

pytest.importorskip("chdb", reason="the extra `local` is not installed")

PATIENCE = 20.0
UNLIMITED = Limits(seconds=None)
ENDLESS = Statement("SELECT sum(cityHash64(number)) FROM numbers(1000000000000000) /* endless */")
# One call of a function, within which ClickHouse looks at no limit.
HEEDLESS = Statement("SELECT length(arrayMap(x -> sipHash64(toString(x)), range(20000000))) /* endless */")
COUNT = Statement(
    "SELECT count() FROM system.processes WHERE query LIKE '%/* endless */%' AND query NOT LIKE '%LIKE%'"
)


@pytest.fixture
async def driver() -> AsyncIterator[ChdbDriver]:
    """A driver in memory, of two threads."""
    driver = ChdbDriver(threads=2)
    await driver.open()
    yield driver
    await driver.aclose()


async def _until_running(driver: ChdbDriver, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while [[count]] != (await driver.query(COUNT)).rows:
            pass


@pytest.mark.promise(name="S8")
@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(seconds=0.05), 159),
        (Limits(seconds=0.0000001), 159),
        (Limits(memory=1_000_000), 241),
        (Limits(rows=1000), 158),
    ],
)
async def test_limits(driver: ChdbDriver, limits: Limits, code: int) -> None:
    """A query that takes more than its limits fails with ClickHouse's number, and the next has its own."""
    with pytest.raises(DriverError, match=f"Code: {code}") as caught:
        await driver.query(Statement("SELECT uniqExact(number) FROM numbers(100000000000)"), limits)
    assert code == caught.value.code
    assert [[1999000]] == (await driver.query(Statement("SELECT sum(number) FROM numbers(2000)"))).rows


async def test_limits_of_the_driver() -> None:
    """The limits of a driver apply to a query without limits."""
    driver = ChdbDriver(limits=Limits(rows=10, threads=1))
    await driver.open()
    try:
        names = "'max_rows_to_read', 'max_threads', 'max_execution_time', 'max_memory_usage', 'readonly'"
        asked = Statement(f"SELECT name, value FROM system.settings WHERE name IN ({names})")  # noqa: S608
        found = dict((await driver.query(asked, Limits(seconds=7, memory=10**9, threads=2))).rows)
        with pytest.raises(DriverError, match="max_rows_to_read"):
            await driver.query(Statement("SELECT sum(number) FROM numbers(1000)"))
    finally:
        await driver.aclose()
    assert ("7", "1000000000", "2", "0", "1") == (
        found["max_execution_time"],
        found["max_memory_usage"],
        found["max_threads"],
        found["max_rows_to_read"],
        found["readonly"],
    )


def test_threads_that_are_none() -> None:
    """A driver without threads is refused."""
    with pytest.raises(ConfigurationError) as caught:
        ChdbDriver(threads=0)
    assert "threads" == caught.value.argument


@pytest.mark.parametrize("limits", [UNLIMITED, Limits()])
async def test_cancelled_query_is_ended(driver: ChdbDriver, limits: Limits) -> None:
    """A query whose caller is cancelled stops running, and its thread is free for others."""
    for _ in range(3):
        task = asyncio.create_task(driver.query(ENDLESS, limits))
        await _until_running(driver, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until_running(driver, 0)
    assert [[1], [1]] == [row for answer in await _two(driver) for row in answer.rows]


async def _two(driver: ChdbDriver) -> list[Any]:
    return await asyncio.gather(*(driver.query(Statement("SELECT 1")) for _ in range(2)))


async def test_cancelled_while_waiting(driver: ChdbDriver) -> None:
    """A query that is cancelled while it waits for a thread is never begun."""
    running = [asyncio.create_task(driver.query(ENDLESS, UNLIMITED)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in running:
        task.cancel()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert {asyncio.CancelledError} == set(map(type, outcomes))
    await _until_running(driver, 0)


async def test_cancelled_by_a_timeout(driver: ChdbDriver) -> None:
    """A query under `asyncio.timeout` ends with it, whether or not it was already running."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await driver.query(ENDLESS, UNLIMITED)
    await _until_running(driver, 0)


async def test_cancelled_insert(driver: ChdbDriver) -> None:
    """A table can be written and dropped after an insert into it was cancelled."""
    await driver.execute("CREATE TABLE things (a Int64) ENGINE = MergeTree ORDER BY a")
    for _ in range(5):
        task = asyncio.create_task(driver.insert("things", b'{"a": 1}\n' * 100_000))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await driver.execute("TRUNCATE TABLE things")
    await driver.insert("things", b'{"a": 7}')
    await driver.execute("DROP TABLE things SYNC")


async def test_heedless_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that does not look at its limit of time is given up from outside, with the same number."""
    with monkeypatch.context() as patched:
        patched.setattr(chdb_module, "GRACE", 0.01)
        driver = ChdbDriver(threads=2)
        await driver.open()
    with pytest.raises(DriverError) as caught:
        await driver.query(HEEDLESS, Limits(seconds=0.01))
    assert 159 == caught.value.code
    await _until_running(driver, 0)
    await driver.aclose()


async def test_closing_ends_queries(driver: ChdbDriver) -> None:
    """Closing ends running and waiting queries with an error that says why."""
    tasks = [asyncio.create_task(driver.query(ENDLESS, UNLIMITED)) for _ in range(5)]
    for _ in range(100):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await driver.aclose()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, DriverError)
        assert 394 == outcome.code
    with pytest.raises(ConfigurationError, match="not open"):
        await driver.query(COUNT)


async def test_open_and_close(driver: ChdbDriver) -> None:
    """A driver can be closed twice and opened again, but not opened twice."""
    with pytest.raises(ConfigurationError, match="already open"):
        await driver.open()
    await driver.aclose()
    await driver.aclose()
    await driver.open()
    assert 2 == len(await _two(driver))


def _engine_threads() -> set[threading.Thread]:
    lasting = ("helicone-engine-worker", "helicone-engine-watch")
    return {thread for thread in threading.enumerate() if thread.name.startswith(lasting)}


async def test_closing_leaves_no_thread() -> None:
    """The threads of a driver are gone when it is closed."""
    before = _engine_threads()
    driver = ChdbDriver(threads=3)
    await driver.open()
    await asyncio.gather(*(_two(driver) for _ in range(5)))
    started = _engine_threads() - before
    assert len(started) <= 4
    await driver.aclose()
    assert not any(thread.is_alive() for thread in started)


async def test_cancelled_open() -> None:
    """An open that is cancelled leaves nothing open."""
    driver = ChdbDriver()
    task = asyncio.create_task(driver.open())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await driver.open()
    assert 2 == len(await _two(driver))
    await driver.aclose()


def test_several_loops() -> None:
    """A driver serves one event loop after the other, and can be made and closed in each."""
    shared = ChdbDriver()

    async def ask(driver: ChdbDriver) -> int:
        return len(await _two(driver))

    async def own() -> int:
        driver = ChdbDriver()
        await driver.open()
        try:
            return await ask(driver)
        finally:
            await driver.aclose()

    asyncio.run(shared.open())
    assert [2, 2] == [asyncio.run(ask(shared)) for _ in range(2)]
    asyncio.run(shared.aclose())
    assert [2, 2] == [asyncio.run(own()) for _ in range(2)]
