import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from helicone_sessions import (
    AuthenticationError,
    ConfigurationError,
    HeliconeClient,
    RateLimit,
    RateLimited,
    SessionMetricsQuery,
)
from helicone_sessions.clock import replaced
from helicone_sessions.messages.protocol import FixedWindow
from helicone_sessions.testing import FakeHelicone, Fault, RecordedRequest, Reply, VirtualClock, metrics
from helicone_sessions.transport.rate_limit import Gate, Pace, Window
from tests.repeats import repeats

Make = Callable[..., HeliconeClient]
CAUTIOUS = 8
NO_HEADERS: CIMultiDict[str] = CIMultiDict()


def limits(remaining: object, reset: object, **more: object) -> CIMultiDict[str]:
    said = {"Remaining": remaining, "Reset": reset, **more}
    return CIMultiDict({f"RateLimit-{name}": str(value) for name, value in said.items()})


def named(count: int) -> list[SessionMetricsQuery]:
    """Different queries, in this number."""
    return [SessionMetricsQuery(name_contains=str(number)) for number in range(count)]


async def settle() -> None:
    """Let the loop become idle."""
    for _ in range(20):
        await asyncio.sleep(0)


# RateLimit


def test_a_limit_shows_what_it_says() -> None:
    """By default it is the service's limit; its repr evaluates to an equal one."""
    assert "RateLimit(requests=1000, per=300.0, burst=None)" == repr(RateLimit())
    assert RateLimit(100, 30, 5) == RateLimit(requests=100, per=30.0, burst=5)
    assert RateLimit(7, 0.5, 2) == eval(repr(RateLimit(7, 0.5, 2)))  # noqa: S307 - our own text


def test_a_limit_is_a_value() -> None:
    """Equal limits have equal hashes, and none can be changed."""
    limit = RateLimit(100)

    assert {limit: 1} == {RateLimit(100, 300): 1}
    assert limit != RateLimit(100, burst=1)
    with pytest.raises(AttributeError):
        limit.requests = 200  # type: ignore[misc]


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "8", float("nan")])
@pytest.mark.parametrize("name", ["requests", "burst"])
def test_counts_are_whole_numbers_of_at_least_one(name: str, value: Any) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimit(**{name: value})

    assert f"RateLimit.{name}" == caught.value.argument
    assert repr(value) in str(caught.value)


