"""Runs many queries with limited concurrency, and pulls the next query when a slot becomes free."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from operator import length_hint
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs

from helicone_sessions.errors import AuthenticationError, ConfigurationError, FilterTypeError, HeliconeError
from helicone_sessions.filters.expression import Condition, Operand, as_filter
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery

K = TypeVar("K")

Query = SessionMetricsQuery | Condition
Queries = Mapping[K, Query] | Iterable[Query] | AsyncIterable[Query]
# Metrics, and the number of attempts it took to get them.
Answer = tuple[SessionMetrics, int]
Ask = Callable[[SessionMetricsQuery], Awaitable[Answer]]

# With ``ordered``, the number of outcomes per slot that may be held back behind a slow earlier query.
_LOOK_AHEAD = 4


@attrs.frozen
class MetricsOutcome(Generic[K]):
    """The outcome of one query of a batch; exactly one of *metrics* and *error* is None.

    Args:
        key: The key of the query if the input is a mapping, otherwise its position in the input.
        query: The query.
        metrics: The metrics of the query, or None if it failed.
        error: The error, or None if the query succeeded.
        attempts: The number of attempts.
        elapsed: The seconds from start to end, including all waits.

    >>> from helicone_sessions import F
    >>> from helicone_sessions.testing import metrics
    >>> outcome = MetricsOutcome("o3", SessionMetricsQuery(F.model == "o3"), metrics(), None, 2, 0.8)
    >>> print(outcome.key, outcome.error or outcome.metrics.average.session_cost)
    o3 0.25
    """

    key: K
    query: SessionMetricsQuery
    metrics: SessionMetrics | None
    error: HeliconeError | None
    attempts: int
    elapsed: float


def as_query(value: Any, key: object) -> SessionMetricsQuery:
    """Convert a filter to a query, or return a query unchanged.

    Errors identify the value by *key*.

    Raises:
        FilterTypeError: *value* is neither a query nor a filter.
    """
    if isinstance(value, SessionMetricsQuery):
        return value
    if isinstance(value, Operand):
        return SessionMetricsQuery(filter=as_filter(value))
    raise FilterTypeError(
        f"a query must be a SessionMetricsQuery or a filter, got {masked_repr(value)} (at {masked_repr(key)})"
    )


class MetricsStream(Generic[K]):
    """An async iterator over the outcomes of a batch; `HeliconeClient.stream_metrics` returns it.

    Iterate over it with ``async for``. If you may leave the loop early, use it with ``async with`` as well:
    leaving the block cancels the queries in progress.

    >>> from helicone_sessions import F, HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     queries = F.model.is_each(["gpt-4o", "o3"])
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         async with client.stream_metrics(queries, ordered=True) as outcomes:
    ...             async for outcome in outcomes:
    ...                 print(outcome.key, outcome.error or outcome.metrics.average.session_cost)
    >>> asyncio.run(main())
    gpt-4o 0.25
    o3 0.25
    """

    def __init__(
        self,
        queries: Queries[K],
        ask: Ask,
        *,
        concurrency: int,
        ordered: bool,
        now: Callable[[], float],
    ) -> None:
        one = isinstance(queries, (str, bytes, SessionMetricsQuery, Operand))
        if one or not isinstance(queries, (Iterable, AsyncIterable)):
            raise FilterTypeError(
                argument="queries",
                problem=f"must be a mapping or an iterable of queries, got {masked_repr(queries)}",
                remedy="Use get_metrics() for one query",
            )
        self._outcomes = _outcomes(queries, ask, concurrency, now, ordered=ordered)

    def __aiter__(self) -> AsyncIterator[MetricsOutcome[K]]:
        return self._outcomes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the queries in progress.

        >>> from helicone_sessions import F, HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         outcomes = client.stream_metrics([F.cost > 0.1, F.cost > 0.2], ordered=True)
        ...         first = await anext(aiter(outcomes))
        ...         await outcomes.aclose()
        ...         return first.key
        >>> asyncio.run(main())
        0
        """
        await self._outcomes.aclose()


async def _outcomes(
    queries: Queries[Any], ask: Ask, concurrency: int, now: Callable[[], float], *, ordered: bool
) -> AsyncGenerator[MetricsOutcome[Any], None]:
    # If the hint is too low, the batch takes longer but is still complete.
    most = max(1, min(concurrency, length_hint(queries, concurrency)))
    workers = _Workers(_source(queries), ask, most, now, is_ordered=ordered)
    try:
        workers.start()
        while True:
            if (outcome := workers.take()) is not None:
                yield outcome
            elif (news := workers.news()) is not None:
                await news
            else:
                return
    finally:
        await workers.end()


_Item = tuple[Any, Any]


def _source(queries: Queries[Any]) -> Iterator[_Item] | AsyncIterator[_Item]:
    """Yield each query with its key."""
    if isinstance(queries, Mapping):
        return iter(queries.items())
    if isinstance(queries, AsyncIterable):
        return _numbered(queries)
    return enumerate(queries)


async def _numbered(queries: AsyncIterable[Any]) -> AsyncGenerator[_Item, None]:
    place = 0
    try:
        async for query in queries:
            yield place, query
            place += 1
    finally:
        # Close it here instead of leaving it to the garbage collector: the input may hold a cursor.
        if isinstance(queries, AsyncGenerator):
            await queries.aclose()


