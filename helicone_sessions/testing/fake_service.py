"""`FakeHelicone`: the endpoints of the service on loopback, with programmable answers."""

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

# The service accepts bodies up to 50 MB (server source).
_LARGEST_BODY = 50 * 1024 * 1024
_TURNS_TO_CONNECT = 10


class LoopbackServer:
    """A server that passes each request to *handler*.

    It cancels a request whose client disconnects, and at the end all requests in progress.
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
        """The address."""
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
        """Stop listening, and cancel all requests in progress."""
        await self._stop_listening()
        for task in tuple(self._under_way):
            task.cancel()
        await self.runner.cleanup()

    async def _stop_listening(self) -> None:
        if self._listening is None:
            return
        loop = asyncio.get_running_loop()
        # asyncio neither serves nor closes a connection that it accepts while the server closes. So stop
        # accepting connections first, and let accepted ones complete.
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
    """Whether the loop is the default one on Windows, which has no readers."""
    return type(loop).__name__ == "ProactorEventLoop"


class ServerThread:
    """A thread that runs a server in its event loop."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="FakeHelicone", daemon=True)

    def start(self) -> None:
        """Start the thread, and return when the server listens.

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
        """Stop the server, and end the thread."""
        try:
            asyncio.run_coroutine_threadsafe(self._server.end(), self._loop).result()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        # The runner cancels remaining tasks when the loop stops, and closes the loop.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()


_SECONDS_BETWEEN_CHECKS: Final = 0.001
_TOO_MANY: Final = Reply(429, {"error": "Too many requests, please try again later."})


class FakeHelicone:
    """A server on loopback that follows the contract of the endpoints for metrics, sessions and requests.

    Use it with ``async with`` in the running event loop. With ``with`` it runs in a thread, for tests that
    are not async, that call ``asyncio.run``, or that use another library's loop.

    It rejects the requests that the open-source server rejects, with the same messages: a wrong path (404), a
    missing or wrong key (401), a malformed key (400), a body that breaks the contract (400). It also rejects
    a filter that the real server would silently read only in part. Such filters and broken bodies are
    recorded in ``complaints``.

    Args:
        api_key: The key that clients must send.
        host: The address to listen on.
        port: The port; 0 selects a free one.
        clock: The clock of the rate limit and of the recorded requests; by default the current clock.
        strict: Reject filters that the real server would read only in part, and raise an `AssertionError`
            at the end of the block if there are complaints. Otherwise the fake answers such filters by the
            contract.
        patience: Seconds of real time after which a wait in a test fails.
        traps: How the lists of sessions and requests differ from the contract, as on real servers.

    Attributes:
        requests: The requests in the order of arrival, as `RecordedRequest`.
        complaints: The problems of the requests as text; clear it if they were intended.
        open: The number of requests in progress.
        most_open: The highest number of requests in progress at once.
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
        """The address for a client's ``base_url`` while the server runs."""
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
        """The sessions to list and to count.

        The fake evaluates conditions on session columns, ids and names; other conditions match.
        """
        return self._data.sessions

    @sessions.setter
    def sessions(self, sessions: Iterable[Session]) -> None:
        self._data.sessions = list(sessions)

    @property
    def stored_requests(self) -> list[Request]:
        """The requests to list and to count, as dicts under the API's names."""
        return self._data.requests

    @stored_requests.setter
    def stored_requests(self, requests: Iterable[Request]) -> None:
        self._data.requests = list(requests)

    @property
    def traps(self) -> Traps:
        """How the lists differ from the contract; this can be changed at any time."""
        return self._data.traps

    @traps.setter
    def traps(self, traps: Traps) -> None:
        self._data.traps = traps

    def will_answer(self, *answers: Answer) -> None:
        """Set the answers to the next requests, one each, in the order of arrival.

        Args:
            answers: `SessionMetrics`, a `Reply`, a `Fault`, or an async function that takes the
                `RecordedRequest` and returns one of them. `SessionMetrics` are replaced by the answer from
                `sessions` and `stored_requests`, if the request is for them.

        >>> FakeHelicone().will_answer(Reply(503, headers={"Retry-After": "30"}), metrics(cost=0.5))
        """
        self._rules.add(*answers)

    def answers(self, to: Matching, answer: Answer) -> None:
        """Set the answer to every request that matches *to*; the latest matching rule wins.

        Args:
            to: A `SessionMetricsQuery` for requests with an equal query, a filter for requests with an
                equal filter, a string for requests with this ``name_contains``, or a function of the query.
            answer: As in `will_answer`.
        """
        self._rules.add_rule(to, answer)

    def otherwise(self, answer: Answer) -> None:
        """Set the answer to all other requests; by default it is ``metrics()``.

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
        """Apply a rate limit from now on; by default that of Helicone's free tier.

        A window opens with the first request after the previous window. Every response has the headers
        ``RateLimit-Limit``, ``-Remaining``, ``-Reset`` and ``-Policy``. Requests beyond the limit get status
        429 and ``Retry-After``, and count too (observed, open-source server of July 2026).

        Args:
            requests: The number of requests in a window.
            per: The length of a window in seconds, by the clock of the server.

        >>> FakeHelicone().limit(requests=10, per=60)
        """
        self._window = FixedWindow(requests, per)

    def spend(self, requests: int) -> None:
        """Count requests from other clients with the same budget: other processes, other endpoints.

        Args:
            requests: The number of requests.

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
        """Wait until a condition is true, for example ``lambda: server.open == 3``.

        Args:
            condition: A function without arguments that returns whether the condition is true.

        Raises:
            TimeoutError: The condition is not true within ``patience`` seconds.
        """
        ends = time.monotonic() + self.patience
        while not condition():
            self._check_patience(ends)
            await asyncio.sleep(_SECONDS_BETWEEN_CHECKS)

    async def arrived(self, requests: int) -> None:
        """Wait until this number of requests has arrived, answered or not.

        Args:
            requests: The number of requests since the start.

        Raises:
            TimeoutError: The requests do not arrive within ``patience`` seconds.
        """
        await self.until(lambda: len(self.requests) >= requests)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Like `until`, in a test that is not async, with a server in a thread.

        Args:
            condition: As in `until`.

        Raises:
            ConfigurationError: The server runs in the loop of this thread, which the wait would block.
            TimeoutError: The condition is not true within ``patience`` seconds.
        """
        self._running()
        if self._thread is None:
            raise ConfigurationError("the server runs in the loop of this thread. Use `await server.until()`")
        ends = time.monotonic() + self.patience
        while not condition():
            self._check_patience(ends)
            time.sleep(_SECONDS_BETWEEN_CHECKS)

    def wait_for_requests(self, requests: int) -> None:
        """Like `arrived`, in a test that is not async.

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
                f" {len(self.requests)} requests, of which {self.open} are in progress"
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
        # Another error would be hidden.
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
        # The order of arrival decides, even for requests that are held.
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
        """The answer, after calling the test's functions."""
        while callable(answer):
            answer = checked(await answer(request))
        if isinstance(answer, (Reply, Fault)):
            return answer
        return self._default_reply(request, answer)

    def _default_reply(self, request: RecordedRequest, answer: SessionMetrics | None = None) -> Reply:
        """The response with metrics, or with the stored sessions or requests."""
        endpoint = _ENDPOINTS.get(request.path.removeprefix("/"), METRICS)
        if endpoint is METRICS:
            return reply_of(answer or metrics())
        return self._data.reply(endpoint, request.query)


def _peer(request: web.Request) -> tuple[str, int]:
    """The host and port that a request comes from."""
    transport = request.transport
    host, port = transport.get_extra_info("peername")[:2] if transport is not None else ("", 0)
    return host, port


def _rejection(request: web.Request, api_key: str, is_endpoint: bool) -> Reply | None:
    """The response to a request with a wrong path or key; None if both are right."""
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
