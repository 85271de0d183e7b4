"""The responses and faults of the fake service, and the rules that select them."""

import socket
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from uuid import uuid4

import attrs
from aiohttp import web
from multidict import CIMultiDict

from helicone_sessions.filters.expression import ALL, Condition, Filter, as_filter, filter_of_contract
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.codec import encode
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.protocol import AnyQuery
from helicone_sessions.messages.query import Request, SessionMetricsQuery
from helicone_sessions.messages.sessions import Session
from helicone_sessions.testing.recorded_request import RecordedRequest
from helicone_sessions.testing.virtual_clock import Notifier

_TYPES: Final = {bytes: "application/octet-stream", str: "text/plain; charset=utf-8"}


@attrs.frozen
class Reply:
    """An HTTP response with a given status, body and headers.

    Args:
        status: The HTTP status.
        body: The body as bytes, as text, or as a mapping to send as JSON.
        headers: Headers to send in addition to those of every response.

    >>> Reply(200, {"data": None, "error": "Invalid filter"}).raw
    b'{"data":null,"error":"Invalid filter"}'
    """

    status: int = 200
    body: bytes | str | Mapping[str, Any] = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def raw(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else encode(self.body)

    @property
    def content_type(self) -> str:
        """The media type of the body, unless `headers` sets another.

        >>> Reply(200, {"data": None}).content_type, Reply(502, "bad gateway").content_type
        ('application/json; charset=utf-8', 'text/plain; charset=utf-8')
        """
        return _TYPES.get(type(self.body), "application/json; charset=utf-8")


def response(reply: Reply, headers: Mapping[str, str]) -> web.Response:
    """Convert a reply to an aiohttp response; headers of the reply override *headers*."""
    together = CIMultiDict({"Content-Type": reply.content_type, **headers})
    together.update(reply.headers)
    return web.Response(status=reply.status, body=reply.raw, headers=together)


def reply_of(metrics: SessionMetrics) -> Reply:
    """Return the response that contains these metrics."""
    return Reply(200, {"data": converter.unstructure(metrics), "error": None})


def failure(text: str, status: int = 500) -> Reply:
    """Create the response that the open-source server sends for a failed query.

    Args:
        text: The error text.
        status: The HTTP status; the service uses 500.

    >>> failure("Invalid timezone difference").body
    {'data': None, 'error': 'Invalid timezone difference'}
    """
    return Reply(status, {"data": None, "error": text})


def gateway_page(status: int = 502) -> Reply:
    """Create a response with the HTML error page of a gateway in front of the service.

    Args:
        status: The HTTP status.

    >>> gateway_page(503).body
    '<html><body><h1>503 Service Unavailable</h1></body></html>'
    """
    phrase = f" {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else ""
    page = f"<html><body><h1>{status}{phrase}</h1></body></html>"
    return Reply(status, page, {"Content-Type": "text/html"})


def metrics(
    *,
    cost: float | None = 0.25,
    duration: float | None = 12.0,
    count: float | None = 3.0,
    sessions: float = 4.0,
) -> SessionMetrics:
    """Create the metrics of identical sessions, so that each histogram has one bar.

    If a value is None, its histogram has no bar, as if no session matched.

    Args:
        cost: The cost of each session in dollars.
        duration: The duration of each session in seconds.
        count: The number of requests in each session.
        sessions: The number of sessions.

    >>> metrics(cost=0.5).average
    SessionAverages(session_count=3.0, session_duration=12.0, session_cost=0.5)
    """
    numbers = {"session_count": count, "session_duration": duration, "session_cost": cost}
    histograms: dict[str, Any] = {
        name: _histogram(number, sessions, UNITS[name]) for name, number in numbers.items()
    }
    return SessionMetrics(**histograms, average=SessionAverages(count, duration, cost))


def _histogram(number: float | None, sessions: float, unit: str) -> Histogram:
    # In a ClickHouse histogram, equal values form a bar of zero width.
    rows = () if number is None else (HistogramRow(float(number), float(number), float(sessions)),)
    return Histogram(rows, unit=unit)


def session(
    session_id: str = "session-1",
    session_name: str = "support",
    *,
    created_at: datetime = datetime(2026, 11, 1, 12, tzinfo=UTC),
    duration: float = 12.0,
    total_cost: float = 0.25,
    total_requests: int = 2,
    prompt_tokens: int = 200,
    completion_tokens: int = 100,
    avg_latency: float | None = 800.0,
    user_ids: Iterable[str] = ("user-1",),
) -> Session:
    """Create a session.

    Args:
        session_id: The session id.
        session_name: The session name.
        created_at: The time of the first request.
        duration: The seconds from the first request to the latest.
        total_cost: The total cost in dollars.
        total_requests: The number of requests.
        prompt_tokens: The number of prompt tokens.
        completion_tokens: The number of completion tokens.
        avg_latency: The mean latency of a request in milliseconds.
        user_ids: The users of the requests.

    >>> session("checkout-7", total_cost=0.5).total_tokens
    300
    """
    return Session(
        session_id,
        session_name,
        created_at,
        created_at + timedelta(seconds=duration),
        total_cost,
        total_requests,
        prompt_tokens,
        completion_tokens,
        prompt_tokens + completion_tokens,
        avg_latency,
        tuple(user_ids),
    )


def request(
    request_id: str | None = None,
    *,
    created_at: datetime = datetime(2026, 11, 1, 12, tzinfo=UTC),
    session_id: str | None = "session-1",
    session_name: str = "support",
    model: str = "gpt-4o",
    cost: float = 0.125,
    **fields: Any,
) -> Request:
    """Create a request with the field names of the API.

    Args:
        request_id: The request id; by default, a new one is generated.
        created_at: The time of the request.
        session_id: The id of the session; None for a request without a session.
        session_name: The name of the session.
        model: The model.
        cost: The cost in dollars.
        fields: Other fields, under their names in the API.

    >>> request(model="o3", provider="OPENAI")["request_model"]
    'o3'
    """
    properties = {"Helicone-Session-Id": session_id, "Helicone-Session-Name": session_name}
    return {
        "request_id": str(uuid4()) if request_id is None else request_id,
        "request_created_at": _iso(created_at),
        "response_created_at": _iso(created_at + timedelta(milliseconds=800)),
        "response_status": 200,
        "request_model": model,
        "model": model,
        "provider": "OPENAI",
        "request_user_id": "user-1",
        "request_properties": {} if session_id is None else properties,
        "delay_ms": 800,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "cost": cost,
        **fields,
    }


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


# Turns SO_LINGER on with zero seconds, so that closing the socket resets the connection.
_NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Fault(Enum):
    """A failure of the connection, in place of a complete response.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone, metrics
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         fake.will_answer(Fault.DROP, metrics(cost=0.5))
    ...         print((await client.get_metrics()).average.session_cost, len(fake.requests))
    >>> asyncio.run(main())
    0.5 2
    """

    DROP = "drop"
    """The server closes the connection without a response."""
    RESET = "reset"
    """The server resets the connection (TCP RST)."""
    STALL = "stall"
    """The server never responds; the client's timeout, in real time, ends the request."""
    TRUNCATE = "truncate"
    """The server closes the connection in the middle of the response."""
    NOT_HTTP = "not http"
    """The server sends a response that is not HTTP."""
    GOES_STALE = "goes stale"
    """The server responds, and then resets the kept-alive connection at the next request.

    This happens if a server closes an idle connection while the next request is on its way.
    """


async def truncated(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send half of a response and close the connection."""
    whole = response(reply, headers)
    half = web.StreamResponse(status=whole.status, headers=whole.headers)
    # Announce one byte more than the body has, so that even an empty body is incomplete.
    half.headers["Content-Length"] = str(len(reply.raw) + 1)
    await half.prepare(request)
    await half.write(reply.raw[: len(reply.raw) // 2])
    _close(request)
    return half


def broken_off(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Close the connection without a response."""
    if fault is Fault.NOT_HTTP and request.transport is not None:
        request.transport.write(b"NOPE this is no HTTP\r\n\r\n")
    if fault in (Fault.RESET, Fault.GOES_STALE):
        _reset(request)
    else:
        _close(request)
    # aiohttp requires a response, although it is never sent.
    return web.Response()


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()


Answer: TypeAlias = SessionMetrics | Reply | Fault | Callable[[RecordedRequest], Awaitable["Answer"]]
"""The type of an answer, or of an async function that takes the request and returns an answer."""
Matching = AnyQuery | Condition | str | Callable[[Any], object]
"""Selects requests by an equal query or filter, by ``name_contains``, or with a function of the query."""

_Matches = Callable[[AnyQuery], object]
# These faults come with an answer: the one to truncate, or the one before the reset.
_FAULTS_OF_ANSWERS: tuple[Answer, ...] = (Fault.TRUNCATE, Fault.GOES_STALE)


def checked(answer: Answer) -> Answer:
    """Check that *answer* is a valid answer, and return it.

    Raises:
        TypeError: The value is not a valid answer.
    """
    is_function = callable(answer) and not isinstance(answer, type)
    if is_function or isinstance(answer, (SessionMetrics, Reply, Fault)):
        return answer
    raise TypeError(
        f"an answer must be SessionMetrics, a Reply, a Fault or an async function, got {masked_repr(answer)}"
    )


def matcher(to: Matching | None) -> _Matches:
    """Create a predicate that checks whether a query matches *to*.

    Queries and filters are compared in the form in which they are sent.

    Raises:
        TypeError: *to* cannot be compared with a query.
        FilterError: The filter cannot be sent.
    """
    if to is None:
        return lambda _query: True
    if isinstance(to, str):
        return lambda query: getattr(query, "name_contains", None) == to
    if isinstance(to, SessionMetricsQuery):
        as_sent = converter.structure(converter.unstructure(to), SessionMetricsQuery)
        return lambda query: query == as_sent
    if isinstance(to, Condition):
        wanted = filter_of_contract(as_filter(to).to_wire(), path="$")
        return lambda query: _filter_of(query) == wanted
    if callable(to):
        return to
    raise TypeError(
        "requests are matched by a SessionMetricsQuery, a filter, a string or a function of the query, got"
        f" {masked_repr(to)}"
    )


def _filter_of(query: AnyQuery) -> Filter:
    return ALL if query.filter is None else query.filter


class Held:
    """Holds back answers until `release` is called or the ``with`` block ends.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         with fake.hold() as held:
    ...             asking = asyncio.create_task(client.get_metrics())
    ...             await fake.until(lambda: fake.open == 1)
    ...             print(asking.done())
    ...             held.release()
    ...             return (await asking).average.session_cost
    >>> asyncio.run(main())
    False
    0.25
    """

    def __init__(self, matches: _Matches) -> None:
        self.matches = matches
        self._is_released = False
        self._released = Notifier()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Answer the held requests and all later ones.

        This method can be called from any thread.
        """
        self._is_released = True
        self._released.notify_all()

    async def wait(self) -> None:
        """Wait for the release."""
        await self._released.wait_for(lambda: self._is_released)


class AnswerRules:
    """Selects the answer to each request.

    Answers added with `add` take precedence over rules, and later rules take precedence over earlier ones.
    """

    def __init__(self) -> None:
        self.otherwise: Answer = metrics()
        self._next: deque[Answer] = deque()
        self._rules: list[tuple[_Matches, Answer]] = []
        self._holds: list[Held] = []

    def add(self, *answers: Answer) -> None:
        """Set the answers to the next requests, in order of arrival."""
        self._next.extend([checked(answer) for answer in answers])

    def add_rule(self, to: Matching, answer: Answer) -> None:
        """Set the answer to requests that match *to*."""
        self._rules.append((matcher(to), checked(answer)))

    def hold(self, to: Matching | None) -> Held:
        """Hold back requests that match *to*."""
        held = Held(matcher(to))
        self._holds.append(held)
        return held

    def holds_on(self, query: AnyQuery) -> list[Held]:
        """Return the `Held` objects that hold back requests with this query."""
        return [held for held in tuple(self._holds) if held.matches(query)]

    def answer_to(self, query: AnyQuery) -> Answer:
        """Return the answer to the next request."""
        return self._next.popleft() if self._next else self._by_rule(query)

    def answer_with_fault(self, query: AnyQuery) -> Answer:
        """Return the answer that a fault sends in part (`Fault.TRUNCATE`) or in full (`Fault.GOES_STALE`)."""
        answers = (self._by_rule(query), self.otherwise)
        return next((answer for answer in answers if answer not in _FAULTS_OF_ANSWERS), metrics())

    def _by_rule(self, query: AnyQuery) -> Answer:
        rules = reversed(tuple(self._rules))
        return next((answer for matches, answer in rules if matches(query)), self.otherwise)
