"""The interfaces of the ClickHouse drivers, and the types of their arguments and results."""

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.masking import masked_repr

# The first five settings raise limits that would otherwise restrict the number of conditions in a filter. The
# other two switch off optimisations that compare every pair of conditions: with ten thousand conditions, they
# would take minutes and gigabytes.
LARGE_FILTER_SETTINGS: Final[Mapping[str, float]] = {
    "max_query_size": 64 * 1024 * 1024,
    "max_ast_elements": 2_000_000,
    "max_expanded_ast_elements": 2_000_000,
    "max_parser_depth": 10_000,
    "max_ast_depth": 10_000,
    "optimize_or_like_chain": 0,
    "query_plan_merge_filters": 0,
}
_LIMIT_SETTINGS: Final[Mapping[str, str]] = {
    "seconds": "max_execution_time",
    "memory": "max_memory_usage",
    "rows": "max_rows_to_read",
    "threads": "max_threads",
}
LIMIT_SETTING_NAMES: Final = tuple(_LIMIT_SETTINGS.values())


class DriverError(Exception):
    """ClickHouse rejected a statement or did not finish it.

    Args:
        problem: A description of the problem, usually ClickHouse's message.
        code: ClickHouse's error code, if it is known.
        remedy: The suggested remedy, without the final period.
    """

    def __init__(self, problem: str, code: int | None = None, remedy: str | None = None) -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.problem = problem
        self.code = code
        self.remedy = remedy


@attrs.frozen
class Statement:
    """SQL text with ``{name:Type}`` placeholders, and the escaped values of the placeholders."""

    text: str
    parameters: Mapping[str, str | int | float] = attrs.field(factory=dict)


def _check_limit(_limits: "Limits", field: "attrs.Attribute[Any]", value: Any) -> None:
    is_fractional = field.name == "seconds"
    is_number = isinstance(value, (int, float) if is_fractional else int) and not isinstance(value, bool)
    # In ClickHouse, 0 means "unlimited".
    if value is not None and not (is_number and 0 < value < math.inf):
        raise ConfigurationError(
            argument=f"limits.{field.name}",
            problem=f"must be a {'' if is_fractional else 'whole '}number above 0, got {masked_repr(value)}",
            remedy="Pass None for no limit",
        )


@attrs.frozen
class Limits:
    """The limits of one statement. None means unlimited.

    Args:
        seconds: The maximum execution time in seconds (``max_execution_time``).
        memory: The maximum memory in bytes (``max_memory_usage``).
        rows: The maximum number of rows read (``max_rows_to_read``).
        threads: The maximum number of threads (``max_threads``).

    Raises:
        ConfigurationError: A limit is not a number above 0.

    >>> Limits(seconds=5, memory=2 * 1024**3)
    Limits(seconds=5, memory=2147483648, rows=None, threads=None)
    >>> Limits(memory="2 GB")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.ConfigurationError: limits.memory must be a whole number above 0, got '2 GB'...
    """

    seconds: float | None = attrs.field(default=60.0, validator=_check_limit)
    memory: int | None = attrs.field(default=None, validator=_check_limit)
    rows: int | None = attrs.field(default=None, validator=_check_limit)
    threads: int | None = attrs.field(default=None, validator=_check_limit)


def limit_settings(limits: Limits) -> dict[str, float]:
    """Convert *limits* to ClickHouse settings. A limit that is None is left out."""
    values = {setting: getattr(limits, name) for name, setting in _LIMIT_SETTINGS.items()}
    return {setting: value for setting, value in values.items() if value is not None}


@attrs.frozen
class Result:
    """The result of a statement.

    Args:
        rows: The selected rows.
        rows_read: The number of table rows that ClickHouse read.
    """

    rows: list[list[Any]]
    rows_read: int = 0


class Driver(Protocol):
    """A connection to ClickHouse."""

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: ClickHouse cannot be used. The message explains why, and what to do.
        """
        ...

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        """Run *statement* with *limits*. By default, the limits of the driver apply.

        Raises:
            DriverError: ClickHouse rejected the statement or did not finish it.
        """
        ...

    async def aclose(self) -> None:
        """Stop running queries and close all connections."""
        ...


class WritableDriver(Driver, Protocol):
    """A connection to ClickHouse tables that belong to this package."""

    async def execute(self, text: str) -> None:
        """Run a statement that has no result."""
        ...

    async def insert_select(self, text: str) -> int:
        """Run an ``INSERT … SELECT``, which may read local files, and return the number of rows inserted.

        Raises:
            DriverError: The rows cannot be read. No row was inserted.
        """
        ...

    async def insert(self, table: str, batch: bytes) -> None:
        """Insert either all rows of a JSON Lines batch or none. The rows are durable when this returns.

        Raises:
            DriverError: A line cannot be read. No row was inserted.
        """
        ...


UNLIMITED: Final = Limits(seconds=None)
"""No limits, for the engine's internal statements."""


async def rows_of(driver: Driver, text: str, **parameters: str) -> list[list[Any]]:
    """Run an internal statement without limits, and return its rows.

    Raises:
        DriverError: ClickHouse rejected the statement.
    """
    return (await driver.query(Statement(text, parameters), UNLIMITED)).rows
