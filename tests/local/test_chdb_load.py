"""Two thousand queries at once, one in ten of which fails: no answer is another's, nothing is left behind."""

import asyncio
import gc
import itertools
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest

from helicone_sessions.local.drivers import DriverError, Limits, Statement
from helicone_sessions.local.drivers import chdb as chdb_module
from helicone_sessions.local.drivers.chdb import ChdbDriver
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")

QUERIES = repeats(2000)
WARM_UP = 400
CONCURRENCY = 64
THREADS = 3
ROWS = 300
STATM = Path("/proc/self/statm")
MEBIBYTE = 1024 * 1024

# Rows enough for some to be put out before the end.
GOOD = "SELECT {number:Int64} * 1000 + number AS a, repeat('x', 20) AS b FROM numbers(300)"
ENDLESS = "SELECT {number:Int64}, sum(cityHash64(number)) FROM numbers(1000000000000000)"
FAILING: list[tuple[str, Limits, int | None]] = [
    (ENDLESS, Limits(seconds=0.01), 159),
    ("SELECT {number:Int64}, groupArray(number) FROM numbers(10000000)", Limits(memory=1_000_000), 241),
    ("SELECT {number:Int64}, sum(number) FROM numbers(10000000)", Limits(rows=1000), 158),
    ("SELECT {number:Int64}, match(toString(number), '(') FROM numbers(10)", Limits(), 427),
    ("SELECT {number:Int64}, number, throwIf(number = 190000) FROM numbers(200000)", Limits(), 395),
    (ENDLESS, Limits(), None),
]


@attrs.define
class Engine:
    """A driver whose connections are counted."""

    driver: ChdbDriver
    open: set[int] = attrs.field(factory=set)
    most_open: int = 0


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """A driver in memory, of three threads."""
    prepared = chdb_module._prepared
    lock, numbers = threading.Lock(), itertools.count()

    def counted(*arguments: object) -> object:
        connection = prepared(*arguments)  # type: ignore[arg-type]
        close, number = connection.close, next(numbers)

        def closed() -> None:
            close()
            with lock:
                engine.open.discard(number)

        connection.close = closed  # type: ignore[method-assign]
        with lock:
            engine.open.add(number)
            engine.most_open = max(engine.most_open, len(engine.open))
        return connection

    monkeypatch.setattr(chdb_module, "_prepared", counted)
    engine = Engine(ChdbDriver(threads=THREADS))
    await engine.driver.open()
    yield engine
    await engine.driver.aclose()


async def _good(driver: ChdbDriver, number: int) -> bool:
    answer = await driver.query(Statement(GOOD, {"number": number}))
    return answer.rows == [[number * 1000 + row, "x" * 20] for row in range(ROWS)]


async def _failing(driver: ChdbDriver, number: int) -> bool:
    text, limits, code = FAILING[number // 10 % len(FAILING)]
    asked = driver.query(Statement(text, {"number": number}), limits)
    if code is None:
        return await _cancelled(asked)
    with pytest.raises(DriverError) as caught:
        await asked
    return code == caught.value.code


async def _cancelled(asked: Awaitable[object]) -> bool:
    task = asyncio.ensure_future(asked)
    # Long enough for some to be running by then, and short enough for others to be waiting.
    await asyncio.wait([task], timeout=0.02)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def _ask(driver: ChdbDriver, count: int) -> list[bool]:
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int) -> bool:
        ask: Callable[[ChdbDriver, int], Awaitable[bool]] = _good if number % 10 else _failing
        async with gate:
            return await ask(driver, number)

    return await asyncio.gather(*map(one, range(count)))


def _resident() -> int:
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0


async def test_answers_of_many(engine: Engine) -> None:
    """Every query gets its own answer or error, memory comes back, and threads and connections stay few."""
    threads = threading.active_count()
    assert [True] * WARM_UP == await _ask(engine.driver, WARM_UP)
    before = _resident()
    assert [True] * QUERIES == await _ask(engine.driver, QUERIES)
    assert _resident() - before < 150 * MEBIBYTE
    assert threading.active_count() <= threads + THREADS
    # One more ends the queries of the others.
    assert engine.most_open <= THREADS + 1
    await engine.driver.aclose()
    assert set() == engine.open
