"""`VirtualClock`: seconds that pass without anybody waiting for them."""

import asyncio

from helicone_sessions.testing.bell import Bell


class VirtualClock:
    """A clock on which waiting takes no time.

    Who sleeps on it gives way to the loop once, and finds the time gone. A clock that was stopped moves by
    `advance` alone, and its sleepers sleep on until their time has come. A client takes the waits of its
    retries and of the rate limit from the clock that is current when it is made; put this one in place with
    ``helicone_sessions.clock.replaced``, or use the fixture ``helicone_server``, which does.

    Args:
        time: The second at which it starts.

    >>> clock = VirtualClock()
    >>> asyncio.run(clock.sleep(30))
    >>> clock.now(), clock.slept
    (1030.0, [30])
    """

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time
        self.slept: list[float] = []
        self._is_stopped = False
        self._bell = Bell()

    def __repr__(self) -> str:
        return f"VirtualClock({self.time})"

    def now(self) -> float:
        """The present second.

        >>> VirtualClock(time=0.0).now()
        0.0
        """
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass, and note them in ``slept``.

        Args:
            seconds: From 0 up.
        """
        self.slept.append(seconds)
        until = self.time + seconds
        await asyncio.sleep(0)
        await self._bell.until(lambda: not self._is_stopped or self.time >= until)
        self.time = max(self.time, until)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass at once, as a test does for the code that it watches.

        Args:
            seconds: From 0 up.

        Raises:
            ValueError: The time would go back.

        >>> clock = VirtualClock()
        >>> clock.advance(60)
        >>> clock.now()
        1060.0
        """
        if not seconds >= 0:
            raise ValueError(f"time goes on, not back: advance() takes seconds from 0 up, not {seconds}")
        self.time += seconds
        self._bell.ring()

    def stop(self) -> None:
        """From now on only `advance` moves the time.

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
        """Let sleepers find their time gone again, those who sleep already among them.

        >>> clock = VirtualClock()
        >>> clock.stop()
        >>> clock.go_on()
        >>> asyncio.run(clock.sleep(30))
        >>> clock.now()
        1030.0
        """
        self._is_stopped = False
        self._bell.ring()
