"""Many queries at once: bounded, pulled as slots get free, one outcome for each, nothing left behind."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs

from helicone_sessions.errors import AuthenticationError, FilterTypeError, HeliconeError
from helicone_sessions.filters.filter import Condition, Operand, as_filter
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery

K = TypeVar("K")

Query = SessionMetricsQuery | Condition
Queries = Mapping[K, Query] | Iterable[Query] | AsyncIterable[Query]
Ask = Callable[[SessionMetricsQuery], Awaitable[tuple[SessionMetrics, int]]]

# In order, a slow query holds back the ones after it; so many per slot may be finished and waiting.
_LOOK_AHEAD = 4


@attrs.frozen
class MetricsOutcome(Generic[K]):
    """What became of one query of a batch; exactly one of *metrics* and *error* is None.

    Args:
        key: The query's key in a mapping, else its place in the input.
        query: What was asked.
        metrics: The answer.
        error: Why there is none.
        attempts: How often it was asked.
        elapsed: Seconds from its start to its end, waits included.
    """

    key: K
    query: SessionMetricsQuery
    metrics: SessionMetrics | None
    error: HeliconeError | None
    attempts: int
    elapsed: float


def as_query(value: Any, key: object) -> SessionMetricsQuery:
    """A query itself, or the query for a filter; *key* says in an error which of many it is.

    Raises:
        FilterTypeError: It is neither.
    """
    if isinstance(value, SessionMetricsQuery):
        return value
    if isinstance(value, Operand):
        return SessionMetricsQuery(filter=as_filter(value))
    raise FilterTypeError(
        f"a query is a SessionMetricsQuery or a filter, not {type(value).__name__} {value!r} (at {key!r})"
    )


class MetricsStream(Generic[K]):
    """The outcomes of a batch, one by one.

    ``async for`` gives them. Used with ``async with``, leaving the block ends what still runs, and waits
    until it has ended.
    """

    def __init__(self, queries: Queries[K], ask: Ask, *, concurrency: int, ordered: bool) -> None:
        one = isinstance(queries, (str, bytes, SessionMetricsQuery, Operand))
        if one or not isinstance(queries, (Iterable, AsyncIterable)):
            raise FilterTypeError(
                f"queries is a mapping or an iterable of queries, not {type(queries).__name__}"
            )
        self._outcomes = _outcomes(queries, ask, concurrency, ordered=ordered)

    def __aiter__(self) -> AsyncIterator[MetricsOutcome[K]]:
        return self._outcomes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what still runs."""
        await self._outcomes.aclose()


async def _outcomes(
    queries: Queries[Any], ask: Ask, concurrency: int, *, ordered: bool
) -> AsyncGenerator[MetricsOutcome[Any], None]:
    source = _items(queries)
    pulling: asyncio.Future[Any] | None = None
    running: dict[asyncio.Future[MetricsOutcome[Any]], int] = {}
    finished: dict[int, MetricsOutcome[Any]] = {}
    exhausted, started, given = False, 0, 0
    refused: AuthenticationError | None = None
    try:
        while True:
            room = len(running) < concurrency and (not ordered or started - given < concurrency * _LOOK_AHEAD)
            if room and not exhausted and pulling is None:
                pulling = asyncio.ensure_future(anext(source, None))
            waiting = {*running, *([pulling] if pulling else [])}
            if not waiting:
                return
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if pulling in done:
                item = pulling.result()
                pulling = None
                if item is None:
                    exhausted = True
                else:
                    running[asyncio.ensure_future(_outcome(item[0], item[1], ask))] = started
                    started += 1
            for task in done & running.keys():
                place = running.pop(task)
                finished[place if ordered else given + len(finished)] = task.result()
            while given in finished:
                outcome = finished.pop(given)
                given += 1
                yield outcome
                refused = refused or _refusal(outcome)
            if refused := refused or next(filter(None, map(_refusal, finished.values())), None):
                raise refused
    finally:
        left = [*running, *([pulling] if pulling else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await source.aclose()


def _refusal(outcome: MetricsOutcome[Any]) -> AuthenticationError | None:
    return outcome.error if isinstance(outcome.error, AuthenticationError) else None


async def _items(queries: Queries[Any]) -> AsyncGenerator[tuple[Any, SessionMetricsQuery], None]:
    if isinstance(queries, Mapping):
        for key, value in queries.items():
            yield key, as_query(value, key)
    elif isinstance(queries, AsyncIterable):
        place = 0
        async for value in queries:
            yield place, as_query(value, place)
            place += 1
    else:
        for place, value in enumerate(queries):
            yield place, as_query(value, place)


async def _outcome(key: Any, query: SessionMetricsQuery, ask: Ask) -> MetricsOutcome[Any]:
    begun = time.monotonic()
    try:
        metrics, attempts = await ask(query)
    except HeliconeError as error:
        tried = getattr(error, "attempts", 0)
        return MetricsOutcome(key, query, None, error, tried, time.monotonic() - begun)
    return MetricsOutcome(key, query, metrics, None, attempts, time.monotonic() - begun)
