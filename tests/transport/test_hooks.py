"""Hooks receive queries and their attempts, and change nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from helicone_sessions import (
    ALL,
    NONE,
    Attempt,
    ConfigurationError,
    ConnectionFailed,
    F,
    FilterValueError,
    HeliconeClient,
    HeliconeError,
    Hooks,
    QueryFailed,
    QueryOutcome,
    RateLimit,
    RequestTimeout,
    ServerError,
    SessionMetricsQuery,
    UnexpectedResponse,
)
from helicone_sessions.testing import Fault, RecordedRequest, Reply, failure, gateway_page
from tests.parts import parts

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-example-key"

Make = Callable[..., HeliconeClient]


class Diary(Hooks):
    """Records every call, with a number for each query, and the outcome at the end."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.begun = 0
        self.attempts: list[Attempt] = []
        self.outcomes: list[QueryOutcome] = []

    def query_begins(self, query: SessionMetricsQuery) -> int:
        self.begun += 1
        self.calls.append(("query begins", self.begun, query.name_contains))
        return self.begun

    def attempt_begins(self, token: int, number: int, url: str) -> tuple[int, int]:
        assert url.endswith("/v1/session/metrics/query")
        self.calls.append(("attempt begins", token, number))
        return token, number

    def attempt_ends(self, token: tuple[int, int], attempt: Attempt) -> None:
        assert token[1] == attempt.number
        self.calls.append(("attempt ends", *token))
        self.attempts.append(attempt)

    def query_ends(self, token: int, outcome: QueryOutcome) -> None:
        self.calls.append(("query ends", token, outcome.query.name_contains))
        self.outcomes.append(outcome)

    @property
    def open(self) -> set[tuple[object, ...]]:
        """The queries and attempts that have begun and not ended."""
        began = [call[1:] for call in self.calls if str(call[0]).endswith("begins")]
        ended = [call[1:] for call in self.calls if str(call[0]).endswith("ends")]
        assert len(began) == len(set(began))
        assert len(ended) == len(set(ended))
        return set(began) - set(ended)


@pytest.fixture
def diary() -> Diary:
    return Diary()


def named(*names: str) -> list[SessionMetricsQuery]:
    return [SessionMetricsQuery(name_contains=name) for name in names]


def slow(clock: Any, seconds: float, answer: Any = None) -> Callable[[RecordedRequest], Awaitable[Any]]:
    """An answer of a slow service, on the clock of the test."""

    async def later(request: RecordedRequest) -> Any:
        clock.advance(seconds)
        return answer or Reply(200, {"data": None, "error": request.json["nameContains"]})

    return later


# The calls


async def test_a_query_and_its_attempt_begin_and_end_in_order(make_client: Make, diary: Diary) -> None:
    """The return value of a beginning is passed to later calls of the same query and attempt."""
    metrics = await make_client(hooks=diary).get_metrics(name_contains="7")

    assert diary.calls == [
        ("query begins", 1, "7"),
        ("attempt begins", 1, 1),
        ("attempt ends", 1, 1),
        ("query ends", 1, "7"),
    ]
    assert [Attempt(1, 200, None, 0.0, 0.0)] == diary.attempts
    query = SessionMetricsQuery(name_contains="7")
    assert [QueryOutcome(query, metrics, None, 1, False, 0.0, 0.0, 0.0)] == diary.outcomes


