"""The end of a command by a signal."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from helicone_sessions.clock import current

# A shell adds this to the number of the signal that ended a command.
SIGNALLED: Final = 128
# `timeout` and others that signal a process and its group send the same signal twice.
_SECONDS_OF_ONE_SIGNAL: Final = 0.5


@contextmanager
def signals(tell: Callable[[int], object]) -> Iterator[None]:
    """Inside the block the first SIGINT or SIGTERM calls a function; a later one does what it did before.

    Args:
        tell: The function, called in the loop with the number of the signal.
    """
    before: dict[int, Any] = {}
    loop = asyncio.get_running_loop()
    clock = current()
    first: list[float] = []

    def taken(number: int, _frame: object) -> None:
        if not first:
            first.append(clock.now())
            loop.call_soon_threadsafe(tell, number)
        elif clock.now() - first[0] >= _SECONDS_OF_ONE_SIGNAL:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, taken)
    try:
        yield
    finally:
        restore()
