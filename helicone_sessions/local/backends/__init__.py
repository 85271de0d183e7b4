"""Where a statement runs: one protocol for every ClickHouse."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import attrs


class BackendError(Exception):
    """ClickHouse refused a statement or gave up on it; the text is its own."""


@attrs.frozen
class Statement:
    """SQL text with ``{name:Type}`` in the place of values, and the values as ClickHouse reads them."""

    text: str
    parameters: Mapping[str, str | int | float] = attrs.field(factory=dict)


class Backend(Protocol):
    """A ClickHouse that can be asked."""

    async def query(self, statement: Statement) -> list[list[Any]]:
        """The rows that *statement* selects.

        Raises:
            BackendError: ClickHouse refused or gave up.
        """
        ...

    async def execute(self, text: str) -> None:
        """Run a statement of the engine's own that answers nothing."""
        ...

    async def insert(self, table: str, batches: Iterator[bytes]) -> None:
        """Insert lines of JSON, a batch at a time; what *batches* raises ends the insert."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...
