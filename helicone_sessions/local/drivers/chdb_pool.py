"""A pool of chDB connections on worker threads; abandoned statements are ended."""

import atexit
import contextlib
import logging
import math
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final
from uuid import uuid4

import attrs

from helicone_sessions.local.drivers.chdb_library import Connection
from helicone_sessions.local.drivers.chdb_process import is_forked
from helicone_sessions.local.drivers.driver import DriverError, Limits

_LOG: Final = logging.getLogger(__name__)

GRACE: Final = 5.0
SPARE: Final = "helicone-spare"
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5

# ClickHouse's error codes.
_TIMEOUT_EXCEEDED: Final = 159
_TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
_QUERY_WAS_CANCELLED: Final = 394

Work = Callable[[Connection], Any]
# Opens a connection of the given name for work with the given limits; None is for work that writes.
OpenConnection = Callable[[str, Limits | None], Connection]


@attrs.define(eq=False)
class Run:
    """One piece of work, waiting or under way."""

    work: Work
    limits: Limits | None
    future: Future[Any] = attrs.field(factory=Future)
    name: str = ""
    deadline: float = math.inf
    ended_at: float = math.inf

    @property
    def is_ended(self) -> bool:
        """Whether it is to stop."""
        return self.ended_at < math.inf


@attrs.frozen
class _Idle:
    name: str
    limits: Limits | None
    connection: Connection


class Pool:
    """Threads that each run one piece of work at a time on a connection.

    A connection is used again only after work that went well, for work with the same limits.

    Args:
        open_connection: Opens a connection, whose name its statements bear as ``log_comment``.
        threads: How much runs at once.
        grace: Seconds beyond its limit of time after which work is ended from outside, and further seconds
            after which it counts as stuck.
        done: Is called when the last connection is closed.
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
        # From here the statements of others are ended.
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
        self.closed: Future[None] = Future()
        # So that it cannot be cancelled.
        self.closed.set_running_or_notify_cancel()
        self._is_over = False
        self._alarm = threading.Event()
        self._wakes_at = math.inf
        self._watch = self._start(self._keep_watch, "watch")
        # At the exit of the process, where it closes at the latest, Python starts no more threads.
        self._closing = threading.Event()
        self._start(self._finish, "close")
        _pools.add(self)

    def submit(self, work: Work, limits: Limits | None) -> Run:
        """Queue *work*.

        Args:
            work: A function of a connection.
            limits: The limits of the connection; None is for work that writes.

        Raises:
            DriverError: The pool is closed, or all its threads are stuck.
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
        """Stop *run*, which the caller has abandoned; returns at once."""
        with self._lock:
            run.ended_at = min(run.ended_at, time.monotonic())
            with contextlib.suppress(ValueError):
                self._waiting.remove(run)
        run.future.cancel()
        self._alarm.set()

    def close(self) -> None:
        """Reject further work and end current work; `closed` resolves when all has ended."""
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
        # No daemon thread is waited for when the process exits.
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
        try:
            for idle in self._idle:
                idle.connection.close()
            self._spare.close()
            self._done()
        except Exception as error:  # noqa: BLE001 - it is the closer's
            self.closed.set_exception(error)
        else:
            self.closed.set_result(None)
        # Until then the end of the process waits for it.
        _pools.discard(self)

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
        except Exception as error:  # noqa: BLE001 - it is the caller's
            _LOG.warning("a connection of the embedded engine could not be opened: %s", error)
            _fail(run, _as_driver_error(error))
            return
        try:
            with self._lock:
                run.name = idle.name
                is_ended = run.is_ended
            found = None if is_ended else run.work(idle.connection)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            # chDB hands the rows of a failed query to the next one on the same connection.
            idle.connection.close()
            _fail(run, _as_driver_error(error))
            return
        if not self._keep(idle, run):
            idle.connection.close()
            # chDB calls an insert that was ended a success, of no rows.
            _fail(run, DriverError("the statement was ended", _QUERY_WAS_CANCELLED))
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
            # From here on the watch ends this run no more, nor the next on its connection.
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
                # A statement that is being read is not yet known, and some look up from their work late.
                self._alarm.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if self._is_over:
                return
            self._alarm.wait(wakes_in)

    def _look(self) -> tuple[list[str], float | None]:
        """The names of the statements to kill, and the seconds until the next deadline."""
        now = time.monotonic()
        with self._lock:
            given_up = self._give_up(now)
            # One without a name has not begun, and will not.
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
            # Not SYNC: that would wait for a statement which never looks whether it was ended.
            self._spare.query(f"KILL QUERY WHERE Settings['log_comment'] IN ({listed}) ASYNC")
        except Exception as error:  # noqa: BLE001 - the watch goes on whatever happens
            _LOG.warning("a statement of the embedded engine could not be ended: %s", error)
            self._renew_spare()

    def _renew_spare(self) -> None:
        self._spare.close()
        try:
            self._spare = self._open(SPARE, None)
        except Exception as error:  # noqa: BLE001 - the watch goes on, and tries again
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
    return DriverError("the statement was ended: the embedded engine is closed", _QUERY_WAS_CANCELLED)


def _all_stuck() -> DriverError:
    return DriverError(
        "all threads of the embedded engine run statements that cannot be ended",
        _TOO_MANY_SIMULTANEOUS_QUERIES,
    )


def _fail(run: Run, error: DriverError) -> None:
    with contextlib.suppress(InvalidStateError):
        run.future.set_exception(error)


# Those not yet closed. A forked child keeps them as they are: closing a connection would hang there, and
# so would collecting one.
_pools: Final[set[Pool]] = set()


def _close_all() -> None:
    if is_forked():
        return
    try:
        _close_and_wait(list(_pools))
    except KeyboardInterrupt:
        # A process that goes on to its end while chDB runs would crash.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


def _close_and_wait(pools: list[Pool]) -> None:
    for pool in pools:
        pool.close()
    # A process that exits while chDB runs a statement ends in a crash; one that nothing ends is not waited
    # for beyond this.
    until = time.monotonic() + 2 * GRACE
    for pool in pools:
        with contextlib.suppress(Exception):
            pool.closed.exception(max(0.0, until - time.monotonic()))


atexit.register(_close_all)
