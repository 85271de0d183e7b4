"""A server on its own thread: it answers while the caller's code blocks, and leaves nothing behind."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from helicone_sessions import ConfigurationError, HeliconeClient
from helicone_sessions.local import LocalServer

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

ROWS = [
    {
        "request_created_at": f"2026-11-01T12:00:0{number}Z",
        "cost": 0.5,
        "properties": {"Helicone-Session-Id": "a"},
    }
    for number in range(3)
]


def average_cost(server: LocalServer) -> Any:
    """The average cost of a session, from code that blocks until the server has answered."""
    request = Request(  # noqa: S310 - the address is the server's
        f"{server.url}/v1/session/metrics/query",
        json.dumps({"nameContains": "", "timezoneDifference": 0}).encode(),
        {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"},
    )
    with urlopen(request) as answer:  # noqa: S310
        return json.load(answer)["data"]["average"]["session_cost"][0]["average"]


def threads() -> list[threading.Thread]:
    """The threads of servers."""
    return [each for each in threading.enumerate() if each.name == "helicone-sessions-server"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def test_plain_with() -> None:
    """Code without an event loop uses the server in a plain ``with``."""
    with LocalServer(ROWS, in_thread=True) as server:
        assert average_cost(server) == 1.5
        assert len(threads()) == 1
        assert server.loaded.rows == 3
    with pytest.raises(ConfigurationError, match="the server was stopped"):
        _ = server.url


async def test_blocking_code_in_a_coroutine() -> None:
    """A coroutine that blocks its own loop gets an answer all the same, as a notebook does."""
    async with LocalServer(ROWS, in_thread=True) as server:
        assert average_cost(server) == 1.5
        with LocalServer(ROWS[:1], in_thread=True) as other:
            assert average_cost(other) == 0.5
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            assert (await client.get_metrics()).average.session_cost == 1.5


async def test_rows_are_added_from_another_loop() -> None:
    """add() and count() are awaited on the caller's loop, and run on the server's."""
    async with LocalServer(ROWS, in_thread=True) as server:
        assert (await server.add([{"request_created_at": "2026-11-02T12:00:00Z"}])).rows == 1
        assert await server.count() == 4
        with pytest.raises(ConfigurationError, match="request_created_at"):
            await server.add([{"request_created_at": "yesterday"}])


def test_restart() -> None:
    """A stopped server starts again, on the same port."""
    server = LocalServer(ROWS, in_thread=True)
    with server:
        url = server.url
    with server:
        assert server.url == url
        assert average_cost(server) == 1.5


def test_plain_with_needs_the_thread() -> None:
    """Without a thread a plain ``with`` is refused, because nothing would run the server."""
    with pytest.raises(ConfigurationError) as caught, LocalServer():
        pass
    assert "in_thread" == caught.value.argument


async def test_running_already() -> None:
    """A second start is refused, and the first server goes on."""
    async with LocalServer(ROWS, in_thread=True) as server:
        with pytest.raises(ConfigurationError, match="already running"):
            await server.start()
        with pytest.raises(ConfigurationError, match="already running"), server:
            pass
        assert average_cost(server) == 1.5


async def test_failed_start() -> None:
    """A start that fails raises its error, and ends the thread."""
    with pytest.raises(ConfigurationError, match="request_created_at"):
        await LocalServer([{"cost": 1}], in_thread=True).start()
    assert threads() == []
    with pytest.raises(ConfigurationError, match="request_created_at"), LocalServer([{}], in_thread=True):
        pass


async def test_cancelled_start() -> None:
    """A start that is cancelled while rows are read ends the thread, and the data is closed."""
    reached = threading.Event()

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            reached.set()
            yield dict(ROWS[0])

    server = LocalServer(endless(), in_thread=True)
    starting = asyncio.create_task(server.start())
    await asyncio.to_thread(reached.wait)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert threads() == []
    # Another database can only be opened where this one is closed.
    async with LocalServer(ROWS) as other:
        assert await other.count() == 3


def test_unknown_columns_warn_in_the_caller() -> None:
    """The warning about columns that are left out is the caller's."""
    rows = [{**ROWS[0], "note": "x"}]
    with pytest.warns(UserWarning, match="note") as caught, LocalServer(rows, in_thread=True):
        pass
    assert caught[0].filename == __file__


def test_process_ends_without_a_close() -> None:
    """A process that never closes the server ends all the same, as a notebook's kernel does."""
    code = (
        "from helicone_sessions.local import LocalServer; print(LocalServer(in_thread=True).__enter__().url)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
