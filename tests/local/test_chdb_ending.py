"""Queries of the embedded engine end: by their limits, with their caller, and when it is closed."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helicone_sessions import ConfigurationError
from helicone_sessions.local.drivers import BackendError, Limits, Statement
from helicone_sessions.local.drivers import chdb as chdb_backend
from helicone_sessions.local.drivers.chdb import ChdbBackend

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
async def backend() -> AsyncIterator[ChdbBackend]:
    """A backend in memory, of two threads."""
    backend = ChdbBackend(threads=2)
    await backend.open()
    yield backend
    await backend.aclose()


async def _until_running(backend: ChdbBackend, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while [[count]] != (await backend.query(COUNT)).rows:
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
async def test_limits(backend: ChdbBackend, limits: Limits, code: int) -> None:
    """A query that takes more than its limits fails with ClickHouse's number, and the next has its own."""
    with pytest.raises(BackendError, match=f"Code: {code}") as caught:
        await backend.query(Statement("SELECT uniqExact(number) FROM numbers(100000000000)"), limits)
    assert code == caught.value.code
    assert [[1999000]] == (await backend.query(Statement("SELECT sum(number) FROM numbers(2000)"))).rows


async def test_limits_of_the_backend() -> None:
    """What a backend was made with holds for a query that brings no limits."""
    backend = ChdbBackend(limits=Limits(rows=10, threads=1))
    await backend.open()
    try:
        names = "'max_rows_to_read', 'max_threads', 'max_execution_time', 'max_memory_usage', 'readonly'"
        asked = Statement(f"SELECT name, value FROM system.settings WHERE name IN ({names})")  # noqa: S608
        found = dict((await backend.query(asked, Limits(seconds=7, memory=10**9, threads=2))).rows)
        with pytest.raises(BackendError, match="max_rows_to_read"):
            await backend.query(Statement("SELECT sum(number) FROM numbers(1000)"))
    finally:
        await backend.aclose()
    assert ("7", "1000000000", "2", "0", "1") == (
        found["max_execution_time"],
        found["max_memory_usage"],
        found["max_threads"],
        found["max_rows_to_read"],
        found["readonly"],
    )


@pytest.mark.parametrize("limits", [Limits(seconds=0), Limits(rows=-1), Limits(seconds=float("nan"))])
async def test_limits_that_are_none(backend: ChdbBackend, limits: Limits) -> None:
    """A limit of nothing is refused, because ClickHouse would read it as no limit."""
    with pytest.raises(ConfigurationError, match="above 0"):
        ChdbBackend(limits=limits)
    with pytest.raises(ConfigurationError, match="above 0"):
        await backend.query(COUNT, limits)


def test_threads_that_are_none() -> None:
    """A backend without threads is refused."""
    with pytest.raises(ConfigurationError, match="at least 1"):
        ChdbBackend(threads=0)


@pytest.mark.parametrize("limits", [UNLIMITED, Limits()])
async def test_cancelled_query_is_ended(backend: ChdbBackend, limits: Limits) -> None:
    """A query whose caller is cancelled stops running, and its thread is free for others."""
    for _ in range(3):
        task = asyncio.create_task(backend.query(ENDLESS, limits))
        await _until_running(backend, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until_running(backend, 0)
    assert [[1], [1]] == [row for answer in await _two(backend) for row in answer.rows]


async def _two(backend: ChdbBackend) -> list[Any]:
    return await asyncio.gather(*(backend.query(Statement("SELECT 1")) for _ in range(2)))


async def test_cancelled_while_waiting(backend: ChdbBackend) -> None:
    """A query that is cancelled while it waits for a thread is never begun."""
    running = [asyncio.create_task(backend.query(ENDLESS, UNLIMITED)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in running:
        task.cancel()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert {asyncio.CancelledError} == set(map(type, outcomes))
    await _until_running(backend, 0)


async def test_cancelled_by_a_timeout(backend: ChdbBackend) -> None:
    """A query under `asyncio.timeout` ends with it, whether or not it was already running."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await backend.query(ENDLESS, UNLIMITED)
    await _until_running(backend, 0)


async def test_cancelled_insert(backend: ChdbBackend) -> None:
    """A table can be written and dropped after an insert into it was cancelled."""
    await backend.execute("CREATE TABLE things (a Int64) ENGINE = MergeTree ORDER BY a")
    for _ in range(5):
        task = asyncio.create_task(backend.insert("things", b'{"a": 1}\n' * 100_000))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await backend.execute("TRUNCATE TABLE things")
    await backend.insert("things", b'{"a": 7}')
    await backend.execute("DROP TABLE things SYNC")


async def test_heedless_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that does not look at its limit of time is given up from outside, with the same number."""
    with monkeypatch.context() as patched:
        patched.setattr(chdb_backend, "GRACE", 0.01)
        backend = ChdbBackend(threads=2)
        await backend.open()
    with pytest.raises(BackendError, match="did not stop of itself") as caught:
        await backend.query(HEEDLESS, Limits(seconds=0.01))
    assert 159 == caught.value.code
    await _until_running(backend, 0)
    await backend.aclose()


async def test_closing_ends_queries(backend: ChdbBackend) -> None:
    """Closing ends the queries under way and those that wait; their callers are told why."""
    tasks = [asyncio.create_task(backend.query(ENDLESS, UNLIMITED)) for _ in range(5)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE):
        await backend.aclose()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, BackendError)
        assert 394 == outcome.code
    with pytest.raises(ConfigurationError, match="not open"):
        await backend.query(COUNT)


async def test_open_and_close(backend: ChdbBackend) -> None:
    """A backend can be closed twice and opened again, but not opened twice."""
    with pytest.raises(ConfigurationError, match="open already"):
        await backend.open()
    await backend.aclose()
    await backend.aclose()
    await backend.open()
    assert 2 == len(await _two(backend))


def _engine_threads() -> set[threading.Thread]:
    lasting = ("helicone-engine-worker", "helicone-engine-watch")
    return {thread for thread in threading.enumerate() if thread.name.startswith(lasting)}


async def test_closing_leaves_no_thread() -> None:
    """The threads of a backend are gone when it is closed."""
    before = _engine_threads()
    backend = ChdbBackend(threads=3)
    await backend.open()
    await asyncio.gather(*(_two(backend) for _ in range(5)))
    started = _engine_threads() - before
    assert len(started) <= 4
    await backend.aclose()
    assert not any(thread.is_alive() for thread in started)


async def test_cancelled_open() -> None:
    """An open that is cancelled leaves nothing open."""
    backend = ChdbBackend()
    task = asyncio.create_task(backend.open())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await backend.open()
    assert 2 == len(await _two(backend))
    await backend.aclose()


def test_several_loops() -> None:
    """A backend serves one event loop after the other, and can be made and closed in each."""
    shared = ChdbBackend()

    async def ask(backend: ChdbBackend) -> int:
        return len(await _two(backend))

    async def own() -> int:
        backend = ChdbBackend()
        await backend.open()
        try:
            return await ask(backend)
        finally:
            await backend.aclose()

    asyncio.run(shared.open())
    assert [2, 2] == [asyncio.run(ask(shared)) for _ in range(2)]
    asyncio.run(shared.aclose())
    assert [2, 2] == [asyncio.run(own()) for _ in range(2)]
