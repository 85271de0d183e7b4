"""Callbacks for logging, measuring and tracing queries."""

import inspect
import logging
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Literal, Self

import attrs

from helicone_sessions.errors import APIError, ConfigurationError, TransportError
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.protocol import AnyQuery

WaitReason = Literal["rate limit", "retry"]
"""The reason for a wait: the rate limit of the service or of ``rate_limit=``, or the pause before a retry."""

_LOG: Final = logging.getLogger("helicone_sessions")
_RAISED: Final = object()
# The hooks whose ``ends`` method must still be called, each with its token.
_Begun = list[tuple["Hooks", Any]]


@attrs.frozen
class Attempt:
    """One attempt of a query, and its outcome.

    Args:
        number: The number of the attempt within the query, starting at 1.
        status: The HTTP status of the response, or None if no response arrived.
        error: None if the attempt succeeded. Otherwise a `HeliconeError`, or the exception that ended the
            task, such as a `CancelledError`.
        seconds: The seconds from sending the request to the end of the response.
        waited: The seconds spent waiting before this attempt, for the rate limit or after a failed attempt.

    >>> attempt = Attempt(number=2, status=200, error=None, seconds=0.8, waited=0.5)
    >>> print(f"attempt {attempt.number}: status {attempt.status} after {attempt.seconds} s")
    attempt 2: status 200 after 0.8 s
    """

    number: int
    status: int | None
    error: BaseException | None
    seconds: float
    waited: float


@attrs.frozen
class QueryOutcome:
    """One query of a client, and its outcome.

    Args:
        query: A `SessionMetricsQuery`, or the query for a page or count of sessions or requests.
        answer: `SessionMetrics`, or the answer of another endpoint, such as a page of sessions. None if the
            query failed.
        error: None if the query succeeded. Otherwise a `HeliconeError`, or the exception that ended the task,
            such as a `CancelledError`.
        attempts: The number of requests sent for this query. It is 0 if no request was needed, if the query
            ended before its first request, or if it shared the response to an identical query.
        is_shared: Whether the query waited for the response to an identical query in progress.
        seconds: The seconds from start to end, including all waits.
        queued: The seconds spent waiting for one of the client's slots (``max_concurrency``).
        waited: The seconds spent waiting before attempts, as in `Attempt`.

    >>> from helicone_sessions import HeliconeClient
    >>> class Ends(Hooks):
    ...     def query_ends(self, token, outcome):
    ...         print(outcome.error or outcome.metrics.average.session_cost, outcome.attempts)
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(
    ...         fake.api_key, base_url=fake.url, hooks=Ends()
    ...     ) as client:
    ...         await client.get_metrics()
    >>> import asyncio
    >>> asyncio.run(main())
    0.25 1
    """

    query: AnyQuery
    answer: Any
    error: BaseException | None
    attempts: int
    is_shared: bool
    seconds: float
    queued: float
    waited: float

    @property
    def metrics(self) -> SessionMetrics | None:
        """The metrics, or None if the query failed or was not a query for metrics."""
        return self.answer if isinstance(self.answer, SessionMetrics) else None


class Hooks:
    """Base class for callbacks about queries, attempts and waits.

    Subclass it, override the methods you need, and pass an instance to the client. The client calls the
    methods in the task of the query and does not await them, so they should be quick.

    The value that a ``begins`` method returns is passed to the matching ``ends`` method, which is always
    called, even if the task is cancelled.

    An exception in a method does not end the query. The client logs the class and traceback of the exception,
    but not the message, to the logger ``helicone_sessions``. If a ``begins`` method fails, the client skips
    the methods that would receive the token.
    Only exceptions that end a task or the program, such as ``CancelledError`` or ``SystemExit``, are raised,
    after all other hooks have been called.

    By default, `query_begins` returns the query, and `attempt_begins` returns the token that it receives.

    >>> class Requests(Hooks):
    ...     def query_begins(self, query):
    ...         return query.filter
    ...     def attempt_begins(self, token, number, url):
    ...         print("attempt", number)
    ...     def attempt_ends(self, token, attempt):
    ...         print("status", attempt.status)
    ...     def waits(self, token, seconds, reason, error):
    ...         print(f"waits {seconds:.0f} s ({reason})")
    ...     def query_ends(self, token, outcome):
    ...         print(token, "took", outcome.attempts)
    >>> from helicone_sessions import F, HeliconeClient, clock
    >>> from helicone_sessions.testing import FakeHelicone, Reply, VirtualClock
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(
    ...         fake.api_key, base_url=fake.url, hooks=Requests()
    ...     ) as client:
    ...         fake.will_answer(Reply(429, headers={"Retry-After": "200"}))
    ...         await client.get_metrics(F.cost > 0.1)
    >>> import asyncio
    >>> with clock.replaced(VirtualClock()):
    ...     asyncio.run(main())
    attempt 1
    status 429
    waits 200 s (rate limit)
    attempt 2
    status 200
    cost > 0.1 took 2
    """

    def query_begins(self, query: AnyQuery) -> Any:
        """Called when a query begins, before it waits for a slot.

        Args:
            query: The query.

        Returns:
            A token that is passed to the other methods for this query.
        """
        return query

    def attempt_begins(self, token: Any, number: int, url: str) -> Any:
        """Called just before a request is sent.

        Args:
            token: The return value of `query_begins`.
            number: The number of the attempt within the query, starting at 1.
            url: The URL of the request.

        Returns:
            A token that is passed to `attempt_ends` for this attempt.
        """
        return token

    def attempt_ends(self, token: Any, attempt: Attempt) -> None:
        """Called when a response has been read, or when the attempt has ended without one.

        Args:
            token: The return value of `attempt_begins`.
            attempt: The attempt and its outcome.
        """

    def waits(
        self, token: Any, seconds: float, reason: WaitReason, error: TransportError | APIError | None
    ) -> None:
        """Called when a query starts to wait for its next attempt, once the length of the wait is known.

        It is called again if the wait turns out to be longer. It is not called while the query waits for a
        slot, or for the response to another query that will show whether the rate limit has room.

        Args:
            token: The return value of `query_begins`.
            seconds: The expected length of the wait, in seconds.
            reason: ``"rate limit"`` for the limit of the service or of ``rate_limit=``, ``"retry"`` for the
                pause after a failed attempt.
            error: The error of the previous attempt, or None before the first attempt.
        """

    def query_ends(self, token: Any, outcome: QueryOutcome) -> None:
        """Called when a query has succeeded or failed.

        Args:
            token: The return value of `query_begins`.
            outcome: The query and its outcome.
        """


