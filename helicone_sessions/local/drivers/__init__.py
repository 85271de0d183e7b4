"""Where a statement runs: one protocol for every ClickHouse."""

from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from helicone_sessions.errors import ConfigurationError


class BackendError(Exception):
    """ClickHouse refused a statement or gave up on it; the text is its own.

    Args:
        message: What ClickHouse says.
        code: Its number of the error, if it named one.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


@attrs.frozen
class Statement:
    """SQL text with ``{name:Type}`` in the place of values, and the values as ClickHouse reads them."""

    text: str
    parameters: Mapping[str, str | int | float] = attrs.field(factory=dict)


def _is_number(_limits: "Limits", field: "attrs.Attribute[Any]", value: Any) -> None:
    kinds, due = ((int, float), "a number") if field.name == "seconds" else ((int,), "a whole number")
    if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
        raise ConfigurationError(f"the limit of {field.name} is {due} or None, not {value!r}")


@attrs.frozen
class Limits:
    """What one statement may take; None is without a limit.

    Args:
        seconds: How long it may run (``max_execution_time``).
        memory: Bytes (``max_memory_usage``).
        rows: Rows that it may read (``max_rows_to_read``).
        threads: Threads that it may run on (``max_threads``).

    Raises:
        ConfigurationError: One is no number, or no whole one where only those are.

    >>> Limits(seconds=5, memory=2 * 1024**3)
    Limits(seconds=5, memory=2147483648, rows=None, threads=None)
    >>> Limits(memory="2 GB")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.ConfigurationError: the limit of memory is a whole number or None, not '2 GB'
    """

    seconds: float | None = attrs.field(default=60.0, validator=_is_number)
    memory: int | None = attrs.field(default=None, validator=_is_number)
    rows: int | None = attrs.field(default=None, validator=_is_number)
    threads: int | None = attrs.field(default=None, validator=_is_number)


@attrs.frozen
class Result:
    """What a statement selects.

    Args:
        rows: Its rows.
        rows_read: How many rows of tables were read for them.
    """

    rows: list[list[Any]]
    rows_read: int = 0


class Backend(Protocol):
    """A ClickHouse that can be asked."""

    async def open(self) -> None:
        """Get ready.

        Raises:
            ConfigurationError: It cannot be used; the message says why, and what to do.
        """
        ...

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        """What *statement* selects.

        Args:
            statement: The statement.
            limits: What it may take, if not what the backend was made with.

        Raises:
            BackendError: ClickHouse refused or gave up.
        """
        ...

    async def aclose(self) -> None:
        """Let go of all connections; queries under way are ended."""
        ...


class WritableBackend(Backend, Protocol):
    """A ClickHouse of one's own."""

    async def execute(self, text: str) -> None:
        """Run a statement of the engine's own that answers nothing."""
        ...

    async def insert(self, table: str, batch: bytes) -> None:
        """Insert lines of JSON, all or none; once it returns they are kept.

        Raises:
            BackendError: A line cannot be read.
        """
        ...
