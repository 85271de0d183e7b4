"""`LocalServer`: the endpoint of the service on loopback, answered by the embedded engine."""

import asyncio
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NoReturn, Self, get_args
from uuid import UUID

from helicone_sessions.clock import current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.checks import check_choice, check_host, check_path, check_seconds
from helicone_sessions.local.drivers import BackendError, Limits, Statement
from helicone_sessions.local.http.keys import Keys, as_organization
from helicone_sessions.local.http.listening import Listening, is_loopback
from helicone_sessions.local.http.queue import whole_number
from helicone_sessions.local.http.routes import Endpoints
from helicone_sessions.local.query.engine import Plan, Semantics
from helicone_sessions.local.source import Source
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.local.storage.rows import Loaded
from helicone_sessions.local.storage.sample import sample_rows

_LAST_PORT: Final = 65_535


class LocalServer:
    """A server that answers ``POST /v1/session/metrics/query`` from your own data.

    Use it with ``async with``.

    Args:
        data: A path to a .jsonl, .json, .csv or .parquet file (.gz likewise for the first three), an
            iterable of rows, or `LocalServer.sample()`. A row is a dict under the column names of
            Helicone's table or of its request export; ``request_created_at`` is an aware datetime or ISO
            text with a zone, ``cost`` is dollars, ``properties`` a dict. Without data the server answers
            that nothing matches.
        path: A directory that keeps the data; without it, it is in memory and gone at the end.
        clickhouse: The address of a ClickHouse that holds Helicone's tables already,
            ``"http://user:password@host:8123/database"``; then there is neither data nor path.
        organization_id: The organisation to answer for, where the tables hold several.
        api_key: The key that it asks for, or several, each with the organisation that it speaks for;
            without it a new one is made up.
        host: The address that it listens on. One that other machines reach needs an ``api_key``.
        port: The port; 0 takes a free one.
        semantics: ``"contract"`` reads filters as the contract says, ``"helicone"`` as the open-source
            server does.
        plan: ``"one_scan"`` is exact and reads the table once, ``"helicone"`` runs the service's queries.
        include_unsessioned: Take the requests without a session id for one session, as the service does.
        rejects: A file for rows that cannot be read; without it the first one ends the load.
        on_progress: A function that is told how far the load is.
        rate_limit: How many requests an organisation has in a window (the hosted service: 1,000 on the free
            tier; older self-hosted servers: 200 a minute); None is without a limit.
        rate_limit_window: Seconds of such a window.
        max_concurrency: How many queries run at once; without it as many as there are threads for.
        max_queued: How many wait beside them; one more is refused with status 503.
        limits: What one query may take.
        patience: Seconds that a client has to send its request.
        grace: Seconds that queries under way have at the end.

    Raises:
        MissingExtra: On start, if the extra ``local`` is not installed.
        ConfigurationError: The arguments do not go together; on start, if the data cannot be read (the
            message names the row) or the address cannot be had.

    >>> async def ask():
    ...     async with LocalServer([{"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5}]) as server:
    ...         async with HeliconeClient(server.api_key, base_url=server.url) as client:
    ...             return (await client.get_metrics()).average.session_cost
    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> asyncio.run(ask())
    0.5

    Where no block can hold it, start and end it:

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
        clickhouse: str | None = None,
        organization_id: UUID | str | None = None,
        api_key: str | Mapping[str, UUID | str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        semantics: Semantics = "contract",
        plan: Plan = "one_scan",
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
    ) -> None:
        check_host(host)
        whole_number("port", port, least=0, most=_LAST_PORT)
        check_seconds("patience", patience, "above 0")
        check_seconds("grace", grace, "from 0 up")
        check_seconds("rate_limit_window", rate_limit_window, "above 0")
        whole_number("max_queued", max_queued, least=0)
        for name, count in (("rate_limit", rate_limit), ("max_concurrency", max_concurrency)):
            if count is not None:
                whole_number(name, count, least=1)
        check_choice("semantics", semantics, get_args(Semantics))
        check_choice("plan", plan, get_args(Plan))
        check_choice("include_unsessioned", include_unsessioned, (True, False))
        if clickhouse is not None and not isinstance(clickhouse, str):
            raise ConfigurationError(
                f"clickhouse is the address of a server, a text, not a {type(clickhouse).__name__}"
            )
        check_path("path", path)
        check_path("rejects", rejects)
        if on_progress is not None and not callable(on_progress):
            raise ConfigurationError(f"on_progress is a function, not {on_progress!r}")
        if limits is not None and not isinstance(limits, Limits):
            raise ConfigurationError(f"limits is a Limits, as Limits(seconds=60), not {limits!r}")
        self._keys = Keys(api_key)
        self._host = host
        self._port = port
        if self._keys.is_made_up and not is_loopback(host):
            raise ConfigurationError(
                f"{host!r} is reached by other machines: give the api_key that they are to use, or listen on"
                " 127.0.0.1"
            )
        if organization_id is not None and self._keys.organizations:
            raise ConfigurationError("each api_key names its organisation already: leave out organization_id")
        threads = min(4, (os.cpu_count() or 1) + 1) if max_concurrency is None else max_concurrency
        self._bounds = (threads, max_queued)
        own = frozenset() if organization_id is None else frozenset({as_organization(organization_id)})
        self._source = Source(
            data=data,
            path=path,
            clickhouse=clickhouse,
            organizations=self._keys.organizations or own,
            semantics=semantics,
            plan=plan,
            include_unsessioned=include_unsessioned,
            rejects=rejects,
            on_progress=on_progress,
            limits=Limits() if limits is None else limits,
            threads=threads,
        )
        self._rate_limit = (rate_limit, rate_limit_window)
        self._patience = patience
        self._grace = grace
        self._clock = current()
        self._has_started = False
        self._runs = False
        self._listening: Listening | None = None
        self._adding: set[asyncio.Task[Loaded]] = set()

    @staticmethod
    def sample(end: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Thirty days of made-up requests: more than 10,000, four models, four kinds of sessions.

        Args:
            end: Where the thirty days end; without it at the last midnight in UTC. The rest is the same
                at every call.

        >>> first = next(LocalServer.sample())
        >>> first["model"], first["properties"]["Helicone-Session-Name"]
        ('gpt-4o', 'support-chat')
        """
        return sample_rows(end)

    def __repr__(self) -> str:
        return f"LocalServer(host={self._host!r}, port={self._port}, api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a server is not pickled; start one where it is used")

    @property
    def api_key(self) -> str:
        """The key that a client needs; of several the first.

        >>> LocalServer(api_key="sk-mine").api_key
        'sk-mine'
        """
        return self._keys.first

    @property
    def loaded(self) -> Loaded:
        """What was loaded at the start; before it, nothing.

        >>> LocalServer().loaded.rows
        0
        """
        return self._source.loaded

    @property
    def url(self) -> str:
        """The address for a client's ``base_url``, once the server runs."""
        if self._listening is None:
            raise ConfigurationError("the server does not run: use it with `async with`")
        return self._listening.url

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Load the data and listen, as entering the block does.

        Raises:
            MissingExtra: The extra ``local`` is not installed.
            ConfigurationError: It runs already, the data cannot be read, or the address cannot be had.
        """
        if self._runs:
            raise ConfigurationError("the server runs already")
        if self._has_started and isinstance(self._source.data, Iterator):
            raise ConfigurationError(
                "the data was an iterator, which is used up: make a new server, or give a list"
            )
        self._has_started = self._runs = True
        app = self._endpoints().app()
        listening = Listening(app, self._host, self._port, patience=self._patience)
        try:
            # First, so that a load is not made for an address that cannot be had.
            await listening.bind()
            await self._source.open()
            if self.loaded.ignored:
                warnings.warn(
                    f"columns that no filter asks for are left out: {', '.join(sorted(self.loaded.ignored))}",
                    stacklevel=3,
                )
            await listening.start()
        except BaseException:
            try:
                await listening.end(0)
            finally:
                await self.aclose()
            raise
        self._port = listening.port
        self._listening = listening

    def _endpoints(self) -> Endpoints:
        return Endpoints(
            self._source, self._keys, *self._bounds, *self._rate_limit, self._clock, self._patience
        )

    async def count(self) -> int:
        """How many requests there are to ask about, of all organisations.

        Raises:
            ConfigurationError: The server does not run, or ClickHouse refuses to count.

        >>> async def count():
        ...     async with LocalServer([{"request_created_at": "2026-11-01T12:00:00Z"}]) as server:
        ...         await server.add([{"request_created_at": "2026-11-02T12:00:00Z"}])
        ...         return await server.count()
        >>> asyncio.run(count())
        2
        """
        if self._listening is None:
            raise ConfigurationError("the server does not run: use it with `async with`")
        engine = self._source.engine
        try:
            found = await engine.backend.query(Statement(f"SELECT count() FROM {engine.tables.requests}"))
        except BackendError as error:
            raise ConfigurationError(f"ClickHouse refused to count the requests: {error}") from error
        return int(found.rows[0][0])

    async def add(
        self, rows: Iterable[Mapping[str, Any]], *, organization_id: UUID | str | None = None
    ) -> Loaded:
        """Add rows while the server runs, all or none; the next query sees them.

        Args:
            rows: The rows, as in ``data``. One with the ``request_id`` of an earlier one replaces it.
            organization_id: Whose they are, where the server answers for several and the rows do not say.

        Raises:
            ConfigurationError: A row cannot be read (the message names it), the server does not run, is
                stopped meanwhile, or the tables are not its own. Or ClickHouse refuses the rows, as where
                there is no room for them.

        >>> async def add(row):
        ...     async with LocalServer() as server:
        ...         return await server.add([row])
        >>> asyncio.run(add({"request_created_at": "2026-11-01T12:00:00Z", "delay_ms": 250})).mapped
        {'delay_ms': 'latency'}
        """
        if self._listening is None:
            if self._has_started:
                raise ConfigurationError("the server does not run: it was stopped")
            raise ConfigurationError("the server does not run: use it with `async with`")
        if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
            raise ConfigurationError(
                f"rows is an iterable of rows, each a dict, not a {type(rows).__name__}; put a single row"
                " into a list"
            )
        organization = None if organization_id is None else as_organization(organization_id)
        adding = asyncio.create_task(self._source.add(rows, organization))
        self._adding.add(adding)
        adding.add_done_callback(self._adding.discard)
        try:
            return await adding
        except BackendError as error:
            raise ConfigurationError(f"ClickHouse refused the rows: {error}") from error

    async def aclose(self) -> None:
        """Take no more requests, let those under way end within the grace, and let go of the data."""
        listening, self._listening = self._listening, None
        try:
            if listening is not None:
                await asyncio.gather(listening.end(self._grace), self._end_adding())
        finally:
            await self._source.aclose()
            self._runs = False

    async def _end_adding(self) -> None:
        if self._adding:
            await asyncio.wait(self._adding, timeout=self._grace)
