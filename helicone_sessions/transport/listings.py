"""The client's methods for listing and counting sessions and requests."""

import heapq
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import attrs

from helicone_sessions.errors import (
    FilterTypeError,
    FilterValueError,
    InvalidRequest,
    QueryFailed,
    RequestTimeout,
    ServerError,
    UnexpectedResponse,
)
from helicone_sessions.filters.cautions import Caution
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Condition, Filter, all_of
from helicone_sessions.filters.whole_sessions import Grouping, has_whole_session_conditions
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.converter import moment_in
from helicone_sessions.messages.protocol import (
    REQUEST_COUNT,
    REQUESTS,
    SESSION_COUNT,
    SESSION_NAMES,
    SESSIONS,
    AnyQuery,
    Endpoint,
)
from helicone_sessions.messages.query import (
    DEFAULT_SESSIONS_PAGE,
    MOST_NAMES,
    REQUESTS_PAGE,
    SESSIONS_PAGE,
    Request,
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
    TimeFilter,
    optional_filter,
)
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName, Sessions
from helicone_sessions.transport.paging import ListFacts, Pages, TimeOrdered, every_row, second_of
from helicone_sessions.transport.warn import (
    FilterWarnings,
    Place,
    callers_place,
    marked_as_coroutine_function,
)

_LOG: Final = logging.getLogger("helicone_sessions")
_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Conditions on this number of ids take up about a sixteenth of the largest statement.
_IDS_OF_A_QUERY: Final = 200
_BEYOND_THE_END: Final = 1_000_000_000
_NEWEST_FIRST: Final = "-created_at"
_SORTS: Final = (*(field.name for field in attrs.fields(Session)), "duration")

# Sends a query to an endpoint and returns the answer, with `can_split` as in `Call`.
Ask = Callable[..., Awaitable[Any]]


