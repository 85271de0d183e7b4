"""What a fake service can be told to answer."""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs

from helicone_sessions.filters.constants import shortened
from helicone_sessions.messages.codec import encode
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.testing.recorded import RecordedRequest

_TYPES: Final = {bytes: "application/octet-stream", str: "text/plain; charset=utf-8"}


@attrs.frozen
class Reply:
    """An answer, byte for byte.

    Args:
        status: The HTTP status.
        body: Bytes, a text, or what is sent as JSON.
        headers: The headers beside those of every answer.

    >>> Reply(200, {"data": None, "error": "Invalid filter"}).raw
    b'{"data":null,"error":"Invalid filter"}'
    """

    status: int = 200
    body: bytes | str | Mapping[str, Any] = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def raw(self) -> bytes:
        """The body as it is sent."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else encode(self.body)

    @property
    def content_type(self) -> str:
        """What the headers say that the body is, unless they were given.

        >>> Reply(200, {"data": None}).content_type, Reply(502, "bad gateway").content_type
        ('application/json; charset=utf-8', 'text/plain; charset=utf-8')
        """
        return _TYPES.get(type(self.body), "application/json; charset=utf-8")


class Fault(Enum):
    """What can go wrong on the way, for which there is no status.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         fake.will_answer(Fault.DROP, metrics(cost=0.5))
    ...         print((await client.get_metrics()).average.session_cost, len(fake.requests))
    >>> asyncio.run(main())
    0.5 2
    """

    DROP = "drop"
    """The connection is closed without an answer."""
    RESET = "reset"
    """The connection is reset (TCP RST)."""
    STALL = "stall"
    """No answer ever comes: the client's time limit, which is real time, has to end it."""
    TRUNCATE = "truncate"
    """The connection is closed in the middle of the answer."""
    NOT_HTTP = "not http"
    """What comes is no HTTP."""
    GOES_STALE = "goes stale"
    """The answer comes, and the connection, though kept, is reset by the next request on it.

    That is what a client meets whose request crosses with a server that closes an idle connection.
    """


Answer: TypeAlias = SessionMetrics | Reply | Fault | Callable[[RecordedRequest], Awaitable["Answer"]]
"""A value to answer with, or an async function that is given the request and returns one."""


def checked(answer: Answer) -> Answer:
    """*answer*, if it is one.

    Raises:
        TypeError: It is not.
    """
    is_function = callable(answer) and not isinstance(answer, type)
    if is_function or isinstance(answer, (SessionMetrics, Reply, Fault)):
        return answer
    raise TypeError(
        f"an answer is SessionMetrics, a Reply, a Fault or an async function, not {shortened(answer)}"
    )


def reply_of(metrics: SessionMetrics) -> Reply:
    """The answer that *metrics* are."""
    return Reply(200, {"data": converter.unstructure(metrics), "error": None})


def failure(text: str, status: int = 500) -> Reply:
    """The envelope of a query that failed, as the open-source server sends it.

    Args:
        text: The service's words.
        status: The service takes 500.

    >>> failure("Invalid timezone difference").body
    {'data': None, 'error': 'Invalid timezone difference'}
    """
    return Reply(status, {"data": None, "error": text})


def gateway_page(status: int = 502) -> Reply:
    """The page of HTML that a gateway in front of the service answers with.

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
    """Metrics of sessions that are all alike, so that each histogram has one bar.

    Args:
        cost: Dollars of each.
        duration: Seconds of each.
        count: Requests of each.
        sessions: How many there are. A number that is None has no bar, as where nothing matches.

    >>> metrics(cost=0.5).average
    SessionAverages(session_count=3.0, session_duration=12.0, session_cost=0.5)
    """
    numbers = {"session_count": count, "session_duration": duration, "session_cost": cost}
    histograms: dict[str, Any] = {
        name: _histogram(number, sessions, UNITS[name]) for name, number in numbers.items()
    }
    return SessionMetrics(**histograms, average=SessionAverages(count, duration, cost))


def _histogram(number: float | None, sessions: float, unit: str) -> Histogram:
    # ClickHouse draws equal values as a bar without width.
    rows = () if number is None else (HistogramRow(float(number), float(number), float(sessions)),)
    return Histogram(rows, unit=unit)
