"""When a failed attempt is made again, and after how long; pure policy, no clock."""

import random
import re
from collections.abc import Callable
from typing import Final

import attrs

from helicone_sessions.errors import (
    ConnectionFailed,
    HeliconeError,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
)

# The service passes on ClickHouse's words; only these tell of a moment that passes.
_PASSING: Final = re.compile(
    r"timed?[ -]?out|timeout|too many simultaneous|memory limit"
    r"|connection (refused|reset)|ECONNREFUSED|ECONNRESET",
    re.IGNORECASE,
)


def is_transient(error: HeliconeError) -> bool:
    """Whether the same question may well be answered a moment later.

    It can always be asked again: the POST only reads.
    """
    if isinstance(error, QueryFailed):
        return bool(_PASSING.search(error.message))
    if isinstance(error, ServerError):
        return error.status != 501
    return isinstance(error, (RateLimited, ConnectionFailed, RequestTimeout))


@attrs.frozen
class RetryPolicy:
    """How often and after how long.

    Args:
        max_retries: How often a query is asked again at most.
        first_wait: The longest wait before the first retry, in seconds; it doubles with each.
        longest_wait: Where the doubling ends, in seconds.
        longest_asked: The longest wait that the service may ask for, in seconds; beyond it the error is
            raised at once.
        random: A number from 0 to 1; jitter keeps many clients from coming back at one moment.
    """

    max_retries: int = 4
    first_wait: float = 0.5
    longest_wait: float = 20.0
    longest_asked: float = 120.0
    random: Callable[[], float] = random.random

    def wait(self, error: HeliconeError, attempts: int) -> float | None:
        """Seconds to wait before asking again after *attempts* attempts, or None to give up."""
        if attempts > self.max_retries or not is_transient(error):
            return None
        backoff = self.random() * min(self.longest_wait, self.first_wait * 2.0 ** min(attempts - 1, 60))
        asked = getattr(error, "retry_after", None)
        if asked is None:
            return backoff
        # Earlier than asked would be refused again: jitter only adds.
        return None if asked > self.longest_asked else asked + backoff
