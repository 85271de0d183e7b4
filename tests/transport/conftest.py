"""A service of one's own on loopback, a clock that needs no waiting, and clients that use both."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from helicone_sessions import HeliconeClient
from helicone_sessions.transport.rate_limit import Gate

KEY = "sk-helicone-example-key"
NAMES = ("session_count", "session_duration", "session_cost")
PATIENCE = 5.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    """Virtual seconds: who sleeps on it gives way once, and finds the time gone; unless it is stopped."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []
        self.running = asyncio.Event()
        self.running.set()

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.time + seconds
        await asyncio.sleep(0)
        await self.running.wait()
        self.time = max(self.time, until)


@attrs.frozen
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: Any
    body: bytes
    peer: tuple[str, int]
    time: float

    @property
    def name(self) -> str:
        """The session name that was asked for: tests tell their queries apart by it."""
        return str(json.loads(self.body)["nameContains"])


class Service:
    """A fake of the service: it answers metrics, or what it was told to, and sees all that is asked.

    Of the metrics the average cost is the session name that was asked for, as a number.
    """

    def __init__(self, clock: Clock) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.open = 0
        self.most_open = 0
        self.runner: web.AppRunner | None = None
        self._clock = clock
        self._script: list[Answer] = []
        self._by_name: dict[str, Answer] = {}
        self._held: dict[str, asyncio.Event] = {}

    @property
    def names(self) -> list[str]:
        """The names asked for, in the order of their arrival."""
        return [request.name for request in self.seen]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        assert self.runner is not None
        assert self.runner.server is not None
        return len(self.runner.server.connections)

    def will(self, *answers: Answer) -> None:
        """Answer the next requests so, one each."""
        self._script.extend(answers)

    def always(self, name: str, answer: Answer) -> None:
        """Answer each request for *name* so."""
        self._by_name[name] = answer

    def hold(self, *names: str) -> None:
        """Leave requests for *names* without an answer until they are released."""
        self._held.update({name: asyncio.Event() for name in names})

    def release(self, *names: str) -> None:
        for name in names or tuple(self._held):
            self._held[name].set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition that tasks of this loop bring about."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - conditions are of many kinds, and some on aiohttp's side
                await asyncio.sleep(0.001)

    async def arrived(self, *names: str) -> None:
        """Wait until the names were asked for."""
        await self.until(lambda: set(names) <= set(self.names))

    def reply(
        self,
        status: int = 200,
        body: bytes | str | dict[str, Any] = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        raw = json.dumps(body) if isinstance(body, dict) else body

        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.Response(
                status=status, body=raw.encode() if isinstance(raw, str) else raw, headers=headers
            )

        return answer

    def fails(self, text: str, status: int = 500) -> Answer:
        """The envelope of a query that failed."""
        return self.reply(status, {"data": None, "error": text})

    def metrics(self, cost: float | None = None, headers: dict[str, str] | None = None) -> Answer:
        rows = [{"range_start": "1", "range_end": "2", "value": 3}]
        average = {name: [{"average": cost}] for name in NAMES}
        data = {**dict.fromkeys(NAMES, rows), "average": average}
        return self.reply(200, {"data": data, "error": None}, headers)

    async def drop(self, request: web.Request) -> web.StreamResponse:
        """Close the connection without an answer."""
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def truncate(self, request: web.Request) -> web.StreamResponse:
        """Close the connection in the middle of the answer."""
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"data"')
        assert request.transport is not None
        request.transport.close()
        return response

    async def nonsense(self, request: web.Request) -> web.StreamResponse:
        """Answer what is no HTTP."""
        assert request.transport is not None
        request.transport.write(b"NOPE nonsense\r\n\r\n")
        request.transport.close()
        return web.Response()

    async def silence(self, _request: web.Request) -> web.StreamResponse:
        """Never answer."""
        await _forever(asyncio.Event())
        raise AssertionError

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        body = await request.read()
        seen = Seen(request.method, request.path, request.headers, body, peer, self._clock.now())
        self.seen.append(seen)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            return await self._answer(seen.name, request)
        finally:
            self.open -= 1

    async def _answer(self, name: str, request: web.Request) -> web.StreamResponse:
        if name in self._held:
            await _forever(self._held[name])
        if self._script:
            return await self._script.pop(0)(request)
        answer = self._by_name.get(name) or self.metrics(float(name) if name.isdecimal() else None)
        return await answer(request)


async def _forever(event: asyncio.Event) -> None:
    """Wait for an event, but not longer than a broken package may keep the tests waiting."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def _serve(clock: Clock) -> AsyncIterator[Service]:
    service = Service(clock)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", service.handle)
    # With it a handler is cancelled when its client goes away, so that `open` falls.
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    service.runner = runner
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    """A clock on which waiting takes no time."""
    return Clock()


@pytest.fixture
async def service(clock: Clock) -> AsyncIterator[Service]:
    """A service on loopback."""
    async for service in _serve(clock):
        yield service


@pytest.fixture
async def elsewhere(clock: Clock) -> AsyncIterator[Service]:
    """Another service, at another address."""
    async for service in _serve(clock):
        yield service


@pytest.fixture
async def make_client(service: Service, clock: Clock) -> AsyncIterator[Callable[..., HeliconeClient]]:
    """Clients of the service whose gate and retries live on the clock; closed after the test."""
    made = []

    def make(**options: Any) -> HeliconeClient:
        client = HeliconeClient(KEY, **{"base_url": service.url, **options})
        client._gate = Gate(now=clock.now, sleep=clock.sleep)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
async def tasks_left() -> Callable[[], set[asyncio.Task[Any]]]:
    """The tasks that run beside the test's own; those of the fake service do not count."""
    before = asyncio.all_tasks()

    def left() -> set[asyncio.Task[Any]]:
        return {
            task
            for task in asyncio.all_tasks() - before - {asyncio.current_task()}
            if "RequestHandler" not in str(getattr(task.get_coro(), "__qualname__", ""))
        }

    return left
