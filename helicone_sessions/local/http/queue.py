"""How many requests are worked on at once, and how many may wait for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from helicone_sessions.errors import ConfigurationError


class Full(Exception):
    """As many wait as may."""


class Turns:
    """A queue with a bound.

    Args:
        running: How many run at once.
        waiting: How many wait beside them.

    Raises:
        ConfigurationError: Fewer than one may run, or fewer than none wait.
    """

    def __init__(self, running: int, waiting: int) -> None:
        whole_number("max_concurrency", running, least=1)
        whole_number("max_queued", waiting, least=0)
        self.turn = asyncio.Semaphore(running)
        self._room = running + waiting

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue; who has one gets its ``turn`` in the order of arrival.

        Raises:
            Full: There is none.
        """
        if not self._room:
            raise Full
        self._room -= 1
        try:
            yield
        finally:
            self._room += 1


class Large:
    """One of the few places for what is large: taken at most once, and held until the block ends.

    Args:
        places: The places.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self.is_taken = False

    async def take(self) -> None:
        """Wait for a place, unless there is one already."""
        if not self.is_taken:
            await self._places.acquire()
            self.is_taken = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_taken:
            self.is_taken = False
            self._places.release()


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> None:
    """Check an argument.

    Raises:
        ConfigurationError: It is no whole number, or one out of these bounds.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        end = "up" if most is None else f"to {most}"
        raise ConfigurationError(f"{name} is a whole number from {least} {end}, not {value!r}")
