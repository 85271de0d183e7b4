"""The clock for measuring time and sleeping. Tests can replace it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can also sleep.

    Any object with these two methods can be used as a clock.

    >>> class Counted:
    ...     seconds = 0.0
    ...     def now(self):
    ...         return self.seconds
    ...     async def sleep(self, seconds):
    ...         self.seconds += seconds
    >>> clock: Clock = Counted()
    >>> asyncio.run(clock.sleep(30))
    >>> clock.now()
    30.0
    """

    def now(self) -> float:
        """Return the current time in seconds. Only differences between readings are meaningful."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for the given number of seconds.

        Args:
            seconds: The duration, 0 or more.
        """
        ...


class SystemClock:
    """The monotonic clock of the operating system.

    >>> clock = SystemClock()
    >>> clock.now() <= clock.now()
    True
    """

    now = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Sleep for the given number of seconds.

        Args:
            seconds: The duration, 0 or more.
        """
        await asyncio.sleep(seconds)


_current: list[Clock] = [SystemClock()]


def current() -> Clock:
    """The current clock, which new objects use.

    >>> type(current()).__name__
    'SystemClock'
    """
    return _current[-1]


@contextmanager
def replaced(clock: Clock) -> Iterator[None]:
    """Use *clock* for all objects that are created inside the block, in every thread.

    Args:
        clock: The clock to use instead of the current one.

    >>> from helicone_sessions.testing import VirtualClock
    >>> with replaced(VirtualClock()):
    ...     current()
    VirtualClock(1000.0)
    """
    _current.append(clock)
    try:
        yield
    finally:
        _current.remove(clock)
