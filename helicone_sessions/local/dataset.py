"""The data of a server: requests in a store, or in the tables of an existing ClickHouse."""

import logging
import os
import re
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
from helicone_sessions.local.query.contract_sql import Parameters
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.server_config import ServerConfig
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, SESSION_ID, SESSION_NAME, Stored
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Loaded
from helicone_sessions.local.storage.store import Store, several_organizations
from helicone_sessions.local.storage.table import OWN_DATABASE, REQUESTS_TABLE, TAGS_TABLE, Tables

_LOG: Final = logging.getLogger(__name__)
_REMEDY: Final = "Fix it, or set `rejects` to a file for such rows to load the others"


@attrs.define(eq=False, repr=False)
class Dataset:
    """The requests of a server, and the engine that queries them.

    Args:
        config: The arguments of the server.
        organizations: The organisations whose requests are served. If it is empty, the data must
            belong to one organisation.
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
        """The default organisation, used for keys without an organisation."""
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
        # This raises an error if the data has several organisations and none was selected.
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
        # Only servers that use an existing ClickHouse need this module.
        from helicone_sessions.local.drivers.clickhouse import ClickHouseDriver

        driver = ClickHouseDriver(self.config.clickhouse or "", limits=self.config.limits or Limits())
        self._driver = driver
        await driver.open()
        tables = await find_tables(driver)
        if not self.organizations:
            self._only_organization = _only(await find_organizations(driver, tables))
        return driver, tables

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Engine, None]:
        """Provide the engine. Inside the block, queries see each load completely or not at all.

        Raises:
            DriverError: An earlier load could not be completed.
        """
        engine, store = self._opened(), self._store
        if store is None:
            yield engine
            return
        async with store.reading():
            # A load may have changed the description of the tables.
            yield attrs.evolve(engine, tables=store.tables)

    async def gaps(self, organization_id: UUID) -> DataGaps:
        """The columns that lack values in some or all requests of an organisation."""
        store = self._store
        if store is None:
            # Helicone's tables have the same gaps as the service.
            return SERVICE_GAPS
        try:
            async with store.reading():
                return await store.gaps(organization_id)
        except DriverError as error:
            _LOG.info("the gaps in the data are unknown, code %s", error.code)
            return DataGaps()

    async def count(self) -> int:
        """Count the requests of all organisations.

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
            organization_id: The organisation of the rows. It is required if the data has several
                organisations and the rows do not name theirs.

        Raises:
            ConfigurationError: A row cannot be read or belongs to another organisation, the server uses an
                existing ClickHouse, or the server was stopped.
            DriverError: ClickHouse rejected the rows, or it could not move them from the staging tables. The
                message says which step failed. If the rows were rejected, no row is added. Otherwise, all
                rows are saved, and the next query or load moves them.
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
        """Check that rows of these organisations can be added, and return the store."""
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
        """Close the connections. Data in memory is lost."""
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
    """Open the store in a directory for the duration of the block. A missing directory is created.

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
    """Build the error for a statement that ClickHouse rejects while the tables are opened or loaded."""
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
    """Add a random id to a row that has none. Without an id, it would replace an identical earlier row."""
    if isinstance(row, Mapping) and row.get("request_id") is None:
        return {**row, "request_id": str(uuid4())}
    return row


_REQUIRED: Final = ("organization_id", "request_created_at", "request_id", "properties", "cost")
_OF_TAGS: Final = ("organization_id", "entity_type", "entity_id", "tag")
_SESSION_COLUMNS: Final = {"session_id": SESSION_ID, "session_name": SESSION_NAME}
_CANNOT_BE_FINAL: Final = 181
# An error message does not need more.
_MOST_ORGANIZATIONS: Final = 10
_TIME: Final = r"DateTime(?:64)?(?:\(.*\))?"
_INTEGER: Final = r"U?Int\d+"
_NUMBER: Final = rf"(?:{_INTEGER}|Float\d+|Decimal\(.*\))"
_FLAG: Final = r"(?:Bool|U?Int8)"
# The column types that the engine's conditions support.
_FORMS: Final[dict[Stored, str]] = {
    Stored.UUID: "UUID",
    Stored.TIME: _TIME,
    Stored.MAYBE_TIME: _TIME,
    Stored.WHOLE: _NUMBER,
    Stored.MAYBE_WHOLE: _NUMBER,
    Stored.NANODOLLARS: _INTEGER,
    Stored.NAME: "String",
    Stored.TEXT: "String",
    Stored.MAYBE_TEXT: "String",
    Stored.FLAG: _FLAG,
    Stored.MAYBE_FLAG: _FLAG,
    Stored.TEXTS: r"Array\(String\)",
    Stored.PROPERTIES: r"Map\(String, String\)",
    Stored.SCORES: rf"Map\(String, {_INTEGER}\)",
}
# This wrapper makes no difference to a condition.
_WRAPPERS: Final = re.compile(r"LowCardinality\(((?:[^()]|\([^()]*\))*)\)")
_NULLABLE: Final = re.compile(r"Nullable\((.*)\)")


async def find_tables(driver: Driver, database: str | None = None) -> Tables:
    """Find Helicone's tables in a database.

    Args:
        driver: The open driver.
        database: The database; by default the database to which the driver is connected.

    Raises:
        ConfigurationError: The table of requests is missing or cannot be used. The message explains why.
        DriverError: ClickHouse rejected a statement or did not finish it.
    """
    found, tables = await _columns(driver, database)
    if REQUESTS_TABLE not in tables:
        raise ConfigurationError(
            argument="clickhouse",
            problem=f"database {found!r} has no table {REQUESTS_TABLE} that this user may read",
            remedy="Name Helicone's database in the URL, http://user:password@host:8123/database",
        )
    columns = tables[REQUESTS_TABLE]
    table = f"{_quoted(found)}.{_quoted(REQUESTS_TABLE)}"
    _check_required(f"{found}.{REQUESTS_TABLE}", columns)
    expressions = {
        name: name if _plain(columns.get(name, "")) == "String" else f"properties['{key}']"
        for name, key in _SESSION_COLUMNS.items()
    }
    final = await _final(driver, table)
    parts = await _reads_parts(driver, table + final)
    each = {
        name: f"properties.values[indexOf(properties.keys, '{key}')]"
        if parts and expressions[name] != name
        else expressions[name]
        for name, key in _SESSION_COLUMNS.items()
    }
    return Tables(
        requests=table + final,
        tags=await _tags(driver, found, tables.get(TAGS_TABLE)),
        columns=_usable(f"{found}.{REQUESTS_TABLE}", columns),
        session_id=expressions["session_id"],
        session_name=expressions["session_name"],
        each_id=each["session_id"],
        each_name=each["session_name"],
    )


async def find_organizations(driver: Driver, tables: Tables) -> list[UUID]:
    """Find up to ten organisations with the most requests, in descending order.

    Args:
        driver: The open driver.
        tables: The tables.

    Raises:
        DriverError: ClickHouse rejected the statement or did not finish it.
    """
    # Duplicates do not matter here, and ClickHouse reads much less without FINAL.
    table = tables.requests.removesuffix(" FINAL")
    text = (
        f"SELECT organization_id FROM {table} GROUP BY organization_id"
        f" ORDER BY count() DESC, organization_id LIMIT {_MOST_ORGANIZATIONS}"
    )
    return [UUID(row[0]) for row in (await driver.query(Statement(text))).rows]


async def _columns(driver: Driver, database: str | None) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the name of the database and the column types of each table."""
    if database is None:
        database = str((await driver.query(Statement("SELECT currentDatabase()"))).rows[0][0])
    parameters = Parameters()
    text = (
        f"SELECT table, name, type FROM system.columns WHERE database = {parameters.add('String', database)}"
        f" AND table IN ('{REQUESTS_TABLE}', '{TAGS_TABLE}')"
    )
    tables: dict[str, dict[str, str]] = {}
    for table, name, kind in (await driver.query(Statement(text, parameters.values))).rows:
        tables.setdefault(table, {})[name] = kind
    return database, tables


