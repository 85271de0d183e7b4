"""Many queries at once: limited concurrency, input pulled when slots are free, one outcome for each query."""

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
# The metrics and the number of attempts.
Answer = tuple[SessionMetrics, int]
Ask = Callable[[SessionMetricsQuery], Awaitable[Answer]]

# With `ordered`, the number of outcomes per slot that can wait for an earlier slow query.
_LOOK_AHEAD = 4


@attrs.frozen
class MetricsOutcome(Generic[K]):
    """The outcome of one query of a batch; exactly one of *metrics* and *error* is None.

    Args:
        key: The key of the query in a mapping, else its position in the input.
        query: The query.
        metrics: Its metrics.
        error: The error, if there are no metrics.
        attempts: Number of attempts.
        elapsed: Seconds from start to end, including waits.

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
    """The query itself, or the query for a filter; *key* identifies it in an error.

    Raises:
        FilterTypeError: It is something else.
    """
    if isinstance(value, SessionMetricsQuery):
        return value
    if isinstance(value, Operand):
        return SessionMetricsQuery(filter=as_filter(value))
    raise FilterTypeError(
        f"a query must be a SessionMetricsQuery or a filter, got {masked_repr(value)} (at {masked_repr(key)})"
    )


class MetricsStream(Generic[K]):
    """The outcomes of a batch, one by one.

    Iterate over it with ``async for``. Use it with ``async with`` if you may leave the loop early: the end of
    the block cancels the queries in progress. `HeliconeClient.stream_metrics` returns it.

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
    # The hint can be too low; then the batch only takes longer.
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
    """Each query with its key."""
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
        # Not left to the garbage collector, because the input may hold a cursor.
        if isinstance(queries, AsyncGenerator):
            await queries.aclose()


@attrs.define(eq=False)
class _Workers:
    """One task per slot; each pulls a query, runs it, and pulls the next.

    A task for each query would cost more than the rest of this module.
    """

    source: Any
    ask: Ask
    most: int
    now: Callable[[], float]
    is_ordered: bool = attrs.field(kw_only=True)
    # The number of queries that may be pulled beyond the outcomes taken.
    _ahead: int = attrs.field(init=False)
    # Outcomes that nobody has taken yet, by the position of their query if ordered, else by arrival.
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
    # Set when there is an outcome to take, or when one is taken.
    _reader: "asyncio.Future[None] | None" = attrs.field(default=None, init=False)
    _resting: list["asyncio.Future[None]"] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        # A slow query delays the ordered outcomes after it.
        self._ahead = self.most * (_LOOK_AHEAD if self.is_ordered else 2)

    def start(self) -> None:
        """Start the tasks, which can start immediately."""
        self._working = self.most
        self._tasks = [asyncio.ensure_future(self._work()) for _ in range(self.most)]

    def take(self) -> MetricsOutcome[Any] | None:
        """The next outcome, if there is one."""
        outcome = self._done.pop(self._taken, None)
        if outcome is None:
            if self._failure is None or not self._done:
                return None
            # No outcome can come before these.
            outcome = self._done.pop(min(self._done))
        self._taken += 1
        if outcome.error is not None:
            self._errors -= 1
        while self._resting:
            _set(self._resting.pop())
        return outcome

    def news(self) -> "asyncio.Future[None] | None":
        """A future that is done when there may be an outcome to take; None after the last.

        Raises:
            AuthenticationError: The service refuses the key.
            ConfigurationError: The client is closed, or was used on another loop.
            BaseException: The input raised it, or holds an item that is not a query.
        """
        if self._failure is not None:
            raise self._failure
        if self._working:
            self._reader = asyncio.get_running_loop().create_future()
            return self._reader
        return None

    async def end(self) -> None:
        """Cancel the tasks in progress, and wait until they end."""
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
            # The reader gets the error, also a CancelledError of the input, unless the batch is ending.
            if self._is_ending or not isinstance(error, (Exception, asyncio.CancelledError)):
                raise
            self._failure = self._failure or error
        finally:
            self._working -= 1
            self._wake_reader()

    def _may_pull(self) -> bool:
        """Whether more queries may be pulled: few enough outcomes wait for the reader.

        The reader must take an error first, because it may end the batch.
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
