import asyncio
import math
import re
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
from helicone_sessions.messages.fixed_window import FixedWindow
from helicone_sessions.testing import FakeHelicone, RecordedRequest, Reply, VirtualClock, metrics
from helicone_sessions.transport.gate import Gate
from helicone_sessions.transport.rate_limit import Pace, Window

Make = Callable[..., HeliconeClient]
CAUTIOUS = 8
NOTHING_SAID: CIMultiDict[str] = CIMultiDict()


def limits(remaining: object, reset: object, **more: object) -> CIMultiDict[str]:
    said = {"Remaining": remaining, "Reset": reset, **more}
    return CIMultiDict({f"RateLimit-{name}": str(value) for name, value in said.items()})


def named(count: int) -> list[SessionMetricsQuery]:
    """So many queries, no two the same."""
    return [SessionMetricsQuery(name_contains=str(number)) for number in range(count)]


async def settle() -> None:
    """Let the loop come to rest."""
    for _ in range(20):
        await asyncio.sleep(0)


# RateLimit


def test_a_limit_shows_what_it_says() -> None:
    """Without arguments it is the service's own; its repr builds it again."""
    assert "RateLimit(requests=200, per=60.0, burst=None)" == repr(RateLimit())
    assert RateLimit(100, 30, 5) == RateLimit(requests=100, per=30.0, burst=5)
    assert RateLimit(7, 0.5, 2) == eval(repr(RateLimit(7, 0.5, 2)))  # noqa: S307 - our own text


def test_a_limit_is_a_value() -> None:
    """Equal limits are one key, and none can be changed."""
    limit = RateLimit(100)

    assert {limit: 1} == {RateLimit(100, 60): 1}
    assert limit != RateLimit(100, burst=1)
    with pytest.raises(AttributeError):
        limit.requests = 200  # type: ignore[misc]


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "8", float("nan")])
@pytest.mark.parametrize("name", ["requests", "burst"])
def test_counts_are_whole_numbers_from_one_up(name: str, value: Any) -> None:
    """What is none is told with the name of the argument."""
    message = f"RateLimit: {name} is a whole number from 1 up, not {value!r}"
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        RateLimit(**{name: value})


def test_requests_have_to_be_given_as_a_number() -> None:
    """Only the burst may be left open."""
    with pytest.raises(ConfigurationError, match="requests is a whole number from 1 up, not None"):
        RateLimit(requests=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, 0.0, float("inf"), float("nan"), True, "60", None])
def test_a_span_is_seconds_above_zero(value: Any) -> None:
    """What is none is told with its value."""
    with pytest.raises(ConfigurationError, match=re.escape(f"per is seconds above zero, not {value!r}")):
        RateLimit(per=value)


@pytest.mark.parametrize("value", [5, "100/60", object, RateLimit])
def test_a_client_takes_a_limit_or_a_context_manager(value: Any) -> None:
    """What is neither is refused when the client is made."""
    if value is RateLimit:
        value = (100, 60)
    with pytest.raises(ConfigurationError, match="rate_limit is a RateLimit, as"):
        HeliconeClient("sk-helicone-example-key", rate_limit=value)


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
    """When those go that come at *arrivals* and wait as they are told."""
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
@settings(max_examples=150, deadline=None)
def test_no_span_has_more_than_the_limit(limit: RateLimit, pauses: list[float]) -> None:
    """However they come, in any span there are at most `requests`, and at any moment `burst` of them."""
    times = taken(limit, arrivals_of(limit, pauses))
    burst = min(limit.burst or limit.requests, limit.requests)
    close = limit.per / limit.requests * 0.999

    assert all(later - time >= limit.per * 0.999999 for time, later in pairs(times, limit.requests))
    assert all(later - time >= close for time, later in pairs(times, burst))


def pairs(times: list[float], apart: int) -> Iterator[tuple[float, float]]:
    return zip(times, times[apart:], strict=False)


@given(paces, pauses)
@settings(max_examples=150, deadline=None)
def test_nobody_waits_longer_than_the_limit_asks_for(limit: RateLimit, pauses: list[float]) -> None:
    """Each goes at the first moment at which neither the span nor the even spread is overdrawn."""
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
    """Who always asks gets all that is allowed: `requests` in every span, as close as `burst` lets them."""
    burst = min(limit.burst or limit.requests, limit.requests)
    expected = [
        span * limit.per + max(0, place - burst + 1) * limit.per / limit.requests
        for span in range(4)
        for place in range(limit.requests)
    ]

    assert pytest.approx(expected, abs=1e-6) == taken(limit, [0.0] * 4 * limit.requests)


