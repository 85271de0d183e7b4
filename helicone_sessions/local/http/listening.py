"""Listens on an address, writes the access log, and shuts down without dropping connections."""

import asyncio
import errno
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ClassVar, Final, Self
from urllib.parse import quote

import attrs
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.masking import masked_repr, masked_text

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ACCESS: Final = logging.getLogger("helicone_sessions.access")
# The logger for aiohttp's messages about connections.
CONNECTIONS: Final = logging.getLogger("helicone_sessions.connections")

_LONGEST_PATH: Final = 200
_LONGEST_METHOD: Final = 20
_BACKLOG: Final = 128
_LINGERING: Final = 5.0
_TURNS_TO_CONNECT: Final = 10


@attrs.define
class RequestFacts:
    """The facts about a request that its handler collects for the access log.

    Args:
        organization: The organisation of the caller.
        bytes_in: The length of the decompressed request body in bytes.
        outcome: The outcome in one word.
    """

    organization: object = "-"
    bytes_in: int = 0
    outcome: str = "refused"


# aiohttp runs each request together with its access logger in a separate context.
facts: Final[ContextVar[RequestFacts]] = ContextVar("facts")


class AccessLog(AbstractAccessLogger):
    """Writes the access log. The records contain no keys, bodies, filters or query strings."""

    secrets: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def without(cls, secrets: tuple[str, ...]) -> type[Self]:
        """Create a logger class that masks *secrets*. aiohttp instantiates the class."""
        return type(cls.__name__, (cls,), {"secrets": secrets})

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the record of a request whose response took *time* seconds."""
        size = response.body_length if response.prepared else 0
        seen = facts.get(RequestFacts())
        record(request, response.status, seen, self.secrets, seconds=time, bytes_out=size)

    @property
    def enabled(self) -> bool:
        """Whether the log is enabled."""
        return self.logger.isEnabledFor(logging.INFO)


def record(
    request: web.BaseRequest,
    status: int,
    seen: RequestFacts,
    secrets: tuple[str, ...],
    *,
    seconds: float,
    bytes_out: int = 0,
) -> None:
    """Write one record to the access log.

    Args:
        request: The request.
        status: The status of the response.
        seen: The facts collected by the handler.
        secrets: The keys of the server. They are masked, because a path may contain a key by mistake.
        seconds: The duration in seconds.
        bytes_out: The length of the response in bytes.
    """
    # Path and method are quoted, so that they cannot forge a log line.
    path = quote(request.rel_url.raw_path, safe="/%")
    fields = {
        "method": masked_text(quote(request.method), *secrets, most=_LONGEST_METHOD),
        "path": masked_text(path, *secrets, most=_LONGEST_PATH),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes_in": seen.bytes_in,
        "bytes_out": bytes_out,
        "organization": str(seen.organization),
        "outcome": seen.outcome,
    }
    ACCESS.info(" ".join(f"{name}={value}" for name, value in fields.items()), extra=fields)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether to log a message. Errors about malformed requests are dropped, because they may quote a key."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


CONNECTIONS.addFilter(_is_news)


def is_loopback(host: str) -> bool:
    """Whether the address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Listening:
    """An application that listens on an address.

    Args:
        app: The application.
        host: The address.
        port: The port; 0 selects a free port.
        patience: The timeout for receiving the headers of the next request on a connection, in seconds.
        secrets: The keys of the server. The access log masks them.
    """

    def __init__(
        self, app: web.Application, host: str, port: int, *, patience: float, secrets: tuple[str, ...]
    ) -> None:
        app.middlewares.append(self._tracked)
        app.on_response_prepare.append(self._announce_end)
        self._runner = web.AppRunner(
            app,
            access_log=ACCESS,
            access_log_class=AccessLog.without(secrets),
            logger=CONNECTIONS,
            # `request_body` decompresses bodies, within limits and on threads.
            auto_decompress=False,
            # If a client disconnects, its query is cancelled.
            handler_cancellation=True,
            keepalive_timeout=patience,
            # After a rejection, the rest of the body is read for this long, so that the response arrives.
            lingering_time=min(patience, _LINGERING),
            shutdown_timeout=1.0,
        )
        self._host = host
        self._port = port
        self._listening: asyncio.Server | None = None
        self._under_way: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()
        self._silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._patience = patience
        self._is_ending = False
        self.url = ""

    @property
    def port(self) -> int:
        """The requested port. After `bind`, it is the actual port."""
        return self._port

    async def bind(self) -> None:
        """Bind to the address without accepting connections yet.

        Raises:
            ConfigurationError: The address is not available.
        """
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                self._connection, self._host, self._port, backlog=_BACKLOG, start_serving=False
            )
        except (OSError, OverflowError, UnicodeError) as error:
            await self._runner.cleanup()
            raise self._cannot_listen(error) from error
        address, self._port = self._listening.sockets[0].getsockname()[:2]
        if ipaddress.ip_address(address).is_unspecified:
            # The server listens on all addresses. Clients on this machine use the loopback address.
            address = "::1" if ":" in address else "127.0.0.1"
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{self._port}"

    async def start(self) -> None:
        """Start accepting connections.

        Raises:
            ConfigurationError: The address is not available.
        """
        assert self._listening is not None
        try:
            await self._listening.start_serving()
        except OSError as error:
            # Two sockets can be bound to the same address until one of them listens.
            raise self._cannot_listen(error) from error

    def _connection(self) -> web.RequestHandler:
        """Create a connection that is closed if its first request does not arrive in time."""
        assert self._runner.server is not None
        connection = self._runner.server()
        timer = asyncio.get_running_loop().call_later(self._patience, self._close, connection)
        self._silent[connection] = timer
        return connection

    def _close(self, connection: web.RequestHandler) -> None:
        del self._silent[connection]
        connection.force_close()

    def _cannot_listen(self, error: Exception) -> ConfigurationError:
        match getattr(error, "errno", None):
            case errno.EADDRINUSE:
                return ConfigurationError(
                    argument="port",
                    problem=f"{self._port} of {masked_text(self._host)} is taken",
                    remedy="Stop the other server, or pass another port (0 selects a free one)",
                )
            case errno.EACCES:
                return ConfigurationError(
                    argument="port",
                    problem=f"{self._port} is reserved for privileged users",
                    remedy="Pass a port of 1024 or more",
                )
        return ConfigurationError(
            argument="host",
            problem=f"must be an address of this machine, got {masked_repr(self._host)}",
            remedy="Pass 127.0.0.1, for example",
        )

    async def end(self, grace: float) -> None:
        """Stop accepting requests, and cancel the running ones after a grace period.

        Args:
            grace: The timeout for running requests, in seconds.
        """
        self._is_ending = True
        await self._stop_listening()
        if self._runner.server is not None:
            # This closes idle connections now, and busy connections after their response.
            self._runner.server.pre_shutdown()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace)
        for task in tuple(self._under_way):
            self._ended.add(task)
            task.cancel()
        await self._runner.cleanup()
        for timer in self._silent.values():
            timer.cancel()
        self._silent.clear()

    @web.middleware
    async def _tracked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        if timer := self._silent.pop(request.protocol, None):
            timer.cancel()
        try:
            return await handler(request)
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            facts.get().outcome = "stopped"
            return web.json_response({"error": "the server was stopped"}, status=503)
        finally:
            self._under_way.discard(task)

    async def _announce_end(self, _request: web.Request, response: web.StreamResponse) -> None:
        if self._is_ending:
            # The client must not send its next request on this connection.
            response.headers["Connection"] = "close"
            response.force_close()

    async def _stop_listening(self) -> None:
        if self._listening is None:
            return
        loop = asyncio.get_running_loop()
        # When a server closes, asyncio drops connections that are being accepted without closing them, and
        # their clients wait until they time out. So the server first stops accepting, and lets asyncio finish
        # the accepted connections.
        if hasattr(loop, "remove_reader") and type(loop).__name__ != "ProactorEventLoop":
            for socket in self._listening.sockets:
                loop.remove_reader(socket)
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        self._listening.close()
        self._listening = None
