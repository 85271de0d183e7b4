"""A store: the requests in tables that this package makes, fills and, in memory, drops again.

A load fills staging tables first, and its rows move to the requests when it is complete, so that a load that
fails leaves and changes nothing. After a kill, the next `Store.open` moves what was staged: every batch that
``on_progress`` has reported is kept. Replaced requests are deleted before the move, so that no query has to
look for duplicates; queries wait meanwhile.
"""

import asyncio
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import aclosing, asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers.driver import DriverError, Statement, WritableDriver
from helicone_sessions.local.storage.checkpoint import delete_checkpoint
from helicone_sessions.local.storage.loader import BatchReader, RejectsFile
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.local.storage.record import Record, RecordKeeper, inspect
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Loaded, RowEncoder
from helicone_sessions.local.storage.staging import UNLIMITED, MovePlan, StagingTables
from helicone_sessions.local.storage.table import (
    LAYOUT_MARK,
    OWN_TABLES,
    REQUESTS_TABLE,
    Tables,
    create_statements,
)
from helicone_sessions.masking import masked_repr

_LOG: Final = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST_NAMED: Final = 5


# A process has one engine, so a name identifies a database. A store that is garbage-collected is not in it.
_open_stores: Final[WeakValueDictionary[str, "Store"]] = WeakValueDictionary()
_open_stores_lock: Final = threading.Lock()

T = TypeVar("T")


class _Staged(Enum):
    """The rows in the staging tables."""

    NOTHING = auto()
    USELESS = auto()  # to be deleted: the load has failed, or they have moved
    COMPLETE = auto()  # to be moved to the requests


