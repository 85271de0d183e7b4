import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest

from helicone_sessions import (
    NONE,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    F,
    FilterTypeError,
    HeliconeClient,
    HeliconeError,
    MetricsOutcome,
    QueryFailed,
    SessionMetrics,
    SessionMetricsQuery,
)
from helicone_sessions.testing import Fault, Reply, failure
from helicone_sessions.transport.batch import as_query
from tests.parts import parts

pytestmark = pytest.mark.virtual_time

Make = Callable[..., HeliconeClient]
# As good as endless, and yet an end for a package that reads on.
ENDLESS = range(3000)
NAMES = [str(number) for number in range(10)]


def query(name: object) -> SessionMetricsQuery:
    return SessionMetricsQuery(name_contains=str(name))


def queries(names: Iterable[object]) -> list[SessionMetricsQuery]:
    return [query(name) for name in names]


def cost(metrics: Any) -> float | None:
    """The number in a session name."""
    found: float | None = metrics.average.session_cost
    return found


class Pulled:
    """An input that records which items were taken."""

    def __init__(self, names: Iterable[object]) -> None:
        self.names: list[str] = []
        self._all = names

    def __iter__(self) -> Iterator[SessionMetricsQuery]:
        for name in self._all:
            self.names.append(str(name))
            yield query(name)


async def asynchronously(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


async def settled() -> None:
    """Let everything happen that needs no virtual time."""
    await asyncio.sleep(1)


# get_metrics_many


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        deque,
        iter,
        lambda items: (item for item in items),
        lambda items: dict(enumerate(items)).values(),
    ],
    ids=["list", "tuple", "deque", "iterator", "generator", "values of a dict"],
)
async def test_an_iterable_gives_a_list_in_its_order(make_client: Make, service: Any, kind: Any) -> None:
    """The answers are at the positions of their queries, whichever came first."""
    service.hold_named("0")
    call = asyncio.ensure_future(make_client(max_concurrency=3).get_metrics_many(kind(queries(NAMES))))
    await service.names_arrived(*NAMES)
    service.release_named()
    found = await call

    assert isinstance(found, list)
    assert list(range(10)) == [cost(metrics) for metrics in found]


@pytest.mark.parametrize(
    "keys", [["b", "a", "c"], [("gpt", 1), None, 3.5], [frozenset({1}), "x", 0]], ids=str
)
async def test_a_mapping_gives_a_dict_with_its_keys_in_its_order(
    make_client: Make, service: Any, keys: list[Any]
) -> None:
    """Any keys come back, each with the answer to its query."""
    service.hold_named("0")
    given = {key: query(number) for number, key in enumerate(keys)}
    call = asyncio.ensure_future(make_client().get_metrics_many(given))
    await service.names_arrived("0", "1", "2")
    service.release_named()
    found = await call

    assert keys == list(found)
    assert [0, 1, 2] == [cost(metrics) for metrics in found.values()]


@pytest.mark.parametrize(
    ("expected", "given"),
    [([], []), ({}, {}), ([], ()), ([], iter([]))],
    ids=["list", "dict", "tuple", "iterator"],
)
async def test_no_queries_have_no_answers(
    make_client: Make, service: Any, expected: object, given: Any
) -> None:
    """An empty input gives an empty result, and sends nothing."""
    assert expected == await make_client().get_metrics_many(given)
    assert [] == service.requests


async def test_equal_queries_under_way_are_asked_once(make_client: Make, service: Any) -> None:
    """Identical concurrent queries are one request with an answer for each; a later one is a new request."""
    service.hold_named("7")
    client = make_client()
    call = asyncio.ensure_future(client.get_metrics_many(queries([7, 7, 8, 7])))
    await service.names_arrived("7", "8")
    await settled()
    service.release_named()

    assert [7.0, 7.0, 8.0, 7.0] == [cost(found) for found in await call]
    assert ["7", "8"] == service.names
    await client.get_metrics(query(7))
    assert ["7", "8", "7"] == service.names