def test_a_burst_of_one_spreads_evenly() -> None:
    """Six a minute are one each ten seconds."""
    assert [0, 10, 20, 30, 40, 50, 60, 70] == taken(RateLimit(6, 60, burst=1), [0.0] * 8)


# Window


def room(window: Window, now: float, most: int = 500) -> int:
    """How many may go at once."""
    sent = 0
    while sent < most and window.wait(now) <= 0:
        window.sent()
        sent += 1
    for _ in range(sent):
        window.ended()
    return sent


def told(window: Window, headers: Any, *, status: int = 200, sent_at: float, now: float) -> None:
    """One request and its answer."""
    window.sent()
    window.ended()
    window.answered(status, headers, sent_at, now)


def test_before_the_first_answer_it_is_cautious() -> None:
    """A few may ask what is allowed; the others wait for an answer, and not for a time."""
    window = Window()
    for _ in range(CAUTIOUS):
        assert 0 == window.wait(1000.0)
        window.sent()

    assert math.inf == window.wait(1000.0) == window.wait(9999.0)
    window.ended()
    assert 0 == window.wait(1000.0)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429])
def test_a_service_that_names_no_limit_has_none(status: int) -> None:
    """An answer of the service without the headers holds nobody back."""
    window = Window()
    told(window, NOTHING_SAID, status=status, sent_at=1000.0, now=1000.1)

    assert 500 == room(window, 1000.1)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_the_page_of_a_gateway_says_nothing_of_the_service(status: int) -> None:
    """A 5xx without the headers leaves it as cautious as it was, and takes nothing back that was said."""
    window = Window()
    told(window, NOTHING_SAID, status=status, sent_at=1000.0, now=1000.0)
    assert CAUTIOUS == room(window, 1000.0)

    told(window, limits(100, 60, Limit=200), sent_at=1000.0, now=1000.0)
    told(window, NOTHING_SAID, status=status, sent_at=1000.0, now=1000.0)
    assert 100 == room(window, 1000.0)


def test_a_page_of_a_gateway_with_the_headers_is_believed() -> None:
    """A failing answer of the service itself counts like any other."""
    window = Window()
    told(window, limits(3, 60, Limit=200), status=500, sent_at=1000.0, now=1000.0)

    assert 3 == room(window, 1000.0)


@pytest.mark.parametrize("remaining", [0, 1, 2, 3, 100])
def test_as_many_go_as_remain(remaining: int) -> None:
    """Those under way are counted until they are answered; the next waits for the reset."""
    window = Window()
    told(window, limits(remaining, 30, Limit=200), sent_at=1000.0, now=1000.0)

    assert remaining == room(window, 1000.0)
    for _ in range(remaining):
        window.sent()
    assert pytest.approx(30, abs=0.01) == window.wait(1000.0)


def test_after_the_reset_there_is_a_whole_window() -> None:
    """Who waited as long as it was told finds the limit of the service."""
    window = Window()
    told(window, limits(0, 30, Limit=200), sent_at=1000.0, now=1000.0)
    seconds = window.wait(1000.0)

    assert 0 < window.wait(1000.0 + seconds - 0.01) <= 0.0101
    assert 200 == room(window, 1000.0 + seconds)


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (30, limits(-1, 30)),
        (0.5, limits(0, 0.5)),
        (60, limits("0", " 60 ")),
        (120, limits(0, 120)),
        (0, limits(0, 0)),
        (30, limits(0, 30, Limit="many")),
        (30, limits(0, 30, Limit="nan", Policy="none")),
        (30, limits(0, 30, Limit="-5", Policy="200;w=" + "9" * 500)),
        (9, CIMultiDict({"ratelimit-remaining": "0", "RATELIMIT-RESET": "9"})),
    ],
)
def test_with_nothing_left_it_is_closed_until_the_reset(expected: float, headers: Any) -> None:
    """Whatever else is said, and in whatever case the names are written."""
    window = Window()
    told(window, headers, sent_at=1000.0, now=1000.0)

    assert pytest.approx(expected, abs=0.01) == window.wait(1000.0)


