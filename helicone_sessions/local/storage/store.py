"""A store: requests in tables that this package creates and fills.

A load inserts rows into staging tables. When the load is complete, the rows move to the table of requests.
Therefore, a failed load changes nothing. If the process is killed during a load, the next `Store.open` moves
the staged rows, so every batch that was reported to ``on_progress`` is kept. Replaced requests are deleted
before the move, so that queries need not check for duplicates. During the move, queries wait. Tables in
memory are dropped when the store is closed.
"""

import asyncio
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from shlex import quote
from typing import Any, Final
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.cautions import DataGaps
from helicone_sessions.local.drivers import UNLIMITED, DriverError, WritableDriver, rows_of
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage.fields import RowOptions
from helicone_sessions.local.storage.loader import Loader, MovePlan, RejectsFile, StagingTables, uncancelled
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Loaded, RowEncoder
from helicone_sessions.local.storage.store_files import Record, RecordKeeper, delete_checkpoint, inspect
from helicone_sessions.local.storage.table import (
    LAYOUT,
    LAYOUT_MARK,
    OWN_DATABASE,
    OWN_TABLES,
    REQUESTS_TABLE,
    Tables,
    create_statements,
    data_gaps,
    has_several_names,
    is_due,
    layout_of,
    property_columns,
    update_property_columns,
)
from helicone_sessions.masking import masked_repr

_LOG: Final = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST_NAMED: Final = 5
# The API always returns costs in dollars.
_OF_SERVICE: Final = RowOptions(cost_unit="dollars")


# A process has only one engine, so the name identifies the database.
_open_stores: Final[WeakValueDictionary[str, "Store"]] = WeakValueDictionary()
_open_stores_lock: Final = threading.Lock()


class _Staged(Enum):
    """The state of the rows in the staging tables."""

    NOTHING = auto()
    USELESS = auto()  # to be deleted, because the load has failed or the rows have been moved
    COMPLETE = auto()  # to be moved to the table of requests


