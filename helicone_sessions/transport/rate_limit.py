"""The rate limits of the caller (`Pace`) and the service (`Window`), and the gate that applies them."""

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
"""The longest rate-limit window, in seconds, that queries wait for. A longer wait raises an error."""

# The number of requests that may be sent before the first response: the limit of the service may be low.
_UNKNOWN: Final = 8.0
# The clock of a server that counts in milliseconds can be a millisecond behind.
_MARGIN: Final = 0.001
# After a refusal, the search for the exact reset stops at this precision in seconds, or after this many
# refusals.
_EXACT: Final = 0.02
_TRIALS: Final = 8
# The longest pause, in seconds, after a refusal that requests none. Several of them outlast a 300-second
# window.
_LONGEST_PAUSE: Final = 60.0
_NUMBER: Final = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:[,;]|$)")
_LENGTH: Final = re.compile(r";\s*w=(\d{1,6})\b")


def check_seconds(argument: str, value: object) -> float:
    """Check that *value* is a number of seconds above 0, and return it.

    Raises:
        ConfigurationError: The value is invalid.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigurationError(
            argument=argument, problem=f"must be a number of seconds above 0, got {masked_repr(value)}"
        )
    return float(value)


def check_count(argument: str, value: object, *, least: int = 1) -> int:
    """Check that *value* is a whole number of at least *least*, and return it.

    Raises:
        ConfigurationError: The value is invalid.
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
    """A rate limit that the client applies: at most *requests* in any span of *per* seconds.

    It applies in addition to the limit of the service. The defaults equal the limit of Helicone's free tier
    (server source of July 2026). Paid tiers allow 10,000 requests in 300 seconds, and self-hosted servers
    from before October 2025 allow 200 in 60 seconds.

    Args:
        requests: The number of requests, counted over all endpoints together.
        per: The length of the time span, in seconds.
        burst: The number of requests that may be sent at once. The remaining requests are spread evenly. With
            1, all requests are spread evenly. By default, all requests may be sent at once.

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
        """Return the seconds until the next request may be sent; 0 if it may be sent now."""
        waits = [0.0, self._even_at - self._tolerance - now]
        if len(self._taken) == self._taken.maxlen:
            waits.append(self._taken[0] + self._per - now)
        return max(waits)

    def take(self, now: float) -> None:
        """Count a request that is sent now."""
        self._taken.append(now)
        self._even_at = max(now, self._even_at) + self._step


@attrs.define(eq=False)
class Window:
    """Tracks the rate limit and the number of remaining requests that the service announces in responses.

    The service counts requests in fixed windows: after each reset, the full number of requests is allowed
    again. Each response states the number of remaining requests and the seconds until the reset in its
    ``RateLimit-*`` headers. In July 2026, the open-source server allowed 1,000 requests in 300 seconds on the
    free tier (observed). Windows of up to an hour are supported.

    While the window has room, requests are sent immediately. Once it is used up, they wait for the reset.
    After a refusal, requests are sent one at a time until a response shows that there is room again.
    """

    # The number of requests in progress. Responses that the service computed before these arrived do not
    # count them.
    in_flight: int = attrs.field(default=0, init=False)
    # The length of a window in seconds, as in the latest response; None if no response has stated it.
    _length: float | None = attrs.field(default=None, init=False)
    # False until the first response shows whether there is a limit.
    _has_answered: bool = attrs.field(default=False, init=False)
    # The number of requests in a window; None if the service announces no limit.
    _limit: float | None = attrs.field(default=None, init=False)
    # The lowest number of remaining requests seen in this window: responses can arrive out of order, and
    # other processes send requests too.
    _remaining: float = attrs.field(default=0.0, init=False)
    # The service rounds the reset up to whole seconds. One response gives a range of one second, and several
    # narrow it down.
    _resets_after: float = attrs.field(default=-math.inf, init=False)
    _resets_before: float = attrs.field(default=-math.inf, init=False)
    # Responses to requests sent before this time may describe an older window.
    _opened_at: float = attrs.field(default=-math.inf, init=False)
    # The end of a pause, which the service requested (Retry-After) or which follows a refusal without that
    # header.
    _closed_until: float = attrs.field(default=-math.inf, init=False)
    # The number of refusals since the last success or reset. After a refusal, requests are sent one at a
    # time, and the pauses double.
    _refusals: int = attrs.field(default=0, init=False)
    # Refusals of requests sent before this time count as part of the same refusal.
    _refused_at: float = attrs.field(default=-math.inf, init=False)
    # Adds jitter, so that processes that were refused together do not retry together.
    _random: Callable[[], float] = random.random

    @property
    def announced(self) -> RateLimit | None:
        """The limit that the latest response announced."""
        if self._length is None or self._limit is None:
            return None
        return RateLimit(int(self._limit), self._length)

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent.

        The result is 0 if it may be sent now, and infinity if that depends on the next response.

        Args:
            now: The current time, in seconds.
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
        # Responses to the requests in progress will show whether there is room.
        return math.inf if self.in_flight else self._resets_before - now

    def _trial_at(self) -> float:
        """Return the time at which to try a single request after a refusal.

        A response announces the reset only to the second. In the fraction of a second after the reset, other
        processes can use up the whole new window. A binary search finds the exact time of the reset after a
        few more refusals.
        """
        if self._limit is None or self._remaining >= 1:
            return -math.inf
        if self._resets_before - self._resets_after < _EXACT:
            return self._resets_before
        return (self._resets_after + self._resets_before) / 2

    def ended(self) -> None:
        """Count a request as finished without a response."""
        if self.in_flight:
            self.in_flight -= 1

    def answered(self, status: int, headers: Mapping[str, str], sent_at: float, now: float) -> None:
        """Count a request as finished and update the state from its response.

        Args:
            status: The HTTP status of the response.
            headers: The headers of the response.
            sent_at: The time at which the request was sent, in seconds.
            now: The current time, in seconds.
        """
        self.ended()
        remaining = _number(headers.get("RateLimit-Remaining"))
        reset = None if remaining is None else _number(headers.get("RateLimit-Reset"))
        if remaining is not None and reset is not None and 0 <= reset <= LONGEST_WINDOW:
            after, before = sent_at + reset - 1, now + reset + _MARGIN
            if before <= self._resets_after and sent_at < self._opened_at:
                return
            self._learn(headers, remaining, after, before, now)
        elif status >= 500:
            # A response from a gateway has no rate-limit headers of the service.
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
        """Update the state from a response that announces a reset between *after* and *before*."""
        limit, length = _policy(headers.get("RateLimit-Limit"), headers.get("RateLimit-Policy"))
        if length and limit >= 1:
            self._length = length
        if after < self._resets_before and before > self._resets_after:
            after, before = max(after, self._resets_after), min(before, self._resets_before)
        else:
            # This is a new window or another limit, and its exact reset is not known yet.
            self._opened_at, self._remaining, self._refusals = now, math.inf, min(1, self._refusals)
            if length is not None and before > self._resets_after:
                # The new window began at the last reset or later.
                after = min(before, max(after, self._resets_after + length))
        self._resets_after, self._resets_before = after, before
        self._remaining = min(self._remaining, remaining)
        self._limit = limit if limit >= 1 else max(1.0, self._limit or 0.0, remaining)

    def _refused(self, asked: float | None, sent_at: float, now: float) -> None:
        # If several requests in progress are refused together, they count as one refusal.
        is_first = sent_at >= self._refused_at
        if is_first:
            self._refusals += 1
            self._refused_at = now
        if self._waits_for_reset(now):
            # The headers state the reset more exactly than Retry-After. If the two differ by more than a
            # second, Retry-After has another reason.
            if asked is not None and now + asked > self._resets_before + 1:
                self._pause(asked, now)
            return
        pause = asked or 0.0
        # If the service refuses again after the pause it requested, wait longer than it requests.
        if is_first and (asked is None or self._refusals > 1):
            longest = min(_LONGEST_PAUSE, 2.0 ** min(self._refusals, 10))
            pause = max(pause, longest * (1 + self._random()) / 2)
        self._pause(pause, now)

    def _waits_for_reset(self, now: float) -> bool:
        return self._remaining < 1 and now < self._resets_before and self._refusals <= _TRIALS

    def _pause(self, seconds: float | None, now: float) -> None:
        if seconds is not None and seconds <= LONGEST_WINDOW:
            self._closed_until = max(self._closed_until, now + seconds)


# Cached because nearly every response repeats the headers of an earlier one.
@lru_cache(maxsize=64)
def _policy(limit: str | None, policy: str | None) -> tuple[float, float | None]:
    """Return the requests per window (0 if missing) and the window length in seconds (None if missing)."""
    length = None if policy is None else _LENGTH.search(policy)
    return _number(limit) or _number(policy) or 0.0, None if length is None else float(length[1])


@lru_cache(maxsize=1024)
def _number(text: str | None) -> float | None:
    """Return the number at the start of a header such as ``1000;w=300``."""
    found = None if text is None else _NUMBER.match(text)
    return None if found is None else float(found[1])


Limit = RateLimit | AbstractAsyncContextManager[Any]

# The number of seconds without a response after which requests in progress are considered lost, for example
# because their event loop has stopped.
_PATIENCE: Final = 120.0
# Waits shorter than this are not logged, and a wait that grows by less is not reported again.
_NOTABLE: Final = 1.0
_LOG: Final = logging.getLogger("helicone_sessions")


def check_limit(value: Any) -> Limit | None:
    """Check that *value* is a `RateLimit`, a reusable async context manager or None, and return it.

    Raises:
        ConfigurationError: The value is invalid.
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
    """The rate-limit state shared by all clients in this process that use the same key and service."""

    def __init__(self) -> None:
        self.window = Window()
        # Clients can run in several threads, each with its own event loop.
        self.lock = threading.Lock()
        self.waiting: set[Gate] = set()
        self.paces: dict[RateLimit, Pace] = {}

    def try_take(self, now: float, pace: Pace | None) -> float:
        """Count a request and return 0 if it may be sent now; otherwise return the seconds until it may."""
        with self.lock:
            seconds = self.window.wait(now)
            if pace is not None:
                seconds = max(seconds, pace.wait(now))
            if seconds <= 0:
                self.window.in_flight += 1
                if pace is not None:
                    pace.take(now)
            return seconds


