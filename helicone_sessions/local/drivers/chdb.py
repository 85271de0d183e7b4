"""A driver for chDB, the in-process ClickHouse. The driver runs statements on a thread pool."""

import asyncio
import atexit
import contextlib
import json
import logging
import math
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final, TypeVar
from uuid import uuid4

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import (
    LARGE_FILTER_SETTINGS,
    DriverError,
    Limits,
    Result,
    Statement,
    limit_settings,
)
from helicone_sessions.local.drivers.chdb_process import (
    Connection,
    Hold,
    hold,
    is_forked,
    load_chdb,
    refuse_fork,
)

T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)

GRACE: Final = 5.0
SPARE: Final = "helicone-spare"
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5

# ClickHouse's error codes.
_TIMEOUT_EXCEEDED: Final = 159
_TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
_QUERY_WAS_CANCELLED: Final = 394
_ACCESS_DENIED: Final = 497

_WRITER_SETTINGS: Final[Mapping[str, float]] = {"input_format_skip_unknown_fields": 0}

# In chDB, even a read-only connection can access files, with INTO OUTFILE and with the function `file`. The
# name of the function may be quoted and contain escapes. Values are never part of the text.
_REACHES_FILES: Final = re.compile(r"""outfile|\bfile\b|["`][^"`]*\\""", re.IGNORECASE)

Work = Callable[[Connection], Any]
# A function that opens a connection, given its name and its limits. The limits are None for work that writes.
OpenConnection = Callable[[str, Limits | None], Connection]


@attrs.define(eq=False)
class Run:
    """A piece of work that is queued or running."""

    work: Work
    limits: Limits | None
    future: Future[Any] = attrs.field(factory=Future)
    name: str = ""
    deadline: float = math.inf
    ended_at: float = math.inf

    @property
    def is_ended(self) -> bool:
        """Whether the work was asked to stop."""
        return self.ended_at < math.inf


@attrs.frozen
class _Idle:
    name: str
    limits: Limits | None
    connection: Connection