class Store:
    """Requests in tables that belong to this package.

    Args:
        driver: The connection.
        database: The name of the database, which is kept when the store is closed. By default, the store
            creates a database, and `aclose` drops it.
        directory: The directory of a store on disk, which also contains the record of the rows.
        accept_loss: If the store is damaged, open it without the lost rows.

    Raises:
        ConfigurationError: The name contains characters other than letters, digits and underscores.
    """

    def __init__(
        self,
        driver: WritableDriver,
        database: str | None = None,
        *,
        directory: Path | None = None,
        accept_loss: bool = False,
    ) -> None:
        if database is not None and not _NAME.fullmatch(database):
            raise ConfigurationError(
                argument="database",
                problem=f"must be letters, digits and underscores, got {masked_repr(database)}",
            )
        self._driver = driver
        self._is_kept = database is not None
        self._database = database or f"helicone_{uuid4().hex}"
        self._directory = directory
        self._accepts_loss = accept_loss
        self._staging = StagingTables(driver, self._database)
        self._keeper = RecordKeeper(driver, self._database, directory)
        self._version = 0
        self._staged = _Staged.NOTHING
        # Only one load runs at a time, because the next load may replace its rows.
        self._load_lock = asyncio.Lock()
        self._lock = ReadWriteLock()
        # Whether a move has started to change the requests and has not finished.
        self._is_half_moved = False
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False
        self._tables = Tables.own(self._database)
        self._requests = 0
        # The facts in `_tables` about session names cover all requests of lower versions.
        self._studied_version = 0
        self._gaps: dict[UUID, DataGaps] = {}
        self.organizations: frozenset[UUID] = frozenset()

    @property
    def tables(self) -> Tables:
        """The tables, including the facts that are currently known. The next load may change these facts."""
        only = next(iter(self.organizations)) if len(self.organizations) == 1 else None
        return attrs.evolve(self._tables, only_organization=only)

    @property
    def organization_id(self) -> UUID:
        """The organisation of the requests, or a default organisation if there are no requests.

        Raises:
            ConfigurationError: There are several organisations.
        """
        if len(self.organizations) > 1:
            raise several_organizations(self.organizations)
        return next(iter(self.organizations), DEFAULT_ORGANIZATION)

    async def open(self) -> None:
        """Create missing tables, and complete a load that was interrupted when a process was killed.

        Raises:
            ConfigurationError: The tables have the layout of another version, another store of this process
                has opened them, or rows are lost (unless *accept_loss* is true).
        """
        await self._check_layout()
        if self._is_kept:
            self._claim_database()
        is_damaged = self._directory is not None and await self._is_damaged(self._directory)
        for statement in create_statements(self._database):
            await self._driver.execute(statement)
        if is_damaged:
            await self._delete_duplicates()
        await self._move_staged()
        found = await rows_of(
            self._driver,
            "SELECT organization_id, max(version), count()"
            f" FROM {self._database}.{REQUESTS_TABLE} GROUP BY organization_id",
        )
        self.organizations = frozenset(UUID(each) for each, _, _ in found)
        self._version = max((int(version) for _, version, _ in found), default=0) + 1
        self._requests = sum(int(requests) for _, _, requests in found)
        await self._study()

    async def load(
        self,
        data: Data,
        *,
        rejects: str | os.PathLike[str] | None = None,
        skip_rejects: bool = False,
        on_progress: Callable[[int], None] | None = None,
        organizations: Collection[UUID] | None = None,
        of_one: bool = False,
        remedy: str | None = None,
        row_options: RowOptions = RowOptions(),  # noqa: B008 - it is frozen
    ) -> Loaded:
        """Load rows, a frame or files.

        If a row has the id of an existing request, the row replaces that request. If the load fails, no row
        is kept. If the process is killed, or a load into a kept database is cancelled, all rows that were
        reported to *on_progress* are kept, and the next load or `open` moves them to the table of requests.

        Args:
            data: A path or pattern, a list of paths and patterns, a frame, or an iterable of mappings, which
                may be asynchronous. If a row has no id, an id is derived from the name of the file and from
                the position and content of the row.
            rejects: A JSON Lines file for rows that cannot be read. By default, the load fails if a row
                cannot be read.
            skip_rejects: Leave out rows that cannot be read.
            on_progress: A callback that receives the number of rows loaded so far, each time more rows are
                durable.
            organizations: The organisations that rows may name. By default, the only allowed
                organisation is that of the existing requests or, if there are none, of the first row.
            of_one: Reject rows that do not belong to the organisation of the existing requests.
            remedy: The remedy in the error for a row that cannot be read.
            row_options: The options for rows that do not follow the default rules.

        Raises:
            ConfigurationError: A row or a file cannot be read, the rejects file cannot be written, or the
                store was closed.
            DriverError: ClickHouse rejected the rows, or it could not move them from the staging tables. The
                message says which. In the first case, no row is kept. In the second case, all rows remain
                staged, and queries fail until a later query or load has moved them.
        """
        async with self._load_lock:
            self._refuse_if_closed()
            await self._settle()
            allowed = self._allowed(organizations, of_one=of_one)
            encoder = RowEncoder(
                allowed,
                options=row_options,
                first_version=self._version,
                with_rejects=skip_rejects or rejects is not None,
                remedy=remedy,
            )
            self._staged = _Staged.USELESS
            try:
                self._refuse_if_closed()
                with RejectsFile(rejects, data) as rejected:
                    await self._read(Loader(encoder, data, self._staging, rejected, on_progress).run())
            except BaseException as error:
                is_cut_short = isinstance(error, asyncio.CancelledError) or self._is_closed
                if is_cut_short and self._is_kept and on_progress is not None:
                    self._accept(encoder)
                else:
                    await uncancelled(self._settle())
                raise
            await uncancelled(self._complete(encoder))
            return encoder.report

    async def copy(self, requests: Iterable[Mapping[str, Any]], organization_id: UUID) -> Loaded:
        """Load requests that the API returned for an organisation. Invalid requests are skipped and counted.

        Raises:
            ConfigurationError: The store was closed.
            DriverError: See `load`.
        """
        organization = {"organization_id": str(organization_id)}
        return await self.load(
            ({**request, **organization} for request in requests),
            skip_rejects=True,
            organizations={organization_id},
            row_options=_OF_SERVICE,
        )

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Prevent changes to the requests while the block runs.

        Queries inside the block therefore see each load completely or not at all.

        Raises:
            DriverError: The rows of an earlier load still cannot be moved.
        """
        while True:
            async with self._lock.reading():
                if not self._is_half_moved:
                    yield
                    return
            async with self._load_lock:
                await uncancelled(self._settle())

    async def gaps(self, organization_id: UUID) -> DataGaps:
        """Find the columns that lack values in some or all requests of an organisation.

        Call this inside a `reading` block.

        Raises:
            DriverError: ClickHouse rejected the statement.
        """
        found = self._gaps.get(organization_id)
        if found is None:
            found = self._gaps[organization_id] = await data_gaps(
                self._driver, self._database, organization_id
            )
        return found

    async def aclose(self) -> None:
        """Stop the current load, and drop the database unless it is kept."""
        self._is_closed = True
        if self._reading is not None:
            self._reading.cancel()
        try:
            async with self._load_lock:
                if not self._is_kept:
                    await self._driver.execute(f"DROP DATABASE IF EXISTS {self._database}")
        finally:
            with _open_stores_lock:
                if _open_stores.get(self._database) is self:
                    del _open_stores[self._database]

    def _claim_database(self) -> None:
        with _open_stores_lock:
            if _open_stores.setdefault(self._database, self) is not self:
                raise ConfigurationError(
                    argument="path",
                    problem="is open in another server of this process",
                    remedy="Add rows to that server, or close it first",
                )

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ConfigurationError(
                problem="the server was stopped before the rows were stored", remedy="None of them is kept"
            )

    def _allowed(self, organizations: Collection[UUID] | None, *, of_one: bool) -> Collection[UUID] | None:
        """Return the organisations that rows may name; None if the first row determines the only one."""
        allowed = organizations if organizations is not None else self.organizations or None
        if of_one and self.organizations and not self.organizations.issuperset(allowed or ()):
            raise ConfigurationError(
                argument="organization_id",
                problem=f"must be {self.organization_id}, got {', '.join(map(str, allowed or ()))}",
                remedy="To serve several organisations, give each its own API key",
            )
        return allowed

    async def _check_layout(self) -> None:
        names = ", ".join(f"'{name}'" for name in OWN_TABLES)
        text = f"SELECT comment FROM system.tables WHERE database = {{name:String}} AND name IN ({names})"
        for (comment,) in await rows_of(self._driver, text, name=self._database):
            if comment != LAYOUT_MARK:
                raise self._other_layout(comment)

    def _other_layout(self, comment: str) -> ConfigurationError:
        layout = layout_of(comment)
        if layout is None or layout > LAYOUT:
            made = "an unknown layout" if layout is None else f"layout {layout}, which is newer"
            return ConfigurationError(
                argument="path",
                problem=f"holds tables of {made} (this version of helicone-sessions has layout {LAYOUT})",
                remedy="Use the version that made them, or another path",
            )
        path = "PATH" if self._directory is None else quote(str(self._directory))
        return ConfigurationError(
            argument="path",
            problem=f"holds a store of layout {layout}; this version of helicone-sessions has {LAYOUT}",
            remedy=f"Rebuild it with `helicone-sessions rebuild --path {path}`",
        )

    async def _is_damaged(self, directory: Path) -> bool:
        """Whether rows are lost. If the loss is accepted, detach broken parts; otherwise, raise an error."""
        inspection = await inspect(self._driver, self._database, directory)
        if not inspection.losses:
            self._keeper.record = inspection.record or Record()
            return False
        if not self._accepts_loss:
            raise inspection.error(directory)
        _LOG.warning("a damaged store was opened: %s", "; ".join(inspection.losses))
        delete_checkpoint(directory)
        await self._keeper.keep(Record(is_moving=True))
        # A part cannot be detached while there are patches. The patches are dropped, and the caller repeats
        # their deletes.
        patches = await rows_of(
            self._driver,
            "SELECT table, name FROM system.parts"
            " WHERE database = {name:String} AND active AND startsWith(name, 'patch-')",
            name=self._database,
        )
        for table, part in [*patches, *inspection.broken] if inspection.broken else ():
            await self._driver.execute(f"ALTER TABLE {self._database}.{table} DETACH PART '{part}'")
        return True

    async def _delete_duplicates(self) -> None:
        """Delete replaced requests that have reappeared because the part with the deletion is lost."""
        requests = f"{self._database}.{REQUESTS_TABLE}"
        latest = f"SELECT organization_id, request_id, max(version) FROM {requests} GROUP BY 1, 2"
        await self._driver.execute(
            f"DELETE FROM {requests} WHERE (organization_id, request_id, version) NOT IN ({latest})"
            " SETTINGS lightweight_delete_mode = 'alter_update', lightweight_deletes_sync = 2"
        )

    async def _read(self, work: Coroutine[Any, Any, None]) -> None:
        """Await *work*, and let `aclose` cancel it."""
        self._reading = asyncio.create_task(work)
        try:
            await self._reading
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._refuse_if_closed()
            raise
        finally:
            self._reading = None

    async def _complete(self, encoder: RowEncoder) -> None:
        try:
            plan = await self._staging.plan_move()
        except DriverError:
            await self._settle()
            raise
        self._accept(encoder)
        self.organizations |= plan.organizations
        plan.add_to(encoder.report)
        try:
            await self._move(plan)
        except DriverError:
            await self._move_staged()

    def _accept(self, encoder: RowEncoder) -> None:
        """Mark the staged rows as accepted. From now on, they belong to the store."""
        self._staged = _Staged.COMPLETE
        self._version = encoder.next_version
        self.organizations |= {UUID(each) for each in encoder.organizations}

    async def _settle(self) -> None:
        """Move or delete the rows that an earlier load left in the staging tables."""
        if self._staged is _Staged.COMPLETE:
            await self._move_staged()
        elif self._staged is _Staged.USELESS:
            await self._clear_staging()

    async def _move_staged(self) -> None:
        """Move all staged rows. This can be repeated, for example after the process was killed."""
        try:
            await self._move(await self._staging.plan_move())
        except DriverError as error:
            raise DriverError(
                "the rows of the last load could not be moved from the staging tables, and queries wait for"
                f" that; the next query or load tries again: {error.problem}",
                error.code,
                error.remedy,
            ) from error

    async def _move(self, plan: MovePlan) -> None:
        # This is the only step that changes rows which queries read.
        async with self._lock.writing():
            self._is_half_moved = True
            await self._keeper.begin_move(replaced=sum(plan.existing))
            await self._staging.move(plan)
            await self._keeper.end_move()
            if plan.rows:
                await self._study(plan)
            self._is_half_moved = False
        self._staged = _Staged.USELESS
        try:
            await self._clear_staging()
        except DriverError as error:
            # The next load deletes them. If they are moved again after a kill, the result is the same.
            _LOG.warning("the staged rows of a load could not be deleted yet: %s", error)

    async def _study(self, plan: MovePlan = MovePlan()) -> None:  # noqa: B008 - it is frozen
        """Update the facts about the tables after a load. The facts make queries faster."""
        self._gaps.clear()
        before = self._requests
        self._requests += plan.distinct - sum(plan.existing)
        several = self._tables.has_several_names
        # If most requests are new, scanning all requests is faster than searching for their sessions.
        since = self._studied_version if several is not None and plan.rows < before else 0
        self._tables = Tables.own(self._database)
        try:
            if is_due(before, self._requests):
                await update_property_columns(self._driver, self._database)
            columns = await property_columns(self._driver, self._database)
            several = several or await has_several_names(
                self._driver, self._database, since=since, rows=plan.rows
            )
        except DriverError as error:
            _LOG.warning("queries take longer, because the requests could not be analysed: %s", error)
            return
        self._tables = attrs.evolve(self._tables, property_columns=columns, has_several_names=several)
        self._studied_version = self._version

    async def _clear_staging(self) -> None:
        await self._staging.clear()
        self._staged = _Staged.NOTHING


class ReadWriteLock:
    """A lock that admits either several readers or one writer, in order of arrival."""

    def __init__(self) -> None:
        # A writer holds this lock, while readers only pass through it. `asyncio.Lock` is fair.
        self._turnstile = asyncio.Lock()
        self._readers = 0
        self._no_reader = asyncio.Event()
        self._no_reader.set()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Exclude writers while the block runs."""
        async with self._turnstile:
            self._readers += 1
            self._no_reader.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._no_reader.set()

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[None, None]:
        """Exclude readers and other writers while the block runs."""
        async with self._turnstile:
            await self._no_reader.wait()
            yield