# Without the lock, two threads that miss the cache at the same time would create two objects.
_SHARING = threading.Lock()


@lru_cache(maxsize=256)
def _budget(_account: Hashable, _clock: Hashable) -> Budget:
    return Budget()


def _shared(account: Hashable, clock: Clock, limit: RateLimit | None) -> tuple[Budget, Pace | None]:
    with _SHARING:
        budget = _budget(account, cast(Hashable, clock))
        return budget, None if limit is None else budget.paces.setdefault(limit, Pace(limit))


def _start_over() -> None:
    """Clear the cached budgets in a forked process, which has no requests in progress."""
    _budget.cache_clear()
    _SHARING.release()


if hasattr(os, "register_at_fork"):
    # Hold the lock during the fork. If another thread held it then, the child could never acquire it.
    os.register_at_fork(before=_SHARING.acquire, after_in_parent=_SHARING.release, after_in_child=_start_over)


class Gate:
    """The gate at which queries wait before each attempt; they pass in order of arrival.

    Args:
        account: Identifies the key and the service.
        clock: The clock that measures the waits.
        limit: A `RateLimit`, or an async context manager to enter around each attempt.
    """

    def __init__(self, account: Hashable, clock: Clock, limit: Limit | None = None) -> None:
        self.clock = clock
        pace, limiter = (limit, None) if isinstance(limit, RateLimit) else (None, limit)
        self.limiter = limiter
        self._budget, self._pace = _shared(account, clock, pace)
        self._line: deque[_Waiter] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Checks the line again when the first query may pass, or when a response is no longer expected.
        self._timer: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._logged_until = -math.inf
        self._is_shut = False

    @property
    def announced(self) -> RateLimit | None:
        """The limit that the service announced in its latest response."""
        return self._budget.window.announced

    def try_enter(self, until: float = math.inf) -> bool:
        """Pass the gate if there is room and no other query is waiting, and return whether the query passed.

        If it passed, call `answered` or `left` when the attempt ends.

        Args:
            until: The latest time at which the query may pass, in seconds.
        """
        if self._line or self._is_shut:
            return False
        now = self.clock.now()
        return now < until and self._budget.try_take(now, self._pace) <= 0

    async def enter(self, until: float = math.inf, on_wait: Callable[[float], None] | None = None) -> bool:
        """Wait until the query may pass the gate.

        Call `answered` or `left` when the attempt ends.

        Args:
            until: The latest time at which the query may pass, in seconds.
            on_wait: Called with the length of each wait in seconds, once it is known.

        Returns:
            True when the query may pass, or False as soon as it is clear that it cannot pass before *until*.

        Raises:
            ConfigurationError: The client was closed during the wait.
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
            # The query may have been first in line, and the timer is set for the first one.
            self._admit()
            raise
        if self._is_shut and not waiter.verdict:
            raise _closed()
        return waiter.verdict

    def _admit(self) -> None:
        """Admit as many queries as there is room for, and set the timer for the next one."""
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
        """Reject queries that would miss their deadline, and report the wait to the others."""
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
            # The length of the wait depends on a response. Responses arrive in real time, so a virtual clock
            # must not run ahead.
            until = min(waiter.until for waiter in self._line)
            self._timer = self._loop.call_later(min(_PATIENCE, until - now), self._give_up, until, now)

    async def _look_after(self, moment: float) -> None:
        await self.clock.sleep(max(0.0, moment - self.clock.now()))
        self._timer = None
        self._admit()

    def _give_up(self, until: float, since: float) -> None:
        """Stop waiting for a response, because a deadline has passed or the requests in progress are lost."""
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
        """Admit queries if there is room now.

        This method can be called from any thread.
        """
        if self._loop is not None:
            # If the loop has been closed in the meantime, none of its queries are in line.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._admit)

    def shut(self) -> None:
        """Close the gate: queries that are waiting now, or arrive later, raise a `ConfigurationError`."""
        self._is_shut = True
        for waiter in self._line:
            waiter.decide(False)
        self._admit()

    def left(self) -> None:
        """Count a request as finished without a response."""
        with self._budget.lock:
            self._budget.window.ended()
        self._announce()

    def answered(self, status: int, headers: Mapping[str, str], sent_at: float) -> None:
        """Update the state from the response to a request that was sent at *sent_at*."""
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
    return ConfigurationError(problem="the client is closed", remedy="Create a new one")


class _Waiter:
    """One query in line.

    Args:
        loop: The event loop of the query.
        until: The deadline of the query.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self.until = until
        # True if the query may pass, False if it must give up, None while neither is decided.
        self.verdict: bool | None = None
        self._loop = loop
        self._woken: asyncio.Future[None] | None = None
        self._news: float | None = None
        self._heard_until = -math.inf

    async def woken(self) -> None:
        """Wait until there is a verdict or a wait to report."""
        self._woken = self._loop.create_future()
        await self._woken

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def decide(self, verdict: bool) -> None:
        """Set the verdict and wake the query."""
        self.verdict = verdict
        self._wake()

    def hear(self, now: float, seconds: float) -> None:
        """Record the length of the wait in seconds, and wake the query if the wait has become longer."""
        if now + seconds > self._heard_until + _NOTABLE:
            self._heard_until = now + seconds
            self._news = seconds
            self._wake()

    def news(self) -> float | None:
        """Return the wait in seconds if it has not been reported yet, otherwise None."""
        news, self._news = self._news, None
        return news
