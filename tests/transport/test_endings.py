"""However a batch ends, and whatever goes wrong in it, nothing is left behind and no query is lost."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from helicone_sessions import NONE, HeliconeClient, HeliconeError, SessionMetrics, SessionMetricsQuery
from helicone_sessions.clock import replaced
from helicone_sessions.testing import (
    FakeHelicone,
    Fault,
    RecordedRequest,
    Reply,
    VirtualClock,
    failure,
    gateway_page,
    metrics,
)

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-example-key"
ENDINGS = 1000
# Sessions of this size identify the endings, so that a failure names few of them.
ROUND = 50
# Half of them are asked more than once, some never answered, some refused, and some asked of nobody.
NAMES = ["0", "1", "2", "2", "3", "3", "3", "held 1", "held 2", "held 2", "bad", "nothing"]

Left = Callable[[], set[asyncio.Task[Any]]]


async def named(request: RecordedRequest) -> SessionMetrics:
    """The number in a session name."""
    assert request.query is not None
    return metrics(cost=float(request.query.name_contains))


@pytest.fixture
async def server() -> AsyncIterator[FakeHelicone]:
    """A service that answers numbers, rejects bad ones, and never answers held ones."""
    async with FakeHelicone(api_key=KEY, clock=VirtualClock()) as server:
        server.otherwise(named)
        server.answers("bad", failure("Invalid filter"))
        server.hold(lambda query: query.name_contains.startswith("held"))
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The caller's session, whose connections can be counted."""
    async with aiohttp.ClientSession() as session:
        yield session


def client_of(server: FakeHelicone, session: aiohttp.ClientSession, **options: Any) -> HeliconeClient:
    with replaced(server.clock):
        return HeliconeClient(KEY, base_url=server.url, session=session, **options)


def in_use(session: aiohttp.ClientSession) -> int:
    """The number of connections in progress."""
    assert session.connector is not None
    return len(session.connector._acquired)


def query(name: str) -> SessionMetricsQuery:
    return SessionMetricsQuery(NONE) if name == "nothing" else SessionMetricsQuery(name_contains=name)


@pytest.fixture
def ours_left(tasks_left: Left) -> Left:
    """The tasks other than the test's, without the tasks in which the loop ends an unread input."""
    return lambda: {task for task in tasks_left() if "athrow" not in type(task.get_coro()).__name__}


async def asynchronously(items: Iterable[Any], chance: random.Random) -> AsyncIterator[Any]:
    for item in items:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        yield item


async def read(client: HeliconeClient, chance: random.Random) -> None:
    """Read a stream, and end it in some way at some point."""
    items = [query(chance.choice(NAMES)) for _ in range(chance.randrange(30))]
    given: Any = asynchronously(items, chance) if chance.random() < 0.5 else iter(items)
    if chance.random() < 0.1:
        given = dict(enumerate(items))
    way, place = chance.choice(["end", "break", "raise", "aclose", "within"]), chance.randrange(8)
    stream = client.stream_metrics(given, ordered=chance.random() < 0.5)
    if way == "aclose":
        async for _ in stream:
            if (place := place - 1) < 0:
                break
        await stream.aclose()
        return
    async with stream:
        async for _ in stream:
            if chance.random() < 0.3:
                await asyncio.sleep(0)
            if way == "end" or (place := place - 1) >= 0:
                continue
            if way == "raise":
                raise LookupError("enough")
            if way == "within":
                await stream.aclose()
            break


async def ended(client: HeliconeClient, chance: random.Random) -> None:
    """A stream from start to end, at the latest by a cancellation of its task."""
    reading = asyncio.ensure_future(read(client, chance))
    for _ in range(chance.choice([0, 1, 2, chance.randrange(20), chance.randrange(200)])):
        await asyncio.sleep(0)
        if reading.done():
            break
    reading.cancel()
    with suppress(asyncio.CancelledError, LookupError):
        await reading


