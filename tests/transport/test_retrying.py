"""Retries: which failures, for how long, and in which reports."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain, count, repeat
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helicone_sessions import (
    APIError,
    ConfigurationError,
    ConnectionFailed,
    F,
    HeliconeClient,
    HeliconeError,
    Hooks,
    QueryFailed,
    RateLimit,
    RateLimited,
    RequestTimeout,
    ServerError,
    TransportError,
)
from helicone_sessions.clock import replaced
from helicone_sessions.messages.protocol import FixedWindow
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
from tests.parts import parts
from tests.repeats import repeats

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-example-key"
NOW = "Sun, 01 Nov 2026 00:00:00 GMT"
IN_A_MINUTE = "Sun, 01 Nov 2026 00:01:00 GMT"

Make = Callable[..., HeliconeClient]
Function = Callable[[RecordedRequest], Awaitable[Any]]


def metrics_body() -> dict[str, Any]:
    """The body of an answer without sessions."""
    names = ("session_count", "session_duration", "session_cost")
    average: dict[str, Any] = {name: [] for name in names}
    return {"data": {**{name: [] for name in names}, "average": average}, "error": None}


def slow(clock: Any, seconds: float, answer: Any) -> Function:
    """An answer of a slow service, on the clock of the test."""

    async def later(_request: RecordedRequest) -> Any:
        clock.advance(seconds)
        return answer

    return later


# The deadline


@pytest.mark.parametrize(("attempts", "deadline"), [(1, 6.9), (1, 7), (2, 7.6), (2, 100)])
async def test_what_cannot_end_in_time_is_not_asked_again(
    make_client: Make, service: Any, clock: Any, attempts: int, deadline: float
) -> None:
    """A wait that would reach the deadline does not begin: the error comes while there is time left."""
    service.answers("", Reply(503, "", {"Retry-After": "7"}))
    with pytest.raises(ServerError) as caught:
        await make_client(deadline=deadline, max_retries=1).get_metrics()

    assert attempts == caught.value.attempts == len(service.requests)
    assert (clock.time < 1007) is (attempts == 1)


async def test_the_deadline_counts_attempts_and_waits(make_client: Make, service: Any, clock: Any) -> None:
    """Attempts of three seconds with waits of up to half, one and two seconds fit four times into ten."""
    service.answers("", slow(clock, 3, gateway_page()))
    with pytest.raises(ServerError) as caught:
        await make_client(deadline=10, max_retries=99).get_metrics()

    # At the end of the third there are at least nine seconds gone, and the fourth begins before the tenth.
    assert len(service.requests) in (3, 4)
    assert len(service.requests) == caught.value.attempts
    assert service.requests[-1].time < 1010


@pytest.mark.parametrize("limit", [30, 60])
async def test_without_a_deadline_only_the_attempts_are_counted(
    make_client: Make, service: Any, clock: Any, limit: float
) -> None:
    """Without a deadline, a query is retried max_retries times, however long it takes."""
    service.answers("", slow(clock, 10_000, gateway_page()))
    with pytest.raises(ServerError) as caught:
        await make_client(max_retries=5, timeout=limit).get_metrics()

    assert 6 == caught.value.attempts == len(service.requests)


async def test_an_attempt_is_cut_at_the_deadline(make_client: Make, service: Any) -> None:
    """A deadline before the end of the first attempt limits it, and is named in the error."""
    service.answers("", Fault.STALL)
    with pytest.raises(
        RequestTimeout,
        match=r"within 5 s \(deadline, all attempts\)",
    ) as caught:
        await make_client(timeout=60, deadline=5, max_retries=0).get_metrics()

    assert ("deadline", 5, 1) == (caught.value.limit, caught.value.seconds, caught.value.attempts)


async def test_a_later_attempt_is_cut_at_the_deadline(make_client: Make, service: Any, clock: Any) -> None:
    """The rest of the deadline limits an attempt; the error names the deadline as it was set."""
    service.will_answer(gateway_page())
    service.answers("", Fault.STALL)

    class Hurries(Hooks):
        def waits(self, _token: object, seconds: float, *_arguments: object) -> None:
            clock.advance(1000 + 30 - 5 - seconds - clock.now())

    with pytest.raises(RequestTimeout, match=r"within 30 s \(deadline, all attempts\)") as caught:
        await make_client(timeout=60, deadline=30, max_retries=1, hooks=Hurries()).get_metrics()

    assert ("deadline", 30, 2) == (caught.value.limit, caught.value.seconds, caught.value.attempts)


async def test_the_shorter_limit_is_named(make_client: Make, service: Any) -> None:
    """If the timeout of one attempt is shorter than the deadline, it limits the attempt."""
    service.answers("", Fault.STALL)
    with pytest.raises(RequestTimeout, match="timeout, per attempt") as caught:
        await make_client(timeout=5, deadline=60, max_retries=0).get_metrics()

    assert ("timeout", 5) == (caught.value.limit, caught.value.seconds)


async def test_waiting_for_a_slot_is_not_counted(make_client: Make, service: Any, clock: Any) -> None:
    """The deadline begins when the query has a slot, however long that takes."""
    service.hold_named("1")
    client = make_client(max_concurrency=1, deadline=5)
    first = asyncio.ensure_future(client.get_metrics(name_contains="1"))
    await service.names_arrived("1")
    service.will_answer(gateway_page())
    second = asyncio.ensure_future(client.get_metrics(name_contains="2"))
    await asyncio.sleep(0)
    clock.advance(60)
    service.release_named()
    await first

    assert 2.0 == (await second).average.session_cost
    assert ["1", "2", "2"] == service.names


@pytest.mark.parametrize(
    "options",
    [{}, {"rate_limit": RateLimit(requests=1, per=30)}],
    ids=["the limit of the service", "a limit of the client"],
)
async def test_the_deadline_bounds_the_wait_for_the_rate_limit(
    make_client: Make, service: Any, clock: Any, options: dict[str, Any]
) -> None:
    """A query that cannot be sent before its deadline fails at once, without an attempt."""
    if not options:
        service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "30"}))
    client = make_client(deadline=20, **options)
    await client.get_metrics(name_contains="1")
    with pytest.raises(RequestTimeout) as caught:
        await client.get_metrics(name_contains="2")

    assert ("deadline", 20, 0) == (caught.value.limit, caught.value.seconds, caught.value.attempts)
    assert (1000, ["1"]) == (clock.time, service.names)
    found = await client.with_options(deadline=40).get_metrics(name_contains="2")
    assert 2.0 == found.average.session_cost


async def test_a_reset_beyond_the_deadline_is_not_waited_for(
    make_client: Make, service: Any, clock: Any
) -> None:
    """If the headers show that the limit lasts beyond the deadline, the error is raised at once."""
    spent = {"RateLimit-Limit": "1", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"}
    service.will_answer(Reply(429, {"error": "Too many requests"}, spent))
    with pytest.raises(RateLimited) as caught:
        await make_client(deadline=5).get_metrics()

    assert (1, 1) == (caught.value.attempts, len(service.requests))
    assert clock.time < 1005


async def test_a_refusal_of_another_query_does_not_outlast_the_deadline(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A query between two attempts waits for the limit that others met, but not beyond its deadline."""
    service.answers("1", gateway_page())
    service.answers("2", Reply(429, "", {"Retry-After": "60"}))
    client = make_client(deadline=10, max_retries=1)
    clock.stop()
    first = asyncio.ensure_future(client.get_metrics(name_contains="1"))
    await service.until(lambda: len(clock.slept) == 1)
    with pytest.raises(RateLimited):
        await client.get_metrics(name_contains="2")
    clock.go_on()
    with pytest.raises(HeliconeError) as caught:
        await first

    # Nothing is sent after the deadline, and no limit that the error tells is below zero.
    assert [] == [request.query.name_contains for request in service.requests if request.time > 1010]
    assert "-" not in str(caught.value).partition(" s,")[0].rpartition("within ")[2]


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "5", [5]])
def test_a_deadline_that_is_none_is_refused(value: Any) -> None:
    """The constructor and with_options take seconds above zero."""
    message = re.escape(f"deadline must be a number of seconds above 0, got {value!r}")
    with pytest.raises(ConfigurationError, match=message):
        HeliconeClient(KEY, deadline=value)
    with pytest.raises(ConfigurationError, match=message):
        HeliconeClient(KEY).with_options(deadline=value)


