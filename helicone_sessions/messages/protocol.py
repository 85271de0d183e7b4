"""The protocol without any I/O: a query becomes a request, an answer becomes metrics or an error."""

from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final

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
from helicone_sessions.messages.codec import decode, encode, installed_msgspec
from helicone_sessions.messages.converter import Failure, Mismatch, envelope, query_to_wire
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery

PATH: Final = "v1/session/metrics/query"

# With it a server says that it reads every condition of a filter as the contract does.
_SEMANTICS: Final = "Helicone-Filter-Semantics"
CONTRACT_HEADER: Final = {_SEMANTICS: "contract"}

# The open-source server answers a larger one with a bare 500.
_LARGEST_BODY: Final = 10 * 1024 * 1024
_EXCERPT_LENGTH: Final = 500
_REQUEST_ID_HEADERS: Final = ("x-request-id", "helicone-id", "cf-ray")
_HEADERS_READ: Final = (*_REQUEST_ID_HEADERS, "Retry-After", "Date", "Location")
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

# What a request carries beside the key.
HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/json"}


def request(query: SessionMetricsQuery) -> bytes:
    """The body of the request that asks *query*: a POST to `PATH` with `HEADERS` and the key.

    Raises:
        FilterValueError: The filter cannot be said in the API, or makes the body larger than 10 MB, the most
            that the open-source server takes (executed, July 2026).

    >>> request(SessionMetricsQuery())
    b'{"nameContains":"","timezoneDifference":0}'
    """
    body = encode(query_to_wire(query))
    if len(body) > _LARGEST_BODY:
        raise FilterValueError(
            argument="query",
            problem=f"makes a request of {len(body):,} bytes; the server takes at most {_LARGEST_BODY:,}",
            remedy="Split the query, for example by its longest list",
        )
    return body


def decipher(status: int, headers: Mapping[str, str], body: bytes, *, secret: str = "") -> SessionMetrics:
    """The metrics that an answer holds.

    The envelope decides before the status: the service answers a query that it cannot run with status 500
    and an envelope, and that is no fault of a gateway. A status of 4xx other than that says more than any
    body.

    Args:
        status: The HTTP status.
        headers: The headers; names are looked up as given, so pass a case-insensitive mapping.
        body: The whole body.
        secret: A text that must not appear in an error, should the service echo it.

    Raises:
        AuthenticationError: 401 or 403.
        InvalidRequest: 400, 404 or 422.
        RateLimited: 429.
        QueryFailed: An envelope with the service's error.
        ServerError: 5xx without an envelope.
        UnexpectedResponse: Anything else that is not metrics.
    """
    if status == 200 and (metrics := _metrics_reader()(body)) is not None:
        return metrics
    try:
        return _Answer(status, headers, body).metrics()
    except APIError as found:
        error = found
    raise _masked(error, secret, headers, body) if secret else error


def _masked(error: APIError, secret: str, headers: Mapping[str, str], body: bytes) -> APIError:
    """The error as an answer would give it that never held *secret*: texts are cut in too many ways."""
    masked = {name: headers[name].replace(secret, "***") for name in _HEADERS_READ if name in headers}
    try:
        # The body may spell it in another way, so what is read from it is masked once more.
        _Answer(error.status, masked, body.replace(secret.encode(), b"***"), secret).metrics()
    except APIError as said:
        if type(said) is type(error):
            return said
    # The mask broke the JSON, so the first reading stands, without its words.
    error.args = ("the service's words are left out, because the API key is among them",)
    error.__dict__.update(request_id=None, body_excerpt="", field=None)
    return error