def check_hooks(value: Any) -> tuple[Hooks, ...]:
    """Return the hooks in *value*, which may be None, one hook, or an iterable of hooks.

    Raises:
        ConfigurationError: An item is not an instance of `Hooks`, or has async methods.
    """
    if value is None:
        return ()
    given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, Hooks) else (value,)
    for one in given:
        if not isinstance(one, Hooks):
            raise ConfigurationError(
                argument="hooks",
                problem=f"must be instances of Hooks, got {masked_repr(value)}",
            )
        for name in ("query_begins", "attempt_begins", "attempt_ends", "waits", "query_ends"):
            if inspect.iscoroutinefunction(getattr(one, name)):
                raise ConfigurationError(
                    argument="hooks",
                    problem=f"are not awaited, got the async method {type(one).__name__}.{name}",
                    remedy="Define it without async",
                )
    return given


class Observer:
    """A context manager around one query that measures its times and calls the hooks.

    Args:
        hooks: The hooks. Their ``begins`` methods are called in the given order, and their ``ends`` methods
            in reverse order.
        query: The query.
        now: Returns the time on the client's clock, in seconds.
    """

    answer: Any = None
    is_shared: bool = False

    def __init__(self, hooks: tuple[Hooks, ...], query: AnyQuery, now: Callable[[], float]) -> None:
        self._hooks = hooks
        self._query = query
        self._now = now
        self._began = self._sent_at = now()
        self._slot_at: float | None = None
        # The time at which the latest attempt ended or, before the first attempt, the query got its slot.
        self._idle_since = 0.0
        # The wait before the latest attempt, and the total length of all attempts, both in seconds.
        self._waited = self._in_attempts = 0.0
        self._attempts = 0
        self._failed: TransportError | APIError | None = None
        self._begun: _Begun = []
        self._begun_attempt: _Begun = []

    def __enter__(self) -> Self:
        try:
            for hook in self._hooks:
                if (token := _call(hook, "query_begins", self._query)) is not _RAISED:
                    self._begun.append((hook, token))
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def has_slot(self) -> None:
        """Record that the query got a slot. Any wait from now on is for the rate limit or a retry."""
        self._slot_at = self._idle_since = self._now()

    def waits(self, reason: WaitReason, seconds: float) -> None:
        """Report a wait and its expected length in seconds to the hooks."""
        for hook, token in self._begun:
            _call(hook, "waits", token, seconds, reason, self._failed)

    def attempt_begins(self, url: str) -> None:
        """Record the start of an attempt, and call the hooks."""
        self._sent_at = self._now()
        self._waited = self._sent_at - self._idle_since
        self._attempts += 1
        self._begun_attempt = []
        for hook, token in self._begun:
            if (own := _call(hook, "attempt_begins", token, self._attempts, url)) is not _RAISED:
                self._begun_attempt.append((hook, own))

    def attempt_ends(self, status: int | None, error: BaseException | None) -> None:
        """Record the end of an attempt, and call the hooks."""
        self._idle_since = self._now()
        seconds = self._idle_since - self._sent_at
        self._in_attempts += seconds
        if isinstance(error, (TransportError, APIError)):
            self._failed = error
        attempt = Attempt(self._attempts, status, error, seconds, self._waited)
        _call_all(self._begun_attempt, "attempt_ends", attempt)

    def _end(self, error: BaseException | None) -> None:
        now = self._now()
        slot_at = now if self._slot_at is None else self._slot_at
        outcome = QueryOutcome(
            query=self._query,
            answer=self.answer,
            error=error,
            attempts=self._attempts,
            is_shared=self.is_shared,
            seconds=now - self._began,
            queued=0.0 if self.is_shared else slot_at - self._began,
            waited=now - slot_at - self._in_attempts,
        )
        _call_all(self._begun, "query_ends", outcome)


def _call_all(begun: _Begun, method: str, outcome: object) -> None:
    """Call a method of all hooks in reverse order, even if one of them ends the program."""
    with ExitStack() as ends:
        for hook, token in begun:
            ends.callback(_call, hook, method, token, outcome)


def _call(hook: Hooks, method: str, *arguments: object) -> Any:
    """Call a method of a hook and return the result; an exception in the method never ends the query."""
    try:
        return getattr(hook, method)(*arguments)
    except Exception as error:  # noqa: BLE001 - any exception is a mistake in the hook
        # Leave out the message of the exception: it may quote the arguments.
        where = "".join(traceback.format_tb(error.__traceback__))
        name = f"{type(hook).__name__}.{method}"
        _LOG.error("the hook %s raised %s; the query continues\n%s", name, type(error).__name__, where)
        return _RAISED