def several_organizations(organizations: Collection[UUID]) -> ConfigurationError:
    """Build the error for data that has several organisations where only one is allowed."""
    named = ", ".join(sorted(map(str, organizations))[:_MOST_NAMED])
    more = ", …" if len(organizations) > _MOST_NAMED else ""
    return ConfigurationError(
        argument="organization_id",
        problem=f"must be given, because the data holds several organisations ({named}{more})",
        remedy="Name one of them, or give each its own API key",
    )


async def rebuild(path: Path) -> int:
    """Rebuild a store that has an older layout. An interrupted rebuild can be repeated.

    Args:
        path: The directory of the store.

    Returns:
        The number of requests in the store.

    Raises:
        ConfigurationError: The directory contains no store with an older layout, or another process uses it.
        DriverError: ClickHouse did not finish a statement. No row is lost.
    """
    if not await asyncio.to_thread(path.is_dir):
        raise ConfigurationError(argument="path", problem=f"must be the directory of a store, got {path}")
    driver = ChdbDriver(path, limits=UNLIMITED)
    await driver.open()
    try:
        await _check_layouts(driver, path)
        return await _rebuild(driver)
    finally:
        await driver.aclose()


async def _check_layouts(driver: WritableDriver, path: Path) -> None:
    text = f"SELECT name, comment FROM system.tables WHERE database = '{OWN_DATABASE}'"
    comments = dict(await rows_of(driver, text))
    if REQUESTS_TABLE not in comments:
        raise ConfigurationError(argument="path", problem=f"holds no store, got {path}")
    for table in OWN_TABLES:
        layout = layout_of(comments.get(table, ""))
        if table in comments and (layout is None or layout > LAYOUT):
            raise ConfigurationError(
                argument="path",
                problem=f"holds a table {table} of an unknown layout ({masked_repr(comments[table])})",
                remedy="Use the version of helicone-sessions that made it",
            )


