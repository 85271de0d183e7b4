"""`Watch`: tells the hooks of a client what becomes of one query."""

import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Final

import attrs

from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.transport.hooks import Attempt, Hooks, QueryOutcome

_LOG: Final = logging.getLogger("helicone_sessions")
_RAISED: Final = object()

# Who was told of a beginning and has to be told of the end, with what was returned.
_Told = list[tuple[Hooks, Any]]


@attrs.define(eq=False)
class Watch:
    """Keeps the times of one query, and tells its hooks.

    Args:
        hooks: Who is told: in this order of what begins, in the other of what ends.
        query: What is asked.
        now: The clock of the client.
    """

    hooks: tuple[Hooks, ...]
    query: SessionMetricsQuery
    now: Callable[[], float]
    is_shared: bool = attrs.field(default=False, init=False)
    _told: _Told = attrs.field(factory=list, init=False)
    _told_of_attempt: _Told = attrs.field(factory=list, init=False)
    _begun: float = attrs.field(default=0.0, init=False)
    _slot_at: float | None = attrs.field(default=None, init=False)
    _sent_at: float = attrs.field(default=0.0, init=False)
    _ended_at: float = attrs.field(default=0.0, init=False)
    _attempts: int = attrs.field(default=0, init=False)
    _in_attempts: float = attrs.field(default=0.0, init=False)

    async def over(
        self, ask: Callable[[], Awaitable[tuple[SessionMetrics, int]]]
    ) -> tuple[SessionMetrics, int]:
        """What *ask* comes to, with the hooks told of its beginning and its end."""
        self._begun = self.now()
        try:
            for hook in self.hooks:
                if (token := _returned(hook, "query_begins", self.query)) is not _RAISED:
                    self._told.append((hook, token))
            answer = await ask()
        except BaseException as error:
            self._ends(None, error)
            raise
        self._ends(answer[0], None)
        return answer

    def has_slot(self) -> None:
        """Nothing but the rate limit holds it back any more."""
        self._slot_at = self._ended_at = self.now()

    def attempt_begins(self, url: str) -> None:
        """A request is about to be sent."""
        self._sent_at = self.now()
        self._attempts += 1
        self._told_of_attempt = []
        for hook, token in self._told:
            if (own := _returned(hook, "attempt_begins", token, self._attempts, url)) is not _RAISED:
                self._told_of_attempt.append((hook, own))

    def attempt_ends(self, status: int | None, error: BaseException | None) -> None:
        """It has its answer, or has none."""
        waited = self._sent_at - self._ended_at
        self._ended_at = self.now()
        seconds = self._ended_at - self._sent_at
        self._in_attempts += seconds
        attempt = Attempt(self._attempts, status, error, seconds, waited)
        _all_told(self._told_of_attempt, "attempt_ends", attempt)

    def _ends(self, metrics: SessionMetrics | None, error: BaseException | None) -> None:
        now = self.now()
        slot_at = now if self._slot_at is None else self._slot_at
        outcome = QueryOutcome(
            query=self.query,
            metrics=metrics,
            error=error,
            attempts=self._attempts,
            is_shared=self.is_shared,
            seconds=now - self._begun,
            queued=0.0 if self.is_shared else slot_at - self._begun,
            waited=now - slot_at - self._in_attempts,
        )
        _all_told(self._told, "query_ends", outcome)


def _all_told(told: _Told, method: str, what: object) -> None:
    """Tell of an end, in the other order, also when one of them ends the program."""
    with ExitStack() as ends:
        for hook, token in told:
            ends.callback(_returned, hook, method, token, what)


def _returned(hook: Hooks, method: str, *given: object) -> Any:
    """What a hook returns; what it raises is told to the log, for no query may end with it."""
    try:
        return getattr(hook, method)(*given)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is another's mistake
        # Not its text, which may quote what the hook was given.
        where = "".join(traceback.format_tb(error.__traceback__))
        name = f"{type(hook).__name__}.{method}"
        _LOG.error("the hook %s raised %s; the query goes on\n%s", name, type(error).__name__, where)
        return _RAISED
