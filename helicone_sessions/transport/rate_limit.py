"""The gate before the service: while its limit is spent, nobody sends."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import attrs

# What a client believes of a header at most: a window of the service is a minute long.
_LONGEST_RESET = 120.0


@attrs.define
class Gate:
    """Holds back every query of a client while the service's window is spent.

    It learns from the headers ``RateLimit-Remaining`` and ``RateLimit-Reset`` of each answer, and from the
    wait that a refusal asks for.

    Args:
        now: Seconds of a clock that never goes back.
        sleep: Waits so many of these seconds.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    _opens_at: float = attrs.field(default=float("-inf"), init=False)

    async def passed(self) -> None:
        """Wait until the gate is open."""
        while (seconds := self._opens_at - self.now()) > 0:
            await self.sleep(seconds)

    def close(self, seconds: float) -> None:
        """Let nobody pass for so many seconds, or longer if it was closed for longer."""
        self._opens_at = max(self._opens_at, self.now() + seconds)

    def learn_refusal(self, asked: float | None, wait: float | None) -> None:
        """Close for as long as a refusal *asked*, or for the longer *wait* of whoever asks again."""
        if asked is not None and asked <= _LONGEST_RESET:
            self.close(asked if wait is None else wait)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Read the limit off an answer, if it says one."""
        try:
            remaining = float(headers["RateLimit-Remaining"])
            reset = float(headers["RateLimit-Reset"])
        except (KeyError, ValueError):
            return
        if remaining <= 0 < reset <= _LONGEST_RESET:
            self.close(reset)
