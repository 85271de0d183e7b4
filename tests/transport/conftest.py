"""A fake service with requests named by session, a virtual clock, and clients of both."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

from helicone_sessions import HeliconeClient
from helicone_sessions.clock import replaced
from helicone_sessions.testing import FakeHelicone, RecordedRequest, Reply, VirtualClock
from helicone_sessions.testing.replies import Held

KEY = "sk-helicone-example-key"
NAMES = ("session_count", "session_duration", "session_cost")


class Service(FakeHelicone):
    """The fake service under any path; the average cost in its answer is the number in the session name."""

    def __init__(self, clock: VirtualClock) -> None:
        # Other tests cover conditions that the service would drop.
        super().__init__(api_key=KEY, clock=clock, strict=False)
        self.headers: list[CIMultiDictProxy[str]] = []
        """The headers of each request, with its key."""
        self._held: dict[str, Held] = {}
        self.otherwise(self._named)

    @property
    def names(self) -> list[str]:
        """The session names in the order of arrival."""
        return [str(request.json["nameContains"]) for request in self.requests]

    @property
    def runner(self) -> web.AppRunner:
        return self._running().runner

    def hold_named(self, *names: str) -> None:
        """Hold back the answers to requests for *names* until they are released."""
        self._held.update({name: self.hold(name) for name in names})

    def release_named(self, *names: str) -> None:
        for name in names or tuple(self._held):
            self._held[name].release()

    async def names_arrived(self, *names: str) -> None:
        """Wait until requests for all names have arrived."""
        await self.until(lambda: set(names) <= set(self.names))

    def metrics(self, cost: float | None = None, headers: dict[str, str] | None = None) -> Reply:
        rows = [{"range_start": "1", "range_end": "2", "value": 3}]
        average = {name: [{"average": cost}] for name in NAMES}
        data = {**dict.fromkeys(NAMES, rows), "average": average}
        return Reply(200, {"data": data, "error": None}, headers or {})

    async def _named(self, request: RecordedRequest) -> Reply:
        name = str(request.json["nameContains"])
        return self.metrics(float(name) if name.isdecimal() else None)

    def _is_endpoint(self, request: web.Request) -> bool:
        return request.path.endswith("/v1/session/metrics/query")

    def _record(self, request: web.Request, body: bytes) -> tuple[RecordedRequest, list[str]]:
        self.headers.append(request.headers)
        return super()._record(request, body)


@pytest.fixture
def clock() -> VirtualClock:
    """A clock on which waiting takes no time."""
    return VirtualClock()


@pytest.fixture
async def service(clock: VirtualClock) -> AsyncIterator[Service]:
    """A service on loopback."""
    async with Service(clock) as service:
        yield service


@pytest.fixture
async def elsewhere(clock: VirtualClock) -> AsyncIterator[Service]:
    """Another service, at another address."""
    async with Service(clock) as service:
        yield service


@pytest.fixture
async def make_client(service: Service, clock: VirtualClock) -> AsyncIterator[Callable[..., HeliconeClient]]:
    """Clients of the service whose gate and retries use the clock; closed after the test."""
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
    """The tasks other than the test's; tasks of the fake service do not count."""
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
