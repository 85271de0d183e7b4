"""The read-write lock between queries and loads: who is admitted beside whom, and in what order."""

import asyncio

import pytest

from helicone_sessions.local.storage.store import ReadWriteLock


class People:
    """Readers and writers that report when they enter, and leave on request."""

    def __init__(self) -> None:
        self.lock = ReadWriteLock()
        self.inside: set[str] = set()
        self._may_go: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str) -> None:
        """A writer is one whose name begins with a w."""
        self._may_go[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._visit(name))
        await self.settle()

    async def go(self, name: str) -> None:
        self._may_go[name].set()
        await self._tasks[name]
        await self.settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._tasks[name]
        await self.settle()

    async def settle(self) -> None:
        """Let everybody go as far as they can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _visit(self, name: str) -> None:
        async with self.lock.writing() if name.startswith("w") else self.lock.reading():
            self.inside.add(name)
            try:
                await self._may_go[name].wait()
            finally:
                self.inside.remove(name)


async def test_readers_together_and_writers_alone() -> None:
    """Readers are in together; a writer waits for them and is in alone."""
    people = People()
    for name in ("r1", "r2", "w1", "w2"):
        await people.come(name)
    assert {"r1", "r2"} == people.inside
    for name, inside in (("r1", {"r2"}), ("r2", {"w1"}), ("w1", {"w2"}), ("w2", set())):
        await people.go(name)
        assert inside == people.inside


async def test_a_writer_is_not_passed_for_ever() -> None:
    """Readers that come after a waiting writer wait for it."""
    people = People()
    for name in ("r1", "w1", "r2", "r3"):
        await people.come(name)
    assert {"r1"} == people.inside
    await people.go("r1")
    assert {"w1"} == people.inside
    await people.go("w1")
    assert {"r2", "r3"} == people.inside


async def test_who_gives_up_waiting_holds_up_nobody() -> None:
    """Where a waiting writer or reader is cancelled, those behind it come in."""
    people = People()
    for name in ("r1", "w1", "r2"):
        await people.come(name)
    await people.cancel("w1")
    assert {"r1", "r2"} == people.inside
    await people.come("w2")
    await people.come("r3")
    await people.cancel("r3")
    await people.go("r1")
    await people.go("r2")
    assert {"w2"} == people.inside


async def test_cancelled_inside() -> None:
    """Who is cancelled inside leaves room for the next."""
    people = People()
    for name in ("w1", "r1", "w2", "r2"):
        await people.come(name)
    for name, inside in (("w1", {"r1"}), ("r1", {"w2"}), ("w2", {"r2"})):
        await people.cancel(name)
        assert inside == people.inside


@pytest.mark.parametrize("writes", [True, False])
async def test_cancelled_at_the_moment_of_admission(writes: bool) -> None:
    """A task that is cancelled at the moment of its admission does not hold the lock."""
    lock = ReadWriteLock()
    entered = []

    async def enter() -> None:
        async with lock.writing() if writes else lock.reading():
            entered.append(writes)

    async with lock.writing():
        waiting = asyncio.create_task(enter())
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [] == entered
    async with asyncio.timeout(5), lock.writing():
        pass


async def test_reader_behind_a_cancelled_writer() -> None:
    """If a waiting writer is cancelled, the readers behind it are admitted."""
    lock = ReadWriteLock()

    async def enter(*, writes: bool) -> None:
        async with lock.writing() if writes else lock.reading():
            pass

    async with lock.reading():
        writer = asyncio.create_task(enter(writes=True))
        reader = asyncio.create_task(enter(writes=False))
        await asyncio.sleep(0)
        writer.cancel()
        async with asyncio.timeout(5):
            await reader
    with pytest.raises(asyncio.CancelledError):
        await writer