async def test_a_deadline_can_be_set_for_some_queries(make_client: Make, service: Any) -> None:
    """with_options sets a deadline for one client, and none for the original."""
    client = make_client(max_retries=1)
    service.answers("", Reply(503, "", {"Retry-After": "7"}))
    with pytest.raises(ServerError) as limited:
        await client.with_options(deadline=5).get_metrics()
    with pytest.raises(ServerError) as unlimited:
        await client.get_metrics()

    assert (1, 2) == (limited.value.attempts, unlimited.value.attempts)


# Waits, as hooks see them


class Waits(Hooks):
    """Keeps the arguments of all waits."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, Any]] = []

    def waits(self, _token: object, seconds: float, reason: str, error: Any) -> None:
        self.heard.append((seconds, reason, error))


@pytest.fixture
def waits() -> Waits:
    return Waits()


async def test_hooks_hear_of_each_retry(make_client: Make, service: Any, clock: Any, waits: Waits) -> None:
    """Hooks get the length of the pause, the reason and the failure, before the pause and in order."""
    service.will_answer(gateway_page(503), Fault.TRUNCATE, failure("Too many simultaneous queries"))
    await make_client(hooks=waits).get_metrics()

    assert [ServerError, ConnectionFailed, QueryFailed] == [type(error) for _, _, error in waits.heard]
    assert [1, 2, 3] == [error.attempts for _, _, error in waits.heard]
    assert [(seconds, "retry") for seconds in clock.slept] == [heard[:2] for heard in waits.heard]


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_hooks_hear_of_no_retry_that_is_not_made(
    make_client: Make, service: Any, retries: int, waits: Waits
) -> None:
    """The last failure is raised without a wait."""
    service.answers("", gateway_page())
    with pytest.raises(ServerError) as caught:
        await make_client(max_retries=retries, hooks=waits).get_metrics()

    errors = [error for _, _, error in waits.heard]
    assert list(range(1, retries + 1)) == [error.attempts for error in errors]
    assert caught.value not in errors


@pytest.mark.parametrize(
    "fault", [failure("Invalid filter"), Reply(401), Reply(200, "<html>"), Reply(501)], ids=str
)
async def test_hooks_hear_of_no_wait_after_a_lasting_fault(
    make_client: Make, service: Any, fault: Reply, waits: Waits
) -> None:
    """A lasting failure causes no wait."""
    service.answers("", fault)
    with pytest.raises(APIError):
        await make_client(hooks=waits).get_metrics()

    assert [] == waits.heard


async def test_hooks_hear_of_waits_for_the_rate_limit(
    make_client: Make, service: Any, clock: Any, waits: Waits
) -> None:
    """A delayed query reports the seconds until the reset, even before its first attempt."""
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "300"}))
    client = make_client(hooks=waits)
    await client.get_metrics(name_contains="1")
    await client.get_metrics(name_contains="2")

    assert [(pytest.approx(300, abs=0.01), "rate limit", None)] == waits.heard
    assert pytest.approx(1300, abs=0.01) == clock.time


async def test_hooks_hear_why_a_refused_query_waits(make_client: Make, service: Any, waits: Waits) -> None:
    """The wait comes with its refusal."""
    service.will_answer(Reply(429, "", {"Retry-After": "240"}))
    await make_client(hooks=waits).get_metrics()
    ((seconds, reason, error),) = waits.heard

    assert (240, "rate limit", RateLimited) == (seconds, reason, type(error))


async def test_each_query_of_a_batch_reports_its_wait(make_client: Make, service: Any, waits: Waits) -> None:
    """All queries in line report their wait, for example for a progress bar."""
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "300"}))
    client = make_client(hooks=waits, max_concurrency=4)
    await client.get_metrics()
    await client.get_metrics_many([F.latency > number for number in range(4)])

    assert [pytest.approx(300, abs=0.01)] * 4 == [seconds for seconds, _, _ in waits.heard]


async def test_a_hook_may_cancel_its_query(make_client: Make, service: Any) -> None:
    """A task that a hook cancels ends as cancelled."""
    service.answers("", gateway_page())
    calls: list[asyncio.Future[Any]] = []

    class Cancels(Hooks):
        def waits(self, *_arguments: object) -> None:
            calls[0].cancel()

    client = make_client(hooks=Cancels())
    calls.append(asyncio.ensure_future(client.get_metrics()))
    with pytest.raises(asyncio.CancelledError):
        await calls[0]

    assert 1 == len(service.requests)


# What an error tells


async def test_an_error_tells_its_attempts_and_waits(make_client: Make, service: Any, clock: Any) -> None:
    """The error and its text have the seconds of the waits, without those of the attempts."""
    service.answers("", slow(clock, 100, Reply(503, "", {"Retry-After": "4"})))
    with pytest.raises(ServerError) as caught:
        await make_client(max_retries=2).get_metrics()

    assert 3 == caught.value.attempts
    assert clock.time - 1300 == pytest.approx(caught.value.waited)
    assert 8 <= caught.value.waited <= 9.5
    assert f"after 3 attempts and {caught.value.waited:.1f} s of waiting" in str(caught.value)


async def test_an_error_of_the_line_tells_its_attempts_and_waits_too(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A missing answer is reported in the same words."""
    service.will_answer(Reply(503, "", {"Retry-After": "4"}))
    service.answers("", Fault.DROP)
    with pytest.raises(ConnectionFailed) as caught:
        await make_client(max_retries=1).get_metrics()

    assert clock.time - 1000 == pytest.approx(caught.value.waited)
    assert str(caught.value).endswith(f"(after 2 attempts and {caught.value.waited:.1f} s of waiting)")


