"""Responses as they arrive on a socket: too large, packed, broken off, or on a connection that is gone."""

import asyncio
import gzip
import re
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp
import pytest

from helicone_sessions import (
    ConfigurationError,
    ConnectionFailed,
    HeliconeClient,
    HeliconeError,
    SessionMetricsQuery,
    UnexpectedResponse,
)
from helicone_sessions.clock import replaced
from helicone_sessions.messages import protocol
from helicone_sessions.messages.codec import encode
from helicone_sessions.messages.converter import converter
from helicone_sessions.testing import VirtualClock, metrics

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-SECRETKEY0123456789abcdef"
BODY = encode({"data": converter.unstructure(metrics(cost=0.25)), "error": None})


def response(body: bytes = BODY, *headers: str, status: str = "200 OK") -> bytes:
    """A response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Server:
    """A server on loopback that sends bytes, and counts requests and connections."""

    def __init__(self, *pieces: bytes | Callable[[], Awaitable[bytes]], closes: bool = True) -> None:
        self.pieces = pieces
        self.closes = closes
        self.requests = 0
        self.connections = 0
        self.drops = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                self.requests += 1
                if self.drops:
                    self.drops -= 1
                    break
                for piece in self.pieces:
                    writer.write(piece if isinstance(piece, bytes) else await piece())
                    await writer.drain()
                if self.closes:
                    break
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


def client_of(server: Server, **options: Any) -> HeliconeClient:
    with replaced(VirtualClock()):
        return HeliconeClient(KEY, **{"base_url": server.url, "max_retries": 0, "timeout": 60, **options})


async def error_of(server: Server, **options: Any) -> HeliconeError:
    async with server, client_of(server, **options) as client:
        with pytest.raises(HeliconeError) as caught:
            await client.get_metrics()
        return caught.value


# Large responses


@pytest.mark.promise(name="C6")
async def test_a_response_that_unpacks_to_much_more_is_refused() -> None:
    """A small body that unpacks to much more ends at the limit, and is not retried."""
    bomb = gzip.compress(b" " * (2 * protocol.LARGEST_RESPONSE))
    server = Server(response(bomb, "Content-Encoding: gzip"))
    error = await error_of(server, max_retries=4)

    assert (UnexpectedResponse, 1) == (type(error), server.requests)
    assert "larger than 33,554,432 bytes" in str(error)


@pytest.mark.promise(name="C6")
async def test_reading_ends_at_the_limit() -> None:
    """The client stops reading an endless response, and the server finds the connection closed."""
    sent = 0

    async def more() -> bytes:
        nonlocal sent
        sent += 1
        return b" " * 1024 * 1024

    server = Server(b"HTTP/1.1 200 OK\r\n\r\n", *[more] * 1000)
    error = await error_of(server)

    assert "larger than 33,554,432 bytes" in str(error)
    assert sent < 100


async def test_large_and_small_pieces_make_one_body() -> None:
    """Metrics are read however the network cuts the response."""
    whole = response()
    for size in (1, 7, 100, len(whole)):

        async def pause() -> bytes:
            await asyncio.sleep(0)
            return b""

        pieces: list[Any] = []
        for start in range(0, len(whole), size):
            pieces += [whole[start : start + size], pause]
        async with Server(*pieces) as server, client_of(server) as client:
            assert 0.25 == (await client.get_metrics()).average.session_cost


# Broken responses


@pytest.mark.parametrize(
    "ending",
    [b"zz\r\n", b"-5\r\nhello\r\n", b"5\r\nhello", b"", b"\x00"],
    ids=["no length", "negative length", "no end", "nothing", "NUL"],
)
async def test_a_broken_chunk_ends_the_attempt_at_once(ending: bytes) -> None:
    """A connection that aiohttp gives up is noticed before the timeout."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

    async def pause() -> bytes:
        await asyncio.sleep(0.01)
        return ending

    error = await error_of(Server(head, pause))
    assert ConnectionFailed is type(error)


@pytest.mark.parametrize("length", [0, 1, 20, len(BODY) - 1])
async def test_json_that_ends_early_is_retried(length: int) -> None:
    """A server that fails while it writes can send a length that matches its incomplete body."""
    server = Server(response(BODY[:length]))
    error = await error_of(server, max_retries=2)

    assert isinstance(error, UnexpectedResponse)
    assert (3, 3, True) == (error.attempts, server.requests, error.is_truncated)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip", "gzip, br"])
async def test_an_encoding_that_cannot_be_read_is_no_reason_to_retry(encoding: str) -> None:
    """A retry would receive the same packed response."""
    server = Server(response(BODY, f"Content-Encoding: {encoding}"))
    error = await error_of(server, max_retries=4)

    assert (UnexpectedResponse, 1) == (type(error), server.requests)
    assert repr(encoding) in str(error)


async def test_the_session_of_a_caller_unpacks_nothing_either() -> None:
    """The limit applies to every session, and packed metrics are read."""
    packed = response(gzip.compress(BODY), "Content-Encoding: gzip")
    async with Server(packed) as server, aiohttp.ClientSession(auto_decompress=True) as session:
        found = await client_of(server, session=session).get_metrics()
    assert 0.25 == found.average.session_cost


# Connections that are gone


async def test_a_batch_survives_a_server_that_closes_after_each_response() -> None:
    """If the server closes connections unannounced, no query is lost, even without retries."""
    async with Server(response()) as server, client_of(server) as client:
        queries = [SessionMetricsQuery(name_contains=str(number)) for number in range(200)]
        found = await client.get_metrics_many(queries)

    assert {0.25} == {one.average.session_cost for one in found}
    assert server.requests <= 400


