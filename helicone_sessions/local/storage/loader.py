"""Loads rows: inserts them into staging tables, and then moves them to the final tables.

Another thread reads the next rows while rows are inserted.
"""

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import IO, Any, Final, Self, TypeVar, cast
from uuid import UUID

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import DriverError, WritableDriver, rows_of
from helicone_sessions.local.drivers.chdb import in_thread
from helicone_sessions.local.private_files import open_private, sync_directory
from helicone_sessions.local.storage.conversion import BlockPart, convert
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, Flags
from helicone_sessions.local.storage.readers import (
    Block,
    Data,
    Placed,
    files_of,
    is_rows,
    read_blocks,
    read_rows,
)
from helicone_sessions.local.storage.rows import Batch, Loaded, RowEncoder
from helicone_sessions.local.storage.table import (
    INCOMING_REQUESTS,
    INCOMING_TAGS,
    REQUESTS_TABLE,
    TAGS_TABLE,
    is_due,
    update_property_columns,
)

_LOG: Final = logging.getLogger(__name__)

# The number of rows that are collected from an asynchronous iterable before another thread encodes them.
_COLLECTED: Final = 5_000
# The number of blocks that ClickHouse reads at once, each on one thread.
_AT_ONCE: Final = 2
# For fewer rows than this, Python is faster than a statement.
_FEW: Final = 64
# The number of rows left to Python that are collected before they are inserted.
_KEPT: Final = 1_000
# The maximum number of ids in memory while existing ids are looked up.
_IDS: Final = 1_000_000
_ID: Final = "organization_id, request_id"
_COLUMNS: Final = f"{', '.join(REQUEST_COLUMNS)}, version, load_flags"
# The fields of `Loaded` that count rows without a session, and rows with each of the `Flags`.
_REMARKABLE: Final = (
    "without_session",
    "without_cost",
    "without_status",
    "without_model",
    "cost_differences",
)
# Up to this number of rows, a delete is a patch that takes effect immediately. Larger deletes rewrite parts.
_PATCH: Final = 50_000

T = TypeVar("T")


@attrs.frozen
class MovePlan:
    """A plan for moving the staged rows.

    Args:
        rows: The number of staged rows.
        distinct: The number of different requests among the staged rows.
        organizations: The organisations of the staged rows.
        remarkable: The numbers of rows with missing or contradictory values. The keys are field names of
            `Loaded`.
        parts: SQL conditions that split the rows into parts. The ids of a part are looked up together.
        existing: For each part, the number of its ids that are already in the final table.
    """

    rows: int = 0
    distinct: int = 0
    organizations: frozenset[UUID] = frozenset()
    remarkable: Mapping[str, int] = attrs.field(factory=dict)
    parts: tuple[str, ...] = ()
    existing: tuple[int, ...] = ()

    @property
    def replaced(self) -> int:
        """The number of rows that replace an existing request, or another row of the same load."""
        return self.rows - self.distinct + sum(self.existing)

    def add_to(self, report: Loaded) -> None:
        """Copy the counts of this plan to the report of the load."""
        report.replaced = self.replaced
        for field, count in self.remarkable.items():
            setattr(report, field, count)


