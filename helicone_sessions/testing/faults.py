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
