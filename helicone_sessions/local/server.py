"""`LocalServer`: the endpoint of the service on loopback, answered by the embedded engine."""

import asyncio
import hmac
import logging
import secrets
import warnings
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from aiohttp import web

from helicone_sessions.errors import ConfigurationError, FilterError
from helicone_sessions.local.backends import BackendError
from helicone_sessions.local.backends.chdb import ChdbBackend
from helicone_sessions.local.engine import Engine
from helicone_sessions.local.files import Data
from helicone_sessions.local.rows import Loaded
from helicone_sessions.local.sample import sample_rows
from helicone_sessions.local.sql import Unanswerable
from helicone_sessions.local.store import Store
from helicone_sessions.messages.codec import decode
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.protocol import CONTRACT_HEADER, PATH
from helicone_sessions.messages.query import SessionMetricsQuery

_LOG: Final = logging.getLogger(__name__)

# The service takes bodies up to 50 MB.
_LARGEST_BODY: Final = 50 * 1024 * 1024
_BACKLOG: Final = 128
_TURNS_TO_CONNECT: Final = 10


class LocalServer:
    """A server that answers ``POST /v1/session/metrics/query`` from your own data.

    Use it with ``async with``.

    Args:
        data: A path to a .jsonl, .json, .csv or .parquet file (.gz likewise for the first three), an
            iterable of rows, or `LocalServer.sample()`. A row is a dict under the column names of
            Helicone's table or of its request export; ``request_created_at`` is an aware datetime or ISO
            text with a zone, ``cost`` is dollars, ``properties`` a dict. Without data the server answers
            that nothing matches.
        api_key: The key that it asks for; without it a new one is made up.
        host: The address that it listens on.
        port: The port; 0 takes a free one.

    Raises:
        MissingExtra: The extra ``local`` is not installed.
        ConfigurationError: On start, where the data cannot be read; the message names the row.

    >>> async def ask():
    ...     async with LocalServer([{"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5}]) as server:
    ...         async with HeliconeClient(server.api_key, base_url=server.url) as client:
    ...             return (await client.get_metrics()).average.session_cost
    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> asyncio.run(ask())
    0.5
    """

    def __init__(
        self,
        data: Data = (),
        *,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._data = data
        self._key = api_key or f"sk-local-{secrets.token_urlsafe(24)}"
        self._host = host
        self._port = port
        self._backend: ChdbBackend | None = None
        self._store: Store | None = None
        self._engine: Engine | None = None
        self._has_started = False
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self.loaded = Loaded()

    @staticmethod
    def sample(end: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Thirty days of made-up requests: more than 10,000, four models, four kinds of sessions.

        Args:
            end: Where the thirty days end; without it at the last midnight in UTC. The rest is the same
                at every call.
        """
        return sample_rows(end)

    def __repr__(self) -> str:
        return f"LocalServer(host={self._host!r}, port={self._port}, api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a server is not pickled; start one where it is used")

    @property
    def api_key(self) -> str:
        """The key that a client needs."""
        return self._key

    @property
    def url(self) -> str:
        """The address for a client's ``base_url``, once the server runs."""
        if self._runner is None:
            raise ConfigurationError("the server does not run: use it with `async with`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Load the data and listen."""
        if self._backend is not None:
            raise ConfigurationError("the server runs already")
        if self._has_started and isinstance(self._data, Iterator):
            raise ConfigurationError(
                "the data was an iterator, which is used up: make a new server, or give a list"
            )
        self._has_started = True
        self._backend = ChdbBackend()
        try:
            await self._backend.open()
            self._store = Store(self._backend)
            await self._store.open()
            self.loaded = await self._store.load(self._data)
            self._engine = Engine(self._backend, self._store.tables)
            if self.loaded.ignored:
                warnings.warn(
                    f"columns that no filter asks for are left out: {', '.join(sorted(self.loaded.ignored))}",
                    stacklevel=3,
                )
            await self._listen()
        except BaseException:
            await self.aclose()
            raise

    async def _listen(self) -> None:
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post(f"/{PATH}", self._answer)
        app.router.add_get("/healthcheck", self._healthcheck)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        assert self._runner.server is not None  # noqa: S101 - it was set up just now
        self._listening = await loop.create_server(
            self._runner.server, self._host, self._port, backlog=_BACKLOG
        )
        self._port = self._listening.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop listening, let the queries under way end, and drop the data."""
        if self._runner is not None:
            await self._stop_listening()
            await self._runner.cleanup()
            self._runner = None
        self._engine = None
        if self._store is not None:
            store, self._store = self._store, None
            await store.aclose()
        if self._backend is not None:
            backend, self._backend = self._backend, None
            await backend.aclose()

    async def _stop_listening(self) -> None:
        if self._listening is None:
            return
        # A connection that is being accepted while its server is closed is lost by asyncio without being
        # closed, and its client would wait for its timeout: first no more are taken, then these are made.
        for socket in self._listening.sockets:
            asyncio.get_running_loop().remove_reader(socket)
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        self._listening.close()
        self._listening = None

    async def _healthcheck(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    async def _answer(self, request: web.Request) -> web.Response:
        if not self._is_allowed(request.headers.get("Authorization", "")):
            return web.json_response({"error": "Unauthorized", "trace": "no such API key"}, status=401)
        try:
            query = converter.structure(_decoded(await request.read()), SessionMetricsQuery)
        except (FilterError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        # It listens only while there are both.
        assert self._engine is not None and self._store is not None  # noqa: S101, PT018
        try:
            metrics = await self._engine.answer(query, self._store.organization_id)
        except (Unanswerable, BackendError) as error:
            # As the service does: the query was understood and failed.
            _LOG.info("a query failed: %s", error)
            answer = {"data": None, "error": str(error)}
            return web.json_response(answer, status=500, headers=CONTRACT_HEADER)
        answer = {"data": converter.unstructure(metrics), "error": None}
        return web.json_response(answer, headers=CONTRACT_HEADER)

    def _is_allowed(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_bytes(key.strip()), _bytes(self._key))


def _bytes(text: str) -> bytes:
    # A header may hold bytes that are no UTF-8.
    return text.encode(errors="surrogateescape")


def _decoded(body: bytes) -> Any:
    try:
        return decode(body)
    except ValueError as error:
        raise ValueError(f"$: the body is not JSON: {error}") from None