def follows_the_contract(headers: Mapping[str, str]) -> bool:
    """Whether the server says that it reads filters as the contract does, as the embedded engine says it.

    >>> follows_the_contract(CONTRACT_HEADER), follows_the_contract({})
    (True, False)
    """
    return headers.get(_SEMANTICS) == CONTRACT_HEADER[_SEMANTICS]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds that an answer asks for, or None.

    A date is measured from the answer's own ``Date``, so that the clocks need not agree.

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
def _metrics_reader() -> Callable[[bytes], SessionMetrics | None]:
    """The function that reads usual answers with msgspec; without msgspec the converter reads them all."""
    if installed_msgspec() is None:
        return lambda _body: None
    from helicone_sessions.messages.structs import metrics_in  # noqa: PLC0415 - it needs msgspec

    return metrics_in


@attrs.frozen
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    secret: str = ""

    def metrics(self) -> SessionMetrics:
        if self.status in _BY_STATUS:
            raise self.refusal(_BY_STATUS[self.status])
        try:
            data = decode(self.body)
            found = envelope(data)
        except Mismatch as error:
            message = f"the answer is not what the contract says: {error}"
            raise self.error(UnexpectedResponse, message, path=error.path) from None
        except ValueError as error:
            if self.status >= 500:
                raise self.error(ServerError) from None
            raise self.error(UnexpectedResponse, self.why_not_json(error)) from None
        if isinstance(found, SessionMetrics):
            return found
        if isinstance(found, Failure):
            remedy = _ANY_REMEDY if _ANY_FAILURE in found.error else None
            raise self.error(QueryFailed, found.error, remedy=remedy)
        if self.status >= 500:
            # The server itself refuses in JSON; what passes is mostly a gateway's, with a page of HTML.
            raise self.error(ServerError, is_lasting=self.status == 500 and isinstance(data, Mapping))
        raise self.error(UnexpectedResponse, self.why_no_envelope(data))

    def refusal(self, kind: type[APIError]) -> APIError:
        """The error for a status that decides by itself."""
        if self.status == 401:
            return self.error(kind, remedy=_WRITE_PERMISSION)
        body = self.json()
        found = _first_field(body.get("details")) if isinstance(body, Mapping) else None
        if kind is not InvalidRequest or found is None:
            return self.error(kind)
        field, problem = (text[:_EXCERPT_LENGTH] for text in found)
        return self.error(kind, f"{self.said()}: {field}: {problem}", field=field)

    def error(self, kind: type[APIError], message: str = "", **facts: Any) -> APIError:
        request_id = next((self.headers[name] for name in _REQUEST_ID_HEADERS if name in self.headers), None)
        if kind in (RateLimited, ServerError):
            facts["retry_after"] = retry_after(self.headers)
        facts["message"] = message or self.said()
        if self.secret:
            facts = {
                name: fact.replace(self.secret, "***") if isinstance(fact, str) else fact
                for name, fact in facts.items()
            }
        return kind(
            status=self.status,
            request_id=request_id,
            body_excerpt=self.body[: _EXCERPT_LENGTH * 4].decode(errors="replace")[:_EXCERPT_LENGTH],
            **facts,
        )

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
                    return str(body[name])[:_EXCERPT_LENGTH]
        text = self.body.decode(errors="replace").strip()
        if body is None and text and "<" not in text[:20]:
            return text[:_EXCERPT_LENGTH]
        return f"the service answered with status {self.status}" + (
            " and a page of HTML" if "<" in text[:20] else ""
        )

    def why_not_json(self, error: ValueError) -> str:
        if 300 <= self.status < 400:
            to = self.headers.get("Location", "another address")
            return f"the service redirects to {to}; redirects are not followed, so that the key stays here"
        if not self.body.strip():
            return "the answer is empty"
        if self.status >= 400:
            return self.said()
        return f"the answer is not JSON: {error}"

    def why_no_envelope(self, data: object) -> str:
        if self.status >= 300:
            return self.why_not_json(ValueError())
        shape = (
            f"an object with {', '.join(map(str, data)) or 'no fields'}"
            if isinstance(data, Mapping)
            else "no object"
        )
        return f"the answer has neither metrics nor the error of a query: {shape[:200]}"


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
