"""`HeliconeClient`: the one place of the core that talks over the network."""

import asyncio
import platform
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from datetime import timedelta, tzinfo
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, overload

import attrs
from yarl import URL

from helicone_sessions.errors import (
    APIError,
    ConfigurationError,
    ConnectionFailed,
    FilterTypeError,
    HeliconeError,
    RequestTimeout,
    TransportError,
)
from helicone_sessions.messages import protocol
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import PSize, SessionMetricsQuery, TimeFilter
from helicone_sessions.transport.batch import MetricsStream, Queries, Query
from helicone_sessions.transport.rate_limit import Gate
from helicone_sessions.transport.retry import RetryPolicy
from helicone_sessions.transport.settings import Region, Settings, resolve
from helicone_sessions.transport.warn import (
    Cautions,
    FilterWarnings,
    Place,
    callers_place,
    marked_as_coroutine_function,
)

if TYPE_CHECKING:
    # It takes most of the import time of the package, and a filter needs none of it.
    from aiohttp import ClientSession

K = TypeVar("K")
OnProgress = Callable[[int, int | None, int], object]


class HeliconeClient:
    """A client for one Helicone organisation; use it with ``async with`` or end it with `aclose`.

    Making one touches neither the network nor an event loop. One client belongs to the loop on which it is
    first used.

    Args:
        api_key: The key; without it the environment's ``HELICONE_API_KEY``.
        region: ``"us"`` or ``"eu"``.
        base_url: The address of the service instead of a region, as of a self-hosted Helicone; without
            either the environment's ``HELICONE_BASE_URL``, and then the US region.
        session: An aiohttp session to use. It is not closed by the client.
        timeout: Seconds for one attempt, from sending to the whole answer. Waiting for a free slot, or for
            the rate limit, is not counted.
        max_retries: How often a query is asked again after a fault that passes.
        max_concurrency: How many queries are under way at once; the service runs six database queries for
            each.
        cautions: What to do about a filter that the open-source server is known to read differently
            (`Filter.cautions`): ``"warn"`` says it, once for each place in your code, as a
            `HeliconeFilterWarning`; ``"error"`` raises before anything is sent; ``"ignore"`` does neither. A
            server that says that it follows the contract, as `LocalServer` does, is not warned about.

    Raises:
        ConfigurationError: There is no key, or an argument cannot be used.

    >>> HeliconeClient("sk-helicone-example", region="eu")
    HeliconeClient(base_url='https://eu.api.helicone.ai', api_key='***')
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        region: Region | None = None,
        base_url: str | URL | None = None,
        session: "ClientSession | None" = None,
        timeout: float = 60.0,
        max_retries: int = 4,
        max_concurrency: int = 8,
        cautions: Cautions = "warn",
    ) -> None:
        self._settings: Settings = resolve(api_key, region, base_url)
        self._timeout = _seconds(timeout)
        self._policy = RetryPolicy(_count(max_retries, "max_retries", least=0))
        self._concurrency = _count(max_concurrency, "max_concurrency", least=1)
        self._slots = asyncio.Semaphore(self._concurrency)
        self._gate = Gate()
        self._warnings = FilterWarnings(cautions)
        self._connection = _Connection(session, self._concurrency)

    def __repr__(self) -> str:
        return f"HeliconeClient(base_url='{self._settings.base_url}', api_key='***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds connections and a key, and is not pickled; make one where it is used")

    async def __aenter__(self) -> Self:
        self._connection.claim()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; a session that was passed in stays open."""
        await self._connection.close()

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        cautions: Cautions | None = None,
    ) -> "HeliconeClient":
        """The same client with other limits: it shares connections, slots and rate limit with this one.

        Closing one of them closes both.

        Args:
            timeout: Seconds for one attempt.
            max_retries: How often a query is asked again.
            cautions: What to do about filters that the open-source server reads differently.
        """
        other = object.__new__(HeliconeClient)
        other.__dict__.update(self.__dict__)
        if timeout is not None:
            other._timeout = _seconds(timeout)
        if max_retries is not None:
            other._policy = attrs.evolve(
                self._policy, max_retries=_count(max_retries, "max_retries", least=0)
            )
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
        """The metrics of the sessions that a query selects; to be awaited.

        Args:
            query: A whole query, or a filter to which the keywords are added; None selects everything.
            name_contains: As in `SessionMetricsQuery`, like all that follow.
            time_filter: When the requests were made.
            p_size: Where the histograms are cut.
            use_interquartile: Cut them at both ends.
            timezone_difference: Minutes west of UTC.

        Raises:
            FilterError: The query cannot be built or sent; nothing was sent.
            TransportError: No answer came.
            APIError: The answer is not metrics.
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
        if isinstance(query, SessionMetricsQuery):
            plain = {field.name: field.default for field in attrs.fields(SessionMetricsQuery)}
            given = [name for name, value in keywords.items() if value is not plain[name]]
            if given:
                raise FilterTypeError(
                    f"get_metrics() got a whole query and {', '.join(given)} beside it:"
                    " use attrs.evolve(query, ...), or pass a filter and the keywords"
                )
        else:
            query = SessionMetricsQuery(query, **keywords)
        metrics, _ = await self._ask(query, place=place)
        return metrics

    @overload
    def get_metrics_many(  # type: ignore[overload-overlap] # a mapping is told from other iterables
        self, queries: Mapping[K, Query], *, on_progress: OnProgress | None = None
    ) -> Coroutine[Any, Any, dict[K, SessionMetrics]]: ...
    @overload
    def get_metrics_many(
        self, queries: Iterable[Query], *, on_progress: OnProgress | None = None
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
        queries: Iterable[Query],
        *,
        return_errors: bool,
        on_progress: OnProgress | None = None,
    ) -> Coroutine[Any, Any, list[SessionMetrics | HeliconeError]]: ...
    @marked_as_coroutine_function
    def get_metrics_many(
        self, queries: Any, *, return_errors: bool = False, on_progress: OnProgress | None = None
    ) -> Any:
        """The metrics of many queries, asked `max_concurrency` at a time; to be awaited.

        Args:
            queries: A mapping or an iterable of queries or filters.
            return_errors: Put an error in the place of its answer, instead of raising the first and
                ending the rest.
            on_progress: Called after each outcome with how many are done, how many there are in all (None
                if the input does not know) and how many failed.

        Returns:
            A dict with the same keys in the same order for a mapping, else a list.

        Raises:
            HeliconeError: The first error, unless *return_errors*. An `AuthenticationError` always: no other
                query would fare better.
        """
        return self._get_metrics_many(queries, return_errors, on_progress, callers_place())

    async def _get_metrics_many(
        self, queries: Any, return_errors: bool, on_progress: OnProgress | None, place: Place
    ) -> Any:
        keys = list(queries) if isinstance(queries, Mapping) else None
        total = len(queries) if hasattr(queries, "__len__") else None
        answers: dict[Any, SessionMetrics | HeliconeError] = {}
        failed = 0
        async with self._stream(queries, ordered=False, place=place) as outcomes:
            async for outcome in outcomes:
                if outcome.error is not None:
                    failed += 1
                    if not return_errors:
                        outcome.error.add_note(f"It is the answer to the query {outcome.key!r}.")
                        raise outcome.error
                answers[outcome.key] = outcome.error or outcome.metrics  # type: ignore[assignment]
                if on_progress is not None:
                    on_progress(len(answers), total, failed)
        if keys is None:
            return [answers[place] for place in range(len(answers))]
        return {key: answers[key] for key in keys}

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

        The input is pulled only when a slot is free, so it may be endless. Use it with ``async with``
        where the loop over it may be left early.

        Args:
            queries: A mapping, an iterable or an async iterable of queries or filters.
            ordered: Give the outcomes in the order of the input.

        Returns:
            An async iterable of `MetricsOutcome`. It raises an `AuthenticationError` at once, because no
            other query would fare better.
        """
        return self._stream(queries, ordered=ordered, place=callers_place())

    def _stream(self, queries: Queries[Any], *, ordered: bool, place: Place) -> MetricsStream[Any]:
        ask = partial(self._ask, place=place)
        return MetricsStream(queries, ask, concurrency=self._concurrency, ordered=ordered)

    async def _ask(self, query: SessionMetricsQuery, *, place: Place) -> tuple[SessionMetrics, int]:
        if query.matches_nothing:
            return SessionMetrics.empty(), 0
        request = protocol.request(query, self._settings.base_url)
        cautions = self._warnings.of(query)
        try:
            answer = await self._answer(request)
        except HeliconeError:
            self._warnings.say(cautions, place)
            raise
        # After the answer, for that tells whether the server reads filters as the contract does.
        self._warnings.say(cautions, place)
        return answer

    async def _answer(self, request: protocol.Request) -> tuple[SessionMetrics, int]:
        attempts = 0
        # The slot lies outside the timeout, so that queueing never counts.
        async with self._slots:
            while True:
                await self._gate.passed()
                attempts += 1
                try:
                    return await self._attempt(request), attempts
                except (TransportError, APIError) as error:
                    error.attempts = attempts
                    wait = self._policy.wait(error, attempts)
                    self._gate.learn_refusal(getattr(error, "retry_after", None), wait)
                    if wait is None:
                        raise
                await self._gate.sleep(wait)

    async def _attempt(self, request: protocol.Request) -> SessionMetrics:
        status, headers, body = await self._connection.send(request, self._settings, self._timeout)
        self._gate.learn(headers)
        self._warnings.learn(headers)
        return protocol.decipher(status, headers, body, secret=self._settings.api_key.reveal())


