"""One query on its way to the service: a slot, the rate gate, attempts, and the waits between them."""

import asyncio
import copy
import logging
import math
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeVar

import attrs

from helicone_sessions.errors import (
    APIError,
    ConfigurationError,
    HeliconeError,
    RateLimited,
    RequestTimeout,
    TransportError,
)
from helicone_sessions.messages import protocol
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.transport.connection import Connection
from helicone_sessions.transport.endpoint import ApiKey
from helicone_sessions.transport.hooks import Observer
from helicone_sessions.transport.rate_gate import Gate
from helicone_sessions.transport.retry import RetryPolicy

_LOG: Final = logging.getLogger("helicone_sessions")
_Failure = TransportError | APIError


@attrs.define(eq=False)
class Sender:
    """Sends the queries of a client.

    Args:
        connection: The connections.
        gate: Where queries wait for the rate limit.
        slots: Bounds the number of queries under way.
        policy: Which failures are retried, and when.
        timeout: Seconds for one attempt.
        key: The key, which no error may hold.
    """

    connection: Connection
    gate: Gate
    slots: asyncio.Semaphore
    policy: RetryPolicy
    timeout: float
    key: ApiKey
    _running: "dict[bytes, asyncio.Future[SessionMetrics | HeliconeError | None]]" = attrs.field(
        factory=dict, init=False, repr=False
    )

    async def send(self, body: bytes, observer: Observer) -> SessionMetrics:
        """The metrics for a request body; identical bodies under way at the same time are sent once.

        Args:
            body: The body.
            observer: Keeps the times and calls the hooks.

        Raises:
            TransportError: There is no answer.
            APIError: The answer holds no metrics.
        """
        while (running := self._running.get(body)) is not None:
            observer.is_shared = True
            # Not awaited itself: one waiter that is cancelled would cancel it for all.
            await asyncio.wait([running])
            outcome = running.result()
            if isinstance(outcome, HeliconeError):
                raise copy.copy(outcome)
            if outcome is not None:
                return outcome
        observer.is_shared = False
        running = self._running[body] = asyncio.get_running_loop().create_future()
        outcome = None
        try:
            # Outside all timeouts, so that waiting for a slot never counts.
            await self.slots.acquire()
            try:
                observer.has_slot()
                outcome = await self._until_success(body, observer)
            finally:
                self.slots.release()
        except HeliconeError as error:
            outcome = error
            raise
        else:
            return outcome
        finally:
            del self._running[body]
            # None if this query was cancelled: one that waited for it sends the body itself.
            running.set_result(outcome)

    async def _until_success(self, body: bytes, observer: Observer) -> SessionMetrics:
        clock, policy = self.gate.clock, self.policy
        began = clock.now()
        until = math.inf if policy.deadline is None else began + policy.deadline
        retries = 0
        while True:
            outcome = await self._attempt(body, observer, until)
            if isinstance(outcome, SessionMetrics):
                return outcome
            now = clock.now()
            wait: float | None
            if isinstance(outcome, RateLimited) and policy.outlasts(outcome, now - began):
                # The gate holds the query back until there is room, which is no retry.
                wait = 0.0
                _LOG.info("%s: waits for the rate limit", _described(outcome))
            else:
                wait = policy.wait(outcome, retries)
                retries += 1
                if wait is None or now + wait >= until:
                    _LOG.info("%s: not retried", _described(outcome))
                    raise outcome
                _LOG.info("%s: retry in %.2f s", _described(outcome), wait)
                observer.waits("retry", wait)
                await clock.sleep(wait)

    async def _attempt(self, body: bytes, observer: Observer, until: float) -> SessionMetrics | _Failure:
        """The outcome of one attempt; a failure is returned, so that it holds no frames with the key."""
        gate = self.gate
        if not await gate.enter(until, partial(observer.waits, "rate limit")):
            raise self._too_late(observer)
        if gate.limiter is None:
            return await self._send(body, observer, until)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None if until == math.inf else until - gate.clock.now()):
                    await stack.enter_async_context(gate.limiter)
            except BaseException as error:
                gate.left()
                if isinstance(error, TimeoutError):
                    raise self._too_late(observer) from None
                raise
            if gate.clock.now() >= until:
                gate.left()
                raise self._too_late(observer)
            return await self._send(body, observer, until)
        raise ConfigurationError(
            argument="rate_limit",
            problem="must not suppress exceptions",
            remedy="Return None from its __aexit__",
        )

    async def _send(self, body: bytes, observer: Observer, until: float) -> SessionMetrics | _Failure:
        """The outcome of a request for which there is room."""
        gate = self.gate
        sent_at = gate.clock.now()
        status = None
        try:
            observer.attempt_begins(self.connection.shown_url)
            limit = self.policy.time_limit(self.timeout, until - sent_at)
            status, headers, raw = await self.connection.send(body, *limit)
        except BaseException as error:
            gate.left()
            observer.attempt_ends(None, error)
            if isinstance(error, TransportError):
                return without_frames(error)
            raise
        gate.answered(status, headers, sent_at)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("status %d after %.3f s", status, gate.clock.now() - sent_at)
        try:
            metrics = protocol.decipher(status, headers, raw, secret=self.key.reveal())
        except APIError as error:
            observer.attempt_ends(status, error)
            return without_frames(error)
        observer.attempt_ends(status, None)
        return metrics

    def _too_late(self, observer: Observer) -> _Failure:
        """The error of a query that the rate limit holds back beyond its deadline."""
        deadline = self.policy.deadline or math.inf
        error = observer.failed or RequestTimeout(
            f"the rate limit holds the query back for longer than {deadline:g} s (deadline, all attempts)",
            argument="deadline",
            problem=f"of {deadline:g} s is over before the rate limit lets the query through",
            remedy="Send fewer queries, or give them more time",
            limit="deadline",
            seconds=deadline,
            attempts=0,
        )
        _LOG.info("%s: no attempt before the deadline", _described(error))
        return error


def _described(error: _Failure) -> str:
    status = f" (status {error.status})" if isinstance(error, APIError) else ""
    return f"{type(error).__name__}{status}, attempt {error.attempts}"


Failed = TypeVar("Failed", bound=BaseException)


def without_frames(error: Failed) -> Failed:
    """The error and its causes without frames: tools that show local variables would show the key."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error
