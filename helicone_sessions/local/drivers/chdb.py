"""A driver for chDB, which is ClickHouse inside this process."""

import asyncio
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers.chdb_library import Connection, load_chdb
from helicone_sessions.local.drivers.chdb_pool import GRACE, Pool, Work
from helicone_sessions.local.drivers.chdb_process import Hold, hold, is_forked, refuse_fork
from helicone_sessions.local.drivers.driver import (
    LARGE_FILTER_SETTINGS,
    DriverError,
    Limits,
    Result,
    Statement,
    limit_settings,
)

_LOG: Final = logging.getLogger(__name__)

# ClickHouse's error code.
_ACCESS_DENIED: Final = 497
_WRITER_SETTINGS: Final[Mapping[str, float]] = {"input_format_skip_unknown_fields": 0}

# chDB lets a read-only connection use files all the same: INTO OUTFILE, and the function `file`
# (whose name may be written with escapes if it is quoted). Values are never in the text.
_REACHES_FILES: Final = re.compile(r"""outfile|\bfile\b|["`][^"`]*\\""", re.IGNORECASE)


class ChdbDriver:
    """ClickHouse in-process, in memory or in a directory.

    A process can have one directory open, or memory, in as many drivers as it likes; a directory can be
    open in one process. A process that was forked from one with the engine cannot use it.

    Args:
        path: The directory of the data, which is made if there is none; None keeps them in memory, where all
            drivers of the process share them until the last is closed.
        limits: The default limits of a query.
        threads: How many statements run at once; without it one more than there are processors, at most 4.

    Raises:
        MissingExtra: The extra ``local`` is not installed.
        ConfigurationError: A limit or the number of threads is not above zero.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigurationError(argument="threads", problem=f"must be at least 1, got {threads}")
        self._connect = load_chdb()
        self._path = path
        self._limits = limits
        self._size = threads or min(4, (os.cpu_count() or 1) + 1)
        self._pool: Pool | None = None
        self._opening: Future[Pool] | None = None

    async def open(self) -> None:
        """Start the engine of this process, or share it.

        Raises:
            ConfigurationError: This process was forked, it has other data open, another process has the
                directory open, or the directory cannot be used.
        """
        refuse_fork()
        if self._pool is not None or self._opening is not None:
            raise ConfigurationError(problem="the driver is open already")
        self._opening = _in_thread(self._opened)
        try:
            self._pool = await asyncio.wrap_future(self._opening)
        except asyncio.CancelledError:
            self._opening.add_done_callback(_close_unwanted)
            raise
        finally:
            self._opening = None

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        """Run *statement*; a query whose caller is cancelled is ended.

        Args:
            statement: The statement.
            limits: Its limits, if not those of the driver.

        Raises:
            DriverError: ClickHouse refused or gave up; or the statement reaches for files.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        if _REACHES_FILES.search(statement.text):
            raise DriverError("a statement that reads must not reach files", _ACCESS_DENIED)
        found = await self._run(lambda connection: _select(connection, statement), limits or self._limits)
        return Result(found["data"], found["statistics"]["rows_read"])

    async def execute(self, text: str) -> None:
        """Run a statement of the engine's own.

        Raises:
            DriverError: ClickHouse refused.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        await self._run(lambda connection: connection.query(text), None)

    async def insert_select(self, text: str) -> int:
        """Run an ``INSERT … SELECT``, which may read local files; return the number of rows inserted.

        Raises:
            DriverError: The rows cannot be read, and none is inserted.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        return int(await self._run(lambda connection: connection.query(text).rows_written(), None))

    async def insert(self, table: str, batch: bytes) -> None:
        """Insert lines of JSON, all or none; a field that the table does not know is an error.

        Args:
            table: Where to.
            batch: An object in JSON on each line.

        Raises:
            DriverError: A line cannot be read.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        await self._run(lambda connection: _insert(connection, table, batch), None)

    async def aclose(self) -> None:
        """End the statements under way and close all connections.

        A statement that cannot be ended keeps its thread, and the directory, until it ends of itself; it is
        waited for ten seconds.
        """
        pool, self._pool = self._pool, None
        if pool is None or is_forked():
            return
        pool.close()
        done, _ = await asyncio.wait([asyncio.wrap_future(pool.closed)], timeout=2 * GRACE)
        if not done:
            _LOG.warning("the embedded engine runs a statement that cannot be ended; it is left behind")
        for closed in done:
            closed.result()

    def _opened(self) -> Pool:
        held = hold(self._path, self._connect)
        try:
            return Pool(
                lambda name, limits: _prepared(held, name, limits),
                self._size,
                grace=GRACE,
                done=held.release,
            )
        except BaseException:
            held.release()
            raise

    async def _run(self, work: Work, limits: Limits | None) -> Any:
        refuse_fork()
        if self._pool is None:
            raise ConfigurationError(problem="the driver is not open", remedy="Await its open() first")
        pool = self._pool
        run = pool.submit(work, limits)
        try:
            return await asyncio.wrap_future(run.future)
        except asyncio.CancelledError:
            pool.end(run)
            raise


def _for_reading(limits: Limits) -> dict[str, float]:
    settings = limit_settings(limits)
    if limits.seconds is not None:
        # It is rounded down to microseconds.
        settings["max_execution_time"] = max(limits.seconds, 0.001)
    # `readonly` forbids every later change, so it is the last.
    return {**settings, **LARGE_FILTER_SETTINGS, "readonly": 1}


def _prepared(held: Hold, name: str, limits: Limits | None) -> Connection:
    settings = _WRITER_SETTINGS if limits is None else _for_reading(limits)
    listed = ", ".join(f"{setting} = {value}" for setting, value in settings.items())
    connection = held.connect()
    try:
        connection.query(f"SET log_comment = '{name}', {listed}")
    except BaseException:
        connection.close()
        raise
    return connection


def _select(connection: Connection, statement: Statement) -> Any:
    answer = connection.query(statement.text, "JSONCompact", params=dict(statement.parameters)).bytes()
    return json.loads(answer)


def _insert(connection: Connection, table: str, batch: bytes) -> None:
    with connection.send_insert(f"INSERT INTO {table}", "JSONEachRow") as insert:
        insert.append(batch)
        written = insert.finish().rows_written
    if not written and batch.strip():
        raise DriverError("no row was written")


def _in_thread(work: Any) -> Future[Any]:
    """Do *work* on a thread that the end of a loop or of the process does not wait for."""
    future: Future[Any] = Future()
    # So that it cannot be cancelled.
    future.set_running_or_notify_cancel()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)

    threading.Thread(target=do, name="helicone-engine-open", daemon=True).start()
    return future


def _close_unwanted(opening: Future[Pool]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
