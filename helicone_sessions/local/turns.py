"""How many requests are worked on at once, and how many may wait for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


def whole_number(name: str, value: Any, *, least: int) -> None:
    """Check an argument.

    Raises:
        ConfigurationError: It is no whole number, or a smaller one than *least*.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is a whole number from {least} up, not {value!r}")
