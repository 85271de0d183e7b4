"""`HeliconeClient`: all communication between the core and the service."""

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
# Marks an omitted option where None is a value.
_KEPT: Any = object()
_DEFAULTS: Final = {field.name: field.default for field in attrs.fields(SessionMetricsQuery)}
OnProgress = Callable[[int, int | None, int], object]


class HeliconeClient(Listings):
    """A client for one Helicone organisation; use it with ``async with`` or end it with `aclose`.

    Creating a client needs neither the network nor an event loop. A client belongs to the loop on which it is
    first used.

    Args:
        api_key: The key; by default the environment's ``HELICONE_API_KEY``.
        region: ``"us"`` or ``"eu"``.
        base_url: The address of the service instead of a region, for example that of a self-hosted Helicone;
            by default the environment's ``HELICONE_BASE_URL``, else the US region.
        session: An aiohttp session to use. The client does not close it, and uses the proxy of that session.
            Without a session, the client uses the proxy in the environment when it is created
            (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``).
        timeout: Seconds for one attempt, from sending to the complete response. Waiting for a slot or for the
            rate limit does not count.
        deadline: Seconds for a query with all its attempts and waits, including the wait for the rate limit,
            from the moment it has a slot; None for no limit. A wait or a retry that cannot finish before the
            deadline is not started; the error is raised immediately.
        max_retries: The number of retries after a transient failure: no connection, a broken connection, a
            timeout, a gateway's 5xx, or a transient error of the service such as "too many simultaneous
            queries". The wait before the first retry is up to half a second, and doubles with each retry up
            to 20 s; a ``Retry-After`` is added. A refusal by the rate limit (429) does not count as a retry:
            the query waits for the limit, unless that takes more than an hour (`RateLimited`).
        max_concurrency: The number of concurrent queries; the service runs six database queries for
            each. Identical queries in progress at the same time are sent once.
        rate_limit: Your own limit, in addition to the service's: a `RateLimit`, or an async context manager
            that is entered for each attempt. Clients with the same key in one process share their knowledge
            of the service's limit.
        hooks: `Hooks`, or several, for logs, metrics and traces of queries, attempts and waits.
        cautions: The reaction to a filter that the open-source server is known to read differently
            (`Filter.cautions`): ``"warn"`` issues a `HeliconeFilterWarning`, once for each place in your
            code; ``"error"`` raises an error before anything is sent; ``"ignore"`` does nothing. A server
            that announces that it follows the contract, such as `LocalServer`, causes a warning only for a
            condition on a column that lacks values in its data.

    Raises:
        ConfigurationError: There is no key, or an argument cannot be used.

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
        # aiohttp takes most of the import time, and building filters does not need it.
        from helicone_sessions.transport.attempt import Sender, Slots
        from helicone_sessions.transport.connection import Connection

        # A caller's session has its own proxy.
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
        """Close the connections; a session that was passed in stays open.

        Queries that wait for the rate limit end with a `ConfigurationError`.
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
        """The same client with other limits; it shares connections, slots and the rate limit with this one.

        Closing one of them closes both.

        Args:
            timeout: Seconds for one attempt.
            deadline: Seconds for a query with all its attempts and waits, or None for no limit.
            max_retries: The number of retries.
            hooks: Hooks that replace this client's; None removes them.
            cautions: The reaction to filters that the open-source server reads differently.

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
        """The metrics of the sessions that a query selects; await the result.

        Args:
            query: A whole query, or a filter that the keywords are added to; None selects everything.
            name_contains: As in `SessionMetricsQuery`, as are the other arguments.
            time_filter: The time range of the requests.
            p_size: The cut of the histograms.
            use_interquartile: Cut them at both ends.
            timezone_difference: Minutes west of UTC.

        Raises:
            FilterError: The query cannot be built or sent; nothing was sent.
            TransportError: There is no response.
            APIError: The response has no metrics.

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
        # A task does not know who made it: the place is noted before there is one.
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
        """The metrics of many queries, `max_concurrency` at a time; await the result.

        Args:
            queries: A mapping or an iterable of queries or filters.
            return_errors: Return errors instead of metrics; by default the first error is raised, and the
                rest is cancelled.
            on_progress: Called after each outcome with the numbers of finished queries, of all queries (None
                if the length of the input is unknown) and of failures.

        Returns:
            A dict with the same keys in the same order for a mapping, else a list.

        Raises:
            HeliconeError: The first error, unless *return_errors*. An `AuthenticationError` is always
                raised, because no other query would succeed. The metrics so far are in ``answered`` of the
                error (and of an `asyncio.CancelledError`, which is the cause of the error of
                ``asyncio.timeout``), by key, or by position in an iterable.

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
            # So that the caller's own timeout loses nothing.
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
        """The outcomes of many queries, each as it completes.

        The client pulls the input only when a slot is free, so the input can be endless. Use ``async with``
        if you may leave the loop early.

        Args:
            queries: A mapping, an iterable or an async iterable of queries or filters.
            ordered: Return the outcomes in the order of the input.

        Returns:
            An async iterable of `MetricsOutcome`. After the outcome of an `AuthenticationError` it raises
            that error, because no other query would succeed.

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
        """The metrics of a query, and the number of attempts."""
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
        """A reader of the bodies at the ``signed_body_url`` of requests, without the key; `sync` uses it.

        >>> client = HeliconeClient("sk-helicone-example")
        >>> async def body(request):
        ...     async with client.signed_bodies() as bodies:
        ...         return (await bodies.read(request["signed_body_url"])).request
        """
        from helicone_sessions.transport.signed_bodies import SignedBodies

        return SignedBodies(self._settings)

    @property
    def service_limit(self) -> RateLimit | None:
        """The rate limit that the latest response announced; None if no response did.

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
        """Whether a response announced that the server answers `query_grid`, as the embedded engine does.

        >>> HeliconeClient("sk-helicone-example").offers_grid
        False
        """
        return self._connection.offers_grid

    async def query_grid(self, query: GridQuery) -> GridFigures:
        """The metrics of many segments and periods in one request; `metrics_grid` uses it if it is offered.

        Args:
            query: The segments and periods.

        Raises:
            FilterError: The query cannot be sent.
            TransportError: No response came.
            APIError: The response holds no figures; servers without this endpoint cause an `InvalidRequest`
                with status 404.

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
        """The outcome, after warnings for the cautions."""
        try:
            outcome = await sending
        except HeliconeError:
            self._say(condition, found, place)
            raise
        self._say(condition, found, place)
        return outcome

    def _say(self, condition: Filter | None, found: tuple[Caution, ...], place: Place) -> None:
        # After the response, because its headers may announce that the server follows the contract.
        if self._connection.follows_contract:
            found = self._warnings.of_data(condition, self._connection.gaps)
        self._warnings.say(found, place)


def _query(given: Query | None, keywords: Mapping[str, Any]) -> SessionMetricsQuery:
    """The query itself, or the query for a filter with keywords."""
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
    """The answers by key in the order of the keys, or a list if there are none."""
    if keys is None:
        return [answers[place] for place in range(len(answers))]
    return {key: answers[key] for key in keys}