async def test_each_attempt_is_told_with_what_it_came_to(
    make_client: Make, service: Any, diary: Diary
) -> None:
    """Attempts have numbers from 1, with status and error; each query is reported once, with its answer."""
    service.will_answer(gateway_page(502), Fault.TRUNCATE, Reply(204))
    with pytest.raises(UnexpectedResponse) as caught:
        await make_client(hooks=diary).get_metrics()

    assert [(1, 502), (2, None), (3, 204)] == [(told.number, told.status) for told in diary.attempts]
    first, second, third = (told.error for told in diary.attempts)
    assert isinstance(first, ServerError)
    assert isinstance(second, ConnectionFailed)
    assert third is caught.value
    (outcome,) = diary.outcomes
    assert (caught.value, None, 3) == (outcome.error, outcome.metrics, outcome.attempts)


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (Reply(500, {"data": None, "error": "Invalid filter"}), QueryFailed, 500),
        (Reply(200, {"data": None, "error": "Invalid filter"}), QueryFailed, 200),
        (Fault.TRUNCATE, ConnectionFailed, None),
        (Fault.NOT_HTTP, ConnectionFailed, None),
        (Fault.STALL, RequestTimeout, None),
    ],
    ids=str,
)
async def test_the_error_of_an_attempt_is_the_one_that_is_raised(
    make_client: Make, service: Any, diary: Diary, fault: Any, kind: type[HeliconeError], status: int | None
) -> None:
    """An attempt without metrics has the caller's error, and the status if there is one."""
    service.will_answer(fault)
    with pytest.raises(kind) as caught:
        await make_client(hooks=diary, max_retries=0, timeout=5).get_metrics()

    ((attempt,), (outcome,)) = diary.attempts, diary.outcomes
    assert caught.value is attempt.error is outcome.error
    assert status == attempt.status


async def test_the_error_of_an_attempt_says_which_it_was(make_client: Make, service: Any) -> None:
    """During a hook, the error counts the attempts so far."""
    seen: list[int] = []

    class Look(Hooks):
        def attempt_ends(self, _token: object, attempt: Attempt) -> None:
            seen.append(attempt.error.attempts)  # type: ignore[union-attr]

    service.answers("", gateway_page())
    with pytest.raises(ServerError):
        await make_client(hooks=Look(), max_retries=2).get_metrics()

    assert [1, 2, 3] == seen


async def test_a_query_that_needs_no_request_has_no_attempts(make_client: Make, diary: Diary) -> None:
    """A filter that matches nothing is reported as a query with an answer."""
    await make_client(hooks=diary).get_metrics(NONE)

    assert ["query begins", "query ends"] == [call[0] for call in diary.calls]
    (outcome,) = diary.outcomes
    assert (0, None) == (outcome.attempts, outcome.error)
    assert outcome.metrics is not None


async def test_a_query_that_is_refused_before_it_is_sent_is_told(make_client: Make, diary: Diary) -> None:
    """A query that the client rejects ends with an error."""
    with pytest.raises(FilterValueError) as caught:
        await make_client(hooks=diary, cautions="error").get_metrics(F.cost > 3)

    assert ["query begins", "query ends"] == [call[0] for call in diary.calls]
    assert (caught.value, 0) == (diary.outcomes[0].error, diary.outcomes[0].attempts)


async def test_those_who_wait_for_the_same_answer_have_no_attempts(
    make_client: Make, service: Any, clock: Any, diary: Diary
) -> None:
    """Of queries that share one request, one has the attempt and the others are marked as shared."""
    service.hold_named("7")
    client = make_client(hooks=diary)
    asked = [asyncio.ensure_future(client.get_metrics(name_contains="7")) for _ in range(3)]
    await service.names_arrived("7")
    clock.advance(5)
    service.release_named()
    answers = await asyncio.gather(*asked)

    assert [(1, False), (0, True), (0, True)] == sorted(
        ((told.attempts, told.is_shared) for told in diary.outcomes), reverse=True
    )
    assert all(told.metrics == answers[0] for told in diary.outcomes)
    assert [(5, 0, 0)] * 3 == [(told.seconds, told.queued, told.waited) for told in diary.outcomes]
    assert (1, set()) == (len(diary.attempts), diary.open)