class Listings:
    """The client's methods for sessions and requests.

    They use the client's gate, slots, retries and hooks. Hooks see each page as one query.
    """

    _warnings: FilterWarnings

    async def _call(
        self,
        endpoint: Endpoint[Any, Any],
        query: AnyQuery,
        *,
        found: tuple[Caution, ...],
        place: Place,
        can_split: bool = False,
    ) -> Any:
        """Send a query to an endpoint, issue warnings for the cautions, and return the answer."""
        raise NotImplementedError

    def _follows_contract(self) -> bool:
        """Whether the server has announced that it reads filters as the contract does."""
        raise NotImplementedError

    def _asker(
        self, condition: Filter | None, time_filter: TimeFilter | None, grouping: Grouping | None = None
    ) -> Ask:
        """Return a function that sends queries and warns about the cautions of the filter and time filter."""
        found = self._warnings.of(
            condition, time_filter, follows_contract=self._follows_contract(), grouping=grouping
        )
        return partial(self._call, found=found, place=callers_place())

    @marked_as_coroutine_function
    def get_sessions(
        self,
        filter: Condition | None = None,
        *,
        time_filter: TimeFilter,
        name: str | None = None,
        search: str = "",
        sort: str = _NEWEST_FIRST,
        limit: int | None = 100,
        whole_sessions: bool = False,
    ) -> Coroutine[Any, Any, Sessions]:
        """Get the sessions that have matching requests, sorted by *sort*.

        The totals of a `Session` cover its matching requests or, with *whole_sessions*, all its requests.
        Requests without a session id are left out.

        The service sorts only by ``created_at``. To sort by another field, the client reads all pages of up
        to 1,000 sessions each and keeps the first *limit* sessions. Servers from before 2025-09-22 return
        only the newest 50 sessions.

        Args:
            filter: Conditions on requests and on whole sessions, such as ``F.session_total_cost > 5``. None
                selects everything.
            time_filter: The time range of the requests.
            name: The complete session name.
            search: A part of the session id or name; case is ignored.
            sort: A field of `Session`, or ``duration``. Put ``-`` in front for descending order.
            limit: The maximum number of sessions; None for all.
            whole_sessions: Whether the totals and times of a session cover all its requests, including those
                outside *time_filter*, instead of only the matching ones. This takes one extra API call per
                200 sessions.

        Raises:
            FilterError: An argument is invalid or cannot be sent. Nothing was sent.
            TransportError: No response arrived.
            APIError: The response contains no sessions.
            UnexpectedResponse: The server is from before 2025-09-22 and has more sessions than it returns.

        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, session
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.sessions = [session("a", total_cost=1.0), session("b", total_cost=2.0)]
        ...         week = TimeFilter("2026-11-01", "2026-11-08", "UTC")
        ...         found = await client.get_sessions(time_filter=week, sort="-total_cost", limit=1)
        ...         return found[0].session_id
        >>> import asyncio
        >>> asyncio.run(main())
        'b'
        """
        order = _Order.of(sort)
        most = _check_limit(limit)
        listed = self._listed(filter, time_filter, name, search, is_whole=whole_sessions)
        return _best_sessions(listed, order, most)

    def stream_sessions(
        self,
        filter: Condition | None = None,
        *,
        time_filter: TimeFilter,
        name: str | None = None,
        search: str = "",
        whole_sessions: bool = False,
    ) -> AsyncGenerator[Session, None]:
        """Iterate over the sessions that have matching requests, newest first and each exactly once.

        The client reads page by page. The stream contains every session that was stored before the call, even
        if others are stored during it. If the position of a session changes during the call, the session can
        arrive later than expected.

        Args:
            filter: Conditions on requests and whole sessions, as in `get_sessions`.
            time_filter: The time range of the requests.
            name: The complete session name.
            search: A part of the session id or name; case is ignored.
            whole_sessions: Whether the totals cover all requests of each session, as in `get_sessions`.

        Raises:
            HeliconeError: As in `get_sessions`. Sessions from earlier pages have already been yielded.

        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, session
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.sessions = [session("a"), session("b")]
        ...         week = TimeFilter("2026-11-01", "2026-11-08", "UTC")
        ...         return {one.session_id async for one in client.stream_sessions(time_filter=week)}
        >>> import asyncio
        >>> sorted(asyncio.run(main()))
        ['a', 'b']
        """
        listed = self._listed(filter, time_filter, name, search, is_whole=whole_sessions)
        return _each(listed.rows(SESSIONS_PAGE))

    @marked_as_coroutine_function
    def count_sessions(
        self,
        filter: Condition | None = None,
        *,
        time_filter: TimeFilter,
        name: str | None = None,
        search: str = "",
    ) -> Coroutine[Any, Any, SessionCount]:
        """Count the sessions that have matching requests, and compute the totals of these requests.

        With conditions on whole sessions, such as ``F.session_total_cost > 5``, the open-source server
        returns an error.

        Args:
            filter: Conditions on requests and whole sessions, as in `get_sessions`.
            time_filter: The time range of the requests.
            name: The complete session name.
            search: A part of the session id or name; case is ignored.

        Raises:
            HeliconeError: As in `get_sessions`.

        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, session
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.sessions = [session("a", total_cost=1.0), session("b", total_cost=2.0)]
        ...         week = TimeFilter("2026-11-01", "2026-11-08", "UTC")
        ...         return await client.count_sessions(time_filter=week)
        >>> import asyncio
        >>> asyncio.run(main()).total_cost
        3.0
        """
        return self._listed(filter, time_filter, name, search, "session count").whole_count()

    @marked_as_coroutine_function
    def get_session_names(
        self,
        filter: Condition | None = None,
        *,
        time_filter: TimeFilter | None = None,
        name_contains: str = "",
    ) -> Coroutine[Any, Any, list[SessionName]]:
        """Get the names of the sessions that have matching requests.

        The service returns at most 50 names, in no particular order, from requests of the last 150 days
        (server source). If it returns 50 names, the client issues a `HeliconeFilterWarning`.

        Args:
            filter: Conditions on requests; None for all.
            time_filter: The time range of the requests; None for all time.
            name_contains: A part of the session name. Older servers match only the complete name.

        Raises:
            HeliconeError: As in `get_sessions`.

        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, session
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.sessions = [session("a", "support"), session("b", "checkout")]
        ...         return [found.name for found in await client.get_session_names()]
        >>> import asyncio
        >>> sorted(asyncio.run(main()))
        ['checkout', 'support']
        """
        query = SessionMetricsQuery(filter, name_contains, time_filter)
        ask = self._asker(query.filter, time_filter)
        if time_filter is not None:
            query = attrs.evolve(query, filter=_with_fractions(query.filter, time_filter))
        return self._session_names(query, ask, callers_place())

    async def _session_names(self, query: SessionMetricsQuery, ask: Ask, place: Place) -> list[SessionName]:
        if query.matches_nothing:
            return []
        names: list[SessionName] = await ask(SESSION_NAMES, query)
        if len(names) == MOST_NAMES:
            self._warnings.warn(
                f"the service lists at most {MOST_NAMES} session names, and there are that many;"
                " use name_contains, the filter or a shorter time_filter to limit the list",
                place,
            )
        return names

    def stream_requests(
        self,
        filter: Condition | None = None,
        *,
        time_filter: TimeFilter | None = None,
        page_size: int = REQUESTS_PAGE,
    ) -> AsyncGenerator[Request, None]:
        """Iterate over the matching requests, oldest first and each exactly once.

        The stream contains every request that was stored before the call, even if others are stored during
        it. A request that is stored during the call may be yielded after a later request of the same second.
        The client reads pages of *page_size* requests, or smaller pages if the service cannot answer in time.
        At the end, it compares the number of requests with the result of `count_requests`.

        Args:
            filter: Conditions on requests; None for all. Conditions on sessions raise an error.
            time_filter: The time range of the requests; None for all time up to the call.
            page_size: The number of requests per page, from 1 to 1,000.

        Yields:
            Requests as dicts, exactly as the API returns them. The bodies of a request are placeholders
            unless its ``storage_location`` is ``clickhouse``.

        Raises:
            FilterError: An argument is invalid or cannot be sent. Nothing was sent.
            UnexpectedResponse: The service counts more requests than its pages contain.
            TransportError: No response arrived.
            APIError: The response contains no requests.

        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, request
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.stored_requests = [request(cost=0.5), request(cost=0.25)]
        ...         return sum([one["cost"] async for one in client.stream_requests()])
        >>> import asyncio
        >>> asyncio.run(main())
        0.75
        """
        size = _check_page_size(page_size)
        given = RequestCountQuery(filter).filter
        ask = self._asker(given, time_filter)
        return _requests(ask, given, _check_optional_time(time_filter), size)

    @marked_as_coroutine_function
    def count_requests(
        self,
        filter: Condition | None = None,
        *,
        time_filter: TimeFilter | None = None,
    ) -> Coroutine[Any, Any, int]:
        """Count the matching requests.

        Args:
            filter: Conditions on requests; None for all. Conditions on sessions raise an error.
            time_filter: The time range of the requests; None for all time. The open-source server drops
                fractions of a second.

        Raises:
            HeliconeError: As in `stream_requests`.

        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, request
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.stored_requests = [request(), request()]
        ...         return await client.count_requests()
        >>> import asyncio
        >>> asyncio.run(main())
        2
        """
        given = RequestCountQuery(filter).filter
        time = _check_optional_time(time_filter)
        ask = self._asker(given, time)
        return _count_requests(ask, given if time is None else all_of(given, *_bounds(time)))

    def _listed(
        self,
        condition: Condition | None,
        time_filter: TimeFilter,
        name: str | None,
        search: str,
        grouping: Grouping = "sessions",
        *,
        is_whole: bool = False,
    ) -> "_SessionList":
        given = optional_filter(condition)
        query = SessionsQuery(time_filter, given, search, name)
        ask = self._asker(given, time_filter, grouping)
        is_counted = given is None or not has_whole_session_conditions(given)
        return _SessionList(
            ask,
            attrs.evolve(query, filter=_with_fractions(given, time_filter)),
            lambda: is_counted or self._follows_contract(),
            is_whole,
        )


