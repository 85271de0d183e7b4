"""Where answers come from: tables of one's own, or those of a ClickHouse that is there already."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers import Backend, BackendError, Limits
from helicone_sessions.local.drivers.chdb import ChdbBackend
from helicone_sessions.local.query.engine import Engine, Plan, Semantics
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Loaded
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery

DATABASE: Final = "helicone_sessions"
_NAMED: Final = 5


# The data and a password in the address are not for anybody to see.
@attrs.define(eq=False, repr=False, kw_only=True)
class Source:
    """What is asked, and for whom.

    Args:
        data: Rows to begin with.
        path: Where tables of one's own are kept; None keeps them in memory.
        clickhouse: The address of a ClickHouse to ask instead.
        organizations: Those that may be asked for; none is the only one that there is.
        semantics: As in `Engine`, likewise the next two.
        plan: See there.
        include_unsessioned: See there.
        rejects: Where rows that cannot be read go; None refuses them.
        on_progress: Is told how far the load is.
        limits: What one query may take.
        threads: How many queries run at once.
    """

    data: Data = ()
    path: str | os.PathLike[str] | None = None
    clickhouse: str | None = None
    organizations: frozenset[UUID] = frozenset()
    semantics: Semantics = "contract"
    plan: Plan = "one_scan"
    include_unsessioned: bool = True
    rejects: str | os.PathLike[str] | None = None
    on_progress: Callable[..., None] | None = None
    limits: Limits = attrs.field(factory=Limits)
    threads: int = 4
    loaded: Loaded = attrs.field(factory=Loaded, init=False)
    _found: UUID | None = attrs.field(default=None, init=False)
    _backend: Backend | None = attrs.field(default=None, init=False)
    _store: Store | None = attrs.field(default=None, init=False)
    _engine: Engine | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.clickhouse is not None and (self.path is not None or not _is_nothing(self.data)):
            raise ConfigurationError(
                "clickhouse= answers from the tables that are there, so it takes neither data nor path:"
                " load them with ClickHouse's own tools, or leave out clickhouse="
            )

    @property
    def organization_id(self) -> UUID:
        """The only organisation that may be asked for."""
        if self.organizations:
            return next(iter(self.organizations))
        if self._store is not None:
            return self._store.organization_id
        return DEFAULT_ORGANIZATION if self._found is None else self._found

    @property
    def engine(self) -> Engine:
        """What answers queries, once it is open."""
        assert self._engine is not None  # noqa: S101 - a server listens only while it is open
        return self._engine

    async def open(self) -> None:
        """Get ready, with the data loaded.

        Raises:
            ConfigurationError: The data cannot be read, or the ClickHouse cannot be asked.
        """
        try:
            tables = await (self._open_store() if self.clickhouse is None else self._open_cluster())
        except BackendError as error:
            await self.aclose()
            raise ConfigurationError(f"ClickHouse refused what the start needs: {error}") from error
        except BaseException:
            await self.aclose()
            raise
        assert self._backend is not None  # noqa: S101 - it was opened just now
        self._engine = Engine(
            self._backend,
            tables,
            semantics=self.semantics,
            plan=self.plan,
            include_unsessioned=self.include_unsessioned,
        )

    async def _open_store(self) -> Tables:
        backend = ChdbBackend(path=self.path, limits=self.limits, threads=self.threads)
        self._backend = backend
        await backend.open()
        self._store = store = Store(backend, None if self.path is None else DATABASE)
        await store.open()
        # Where there are several and none was named, this says so.
        _ = self.organization_id
        self.loaded = await store.load(
            self.data,
            rejects=self.rejects,
            on_progress=self.on_progress,
            organizations=self.organizations or None,
        )
        return store.tables

    async def _open_cluster(self) -> Tables:
        from helicone_sessions.local.drivers.clickhouse_http import ClickHouseBackend  # noqa: PLC0415
        from helicone_sessions.local.query import foreign_tables  # noqa: PLC0415 - one's own tables need none of it

        assert self.clickhouse is not None  # noqa: S101 - it was looked at
        self._backend = backend = ClickHouseBackend(self.clickhouse, limits=self.limits)
        await backend.open()
        tables = await foreign_tables.find_tables(backend)
        if not self.organizations:
            self._found = _only(await foreign_tables.find_organizations(backend, tables))
        return tables

    async def answer(
        self,
        query: SessionMetricsQuery,
        organization_id: UUID,
        wire_filter: WireFilter | None = None,
        *,
        is_large: bool = False,
    ) -> SessionMetrics:
        """As `Engine.answer`, with all of a load or nothing of it.

        Args:
            query: The query.
            organization_id: The caller.
            wire_filter: The filter as it was sent.
            is_large: Whether the filter is so large that its SQL is made beside the loop.

        Raises:
            Unanswerable: A condition cannot be decided.
            BackendError: ClickHouse refused or gave up, or an earlier load could not be moved to its end.
        """
        async with nullcontext() if self._store is None else self._store.reading():
            return await self.engine.answer(query, organization_id, wire_filter, is_large=is_large)

    async def add(self, rows: Iterable[Mapping[str, Any]], organization_id: UUID | None = None) -> Loaded:
        """Add rows to tables of one's own, all or none.

        Args:
            rows: The rows.
            organization_id: Whose they are; without it the rows say it, or there is only one.

        Raises:
            ConfigurationError: A row cannot be read, is of an organisation that is not answered for, the
                tables are not one's own, or the server was stopped.
            BackendError: ClickHouse refused the rows, and none is kept; or all are in and could not be moved
                yet, which the message says.
        """
        if self.clickhouse is not None:
            raise ConfigurationError(
                "rows are not added to a ClickHouse that is there already: insert them with its own tools"
            )
        if self._store is None:
            raise ConfigurationError("the server was stopped: start one to add rows")
        if organization_id is None:
            allowed = self.organizations
        elif self.organizations and organization_id not in self.organizations:
            named = ", ".join(sorted(map(str, self.organizations))[:_NAMED])
            raise ConfigurationError(
                f"the server does not answer for the organisation {organization_id}, only for {named}"
                f"{', …' if len(self.organizations) > _NAMED else ''}: rows of it could not be asked for"
            )
        else:
            allowed = frozenset({organization_id})
        return await self._store.add(
            map(_with_id, rows), organizations=allowed or None, of_one=not self.organizations
        )

    async def aclose(self) -> None:
        """Let go of it; tables in memory are dropped."""
        self._engine = None
        store, self._store = self._store, None
        backend, self._backend = self._backend, None
        try:
            if store is not None:
                await store.aclose()
        finally:
            if backend is not None:
                await backend.aclose()


def _is_nothing(data: Data) -> bool:
    return isinstance(data, tuple) and not data


def _only(found: Iterable[UUID]) -> UUID:
    organizations = list(found)
    if len(organizations) == 1:
        return organizations[0]
    if not organizations:
        raise ConfigurationError(
            "the table holds no request, so there is no organisation to answer for: give organization_id"
        )
    named = ", ".join(map(str, organizations[:_NAMED])) + (", …" if len(organizations) > _NAMED else "")
    raise ConfigurationError(
        f"the table holds requests of several organisations ({named}): give organization_id, or api_key as a"
        " mapping from keys to organisations"
    )


def _with_id(row: Any) -> Any:
    """The row as a request of its own: without an id, a later one would take the place of its like."""
    if isinstance(row, Mapping) and row.get("request_id") is None:
        return {**row, "request_id": str(uuid4())}
    return row