class StagingTables:
    """The tables into which a load inserts its rows first.

    Args:
        driver: The connection.
        database: The database of the staging tables and the final tables.
    """

    def __init__(self, driver: WritableDriver, database: str) -> None:
        self._driver = driver
        self._database = database
        self._requests = f"{database}.{REQUESTS_TABLE}"
        self._tags = f"{database}.{TAGS_TABLE}"
        self._new_requests = f"{database}.{INCOMING_REQUESTS}"
        self._new_tags = f"{database}.{INCOMING_TAGS}"

    async def insert(self, batch: Batch) -> None:
        """Insert a batch of rows. When this returns, the rows are durable."""
        if batch.tags:
            await self._driver.insert(self._new_tags, "\n".join(batch.tags).encode())
        if batch.requests:
            lines = await asyncio.to_thread("\n".join(batch.requests).encode)
            await self._driver.insert(self._new_requests, lines)

    async def insert_part(self, part: BlockPart) -> list[int]:
        """Insert the rows that ClickHouse can read, and return the indexes of the other rows."""
        rows = range(part.start, part.block.count)
        with NamedTemporaryFile(prefix="helicone-rows-") as file:
            statement = await asyncio.to_thread(convert, part, file.name, self._new_requests)
            if statement is None:
                return list(rows)
            try:
                inserted = await self._driver.insert_select(statement)
            except DriverError as error:
                _LOG.debug("a block is left to Python: %s", error)
                return list(rows)
        if inserted == len(rows):
            return []
        found = await rows_of(
            self._driver,
            f"SELECT version - {part.version} FROM {self._new_requests}"
            f" WHERE version >= {part.version + rows.start} AND version < {part.version + rows.stop}",
        )
        return sorted(set(rows).difference(int(index) for (index,) in found))

    async def prepare(self, expected: int) -> None:
        """If there are no requests yet, create columns for the frequent properties of the staged rows.

        Args:
            expected: The expected number of rows in the load.
        """
        try:
            if is_due(0, expected) and not await self._count(f"SELECT count() FROM {self._requests}"):
                await update_property_columns(self._driver, self._database, is_first=True)
        except DriverError as error:
            _LOG.warning("a load takes longer, because frequent properties have no columns: %s", error)

    async def clear(self) -> None:
        """Delete all staged rows."""
        for name in (self._new_requests, self._new_tags):
            # After a move it deletes the empty parts that are left, which the next move would move again.
            await self._driver.execute(f"TRUNCATE TABLE {name}")

    async def plan_move(self) -> MovePlan:
        """Plan the move of the staged rows without changing anything."""
        flags = ", ".join(f"countIf(bitAnd(load_flags, {flag:d}))" for flag in Flags)
        ((rows, organizations, *counts),) = await rows_of(
            self._driver,
            "SELECT count(), groupUniqArray(organization_id),"
            f" countIf(session_id = ''), {flags} FROM {self._new_requests}",
        )
        if not rows:
            return MovePlan()
        is_first = not await self._count(f"SELECT count() FROM {self._requests}")
        buckets = int(rows) // _IDS + 1
        parts = tuple(f"cityHash64(request_id) % {buckets} = {bucket}" for bucket in range(buckets))
        distinct = 0
        existing = []
        for part in parts:
            distinct += await self._count(f"SELECT uniqExact({_ID}) FROM {self._new_requests} WHERE {part}")
            again = f"SELECT uniqExact({_ID}) FROM {self._requests} WHERE {self._is_replaced(part)}"
            existing.append(0 if is_first else await self._count(again))
        return MovePlan(
            int(rows),
            distinct,
            frozenset(map(UUID, organizations)),
            dict(zip(_REMARKABLE, map(int, counts), strict=True)),
            parts,
            tuple(existing),
        )

    async def move(self, plan: MovePlan) -> None:
        """Move the staged rows to the final tables, where they replace existing requests.

        To repeat a failed move, pass a new plan.
        """
        for part, existing in zip(plan.parts, plan.existing, strict=True):
            if existing:
                mode = "lightweight_update" if existing <= _PATCH else "alter_update"
                await self._driver.execute(
                    f"DELETE FROM {self._requests} WHERE {self._is_replaced(part)}"
                    f" SETTINGS lightweight_delete_mode = '{mode}', lightweight_deletes_sync = 2"
                )
        if plan.rows:
            await self._bring(plan)
        if await self._count(f"SELECT count() FROM {self._new_tags}"):
            await self._driver.execute(f"INSERT INTO {self._tags} SELECT * FROM {self._new_tags}")

    async def _bring(self, plan: MovePlan) -> None:
        if plan.distinct == plan.rows:
            # The table has no partitions, so this moves the whole table.
            await self._driver.execute(
                f"ALTER TABLE {self._new_requests} MOVE PARTITION ID 'all' TO TABLE {self._requests}"
            )
            await self._sync_directories()
            return
        copy = f"INSERT INTO {self._requests} ({_COLUMNS}) SELECT {_COLUMNS} FROM {self._new_requests} WHERE "
        for part in plan.parts:
            latest = f"SELECT {_ID}, max(version) FROM {self._new_requests} WHERE {part} GROUP BY {_ID}"
            await self._driver.execute(f"{copy}{part} AND ({_ID}, version) IN ({latest})")

    async def _sync_directories(self) -> None:
        """Make the moved parts durable by syncing the directories that contain them."""
        database, _, table = self._requests.partition(".")
        found = await rows_of(
            self._driver,
            f"SELECT path FROM system.parts WHERE database = '{database}' AND table = '{table}' AND active",
        )
        await asyncio.to_thread(_sync, [Path(path) for (path,) in found])

    def _is_replaced(self, part: str) -> str:
        """Build the condition for requests in the final table that are replaced by staged rows."""
        source = f"{self._new_requests} WHERE {part}"
        # Only the first condition can use the index of ids.
        return (
            f"request_id IN (SELECT request_id FROM {source}) AND {part}"
            f" AND ({_ID}) IN (SELECT {_ID} FROM {source})"
        )

    async def _count(self, text: str) -> int:
        return int((await rows_of(self._driver, text))[0][0])


