import asyncio
from typing import Any

import pytest
from multidict import CIMultiDict

from helicone_sessions.transport.rate_limit import Gate


@pytest.fixture
def gate(clock: Any) -> Gate:
    """A gate on the virtual clock."""
    return Gate(now=clock.now, sleep=clock.sleep)


def limits(remaining: object, reset: object) -> CIMultiDict[str]:
    return CIMultiDict({"RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(reset)})


async def test_a_new_gate_is_open(gate: Gate, clock: Any) -> None:
    """Nobody waits before the service has said anything."""
    await gate.passed()

    assert [] == clock.slept


@pytest.mark.parametrize("seconds", [0.001, 7, 60.0])
async def test_a_closed_gate_opens_after_its_time(gate: Gate, clock: Any, seconds: float) -> None:
    """Who comes to a closed gate waits until it opens, and not longer."""
    gate.close(seconds)
    await gate.passed()
    await gate.passed()

    assert [pytest.approx(seconds)] == clock.slept
    assert pytest.approx(1000 + seconds) == clock.time


@pytest.mark.parametrize("seconds", [0, -1.0])
async def test_a_gate_closed_for_no_time_is_open(gate: Gate, clock: Any, seconds: float) -> None:
    """No time, or less, holds nobody back."""
    gate.close(seconds)
    await gate.passed()

    assert [] == clock.slept


@pytest.mark.parametrize(
    ("expected", "times"), [(30, (30, 10)), (30, (10, 30)), (10, (10, 0)), (10, (10, 10))]
)
async def test_the_longest_time_counts(
    gate: Gate, clock: Any, expected: float, times: tuple[float, ...]
) -> None:
    """A gate that is closed again does not open earlier for it."""
    for seconds in times:
        gate.close(seconds)
    await gate.passed()

    assert 1000 + expected == clock.time


async def test_all_who_wait_pass_together(gate: Gate, clock: Any) -> None:
    """The time of a closed gate is waited by all at once, not by one after the other."""
    gate.close(30)
    await asyncio.gather(*(gate.passed() for _ in range(5)))

    assert 1030 == clock.time


async def test_who_waits_goes_on_waiting_when_the_gate_is_closed_for_longer(gate: Gate, clock: Any) -> None:
    """A gate that was closed again in the meantime is not passed."""
    gate.close(10)
    waiting = asyncio.ensure_future(gate.passed())
    await asyncio.sleep(0)
    gate.close(25)
    await waiting

    assert 1025 == clock.time


async def test_one_who_gives_up_holds_nobody_else_back(gate: Gate, clock: Any) -> None:
    """A cancelled wait ends, and the others pass when it is time."""
    gate.close(10)
    first, second = asyncio.ensure_future(gate.passed()), asyncio.ensure_future(gate.passed())
    await asyncio.sleep(0)
    first.cancel()
    await second

    assert (True, 1010) == (first.cancelled(), clock.time)


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (0, {}),
        (0, {"RateLimit-Remaining": "0"}),
        (0, {"RateLimit-Reset": "30"}),
        (0, limits(199, 60)),
        (0, limits(1, 60)),
        (30, limits(0, 30)),
        (0.5, limits(0, 0.5)),
        (60, limits("0", " 60 ")),
        (30, limits(-1, 30)),
        (120, limits(0, 120)),
        (0, limits(0, 0)),
        (0, limits(0, -5)),
        (0, limits(0, 120.5)),
        (0, limits(0, 1_767_225_600)),
        (0, limits(0, "inf")),
        (0, limits(0, "nan")),
        (0, limits("nan", 30)),
        (0, limits("none", 30)),
        (0, limits(0, "soon")),
        (0, limits("", "")),
        (0, limits(0, "Sun, 01 Nov 2026 00:01:00 GMT")),
    ],
)
async def test_the_gate_learns_from_the_headers_of_an_answer(
    gate: Gate, clock: Any, expected: float, headers: Any
) -> None:
    """With nothing left the gate is closed until the window's end; what makes no sense is passed over."""
    gate.learn(headers)
    await gate.passed()

    assert 1000 + expected == clock.time


@pytest.mark.parametrize(
    ("expected", "asked", "wait"),
    [
        (0, None, None),
        (0, None, 5.0),
        (30, 30.0, None),
        (30.5, 30.0, 30.5),
        (120, 120.0, None),
        (0, 0.0, None),
        (0, 3600.0, None),
    ],
)
async def test_the_gate_learns_from_a_refusal(
    gate: Gate, clock: Any, expected: float, asked: float | None, wait: float | None
) -> None:
    """A refusal closes it for as long as it asks, or for the wait of who asks again; not for an hour."""
    gate.learn_refusal(asked, wait)
    await gate.passed()

    assert 1000 + expected == clock.time


async def test_headers_are_known_in_any_case(gate: Gate, clock: Any) -> None:
    """HTTP/2 gateways write header names small."""
    gate.learn(CIMultiDict({"ratelimit-remaining": "0", "ratelimit-reset": "9"}))
    await gate.passed()

    assert 1009 == clock.time


async def test_a_later_answer_does_not_open_the_gate(gate: Gate, clock: Any) -> None:
    """An answer that was under way when the window was spent may tell of more left; it is late news."""
    gate.learn(limits(0, 30))
    gate.learn(limits(5, 31))
    await gate.passed()

    assert 1030 == clock.time


async def test_a_gate_has_a_clock_of_its_own() -> None:
    """Without arguments the gate uses the real time, and an open one does not wait for it."""
    await Gate().passed()
