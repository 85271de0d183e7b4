"""The parts of `batch.py` that run in separate processes, one function each."""

import asyncio
import gc
import itertools
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import aiohttp
from workers import obey

from helicone_sessions import F, HeliconeClient, HeliconeError, MetricsOutcome, SessionMetricsQuery

KEY: Final = "sk-helicone-benchmark"
CONCURRENCY: Final = 64


def queries(count: int) -> Iterator[SessionMetricsQuery]:
    return (SessionMetricsQuery(filter=F.model == f"model {place}") for place in range(count))


def peak() -> float:
    """The most memory that this process had so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def metrics_of(outcome: MetricsOutcome[Any]) -> object:
    if outcome.error:
        raise outcome.error
    return outcome.metrics


async def exhaust(client: HeliconeClient, count: int) -> tuple[float, float]:
    """Seconds until the first answer, and until the last."""
    begun, first, answers = time.perf_counter(), 0.0, 0
    async for outcome in client.stream_metrics(queries(count)):
        metrics_of(outcome)
        answers += 1
        first = first or time.perf_counter() - begun
    if answers != count:
        raise RuntimeError(f"{count - answers} of {count} queries have no outcome")
    return first, time.perf_counter() - begun


async def gathered(client: HeliconeClient, count: int) -> tuple[float, float]:
    """The same for all at once, as asyncio alone would do it."""
    begun, first = time.perf_counter(), 0.0

    async def ask(query: SessionMetricsQuery) -> object:
        nonlocal first
        metrics = await client.get_metrics(query)
        first = first or time.perf_counter() - begun
        return metrics

    await asyncio.gather(*map(ask, queries(count)))
    return first, time.perf_counter() - begun


async def growth(url: str, warm: int, count: int, *, at_once: bool = False) -> dict[str, float]:
    """By how many MB the peak of memory grows, and the share of the time until the first answer."""
    async with HeliconeClient(KEY, base_url=url, max_concurrency=CONCURRENCY) as client:
        await exhaust(client, warm)
        gc.collect()
        before = peak()
        first, whole = await (gathered if at_once else exhaust)(client, count)
        return {"grew": peak() - before, "first": first / whole}


async def plain(url: str, count: int, max_retries: int = 4) -> float:
    """Seconds for so many queries, once everything is imported and has been used."""
    async with HeliconeClient(
        KEY, base_url=url, max_concurrency=CONCURRENCY, max_retries=max_retries
    ) as client:
        await exhaust(client, count)
        return (await exhaust(client, count))[1]


async def limited(url: str, count: int) -> dict[str, int]:
    """How many of so many queries were answered, by a client that knows nothing of the limit yet."""
    async with HeliconeClient(KEY, base_url=url, max_concurrency=CONCURRENCY) as client:
        outcomes = [outcome async for outcome in client.stream_metrics(queries(count))]
    return {"answers": sum(outcome.metrics is not None for outcome in outcomes)}


async def faulty(url: str, count: int, timeout: float, max_retries: int) -> dict[str, Any]:  # noqa: ASYNC109 - of a client
    """Count the outcomes of different queries, and their wrong results."""
    numbered = (
        SessionMetricsQuery(filter=F.model == "gpt-4o", name_contains=str(place)) for place in range(count)
    )
    ends: Counter[str] = Counter()
    async with HeliconeClient(
        KEY, base_url=url, max_concurrency=CONCURRENCY, timeout=timeout, max_retries=max_retries
    ) as client:
        async for outcome in client.stream_metrics(numbered):
            ends[end_of(outcome)] += 1
    return {"ends": ends, "outcomes": ends.total()}


def end_of(outcome: MetricsOutcome[Any]) -> str:
    if outcome.metrics is not None:
        said = outcome.metrics.average.session_cost
        return "answer" if said == float(outcome.query.name_contains) else "wrong answer"
    return type(outcome.error).__name__ if isinstance(outcome.error, HeliconeError) else "no HeliconeError"


class Enough(Exception):
    """Ends a loop over a stream."""


async def ended(url: str, times: int, seed: int) -> dict[str, int]:
    """Count the remains of endless streams, each right after it ended at a random point."""
    chance, left = random.Random(seed), Counter[str]()  # noqa: S311 - chosen, not secret
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = HeliconeClient(KEY, base_url=url, session=session, max_concurrency=16)
        await exhaust(client, 100)
        others = asyncio.all_tasks()
        for _ in range(times):
            way = chance.choice((cancelled, broken, failed))
            await way(client, chance)
            left["ended"] += 1
            # There is no other count of connections in use.
            left["connections"] += len(connector._acquired)  # noqa: SLF001
            left["tasks"] += len(await strays(others))
    return left


async def strays(others: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """The tasks that run besides *others*, including those started by garbage collection."""
    now = asyncio.all_tasks() - others
    await asyncio.sleep(0)
    return now | (asyncio.all_tasks() - others)


async def endless(chance: random.Random) -> AsyncGenerator[SessionMetricsQuery, None]:
    """Queries without end, for some of which one has to wait."""
    for place in itertools.count():
        if chance.random() < 0.1:
            await asyncio.sleep(0)
        yield SessionMetricsQuery(filter=F.model == f"model {place}")


async def left_after(client: HeliconeClient, chance: random.Random, count: float, error: type | None) -> None:
    # Whoever made a generator closes it: a stream may not, as it could be read further.
    async with aclosing(endless(chance)) as source, client.stream_metrics(source) as outcomes:
        seen = 0
        async for outcome in outcomes:
            metrics_of(outcome)
            seen += 1
            if seen >= count and error:
                raise error
            if seen >= count:
                break


async def broken(client: HeliconeClient, chance: random.Random) -> None:
    await left_after(client, chance, chance.randrange(1, 50), None)


async def failed(client: HeliconeClient, chance: random.Random) -> None:
    try:
        await left_after(client, chance, chance.randrange(1, 50), Enough)
    except Enough:
        return
    raise RuntimeError("the exception is lost")


async def cancelled(client: HeliconeClient, chance: random.Random) -> None:
    task = asyncio.ensure_future(left_after(client, chance, float("inf"), None))
    # By turns of the loop, so that it also hits what happens between two packets.
    for _ in range(chance.randrange(60)):
        await asyncio.sleep(0 if chance.random() < 0.8 else 0.0005)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise RuntimeError("the cancellation is lost")


PARTS: Final[dict[str, Callable[..., Awaitable[Any]]]] = {
    part.__name__: part for part in (growth, plain, limited, faulty, ended)
}


async def done(part: str, **arguments: Any) -> Any:
    return await PARTS[part](**arguments)


if __name__ == "__main__":
    asyncio.run(obey(done))