def test_the_requests_are_a_number() -> None:
    """Only the burst may be omitted."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimit(requests=None)  # type: ignore[arg-type]

    assert "RateLimit.requests" == caught.value.argument


@pytest.mark.parametrize("value", [0, -1, 0.0, float("inf"), float("nan"), True, "60", None])
def test_a_span_is_a_number_of_seconds_above_zero(value: Any) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimit(per=value)

    assert "RateLimit.per" == caught.value.argument
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [5, "100/60", object, (100, 60)])
def test_a_client_takes_a_limit_or_a_context_manager(value: Any) -> None:
    """Anything else is rejected when the client is created."""
    with pytest.raises(ConfigurationError) as caught:
        HeliconeClient("sk-helicone-example-key", rate_limit=value)

    assert "rate_limit" == caught.value.argument


# Pace

paces = st.builds(
    RateLimit,
    requests=st.integers(1, 12),
    per=st.sampled_from([0.5, 1.0, 7.0, 60.0]),
    burst=st.none() | st.integers(1, 15),
)
# Each as a part of the span.
pauses = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.1, 0.35, 1.0, 2.5]), min_size=1, max_size=60)


def taken(limit: RateLimit, arrivals: list[float]) -> list[float]:
    """The departure times of requests that arrive at *arrivals* and wait as required."""
    pace, times, now = Pace(limit), [], 0.0
    for arrival in arrivals:
        now = max(now, arrival)
        while (seconds := pace.wait(now)) > 0:
            now += seconds
        pace.take(now)
        times.append(now)
    return times


def arrivals_of(limit: RateLimit, pauses: list[float]) -> list[float]:
    now, arrivals = 1000.0, []
    for pause in pauses:
        now += pause * limit.per
        arrivals.append(now)
    return arrivals


@given(paces, pauses)
@settings(max_examples=repeats(150))
def test_no_span_has_more_than_the_limit(limit: RateLimit, pauses: list[float]) -> None:
    """Any span has at most `requests`, and any moment at most `burst` of them."""
    times = taken(limit, arrivals_of(limit, pauses))
    burst = min(limit.burst or limit.requests, limit.requests)
    close = limit.per / limit.requests * 0.999

    assert all(later - time >= limit.per * 0.999999 for time, later in pairs(times, limit.requests))
    assert all(later - time >= close for time, later in pairs(times, burst))


def pairs(times: list[float], apart: int) -> Iterator[tuple[float, float]]:
    return zip(times, times[apart:], strict=False)


@given(paces, pauses)
@settings(max_examples=repeats(150))
def test_nobody_waits_longer_than_the_limit_asks_for(limit: RateLimit, pauses: list[float]) -> None:
    """Each request goes at the first moment that neither the span nor the even spread forbids."""
    arrivals = arrivals_of(limit, pauses)
    burst = min(limit.burst or limit.requests, limit.requests)
    step = limit.per / limit.requests
    times: list[float] = []
    for place, arrival in enumerate(arrivals):
        spread = (time + (place - burst - before + 1) * step for before, time in enumerate(times))
        span = times[-limit.requests] + limit.per if place >= limit.requests else arrival
        times.append(max(arrival, span, *times[-1:], *spread))

    assert pytest.approx(times, abs=1e-6) == taken(limit, arrivals)


@given(paces)
def test_greedy_use_reaches_the_limit(limit: RateLimit) -> None:
    """A constant demand gets all that is allowed: `requests` in every span, as close as `burst` permits."""
    burst = min(limit.burst or limit.requests, limit.requests)
    expected = [
        span * limit.per + max(0, place - burst + 1) * limit.per / limit.requests
        for span in range(4)
        for place in range(limit.requests)
    ]

    assert pytest.approx(expected, abs=1e-6) == taken(limit, [0.0] * 4 * limit.requests)


def test_a_burst_of_one_spreads_evenly() -> None:
    """Six per minute are one every ten seconds."""
    assert [0, 10, 20, 30, 40, 50, 60, 70] == taken(RateLimit(6, 60, burst=1), [0.0] * 8)


# Window


def room(window: Window, now: float, most: int = 500) -> int:
    """The number of requests that may go at once."""
    sent = 0
    while sent < most and window.wait(now) <= 0:
        window.in_flight += 1
        sent += 1
    for _ in range(sent):
        window.ended()
    return sent


def hears(
    window: Window, headers: Any = NO_HEADERS, *, status: int = 200, at: float, sent_at: float | None = None
) -> None:
    """One request and its answer."""
    window.in_flight += 1
    window.answered(status, headers, at if sent_at is None else sent_at, at)


def test_before_the_first_answer_few_requests_go() -> None:
    """The service may have a low limit, which only an answer shows."""
    window = Window()
    for _ in range(CAUTIOUS):
        assert 0 == window.wait(1000.0)
        window.in_flight += 1

    assert math.inf == window.wait(1000.0) == window.wait(9999.0)
    window.ended()
    assert 0 == window.wait(1000.0)


@pytest.mark.parametrize("status", [200, 400, 401, 404])
def test_a_service_that_names_no_limit_has_none(status: int) -> None:
    """An answer of the service without the headers delays nobody."""
    window = Window()
    hears(window, status=status, at=1000.0)

    assert 500 == room(window, 1000.0)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_the_page_of_a_gateway_says_nothing_about_the_limit(status: int) -> None:
    """A 5xx without the headers changes nothing."""
    window = Window()
    hears(window, status=status, at=1000.0)
    assert CAUTIOUS == room(window, 1000.0)

    hears(window, limits(100, 60, Limit=200), at=1000.0)
    hears(window, status=status, at=1000.0)
    assert 100 == room(window, 1000.0)


def test_the_headers_of_a_failed_query_count() -> None:
    """The service counts failed queries too."""
    window = Window()
    hears(window, limits(3, 60, Limit=200), status=500, at=1000.0)

    assert 3 == room(window, 1000.0)


@pytest.mark.parametrize("remaining", [0, 1, 2, 3, 100])
def test_as_many_go_as_remain(remaining: int) -> None:
    """The next query waits for the answers in progress, and then for the reset."""
    window = Window()
    hears(window, limits(remaining, 30, Limit=200), at=1000.0)

    assert remaining == room(window, 1000.0)
    for left in reversed(range(remaining)):
        window.in_flight += 1
        assert (0 if left else math.inf) == window.wait(1000.0)
    for _ in range(remaining):
        window.ended()
    window.answered(200, limits(0, 30, Limit=200), 1000.0, 1000.0)
    assert pytest.approx(30, abs=0.01) == window.wait(1000.0)


@pytest.mark.parametrize("per", [60, 300, 900, 3600])
def test_after_the_reset_there_is_a_whole_window(per: int) -> None:
    """For windows of any length, the whole limit is available after the reset."""
    window = Window()
    hears(window, limits(0, per, Limit=200, Policy=f"200;w={per}"), at=1000.0)
    seconds = window.wait(1000.0)

    assert pytest.approx(per, abs=0.01) == seconds
    assert 0 < window.wait(1000.0 + seconds - 0.01) <= 0.0101
    assert 200 == room(window, 1000.0 + seconds)


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (30, limits(-1, 30)),
        (0.5, limits(0, 0.5)),
        (60, limits("0", " 60 ")),
        (3600, limits(0, 3600)),
        (0, limits(0, 0)),
        (30, limits(0, 30, Limit="many")),
        (30, limits(0, 30, Limit="nan", Policy="none")),
        (30, limits(0, 30, Limit="-5", Policy="200;w=" + "9" * 500)),
        (9, CIMultiDict({"ratelimit-remaining": "0", "RATELIMIT-RESET": "9"})),
    ],
)
def test_with_nothing_left_it_is_closed_until_the_reset(expected: float, headers: Any) -> None:
    """The other headers do not matter, nor does the case of the names."""
    window = Window()
    hears(window, headers, at=1000.0)

    assert pytest.approx(expected, abs=0.01) == window.wait(1000.0)


@pytest.mark.parametrize(
    "headers",
    [
        CIMultiDict({"RateLimit-Remaining": "0"}),
        CIMultiDict({"RateLimit-Reset": "30"}),
        limits(0, -5),
        limits(0, 3600.5),
        limits(0, 1_767_225_600),
        limits(0, "inf"),
        limits(0, "nan"),
        limits("nan", 30),
        limits("inf", 30),
        limits("-inf", 30),
        limits("none", 30),
        limits(0, "soon"),
        limits("", ""),
        limits(0, "Sun, 01 Nov 2026 00:01:00 GMT"),
    ],
    ids=lambda headers: " ".join(headers.values()),
)
class TestHeadersThatMakeNoSense:
    def test_they_count_as_none(self, headers: Any) -> None:
        """A service with unreadable headers has named no limit."""
        window = Window()
        hears(window, headers, at=1000.0)

        assert 500 == room(window, 1000.0)

    def test_they_change_nothing(self, headers: Any) -> None:
        """Earlier knowledge remains valid."""
        window = Window()
        hears(window, limits(100, 60, Limit=200), at=1000.0)
        hears(window, headers, at=1000.0)

        assert 100 == room(window, 1000.0)


@pytest.mark.parametrize(
    ("expected", "more"),
    [
        (1000, {"Limit": "1000"}),
        (1000, {"Limit": "1000, 1000;w=300"}),
        (1000, {"Policy": "1000;w=300"}),
        (1000, {"Limit": "nan", "Policy": "1000;w=300"}),
        (199, {"Limit": "-5"}),
        (199, {"Limit": "0"}),
        (199, {}),
    ],
    ids=str,
)
def test_the_limit_comes_from_any_header_that_names_it(expected: int, more: dict[str, str]) -> None:
    """Without a limit in the headers, the largest remaining number is the best guess."""
    window = Window()
    hears(window, limits(199, 10, **more), at=1000.0)

    assert expected == room(window, 1011.0, most=2000)


def test_answers_of_one_window_narrow_the_reset() -> None:
    """The reset comes in whole seconds, rounded up; several answers narrow it to a fraction of a second."""
    ends = 1059.3
    window = Window()
    for now in (1000.0, 1000.5, 1001.2, 1002.35):
        hears(window, limits(0, math.ceil(ends - now), Limit=200), at=now)

    assert ends <= 1002.35 + window.wait(1002.35) <= ends + 0.06


@given(
    st.floats(1010.0, 1060.0),
    st.lists(st.tuples(st.floats(0.0, 9.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1),
)
@settings(max_examples=repeats(150))
def test_nobody_goes_before_the_reset(ends: float, answers: list[tuple[float, float, float]]) -> None:
    """However slow requests and answers are, the wait ends as early after the reset as can be known."""
    window, known = Window(), math.inf
    for after, there, back in sorted(answers, key=sum):
        counted = 1000.0 + after + there * (9.9 - after)
        now = counted + back * (9.9 - (counted - 1000.0))
        reset = math.ceil(ends - counted)
        hears(window, limits(0, reset, Limit=200), sent_at=1000.0 + after, at=now)
        known = min(known, now + reset)
    opens = 1009.9 + window.wait(1009.9)

    assert ends <= opens <= known + 0.002


def test_a_late_answer_about_an_older_window_is_ignored() -> None:
    """An old answer says nothing about the present window, even if it is a refusal."""
    window = Window()
    hears(window, limits(10, 30, Limit=200), at=1000.0)
    hears(window, limits(150, 60, Limit=200), at=1031.0)
    hears(window, limits(0, 1, Limit=200), status=429, sent_at=1029.0, at=1031.5)

    assert 150 == room(window, 1031.5)


def test_another_limit_replaces_the_one_that_was_known() -> None:
    """A refusal with an earlier reset comes from a gateway or a new configuration, and is waited for."""
    window = Window()
    hears(window, limits(900, 3000, Limit=1000), at=1000.0)
    refusal = limits(0, 30, Limit=10)
    refusal["Retry-After"] = "30"
    hears(window, refusal, status=429, at=1001.0)

    assert 28 < window.wait(1001.0) <= 30.1
    hears(window, limits(899, 2968, Limit=1000), at=1032.0)
    assert 899 == room(window, 1032.0, most=2000)


def test_refusals_that_never_end_make_pauses() -> None:
    """A service that also refuses after its reset receives fewer and fewer requests."""
    window, now = Window(random=lambda: 1.0), 1000.0
    for _ in range(30):
        hears(window, limits(0, 0, Limit=10), status=429, at=now)
        now += window.wait(now)

    assert now > 1060


def test_the_lowest_of_the_answers_of_a_window_counts() -> None:
    """Answers overtake each other, and the remaining number of a window only falls."""
    window = Window()
    for _ in range(3):
        window.in_flight += 1
    for remaining in (7, 5, 6):
        window.answered(200, limits(remaining, 60, Limit=200), 1000.0, 1000.0)

    assert 5 == room(window, 1000.0)


def test_a_new_window_is_known_by_its_reset() -> None:
    """If the reset is later than this window's, requests of the older window no longer count."""
    window = Window()
    hears(window, limits(0, 30, Limit=200, Policy="200;w=60"), at=1000.0)
    hears(window, limits(199, 60, Limit=200, Policy="200;w=60"), at=1030.1)

    assert 199 == room(window, 1030.1)


