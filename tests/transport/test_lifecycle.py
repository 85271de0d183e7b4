"""Clients that come and go: loops, ends without a close, and what is kept of a batch that failed."""

import asyncio
import copy
import gc
import inspect
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import aiohttp
import pytest

from helicone_sessions import (
    NONE,
    AuthenticationError,
    ConnectionFailed,
    FilterTypeError,
    HeliconeClient,
    HeliconeError,
    QueryFailed,
    RequestTimeout,
    SessionMetrics,
    SessionMetricsQuery,
)
from helicone_sessions.testing import FakeHelicone, Fault, RecordedRequest, Reply, failure, metrics

KEY = "sk-helicone-example-key"
Make = Callable[..., HeliconeClient]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def named(request: RecordedRequest) -> SessionMetrics:
    """The number in a session name."""
    assert request.query is not None
    return metrics(cost=float(request.query.name_contains or 0))


def queries(*names: object) -> list[SessionMetricsQuery]:
    return [SessionMetricsQuery(name_contains=str(name)) for name in names]


def cost(found: Any) -> float | None:
    """The number of an answer."""
    number: float | None = found.average.session_cost
    return number


@pytest.fixture
def server() -> Iterator[FakeHelicone]:
    """A service in a thread, for loops that come and go."""
    with FakeHelicone(api_key=KEY) as server:
        server.otherwise(named)
        yield server


# Loops


