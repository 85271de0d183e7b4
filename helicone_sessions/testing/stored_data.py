"""The sessions and requests of the fake service, with optional deviations from the contract."""

import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar
from zlib import crc32

import attrs

from helicone_sessions.filters.constants import MISSING
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import And, Leaf, Node, Or, fold, simplify
from helicone_sessions.filters.schema import COMPARISONS, Kind
from helicone_sessions.filters.schema import SESSIONS as SESSION_TABLE
from helicone_sessions.filters.whole_sessions import has_whole_session_conditions
from helicone_sessions.messages.converter import moment_in
from helicone_sessions.messages.protocol import (
    REQUEST_COUNT,
    REQUESTS,
    SESSION_COUNT,
    SESSION_NAMES,
    SESSIONS,
    Endpoint,
)
from helicone_sessions.messages.query import (
    DEFAULT_SESSIONS_PAGE,
    MOST_NAMES,
    REQUESTS_PAGE,
    Request,
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
    TimeFilter,
)
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName
from helicone_sessions.testing.replies import Reply, failure, gateway_page

_WILDCARDS: Final = re.compile(r"\\([\\%_])|(%)|(_)|(.)", re.DOTALL)
ValueOf = Callable[[Leaf], Any]
"""Returns the value of the column in a condition, or None if it is missing."""
UNKNOWN: Final = object()
"""The value of an unknown column, for which every condition is true."""


def predicate(condition: Filter | None, *, drops_fractions: bool = False) -> Callable[[ValueOf], bool]:
    """Create a function that checks whether values match a filter.

    Args:
        condition: The filter; None matches everything.
        drops_fractions: Whether to drop fractions of a second in conditions on times, as the open-source
            server does.

    >>> from helicone_sessions import F
    >>> row = {"model": "gpt-4o"}
    >>> predicate(F.model.contains("GPT") | (F.cost > 0.1))(lambda leaf: row.get(leaf.column.name))
    True
    """
    if condition is None:
        return lambda _value_of: True
    if condition.matches_nothing:
        return lambda _value_of: False

    def made(node: Node, below: list[Callable[[ValueOf], bool]]) -> Callable[[ValueOf], bool]:
        if isinstance(node, Leaf):
            return lambda value_of: _holds(node, value_of(node), drops_fractions=drops_fractions)
        if isinstance(node, Or):
            return lambda value_of: any(holds(value_of) for holds in below)
        return lambda value_of: all(holds(value_of) for holds in below)

    return fold(simplify(condition.node), made)


def _holds(leaf: Leaf, value: Any, *, drops_fractions: bool) -> bool:
    wanted: Any = leaf.value
    if value is UNKNOWN:
        return True
    if wanted is MISSING:
        return (value is None) == (leaf.operator == "equals")
    if value is None:
        return False
    if isinstance(wanted, datetime) and drops_fractions:
        wanted = wanted.replace(microsecond=0)
    if leaf.operator in COMPARISONS:
        return COMPARISONS[leaf.operator](value, wanted)
    if leaf.operator in ("like", "ilike"):
        flags = re.IGNORECASE if leaf.operator == "ilike" else 0
        return re.fullmatch(_pattern(wanted), str(value), flags | re.DOTALL) is not None
    return (wanted.lower() in str(value).lower()) == (leaf.operator == "contains")


def _pattern(like: str) -> str:
    """Convert a LIKE pattern to a regular expression."""

    def part(match: re.Match[str]) -> str:
        escaped, many, one, plain = match.groups()
        return ".*" if many else "." if one else re.escape(escaped or plain)

    return _WILDCARDS.sub(part, like)


Row = TypeVar("Row", Session, Request)

_NO_CACHE: Final = "00000000-0000-0000-0000-000000000000"
# The columns that have another name in the requests of the API.
_NAMES: Final = {"status": "response_status", "latency": "delay_ms", "user_id": "request_user_id"}


@attrs.frozen(kw_only=True)
class Traps:
    """The ways in which a server deviates from the contract.

    Each deviation occurs in the open-source server or an older version of it.

    Args:
        numbers_as_text: Counts are sent as text.
        without_user_ids: Sessions have no ``user_ids``.
        ignores_offset: Every page of sessions contains the newest 50 sessions, and the count of sessions is a
            bare number.
        repeats_rows: Each row is stored up to three times. The server removes duplicates from a page only
            after it has selected the rows of the page.
        shuffles_ties: Rows with the same time are in a random order, which changes with each response.
        drops_fractions: Fractions of a second in conditions and in ``timeFilter`` are ignored.
        slow_above: Pages with more rows than this fail with a gateway timeout (504).
        fails_on_whole_sessions: A count of sessions fails if the filter has conditions on whole sessions.

    >>> Traps(slow_above=100).slow_above
    100
    """

    numbers_as_text: bool = False
    without_user_ids: bool = False
    ignores_offset: bool = False
    repeats_rows: bool = False
    shuffles_ties: bool = False
    drops_fractions: bool = False
    slow_above: int | None = None
    fails_on_whole_sessions: bool = False