async def test_who_takes_over_a_question_shares_it_no_more(
    make_client: Make, service: Any, diary: Diary
) -> None:
    """If the sending query is cancelled, another one sends again, and has its own attempt."""
    service.hold_named("7")
    client = make_client(hooks=diary)
    first = asyncio.ensure_future(client.get_metrics(name_contains="7"))
    await service.names_arrived("7")
    second = asyncio.ensure_future(client.get_metrics(name_contains="7"))
    await asyncio.sleep(0)
    first.cancel()
    await service.until(lambda: len(service.requests) == 2)
    service.release_named()
    await second

    assert [(1, False), (1, False)] == [(told.attempts, told.is_shared) for told in diary.outcomes]
    assert isinstance(diary.outcomes[0].error, asyncio.CancelledError)
    assert set() == diary.open


# Times


async def test_the_time_of_an_attempt_is_that_of_the_request(
    make_client: Make, service: Any, clock: Any, diary: Diary
) -> None:
    """An attempt lasts from sending to the answer; the wait before it is separate."""
    service.answers("", slow(clock, 3, Reply(503, "", {"Retry-After": "7"})))
    with pytest.raises(HeliconeError):
        await make_client(hooks=diary, max_retries=1).get_metrics()

    first, second = diary.attempts
    (outcome,) = diary.outcomes
    assert (3, 0) == (first.seconds, first.waited)
    assert second.seconds == pytest.approx(3)
    assert second.waited >= 7
    assert outcome.queued == 0
    assert outcome.waited == pytest.approx(second.waited)
    assert outcome.seconds == pytest.approx(6 + second.waited)


async def test_the_wait_for_a_slot_is_told(make_client: Make, service: Any, clock: Any, diary: Diary) -> None:
    """A query that waits for another's slot was queued, and its attempt is not longer."""
    service.otherwise(slow(clock, 5))
    client = make_client(hooks=diary, max_concurrency=1)
    found = await client.get_metrics_many(named("1"), return_errors=True)
    both = [asyncio.ensure_future(client.get_metrics(query)) for query in named("2", "3")]
    await asyncio.wait(both)

    assert isinstance(found[0], QueryFailed)
    assert [0, 0, 5] == [told.queued for told in diary.outcomes]
    assert [0, 0, 0] == [told.waited for told in diary.outcomes]
    assert [5, 5, 10] == [told.seconds for told in diary.outcomes]
    assert [5, 5, 5] == [told.seconds for told in diary.attempts]
    for task in both:
        assert isinstance(task.exception(), QueryFailed)


async def test_the_wait_for_the_rate_limit_is_told(make_client: Make, diary: Diary) -> None:
    """A query that the limit delays has waited, and its attempt begins after the wait."""
    client = make_client(hooks=diary, rate_limit=RateLimit(requests=1, per=60))
    await client.get_metrics(name_contains="1")
    await client.get_metrics(name_contains="2")

    assert [0, 60] == [told.waited for told in diary.attempts]
    assert [0, 60] == [told.waited for told in diary.outcomes]
    assert [0, 0] == [told.seconds for told in diary.attempts]


async def test_an_attempt_ends_before_the_callers_own_limiter_is_left(
    make_client: Make, diary: Diary
) -> None:
    """The time in the caller's limiter is a wait, before and after."""

    @asynccontextmanager
    async def limiter() -> AsyncIterator[None]:
        diary.calls.append(("entered",))
        yield
        diary.calls.append(("left",))

    class Limiter:
        async def __aenter__(self) -> None:
            self.now = limiter()
            await self.now.__aenter__()

        async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 - handed on
            await self.now.__aexit__(*error)

    await make_client(hooks=diary, rate_limit=Limiter()).get_metrics()

    order = [call[0] for call in diary.calls]
    assert ["query begins", "entered", "attempt begins", "attempt ends", "left", "query ends"] == order


# Many queries, and endings


