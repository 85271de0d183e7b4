"""Session metrics from Helicone, asked for asynchronously and with filters that cannot be built wrong."""

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
from helicone_sessions.filters.filter import ALL, NONE, Filter, all_of, any_of
from helicone_sessions.filters.parse import parse_filter
from helicone_sessions.messages.metrics import Histogram, HistogramRow, SessionAverages, SessionMetrics
from helicone_sessions.messages.query import PSize, SessionMetricsQuery, TimeFilter
from helicone_sessions.transport.batch import MetricsOutcome
from helicone_sessions.transport.client import HeliconeClient

__all__ = [
    "ALL",
    "NONE",
    "APIError",
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
    "InvalidRequest",
    "MetricsOutcome",
    "MissingExtra",
    "PSize",
    "QueryFailed",
    "RateLimited",
    "RequestTimeout",
    "ServerError",
    "SessionAverages",
    "SessionMetrics",
    "SessionMetricsQuery",
    "TimeFilter",
    "TransportError",
    "UnexpectedResponse",
    "UnknownColumn",
    "UnknownOperator",
    "all_of",
    "any_of",
    "parse_filter",
]
