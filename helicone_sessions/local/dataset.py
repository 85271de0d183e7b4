"""The requests that a server answers from: a store, or the tables of an existing ClickHouse."""

import logging
import os
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.cautions import SERVICE_GAPS, DataGaps
from helicone_sessions.local.drivers import Driver, DriverError, Limits, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.server_config import ServerConfig
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Loaded
from helicone_sessions.local.storage.store import Store, several_organizations
from helicone_sessions.local.storage.table import OWN_DATABASE, Tables

_LOG: Final = logging.getLogger(__name__)
_REMEDY: Final = "Fix it, or set `rejects` to a file for such rows to load the others"


@attrs.define(eq=False, repr=False)
class Dataset:
    """The requests of a server, and the engine that answers queries about them.

    Args:
        config: The arguments of the server.
        organizations: The organisations to answer for; if empty, the only organisation in the data.
    """

    config: ServerConfig
    organizations: frozenset[UUID] = frozenset()
    loaded: Loaded = attrs.field(factory=Loaded, init=False)
    _only_organization: UUID = attrs.field(default=DEFAULT_ORGANIZATION, init=False)
    _driver: Driver | None = attrs.field(default=None, init=False)
    _store: Store | None = attrs.field(default=None, init=False)
    _engine: Engine | None = attrs.field(default=None, init=False)

    @property
    def organization_id(self) -> UUID:
        """The organisation of keys without an organisation."""
        if self.organizations:
            return next(iter(self.organizations))
        return self._only_organization if self._store is None else self._store.organization_id

    async def open(self) -> None:
        """Open the tables and load the data.

        Raises:
            ConfigurationError: The data cannot be read, or ClickHouse cannot be used.
        """
        try:
            driver, tables = await (
                self._open_store() if self.config.clickhouse is None else self._open_clickhouse()
            )
        except DriverError as error:
            await self.aclose()
            raise _rejected(error, self.config.path) from error
        except BaseException:
            await self.aclose()
            raise
        self._engine = Engine(
            driver,
            tables,
            semantics=self.config.semantics,
            include_unsessioned=self.config.include_unsessioned,
        )

    async def _open_store(self) -> tuple[Driver, Tables]:
        config = self.config
        self._driver = driver = ChdbDriver(
            path=config.path, limits=config.limits or Limits(), threads=config.threads
        )
        await driver.open()
        self._store = store = Store(
            driver,
            None if config.path is None else OWN_DATABASE,
            directory=None if config.path is None else Path(config.path),
            accept_loss=config.accept_loss,
        )
        await store.open()
        # This raises if the data has several and none was selected.
        _ = self.organization_id
        self.loaded = await store.load(
            config.data,
            rejects=config.rejects,
            on_progress=config.on_progress,
            organizations=self.organizations or None,
            remedy=_REMEDY,
            row_options=config.row_options,
        )
        return driver, store.tables

    async def _open_clickhouse(self) -> tuple[Driver, Tables]:
        # Only a server on an existing ClickHouse needs them.
        from helicone_sessions.local.drivers.clickhouse import ClickHouseDriver
        from helicone_sessions.local.query import foreign_tables

        driver = ClickHouseDriver(self.config.clickhouse or "", limits=self.config.limits or Limits())
        self._driver = driver
        await driver.open()
        tables = await foreign_tables.find_tables(driver)
        if not self.organizations:
            self._only_organization = _only(await foreign_tables.find_organizations(driver, tables))
        return driver, tables

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Engine, None]:
        """The engine; queries inside the block see each load completely or not at all.

        Raises:
            DriverError: An earlier load could not be completed.
        """
        engine, store = self._opened(), self._store
        if store is None:
            yield engine
            return
        async with store.reading():
            # A load may have changed the facts about the tables.
            yield attrs.evolve(engine, tables=store.tables)

    async def gaps(self, organization_id: UUID) -> DataGaps:
        """The columns without a value in some or in all requests of an organisation."""
        store = self._store
        if store is None:
            # A ClickHouse with Helicone's tables has the gaps of the service.
            return SERVICE_GAPS
        try:
            async with store.reading():
                return await store.gaps(organization_id)
        except DriverError as error:
            _LOG.info("the gaps in the data are unknown, code %s", error.code)
            return DataGaps()

    async def count(self) -> int:
        """The number of requests, of all organisations.

        Raises:
            DriverError: ClickHouse rejected the statement.
        """
        engine = self._opened()
        found = await engine.driver.query(Statement(f"SELECT count() FROM {engine.tables.requests}"))
        return int(found.rows[0][0])

    async def add(self, rows: Iterable[Mapping[str, Any]], organization_id: UUID | None = None) -> Loaded:
        """Add rows to the tables, all or none.

        Args:
            rows: The rows.
            organization_id: Their organisation; by default each row names it, or the data has only one.

        Raises:
            ConfigurationError: A row cannot be read or belongs to another organisation, the server answers
                from an existing ClickHouse, or it was stopped.
            DriverError: ClickHouse rejected the rows, and none was added; or all were added but not moved to
                their table yet, in which case the message says so.
        """
        allowed = self.organizations if organization_id is None else frozenset({organization_id})
        return await self._writable(allowed).load(
            map(_with_id, rows),
            organizations=allowed or None,
            of_one=not self.organizations,
            row_options=self.config.row_options,
        )

    async def copy(self, requests: Iterable[Mapping[str, Any]], organization_id: UUID) -> Loaded:
        """Add requests from the API, as `Store.copy` does.

        Raises:
            ConfigurationError: See `add`.
            DriverError: See `add`.
        """
        return await self._writable(frozenset({organization_id})).copy(requests, organization_id)

    def _writable(self, organizations: frozenset[UUID]) -> Store:
        """The store, after checking that rows of these organisations can be added."""
        if self.config.clickhouse is not None:
            raise ConfigurationError(
                problem="rows cannot be added to an existing ClickHouse",
                remedy="Insert them with ClickHouse's tools",
            )
        if self._store is None:
            raise ConfigurationError(problem="the server was stopped", remedy="Start it to add rows")
        if self.organizations and not organizations <= self.organizations:
            raise ConfigurationError(
                argument="organization_id",
                problem=f"is {', '.join(map(str, organizations))}, which this server does not answer for",
                remedy="Start it with an API key for that organisation",
            )
        return self._store

    async def aclose(self) -> None:
        """Close the connections; data in memory is lost."""
        self._engine = None
        store, self._store = self._store, None
        driver, self._driver = self._driver, None
        try:
            if store is not None:
                await store.aclose()
        finally:
            if driver is not None:
                await driver.aclose()

    def _opened(self) -> Engine:
        assert self._engine is not None
        return self._engine