async def test_queries_of_a_batch_are_not_mixed_up(make_client: Make, service: Any, diary: Diary) -> None:
    """Each query of a batch has its own calls, in any interleaving."""
    names = [str(number) for number in range(40)]
    for name in names[::4]:
        service.answers(name, failure("no such session"))
    await make_client(hooks=diary, max_concurrency=5).get_metrics_many(named(*names), return_errors=True)

    begun = {call[1]: call[2] for call in diary.calls if call[0] == "query begins"}
    ended = {call[1]: call[2] for call in diary.calls if call[0] == "query ends"}
    assert begun == ended
    assert sorted(names) == sorted(map(str, begun.values()))
    assert (40, set()) == (len(diary.attempts), diary.open)
    failed = {told.query.name_contains for told in diary.outcomes if told.error is not None}
    assert set(names[::4]) == failed


async def test_the_calls_come_in_the_task_of_the_query(make_client: Make) -> None:
    """All calls of a query come in one task; without a batch it is the caller's."""
    tasks: dict[str, set[object]] = {}

    class Where(Hooks):
        def query_begins(self, query: SessionMetricsQuery) -> str:
            return self.note(query.name_contains)

        def attempt_begins(self, token: str, _number: int, _url: str) -> str:
            return self.note(token)

        def attempt_ends(self, token: str, _attempt: Attempt) -> None:
            self.note(token)

        def query_ends(self, token: str, _outcome: QueryOutcome) -> None:
            self.note(token)

        def note(self, name: str) -> str:
            tasks.setdefault(name, set()).add(asyncio.current_task())
            return name

    client = make_client(hooks=Where())
    await client.get_metrics(name_contains="alone")
    await client.get_metrics_many(named("1", "2", "3"))

    assert {asyncio.current_task()} == tasks.pop("alone")
    assert [1, 1, 1] == [len(found) for found in tasks.values()]


async def test_a_cancelled_query_is_told_to_have_ended(make_client: Make, service: Any, diary: Diary) -> None:
    """A cancellation ends the attempt in progress and the query, both with the CancelledError."""
    service.hold_named("7")
    asked = asyncio.ensure_future(make_client(hooks=diary).get_metrics(name_contains="7"))
    await service.names_arrived("7")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    ends = ["query begins", "attempt begins", "attempt ends", "query ends"]
    assert ends == [call[0] for call in diary.calls]
    assert isinstance(diary.attempts[0].error, asyncio.CancelledError)
    assert isinstance(diary.outcomes[0].error, asyncio.CancelledError)
    assert diary.attempts[0].status is None


async def test_a_query_that_is_cancelled_while_it_waits_has_ended(
    make_client: Make, service: Any, diary: Diary
) -> None:
    """A query without a slot ends as well, without an attempt."""
    service.hold_named("1")
    client = make_client(hooks=diary, max_concurrency=1)
    first, second = (asyncio.ensure_future(client.get_metrics(query)) for query in named("1", "2"))
    await service.names_arrived("1")
    second.cancel()
    await asyncio.wait([second])

    assert [("2", 0)] == [(told.query.name_contains, told.attempts) for told in diary.outcomes]
    service.release_named()
    await first
    assert set() == diary.open


async def test_leaving_a_stream_early_ends_all(make_client: Make, service: Any, diary: Diary) -> None:
    """After a break out of a stream's block, everything that began has ended."""
    service.hold_named("1", "2", "3")
    names = [str(number) for number in range(100)]
    async with make_client(hooks=diary, max_concurrency=4).stream_metrics(named(*names)) as outcomes:
        async for _ in outcomes:
            await service.names_arrived("1", "2", "3")
            break

    assert set() == diary.open
    assert 3 <= sum(isinstance(told.error, asyncio.CancelledError) for told in diary.outcomes)


async def test_the_deadline_ends_the_attempt(make_client: Make, service: Any, diary: Diary) -> None:
    """A query that exceeds its deadline ends with its timeout, and so does its attempt."""
    service.will_answer(Fault.STALL)
    with pytest.raises(RequestTimeout):
        await make_client(hooks=diary, deadline=5, max_retries=0).get_metrics()

    assert isinstance(diary.outcomes[0].error, RequestTimeout)
    assert set() == diary.open