@attrs.define(eq=False)
class _Workers:
    """A pool with one task per slot. Each task pulls a query, runs it, and then pulls the next one.

    Creating one task per query would take more time than everything else in this module.
    """

    source: Any
    ask: Ask
    most: int
    now: Callable[[], float]
    is_ordered: bool = attrs.field(kw_only=True)
    # The number of queries that may be pulled before the reader takes their outcomes.
    _ahead: int = attrs.field(init=False)
    # Outcomes that the reader has not taken yet, keyed by the position of the query if ordered, otherwise by
    # arrival.
    _done: dict[int, MetricsOutcome[Any]] = attrs.field(factory=dict, init=False)
    _errors: int = attrs.field(default=0, init=False)
    _pulled: int = attrs.field(default=0, init=False)
    _finished: int = attrs.field(default=0, init=False)
    _taken: int = attrs.field(default=0, init=False)
    _is_exhausted: bool = attrs.field(default=False, init=False)
    _is_ending: bool = attrs.field(default=False, init=False)
    _failure: BaseException | None = attrs.field(default=None, init=False)
    _tasks: list["asyncio.Task[None]"] = attrs.field(factory=list, init=False)
    _working: int = attrs.field(default=0, init=False)
    _pulling: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    # Set when an outcome is ready.
    _reader: "asyncio.Future[None] | None" = attrs.field(default=None, init=False)
    _resting: list["asyncio.Future[None]"] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        # With ordered outcomes, a slow query holds back all outcomes after it.
        self._ahead = self.most * (_LOOK_AHEAD if self.is_ordered else 2)

    def start(self) -> None:
        """Start the tasks."""
        self._working = self.most
        self._tasks = [asyncio.ensure_future(self._work()) for _ in range(self.most)]

    def take(self) -> MetricsOutcome[Any] | None:
        """Take the next outcome, or return None if none is ready."""
        outcome = self._done.pop(self._taken, None)
        if outcome is None:
            if self._failure is None or not self._done:
                return None
            # After a failure, no more outcomes arrive, so the gaps before this one stay empty.
            outcome = self._done.pop(min(self._done))
        self._taken += 1
        if outcome.error is not None:
            self._errors -= 1
        while self._resting:
            _set(self._resting.pop())
        return outcome

    def news(self) -> "asyncio.Future[None] | None":
        """A future that completes when an outcome may be ready, or None after the last outcome.

        Raises:
            AuthenticationError: The service refuses the key.
            ConfigurationError: The client is closed or was first used on another event loop.
            BaseException: The input raised an exception, or yielded an item that is neither a query nor a
                filter.
        """
        if self._failure is not None:
            raise self._failure
        if self._working:
            self._reader = asyncio.get_running_loop().create_future()
            return self._reader
        return None

    async def end(self) -> None:
        """Cancel the tasks in progress and wait for them to finish."""
        self._is_ending = True
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if isinstance(self.source, AsyncGenerator):
            await self.source.aclose()

    async def _work(self) -> None:
        pulls_later = isinstance(self.source, AsyncIterator)
        try:
            while True:
                item = await self._pull_later() if pulls_later else self._pull()
                if item is None:
                    if self._is_exhausted or self._failure is not None:
                        return
                    await self._rest()
                    continue
                key, value = item
                query = value if type(value) is SessionMetricsQuery else as_query(value, key)
                place = self._pulled
                self._pulled += 1
                begun = self.now()
                try:
                    metrics, attempts = await self.ask(query)
                except HeliconeError as error:
                    attempts = getattr(error, "attempts", 0)
                    outcome = MetricsOutcome(key, query, None, error, attempts, self.now() - begun)
                else:
                    outcome = MetricsOutcome(key, query, metrics, None, attempts, self.now() - begun)
                self._finish(place, outcome)
        except BaseException as error:
            # Unless the batch is ending, the reader gets the error, even a CancelledError raised by the
            # input.
            if self._is_ending or not isinstance(error, (Exception, asyncio.CancelledError)):
                raise
            self._failure = self._failure or error
        finally:
            self._working -= 1
            self._wake_reader()

    def _may_pull(self) -> bool:
        """Whether another query may be pulled; False if too many outcomes are waiting for the reader.

        No query is pulled while an outcome with an error is waiting, because the reader may end the batch.
        """
        if self._is_exhausted or self._failure is not None or self._errors:
            return False
        return self._pulled - self._taken < self._ahead

    async def _rest(self) -> None:
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(taken)
        await taken

    def _pull(self) -> _Item | None:
        if not self._may_pull():
            return None
        item: _Item | None = next(self.source, None)
        self._is_exhausted = item is None
        return item

    async def _pull_later(self) -> _Item | None:
        async with self._pulling:
            if not self._may_pull():
                return None
            item: _Item | None = await anext(self.source, None)
            self._is_exhausted = item is None
            return item

    def _finish(self, place: int, outcome: MetricsOutcome[Any]) -> None:
        if outcome.error is not None:
            self._errors += 1
            if isinstance(outcome.error, (AuthenticationError, ConfigurationError)):
                self._failure = self._failure or outcome.error
        self._done[place if self.is_ordered else self._finished] = outcome
        self._finished += 1
        if self._reader is not None:
            self._wake_reader()

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            _set(reader)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