class _Connection:
    """The aiohttp session behind a client: made when first used, and closed only if it is ours."""

    def __init__(self, session: "ClientSession | None", size: int) -> None:
        self._session = session
        self._is_ours = session is None
        self._size = size
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def claim(self) -> None:
        """Bind the client to the running loop."""
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise ConfigurationError("the client is closed; make a new one")
        if self._loop not in (None, loop):
            raise ConfigurationError(
                "the client was first used on another event loop; make one client per loop,"
                " inside the function that asyncio.run() runs"
            )
        self._loop = loop

    async def send(
        self, request: protocol.Request, settings: Settings, seconds: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        import aiohttp  # noqa: PLC0415 - see the top of the module

        self.claim()
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._size)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        if self._session.closed:
            raise ConfigurationError("the session that was passed to the client is closed")
        failed: TransportError
        cause: Exception | None
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers={
                    **request.headers,
                    "Authorization": f"Bearer {settings.api_key.reveal()}",
                    "User-Agent": _USER_AGENT,
                },
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            what = f"no whole answer came within {seconds:g} s, the limit that timeout= sets for one attempt"
            failed, cause = RequestTimeout(what, limit="timeout", seconds=seconds), error
        except (aiohttp.ClientError, OSError) as error:
            what = (
                f"the connection to {settings.base_url.origin()} failed: {str(error) or type(error).__name__}"
            )
            # One error of aiohttp shows all headers in its repr, and the key among them.
            failed, cause = ConnectionFailed(what), None if hasattr(error, "request_info") else error
        # Here, and not above, so that what was caught is not its context.
        raise failed from cause

    async def close(self) -> None:
        self._is_closed = True
        if self._session is not None and self._is_ours:
            await self._session.close()


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError(f"timeout is seconds above zero, not {value!r}")
    return float(value)


def _count(value: object, name: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is a whole number from {least} up, not {value!r}")
    return value


_USER_AGENT: Final = f"helicone-sessions/{version('helicone-sessions')} Python/{platform.python_version()}"