def test_after_a_refusal_one_request_finds_the_reset() -> None:
    """The others wait for its answer; each further refusal halves the second that is left open."""
    window, ends, trials = Window(), 1029.9, []
    hears(window, limits(0, 30, Limit=200), status=429, at=1000.0)
    now = 1000.0
    while now < ends:
        now += window.wait(now)
        trials.append(now)
        window.in_flight += 1
        assert math.inf == window.wait(now)
        if now < ends:
            window.answered(429, limits(0, math.ceil(ends - now), Limit=200), now, now)

    assert 1 < len(trials) <= 7
    assert ends <= now <= ends + 0.1
    window.answered(200, limits(199, 60, Limit=200), now, now)
    assert 199 == room(window, now)


@pytest.mark.parametrize("seconds", [0, 7, 120, 300, 3600])
def test_retry_after_closes_it(seconds: int) -> None:
    """A refusal without the other headers closes the window for the requested time, up to an hour."""
    window = Window()
    hears(window, CIMultiDict({"Retry-After": str(seconds)}), status=429, at=1000.0)

    assert seconds == window.wait(1000.0)
    assert 0 == window.wait(1000.0 + seconds)


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_of_more_than_an_hour_closes_nothing(status: int) -> None:
    """The query gets an error at once, and the others find out for themselves."""
    window = Window()
    hears(window, CIMultiDict({"Retry-After": "3601"}), status=status, at=1000.0)

    assert 0 == window.wait(1000.0)