def _sync(parts: list[Path]) -> None:
    for directory in {*parts, *(part.parent for part in parts)}:
        # If a merge has replaced a part, the new part is already durable.
        with suppress(FileNotFoundError):
            sync_directory(directory)


class Progress(int):
    """The number of rows loaded so far.

    Args:
        rows: The number of rows.
        fraction: The fraction of the file that is loaded, from 0 to 1; None if unknown.

    >>> Progress(5, fraction=0.5), Progress(5, fraction=0.5).fraction
    (5, 0.5)
    """

    fraction: float | None

    def __new__(cls, rows: int, *, fraction: float | None = None) -> Self:
        """Create a progress value."""
        progress = super().__new__(cls, rows)
        progress.fraction = fraction
        return progress


class Loader:
    """Loads the rows of *data* into the staging tables.

    ClickHouse reads as many rows of a file as it can. `RowEncoder` reads all other rows. While one part of
    the data is inserted, the next part is read.

    Args:
        encoder: The encoder that parses the rows.
        data: The source of the rows.
        staging: The staging tables.
        rejects: The rejects file.
        on_progress: A callback that receives the `Progress` each time more rows are durable.

    Raises:
        ConfigurationError: The data has an unsupported type.
    """

    def __init__(
        self,
        encoder: RowEncoder,
        data: Data,
        staging: StagingTables,
        rejects: "RejectsFile",
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._encoder = encoder
        self._staging = staging
        self._rejects = rejects
        self._on_progress = on_progress
        self._live: AsyncIterator[Any] | None = None
        self._place = 0
        self._parts: Iterator[Batch | BlockPart]
        if not is_rows(data):
            self._parts = self._parts_of(read_blocks(data, encoder.options))
        elif isinstance(data, AsyncIterable):
            self._live = aiter(data)
            self._parts = iter(())
        else:
            self._parts = self._batches_of(read_rows(cast("Iterable[Any]", data)))
        self._waiting: deque[tuple[BlockPart, asyncio.Task[list[int]]]] = deque()
        # The rows that ClickHouse has left to Python. Rows from several blocks are inserted together.
        self._left: list[Placed] = []
        self._rows = 0
        self._fraction: float | None = None
        self._is_prepared = False

    async def run(self) -> None:
        """Load all rows. Errors raised by the iterable of rows propagate.

        Raises:
            ConfigurationError: A row or a file cannot be read.
            DriverError: ClickHouse rejected the rows.
        """
        try:
            async with aclosing(self._read_ahead()) as parts:
                async for part in parts:
                    await self._take(part)
            await self._finish_all()
        finally:
            await uncancelled(asyncio.gather(*(task for _, task in self._waiting), return_exceptions=True))

    async def _read_ahead(self) -> AsyncGenerator[Batch | BlockPart, None]:
        following = asyncio.create_task(self._next())
        try:
            while (part := await self._read(following)) is not None:
                following = asyncio.create_task(self._next())
                yield part
        except BaseException:
            self._encoder.stop()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            raise

    async def _read(self, following: asyncio.Task[Batch | BlockPart | None]) -> Batch | BlockPart | None:
        try:
            return await following
        except ConfigurationError:
            # If an earlier row has an error, that error is raised first.
            await self._finish_all()
            raise

    async def _next(self) -> Batch | BlockPart | None:
        # Reading is CPU-bound, so it would block the event loop.
        part = await _on_own_thread(lambda: next(self._parts, None))
        if part is None and self._live is not None and (rows := await self._collected(self._live)):
            self._parts = self._batches_of(iter(rows))
            return await self._next()
        return part

    async def _collected(self, live: AsyncIterator[Any]) -> list[Placed]:
        rows: list[Placed] = []
        async for row in live:
            rows.append(Placed(f"row {self._place}", row))
            self._place += 1
            if len(rows) == _COLLECTED:
                break
        return rows

    def _batches_of(self, rows: Iterator[Placed]) -> Iterator[Batch]:
        while (batch := self._encoder.next_batch(rows)) is not None:
            yield batch

    def _parts_of(self, blocks: Iterator[Block]) -> Iterator[Batch | BlockPart]:
        held: list[BlockPart] = []

        def rows_for_python() -> Iterator[Placed]:
            for block in blocks:
                self._encoder.note_columns(block.names)
                if block.is_for_python or block.count < _FEW:
                    yield from block.rows()
                    continue
                start = 0
                # The first row determines the organisation.
                while self._encoder.allowed is None and start < block.count:
                    yield from block.rows([start])
                    start += 1
                held.append(
                    BlockPart(
                        block,
                        start,
                        self._encoder.reserve(block.count),
                        frozenset(self._encoder.allowed or ()),
                        self._encoder.options,
                        self._encoder.names,
                    )
                )
                return

        while True:
            yield from self._batches_of(rows_for_python())
            if not held:
                return
            yield held.pop()

    async def _take(self, part: Batch | BlockPart) -> None:
        if isinstance(part, Batch):
            # This keeps the rejects in the same order as the rows.
            await self._finish_all()
            await self._insert(part)
            return
        self._waiting.append((part, asyncio.create_task(self._staging.insert_part(part))))
        if len(self._waiting) > _AT_ONCE:
            await self._finish_first()

    async def _finish_all(self) -> None:
        while self._waiting:
            await self._finish_first()
        await self._insert_left()

    async def _finish_first(self) -> None:
        """Wait until ClickHouse has read the first block, and let Python read the other rows of the block."""
        part, task = self._waiting[0]
        left = await uncancelled(task)
        self._waiting.popleft()
        done = part.block.count - part.start - len(left)
        self._encoder.report.rows += done
        self._rows += done
        self._fraction = part.block.fraction
        if left:
            self._left += await _on_own_thread(lambda: _rows_left(part, left))
        if done:
            self._tell()
        if self._fraction and not self._is_prepared:
            self._is_prepared = True
            await self._staging.prepare(round(self._rows / self._fraction))
        if len(self._left) >= _KEPT:
            await self._insert_left()

    async def _insert_left(self) -> None:
        rows = iter(self._left)
        self._left = []
        while (batch := await _on_own_thread(lambda: self._encoder.next_batch(rows))) is not None:
            await self._insert(batch)

    async def _insert(self, batch: Batch) -> None:
        await asyncio.to_thread(self._rejects.write, batch.rejects)
        await uncancelled(self._staging.insert(batch))
        # The number is counted here, because the encoder has already read more rows.
        self._rows += len(batch.requests)
        self._tell()

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(self._rows, fraction=self._fraction))


