"""The failures to retry, and the waits: a pure policy without a clock."""

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
    UnexpectedResponse,
)
from helicone_sessions.transport.rate_limit import LONGEST_WINDOW

# The service forwards ClickHouse's text; only these words name a transient cause.
_PASSING: Final = re.compile(
    r"\b(timed[ -]out|(socket_)?timeout(_exceeded)?|too many simultaneous|memory limit"
    r"|connection (refused|reset)|ECONNREFUSED|ECONNRESET|ETIMEDOUT)\b",
    re.IGNORECASE,
)
_OF_SIZE: Final = re.compile(r"\b(timed[ -]out|timeout(_exceeded)?|memory limit)\b", re.IGNORECASE)
# Quoted text is part of the query, which can hold such words too.
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
# The server timed out before the request arrived, or does not accept it so early in a connection.
_PASSING_STATUSES: Final = (408, 425)


def is_transient(error: HeliconeError) -> bool:
    """Whether a retry may succeed; retries do no harm, because the POST only reads."""
    if isinstance(error, QueryFailed) or (isinstance(error, ServerError) and error.is_lasting):
        return bool(_PASSING.search(_QUOTED.sub("", error.message)))
    if isinstance(error, ServerError):
        return error.status != 501
    if isinstance(error, APIError) and error.status in _PASSING_STATUSES:
        return True
    if isinstance(error, UnexpectedResponse):
        return error.is_truncated
    if isinstance(error, ConnectionFailed):
        return not error.is_lasting
    return isinstance(error, (RateLimited, RequestTimeout))


def takes_too_long(error: HeliconeError) -> bool:
    """Whether a query for fewer rows may succeed instead.

    >>> takes_too_long(ServerError("a gateway's timeout", status=504))
    True
    """
    if isinstance(error, RequestTimeout):
        return error.limit == "timeout"
    if isinstance(error, UnexpectedResponse):
        return error.is_too_large
    if isinstance(error, ServerError) and not error.is_lasting:
        return error.status in (500, 504)
    return isinstance(error, (QueryFailed, ServerError)) and bool(
        _OF_SIZE.search(_QUOTED.sub("", error.message))
    )


@attrs.frozen
class RetryPolicy:
    """The number of retries, and the waits before them.

    Args:
        max_retries: The number of retries of a query.
        deadline: Seconds for a query with all its attempts and waits, or None.
        first_wait: The longest wait before the first retry, in seconds; it doubles with each retry.
        longest_wait: The largest of these waits, in seconds.
        longest_asked: The longest wait, in seconds, that the service may request; a longer one is an error.
        patience: Seconds after which a query that was only refused becomes an error. With windows of up to
            an hour, a query gets through long before that, even if other processes use up the limit.
        random: A number from 0 to 1 for jitter, so that clients that failed together do not return together.
    """

    max_retries: int = 4
    deadline: float | None = None
    first_wait: float = 0.5
    longest_wait: float = 20.0
    longest_asked: float = LONGEST_WINDOW
    patience: float = 6 * LONGEST_WINDOW
    random: Callable[[], float] = random.random

    def wait(self, error: HeliconeError, retries: int) -> float | None:
        """Seconds to wait before the next retry, or None if the error is final.

        Args:
            error: The outcome of the latest attempt.
            retries: The number of retries so far.
        """
        if retries >= self.max_retries or isinstance(error, RateLimited) or not is_transient(error):
            return None
        wait = self.random() * min(self.longest_wait, self.first_wait * 2.0 ** min(retries, 60))
        asked: float | None = getattr(error, "retry_after", None)
        if asked is None:
            return wait
        # An earlier retry would be refused again, so jitter only adds.
        return asked + wait if asked <= self.longest_asked else None

    def outlasts(self, error: RateLimited, elapsed: float) -> bool:
        """Whether the query waits until the rate limit admits it.

        Args:
            error: The refusal.
            elapsed: Seconds since the query began.
        """
        return elapsed < self.patience and (error.retry_after or 0.0) <= self.longest_asked

    def time_limit(self, timeout: float, left: float) -> tuple[float, str, float]:
        """Seconds for an attempt, with the name and the length of the limit that sets them.

        Args:
            timeout: Seconds for one attempt.
            left: Seconds until the deadline, infinite without one.
        """
        if self.deadline is None or timeout <= left:
            return timeout, "timeout", timeout
        return left, "deadline", self.deadline
