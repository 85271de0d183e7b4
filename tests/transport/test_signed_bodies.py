"""Bodies behind signed addresses: read without the key, from public addresses, up to a size."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ThreadedResolver, web
from aiohttp.test_utils import TestServer

from helicone_sessions import HeliconeClient
from helicone_sessions.clock import replaced
from helicone_sessions.testing import VirtualClock
from helicone_sessions.transport.signed_bodies import BodyUnavailable, SignedBodies

SEEN: web.AppKey[list[web.Request]] = web.AppKey("seen", list)
BODY = {"request": {"messages": ["hi"]}, "response": "hello"}


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    """A storage on loopback, at the host of the service; it records the received headers."""
    seen: list[web.Request] = []
    failures = {"left": 2}

    async def body(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response(BODY)

    async def passing(request: web.Request) -> web.Response:
        seen.append(request)
        failures["left"] -= 1
        return web.Response(status=503) if failures["left"] >= 0 else web.json_response(BODY)

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async def status(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(status=int(request.match_info["code"]))

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=b'{"request": "' + b"x" * 5000 + b'"}')

    async def bomb(_request: web.Request) -> web.Response:
        response = web.Response(body=b" " * 1_000_000)
        response.enable_compression()
        return response

    async def text(_request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async def endless(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/endless")

    app = web.Application()
    app[SEEN] = seen
    for path, handler in {
        "/body": body,
        "/passing": passing,
        "/redirect": redirect,
        "/status/{code}": status,
        "/large": large,
        "/bomb": bomb,
        "/text": text,
        "/endless": endless,
    }.items():
        app.router.add_get(path, handler)
    async with TestServer(app, host="127.0.0.1") as started:
        yield started


@asynccontextmanager
async def reader(base_url: str = "http://127.0.0.1:9", **options: Any) -> AsyncIterator[SignedBodies]:
    async with HeliconeClient("sk-helicone-secret", base_url=base_url) as client:
        with replaced(VirtualClock()):
            async with SignedBodies(client._settings, **options) as bodies:
                yield bodies


async def refusal(address: object, base_url: str = "http://127.0.0.1:9", **options: Any) -> str:
    """The reason why a body cannot be read."""
    async with reader(base_url, **options) as bodies:
        with pytest.raises(BodyUnavailable) as caught:
            await bodies.read(address)
    return caught.value.reason


async def test_a_body_is_read_without_the_key(server: TestServer) -> None:
    """The request for a body has neither the key nor anything else that identifies the account."""
    async with reader() as bodies:
        found = await bodies.read(str(server.make_url("/body?signature=x")))
    assert (found.request, found.response) == (BODY["request"], BODY["response"])
    (request,) = server.app[SEEN]
    assert "sk-helicone-secret" not in str(request.headers) + str(request.url)
    assert not {"Authorization", "Cookie"} & set(request.headers)


async def test_a_passing_failure_is_retried(server: TestServer) -> None:
    """A 503 is retried twice, a 404 not at all."""
    async with reader() as bodies:
        assert (await bodies.read(str(server.make_url("/passing")))).response == "hello"
    assert await refusal(str(server.make_url("/status/404"))) == "status 404"
    assert len(server.app[SEEN]) == 4


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/large", "more than 1,000 bytes"),
        ("/bomb", "more than 1,000 bytes"),
        ("/text", "unexpected content"),
        ("/endless", "too many redirects"),
        ("/redirect?to=http://localhost:1/", "an address without https"),
        ("/redirect?to=https://localhost:1/", "a redirect to another host"),
        ("/redirect?to=https://8.8.8.8/", "a redirect to another host"),
        ("/redirect?to=https://10.0.0.1/", "a private address"),
        ("/redirect?to=//[", "no address"),
        ("/redirect?to=file:///etc/passwd", "no address"),
    ],
)
async def test_what_a_server_may_not_do(server: TestServer, path: str, reason: str) -> None:
    """A body has a limited size, also unpacked, and a redirect stays on its host."""
    assert await refusal(str(server.make_url(path)), most_bytes=1000) == reason


async def test_a_redirect_on_the_same_host_is_followed(server: TestServer) -> None:
    """A redirect to another path of the same host leads to the body."""
    async with reader() as bodies:
        assert (await bodies.read(str(server.make_url("/redirect?to=/body")))).response == "hello"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (None, "no address"),
        (5, "no address"),
        ("", "no address"),
        ("/etc/passwd", "no address"),
        ("file:///etc/passwd", "no address"),
        ("https://[::1", "no address"),
        ("http://example.com/body", "an address without https"),
        ("ftp://127.0.0.1/body", "an address without https"),
        ("https://10.0.0.1/body", "a private address"),
        ("https://169.254.169.254/latest/meta-data", "a private address"),
        ("https://[::1]/body", "a private address"),
        ("https://[::ffff:127.0.0.1]/body", "a private address"),
        ("https://localhost/body", "a private address"),
        ("https://2130706433/body", "a private address"),
        ("https://127.1/body", "a private address"),
        ("https://0x7f000001/body", "a private address"),
    ],
)
async def test_addresses_that_are_refused(address: object, reason: str) -> None:
    """Only public addresses over https are read, and the service's own host."""
    assert await refusal(address) == reason


async def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses behind a name are checked when the connection is made."""

    async def resolve(_self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        return [
            {"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0}
            for each in ("8.8.8.8", "192.168.0.1")
        ]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    assert await refusal("https://bodies.example/body") == "a private address"


async def test_nothing_of_the_address_is_in_the_reason() -> None:
    """A signed address is a secret, and the error has no part of it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert await refusal(f"http://127.0.0.1:{port}/b?signature=secret") == "no connection"


async def test_ten_bodies_are_read_at_once() -> None:
    """More wait for a slot."""
    open_now, most = 0, 0
    release = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == 10:
            release.set()
        await release.wait()
        open_now -= 1
        return web.json_response(BODY)

    app = web.Application()
    app.router.add_get("/", slow)
    async with TestServer(app, host="127.0.0.1") as server, reader() as bodies:
        address: Callable[[], str] = lambda: str(server.make_url("/"))  # noqa: E731
        await asyncio.gather(*(bodies.read(address()) for _ in range(30)))
    assert most == 10