async def test_who_gives_up_a_shared_request_leaves_it_to_the_others(make_client: Make, service: Any) -> None:
    """If one of several identical queries is cancelled, first or not, the others are answered."""
    service.hold_named("7")
    client = make_client()
    calls = [asyncio.ensure_future(client.get_metrics(query(7))) for _ in range(4)]
    await service.names_arrived("7")
    calls[0].cancel()
    calls[2].cancel()
    await service.until(lambda: len(service.requests) == 2)
    service.release_named()
    first, second, third, fourth = await asyncio.gather(*calls, return_exceptions=True)

    assert (7.0, 7.0) == (cost(second), cost(fourth))
    assert [asyncio.CancelledError] * 2 == [type(first), type(third)]
    assert ["7", "7"] == service.names


async def test_an_error_of_a_shared_request_is_each_ones_own(make_client: Make, service: Any) -> None:
    """Queries that share a request get separate copies of its error."""
    service.hold_named("bad")
    service.answers("bad", failure("Invalid timezone difference"))
    client = make_client()
    calls = [asyncio.ensure_future(client.get_metrics(query("bad"))) for _ in range(2)]
    await service.names_arrived("bad")
    await settled()
    service.release_named()
    first, second = await asyncio.gather(*calls, return_exceptions=True)

    assert 1 == len(service.requests)
    assert isinstance(first, QueryFailed)
    assert isinstance(second, QueryFailed)
    assert first is not second
    assert str(first) == str(second)


async def test_filters_are_queries_too(make_client: Make, service: Any) -> None:
    """A filter or a boolean column means a query for it; a query that matches nothing is not sent."""
    found = await make_client().get_metrics_many({"a": F.cost > 1, "b": F.threat, "c": NONE})

    assert ["a", "b", "c"] == list(found)
    assert SessionMetrics.empty() == found["c"]
    assert 2 == len(service.requests)


async def test_the_first_error_ends_the_rest(make_client: Make, service: Any, tasks_left: Any) -> None:
    """The first error is raised; running queries are cancelled, and waiting ones are never sent."""
    service.hold_named("0", "1", "bad")
    service.answers("bad", failure("Invalid timezone difference"))
    pulled = Pulled(["0", "1", "bad", "later", "last"])
    call = asyncio.ensure_future(make_client(max_concurrency=3).get_metrics_many(pulled))
    await service.names_arrived("0", "1", "bad")
    service.release_named("bad")
    with pytest.raises(QueryFailed, match="Invalid timezone difference"):
        await call

    assert ["0", "1", "bad"] == pulled.names
    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)
    assert {"0", "1", "bad"} == set(service.names)


@pytest.mark.parametrize("as_mapping", [True, False])
async def test_errors_can_take_the_place_of_answers(
    make_client: Make, service: Any, as_mapping: bool
) -> None:
    """With return_errors every query is sent, and an error takes the place of its answer."""
    service.answers("1", failure("Invalid timezone difference"))
    service.answers("2", Fault.DROP)
    given: Any = dict(zip("abcd", queries(range(4)), strict=True)) if as_mapping else queries(range(4))
    found = await make_client(max_retries=1).get_metrics_many(given, return_errors=True)
    zeroth, first, second, third = found.values() if as_mapping else found

    assert (0.0, 3.0) == (cost(zeroth), cost(third))
    assert (QueryFailed, ConnectionFailed) == (type(first), type(second))
    assert 2 == second.attempts


@pytest.mark.parametrize(
    ("total", "given"),
    [
        (4, queries(range(4))),
        (4, dict(enumerate(queries(range(4))))),
        (None, (query(number) for number in range(4))),
    ],
    ids=["list", "mapping", "generator"],
)
async def test_progress_is_told_after_each_outcome(
    make_client: Make, service: Any, total: int | None, given: Any
) -> None:
    """on_progress receives the numbers of completed, all (if known) and failed queries."""
    service.answers("1", failure("Invalid timezone difference"))
    told: list[tuple[int, int | None, int]] = []
    await make_client(max_concurrency=1).get_metrics_many(
        given, return_errors=True, on_progress=lambda *state: told.append(state)
    )

    assert [(1, total, 0), (2, total, 1), (3, total, 1), (4, total, 1)] == told


