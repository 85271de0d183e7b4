"""What a rate limit lets through, and when: the caller's own, and the one that the service tells of.

Both are pure: they are told the time.
"""

import math
import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import attrs

from helicone_sessions.errors import ConfigurationError

# What a client believes of a header at most: a window of the service is a minute long.
_LONGEST_RESET: Final = 120.0
# So many may be asked before the service has said what it allows.
_CAUTIOUS: Final = 8
# A server that counts in milliseconds may take the same instant for one less.
_MARGIN: Final = 0.001
# Of what others spend, the first few answers of a window tell too little.
_WEIGHT_OF_BEFORE: Final = 10
_MOST_OTHERS: Final = 7.0
_FEW_OTHERS: Final = 0.1
_LENGTH: Final = re.compile(r";\s*w=(\d+)")
# How well, in seconds, the moment of the reset has to be known.
_SURE: Final = 0.02


def _whole(_owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"RateLimit: {field.name} is a whole number from 1 up, not {value!r}")


def _seconds(_owner: object, _field: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError(f"RateLimit: per is seconds above zero, not {value!r}")


@attrs.frozen
class RateLimit:
    """A limit of your own: at most so many requests in any span of so many seconds.

    What the service says of its limit is obeyed as well, whichever is less.

    Args:
        requests: How many. The service allows 200 a minute to an organisation, all endpoints together.
        per: The seconds that they are counted in.
        burst: How many may go at once; the rest is spread evenly. 1 spreads them all. Without it all of
            them may go at once.

    Raises:
        ConfigurationError: A number is out of its range.

    >>> RateLimit(requests=100, per=60, burst=10)
    RateLimit(requests=100, per=60, burst=10)
    """

    requests: int = attrs.field(default=200, validator=_whole)
    per: float = attrs.field(default=60.0, validator=_seconds)
    burst: int | None = attrs.field(default=None, validator=attrs.validators.optional(_whole))


class Pace:
    """What a `RateLimit` lets through, by a clock that it is told."""

    def __init__(self, limit: RateLimit) -> None:
        self._per = limit.per
        self._step = limit.per / limit.requests
        self._tolerance = (min(limit.burst or limit.requests, limit.requests) - 1) * self._step
        self._taken: deque[float] = deque(maxlen=limit.requests)
        self._even_at = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next may go; 0 if it may go now."""
        waits = [0.0, self._even_at - self._tolerance - now]
        if len(self._taken) == self._taken.maxlen:
            waits.append(self._taken[0] + self._per - now)
        return max(waits)

    def take(self, now: float) -> None:
        """Count one that goes now."""
        self._taken.append(now)
        self._even_at = max(now, self._even_at) + self._step


@attrs.define(eq=False)
class Window:
    """What the service has said of its limit, and what is left of it.

    The service counts in windows: so many requests until a reset, then so many again. Each answer says what
    remains and in how many *whole* seconds, rounded up, the reset comes (``RateLimit-*``, server source).
    Every answer bounds the moment of the reset from both sides, so that together they tell it better than
    to the second.

    Others spend the same budget: other processes, other endpoints. What is missing beyond our own requests
    tells how many of theirs come with one of ours, and so many are left to them.
    """

    in_flight: int = attrs.field(default=0, init=False)
    _has_answered: bool = attrs.field(default=False, init=False)
    _limit: float | None = attrs.field(default=None, init=False)
    _remaining: float = attrs.field(default=0.0, init=False)
    _resets_after: float = attrs.field(default=float("-inf"), init=False)
    _resets_before: float = attrs.field(default=float("-inf"), init=False)
    _closed_until: float = attrs.field(default=float("-inf"), init=False)
    _full: float = attrs.field(default=0.0, init=False)
    _sent: int = attrs.field(default=0, init=False)
    _refused: int = attrs.field(default=0, init=False)
    _others: float = attrs.field(default=0.0, init=False)
    _others_before: float = attrs.field(default=0.0, init=False)
    _weight: int = attrs.field(default=0, init=False)
    _was_in_time: bool = attrs.field(default=True, init=False)

    def wait(
        self, now: float, *, again: bool = False, last: bool = False, ahead: int = 0, behind: int = 0
    ) -> float:
        """Seconds until the next may go, if no answer comes before; 0 if it may go now.

        It is infinite where only an answer can tell.

        Args:
            now: The present second.
            again: Whether it was refused before, and is not to be risked.
            last: Whether it is the last attempt, of which nothing is tried out.
            ahead: How many have to be let go before it.
            behind: How many could be risked in its place.
        """
        if now < self._closed_until:
            return self._closed_until - now
        taken, ends = self.in_flight + ahead, float("inf")
        if not self._has_answered:
            room = float(_CAUTIOUS)
        elif self._limit is None:
            return 0.0
        elif now >= self._resets_before:
            # A new window, of which the first answer will tell.
            room = max(1.0, self._limit / (1 + self._others))
            if not self._was_in_time:
                # Others were there before at the last one, and may have spent this one as well.
                room, taken = float(not (again and behind)), self.in_flight
        else:
            room = self._remaining / (1 + self._others)
            ends = self._resets_before
            if not (again and behind):
                # The last ones go one by one, or nobody would take them.
                room = max(room, min(1.0, self._remaining))
                if not last:
                    ends = min(ends, self._probe_at())
        # How many others there are is a guess: the nearer the end, the fewer at once.
        taken *= 2 if self._others > _FEW_OTHERS else 1
        return 0.0 if taken + 1 <= room else max(0.0, ends - now)

    def _probe_at(self) -> float:
        """When to try whether the window is over, though it may not be.

        Of a second's uncertainty others take advantage: who comes last finds nothing left, time and again.
        """
        is_sure = self._resets_before - self._resets_after < _SURE
        if self._others <= 0 or self._remaining > 0 or self.in_flight or is_sure:
            return float("inf")
        return (self._resets_after + self._resets_before) / 2

    @property
    def is_free(self) -> bool:
        """Whether the service has answered, and has never said a word of a limit or a wait."""
        return self._limit is None and self._has_answered and self._closed_until < 0

    def sent(self) -> None:
        """Count one that goes now."""
        self.in_flight += 1
        self._sent += 1

    def ended(self) -> None:
        """One that was sent is under way no more."""
        self.in_flight = max(0, self.in_flight - 1)

    def answered(self, status: int, headers: Mapping[str, str], sent_at: float, now: float) -> None:
        """Learn from the answer to one that was sent at *sent_at*."""
        said = headers.get("RateLimit-Remaining")
        if said is None:
            # A gateway's page says nothing of the service behind it.
            self._has_answered = self._has_answered or status < 500
            return
        remaining, reset = _number(said), _number(headers.get("RateLimit-Reset"))
        if remaining is None or reset is None or not 0 <= reset <= _LONGEST_RESET:
            # As good as nothing said.
            self._has_answered = self._has_answered or status < 500
            return
        self._has_answered = True
        is_first = self._limit is None
        named = _number(headers.get("RateLimit-Limit")) or 0.0
        self._limit = named if named >= 1 else max(1.0, self._limit or 0.0, remaining)
        after, before = sent_at + reset - 1, now + reset + _MARGIN
        length = _LENGTH.search(headers.get("RateLimit-Policy", ""))
        if after >= self._resets_before:
            if length is not None and not is_first:
                # A window begins when the one before is over, or later.
                after = min(before, max(after, self._resets_after + float(length[1])))
            self._open(remaining + 1 if is_first else self._limit, after, before)
            self._was_in_time = status != 429
            self._weight = 0 if is_first else _WEIGHT_OF_BEFORE
        elif before > self._resets_after:
            self._resets_after = max(self._resets_after, after)
            self._resets_before = min(self._resets_before, before)
        else:
            # Late news of a window that is over.
            return
        self._remaining = min(self._remaining, remaining)
        self._refused += status == 429
        self._share()

    def _open(self, full: float, after: float, before: float) -> None:
        # What was spent before our very first request says nothing of what comes with the next.
        self._full = self._remaining = full
        self._resets_after, self._resets_before = after, before
        # Those under way may or may not be counted in what remains.
        self._sent = self.in_flight + 1
        self._refused = 0
        self._others_before = self._others

    def _share(self) -> None:
        """Work out how many of others' requests come with one of ours."""
        passed = max(1, self._sent - self._refused)
        theirs = max(0.0, self._full - self._remaining - self._sent)
        others = (theirs + self._weight * self._others_before) / (passed + self._weight)
        # Who was refused has asked for more than a share. Who gets little must not leave ever more.
        self._others = min((1 + others) * (1 + self._refused / passed) - 1, _MOST_OTHERS)

    def refused(self, now: float, seconds: float) -> float | None:
        """The limit was reached, and it is asked to wait for so many seconds.

        Returns:
            Seconds until the reset, if the headers said it: they tell it better than the whole seconds,
            rounded up, of a refusal. Else None, and nobody passes for so long.
        """
        if self._limit is not None and self._remaining <= 0 and now < self._resets_before:
            return self._resets_before - now
        self.close(now, seconds)
        return None

    def close(self, now: float, seconds: float) -> None:
        """Let nobody pass for so many seconds."""
        if seconds <= _LONGEST_RESET:
            self._closed_until = max(self._closed_until, now + seconds)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None