@pytest.mark.parametrize(
    "headers",
    [
        CIMultiDict({"RateLimit-Remaining": "0"}),
        CIMultiDict({"RateLimit-Reset": "30"}),
        limits(0, -5),
        limits(0, 120.5),
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
    def test_they_are_as_good_as_none(self, headers: Any) -> None:
        """A service that says nothing that can be understood has named no limit."""
        window = Window()
        told(window, headers, sent_at=1000.0, now=1000.0)

        assert 500 == room(window, 1000.0)

    def test_they_change_nothing(self, headers: Any) -> None:
        """What was understood before still holds."""
        window = Window()
        told(window, limits(100, 60, Limit=200), sent_at=1000.0, now=1000.0)
        told(window, headers, sent_at=1000.0, now=1000.0)

        assert 100 == room(window, 1000.0)
        assert pytest.approx(60, abs=0.01) == full(window, 1000.0)


def full(window: Window, now: float) -> float:
    """How long the next would wait after all that may go have gone."""
    while (seconds := window.wait(now)) <= 0:
        window.sent()
    return seconds


@pytest.mark.parametrize("limit", ["nan", "-5", "0", "0.5"])
def test_a_limit_that_makes_no_sense_is_passed_over(limit: str) -> None:
    """What remains tells enough."""
    window = Window()
    told(window, limits(199, 10, Limit=limit), sent_at=1000.0, now=1000.0)
    told(window, limits(199, 10, Limit=limit), sent_at=1011.0, now=1011.0)

    assert 199 == room(window, 1011.0)


def test_answers_of_one_window_narrow_the_reset() -> None:
    """The reset comes in whole seconds, rounded up; several of them tell it to a part of a second."""
    ends = 1059.3
    window = Window()
    for now in (1000.0, 1000.5, 1001.2, 1002.35):
        told(window, limits(0, math.ceil(ends - now), Limit=200), sent_at=now, now=now)

    assert ends <= 1002.35 + window.wait(1002.35) <= ends + 0.06


@given(
    st.floats(1010.0, 1060.0),
    st.lists(st.tuples(st.floats(0.0, 9.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1),
)
@settings(max_examples=150, deadline=None)
def test_nobody_goes_before_the_reset(ends: float, answers: list[tuple[float, float, float]]) -> None:
    """Whatever the way there and back takes, the wait ends after the reset, and as early as can be known."""
    window, known = Window(), math.inf
    for after, there, back in sorted(answers, key=sum):
        counted = 1000.0 + after + there * (9.9 - after)
        now = counted + back * (9.9 - (counted - 1000.0))
        reset = math.ceil(ends - counted)
        told(window, limits(0, reset, Limit=200), sent_at=1000.0 + after, now=now)
        known = min(known, now + reset)
    opens = 1009.9 + window.wait(1009.9, again=True, behind=1)

    assert ends <= opens <= known + 0.002


def test_the_last_attempt_is_no_trial() -> None:
    """With others about, one tries a little early, again and again; but not with its last attempt."""
    window, now = Window(), 1000.0
    told(window, limits(150, 30, Limit=200), sent_at=now, now=now)
    told(window, limits(0, 30, Limit=200), status=429, sent_at=now, now=now)
    for _ in range(3):
        trial, last = (window.wait(now, again=True, last=last) for last in (False, True))
        assert trial < last == window.wait(now, again=True, behind=1)
        now += trial
        told(window, limits(0, math.ceil(1029.99 - now), Limit=200), status=429, sent_at=now, now=now)

    assert now + last >= 1029.99


def test_late_news_of_an_older_window_is_passed_over() -> None:
    """An answer that was long under way says nothing of what is left now."""
    window = Window()
    told(window, limits(10, 30, Limit=200), sent_at=1000.0, now=1000.0)
    told(window, limits(150, 60, Limit=200), sent_at=1031.0, now=1031.0)
    told(window, limits(0, 1, Limit=200), sent_at=1029.0, now=1031.5)

    assert 0 == window.wait(1031.5)
    assert 1 < room(window, 1031.5)


def test_of_answers_that_overtake_each_other_the_least_counts() -> None:
    """What remains in a window only becomes less."""
    window = Window()
    for _ in range(3):
        window.sent()
    for remaining in (7, 5, 6):
        window.ended()
        window.answered(200, limits(remaining, 60, Limit=200), 1000.0, 1000.0)

    assert 5 == room(window, 1000.0)


def test_a_new_window_is_known_by_its_reset() -> None:
    """When the reset is later than it can be in this window, what was spent counts no more."""
    window = Window()
    told(window, limits(0, 30, Limit=200, Policy="200;w=60"), sent_at=1000.0, now=1000.0)
    told(window, limits(199, 60, Limit=200, Policy="200;w=60"), sent_at=1030.1, now=1030.1)

    assert 199 == room(window, 1030.1)
    assert pytest.approx(60, abs=0.01) == full(window, 1030.1)


def test_with_a_low_limit_and_many_others_somebody_still_goes() -> None:
    """However many share a limit of a few, when the window is over one may ask for what is left."""
    window = Window()
    told(window, limits(2, 30, Limit=2), sent_at=1000.0, now=1000.0)
    for number in range(20):
        told(window, limits(0, 30, Limit=2), status=429, sent_at=1000.0 + number, now=1000.0 + number)
    told(window, limits(1, 60, Limit=2), sent_at=1060.0, now=1060.0)

    assert 0 == window.wait(1130.0)


@pytest.mark.parametrize(
    ("expected", "seconds"), [(30, 30.0), (0, 0.0), (120, 120.0), (0, 120.5), (0, 3600.0), (0, -1.0)]
)
def test_a_refusal_without_the_headers_closes_it(expected: float, seconds: float) -> None:
    """It is closed for as long as it is asked to wait, but not for an hour."""
    window = Window()
    told(window, NOTHING_SAID, status=429, sent_at=1000.0, now=1000.0)

    assert None is window.refused(1000.0, seconds)
    assert expected == window.wait(1000.0)
    assert 0 == window.wait(1000.0 + expected)


def test_a_refusal_with_the_headers_leaves_it_to_them() -> None:
    """They tell the reset better than the wait that is asked for, whole seconds rounded up."""
    window = Window()
    told(window, limits(0, 30, Limit=200), sent_at=1000.0, now=1000.0)
    told(window, limits(0, 30, Limit=200), status=429, sent_at=1000.7, now=1000.7)
    seconds = window.refused(1000.7, 3600.0)

    assert pytest.approx(29.3, abs=0.01) == seconds == window.wait(1000.7, again=True, behind=1)


@pytest.mark.parametrize(
    ("expected", "times"), [(30, (30, 10)), (30, (10, 30)), (10, (10, 0)), (10, (10, 10)), (10, (10, 3600))]
)
def test_the_longest_time_counts(expected: float, times: tuple[float, ...]) -> None:
    """A window that is closed again does not open earlier for it."""
    window = Window()
    for seconds in times:
        window.close(1000.0, seconds)

    assert expected == window.wait(1000.0)


# Gate


@pytest.fixture
def gate(clock: Any) -> Gate:
    """A gate on the virtual clock."""
    return Gate("account", clock)


class Crowd:
    """Tasks that pass a gate, and who of them has passed in which order."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.passed: list[object] = []
        self.tasks: dict[object, asyncio.Task[None]] = {}

    async def add(self, *names: object, again: bool = False) -> None:
        for name in names:
            self.tasks[name] = asyncio.ensure_future(self._pass(name, again))
            await settle()

    async def _pass(self, name: object, again: bool) -> None:
        await self.gate.passed(again=again)
        self.passed.append(name)

    async def cancel(self, *names: object) -> None:
        for name in names:
            self.tasks[name].cancel()
        await settle()

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.wait(self.tasks.values())


async def test_a_new_gate_is_open(gate: Gate, clock: Any) -> None:
    """A few pass before the service has said anything, and do not wait."""
    await gate.passed()

    assert gate.try_pass()
    assert [] == clock.slept


@pytest.mark.parametrize("seconds", [0.001, 7, 60.0])
async def test_a_closed_gate_opens_after_its_time(gate: Gate, clock: Any, seconds: float) -> None:
    """Who comes to a closed gate waits until it opens, and not longer."""
    gate.close(seconds)
    assert not gate.try_pass()
    await gate.passed()
    await gate.passed()

    assert [pytest.approx(seconds)] == clock.slept
    assert pytest.approx(1000 + seconds) == clock.time


async def test_the_first_to_come_is_the_first_to_go(gate: Gate, clock: Any) -> None:
    """Those who wait pass in the order in which they came."""
    clock.stop()
    gate.close(30)
    crowd = Crowd(gate)
    await crowd.add(*range(5))
    clock.advance(30)
    await settle()

    assert list(range(5)) == crowd.passed


async def test_who_waits_goes_on_waiting_when_the_gate_is_closed_for_longer(gate: Gate, clock: Any) -> None:
    """A gate that was closed again in the meantime is not passed."""
    gate.close(10)
    waiting = asyncio.ensure_future(gate.passed())
    await asyncio.sleep(0)
    gate.close(25)
    await waiting

    assert 1025 == clock.time


@pytest.mark.parametrize("given_up", [(0,), (2,), (4,), (0, 1), (1, 0), (0, 2, 4), (0, 1, 2, 3, 4)], ids=str)
async def test_who_gives_up_hands_the_turn_on(gate: Gate, clock: Any, given_up: tuple[int, ...]) -> None:
    """Whoever is cancelled while waiting, the others pass when it is time, in their order."""
    clock.stop()
    gate.close(30)
    crowd = Crowd(gate)
    await crowd.add(*range(5))
    await crowd.cancel(*given_up)
    clock.advance(30)
    await crowd.add("later")

    assert [*(number for number in range(5) if number not in given_up), "later"] == crowd.passed


async def test_who_gives_up_just_as_the_turn_comes_hands_it_on(gate: Gate, clock: Any) -> None:
    """A cancellation in the very moment of one's turn costs the next one nothing."""
    clock.stop()
    gate.close(30)
    crowd = Crowd(gate)
    await crowd.add(*range(4))
    clock.advance(30)
    crowd.tasks[0].cancel()
    await asyncio.sleep(0)
    crowd.tasks[1].cancel()
    await settle()

    assert {2, 3} <= set(crowd.passed)


async def test_those_refused_before_go_first(gate: Gate, clock: Any) -> None:
    """A line of its own keeps a query from being refused time and again."""
    clock.stop()
    for _ in range(CAUTIOUS):
        assert gate.try_pass()
    crowd = Crowd(gate)
    await crowd.add("fresh 1", "fresh 2")
    await crowd.add("refused 1", "refused 2", again=True)
    for _ in range(4):
        gate.ended()
        await settle()

    assert ["refused 1", "refused 2", "fresh 1", "fresh 2"] == crowd.passed


@pytest.mark.parametrize("again", [True, False])
async def test_one_line_does_not_wait_for_who_gave_up_in_the_other(clock: Any, again: bool) -> None:
    """Room that was kept for one who has given up goes to the other line at once."""
    clock.stop()
    gate = Gate("account", clock, RateLimit(1, 50) if again else None)
    assert gate.try_pass()
    gate.answered(429, limits(0 if again else 1, 30, Limit=200), clock.now())
    gate.close(10)
    crowd = Crowd(gate)
    await crowd.add("gives up", again=not again)
    await crowd.add("stays", again=again)
    # For who was refused, the window is over, and the pace holds the other, who is to find out.
    clock.advance(40 if again else 10)
    gate.ended()
    await settle()
    before = tuple(crowd.passed)
    await crowd.cancel("gives up")
    clock.advance(10 if again else 0)
    await settle()

    assert () == before
    assert ["stays"] == crowd.passed
    await crowd.end()


@pytest.mark.parametrize("again", [True, False])
async def test_nobody_overtakes_those_who_wait(gate: Gate, clock: Any, again: bool) -> None:
    """As long as one of them has not passed, who comes along stands in line."""
    clock.stop()
    gate.answered(200, NOTHING_SAID, clock.now())
    gate.close(30)
    crowd = Crowd(gate)
    await crowd.add(*range(6), again=again)
    clock.advance(30)
    overtaken = []
    for _ in range(50):
        if gate.try_pass() and len(crowd.passed) < 6:
            overtaken.append(tuple(crowd.passed))
        await asyncio.sleep(0)

    assert [] == overtaken
    assert list(range(6)) == crowd.passed


async def test_news_wakes_who_waits(gate: Gate, clock: Any) -> None:
    """An answer that says there is room lets the next pass before its time."""
    clock.stop()
    for _ in range(CAUTIOUS):
        assert gate.try_pass()
    crowd = Crowd(gate)
    await crowd.add(1, 2)
    before = tuple(crowd.passed)
    gate.answered(200, limits(100, 60, Limit=200), clock.now())
    await settle()

    assert () == before
    assert [1, 2] == crowd.passed
    assert 1000 == clock.time


async def test_a_lost_request_gives_its_room_back(gate: Gate, clock: Any) -> None:
    """One that ends without an answer lets another one pass, and just one."""
    clock.stop()
    for _ in range(CAUTIOUS):
        assert gate.try_pass()
    crowd = Crowd(gate)
    await crowd.add(1, 2)
    gate.ended()
    await settle()

    assert [1] == crowd.passed
    gate.ended()
    await settle()
    assert [1, 2] == crowd.passed


steps = st.one_of(
    st.tuples(st.sampled_from(["fresh", "again", "close"]), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["advance", "answer", "lose"]), st.integers(0, 40)),
)


@given(st.lists(steps, max_size=40), st.sampled_from([None, RateLimit(3, 10), RateLimit(20, 60, burst=1)]))
@settings(max_examples=80, deadline=None)
def test_whoever_gives_up_the_others_get_through(
    script: list[tuple[str, int]], limit: RateLimit | None
) -> None:
    """After any story of arrivals, cancellations, answers and losses, everybody passes who stayed."""
    asyncio.run(Story(limit).told(script))


class Story:
    """A crowd at a gate, and a service that may be asked twenty times a minute."""

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
        if what in ("fresh", "again"):
            await self.crowd.add(len(self.crowd.tasks), again=what == "again")
        elif what == "close":
            self.gate.close(7)
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
            self.gate.ended()
        await settle()


# A limit of one's own, through the client


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
    """Queries go as close together as the limit lets them, and no closer."""
    await make_client(rate_limit=limit, max_concurrency=1).get_metrics_many(named(8))

    assert pytest.approx(expected, abs=0.01) == [request.time - 1000 for request in service.requests]


async def test_the_lesser_limit_counts(make_client: Make, service: Any) -> None:
    """A limit of one's own does not set that of the service aside."""
    service.limit(2, per=60)
    await make_client(rate_limit=RateLimit(3, per=30), max_concurrency=1).get_metrics_many(named(6))

    assert 0 == service.refused
    assert pytest.approx([0, 0, 60, 60, 120, 120], abs=0.1) == [
        request.time - 1000 for request in service.requests
    ]


async def test_retries_count_in_the_limit(make_client: Make, service: Any) -> None:
    """Each attempt is a request."""
    service.will(service.reply(502), service.reply(502))
    await make_client(rate_limit=RateLimit(1, per=30)).get_metrics()

    assert pytest.approx([0, 30, 60], abs=0.01) == [request.time - 1000 for request in service.requests]


async def test_a_semaphore_is_a_limit(make_client: Make, service: Any) -> None:
    """Any async context manager may bound the requests, as one that other code shares."""
    client = make_client(rate_limit=asyncio.Semaphore(2), max_concurrency=8)
    found = await client.get_metrics_many(named(20))

    assert list(range(20)) == [metrics.average.session_cost for metrics in found]
    assert 2 >= service.most_open


class Noted:
    """A limiter that notes what happens around it."""

    def __init__(self, service: Any, clock: Any) -> None:
        self.notes: list[object] = []
        self._service = service
        self._clock = clock

    async def __aenter__(self) -> None:
        self.notes.append(("in", len(self._service.requests), len(self._clock.slept)))

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.notes.append(("out", len(self._service.requests), len(self._clock.slept)))


async def test_a_limiter_is_held_during_each_attempt(make_client: Make, service: Any, clock: Any) -> None:
    """It is entered before each request and left after its answer, not held while waiting to ask again."""
    service.will(service.reply(502), service.drop)
    limiter = Noted(service, clock)
    await make_client(rate_limit=limiter).get_metrics()

    assert [("in", 0, 0), ("out", 1, 0), ("in", 1, 1), ("out", 2, 1), ("in", 2, 2), ("out", 3, 2)] == (
        limiter.notes
    )


async def test_an_error_of_a_limiter_gives_the_room_back(make_client: Make, service: Any) -> None:
    """A limiter that raises ends the query, and leaves the room and the slot to the next."""

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
    """The first answer says that nothing is left for twenty seconds."""
    service.will(service.metrics(headers=dict(limits(0, 20))))


@pytest.mark.usefixtures("spent")
async def test_clients_of_one_account_share_what_they_know(make_client: Make, service: Any) -> None:
    """What one client is told, the other knows, with other options too."""
    for client in (make_client(), make_client(max_retries=0, timeout=5), make_client().with_options()):
        await client.get_metrics()

    assert pytest.approx([0, 20, 20], abs=0.01) == [request.time - 1000 for request in service.requests]


@pytest.mark.usefixtures("spent")
async def test_a_client_with_other_options_shares_the_gate(make_client: Make, service: Any) -> None:
    """with_options leaves the rate limit as it is."""
    client = make_client(rate_limit=RateLimit(1, per=50))
    await client.get_metrics()
    await client.with_options(max_retries=0).get_metrics()

    assert pytest.approx([0, 50], abs=0.01) == [request.time - 1000 for request in service.requests]


async def test_clients_with_the_same_limit_share_it(make_client: Make, service: Any) -> None:
    """A limit is one of the account: two clients do not send twice as much."""
    for _ in range(3):
        await make_client(rate_limit=RateLimit(1, per=50)).get_metrics()

    assert pytest.approx([0, 50, 100], abs=0.01) == [request.time - 1000 for request in service.requests]


@pytest.mark.usefixtures("spent")
async def test_other_accounts_share_nothing(
    make_client: Make, service: Any, elsewhere: Any, clock: Any
) -> None:
    """Another address, another key or another clock knows nothing of it."""
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
    """Also without the headers of the limit."""
    service.will(service.reply(429, "", {"Retry-After": "30"}))
    with pytest.raises(RateLimited):
        await make_client(max_retries=0).get_metrics()
    await make_client().get_metrics()

    assert [1000, 1030] == [request.time for request in service.requests]


def test_clients_of_several_threads_share_the_limit() -> None:
    """Each on a loop of its own, they are all answered."""
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


def test_news_from_another_thread_wakes_who_waits() -> None:
    """Room that is found on one loop is taken on another."""
    clock = VirtualClock()
    clock.stop()
    here = Gate("account", clock)
    for _ in range(CAUTIOUS):
        assert here.try_pass()
    waits, has_passed = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        waiting = asyncio.ensure_future(Gate("account", clock).passed())
        await settle()
        waits.set()
        await waiting
        has_passed.set()

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    assert waits.wait(10)
    before = has_passed.is_set()
    here.answered(200, NOTHING_SAID, clock.now())
    thread.join()

    assert (False, True) == (before, has_passed.is_set())


# From end to end


@pytest.mark.parametrize("concurrency", [1, 8, 64])
async def test_a_thousand_queries_are_never_refused(
    make_client: Make, service: Any, clock: Any, concurrency: int
) -> None:
    """At 200 a minute they take five windows, and no request is one too many."""
    service.limit(200, per=60)
    found = await make_client(max_concurrency=concurrency).get_metrics_many(named(1000))

    assert [float(number) for number in range(1000)] == [metrics.average.session_cost for metrics in found]
    assert (1000, 0) == (len(service.requests), service.refused)
    # Time that nobody waits for passes while requests are under way: these count in the next window.
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
    """Who finds nothing left at the start is refused a few times at most, and then answered."""
    service.limit(200, per=60)
    service.spend(1000)
    await make_client().get_metrics_many(named(100))

    assert 1 <= service.refused <= CAUTIOUS
    assert 100 == len(service.requests) - service.refused


async def test_a_limit_that_is_always_reached_is_raised_in_the_end(make_client: Make, service: Any) -> None:
    """Who is refused at every attempt hears of it."""
    service.otherwise(Reply(429, {"error": "Too many requests"}, {"Retry-After": "5"}))
    with pytest.raises(RateLimited) as caught:
        await make_client(max_retries=3).get_metrics()

    assert (4, 4) == (caught.value.attempts, len(service.requests))
    assert [0, 5, 10, 15] == [math.floor((request.time - 1000) / 5) * 5 for request in service.requests]
