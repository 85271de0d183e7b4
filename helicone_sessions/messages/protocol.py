"""The endpoints and the protocol, without I/O: queries become requests, and responses become answers."""

import math
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

import attrs

from helicone_sessions.errors import (
    APIError,
    AuthenticationError,
    FilterValueError,
    InvalidRequest,
    QueryFailed,
    RateLimited,
    ServerError,
    UnexpectedResponse,
)
from helicone_sessions.filters.cautions import DataGaps
from helicone_sessions.filters.schema import COLUMNS
from helicone_sessions.masking import masked_repr, masked_text
from helicone_sessions.messages import converter as json
from helicone_sessions.messages.codec import EndsEarly, TooLarge, decode, encode, installed_msgspec, unpack
from helicone_sessions.messages.converter import Failure, Mismatch, envelope
from helicone_sessions.messages.grid_query import (
    GRID_PATH,
    GridFigures,
    GridQuery,
    grid_figures_from_wire,
    grid_query_from_wire,
    grid_query_to_wire,
)
from helicone_sessions.messages.metrics import Cut, SessionMetrics, with_cut
from helicone_sessions.messages.query import (
    Request,
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
)
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName

AnyQuery = SessionMetricsQuery | SessionsQuery | RequestsQuery | RequestCountQuery | GridQuery
"""A query to any endpoint."""

Query = TypeVar("Query")
Answer = TypeVar("Answer")


@attrs.frozen(eq=False)
class Endpoint(Generic[Query, Answer]):
    """An API endpoint, for use by clients and servers.

    Args:
        path: The path, without a leading slash.
        query_to_wire: Creates the body of a request.
        query_from_wire: Reads the body of a request strictly. Errors give the JSON path.
        answer_from_wire: Reads the ``data`` of an envelope at the given JSON path.
    """

    path: str
    query_to_wire: Callable[[Query], dict[str, Any]] = attrs.field(repr=False)
    query_from_wire: Callable[[Any], Query] = attrs.field(repr=False)
    answer_from_wire: Callable[[Any, str], Answer] = attrs.field(repr=False)

    def answer_to_wire(self, answer: Answer) -> Any:
        """The ``data`` in the envelope of *answer*.

        >>> SESSION_COUNT.answer_to_wire(SessionCount(4))["count"]
        4
        """
        return json.converter.unstructure(answer)


METRICS: Final[Endpoint[SessionMetricsQuery, SessionMetrics]] = Endpoint(
    "v1/session/metrics/query", json.query_to_wire, json.query_from_wire, json.metrics_from
)
SESSIONS: Final[Endpoint[SessionsQuery, list[Session]]] = Endpoint(
    "v1/session/query", json.sessions_query_to_wire, json.sessions_query_from_wire, json.sessions_from
)
SESSION_COUNT: Final[Endpoint[SessionsQuery, SessionCount]] = Endpoint(
    "v1/session/count", json.sessions_query_to_wire, json.sessions_query_from_wire, json.session_count_from
)
# The body is the same as for metrics, but `p_size` and `use_interquartile` have no effect.
SESSION_NAMES: Final[Endpoint[SessionMetricsQuery, list[SessionName]]] = Endpoint(
    "v1/session/name/query", json.query_to_wire, json.query_from_wire, json.session_names_from
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
"""The endpoints of the service by path."""


PATH: Final = METRICS.path

# A server that sends this header evaluates every condition of a filter as the contract specifies.
_SEMANTICS: Final = "Helicone-Filter-Semantics"
_CONTRACT: Final = "contract"
CONTRACT_HEADER: Final = {_SEMANTICS: _CONTRACT}
# Such a server also announces which columns have no value in some or in all requests.
_GAPS: Final = "Helicone-Sessions-Gaps"

# The open-source server answers a larger body with status 500 and no explanation.
_LARGEST_BODY: Final = 10 * 1024 * 1024
LARGEST_RESPONSE: Final = 32 * 1024 * 1024
"""The maximum size of a response body in bytes, compressed or not. Metrics take up a few thousand bytes."""
_EXCERPT_LENGTH: Final = 500
# ClickHouse quotes the whole query before the cause of an error.
_MESSAGE_LENGTH: Final = 20_000
_REQUEST_ID_HEADERS: Final = ("x-request-id", "helicone-id", "cf-ray")
_BY_STATUS: Final[dict[int, type[APIError]]] = {
    400: InvalidRequest,
    401: AuthenticationError,
    403: AuthenticationError,
    404: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}
_WRITE_PERMISSION: Final = (
    "Check the key; Helicone requires one with write permission for this request, although it only reads"
)
_ANY_FAILURE: Final = "No request count found"
_ANY_REMEDY: Final = (
    "The open-source server gives this text for nearly every failure of ClickHouse."
    " Look at Filter.cautions(), and try a smaller filter or time range"
)
_PAGE_REMEDY: Final = "Check base_url; the response may come from a login page or a proxy"

# The headers of a request, except the key.
HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
}


