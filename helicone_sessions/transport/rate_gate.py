"""The gate in front of the service, where queries wait until a rate limit lets them through."""

import asyncio
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import lru_cache
from typing import Any, Final, cast

from helicone_sessions.clock import Clock
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.masking import masked_repr
from helicone_sessions.transport.rate_limit import Pace, RateLimit, Window

Limit = RateLimit | AbstractAsyncContextManager[Any]

# Seconds without news after which the requests under way count as lost, for example with a stopped loop.
_PATIENCE: Final = 120.0
# Shorter waits are not worth a line in the log, and a wait that grows by less is still the same one.
_NOTABLE: Final = 1.0
_LOG: Final = logging.getLogger("helicone_sessions")


def check_limit(value: Any) -> Limit | None:
    """A `RateLimit`, a context manager that can be entered again and again, or None.

    Raises:
        ConfigurationError: It is something else.
    """
    if hasattr(value, "gen"):
        raise ConfigurationError(
            argument="rate_limit",
            problem="must be a context manager that can be entered for each attempt; one made by"
            " @asynccontextmanager can be entered only once",
            remedy="Pass an object with __aenter__ and __aexit__",
        )
    if value is None or isinstance(value, (RateLimit, AbstractAsyncContextManager)):
        return value
    raise ConfigurationError(
        argument="rate_limit",
        problem=f"must be a RateLimit or an async context manager, got {masked_repr(value)}",
        remedy="Pass RateLimit(requests=1000, per=300), for example",
    )


class Budget:
    """The state that all clients of this process share if they use one key of one service."""

    def __init__(self) -> None:
        self.window = Window()
        # Clients may run on loops of several threads.
        self.lock = threading.Lock()
        self.waiting: set[Gate] = set()
        self.paces: dict[RateLimit, Pace] = {}

    def try_take(self, now: float, pace: Pace | None) -> float:
        """Count a request that goes now, or return the seconds until one may go."""
        with self.lock:
            seconds = self.window.wait(now)
            if pace is not None:
                seconds = max(seconds, pace.wait(now))
            if seconds <= 0:
                self.window.sent()
                if pace is not None:
                    pace.take(now)
            return seconds


# Two threads that miss at once would each get an object from the cache.
_SHARING = threading.Lock()


@lru_cache(maxsize=256)
def _budget(_account: Hashable, _clock: Hashable) -> Budget:
    return Budget()


def _shared(account: Hashable, clock: Clock, limit: RateLimit | None) -> tuple[Budget, Pace | None]:
    with _SHARING:
        budget = _budget(account, cast(Hashable, clock))
        return budget, None if limit is None else budget.paces.setdefault(limit, Pace(limit))


def _start_over() -> None:
    """In a child process nothing is under way."""
    _budget.cache_clear()
    _SHARING.release()


if hasattr(os, "register_at_fork"):
    # No other thread may hold the lock, because it does not exist in the child.
    os.register_at_fork(before=_SHARING.acquire, after_in_parent=_SHARING.release, after_in_child=_start_over)


