"""Handles the requests to all paths, including authentication, the rate limit and the queues."""

import asyncio
import io
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final
from uuid import UUID

import attrs
from aiohttp import web

from helicone_sessions.clock import Clock
from helicone_sessions.errors import ConfigurationError, FilterError, FilterSyntaxError, FilterValueError
from helicone_sessions.filters.constants import cut
from helicone_sessions.filters.parser import as_filter_text, parse_filter
from helicone_sessions.local.dataset import Dataset
from helicone_sessions.local.drivers import DriverError
from helicone_sessions.local.http.listening import RequestFacts, facts, record
from helicone_sessions.local.http.page import FILTER_PATH, page
from helicone_sessions.local.http.request_body import (
    LARGE_BODY,
    SMALL_BODY,
    LargeBodySlot,
    TooLarge,
    TooSlow,
    body_of,
    json_in,
    query_in,
    read,
    rows_in,
)
from helicone_sessions.local.http.service_form import (
    CRASHED,
    QUERY_FAILED,
    Invalid,
    ServiceQuery,
    read_query,
    service_answer,
)
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.local.query.engine import Engine, PageTooLarge
from helicone_sessions.local.query.listing_sql import ContractListings, Listing, ServiceListings
from helicone_sessions.local.query.overview_sql import (
    BARS_PATH,
    IN_BAR_PATH,
    Bars,
    InBar,
    bars_from_wire,
    in_bar_from_wire,
)
from helicone_sessions.local.query.service_sql import Crash
from helicone_sessions.local.server_config import Keys, MalformedToken, ServerConfig, WrongKey
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.grid_query import GRID_HEADER, GRID_PATH, grid_query_from_wire
from helicone_sessions.messages.protocol import (
    CONTRACT_HEADER,
    METRICS,
    PATH,
    REQUEST_COUNT,
    REQUESTS,
    SESSION_COUNT,
    SESSION_NAMES,
    SESSIONS,
    Endpoint,
    FixedWindow,
    gaps_header,
)

_LOG: Final = logging.getLogger(__name__)

ROWS_PATH: Final = "v1/rows"
_MEGABYTE: Final = 1024 * 1024
# The maximum size of a body in bytes. The limit for queries is that of the open-source server. The limit for
# filters is enough for about 2,000 conditions.
LARGEST_QUERY: Final = 10 * _MEGABYTE
LARGEST_ROWS: Final = 50 * _MEGABYTE
LARGEST_FILTER: Final = 64 * 1024
# An error may quote a part of the request that has several megabytes.
_LONGEST_ERROR: Final = 2000
# The maximum number of large bodies in memory.
_LARGE_AT_ONCE: Final = 4
# Rows are added by one request at a time, in the order of arrival.
_ADDED_AT_ONCE: Final = 1
_CHECKED_AT_ONCE: Final = 1
# With these statuses, part of the body is unread, so the connection cannot be reused.
_CLOSING: Final = (408, 413)
# The status that nginx logs for a client that disconnects early.
_GONE: Final = 499

# These headers announce that the server evaluates every condition and supports grid queries.
_CONTRACT_HEADERS: Final = {**CONTRACT_HEADER, **GRID_HEADER}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Work = Callable[[web.Request, list[bytes], UUID], Awaitable[web.Response]]
_WorkOnWhole = Callable[[web.Request, bytes, UUID], Awaitable[web.Response]]


class _QueueFull(Exception):
    """The request queue is full."""


