"""ClickHouse inside this process: a pool of chDB connections on worker threads."""

import asyncio
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, LifoQueue
from typing import Any, Final, TypeVar

from helicone_sessions.errors import MissingExtra
from helicone_sessions.local.backends import BackendError, Limits, Result, Statement

T = TypeVar("T")

# Set before `readonly`, which forbids every later change. The limits of size are ClickHouse's guards for
# text written by hand; here they only bound how many conditions a filter may have.
_READER_SETTINGS: Final = {
    "max_execution_time": 60,
    "max_query_size": 64 * 1024 * 1024,
    "max_ast_elements": 2_000_000,
    "max_expanded_ast_elements": 2_000_000,
    "max_parser_depth": 10_000,
    "max_ast_depth": 10_000,
    # Both look at every pair of conditions: of ten thousand they make minutes and many gigabytes.
    "optimize_or_like_chain": 0,
    "query_plan_merge_filters": 0,
    "readonly": 1,
}


class ChdbBackend:
    """ClickHouse in-process, in memory.

    All connections of a process share one memory; it is gone when the last one closes, so one is held open.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._connect = _import_connect()
        self._threads = ThreadPoolExecutor(threads or min(4, (os.cpu_count() or 1) + 1), "helicone-engine")
        self._idle: LifoQueue[Any] = LifoQueue()
        self._writer = self._connect(":memory:")

    async def open(self) -> None:
        """Nothing more is needed."""

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:  # noqa: ARG002
        """What *statement* selects; no connection outlives an error."""
        return await self._in_thread(lambda: self._query(statement))

    def _query(self, statement: Statement) -> Result:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._connect(":memory:")
            for name, value in _READER_SETTINGS.items():
                connection.query(f"SET {name} = {value}")
        try:
            answer = connection.query(
                statement.text, "JSONCompact", params=dict(statement.parameters)
            ).bytes()
        except BaseException as error:
            # chDB hands the rows of a failed query to the next one on the same connection.
            connection.close()
            raise BackendError(str(error)) from error
        self._idle.put(connection)
        found = json.loads(answer)
        return Result(found["data"], found["statistics"]["rows_read"])

    async def execute(self, text: str) -> None:
        """Run a statement of the engine's own."""
        await self._in_thread(lambda: self._writer.query(text))

    async def insert(self, table: str, batch: bytes) -> None:
        """Insert lines of JSON; a field that the table does not know is an error."""
        await self._in_thread(lambda: self._insert(table, batch))

    def _insert(self, table: str, batch: bytes) -> None:
        self._writer.query("SET input_format_skip_unknown_fields = 0")
        with self._writer.send_insert(f"INSERT INTO {table}", "JSONEachRow") as insert:
            insert.append(batch)
            insert.finish()

    async def aclose(self) -> None:
        """Close all connections, once their queries have ended."""
        await asyncio.to_thread(self._threads.shutdown)
        while not self._idle.empty():
            self._idle.get_nowait().close()
        self._writer.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _import_connect() -> Callable[[str], Any]:
    try:
        from chdb import connect  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        raise MissingExtra("local", package="chdb", purpose="the embedded engine") from error
    return connect
