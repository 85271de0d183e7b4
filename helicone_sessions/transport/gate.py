"""The gate before the service, where queries wait until its rate limit lets them through."""

import asyncio
import logging
import os
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import lru_cache
from typing import Any, Final, cast

from helicone_sessions.clock import Clock
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.transport.rate_limit import Pace, RateLimit, Window

# Seconds without news after which those under way are taken for lost.
_PATIENCE: Final = 120.0
# A wait of so many seconds is told in the log.
_WORTH_A_WORD: Final = 1.0
_LOG: Final = logging.getLogger("helicone_sessions")


class Budget:
    """What all clients of this process share that use one key of one service."""

    def __init__(self) -> None:
        self.window = Window()
        # Clients may run on loops of several threads.
        self.lock = threading.Lock()
        self.listeners: set[asyncio.Future[None]] = set()

    def try_take(
        self,
        now: float,
        pace: Pace | None,
        *,
        again: bool = False,
        last: bool = False,
        ahead: int = 0,
        behind: int = 0,
    ) -> float:
        """Take leave to send one now, or say in how many seconds to ask again; as `Window.wait`."""
        with self.lock:
            seconds = self.window.wait(now, again=again, last=last, ahead=ahead, behind=behind)
            if pace is not None:
                seconds = max(seconds, pace.wait(now))
            if seconds <= 0:
                self.window.sent()
                if pace is not None:
                    pace.take(now)
            return seconds

    def tell(self) -> None:
        """Let those who wait look again."""
        for future in tuple(self.listeners):
            # A loop that was closed in the meantime has nobody waiting.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_settle, future)

    @contextmanager
    def listening(self) -> "Iterator[asyncio.Future[None]]":
        """A future that is set when there is news."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.listeners.add(future)
        try:
            yield future
        finally:
            self.listeners.discard(future)
            future.cancel()


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


# Of two threads that miss at once, the cache would give each an object of its own.
_SHARING = threading.Lock()


@lru_cache(maxsize=256)
def _shared_budget(_account: Hashable, _clock: Hashable) -> Budget:
    return Budget()


@lru_cache(maxsize=256)
def _shared_pace(_account: Hashable, _clock: Hashable, limit: RateLimit) -> Pace:
    return Pace(limit)


def shared(account: Hashable, clock: Clock, limit: RateLimit | None) -> tuple[Budget, Pace | None]:
    """The budget of an account, and its pace: the same for every client that names the same."""
    with _SHARING:
        key = account, cast(Hashable, clock)
        return _shared_budget(*key), None if limit is None else _shared_pace(*key, limit)


def _begin_anew() -> None:
    """In a child process nothing is under way, and a lock may be held by a thread that is not there."""
    global _SHARING  # noqa: PLW0603 - as its parent's
    _SHARING = threading.Lock()
    _shared_budget.cache_clear()
    _shared_pace.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


def _has_passed(task: "asyncio.Task[None]") -> bool:
    return not task.cancelled() and task.exception() is None


class Gate:
    """Where the queries of a client wait for leave to be sent, first come first served.

    Those that were refused before have a line of their own, which goes first and takes no risks.

    Args:
        account: What tells one key of one service from another.
        clock: The time that waits are measured in.
        limit: A `RateLimit`, or any async context manager, which is held during each attempt.
    """

    def __init__(self, account: Hashable, clock: Clock, limit: "Limit | None" = None) -> None:
        self.clock = clock
        self.limiter = None if isinstance(limit, RateLimit) else limit
        self._budget, self._pace = shared(account, clock, limit if isinstance(limit, RateLimit) else None)
        # Locks give way in turn, and hand a wake-up on when the one who waits is cancelled.
        self._line, self._line_again = asyncio.Lock(), asyncio.Lock()
        self._is_shut = False
        self._told_until = float("-inf")
        # A lock is free for a moment while it changes hands.
        self._waiting = {False: 0, True: 0}

    def try_pass(self) -> bool:
        """Pass if nobody waits and there is room."""
        if self._waiting[False] or self._waiting[True]:
            return False
        budget = self._budget
        if self._pace is None and budget.window.is_free:
            with budget.lock:
                budget.window.sent()
            return True
        return budget.try_take(self.clock.now(), self._pace) <= 0

    async def passed(self, *, again: bool = False, last: bool = False, until: float | None = None) -> bool:
        """Wait for one's turn and for room, and pass.

        Args:
            again: It was refused before.
            last: It is its last attempt.
            until: A time of the clock at which it gives up.

        Returns:
            Whether it passed.
        """
        if until is None:
            await self._pass(again=again, last=last)
            return True
        passing = asyncio.ensure_future(self._pass(again=again, last=last))
        ending = asyncio.ensure_future(self.clock.sleep(max(0.0, until - self.clock.now())))
        try:
            await asyncio.wait({passing, ending}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _end(passing)
            if _has_passed(passing):
                self.ended()
            raise
        finally:
            ending.cancel()
        await _end(passing)
        if not passing.cancelled():
            passing.result()
        return _has_passed(passing)

    async def _pass(self, *, again: bool, last: bool) -> None:
        self._waiting[again] += 1
        has_passed = False
        try:
            async with self._line_again if again else self._line:
                while not has_passed:
                    has_passed = await self._passed_or_waited(again=again, last=last)
        finally:
            self._waiting[again] -= 1
            if not has_passed:
                # The other line may have left room for it.
                self._budget.tell()

    def shut(self) -> None:
        """Let nobody pass any more, and tell those who wait."""
        self._is_shut = True
        self._budget.tell()

    async def _passed_or_waited(self, *, again: bool, last: bool) -> bool:
        if self._is_shut:
            raise ConfigurationError("the client was closed while the query waited for the rate limit")
        others = self._waiting[not again] > 0
        # News of another thread may come at any moment: it is listened for before it is looked at.
        with self._budget.listening() as news:
            seconds = self._budget.try_take(
                self.clock.now(),
                self._pace,
                again=again,
                last=last,
                ahead=not again and others,
                behind=others,
            )
            if seconds <= 0:
                return True
            await self._news_or(news, seconds)
            return False

    async def _news_or(self, news: "asyncio.Future[None]", seconds: float) -> None:
        if seconds < float("inf"):
            self._tell(seconds)
            passing = asyncio.ensure_future(self.clock.sleep(seconds))
            try:
                await asyncio.wait({news, passing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                passing.cancel()
        elif not (await asyncio.wait({news}, timeout=_PATIENCE))[0]:
            # Those under way will never end, as of a loop that was stopped: they hold nobody back.
            self._budget.window.in_flight = 0

    def _tell(self, seconds: float) -> None:
        # Once for each moment that is waited for, and not for each look at it.
        until = self.clock.now() + seconds
        if seconds >= _WORTH_A_WORD and until > self._told_until + _WORTH_A_WORD:
            self._told_until = until
            _LOG.info("requests wait %.1f s, as the rate limit or the service asks", seconds)

    def ended(self) -> None:
        """One that passed has ended without an answer."""
        with self._budget.lock:
            self._budget.window.ended()
        self._budget.tell()

    def answered(self, status: int, headers: Mapping[str, str], sent_at: float) -> None:
        """One that passed at *sent_at* has its answer."""
        budget = self._budget
        with budget.lock:
            budget.window.ended()
            budget.window.answered(status, headers, sent_at, self.clock.now())
        if budget.listeners:
            budget.tell()

    def refused(self, seconds: float) -> float | None:
        """The limit was reached, and it is asked to wait so long; gives what `Window.refused` gives."""
        with self._budget.lock:
            return self._budget.window.refused(self.clock.now(), seconds)

    def close(self, seconds: float) -> None:
        """Let nobody pass for so long."""
        with self._budget.lock:
            self._budget.window.close(self.clock.now(), seconds)


Limit = RateLimit | AbstractAsyncContextManager[Any]
