"""The threads of the embedded engine over connections that are made up: what is kept, and what is stuck."""

import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from helicone_sessions.local.drivers import DriverError, Limits
from helicone_sessions.local.drivers.chdb import SPARE, Pool, Run

PATIENCE = 20.0
LONG = Limits(seconds=1000.0)
UNLIMITED = Limits(seconds=None)


@attrs.define
class FakeConnection:
    """A connection that only knows whether it was closed."""

    limits: Limits | None = None
    is_closed: bool = False

    def query(self, query: str, format: str = "", params: Any = None) -> None:  # noqa: A002
        """Do nothing, as KILL does for a statement that never looks."""

    def send_insert(self, query: str, format: str = "") -> None:  # noqa: A002
        """Do nothing."""

    def close(self) -> None:
        self.is_closed = True


class FakePool(Pool):
    """A pool that counts its connections."""

    def __init__(self, threads: int) -> None:
        self.opened: list[FakeConnection] = []
        self.is_done = threading.Event()
        super().__init__(self._connect, threads, grace=0.0, done=self.is_done.set)

    def _connect(self, name: str, limits: Limits | None) -> FakeConnection:
        connection = FakeConnection(limits)
        if name != SPARE:
            self.opened.append(connection)
        return connection

    @property
    def still_open(self) -> list[FakeConnection]:
        return [connection for connection in self.opened if not connection.is_closed]

    def ask(self, limits: Limits | None = UNLIMITED) -> Any:
        """The limits of the connection that runs work with *limits*."""
        return self.submit(lambda connection: connection.limits, limits).future.result(PATIENCE)  # type: ignore[attr-defined]


@pytest.fixture
def pool() -> Iterator[FakePool]:
    """A pool of two threads whose grace is nothing."""
    pool = FakePool(2)
    yield pool
    pool.close()
    pool.closed.result(PATIENCE)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds up work until it is set, at the latest when the test has ended."""
    gate = threading.Event()
    yield gate
    gate.set()


def _stick(pool: Pool, gate: threading.Event) -> Run:
    """Start work that ignores its limit, and let the limit pass."""
    has_started = threading.Event()

    def work(_: Any) -> None:
        has_started.set()
        gate.wait(PATIENCE)

    run = pool.submit(work, LONG)
    assert has_started.wait(PATIENCE)
    run.deadline = 0.0
    # Ending any work makes the pool look at all of it.
    pool.end(Run(work, LONG))
    return run


def test_connections_are_kept_by_their_limits(pool: FakePool) -> None:
    """Work gets a connection with its own limits, and one that did well before it if there is one."""
    for limits in (UNLIMITED, LONG, None, LONG, UNLIMITED, None, None):
        assert limits == pool.ask(limits)
    assert len(pool.still_open) <= 2


def test_connection_is_dropped_after_an_error(pool: FakePool) -> None:
    """A connection whose work failed is closed, and its error carries ClickHouse's number."""

    def fail(_: Any) -> None:
        raise RuntimeError("Code: 241. DB::Exception: no")

    failing = pool.submit(fail, None)
    with pytest.raises(DriverError) as caught:
        failing.future.result(PATIENCE)
    assert 241 == caught.value.code
    assert [] == pool.still_open


def test_statement_that_does_not_stop(pool: FakePool, gate: threading.Event) -> None:
    """A statement that ignores its limit raises in time, and another thread continues."""
    with pytest.raises(DriverError) as caught:
        _stick(pool, gate).future.result(PATIENCE)
    assert 159 == caught.value.code
    assert UNLIMITED == pool.ask()


def test_all_threads_are_stuck(pool: FakePool, gate: threading.Event) -> None:
    """If no statement can be ended, new ones are refused instead of kept waiting or given more threads."""
    stuck = [_stick(pool, gate) for _ in range(2)]
    # The first of these waits, as a rule, until the threads are known to be stuck.
    for _ in range(2):
        with pytest.raises(DriverError) as caught:
            pool.ask()
        assert 202 == caught.value.code
    assert [159, 159] == [run.future.exception(PATIENCE).code for run in stuck]  # type: ignore[union-attr]


def _is_refused(pool: FakePool) -> bool:
    try:
        return UNLIMITED != pool.ask()
    except DriverError:
        return True