class Store:
    """Requests in tables of this package.

    Args:
        driver: The connection.
        database: The name of a database to keep. By default a new one is created, which `aclose` drops.
        directory: The directory of a store on disk, for the record of its rows.
        accept_loss: Open a damaged store without the rows that are lost.

    Raises:
        ConfigurationError: The name is not made of letters, digits and underscores.
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
        # One load at a time: the next one may replace what this one brings.
        self._load_lock = asyncio.Lock()
        self._lock = ReadWriteLock()
        # A move has begun to change the requests and has not ended.
        self._is_half_moved = False
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False
        self.tables = Tables.own(self._database)
        self.organizations: frozenset[UUID] = frozenset()

    @property
    def organization_id(self) -> UUID:
        """The organisation of the requests; a default one if there are none.

        Raises:
            ConfigurationError: There are several.
        """
        if len(self.organizations) > 1:
            raise several_organizations(self.organizations)
        return next(iter(self.organizations), DEFAULT_ORGANIZATION)

    async def open(self) -> None:
        """Create missing tables, and complete a load that a killed process has left.

        Raises:
            ConfigurationError: The tables have another version's layout, another store of this process has
                them open, or rows are lost (unless *accept_loss*).
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
        found = await self._query(
            "SELECT organization_id, max(version)"
            f" FROM {self._database}.{REQUESTS_TABLE} GROUP BY organization_id"
        )
        self.organizations = frozenset(UUID(each) for each, _ in found)
        self._version = max((int(version) for _, version in found), default=0) + 1

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
    ) -> Loaded:
        """Load rows or a file.

        A row with the id of an existing request replaces it. A load that fails keeps nothing. If the process
        dies, or the load of a kept database is cancelled, what *on_progress* has reported is kept: the next
        load or `open` moves it to the requests.

        Args:
            data: A path, or an iterable of mappings, which may be asynchronous. Without an id a row is
                identified by its position, its content and the name of its file.
            rejects: A file for rows that cannot be read, one JSON object per line; by default such a row
                fails the load.
            skip_rejects: Leave out rows that cannot be read.
            on_progress: Called with the number of rows loaded so far, each time that more are durable.
            organizations: The organisations that rows may name. By default there is one: that of the
                existing requests, or else that of the first row.
            of_one: Reject other organisations than that of the existing requests.
            remedy: The remedy in the error for a row that cannot be read.

        Raises:
            ConfigurationError: A row or the file cannot be read, the file of rejects cannot be written, or
                the store was closed.
            DriverError: ClickHouse rejected the rows, and none of them is kept. Or all are staged and could
                not be moved, which the message says: queries fail until they are, which every query and
                load tries again.
        """
        async with self._load_lock:
            self._refuse_if_closed()
            await self._settle()
            allowed = self._allowed(organizations, of_one=of_one)
            encoder = RowEncoder(
                allowed,
                first_version=self._version,
                with_rejects=skip_rejects or rejects is not None,
                remedy=remedy,
            )
            self._staged = _Staged.USELESS
            try:
                self._refuse_if_closed()
                await self._read(self._stage(encoder, data, rejects, on_progress))
            except BaseException as error:
                is_cut_short = isinstance(error, asyncio.CancelledError) or self._is_closed
                if is_cut_short and self._is_kept and on_progress is not None:
                    self._accept(encoder)
                else:
                    await _uncancelled(self._settle())
                raise
            await _uncancelled(self._complete(encoder))
            return encoder.report

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Inside the block no load changes the requests, so that queries see each load whole or not at all.

        Raises:
            DriverError: An earlier load could not be moved, and still cannot.
        """
        while True:
            async with self._lock.reading():
                if not self._is_half_moved:
                    yield
                    return
            async with self._load_lock:
                await _uncancelled(self._settle())

    async def aclose(self) -> None:
        """End the current load, and drop the tables unless they are kept."""
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
                problem="the server was stopped before the rows were in", remedy="None of them is kept"
            )

    def _allowed(self, organizations: Collection[UUID] | None, *, of_one: bool) -> Collection[UUID] | None:
        """The organisations that rows may name; None lets the first row decide."""
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
        for (comment,) in await self._query(text, name=self._database):
            if comment != LAYOUT_MARK:
                raise ConfigurationError(
                    argument="path",
                    problem="holds tables of another version of helicone-sessions"
                    f" ({comment or 'unknown'} instead of {LAYOUT_MARK!r})",
                    remedy="Load the data again into a new path, or use the version that made them",
                )

    async def _is_damaged(self, directory: Path) -> bool:
        """Whether the store has losses, which the caller has accepted; broken parts are detached then."""
        inspection = await inspect(self._driver, self._database, directory)
        if not inspection.losses:
            self._keeper.record = inspection.record or Record()
            return False
        if not self._accepts_loss:
            raise inspection.error(directory)
        _LOG.warning("a damaged store was opened: %s", "; ".join(inspection.losses))
        delete_checkpoint(directory)
        await self._keeper.keep(Record(is_moving=True))
        for table, part in inspection.broken:
            await self._driver.execute(f"ALTER TABLE {self._database}.{table} DETACH PART '{part}'")
        return True

    async def _delete_duplicates(self) -> None:
        """Delete replaced requests that are there again, because the part with their deletion is lost."""
        requests = f"{self._database}.{REQUESTS_TABLE}"
        latest = f"SELECT organization_id, request_id, max(version) FROM {requests} GROUP BY 1, 2"
        await self._driver.execute(
            f"DELETE FROM {requests} WHERE (organization_id, request_id, version) NOT IN ({latest})"
            " SETTINGS lightweight_delete_mode = 'alter_update', lightweight_deletes_sync = 2"
        )

    async def _read(self, work: Coroutine[Any, Any, None]) -> None:
        """Await *work*, which `aclose` ends."""
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

    async def _stage(
        self,
        encoder: RowEncoder,
        data: Data,
        rejects: str | os.PathLike[str] | None,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        rows = 0
        with RejectsFile(rejects, data) as rejected:
            async with aclosing(BatchReader(encoder, data).batches()) as batches:
                async for batch in batches:
                    await asyncio.to_thread(rejected.write, batch.rejects)
                    await _uncancelled(self._staging.insert(batch))
                    # The encoder has read further by now.
                    rows += len(batch.requests)
                    if on_progress is not None:
                        on_progress(rows)

    async def _complete(self, encoder: RowEncoder) -> None:
        try:
            plan = await self._staging.plan_move()
        except DriverError:
            await self._settle()
            raise
        self._accept(encoder)
        encoder.report.replaced = plan.replaced
        try:
            await self._move(plan)
        except DriverError:
            await self._move_staged()

    def _accept(self, encoder: RowEncoder) -> None:
        """From here on the staged rows belong to the store."""
        self._staged = _Staged.COMPLETE
        self._version += encoder.report.rows
        self.organizations |= {UUID(each) for each in encoder.organizations}

    async def _settle(self) -> None:
        """Finish what an earlier load has left undone because of an error."""
        if self._staged is _Staged.COMPLETE:
            await self._move_staged()
        elif self._staged is _Staged.USELESS:
            await self._clear_staging()

    async def _move_staged(self) -> None:
        """Move all staged rows; it can be repeated, as after a kill."""
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
        # Only this step changes what queries read.
        async with self._lock.writing():
            self._is_half_moved = True
            await self._keeper.begin_move(replaced=sum(plan.existing))
            await self._staging.move(plan)
            await self._keeper.end_move()
            self._is_half_moved = False
        self._staged = _Staged.USELESS
        try:
            await self._clear_staging()
        except DriverError as error:
            # The next load clears them, or a move after a kill replaces each request by itself.
            _LOG.warning("the staged rows of a load could not be deleted yet: %s", error)

    async def _clear_staging(self) -> None:
        await self._staging.clear()
        self._staged = _Staged.NOTHING

    async def _query(self, text: str, **parameters: str) -> list[list[Any]]:
        return (await self._driver.query(Statement(text, parameters), UNLIMITED)).rows


class ReadWriteLock:
    """Admits readers together and a writer alone, in the order in which they arrive."""

    def __init__(self) -> None:
        # A writer holds it, and readers pass through it; `asyncio.Lock` is first come, first served.
        self._turnstile = asyncio.Lock()
        self._readers = 0
        self._no_reader = asyncio.Event()
        self._no_reader.set()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Inside the block nobody writes."""
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
        """Inside the block nobody reads and nobody else writes."""
        async with self._turnstile:
            await self._no_reader.wait()
            yield


async def _uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*; a cancel waits for it, because its part on another thread goes on anyway."""
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        # Its error is retrieved, so that asyncio does not log it.
        _ = task.cancelled() or task.exception()
        raise asyncio.CancelledError
    return task.result()


def several_organizations(organizations: Collection[UUID]) -> ConfigurationError:
    """The error for data of several organisations where one is needed."""
    named = ", ".join(sorted(map(str, organizations))[:_MOST_NAMED])
    more = ", …" if len(organizations) > _MOST_NAMED else ""
    return ConfigurationError(
        argument="organization_id",
        problem=f"must be given, because the data holds several organisations ({named}{more})",
        remedy="Name one of them, or give each its own API key",
    )
