"""The rate limit as the service keeps it."""

import math
import threading
from typing import Any

import attrs

from helicone_sessions.masking import masked_repr


@attrs.define(eq=False)
class FixedWindow:
    """A number of requests until the window ends; the next request opens the next window.

    The service counts in this way, with express-rate-limit and the headers of the sixth draft of their
    standard (executed, open-source server of July 2026). Refused requests count too.

    Args:
        requests: The requests of a window.
        per: The length of a window in seconds.

    >>> window = FixedWindow(requests=1, per=60.0)
    >>> window.take(0.0), window.take(59.5), window.headers(59.5)["Retry-After"], window.take(60.0)
    (True, False, '1', True)
    """

    requests: int = attrs.field()
    per: float = attrs.field()
    _used: int = attrs.field(default=0, init=False)
    _ends: float = attrs.field(default=float("-inf"), init=False)
    _lock: Any = attrs.field(factory=threading.Lock, init=False, repr=False)

    @requests.validator
    def _counts(self, _field: object, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"requests is a whole number from 0 up, not {masked_repr(value)}")

    @per.validator
    def _lasts(self, _field: object, value: float) -> None:
        if not 0 < value < float("inf"):
            raise ValueError(f"per is seconds above zero, not {masked_repr(value)}")

    def take(self, now: float, count: int = 1) -> bool:
        """Count requests; False if there is no room for all of them."""
        with self._lock:
            if now >= self._ends:
                self._used, self._ends = 0, now + self.per
            self._used += count
            return self._used <= self.requests

    def headers(self, now: float) -> dict[str, str]:
        """The headers of a response; ``Retry-After`` if the window is overdrawn."""
        reset = str(max(0, math.ceil(self._ends - now)))
        headers = {
            "RateLimit-Limit": str(self.requests),
            "RateLimit-Remaining": str(max(0, self.requests - self._used)),
            "RateLimit-Reset": reset,
            "RateLimit-Policy": f"{self.requests};w={math.ceil(self.per)}",
        }
        return {**headers, "Retry-After": reset} if self._used > self.requests else headers
