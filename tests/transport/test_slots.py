"""The slots that bound the number of queries in progress."""

import asyncio

import pytest

from helicone_sessions.transport.attempt import Slots


async def in_line(slots: Slots, count: int) -> list["asyncio.Task[None]"]:
    """Tasks that wait for a slot, in this number."""
    tasks = [asyncio.ensure_future(slots.take()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("count", [1, 3])
async def test_there_are_no_more_slots_than_given(count: int) -> None:
    """When all slots are taken, one is free only after a release."""
    slots = Slots(count)

    assert [*[True] * count, False] == [slots.try_take() for _ in range(count + 1)]
    slots.release()
    assert [True, False] == [slots.try_take() for _ in range(2)]


async def test_a_released_slot_goes_to_the_first_in_line() -> None:
    """Tasks get slots in the order of their arrival, and none can jump the queue."""
    slots = Slots(0)
    first, second = await in_line(slots, 2)

    slots.release()
    assert not slots.try_take()
    await first
    assert not second.done()
    slots.release()
    await second


async def test_a_task_that_is_cancelled_in_line_takes_no_slot() -> None:
    """The slot goes to the next in line."""
    slots = Slots(0)
    first, second = await in_line(slots, 2)

    first.cancel()
    await asyncio.wait([first])
    slots.release()
    await second


async def test_a_task_that_is_cancelled_with_a_slot_hands_it_on() -> None:
    """A slot is not lost if its task is cancelled before it runs again."""
    slots = Slots(0)
    first, second = await in_line(slots, 2)

    slots.release()
    first.cancel()
    await second
    assert first.cancelled()
    assert not slots.try_take()
