"""Issues warnings about filters that the service reads differently, once per line of the caller's code."""

import asyncio
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

import attrs

from helicone_sessions.errors import ConfigurationError, FilterValueError, HeliconeFilterWarning
from helicone_sessions.filters.cautions import IN_DATA, Caution, DataGaps, data_cautions, time_cautions
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.schema import SERVER_BODY_DAYS
from helicone_sessions.filters.whole_sessions import Grouping, grouping_cautions
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.query import TimeFilter

Cautions = Literal["warn", "error", "ignore"]
Function = TypeVar("Function", bound=Callable[..., Any])
_INSIDE: Final = (__name__.partition(".")[0], "asyncio", "uvloop")


@attrs.frozen
class Place:
    """A line of the caller's code."""

    filename: str
    line: int
    globals: dict[str, Any] = attrs.field(repr=False, eq=False)


def callers_place() -> Place:
    """Find the innermost line of the call stack outside this package and asyncio."""
    frame = sys._getframe(1)  # noqa: SLF001 - the only way to find the caller; warnings does the same
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)


def marked_as_coroutine_function(function: Function) -> Function:
    """Mark *function*, which returns a coroutine, as a coroutine function for `unittest.mock`."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    # The equivalent of markcoroutinefunction() on 3.11.
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined] # noqa: SLF001
    return function


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FilterWarnings:
    """Reports the cautions of queries according to the client's option ``cautions=``.

    Args:
        mode: ``"warn"`` issues warnings, ``"error"`` rejects queries that the server would read differently,
            and ``"ignore"`` does neither.
        now: Returns the current time as an aware datetime.
    """

    def __init__(self, mode: Cautions, *, now: Callable[[], datetime] = _utc_now) -> None:
        if mode not in ("warn", "error", "ignore"):
            raise ConfigurationError(
                argument="cautions",
                problem=f"must be 'warn', 'error' or 'ignore', got {masked_repr(mode)}",
            )
        self._mode = mode
        self._now = now
        self._said: set[tuple[object, ...]] = set()

    def of(
        self,
        condition: Filter | None,
        time_filter: TimeFilter | None,
        *,
        follows_contract: bool,
        grouping: Grouping | None = None,
    ) -> tuple[Caution, ...]:
        """Return the cautions of a query.

        Args:
            condition: The filter of the query.
            time_filter: The time filter of the query.
            grouping: Whether the query lists or counts sessions; None for any other query.
            follows_contract: Whether the server has announced that it reads filters as the contract does.

        Raises:
            FilterValueError: The mode is ``"error"``, and there are cautions.
        """
        if self._mode == "ignore" or (self._mode == "warn" and follows_contract):
            return ()
        found: tuple[Caution, ...] = ()
        if condition is not None:
            found = condition.cautions() if grouping is None else grouping_cautions(condition, grouping)
        if time_filter is not None:
            found = self._with_time(found, time_filter)
        if self._mode == "error":
            _refuse([caution for caution in found if caution.effect not in IN_DATA])
            return ()
        return found

    def of_data(self, condition: Filter | None, gaps: DataGaps) -> tuple[Caution, ...]:
        """Return the cautions of a filter on a server that reads it as the contract does.

        Args:
            condition: The filter.
            gaps: The data gaps that the server has announced.
        """
        if self._mode != "warn" or condition is None or not gaps:
            return ()
        return data_cautions(condition.node, gaps)

    def _with_time(self, found: tuple[Caution, ...], time: TimeFilter) -> tuple[Caution, ...]:
        if found and self._now() - time.start <= timedelta(days=SERVER_BODY_DAYS, hours=1):
            found = tuple(caution for caution in found if caution.effect != "age")
        return found + time_cautions(time.start, time.end)

    def warn(self, message: str, place: Place) -> None:
        """Issue a warning about a result."""
        if self._mode != "ignore":
            _warn(message, place)

    def say(self, found: tuple[Caution, ...], place: Place) -> None:
        """Issue a warning for each caution, but only once per line of the caller's code."""
        for caution in found:
            what = (place, caution.effect, caution.column)
            if what not in self._said:
                _warn(caution, place)
                self._said.add(what)


def _refuse(misread: Sequence[Caution]) -> None:
    if misread:
        raise FilterValueError(
            "the open-source server would read this query differently, and cautions='error':"
            + "".join(f"\n  {caution}" for caution in misread)
        )


def _warn(message: str | Caution, place: Place) -> None:
    warnings.warn_explicit(
        HeliconeFilterWarning(message),
        category=HeliconeFilterWarning,
        filename=place.filename,
        lineno=place.line,
        module=place.globals.get("__name__", "<unknown>"),
        registry=place.globals.setdefault("__warningregistry__", {}),
    )
