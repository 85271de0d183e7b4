"""The tables that a load comes into, and the way from there to those that are asked."""

import asyncio
from typing import Any, Final

import attrs

from helicone_sessions.local.drivers import Limits, Statement, WritableBackend
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
class Move:
    """What is to be done with the rows that have come in.

    Args:
        rows: How many requests there are.
        distinct: How many of them are not the same request.
        parts: The conditions that cut them into parts whose ids are looked up together.
        there: How many requests of each part are among those that are asked already.
    """

    rows: int = 0
    distinct: int = 0
    parts: tuple[str, ...] = ()
    there: tuple[int, ...] = ()

    @property
    def replaced(self) -> int:
        """How many rows take the place of a request that is there already, or come twice."""
        return self.rows - self.distinct + sum(self.there)


class Incoming:
    """What has come in.

    Args:
        backend: Where the tables are.
        database: The database of all tables.
    """

    def __init__(self, backend: WritableBackend, database: str) -> None:
        self._backend = backend
        self._requests = f"{database}.{REQUESTS_TABLE}"
        self._tags = f"{database}.{TAGS_TABLE}"
        self._new_requests = f"{database}.{INCOMING_REQUESTS}"
        self._new_tags = f"{database}.{INCOMING_TAGS}"

    async def bring(self, batch: Batch) -> None:
        """Take in rows; once it returns they are kept."""
        if batch.tags:
            await self._backend.insert(self._new_tags, "\n".join(batch.tags).encode())
        if batch.requests:
            lines = await asyncio.to_thread("\n".join(batch.requests).encode)
            await self._backend.insert(self._new_requests, lines)

    async def take_back(self) -> None:
        """Forget what has come in."""
        for name in (self._new_requests, self._new_tags):
            await self._backend.execute(f"TRUNCATE TABLE {name}")

    async def planned(self) -> Move:
        """What a move would do; it changes nothing."""
        rows = await self._count(f"SELECT count() FROM {self._new_requests}")
        if not rows:
            return Move()
        is_first = not await self._count(f"SELECT count() FROM {self._requests}")
        buckets = rows // _IDS + 1
        parts = tuple(f"cityHash64(request_id) % {buckets} = {bucket}" for bucket in range(buckets))
        distinct = 0
        there = []
        for part in parts:
            distinct += await self._count(f"SELECT uniqExact({_ID}) FROM {self._new_requests} WHERE {part}")
            again = f"SELECT uniqExact({_ID}) FROM {self._requests} WHERE {self._comes_again(part)}"
            there.append(0 if is_first else await self._count(again))
        return Move(rows, distinct, parts, tuple(there))

    async def move(self, plan: Move) -> None:
        """Put it in the place of what it replaces. All of it can be done again, with a new plan.

        Args:
            plan: What `planned` says of what has come in.
        """
        for part, there in zip(plan.parts, plan.there, strict=True):
            if there:
                mode = "lightweight_update" if there <= _PATCH else "alter_update"
                await self._backend.execute(
                    f"DELETE FROM {self._requests} WHERE {self._comes_again(part)}"
                    f" SETTINGS lightweight_delete_mode = '{mode}', lightweight_deletes_sync = 2"
                )
        if plan.rows:
            await self._copy(plan)
        if await self._count(f"SELECT count() FROM {self._new_tags}"):
            await self._backend.execute(f"INSERT INTO {self._tags} SELECT * FROM {self._new_tags}")

    async def _copy(self, plan: Move) -> None:
        # ClickHouse counts the months of an insert otherwise, and there may be a hundred at most.
        settings = " SETTINGS max_partitions_per_insert_block = 0"
        copy = f"INSERT INTO {self._requests} ({_COLUMNS}) SELECT {_COLUMNS} FROM {self._new_requests} WHERE "
        if plan.distinct == plan.rows:
            await self._backend.execute(f"{copy}1{settings}")
            return
        for part in plan.parts:
            latest = f"SELECT {_ID}, max(version) FROM {self._new_requests} WHERE {part} GROUP BY {_ID}"
            await self._backend.execute(f"{copy}{part} AND ({_ID}, version) IN ({latest}){settings}")

    def _comes_again(self, part: str) -> str:
        """The condition on requests that come again."""
        source = f"{self._new_requests} WHERE {part}"
        # The first of the conditions is the one that the index of ids knows.
        return (
            f"request_id IN (SELECT request_id FROM {source}) AND {part}"
            f" AND ({_ID}) IN (SELECT {_ID} FROM {source})"
        )

    async def _count(self, text: str) -> int:
        found: list[list[Any]] = (await self._backend.query(Statement(text), UNLIMITED)).rows
        return int(found[0][0])