def _rows_left(part: BlockPart, indexes: list[int]) -> list[Placed]:
    rows = part.block.rows(indexes)
    return [attrs.evolve(placed, version=part.version + placed.index) for placed in rows]


async def _on_own_thread(work: Callable[[], T]) -> T:
    """Run *work* on a daemon thread. If the user's iterable blocks forever, the process can still exit."""
    return await asyncio.wrap_future(in_thread(partial(copy_context().run, work), "helicone-rows"))


async def uncancelled(work: Awaitable[T]) -> T:
    """Await *work*, and return its result.

    If the caller is cancelled, this still waits until *work* has ended, because its thread cannot be stopped.
    """
    task = asyncio.ensure_future(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        # The error is retrieved, so that asyncio does not log it.
        _ = task.cancelled() or task.exception()
        raise asyncio.CancelledError
    return task.result()


class RejectsFile:
    """The file that collects rejected rows. If the path is None, nothing is written.

    The file is opened when the first row is rejected. If no row is rejected, an existing file is unchanged.

    Args:
        path: The file. Its content is replaced.
        data: The data of the load. The rejects file must not be one of the data files.

    Raises:
        ConfigurationError: The file cannot be written, or it is one of the data files.
    """

    def __init__(self, path: str | os.PathLike[str] | None, data: Data) -> None:
        self._path = None if path is None else Path(path)
        self._data = data
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._refuse_early(self._path)
            except OSError as error:
                raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # After a write error, closing fails again, because it flushes the file.
            with suppress(OSError) if error else nullcontext():
                self._file.close()

    def write(self, lines: list[str]) -> None:
        """Write and flush lines, so that they survive if the process is killed.

        Raises:
            ConfigurationError: The lines cannot be written.
        """
        if self._path is not None and lines:
            try:
                if self._file is None:
                    descriptor = open_private(self._path, os.O_WRONLY | os.O_TRUNC)
                    self._file = os.fdopen(descriptor, "w", encoding="utf-8")
                self._file.writelines(f"{line}\n" for line in lines)
                self._file.flush()
            except OSError as error:
                raise self._refused(error) from error

    def _refuse_early(self, path: Path) -> None:
        """Raise an error before the load starts if the file cannot be written."""
        if path.exists() and any(file.exists() and path.samefile(file) for file in files_of(self._data)):
            raise ConfigurationError(argument="rejects", problem=f"is the data itself ({path})")
        if os.path.lexists(path):
            # Opening the file for writing does not change it.
            os.close(open_private(path, os.O_WRONLY))
        elif not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(path.parent))
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))

    def _refused(self, error: OSError) -> ConfigurationError:
        reason = error.strerror or str(error)
        return ConfigurationError(
            argument="rejects",
            problem=f"cannot be written to {self._path}: {reason}",
            remedy="Name a file in a writable directory",
        )