async def test_an_error_of_on_progress_ends_the_batch(
    make_client: Make, service: Any, tasks_left: Any
) -> None:
    """An exception of the callback is raised, and nothing runs after it."""
    service.hold_named("1")

    def complain(*_state: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        await make_client(max_concurrency=2).get_metrics_many(queries(range(2)), on_progress=complain)

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


async def test_only_what_failed_is_asked_again(make_client: Make, service: Any) -> None:
    """A failure of one query does not affect the others."""
    service.will_answer(Reply(502))
    found = await make_client(max_concurrency=1).get_metrics_many(queries(range(3)))

    assert [0, 1, 2] == [cost(metrics) for metrics in found]
    assert ["0", "0", "1", "2"] == service.names


# The outcomes of a stream


async def test_an_outcome_tells_all_about_its_query(make_client: Make, service: Any) -> None:
    """An outcome has the key, query, answer, attempts and time of a query that was sent twice."""
    service.will_answer(Reply(502))
    async with make_client().stream_metrics({"a": query(7)}) as outcomes:
        (found,) = [outcome async for outcome in outcomes]

    assert ("a", query(7), 7.0, None, 2) == (
        found.key,
        found.query,
        cost(found.metrics),
        found.error,
        found.attempts,
    )
    assert 0 <= found.elapsed < float("inf")


async def test_an_outcome_can_be_an_error(make_client: Make, service: Any) -> None:
    """A failed query is an outcome like the others, and the stream continues."""
    service.answers("1", Reply(502))
    async with make_client(max_retries=2, max_concurrency=1).stream_metrics(queries(range(3))) as outcomes:
        found = [outcome async for outcome in outcomes]

    assert [0, 1, 2] == [outcome.key for outcome in found]
    assert [True, False, True] == [outcome.error is None for outcome in found]
    assert [False, True, False] == [outcome.metrics is None for outcome in found]
    assert [1, 3, 1] == [outcome.attempts for outcome in found]


async def test_a_query_that_cannot_be_sent_is_an_outcome_without_attempts(
    make_client: Make, service: Any
) -> None:
    """A query that the API cannot express fails alone, and does not count as sent."""
    impossible = SessionMetricsQuery(~(F.property_key == "env"))
    async with make_client().stream_metrics([impossible, NONE]) as outcomes:
        found = {outcome.key: outcome async for outcome in outcomes}

    assert isinstance(found[0].error, HeliconeError)
    assert (0, 0) == (found[0].attempts, found[1].attempts)
    assert [] == service.requests


def test_an_outcome_cannot_be_changed() -> None:
    """Outcomes are frozen values."""
    outcome = MetricsOutcome(0, query(1), SessionMetrics.empty(), None, 1, 0.5)

    assert outcome == MetricsOutcome(0, query(1), SessionMetrics.empty(), None, 1, 0.5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        outcome.key = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (["a", "b"], {"a": query(0), "b": query(1)}),
        ([0, 1], queries(range(2))),
        ([0, 1], (item for item in queries(range(2)))),
        ([0, 1], asynchronously(queries(range(2)))),
        ([], []),
        ([], asynchronously([])),
    ],
    ids=["mapping", "list", "generator", "async generator", "nothing", "nothing, asynchronously"],
)
@pytest.mark.parametrize("ordered", [True, False])
async def test_keys_are_those_of_the_mapping_or_places(
    make_client: Make, expected: list[Any], given: Any, ordered: bool
) -> None:
    """A mapping, an iterable or an async iterable is read to its end."""
    if not isinstance(given, dict | list):
        items = queries(range(len(expected)))
        given = asynchronously(items) if hasattr(given, "__aiter__") else (item for item in items)
    async with make_client(max_concurrency=1).stream_metrics(given, ordered=ordered) as outcomes:
        found = [outcome async for outcome in outcomes]

    assert expected == [outcome.key for outcome in found]
    assert list(range(len(expected))) == [cost(outcome.metrics) for outcome in found]


