"""`Fault`: failures of the connection, and how a server produces them."""

import socket
import struct
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Final

from aiohttp import web

from helicone_sessions.testing.replies import Reply, response

# SO_LINGER on with zero seconds: closing such a socket resets the connection.
_NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Fault(Enum):
    """A failure of the connection, for which there is no status.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone, metrics
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         fake.will_answer(Fault.DROP, metrics(cost=0.5))
    ...         print((await client.get_metrics()).average.session_cost, len(fake.requests))
    >>> asyncio.run(main())
    0.5 2
    """

    DROP = "drop"
    """The server closes the connection without a response."""
    RESET = "reset"
    """The server resets the connection (TCP RST)."""
    STALL = "stall"
    """No response ever comes. The client's timeout, which is real time, ends the request."""
    TRUNCATE = "truncate"
    """The server closes the connection in the middle of the response."""
    NOT_HTTP = "not http"
    """The response is not HTTP."""
    GOES_STALE = "goes stale"
    """The response comes, and the server resets the kept connection at the next request on it.

    A client meets this if its request crosses with a server that closes an idle connection.
    """


async def truncated(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send half of a response, and close the connection."""
    whole = response(reply, headers)
    half = web.StreamResponse(status=whole.status, headers=whole.headers)
    # One byte more than the body has, so that an empty body is incomplete too.
    half.headers["Content-Length"] = str(len(reply.raw) + 1)
    await half.prepare(request)
    await half.write(reply.raw[: len(reply.raw) // 2])
    _close(request)
    return half


def broken_off(request: web.Request, fault: Fault) -> web.StreamResponse:
    """End the connection without a response."""
    if fault is Fault.NOT_HTTP and request.transport is not None:
        request.transport.write(b"NOPE this is no HTTP\r\n\r\n")
    if fault in (Fault.RESET, Fault.GOES_STALE):
        _reset(request)
    else:
        _close(request)
    # aiohttp requires a response, which nobody receives.
    return web.Response()


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
