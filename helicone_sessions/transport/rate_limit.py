"""Rate limits: the policies of the caller (`Pace`) and the service (`Window`), and the gate for queries."""

import asyncio
import logging
import math
import os
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import lru_cache
from typing import Any, Final, cast

import attrs

from helicone_sessions.clock import Clock
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.protocol import retry_after

LONGEST_WINDOW: Final = 3600.0
"""The longest window, in seconds, that queries wait for; longer waits are errors."""

# The number of requests before the first response, because the service may have a low limit.
_UNKNOWN: Final = 8.0
# A server that counts in milliseconds can see the same moment one millisecond earlier.
_MARGIN: Final = 0.001
# The precision of the reset in seconds after refusals, and the number of refusals that finding it may take.
_EXACT: Final = 0.02
_TRIALS: Final = 8
# The longest pause, in seconds, after a refusal without one; several outlast a window of 300 seconds.
_LONGEST_PAUSE: Final = 60.0
_NUMBER: Final = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:[,;]|$)")
_LENGTH: Final = re.compile(r";\s*w=(\d{1,6})\b")


def check_seconds(argument: str, value: object) -> float:
    """A number of seconds above 0.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigurationError(
            argument=argument, problem=f"must be a number of seconds above 0, got {masked_repr(value)}"
        )
    return float(value)


def check_count(argument: str, value: object, *, least: int = 1) -> int:
    """A whole number of at least *least*.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(
            argument=argument, problem=f"must be a whole number of at least {least}, got {masked_repr(value)}"
        )
    return value


