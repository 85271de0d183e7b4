"""The addresses of the server: what a request has to pass, and what it is answered."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import attrs
from aiohttp import web

from helicone_sessions.clock import Clock
from helicone_sessions.errors import ConfigurationError, FilterError
from helicone_sessions.local.drivers import BackendError
from helicone_sessions.local.http.access_log import Facts, facts, record
from helicone_sessions.local.http.keys import Keys, MalformedToken, WrongKey
from helicone_sessions.local.http.page.document import FILTER_PATH, page
from helicone_sessions.local.http.page.filter_check import LARGEST_READING, reading_of
from helicone_sessions.local.http.queue import Full, Large, Turns
from helicone_sessions.local.http.request_body import (
    LARGE_BODY,
    LARGEST_BODY,
    TooSlow,
    body_of,
    query_in,
    read,
    rows_in,
)
from helicone_sessions.local.http.service_form import (
    CRASHED,
    LARGEST_SERVICE_BODY,
    QUERY_FAILED,
    Invalid,
    read_query,
    service_answer,
)
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.local.query.service_sql import Crash
from helicone_sessions.local.source import Source
from helicone_sessions.local.storage.rows import Loaded
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.fixed_window import FixedWindow
from helicone_sessions.messages.protocol import CONTRACT_HEADER, PATH

_LOG: Final = logging.getLogger(__name__)

ROWS_PATH: Final = "v1/rows"
# An error quotes what it is about, and that can be megabytes.
_LONGEST_ERROR: Final = 2000
# Of larger bodies the SQL is made beside the loop, as it may take seconds.
_LARGE_QUERY: Final = 100_000
# How many large bodies are held at once.
_LARGE_AT_ONCE: Final = 4
# Rows are added one request after the other, in the order of arrival.
_ADDED_AT_ONCE: Final = 1
# After these the rest of the body is on its way, and nothing else can be read from the connection.
_CLOSING: Final = (408, 413)
# What nginx writes for a client that left before its answer.
_GONE: Final = 499

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Work = Callable[[web.Request, bytes, UUID], Awaitable[web.Response]]


class Refusal(Exception):
    """A request that is refused, and how.

    Args:
        status: The HTTP status.
        said: The error.
        outcome: A word for the log.
        headers: More headers.
        body: The body of the answer, if not ``{"error": said}``.
    """

    def __init__(
        self,
        status: int,
        said: str,
        outcome: str = "refused",
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(said)
        self.status = status
        self.said = said if len(said) <= _LONGEST_ERROR else f"{said[:_LONGEST_ERROR]}…"
        self.outcome = outcome
        self.headers = headers
        self.body = {"error": self.said} if body is None else body

    def response(self) -> web.Response:
        """The refusal as an answer."""
        return web.json_response(self.body, status=self.status, headers=self.headers)


class MalformedTokenRefusal(Refusal):
    """A token that is none, which the service answers in plain text."""

    def response(self) -> web.Response:
        """The refusal as an answer."""
        return web.Response(text=self.said, status=self.status)


@attrs.define(eq=False)
class Endpoints:
    """Answers requests.

    Args:
        source: What is asked.
        keys: Who may ask.
        max_concurrency: How many queries run at once.
        max_queued: How many wait beside them, and how many requests that add rows wait for each other.
        rate_limit: How many requests an organisation has in a window; None is without a limit.
        rate_limit_window: Seconds of a window.
        clock: The time of the rate limit.
        patience: Seconds that a body may take to arrive.
    """

    source: Source
    keys: Keys
    max_concurrency: int
    max_queued: int
    rate_limit: int | None
    rate_limit_window: float
    clock: Clock
    patience: float
    _queries: Turns = attrs.field(init=False)
    _additions: Turns = attrs.field(init=False)
    _large: asyncio.Semaphore = attrs.field(init=False)
    _windows: dict[UUID, FixedWindow] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._queries = Turns(self.max_concurrency, self.max_queued)
        # Their own: while they wait for each other, no query waits for them.
        self._additions = Turns(_ADDED_AT_ONCE, self.max_queued)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    def app(self) -> web.Application:
        """The application that holds the addresses."""
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._outermost])
        query: _Work = self._query
        largest = LARGEST_BODY
        if self.source.semantics == "helicone":
            query, largest = self._query_as_service, LARGEST_SERVICE_BODY
        app.router.add_post(f"/{PATH}", partial(self._guarded, query, self._queries, largest))
        rows = partial(self._guarded, self._add_rows, self._additions, LARGEST_BODY)
        app.router.add_post(f"/{ROWS_PATH}", rows)
        app.router.add_post(f"/{FILTER_PATH}", self._read_filter)
        app.router.add_get("/healthcheck", _healthcheck)
        app.router.add_get("/", page)
        return app

    @web.middleware
    async def _outermost(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Every way in which a request can end, as an answer and a word for the log."""
        seen = Facts()
        facts.set(seen)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return _closing(request, await handler(request))
        except asyncio.CancelledError:
            seen.outcome = "gone"
            record(request, _GONE, seen, seconds=loop.time() - began)
            raise
        except (Refusal, web.HTTPException) as error:
            return _closing(request, _response_of(error))
        except Exception:  # noqa: BLE001 - whatever it is, the client is not shown it
            seen.outcome = "broken"
            trace = secrets.token_hex(8)
            _LOG.exception("a request could not be answered, trace %s", trace)
            said = {"error": "the server failed; its log says more", "trace": trace}
            return web.json_response(said, status=500)

    async def _guarded(self, work: _Work, turns: Turns, largest: int, request: web.Request) -> web.Response:
        organization = self._caller(request)
        facts.get().organization = organization
        headers = self._counted(organization)
        try:
            response = await self._in_turn(work, turns, largest, request, organization)
        except (Refusal, web.HTTPException) as error:
            response = _response_of(error)
        response.headers.update(headers)
        return response

    def _caller(self, request: web.Request) -> UUID:
        try:
            organization = self.keys.organization_of(request.headers.get("Authorization"))
        except MalformedToken:
            raise MalformedTokenRefusal(400, "Invalid token.", "denied") from None
        except WrongKey:
            body = {"error": "Unauthorized", "trace": "no such API key"}
            raise Refusal(401, "Unauthorized", "denied", body=body) from None
        return organization or self.source.organization_id

    def _counted(self, organization: UUID) -> dict[str, str]:
        """What the answer says of the rate limit."""
        if self.rate_limit is None:
            return {}
        window = self._windows.get(organization)
        if window is None:
            window = self._windows[organization] = FixedWindow(self.rate_limit, self.rate_limit_window)
        now = self.clock.now()
        has_room = window.take(now)
        headers = window.headers(now)
        if not has_room:
            raise Refusal(429, "Too many requests, please try again later.", "limited", headers)
        return headers

    async def _in_turn(
        self, work: _Work, turns: Turns, largest: int, request: web.Request, organization: UUID
    ) -> web.Response:
        try:
            with turns.place(), Large(self._large) as large:
                body = await self._body(request, large, largest)
                async with turns.turn:
                    return await work(request, body, organization)
        except Full:
            said = "as many requests wait as may (max_queued): try again in a second"
            raise Refusal(503, said, "busy", {"Retry-After": "1"}) from None

    async def _body(self, request: web.Request, large: Large, largest: int = LARGEST_BODY) -> bytes:
        try:
            body = await body_of(request, self.patience, large, largest=largest)
        except TooSlow:
            said = f"the body did not arrive within {self.patience:g} seconds"
            raise Refusal(408, said, "slow") from None
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        except web.HTTPRequestEntityTooLarge:
            if largest == LARGEST_SERVICE_BODY:
                raise _without_envelope("request entity too large") from None
            raise
        facts.get().bytes_in = len(body)
        return body

    async def _query(self, _request: web.Request, body: bytes, organization: UUID) -> web.Response:
        try:
            query = await read(body, query_in)
        except (FilterError, ValueError) as error:
            raise Refusal(400, str(error)) from None
        try:
            metrics = await self.source.answer(query, organization, is_large=len(body) > _LARGE_QUERY)
        except (Unanswerable, BackendError) as error:
            # As the service does: the query was understood and failed.
            _log_failure(error)
            return _failed(str(error), CONTRACT_HEADER)
        # With the header the server declares that it reads every condition.
        return _answered(converter.unstructure(metrics), CONTRACT_HEADER)

    async def _query_as_service(self, request: web.Request, body: bytes, organization: UUID) -> web.Response:
        """The query as the open-source server takes and answers it."""
        if request.content_type != "application/json":
            raise _without_envelope(f"the content type is {request.content_type}, not application/json")
        try:
            asked = await read(body, read_query)
        except Invalid as invalid:
            problem = {"message": "Validation Failed", "details": invalid.details}
            raise Refusal(422, str(invalid), body=problem) from None
        except ValueError as error:
            raise _without_envelope(str(error)) from None
        if asked.failure is not None:
            return _failed(asked.failure, None)
        try:
            metrics = await self.source.answer(
                asked.query, organization, asked.wire_filter, is_large=len(body) > _LARGE_QUERY
            )
        except Crash:
            raise Refusal(500, "the server's code breaks off", body=CRASHED) from None
        except (Unanswerable, BackendError) as error:
            _log_failure(error)
            return _failed(QUERY_FAILED, None)
        return _answered(service_answer(metrics), None)

    async def _read_filter(self, request: web.Request) -> web.Response:
        """What a text says as a filter. It asks nothing of the data, so no limit counts it."""
        facts.get().organization = self._caller(request)
        with Large(self._large) as large:
            body = await self._body(request, large)
        if len(body) > LARGEST_READING:
            raise Refusal(413, f"the body is longer than {LARGEST_READING // 1024} KB")
        try:
            reading = await asyncio.to_thread(reading_of, body)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        facts.get().outcome = "answered"
        return web.json_response(reading)

    async def _add_rows(self, _request: web.Request, body: bytes, organization: UUID) -> web.Response:
        try:
            rows = await read(body, rows_in)
            # Of one key for whatever is served, the rows may say whose they are.
            loaded = await self.source.add(rows, organization if self.keys.organizations else None)
        except (ConfigurationError, FilterError, ValueError) as error:
            raise Refusal(400, str(error)) from None
        except BackendError as error:
            return _failed(str(error), None)
        facts.get().outcome = "added"
        return web.json_response({"data": _told(loaded), "error": None})


