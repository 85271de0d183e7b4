"""A fake Helicone service on loopback, with programmable responses."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, NoReturn, Self

from aiohttp import web

from helicone_sessions.clock import Clock, current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.protocol import ENDPOINTS as _ENDPOINTS
from helicone_sessions.messages.protocol import METRICS, AnyQuery, FixedWindow
from helicone_sessions.messages.query import Request
from helicone_sessions.messages.sessions import Session
from helicone_sessions.testing.recorded_request import RecordedRequest, check_body, masked
from helicone_sessions.testing.replies import (
    Answer,
    AnswerRules,
    Fault,
    Held,
    Matching,
    Reply,
    broken_off,
    checked,
    metrics,
    reply_of,
    response,
    truncated,
)
from helicone_sessions.testing.stored_data import StoredData, Traps

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The service accepts request bodies of up to 50 MB (server source).
_LARGEST_BODY = 50 * 1024 * 1024
_TURNS_TO_CONNECT = 10


class LoopbackServer:
    """An HTTP server that passes each request to *handler*.

    If a client disconnects, its request is cancelled. When the server stops, all requests in progress are
    cancelled.
    """

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        self._handler = handler
        self._host = host
        self._port = port
        self._under_way: set[asyncio.Task[object]] = set()
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The URL of the server."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self.runner.server.connections) if self.runner.server is not None else 0

    async def start(self) -> None:
        """Start listening."""
        await self.runner.setup()
        assert self.runner.server is not None
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(self.runner.server, self._host, self._port)
        except OSError:
            await self.runner.cleanup()
            raise
        self._port = self._listening.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Stop listening and cancel all requests in progress."""
        await self._stop_listening()
        for task in tuple(self._under_way):
            task.cancel()
        await self.runner.cleanup()

    async def _stop_listening(self) -> None:
        if self._listening is None:
            return
        loop = asyncio.get_running_loop()
        # If asyncio accepts a connection while the server is closing, it neither serves nor closes it.
        # Therefore stop accepting connections first, and let accepted ones complete.
        if hasattr(loop, "remove_reader") and not _is_proactor(loop):
            for socket in self._listening.sockets:
                loop.remove_reader(socket)
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        self._listening.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await self._handler(request)
        finally:
            self._under_way.discard(task)