async def test_outcomes_come_as_they_complete(make_client: Make, service: Any) -> None:
    """A slow query does not delay the ones after it."""
    service.hold_named("0")
    order = []
    async with make_client(max_concurrency=2).stream_metrics(queries(range(4))) as outcomes:
        async for outcome in outcomes:
            order.append(outcome.key)
            if len(order) == 3:
                service.release_named()

    assert [1, 2, 3, 0] == order


async def test_a_stream_can_be_read_without_a_block(make_client: Make) -> None:
    """A stream that is read to its end needs no `async with`."""
    assert [0, 1, 2] == sorted(
        [outcome.key async for outcome in make_client().stream_metrics(queries(range(3)))]
    )


async def test_a_stream_that_is_never_read_asks_nothing(make_client: Make, service: Any) -> None:
    """Creating a stream starts nothing, and an unread stream is no error."""
    pulled = Pulled(ENDLESS)
    make_client().stream_metrics(pulled)
    async with make_client().stream_metrics(pulled):
        await settled()

    assert ([], []) == (pulled.names, service.requests)


# A stream in order


async def test_ordered_outcomes_come_in_the_order_of_the_input(make_client: Make, service: Any) -> None:
    """With ordered=True the outcomes wait for a slow query, while later queries run."""
    service.hold_named("0", "3")
    order = []

    async def read() -> None:
        async with make_client(max_concurrency=3).stream_metrics(queries(range(6)), ordered=True) as outcomes:
            async for outcome in outcomes:
                order.append((outcome.key, cost(outcome.metrics)))  # noqa: PERF401 - looked at meanwhile

    reading = asyncio.ensure_future(read())
    await service.names_arrived("0", "1", "2", "3", "4", "5")
    before = list(order)
    service.release_named("0")
    await service.until(lambda: len(order) == 3)
    service.release_named("3")
    await reading

    assert [] == before
    assert [(number, float(number)) for number in range(6)] == order


@pytest.mark.parametrize("slots", [1, 2, 5])
async def test_an_ordered_stream_looks_ahead_a_bounded_way(
    make_client: Make, service: Any, slots: int
) -> None:
    """While the first answer is missing, an endless input is read only so far."""
    service.hold_named("0")
    pulled = Pulled(ENDLESS)
    client = make_client(max_concurrency=slots)
    keys = []

    async def read() -> None:
        async with client.stream_metrics(pulled, ordered=True) as outcomes:
            async for outcome in outcomes:
                keys.append(outcome.key)
                if outcome.key == 40:
                    break

    reading = asyncio.ensure_future(read())
    await service.names_arrived("0")
    await settled()
    ahead = len(pulled.names)
    service.release_named()
    await reading

    assert slots <= ahead <= 4 * slots
    assert list(range(41)) == keys


# The input is pulled lazily


@pytest.mark.parametrize("wrap", [lambda items: items, asynchronously], ids=["sync", "async"])
async def test_the_input_is_pulled_only_when_a_slot_is_free(
    make_client: Make, service: Any, wrap: Any
) -> None:
    """Only as many queries are taken from the input as can be sent, and the next when one is answered."""
    service.hold_named(*NAMES)
    pulled = Pulled(NAMES)
    reading = asyncio.ensure_future(_all(make_client(max_concurrency=2).stream_metrics(wrap(pulled))))
    await service.names_arrived("0", "1")
    await settled()
    first = list(pulled.names)
    service.release_named("1")
    await service.names_arrived("2")
    await settled()
    second = list(pulled.names)
    service.release_named()

    assert set(range(10)) == {outcome.key for outcome in await reading}
    assert (["0", "1"], ["0", "1", "2"]) == (first, second)