class Call(NamedTuple):
    """A POST request to the path of *endpoint*, with `HEADERS` and the API key.

    If a call takes too long and *can_split* is true, the call is not retried but replaced by smaller calls.
    If the answer is metrics, *cut* is the cut of their histograms.
    """

    endpoint: Endpoint[Any, Any]
    body: bytes
    can_split: bool = False
    cut: Cut | None = None


def request(query: Any, endpoint: Endpoint[Any, Any] = METRICS) -> bytes:
    """The body of the request for *query*.

    Raises:
        FilterValueError: The API cannot express the filter, or the body is larger than 10 MB, the limit of
            the open-source server (observed, July 2026).

    >>> from helicone_sessions import SessionMetricsQuery
    >>> request(SessionMetricsQuery())
    b'{"nameContains":"","timezoneDifference":0}'
    """
    body = encode(endpoint.query_to_wire(query))
    if len(body) > _LARGEST_BODY:
        raise FilterValueError(
            argument="query",
            problem=f"makes a request of {len(body):,} bytes; the server accepts at most {_LARGEST_BODY:,}",
            remedy="Split the query, for example by its longest list",
        )
    return body


def decipher(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret: str = "",
    endpoint: Endpoint[Any, Any] = METRICS,
    cut: Cut | None = None,
) -> Any:
    """Read the answer from a response. The type of the answer depends on the endpoint.

    The envelope takes precedence over the status, because the service sends status 500 for a query that it
    cannot run, and only the envelope distinguishes this error from a gateway failure. For a 4xx
    status, the body is not needed.

    Args:
        status: The HTTP status.
        headers: The headers, as a case-insensitive mapping.
        body: The whole body.
        secret: Text to mask in errors, in case the service repeats it.
        endpoint: The endpoint that was called.
        cut: The cut of the histograms in metrics.

    Raises:
        AuthenticationError: 401 or 403.
        InvalidRequest: 400, 404 or 422.
        RateLimited: 429.
        QueryFailed: An envelope with the service's error.
        ServerError: 5xx without an envelope.
        UnexpectedResponse: Any other response.
    """
    fault = None
    if encoding := headers.get("Content-Encoding"):
        try:
            body = unpack(body, encoding, LARGEST_RESPONSE)
        except ValueError as error:
            body, fault = b"", error
    if status == 200 and endpoint is METRICS and (metrics := _metrics_reader()(body, cut)) is not None:
        return metrics
    if len(body) > LARGEST_RESPONSE:
        fault = TooLarge(f"is larger than {LARGEST_RESPONSE:,} bytes")
    outcome = _Answer(endpoint, status, headers, body, secret, fault).outcome()
    if isinstance(outcome, APIError):
        # Raised here, because otherwise the traceback of the JSON error would hold the whole body.
        raise outcome
    return with_cut(outcome, cut) if cut is not None and isinstance(outcome, SessionMetrics) else outcome


def follows_the_contract(headers: Mapping[str, str]) -> bool:
    """Whether the server announces that it evaluates filters as the contract specifies.

    >>> follows_the_contract(CONTRACT_HEADER), follows_the_contract({})
    (True, False)
    """
    return headers.get(_SEMANTICS) == _CONTRACT


def gaps_header(gaps: DataGaps) -> dict[str, str]:
    """The header that announces the gaps in the data.

    >>> gaps_header(DataGaps(frozenset({"cost"}), frozenset({"request_body"})))
    {'Helicone-Sessions-Gaps': 'some=cost all=request_body'}
    """
    if not gaps:
        return {}
    return {_GAPS: f"some={','.join(sorted(gaps.some))} all={','.join(sorted(gaps.all))}"}


def announced_gaps(headers: Mapping[str, str]) -> DataGaps:
    """The gaps that a response announces.

    >>> announced_gaps({"Helicone-Sessions-Gaps": "some=cost all="}) == DataGaps(some=frozenset({"cost"}))
    True
    """
    return _gaps_in(headers.get(_GAPS, ""))


