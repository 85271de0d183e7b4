"""The staging tables of a load, and the move of its rows from there to the tables that queries read."""

import asyncio
import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.local.drivers.driver import DriverError, Limits, Statement, WritableDriver
from helicone_sessions.local.storage.conversion import convert
from helicone_sessions.local.storage.fields import Flags, RowOptions
from helicone_sessions.local.storage.profile import is_due, update_property_columns
from helicone_sessions.local.storage.readers import Block
from helicone_sessions.local.storage.rows import Batch, Loaded
from helicone_sessions.local.storage.table import (
    INCOMING_REQUESTS,
    INCOMING_TAGS,
    REQUEST_COLUMNS,
    REQUESTS_TABLE,
    TAGS_TABLE,
)

_LOG: Final = logging.getLogger(__name__)

UNLIMITED: Final = Limits(seconds=None)
# The number of ids in memory while existing ones are looked up.
_IDS: Final = 1_000_000
_ID: Final = "organization_id, request_id"
_COLUMNS: Final = f"{', '.join(REQUEST_COLUMNS)}, version, load_flags"
# Up to this number of rows, a delete is a patch, which takes effect at once; above it, parts are rewritten.
_PATCH: Final = 50_000


@attrs.frozen
class MovePlan:
    """How to move the staged rows.

    Args:
        rows: The number of staged rows.
        distinct: The number of different requests among them.
        organizations: Their organisations.
        without_session: How many of them have no session id.
        without_cost: How many have no cost.
        without_status: How many have no status.
        without_model: How many have no model.
        cost_differences: How many have two costs that differ.
        parts: Conditions that split them into parts whose ids are looked up together.
        existing: For each part, how many of its requests are in the final table already.
    """

    rows: int = 0
    organizations: frozenset[UUID] = frozenset()
    without_session: int = 0
    without_cost: int = 0
    without_status: int = 0
    without_model: int = 0
    cost_differences: int = 0
    distinct: int = 0
    parts: tuple[str, ...] = ()
    existing: tuple[int, ...] = ()

    @property
    def replaced(self) -> int:
        """How many rows replace an existing request, or one of the same load."""
        return self.rows - self.distinct + sum(self.existing)

    def add_to(self, report: Loaded) -> None:
        """Add the counts of the staged rows to the report of their load."""
        report.replaced = self.replaced
        report.without_session = self.without_session
        report.without_cost = self.without_cost
        report.without_status = self.without_status
        report.without_model = self.without_model
        report.cost_differences = self.cost_differences


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

    async def insert_block(
        self,
        block: Block,
        *,
        start: int,
        version: int,
        organizations: Collection[str],
        options: RowOptions,
        more_names: Collection[str],
    ) -> list[int]:
        """Insert the rows of a block from index *start* on that ClickHouse can read.

        Args:
            block: The block.
            start: The index of the first row.
            version: The version of the row at index 0.
            organizations: The organisations that rows may name.
            options: How to read the values.
            more_names: Further columns that the rows may have.

        Returns:
            The indexes of the rows that are left to Python.
        """
        rows = range(start, block.count)
        with NamedTemporaryFile(prefix="helicone-rows-") as file:
            statement = await asyncio.to_thread(
                convert,
                block,
                path=file.name,
                table=self._new_requests,
                start=start,
                version=version,
                organizations=organizations,
                options=options,
                more_names=more_names,
            )
            if statement is None:
                return list(rows)
            try:
                inserted = await self._driver.insert_select(statement)
            except DriverError as error:
                _LOG.debug("a block is left to Python: %s", error)
                return list(rows)
        if inserted == len(rows):
            return []
        found = await self._rows(
            f"SELECT version - {version} FROM {self._new_requests}"
            f" WHERE version >= {version + start} AND version < {version + block.count}"
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
            # After a move it deletes the empty parts that are left, which the next move would move again.
            await self._driver.execute(f"TRUNCATE TABLE {name}")

    async def plan_move(self) -> MovePlan:
        """Plan the move of the staged rows; changes nothing."""
        flags = ", ".join(f"countIf(bitAnd(load_flags, {flag:d}))" for flag in Flags)
        ((rows, organizations, no_session, no_cost, no_status, no_model, differ),) = await self._rows(
            "SELECT count(), groupUniqArray(organization_id),"
            f" countIf(session_id = ''), {flags} FROM {self._new_requests}"
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
            frozenset(map(UUID, organizations)),
            int(no_session),
            int(no_cost),
            int(no_status),
            int(no_model),
            int(differ),
            distinct,
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
        found = await self._rows(
            f"SELECT path FROM system.parts WHERE database = '{database}' AND table = '{table}' AND active"
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
        return int((await self._rows(text))[0][0])

    async def _rows(self, text: str) -> list[list[Any]]:
        return (await self._driver.query(Statement(text), UNLIMITED)).rows


def _sync(parts: list[Path]) -> None:
    for directory in {*parts, *(part.parent for part in parts)}:
        # If a merge has replaced a part, the new part is durable already.
        with suppress(FileNotFoundError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