async def _rebuild(driver: WritableDriver) -> int:
    fresh = f"{OWN_DATABASE}_rebuilt"
    await driver.execute(f"DROP DATABASE IF EXISTS {fresh} SYNC")
    for statement in (*create_statements(OWN_DATABASE), *create_statements(fresh)):
        await driver.execute(statement)
    for table in OWN_TABLES:
        columns = ", ".join(await _common_columns(driver, table, fresh))
        await driver.execute(
            f"INSERT INTO {fresh}.{table} ({columns}) SELECT {columns} FROM {OWN_DATABASE}.{table}"
            " SETTINGS max_partitions_per_insert_block = 0"
        )
    # From now on, each table is either the old or the new table. Both contain all rows.
    for table in OWN_TABLES:
        await driver.execute(f"EXCHANGE TABLES {fresh}.{table} AND {OWN_DATABASE}.{table}")
    await driver.execute(f"DROP DATABASE {fresh} SYNC")
    ((count,),) = await rows_of(driver, f"SELECT count() FROM {OWN_DATABASE}.{REQUESTS_TABLE}")
    requests = int(count)
    if is_due(0, requests):
        await update_property_columns(driver, OWN_DATABASE)
    return requests


async def _common_columns(driver: WritableDriver, table: str, fresh: str) -> list[str]:
    """Return the stored columns that *table* has in both databases."""
    databases = f"'{OWN_DATABASE}', '{fresh}'"
    text = (
        f"SELECT name FROM system.columns WHERE table = '{table}' AND database IN ({databases})"
        " AND default_kind IN ('', 'DEFAULT') GROUP BY name HAVING count() = 2 ORDER BY name"
    )
    return [name for (name,) in await rows_of(driver, text)]
