"""Responses of the fake service: `Reply`, and functions that make common ones."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import attrs
from aiohttp import web
from multidict import CIMultiDict

from helicone_sessions.messages.codec import encode
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import Request
from helicone_sessions.messages.sessions import Session

_TYPES: Final = {bytes: "application/octet-stream", str: "text/plain; charset=utf-8"}


@attrs.frozen
class Reply:
    """A response, byte for byte.

    Args:
        status: The HTTP status.
        body: Bytes, text, or a mapping to send as JSON.
        headers: Headers in addition to those of every response.

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
        """The media type of the body, unless `headers` has another.

        >>> Reply(200, {"data": None}).content_type, Reply(502, "bad gateway").content_type
        ('application/json; charset=utf-8', 'text/plain; charset=utf-8')
        """
        return _TYPES.get(type(self.body), "application/json; charset=utf-8")


def response(reply: Reply, headers: Mapping[str, str]) -> web.Response:
    """A reply for aiohttp; the reply's own headers win over *headers*."""
    together = CIMultiDict({"Content-Type": reply.content_type, **headers})
    together.update(reply.headers)
    return web.Response(status=reply.status, body=reply.raw, headers=together)


def reply_of(metrics: SessionMetrics) -> Reply:
    """The response with these metrics."""
    return Reply(200, {"data": converter.unstructure(metrics), "error": None})


def failure(text: str, status: int = 500) -> Reply:
    """The response for a failed query, as the open-source server sends it.

    Args:
        text: The text of the error.
        status: The HTTP status; the service uses 500.

    >>> failure("Invalid timezone difference").body
    {'data': None, 'error': 'Invalid timezone difference'}
    """
    return Reply(status, {"data": None, "error": text})


def gateway_page(status: int = 502) -> Reply:
    """The HTML page of a gateway in front of the service.

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
    """Metrics of equal sessions, so that each histogram has one bar.

    A histogram has no bar if its number is None, as if no session matched.

    Args:
        cost: The dollars of each session.
        duration: The seconds of each session.
        count: The requests of each session.
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
    # In ClickHouse's histogram, equal values have a bar without width.
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
    """A session.

    Args:
        session_id: Its id.
        session_name: Its name.
        created_at: The time of its first request.
        duration: Seconds from its first request to its latest.
        total_cost: Dollars.
        total_requests: The number of its requests.
        prompt_tokens: Tokens sent.
        completion_tokens: Tokens received.
        avg_latency: Milliseconds per request.
        user_ids: The users of its requests.

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
    """A request under the API's names.

    Args:
        request_id: Its id; None makes a new one.
        created_at: Its time.
        session_id: The id of its session; None for a request outside of sessions.
        session_name: The name of its session.
        model: Its model.
        cost: Its dollars.
        fields: Other fields, under the API's names.

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