class _RequestQueue:
    """A semaphore with a bounded queue of waiting requests.

    Args:
        running: The maximum number of requests that run at once.
        waiting: The maximum number of requests that wait.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self.running = asyncio.Semaphore(running)
        self._free = running + waiting

    @contextmanager
    def place(self) -> Iterator[None]:
        """Reserve a place in the queue, where the request waits for the semaphore ``running``.

        Raises:
            _QueueFull: The queue is full.
        """
        if not self._free:
            raise _QueueFull
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


@attrs.frozen
class _Route:
    """The handler, request queue and body size limit of a path. The handler takes the body in pieces."""

    work: _Work
    queue: _RequestQueue
    largest: int


class Refusal(Exception):
    """The request is rejected with this response.

    Args:
        status: The HTTP status.
        message: The error message.
        outcome: The outcome for the access log, in one word.
        headers: Additional headers.
        body: The body of the response. By default, it is ``{"error": message}``. A string is sent as plain
            text.
    """

    def __init__(
        self,
        status: int,
        message: str,
        outcome: str = "refused",
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.outcome = outcome
        self.headers = headers
        self.body = {"error": cut(message, _LONGEST_ERROR)} if body is None else body

    def response(self) -> web.Response:
        """Build the response."""
        if isinstance(self.body, str):
            return web.Response(text=self.body, status=self.status)
        return web.json_response(self.body, status=self.status, headers=self.headers)


@attrs.define(eq=False)
class Endpoints:
    """The handlers of all paths.

    Args:
        config: The arguments of the server.
        dataset: The data that the server serves.
        keys: The API keys.
        clock: The clock of the rate limit.
    """

    config: ServerConfig
    dataset: Dataset
    keys: Keys
    clock: Clock
    _queries: _RequestQueue = attrs.field(init=False)
    _additions: _RequestQueue = attrs.field(init=False)
    _checks: _RequestQueue = attrs.field(init=False)
    _large: asyncio.Semaphore = attrs.field(init=False)
    _windows: dict[UUID, FixedWindow] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._queries = _RequestQueue(self.config.threads, self.config.max_queued)
        # The queues are separate, so queries never wait for additions, and checks never wait for queries.
        self._additions = _RequestQueue(_ADDED_AT_ONCE, self.config.max_queued)
        self._checks = _RequestQueue(_CHECKED_AT_ONCE, self.config.max_queued)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    def app(self) -> web.Application:
        """Build the application with all routes."""
        app = web.Application(middlewares=[self._outermost])
        answer = self._query if self.config.semantics == "contract" else self._query_as_service
        query = _Route(_on_whole(answer), self._queries, LARGEST_QUERY)
        rows = _Route(self._add_rows, self._additions, LARGEST_ROWS)
        check = _Route(_on_whole(self._check_filter), self._checks, LARGEST_FILTER)
        routes = {PATH: query, ROWS_PATH: rows, FILTER_PATH: check}
        if self.config.semantics == "contract":
            routes[GRID_PATH] = _Route(_on_whole(self._query_grid), self._queries, LARGEST_QUERY)
        for endpoint, make in _LISTINGS:
            work = _on_whole(partial(self._list, endpoint, make))
            routes[endpoint.path] = _Route(work, self._queries, LARGEST_QUERY)
        for path, read_body in ((BARS_PATH, bars_from_wire), (IN_BAR_PATH, in_bar_from_wire)):
            routes[path] = _Route(_on_whole(partial(self._overview, read_body)), self._queries, LARGEST_QUERY)
        for path, route in routes.items():
            app.router.add_post(_with_slashes(path), partial(self._guarded, route))
        app.router.add_get("/healthcheck", _healthcheck)
        app.router.add_get("/", page)
        return app

    @web.middleware
    async def _outermost(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Convert every outcome of a request to a response, and record the outcome for the access log."""
        seen = RequestFacts()
        facts.set(seen)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return _closing(request, await handler(request))
        except asyncio.CancelledError:
            seen.outcome = "gone"
            record(request, _GONE, seen, self.keys.secrets, seconds=loop.time() - began)
            raise
        except (Refusal, web.HTTPException) as error:
            return _closing(request, _response_of(error))
        except Exception:  # noqa: BLE001 - the client must not see the error
            seen.outcome = "broken"
            trace = secrets.token_hex(8)
            _LOG.exception("a request failed, trace %s", trace)
            body = {"error": "the server failed. Its log has details", "trace": trace}
            return web.json_response(body, status=500)

    async def _guarded(self, route: "_Route", request: web.Request) -> web.Response:
        organization = self._caller(request)
        facts.get().organization = organization
        # Checking a filter reads no data, so it is not counted.
        headers = {} if route.queue is self._checks else self._count(organization)
        try:
            response = await self._queued(route, request, organization)
        except (Refusal, web.HTTPException) as error:
            response = _response_of(error)
        response.headers.update(headers)
        return response

    def _caller(self, request: web.Request) -> UUID:
        try:
            organization = self.keys.organization_of(request.headers.get("Authorization"))
        except MalformedToken:
            raise Refusal(400, "Invalid token", "denied", body="Invalid token.") from None
        except WrongKey:
            body = {"error": "Unauthorized", "trace": "no such API key"}
            raise Refusal(401, "Unauthorized", "denied", body=body) from None
        return organization or self.dataset.organization_id

    def _count(self, organization: UUID) -> dict[str, str]:
        """Count the request against the rate limit, and return the headers for the response."""
        if self.config.rate_limit is None:
            return {}
        window = self._windows.get(organization)
        if window is None:
            window = self._windows[organization] = FixedWindow(
                self.config.rate_limit, self.config.rate_limit_window
            )
        now = self.clock.now()
        has_room = window.take(now)
        headers = window.headers(now)
        if not has_room:
            raise Refusal(429, "Too many requests, please try again later.", "limited", headers)
        return headers

    async def _queued(self, route: "_Route", request: web.Request, organization: UUID) -> web.Response:
        try:
            with route.queue.place(), LargeBodySlot(self._large) as large:
                body = await self._body(request, large, route.largest)
                async with route.queue.running:
                    return await route.work(request, body, organization)
        except _QueueFull:
            message = "the request queue is full (max_queued). Try again in a second"
            raise Refusal(503, message, "busy", {"Retry-After": "1"}) from None

    async def _body(self, request: web.Request, large: LargeBodySlot, largest: int) -> list[bytes]:
        try:
            body = await body_of(request, self.config.patience, large, largest)
        except TooSlow:
            message = f"the body did not arrive within {self.config.patience:g} seconds"
            raise Refusal(408, message, "slow") from None
        except FilterError as error:
            raise Refusal(400, error.message) from None
        except TooLarge:
            if self.config.semantics == "helicone" and largest == LARGEST_QUERY:
                raise _without_envelope("request entity too large") from None
            size = f"{largest // _MEGABYTE} MB" if largest >= _MEGABYTE else f"{largest // 1024} KB"
            raise Refusal(413, f"the body must not be longer than {size}") from None
        facts.get().bytes_in = sum(map(len, body))
        return body

    async def _query(self, _request: web.Request, body: bytes, organization: UUID) -> web.Response:
        with _rejecting_errors():
            query = await read(body, query_in)
        headers = await self._announced(organization)
        async with self._reading(headers) as engine:
            metrics = await engine.answer(query, organization, is_large=len(body) > SMALL_BODY)
        return _answered(converter.unstructure(metrics), headers)

    async def _announced(self, organization: UUID) -> dict[str, str] | None:
        """The headers that announce the contract's semantics; None for the open-source server's semantics."""
        if self.config.semantics == "helicone":
            return None
        return {**_CONTRACT_HEADERS, **gaps_header(await self.dataset.gaps(organization))}

    @asynccontextmanager
    async def _reading(
        self, headers: Mapping[str, str] | None, failure: str | None = None
    ) -> AsyncGenerator[Engine, None]:
        """Provide the engine. If a query inside the block fails, raise a `Refusal`.

        The response contains *failure* or, by default, the query's error. The query itself is valid, so the
        response has a 5xx status, as from the service.
        """
        try:
            async with self.dataset.reading() as engine:
                yield engine
        except Crash:
            raise Refusal(500, "the server's code crashes", body=CRASHED) from None
        except PageTooLarge as error:
            raise Refusal(504, f"{error}. Use a smaller limit", "failed") from None
        except (Unanswerable, DriverError) as error:
            # The text of the error is not logged, because it may quote the filter.
            _LOG.info("a query failed: %s, code %s", type(error).__name__, getattr(error, "code", None))
            raise _failed(failure or str(error), headers) from None

    async def _query_grid(self, _request: web.Request, body: bytes, organization: UUID) -> web.Response:
        """Answer a grid query: the metrics of many segments and periods. The service lacks this endpoint."""
        with _rejecting_errors():
            grid = await read(body, lambda body: grid_query_from_wire(json_in(body)))
        headers = await self._announced(organization)
        async with self._reading(headers) as engine:
            data = await engine.answer_grid(grid, organization)
        return await _answered_at_length(data, headers)

    async def _list(
        self,
        endpoint: Endpoint[Any, Any],
        make: Callable[[ContractListings | ServiceListings, Any], Listing],
        request: web.Request,
        body: bytes,
        organization: UUID,
    ) -> web.Response:
        """Answer queries for sessions, requests, session names and counts."""
        headers = await self._announced(organization)
        received = await self._received(endpoint, request, body)
        async with self._reading(headers) as engine:
            listings = engine.listings(organization, received.wire_filter)
            if len(body) > SMALL_BODY:
                listing = await asyncio.to_thread(make, listings, received.query)
            else:
                listing = make(listings, received.query)
            data = await engine.answer_listing(listing)
        return await _answered_at_length(data, headers)

    async def _overview(
        self,
        read_body: Callable[[Any], Bars | InBar],
        _request: web.Request,
        body: bytes,
        organization: UUID,
    ) -> web.Response:
        """Answer queries for totals and bars, or for sessions in a bar. The service lacks these endpoints."""
        headers = await self._announced(organization)
        with _rejecting_errors():
            wire = await read(body, json_in)
            wanted = await read(body, lambda _body: read_body(wire))
        async with self._reading(headers) as engine:
            wire_filter = wire["query"].get("filter", "all")
            listing = await asyncio.to_thread(engine.overview, wanted, organization, wire_filter)
            data = await engine.answer_listing(listing)
        return await _answered_at_length(data, headers)

    async def _received(
        self, endpoint: Endpoint[Any, Any], request: web.Request, body: bytes
    ) -> ServiceQuery:
        """Parse the query in a body, under either semantics."""
        if self.config.semantics == "helicone":
            return await _read_as_service(endpoint, request, body)
        with _rejecting_errors():
            query = await read(body, lambda body: endpoint.query_from_wire(json_in(body)))
        return ServiceQuery(query, None)

    async def _query_as_service(self, request: web.Request, body: bytes, organization: UUID) -> web.Response:
        """Answer a query as the open-source server does."""
        received = await _read_as_service(METRICS, request, body)
        async with self._reading(None, QUERY_FAILED) as engine:
            metrics = await engine.answer(
                received.query, organization, received.wire_filter, is_large=len(body) > SMALL_BODY
            )
        return _answered(service_answer(metrics), None)

    async def _check_filter(self, _request: web.Request, body: bytes, _organization: UUID) -> web.Response:
        with _rejecting_errors():
            checked = await asyncio.to_thread(check_filter, body)
        facts.get().outcome = "answered"
        return web.json_response(checked)

    async def _add_rows(self, _request: web.Request, body: list[bytes], organization: UUID) -> web.Response:
        # If there is a single key, the rows may name their organisations.
        named = organization if self.keys.organizations else None
        try:
            with _rejecting_errors():
                loaded = await self.dataset.add(rows_in(body), named)
        except DriverError as error:
            raise _failed(str(error), None) from None
        facts.get().outcome = "added"
        return web.json_response(
            {"data": {**attrs.asdict(loaded), "ignored": sorted(loaded.ignored)}, "error": None}
        )