class Gate:
    """Where the queries of a client wait in line before each attempt, first come, first served.

    Args:
        account: Identifies one key of one service.
        clock: The clock of all waits.
        limit: A `RateLimit`, or an async context manager to enter around each attempt.
    """

    def __init__(self, account: Hashable, clock: Clock, limit: Limit | None = None) -> None:
        self.clock = clock
        pace, limiter = (limit, None) if isinstance(limit, RateLimit) else (None, limit)
        self.limiter = limiter
        self._budget, self._pace = _shared(account, clock, pace)
        self._line: deque[_Waiter] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Looks at the line again when the first may go, or when nothing more can be expected.
        self._timer: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._logged_until = -math.inf
        self._is_shut = False

    @property
    def announced(self) -> RateLimit | None:
        """The limit of the service, as its latest response describes it."""
        return self._budget.window.announced

    def try_enter(self, until: float = math.inf) -> bool:
        """Take a turn if no query waits and there is room; `answered` or `left` gives it back.

        Args:
            until: The second by which the query needs room.
        """
        if self._line or self._is_shut:
            return False
        now = self.clock.now()
        return now < until and self._budget.try_take(now, self._pace) <= 0

    async def enter(self, until: float = math.inf, on_wait: Callable[[float], None] | None = None) -> bool:
        """Wait for a turn and for room, and take it; `answered` or `left` gives it back.

        Args:
            until: The second by which the query needs room.
            on_wait: Called with the seconds of each wait whose length is known.

        Returns:
            Whether the query has a turn; False as soon as there cannot be room in time.

        Raises:
            ConfigurationError: The client was closed in the meantime.
        """
        if self._is_shut:
            raise _closed()
        self._loop = asyncio.get_running_loop()
        waiter = _Waiter(self._loop, until)
        self._line.append(waiter)
        self._budget.waiting.add(self)
        try:
            self._admit()
            while waiter.verdict is None:
                if (seconds := waiter.news()) is None:
                    await waiter.woken()
                elif on_wait is not None:
                    on_wait(seconds)
        except BaseException:
            if waiter.verdict:
                self.left()
            waiter.verdict = False
            # It may have been the first, for which the timer was set.
            self._admit()
            raise
        if self._is_shut and not waiter.verdict:
            raise _closed()
        return waiter.verdict

    def _admit(self) -> None:
        """Admit as many queries as there is room for, and set the timer for the next."""
        now, seconds = self.clock.now(), math.inf
        while self._line:
            first = self._line[0]
            if first.verdict is None:
                if first.until > now and (seconds := self._budget.try_take(now, self._pace)) > 0:
                    break
                first.decide(first.until > now)
            self._line.popleft()
        for waiter in self._line:
            if waiter.until <= (now if seconds == math.inf else now + seconds):
                waiter.decide(False)
            elif seconds < math.inf:
                waiter.hear(now, seconds)
        self._line = deque(waiter for waiter in self._line if waiter.verdict is None)
        self._set_timer(now, seconds)

    def _set_timer(self, now: float, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._line or self._loop is None:
            self._budget.waiting.discard(self)
        elif seconds < math.inf:
            self._log(now, seconds)
            self._timer = self._loop.create_task(self._look_after(now + seconds))
        else:
            # Only a response can tell. It comes in real time, so a virtual clock must not run ahead of it.
            until = min(waiter.until for waiter in self._line)
            self._timer = self._loop.call_later(min(_PATIENCE, until - now), self._give_up, until, now)

    async def _look_after(self, moment: float) -> None:
        await self.clock.sleep(max(0.0, moment - self.clock.now()))
        self._timer = None
        self._admit()

    def _give_up(self, until: float, since: float) -> None:
        """There is no response: a deadline is over, or the requests under way are lost."""
        self._timer = None
        if until - since > _PATIENCE:
            with self._budget.lock:
                self._budget.window.in_flight = 0
        else:
            for waiter in self._line:
                if waiter.until <= until:
                    waiter.decide(False)
        self._admit()

    def _log(self, now: float, seconds: float) -> None:
        if seconds >= _NOTABLE and now + seconds > self._logged_until + _NOTABLE:
            self._logged_until = now + seconds
            _LOG.info("requests wait %.1f s for the rate limit", seconds)

    def look_again(self) -> None:
        """Admit whoever has room now; may be called from any thread."""
        if self._loop is not None:
            # A loop that was closed in the meantime has no queries in line.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._admit)

    def shut(self) -> None:
        """Close the gate: each query in line, now or later, ends with a `ConfigurationError`."""
        self._is_shut = True
        for waiter in self._line:
            waiter.decide(False)
        self._admit()

    def left(self) -> None:
        """Count the end of a request without a response."""
        with self._budget.lock:
            self._budget.window.ended()
        self._announce()

    def answered(self, status: int, headers: Mapping[str, str], sent_at: float) -> None:
        """Learn from the response to a request that was sent at *sent_at*."""
        with self._budget.lock:
            self._budget.window.answered(status, headers, sent_at, self.clock.now())
        if self._line or self._budget.waiting:
            self._announce()

    def _announce(self) -> None:
        if self._line:
            self._admit()
        if self._budget.waiting:
            for gate in self._budget.waiting - {self}:
                gate.look_again()


def _closed() -> ConfigurationError:
    return ConfigurationError(problem="the client is closed", remedy="Make a new one")


class _Waiter:
    """One query in line.

    Args:
        loop: Its loop.
        until: Its deadline.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self.until = until
        # True once it may go, False if it has to give up.
        self.verdict: bool | None = None
        self._loop = loop
        self._woken: asyncio.Future[None] | None = None
        self._news: float | None = None
        self._heard_until = -math.inf

    async def woken(self) -> None:
        """Wait for a verdict or news."""
        self._woken = self._loop.create_future()
        await self._woken

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def decide(self, verdict: bool) -> None:
        """End the wait."""
        self.verdict = verdict
        self._wake()

    def hear(self, now: float, seconds: float) -> None:
        """Learn the length of the wait in seconds; only a longer one than before is news."""
        if now + seconds > self._heard_until + _NOTABLE:
            self._heard_until = now + seconds
            self._news = seconds
            self._wake()

    def news(self) -> float | None:
        """The seconds to report, once."""
        news, self._news = self._news, None
        return news