@attrs.define(eq=False)
class StoredData:
    """Stores the sessions and requests of the fake service, and answers queries about them."""

    sessions: list[Session] = attrs.field(factory=list)
    requests: list[Request] = attrs.field(factory=list)
    traps: Traps = attrs.field(factory=Traps)
    _random: random.Random = attrs.field(factory=lambda: random.Random(0), init=False)  # noqa: S311
    _times: "_Times" = attrs.field(factory=lambda: _Times([]), init=False)

    def reply(self, endpoint: Endpoint[Any, Any], query: Any) -> Reply:
        """Return the response of any endpoint except the one for metrics."""
        answers: dict[Endpoint[Any, Any], Callable[[Any], Any]] = {
            SESSIONS: self._page_of_sessions,
            SESSION_COUNT: self._session_count,
            SESSION_NAMES: self._session_names,
            REQUESTS: self._page_of_requests,
            REQUEST_COUNT: self._request_count,
        }
        answer = answers[endpoint](query)
        return answer if isinstance(answer, Reply) else Reply(200, {"data": answer, "error": None})

    def _page_of_sessions(self, query: SessionsQuery) -> Any:
        limit, offset = query.page_size, query.offset
        if self.traps.ignores_offset:
            limit, offset = DEFAULT_SESSIONS_PAGE, 0
        found = self._ordered(self._matching_sessions(query), lambda one: one.created_at, newest_first=True)
        page = self._page(found, offset, limit, lambda one: (one.session_id, one.session_name))
        return page if isinstance(page, Reply) else [self._session_row(one) for one in page]

    def _session_row(self, session: Session) -> dict[str, Any]:
        row: dict[str, Any] = SESSIONS.answer_to_wire([session])[0]
        if self.traps.without_user_ids:
            del row["user_ids"]
        row["total_requests"] = self._number(session.total_requests)
        return row

    def _session_count(self, query: SessionsQuery) -> Any:
        is_whole = query.filter is not None and has_whole_session_conditions(query.filter)
        if self.traps.fails_on_whole_sessions and is_whole:
            return failure("Unknown expression identifier `total_cost`")
        found = self._matching_sessions(query)
        if self.traps.ignores_offset:
            return self._number(len(found))
        latencies = sum((one.avg_latency or 0) * one.total_requests for one in found)
        cost, number = sum(one.total_cost for one in found), max(len(found), 1)
        requests_made = sum(one.total_requests for one in found)
        counted = SessionCount(len(found), cost, cost / number, latencies / number, requests_made / number)
        return {**SESSION_COUNT.answer_to_wire(counted), "count": self._number(len(found))}

    def _session_names(self, query: SessionMetricsQuery) -> Any:
        by_name: dict[str, list[Session]] = {}
        for one in self._selected(query):
            if query.name_contains.lower() in one.session_name.lower():
                by_name.setdefault(one.session_name, []).append(one)
        names = [
            SessionName(
                name,
                min(one.created_at for one in group),
                max(one.latest_request_created_at for one in group),
                sum(one.avg_latency or 0 for one in group) / len(group),
                len(group),
            )
            for name, group in by_name.items()
        ]
        rows = SESSION_NAMES.answer_to_wire(names[:MOST_NAMES])
        return [{**row, "session_count": self._number(row["session_count"])} for row in rows]

    def _page_of_requests(self, query: RequestsQuery) -> Any:
        if query.limit > REQUESTS_PAGE:
            return failure("invalid limit")
        found = self._ordered(self._matching_requests(query), _created_at, newest_first=query.sort != "asc")
        return self._page(found, query.offset, query.limit, lambda one: one["request_id"])

    def _request_count(self, query: RequestCountQuery) -> Any:
        return self._number(len(self._matching_requests(query)))

    def _page(
        self, found: list[Row], offset: int, limit: int, key: Callable[[Row], Any]
    ) -> list[Row] | Reply:
        if self.traps.repeats_rows:
            # Derive the number of copies from the key, so that it is the same each time.
            found = [row for row in found for _ in range(1 + crc32(str(key(row)).encode()) % 3)]
        page = found[offset : offset + limit]
        if self.traps.slow_above is not None and len(page) > self.traps.slow_above:
            return gateway_page(504)
        return list({key(row): row for row in page}.values())

    def _ordered(self, found: list[Row], time: Callable[[Row], datetime], *, newest_first: bool) -> list[Row]:
        if self.traps.shuffles_ties:
            self._random.shuffle(found)
        return sorted(found, key=time, reverse=newest_first)

    def _number(self, number: int) -> int | str:
        return str(number) if self.traps.numbers_as_text else number

    def _matching_sessions(self, query: SessionsQuery) -> list[Session]:
        searched = query.search.lower()
        return [
            one
            for one in self._selected(query)
            if query.name in (None, one.session_name)
            and any(searched in text.lower() for text in (one.session_id, one.session_name))
        ]

    def _selected(self, query: SessionsQuery | SessionMetricsQuery) -> list[Session]:
        """Return the sessions that match the time filter and the filter of a query."""
        holds = predicate(query.filter, drops_fractions=self.traps.drops_fractions)
        found = [one for one in self.sessions if holds(partial(_of_session, one))]
        if query.time_filter is not None:
            start, end = self._ends(query.time_filter)
            found = [one for one in found if one.latest_request_created_at > start and one.created_at < end]
        return found

    def _ends(self, time: TimeFilter) -> Iterable[datetime]:
        ends = (time.start, time.end)
        return [end.replace(microsecond=0) for end in ends] if self.traps.drops_fractions else ends

    def _matching_requests(self, query: RequestsQuery | RequestCountQuery) -> list[Request]:
        holds = predicate(query.filter, drops_fractions=self.traps.drops_fractions)
        # Compare the times at each query, because a test may have changed the requests in between.
        texts = [one["request_created_at"] for one in self.requests]
        if texts != self._times.texts:
            self._times = _Times(texts)
        candidates = (self.requests[place] for place in self._times.places(query.filter))
        return [one for one in candidates if holds(partial(_of_request, one))]