class Pool:
    """A thread pool. Each thread runs one piece of work at a time on a connection.

    A connection is reused only if its previous work succeeded and the next work has the same limits.

    Args:
        open_connection: A function that opens a named connection. The name becomes the ``log_comment`` of
            all statements on the connection.
        threads: The number of threads.
        grace: The grace period in seconds. Work is killed when it exceeds its timeout by one grace period.
            Its thread is considered stuck if the work does not stop within another grace period.
        done: A callback that runs after the last connection is closed.
    """

    def __init__(
        self,
        open_connection: OpenConnection,
        threads: int,
        *,
        grace: float = GRACE,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._open = open_connection
        # This connection kills the statements of the others.
        self._spare = open_connection(SPARE, None)
        self._size = threads
        self._grace = grace
        self._done = done
        self._lock = threading.Condition()
        self._waiting: deque[Run] = deque()
        self._running: set[Run] = set()
        self._idle: list[_Idle] = []
        self._workers: list[threading.Thread] = []
        self._is_closed = False
        self.closed: Future[None] = _started_future()
        self._is_over = False
        self._alarm = threading.Event()
        self._wakes_at = math.inf
        self._watch = self._start(self._keep_watch, "watch")
        # This thread is started now, because the pool may close while the process exits, and Python cannot
        # start threads then.
        self._closing = threading.Event()
        self._start(self._finish, "close")
        _pools.add(self)

    def submit(self, work: Work, limits: Limits | None) -> Run:
        """Queue *work*.

        Args:
            work: A function that takes a connection.
            limits: The limits of the connection; None for work that writes.

        Raises:
            DriverError: The pool is closed, or all threads are stuck.
        """
        run = Run(work, limits)
        with self._lock:
            if self._is_closed:
                raise _engine_closed()
            if self._is_stuck():
                raise _all_stuck()
            if len(self._workers) < min(self._size, len(self._waiting) + len(self._running) + 1):
                self._workers.append(self._start(self._do_work, f"worker-{len(self._workers)}"))
            self._waiting.append(run)
            self._lock.notify()
        return run

    def end(self, run: Run) -> None:
        """Stop a run whose caller was cancelled, without waiting until the run has stopped."""
        with self._lock:
            run.ended_at = min(run.ended_at, time.monotonic())
            with contextlib.suppress(ValueError):
                self._waiting.remove(run)
        run.future.cancel()
        self._alarm.set()

    def close(self) -> None:
        """Reject new work and stop current work. The future `closed` completes when all work has stopped."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            ended = [*self._waiting, *self._running]
            self._waiting.clear()
            for run in ended:
                run.ended_at = min(run.ended_at, time.monotonic())
            self._lock.notify_all()
        for run in ended:
            _fail(run, _engine_closed())
        self._alarm.set()
        self._closing.set()

    def _start(self, target: Callable[[], None], name: str) -> threading.Thread:
        # Daemon threads do not delay the exit of the process.
        thread = threading.Thread(target=target, name=f"helicone-engine-{name}", daemon=True)
        thread.start()
        return thread

    def _finish(self) -> None:
        self._closing.wait()
        for worker in self._workers:
            worker.join()
        self._is_over = True
        self._alarm.set()
        self._watch.join()
        _settle(self.closed, self._close_connections)
        # From now on, the process can exit without waiting for this pool.
        _pools.discard(self)

    def _close_connections(self) -> None:
        for idle in self._idle:
            idle.connection.close()
        self._spare.close()
        self._done()

    def _do_work(self) -> None:
        while (run := self._next()) is not None:
            if run.future.set_running_or_notify_cancel():
                self._do(run)
            with self._lock:
                self._running.discard(run)
            del run

    def _next(self) -> Run | None:
        with self._lock:
            self._lock.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return None
            run = self._waiting.popleft()
            if run.limits is not None and run.limits.seconds is not None:
                run.deadline = time.monotonic() + run.limits.seconds + self._grace
            self._running.add(run)
            is_sooner = run.deadline < self._wakes_at
        if is_sooner:
            self._alarm.set()
        return run

    def _do(self, run: Run) -> None:
        try:
            idle = self._take(run.limits)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            _LOG.warning("a connection of the embedded engine could not be opened: %s", error)
            _fail(run, _as_driver_error(error))
            return
        try:
            with self._lock:
                run.name = idle.name
                is_ended = run.is_ended
            found = None if is_ended else run.work(idle.connection)
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            # chDB returns the rows of a failed query to the next query on the same connection.
            idle.connection.close()
            _fail(run, _as_driver_error(error))
            return
        if not self._keep(idle, run):
            idle.connection.close()
            # chDB reports a killed insert as a success without rows.
            _fail(run, DriverError("the statement was stopped", _QUERY_WAS_CANCELLED))
            return
        with contextlib.suppress(InvalidStateError):
            run.future.set_result(found)

    def _take(self, limits: Limits | None) -> _Idle:
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place].limits == limits:
                    return self._idle.pop(place)
            oldest = self._idle.pop(0) if len(self._idle) + len(self._running) > self._size else None
        if oldest is not None:
            oldest.connection.close()
        name = f"helicone-{uuid4().hex}"
        return _Idle(name, limits, self._open(name, limits))

    def _keep(self, idle: _Idle, run: Run) -> bool:
        with self._lock:
            # From now on, the watch thread kills neither this run nor the next run on the same connection.
            self._running.discard(run)
            if run.is_ended:
                return False
            self._idle.append(idle)
            return True

    def _keep_watch(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._alarm.clear()
            names, wakes_in = self._look()
            if names:
                self._kill(names)
                # ClickHouse cannot kill a statement while parsing it, and some statements notice a kill late.
                self._alarm.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if self._is_over:
                return
            self._alarm.wait(wakes_in)

    def _look(self) -> tuple[list[str], float | None]:
        """Return the names of the runs to kill, and the seconds until the next deadline, if there is one."""
        now = time.monotonic()
        with self._lock:
            given_up = self._give_up(now)
            # A run without a name has not started, and it never will.
            names = [run.name for run in self._running if run.is_ended and run.name]
            deadlines = (run.deadline for run in self._running if not run.is_ended)
            self._wakes_at = min(deadlines, default=math.inf)
        for run, error in given_up:
            _fail(run, error)
        return names, None if self._wakes_at == math.inf else max(0.0, self._wakes_at - now)

    def _give_up(self, now: float) -> list[tuple[Run, DriverError]]:
        late = [run for run in self._running if run.deadline <= now and not run.is_ended]
        for run in late:
            run.ended_at = now
        given_up = [(run, _timed_out(run.limits)) for run in late]
        if self._is_stuck():
            given_up += [(run, _all_stuck()) for run in self._waiting]
            self._waiting.clear()
        return given_up

    def _kill(self, names: list[str]) -> None:
        listed = ", ".join(f"'{name}'" for name in names)
        try:
            # SYNC would wait for statements that never check whether they were killed.
            self._spare.query(f"KILL QUERY WHERE Settings['log_comment'] IN ({listed}) ASYNC")
        except Exception as error:  # noqa: BLE001 - the watch must continue
            _LOG.warning("a statement of the embedded engine could not be killed: %s", error)
            self._renew_spare()

    def _renew_spare(self) -> None:
        self._spare.close()
        try:
            self._spare = self._open(SPARE, None)
        except Exception as error:  # noqa: BLE001 - the watch tries again
            _LOG.warning("a connection of the embedded engine could not be opened: %s", error)

    def _is_stuck(self) -> bool:
        since = time.monotonic() - self._grace
        return sum(run.ended_at <= since for run in self._running) >= self._size


def _as_driver_error(error: BaseException) -> DriverError:
    if isinstance(error, DriverError):
        return error
    code = re.search(r"\bCode: (\d+)[.,]", text := str(error))
    wrapped = DriverError(text, int(code[1]) if code else None)
    wrapped.__cause__ = error
    return wrapped


def _timed_out(limits: Limits | None) -> DriverError:
    seconds = limits.seconds if limits is not None else None
    return DriverError(f"Timeout exceeded: the statement did not stop within {seconds} s", _TIMEOUT_EXCEEDED)


def _engine_closed() -> DriverError:
    return DriverError("the statement was stopped: the embedded engine is closed", _QUERY_WAS_CANCELLED)


def _all_stuck() -> DriverError:
    return DriverError(
        "all threads of the embedded engine run statements that cannot be stopped",
        _TOO_MANY_SIMULTANEOUS_QUERIES,
    )


def _fail(run: Run, error: DriverError) -> None:
    with contextlib.suppress(InvalidStateError):
        run.future.set_exception(error)


# All open pools. A forked child never closes or collects them, because closing a connection there would hang.
_pools: Final[set[Pool]] = set()


def _close_all() -> None:
    if is_forked():
        return
    try:
        _close_and_wait(list(_pools))
    except KeyboardInterrupt:
        # If the process exited while chDB runs, it would crash.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


def _close_and_wait(pools: list[Pool]) -> None:
    for pool in pools:
        pool.close()
    # If the process exited while chDB runs a statement, it would crash. So it waits, but not forever.
    until = time.monotonic() + 2 * GRACE
    for pool in pools:
        with contextlib.suppress(Exception):
            pool.closed.exception(max(0.0, until - time.monotonic()))


atexit.register(_close_all)


class ChdbDriver:
    """A driver for the in-process ClickHouse (chDB), which keeps data in memory or in a directory.

    All drivers in a process share the same data, either in one directory or in memory. Only one process
    at a time can open a directory. A forked process cannot use its parent's engine.

    Args:
        path: The data directory, which is created if it does not exist. None keeps the data in memory until
            the last driver in the process is closed.
        limits: The default limits for a query.
        threads: The maximum number of concurrent statements. The default is the number of processors plus
            one, but at most 4.

    Raises:
        MissingExtra: The ``local`` extra is not installed.
        ConfigurationError: *threads* is less than 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        limits: Limits = Limits(),
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
        """Start the engine of this process, or share it if it is already running.

        Raises:
            ConfigurationError: This process was forked or has other data open, another process has the
                directory open, or the directory cannot be used.
        """
        refuse_fork()
        if self._pool is not None or self._opening is not None:
            raise ConfigurationError(problem="the driver is already open")
        self._opening = in_thread(self._opened, "helicone-engine-open")
        try:
            self._pool = await asyncio.wrap_future(self._opening)
        except asyncio.CancelledError:
            self._opening.add_done_callback(_close_unwanted)
            raise
        finally:
            self._opening = None

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        """Run *statement*. If the caller is cancelled, the statement is stopped.

        Args:
            statement: The statement.
            limits: The limits of the statement. By default, the limits of the driver apply.

        Raises:
            DriverError: ClickHouse rejected the statement or did not finish it, or the statement accesses
                files.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        if _REACHES_FILES.search(statement.text):
            raise DriverError("a query must not access files", _ACCESS_DENIED)
        found = await self._run(lambda connection: _select(connection, statement), limits or self._limits)
        return Result(found["data"], found["statistics"]["rows_read"])

    async def execute(self, text: str) -> None:
        """Run an internal statement that has no result.

        Raises:
            DriverError: ClickHouse rejected the statement.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        await self._run(lambda connection: connection.query(text), None)

    async def insert_select(self, text: str) -> int:
        """Run an ``INSERT … SELECT``, which may read local files, and return the number of rows inserted.

        Raises:
            DriverError: The rows cannot be read. No row was inserted.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        return int(await self._run(lambda connection: connection.query(text).rows_written(), None))

    async def insert(self, table: str, batch: bytes) -> None:
        """Insert either all rows of a JSON Lines batch or none.

        Args:
            table: The table.
            batch: The rows, one JSON object per line. The keys are columns of the table.

        Raises:
            DriverError: A line cannot be read, or has an unknown key. No row was inserted.
            ConfigurationError: The driver is not open, or this process was forked.
        """
        await self._run(lambda connection: _insert(connection, table, batch), None)

    async def aclose(self) -> None:
        """Stop running statements and close all connections.

        This waits up to ten seconds. If a statement cannot be stopped, its thread continues and the directory
        stays open until the statement finishes.
        """
        pool, self._pool = self._pool, None
        if pool is None or is_forked():
            return
        pool.close()
        done, _ = await asyncio.wait([asyncio.wrap_future(pool.closed)], timeout=2 * GRACE)
        if not done:
            _LOG.warning("the embedded engine runs a statement that cannot be stopped; it keeps running")
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
        # ClickHouse rounds down to microseconds, and 0 means unlimited.
        settings["max_execution_time"] = max(limits.seconds, 0.001)
    # `readonly` comes last, because it forbids every later change.
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


def in_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Run *work* on a daemon thread, for which neither the event loop nor the process waits at shutdown."""
    future: Future[T] = _started_future()
    threading.Thread(target=_settle, args=(future, work), name=name, daemon=True).start()
    return future


def _started_future() -> Future[Any]:
    """Create a future that cannot be cancelled."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        future.set_exception(error)


def _close_unwanted(opening: Future[Pool]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