async def _all(stream: Any) -> list[MetricsOutcome[Any]]:
    return [outcome async for outcome in stream]


async def test_a_slow_reader_does_not_make_the_input_run_ahead(make_client: Make, service: Any) -> None:
    """Without a reader, one query runs per slot and one outcome per slot waits."""
    pulled = Pulled(ENDLESS)
    async with make_client(max_concurrency=3).stream_metrics(pulled) as outcomes:
        async for _ in outcomes:
            await settled()
            break
        assert 7 >= len(pulled.names)
    assert 7 >= len(service.requests)


async def test_a_waiting_input_does_not_hold_back_what_is_answered(make_client: Make) -> None:
    """While an async input prepares its next query, outcomes continue to arrive."""
    more = asyncio.Event()

    async def thinking() -> AsyncIterator[SessionMetricsQuery]:
        yield query(0)
        await more.wait()
        yield query(1)

    keys = []
    async with make_client().stream_metrics(thinking()) as outcomes:
        async for outcome in outcomes:
            keys.append(outcome.key)
            more.set()

    assert [0, 1] == keys


# Nothing is left behind


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("wrap", [lambda items: items, asynchronously], ids=["sync", "async"])
async def test_leaving_an_endless_stream_leaves_nothing_running(
    make_client: Make, service: Any, tasks_left: Any, wrap: Any, ordered: bool
) -> None:
    """A break inside `async with` ends every task and request before the block ends."""
    service.hold_named("3", "4", "5")
    pulled = Pulled(ENDLESS)
    async with make_client(max_concurrency=4).stream_metrics(wrap(pulled), ordered=ordered) as outcomes:
        async for outcome in outcomes:
            if outcome.key == 2:
                break
    taken = len(pulled.names)

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)
    await settled()
    assert taken == len(pulled.names)


async def test_leaving_while_the_input_thinks_ends_it(make_client: Make, tasks_left: Any) -> None:
    """A pending async input is cancelled at its await."""
    ended = []

    async def thinking() -> AsyncIterator[SessionMetricsQuery]:
        yield query(0)
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with make_client().stream_metrics(thinking()) as outcomes:
        async for _ in outcomes:
            await settled()
            break

    assert (set(), [True]) == (tasks_left(), ended)


async def test_an_error_of_the_reader_leaves_nothing_running(
    make_client: Make, service: Any, tasks_left: Any
) -> None:
    """An exception in the body of the loop is raised after everything has ended."""
    service.hold_named("1", "2")

    async def read() -> None:
        async with make_client(max_concurrency=3).stream_metrics(queries(range(5))) as outcomes:
            async for _ in outcomes:
                raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        await read()

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


@pytest.mark.parametrize("method", ["stream_metrics", "get_metrics_many"])
async def test_cancelling_the_reader_leaves_nothing_running(
    make_client: Make, service: Any, tasks_left: Any, method: str
) -> None:
    """A cancelled task ends its batch before it ends itself."""
    service.hold_named(*NAMES)
    client = make_client(max_concurrency=3)

    async def read() -> None:
        if method == "get_metrics_many":
            await client.get_metrics_many(queries(NAMES))
        async with client.stream_metrics(queries(NAMES)) as outcomes:
            async for _ in outcomes:
                pass

    reading = asyncio.ensure_future(read())
    await service.until(lambda: service.open == 3)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)
    assert 3 == len(service.requests)


async def test_a_timeout_around_a_batch_leaves_nothing_running(
    make_client: Make, service: Any, tasks_left: Any
) -> None:
    """asyncio.timeout ends a batch like any other task."""
    service.hold_named(*NAMES)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await make_client().get_metrics_many(queries(NAMES))

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


