"""The staging tables of a load, and the move of its rows from there to the tables that queries read."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from uuid import UUID

import attrs

from helicone_sessions.local.drivers import DriverError, WritableDriver, rows_of
from helicone_sessions.local.private_files import sync_directory
from helicone_sessions.local.storage.conversion import BlockPart, convert
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, Flags
from helicone_sessions.local.storage.rows import Batch, Loaded
from helicone_sessions.local.storage.table import (
    INCOMING_REQUESTS,
    INCOMING_TAGS,
    REQUESTS_TABLE,
    TAGS_TABLE,
    is_due,
    update_property_columns,
)

_LOG: Final = logging.getLogger(__name__)

# The number of ids in memory while existing ones are looked up.
_IDS: Final = 1_000_000
_ID: Final = "organization_id, request_id"
_COLUMNS: Final = f"{', '.join(REQUEST_COLUMNS)}, version, load_flags"
# Rows without a session, and rows with each of the `Flags`.
_REMARKABLE: Final = (
    "without_session",
    "without_cost",
    "without_status",
    "without_model",
    "cost_differences",
)
# Up to this number of rows, a delete is a patch, which takes effect at once; above it, parts are rewritten.
_PATCH: Final = 50_000


@attrs.frozen
class MovePlan:
    """How to move the staged rows.

    Args:
        rows: The number of staged rows.
        distinct: The number of different requests among them.
        organizations: Their organisations.
        remarkable: The numbers of rows with missing or contradictory values, by the field of `Loaded`.
        parts: Conditions that split them into parts whose ids are looked up together.
        existing: For each part, how many of its requests are in the final table already.
    """

    rows: int = 0
    distinct: int = 0
    organizations: frozenset[UUID] = frozenset()
    remarkable: Mapping[str, int] = attrs.field(factory=dict)
    parts: tuple[str, ...] = ()
    existing: tuple[int, ...] = ()

    @property
    def replaced(self) -> int:
        """How many rows replace an existing request, or one of the same load."""
        return self.rows - self.distinct + sum(self.existing)

    def add_to(self, report: Loaded) -> None:
        """Add the counts of the staged rows to the report of their load."""
        report.replaced = self.replaced
        for field, count in self.remarkable.items():
            setattr(report, field, count)


class StagingTables:
    """The tables that a load first inserts its rows into.

    Args:
        driver: The connection.
        database: The database of all tables.
    """

    def __init__(self, driver: WritableDriver, database: str) -> None:
        self._driver = driver
        self._database = database
        self._requests = f"{database}.{REQUESTS_TABLE}"
        self._tags = f"{database}.{TAGS_TABLE}"
        self._new_requests = f"{database}.{INCOMING_REQUESTS}"
        self._new_tags = f"{database}.{INCOMING_TAGS}"

    async def insert(self, batch: Batch) -> None:
        """Insert rows; they are durable when it returns."""
        if batch.tags:
            await self._driver.insert(self._new_tags, "\n".join(batch.tags).encode())
        if batch.requests:
            lines = await asyncio.to_thread("\n".join(batch.requests).encode)
            await self._driver.insert(self._new_requests, lines)

    async def insert_part(self, part: BlockPart) -> list[int]:
        """Insert the rows of a part that ClickHouse can read; return the indexes of the other rows."""
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
        """Make columns of frequent properties, if a first load of *expected* rows has staged some of them."""
        try:
            if is_due(0, expected) and not await self._count(f"SELECT count() FROM {self._requests}"):
                await update_property_columns(self._driver, self._database, is_first=True)
        except DriverError as error:
            _LOG.warning("a load takes longer, because frequent properties have no columns: %s", error)

    async def clear(self) -> None:
        """Delete all staged rows."""
        for name in (self._new_requests, self._new_tags):
            await self._driver.execute(f"TRUNCATE TABLE {name}")

    async def plan_move(self) -> MovePlan:
        """Plan the move of the staged rows; changes nothing."""
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
        """Move the staged rows, replacing existing requests; can be repeated with a new plan."""
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
            # There are no partitions, so this is the whole table.
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
        """Make the moved parts durable: the names of their directories may not be on the disk yet."""
        database, _, table = self._requests.partition(".")
        found = await rows_of(
            self._driver,
            f"SELECT path FROM system.parts WHERE database = '{database}' AND table = '{table}' AND active",
        )
        await asyncio.to_thread(_sync, [Path(path) for (path,) in found])

    def _is_replaced(self, part: str) -> str:
        """The condition on final requests that the staged rows replace."""
        source = f"{self._new_requests} WHERE {part}"
        # Only the first condition uses the index of ids.
        return (
            f"request_id IN (SELECT request_id FROM {source}) AND {part}"
            f" AND ({_ID}) IN (SELECT {_ID} FROM {source})"
        )

    async def _count(self, text: str) -> int:
        return int((await rows_of(self._driver, text))[0][0])


def _sync(parts: list[Path]) -> None:
    for directory in {*parts, *(part.parent for part in parts)}:
        # If a merge has replaced a part, the new part is durable already.
        with suppress(FileNotFoundError):
            sync_directory(directory)