def _is_proactor(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the default event loop of Windows, which does not support readers."""
    return type(loop).__name__ == "ProactorEventLoop"


class ServerThread:
    """A thread that runs a server in a separate event loop."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="FakeHelicone", daemon=True)

    def start(self) -> None:
        """Start the thread, and return when the server is listening.

        Raises:
            OSError: The server cannot listen on the address.
        """
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result()
        except BaseException:
            self._stop()
            raise

    def end(self) -> None:
        """Stop the server and the thread."""
        try:
            asyncio.run_coroutine_threadsafe(self._server.end(), self._loop).result()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        # When the loop stops, the runner cancels the remaining tasks and closes the loop.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


_SECONDS_BETWEEN_CHECKS: Final = 0.001
_TOO_MANY: Final = Reply(429, {"error": "Too many requests, please try again later."})


class FakeHelicone:
    """A fake Helicone service on loopback, with the endpoints for metrics, sessions and requests.

    In an ``async with`` block, it runs in the current event loop. In a ``with`` block, it runs in a thread.
    Use ``with`` in tests that are not async, that call ``asyncio.run``, or that use the event loop of another
    library.

    The fake rejects the same requests as the open-source server, with the same messages: requests with a
    wrong path (404), a missing or wrong key (401), a malformed key (400), or a body that breaks the API
    contract (400). It also rejects filters that the real server would evaluate only in part without reporting
    an error. It records such filters, and bodies that break the contract, in ``complaints``.

    Args:
        api_key: The key that clients must send.
        host: The address to listen on.
        port: The port to listen on; 0 selects a free one.
        clock: The clock for the rate limit and for the times of recorded requests. The default is the current
            clock.
        strict: Whether to reject filters that the real server would evaluate only in part, and to raise an
            `AssertionError` at the end of the block if there are complaints. If false, the fake answers such
            filters as the contract requires.
        patience: The timeout of `until` and the other waiting methods, in seconds of real time.
        traps: Deviations from the contract in the lists of sessions and requests, as they occur on real
            servers.

    Attributes:
        requests: The requests in order of arrival, as `RecordedRequest`.
        complaints: The problems found in requests, as text. If a test causes them on purpose, clear the list.
        open: The number of requests in progress.
        most_open: The highest number of requests that were in progress at the same time.
        refused: The number of requests that the rate limit rejected.

    >>> from helicone_sessions import F, HeliconeClient
    >>> async def ask(server, query=None):
    ...     async with HeliconeClient(server.api_key, base_url=server.url) as client:
    ...         return (await client.get_metrics(query)).average.session_cost
    >>> with FakeHelicone() as server:
    ...     server.answers(F.cost > 0.1, metrics(cost=0.5))
    ...     server.otherwise(metrics(cost=2))
    ...     print(asyncio.run(ask(server, F.cost > 0.1)), asyncio.run(ask(server)))
    ...     server.wait_for_requests(2)
    ...     server.wait_until(lambda: server.open == 0)
    0.5 2.0
    >>> async def main():
    ...     async with FakeHelicone() as server:
    ...         with server.hold():
    ...             asking = asyncio.create_task(ask(server))
    ...             await server.arrived(1)
    ...             await server.until(lambda: server.open == 1)
    ...         return await asking
    >>> asyncio.run(main())
    0.25
    """

    def __init__(
        self,
        *,
        api_key: str = "sk-helicone-fake",
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        strict: bool = True,
        patience: float = 60.0,
        traps: Traps | None = None,
    ) -> None:
        self.api_key = api_key
        self.clock = current() if clock is None else clock
        self.strict = strict
        self.patience = patience
        self.requests: list[RecordedRequest] = []
        self.complaints: list[str] = []
        self.open = 0
        self.most_open = 0
        self.refused = 0
        self._address = (host, port)
        self._rules = AnswerRules()
        self._data = StoredData(traps=traps or Traps())
        self._window: FixedWindow | None = None
        self._arrived = 0
        self._stale: set[tuple[str, int]] = set()
        self._server: LoopbackServer | None = None
        self._thread: ServerThread | None = None

    def __repr__(self) -> str:
        where = f"url={self.url!r}" if self._server is not None else "not running"
        return f"FakeHelicone({where}, api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a server cannot be pickled. Start one where you use it")

    @property
    def url(self) -> str:
        """The URL to pass to clients as ``base_url`` while the server is running."""
        return self._running().url

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._running().connections

    def _running(self) -> LoopbackServer:
        if self._server is None:
            raise ConfigurationError("the server is not running. Use it with `async with` or `with`")
        return self._server

    # Answers

    @property
    def sessions(self) -> list[Session]:
        """The sessions that the fake lists and counts.

        The fake evaluates conditions on whole sessions, session ids and session names. It treats all other
        conditions as true.
        """
        return self._data.sessions

    @sessions.setter
    def sessions(self, sessions: Iterable[Session]) -> None:
        self._data.sessions = list(sessions)

    @property
    def stored_requests(self) -> list[Request]:
        """The requests that the fake lists and counts, as dicts with the field names of the API."""
        return self._data.requests

    @stored_requests.setter
    def stored_requests(self, requests: Iterable[Request]) -> None:
        self._data.requests = list(requests)

    @property
    def traps(self) -> Traps:
        """The ways in which the lists deviate from the contract.

        You can change them while the server is running.
        """
        return self._data.traps

    @traps.setter
    def traps(self, traps: Traps) -> None:
        self._data.traps = traps

    def will_answer(self, *answers: Answer) -> None:
        """Set the answers to the next requests, in order of arrival.

        Args:
            answers: `SessionMetrics`, a `Reply`, a `Fault`, or an async function that takes the
                `RecordedRequest` and returns one of these. If the request is for sessions or requests, the
                fake ignores `SessionMetrics` and answers from `sessions` or `stored_requests`.

        >>> FakeHelicone().will_answer(Reply(503, headers={"Retry-After": "30"}), metrics(cost=0.5))
        """
        self._rules.add(*answers)

    def answers(self, to: Matching, answer: Answer) -> None:
        """Set the answer to all requests that match *to*.

        If several rules match, the latest one applies.

        Args:
            to: A `SessionMetricsQuery` to match requests with an equal query, a filter to match requests with
                an equal filter, a string to match requests with this ``name_contains``, or a function that
                takes the query and returns whether it matches.
            answer: As in `will_answer`.
        """
        self._rules.add_rule(to, answer)

    def otherwise(self, answer: Answer) -> None:
        """Set the answer to all other requests (``metrics()`` by default).

        Args:
            answer: As in `will_answer`.
        """
        self._rules.otherwise = checked(answer)

    def hold(self, to: Matching | None = None) -> Held:
        """Hold back the answers to requests that match *to* until they are released.

        Args:
            to: As in `answers`; None for all requests.
        """
        return self._rules.hold(to)

    def limit(self, requests: int = 1000, per: float = 300.0) -> None:
        """Apply a rate limit from now on; the default is the limit of Helicone's free tier.

        A window starts with the first request after the end of the previous window. Every response has the
        headers ``RateLimit-Limit``, ``RateLimit-Remaining``, ``RateLimit-Reset`` and ``RateLimit-Policy``.
        Requests beyond the limit get status 429 and a ``Retry-After`` header, and they count towards the
        limit as well (observed, open-source server of July 2026).

        Args:
            requests: The number of requests in a window.
            per: The length of a window in seconds, measured by the clock of the server.

        >>> FakeHelicone().limit(requests=10, per=60)
        """
        self._window = FixedWindow(requests, per)

    def spend(self, requests: int) -> None:
        """Count requests towards the rate limit, as if other processes had sent them.

        Args:
            requests: The number of requests to count.

        Raises:
            ConfigurationError: There is no rate limit.

        >>> server = FakeHelicone()
        >>> server.limit(requests=10, per=60)
        >>> server.spend(4)
        """
        if self._window is None:
            raise ConfigurationError("there is no rate limit. Call limit() first")
        self._window.take(self.clock.now(), requests)

    # Waits

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true.

        Args:
            condition: A function without arguments, for example ``lambda: server.open == 3``. The condition
                is true when the function returns a true value.

        Raises:
            TimeoutError: The condition stays false for ``patience`` seconds.
        """
        ends = time.monotonic() + self.patience
        while not condition():
            self._check_patience(ends)
            await asyncio.sleep(_SECONDS_BETWEEN_CHECKS)

    async def arrived(self, requests: int) -> None:
        """Wait until a number of requests has arrived, whether or not they have been answered.

        Args:
            requests: The number of requests since the start.

        Raises:
            TimeoutError: The requests do not arrive within ``patience`` seconds.
        """
        await self.until(lambda: len(self.requests) >= requests)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """In a test that is not async, wait until a condition is true.

        The server must run in a thread, as it does in a ``with`` block.

        Args:
            condition: As in `until`.

        Raises:
            ConfigurationError: The server runs in the loop of this thread, which the wait would block.
            TimeoutError: The condition stays false for ``patience`` seconds.
        """
        self._running()
        if self._thread is None:
            raise ConfigurationError("the server runs in the loop of this thread. Use `await server.until()`")
        ends = time.monotonic() + self.patience
        while not condition():
            self._check_patience(ends)
            time.sleep(_SECONDS_BETWEEN_CHECKS)

    def wait_for_requests(self, requests: int) -> None:
        """In a test that is not async, wait until a number of requests has arrived.

        The server must run in a thread, as it does in a ``with`` block.

        Args:
            requests: The number of requests since the start.

        Raises:
            ConfigurationError: The server runs in the loop of this thread, which the wait would block.
            TimeoutError: The requests do not arrive within ``patience`` seconds.
        """
        self.wait_until(lambda: len(self.requests) >= requests)

    def _check_patience(self, ends: float) -> None:
        if time.monotonic() > ends:
            raise TimeoutError(
                f"the condition was not true within {self.patience:g} s. The server has received"
                f" {len(self.requests)} requests; {self.open} are still in progress"
            )

    # Start and end

    async def __aenter__(self) -> Self:
        server = self._new()
        await server.start()
        self._server = server
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        server = self._running()
        self._server = None
        await server.end()
        self._complain(kind)

    def __enter__(self) -> Self:
        server = self._new()
        thread = ServerThread(server)
        thread.start()
        self._server, self._thread = server, thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        thread = self._thread
        self._server = self._thread = None
        if thread is not None:
            thread.end()
        self._complain(kind)

    def _new(self) -> LoopbackServer:
        if self._server is not None:
            raise ConfigurationError("the server is already running")
        return LoopbackServer(self._handle, *self._address)

    def _complain(self, kind: type[BaseException] | None) -> None:
        __tracebackhide__ = True
        # Do not hide an error that the test raised.
        if self.strict and self.complaints and kind is None:
            raise AssertionError(
                "\n  ".join(["the requests break the contract or would be misread:", *self.complaints])
            )

    # Requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if (connection := _peer(request)) in self._stale:
            self._stale.discard(connection)
            return broken_off(request, Fault.GOES_STALE)
        recorded, complaints = self._record(request, await request.read())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await self._respond(request, recorded, complaints)
        finally:
            self.open -= 1

    def _record(self, request: web.Request, body: bytes) -> tuple[RecordedRequest, list[str]]:
        endpoint = _ENDPOINTS.get(request.path.removeprefix("/"), METRICS)
        found = check_body(body, endpoint)
        self._arrived += 1
        recorded = RecordedRequest(
            number=self._arrived,
            method=request.method,
            path=request.path,
            headers=masked(request.headers),
            body=body,
            json=found.json,
            query=found.query,
            conditions=found.conditions,
            time=self.clock.now(),
            connection=_peer(request),
        )
        self.requests.append(recorded)
        return recorded, [f"request {recorded.number}: {complaint}" for complaint in found.complaints]

    async def _respond(
        self, request: web.Request, recorded: RecordedRequest, complaints: list[str]
    ) -> web.StreamResponse:
        if (rejection := _rejection(request, self.api_key, self._is_endpoint(request))) is not None:
            return response(rejection, {})
        headers, has_room = self._counted()
        if not has_room:
            self.refused += 1
            return response(_TOO_MANY, headers)
        self.complaints += complaints
        if (query := recorded.query) is None or (complaints and self.strict):
            return response(Reply(400, {"error": "; ".join(complaints)}), headers)
        try:
            return await self._answer(request, recorded, query, headers)
        except Exception as error:  # noqa: BLE001 - an error in the test's function
            self.complaints.append(f"request {recorded.number}: answering it raised {error!r}")
            return response(Reply(500, "the test's answer raised an error"), headers)

    def _is_endpoint(self, request: web.Request) -> bool:
        return request.method == "POST" and request.path.removeprefix("/") in _ENDPOINTS

    def _counted(self) -> tuple[dict[str, str], bool]:
        if (window := self._window) is None:
            return {}, True
        now = self.clock.now()
        has_room = window.take(now)
        return window.headers(now), has_room

    async def _answer(
        self,
        request: web.Request,
        recorded: RecordedRequest,
        query: AnyQuery,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        # Choose the answer now, so that answers follow the order of arrival even if requests are held.
        answer = self._rules.answer_to(query)
        for held in self._rules.holds_on(query):
            await held.wait()
        found = await self._value(answer, recorded)
        if isinstance(found, Reply):
            return response(found, headers)
        if found is Fault.STALL:
            await asyncio.Event().wait()
        if found not in (Fault.TRUNCATE, Fault.GOES_STALE):
            return broken_off(request, found)
        answered = await self._value(self._rules.answer_with_fault(query), recorded)
        reply = answered if isinstance(answered, Reply) else self._default_reply(recorded)
        if found is Fault.TRUNCATE:
            return await truncated(request, reply, headers)
        self._stale.add(recorded.connection)
        return response(reply, headers)

    async def _value(self, answer: Answer, request: RecordedRequest) -> Reply | Fault:
        """Convert an answer to a reply or a fault; if the answer is a function, convert its result."""
        while callable(answer):
            answer = checked(await answer(request))
        if isinstance(answer, (Reply, Fault)):
            return answer
        return self._default_reply(request, answer)

    def _default_reply(self, request: RecordedRequest, answer: SessionMetrics | None = None) -> Reply:
        """Return a response with metrics or, at other endpoints, with the stored sessions or requests."""
        endpoint = _ENDPOINTS.get(request.path.removeprefix("/"), METRICS)
        if endpoint is METRICS:
            return reply_of(answer or metrics())
        return self._data.reply(endpoint, request.query)


def _peer(request: web.Request) -> tuple[str, int]:
    """Return the host and port from which a request came."""
    transport = request.transport
    host, port = transport.get_extra_info("peername")[:2] if transport is not None else ("", 0)
    return host, port


def _rejection(request: web.Request, api_key: str, is_endpoint: bool) -> Reply | None:
    """Return the response to a request with a wrong path or key, or None if both are correct."""
    if not is_endpoint:
        page = f"<html><body><pre>Cannot {request.method} {request.path}</pre></body></html>"
        return Reply(404, page, {"Content-Type": "text/html"})
    given = request.headers.get("Authorization")
    words = (given or "").split(" ")
    if given is not None and (len(words) != 2 or words[0].lower() != "bearer" or not words[1]):
        return Reply(400, "Invalid token.")
    if words[-1] != api_key:
        return Reply(401, {"error": "Unauthorized", "trace": "no such API key"})
    return None