def test_each_run_may_have_its_client(server: FakeHelicone) -> None:
    """A program that calls asyncio.run repeatedly, with a new client each time, gets its answers."""

    async def ask(name: int) -> float | None:
        async with HeliconeClient(KEY, base_url=server.url) as client:
            return cost(await client.get_metrics(name_contains=str(name)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [asyncio.run(ask(name)) for name in range(5)]
        gc.collect()

    assert [0, 1, 2, 3, 4] == found
    assert [] == caught


def test_a_run_that_breaks_off_holds_no_later_one_back(server: FakeHelicone) -> None:
    """Queries that ended with their loop do not count as running in later clients."""
    held = server.hold("1")

    async def break_off() -> None:
        async with HeliconeClient(KEY, base_url=server.url) as client:
            before = len(server.requests)
            call = asyncio.ensure_future(client.get_metrics(name_contains="1"))
            await server.until(lambda: len(server.requests) > before)
            assert not call.done()
            raise LookupError("enough")

    for _ in range(12):
        with pytest.raises(LookupError, match="enough"):
            asyncio.run(break_off())
    held.release()

    async def ask() -> list[SessionMetrics]:
        async with asyncio.timeout(20), HeliconeClient(KEY, base_url=server.url) as client:
            return await client.get_metrics_many(queries(*range(12)))

    assert list(range(12)) == [cost(found) for found in asyncio.run(ask())]


def _run_in(factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - from Python 3.12 on
    return loop


@pytest.fixture(params=["asyncio", "uvloop", "eager tasks"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in each kind of loop."""
    if request.param == "uvloop":
        return _run_in(pytest.importorskip("uvloop").new_event_loop)
    if request.param == "eager tasks":
        if sys.version_info < (3, 12):
            pytest.skip("tasks that begin at once come with Python 3.12")
        return _run_in(_eager_loop)
    return _run_in(asyncio.new_event_loop)


async def left_over() -> set[asyncio.Task[Any]]:
    """The tasks other than the current one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def test_outcomes_that_need_no_request_are_given_on_any_loop(server: FakeHelicone, run: Run) -> None:
    """A batch whose tasks end as soon as they begin loses none of its outcomes."""

    async def ask() -> list[int]:
        async with HeliconeClient(KEY, base_url=server.url) as client:
            return [outcome.key async for outcome in client.stream_metrics([NONE] * 3)]

    assert [0, 1, 2] == run(ask())


def test_any_loop_answers_queries(server: FakeHelicone, run: Run) -> None:
    """One query, several at once and a batch are answered, and nothing runs after the client's end."""

    async def ask() -> tuple[Any, ...]:
        async with HeliconeClient(KEY, base_url=server.url, max_concurrency=3) as client:
            one = await client.get_metrics(name_contains="7")
            some = await asyncio.gather(*(client.get_metrics(query) for query in queries(1, 2, 2, 3)))
            many = await client.get_metrics_many(dict(zip("ab", queries(4, 5), strict=True)))
            async with client.stream_metrics(queries(*range(20)), ordered=True) as outcomes:
                ordered = [outcome.key async for outcome in outcomes]
        return (
            cost(one),
            [*map(cost, some)],
            {key: cost(found) for key, found in many.items()},
            ordered,
            await left_over(),
        )

    assert (7, [1, 2, 2, 3], {"a": 4, "b": 5}, list(range(20)), set()) == run(ask())


def test_any_loop_answers_what_needs_no_request(server: FakeHelicone, run: Run) -> None:
    """Queries that match nothing never wait: a batch of them ends, even if its reader stops early."""

    async def ask() -> tuple[Any, ...]:
        async with HeliconeClient(KEY, base_url=server.url) as client:
            many = await client.get_metrics_many([NONE] * 50)
            keys = []
            async with client.stream_metrics(NONE for _ in range(10**9)) as outcomes:
                async for outcome in outcomes:
                    keys.append(outcome.key)
                    if outcome.key == 40:
                        break
        return many, keys, await left_over()

    assert ([SessionMetrics.empty()] * 50, list(range(41)), set()) == run(ask())
    assert [] == server.requests


def test_any_loop_ends_a_query_that_is_cancelled(server: FakeHelicone, run: Run) -> None:
    """A cancelled call ends its request and gives its slot to the next."""
    server.hold("1")

    async def ask() -> tuple[Any, ...]:
        async with HeliconeClient(KEY, base_url=server.url, max_concurrency=1) as client:
            call = asyncio.ensure_future(client.get_metrics(name_contains="1"))
            await server.until(lambda: server.open == 1)
            call.cancel()
            found = await client.get_metrics(name_contains="2")
            await server.until(lambda: server.open == 0)
        return cost(found), call.cancelled(), await left_over()

    assert (2, True, set()) == run(ask())


@pytest.mark.parametrize("ordered", [True, False])
def test_any_loop_ends_a_batch_that_is_left(server: FakeHelicone, run: Run, ordered: bool) -> None:
    """A break, and a wrong input, end the queries in progress before the end of the block."""
    server.hold("5")

    async def ask() -> tuple[Any, ...]:
        async with HeliconeClient(KEY, base_url=server.url, max_concurrency=3) as client:
            async with client.stream_metrics(queries(*range(1000)), ordered=ordered) as outcomes:
                async for outcome in outcomes:
                    if outcome.key == 4:
                        break
            tasks = await left_over()
            with pytest.raises(FilterTypeError, match="got 5"):
                await client.get_metrics_many([*queries(5), 5])  # type: ignore[list-item]
            await server.until(lambda: server.open == 0)
            return tasks, await left_over()

    assert (set(), set()) == run(ask())


def test_any_loop_keeps_time_limits(server: FakeHelicone, run: Run) -> None:
    """An attempt that takes too long ends, whichever loop counts the time."""
    server.answers("1", Fault.STALL)

    async def ask() -> tuple[Any, ...]:
        async with HeliconeClient(KEY, base_url=server.url, timeout=0.05, max_retries=0) as client:
            with pytest.raises(RequestTimeout) as caught:
                await client.get_metrics(name_contains="1")
            found = await client.with_options(timeout=30).get_metrics(name_contains="2")
        return caught.value.limit, caught.value.seconds, cost(found), await left_over()

    assert ("timeout", 0.05, 2, set()) == run(ask())


def test_any_loop_is_left_by_a_timeout_of_the_callers(server: FakeHelicone, run: Run) -> None:
    """A timeout by asyncio.timeout around a query or a batch is the caller's own error."""
    server.hold()

    async def ask() -> set[Any]:
        async with HeliconeClient(KEY, base_url=server.url) as client:
            with pytest.raises(TimeoutError) as one:
                async with asyncio.timeout(0.02):
                    await client.get_metrics(name_contains="1")
            with pytest.raises(TimeoutError) as many:
                async with asyncio.timeout(0.02):
                    await client.get_metrics_many(queries(*range(5)))
            assert not isinstance(one.value, HeliconeError)
            assert not isinstance(many.value, HeliconeError)
            await server.until(lambda: server.open == 0)
        return await left_over()

    assert set() == run(ask())


# Time limits of clients with other options


@pytest.mark.virtual_time
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
async def test_clients_with_other_limits_keep_each_its_own(
    make_client: Make, service: Any, order: tuple[int, ...]
) -> None:
    """Each of several queries in progress ends at its own limit, in any order of start."""
    service.hold_named("2")
    service.answers("0", Fault.STALL)
    service.answers("1", Fault.STALL)
    client = make_client(max_retries=0)
    clients = [client.with_options(timeout=5), client.with_options(timeout=10), client]
    calls: dict[int, asyncio.Future[Any]] = {}
    for number in order:
        calls[number] = asyncio.ensure_future(clients[number].get_metrics(name_contains=str(number)))
        await service.names_arrived(str(number))
    await asyncio.wait([calls[0], calls[1]])
    service.release_named()
    first, second, third = await asyncio.gather(
        *(calls[number] for number in range(3)), return_exceptions=True
    )

    assert [RequestTimeout, RequestTimeout] == [type(first), type(second)]
    assert (5, 10, 2.0) == (first.seconds, second.seconds, cost(third))  # type: ignore[union-attr]


@pytest.mark.virtual_time
async def test_a_limit_of_other_options_ends_no_other_query(make_client: Make, service: Any) -> None:
    """After a short limit has expired, the query with the long one is answered, and the next one expires."""
    service.hold_named("2")
    service.answers("1", Fault.STALL)
    client = make_client(max_retries=0, timeout=30)
    patient = asyncio.ensure_future(client.get_metrics(name_contains="2"))
    await service.names_arrived("2")
    for _ in range(2):
        with pytest.raises(RequestTimeout):
            await client.with_options(timeout=5).get_metrics(name_contains="1")
    service.release_named()

    assert 2.0 == cost(await patient)


async def test_closing_one_closes_those_with_other_options(make_client: Make) -> None:
    """Clients of one connection end together, and closing them again does no harm."""
    client = make_client()
    other = client.with_options(timeout=5)
    await client.get_metrics()
    await other.aclose()
    await client.aclose()

    with pytest.raises(HeliconeError, match="the client is closed"):
        await client.get_metrics()


# Clients that were never closed


def resource_warnings(caught: list[warnings.WarningMessage]) -> list[warnings.WarningMessage]:
    return [warning for warning in caught if issubclass(warning.category, ResourceWarning)]


async def settled() -> None:
    """Let everything happen that needs no time."""
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


@pytest.mark.parametrize("derive", [False, True], ids=["the client", "one with other options"])
async def test_a_client_that_was_never_closed_says_where_it_was_made(service: Any, derive: bool) -> None:
    """A used client that nobody closed causes one warning, at the line of its creation, with the fix."""
    here = inspect.currentframe()
    assert here is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client, line = HeliconeClient(KEY, base_url=service.url), here.f_lineno
        if derive:
            client = client.with_options(timeout=5)
        await client.get_metrics()
        del client
        await settled()
    said = [str(warning.message) for warning in resource_warnings(caught)]

    assert 1 == len(said), said
    assert f"{__file__}:{line}" in said[0]
    assert "aclose()" in said[0]
    assert "async with" in said[0]
    assert (__file__, line) == (resource_warnings(caught)[0].filename, resource_warnings(caught)[0].lineno)
    assert KEY not in said[0]
    await service.until(lambda: service.connections == 0)


async def test_the_warning_of_a_client_comes_when_the_last_of_its_kind_goes(service: Any) -> None:
    """While a client with other options is used, the connection of both is in use."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = HeliconeClient(KEY, base_url=service.url)
        other = client.with_options(timeout=5)
        await client.get_metrics()
        del client
        await settled()
        before = len(caught)
        await other.get_metrics()
        await other.aclose()
        del other
        await settled()

    assert (0, []) == (before, caught)


async def test_a_client_that_was_never_closed_raises_where_warnings_are_errors(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python reports an exception in a finalizer, and the connections are closed all the same."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    client = HeliconeClient(KEY, base_url=service.url)
    await client.get_metrics()
    del client
    await settled()

    said = [str(it.exc_value) for it in told]
    assert 1 == len(said), said
    assert "a HeliconeClient was never closed" in said[0]


def test_a_client_that_outlives_its_loop_says_where_it_was_made(server: FakeHelicone) -> None:
    """A client that was forgotten until after its loop was closed causes the warning too."""
    made: list[HeliconeClient] = []

    async def ask() -> None:
        made.append(HeliconeClient(KEY, base_url=server.url))
        await made[0].get_metrics()

    asyncio.run(ask())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.clear()
        gc.collect()
    said = [str(warning.message) for warning in resource_warnings(caught)]

    assert 1 == len(
        [text for text in said if "a HeliconeClient was never closed" in text and __file__ in text]
    )
    # The socket, whose loop is gone, is for asyncio to tell.
    assert [] == [text for text in said if "connector" in text or "client session" in text]


async def _used_and_closed(url: str) -> None:
    client = HeliconeClient(KEY, base_url=url)
    await client.get_metrics()
    await client.aclose()


async def _used_in_a_block(url: str) -> None:
    async with HeliconeClient(KEY, base_url=url) as client:
        await client.get_metrics()


async def _never_used(url: str) -> None:
    HeliconeClient(KEY, base_url=url).with_options(timeout=5)


async def _entered_and_not_used(url: str) -> None:
    async with HeliconeClient(KEY, base_url=url):
        pass


async def _asked_for_nothing(url: str) -> None:
    await HeliconeClient(KEY, base_url=url).get_metrics(NONE)


async def _with_a_session_of_ones_own(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = HeliconeClient(KEY, base_url=url, session=session)
        await client.get_metrics()
        del client
        await settled()
        assert not session.closed


@pytest.mark.parametrize(
    "use",
    [
        _used_and_closed,
        _used_in_a_block,
        _never_used,
        _entered_and_not_used,
        _asked_for_nothing,
        _with_a_session_of_ones_own,
    ],
)
async def test_a_client_with_nothing_to_close_says_nothing(
    service: Any, use: Callable[[str], Coroutine[Any, Any, None]]
) -> None:
    """A closed or unused client, or one with the caller's session, causes no warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await use(service.url)
        await settled()

    assert [] == [str(warning.message) for warning in caught]


# Imports


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("absent", "statement"),
    [
        (
            ["asyncio", "aiohttp"],
            "from helicone_sessions import F, Filter, SessionMetricsQuery, SessionMetrics",
        ),
        (["asyncio", "aiohttp"], "from helicone_sessions import F; (~((F.cost > 1) & F.threat)).to_wire()"),
        (["asyncio", "aiohttp"], "from helicone_sessions import parse_filter; parse_filter('cost > 1')"),
        (["aiohttp"], "from helicone_sessions import HeliconeClient, MetricsOutcome, RateLimit"),
    ],
)
def test_who_builds_filters_waits_for_no_network(absent: list[str], statement: str) -> None:
    """Asyncio and aiohttp are imported only when they are needed."""
    assert set() == modules_after(statement) & set(absent)


# What was answered before a batch failed


async def test_an_error_of_a_batch_keeps_what_was_answered(make_client: Make, service: Any) -> None:
    """The answers before the first error are kept by key, as metrics."""
    service.answers("bad", failure("Invalid filter"))
    given = dict(zip("abcd", queries(0, 1, "bad", 3), strict=True))
    with pytest.raises(QueryFailed, match="Invalid filter") as caught:
        await make_client(max_concurrency=1).get_metrics_many(given)

    assert {"a": 0.0, "b": 1.0} == {key: cost(found) for key, found in (caught.value.answered or {}).items()}
    assert ["The query is 'c'."] == caught.value.__notes__


async def test_an_error_of_an_iterable_keeps_answers_by_place(make_client: Make, service: Any) -> None:
    """Earlier answers, in any order, are kept by their position in the input."""
    service.hold_named("0")
    service.answers("bad", Fault.DROP)
    client = make_client(max_concurrency=2, max_retries=0)
    with pytest.raises(ConnectionFailed) as caught:
        await client.get_metrics_many(queries(0, 1, 2, "bad", 4))

    assert {1: 1.0, 2: 2.0} == {key: cost(found) for key, found in (caught.value.answered or {}).items()}


@pytest.mark.parametrize("return_errors", [True, False])
async def test_a_wrong_key_keeps_what_was_answered(
    make_client: Make, service: Any, return_errors: bool
) -> None:
    """An AuthenticationError ends any batch; earlier answers are kept, but not errors."""
    service.answers("refused", Reply(401, {"error": "Unauthorized"}))
    names = [0, "odd", 1, "refused", 4] if return_errors else [0, 1, "refused", 4]
    service.answers("odd", failure("Invalid filter"))
    with pytest.raises(AuthenticationError) as caught:
        await make_client(max_concurrency=1).get_metrics_many(queries(*names), return_errors=return_errors)

    places = {0: 0.0, 2: 1.0} if return_errors else {0: 0.0, 1: 1.0}
    assert places == {key: cost(found) for key, found in (caught.value.answered or {}).items()}


async def test_an_error_before_any_answer_keeps_none(make_client: Make, service: Any) -> None:
    """An empty result differs from an error that keeps no results."""
    service.answers("bad", failure("Invalid filter"))
    with pytest.raises(QueryFailed) as many:
        await make_client().get_metrics_many(queries("bad"))
    with pytest.raises(QueryFailed) as one:
        await make_client().get_metrics(name_contains="bad")

    assert {} == many.value.answered
    assert None is one.value.answered


async def test_a_wrong_input_keeps_what_was_answered(make_client: Make) -> None:
    """An item that is not a query ends the batch, and keeps the earlier answers."""

    def given() -> Iterator[Any]:
        yield from queries(0, 1, 2)
        yield 5

    with pytest.raises(FilterTypeError) as caught:
        await make_client(max_concurrency=1).get_metrics_many(given())

    answered = caught.value.answered
    assert answered is not None
    assert {place: float(place) for place in answered} == {
        key: cost(found) for key, found in answered.items()
    }


@pytest.mark.parametrize(
    "duplicate",
    [
        lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own bytes
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle", "copy", "deepcopy"],
)
@pytest.mark.parametrize("fault", [failure("Invalid filter"), Reply(401), Fault.DROP], ids=str)
async def test_what_was_answered_crosses_processes(
    make_client: Make, service: Any, fault: Any, duplicate: Callable[[Any], Any]
) -> None:
    """A pickled or copied error still has the answers, its note, its attempts and its waits."""
    service.answers("bad", fault)
    with pytest.raises(HeliconeError) as caught:
        await make_client(max_concurrency=1, max_retries=1).get_metrics_many(queries(0, 1, "bad"))
    error, other = caught.value, duplicate(caught.value)

    assert {0: 0.0, 1: 1.0} == {key: cost(found) for key, found in other.answered.items()}
    assert error.answered == other.answered
    assert vars(error) == vars(other)
    assert str(error) == str(other)
    assert type(error) is type(other)


FORKED = """
import asyncio, os, sys
from helicone_sessions import HeliconeClient

url, key = sys.argv[1:]

async def ask(name):
    async with HeliconeClient(key, base_url=url) as client:
        return (await client.get_metrics(name_contains=name)).average.session_cost

async def fork_while_all_may_be_asked_are_under_way():
    client = HeliconeClient(key, base_url=url, max_concurrency=8)
    calls = [asyncio.ensure_future(client.get_metrics(name_contains=f"held {place}")) for place in range(8)]
    while client._sender.gate._budget.window.in_flight < 8:
        await asyncio.sleep(0.001)
    return os.fork()

# The loop is left as it is: its clean-up is the parent's.
loop = asyncio.new_event_loop()
child = loop.run_until_complete(fork_while_all_may_be_asked_are_under_way())
if child == 0:
    print(asyncio.run(asyncio.wait_for(ask("free"), 20)), flush=True)
else:
    os.waitpid(child, 0)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_begins_anew() -> None:
    """Requests that the parent had in progress at the fork do not delay queries of the child."""
    with FakeHelicone() as server:
        server.answers("free", metrics(cost=7.0))
        server.hold(lambda query: query.name_contains.startswith("held"))
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORKED, server.url, server.api_key],
            check=True,
            capture_output=True,
            text=True,
        )

    assert "7.0" == run.stdout.strip()