async def test_waiting_for_the_limit_between_attempts_is_a_wait(make_client: Make, service: Any) -> None:
    """The error after a refusal includes the wait for the reset."""
    spent = {"RateLimit-Limit": "1", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"}
    service.will_answer(Reply(429, {"error": "Too many requests"}, spent))
    service.answers("", failure("Invalid filter"))
    with pytest.raises(QueryFailed, match=r"after 2 attempts and \d\d\.\d s of waiting") as caught:
        await make_client(max_retries=1).get_metrics()

    assert 29 <= caught.value.waited <= 31


@pytest.mark.parametrize("fault", [Reply(401), failure("Invalid filter"), Fault.DROP], ids=str)
async def test_the_first_error_has_waited_for_nothing(
    make_client: Make, service: Any, clock: Any, fault: Any
) -> None:
    """A single attempt has no waits, and the text mentions none."""
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "30"}))
    client = make_client(max_retries=0)
    await client.get_metrics()
    service.answers("", slow(clock, 10, fault))
    with pytest.raises((APIError, TransportError)) as caught:
        await client.get_metrics()

    assert (1, 0.0) == (caught.value.attempts, caught.value.waited)  # type: ignore[attr-defined]
    assert "after" not in str(caught.value)
    assert "waits" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("seconds", "headers"),
    [
        (7, {"Retry-After": "7"}),
        (0.5, {"Retry-After": "0.5"}),
        (0, {"Retry-After": "0"}),
        (0, {"Retry-After": "-7"}),
        (60, {"Retry-After": IN_A_MINUTE, "Date": NOW}),
        (0, {"Retry-After": NOW, "Date": IN_A_MINUTE}),
        (0, {"Retry-After": "soon"}),
        (0, {"Retry-After": ""}),
        (120, {"Retry-After": "120"}),
    ],
    ids=str,
)
async def test_the_wait_asked_for_is_kept(
    make_client: Make, service: Any, status: int, seconds: float, headers: dict[str, str]
) -> None:
    """After seconds or a date relative to the response, the next attempt follows without much delay."""
    service.will_answer(Reply(status, "", headers))
    found = await make_client().get_metrics(name_contains="7")

    assert 7.0 == found.average.session_cost
    # A refusal that names no wait makes a pause of up to two seconds.
    assert seconds <= service.requests[1].time - 1000 <= seconds + (2 if status == 429 else 0.5)