def test_the_page_of_a_gateway_closes_it_with_retry_after() -> None:
    """A 503 with a pause delays all queries."""
    window = Window()
    hears(window, CIMultiDict({"Retry-After": "30"}), status=503, at=1000.0)

    assert 30 == window.wait(1000.0)


def test_the_headers_give_the_reset_more_exactly_than_retry_after() -> None:
    """Both come in whole seconds, but several answers have narrowed the reset."""
    window = Window()
    for now in (1000.0, 1000.7):
        spent = limits(0, 30, Limit=200)
        spent["Retry-After"] = "30"
        hears(window, spent, status=429, at=now)

    assert 28 < window.wait(1000.7) < 30


def test_a_longer_retry_after_is_kept_beside_the_headers() -> None:
    """A longer Retry-After means something other than the window, such as a block."""
    window = Window()
    blocked = limits(0, 30, Limit=200)
    blocked["Retry-After"] = "900"
    hears(window, blocked, status=429, at=1000.0)

    assert 900 == window.wait(1000.0)


def test_refusals_that_name_no_wait_make_longer_and_longer_pauses() -> None:
    """Each pause is up to twice as long as the previous one, and at most a minute, until a success."""
    window, now, pauses = Window(random=lambda: 1.0), 1000.0, []
    for _ in range(9):
        hears(window, status=429, at=now)
        pauses.append(window.wait(now))
        now += pauses[-1]
        assert 0 == window.wait(now)

    assert [2, 4, 8, 16, 32, 60, 60, 60, 60] == pauses
    hears(window, at=now)
    hears(window, status=429, at=now)
    assert 2 == window.wait(now)


def test_requests_that_are_refused_together_make_one_pause() -> None:
    """Eight requests in progress are refused at once, and the pause is that of the first."""
    window = Window(random=lambda: 1.0)
    for _ in range(8):
        window.in_flight += 1
    for _ in range(8):
        window.answered(429, NO_HEADERS, 1000.0, 1000.5)

    assert 2 == window.wait(1000.5)
    assert 1 == room(window, 1002.5)


@pytest.mark.parametrize(
    ("expected", "seconds"), [(30, (30, 10)), (30, (10, 30)), (10, (10, 0)), (10, (10, 3601))]
)
def test_the_longest_pause_counts(expected: float, seconds: tuple[int, ...]) -> None:
    """A shorter pause does not shorten a longer one."""
    window = Window()
    for each in seconds:
        hears(window, CIMultiDict({"Retry-After": str(each)}), status=503, at=1000.0)

    assert expected == window.wait(1000.0)


# Gate


@pytest.fixture
def gate(clock: Any) -> Gate:
    """A gate on the virtual clock."""
    return Gate("account", clock)


