"""A service of one's own on loopback, a clock that needs no waiting, and clients that use both."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from helicone_sessions import HeliconeClient
from helicone_sessions.clock import replaced
from helicone_sessions.testing import FakeHelicone, Fault, RecordedRequest, Reply, VirtualClock, failure
from helicone_sessions.testing.rules import Held

KEY = "sk-helicone-example-key"
NAMES = ("session_count", "session_duration", "session_cost")
Answer = Fault | Callable[[RecordedRequest], Awaitable[Reply]]


class Clock(VirtualClock):
    """The virtual clock, and an event's way to stop it."""

    @property
    def running(self) -> "Clock":
        return self

    def clear(self) -> None:
        self.stop()

    def set(self) -> None:
        self.go_on()


@attrs.frozen
class Seen:
    """One request as it arrived, with its key."""

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


class Service(FakeHelicone):
    """The fake of the service under any path, programmed by session names.

    Of the metrics the average cost is the session name that was asked for, as a number.
    """

    drop = Fault.DROP
    truncate = Fault.TRUNCATE
    nonsense = Fault.NOT_HTTP
    silence = Fault.STALL

    def __init__(self, clock: Clock) -> None:
        # Conditions that the service would drop have tests of their own.
        super().__init__(api_key=KEY, clock=clock, strict=False)
        self.seen: list[Seen] = []
        self.will = self.will_answer
        self.always = self.answers
        self._held: dict[str, Held] = {}
        self.otherwise(self._named)

    @property
    def names(self) -> list[str]:
        """The names asked for, in the order of their arrival."""
        return [request.name for request in self.seen]

    @property
    def runner(self) -> web.AppRunner:
        return self._running().runner

    def hold(self, *names: str) -> None:
        """Leave requests for *names* without an answer until they are released."""
        self._held.update({name: super(Service, self).hold(name) for name in names})

    def release(self, *names: str) -> None:
        for name in names or tuple(self._held):
            self._held[name].release()

    async def arrived(self, *names: str) -> None:
        """Wait until the names were asked for."""
        await self.until(lambda: set(names) <= set(self.names))

    def reply(
        self,
        status: int = 200,
        body: bytes | str | dict[str, Any] = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        return _answering(Reply(status, body, headers or {}))

    def fails(self, text: str, status: int = 500) -> Answer:
        """The envelope of a query that failed."""
        return _answering(failure(text, status))

    def metrics(self, cost: float | None = None, headers: dict[str, str] | None = None) -> Answer:
        rows = [{"range_start": "1", "range_end": "2", "value": 3}]
        average = {name: [{"average": cost}] for name in NAMES}
        data = {**dict.fromkeys(NAMES, rows), "average": average}
        return self.reply(200, {"data": data, "error": None}, headers)

    async def _named(self, request: RecordedRequest) -> Answer:
        name = str(request.json["nameContains"])
        return self.metrics(float(name) if name.isdecimal() else None)

    def _is_endpoint(self, request: web.Request) -> bool:
        return request.path.endswith("/v1/session/metrics/query")

    def _record(self, request: web.Request, body: bytes) -> tuple[RecordedRequest, list[str]]:
        recorded, complaints = super()._record(request, body)
        seen = Seen(request.method, request.path, request.headers, body, recorded.connection, recorded.time)
        self.seen.append(seen)
        return recorded, complaints


def _answering(reply: Reply) -> Answer:
    """A function, so that answers of a test can be made of it."""

    async def answer(_request: RecordedRequest) -> Reply:
        return reply

    return answer


@pytest.fixture
def clock() -> Clock:
    """A clock on which waiting takes no time."""
    return Clock()


@pytest.fixture
async def service(clock: Clock) -> AsyncIterator[Service]:
    """A service on loopback."""
    async with Service(clock) as service:
        yield service


@pytest.fixture
async def elsewhere(clock: Clock) -> AsyncIterator[Service]:
    """Another service, at another address."""
    async with Service(clock) as service:
        yield service


@pytest.fixture
async def make_client(service: Service, clock: Clock) -> AsyncIterator[Callable[..., HeliconeClient]]:
    """Clients of the service whose gate and retries live on the clock; closed after the test."""
    made = []

    def make(**options: Any) -> HeliconeClient:
        with replaced(clock):
            client = HeliconeClient(KEY, **{"base_url": service.url, **options})
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
            if not re.search(
                "RequestHandler|_accept_connection", str(getattr(task.get_coro(), "__qualname__", ""))
            )
        }

    return left