@lru_cache(maxsize=16)
def _gaps_in(text: str) -> DataGaps:
    kinds = dict(part.partition("=")[::2] for part in text.split())
    return DataGaps(*(frozenset(kinds.get(kind, "").split(",")) & COLUMNS.keys() for kind in ("some", "all")))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that a response requests, in seconds, or None if it requests no wait.

    A date is compared with the ``Date`` header of the response, so the clocks of the client and the
    server need not agree.

    >>> retry_after({"Retry-After": "7"})
    7.0
    >>> retry_after({"Retry-After": "Sun, 01 Nov 2026 00:01:00 GMT", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"})
    60.0
    """
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        then, now = _date(value), _date(headers.get("Date", ""))
        if then is None or now is None:
            return None
        seconds = (then - now).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else None


@cache
def _metrics_reader() -> Callable[[bytes, Cut | None], SessionMetrics | None]:
    """A function that reads typical responses with msgspec; without msgspec, it always returns None."""
    if installed_msgspec() is None:
        return lambda _body, _cut: None
    from helicone_sessions.messages.metrics_decoder import metrics_in

    return metrics_in


@attrs.frozen
class _Answer:
    endpoint: Endpoint[Any, Any]
    status: int
    headers: Mapping[str, str]
    body: bytes
    secret: str
    # The reason why the body could not be read, if any.
    fault: ValueError | None

    def outcome(self) -> Any:
        if self.status in _BY_STATUS:
            return self.refusal(_BY_STATUS[self.status])
        if self.status == 407:
            return self.error(UnexpectedResponse, "the proxy requires a user and a password")
        if self.fault is not None and self.status < 500:
            return self.unreadable(f"the response {self.fault}", self.fault)
        try:
            data = decode(self.body)
            found = envelope(data, self.endpoint.answer_from_wire)
        except Mismatch as error:
            message = f"the response breaks the contract: {error}"
            return self.error(UnexpectedResponse, message, path=error.path)
        except ValueError as error:
            if self.status >= 500:
                return self.error(ServerError)
            return self.unreadable(self.why_not_json(error), error)
        return self.no_envelope(data) if found is None else self.answer(found)

    def answer(self, found: Any) -> Any:
        if not isinstance(found, Failure):
            return found
        remedy = _ANY_REMEDY if _ANY_FAILURE in found.error else None
        return self.error(QueryFailed, found.error, remedy=remedy)

    def no_envelope(self, data: object) -> APIError:
        if self.status >= 500:
            # A JSON body comes from the server itself. Transient failures mostly return an HTML page from a
            # gateway.
            return self.error(ServerError, is_lasting=self.status == 500 and isinstance(data, Mapping))
        return self.error(UnexpectedResponse, self.why_no_envelope(data))

    def refusal(self, kind: type[APIError]) -> APIError:
        """The error for a status that alone identifies the kind of error."""
        if self.status == 401:
            return self.error(kind, remedy=_WRITE_PERMISSION)
        body = self.json()
        found = _first_field(body.get("details")) if isinstance(body, Mapping) else None
        if kind is not InvalidRequest or found is None:
            return self.error(kind)
        field, problem = map(self.masked, found)
        return self.error(kind, f"{self.said()}: {field}: {problem}", field=field)

    def unreadable(self, message: str, fault: ValueError) -> APIError:
        is_truncated = self.status == 200 and isinstance(fault, EndsEarly)
        remedy = _PAGE_REMEDY if self.status == 200 and self.is_html() else None
        return self.error(
            UnexpectedResponse,
            message,
            is_truncated=is_truncated,
            is_too_large=isinstance(fault, TooLarge),
            remedy=remedy,
        )

    def error(self, kind: type[APIError], message: str = "", **facts: Any) -> APIError:
        request_id = next((self.headers[name] for name in _REQUEST_ID_HEADERS if name in self.headers), None)
        if kind in (RateLimited, ServerError):
            facts["retry_after"] = retry_after(self.headers)
        if "path" in facts:
            facts["path"] = self.masked(facts["path"])
        return kind(
            self.masked(message or self.said(), _MESSAGE_LENGTH),
            status=self.status,
            request_id=request_id and self.masked(request_id),
            # Without the mark that shows the cut.
            body_excerpt=self.masked(self.text(), _EXCERPT_LENGTH + 1)[:_EXCERPT_LENGTH],
            **facts,
        )

    def masked(self, text: str, most: int = _EXCERPT_LENGTH) -> str:
        return masked_text(text, self.secret, most=most)

    def text(self) -> str:
        """The beginning of the body."""
        return self.body[: _EXCERPT_LENGTH * 10].decode(errors="replace")

    def is_html(self) -> bool:
        return "<" in self.text().lstrip()[:20]

    def json(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        try:
            return decode(self.body)
        except ValueError:
            return None

    def said(self) -> str:
        """The service's error text, in whatever form it is sent."""
        body = self.json()
        if isinstance(body, Mapping):
            for name in ("error", "message", "detail"):
                if body.get(name):
                    return self.masked(str(body[name]))
        text = self.text().strip()
        if body is None and text and not self.is_html():
            return self.masked(text)
        return f"the service answered with status {self.status}" + (
            " and a page of HTML" if self.is_html() else ""
        )

    def why_not_json(self, error: ValueError) -> str:
        if 300 <= self.status < 400:
            to = self.masked(self.headers.get("Location", "another address"))
            return f"the service redirects to {to}; redirects are not followed, so that the key stays here"
        if not self.body.strip():
            return "the response is empty"
        if self.status >= 400:
            return self.said()
        if self.is_html():
            return "the response is a page of HTML, not JSON"
        return f"the response is not JSON: {error}"

    def why_no_envelope(self, data: object) -> str:
        if self.status >= 300:
            return self.why_not_json(ValueError())
        if not isinstance(data, Mapping):
            return "the response has neither an answer nor the error of a query: no object"
        names = self.masked(", ".join(map(str, data)) or "no fields", 200)
        return f"the response has neither an answer nor the error of a query: an object with {names}"


def _first_field(details: object) -> tuple[str, str] | None:
    """The JSON path of the first field that failed the service's validation, and its problem.

    Each field holds an object with a message (observed, open-source server of July 2026). Text and nested
    objects are accepted too.
    """
    if isinstance(details, str):
        try:
            details = decode(details.encode())
        except ValueError:
            return None
    names: list[str] = []
    while isinstance(details, Mapping) and details:
        if names and isinstance(details.get("message"), str):
            return _json_path(names), details["message"]
        name, details = next(iter(details.items()))
        names.append(name)
    return (_json_path(names), details) if names and isinstance(details, str) else None


def _json_path(names: list[str]) -> str:
    head, dot, rest = ".".join(names).partition(".")
    return f"${dot}{rest}" if head in ("requestBody", "body") else f"$.{head}{dot}{rest}"


@attrs.define(eq=False)
class FixedWindow:
    """A limit on the requests per window. The first request after the end of a window opens the next one.

    The service counts requests in this way. It uses express-rate-limit, with the rate limit headers of
    the sixth IETF draft (observed, open-source server of July 2026). Rejected requests count too.

    Args:
        requests: The maximum number of requests in a window.
        per: The length of a window in seconds.

    >>> window = FixedWindow(requests=1, per=60.0)
    >>> window.take(0.0), window.take(59.5), window.headers(59.5)["Retry-After"], window.take(60.0)
    (True, False, '1', True)
    """

    requests: int = attrs.field()
    per: float = attrs.field()
    _used: int = attrs.field(default=0, init=False)
    _ends: float = attrs.field(default=float("-inf"), init=False)
    _lock: Any = attrs.field(factory=threading.Lock, init=False, repr=False)

    @requests.validator
    def _counts(self, _field: object, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"requests must be a whole number, 0 or more, got {masked_repr(value)}")

    @per.validator
    def _lasts(self, _field: object, value: float) -> None:
        if not 0 < value < float("inf"):
            raise ValueError(f"per must be a number of seconds above 0, got {masked_repr(value)}")

    def take(self, now: float, count: int = 1) -> bool:
        """Count *count* requests at the time *now*, and return whether the limit allows them."""
        with self._lock:
            if now >= self._ends:
                self._used, self._ends = 0, now + self.per
            self._used += count
            return self._used <= self.requests

    def headers(self, now: float) -> dict[str, str]:
        """The rate limit headers of a response at the time *now*, with ``Retry-After`` above the limit."""
        reset = str(max(0, math.ceil(self._ends - now)))
        headers = {
            "RateLimit-Limit": str(self.requests),
            "RateLimit-Remaining": str(max(0, self.requests - self._used)),
            "RateLimit-Reset": reset,
            "RateLimit-Policy": f"{self.requests};w={math.ceil(self.per)}",
        }
        return {**headers, "Retry-After": reset} if self._used > self.requests else headers