@attrs.frozen(eq=False)
class _Times:
    """An index of the times of requests, so that a page can be found without reading all requests.

    Args:
        texts: The times as the API returns them.
    """

    texts: list[str]
    _moments: list[datetime] = attrs.field(init=False)
    _places: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        found = sorted((moment_in(text), place) for place, text in enumerate(self.texts))
        object.__setattr__(self, "_moments", [moment for moment, _ in found])
        object.__setattr__(self, "_places", [place for _, place in found])

    def places(self, condition: Filter | None) -> list[int]:
        """Return the positions of the requests whose time matches a filter, sorted by time."""
        first, last = 0, len(self._moments)
        for leaf in _conditions_on_time(condition):
            # Use a bound one second lower, because the server may drop the fraction.
            if leaf.operator in ("gt", "gte"):
                first = max(first, bisect_left(self._moments, leaf.value.replace(microsecond=0)))
            elif leaf.operator in ("lt", "lte"):
                last = min(last, bisect_right(self._moments, leaf.value))
        return self._places[first:last]


def _conditions_on_time(condition: Filter | None) -> Iterator[Any]:
    """Yield the conditions on request times that every matching request must meet."""
    if condition is None or condition.matches_nothing:
        return
    root = simplify(condition.node)
    for node in root.children if isinstance(root, And) else (root,):
        if isinstance(node, Leaf) and node.column.name == "request_created_at":
            yield node


def _created_at(request: Request) -> datetime:
    return moment_in(request["request_created_at"])


def _of_session(session: Session, leaf: Leaf) -> Any:
    """Return the value of a column for a session.

    Of the request columns, only the session id and the session name are known.
    """
    if leaf.column.table == SESSION_TABLE:
        name = leaf.column.name.removeprefix("session_")
        return getattr(session, name, UNKNOWN)
    properties = {
        "Helicone-Session-Id": session.session_id,
        "Helicone-Session-Name": session.session_name,
    }
    is_known = leaf.column.name == "properties" and leaf.key in properties
    return properties[leaf.key or ""] if is_known else UNKNOWN


def _of_request(request: Request, leaf: Leaf) -> Any:
    column = leaf.column
    if column.name == "cached":
        return request.get("cache_reference_id", _NO_CACHE) != _NO_CACHE
    if column.name == "property_key":
        return leaf.value if leaf.value in (request.get("request_properties") or {}) else None
    name = "request_properties" if column.name == "properties" else _NAMES.get(column.name, column.name)
    value = request.get(name)
    if column.kind is Kind.MAP:
        return (value or {}).get(leaf.key)
    return moment_in(value) if column.kind is Kind.TIMESTAMP and value is not None else value