def _closing(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The answer, which closes the connection where a large part of the body was left unread."""
    is_long = request.content_length is None or request.content_length > LARGE_BODY
    is_long = is_long and not request.content.is_eof()
    if is_long or response.status in _CLOSING:
        response.force_close()
    return response


async def _healthcheck(_request: web.Request) -> web.Response:
    facts.get().outcome = "answered"
    return web.json_response({"status": "healthy"})


def _told(loaded: Loaded) -> dict[str, Any]:
    told = attrs.asdict(loaded)
    return {**told, "ignored": sorted(loaded.ignored)}


def _log_failure(error: Exception) -> None:
    # Its text may quote the filter.
    _LOG.info("a query failed: %s, code %s", type(error).__name__, getattr(error, "code", None))


def _without_envelope(message: str) -> Refusal:
    return Refusal(500, message, body={"message": message[:_LONGEST_ERROR]})


def _answered(data: Mapping[str, Any], headers: Mapping[str, str] | None) -> web.Response:
    facts.get().outcome = "answered"
    return web.json_response({"data": data, "error": None}, headers=headers)


def _failed(error: str, headers: Mapping[str, str] | None) -> web.Response:
    facts.get().outcome = "failed"
    answer = {"data": None, "error": error[:_LONGEST_ERROR]}
    return web.json_response(answer, status=500, headers=headers)


def _response_of(error: Refusal | web.HTTPException) -> web.Response:
    """A refusal, aiohttp's own among them, as JSON."""
    if isinstance(error, Refusal):
        facts.get().outcome = error.outcome
        return error.response()
    kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return web.json_response(
        {"error": _SAID.get(error.status, error.reason)}, status=error.status, headers=kept
    )


_SAID: Final = {
    404: f"there is nothing at this address: queries go to POST /{PATH}, rows to POST /{ROWS_PATH}",
    413: f"the body is longer than {LARGEST_BODY // 1024**2} MB",
}
