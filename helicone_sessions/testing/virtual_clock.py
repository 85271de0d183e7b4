"""A virtual clock, with which waits take no real time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Notifier:
    """Wakes tasks that wait for a predicate.

    It is like `asyncio.Condition`, but works across event loops and threads.
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait_for(self, predicate: Callable[[], bool]) -> None:
        """Wait until the predicate is true.

        The predicate is checked after each notification.
        """
        while True:
            notified: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Register before the check; otherwise a notification from another thread could be missed in
            # between.
            self._waiting.add(notified)
            try:
                if predicate():
                    return
                await notified
            finally:
                self._waiting.discard(notified)

    def notify_all(self) -> None:
        """Make all waiting tasks check their predicates."""
        for notified in tuple(self._waiting):
            # If a loop is closed, none of its tasks are waiting.
            with suppress(RuntimeError):
                notified.get_loop().call_soon_threadsafe(_settle, notified)


def _settle(notified: "asyncio.Future[None]") -> None:
    if not notified.done():
        notified.set_result(None)


class VirtualClock:
    """A clock with which waits take no real time.

    `sleep` moves the time forward and returns after yielding to the event loop once. After `stop`, only
    `advance` moves the time, and each sleeper wakes when its sleep is over on this clock. For retries and the
    rate limit, a client uses the clock that is current when the client is created. To install a virtual
    clock, use ``helicone_sessions.clock.replaced`` or the ``helicone_server`` fixture.

    Args:
        time: The initial time, in seconds.

    >>> clock = VirtualClock()
    >>> asyncio.run(clock.sleep(30))
    >>> clock.now(), clock.slept
    (1030.0, [30])
    """

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time
        self.slept: list[float] = []
        self._is_stopped = False
        self._moved = Notifier()

    def __repr__(self) -> str:
        return f"VirtualClock({self.time})"

    def now(self) -> float:
        """The current time in seconds.

        >>> VirtualClock(time=0.0).now()
        0.0
        """
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds, and append the number to ``slept``.

        Args:
            seconds: The number of seconds, at least 0.
        """
        self.slept.append(seconds)
        until = self.time + seconds
        await asyncio.sleep(0)
        await self._moved.wait_for(lambda: not self._is_stopped or self.time >= until)
        self.time = max(self.time, until)

    def advance(self, seconds: float) -> None:
        """Move the time forward.

        Args:
            seconds: The number of seconds, at least 0.

        Raises:
            ValueError: The number is negative.

        >>> clock = VirtualClock()
        >>> clock.advance(60)
        >>> clock.now()
        1060.0
        """
        if not seconds >= 0:
            raise ValueError(f"seconds must be at least 0, got {seconds}. Time does not go back")
        self.time += seconds
        self._moved.notify_all()

    def stop(self) -> None:
        """Stop the clock, so that only `advance` moves the time.

        >>> clock = VirtualClock()
        >>> clock.stop()
        >>> async def main():
        ...     asleep = asyncio.create_task(clock.sleep(30))
        ...     await asyncio.sleep(0)
        ...     clock.advance(30)
        ...     await asleep
        >>> asyncio.run(main())
        >>> clock.now()
        1030.0
        """
        self._is_stopped = True

    def go_on(self) -> None:
        """Restart the clock and wake all sleepers.

        >>> clock = VirtualClock()
        >>> clock.stop()
        >>> clock.go_on()
        >>> asyncio.run(clock.sleep(30))
        >>> clock.now()
        1030.0
        """
        self._is_stopped = False
        self._moved.notify_all()
