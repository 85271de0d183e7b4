"""One timer for all that is under way, instead of one for each: a query costs less than its timeout would."""

import asyncio
from types import TracebackType
from typing import Self


class TimeLimits:
    """The time limits of one loop.

    >>> async def hang(limits):
    ...     with TimeLimit(limits, 0.001):
    ...         await asyncio.Event().wait()
    >>> asyncio.run(hang(TimeLimits()))
    Traceback (most recent call last):
        ...
    TimeoutError
    """

    def __init__(self) -> None:
        self.running: set[TimeLimit] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.strikes_at = float("inf")

    def close(self) -> None:
        """Give the timer back; blocks under way keep theirs."""
        if not self.running:
            self._unset()

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.strikes_at = float("inf")

    def strike_at(self, when: float) -> None:
        """Look after the blocks at that time of the loop."""
        self._unset()
        self.strikes_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._strike)

    def _strike(self) -> None:
        self._unset()
        now = asyncio.get_running_loop().time()
        for limit in [limit for limit in self.running if limit.ends <= now and not limit.has_expired]:
            limit.expire()
        if left := [limit.ends for limit in self.running if not limit.has_expired]:
            self.strike_at(min(left))


class TimeLimit:
    """A block that may take so many seconds.

    As `asyncio.timeout`, it tells its own cancellation from others'.
    """

    __slots__ = ("_asked_before", "_limits", "_seconds", "_task", "ends", "has_expired")

    def __init__(self, limits: TimeLimits, seconds: float) -> None:
        self._limits = limits
        self._seconds = seconds

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that is awaited runs in a task
        self._task = task
        self._asked_before = task.cancelling()
        self.has_expired = False
        self.ends = ends = asyncio.get_running_loop().time() + self._seconds
        limits = self._limits
        limits.running.add(self)
        # The timer of another block does for this one, as long as it comes before this one ends.
        if ends < limits.strikes_at:
            limits.strike_at(ends)
        return self

    def expire(self) -> None:
        """End the block."""
        self.has_expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.running.discard(self)
        if not self.has_expired or self._task.uncancel() > self._asked_before:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