@attrs.define(eq=False)
class _SessionList:
    """Reads the sessions of a query, and works around the quirks of the endpoint.

    Args:
        ask: Sends a query.
        query: The query, with no offset or limit.
        can_count: Whether the server can count these sessions.
        is_whole: Whether the totals cover all requests of a session instead of only the matching ones.
    """

    ask: Ask
    query: SessionsQuery
    can_count: Callable[[], bool]
    is_whole: bool = False
    _first_page: list[tuple[str, str]] = attrs.field(factory=list, init=False)

    @property
    def is_empty(self) -> bool:
        """Whether no session can match."""
        return self.query.filter is not None and self.query.filter.matches_nothing

    async def rows(self, page_size: int) -> AsyncGenerator[list[Session], None]:
        """Yield all sessions, page by page, each exactly once."""
        if self.is_empty:
            return
        facts = ListFacts(_identity, _newest_first, self.count, "sessions")
        async with aclosing(every_row(Pages(self._page, page_size), self.query, facts)) as pages:
            async for rows in pages:
                yield await self._whole(rows) if self.is_whole else rows

    async def _whole(self, rows: list[Session]) -> list[Session]:
        """Replace each session with one whose totals cover all its requests, even outside the time range."""
        whole = {}
        always = TimeFilter(_EPOCH, max(self.query.time_filter.end, datetime.now(UTC) + timedelta(days=1)))
        for place in range(0, len(rows), _IDS_OF_A_QUERY):
            ids = {row.session_id for row in rows[place : place + _IDS_OF_A_QUERY]}
            query = SessionsQuery(always, F.properties["Helicone-Session-Id"].is_in(sorted(ids)))
            listed = _SessionList(self.ask, query, lambda: True)
            async for page in listed.rows(SESSIONS_PAGE):
                whole.update({_identity(row): row for row in page})
        return [whole.get(_identity(row), row) for row in rows]

    async def count(self) -> int | None:
        """Return the number of sessions, or None if the server cannot count them."""
        if not self.can_count():
            return None
        counted = await _or_none(self.ask(SESSION_COUNT, self.query))
        return None if counted is None else counted.count

    async def whole_count(self) -> SessionCount:
        """Return the number of sessions and the totals of their matching requests."""
        if self.is_empty:
            return SessionCount(0, 0.0, 0.0, 0.0, 0.0)
        counted: SessionCount = await self.ask(SESSION_COUNT, self.query)
        return counted

    async def _page(self, query: SessionsQuery, offset: int, limit: int) -> list[Session]:
        rows = await self._sent(query, offset, limit)
        keys = [(row.session_id, row.session_name) for row in rows]
        if offset == 0:
            self._first_page = keys
            return rows
        # New sessions can push the rows of the first page down to this offset, but never past the end of the
        # list.
        is_repeated = bool(rows) and keys == self._first_page
        if is_repeated and await self._sent(query, _BEYOND_THE_END, limit):
            return await self._end_without_offset(len(rows))
        return rows

    async def _sent(self, query: SessionsQuery, offset: int, limit: int) -> list[Session]:
        page = attrs.evolve(query, offset=offset, limit=limit)
        rows: list[Session] = await self.ask(SESSIONS, page, can_split=limit > 1)
        return rows

    async def _end_without_offset(self, given: int) -> list[Session]:
        """Return no rows if the first page of a server that ignores ``offset`` contained all sessions.

        Raises:
            UnexpectedResponse: The server has more sessions, or does not report their number.
        """
        if given < DEFAULT_SESSIONS_PAGE:
            return []
        counted = await self.count()
        if counted is not None and counted <= given:
            return []
        raise UnexpectedResponse(
            f"the server ignores offset, as servers before 2025-09-22 do, and returns only the newest {given}"
            f" sessions{'' if counted is None else f' of {counted:,}'}",
            status=200,
            path="$.data",
            remedy=f'Use a shorter time_filter, or a limit of up to {given} with sort="{_NEWEST_FIRST}"',
        )