def _on_whole(work: _WorkOnWhole) -> _Work:
    """Wrap a handler of whole bodies in a handler that takes the body in pieces."""

    async def on_pieces(request: web.Request, body: list[bytes], organization: UUID) -> web.Response:
        whole = b"".join(body)
        body.clear()
        return await work(request, whole, organization)

    return on_pieces


async def _read_as_service(endpoint: Endpoint[Any, Any], request: web.Request, body: bytes) -> ServiceQuery:
    if request.content_type != "application/json":
        raise _without_envelope(f"the content type is {request.content_type}, not application/json")
    try:
        received = await read(body, partial(read_query, endpoint=endpoint))
    except Invalid as invalid:
        problem = {"message": "Validation Failed", "details": invalid.details}
        raise Refusal(422, str(invalid), body=problem) from None
    except ValueError as error:
        raise _without_envelope(str(error)) from None
    if received.failure is not None:
        raise _failed(received.failure, None)
    return received


@contextmanager
def _rejecting_errors() -> Iterator[None]:
    """Raise a `Refusal` if the block raises an error about the request body."""
    try:
        yield
    except (ConfigurationError, FilterError) as error:
        raise Refusal(400, error.message) from None


def check_filter(body: bytes) -> dict[str, Any]:
    """Check the filter text in a body.

    For a valid filter, the result contains its JSON, its tree, its Python code and its cautions. For an
    invalid filter, the result contains the error and its position.

    Raises:
        FilterValueError: The body is not an object with a ``text`` field.

    >>> check_filter(b'{"text": "cost > 1"}')["python"]
    'F.cost > 1'
    >>> check_filter(b'{"text": "cots > 1"}')["position"]
    {'offset': 0, 'line': 1, 'column': 1}
    """
    match json_in(body):
        case {"text": str(text)}:
            pass
        case _:
            raise FilterValueError(problem='the body must be an object like {"text": "cost > 0.1"}')
    try:
        made = parse_filter(text)
        # This comes first, because it rejects deep nesting, which would make the other forms huge.
        wire = made.to_wire()
    except FilterError as error:
        return {"error": error.message, "position": _place(error)}
    return {
        "wire": wire,
        "explain": made.explain(),
        "python": repr(made),
        "cautions": [
            {**attrs.asdict(caution), "condition": as_filter_text(caution.condition)}
            for caution in made.cautions()
        ],
    }


