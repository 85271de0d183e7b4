"""Reads paged lists completely, with each row exactly once, even if the list changes during the call.

The server removes duplicate rows only after it has cut a page. A page can therefore be shorter than requested
even if more rows follow, and only an empty page marks the end of the list. The server sorts rows by time; the
order of rows with the same time is arbitrary. A row that is added during the call, such as a new session,
shifts other rows. For this reason, pages overlap where that is cheap. If rows may be missing, the list is
read again until as many rows have been found as the server counts.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Self, TypeVar

import attrs

from helicone_sessions.errors import HeliconeError, UnexpectedResponse
from helicone_sessions.transport.retry import takes_too_long

_LOG: Final = logging.getLogger("helicone_sessions")
# The number of successful pages after which the page size grows again.
_STEADY: Final = 8
# Reading stops after this many passes in a row without a new row. The first number applies if the server
# counts more rows, the second if it cannot count.
_MOST_VAIN_PASSES: Final = 10
_VAIN_PASSES_WITHOUT_COUNT: Final = 3
_SECOND: Final = timedelta(seconds=1)

Row = TypeVar("Row")
Query = TypeVar("Query")
Count = Callable[[], Awaitable[int | None]]
"""Returns the number of rows on the server, or None if the server cannot count them."""


@attrs.define(eq=False)
class Pages(Generic[Query, Row]):
    """Reads pages, and requests smaller pages if the server cannot answer in time.

    Args:
        read: Returns the rows of a page, given a query, an offset and a limit.
        size: The initial and maximum number of rows per page.
    """

    read: Callable[[Query, int, int], Awaitable[list[Row]]]
    size: int
    _now: int = attrs.field(init=False)
    _steady: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._now = self.size

    async def page(self, query: Query, offset: int) -> tuple[list[Row], int]:
        """Return the page of rows that starts at *offset*, and the requested page size.

        Raises:
            HeliconeError: The page could not be read, and a smaller page is impossible or would not help.
        """
        while True:
            size = self._now
            try:
                rows = await self.read(query, offset, size)
            except HeliconeError as error:
                if size == 1 or not takes_too_long(error):
                    raise
                self._now, self._steady = size // 2, 0
                _LOG.info("a page of %d rows takes too long; the next has %d", size, self._now)
                continue
            self._steady += 1
            if self._steady >= _STEADY:
                self._now, self._steady = min(self.size, self._now * 2), 0
            return rows, size


@attrs.frozen(eq=False)
class ListFacts(Generic[Row]):
    """The properties of a list that is read in pages.

    Args:
        key: Returns a value that identifies a row.
        rank: Returns the sort key of a row. Rows with equal sort keys can be in any order.
        count: Returns the number of rows.
        what: The noun for the rows in messages.
    """

    key: Callable[[Row], Any]
    rank: Callable[[Row], Any]
    count: Count
    what: str


async def every_row(
    pages: Pages[Query, Row], query: Query, facts: ListFacts[Row]
) -> AsyncGenerator[list[Row], None]:
    """Yield all rows of a list, page by page, each row exactly once.

    Raises:
        UnexpectedResponse: The server counts more rows than its pages contain.
        HeliconeError: A page cannot be read.
    """
    seen: set[Any] = set()
    vain = 0
    while vain < _MOST_VAIN_PASSES:
        before = len(seen)
        one_pass = _Pass(pages, query, facts, is_careful=before > 0)
        async for rows in one_pass:
            fresh = {key: row for row in rows if (key := facts.key(row)) not in seen}
            seen.update(fresh)
            if fresh:
                yield list(fresh.values())
        if one_pass.is_certain:
            return
        vain = vain + 1 if len(seen) == before else 0
        expected = await facts.count()
        if (vain >= _VAIN_PASSES_WITHOUT_COUNT) if expected is None else (len(seen) >= expected):
            return
    raise _incomplete(facts.what, len(seen), await facts.count())


@attrs.define(eq=False)
class _Pass(Generic[Query, Row]):
    """One pass through the pages of a list. If `is_certain` is true, the pass has missed no rows.

    A normal pass overlaps two pages only where that is cheap. A careful pass overlaps them whenever the
    second page still fits a new row.
    """

    pages: Pages[Query, Row]
    query: Query
    facts: ListFacts[Row]
    is_careful: bool
    is_certain: bool = True
    _offset: int = 0
    # The rank of the last row of the previous page, and whether that page was shorter than requested.
    _edge: Any = None
    _is_short: bool = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Row]:
        rows, size = await self.pages.page(self.query, self._offset)
        if not rows:
            self.is_certain &= self._is_short
            raise StopAsyncIteration
        rank = self.facts.rank
        # Unread rows are at the edge or after it. They may have moved up, but no further than the edge, so a
        # page that begins before the edge misses none of them.
        self.is_certain &= self._offset == 0 or rank(rows[0]) < self._edge
        self._edge = rank(rows[-1])
        self._is_short = len(rows) < size
        # The server cuts the page before it removes duplicate rows, so a row is at this offset or later.
        overlapping = sum(rank(row) < self._edge for row in rows) - 1
        overlaps = overlapping > 0 if self.is_careful else not self._is_short and overlapping >= size // 2
        self._offset += overlapping if overlaps else size
        return rows


def second_of(moment: datetime) -> datetime:
    """Drop the fraction of a second, as the server does in conditions on times."""
    return moment.replace(microsecond=0)


@attrs.frozen(eq=False)
class TimeOrdered(Generic[Query, Row]):
    """A list sorted by ascending time, which can be queried for ranges of whole seconds.

    Args:
        pages: Reads the pages.
        between: Returns the query for the rows from one second (included) to another (excluded).
        count: Returns the number of rows that match a query, or None if the server cannot count them.
        key: Returns a value that identifies a row.
        time: Returns the time of a row.
        what: The noun for the rows in messages.
    """

    pages: Pages[Query, Row]
    between: Callable[[datetime | None, datetime | None], Query]
    count: Callable[[Query], Awaitable[int | None]]
    key: Callable[[Row], Any]
    time: Callable[[Row], datetime]
    what: str

    async def rows(self, start: datetime | None, end: datetime | None) -> AsyncGenerator[list[Row], None]:
        """Yield all rows of a time range in order, page by page, each row exactly once.

        A page at offset 0 is complete up to the second of its last row. Therefore the next query starts at
        that second, and an offset is needed only if the rows of one second fill a page.

        Args:
            start: The first second of the range; None for no limit.
            end: The end of the range in whole seconds, excluded; None for no limit.

        Raises:
            UnexpectedResponse: The server counts more rows than its pages contain.
            HeliconeError: A page cannot be read.
        """
        whole = self.between(start, end)
        expected = await self.count(whole)
        found = 0
        # The keys of the rows already read from the second with which the next page starts.
        recent: set[Any] = set()
        while True:
            query = self.between(start, end)
            rows, size = await self.pages.page(query, 0)
            if not rows:
                break
            first, last = second_of(self.time(rows[0])), second_of(self.time(rows[-1]))
            self._check_start(first, start)
            fresh = self._without(recent, rows)
            may_be_last = len(rows) < size and self._are_all(found + len(fresh), expected)
            is_last = may_be_last and await self._is_empty(query, size)
            if first < last or is_last:
                start, recent = last, self._since(last, rows)
            else:
                fresh = self._without(recent, await self._of_second(last))
                start, recent = last + _SECOND, set()
            found += len(fresh)
            if fresh:
                yield fresh
            if is_last:
                break
        if not self._are_all(found, expected):
            await self._check_missing(whole, found)

    def _since(self, second: datetime, rows: list[Row]) -> set[Any]:
        return {self.key(row) for row in rows if self.time(row) >= second}

    async def _is_empty(self, query: Query, offset: int) -> bool:
        return not (await self.pages.page(query, offset))[0]

    async def _check_missing(self, whole: Query, found: int) -> None:
        # Rows may have been deleted since they were counted.
        expected = await self.count(whole)
        if expected is not None and found < expected:
            raise _incomplete(self.what, found, expected)

    def _are_all(self, found: int, expected: int | None) -> bool:
        return expected is None or found >= expected

    def _check_start(self, first: datetime, start: datetime | None) -> None:
        # Otherwise the loop would read the same page forever.
        if start is not None and first < start:
            raise UnexpectedResponse(
                f"the server ignores conditions on the time of {self.what}:"
                f" requested from {start.isoformat()} on, got {first.isoformat()}",
                status=200,
                path="$.data[0]",
            )

    def _without(self, known: set[Any], rows: list[Row]) -> list[Row]:
        return list({key: row for row in rows if (key := self.key(row)) not in known}.values())

    async def _of_second(self, second: datetime) -> list[Row]:
        query = self.between(second, second + _SECOND)
        facts = ListFacts(self.key, self.time, lambda: self.count(query), self.what)
        found = [row async for rows in every_row(self.pages, query, facts) for row in rows]
        return sorted(found, key=self.time)


def _incomplete(what: str, found: int, expected: int | None) -> UnexpectedResponse:
    """Build the error for missing rows."""
    return UnexpectedResponse(
        f"the service counts {expected or 0:,} {what}, and its pages contain only {found:,}",
        status=200,
        path="$.data",
        remedy="Try again; if the difference remains, report it to the operator of the service",
    )