@pytest.mark.parametrize("status", [408, 425])
async def test_a_request_that_came_at_a_bad_moment_is_asked_again(
    make_client: Make, service: Any, status: int
) -> None:
    """Request Timeout and Too Early say nothing about the query."""
    service.will_answer(Reply(status, "try again"))
    found = await make_client().get_metrics(name_contains="7")

    assert (7.0, 2) == (found.average.session_cost, len(service.requests))


@pytest.mark.parametrize("status", [408, 425])
async def test_a_bad_moment_that_stays_is_raised(make_client: Make, service: Any, status: int) -> None:
    """After the last retry the message has the status."""
    service.answers("", Reply(status, "try again"))
    with pytest.raises(APIError, match=f"status {status}, after 3 attempts") as caught:
        await make_client(max_retries=2).get_metrics()

    assert (status, 3) == (caught.value.status, len(service.requests))


# The log


def told_at(level: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name == "helicone_sessions"]
    return [record.getMessage() for record in ours if record.levelno == level]


async def test_the_log_tells_of_retries(
    make_client: Make, service: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO has the class and status of the failure, the number of the attempt, and the time of the retry."""
    caplog.set_level(logging.INFO, "helicone_sessions")
    service.will_answer(gateway_page(503), Fault.TRUNCATE)
    await make_client().get_metrics(name_contains="7")
    first, second = clock.slept

    assert [
        f"ServerError (status 503), attempt 1: retry in {first:.2f} s",
        f"ConnectionFailed, attempt 2: retry in {second:.2f} s",
    ] == told_at(logging.INFO, caplog)
    assert [] == told_at(logging.DEBUG, caplog)


@pytest.mark.parametrize(
    ("expected", "fault"),
    [
        ("AuthenticationError (status 401), attempt 1: not retried", Reply(401, {"error": "words"})),
        ("QueryFailed (status 500), attempt 1: not retried", failure("words")),
        ("UnexpectedResponse (status 200), attempt 1: not retried", Reply(200, "words")),
        ("ServerError (status 501), attempt 1: not retried", Reply(501, "words")),
    ],
)
async def test_the_log_tells_of_giving_up(
    make_client: Make, service: Any, caplog: pytest.LogCaptureFixture, expected: str, fault: Reply
) -> None:
    """Raised errors are logged at INFO, by class and status only."""
    caplog.set_level(logging.INFO, "helicone_sessions")
    service.answers("", fault)
    with pytest.raises(APIError):
        await make_client().get_metrics()

    assert [expected] == told_at(logging.INFO, caplog)


async def test_the_log_tells_of_the_last_retry(
    make_client: Make, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """After the last retry the log has the number of attempts."""
    caplog.set_level(logging.INFO, "helicone_sessions")
    service.answers("", Fault.DROP)
    with pytest.raises(ConnectionFailed):
        await make_client(max_retries=1).get_metrics()

    assert "ConnectionFailed, attempt 2: not retried" == told_at(logging.INFO, caplog)[-1]


async def test_the_log_tells_of_each_answer(
    make_client: Make, service: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """DEBUG has the status and the time of each answer, and INFO only failures."""
    caplog.set_level(logging.DEBUG, "helicone_sessions")
    service.will_answer(slow(clock, 0.25, gateway_page(502)), slow(clock, 1.5, service.metrics(1.0)))
    client = make_client()
    await client.get_metrics()
    await client.get_metrics()

    assert ["status 502 after 0.250 s", "status 200 after 1.500 s", "status 200 after 0.000 s"] == told_at(
        logging.DEBUG, caplog
    )
    assert 1 == len(told_at(logging.INFO, caplog))


async def test_the_log_tells_nothing_of_what_is_asked_and_answered(
    make_client: Make, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """No log record has words of a query or an answer, or the key."""
    caplog.set_level(logging.DEBUG)
    service.will_answer(failure("Timeout of Marvin"), gateway_page(503), Reply(502, "Marvin"))
    service.answers("Marvin", Reply(400, {"error": "Marvin"}))
    with pytest.raises(APIError):
        await make_client().get_metrics(name_contains="Marvin")

    records = repr([(vars(record), record.getMessage()) for record in caplog.records])
    assert 8 == len([record for record in caplog.records if record.name == "helicone_sessions"])
    assert "Marvin" not in records
    assert KEY not in records


# Any sequence of faults

# The request is repeated at once, which is no retry.
DROPS: list[Any] = [Fault.DROP, Fault.RESET]
PASSING: list[Any] = [
    *DROPS,
    Fault.TRUNCATE,
    Fault.NOT_HTTP,
    gateway_page(502),
    gateway_page(503),
    Reply(500),
    Reply(408),
    Reply(425),
    Reply(503, "", {"Retry-After": IN_A_MINUTE, "Date": NOW}),
    Reply(200, ""),
    Reply(200, '{"data": null, "err'),
    failure("Code: 159. DB::Exception: Timeout exceeded"),
    failure("Too many simultaneous queries", 200),
]
STAYING: list[Any] = [
    Reply(400),
    Reply(401),
    Reply(404),
    Reply(501),
    Reply(302, "", {"Location": "https://example.org"}),
    Reply(200, "<html>"),
    Reply(204),
    Reply(429, "", {"Retry-After": "3601"}),
    failure("Invalid filter"),
]
# Nothing goes wrong at once, and something does with the next question on the same connection.
LATER: list[Any] = [Fault.GOES_STALE]


REFUSALS: list[Any] = [
    Reply(429),
    Reply(429, {"error": "Too many requests"}, {"Retry-After": "3"}),
    Reply(429, {"error": "Too many requests"}, {"RateLimit-Remaining": "0", "RateLimit-Reset": "300"}),
]


@attrs.frozen
class Expected:
    """The last answer (None is metrics), and the numbers that the policy promises."""

    last: Any
    requests: int
    attempts: int
    retries: int


def outcome_of(faults: list[Any], max_retries: int) -> Expected:
    answers = chain(faults, repeat(None))
    requests = retries = 0
    for attempts in count(1):
        fault = next(answers)
        requests += 1
        if fault in DROPS:
            fault = next(answers)
            requests += 1
        if fault is None or fault in LATER:
            return Expected(None, requests, attempts, retries)
        if fault not in REFUSALS:
            if fault in STAYING or retries == max_retries:
                return Expected(fault, requests, attempts, retries)
            retries += 1
    raise AssertionError


@settings(max_examples=repeats(60))
@given(
    faults=st.lists(st.sampled_from([*PASSING, *PASSING, *REFUSALS, *STAYING, *LATER]), max_size=6),
    max_retries=st.integers(0, 4),
)
@example(faults=PASSING[:5], max_retries=4)
@example(faults=[*REFUSALS, *REFUSALS], max_retries=0)
@example(faults=[Fault.GOES_STALE] * 3, max_retries=0)
def test_a_query_is_repeated_until_an_answer_or_the_last_retry(faults: list[Any], max_retries: int) -> None:
    """In any sequence of faults, transient failures use a retry, and refusals use none."""
    waits = Waits()

    async def ask(fake: FakeHelicone) -> Any:
        with replaced(VirtualClock()):
            client = HeliconeClient(KEY, base_url=fake.url, max_retries=max_retries, hooks=waits)
        async with client:
            try:
                return await client.get_metrics()
            except HeliconeError as error:
                return error

    with FakeHelicone(api_key=KEY) as fake:
        fake.otherwise(metrics(cost=7.0))
        fake.will_answer(*faults)
        found = asyncio.run(ask(fake))
    expected = outcome_of(faults, max_retries)

    assert expected.requests == len(fake.requests)
    assert expected.attempts == getattr(found, "attempts", expected.attempts)
    assert expected.retries == sum(reason == "retry" for _, reason, _ in waits.heard)
    if expected.last is None:
        assert 7.0 == found.average.session_cost
    else:
        assert isinstance(found, HeliconeError)


# What holds a query back, and says so


class Turnstile:
    """A caller's limiter that admits nobody before its time."""

    def __init__(self, clock: Any, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    async def __aenter__(self) -> None:
        await self._clock.sleep(self._seconds)

    async def __aexit__(self, *_error: object) -> None:
        """Let go of nothing."""


async def test_waiting_for_a_limiter_is_not_counted_as_an_attempt(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A limiter uses time of the deadline, but no retry."""
    service.will_answer(gateway_page())
    found = await make_client(deadline=60, max_retries=1, rate_limit=Turnstile(clock, 20)).get_metrics()

    assert found.average.session_cost is None
    assert 2 == len(service.requests)


async def test_a_limiter_that_outlasts_the_deadline_ends_the_query(
    make_client: Make, service: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A query that is delayed beyond its deadline is not sent, and the log says so."""
    caplog.set_level(logging.INFO, "helicone_sessions")
    with pytest.raises(RequestTimeout) as caught:
        await make_client(deadline=10, rate_limit=Turnstile(clock, 20)).get_metrics()

    assert 0 == caught.value.attempts == len(service.requests)
    assert "before the first attempt" in str(caught.value)
    assert "no attempt before the deadline" in caplog.messages[-1]


async def test_a_limit_that_is_spent_is_told_in_the_log(
    make_client: Make, service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that waits says why, once for each wait."""
    caplog.set_level(logging.INFO, "helicone_sessions")
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "20"}))
    client = make_client()
    for name in "12":
        await client.get_metrics(name_contains=name)

    assert ["requests wait 20.0 s for the rate limit"] == caplog.messages


async def test_a_certificate_that_is_not_trusted_is_not_tried_again(make_client: Make, service: Any) -> None:
    """A TLS failure would fail again, so the error comes at once."""
    with pytest.raises(ConnectionFailed) as caught:
        await make_client(base_url=service.url.replace("http://", "https://")).get_metrics()

    assert (1, True) == (caught.value.attempts, caught.value.is_lasting)


async def test_other_options_can_remove_the_deadline(make_client: Make, service: Any, clock: Any) -> None:
    """None means no deadline, and an omitted option is kept."""
    first = make_client(deadline=1)
    service.will_answer(*[slow(clock, 3, gateway_page())] * 2)
    with pytest.raises(ServerError):
        await first.with_options(max_retries=3).get_metrics()
    await first.with_options(deadline=None).get_metrics()

    assert 3 == len(service.requests)


class Failing:
    """A caller's limiter that admits nobody."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    async def __aenter__(self) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    async def __aexit__(self, *_error: object) -> None:
        """Never come to."""


@pytest.mark.parametrize("error", [LookupError("closed"), None], ids=["raises", "hangs"])
async def test_a_limiter_that_lets_nobody_in_holds_back_no_other_client(
    make_client: Make, service: Any, error: BaseException | None
) -> None:
    """A query that was cancelled or failed in a limiter does not count as running."""
    client = make_client(rate_limit=Failing(error), max_concurrency=20)
    calls = [asyncio.ensure_future(client.get_metrics(name_contains=str(place))) for place in range(20)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    found = await make_client(max_concurrency=20).get_metrics(name_contains="7")

    assert 7.0 == found.average.session_cost
    assert ["7"] == service.names


async def test_a_gate_that_is_closed_beyond_the_deadline_ends_the_query(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A retry that another query's refusal delays too long fails at once, with its own error."""
    service.will_answer(Reply(502), Reply(429, "", {"Retry-After": "60"}))
    clock.stop()
    client = make_client(deadline=5, max_retries=3)
    held = asyncio.ensure_future(client.get_metrics(name_contains="1"))
    await service.until(lambda: len(clock.slept) == 1)
    with pytest.raises(RateLimited):
        await make_client(deadline=5).get_metrics(name_contains="2")
    clock.advance(1)
    with pytest.raises(ServerError) as caught:
        await held

    assert 1001 == clock.time
    assert (1, ["1", "2"]) == (caught.value.attempts, service.names)


@pytest.mark.parametrize(
    "text",
    [
        "Missing columns: 'properties[timeout]'",
        "Unknown identifier: timeout_seconds",
        'Syntax error: near "request timed out"',
        "Unknown column `memory limit`",
    ],
)
async def test_a_name_that_sounds_like_a_bad_moment_is_none(
    make_client: Make, service: Any, text: str
) -> None:
    """Such words in a column or a text of the query do not make its error transient."""
    service.answers("", failure(text))
    with pytest.raises(QueryFailed):
        await make_client().get_metrics()

    assert 1 == len(service.requests)


def test_a_limiter_that_can_be_entered_once_is_refused() -> None:
    """A context manager made by contextlib allows one entry, and each attempt needs one."""

    @asynccontextmanager
    async def once() -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigurationError, check=parts(argument="rate_limit")):
        HeliconeClient(KEY, base_url="http://localhost", rate_limit=once())


async def test_the_deadline_bounds_the_wait_in_a_limiter(make_client: Make, service: Any) -> None:
    """A limiter that admits nobody ends with the deadline."""
    client = make_client(deadline=5, rate_limit=Failing(None))
    with pytest.raises(RequestTimeout) as caught:
        await client.get_metrics()

    assert ("deadline", 0, 0) == (caught.value.limit, caught.value.attempts, len(service.requests))


async def test_a_query_that_waits_for_the_rate_limit_holds_no_limiter(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A semaphore shared by several clients is free while one of them waits for its window."""
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "300"}))
    semaphore = asyncio.Semaphore(1)
    client = make_client(rate_limit=semaphore)
    await client.get_metrics()
    clock.stop()
    waiting = asyncio.ensure_future(client.get_metrics(name_contains="2"))
    await service.until(lambda: clock.slept)

    assert not semaphore.locked()
    clock.advance(301)
    assert 2.0 == (await waiting).average.session_cost


class Suppresses:
    """A limiter that hides exceptions."""

    async def __aenter__(self) -> None:
        """Let everybody in."""

    async def __aexit__(self, *_error: object) -> bool:
        return True


async def test_a_limiter_that_suppresses_exceptions_is_an_error(make_client: Make, service: Any) -> None:
    """Such a limiter would swallow the end of the client."""
    service.will_answer(Fault.DROP)
    client = make_client(rate_limit=Suppresses(), max_retries=1)
    assert 7.0 == (await client.get_metrics(name_contains="7")).average.session_cost

    await client.aclose()
    other = make_client(rate_limit=Suppresses())
    service.hold_named("1")
    call = asyncio.ensure_future(other.get_metrics(name_contains="1"))
    await service.names_arrived("1")
    call.cancel()
    with pytest.raises(ConfigurationError) as caught:
        await call
    assert "rate_limit" == caught.value.argument


@pytest.mark.parametrize("error", [asyncio.CancelledError, LookupError])
async def test_a_hook_that_raises_while_queries_wait_harms_none_but_its_own(
    make_client: Make, service: Any, error: type[BaseException]
) -> None:
    """A query whose hook ends the task ends alone; an ordinary exception ends nothing."""
    service.limit(5, per=300)

    class Raises(Hooks):
        def __init__(self) -> None:
            self.calls = 0

        def waits(self, *_arguments: object) -> None:
            self.calls += 1
            if self.calls == 3:
                raise error

    hooks = Raises()
    client = make_client(hooks=hooks)
    calls = [client.get_metrics(F.latency > number) for number in range(20)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    ended = [each for each in found if isinstance(each, BaseException)]

    assert 3 <= hooks.calls
    assert ([error] if error is asyncio.CancelledError else []) == [type(each) for each in ended]
    await client.get_metrics()


async def test_a_gateway_with_a_limit_of_its_own_is_waited_out(
    make_client: Make, service: Any, clock: Any
) -> None:
    """Two limits with headers of different windows cause no loop of refused requests."""
    gateway = FixedWindow(20, 3.0)
    behind = FixedWindow(1000, 30.0)

    async def answer(_request: RecordedRequest) -> Any:
        now = clock.now()
        if not gateway.take(now):
            return Reply(429, {"error": "Too many requests"}, gateway.headers(now))
        behind.take(now)
        return Reply(200, metrics_body(), behind.headers(now))

    service.otherwise(answer)
    await make_client().get_metrics_many([F.latency > number for number in range(100)])

    assert len(service.requests) < 200
