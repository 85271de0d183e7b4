"""`Window`: one column of a grid, with the borders that people name it by."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.time_filter import TimeFilter, zone_of

Every = timedelta | Iterable[TimeFilter]

_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


@attrs.frozen
class Window:
    """A window of time: from *start* on and before *end*.

    Args:
        start: Where it begins; None is the beginning of all time.
        end: Where it ends.
        time_filter: What is asked for it. The service's ends are exclusive, so the time filter of a window
            that follows another begins a millisecond before `start`; requests are stored to the
            millisecond, and one made on the border counts in the later window, once.

    >>> day = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC), None)
    >>> str(day), date(2026, 11, 1) in day, datetime(2026, 11, 2, tzinfo=UTC) in day
    ('2026-11-01', True, False)
    """

    start: datetime | None
    end: datetime | None
    time_filter: TimeFilter | None

    def __contains__(self, moment: date) -> bool:
        """Whether a datetime lies in it, or a day of its zone begins in it."""
        if self.start is None or self.end is None:
            return True
        if not isinstance(moment, datetime):
            return self.start.date() <= moment < max(self.end.date(), self.start.date() + _DAY)
        return self.start <= moment < self.end

    def __str__(self) -> str:
        if self.start is None or self.end is None:
            return "all time"
        if self.start.time() == self.end.time() == self.start.time().min:
            last = self.end.date() - _DAY
            return (
                f"{self.start:%Y-%m-%d}" if last == self.start.date() else f"{self.start:%Y-%m-%d} to {last}"
            )
        return f"{self.start:%Y-%m-%d %H:%M}"


# What names a window: its place, a day or a datetime in it, or itself.
WindowKey = int | date | Window


def windows_of(
    query: SessionMetricsQuery, every: Every | None, time_zone: str | tzinfo | None
) -> tuple[Window, ...]:
    """The windows of a grid.

    Raises:
        FilterTypeError: *every* is neither a length nor a list of time filters.
        FilterValueError: There is no time to cut, or twice one.
    """
    zone = UTC if time_zone is None else zone_of(time_zone)
    whole = query.time_filter
    if every is None:
        return (Window(None, None, None) if whole is None else _windows([whole], zone)[0],)
    if isinstance(every, timedelta):
        if whole is None:
            raise FilterValueError(
                "every: there is no time to cut into windows; give the query one, as"
                " SessionMetricsQuery(time_filter=TimeFilter.last(days=30))"
            )
        by_calendar = time_zone is not None and not every % _DAY
        return _windows(whole.split(days=every / _DAY, time_zone=zone if by_calendar else None), zone)
    given = _given(every)
    if whole is not None:
        raise FilterValueError("every: the windows are given, so the query may not have a time_filter too")
    return _windows(given, zone)


def _given(every: object) -> list[TimeFilter]:
    if not isinstance(every, Iterable) or isinstance(every, (str, bytes)):
        raise FilterTypeError(
            f"every is a timedelta or a list of time filters, as those of TimeFilter.split(), not {every!r}"
        )
    given = list(every)
    if wrong := [each for each in given if not isinstance(each, TimeFilter)]:
        raise FilterTypeError(f"every is a list of time filters, and {wrong[0]!r} is none")
    if not given:
        raise FilterValueError("every: there is no window in it; leave it out for the query's whole time")
    return given


def whole_of(windows: Sequence[Window]) -> TimeFilter | None:
    """The time that the windows cover, or None if it is all time, or if there are gaps between them."""
    first, last = windows[0].time_filter, windows[-1].time_filter
    meets = all(before.end == after.start for before, after in pairwise(windows))
    return TimeFilter(first.start, last.end) if first and last and meets else None


def _windows(filters: Sequence[TimeFilter], zone: tzinfo) -> tuple[Window, ...]:
    found = []
    before: datetime | None = None
    for each in filters:
        # That is how `TimeFilter.split` counts the requests on a border.
        start = before if before == each.start + _MILLISECOND else each.start
        before = each.end
        found.append(Window(start.astimezone(zone), each.end.astimezone(zone), each))
    return tuple(found)
