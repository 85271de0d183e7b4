"""When a failed attempt is made again, and after how long; pure policy, no clock."""

import random
import re
from collections.abc import Callable
from typing import Final

import attrs

from helicone_sessions.errors import (
    APIError,
    ConnectionFailed,
    HeliconeError,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
    TransportError,
)

# The service passes on ClickHouse's words; only these tell of a moment that passes.
_PASSING: Final = re.compile(
    r"\b(timed[ -]out|(socket_)?timeout(_exceeded)?|too many simultaneous|memory limit"
    r"|connection (refused|reset)|ECONNREFUSED|ECONNRESET|ETIMEDOUT)\b",
    re.IGNORECASE,
)
# What it quotes is the query's own, where a column or a key may be called so.
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
# The server gave up waiting for the request, or would rather not answer it so early in a connection.
_PASSING_STATUSES: Final = (408, 425)


def is_transient(error: HeliconeError) -> bool:
    """Whether the same question may well be answered a moment later.

    It can always be asked again: the POST only reads.
    """
    if isinstance(error, QueryFailed) or (isinstance(error, ServerError) and error.is_lasting):
        return bool(_PASSING.search(_QUOTED.sub("", error.message)))
    if isinstance(error, ServerError):
        return error.status != 501
    if isinstance(error, APIError) and error.status in _PASSING_STATUSES:
        return True
    if isinstance(error, ConnectionFailed):
        return not error.is_lasting
    return isinstance(error, (RateLimited, RequestTimeout))


@attrs.frozen
class Retry:
    """A failed attempt that is about to be made again; what `HeliconeClient`'s *on_retry* is called with.

    Args:
        error: What went wrong.
        attempts: How often the query was asked until now.
        wait: Seconds until it is asked again; the rate limit may make it longer. After a refusal whose
            headers tell the reset, they last until that is certain, and the query may be asked earlier.

    >>> def say(retry):
    ...     print(f"{type(retry.error).__name__}, asked again in {retry.wait:.1f} s")
    >>> say(Retry(ServerError("bad gateway", status=502), attempts=1, wait=0.4))
    ServerError, asked again in 0.4 s
    """

    error: TransportError | APIError
    attempts: int
    wait: float


OnRetry = Callable[[Retry], object]


@attrs.frozen
class RetryPolicy:
    """How often and after how long.

    Args:
        max_retries: How often a query is asked again at most.
        deadline: Seconds from a query's first attempt to the end of its last one, waits included; None
            for no limit.
        first_wait: The longest wait before the first retry, in seconds; it doubles with each.
        longest_wait: Where the doubling ends, in seconds.
        longest_asked: The longest wait that the service may ask for, in seconds; beyond it the error is
            raised at once.
        random: A number from 0 to 1; jitter keeps many clients from coming back at one moment.
    """

    max_retries: int = 4
    deadline: float | None = None
    first_wait: float = 0.5
    longest_wait: float = 20.0
    longest_asked: float = 120.0
    random: Callable[[], float] = random.random

    def wait(self, error: HeliconeError, attempts: int, elapsed: float = 0.0) -> float | None:
        """Seconds to wait before asking again, or None to give up.

        Args:
            error: What the last attempt came to.
            attempts: How many there were.
            elapsed: Seconds since the first began.
        """
        if attempts > self.max_retries or not is_transient(error):
            return None
        wait = self.random() * min(self.longest_wait, self.first_wait * 2.0 ** min(attempts - 1, 60))
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None:
            if asked > self.longest_asked:
                return None
            # Earlier than asked would be refused again: jitter only adds.
            wait += asked
        return None if self.is_over(elapsed + wait) else wait

    def is_over(self, elapsed: float) -> bool:
        """Whether what begins so many seconds after the first attempt cannot end in time."""
        return self.deadline is not None and elapsed >= self.deadline

    def time_limit(self, timeout: float, elapsed: float) -> tuple[float, str, float]:
        """Seconds that an attempt may take, the name of the limit that says so, and the whole of it."""
        if self.deadline is None or elapsed + timeout <= self.deadline:
            return timeout, "timeout", timeout
        return self.deadline - elapsed, "deadline", self.deadline
