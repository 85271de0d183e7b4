"""The retry policy: which failures to retry, and how long to wait.

The policy is pure and uses no clock.
"""

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

# The service passes on ClickHouse's error text. Only these words indicate a transient cause.
_PASSING: Final = re.compile(
    r"\b(timed[ -]out|(socket_)?timeout(_exceeded)?|too many simultaneous|memory limit"
    r"|connection (refused|reset)|ECONNREFUSED|ECONNRESET|ETIMEDOUT)\b",
    re.IGNORECASE,
)
_OF_SIZE: Final = re.compile(r"\b(timed[ -]out|timeout(_exceeded)?|memory limit)\b", re.IGNORECASE)
# Quoted text comes from the query, which can contain such words as well.
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
# 408: the server timed out before the request arrived. 425: the server does not accept requests so early in a
# connection.
_PASSING_STATUSES: Final = (408, 425)


def is_transient(error: HeliconeError) -> bool:
    """Whether a retry may succeed after this error.

    Retries are safe because the POST requests change nothing.
    """
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
    """Whether a retry that requests fewer rows may succeed after this error.

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
    """Decides how often to retry and how long to wait.

    Args:
        max_retries: The maximum number of retries per query.
        deadline: The time limit of a query with all its attempts and waits, in seconds, or None.
        first_wait: The maximum wait before the first retry, in seconds. It doubles with each retry.
        longest_wait: The upper bound of the maximum wait, in seconds.
        longest_asked: The longest wait, in seconds, that the service may request. If it requests a longer
            one, the query fails.
        patience: The time in seconds after which a query fails if the rate limit has refused all its
            attempts. With windows of up to an hour, a query succeeds long before this time, even if other
            processes use up the limit.
        random: Returns a number from 0 to 1. It adds jitter, so that clients that failed together do not
            retry together.
    """

    max_retries: int = 4
    deadline: float | None = None
    first_wait: float = 0.5
    longest_wait: float = 20.0
    longest_asked: float = LONGEST_WINDOW
    patience: float = 6 * LONGEST_WINDOW
    random: Callable[[], float] = random.random

    def wait(self, error: HeliconeError, retries: int) -> float | None:
        """Return the seconds to wait before the next retry, or None if the error is final.

        Args:
            error: The error of the latest attempt.
            retries: The number of retries so far.
        """
        if retries >= self.max_retries or isinstance(error, RateLimited) or not is_transient(error):
            return None
        wait = self.random() * min(self.longest_wait, self.first_wait * 2.0 ** min(retries, 60))
        asked: float | None = getattr(error, "retry_after", None)
        if asked is None:
            return wait
        # A retry before the requested time would be refused again, so jitter is only added.
        return asked + wait if asked <= self.longest_asked else None

    def outlasts(self, error: RateLimited, elapsed: float) -> bool:
        """Whether the query should keep waiting for the rate limit after a refusal.

        Args:
            error: The refusal.
            elapsed: The seconds since the start of the query.
        """
        return elapsed < self.patience and (error.retry_after or 0.0) <= self.longest_asked

    def time_limit(self, timeout: float, left: float) -> tuple[float, str, float]:
        """Return the timeout of an attempt in seconds, and the name and length of the limit that applies.

        Args:
            timeout: The time limit of one attempt, in seconds.
            left: The seconds until the deadline, or infinity if there is none.
        """
        if self.deadline is None or timeout <= left:
            return timeout, "timeout", timeout
        return left, "deadline", self.deadline
