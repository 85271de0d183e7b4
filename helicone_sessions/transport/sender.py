"""One query on its way: a slot, the gate, attempts, and the waits between them."""

import asyncio
import copy
import logging
from typing import Final, TypeVar

import attrs

from helicone_sessions.errors import APIError, HeliconeError, RateLimited, TransportError
from helicone_sessions.messages import protocol
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.transport.connection import Connection
from helicone_sessions.transport.gate import Gate
from helicone_sessions.transport.retry import OnRetry, Retry, RetryPolicy
from helicone_sessions.transport.settings import ApiKey
from helicone_sessions.transport.watch import Watch

_LOG: Final = logging.getLogger("helicone_sessions")

# What a query came to: its metrics, and how often it was asked.
Answer = tuple[SessionMetrics, int]
Shared = Answer | HeliconeError | None
# Seconds, the name of the limit that says so, and the whole of it.
_TimeLimit = tuple[float, str, float]


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
    # Hardly ever does another ask the same at the same time, so there is no future before one does.
    _under_way: "dict[bytes, asyncio.Future[Shared] | None]" = attrs.field(
        factory=dict, init=False, repr=False
    )

    async def ask(self, body: bytes, watch: Watch | None = None) -> Answer:
        """The answer to *body*; who asks for what is under way already is given the same answer.

        Args:
            body: The request's body.
            watch: Who is told what becomes of it.

        Raises:
            TransportError: No answer came.
            APIError: The answer is not metrics.
        """
        while body in self._under_way:
            if watch is not None:
                watch.is_shared = True
            if (shared := await self._shared(body)) is not None:
                return shared
        came_to: Shared = None
        self._under_way[body] = None
        # The slot lies outside the time limits, so that queueing never counts.
        try:
            await self.slots.acquire()
            try:
                if watch is not None:
                    watch.is_shared = False
                    watch.has_slot()
                came_to = answer = await self._answer(body, watch)
            finally:
                self.slots.release()
        except HeliconeError as error:
            came_to = error
            raise
        else:
            return answer
        finally:
            others = self._under_way.pop(body)
            if others is not None:
                # Of one who gave up this is None, which leaves the question to those who waited.
                others.set_result(came_to)

    async def _shared(self, body: bytes) -> Answer | None:
        """What another's request comes to, or None if it was given up.

        Raises:
            HeliconeError: A copy of the error that it came to.
        """
        others = self._under_way[body]
        if others is None:
            others = self._under_way[body] = asyncio.get_running_loop().create_future()
        # Not awaited itself: one who is cancelled would cancel it for all.
        await asyncio.wait([others])
        came_to = others.result()
        if isinstance(came_to, HeliconeError):
            raise copy.copy(came_to)
        return came_to

    async def _answer(self, body: bytes, watch: Watch | None) -> Answer:
        gate, policy, tries = self.gate, self.policy, _Tries(watch)
        while True:
            if gate.limiter is None:
                found = await self._attempt(body, tries)
            else:
                # Outside the gate, whose leave is for now: a limiter may take its time, or fail.
                async with gate.limiter:
                    found = await self._attempt(body, tries)
            if isinstance(found, SessionMetrics):
                return found, tries.attempts
            if found is tries.failed:
                # It was held for longer than there was time.
                self._tell(found, None)
                raise found
            elapsed = tries.note(found, gate.clock.now())
            wait = policy.wait(found, tries.attempts, elapsed)
            resets_in = self._tell_gate(found, wait)
            if resets_in is not None and wait is not None:
                wait = None if policy.is_over(elapsed + resets_in) else resets_in
            self._tell(found, wait)
            if wait is None:
                raise found
            if resets_in is None:
                await gate.clock.sleep(wait)

    async def _attempt(self, body: bytes, tries: "_Tries") -> SessionMetrics | TransportError | APIError:
        """What an attempt comes to; if there was no time for one, what the one before came to."""
        gate, policy, failed = self.gate, self.policy, tries.failed
        if not gate.try_pass():
            until = None if failed is None else tries.ends_at(policy.deadline)
            again, last = isinstance(failed, RateLimited), tries.attempts == policy.max_retries
            if not await gate.passed(again=again, last=last, until=until):
                tries.begin(gate.clock.now())
                return failed  # type: ignore[return-value] # there is one where there is an end
        sent_at = gate.clock.now()
        elapsed = tries.begin(sent_at)
        if failed is not None and policy.is_over(elapsed):
            gate.ended()
            return failed
        tries.attempts += 1
        limit = policy.time_limit(self.timeout, elapsed)
        if tries.watch is None:
            return await self._sent(body, limit, tries, sent_at)
        return await self._watched(tries.watch, body, limit, tries, sent_at)

    async def _watched(
        self, watch: Watch, body: bytes, limit: _TimeLimit, tries: "_Tries", sent_at: float
    ) -> SessionMetrics | TransportError | APIError:
        try:
            found = await self._sent(body, limit, tries, sent_at)
        except BaseException as error:
            watch.attempt_ends(tries.status, error)
            raise
        if isinstance(found, SessionMetrics):
            watch.attempt_ends(tries.status, None)
        else:
            found.attempts = tries.attempts
            watch.attempt_ends(tries.status, found)
        return found

    async def _sent(
        self, body: bytes, limit: _TimeLimit, tries: "_Tries", sent_at: float
    ) -> SessionMetrics | TransportError | APIError:
        gate, tries.status = self.gate, None
        try:
            if tries.watch is not None:
                tries.watch.attempt_begins(self.connection.shown_url)
            status, headers, raw = await self.connection.send(body, *limit)
        except TransportError as error:
            gate.ended()
            return without_frames(error)
        except BaseException:
            gate.ended()
            raise
        tries.status = status
        gate.answered(status, headers, sent_at)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("status %d after %.3f s", status, gate.clock.now() - sent_at)
        try:
            return protocol.decipher(status, headers, raw, secret=self.key.reveal())
        except APIError as error:
            return without_frames(error)

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


@attrs.define(eq=False)
class _Tries:
    """How often one query was asked, and when."""

    watch: Watch | None = None
    attempts: int = 0
    # Of the answer to the latest attempt, if there was one.
    status: int | None = None
    failed: TransportError | APIError | None = None
    _begun: float | None = None
    _failed_at: float = 0.0
    _waited: float = 0.0

    def begin(self, now: float) -> float:
        """Note that an attempt begins; seconds since the first did."""
        if self._begun is None:
            self._begun = now
            return 0.0
        self._waited += now - self._failed_at
        if self.failed is not None:
            self.failed.waited = self._waited
        return now - self._begun

    def note(self, failed: TransportError | APIError, now: float) -> float:
        """Note what an attempt came to; seconds since the first began."""
        failed.attempts, failed.waited = self.attempts, self._waited
        self.failed, self._failed_at = failed, now
        return 0.0 if self._begun is None else now - self._begun

    def ends_at(self, deadline: float | None) -> float | None:
        """When the deadline is over, or None if there is none."""
        return None if deadline is None or self._begun is None else self._begun + deadline


Failed = TypeVar("Failed", bound=BaseException)


def without_frames(error: Failed) -> Failed:
    """The error and all that led to it without frames: tools that show their variables would show the key."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error
