"""The guards of the server: queue, rate limit, patience, shutdown and log."""

import asyncio
import errno
import gzip
import io
import json
import logging
import socket
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp
import attrs
import pytest

from helicone_sessions import ConfigurationError, SessionMetricsQuery
from helicone_sessions.clock import replaced
from helicone_sessions.local import LocalServer
from helicone_sessions.local.dataset import Dataset
from helicone_sessions.local.drivers import DriverError, Limits
from helicone_sessions.local.http.routes import Endpoints
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.storage.rows import Loaded
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.testing import VirtualClock, metrics

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

KEY = "sk-local-of-the-guards"
PATH = "/v1/session/metrics/query"
PLAIN: dict[str, Any] = {"nameContains": "", "timezoneDifference": 0}
ONE, OTHER = UUID(int=1), UUID(int=2)
TOO_LONG = 10 * 1024 * 1024 + 1


async def until(condition: Callable[[], object]) -> None:
    """Wait for what happens in this loop."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is in the server, which knows no events
            await asyncio.sleep(0)


@attrs.define
class Gate:
    """Queries wait at it; it counts them."""

    opened: asyncio.Event = attrs.field(factory=asyncio.Event)
    running: int = 0
    most: int = 0
    cancelled: int = 0
    error: Exception | None = None

    async def answer(
        self, _query: SessionMetricsQuery, _organization_id: UUID, _wire_filter: object = None
    ) -> SessionMetrics:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return metrics()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Stands in the place of the engine's answers."""
    gate = Gate()
    monkeypatch.setattr(Engine, "answer", lambda _engine, *asked, **_how: gate.answer(*asked))
    return gate