def _identity(session: Session) -> bytes:
    # Keep hashes: the names of 100,000 sessions would take several times the memory.
    text = f"{len(session.session_id)} {session.session_id}{session.session_name}"
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _newest_first(session: Session) -> float:
    return -session.created_at.timestamp()


async def _or_none(answer: Awaitable[Any]) -> Any:
    """Await the answer; return None if this server does not support the call."""
    try:
        return await answer
    except (InvalidRequest, QueryFailed, ServerError, RequestTimeout) as error:
        _LOG.info("no count to compare with: %s", type(error).__name__)
        return None


async def _each(pages: AsyncGenerator[list[Session], None]) -> AsyncGenerator[Session, None]:
    async with aclosing(pages):
        async for rows in pages:
            for row in rows:
                yield row


@attrs.frozen
class _Order:
    """A sort order of sessions; missing values come last."""

    name: str
    is_descending: bool

    @classmethod
    def of(cls, sort: object) -> "_Order":
        name = sort.removeprefix("-") if isinstance(sort, str) else None
        if name not in _SORTS:
            raise FilterValueError(
                argument="sort",
                problem=f"must be a field of Session, got {masked_repr(sort)}",
                remedy=f"Use one of {', '.join(_SORTS)}, with - in front for descending order",
            )
        return cls(name, sort != name)

    def best(self, found: list[Session], limit: int | None) -> list[Session]:
        if limit is None:
            return sorted(found, key=self._key, reverse=self.is_descending)
        best = heapq.nlargest if self.is_descending else heapq.nsmallest
        return best(limit, found, key=self._key)

    def _key(self, session: Session) -> tuple[Any, ...]:
        value = getattr(session, self.name)
        return (not self.is_descending,) if value is None else (self.is_descending, value)


async def _best_sessions(listed: _SessionList, order: _Order, limit: int | None) -> Sessions:
    is_newest_first = order == _Order.of(_NEWEST_FIRST)
    size = SESSIONS_PAGE
    if is_newest_first and limit is not None:
        size = min(limit, size)
    found: list[Session] = []
    if limit != 0:
        async with aclosing(listed.rows(size)) as pages:
            async for rows in pages:
                found += rows
                if limit is not None and not is_newest_first:
                    found = order.best(found, limit)
                elif limit is not None and len(found) >= limit:
                    break
    return Sessions(tuple(order.best(found, limit)))