class Crowd:
    """Tasks that pass a gate, and the order in which they passed."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.passed: list[object] = []
        self.tasks: dict[object, asyncio.Task[None]] = {}

    async def add(self, *names: object) -> None:
        for name in names:
            self.tasks[name] = asyncio.ensure_future(self._pass(name))
            await settle()

    async def _pass(self, name: object) -> None:
        await self.gate.enter()
        self.passed.append(name)

    async def cancel(self, *names: object) -> None:
        for name in names:
            self.tasks[name].cancel()
        await settle()


def close(gate: Gate, seconds: float) -> None:
    """Let the service request a pause."""
    gate.answered(503, CIMultiDict({"Retry-After": str(seconds)}), gate.clock.now())


async def test_a_new_gate_is_open(gate: Gate, clock: Any) -> None:
    """A few requests go before the service has answered, and do not wait."""
    for _ in range(CAUTIOUS):
        assert await gate.enter()

    assert [] == clock.slept


@pytest.mark.parametrize("seconds", [0.001, 7, 60.0, 3600.0])
async def test_a_closed_gate_opens_after_its_time(gate: Gate, clock: Any, seconds: float) -> None:
    """A query that arrives at a closed gate waits exactly until it opens."""
    close(gate, seconds)
    await gate.enter()
    await gate.enter()

    assert [pytest.approx(seconds)] == clock.slept
    assert pytest.approx(1000 + seconds) == clock.time


async def test_the_first_to_come_is_the_first_to_go(gate: Gate, clock: Any) -> None:
    """Queries pass in the order of their arrival."""
    clock.stop()
    close(gate, 30)
    crowd = Crowd(gate)
    await crowd.add(*range(5))
    clock.advance(30)
    await settle()

    assert list(range(5)) == crowd.passed


async def test_a_query_waits_on_when_the_gate_is_closed_for_longer(gate: Gate, clock: Any) -> None:
    """Nobody passes a gate that closed again meanwhile."""
    close(gate, 10)
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    close(gate, 25)
    await waiting

    assert 1025 == clock.time


@pytest.mark.parametrize("given_up", [(0,), (2,), (4,), (0, 1), (1, 0), (0, 2, 4), (0, 1, 2, 3, 4)], ids=str)
async def test_a_cancelled_query_hands_its_turn_on(gate: Gate, clock: Any, given_up: tuple[int, ...]) -> None:
    """Whichever waiting query is cancelled, the others pass in time and in order."""
    clock.stop()
    close(gate, 30)
    crowd = Crowd(gate)
    await crowd.add(*range(5))
    await crowd.cancel(*given_up)
    clock.advance(30)
    await settle()
    await crowd.add("later")

    assert [*(number for number in range(5) if number not in given_up), "later"] == crowd.passed


async def test_a_query_that_is_cancelled_as_its_turn_comes_hands_it_on(gate: Gate, clock: Any) -> None:
    """A cancellation at the very moment of the turn does not delay the next query."""
    clock.stop()
    close(gate, 30)
    crowd = Crowd(gate)
    await crowd.add(*range(4))
    clock.advance(30)
    crowd.tasks[0].cancel()
    await asyncio.sleep(0)
    crowd.tasks[1].cancel()
    await settle()

    assert {2, 3} <= set(crowd.passed)


async def test_nobody_overtakes_the_line(clock: Any) -> None:
    """Room goes to waiting queries, not to a query that arrives when the room becomes free."""
    clock.stop()
    crowd = Crowd(Gate("account", clock, RateLimit(4, 8)))
    await crowd.add(*range(8))
    clock.advance(8)
    await crowd.add(*range(8, 12))

    assert set(range(8)) == set(crowd.passed)


async def test_an_answer_wakes_the_line(gate: Gate, clock: Any) -> None:
    """An answer that reports room lets the next queries pass early."""
    clock.stop()
    for _ in range(CAUTIOUS):
        await gate.enter()
    crowd = Crowd(gate)
    await crowd.add(1, 2)
    before = tuple(crowd.passed)
    gate.answered(200, limits(100, 60, Limit=200), clock.now())
    await settle()

    assert () == before
    assert [1, 2] == crowd.passed
    assert 1000 == clock.time


async def test_a_lost_request_gives_its_room_back(gate: Gate, clock: Any) -> None:
    """A request that ends without an answer lets exactly one more pass."""
    clock.stop()
    for _ in range(CAUTIOUS):
        await gate.enter()
    crowd = Crowd(gate)
    await crowd.add(1, 2)
    gate.left()
    await settle()

    assert [1] == crowd.passed
    gate.left()
    await settle()
    assert [1, 2] == crowd.passed


@pytest.mark.parametrize(("expected", "until"), [(False, 1029.0), (False, 1030.0), (True, 1030.1)])
async def test_a_wait_that_is_known_to_be_too_long_is_not_started(
    gate: Gate, clock: Any, expected: bool, until: float
) -> None:
    """If the gate opens after the deadline, the query fails at once."""
    close(gate, 30)

    assert expected is await gate.enter(until)
    assert expected is (1000 < clock.time)


async def test_a_wait_of_unknown_length_ends_at_the_deadline(gate: Gate, clock: Any) -> None:
    """A query that waits for the answers of others waits until its deadline, in real time."""
    clock.stop()
    for _ in range(CAUTIOUS):
        await gate.enter()
    waiting = asyncio.ensure_future(gate.enter(1000.02))
    await settle()

    assert (False, False) == (waiting.done(), await waiting)


async def test_the_deadline_of_one_query_is_not_that_of_the_next(gate: Gate, clock: Any) -> None:
    """A query behind one that gives up passes when it is time."""
    clock.stop()
    for _ in range(CAUTIOUS):
        await gate.enter()
    short = asyncio.ensure_future(gate.enter(1010.0))
    await settle()
    crowd = Crowd(gate)
    await crowd.add("long")
    clock.advance(10)
    gate.left()
    await settle()

    assert not await short
    assert ["long"] == crowd.passed


async def test_a_virtual_clock_does_not_run_ahead_of_answers(clock: Any) -> None:
    """While only an answer can show room, a deadline on the virtual clock does not expire."""
    gate = Gate("account", clock)
    for _ in range(CAUTIOUS):
        await gate.enter()
    waiting = [asyncio.ensure_future(gate.enter(1010.0)) for _ in range(5)]
    await settle()
    gate.answered(200, NO_HEADERS, clock.now())

    assert [True] * 5 == await asyncio.gather(*waiting)
    assert 1000 == clock.time


async def test_a_gate_that_is_shut_lets_nobody_in(gate: Gate, clock: Any) -> None:
    """Queries in line and later queries end with the same error."""
    clock.stop()
    close(gate, 30)
    waiting = asyncio.ensure_future(gate.enter())
    await settle()
    gate.shut()

    for entering in (waiting, gate.enter()):
        with pytest.raises(ConfigurationError):
            await entering


async def test_a_callback_that_raises_ends_its_own_query_alone(gate: Gate, clock: Any) -> None:
    """The callback runs in the task of its query, and the others pass."""
    clock.stop()
    close(gate, 30)

    def raises(_seconds: float) -> None:
        raise asyncio.CancelledError

    raising = asyncio.ensure_future(gate.enter(on_wait=raises))
    crowd = Crowd(gate)
    await crowd.add(1, 2)
    clock.advance(30)
    await settle()

    assert raising.cancelled()
    assert [1, 2] == crowd.passed


async def test_waits_are_reported_once(gate: Gate, clock: Any) -> None:
    """Each query in line reports its wait, and again only if it becomes longer."""
    clock.stop()
    close(gate, 30)
    heard: dict[int, list[float]] = {0: [], 1: []}
    waiting = [asyncio.ensure_future(gate.enter(on_wait=heard[place].append)) for place in heard]
    await settle()
    clock.advance(10)
    close(gate, 15)
    await settle()
    close(gate, 50)
    clock.advance(20)
    await settle()
    clock.advance(30)
    await asyncio.gather(*waiting)

    assert [30, 50] == heard[0] == heard[1]


steps = st.one_of(
    st.tuples(st.sampled_from(["arrive", "arrive", "close"]), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["advance", "answer", "lose"]), st.integers(0, 40)),
)


@given(st.lists(steps, max_size=40), st.sampled_from([None, RateLimit(3, 10), RateLimit(20, 60, burst=1)]))
@settings(max_examples=repeats(80))
def test_whoever_gives_up_the_others_get_through(
    script: list[tuple[str, int]], limit: RateLimit | None
) -> None:
    """After any sequence of arrivals, cancellations, answers and losses, every remaining query passes."""
    asyncio.run(Story(limit).told(script))


class Story:
    """A crowd at a gate, and a service with a limit of 20 requests in 60 seconds."""

    def __init__(self, limit: RateLimit | None) -> None:
        self.clock = VirtualClock()
        self.clock.stop()
        self.gate = Gate("account", self.clock, limit)
        self.crowd = Crowd(self.gate)
        self.cancelled: set[object] = set()
        self._service = FixedWindow(20, 60.0)
        self._ended = 0

    async def told(self, script: list[tuple[str, int]]) -> None:
        for what, number in script:
            await self._happens(what, number)
        for _ in range(10 * len(self.crowd.tasks) + 3):
            while self._ended < len(self.crowd.passed):
                await self._end_one(is_answered=True)
            self.clock.advance(7)
            await settle()

        assert set(self.crowd.tasks) == self.cancelled | set(self.crowd.passed)
        assert set() == self.cancelled & set(self.crowd.passed)

    async def _happens(self, what: str, number: int) -> None:
        if what == "arrive":
            await self.crowd.add(len(self.crowd.tasks))
        elif what == "close":
            self.gate.answered(503, CIMultiDict({"Retry-After": "7"}), self.clock.now())
        elif what == "advance":
            self.clock.advance(number)
            await settle()
        elif what != "cancel":
            await self._end_one(is_answered=what == "answer")
        elif number < len(self.crowd.tasks) and not self.crowd.tasks[number].done():
            self.cancelled.add(number)
            await self.crowd.cancel(number)

    async def _end_one(self, *, is_answered: bool) -> None:
        if self._ended == len(self.crowd.passed):
            return
        self._ended += 1
        now = self.clock.now()
        if is_answered:
            status = 200 if self._service.take(now) else 429
            self.gate.answered(status, self._service.headers(now), now)
        else:
            self.gate.left()
        await settle()


# The caller's limit, through the client


@pytest.mark.parametrize(
    ("expected", "limit"),
    [
        ([0, 0, 0, 30, 30, 30, 60, 60], RateLimit(requests=3, per=30)),
        ([0, 10, 20, 30, 40, 50, 60, 70], RateLimit(requests=3, per=30, burst=1)),
        ([0, 0, 10, 30, 30, 40, 60, 60], RateLimit(requests=3, per=30, burst=2)),
        ([0] * 8, RateLimit(requests=8, per=1)),
    ],
    ids=repr,
)
async def test_a_limit_of_ones_own_is_kept(
    make_client: Make, service: Any, expected: list[float], limit: RateLimit
) -> None:
    """Queries go exactly as close together as the limit permits."""
    await make_client(rate_limit=limit, max_concurrency=1).get_metrics_many(named(8))

    assert pytest.approx(expected, abs=0.01) == [request.time - 1000 for request in service.requests]


async def test_the_lesser_limit_counts(make_client: Make, service: Any) -> None:
    """The caller's limit does not replace the service's."""
    service.limit(2, per=60)
    await make_client(rate_limit=RateLimit(3, per=30), max_concurrency=1).get_metrics_many(named(6))

    assert 0 == service.refused
    assert pytest.approx([0, 0, 60, 60, 120, 120], abs=0.1) == [
        request.time - 1000 for request in service.requests
    ]


async def test_retries_count_in_the_limit(make_client: Make, service: Any) -> None:
    """Each attempt counts as a request."""
    service.will_answer(Reply(502), Reply(502))
    await make_client(rate_limit=RateLimit(1, per=30)).get_metrics()

    assert pytest.approx([0, 30, 60], abs=0.01) == [request.time - 1000 for request in service.requests]


async def test_a_semaphore_is_a_limit(make_client: Make, service: Any) -> None:
    """Any async context manager can limit the requests, for example one shared with other code."""
    client = make_client(rate_limit=asyncio.Semaphore(2), max_concurrency=8)
    found = await client.get_metrics_many(named(20))

    assert list(range(20)) == [metrics.average.session_cost for metrics in found]
    assert 2 >= service.most_open


class Noted:
    """A limiter that records its calls."""

    def __init__(self, service: Any, clock: Any) -> None:
        self.notes: list[object] = []
        self._service = service
        self._clock = clock

    async def __aenter__(self) -> None:
        self.notes.append(("in", len(self._service.requests), len(self._clock.slept)))

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.notes.append(("out", len(self._service.requests), len(self._clock.slept)))


async def test_a_limiter_is_held_during_each_attempt(make_client: Make, service: Any, clock: Any) -> None:
    """It is entered before each request and left after its answer, not held while a retry waits."""
    service.will_answer(Reply(502), Fault.TRUNCATE)
    limiter = Noted(service, clock)
    await make_client(rate_limit=limiter).get_metrics()

    assert [("in", 0, 0), ("out", 1, 0), ("in", 1, 1), ("out", 2, 1), ("in", 2, 2), ("out", 3, 2)] == (
        limiter.notes
    )


async def test_an_error_of_a_limiter_gives_the_room_back(make_client: Make, service: Any) -> None:
    """A limiter that raises ends the query, and the next query gets its room and slot."""

    class Broken(asyncio.Semaphore):
        async def acquire(self) -> Any:
            raise LookupError

    client = make_client(rate_limit=Broken(), max_concurrency=1)
    for _ in range(CAUTIOUS + 1):
        with pytest.raises(LookupError):
            await client.get_metrics()
    found = await make_client().get_metrics(name_contains="7")

    assert (7.0, 1) == (found.average.session_cost, len(service.requests))


# What clients share


@pytest.fixture
def spent(service: Any) -> None:
    """The first answer leaves no requests for twenty seconds."""
    service.will_answer(service.metrics(headers=dict(limits(0, 20))))


@pytest.mark.usefixtures("spent")
async def test_clients_of_one_account_share_what_they_know(make_client: Make, service: Any) -> None:
    """Clients share their knowledge, with other options too."""
    for client in (make_client(), make_client(max_retries=0, timeout=5), make_client().with_options()):
        await client.get_metrics()

    assert pytest.approx([0, 20, 20], abs=0.01) == [request.time - 1000 for request in service.requests]


@pytest.mark.usefixtures("spent")
async def test_a_client_with_other_options_shares_the_gate(make_client: Make, service: Any) -> None:
    """with_options does not change the rate limit."""
    client = make_client(rate_limit=RateLimit(1, per=50))
    await client.get_metrics()
    await client.with_options(max_retries=0).get_metrics()

    assert pytest.approx([0, 50], abs=0.01) == [request.time - 1000 for request in service.requests]


async def test_clients_with_the_same_limit_share_it(make_client: Make, service: Any) -> None:
    """The limit applies to the account: two clients do not send twice as much."""
    for _ in range(3):
        await make_client(rate_limit=RateLimit(1, per=50)).get_metrics()

    assert pytest.approx([0, 50, 100], abs=0.01) == [request.time - 1000 for request in service.requests]


@pytest.mark.usefixtures("spent")
async def test_other_accounts_share_nothing(
    make_client: Make, service: Any, elsewhere: Any, clock: Any
) -> None:
    """Another address, another key or another clock has separate knowledge."""
    await make_client().get_metrics()
    await make_client(base_url=elsewhere.url).get_metrics()
    with replaced(clock):
        stranger = HeliconeClient("sk-helicone-other-key", base_url=service.url)
    async with stranger:
        with pytest.raises(AuthenticationError):
            await stranger.get_metrics()
    other = VirtualClock()
    with replaced(other):
        timeless = HeliconeClient(service.api_key, base_url=service.url)
    async with timeless:
        await timeless.get_metrics()

    assert ([], [], 1000.0) == (clock.slept, other.slept, clock.time)


async def test_a_refusal_of_one_client_holds_the_others_back(make_client: Make, service: Any) -> None:
    """Even without the headers of the limit."""
    service.will_answer(Reply(429, "", {"Retry-After": "30"}))
    with pytest.raises(RateLimited):
        await make_client(deadline=10).get_metrics()
    await make_client().get_metrics()

    assert [1000, 1030] == [request.time for request in service.requests]


def test_clients_of_several_threads_share_the_limit() -> None:
    """Queries on separate loops are all answered."""
    clock = VirtualClock()
    answered = []

    async def ask(server: FakeHelicone) -> None:
        async with HeliconeClient(server.api_key, base_url=server.url, max_retries=9) as client:
            answered.append(len(await client.get_metrics_many(named(150))))

    with replaced(clock), FakeHelicone(clock=clock) as server:
        server.limit(50)
        threads = [threading.Thread(target=lambda: asyncio.run(ask(server))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [150, 150] == answered


async def fill(gate: Gate) -> None:
    """Take all the room before the first answer."""
    for _ in range(CAUTIOUS):
        await gate.enter()


def test_news_from_another_thread_wakes_who_waits() -> None:
    """Room that one loop finds is used by another."""
    clock = VirtualClock()
    clock.stop()
    here = Gate("account", clock)
    asyncio.run(fill(here))
    waits, has_passed = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        waiting = asyncio.ensure_future(Gate("account", clock).enter())
        await settle()
        waits.set()
        await waiting
        has_passed.set()

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    assert waits.wait(10)
    before = has_passed.is_set()
    here.answered(200, NO_HEADERS, clock.now())
    thread.join()

    assert (False, True) == (before, has_passed.is_set())


# From end to end


@pytest.mark.parametrize("concurrency", [1, 8, 64])
async def test_a_thousand_queries_are_never_refused(
    make_client: Make, service: Any, clock: Any, concurrency: int
) -> None:
    """At 200 a minute the queries take five windows, without a single request too many."""
    service.limit(200, per=60)
    found = await make_client(max_concurrency=concurrency).get_metrics_many(named(1000))

    assert [float(number) for number in range(1000)] == [metrics.average.session_cost for metrics in found]
    assert (1000, 0) == (len(service.requests), service.refused)
    # Time that nobody waits for passes while requests are in progress: these count in the next window.
    assert 1240 <= clock.time <= 1310


@pytest.mark.parametrize("theirs", [1, 30, 250])
async def test_what_others_spend_costs_time_and_no_answers(
    make_client: Make, service: Any, theirs: int
) -> None:
    """With others on the same budget every query is answered in the end."""
    service.limit(200, per=60)

    async def answer(request: RecordedRequest) -> Any:
        if request.number % 40 == 0:
            service.spend(theirs)
        return metrics(cost=float(request.json["nameContains"]))

    service.otherwise(answer)
    found = await make_client().get_metrics_many(named(600))

    assert [float(number) for number in range(600)] == [answer.average.session_cost for answer in found]


async def test_a_window_that_others_have_spent_is_waited_for(make_client: Make, service: Any) -> None:
    """If nothing is left at the start, a few requests are refused, and every query is answered."""
    service.limit(200, per=60)
    service.spend(1000)
    await make_client().get_metrics_many(named(100))

    assert 1 <= service.refused <= 2 * CAUTIOUS
    assert 100 == len(service.requests) - service.refused


@pytest.mark.parametrize("per", [60, 300, 900, 3600])
@pytest.mark.parametrize("max_retries", [0, 4])
async def test_a_refusal_is_no_retry(
    make_client: Make, service: Any, clock: Any, max_retries: int, per: int
) -> None:
    """A query waits for the limit, whatever its window, and uses no retry."""
    service.limit(1, per=per)
    service.spend(1)
    found = await make_client(max_retries=max_retries).get_metrics(name_contains="7")

    assert 7.0 == found.average.session_cost
    assert 1 <= service.refused <= 8
    assert per - 1 <= clock.time - 1000 <= per + 1


async def test_a_refusal_without_any_header_is_no_retry_either(
    make_client: Make, service: Any, clock: Any
) -> None:
    """Pauses that double outlast a window of 300 seconds."""
    refusal = Reply(429, {"error": "Too many requests"})

    async def answer(request: RecordedRequest) -> Any:
        return refusal if request.time < 1300 else metrics(cost=7.0)

    service.otherwise(answer)
    found = await make_client(max_retries=0).get_metrics()

    assert 7.0 == found.average.session_cost
    assert 1300 <= clock.time <= 1360
    assert len(service.requests) < 30


async def test_a_limit_that_is_always_reached_is_an_error_in_the_end(make_client: Make, service: Any) -> None:
    """A query that is only refused fails after six hours."""
    service.otherwise(Reply(429, {"error": "Too many requests"}, {"Retry-After": "600"}))
    with pytest.raises(RateLimited) as caught:
        await make_client(max_retries=3).get_metrics()

    assert 37 == caught.value.attempts == len(service.requests)
    assert 6 * 3600 == service.requests[-1].time - 1000


async def test_a_service_that_refuses_again_and_again_is_asked_less_often(
    make_client: Make, service: Any
) -> None:
    """Pauses double up to a minute, even if the service requests shorter ones."""
    service.otherwise(Reply(429, {"error": "Too many requests"}, {"Retry-After": "2"}))
    with pytest.raises(RateLimited):
        await make_client().get_metrics()

    times = [request.time for request in service.requests]
    assert 2 == times[1] - times[0]
    assert 30 <= times[-1] - times[-2] <= 60
    assert len(times) < 6 * 3600 / 30 + 10


async def test_a_wait_of_more_than_an_hour_is_an_error_at_once(
    make_client: Make, service: Any, clock: Any
) -> None:
    """No call waits for hours."""
    service.otherwise(Reply(429, {"error": "Too many requests"}, {"Retry-After": "3601"}))
    with pytest.raises(RateLimited) as caught:
        await make_client().get_metrics()

    assert (3601, 1, 1000) == (caught.value.retry_after, len(service.requests), clock.time)
