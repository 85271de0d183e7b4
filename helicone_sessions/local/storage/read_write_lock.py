"""Many readers at once, or one writer."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs


@attrs.define(eq=False)
class _Waiting:
    writes: bool
    told: asyncio.Future[None]
    is_in: bool = False


class Gate:
    """Lets readers in together and a writer alone, in the order in which they come.

    So a writer waits for the readers before it alone, and those behind it for that writer. It is for the
    tasks of one event loop.
    """

    def __init__(self) -> None:
        self._readers = 0
        self._has_writer = False
        self._waiting: deque[_Waiting] = deque()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Inside the block nobody writes."""
        await self._enter(writes=False)
        try:
            yield
        finally:
            self._leave(writes=False)

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[None, None]:
        """Inside the block nobody else is in."""
        await self._enter(writes=True)
        try:
            yield
        finally:
            self._leave(writes=True)

    async def _enter(self, *, writes: bool) -> None:
        one = _Waiting(writes, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._let_in()
        try:
            await one.told
        except BaseException:
            if one.is_in:
                self._leave(writes=writes)
            else:
                self._waiting.remove(one)
                # It may be the one that held up those behind it.
                self._let_in()
            raise

    def _leave(self, *, writes: bool) -> None:
        if writes:
            self._has_writer = False
        else:
            self._readers -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and not self._has_writer:
            first = self._waiting[0]
            if first.told.cancelled():
                # It takes itself away, and calls again.
                return
            if first.writes and self._readers:
                return
            self._waiting.popleft().is_in = True
            first.told.set_result(None)
            self._has_writer = first.writes
            self._readers += not first.writes