@pytest.mark.parametrize("drops", [1, 2])
@pytest.mark.parametrize("is_first", [True, False], ids=["new connection", "idle connection"])
async def test_a_drop_before_the_response_is_repeated_once(drops: int, is_first: bool) -> None:
    """On a new connection, and without a wait; a second drop is a failure of the attempt."""
    async with Server(response(), closes=False) as server, client_of(server) as client:
        if not is_first:
            await client.get_metrics()
        server.drops = drops
        requests = server.requests
        if drops == 1:
            await client.get_metrics()
        else:
            with pytest.raises(ConnectionFailed) as caught:
                await client.get_metrics()
            assert 1 == caught.value.attempts
        assert 2 == server.requests - requests
        assert 2 == server.connections


async def test_a_response_that_breaks_off_is_not_repeated_at_once() -> None:
    """A response that has begun to arrive counts as an attempt."""
    server = Server(response()[:-5])
    error = await error_of(server)

    assert (ConnectionFailed, 1) == (type(error), server.requests)


async def test_a_repeated_request_keeps_to_the_timeout() -> None:
    """Both requests together are limited by the timeout of one attempt."""
    gate = asyncio.Event()

    async def never() -> bytes:
        await gate.wait()
        return b""

    server = Server(never)
    server.drops = 1
    error = await error_of(server, timeout=60)
    gate.set()

    assert "no complete response within 60 s" in str(error)
    assert 2 == server.requests


# What errors say


@pytest.mark.promise(name="K4")
@pytest.mark.parametrize("padding", range(60, 100))
async def test_a_header_that_is_too_long_shows_no_part_of_the_key(padding: int) -> None:
    """Aiohttp cuts the line that it quotes, so the key in it is incomplete."""
    line = b"X: " + b"a" * padding + b" " + KEY.encode() + b"b" * 9000
    error = await error_of(Server(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n"))

    assert isinstance(error, ConnectionFailed)
    assert KEY[:8] not in str(error)
    assert "is not HTTP" in str(error)


@pytest.mark.promise(name="K4")
@pytest.mark.parametrize(
    "sent",
    [
        f"HTTP/1.1 200 OK\r\nX-Key: {KEY}\r\n",
        f"HTTP/1.1 200 OK\r\nX-Key: {KEY}\r\nContent-Length: 9\r\n\r\nx",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n{KEY}\r\n",
        f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n",
        f"HTTP/1.1 {KEY}\r\n\r\n",
        KEY,
    ],
    ids=["half a head", "half a body", "chunk", "header", "status", "no HTTP"],
)
async def test_a_broken_response_with_the_key_does_not_show_it(sent: str) -> None:
    """Neither the error nor its cause holds a part of the response."""
    error = await error_of(Server(sent.encode()))
    texts = ["".join(traceback.format_exception(error))]
    chain: BaseException | None = error
    while chain is not None:
        texts.append(f"{chain!r} {vars(chain)}")
        chain = chain.__cause__ or chain.__context__

    assert isinstance(error, ConnectionFailed)
    assert KEY[:8] not in "".join(texts)


@pytest.mark.promise(name="K4")
async def test_an_escaped_key_at_the_end_of_a_message_is_masked() -> None:
    """The key is masked in every spelling, before messages are cut."""
    body = b'{"error":"' + b"x" * 480 + b"\\u0073" + KEY[1:].encode() + b'"}'
    error = await error_of(Server(response(body, status="401 No")))

    assert KEY[1:9] not in str(error)
    assert "SECRET" not in f"{error!r}{vars(error)}"


@pytest.mark.promise(name="K5")
@pytest.mark.parametrize(
    "option",
    ["timeout", "max_retries", "rate_limit", "hooks", "deadline", "max_concurrency", "cautions", "region"],
)
@pytest.mark.parametrize("wrap", [str, lambda key: [key], lambda key: {key: key}, str.encode])
def test_a_key_in_a_wrong_argument_is_not_repeated(option: str, wrap: Callable[[str], object]) -> None:
    """The error names the argument, and shows the value without the key."""
    with pytest.raises(ConfigurationError) as caught:
        HeliconeClient("k", **{option: wrap(KEY)})  # type: ignore[arg-type]

    assert option == caught.value.argument
    assert KEY[:8] not in f"{caught.value}{caught.value!r}{vars(caught.value)}"


async def test_a_key_of_a_query_in_a_mapping_is_not_repeated() -> None:
    """A secret used as a key of a batch is masked in its errors too."""
    async with Server(response(b"{}")) as server, client_of(server) as client:
        with pytest.raises(UnexpectedResponse) as caught:
            await client.get_metrics_many({KEY: SessionMetricsQuery()})
    assert ["The query is '***'."] == caught.value.__notes__


@pytest.mark.parametrize(
    "host", ["a..b", ".a", "xn--", "xn--.example", "a" * 64, "b." + "a" * 64 + ".example"]
)
async def test_a_host_that_cannot_be_looked_up_is_named(host: str) -> None:
    """A host that cannot be encoded is an error of the package, not a UnicodeError past `return_errors`."""
    with pytest.raises(ConfigurationError) as caught:
        HeliconeClient(KEY, base_url=f"http://{host}")

    assert "base_url" == caught.value.argument
    assert host[:9] in str(caught.value)


@pytest.mark.parametrize("host", ["a.", "bücher.example", "ex_ample.org", "[::1]", "127.0.0.1", "localhost"])
def test_other_hosts_are_taken(host: str) -> None:
    """Names with a final dot, other alphabets and underscores can be looked up."""
    assert f"http://{host}" in repr(HeliconeClient(KEY, base_url=f"http://{host}")).replace(
        "xn--bcher-kva", "bücher"
    )
