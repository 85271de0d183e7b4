"""The tables of one's own: made, filled, and dropped again if they are in memory.

A load comes into tables of its own first and is moved to the requests when it is done, so that one that is
refused leaves nothing and changes nothing. What a killed process had brought in by then is moved by the next
`Store.open`: every batch that was told to ``on_progress`` is kept. Whatever a load replaces is removed
before the move, so that no query has to look for requests that are there twice.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.backends import Limits, Statement, WritableBackend
from helicone_sessions.local.files import Data
from helicone_sessions.local.intake import Intake, Rejects
from helicone_sessions.local.rows import DEFAULT_ORGANIZATION, Batch, Load, Loaded
from helicone_sessions.local.table import (
    INCOMING_REQUESTS,
    INCOMING_TAGS,
    LAYOUT_MARK,
    OWN_TABLES,
    REQUEST_COLUMNS,
    REQUESTS_TABLE,
    TAGS_TABLE,
    Tables,
    create_statements,
)

T = TypeVar("T")

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_UNLIMITED: Final = Limits(seconds=None)
# How many ids are held in memory while it is looked up which of them are there already.
_IDS: Final = 1_000_000
_ID: Final = "organization_id, request_id"
_COLUMNS: Final = f"{', '.join(REQUEST_COLUMNS)}, version"
# Up to so many rows a delete is a patch, which is there at once; for more, the parts are written anew.
_PATCH: Final = 50_000


class Store:
    """Tables in a ClickHouse of one's own.

    Args:
        backend: Where they are.
        database: The name of a database that is kept; without it an own one is made, and dropped again by
            `aclose`.

    Raises:
        ConfigurationError: The name is not made of letters, digits and underscores.
    """

    def __init__(self, backend: WritableBackend, database: str | None = None) -> None:
        if database is not None and not _NAME.fullmatch(database):
            raise ConfigurationError(
                f"a database has a name of letters, digits and underscores, not {database!r}"
            )
        self._backend = backend
        self._is_kept = database is not None
        self._database = database or f"helicone_{uuid4().hex}"
        self._version = 0
        # What an earlier load left undone because of an error.
        self._owed: Callable[[], Awaitable[object]] | None = None
        # One load at a time: the next one may replace what this one brings.
        self._turn = asyncio.Lock()
        self.tables = Tables.own(self._database)
        self.organizations: frozenset[UUID] = frozenset()

    @property
    def organization_id(self) -> UUID:
        """The organisation of the requests, where there is no more than one; a fixed one without any.

        Raises:
            ConfigurationError: There are several.
        """
        if len(self.organizations) > 1:
            raise ConfigurationError(f"the data is of {len(self.organizations)} organisations: name one")
        return next(iter(self.organizations), DEFAULT_ORGANIZATION)

    async def open(self) -> None:
        """Make the tables that are not there, and finish a load that a killed process began.

        Raises:
            ConfigurationError: The tables there were made by another version of the layout.
        """
        await self._check_layout()
        for statement in create_statements(self._database):
            await self._backend.execute(statement)
        await self._settle()
        found = await self._query(
            f"SELECT organization_id, max(version) FROM {self._requests} GROUP BY organization_id"
        )
        self.organizations = frozenset(UUID(each) for each, _ in found)
        self._version = max((int(version) for _, version in found), default=0) + 1

    async def load(
        self,
        data: Data,
        *,
        rejects: str | os.PathLike[str] | None = None,
        on_progress: Callable[[int], None] | None = None,
        organizations: Collection[UUID] | None = None,
    ) -> Loaded:
        """Take in rows or a file.

        A row with the id of a request that is there replaces it. A load that ends with an error keeps
        nothing of what it brought; if the process dies, what was told to *on_progress* is kept.

        Args:
            data: The rows: a path, or an iterable of mappings, which may be asynchronous. Without an id a
                row is known by its place, its content and the name of its file.
            rejects: A file for the rows that cannot be read, one JSON object a line; without it such a
                row refuses the load.
            on_progress: Is told how many rows were taken in so far, each time that more are kept.
            organizations: Those that the rows may name. Without it the data is of one: of that of the
                requests which are there already, or else of the one that the first row names.

        Raises:
            ConfigurationError: A row or the file cannot be read; the message names it. Or the file of
                rejects cannot be written.
            BackendError: ClickHouse refused the rows.
        """
        async with self._turn:
            await self._pay()
            allowed = organizations if organizations is not None else self.organizations or None
            load = Load(allowed, first_version=self._version, with_rejects=rejects is not None)
            self._owed = self._take_back
            try:
                await self._bring_all(load, data, rejects, on_progress)
                # From here on the load is whole: it is finished, whatever happens.
                self._owed = self._settle
                load.report.replaced = load.report.rows - await _to_its_end(self._settle())
                self._owed = None
            except BaseException:
                if self._owed == self._take_back:
                    await _to_its_end(self._pay())
                raise
            self._version += load.report.rows
            self.organizations |= {UUID(each) for each in load.organizations}
            return load.report

    async def add(
        self, rows: Iterable[Mapping[str, Any]], *, organizations: Collection[UUID] | None = None
    ) -> Loaded:
        """Take in some rows that are in memory, all or none.

        Args:
            rows: The rows.
            organizations: As of `load`.

        Raises:
            ConfigurationError: A row cannot be read; the message names it.
            BackendError: ClickHouse refused the rows.
        """
        return await self.load(rows, organizations=organizations)

    async def aclose(self) -> None:
        """Drop the tables, if they are not to be kept."""
        if not self._is_kept:
            await self._backend.execute(f"DROP DATABASE IF EXISTS {self._database}")

    async def _check_layout(self) -> None:
        names = ", ".join(f"'{name}'" for name in OWN_TABLES)
        text = f"SELECT comment FROM system.tables WHERE database = {{name:String}} AND name IN ({names})"
        for (comment,) in await self._query(text, name=self._database):
            if comment != LAYOUT_MARK:
                raise ConfigurationError(
                    f"the tables of the database {self._database!r} were made by another version of"
                    f" helicone-sessions ({comment or 'they do not say which'}; due is {LAYOUT_MARK!r}): load"
                    " the data again into a new path, or use the version that made them"
                )

    async def _bring_all(
        self,
        load: Load,
        data: Data,
        rejects: str | os.PathLike[str] | None,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        rows = 0
        with Rejects(rejects, data) as rejected:
            async with aclosing(Intake(load, data).batches()) as batches:
                async for batch in batches:
                    await asyncio.to_thread(rejected.write, batch.rejects)
                    await _to_its_end(self._bring(batch))
                    # The load has read further by now.
                    rows += len(batch.requests)
                    if on_progress is not None:
                        on_progress(rows)

    async def _bring(self, batch: Batch) -> None:
        if batch.tags:
            await self._backend.insert(f"{self._database}.{INCOMING_TAGS}", "\n".join(batch.tags).encode())
        if batch.requests:
            lines = await asyncio.to_thread("\n".join(batch.requests).encode)
            await self._backend.insert(self._incoming, lines)

    async def _pay(self) -> None:
        if self._owed is not None:
            await self._owed()
            self._owed = None

    async def _take_back(self) -> None:
        for name in (INCOMING_REQUESTS, INCOMING_TAGS):
            await self._backend.execute(f"TRUNCATE TABLE {self._database}.{name}")

    async def _settle(self) -> int:
        """Move what has come in to where it is asked for; how many requests were not there before.

        All of it can be done again, as it is after a kill.
        """
        added = 0
        if rows := await self._count(f"SELECT count() FROM {self._incoming}"):
            added = await self._move(rows)
        tags = f"{self._database}.{INCOMING_TAGS}"
        if await self._count(f"SELECT count() FROM {tags}"):
            await self._backend.execute(f"INSERT INTO {self._database}.{TAGS_TABLE} SELECT * FROM {tags}")
        await self._take_back()
        return added

    async def _move(self, rows: int) -> int:
        """Move the requests, in the place of those that are there; how many of them are new."""
        is_first = not await self._count(f"SELECT count() FROM {self._requests}")
        buckets = rows // _IDS + 1
        parts = [f"cityHash64(request_id) % {buckets} = {bucket}" for bucket in range(buckets)]
        total = there = 0
        for part in parts:
            source = f"{self._incoming} WHERE {part}"
            total += await self._count(f"SELECT uniqExact({_ID}) FROM {source}")
            there += 0 if is_first else await self._remove(source, part)
        # ClickHouse counts the months of an insert otherwise, and there may be a hundred at most.
        copy = f"INSERT INTO {self._requests} ({_COLUMNS}) SELECT {_COLUMNS} FROM {self._incoming} WHERE "
        settings = " SETTINGS max_partitions_per_insert_block = 0"
        if total == rows:
            await self._backend.execute(f"{copy}1{settings}")
        else:
            for part in parts:
                latest = f"SELECT {_ID}, max(version) FROM {self._incoming} WHERE {part} GROUP BY {_ID}"
                await self._backend.execute(f"{copy}{part} AND ({_ID}, version) IN ({latest}){settings}")
        return total - there

    async def _remove(self, source: str, part: str) -> int:
        """Remove the requests that come again from *source*; how many there were."""
        # The first of the conditions is the one that the index of ids knows.
        comes_again = (
            f"request_id IN (SELECT request_id FROM {source}) AND {part}"
            f" AND ({_ID}) IN (SELECT {_ID} FROM {source})"
        )
        there = await self._count(f"SELECT uniqExact({_ID}) FROM {self._requests} WHERE {comes_again}")
        if there:
            mode = "lightweight_update" if there <= _PATCH else "alter_update"
            await self._backend.execute(
                f"DELETE FROM {self._requests} WHERE {comes_again}"
                f" SETTINGS lightweight_delete_mode = '{mode}', lightweight_deletes_sync = 2"
            )
        return there

    @property
    def _requests(self) -> str:
        return f"{self._database}.{REQUESTS_TABLE}"

    @property
    def _incoming(self) -> str:
        return f"{self._database}.{INCOMING_REQUESTS}"

    async def _query(self, text: str, **parameters: str) -> list[list[Any]]:
        return (await self._backend.query(Statement(text, parameters), _UNLIMITED)).rows

    async def _count(self, text: str) -> int:
        return int((await self._query(text))[0][0])


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*, which a cancel does not cut short: what it began on another thread goes on."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