async def _requests(
    ask: Ask, given: Filter | None, time: TimeFilter | None, page_size: int
) -> AsyncGenerator[Request, None]:
    if given is not None and given.matches_nothing:
        return
    start, end = (None, None) if time is None else _whole_seconds(time)
    between = partial(_requests_between, given)
    if end is None or end > datetime.now(UTC):
        # End at the newest request so far. Otherwise new requests could keep the stream from ending.
        newest = attrs.evolve(between(start, end), limit=1, sort="desc")
        rows = await ask(REQUESTS, newest)
        if not rows:
            return
        end = second_of(_time(rows[0])) + _SECOND

    async def page(query: RequestsQuery, offset: int, limit: int) -> list[Request]:
        sized = attrs.evolve(query, offset=offset, limit=limit)
        found: list[Request] = await ask(REQUESTS, sized, can_split=limit > 1)
        return found

    async def count(query: RequestsQuery) -> int | None:
        counted: int | None = await _or_none(_count_requests(ask, query.filter))
        return counted

    ordered = TimeOrdered(Pages(page, page_size), between, count, _request_id, _time, "requests")
    async with aclosing(ordered.rows(start, end)) as pages:
        async for rows in pages:
            for row in rows:
                if _is_within(time, _time(row)):
                    # Copy the row, because identical queries in progress share the response.
                    yield dict(row)


def _is_within(time: TimeFilter | None, moment: datetime) -> bool:
    return time is None or time.start < moment < time.end


def _whole_seconds(time: TimeFilter) -> tuple[datetime, datetime]:
    return second_of(time.start), second_of(time.end + _SECOND - timedelta(microseconds=1))


def _requests_between(given: Filter | None, first: datetime | None, after: datetime | None) -> RequestsQuery:
    created_at = F.request_created_at
    limits = (
        None if first is None else created_at >= first,
        None if after is None else created_at < after,
    )
    return RequestsQuery(all_of(given, *limits), sort="asc")


async def _count_requests(ask: Ask, condition: Filter | None) -> int:
    query = RequestCountQuery(condition)
    if condition is not None and condition.matches_nothing:
        return 0
    counted: int = await ask(REQUEST_COUNT, query)
    return counted


def _request_id(request: Request) -> str:
    return str(request["request_id"])


def _time(request: Request) -> datetime:
    return moment_in(request["request_created_at"])


def _bounds(time: TimeFilter) -> tuple[Filter, Filter]:
    """Convert a time filter to conditions, and use whole seconds where this does not change the result.

    Requests are stored with millisecond precision, but the server drops fractions of a second in conditions.
    """
    created_at = F.request_created_at
    after = time.start - timedelta(microseconds=time.start.microsecond % 1000)
    before = time.end + timedelta(microseconds=-time.end.microsecond % 1000)
    first, last = after + _MILLISECOND, before - _MILLISECOND
    return (
        created_at >= first if first == second_of(first) else created_at > after,
        created_at <= last if last == second_of(last) else created_at < before,
    )


def _with_fractions(condition: Filter | None, time: TimeFilter) -> Filter | None:
    """Add conditions for the fractions of a second in *time*, which the server drops from a time filter."""
    if not (time.start.microsecond or time.end.microsecond):
        return condition
    return all_of(condition, *_bounds(time))


def _check_limit(limit: object) -> int | None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise FilterTypeError(
            argument="limit", problem=f"must be a whole number or None, got {masked_repr(limit)}"
        )
    if limit is not None and limit < 0:
        raise FilterValueError(argument="limit", problem=f"must be at least 0, got {limit}")
    return limit


def _check_page_size(size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int):
        raise FilterTypeError(
            argument="page_size", problem=f"must be a whole number, got {masked_repr(size)}"
        )
    if not 1 <= size <= REQUESTS_PAGE:
        raise FilterValueError(
            argument="page_size", problem=f"must be from 1 to {REQUESTS_PAGE:,}, got {size}"
        )
    return size


def _check_optional_time(time: object) -> TimeFilter | None:
    if time is not None and not isinstance(time, TimeFilter):
        raise FilterTypeError(
            argument="time_filter",
            problem=f"must be a TimeFilter or None, got {masked_repr(time)}",
            remedy="Pass TimeFilter.last(days=7), for example",
        )
    return time
