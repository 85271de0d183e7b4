"""The client, which handles all communication with the service."""

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from datetime import timedelta, tzinfo
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, overload

import attrs
from yarl import URL

from helicone_sessions.clock import current as current_clock
from helicone_sessions.errors import FilterTypeError, HeliconeError
from helicone_sessions.filters.cautions import Caution
from helicone_sessions.filters.expression import Filter
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages import protocol
from helicone_sessions.messages.grid_query import GridFigures, GridQuery
from helicone_sessions.messages.metrics import PSize, SessionMetrics
from helicone_sessions.messages.protocol import GRID, METRICS, AnyQuery, Call, Endpoint
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter
from helicone_sessions.transport.batch import Answer, MetricsStream, Queries, Query
from helicone_sessions.transport.endpoint import Region, resolve
from helicone_sessions.transport.hooks import Hooks, Observer, check_hooks
from helicone_sessions.transport.listings import Listings
from helicone_sessions.transport.rate_limit import (
    Gate,
    Limit,
    RateLimit,
    check_count,
    check_limit,
    check_seconds,
)
from helicone_sessions.transport.retry import RetryPolicy
from helicone_sessions.transport.warn import (
    Cautions,
    FilterWarnings,
    Place,
    callers_place,
    marked_as_coroutine_function,
)

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from helicone_sessions.transport.signed_bodies import SignedBodies

K = TypeVar("K")
# The default of options for which None is a value.
_KEPT: Any = object()
_DEFAULTS: Final = {field.name: field.default for field in attrs.fields(SessionMetricsQuery)}
OnProgress = Callable[[int, int | None, int], object]