@pytest.mark.parametrize("seed", range(ENDINGS // ROUND))
async def test_a_stream_leaves_nothing_behind(
    server: FakeHelicone, session: aiohttp.ClientSession, ours_left: Left, seed: int
) -> None:
    """A stream that is cancelled, left or closed at any moment leaves no task, request or connection."""
    clients = [client_of(server, session, max_concurrency=slots) for slots in (1, 2, 8)]
    for number in range(seed * ROUND, (seed + 1) * ROUND):
        chance = random.Random(number)  # noqa: S311 - the same endings each time
        await ended(chance.choice(clients), chance)

        assert (number, set()) == (number, ours_left())
        assert (number, 0) == (number, in_use(session))
    await server.until(lambda: server.open == 0)

    # No slot is lost, and no question is taken for one that is still in progress.
    for client in clients:
        found = await client.get_metrics_many([query(name) for name in "0123"])
        assert [0, 1, 2, 3] == [answer.average.session_cost for answer in found]


@pytest.mark.parametrize("seed", range(5))
async def test_streams_that_end_at_once_leave_nothing_behind(
    server: FakeHelicone, session: aiohttp.ClientSession, ours_left: Left, seed: int
) -> None:
    """Several streams over the same slots and queries, each with a different ending, do no harm."""
    client = client_of(server, session, max_concurrency=4)
    chances = [random.Random(f"{seed} {number}") for number in range(12)]  # noqa: S311 - likewise
    await asyncio.gather(*(ended(client, chance) for chance in chances))

    assert set() == ours_left()
    assert 0 == in_use(session)
    await server.until(lambda: server.open == 0)
    found = await client.get_metrics_many([query(name) for name in "0123"])
    assert [0, 1, 2, 3] == [answer.average.session_cost for answer in found]


# Faults

FAULTS: list[Any] = [
    *Fault,
    gateway_page(502),
    gateway_page(504),
    Reply(503, "", {"Retry-After": "2"}),
    Reply(500),
    Reply(408),
    Reply(429, {"error": "Too many requests"}),
    Reply(429, {"error": "Too many requests"}, {"Retry-After": "3"}),
    Reply(400, {"error": "Invalid body"}),
    Reply(200, "<html>"),
    Reply(200, {"data": {}, "error": None}),
    Reply(302, "", {"Location": "https://example.org"}),
    failure("Code: 159. DB::Exception: Timeout exceeded"),
    failure("Too many simultaneous queries"),
    failure("Invalid filter"),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("retries", [0, 4])
async def test_each_query_ends_in_its_answer_or_an_error(
    server: FakeHelicone, session: aiohttp.ClientSession, ours_left: Left, retries: int, seed: int
) -> None:
    """When every seventh answer fails in some way, no query is lost, mixed up or repeated forever."""
    chance = random.Random(seed)  # noqa: S311 - the same faults each time

    refused: Counter[str] = Counter()

    async def unreliable(request: RecordedRequest) -> Any:
        if chance.random() >= 0.15:
            return await named(request)
        fault = chance.choice(FAULTS)
        refused[request.json["nameContains"]] += getattr(fault, "status", None) == 429
        return fault

    server.will_answer(*[unreliable] * 3000)
    given = [query(str(number)) for number in range(300)]
    client = client_of(server, session, max_retries=retries, max_concurrency=8, timeout=60)
    async with client.stream_metrics(given) as outcomes:
        found = {outcome.key: outcome async for outcome in outcomes}
    asked = Counter(request.json["nameContains"] for request in server.requests)
    answers = {key: outcome.metrics for key, outcome in found.items() if outcome.metrics is not None}
    errors = {key: outcome.error for key, outcome in found.items() if outcome.error is not None}

    assert set(range(300)) == set(found) == {*answers, *errors}
    assert {key: float(key) for key in answers} == {
        key: answer.average.session_cost for key, answer in answers.items()
    }
    assert all(isinstance(error, HeliconeError) for error in errors.values())
    # A request that met a drop is repeated once, which is no attempt.
    assert 2 * (retries + 1) >= max(count - refused[name] for name, count in asked.items())
    assert retries + 1 >= max(outcome.attempts - refused[str(key)] for key, outcome in found.items())
    assert [] == [key for key, outcome in found.items() if asked[str(key)] > 2 * outcome.attempts]
    # One of twenty faults stays; with retries most of the others pass.
    assert len(answers) >= (280 if retries else 220)
    assert set() == ours_left()
    assert 0 == in_use(session)
    await server.until(lambda: server.open == 0)
