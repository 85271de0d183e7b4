"""The protocol without any I/O: a query becomes a request, a response becomes an answer or an error."""

from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

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
from helicone_sessions.masking import masked_text
from helicone_sessions.messages.codec import EndsEarly, TooLarge, decode, encode, installed_msgspec, unpack
from helicone_sessions.messages.converter import Failure, Mismatch, envelope
from helicone_sessions.messages.endpoints import METRICS, Endpoint
from helicone_sessions.messages.metrics import Cut, SessionMetrics, with_cut

PATH: Final = METRICS.path

# A server sends it to announce that it reads every condition of a filter as the contract does.
_SEMANTICS: Final = "Helicone-Filter-Semantics"
_CONTRACT: Final = "contract"
CONTRACT_HEADER: Final = {_SEMANTICS: _CONTRACT}
# Such a server also announces which columns have no value in some or in all requests.
_GAPS: Final = "Helicone-Sessions-Gaps"

# The open-source server responds to a larger one with a bare 500.
_LARGEST_BODY: Final = 10 * 1024 * 1024
LARGEST_RESPONSE: Final = 32 * 1024 * 1024
"""The largest body of a response in bytes, packed and unpacked; metrics take a few thousand."""
_EXCERPT_LENGTH: Final = 500
# ClickHouse quotes the whole query before it names the cause.
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
_PAGE_REMEDY: Final = "Check base_url; a login page or a proxy may stand in front of the service"

# The headers of a request beside the key.
HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
}


class Call(NamedTuple):
    """A request: a POST to the path of *endpoint* with `HEADERS` and the key.

    A call that *can_split* is not repeated if it takes too long: smaller ones replace it. The histograms of
    its metrics are cut at *cut*.
    """

    endpoint: Endpoint[Any, Any]
    body: bytes
    can_split: bool = False
    cut: Cut | None = None


def request(query: Any, endpoint: Endpoint[Any, Any] = METRICS) -> bytes:
    """The body of the request with *query*.

    Raises:
        FilterValueError: The filter cannot be said in the API, or makes the body larger than 10 MB, the most
            that the open-source server takes (executed, July 2026).

    >>> from helicone_sessions import SessionMetricsQuery
    >>> request(SessionMetricsQuery())
    b'{"nameContains":"","timezoneDifference":0}'
    """
    body = encode(endpoint.query_to_wire(query))
    if len(body) > _LARGEST_BODY:
        raise FilterValueError(
            argument="query",
            problem=f"makes a request of {len(body):,} bytes; the server takes at most {_LARGEST_BODY:,}",
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
    """The answer in a response, of the type that the endpoint gives.

    The envelope decides before the status: the service sends an envelope with status 500 for a query
    that it cannot run, and that is no fault of a gateway. A status of 4xx decides without the body.

    Args:
        status: The HTTP status.
        headers: The headers; names are looked up as given, so pass a case-insensitive mapping.
        body: The whole body.
        secret: A text that must not appear in an error, should the service echo it.
        endpoint: The endpoint that was called.
        cut: Where the histograms of metrics are cut.

    Raises:
        AuthenticationError: 401 or 403.
        InvalidRequest: 400, 404 or 422.
        RateLimited: 429.
        QueryFailed: An envelope with the service's error.
        ServerError: 5xx without an envelope.
        UnexpectedResponse: Anything else that is no answer.
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
        # Here, and not where it is made, because the JSON error behind it holds the whole body.
        raise outcome
    return with_cut(outcome, cut) if cut is not None and isinstance(outcome, SessionMetrics) else outcome


def follows_the_contract(headers: Mapping[str, str]) -> bool:
    """Whether the server announces that it reads filters as the contract does, like the embedded engine.

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
    """The wait in seconds that a response requests, or None.

    A date is measured from the ``Date`` of the response, so that the clocks need not agree.

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
    """The function that reads usual responses with msgspec; without msgspec the converter reads them all."""
    if installed_msgspec() is None:
        return lambda _body, _cut: None
    from helicone_sessions.messages.structs import metrics_in

    return metrics_in


@attrs.frozen
class _Answer:
    endpoint: Endpoint[Any, Any]
    status: int
    headers: Mapping[str, str]
    body: bytes
    secret: str
    # Why the body could not be read.
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
        if isinstance(found, Failure):
            remedy = _ANY_REMEDY if _ANY_FAILURE in found.error else None
            return self.error(QueryFailed, found.error, remedy=remedy)
        if found is not None:
            return found
        if self.status >= 500:
            # The server itself refuses in JSON; transient failures are mostly a gateway's page of HTML.
            return self.error(ServerError, is_lasting=self.status == 500 and isinstance(data, Mapping))
        return self.error(UnexpectedResponse, self.why_no_envelope(data))

    def refusal(self, kind: type[APIError]) -> APIError:
        """The error for a status that decides by itself."""
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
            # Without the mark of a cut.
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
        """The body as JSON; None if it is something else."""
        try:
            return decode(self.body)
        except ValueError:
            return None

    def said(self) -> str:
        """The service's own words, from whatever shape they come in."""
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
    """The JSON path of the first field that failed the service's validation, and what is wrong with it.

    Each field has an object with a message (executed, open-source server of July 2026); text and nested
    objects are read too.
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
