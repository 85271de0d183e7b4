"""How many requests run at once, how many may wait, and how many large bodies are held."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class QueueFull(Exception):
    """The request queue has no free place."""


class RequestQueue:
    """A bounded queue in front of a semaphore.

    Args:
        running: How many requests run at once.
        waiting: How many may wait beside them.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self.running = asyncio.Semaphore(running)
        self._free = running + waiting

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue, to wait for ``running``.

        Raises:
            QueueFull: There is none.
        """
        if not self._free:
            raise QueueFull
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class LargeBodySlot:
    """One of the few slots for large bodies: taken at most once, and held until the block ends."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self.is_taken = False

    async def take(self) -> None:
        """Wait for a slot, unless one is taken already."""
        if not self.is_taken:
            await self._slots.acquire()
            self.is_taken = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_taken:
            self.is_taken = False
            self._slots.release()
