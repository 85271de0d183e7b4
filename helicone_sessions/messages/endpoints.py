"""The endpoints of the API: the path of each, and how its queries and answers become JSON and back."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import attrs

from helicone_sessions.messages import converter as json
from helicone_sessions.messages.grid_query import (
    GRID_PATH,
    GridFigures,
    GridQuery,
    grid_figures_from_wire,
    grid_query_from_wire,
    grid_query_to_wire,
)
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.requests import Request, RequestCountQuery, RequestsQuery
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName, SessionsQuery

AnyQuery = SessionMetricsQuery | SessionsQuery | RequestsQuery | RequestCountQuery | GridQuery
"""A query to any of the endpoints."""

Query = TypeVar("Query")
Answer = TypeVar("Answer")


@attrs.frozen(eq=False)
class Endpoint(Generic[Query, Answer]):
    """One endpoint, for clients and for servers.

    Args:
        path: Its path, without a slash at the beginning.
        query_to_wire: Makes the body of a request.
        query_from_wire: Reads the body of a request strictly; errors carry the JSON path.
        answer_from_wire: Reads ``data`` of an envelope, which lies at the given JSON path.
    """

    path: str
    query_to_wire: Callable[[Query], dict[str, Any]] = attrs.field(repr=False)
    query_from_wire: Callable[[Any], Query] = attrs.field(repr=False)
    answer_from_wire: Callable[[Any, str], Answer] = attrs.field(repr=False)

    def answer_to_wire(self, answer: Answer) -> Any:
        """``data`` of an envelope with this answer.

        >>> SESSION_COUNT.answer_to_wire(SessionCount(4))["count"]
        4
        """
        return json.converter.unstructure(answer)


def _metrics_query(wire: Any) -> SessionMetricsQuery:
    return json.converter.structure(wire, SessionMetricsQuery)


METRICS: Final[Endpoint[SessionMetricsQuery, SessionMetrics]] = Endpoint(
    "v1/session/metrics/query", json.query_to_wire, _metrics_query, json.metrics_from
)
SESSIONS: Final[Endpoint[SessionsQuery, list[Session]]] = Endpoint(
    "v1/session/query", json.sessions_query_to_wire, json.sessions_query_from_wire, json.sessions_from
)
SESSION_COUNT: Final[Endpoint[SessionsQuery, SessionCount]] = Endpoint(
    "v1/session/count", json.sessions_query_to_wire, json.sessions_query_from_wire, json.session_count_from
)
# Its body is that of the metrics; `p_size` and `use_interquartile` have no effect.
SESSION_NAMES: Final[Endpoint[SessionMetricsQuery, list[SessionName]]] = Endpoint(
    "v1/session/name/query", json.query_to_wire, _metrics_query, json.session_names_from
)
REQUESTS: Final[Endpoint[RequestsQuery, list[Request]]] = Endpoint(
    "v1/request/query-clickhouse",
    json.requests_query_to_wire,
    json.requests_query_from_wire,
    json.requests_from,
)
GRID: Final[Endpoint[GridQuery, GridFigures]] = Endpoint(
    GRID_PATH, grid_query_to_wire, grid_query_from_wire, grid_figures_from_wire
)
REQUEST_COUNT: Final[Endpoint[RequestCountQuery, int]] = Endpoint(
    "v1/request/count/query",
    json.request_count_query_to_wire,
    json.request_count_query_from_wire,
    json.count_from,
)

ENDPOINTS: Final[dict[str, Endpoint[Any, Any]]] = {
    endpoint.path: endpoint
    for endpoint in (METRICS, SESSIONS, SESSION_COUNT, SESSION_NAMES, REQUESTS, REQUEST_COUNT)
}
"""The endpoints by their path."""
