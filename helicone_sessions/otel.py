"""OpenTelemetry spans for queries and their attempts (extra ``otel``)."""

from collections.abc import Mapping
from contextvars import Token
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

import attrs
from yarl import URL

from helicone_sessions.errors import APIError, MissingExtra, TransportError
from helicone_sessions.messages.protocol import AnyQuery
from helicone_sessions.transport.hooks import Attempt, Hooks, QueryOutcome, WaitReason

try:
    from opentelemetry import context
    from opentelemetry.trace import (
        Span,
        SpanKind,
        StatusCode,
        TracerProvider,
        get_current_span,
        get_tracer,
        set_span_in_context,
    )
except ImportError as error:
    raise MissingExtra("otel", package="opentelemetry-api", purpose="helicone_sessions.otel") from error

# The first version of the schema with stable attributes for HTTP clients.
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.23.0"


@attrs.frozen
class _Begun:
    span: Span
    token: Token[Any]


class OpenTelemetryHooks(Hooks):
    """Hooks that create a span for each query, with a child span for each attempt.

    Pass an instance to a client as *hooks*. The parent of a query's span is the span that is current where
    the query starts, even in a batch. The span of a query or attempt is current while the query or attempt
    runs. The spans of attempts follow the stable semantic conventions for HTTP clients.

    Spans never contain keys, responses or error messages. They contain no part of a query either, except the
    filter if you set *record_filter*.

    Args:
        tracer_provider: The provider that creates the spans; the default is the global provider.
        record_filter: Whether to record the text of the filter in the span of the query, as
            ``helicone_sessions.filter``.

    Raises:
        MissingExtra: opentelemetry-api is not installed. The error is raised when this module is imported.

    >>> from helicone_sessions import HeliconeClient
    >>> HeliconeClient("sk-helicone-example", hooks=OpenTelemetryHooks())
    HeliconeClient(base_url='https://api.helicone.ai', api_key='***')
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, record_filter: bool = False) -> None:
        package = __name__.partition(".")[0]
        self._tracer = get_tracer(package, version(package), tracer_provider, _SCHEMA)
        self._record_filter = record_filter

    def query_begins(self, query: AnyQuery) -> _Begun:
        """Start the span of a query."""
        begun = self._begin("helicone_sessions.query", SpanKind.INTERNAL, {})
        if self._record_filter and begun.span.is_recording():
            text = "all" if query.filter is None else str(query.filter)
            begun.span.set_attribute("helicone_sessions.filter", text)
        return begun

    def attempt_begins(self, token: _Begun, number: int, url: str) -> _Begun:
        """Start the span of an attempt."""
        # Set these attributes at the start, because samplers may read them.
        attributes = dict(_of_address(url))
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        return self._begin("POST", SpanKind.CLIENT, attributes)

    def attempt_ends(self, token: _Begun, attempt: Attempt) -> None:
        """End the span of an attempt."""
        attributes: dict[str, Any] = {"helicone_sessions.waited": attempt.waited}
        if attempt.status is not None:
            attributes["http.response.status_code"] = attempt.status
        status = str(attempt.status) if attempt.status is not None and attempt.status >= 400 else None
        _end(token, attributes, attempt.error, status)

    def waits(
        self,
        token: _Begun,
        seconds: float,
        reason: WaitReason,
        error: TransportError | APIError | None,
    ) -> None:
        """Add an event for the wait to the span of the query."""
        token.span.add_event(
            "helicone_sessions.wait",
            {"helicone_sessions.wait.seconds": seconds, "helicone_sessions.wait.reason": reason},
        )

    def query_ends(self, token: _Begun, outcome: QueryOutcome) -> None:
        """End the span of a query."""
        attributes = {
            "helicone_sessions.attempts": outcome.attempts,
            "helicone_sessions.shared": outcome.is_shared,
            "helicone_sessions.queued": outcome.queued,
            "helicone_sessions.waited": outcome.waited,
        }
        _end(token, attributes, outcome.error)

    def _begin(self, name: str, kind: SpanKind, attributes: Mapping[str, Any]) -> _Begun:
        span = self._tracer.start_span(name, kind=kind, attributes=attributes)
        return _Begun(span, context.attach(set_span_in_context(span)))


def _end(
    begun: _Begun, attributes: Mapping[str, Any], error: BaseException | None, status: str | None = None
) -> None:
    # An abandoned coroutine is closed in another context, in which this span was never attached.
    if not isinstance(error, GeneratorExit) or get_current_span() is begun.span:
        context.detach(begun.token)
    if begun.span.is_recording():
        begun.span.set_attributes(attributes)
        if error is not None:
            # Record only the type: the message of an error may quote the filter.
            begun.span.set_attribute("error.type", status or type(error).__qualname__)
            begun.span.set_status(StatusCode.ERROR)
    begun.span.end()


@lru_cache(maxsize=32)
def _of_address(url: str) -> Mapping[str, Any]:
    address = URL(url)
    return {
        "http.request.method": "POST",
        "server.address": address.host or "",
        "server.port": address.port or 0,
        "url.full": url,
    }
