"""A server on loopback, in the running event loop or in a thread."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The service takes bodies up to 50 MB (server source).
_LARGEST_BODY = 50 * 1024 * 1024
_TURNS_TO_CONNECT = 10


class LoopbackServer:
    """A server that passes each request to *handler*.

    It cancels a request whose client disconnects, and at the end all requests under way.
    """

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        self._handler = handler
        self._host = host
        self._port = port
        self._under_way: set[asyncio.Task[object]] = set()
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self.runner.server.connections) if self.runner.server is not None else 0

    async def start(self) -> None:
        """Start to listen."""
        await self.runner.setup()
        assert self.runner.server is not None
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(self.runner.server, self._host, self._port)
        except OSError:
            await self.runner.cleanup()
            raise
        self._port = self._listening.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Stop listening, and cancel all requests under way."""
        await self._stop_listening()
        for task in tuple(self._under_way):
            task.cancel()
        await self.runner.cleanup()

    async def _stop_listening(self) -> None:
        if self._listening is None:
            return
        loop = asyncio.get_running_loop()
        # asyncio neither serves nor closes a connection that it accepts while the server closes. Accept no
        # more connections first, and let those that are accepted complete.
        if hasattr(loop, "remove_reader") and not _is_proactor(loop):
            for socket in self._listening.sockets:
                loop.remove_reader(socket)
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        self._listening.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await self._handler(request)
        finally:
            self._under_way.discard(task)


def _is_proactor(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is the default loop on Windows, which has no readers."""
    return type(loop).__name__ == "ProactorEventLoop"


class ServerThread:
    """A thread with an event loop in which a server runs."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="FakeHelicone", daemon=True)

    def start(self) -> None:
        """Start the thread, and return when the server listens.

        Raises:
            OSError: The server cannot listen on the address.
        """
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    def end(self) -> None:
        """Stop the server, and end the thread."""
        loop, ended = self._started.result()
        loop.call_soon_threadsafe(ended.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.start()
        except BaseException as error:  # noqa: BLE001 - start() raises it
            self._started.set_exception(error)
            return
        ended = asyncio.Event()
        self._started.set_result((asyncio.get_running_loop(), ended))
        await ended.wait()
        await self._server.end()
