"""Answers and faults as they go over a connection."""

import socket
import struct
import sys
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from helicone_sessions.testing.answers import Fault, Reply

# On and zero seconds: what closes such a socket resets the connection.
_NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
TOO_MANY: Final = Reply(429, {"error": "Too many requests, please try again later."})


def peer(request: web.Request) -> tuple[str, int]:
    """Where a request comes from, as host and port."""
    transport = request.transport
    host, port = transport.get_extra_info("peername")[:2] if transport is not None else ("", 0)
    return host, port


def response(reply: Reply, headers: Mapping[str, str]) -> web.Response:
    """An answer that aiohttp sends; of *headers* those count that the reply does not have."""
    together = CIMultiDict({"Content-Type": reply.content_type, **headers})
    together.update(reply.headers)
    return web.Response(status=reply.status, body=reply.raw, headers=together)


def refusal(request: web.Request, api_key: str, *, is_endpoint: bool) -> Reply | None:
    """The answer to a request with a wrong path or key; None if both are right."""
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


async def truncated(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
    """Half of an answer."""
    whole = response(reply, headers)
    half = web.StreamResponse(status=whole.status, headers=whole.headers)
    # Of an empty body, too, something has to be missing.
    half.headers["Content-Length"] = str(len(reply.raw) + 1)
    await half.prepare(request)
    await half.write(reply.raw[: len(reply.raw) // 2])
    _close(request)
    return half


def broken_off(request: web.Request, fault: Fault) -> web.StreamResponse:
    """The end of a connection in another way than with an answer."""
    if fault is Fault.NOT_HTTP and request.transport is not None:
        request.transport.write(b"NOPE this is no HTTP\r\n\r\n")
    if fault in (Fault.RESET, Fault.GOES_STALE):
        _reset(request)
    else:
        _close(request)
    # It reaches nobody, but aiohttp wants one.
    return web.Response()


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
