"""The staging tables of a load, and the move of its rows from there to the tables that queries read."""

import asyncio
from typing import Any, Final

import attrs

from helicone_sessions.local.drivers.driver import Limits, Statement, WritableDriver
from helicone_sessions.local.storage.rows import Batch
from helicone_sessions.local.storage.table import (
    INCOMING_REQUESTS,
    INCOMING_TAGS,
    REQUEST_COLUMNS,
    REQUESTS_TABLE,
    TAGS_TABLE,
)

UNLIMITED: Final = Limits(seconds=None)
# How many ids are held in memory while it is looked up which of them are there already.
_IDS: Final = 1_000_000
_ID: Final = "organization_id, request_id"
_COLUMNS: Final = f"{', '.join(REQUEST_COLUMNS)}, version"
# Up to so many rows a delete is a patch, which is there at once; for more, the parts are written anew.
_PATCH: Final = 50_000


@attrs.frozen
class MovePlan:
    """How to move the staged rows.

    Args:
        rows: The number of staged rows.
        distinct: The number of different requests among them.
        parts: Conditions that split them into parts whose ids are looked up together.
        existing: For each part, how many of its requests are in the final table already.
    """

    rows: int = 0
    distinct: int = 0
    parts: tuple[str, ...] = ()
    existing: tuple[int, ...] = ()

    @property
    def replaced(self) -> int:
        """How many rows replace an existing request, or one of the same load."""
        return self.rows - self.distinct + sum(self.existing)


class StagingTables:
    """The tables that a load fills first.

    Args:
        driver: The connection.
        database: The database of all tables.
    """

    def __init__(self, driver: WritableDriver, database: str) -> None:
        self._driver = driver
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

    async def clear(self) -> None:
        """Delete all staged rows."""
        for name in (self._new_requests, self._new_tags):
            await self._driver.execute(f"TRUNCATE TABLE {name}")

    async def plan_move(self) -> MovePlan:
        """Plan the move of the staged rows; changes nothing."""
        rows = await self._count(f"SELECT count() FROM {self._new_requests}")
        if not rows:
            return MovePlan()
        is_first = not await self._count(f"SELECT count() FROM {self._requests}")
        buckets = rows // _IDS + 1
        parts = tuple(f"cityHash64(request_id) % {buckets} = {bucket}" for bucket in range(buckets))
        distinct = 0
        existing = []
        for part in parts:
            distinct += await self._count(f"SELECT uniqExact({_ID}) FROM {self._new_requests} WHERE {part}")
            again = f"SELECT uniqExact({_ID}) FROM {self._requests} WHERE {self._is_replaced(part)}"
            existing.append(0 if is_first else await self._count(again))
        return MovePlan(rows, distinct, parts, tuple(existing))

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
            await self._copy(plan)
        if await self._count(f"SELECT count() FROM {self._new_tags}"):
            await self._driver.execute(f"INSERT INTO {self._tags} SELECT * FROM {self._new_tags}")

    async def _copy(self, plan: MovePlan) -> None:
        # ClickHouse counts the months of an insert otherwise, and there may be a hundred at most.
        settings = " SETTINGS max_partitions_per_insert_block = 0"
        copy = f"INSERT INTO {self._requests} ({_COLUMNS}) SELECT {_COLUMNS} FROM {self._new_requests} WHERE "
        if plan.distinct == plan.rows:
            await self._driver.execute(f"{copy}1{settings}")
            return
        for part in plan.parts:
            latest = f"SELECT {_ID}, max(version) FROM {self._new_requests} WHERE {part} GROUP BY {_ID}"
            await self._driver.execute(f"{copy}{part} AND ({_ID}, version) IN ({latest}){settings}")

    def _is_replaced(self, part: str) -> str:
        """The condition on final requests that the staged rows replace."""
        source = f"{self._new_requests} WHERE {part}"
        # The first of the conditions is the one that the index of ids knows.
        return (
            f"request_id IN (SELECT request_id FROM {source}) AND {part}"
            f" AND ({_ID}) IN (SELECT {_ID} FROM {source})"
        )

    async def _count(self, text: str) -> int:
        found: list[list[Any]] = (await self._driver.query(Statement(text), UNLIMITED)).rows
        return int(found[0][0])