@pytest.mark.parametrize("wrap", [lambda items: items, asynchronously], ids=["sync", "async"])
async def test_an_error_of_the_input_leaves_nothing_running(
    make_client: Make, service: Any, tasks_left: Any, wrap: Any
) -> None:
    """An exception of the input is raised, and ends the queries before it."""
    service.hold_named("0")

    def broken() -> Iterator[SessionMetricsQuery]:
        yield query(0)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await make_client().get_metrics_many(wrap(broken()))

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


async def test_a_stream_can_be_ended_by_hand(make_client: Make, service: Any, tasks_left: Any) -> None:
    """Calling aclose ends a stream like the end of its block; a second call does no harm."""
    service.hold_named("1", "2")
    stream = make_client(max_concurrency=3).stream_metrics(queries(range(5)))
    async for _ in stream:
        break
    await stream.aclose()
    await stream.aclose()

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


# What is refused


@pytest.mark.parametrize(
    "value",
    [None, "cost > 1", 5, {"request_response_rmt": {}}, ("a", query(1)), SessionMetricsQuery],
    ids=repr,
)
@pytest.mark.parametrize(
    "shape", [lambda value: [value], lambda value: {"a": value}], ids=["list", "mapping"]
)
async def test_what_is_no_query_is_refused_where_it_stands(
    make_client: Make, service: Any, value: Any, shape: Any
) -> None:
    """An item that is not a query is an error that describes it, and is not sent."""
    with pytest.raises(FilterTypeError, match="a query must be a SessionMetricsQuery or a filter, got"):
        await make_client().get_metrics_many(shape(value))
    assert [] == service.requests


@pytest.mark.parametrize("value", [True, F.cost, F.properties], ids=repr)
async def test_what_is_no_condition_is_refused_where_it_stands(make_client: Make, value: Any) -> None:
    """A column without its comparison, or the result of `in`, is not a query either."""
    with pytest.raises(FilterTypeError):
        await make_client().get_metrics_many([value])


async def test_what_is_no_query_ends_the_ones_before_it(
    make_client: Make, service: Any, tasks_left: Any
) -> None:
    """A wrong input is an error of the program, not an outcome."""
    service.hold_named("0")
    with pytest.raises(FilterTypeError, match="a query must be a SessionMetricsQuery or a filter, got 5"):
        await _all(make_client().stream_metrics(asynchronously([query(0), 5])))

    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


@pytest.mark.parametrize(
    "given",
    [
        "cost",
        b"cost",
        query(0),
        F.cost > 1,
        F.threat,
        None,
        5,
    ],
    ids=repr,
)
def test_one_query_is_no_batch(given: Any) -> None:
    """A string, a single query or filter, or a value that is not iterable is rejected at once."""
    client = HeliconeClient("sk-example", base_url="http://localhost:8585")
    with pytest.raises(FilterTypeError, check=parts(argument="queries")):
        client.stream_metrics(given)


# The wrong key


async def test_a_wrong_key_stops_the_stream(make_client: Make, service: Any, tasks_left: Any) -> None:
    """After a rejected key the outcome is returned, the error raised, and nothing more sent."""
    service.hold_named("0")
    service.answers("2", Reply(401, {"error": "Unauthorized"}))
    pulled = Pulled(ENDLESS)
    found = []

    async def read() -> None:
        async for outcome in make_client(max_concurrency=2).stream_metrics(pulled):
            found.append(outcome)  # noqa: PERF401 - it ends in an error

    with pytest.raises(AuthenticationError, match="Unauthorized") as caught:
        await read()

    assert [1, 2] == [outcome.key for outcome in found]
    assert caught.value is found[-1].error
    assert ["0", "1", "2"] == pulled.names
    assert set() == tasks_left()
    await service.until(lambda: service.open == 0)


