"""The time that waits are measured in; tests put another in its place."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """Seconds that never go back, and a way to let them pass.

    Whatever has these two methods is one.

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
        """The present second; where the count starts means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so many of these seconds.

        Args:
            seconds: From 0 up.
        """
        ...


class SystemClock:
    """The time of this machine.

    >>> clock = SystemClock()
    >>> clock.now() <= clock.now()
    True
    """

    now = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds.

        Args:
            seconds: From 0 up.
        """
        await asyncio.sleep(seconds)


_current: list[Clock] = [SystemClock()]


def current() -> Clock:
    """The clock for what is made now.

    >>> type(current()).__name__
    'SystemClock'
    """
    return _current[-1]


@contextmanager
def replaced(clock: Clock) -> Iterator[None]:
    """Give *clock* to all that is made inside the block, in every thread.

    Args:
        clock: The clock in the place of the current one.

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