# Hooks that fail, several hooks, and none


@pytest.mark.parametrize("method", ["query_begins", "attempt_begins", "attempt_ends", "query_ends"])
async def test_a_hook_that_raises_ends_no_query(
    make_client: Make, service: Any, diary: Diary, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a hook is logged with its place, and affects neither the query nor other hooks."""

    class Clumsy(Diary):
        pass

    def fail(*_: object) -> None:
        raise LookupError("a mistake of the hook")

    clumsy = Clumsy()
    setattr(clumsy, method, fail)
    service.will_answer(gateway_page())
    client = make_client(hooks=[clumsy, diary])
    metrics = await client.get_metrics(name_contains="7")

    assert metrics.average.session_cost == 7
    assert (6, set()) == (len(diary.calls), diary.open)
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {"helicone_sessions"} == {record.name for record in records}
    said = records[0].getMessage()
    assert said.startswith(f"the hook Clumsy.{method} raised LookupError; the query continues\n")
    assert "in fail\n" in said


@pytest.mark.parametrize("method", ["query_begins", "attempt_begins", "attempt_ends", "query_ends"])
async def test_every_beginning_has_its_end_when_a_hook_ends_the_program(
    make_client: Make, diary: Diary, method: str
) -> None:
    """An exception that ends the program, such as Ctrl-C, is raised after the other hooks; slots are free."""
    ending = Diary()

    def end(*_: object) -> None:
        raise SystemExit(3)

    setattr(ending, method, end)
    last = Diary()
    client = make_client(hooks=[diary, ending, last], max_concurrency=1)
    with pytest.raises(SystemExit):
        await client.get_metrics()

    assert set() == diary.open == last.open
    assert diary.calls
    metrics = await client.with_options(hooks=None).get_metrics(name_contains="7")
    assert metrics.average.session_cost == 7


@pytest.mark.parametrize(
    ("method", "left"),
    [
        ("query_begins", []),
        ("attempt_begins", ["query begins", "query ends"]),
    ],
)
async def test_what_did_not_begin_does_not_end(
    make_client: Make, diary: Diary, method: str, left: list[str]
) -> None:
    """After a failed beginning, the hook's end is not called."""

    def fail(*_: object) -> None:
        raise LookupError("a mistake of the hook")

    setattr(diary, method, fail)
    await make_client(hooks=diary).get_metrics()

    assert left == [call[0] for call in diary.calls]


@pytest.mark.promise(name="L2")
async def test_a_hook_that_raises_does_not_hide_the_error(
    make_client: Make, service: Any, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of a query is raised as without hooks, and neither its text nor the hook's is logged."""

    class Clumsy(Hooks):
        def query_ends(self, _token: object, outcome: QueryOutcome) -> None:
            raise LookupError(f"no column for {outcome.query.name_contains}: {outcome.error}")

    service.will_answer(failure("Invalid filter"))
    with pytest.raises(QueryFailed, match="Invalid filter"):
        await make_client(hooks=[diary, Clumsy()]).get_metrics(name_contains="jane")

    assert set() == diary.open
    assert "raised LookupError" in caplog.text
    assert "Invalid filter" not in caplog.text
    assert "jane" not in caplog.text


async def test_several_hooks_are_told_like_brackets(make_client: Make) -> None:
    """Beginnings are reported in the order of the hooks, and ends in reverse order."""
    order: list[str] = []

    class Named(Hooks):
        def __init__(self, name: str) -> None:
            self.name = name

        def query_begins(self, _query: SessionMetricsQuery) -> None:
            order.append(f"{self.name} begins")

        def query_ends(self, token: None, _outcome: QueryOutcome) -> None:
            order.append(f"{self.name} ends with {token}")

    await make_client(hooks=(Named(name) for name in "ab")).get_metrics()

    assert ["a begins", "b begins", "b ends with None", "a ends with None"] == order


async def test_hooks_without_methods_of_their_own_hand_on_the_query(make_client: Make) -> None:
    """A subclass that overrides only an end receives the query as its token."""
    given: list[object] = []

    class Ends(Hooks):
        def attempt_ends(self, token: object, _attempt: Attempt) -> None:
            given.append(token)

        def query_ends(self, token: object, _outcome: QueryOutcome) -> None:
            given.append(token)

    query = SessionMetricsQuery(F.cost > 0, name_contains="7")
    await make_client(hooks=[Ends(), Hooks()]).get_metrics(query)

    assert [query, query] == given


async def test_other_options_may_have_other_hooks(make_client: Make) -> None:
    """with_options keeps, replaces or removes the hooks; the first client keeps its own."""
    diary, other = Diary(), Diary()
    client = make_client(hooks=diary)
    await client.with_options(timeout=5).get_metrics(name_contains="1")
    await client.with_options(hooks=other).get_metrics(name_contains="2")
    await client.with_options(hooks=None).get_metrics(name_contains="3")
    await client.get_metrics(name_contains="4")

    assert ["1", "4"] == [told.query.name_contains for told in diary.outcomes]
    assert ["2"] == [told.query.name_contains for told in other.outcomes]


async def test_hooks_change_nothing_in_what_is_asked(make_client: Make, service: Any, diary: Diary) -> None:
    """Requests and answers are the same with and without hooks."""
    queries = [SessionMetricsQuery(F.latency > number, name_contains=str(number)) for number in range(5)]
    plain = await make_client().get_metrics_many([*queries, ALL])
    hooked = await make_client(hooks=diary).get_metrics_many([*queries, ALL])

    def asked(requests: list[Any]) -> list[tuple[str, bytes, dict[str, str]]]:
        return sorted((one.path, one.body, dict(one.headers)) for one in requests)

    assert plain == hooked
    assert asked(service.requests[:6]) == asked(service.requests[6:])


async def test_what_hooks_are_told_shows_no_key(make_client: Make, service: Any, diary: Diary) -> None:
    """A key that the service echoes, or that is part of the address, is in no value that hooks see."""
    urls: list[str] = []

    class Address(Hooks):
        def attempt_begins(self, _token: object, _number: int, url: str) -> None:
            urls.append(url)

    service.will_answer(failure(f"Timeout of {KEY}"))
    client = make_client(hooks=[diary, Address()], base_url=f"{service.url}/{KEY}")
    await client.get_metrics()

    assert 2 == len(urls) == len(diary.attempts)
    assert f"{service.url}/***/v1/session/metrics/query" == urls[0]
    assert KEY not in repr([diary.attempts, diary.outcomes, diary.calls, vars(diary), urls])


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("method", ["query_begins", "attempt_begins", "attempt_ends", "query_ends"])
def test_async_hooks_are_refused(method: str, many: bool) -> None:
    """An async method is an error that names the method, because nobody would await it."""

    async def later(*_: object) -> None:
        pass

    hooks = type("Later", (Hooks,), {method: later})()
    with pytest.raises(ConfigurationError, match=rf"async method Later\.{method}\. "):
        HeliconeClient(KEY, hooks=[hooks] if many else hooks)
    with pytest.raises(ConfigurationError, check=parts(argument="hooks")):
        HeliconeClient(KEY).with_options(hooks=hooks)


@pytest.mark.parametrize("hooks", [print, Hooks, [Hooks], "hooks", 1, [None]], ids=repr)
def test_what_is_no_hook_is_refused(hooks: Any) -> None:
    """A function, a class or similar is rejected when the client is created."""
    with pytest.raises(ConfigurationError, check=parts(argument="hooks")):
        HeliconeClient(KEY, hooks=hooks)