class Asked:
    """Requests to a server."""

    def __init__(self, server: LocalServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session

    async def post(self, body: Any = PLAIN, path: str = PATH, **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | headers
        async with self._session.post(path, data=io.BytesIO(data), headers=headers) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers

    async def raw(self, *parts: bytes) -> bytes:
        """The response to bytes, until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.server.url.rpartition(":")[2]))
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def asking(data: Any = (), **options: Any) -> AsyncIterator[Asked]:
    async with (
        LocalServer(data, **{"api_key": KEY} | options) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        yield Asked(server, session)


def head(*more: str, length: int = 2) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *more]
    if length >= 0:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


# The queue


@pytest.mark.promise(name="S7")
async def test_queue_has_a_bound(gate: Gate) -> None:
    """Queries run and wait up to the limits, and a further one is refused for a second."""
    async with asking(max_concurrency=2, max_queued=1) as asked:
        tasks = [asyncio.create_task(asked.post()) for _ in range(3)]
        await until(lambda: gate.running == 2)
        refused = []
        while not refused:
            extra = asyncio.create_task(asked.post())
            done, _ = await asyncio.wait((extra, *tasks), return_when=asyncio.FIRST_COMPLETED)
            refused = [await task for task in done]
        [(status, answer, headers)] = refused
        assert (503, {"error"}, "1") == (status, set(answer), headers["Retry-After"])
        assert "max_queued" in answer["error"]
        gate.opened.set()
        left = [task for task in (*tasks, extra) if task not in done]
        assert [200] * 3 == [status for status, *_ in await asyncio.gather(*left)]
        assert 2 == gate.most
        assert 200 == (await asked.post())[0]


async def test_client_that_leaves_ends_its_query(gate: Gate) -> None:
    """The query of a client that goes away is cancelled, and its place is free again."""
    async with asking(max_concurrency=1, max_queued=0) as asked:
        task = asyncio.create_task(asked.post())
        await until(lambda: gate.running)
        assert 503 == (await asked.post())[0]
        task.cancel()
        await until(lambda: gate.cancelled)
        gate.opened.set()
        assert 200 == (await asked.post())[0]


async def test_client_that_leaves_the_queue(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """A client that goes away while it waits leaves its place to another."""
    caplog.set_level(logging.INFO, "helicone_sessions.access")
    async with asking(max_concurrency=1, max_queued=1) as asked:
        first = asyncio.create_task(asked.post())
        await until(lambda: gate.running)
        second = asyncio.create_task(asked.post())
        # It has come to its place when there is none for another.
        refused = False
        while not refused:
            third = asyncio.create_task(asked.post())
            done, _ = await asyncio.wait((second, third), return_when=asyncio.FIRST_COMPLETED)
            refused = (await done.pop())[0] == 503
        waiting = third if second.done() else second
        waiting.cancel()
        await until(lambda: [record for record in caplog.records if record.outcome == "gone"])  # type: ignore[attr-defined]
        again = asyncio.create_task(asked.post())
        gate.opened.set()
        assert (200, 200) == ((await first)[0], (await again)[0])
        assert 1 == gate.most


# The rate limit


async def test_rate_limit_is_the_services() -> None:
    """One request too many is refused with the service's words and headers, until the window is over."""
    clock = VirtualClock()
    with replaced(clock):
        async with asking(rate_limit=2, rate_limit_window=60) as asked:
            answers = [await asked.post() for _ in range(3)]
            clock.advance(59.5)
            late = await asked.post()
            clock.advance(0.5)
            again = await asked.post()
    assert [200, 200, 429, 429, 200] == [status for status, *_ in (*answers, late, again)]
    assert {"error": "Too many requests, please try again later."} == answers[2][1]
    names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy", "Retry-After")
    told = [tuple(headers.get(name) for name in names) for *_, headers in (*answers, late, again)]
    assert [
        ("2", "1", "60", "2;w=60", None),
        ("2", "0", "60", "2;w=60", None),
        ("2", "0", "60", "2;w=60", "60"),
        ("2", "0", "1", "2;w=60", "1"),
        ("2", "1", "60", "2;w=60", None),
    ] == told


async def test_window_of_the_hosted_service() -> None:
    """A window lasts five minutes unless the server is given another."""
    with replaced(VirtualClock()):
        async with asking(rate_limit=1000) as asked:
            _, _, headers = await asked.post()
    assert ("1000;w=300", "300") == (headers["RateLimit-Policy"], headers["RateLimit-Reset"])


async def test_rate_limit_counts_refused_bodies_but_no_strangers() -> None:
    """Bad bodies count and say what is left; requests with a wrong key and for the health do not."""
    with replaced(VirtualClock()):
        async with asking(rate_limit=2) as asked:
            assert 401 == (await asked.post(Authorization="Bearer wrong"))[0]
            status, _, headers = await asked.post([])
            assert (400, "1") == (status, headers["RateLimit-Remaining"])
            status, _, headers = await asked.post([], "/v1/rows")
            assert (200, "0") == (status, headers["RateLimit-Remaining"])
            assert 429 == (await asked.post())[0]


async def test_rate_limit_is_each_organisations_own() -> None:
    """Keys of one organisation share a limit, others have their own."""
    keys = {KEY: ONE, "sk-two": str(ONE), "sk-three": OTHER}
    with replaced(VirtualClock()):
        async with asking(api_key=keys, rate_limit=1) as asked:
            statuses = [(await asked.post(Authorization=f"Bearer {key}"))[0] for key in keys]
    assert [200, 429, 200] == statuses


async def test_no_rate_limit_by_itself() -> None:
    """Unless it is switched on there is no limit, and no answer speaks of one."""
    async with asking() as asked:
        _, _, headers = await asked.post()
    assert not [name for name in headers if "limit" in name.lower()]


# Bodies and patience


@pytest.mark.promise(name="S7")
async def test_body_that_does_not_arrive(gate: Gate) -> None:
    """A client that sends its body too slowly gets an error, and its connection is closed."""
    gate.opened.set()
    async with asking(patience=2) as asked:
        answer = await asked.raw(head(length=100), b'{"nameContains"')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'{"error": "the body did not arrive within 2 seconds"}' in answer


@pytest.mark.promise(name="S7")
@pytest.mark.parametrize("sent", [b"", b"POST /v1/sess", head()[:-4]])
async def test_headers_that_do_not_arrive(sent: bytes) -> None:
    """A connection on which no request arrives in time is closed."""
    async with asking(patience=0.05) as asked:
        assert b"" == await asked.raw(sent)


async def test_slow_body_keeps_no_query_waiting(gate: Gate) -> None:
    """While a body is on its way the queries of others run."""
    async with asking(max_concurrency=1) as asked:
        port = int(asked.server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(PLAIN).encode()
        writer.write(head("Connection: close", length=len(body)) + body[:5])
        await writer.drain()
        gate.opened.set()
        assert 200 == (await asked.post())[0]
        writer.write(body[5:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.promise(name="S6")
async def test_body_that_is_too_long_is_refused_unread() -> None:
    """A body that says that it is too long is refused before it is sent."""
    async with asking() as asked:
        answer = await asked.raw(head("Connection: close", length=TOO_LONG))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'{"error": "the body must not be longer than 10 MB"}' in answer


@pytest.mark.promise(name="S6")
async def test_body_that_unpacks_to_too_much() -> None:
    """A packed body is measured by what it unpacks to."""
    async with asking() as asked:
        status, answer, _ = await asked.post(
            gzip.compress(b" " * TOO_LONG, 1), **{"Content-Encoding": "gzip"}
        )
        assert (413, {"error": "the body must not be longer than 10 MB"}) == (status, answer)
        assert 200 == (await asked.post())[0]


@pytest.mark.promise(name="S6")
async def test_chunked_body_that_is_too_long() -> None:
    """A body without a length is measured as it comes."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(51):
            yield b" " * 1024 * 1024

    async with (
        LocalServer(api_key=KEY) as server,
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):
        async with session.post(PATH, data=chunks()) as answer:
            assert 413 == answer.status
        async with session.post(PATH, json=PLAIN) as answer:
            assert 200 == answer.status


async def test_body_that_is_too_long_ends_its_connection() -> None:
    """After a body that is too long the connection is closed, and the answer says so."""
    async with asking() as asked:
        for sent, headers in (
            (b"x" * TOO_LONG, {}),
            (gzip.compress(b" " * TOO_LONG, 1), {"Content-Encoding": "gzip"}),
        ):
            status, _, told = await asked.post(sent, **headers)
            assert (413, "close") == (status, told["Connection"])
            assert 200 == (await asked.post())[0]


async def test_packed_body_in_parts(gate: Gate) -> None:
    """Packed parts that follow each other are one body, and too many of them are refused."""
    gate.opened.set()
    body = json.dumps(PLAIN).encode()
    parts = gzip.compress(body[:9]) + gzip.compress(body[9:])
    async with asking() as asked:
        assert 200 == (await asked.post(parts, **{"Content-Encoding": "gzip"}))[0]
        status, answer, _ = await asked.post(gzip.compress(b"") * 1_000, **{"Content-Encoding": "gzip"})
        assert (400, "the body does not match its headers") == (status, answer["error"])


@pytest.mark.promise(name="S6")
@pytest.mark.parametrize("packs", [True, False])
async def test_large_bodies_are_held_a_few_at_a_time(gate: Gate, packs: bool) -> None:
    """However many large bodies are sent, a few are held; small ones pass them by, and all are answered."""
    body = json.dumps(PLAIN).encode() + b" " * 2_000_000
    headers = {"Content-Encoding": "gzip"} if packs else {}
    async with asking(max_concurrency=20) as asked:
        large = gzip.compress(body) if packs else body
        tasks = [asyncio.create_task(asked.post(large, **headers)) for _ in range(10)]
        await until(lambda: gate.running == 4)
        small = asyncio.create_task(asked.post())
        await until(lambda: gate.running == 5)
        assert 5 == gate.most
        gate.opened.set()
        assert [200] * 11 == [status for status, *_ in await asyncio.gather(*tasks, small)]


async def test_body_that_waits_for_its_turn_is_not_slow(gate: Gate) -> None:
    """The time that a large body waits to be read is not the client's."""
    body = json.dumps(PLAIN).encode() + b" " * 2_000_000
    async with asking(max_concurrency=20, patience=3) as asked:
        tasks = [asyncio.create_task(asked.post(body)) for _ in range(5)]
        await until(lambda: gate.running == 4)
        # The later one has timed out by now.
        assert (await asked.raw(head(length=100), b"{")).startswith(b"HTTP/1.1 408 ")
        assert not [task for task in tasks if task.done()]
        gate.opened.set()
        assert [200] * 5 == [status for status, *_ in await asyncio.gather(*tasks)]


async def test_large_filter_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQL of a filter of thousands of terms is made in another thread than that of the loop."""
    makers = []
    made = Engine._selection

    def selection(*asked: Any) -> Any:
        makers.append(threading.current_thread())
        return made(*asked)

    monkeypatch.setattr(Engine, "_selection", selection)
    models = [{"request_response_rmt": {"model": {"equals": f"model-{number}"}}} for number in range(3_000)]
    async with asking() as asked:
        assert 200 == (await asked.post())[0]
        assert 200 == (await asked.post({**PLAIN, "filter": _balanced(models)}))[0]
    small, large = makers
    assert small is threading.main_thread()
    assert large is not threading.main_thread()


def _balanced(leaves: list[Any]) -> Any:
    if len(leaves) == 1:
        return leaves[0]
    half = len(leaves) // 2
    return {"left": _balanced(leaves[:half]), "operator": "or", "right": _balanced(leaves[half:])}


async def test_rows_that_wait_hold_up_no_query(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that add rows wait for each other, and leave the turns of queries alone."""
    gate.opened.set()
    held = asyncio.Event()
    under_way = []

    async def add(*_asked: object) -> Loaded:
        under_way.append(1)
        await held.wait()
        return Loaded(rows=1)

    monkeypatch.setattr(Dataset, "add", add)
    async with asking(max_concurrency=1, max_queued=2) as asked:
        tasks = [asyncio.create_task(asked.post([{}], "/v1/rows")) for _ in range(3)]
        await until(lambda: under_way)
        assert 200 == (await asked.post())[0]
        assert [1] == under_way
        held.set()
        assert [200] * 3 == [status for status, *_ in await asyncio.gather(*tasks)]


# The end


async def test_end_waits_for_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are being added when the server stops are added; later ones get an error."""
    held, begun = asyncio.Event(), asyncio.Event()

    async def add(*_asked: object) -> Loaded:
        begun.set()
        await held.wait()
        return Loaded(rows=1)

    monkeypatch.setattr(Dataset, "add", add)
    async with asking() as asked:
        adding = asyncio.create_task(asked.server.add([{}]))
        await begun.wait()
        closing = asyncio.create_task(asked.server.aclose())
        await asyncio.sleep(0)
        with pytest.raises(ConfigurationError, match="was stopped"):
            await asked.server.add([{}])
        held.set()
        assert 1 == (await adding).rows
        await closing


async def test_rows_that_clickhouse_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ClickHouse while rows are added becomes an error of this package."""

    async def add(*_asked: object) -> Loaded:
        raise DriverError("there is no room", 243)

    monkeypatch.setattr(Dataset, "add", add)
    async with asking() as asked:
        with pytest.raises(ConfigurationError, match="ClickHouse rejected the rows: there is no room"):
            await asked.server.add([{}])


@pytest.mark.parametrize("rows", [None, 5, "rows.jsonl", {"cost": 1}], ids=repr)
async def test_rows_that_are_none(rows: Any) -> None:
    """The error for a value that is not an iterable of rows says what is expected."""
    async with asking() as asked:
        with pytest.raises(ConfigurationError) as caught:
            await asked.server.add(rows)
        assert "rows" == caught.value.argument


async def test_requests_are_counted() -> None:
    """A server that runs tells how many requests it has; one that does not says so."""
    async with asking([{"request_created_at": "2026-11-01T12:00:00Z"}] * 3) as asked:
        assert 3 == await asked.server.count()
    with pytest.raises(ConfigurationError, match=r"is not running|was stopped"):
        await asked.server.count()


async def test_end_lets_queries_end(gate: Gate) -> None:
    """At the end nobody new is let in, and a query in progress is answered."""
    async with asking() as asked:
        address = ("127.0.0.1", int(asked.server.url.rpartition(":")[2]))
        task = asyncio.create_task(asked.post())
        await until(lambda: gate.running)
        closing = asyncio.create_task(asked.server.aclose())
        refused = False
        async with asyncio.timeout(10):
            while not refused:
                try:
                    _, writer = await asyncio.open_connection(*address)
                    writer.close()
                except ConnectionRefusedError:
                    refused = True
        assert not closing.done()
        gate.opened.set()
        assert 200 == (await task)[0]
        await closing


async def test_end_after_the_grace(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """A query that takes longer than the grace is ended, and its client told."""
    caplog.set_level(logging.INFO, "helicone_sessions.access")
    async with asking(grace=0) as asked:
        task = asyncio.create_task(asked.post())
        await until(lambda: gate.running)
        await asked.server.aclose()
        status, answer, _ = await task
        assert (503, {"error": "the server was stopped"}, 1) == (status, answer, gate.cancelled)
    assert [(503, "stopped")] == [(record.status, record.outcome) for record in caplog.records]  # type: ignore[attr-defined]


async def test_last_answers_close_their_connections(gate: Gate) -> None:
    """While the server stops, each answer says that its connection ends."""
    async with asking(max_concurrency=4, grace=600) as asked:
        assert "Connection" not in (await asked.post(path="/nowhere"))[2]
        tasks = [asyncio.create_task(asked.post()) for _ in range(4)]
        await until(lambda: gate.running == 4)
        closing = asyncio.create_task(asked.server.aclose())
        await asyncio.sleep(0)
        gate.opened.set()
        answers = await asyncio.gather(*tasks)
        await closing
    assert [(200, "close")] * 4 == [(status, headers["Connection"]) for status, _, headers in answers]


async def test_idle_connections_do_not_hold_up_the_end() -> None:
    """Connections that ask nothing, new ones among them, are closed at the end."""
    async with asking() as asked:
        assert 200 == (await asked.post())[0]
        port = int(asked.server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asked.server.aclose()
        async with asyncio.timeout(10):
            assert b"" == await reader.read()
        writer.close()


# What fails


@pytest.mark.promise(name="L4")
async def test_unexpected_error(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the server is answered without its details, which are in the log under the same trace."""
    gate.opened.set()
    gate.error = RuntimeError("details of the inside")
    async with asking() as asked:
        status, answer, _ = await asked.post()
        assert (500, {"error", "trace"}) == (status, set(answer))
        assert "inside" not in str(answer)
        [record] = [record for record in caplog.records if record.exc_info]
        assert answer["trace"] in record.getMessage()
        gate.error = None
        assert 200 == (await asked.post())[0]


async def test_long_error_is_cut(gate: Gate) -> None:
    """An error that quotes a huge query is not sent back whole."""
    gate.opened.set()
    gate.error = DriverError("x" * 1_000_000)
    async with asking() as asked:
        status, answer, _ = await asked.post()
        assert (500, None) == (status, answer["data"])
        assert len(answer["error"]) <= 2001


# The access log


def fields(record: logging.LogRecord) -> dict[str, Any]:
    names = ("method", "path", "status", "ms", "bytes_in", "bytes_out", "organization", "outcome")
    return {name: getattr(record, name) for name in names}


@pytest.mark.promise(name="L3")
async def test_access_log(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """Each request is one record with its facts, as fields and as text, and no more than those."""
    caplog.set_level(logging.INFO, "helicone_sessions.access")
    gate.opened.set()
    secret = "of-the-filter-alone"
    body = {**PLAIN, "filter": {"request_response_rmt": {"model": {"equals": secret}}}}
    async with asking(api_key={KEY: ONE}, rate_limit=6) as asked:
        await asked.post(body)
        gate.error = DriverError("a failure")
        await asked.post(body)
        gate.error = RuntimeError("a fault")
        await asked.post(body)
        await asked.post({})
        await asked.post(body, Authorization="Bearer of-nobody")
        await asked.post(body, f"/nowhere/a%0ab%20c?key={KEY}")
        await asked.post([], "/v1/rows")
        await asked.post(b"x" * 10, "/v1/rows")
        await asked.post(body)
        await asked.raw(b"no HTTP at all\r\n\r\n")
        await asked.raw(head(f"Bad header {secret}: x") + b"{}")
    records = [record for record in caplog.records if record.name == "helicone_sessions.access"]
    found = [(seen["path"], seen["status"], seen["outcome"]) for seen in map(fields, records)]
    assert [
        (PATH, 200, "answered"),
        (PATH, 500, "failed"),
        (PATH, 500, "broken"),
        (PATH, 400, "refused"),
        (PATH, 401, "denied"),
        ("/nowhere/a%0Ab%20c", 404, "refused"),
        ("/v1/rows", 200, "added"),
        ("/v1/rows", 400, "refused"),
        (PATH, 429, "limited"),
        ("/", 400, "refused"),
        ("/", 400, "refused"),
    ] == found
    first = fields(records[0])
    assert ("POST", len(json.dumps(body)), str(ONE)) == (
        first["method"],
        first["bytes_in"],
        first["organization"],
    )
    assert first["ms"] >= 0
    assert first["bytes_out"] > 100
    assert "-" == fields(records[4])["organization"]
    for record in records:
        expected = " ".join(f"{name}={value}" for name, value in fields(record).items())
        assert expected == record.getMessage()
    said = caplog.text.replace(f"{secret}x", "")
    assert KEY not in said
    assert secret not in said


@pytest.mark.promise(name="L3")
@pytest.mark.parametrize(
    "request_line",
    [
        "GET /{key} HTTP/1.1",
        "GET /key={key} HTTP/1.1",
        "GET /{escaped} HTTP/1.1",
        f"GET /{'x' * 190}{{key}} HTTP/1.1",
        "{key} / HTTP/1.1",
        "GET /?key={key} HTTP/1.1",
    ],
)
async def test_key_in_an_address(request_line: str, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is in the path by mistake, in any spelling, is not in the access log."""
    caplog.set_level(logging.INFO, "helicone_sessions.access")
    key = "of-my-own-choice-0123456789"
    escaped = "".join(f"%{ord(letter):02x}" for letter in key)
    async with asking(api_key=key) as asked:
        line = request_line.format(key=key, escaped=escaped)
        await asked.raw(f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert 1 == len(caplog.records)
    assert key[:8] not in caplog.text
    assert escaped[:24] not in caplog.text


# Secrets


@pytest.mark.promise(name="L1")
async def test_secrets_are_in_no_text_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a key, nor the password of a ClickHouse, nor the data is in a representation or a log."""
    caplog.set_level(logging.DEBUG)
    password, constant = "open-sesame", "of-the-row-alone"
    far = LocalServer(clickhouse=f"http://ada:{password}@127.0.0.1:1/", api_key=KEY)
    with pytest.raises(ConfigurationError) as caught:
        await far.start()
    shown = [*_texts(far), *traceback.format_exception(caught.value)]
    row = {"request_created_at": "2026-11-01T12:00:00Z", "model": constant}
    async with asking([row], api_key={KEY: ONE}) as asked:
        shown += _texts(asked.server)
        await asked.server.add([row])
        await asked.post({**PLAIN, "filter": {"request_response_rmt": {"model": {"equals": constant}}}})
    shown.append(caplog.text)
    assert not [text for text in shown if KEY in text or password in text or constant in text]


def _texts(server: LocalServer) -> list[str]:
    """The server and all that it is made of as texts."""
    endpoints = Endpoints(server._config, server._dataset, server._keys, server._clock)
    return [
        repr(server),
        str(server),
        *map(repr, vars(server).values()),
        repr(endpoints),
        repr(endpoints.keys),
    ]


@pytest.mark.promise(name="L4")
@pytest.mark.parametrize(
    ("semantics", "said"),
    [("contract", "Cannot parse 'of-the-filter-alone'"), ("helicone", "No request count found")],
)
async def test_failing_query_is_not_in_the_log(
    semantics: str, said: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that a query failed and by which code; the text, which quotes it, is its client's."""
    caplog.set_level(logging.DEBUG, "helicone_sessions")
    gate.opened.set()
    gate.error = DriverError("Cannot parse 'of-the-filter-alone'", 6)
    async with asking(semantics=semantics) as asked:
        status, answer, _ = await asked.post()
    assert (500, said) == (status, answer["error"])
    assert "a query failed: DriverError, code 6" in caplog.text
    assert "of-the-filter-alone" not in caplog.text


# How it is set up


async def test_taken_port_is_told_before_the_load() -> None:
    """Where the port is taken no row is read."""

    def rows() -> Iterator[dict[str, Any]]:
        raise AssertionError("a row was asked for")
        yield

    async with asking() as asked:
        port = int(asked.server.url.rpartition(":")[2])
        with pytest.raises(ConfigurationError) as caught:
            await LocalServer(rows(), port=port).start()
        assert "port" == caught.value.argument


async def test_port_that_is_taken_during_the_load() -> None:
    """Of two servers that load for the same port the later one says that it is taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def rows() -> AsyncIterator[dict[str, Any]]:
        await first.start()
        yield {"request_created_at": "2026-11-01T12:00:00Z"}

    first = LocalServer(port=port)
    try:
        with pytest.raises(ConfigurationError) as caught:
            await LocalServer(rows(), port=port).start()  # type: ignore[arg-type]
        assert "port" == caught.value.argument
        assert first.url
    finally:
        await first.aclose()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"threads": 1.5}, "whole number above 0, got 1.5"),
        ({"memory": "1GB"}, "whole number above 0, got '1GB'"),
        ({"seconds": "long"}, "number above 0, got 'long'"),
        ({"seconds": 0}, "number above 0, got 0"),
        ({"seconds": float("nan")}, "number above 0, got nan"),
        ({"memory": -1}, "whole number above 0, got -1"),
        ({"rows": True}, "whole number above 0, got True"),
    ],
    ids=str,
)
def test_limits_that_are_none(limits: dict[str, Any], message: str) -> None:
    """A limit that is not a number above 0 is refused where it is made, and the error names it."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Limits(**limits)
    assert f"limits.{next(iter(limits))}" == caught.value.argument


@pytest.mark.promise(name="K5")
@pytest.mark.parametrize(
    "arguments",
    [
        {"organization_id": "sk-of-mine-0123456789"},
        {"semantics": "sk-of-mine-0123456789"},
        {"host": "sk-of-mine-0123456789"},
        {"port": "sk-of-mine-0123456789"},
        {"api_key": {str(UUID(int=1)): "any-text-0123456789"}},
        {"clickhouse": "sk-of-mine-0123456789"},
        {"path": "?sk-of-mine-0123456789"},
        {"limits": "sk-of-mine-0123456789"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
async def test_key_in_the_wrong_argument(arguments: dict[str, Any]) -> None:
    """A key that is passed as another argument is not repeated in the error."""
    with pytest.raises(ConfigurationError) as caught:
        await LocalServer(**arguments).start()
    assert "0123456789" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.promise(name="S2")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])  # noqa: S104
def test_reachable_address_needs_a_key(host: str) -> None:
    """An address that other machines reach is not listened on with a key that nobody gave."""
    with pytest.raises(ConfigurationError) as caught:
        LocalServer(host=host)
    assert "api_key" == caught.value.argument
    LocalServer(host=host, api_key=KEY)


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "127.0.0.2"])  # noqa: S104
async def test_address_of_other_hosts(host: str) -> None:
    """The address that is shown is one that a client on this machine reaches."""
    async with asking(host=host) as asked:
        assert 200 == (await asked.post())[0]


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "xn--", "a" * 64])
async def test_host_that_is_not_of_this_machine(host: str) -> None:
    """The server cannot listen on an address of another machine, and the error names it."""
    with pytest.raises(ConfigurationError) as caught:
        await LocalServer(host=host, api_key=KEY).start()
    assert "host" == caught.value.argument


async def test_port_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that the user may not have is refused with what to do."""

    async def refused(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root, and every user in some containers, may have them all.
    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", refused)
    with pytest.raises(ConfigurationError) as caught:
        await LocalServer(port=1).start()
    assert ("port", "Pass a port of 1024 or more") == (caught.value.argument, caught.value.remedy)


@pytest.mark.parametrize(
    ("argument", "value", "keyword"),
    [
        ("port", 70_000, "65535, got 70000"),
        ("port", "8", "whole number"),
        ("host", None, "string"),
        ("limits", 5, "Limits"),
        ("patience", None, "seconds above 0"),
        ("patience", 0, "above 0"),
        ("grace", "long", "seconds"),
        ("grace", float("nan"), "seconds"),
        ("include_unsessioned", "no", "True or False"),
        ("on_progress", 5, "callable"),
        ("path", 5, "path"),
        ("rejects", "", "path"),
        ("max_queued", None, "whole number"),
        ("max_queued", -1, "0 or more"),
        ("max_concurrency", 0, "1 or more"),
        ("max_concurrency", True, "whole number"),
        ("rate_limit", 0, "1 or more"),
        ("rate_limit", 1.5, "whole number"),
        ("rate_limit_window", 0, "above 0"),
        ("rate_limit_window", True, "seconds"),
        ("semantics", None, "'helicone', got None"),
        ("semantics", "mine", "'helicone', got 'mine'"),
        ("clickhouse", 5, "URL"),
        ("clickhouse", "localhost:8123", "http://"),
        ("api_key", "", "empty"),
        ("api_key", {}, "empty"),
        ("api_key", 5, "mapping of keys to organisations, got int"),
        ("api_key", "two words", "visible ASCII characters without spaces"),
        ("api_key", "schlüssel", "visible ASCII characters without spaces"),
        ("api_key", {"": ONE}, "visible ASCII characters without spaces"),
        ("api_key", {5: ONE}, "visible ASCII characters without spaces"),
        ("organization_id", "mine", "UUID, got 'mine'"),
        ("organization_id", 5, "UUID, got 5"),
    ],
    ids=str,
)
async def test_wrong_argument(argument: str, value: object, keyword: str) -> None:
    """A wrong argument is refused before anything starts; the error names it and shows no key."""
    with pytest.raises(ConfigurationError, match=keyword) as caught:
        await LocalServer(**{argument: value}).start()  # type: ignore[arg-type]
    assert argument == caught.value.argument
    assert argument != "api_key" or not value or str(value) not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"api_key": {KEY: "mine"}}, "api_key"),
        ({"organization_id": ONE, "api_key": {KEY: ONE}}, "organization_id"),
        ({"clickhouse": "http://127.0.0.1", "path": "x"}, "clickhouse"),
        ({"clickhouse": "http://127.0.0.1", "data": []}, "clickhouse"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together(options: dict[str, Any], argument: str) -> None:
    """Arguments that exclude each other are refused, and the error names the one to change."""
    with pytest.raises(ConfigurationError) as caught:
        LocalServer(**options)
    assert argument == caught.value.argument


# The service's ways


async def test_contract_is_announced() -> None:
    """Answers and failures say that filters are read as the contract has them."""
    failing = {**PLAIN, "filter": {"request_response_rmt": {"node_id": {"equals": "x"}}}}
    async with asking() as asked:
        headers = [(await asked.post(body))[2] for body in (PLAIN, failing)]
    assert ["contract"] * 2 == [each["Helicone-Filter-Semantics"] for each in headers]


async def test_service_semantics_is_not_announced_as_the_contract() -> None:
    """Read as the open-source server does, nothing says that every condition counts."""
    async with asking(semantics="helicone") as asked:
        status, _, headers = await asked.post()
    assert 200 == status
    assert "Helicone-Filter-Semantics" not in headers


@pytest.mark.parametrize("minutes", [1441, -1440.5, 1e300])
async def test_odd_timezone(minutes: float) -> None:
    """A time zone that does not exist is a failed query to the service, and a bad body by the contract."""
    body = {**PLAIN, "timezoneDifference": minutes}
    async with asking(semantics="helicone") as asked:
        status, answer, _ = await asked.post(body)
        assert (500, {"data": None, "error": "Invalid timezone difference"}) == (status, answer)
        status, answer, _ = await asked.post({**body, "pSize": "p42"})
        assert (422, ["requestBody.pSize"]) == (status, list(answer["details"]))
    async with asking() as asked:
        status, answer, _ = await asked.post(body)
        assert 400 == status
        assert answer["error"].startswith("$.timezoneDifference must be ")
