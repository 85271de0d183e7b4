"""`LocalServer`: serves the service's API on your machine, using the embedded engine."""

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar
from uuid import UUID

from helicone_sessions.clock import current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.dataset import Dataset
from helicone_sessions.local.drivers import DriverError, Limits
from helicone_sessions.local.drivers.chdb_process import announce_server
from helicone_sessions.local.http.listening import Listening, is_loopback
from helicone_sessions.local.http.routes import Endpoints
from helicone_sessions.local.query.engine import Semantics
from helicone_sessions.local.server_config import Keys, ServerConfig, organization_uuid
from helicone_sessions.local.storage.fields import CostUnit, RowOptions
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.local.storage.rows import Loaded
from helicone_sessions.local.storage.sample import sample_rows
from helicone_sessions.masking import masked_repr, masked_text

T = TypeVar("T")


class LocalServer:
    """A server that provides the service's API for your own data.

    Use it with ``async with``.

    Args:
        data: A path to a .jsonl, .json, .csv or .parquet file (the first three also as .gz), a pattern such
            as ``"exports/*.jsonl"``, a list of paths, a pandas, polars or pyarrow frame, an iterable of rows,
            or `LocalServer.sample()`. A row is a dict with the column names of Helicone's table or of its
            request export. ``request_created_at`` is an aware datetime or ISO text with a zone, ``cost`` is
            in dollars, and ``properties`` is a dict. By default there are no requests.
        cost_unit: The unit of ``cost``: ``"dollars"``, or ``"billionths"`` of a dollar, as in a dump of
            Helicone's table. By default, costs are in dollars, and a whole-number cost of 1,000 or more
            is rejected.
        columns: A mapping from column names in the data to fields, for example
            ``{"started": "request_created_at"}``.
        assume_time_zone: The time zone for times that do not have one: a ``tzinfo`` or a name such as
            ``"UTC"``.
        path: The directory that stores the data. By default, the data is kept in memory and lost when the
            server stops.
        accept_loss: If the store is damaged, open it without the lost rows. By default, startup fails with
            an error that names them.
        clickhouse: The URL of a ClickHouse server with Helicone's tables,
            ``"http://user:password@host:8123/database"``. It replaces *data* and *path*.
        organization_id: The organisation whose requests are served, if the data has several.
        api_key: The key that clients need, or a mapping from keys to organisations. By default, a random key
            is generated.
        host: The address to listen on. If other machines can reach it, ``api_key`` is required.
        port: The port; 0 selects a free port.
        semantics: How filters are interpreted: ``"contract"`` follows the API's contract, ``"helicone"``
            follows the open-source server.
        include_unsessioned: Count the requests without a session id as one session, as the service does.
        rejects: A file that collects the rows that cannot be read. By default, the first such row fails the
            load.
        on_progress: A callback that receives the number of rows loaded so far. The number is an ``int`` whose
            attribute ``fraction`` is the loaded fraction of the files.
        rate_limit: The number of requests allowed per window and organisation; None means unlimited. The
            hosted service allows 1,000 on the free tier. Older self-hosted servers allow 200 per minute.
        rate_limit_window: The length of a window in seconds.
        max_concurrency: The maximum number of queries that run at once. By default, it is the number of
            processors plus one, at most 4.
        max_queued: The maximum number of requests that wait for a slot. Further requests get status 503.
        limits: The limits for each query.
        patience: The timeout for receiving a request, in seconds.
        grace: The timeout for running queries when the server stops, in seconds.
        in_thread: Run the server on a separate thread, so that it responds while the caller's code blocks,
            for example in a notebook or a test. A plain ``with`` then works as well.

    Raises:
        MissingExtra: On start, if the ``local`` extra is not installed.
        ConfigurationError: An argument is invalid, or two arguments exclude each other. On start, the data
            cannot be read (the message names the row), or the server cannot listen on the address.

    >>> async def ask():
    ...     async with LocalServer([{"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5}]) as server:
    ...         async with HeliconeClient(server.api_key, base_url=server.url) as client:
    ...             return (await client.get_metrics()).average.session_cost
    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> asyncio.run(ask())
    0.5

    If your code blocks, run the server on a thread:

    >>> from urllib.request import urlopen
    >>> with LocalServer(in_thread=True) as server:
    ...     urlopen(server.url + "/healthcheck").read()
    b'{"status": "healthy"}'

    If you cannot use ``async with``, call `start` and `aclose`:

    >>> async def main():
    ...     server = LocalServer()
    ...     await server.start()
    ...     try:
    ...         return server.url.startswith("http://127.0.0.1:")
    ...     finally:
    ...         await server.aclose()
    >>> asyncio.run(main())
    True
    """

    def __init__(  # noqa: PLR0913 - all but the first are keyword options
        self,
        data: Data = (),
        *,
        path: str | os.PathLike[str] | None = None,
        accept_loss: bool = False,
        clickhouse: str | None = None,
        cost_unit: CostUnit | None = None,
        columns: Mapping[str, str] | None = None,
        assume_time_zone: tzinfo | str | None = None,
        organization_id: UUID | str | None = None,
        api_key: str | Mapping[str, UUID | str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        semantics: Semantics = "contract",
        include_unsessioned: bool = True,
        rejects: str | os.PathLike[str] | None = None,
        on_progress: Callable[..., None] | None = None,
        rate_limit: int | None = None,
        rate_limit_window: float = 300.0,
        max_concurrency: int | None = None,
        max_queued: int = 256,
        limits: Limits | None = None,
        patience: float = 60.0,
        grace: float = 10.0,
        in_thread: bool = False,
    ) -> None:
        self._config = ServerConfig(
            data=data,
            path=path,
            accept_loss=accept_loss,
            clickhouse=clickhouse,
            organization_id=organization_id,
            host=host,
            port=port,
            semantics=semantics,
            include_unsessioned=include_unsessioned,
            rejects=rejects,
            row_options=RowOptions(
                cost_unit=cost_unit, columns=columns or {}, assume_time_zone=assume_time_zone
            ),
            on_progress=on_progress,
            rate_limit=rate_limit,
            rate_limit_window=rate_limit_window,
            max_concurrency=max_concurrency,
            max_queued=max_queued,
            limits=limits,
            patience=patience,
            grace=grace,
            in_thread=in_thread,
        )
        self._keys = Keys(api_key)
        if self._keys.is_random and not is_loopback(host):
            raise ConfigurationError(
                argument="api_key",
                problem=f"must be given, because other machines can reach {masked_repr(host)}",
                remedy="Pass the key that they use, or listen on 127.0.0.1",
            )
        organizations = self._keys.organizations
        if self._config.organization_id is not None:
            if organizations:
                raise ConfigurationError(
                    argument="organization_id",
                    problem="cannot be combined with API keys that have organisations",
                    remedy="Omit one of them",
                )
            organizations = frozenset({self._config.organization_id})
        self._dataset = Dataset(self._config, organizations)
        # After a restart, the server listens on the port that the first start selected.
        self._port = port
        self._clock = current()
        self._has_started = False
        self._is_running = False
        self._listening: Listening | None = None
        self._adding: set[asyncio.Task[Loaded]] = set()
        self._thread: _LoopThread | None = None

    @staticmethod
    def sample(end: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Generate thirty days of requests: more than 10,000, with four models and four kinds of sessions.

        Args:
            end: The end of the thirty days. By default, it is the last midnight in UTC. Apart from the
                times, every call returns the same data.

        >>> first = next(LocalServer.sample())
        >>> first["model"], first["properties"]["Helicone-Session-Name"]
        ('gpt-4o', 'support-chat')
        """
        return sample_rows(end)

    def __repr__(self) -> str:
        return f"LocalServer(host={masked_repr(self._config.host)}, port={self._port}, api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a server cannot be pickled; start one where it is used")

    @property
    def api_key(self) -> str:
        """The key that a client needs. If there are several keys, this is the first.

        >>> LocalServer(api_key="sk-mine").api_key
        'sk-mine'
        """
        return self._keys.first

    @property
    def path(self) -> Path | None:
        """The directory that stores the data; None if the data is in memory.

        >>> str(LocalServer(path="helicone-data").path)
        'helicone-data'
        """
        return None if self._config.path is None else Path(self._config.path)

    @property
    def organization_id(self) -> UUID:
        """The organisation of all rows and keys that do not name an organisation.

        Raises:
            ConfigurationError: The data has several organisations.

        >>> LocalServer(organization_id="5b1e0c1a-2f0e-4f6e-9a51-0f1d6c1f7a01").organization_id
        UUID('5b1e0c1a-2f0e-4f6e-9a51-0f1d6c1f7a01')
        """
        return self._dataset.organization_id

    @property
    def loaded(self) -> Loaded:
        """The result of loading the data at startup. It is empty until the server has started.

        >>> LocalServer().loaded.rows
        0
        """
        return self._dataset.loaded

    @property
    def url(self) -> str:
        """The URL of the running server, for a client's ``base_url``."""
        return self._running().url

    def _running(self) -> Listening:
        if self._listening is None:
            problem = "the server was stopped" if self._has_started else "the server is not running"
            raise ConfigurationError(problem=problem, remedy="Use it inside an `async with` block")
        return self._listening

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        if not self._config.in_thread:
            raise ConfigurationError(
                argument="in_thread",
                problem="must be True for a plain `with`",
                remedy="Use `async with`, or pass in_thread=True",
            )
        self._check_startable()
        self._thread = _LoopThread()
        try:
            self._thread.call(self._start())
        except BaseException:
            self._stop_thread()
            raise
        self._warn(stacklevel=3)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._thread is not None:
                self._thread.call(self._end())
        finally:
            self._stop_thread()

    async def start(self) -> None:
        """Load the data and start listening, as ``async with`` does.

        Raises:
            MissingExtra: The ``local`` extra is not installed.
            ConfigurationError: The server is already running, the data cannot be read, or the server cannot
                listen on the address.
        """
        self._check_startable()
        if self._config.in_thread:
            self._thread = _LoopThread()
        try:
            await self._run(self._start())
        except BaseException:
            self._stop_thread()
            raise
        self._warn(stacklevel=4)

    def _check_startable(self) -> None:
        if self._is_running:
            raise ConfigurationError(problem="the server is already running")
        if self._has_started and isinstance(self._config.data, Iterator):
            raise ConfigurationError(
                argument="data",
                problem="is an iterator, which the first start has exhausted",
                remedy="Create a new server, or pass a list",
            )

    def _warn(self, *, stacklevel: int) -> None:
        if self.loaded.ignored:
            warnings.warn(
                f"unknown columns are ignored: {masked_text(self.loaded.ignored_text())}",
                stacklevel=stacklevel,
            )

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the server's loop and return its result."""
        return await (work if self._thread is None else self._thread.run(work))

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    async def _start(self) -> None:
        self._has_started = self._is_running = True
        app = Endpoints(self._config, self._dataset, self._keys, self._clock).app()
        listening = Listening(
            app,
            self._config.host,
            self._port,
            patience=self._config.patience,
            secrets=self._keys.secrets,
        )
        try:
            # Binding comes first, so that no data is loaded if the address is in use.
            await listening.bind()
            await self._dataset.open()
            await listening.start()
        except BaseException:
            try:
                await listening.end(0)
            finally:
                await self._end()
            raise
        self._port = listening.port
        self._listening = listening
        if self._config.path is not None:
            announce_server(listening.url)

    async def count(self) -> int:
        """Count the requests of all organisations.

        Raises:
            ConfigurationError: The server is not running, or ClickHouse rejects the query.

        >>> async def count():
        ...     async with LocalServer([{"request_created_at": "2026-11-01T12:00:00Z"}]) as server:
        ...         await server.add([{"request_created_at": "2026-11-02T12:00:00Z"}])
        ...         return await server.count()
        >>> asyncio.run(count())
        2
        """
        self._running()
        return await self._asked(self._dataset.count(), "the count of the requests")

    async def add(
        self, rows: Iterable[Mapping[str, Any]], *, organization_id: UUID | str | None = None
    ) -> Loaded:
        """Add rows to the running server: all or none. The next query sees the new rows.

        Args:
            rows: The rows, in the same form as in ``data``. A row replaces an earlier row with the same
                ``request_id``.
            organization_id: The organisation of the rows. It is required if the server has several
                organisations and the rows do not name theirs.

        Raises:
            ConfigurationError: A row cannot be read (the message names it), ClickHouse rejects the rows, the
                server uses an existing ClickHouse, or the server is not running or stops during the load.

        >>> async def add(row):
        ...     async with LocalServer() as server:
        ...         return await server.add([row])
        >>> asyncio.run(add({"request_created_at": "2026-11-01T12:00:00Z", "delay_ms": 250})).mapped
        {'delay_ms': 'latency'}
        """
        self._running()
        if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
            raise ConfigurationError(
                argument="rows",
                problem=f"must be an iterable of dicts, got {type(rows).__name__}",
                remedy="Put a single row in a list",
            )
        organization = None if organization_id is None else organization_uuid(organization_id)
        return await self._asked(self._tracked(self._dataset.add(rows, organization)), "the rows")

    async def copy(self, requests: Iterable[Mapping[str, Any]], organization_id: UUID) -> Loaded:
        """Add requests from the API, as `sync` does. Unreadable requests are skipped and counted.

        Args:
            requests: The requests, with the field names of the API. A request replaces an earlier request
                with the same id.
            organization_id: The organisation of the requests.

        Raises:
            ConfigurationError: ClickHouse rejects the rows, the server uses an existing ClickHouse, or the
                server is not running or stops during the load.

        >>> async def copy(request):
        ...     async with LocalServer() as server:
        ...         return (await server.copy([request, {}], server.organization_id)).rejected
        >>> asyncio.run(copy({"request_created_at": "2026-11-01T12:00:00Z"}))
        1
        """
        self._running()
        return await self._asked(self._tracked(self._dataset.copy(requests, organization_id)), "the rows")

    async def _asked(self, work: Coroutine[Any, Any, T], subject: str) -> T:
        """Run *work* on the server's loop. If ClickHouse rejects a statement, the error names *subject*."""
        try:
            return await self._run(work)
        except DriverError as error:
            raise ConfigurationError(
                problem=f"ClickHouse rejected {subject}: {error.problem}", remedy=error.remedy
            ) from error

    async def _tracked(self, work: Coroutine[Any, Any, Loaded]) -> Loaded:
        """Run a load, and make `aclose` wait until it ends."""
        adding = asyncio.create_task(work)
        self._adding.add(adding)
        adding.add_done_callback(self._adding.discard)
        return await adding

    async def aclose(self) -> None:
        """Stop the server and close the data.

        New requests are rejected. Running requests have up to ``grace`` seconds to finish.
        """
        try:
            await self._run(self._end())
        finally:
            if self._thread is not None:
                await asyncio.to_thread(self._stop_thread)

    async def _end(self) -> None:
        listening, self._listening = self._listening, None
        try:
            if listening is not None:
                if self._config.path is not None:
                    announce_server(None)
                await asyncio.gather(listening.end(self._config.grace), self._end_adding())
        finally:
            await self._dataset.aclose()
            self._is_running = False

    async def _end_adding(self) -> None:
        if self._adding:
            await asyncio.wait(self._adding, timeout=self._config.grace)


class _LoopThread:
    """A daemon thread with an event loop that runs coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="helicone-sessions-server", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the thread, and await its result on the caller's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the thread and block until it is done. A keyboard interrupt cancels *work*."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Stop the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        # The runner cancels remaining tasks when the loop stops, and closes the loop.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
