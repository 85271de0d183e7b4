"""The tables of one's own: made, filled, and dropped again if they are in memory.

A load comes into tables of its own first and is moved to the requests when it is done, so that one that is
refused leaves nothing and changes nothing. What a killed process had brought in by then is moved by the next
`Store.open`: every batch that was told to ``on_progress`` is kept. Whatever a load replaces is removed
before the move, so that no query has to look for requests that are there twice; queries wait meanwhile.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import BackendError, Statement, WritableBackend
from helicone_sessions.local.storage.claims import claim, give_back
from helicone_sessions.local.storage.loader import Intake, Rejects
from helicone_sessions.local.storage.read_write_lock import Gate
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Load, Loaded
from helicone_sessions.local.storage.shielded import to_its_end
from helicone_sessions.local.storage.staging import UNLIMITED, Incoming, Move
from helicone_sessions.local.storage.table import (
    LAYOUT_MARK,
    OWN_TABLES,
    REQUESTS_TABLE,
    Tables,
    create_statements,
)

_LOG: Final = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NAMED: Final = 5
_ADVICE: Final = (
    'rejects="bad.jsonl" writes the rows that cannot be read to that file, and the rest is loaded'
)


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
        self._incoming = Incoming(backend, self._database)
        self._version = 0
        # What an earlier load left undone because of an error.
        self._owed: Callable[[], Awaitable[object]] | None = None
        # One load at a time: the next one may replace what this one brings.
        self._turn = asyncio.Lock()
        self._gate = Gate()
        # A move has begun to change the requests and has not come to its end.
        self._is_half = False
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False
        self.tables = Tables.own(self._database)
        self.organizations: frozenset[UUID] = frozenset()

    @property
    def organization_id(self) -> UUID:
        """The organisation of the requests, where there is no more than one; a fixed one without any.

        Raises:
            ConfigurationError: There are several.
        """
        if len(self.organizations) > 1:
            named = ", ".join(sorted(map(str, self.organizations))[:_NAMED])
            more = ", …" if len(self.organizations) > _NAMED else ""
            raise ConfigurationError(
                f"the data is of {len(self.organizations)} organisations ({named}{more}): give"
                " organization_id, or api_key as a mapping from keys to organisations"
            )
        return next(iter(self.organizations), DEFAULT_ORGANIZATION)

    async def open(self) -> None:
        """Make the tables that are not there, and finish a load that a killed process began.

        Raises:
            ConfigurationError: The tables there were made by another version of the layout, or another store
                of this process has them open.
        """
        await self._check_layout()
        if self._is_kept:
            claim(self._database, self)
        for statement in create_statements(self._database):
            await self._backend.execute(statement)
        await self._settle()
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
        on_progress: Callable[[int], None] | None = None,
        organizations: Collection[UUID] | None = None,
    ) -> Loaded:
        """Take in rows or a file.

        A row with the id of a request that is there replaces it. A load that ends with an error keeps
        nothing of what it brought. If the process dies, or the load is cancelled where the tables are kept,
        what was told to *on_progress* is kept: the next load or `open` moves it to the requests.

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
                rejects cannot be written, or the store was closed.
            BackendError: ClickHouse refused the rows, and nothing of them is kept. Or the rows are all in
                and could not be moved, which the message says: queries are refused until they are, which
                every query and load tries again.
        """
        return await self._load(data, rejects, on_progress, organizations, advice=_ADVICE)

    async def add(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        organizations: Collection[UUID] | None = None,
        of_one: bool = False,
    ) -> Loaded:
        """Take in some rows that are in memory, all or none.

        Args:
            rows: The rows.
            organizations: As of `load`.
            of_one: Refuse organisations beside that of the requests which are there already.

        Raises:
            ConfigurationError: A row cannot be read; the message names it. Or the store was closed.
            BackendError: As of `load`.
        """
        return await self._load(rows, None, None, organizations, of_one=of_one)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Inside the block no load changes the requests, so that queries see all of one or nothing of it.

        Raises:
            BackendError: An earlier load could not be moved to its end, and still cannot.
        """
        while True:
            async with self._gate.reading():
                if not self._is_half:
                    yield
                    return
            async with self._turn:
                await to_its_end(self._pay())

    async def aclose(self) -> None:
        """End the load under way, and drop the tables if they are not to be kept."""
        self._is_closed = True
        if self._reading is not None:
            self._reading.cancel()
        try:
            async with self._turn:
                if not self._is_kept:
                    await self._backend.execute(f"DROP DATABASE IF EXISTS {self._database}")
        finally:
            give_back(self._database, self)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ConfigurationError("the server was stopped before the rows were in: none of them is kept")

    async def _load(
        self,
        data: Data,
        rejects: str | os.PathLike[str] | None,
        on_progress: Callable[[int], None] | None,
        organizations: Collection[UUID] | None,
        *,
        of_one: bool = False,
        advice: str = "",
    ) -> Loaded:
        async with self._turn:
            self._refuse_if_closed()
            await self._pay()
            allowed = organizations if organizations is not None else self.organizations or None
            if of_one and self.organizations and not self.organizations.issuperset(allowed or ()):
                raise ConfigurationError(
                    f"the server answers for the organisation {self.organization_id}, so that nobody could"
                    " ask for rows of another: for several, give api_key as {key: organisation}"
                )
            load = Load(allowed, first_version=self._version, with_rejects=rejects is not None, advice=advice)
            self._owed = self._take_back
            try:
                self._refuse_if_closed()
                await self._read(self._bring_all(load, data, rejects, on_progress))
                await to_its_end(self._put_in_place(load))
            except BaseException as error:
                is_cut_short = isinstance(error, asyncio.CancelledError) or self._is_closed
                if self._owed == self._take_back:
                    if is_cut_short and self._is_kept and on_progress is not None:
                        self._keep(load)
                    else:
                        await to_its_end(self._pay())
                raise
            return load.report

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
                    await to_its_end(self._incoming.bring(batch))
                    # The load has read further by now.
                    rows += len(batch.requests)
                    if on_progress is not None:
                        on_progress(rows)

    async def _put_in_place(self, load: Load) -> None:
        """Move what a load brought, which is whole from here on."""
        plan = await self._incoming.planned()
        self._keep(load)
        load.report.replaced = plan.replaced
        try:
            await self._move(plan)
        except BackendError:
            await self._settle()

    def _keep(self, load: Load) -> None:
        """Have what a load brought moved, if not now, then by what comes next."""
        self._owed = self._settle
        self._version += load.report.rows
        self.organizations |= {UUID(each) for each in load.organizations}

    async def _pay(self) -> None:
        if self._owed is not None:
            await self._owed()

    async def _take_back(self) -> None:
        await self._incoming.take_back()
        self._owed = None

    async def _tidy(self) -> None:
        """Forget what is moved; where it fails, the next load does it, or a move that changes nothing."""
        self._owed = self._tidy
        try:
            await self._take_back()
        except BackendError as error:
            _LOG.warning("what a load left over could not be cleared yet: %s", error)

    async def _settle(self) -> None:
        """Move what has come in to where it is asked for; it can be done again, as it is after a kill."""
        try:
            await self._move(await self._incoming.planned())
        except BackendError as error:
            raise BackendError(
                "the rows of the last load are all in and could not be moved to where they are asked for, and"
                f" queries wait until they are; the next query or load tries it again: {error}",
                error.code,
            ) from error

    async def _move(self, plan: Move) -> None:
        # Only this step changes what queries read.
        async with self._gate.writing():
            self._is_half = True
            await self._incoming.move(plan)
            self._is_half = False
        await self._tidy()

    async def _query(self, text: str, **parameters: str) -> list[list[Any]]:
        return (await self._backend.query(Statement(text, parameters), UNLIMITED)).rows