def test_stuck_threads_come_back(pool: FakePool, gate: threading.Event) -> None:
    """A statement that ends after all gives its thread back, but not its connection."""
    for run in [_stick(pool, gate) for _ in range(2)]:
        run.future.exception(PATIENCE)
    used = list(pool.opened)
    gate.set()
    while _is_refused(pool):
        pass
    assert pool.opened[-1] not in used
    pool.close()
    pool.closed.result(PATIENCE)
    assert [] == pool.still_open


def test_ended_before_it_began(pool: FakePool, gate: threading.Event) -> None:
    """Work that is ended while it waits is never begun."""
    begun: list[int] = []
    for _ in range(2):
        pool.submit(lambda _: gate.wait(PATIENCE), LONG)
    runs = [pool.submit(lambda _, number=number: begun.append(number), LONG) for number in range(3)]  # type: ignore[misc]
    pool.end(runs[1])
    gate.set()
    runs[0].future.result(PATIENCE)
    runs[2].future.result(PATIENCE)
    assert {0, 2} == set(begun)
    assert runs[1].future.cancelled()


def test_ended_work_leaves_no_connection(pool: FakePool, gate: threading.Event) -> None:
    """A connection is dropped too if its work was ended and went well all the same."""
    begun = threading.Event()

    def work(_: Any) -> None:
        begun.set()
        gate.wait(PATIENCE)

    run = pool.submit(work, LONG)
    begun.wait(PATIENCE)
    pool.end(run)
    gate.set()
    assert 394 == run.future.exception(PATIENCE).code  # type: ignore[union-attr]
    assert [] == pool.still_open


def test_closing(gate: threading.Event) -> None:
    """Closing fails what waits and what runs, refuses more, and lets go once the last work has ended."""
    pool = FakePool(1)
    begun = threading.Event()

    def work(_: Any) -> None:
        begun.set()
        gate.wait(PATIENCE)

    runs = [pool.submit(work, LONG) for _ in range(2)]
    begun.wait(PATIENCE)
    pool.close()
    pool.close()
    assert [394, 394] == [run.future.exception(PATIENCE).code for run in runs]  # type: ignore[union-attr]
    with pytest.raises(DriverError, match="closed"):
        pool.ask()
    assert not pool.is_done.is_set()
    gate.set()
    pool.closed.result(PATIENCE)
    assert pool.is_done.is_set()
    assert [] == pool.still_open


def test_connection_that_does_not_open() -> None:
    """If no connection can be opened, the caller gets the error, and the thread continues."""

    def refuse(name: str, limits: Limits | None) -> FakeConnection:
        if name == SPARE:
            return FakeConnection(limits)
        raise RuntimeError("Code: 36. DB::Exception: no more")

    pool = Pool(refuse, 1)
    for _ in range(2):
        with pytest.raises(DriverError, match="no more"):
            pool.submit(lambda _: None, UNLIMITED).future.result(PATIENCE)
    pool.close()
    pool.closed.result(PATIENCE)


class Balking(FakeConnection):
    """A connection that refuses every statement."""

    def query(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("not this one")


class BalkingPool(FakePool):
    """A pool whose first connections for ending statements refuse to, and one of which does not open."""

    def __init__(self, threads: int) -> None:
        self.spares = 0
        self.is_renewed = threading.Event()
        super().__init__(threads)

    def _connect(self, name: str, limits: Limits | None) -> FakeConnection:
        if name != SPARE:
            return super()._connect(name, limits)
        self.spares += 1
        if self.spares == 2:
            raise RuntimeError("no more connections")
        if self.spares < 4:
            return Balking()
        self.is_renewed.set()
        return FakeConnection()


def test_statements_that_cannot_be_ended(gate: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    """If ending a statement fails, that is logged, and tried again on a new connection."""
    pool = BalkingPool(1)
    stuck = _stick(pool, gate)
    assert isinstance(stuck.future.exception(PATIENCE), DriverError)
    assert pool.is_renewed.wait(PATIENCE)
    gate.set()
    pool.close()
    pool.closed.result(PATIENCE)
    logged = [record.getMessage() for record in caplog.records]
    assert "a statement of the embedded engine could not be killed: not this one" in logged
    assert "a connection of the embedded engine could not be opened: no more connections" in logged
    assert [] == pool.still_open


def test_an_error_of_the_end() -> None:
    """Closing a pool raises the reason if it fails."""

    def fail() -> None:
        raise RuntimeError("the directory is gone")

    pool = Pool(lambda _name, limits: FakeConnection(limits), 1, done=fail)
    pool.close()
    with pytest.raises(RuntimeError, match="the directory is gone"):
        pool.closed.result(PATIENCE)
