"""The time that waits are measured in; tests put another in its place."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """Seconds that never go back, and a way to let them pass."""

    def now(self) -> float:
        """The present second; where the count starts means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so many of these seconds."""
        ...


class SystemClock:
    """The time of this machine."""

    now = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(seconds)


_current: list[Clock] = [SystemClock()]


def current() -> Clock:
    """The clock for what is made now."""
    return _current[-1]


@contextmanager
def replaced(clock: Clock) -> Iterator[None]:
    """Give *clock* to all that is made inside the block, in every thread."""
    _current.append(clock)
    try:
        yield
    finally:
        _current.remove(clock)