def _check_required(table: str, columns: Mapping[str, str]) -> None:
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise ConfigurationError(
            argument="clickhouse",
            problem=f"table {table} has no column {', '.join(missing)}, which is required",
            remedy="Name Helicone's database in the URL",
        )
    if wrong := [name for name in _REQUIRED if not _fits(name, columns[name])]:
        types = "; ".join(f"{name} must be {REQUEST_COLUMNS[name]}, got {columns[name]}" for name in wrong)
        raise ConfigurationError(argument="clickhouse", problem=f"table {table} cannot be used: {types}")


def _usable(table: str, columns: Mapping[str, str]) -> frozenset[str]:
    known = [name for name in REQUEST_COLUMNS if name in columns]
    for name in known:
        if not _fits(name, columns[name]):
            _LOG.warning(
                "the column %s of %s is ignored: its type is %s, expected %s",
                name,
                table,
                columns[name],
                REQUEST_COLUMNS[name],
            )
    return frozenset(name for name in known if _fits(name, columns[name]))


def _fits(name: str, kind: str) -> bool:
    stored = REQUEST_COLUMNS[name]
    plain = _plain(kind)
    if name not in _REQUIRED and (nullable := _NULLABLE.fullmatch(plain)):
        plain = nullable[1]
    return re.fullmatch(_FORMS[stored], plain) is not None


def _plain(kind: str) -> str:
    return _WRAPPERS.sub(r"\1", kind)


async def _tags(driver: Driver, database: str, columns: Mapping[str, str] | None) -> str | None:
    if columns is None:
        return None
    if missing := [name for name in _OF_TAGS if name not in columns]:
        names = ", ".join(missing)
        _LOG.warning("the table %s.%s is ignored: it has no column %s", database, TAGS_TABLE, names)
        return None
    table = f"{_quoted(database)}.{_quoted(TAGS_TABLE)}"
    return table + await _final(driver, table)


async def _final(driver: Driver, table: str) -> str:
    """Return `` FINAL``, which excludes replaced rows, or ``""`` if the table does not support ``FINAL``.

    Only the servers behind a ``Distributed`` table know whether the table supports it, so this function runs
    a query that selects no rows.
    """
    text = f"SELECT 1 FROM {table} FINAL WHERE organization_id = toUUID('{UUID(int=0)}') LIMIT 1"
    try:
        await driver.query(Statement(text))
    except DriverError as error:
        if error.code != _CANNOT_BE_FINAL:
            raise
        return ""
    return " FINAL"


async def _reads_parts(driver: Driver, table: str) -> bool:
    """Whether ClickHouse can read property keys and values separately. Such reads are a fifth faster."""
    text = f"SELECT properties.keys, properties.values FROM {table} LIMIT 0"
    try:
        await driver.query(Statement(text))
    except DriverError:
        return False
    return True


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
