"""Listening on an address, and a shutdown that loses no connection."""

import asyncio
import errno
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.http.access_log import ACCESS, CONNECTIONS, AccessLog, facts
from helicone_sessions.masking import masked_repr, masked_text

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BACKLOG: Final = 128
_LINGERING: Final = 5.0
_TURNS_TO_CONNECT: Final = 10
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - they are looked for, not bound


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Listening:
    """An application on an address.

    Args:
        app: The application.
        host: The address.
        port: The port; 0 takes a free one.
        patience: Seconds that a connection may wait for the next request to arrive with all its headers.
        secrets: The keys of the server, which are left out of the access log.
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
            # They are unpacked within bounds, and beside the loop.
            auto_decompress=False,
            # Whose client goes away, whose query ends.
            handler_cancellation=True,
            keepalive_timeout=patience,
            # How long the rest of a body that was refused is read, so that the refusal arrives.
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
        """The port that it was given or has found."""
        return self._port

    async def bind(self) -> None:
        """Take the address, and no connections yet.

        Raises:
            ConfigurationError: The address cannot be had.
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
        address = _ANYWHERE.get(address, address)
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{self._port}"

    async def start(self) -> None:
        """Take connections.

        Raises:
            ConfigurationError: The address cannot be had.
        """
        assert self._listening is not None
        try:
            await self._listening.start_serving()
        except OSError as error:
            # Two may hold an address until one of them listens there.
            raise self._cannot_listen(error) from error

    def _connection(self) -> web.RequestHandler:
        """One connection, which is closed if it does not come to a first request."""
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
                    remedy="Stop the other server, or pass another port (0 takes a free one)",
                )
            case errno.EACCES:
                return ConfigurationError(
                    argument="port",
                    problem=f"{self._port} is reserved for privileged users",
                    remedy="Pass a port from 1024 up",
                )
        return ConfigurationError(
            argument="host",
            problem=f"must be an address of this machine, got {masked_repr(self._host)}",
            remedy="Pass for example 127.0.0.1",
        )

    async def end(self, grace: float) -> None:
        """Take no more requests, give those under way some seconds, and end the rest.

        Args:
            grace: The seconds.
        """
        self._is_ending = True
        await self._stop_listening()
        if self._runner.server is not None:
            # Idle connections are closed, busy ones after their answer.
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
            # So that the client sends its next request elsewhere.
            response.headers["Connection"] = "close"
            response.force_close()

    async def _stop_listening(self) -> None:
        if self._listening is None:
            return
        loop = asyncio.get_running_loop()
        # A connection that is being accepted while its server is closed is lost by asyncio without being
        # closed, and its client would wait for its timeout: first no more are taken, then these are made.
        if hasattr(loop, "remove_reader") and type(loop).__name__ != "ProactorEventLoop":
            for socket in self._listening.sockets:
                loop.remove_reader(socket)
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        self._listening.close()
        self._listening = None