async def test_a_wrong_key_stops_an_ordered_stream_at_once(make_client: Make, service: Any) -> None:
    """An ordered stream sends nothing more with a rejected key."""
    service.hold_named("0")
    service.answers("1", Reply(401, {"error": "Unauthorized"}))
    pulled = Pulled(ENDLESS)
    async with make_client(max_concurrency=2).stream_metrics(pulled, ordered=True) as outcomes:
        reading = asyncio.ensure_future(_all(outcomes))
        await service.names_arrived("1")
        await settled()
        service.release_named()
        with pytest.raises(AuthenticationError):
            await reading

    assert ["0", "1"] == service.names


# Many


async def test_a_large_batch_is_answered_through_few_slots(make_client: Make, service: Any) -> None:
    """Hundreds of queries use as many connections as there are slots, each with its own answer."""
    found = await make_client(max_concurrency=4).get_metrics_many(queries(range(300)))

    assert list(range(300)) == [cost(metrics) for metrics in found]
    assert 4 >= service.most_open
    assert 4 >= len({request.connection for request in service.requests})


# Nothing ends in silence


async def test_an_input_that_is_cancelled_does_not_end_the_batch_in_silence(make_client: Make) -> None:
    """A CancelledError of the input reaches the reader; a cut input is never taken for a complete one."""

    async def broken() -> AsyncIterator[SessionMetricsQuery]:
        for number in range(10):
            yield query(number)
        raise asyncio.CancelledError

    client = make_client()
    with pytest.raises(asyncio.CancelledError):
        await client.get_metrics_many(broken())
    with pytest.raises(asyncio.CancelledError):
        async with client.stream_metrics(broken()) as outcomes:
            _ = [outcome async for outcome in outcomes]


async def test_a_wrong_key_keeps_what_was_done_in_order_too(make_client: Make, service: Any) -> None:
    """Finished outcomes behind a slow query come in their order before the error ends the stream."""
    service.hold_named("0")
    service.answers("5", Reply(401, {"error": "unknown key"}))
    keys = []

    async def read() -> None:
        async with make_client(max_concurrency=6).stream_metrics(queries(range(6)), ordered=True) as outcomes:
            async for outcome in outcomes:
                keys.append(outcome.key)  # noqa: PERF401 - what came before the error is the subject

    with pytest.raises(AuthenticationError):
        await read()

    assert 5 == keys[-1]
    assert sorted(keys) == keys


async def test_a_closed_client_ends_a_stream_without_an_end(make_client: Make) -> None:
    """A rejected key gives one such outcome, and then the stream raises."""
    client = make_client(max_concurrency=2)
    given = 0

    async def read() -> None:
        nonlocal given
        async with client.stream_metrics(Pulled(ENDLESS)) as outcomes:
            async for _ in outcomes:
                given += 1
                if given == 3:
                    await client.aclose()

    with pytest.raises(ConfigurationError):
        await read()

    assert given < 20


async def test_an_async_input_is_closed_before_the_block_is_left(make_client: Make) -> None:
    """A cursor in the input does not outlive the stream."""
    told = []

    async def cursor() -> AsyncIterator[SessionMetricsQuery]:
        try:
            for number in ENDLESS:
                yield query(number)
        finally:
            told.append("closed")

    async with make_client().stream_metrics(cursor()) as outcomes:
        async for _ in outcomes:
            break
    told.append("left")

    assert ["closed", "left"] == told


def test_what_is_no_query_is_shown_shortened() -> None:
    """A long string in the wrong place is cut in the message."""
    with pytest.raises(FilterTypeError) as caught:
        as_query("x" * 5000, 3)

    assert len(str(caught.value)) < 300


async def test_a_batch_that_is_interrupted_keeps_its_answers(make_client: Make, service: Any) -> None:
    """The error of a cancellation or a timeout has the answers so far, so that the rest can be run."""
    service.hold_named("3")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(60):
            await make_client(timeout=600).get_metrics_many({str(n): query(n) for n in range(4)})

    cancelled: Any = caught.value.__cause__
    assert isinstance(cancelled, asyncio.CancelledError)
    assert {"0": 0.0, "1": 1.0, "2": 2.0} == {key: cost(found) for key, found in cancelled.answered.items()}
