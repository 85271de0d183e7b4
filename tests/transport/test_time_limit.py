import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions.transport.connection import TimeLimit, TimeLimits
from tests.repeats import repeats
from tests.virtual_time import VirtualTimeLoop


def run(test: Callable[[VirtualTimeLoop, TimeLimits], Coroutine[Any, Any, Any]]) -> Any:
    """Run *test* in its own loop."""
    with asyncio.Runner(loop_factory=partial(VirtualTimeLoop, 0)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        return runner.run(test(loop, TimeLimits()))


async def for_ever() -> None:
    await asyncio.Event().wait()


async def cancelling(limits: TimeLimits, seconds: float, what: Awaitable[None]) -> int:
    """The number of cancellations that a task has after a block exceeds its limit."""
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(TimeoutError), TimeLimit(limits, seconds):
        await what
    return task.cancelling()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 5.0, 60.0, 86400.0])
def test_a_block_ends_after_its_time(seconds: float) -> None:
    """A slower block ends with a TimeoutError, and the task continues undisturbed."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        assert 0 == await cancelling(limits, seconds, for_ever())
        assert pytest.approx(seconds) == loop.time()
        await asyncio.sleep(100)

    run(test)


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    """Nothing follows it, neither an error nor a late cancellation."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        with TimeLimit(limits, 5):
            await asyncio.sleep(4)
        await asyncio.sleep(100)
        assert 104 == loop.time()

    run(test)


def test_an_error_of_the_block_is_its_own() -> None:
    """An exception of the block is raised, even after its time."""

    async def fails_late() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise LookupError from None

    async def test(_loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        with pytest.raises(KeyError), TimeLimit(limits, 5):
            raise KeyError
        with pytest.raises(LookupError), TimeLimit(limits, 5):
            await fails_late()
        task = asyncio.current_task()
        assert task is not None
        assert 0 == task.cancelling()

    run(test)


def test_a_cancellation_from_outside_stays_one() -> None:
    """A cancellation from outside cancels the task, without a TimeoutError."""

    async def block(limits: TimeLimits) -> None:
        with TimeLimit(limits, 5):
            await for_ever()

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        task = asyncio.ensure_future(block(limits))
        loop.call_later(3, task.cancel)
        await asyncio.wait([task])
        assert (True, 3) == (task.cancelled(), loop.time())

    run(test)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_cancellation_and_the_limit_at_once_are_a_cancellation(is_first: bool) -> None:
    """A cancellation from outside does not wait for the time limit."""

    async def block(limits: TimeLimits, begun: asyncio.Event) -> None:
        with TimeLimit(limits, 5):
            begun.set()
            await for_ever()

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        begun = asyncio.Event()
        task = asyncio.ensure_future(block(limits, begun))
        if is_first:
            loop.call_at(5, task.cancel)
        await begun.wait()
        if not is_first:
            loop.call_at(5, task.cancel)
        await asyncio.wait([task])
        assert (True, 5) == (task.cancelled(), loop.time())

    run(test)


@pytest.mark.parametrize(
    ("expected", "outer", "inner"),
    [(["inner", 3], 5, 3), (["outer", 3], 3, 5), (["outer", 4], 4, 4)],
)
def test_of_nested_blocks_the_one_whose_time_is_over_ends(
    expected: list[object], outer: float, inner: float
) -> None:
    """Each TimeoutError leaves the block of its limit."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> list[object]:
        ended = ""
        try:
            with TimeLimit(limits, outer):
                try:
                    with TimeLimit(limits, inner):
                        await for_ever()
                except TimeoutError:
                    ended = "inner"
        except TimeoutError:
            ended = "outer"
        task = asyncio.current_task()
        assert task is not None
        assert 0 == task.cancelling()
        return [ended, loop.time()]

    assert expected == run(test)


def test_a_task_that_is_being_cancelled_has_time_limits_too() -> None:
    """Cleaning up after a cancellation can have its own limit."""

    async def block(limits: TimeLimits) -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            try:
                with TimeLimit(limits, 2):
                    await for_ever()
            except TimeoutError:
                return "in time"
        return ""

    async def test(_loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        task = asyncio.ensure_future(block(limits))
        await asyncio.sleep(1)
        task.cancel()
        assert "in time" == await task

    run(test)


def test_a_block_that_takes_time_to_end_is_struck_once() -> None:
    """A block that runs after its time is not disturbed by the limits of other blocks."""

    async def slow_to_end(notes: list[str]) -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(5)
            notes.append("ended")

    async def test(_loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        notes: list[str] = []
        slow = asyncio.ensure_future(cancelling(limits, 1, slow_to_end(notes)))
        others = [cancelling(limits, seconds, for_ever()) for seconds in (2, 3)]
        assert [0, 0] == await asyncio.gather(*others)
        await asyncio.wait([slow])
        assert (["ended"], False) == (notes, slow.cancelled())

    run(test)


@given(st.lists(st.integers(0, 50), max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=repeats(60))
def test_each_limit_fires_at_its_own_time(ends: list[int], chance: random.Random) -> None:
    """Any number of blocks, begun and ended in any order, have their own limits."""
    plan = [(end * chance.random() / 2, end, end > 0 and chance.random() < 0.3) for end in ends]

    async def block(
        loop: VirtualTimeLoop, limits: TimeLimits, begin: float, end: int, ends_early: bool
    ) -> float:
        await asyncio.sleep(begin)
        try:
            with TimeLimit(limits, end - begin):
                await (asyncio.sleep((end - begin) / 2) if ends_early else for_ever())
        except TimeoutError:
            assert not ends_early
            return loop.time()
        return float(end)

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> list[float]:
        return await asyncio.gather(*(block(loop, limits, *each) for each in plan))

    assert ends == pytest.approx(run(test))


def test_blocks_share_one_timer() -> None:
    """A thousand blocks that end in time create one timer of the loop in each span of the limit."""

    async def block(limits: TimeLimits) -> None:
        with TimeLimit(limits, 60):
            await asyncio.sleep(0)

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> int:
        for _ in range(50):
            await asyncio.gather(*(block(limits) for _ in range(20)))
        return len(loop.timers)

    assert 1 == run(test)


def test_blocks_one_after_another_ask_for_a_timer_now_and_then() -> None:
    """In ten minutes of blocks of a second each there is a timer about once a minute."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> int:
        for _ in range(600):
            with TimeLimit(limits, 60):
                await asyncio.sleep(1)
        return len(loop.timers) - 600

    assert 8 <= run(test) <= 12


def test_closing_gives_the_timer_back() -> None:
    """Closed limits leave nothing in the loop; closing again does no harm."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> list[bool]:
        limits.close()
        with TimeLimit(limits, 60):
            await asyncio.sleep(0)
        limits.close()
        limits.close()
        return [timer.cancelled() for timer in loop.timers]

    assert [True] == run(test)


def test_closed_limits_can_be_used_again() -> None:
    """A block after closing has its limit."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        with TimeLimit(limits, 60):
            pass
        limits.close()
        assert 0 == await cancelling(limits, 5, for_ever())
        assert 5 == loop.time()

    run(test)


def test_closing_takes_no_limit_from_a_block_under_way() -> None:
    """A request that runs while its client is closed still ends in time."""

    async def test(loop: VirtualTimeLoop, limits: TimeLimits) -> None:
        under_way = asyncio.ensure_future(cancelling(limits, 5, for_ever()))
        await asyncio.sleep(1)
        limits.close()
        await asyncio.wait([under_way], timeout=10)
        assert (True, 5) == (under_way.done(), loop.time())

    run(test)