@asynccontextmanager
async def opened_store(path: str | os.PathLike[str]) -> AsyncGenerator[Store, None]:
    """Open the store in a directory for the block; a missing directory is created.

    Raises:
        ConfigurationError: The store cannot be opened, or ClickHouse rejects a statement inside the block.
    """
    driver = ChdbDriver(path)
    try:
        await driver.open()
        store = Store(driver, OWN_DATABASE, directory=Path(path))
        try:
            await store.open()
            yield store
        finally:
            await store.aclose()
    except DriverError as error:
        raise _rejected(error, path) from error
    finally:
        await driver.aclose()


def _rejected(error: DriverError, path: str | os.PathLike[str] | None) -> ConfigurationError:
    """The error for a statement that ClickHouse rejects while the tables are opened or loaded."""
    problem = f"ClickHouse rejected a statement: {error.problem}"
    if path is None:
        return ConfigurationError(problem=problem, remedy=error.remedy)
    return ConfigurationError(
        argument="path", problem=f"cannot be {os.fspath(path)!r}, because {problem}", remedy=error.remedy
    )


def _only(organizations: Collection[UUID]) -> UUID:
    if not organizations:
        raise ConfigurationError(
            argument="organization_id",
            problem="must be given, because no request in the table has one",
            remedy="Pass the organisation to answer for",
        )
    if len(organizations) > 1:
        raise several_organizations(organizations)
    return next(iter(organizations))


def _with_id(row: Any) -> Any:
    """Give the row an id, because without one it would replace an equal row that was added before."""
    if isinstance(row, Mapping) and row.get("request_id") is None:
        return {**row, "request_id": str(uuid4())}
    return row
