"""`FakeHelicone`: the endpoint of the service, with answers that a test decides."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn, Self

from aiohttp import web

from helicone_sessions.clock import Clock, current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.messages.fixed_window import FixedWindow
from helicone_sessions.messages.protocol import PATH
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.testing.answer_rules import Held, Matching, Program
from helicone_sessions.testing.answers import Answer, Fault, Reply, checked, metrics, reply_of
from helicone_sessions.testing.background import Background, Listening
from helicone_sessions.testing.faults import TOO_MANY, broken_off, peer, refusal, response, truncated
from helicone_sessions.testing.recorded import RecordedRequest, judged, masked

_LOOK_EVERY: Final = 0.001


class FakeHelicone:
    """A server on loopback that keeps the contract of ``POST /v1/session/metrics/query``.

    Use it with ``async with`` in the loop that runs, or with ``with``: then it runs in a thread of its own,
    for tests that are not async, that call ``asyncio.run``, or whose loop is another library's.

    What the open-source server refuses, it refuses in the same words: a wrong path
    (404), a missing or wrong key (401), a malformed one (400), a body that breaks the contract (400). A
    filter of which the real server would silently read a part only is refused too, and it and every broken
    body are noted in ``complaints``.

    Args:
        api_key: The key that it asks for.
        host: The address that it listens on.
        port: The port; 0 takes a free one.
        clock: The time of its rate limit and of the recorded requests; without it the clock that is current
            now.
        strict: Refuse such a filter, and raise an `AssertionError` at the end of the block where there are
            complaints. Without it they are noted, and the filter is answered as the contract reads it.
        patience: Seconds of real time after which waiting in a test is given up.

    Attributes:
        requests: All that was asked, in the order of arrival, each a `RecordedRequest`.
        complaints: What was wrong with it, as texts; clear it where that was on purpose.
        open: How many requests are under way.
        most_open: How many were at most.
        refused: How many the rate limit has refused.

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
        patience: float = 5.0,
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
        self._program = Program()
        self._window: FixedWindow | None = None
        self._arrived = 0
        self._stale: set[tuple[str, int]] = set()
        self._listening: Listening | None = None
        self._background: Background | None = None

    def __repr__(self) -> str:
        where = f"url={self.url!r}" if self._listening is not None else "not running"
        return f"FakeHelicone({where}, api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a server is not pickled; start one where it is used")

    @property
    def url(self) -> str:
        """The address for a client's ``base_url``, once the server runs."""
        return self._running().url

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._running().connections

    def _running(self) -> Listening:
        if self._listening is None:
            raise ConfigurationError("the server does not run: use it with `async with` or `with`")
        return self._listening

    # What it answers

    def will_answer(self, *answers: Answer) -> None:
        """Answer the next requests so, one each, first come first served.

        Args:
            answers: `SessionMetrics`, a `Reply`, a `Fault`, or an async function that is given the
                `RecordedRequest` and returns one of them.

        >>> FakeHelicone().will_answer(Reply(503, headers={"Retry-After": "30"}), metrics(cost=0.5))
        """
        self._program.add(*answers)

    def answers(self, to: Matching, answer: Answer) -> None:
        """Answer every request that matches *to* so; of several such rules the latest counts.

        Args:
            to: A `SessionMetricsQuery` for requests of an equal one, a filter for those of an equal
                filter, a text for those of this ``name_contains``, or a function of the query.
            answer: As in `will_answer`.
        """
        self._program.add_rule(to, answer)

    def otherwise(self, answer: Answer) -> None:
        """Answer so what nothing else was said about; before it is said, with ``metrics()``.

        Args:
            answer: As in `will_answer`.
        """
        self._program.otherwise = checked(answer)

    def hold(self, to: Matching | None = None) -> Held:
        """Leave requests that match *to* without an answer until they are released.

        Args:
            to: As in `answers`; None is all of them.
        """
        return self._program.hold(to)

    def limit(self, requests: int = 1000, per: float = 300.0) -> None:
        """Keep a rate limit from now on; the defaults are those of Helicone's free tier.

        A window opens with the first request after the last one has ended. The headers of every response
        give what is left of it (``RateLimit-Limit``, ``-Remaining``, ``-Reset``, ``-Policy``), and a request
        too many is refused with status 429 and ``Retry-After``. Refused requests count too (executed,
        open-source server of July 2026).

        Args:
            requests: The requests of a window.
            per: The length of a window in seconds, by the clock of the server.

        >>> FakeHelicone().limit(requests=10, per=60)
        """
        self._window = FixedWindow(requests, per)

    def spend(self, requests: int) -> None:
        """Count requests that others make of the same budget: other processes, other endpoints.

        Args:
            requests: How many.

        Raises:
            ConfigurationError: There is no limit.

        >>> server = FakeHelicone()
        >>> server.limit(requests=10, per=60)
        >>> server.spend(4)
        """
        if self._window is None:
            raise ConfigurationError("there is no rate limit to spend from: call limit() first")
        self._window.take(self.clock.now(), requests)

    # Waiting for what happens in it

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, as ``lambda: server.open == 3``.

        Args:
            condition: A function without arguments; what it returns is true once it has come.

        Raises:
            TimeoutError: It does not come true within ``patience`` seconds.
        """
        ends = time.monotonic() + self.patience
        while not condition():
            self._lose_patience(ends)
            await asyncio.sleep(_LOOK_EVERY)

    async def arrived(self, requests: int) -> None:
        """Wait until so many requests have come, answered or not.

        Args:
            requests: How many, since the start.

        Raises:
            TimeoutError: They do not come within ``patience`` seconds.
        """
        await self.until(lambda: len(self.requests) >= requests)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """As `until`, in a test that is not async, of a server that runs in a thread.

        Args:
            condition: As in `until`.

        Raises:
            ConfigurationError: The server runs in this thread's loop, which waiting so would stop.
            TimeoutError: It does not come true within ``patience`` seconds.
        """
        self._running()
        if self._background is None:
            raise ConfigurationError("the server runs in the loop of this thread: use `await server.until()`")
        ends = time.monotonic() + self.patience
        while not condition():
            self._lose_patience(ends)
            time.sleep(_LOOK_EVERY)

    def wait_for_requests(self, requests: int) -> None:
        """As `arrived`, in a test that is not async.

        Args:
            requests: How many, since the start.

        Raises:
            ConfigurationError: The server runs in this thread's loop, which waiting so would stop.
            TimeoutError: They do not come within ``patience`` seconds.
        """
        self.wait_until(lambda: len(self.requests) >= requests)

    def _lose_patience(self, ends: float) -> None:
        if time.monotonic() > ends:
            raise TimeoutError(
                f"it did not come true within {self.patience:g} s, in which the server had"
                f" {len(self.requests)} requests, {self.open} of them under way now"
            )

    # Its life

    async def __aenter__(self) -> Self:
        listening = self._new()
        await listening.start()
        self._listening = listening
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        listening = self._running()
        self._listening = None
        await listening.end()
        self._complain(kind)

    def __enter__(self) -> Self:
        listening = self._new()
        background = Background(listening)
        background.start()
        self._listening, self._background = listening, background
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        background = self._background
        self._listening = self._background = None
        if background is not None:
            background.end()
        self._complain(kind)

    def _new(self) -> Listening:
        if self._listening is not None:
            raise ConfigurationError("the server runs already")
        return Listening(self._handle, *self._address)

    def _complain(self, kind: type[BaseException] | None) -> None:
        __tracebackhide__ = True
        # Another error says why the test ended.
        if self.strict and self.complaints and kind is None:
            raise AssertionError(
                "\n  ".join(["the service was not asked as it should be:", *self.complaints])
            )

    # A request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if peer(request) in self._stale:
            self._stale.discard(peer(request))
            return broken_off(request, Fault.GOES_STALE)
        recorded, complaints = self._record(request, await request.read())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await self._respond(request, recorded, complaints)
        finally:
            self.open -= 1

    def _record(self, request: web.Request, body: bytes) -> tuple[RecordedRequest, list[str]]:
        found = judged(body)
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
            connection=peer(request),
        )
        self.requests.append(recorded)
        return recorded, [f"request {recorded.number}: {complaint}" for complaint in found.complaints]

    async def _respond(
        self, request: web.Request, recorded: RecordedRequest, complaints: list[str]
    ) -> web.StreamResponse:
        if (refused := refusal(request, self.api_key, is_endpoint=self._is_endpoint(request))) is not None:
            return response(refused, {})
        headers, has_room = self._counted()
        if not has_room:
            self.refused += 1
            return response(TOO_MANY, headers)
        self.complaints += complaints
        if (query := recorded.query) is None or (complaints and self.strict):
            return response(Reply(400, {"error": "; ".join(complaints)}), headers)
        try:
            return await self._answer(request, recorded, query, headers)
        except Exception as error:  # noqa: BLE001 - a mistake of the test, which has to hear of it
            self.complaints.append(f"request {recorded.number}: answering it raised {error!r}")
            return response(Reply(500, "the test's own answer failed"), headers)

    def _is_endpoint(self, request: web.Request) -> bool:
        return (request.method, request.path) == ("POST", f"/{PATH}")

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
        query: SessionMetricsQuery,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        # First come first served, whoever is held.
        answer = self._program.answer_to(query)
        for held in self._program.holds_on(query):
            await held.passed()
        found = await _value(answer, recorded)
        if isinstance(found, Reply):
            return response(found, headers)
        if found is Fault.STALL:
            await asyncio.Event().wait()
        if found not in (Fault.TRUNCATE, Fault.GOES_STALE):
            return broken_off(request, found)
        below = await _value(self._program.answer_below(query), recorded)
        reply = below if isinstance(below, Reply) else reply_of(metrics())
        if found is Fault.TRUNCATE:
            return await truncated(request, reply, headers)
        self._stale.add(recorded.connection)
        return response(reply, headers)


async def _value(answer: Answer, request: RecordedRequest) -> Reply | Fault:
    """The answer that a test's functions come to in the end."""
    while callable(answer):
        answer = checked(await answer(request))
    return answer if isinstance(answer, (Reply, Fault)) else reply_of(answer)
