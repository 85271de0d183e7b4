"""A bell that wakes tasks of any loop, rung from any thread."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Bell:
    """What tasks wait at for a condition; who changes something that it depends on rings."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is looked at after each ring."""
        while True:
            rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Listen before looking: a ring from another thread in between would be missed.
            self._waiting.add(rung)
            try:
                if condition():
                    return
                await rung
            finally:
                self._waiting.discard(rung)

    def ring(self) -> None:
        """Have those who wait look at their conditions."""
        for rung in tuple(self._waiting):
            # A loop that was closed in the meantime has nobody waiting.
            with suppress(RuntimeError):
                rung.get_loop().call_soon_threadsafe(_settle, rung)


def _settle(rung: "asyncio.Future[None]") -> None:
    if not rung.done():
        rung.set_result(None)