def _count(_owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
    check_count(f"RateLimit.{field.name}", value)


def _seconds(_owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
    check_seconds(f"RateLimit.{field.name}", value)


@attrs.frozen
class RateLimit:
    """Your own rate limit: at most *requests* in any *per* seconds.

    It applies in addition to the service's limit. The defaults are the limit of Helicone's free tier (server
    source of July 2026); paid tiers have 10,000 requests in 300 seconds, and self-hosted servers from before
    October 2025 have 200 in 60 seconds.

    Args:
        requests: The number of requests, for all endpoints of the organisation together.
        per: The length of the span in seconds.
        burst: The number of requests that may be sent at once; the rest is spread evenly. 1 spreads all of
            them. By default all may be sent at once.

    Raises:
        ConfigurationError: A number is out of range.

    >>> RateLimit(requests=100, per=60, burst=10)
    RateLimit(requests=100, per=60, burst=10)
    """

    requests: int = attrs.field(default=1000, validator=_count)
    per: float = attrs.field(default=300.0, validator=_seconds)
    burst: int | None = attrs.field(default=None, validator=attrs.validators.optional(_count))


class Pace:
    """Applies a `RateLimit`."""

    def __init__(self, limit: RateLimit) -> None:
        self._per = limit.per
        self._step = limit.per / limit.requests
        self._tolerance = (min(limit.burst or limit.requests, limit.requests) - 1) * self._step
        self._taken: deque[float] = deque(maxlen=limit.requests)
        self._even_at = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent; 0 for now."""
        waits = [0.0, self._even_at - self._tolerance - now]
        if len(self._taken) == self._taken.maxlen:
            waits.append(self._taken[0] + self._per - now)
        return max(waits)

    def take(self, now: float) -> None:
        """Count a request that goes now."""
        self._taken.append(now)
        self._even_at = max(now, self._even_at) + self._step


@attrs.define(eq=False)
class Window:
    """The rate limit of the service, as its responses describe it, and the remaining requests.

    The service counts in fixed windows: a number of requests until a reset, then as many again. Each
    response states the remaining number and the seconds until the reset (``RateLimit-*``; observed,
    open-source server of July 2026: 1,000 requests in 300 seconds on the free tier). Windows of up to an
    hour work.

    Requests are sent immediately while any remain, and then wait for the reset. After a refusal, requests are
    sent one at a time until a response shows that there is room again.
    """

    # The requests in progress. Responses that were computed before these arrived do not include them.
    in_flight: int = attrs.field(default=0, init=False)
    # The length of a window in seconds, from the latest response; None if no response states it.
    _length: float | None = attrs.field(default=None, init=False)
    # The first response shows whether there is a limit.
    _has_answered: bool = attrs.field(default=False, init=False)
    # The requests of the next window; None if the service names no limit.
    _limit: float | None = attrs.field(default=None, init=False)
    # The lowest number in this window, because responses overtake each other and other processes send too.
    _remaining: float = attrs.field(default=0.0, init=False)
    # The reset comes in whole seconds, rounded up: one response leaves one second open, several narrow it
    # down.
    _resets_after: float = attrs.field(default=-math.inf, init=False)
    _resets_before: float = attrs.field(default=-math.inf, init=False)
    # Responses to earlier requests may describe an older window.
    _opened_at: float = attrs.field(default=-math.inf, init=False)
    # The service requested a pause (Retry-After), or refused without a length.
    _closed_until: float = attrs.field(default=-math.inf, init=False)
    # Refusals since the last success or reset; they cause single requests, and pauses that double.
    _refusals: int = attrs.field(default=0, init=False)
    # Refusals of requests that were sent before this moment belong to the same wave.
    _refused_at: float = attrs.field(default=-math.inf, init=False)
    # Processes that were refused together must not return together.
    _random: Callable[[], float] = random.random

    @property
    def announced(self) -> RateLimit | None:
        """The limit as the latest response describes it."""
        if self._length is None or self._limit is None:
            return None
        return RateLimit(int(self._limit), self._length)

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent: 0 for now, infinite if only a response can show it.

        Args:
            now: The current second.
        """
        if now < self._closed_until:
            return self._closed_until - now
        if self._refusals:
            return math.inf if self.in_flight else max(0.0, self._trial_at() - now)
        if self._has_answered and self._limit is None:
            return 0.0
        if now < self._resets_before:
            room = self._remaining
        else:
            room = _UNKNOWN if self._limit is None else self._limit
        if self.in_flight + 1 <= room:
            return 0.0
        # The responses to the requests in progress show whether there is room.
        return math.inf if self.in_flight else self._resets_before - now

    def _trial_at(self) -> float:
        """The moment for a single request after a refusal.

        Other processes know the reset too, and can spend the whole window within the second that one
        response leaves open. Halving that second finds the reset after a few more refusals.
        """
        if self._limit is None or self._remaining >= 1:
            return -math.inf
        if self._resets_before - self._resets_after < _EXACT:
            return self._resets_before
        return (self._resets_after + self._resets_before) / 2

    def ended(self) -> None:
        """Count the end of a request without a response."""
        if self.in_flight:
            self.in_flight -= 1

    def answered(self, status: int, headers: Mapping[str, str], sent_at: float, now: float) -> None:
        """Count the end of a request, and learn from its response.

        Args:
            status: Its HTTP status.
            headers: Its headers.
            sent_at: The second at which its request was sent.
            now: The current second.
        """
        if self.in_flight:
            self.in_flight -= 1
        remaining = _number(headers.get("RateLimit-Remaining"))
        reset = None if remaining is None else _number(headers.get("RateLimit-Reset"))
        if remaining is not None and reset is not None and 0 <= reset <= LONGEST_WINDOW:
            after, before = sent_at + reset - 1, now + reset + _MARGIN
            if before <= self._resets_after and sent_at < self._opened_at:
                return
            self._learn(headers, remaining, after, before, now)
        elif status >= 500:
            # A gateway's page has no figures of the service.
            self._pause(retry_after(headers), now)
            return
        self._has_answered = True
        if status == 429:
            self._refused(retry_after(headers), sent_at, now)
        else:
            self._refusals = 0

    def _learn(
        self, headers: Mapping[str, str], remaining: float, after: float, before: float, now: float
    ) -> None:
        """Adopt the figures of a response whose window resets between two times."""
        limit, length = _policy(headers.get("RateLimit-Limit"), headers.get("RateLimit-Policy"))
        if length and limit >= 1:
            self._length = length
        if after < self._resets_before and before > self._resets_after:
            after, before = max(after, self._resets_after), min(before, self._resets_before)
        else:
            # A new window or another limit, with an unknown reset.
            self._opened_at, self._remaining, self._refusals = now, math.inf, min(1, self._refusals)
            if length is not None and before > self._resets_after:
                # The new window began at the last reset or later.
                after = min(before, max(after, self._resets_after + length))
        self._resets_after, self._resets_before = after, before
        self._remaining = min(self._remaining, remaining)
        self._limit = limit if limit >= 1 else max(1.0, self._limit or 0.0, remaining)

    def _refused(self, asked: float | None, sent_at: float, now: float) -> None:
        # Requests in progress together are refused together, and count as one refusal.
        is_first = sent_at >= self._refused_at
        if is_first:
            self._refusals += 1
            self._refused_at = now
        if self._waits_for_reset(now):
            # The headers state the reset more exactly than Retry-After, unless it means something else.
            if asked is not None and now + asked > self._resets_before + 1:
                self._pause(asked, now)
            return
        pause = asked or 0.0
        # A service that refuses again after the requested pause needs a longer one.
        if is_first and (asked is None or self._refusals > 1):
            longest = min(_LONGEST_PAUSE, 2.0 ** min(self._refusals, 10))
            pause = max(pause, longest * (1 + self._random()) / 2)
        self._pause(pause, now)

    def _waits_for_reset(self, now: float) -> bool:
        return self._remaining < 1 and now < self._resets_before and self._refusals <= _TRIALS

    def _pause(self, seconds: float | None, now: float) -> None:
        if seconds is not None and seconds <= LONGEST_WINDOW:
            self._closed_until = max(self._closed_until, now + seconds)


# Nearly every response repeats the headers of an earlier one.
@lru_cache(maxsize=64)
def _policy(limit: str | None, policy: str | None) -> tuple[float, float | None]:
    """The requests of a window (0 if missing) and its length in seconds (None if missing)."""
    length = None if policy is None else _LENGTH.search(policy)
    return _number(limit) or _number(policy) or 0.0, None if length is None else float(length[1])


@lru_cache(maxsize=1024)
def _number(text: str | None) -> float | None:
    """The number at the start of a header, as in ``1000;w=300``."""
    found = None if text is None else _NUMBER.match(text)
    return None if found is None else float(found[1])


Limit = RateLimit | AbstractAsyncContextManager[Any]

# Seconds without news after which requests in progress count as lost, for example with a stopped loop.
_PATIENCE: Final = 120.0
# Shorter waits are not logged, and a wait that grows by less counts as the same wait.
_NOTABLE: Final = 1.0
_LOG: Final = logging.getLogger("helicone_sessions")


def check_limit(value: Any) -> Limit | None:
    """A `RateLimit`, a reusable context manager, or None.

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
    """The shared state of all clients in this process with one key for one service."""

    def __init__(self) -> None:
        self.window = Window()
        # Clients can run on the loops of several threads.
        self.lock = threading.Lock()
        self.waiting: set[Gate] = set()
        self.paces: dict[RateLimit, Pace] = {}

    def try_take(self, now: float, pace: Pace | None) -> float:
        """Count a request that goes now, or return the seconds until one may be sent."""
        window = self.window
        with self.lock:
            seconds = window.wait(now)
            if pace is not None:
                seconds = max(seconds, pace.wait(now))
            if seconds <= 0:
                window.in_flight += 1
                if pace is not None:
                    pace.take(now)
            return seconds


# Two threads that miss the cache at once would otherwise create two objects.
_SHARING = threading.Lock()


@lru_cache(maxsize=256)
def _budget(_account: Hashable, _clock: Hashable) -> Budget:
    return Budget()


def _shared(account: Hashable, clock: Clock, limit: RateLimit | None) -> tuple[Budget, Pace | None]:
    with _SHARING:
        budget = _budget(account, cast(Hashable, clock))
        return budget, None if limit is None else budget.paces.setdefault(limit, Pace(limit))


def _start_over() -> None:
    """Forget requests in progress in a child process, where there are none."""
    _budget.cache_clear()
    _SHARING.release()


if hasattr(os, "register_at_fork"):
    # Taken around the fork, because a thread that holds the lock would not exist in the child.
    os.register_at_fork(before=_SHARING.acquire, after_in_parent=_SHARING.release, after_in_child=_start_over)


class Gate:
    """The line where queries wait before each attempt, first come, first served.

    Args:
        account: Identifies one key for one service.
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
        # Checks the line again when the first query may go, or when no response can be expected.
        self._timer: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._logged_until = -math.inf
        self._is_shut = False

    @property
    def announced(self) -> RateLimit | None:
        """The limit of the service, as its latest response describes it."""
        return self._budget.window.announced

    def try_enter(self, until: float = math.inf) -> bool:
        """Take a turn if no query waits and there is room; `answered` or `left` returns it.

        Args:
            until: The time by which the query needs room.
        """
        if self._line or self._is_shut:
            return False
        now = self.clock.now()
        return now < until and self._budget.try_take(now, self._pace) <= 0

    async def enter(self, until: float = math.inf, on_wait: Callable[[float], None] | None = None) -> bool:
        """Wait for a turn and for room, and take it; `answered` or `left` returns it.

        Args:
            until: The time by which the query needs room.
            on_wait: Called with the seconds of each wait of a known length.

        Returns:
            Whether the query has a turn; False as soon as there cannot be room in time.

        Raises:
            ConfigurationError: The client was closed meanwhile.
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
        self._tell_waiting(now, seconds)
        self._set_timer(now, seconds)

    def _tell_waiting(self, now: float, seconds: float) -> None:
        """Reject queries whose deadline comes earlier, and report the wait to the others."""
        for waiter in self._line:
            if waiter.until <= (now if seconds == math.inf else now + seconds):
                waiter.decide(False)
            elif seconds < math.inf:
                waiter.hear(now, seconds)
        self._line = deque(waiter for waiter in self._line if waiter.verdict is None)

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
            # Only a response can show it. It comes in real time, so a virtual clock must not run ahead.
            until = min(waiter.until for waiter in self._line)
            self._timer = self._loop.call_later(min(_PATIENCE, until - now), self._give_up, until, now)

    async def _look_after(self, moment: float) -> None:
        await self.clock.sleep(max(0.0, moment - self.clock.now()))
        self._timer = None
        self._admit()

    def _give_up(self, until: float, since: float) -> None:
        """Handle the lack of a response: a deadline has passed, or the requests in progress are lost."""
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
        """Admit the queries that have room now; callable from any thread."""
        if self._loop is not None:
            # A loop that was closed meanwhile has no queries in line.
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
        budget = self._budget
        with budget.lock:
            budget.window.answered(status, headers, sent_at, self.clock.now())
        if self._line or budget.waiting:
            self._announce()

    def _announce(self) -> None:
        if self._line:
            self._admit()
        if self._budget.waiting:
            for gate in self._budget.waiting - {self}:
                gate.look_again()


def _closed() -> ConfigurationError:
    return ConfigurationError(problem="the client is closed", remedy="Create a new one")


class _Waiter:
    """One query in line.

    Args:
        loop: Its loop.
        until: Its deadline.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self.until = until
        # True if the query may go, False if it has to give up.
        self.verdict: bool | None = None
        self._loop = loop
        self._woken: asyncio.Future[None] | None = None
        self._news: float | None = None
        self._heard_until = -math.inf

    async def woken(self) -> None:
        """Wait for a verdict or for news."""
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
        """Report the length of the wait in seconds; only a longer wait than before is news."""
        if now + seconds > self._heard_until + _NOTABLE:
            self._heard_until = now + seconds
            self._news = seconds
            self._wake()

    def news(self) -> float | None:
        """The seconds to report, once."""
        news, self._news = self._news, None
        return news
