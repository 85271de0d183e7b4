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
        raise ConfigurationError(argument=name, problem=f"must be a number of seconds above 0, got {value!r}")
    return float(value)


def deadline(value: object) -> float | None:
    """A time above zero, or none."""
    return None if value is None else seconds(value, "deadline")


def count(value: object, name: str, *, least: int) -> int:
    """A whole number from *least* up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(
            argument=name, problem=f"must be a whole number of at least {least}, got {value!r}"
        )
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
            argument="query",
            problem=f"is a SessionMetricsQuery and cannot be combined with {', '.join(beside)}",
            remedy="Use attrs.evolve(query, ...), or pass a filter with the keywords",
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
                argument="hooks", problem=f"must be one or several instances of Hooks, got {one!r}"
            )
        for name in _CALLS:
            if inspect.iscoroutinefunction(getattr(one, name)):
                raise ConfigurationError(
                    argument="hooks",
                    problem=f"are not awaited, got the async method {type(one).__name__}.{name}",
                    remedy="Define it without async",
                )
    return given
