"""An async client for Helicone's session metrics, with filters that mean what they say."""

import importlib
from typing import TYPE_CHECKING, Any

from helicone_sessions.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    FilterError,
    FilterSyntaxError,
    FilterTypeError,
    FilterValueError,
    HeliconeError,
    HeliconeFilterWarning,
    InvalidRequest,
    MissingExtra,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
    TransportError,
    UnexpectedResponse,
    UnknownColumn,
    UnknownOperator,
)
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, NONE, Filter, all_of, any_of
from helicone_sessions.messages.metrics import Histogram, HistogramRow, PSize, SessionAverages, SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName, Sessions

if TYPE_CHECKING:
    from helicone_sessions.filters.parser import parse_filter
    from helicone_sessions.syncing import SyncReport, sync
    from helicone_sessions.transport.batch import MetricsOutcome
    from helicone_sessions.transport.client import HeliconeClient
    from helicone_sessions.transport.hooks import Attempt, Hooks, QueryOutcome
    from helicone_sessions.transport.rate_limit import RateLimit

    __version__: str

__all__ = [
    "ALL",
    "NONE",
    "APIError",
    "Attempt",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionFailed",
    "F",
    "Filter",
    "FilterError",
    "FilterSyntaxError",
    "FilterTypeError",
    "FilterValueError",
    "HeliconeClient",
    "HeliconeError",
    "HeliconeFilterWarning",
    "Histogram",
    "HistogramRow",
    "Hooks",
    "InvalidRequest",
    "MetricsOutcome",
    "MissingExtra",
    "PSize",
    "QueryFailed",
    "QueryOutcome",
    "RateLimit",
    "RateLimited",
    "RequestTimeout",
    "ServerError",
    "Session",
    "SessionAverages",
    "SessionCount",
    "SessionMetrics",
    "SessionMetricsQuery",
    "SessionName",
    "Sessions",
    "SyncReport",
    "TimeFilter",
    "TransportError",
    "UnexpectedResponse",
    "UnknownColumn",
    "UnknownOperator",
    "all_of",
    "any_of",
    "parse_filter",
    "sync",
]

# These names are loaded on first use, because code that only builds filters does not need the client.
_ON_DEMAND = {
    "Attempt": "transport.hooks",
    "HeliconeClient": "transport.client",
    "Hooks": "transport.hooks",
    "MetricsOutcome": "transport.batch",
    "QueryOutcome": "transport.hooks",
    "RateLimit": "transport.rate_limit",
    "SyncReport": "syncing",
    "parse_filter": "filters.parser",
    "sync": "syncing",
}

if not TYPE_CHECKING:  # so that type checkers report misspelt names

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("helicone-sessions")
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