def _place(error: FilterError) -> dict[str, int] | None:
    if not isinstance(error, FilterSyntaxError):
        return None
    return {"offset": error.offset, "line": error.line, "column": error.column}


def _with_slashes(path: str) -> str:
    """Convert a path to a pattern that also allows doubled slashes, for base URLs that end with a slash."""
    first, *others = path.split("/")
    return f"/{{_:/*}}{first}" + "".join(f"{{_{place}:/+}}{part}" for place, part in enumerate(others))


def _closing(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Make the response close the connection if a large part of the request body may be unread."""
    is_long = request.content_length is None or request.content_length > LARGE_BODY
    is_long = is_long and not request.content.is_eof()
    if is_long or response.status in _CLOSING:
        response.force_close()
    return response


async def _healthcheck(_request: web.Request) -> web.Response:
    facts.get().outcome = "answered"
    return web.json_response({"status": "healthy"})


def _without_envelope(message: str) -> Refusal:
    return Refusal(500, message, body={"message": message[:_LONGEST_ERROR]})


def _answered(data: Any, headers: Mapping[str, str] | None) -> web.Response:
    facts.get().outcome = "answered"
    return web.json_response({"data": data, "error": None}, headers=headers)


async def _answered_at_length(data: Any, headers: Mapping[str, str] | None) -> web.Response:
    """Build a response with many rows. A thread encodes them one by one to keep the event loop responsive."""
    facts.get().outcome = "answered"
    body = await asyncio.to_thread(_envelope, data)
    # aiohttp copies a large bytes object as a whole, but it sends a file in pieces.
    content = io.BytesIO(body) if len(body) > LARGE_BODY else body
    return web.Response(body=content, content_type="application/json", headers=headers)


def _envelope(data: Any) -> bytes:
    rows = b"[%b]" % b",".join(map(_encoded, data)) if isinstance(data, list) else _encoded(data)
    return b'{"data": %b, "error": null}' % rows


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _failed(error: str, headers: Mapping[str, str] | None) -> Refusal:
    """Build the response to a failed query, in the format of the service."""
    return Refusal(500, error, "failed", headers, {"data": None, "error": error[:_LONGEST_ERROR]})


def _response_of(error: Refusal | web.HTTPException) -> web.Response:
    """Build the response to a rejected request. aiohttp's errors are converted to JSON."""
    if isinstance(error, Refusal):
        facts.get().outcome = error.outcome
        return error.response()
    kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return web.json_response(
        {"error": _MESSAGES.get(error.status, error.reason)}, status=error.status, headers=kept
    )


_LISTINGS: Final[
    tuple[tuple[Endpoint[Any, Any], Callable[[ContractListings | ServiceListings, Any], Listing]], ...]
] = (
    (SESSIONS, lambda listings, query: listings.sessions(query)),
    (SESSION_COUNT, lambda listings, query: listings.session_count(query)),
    (SESSION_NAMES, lambda listings, query: listings.session_names(query)),
    (REQUESTS, lambda listings, query: listings.requests(query)),
    (REQUEST_COUNT, lambda listings, query: listings.request_count(query)),
)
_MESSAGES: Final = {
    404: f"not found. Queries go to POST /{PATH}, rows to POST /{ROWS_PATH}",
}
