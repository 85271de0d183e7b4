"""What may be given to a `HeliconeClient`, checked where it is given."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from helicone_sessions.errors import ConfigurationError, FilterTypeError
from helicone_sessions.filters.constants import shortened
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.transport.batch import Query
from helicone_sessions.transport.hooks import Hooks
from helicone_sessions.transport.rate_gate import Limit
from helicone_sessions.transport.rate_limit import RateLimit

_CALLS: Final = ("query_begins", "attempt_begins", "attempt_ends", "waits", "query_ends")


def seconds(value: object, name: str) -> float:
    """A time above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{name} is seconds above zero, not {value!r}")
    return float(value)


def deadline(value: object) -> float | None:
    """A time above zero, or none."""
    return None if value is None else seconds(value, "deadline")


def count(value: object, name: str, *, least: int) -> int:
    """A whole number from *least* up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is a whole number from {least} up, not {value!r}")
    return value


def limit(value: Any) -> Limit | None:
    """A `RateLimit`, or a context manager that can be entered again and again."""
    if hasattr(value, "gen"):
        raise ConfigurationError(
            argument="rate_limit",
            problem="must be a context manager that can be entered for each attempt; one made by"
            " @asynccontextmanager can be entered only once",
            remedy="Pass an object with __aenter__ and __aexit__",
        )
    if value is None or isinstance(value, RateLimit) or hasattr(value, "__aenter__"):
        return value  # type: ignore[no-any-return]
    raise ConfigurationError(
        argument="rate_limit",
        problem=f"must be a RateLimit or an async context manager, got {shortened(value)}",
        remedy="Pass RateLimit(requests=1000, per=300), for example",
    )


def query(given: Query | None, keywords: Mapping[str, Any]) -> SessionMetricsQuery:
    """A whole query, or the one of a filter and keywords, but not a whole one with keywords beside it."""
    if not isinstance(given, SessionMetricsQuery):
        return SessionMetricsQuery(given, **keywords)
    plain = {field.name: field.default for field in attrs.fields(SessionMetricsQuery)}
    if beside := [name for name, value in keywords.items() if value is not plain[name]]:
        raise FilterTypeError(
            f"get_metrics() got a whole query and {', '.join(beside)} beside it:"
            " use attrs.evolve(query, ...), or pass a filter and the keywords"
        )
    return given


def hooks(value: Any) -> tuple[Hooks, ...]:
    """Hooks whose methods are not async, however many."""
    if value is None:
        return ()
    given = (value,) if isinstance(value, Hooks) or not isinstance(value, Iterable) else tuple(value)
    for one in given:
        if not isinstance(one, Hooks):
            raise ConfigurationError(
                f"hooks is an object of a class that derives from Hooks, or several, not {one!r}"
            )
        for name in _CALLS:
            if inspect.iscoroutinefunction(getattr(one, name)):
                raise ConfigurationError(
                    f"hooks are not awaited: {type(one).__name__}.{name} has to be a function without async"
                )
    return given
