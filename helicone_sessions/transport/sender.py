"""One query on its way: a slot, the gate, attempts, and the waits between them."""

import asyncio
import copy
import logging
from collections.abc import Mapping
from typing import Final

import attrs

from helicone_sessions.errors import APIError, HeliconeError, RateLimited, TransportError
from helicone_sessions.messages import protocol
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.transport.connection import Connection
from helicone_sessions.transport.rate_limit import Gate
from helicone_sessions.transport.retry import OnRetry, Retry, RetryPolicy
from helicone_sessions.transport.settings import ApiKey

_LOG: Final = logging.getLogger("helicone_sessions")

# What a query came to: its metrics, and how often it was asked.
Answer = tuple[SessionMetrics, int]


@attrs.define(eq=False)
class Sender:
    """Brings requests to the service and answers back.

    Args:
        connection: The connections.
        gate: Where the rate limit is waited for.
        slots: How many requests are under way at once.
        policy: What is asked again.
        timeout: Seconds for one attempt.
        key: The key, which no error may hold.
        on_retry: Called before each wait.
    """

    connection: Connection
    gate: Gate
    slots: asyncio.Semaphore
    policy: RetryPolicy
    timeout: float
    key: ApiKey
    on_retry: OnRetry | None = None
    _under_way: dict[bytes, "_UnderWay"] = attrs.field(factory=dict, init=False, repr=False)

    async def ask(self, body: bytes) -> Answer:
        """The answer to *body*; who asks for what is under way already is given the same answer.

        Raises:
            TransportError: No answer came.
            APIError: The answer is not metrics.
        """
        while (other := self._under_way.get(body)) is not None:
            if (answer := await other.answer()) is not None:
                return answer
        mine = self._under_way[body] = _UnderWay()
        try:
            # The slot lies outside the time limits, so that queueing never counts.
            await self.slots.acquire()
            try:
                answer = await self._answer(body)
            finally:
                self.slots.release()
        except HeliconeError as error:
            mine.came_to(error)
            raise
        else:
            mine.came_to(answer)
            return answer
        finally:
            del self._under_way[body]
            # One who gave up leaves the question to those who waited for its answer.
            mine.came_to(None)

    async def _answer(self, body: bytes) -> Answer:
        gate, policy, now = self.gate, self.policy, self.gate.clock.now
        attempts, waited, begun, failed = 0, 0.0, None, None
        while True:
            if not gate.try_pass():
                await gate.passed(again=isinstance(failed, RateLimited))
            sent_at = now()
            if begun is None:
                begun = failed_at = sent_at
            waited += sent_at - failed_at
            attempts += 1
            seconds, limit = policy.time_limit(self.timeout, sent_at - begun)
            try:
                status, headers, raw = await self._sent(body, seconds, limit, sent_at)
                return protocol.decipher(status, headers, raw, secret=self.key.reveal()), attempts
            except (TransportError, APIError) as error:
                failed = error
            failed.attempts, failed.waited, failed_at = attempts, waited, now()
            wait = policy.wait(failed, attempts, failed_at - begun)
            resets_in = self._tell_gate(failed, wait)
            self._tell(failed, wait if resets_in is None or wait is None else resets_in)
            if wait is None:
                raise failed
            if resets_in is None:
                await gate.clock.sleep(wait)

    async def _sent(
        self, body: bytes, seconds: float, limit: str, sent_at: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        gate, limiter = self.gate, self.gate.limiter
        try:
            if limiter is None:
                status, headers, raw = await self.connection.send(body, seconds, limit)
            else:
                async with limiter:
                    status, headers, raw = await self.connection.send(body, seconds, limit)
        except BaseException:
            gate.ended()
            raise
        gate.answered(status, headers, sent_at)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("status %d after %.3f s", status, gate.clock.now() - sent_at)
        return status, headers, raw

    def _tell_gate(self, failed: TransportError | APIError, wait: float | None) -> float | None:
        """Hold the others back too; seconds until the limit's reset, for which the gate holds this one."""
        asked: float | None = getattr(failed, "retry_after", None)
        if isinstance(failed, RateLimited):
            return self.gate.refused(asked or wait or 0.0)
        if asked is not None:
            self.gate.close(asked)
        return None

    def _tell(self, failed: TransportError | APIError, wait: float | None) -> None:
        """Tell the log and the caller's hook of an attempt that failed."""
        what = type(failed).__name__
        if isinstance(failed, APIError):
            what += f" (status {failed.status})"
        if wait is None:
            _LOG.info("%s, attempt %d: given up", what, failed.attempts)
            return
        _LOG.info("%s, attempt %d: asked again in %.2f s", what, failed.attempts, wait)
        if self.on_retry is not None:
            self.on_retry(Retry(failed, failed.attempts, wait))


class _UnderWay:
    """A request under way, for those who would ask the same."""

    __slots__ = ("_result",)

    def __init__(self) -> None:
        # Hardly ever does another ask the same, so there is no future before one does.
        self._result: asyncio.Future[Answer | HeliconeError | None] | None = None

    async def answer(self) -> Answer | None:
        """What it comes to, or None if it was given up.

        Raises:
            HeliconeError: A copy of the error that it came to.
        """
        if self._result is None:
            self._result = asyncio.get_running_loop().create_future()
        # Not awaited itself: one who is cancelled would cancel it for all.
        await asyncio.wait([self._result])
        result = self._result.result()
        if isinstance(result, HeliconeError):
            raise copy.copy(result)
        return result

    def came_to(self, result: Answer | HeliconeError | None) -> None:
        """Tell those who wait; only the first time counts."""
        if self._result is not None and not self._result.done():
            self._result.set_result(result)