class HeliconeClient(Listings):
    """A client for one Helicone organisation.

    Use it with ``async with``, or call `aclose` when you are done. Creating a client needs neither the
    network nor an event loop. After its first use, it can only be used on the same event loop.

    Args:
        api_key: The API key. The default is the environment variable ``HELICONE_API_KEY``.
        region: The region of Helicone's cloud, ``"us"`` or ``"eu"``.
        base_url: The URL of the service, for example of a self-hosted Helicone. You can pass it or *region*,
            not both. The default is the environment variable ``HELICONE_BASE_URL``, or the US region if it is
            not set.
        session: An aiohttp session to use. The client uses its proxy settings and does not close it. By
            default, the client opens its own session. When the client is created, it reads the proxy for that
            session from the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``).
        timeout: The time limit of one attempt in seconds, from sending the request to the end of the
            response. Time spent waiting for a slot or for the rate limit does not count.
        deadline: The time limit of a query in seconds, from the moment it gets a slot. It includes all
            attempts, the waits between them and the waits for the rate limit. None means no limit. If a wait
            or retry cannot finish before the deadline, the client does not start it and raises the error
            immediately.
        max_retries: The maximum number of retries after transient failures: no connection, a broken
            connection, a timeout, a 5xx response from a gateway, or a transient error of the service such as
            "too many simultaneous queries". The wait before the first retry is at most 0.5 s; the maximum
            doubles with each retry, up to 20 s. The time in a ``Retry-After`` header is added to the wait.
            Rate-limit responses (429) do not use up retries: the query waits for the limit to reset, or
            raises `RateLimited` if the wait would exceed an hour.
        max_concurrency: The maximum number of concurrent queries. For each of them, the service runs six
            database queries. If identical queries are in progress at the same time, only one of them is sent.
        rate_limit: Your own limit, in addition to the service's. Pass a `RateLimit`, or an async context
            manager that the client enters for each attempt. Clients with the same key in one process share
            what they learn about the service's limit.
        hooks: One or several `Hooks` that log, measure or trace queries, attempts and waits.
        cautions: How to react to a filter that the open-source server is known to read differently
            (`Filter.cautions`). ``"warn"`` issues a `HeliconeFilterWarning` once for each place in your code,
            ``"error"`` raises an error before anything is sent, and ``"ignore"`` does nothing. If the server
            announces that it follows the API contract, as `LocalServer` does, only conditions on columns with
            missing values cause warnings.

    Raises:
        ConfigurationError: There is no key, or an argument is invalid.

    >>> import asyncio
    >>> client = HeliconeClient("sk-helicone-example", region="eu")
    >>> client
    HeliconeClient(base_url='https://eu.api.helicone.ai', api_key='***')
    >>> asyncio.run(client.aclose())
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        region: Region | None = None,
        base_url: str | URL | None = None,
        session: "ClientSession | None" = None,
        timeout: float = 60.0,
        deadline: float | None = None,
        max_retries: int = 4,
        max_concurrency: int = 8,
        rate_limit: Limit | None = None,
        hooks: Hooks | Iterable[Hooks] | None = None,
        cautions: Cautions = "warn",
    ) -> None:
        # Imported here because aiohttp takes most of the import time, and building filters does not need it.
        from helicone_sessions.transport.attempt import Sender, Slots
        from helicone_sessions.transport.connection import Connection

        # A session that the caller passed in has its own proxy settings.
        settings = resolve(api_key, region, base_url, looks_for_proxy=session is None)
        self._settings = settings
        self._base_url = settings.masked(str(settings.base_url))
        self._concurrency = check_count("max_concurrency", max_concurrency)
        self._warnings = FilterWarnings(cautions)
        self._hooks = check_hooks(hooks)
        self._connection = Connection(session, settings, self._concurrency, callers_place())
        self._sender = Sender(
            self._connection,
            Gate(settings.account, current_clock(), check_limit(rate_limit)),
            Slots(self._concurrency),
            RetryPolicy(check_count("max_retries", max_retries, least=0), _check_deadline(deadline)),
            check_seconds("timeout", timeout),
            settings.api_key,
        )

    def __repr__(self) -> str:
        return f"HeliconeClient(base_url='{self._base_url}', api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client holds connections and a key, and is not pickled; create one where it is used"
        )

    async def __aenter__(self) -> Self:
        self._connection.claim()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client and its connections, but not a session that you passed in.

        Queries that are waiting for the rate limit raise a `ConfigurationError`.
        """
        self._sender.gate.shut()
        await self._connection.close()

    def with_options(
        self,
        *,
        timeout: float | None = None,
        deadline: float | None = _KEPT,
        max_retries: int | None = None,
        hooks: Hooks | Iterable[Hooks] | None = _KEPT,
        cautions: Cautions | None = None,
    ) -> "HeliconeClient":
        """Return a client with other options that shares this client's connections, slots and rate limit.

        Closing either client closes both.

        Args:
            timeout: The time limit of one attempt, in seconds.
            deadline: The time limit of a query with all its attempts and waits, in seconds; None for no
                limit.
            max_retries: The maximum number of retries.
            hooks: Hooks that replace those of this client; None removes them.
            cautions: How to react to filters that the open-source server reads differently.

        >>> HeliconeClient("sk-helicone-example", region="eu").with_options(timeout=5, max_retries=0)
        HeliconeClient(base_url='https://eu.api.helicone.ai', api_key='***')
        """
        other = object.__new__(HeliconeClient)
        other.__dict__.update(self.__dict__)
        policy: dict[str, Any] = {}
        if max_retries is not None:
            policy["max_retries"] = check_count("max_retries", max_retries, least=0)
        if deadline is not _KEPT:
            policy["deadline"] = _check_deadline(deadline)
        sender = self._sender
        other._sender = attrs.evolve(
            sender,
            policy=attrs.evolve(sender.policy, **policy),
            timeout=sender.timeout if timeout is None else check_seconds("timeout", timeout),
        )
        if hooks is not _KEPT:
            other._hooks = check_hooks(hooks)
        if cautions is not None:
            other._warnings = FilterWarnings(cautions)
        return other

    @marked_as_coroutine_function
    def get_metrics(
        self,
        query: Query | None = None,
        *,
        name_contains: str = "",
        time_filter: TimeFilter | None = None,
        p_size: PSize | None = None,
        use_interquartile: bool | None = None,
        timezone_difference: float | timedelta | tzinfo = 0,
    ) -> Coroutine[Any, Any, SessionMetrics]:
        """Get the metrics of the sessions that a query selects.

        Args:
            query: A complete query, or a filter to combine with the other arguments. None selects everything.
            name_contains: The session name to match, as in `SessionMetricsQuery`.
            time_filter: The time range of the requests.
            p_size: The percentile at which the histograms are cut.
            use_interquartile: Whether to cut the histograms at both ends.
            timezone_difference: The offset of the time zone, in minutes west of UTC.

        Raises:
            FilterError: The query cannot be built or sent. Nothing was sent.
            TransportError: No response arrived.
            APIError: The response contains no metrics.

        >>> from helicone_sessions.testing import FakeHelicone
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         return (await client.get_metrics(p_size="p95")).average
        >>> import asyncio
        >>> asyncio.run(main())
        SessionAverages(session_count=3.0, session_duration=12.0, session_cost=0.25)
        """
        keywords = {
            "name_contains": name_contains,
            "time_filter": time_filter,
            "p_size": p_size,
            "use_interquartile": use_interquartile,
            "timezone_difference": timezone_difference,
        }
        # Record the caller's line now: inside a task it can no longer be found.
        return self._get_metrics(query, keywords, callers_place())

    async def _get_metrics(
        self, query: Query | None, keywords: dict[str, Any], place: Place
    ) -> SessionMetrics:
        metrics, _ = await self._ask(place, _query(query, keywords))
        return metrics

    @overload
    def get_metrics_many(  # type: ignore[overload-overlap] # a mapping is an iterable too
        self, queries: Mapping[K, Query], *, on_progress: OnProgress | None = None
    ) -> Coroutine[Any, Any, dict[K, SessionMetrics]]: ...
    @overload
    def get_metrics_many(
        self, queries: Iterable[Query] | AsyncIterable[Query], *, on_progress: OnProgress | None = None
    ) -> Coroutine[Any, Any, list[SessionMetrics]]: ...
    @overload
    def get_metrics_many(  # type: ignore[overload-overlap] # likewise
        self,
        queries: Mapping[K, Query],
        *,
        return_errors: bool,
        on_progress: OnProgress | None = None,
    ) -> Coroutine[Any, Any, dict[K, SessionMetrics | HeliconeError]]: ...
    @overload
    def get_metrics_many(
        self,
        queries: Iterable[Query] | AsyncIterable[Query],
        *,
        return_errors: bool,
        on_progress: OnProgress | None = None,
    ) -> Coroutine[Any, Any, list[SessionMetrics | HeliconeError]]: ...
    @marked_as_coroutine_function
    def get_metrics_many(
        self, queries: Any, *, return_errors: bool = False, on_progress: OnProgress | None = None
    ) -> Any:
        """Get the metrics of many queries, running up to ``max_concurrency`` of them at a time.

        Args:
            queries: A mapping or an iterable of queries or filters.
            return_errors: Whether to return the errors of failed queries in place of their metrics. By
                default, the first error is raised and the remaining queries are cancelled.
            on_progress: Called after each query with the number of finished queries, the total number of
                queries (None if the length of the input is unknown), and the number of failed queries.

        Returns:
            If *queries* is a mapping, a dict with the same keys in the same order; otherwise a list.

        Raises:
            HeliconeError: A query failed and *return_errors* is false. An `AuthenticationError` is raised
                even if *return_errors* is true, because all remaining queries would fail as well. Either
                error has an attribute ``answered`` with the metrics received so far, by key or, for an
                iterable, by position. If the call is cancelled, the `asyncio.CancelledError` has this
                attribute as well.
                If ``asyncio.timeout`` cancels the call, the ``__cause__`` of the `TimeoutError` is that
                `asyncio.CancelledError`.

        >>> from helicone_sessions import F
        >>> from helicone_sessions.testing import FakeHelicone
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         found = await client.get_metrics_many(F.model.is_each(["gpt-4o", "o3"]))
        ...         return {model: metrics.average.session_cost for model, metrics in found.items()}
        >>> import asyncio
        >>> asyncio.run(main())
        {'gpt-4o': 0.25, 'o3': 0.25}
        """
        return self._get_metrics_many(queries, return_errors, on_progress, callers_place())

    async def _get_metrics_many(
        self, queries: Any, return_errors: bool, on_progress: OnProgress | None, place: Place
    ) -> Any:
        keys = list(queries) if isinstance(queries, Mapping) else None
        total = len(queries) if hasattr(queries, "__len__") else None
        answers: dict[Any, Any] = {}
        failed = 0
        try:
            async with self._stream(queries, ordered=False, place=place) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is not None:
                        failed += 1
                        if not return_errors:
                            outcome.error.add_note(f"The query is {masked_repr(outcome.key)}.")
                            raise outcome.error
                    answers[outcome.key] = outcome.error or outcome.metrics
                    if on_progress is not None:
                        on_progress(len(answers), total, failed)
        except (HeliconeError, asyncio.CancelledError) as error:
            # If the caller's own timeout expires, the metrics received so far are not lost.
            error.answered = _metrics_of(answers)  # type: ignore[union-attr]
            raise
        return _in_order(answers, keys)

    @overload
    def stream_metrics(  # type: ignore[overload-overlap] # likewise
        self, queries: Mapping[K, Query], *, ordered: bool = False
    ) -> MetricsStream[K]: ...
    @overload
    def stream_metrics(
        self, queries: Iterable[Query] | AsyncIterable[Query], *, ordered: bool = False
    ) -> MetricsStream[int]: ...
    def stream_metrics(self, queries: Queries[Any], *, ordered: bool = False) -> MetricsStream[Any]:
        """Run many queries and yield the outcome of each as it completes.

        The client pulls a query only when a slot is free, so the input can be endless. If you may leave the
        loop early, use the stream with ``async with``.

        Args:
            queries: A mapping, an iterable or an async iterable of queries or filters.
            ordered: Whether to yield the outcomes in the order of the input.

        Returns:
            An async iterable of `MetricsOutcome`. If the service rejects the key, the iterator yields the
            outcome with the `AuthenticationError` and then raises this error, because all remaining queries
            would fail as well.

        >>> from helicone_sessions import F
        >>> from helicone_sessions.testing import FakeHelicone
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         async for outcome in client.stream_metrics([F.cost > 0.1]):
        ...             print(outcome.key, outcome.error or outcome.metrics.average.session_cost)
        >>> import asyncio
        >>> asyncio.run(main())
        0 0.25
        """
        return self._stream(queries, ordered=ordered, place=callers_place())

    def _stream(self, queries: Queries[Any], *, ordered: bool, place: Place) -> MetricsStream[Any]:
        ask = partial(self._ask, place)
        now = self._sender.gate.clock.now
        return MetricsStream(queries, ask, concurrency=self._concurrency, ordered=ordered, now=now)

    def _ask(self, place: Place, query: SessionMetricsQuery) -> Coroutine[Any, Any, Answer]:
        return self._observed(place, query) if self._hooks else self._answer(place, query)

    async def _observed(self, place: Place, query: SessionMetricsQuery) -> Answer:
        with Observer(self._hooks, query, self._sender.gate.clock.now) as observer:
            answer = await self._answer(place, query, observer)
            observer.answer = answer[0]
            return answer

    async def _answer(
        self, place: Place, query: SessionMetricsQuery, observer: Observer | None = None
    ) -> Answer:
        """Return the metrics of a query and the number of attempts."""
        if query.matches_nothing:
            return SessionMetrics.empty(), 0
        call = Call(METRICS, protocol.request(query), False, query.cut)
        found = self._warnings.of(
            query.filter, query.time_filter, follows_contract=self._connection.follows_contract
        )
        sending = self._sender.send(call, observer)
        if found or (self._connection.may_have_gaps and query.filter is not None):
            return await self._warned(sending, query.filter, found, place)
        return await sending

    def signed_bodies(self) -> "SignedBodies":
        """Return a reader for the bodies at the ``signed_body_url`` of requests.

        The reader never sends the API key. `sync` uses it.

        >>> client = HeliconeClient("sk-helicone-example")
        >>> async def body(request):
        ...     async with client.signed_bodies() as bodies:
        ...         return (await bodies.read(request["signed_body_url"])).request
        """
        from helicone_sessions.transport.signed_bodies import SignedBodies

        return SignedBodies(self._settings)

    @property
    def service_limit(self) -> RateLimit | None:
        """The rate limit that the latest response announced, or None if no response has announced one.

        >>> from helicone_sessions.testing import FakeHelicone
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.limit(requests=1000, per=300)
        ...         await client.count_requests()
        ...         return client.service_limit
        >>> import asyncio
        >>> asyncio.run(main())
        RateLimit(requests=1000, per=300.0, burst=None)
        """
        return self._sender.gate.announced

    @property
    def offers_grid(self) -> bool:
        """Whether the server has announced support for `query_grid`, as the embedded engine does.

        >>> HeliconeClient("sk-helicone-example").offers_grid
        False
        """
        return self._connection.offers_grid

    async def query_grid(self, query: GridQuery) -> GridFigures:
        """Get the metrics of many segments and periods in one request.

        `metrics_grid` uses this method if the server offers it.

        Args:
            query: The query, with its segments and periods.

        Raises:
            FilterError: The query cannot be sent.
            TransportError: No response arrived.
            APIError: The response contains no metrics. For a server without this endpoint, the error is an
                `InvalidRequest` with status 404.

        >>> from helicone_sessions import InvalidRequest
        >>> from helicone_sessions.testing import FakeHelicone
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         try:
        ...             await client.query_grid(GridQuery(SessionMetricsQuery()))
        ...         except InvalidRequest as error:
        ...             return error.status
        >>> import asyncio
        >>> asyncio.run(main())
        404
        """
        figures: GridFigures = await self._call(GRID, query, found=(), place=callers_place())
        return figures

    def _follows_contract(self) -> bool:
        return self._connection.follows_contract

    async def _call(
        self,
        endpoint: Endpoint[Any, Any],
        query: AnyQuery,
        *,
        found: tuple[Caution, ...],
        place: Place,
        can_split: bool = False,
    ) -> Any:
        call = Call(endpoint, protocol.request(query, endpoint), can_split)
        if not self._hooks:
            return (await self._warned(self._sender.send(call, None), query.filter, found, place))[0]
        with Observer(self._hooks, query, self._sender.gate.clock.now) as observer:
            sending = self._sender.send(call, observer)
            observer.answer, _ = await self._warned(sending, query.filter, found, place)
            return observer.answer

    async def _warned(
        self,
        sending: Coroutine[Any, Any, tuple[Any, int]],
        condition: Filter | None,
        found: tuple[Caution, ...],
        place: Place,
    ) -> tuple[Any, int]:
        """Await a call, issue warnings for the cautions, and return the result of the call."""
        try:
            outcome = await sending
        except HeliconeError:
            self._say(condition, found, place)
            raise
        self._say(condition, found, place)
        return outcome

    def _say(self, condition: Filter | None, found: tuple[Caution, ...], place: Place) -> None:
        # Warn after the response: its headers may announce that the server follows the contract.
        if self._connection.follows_contract:
            found = self._warnings.of_data(condition, self._connection.gaps)
        self._warnings.say(found, place)


def _query(given: Query | None, keywords: Mapping[str, Any]) -> SessionMetricsQuery:
    """Return *given* if it is a query, otherwise build a query from the filter and the keywords."""
    if not isinstance(given, SessionMetricsQuery):
        return SessionMetricsQuery(given, **keywords)
    if beside := [name for name, value in keywords.items() if value is not _DEFAULTS[name]]:
        raise FilterTypeError(
            argument="query",
            problem=f"is a SessionMetricsQuery and cannot be combined with {', '.join(beside)}",
            remedy="Use attrs.evolve(query, ...), or pass a filter with the keywords",
        )
    return given


def _check_deadline(value: object) -> float | None:
    return None if value is None else check_seconds("deadline", value)


def _metrics_of(answers: Mapping[Any, Any]) -> dict[Any, SessionMetrics]:
    return {key: answer for key, answer in answers.items() if isinstance(answer, SessionMetrics)}


def _in_order(answers: Mapping[Any, Any], keys: list[Any] | None) -> Any:
    """Return the answers as a dict in the order of *keys*, or as a list if *keys* is None."""
    if keys is None:
        return [answers[place] for place in range(len(answers))]
    return {key: answers[key] for key in keys}
