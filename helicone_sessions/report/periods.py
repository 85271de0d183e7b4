"""The periods of a grid."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.constants import zone_of
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter, border_of

Every = timedelta | str | Iterable[TimeFilter]
"""The length of a period, as a timedelta or as text such as ``"1d"``, or the time filters of all periods."""

_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}

_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


@attrs.frozen
class Period:
    """A period of time that includes its start and excludes its end.

    ``str()`` gives the day or time at which the period starts, followed by "(part)" if it is shorter than
    `every`.

    Args:
        start: The start; None if the period has no start.
        end: The end.
        time_filter: The time filter of the query. The service excludes both ends of a time filter. Therefore
            the time filter of a period that follows another one starts one millisecond before `start`.
            Requests are stored with millisecond precision, so a request made exactly at `start` counts once,
            in this period.
        every: The length of a full period in the grid; None if the periods have no common length.

    >>> day = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), None)
    >>> str(day), date(2026, 11, 1) in day, datetime(2026, 11, 2, tzinfo=UTC) in day
    ('2026-11-01', True, False)
    """

    start: datetime | None
    end: datetime | None
    time_filter: TimeFilter | None
    every: timedelta | None = attrs.field(default=None, eq=False)

    @property
    def includes_start(self) -> bool:
        """Whether the query of the period includes requests made exactly at its start.

        >>> day = TimeFilter("2026-11-01", "2026-11-02", "UTC")
        >>> Period(day.start, day.end, day).includes_start
        False
        """
        if self.start is None or self.time_filter is None:
            return False
        return self.every is not None or self.time_filter.start < self.start

    @property
    def is_partial(self) -> bool:
        """Whether the period is shorter than a full period of its grid.

        >>> noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
        >>> today = Period(datetime(2026, 11, 2, tzinfo=UTC), noon, None, every=timedelta(days=1))
        >>> today.is_partial, str(today)
        (True, '2026-11-02 (part)')
        """
        if self.start is None or self.end is None or self.every is None:
            return False
        if self._is_at_midnights():
            # Drop the time zone, so that a day on which the clocks change counts as full.
            return self.end.replace(tzinfo=None) - self.start.replace(tzinfo=None) < self.every
        return self.end.astimezone(UTC) - self.start.astimezone(UTC) < self.every

    def _is_at_midnights(self) -> bool:
        ends = [each.time() for each in (self.start, self.end) if each is not None]
        return set(ends) == {time()}

    def __contains__(self, moment: date) -> bool:
        """Whether the period contains a datetime, or the start of a date in the time zone of the period."""
        if self.start is None or self.end is None:
            return True
        if not isinstance(moment, datetime):
            return self.start.date() <= moment < max(self.end.date(), self.start.date() + _DAY)
        if moment.utcoffset() is None:
            raise FilterTypeError(
                argument="period",
                problem=f"must have a time zone, got the naive datetime {moment.isoformat()}",
                remedy="Add the time zone, for example with .replace(tzinfo=datetime.UTC)",
            )
        # Python compares times of the same zone by the wall clock, even across a clock change.
        return self.start.astimezone(UTC) <= moment.astimezone(UTC) < self.end.astimezone(UTC)

    def span(self) -> str:
        """Return the start and end of the period as text, for the title of a table.

        >>> Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 8, 12, tzinfo=UTC), None).span()
        '2026-11-01 00:00 to 2026-11-08 12:00'
        """
        if self.start is None or self.end is None or self._is_at_midnights():
            return str(self)
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"

    def __str__(self) -> str:
        if self.start is None or self.end is None:
            return "all time"
        part = " (part)" if self.is_partial else ""
        first, last = self.start.date(), (self.end - _MILLISECOND).date()
        # A partial calendar day has midnight at one end.
        is_day = time() in (self.start.time(), self.end.time()) and not (self.every or _MILLISECOND) % _DAY
        if is_day or self._is_at_midnights():
            return f"{first}{part}" if first == last else f"{first} to {last}{part}"
        return self.start.isoformat(" ", "minutes")[: None if _is_repeated(self.start) else 16] + part


def _is_repeated(moment: datetime) -> bool:
    """Whether this wall-clock time occurs twice because the clocks are set back."""
    return len({moment.replace(fold=fold).utcoffset() for fold in (0, 1)}) > 1


PeriodKey = int | date | Period
"""Identifies a period of a grid: an index, a date or datetime in the period, or the period itself."""


def length_of(text: str, argument: str = "every") -> timedelta:
    """Parse a length of time such as 90m, 12h, 7d or 2w.

    Raises:
        FilterValueError: The text is not a length of time, or the length is zero or longer than the calendar.

    >>> length_of("12h")
    datetime.timedelta(seconds=43200)
    """
    found = _LENGTH.fullmatch(text.strip().lower())
    try:
        length = float(found[1]) * _UNITS[found[2]] if found else timedelta(0)
    except OverflowError:
        raise FilterValueError(
            argument=argument,
            problem=f"is longer than the calendar, got {text}",
            remedy="Use a shorter length",
        ) from None
    if not length:
        raise FilterValueError(
            argument=argument, problem=f"must be a length such as 90m, 12h, 7d or 2w, got {text!r}"
        )
    return length


def periods_of(
    query: SessionMetricsQuery, every: Every | None, time_zone: str | tzinfo | None
) -> tuple[Period, ...]:
    """Return the periods of a grid.

    Raises:
        FilterTypeError: *every* is neither a length nor a list of time filters.
        FilterValueError: The query has no time range to divide, or it has a time range and *every* lists time
            filters.
    """
    whole = query.time_filter
    if time_zone is None and whole is not None:
        time_zone = whole.time_zone
    zone = UTC if time_zone is None else zone_of(time_zone)
    if isinstance(every, str):
        every = length_of(every)
    if every is None:
        return (Period(None, None, None),) if whole is None else _periods([whole], zone)
    if isinstance(every, timedelta):
        return _divided(whole, every, zone, by_calendar=time_zone is not None)
    time_filters = _time_filters(every)
    if whole is not None:
        raise FilterValueError(
            argument="every",
            problem="lists time filters, and the query has a time_filter too",
            remedy="Leave out one of them",
        )
    return _periods(time_filters, zone)


def _divided(
    whole: TimeFilter | None, every: timedelta, zone: tzinfo, *, by_calendar: bool
) -> tuple[Period, ...]:
    if whole is None:
        raise FilterValueError(
            argument="every",
            problem="cannot divide all time",
            remedy="Give the query a time filter, for example"
            " SessionMetricsQuery(time_filter=TimeFilter.last(days=30))",
        )
    days = zone if by_calendar and not every % _DAY else None
    return _periods(whole.split(days=every / _DAY, time_zone=days), zone, every)


def _time_filters(every: Any) -> list[TimeFilter]:
    if not isinstance(every, Iterable) or isinstance(every, bytes):
        raise _not_every(f"got {every!r}")
    given = list(every)
    if wrong := [each for each in given if not isinstance(each, TimeFilter)]:
        raise _not_every(f"got one with {wrong[0]!r} in it")
    if not given:
        raise FilterValueError(
            argument="every",
            problem="lists no time filter",
            remedy="Leave it out for one period, the whole time range of the query",
        )
    return given


def _not_every(got: str) -> FilterTypeError:
    return FilterTypeError(
        argument="every",
        problem=f"must be a length or a list of time filters, {got}",
        remedy="Pass timedelta(days=1), '1d', or the list that TimeFilter.split() returns",
    )


def covered_time(periods: Sequence[Period]) -> TimeFilter | None:
    """Return the time range that the periods cover, or None if it is unlimited or has gaps."""
    first, last = periods[0].time_filter, periods[-1].time_filter
    has_gaps = any(before.end != after.start for before, after in pairwise(periods))
    return TimeFilter(first.start, last.end) if first and last and not has_gaps else None


def _periods(
    time_filters: Iterable[TimeFilter], zone: tzinfo, every: timedelta | None = None
) -> tuple[Period, ...]:
    found = []
    before: datetime | None = None
    for each in time_filters:
        # The filters of `TimeFilter.split` start a millisecond early, to include requests made exactly at the
        # start.
        start = before if before == each.start + _MILLISECOND else border_of(each.start)
        before = each.end
        found.append(Period(start.astimezone(zone), each.end.astimezone(zone), each, every))
    return tuple(found)
