"""`TimeFilter`: when the requests were made that a query is about."""

import math
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.constants import shortened

_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


def _instant(name: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise FilterTypeError(
            f"TimeFilter.{name} is an aware datetime, not {type(value).__name__} {shortened(value)}"
        )
    if value.utcoffset() is None:
        raise FilterTypeError(
            f"TimeFilter.{name} is the naive datetime {value.isoformat()}:"
            " say which zone it is in, for example .replace(tzinfo=datetime.UTC)"
        )
    try:
        # Python compares and subtracts times of one zone by the clock on the wall, clock changes or not.
        return value.astimezone(UTC)
    except OverflowError:
        raise FilterValueError(f"TimeFilter.{name}: {value.isoformat()} does not exist in UTC") from None


def _start(value: datetime) -> datetime:
    return _instant("start", value)


def _end(value: datetime) -> datetime:
    return _instant("end", value)


@attrs.frozen
class TimeFilter:
    """The requests made after *start* and before *end*; both ends are exclusive, as the contract says.

    They are kept in UTC, and sent to the millisecond, which is how exactly the service stores requests.

    Args:
        start: An aware datetime.
        end: A later one.

    Raises:
        FilterTypeError: An end is no datetime, or a naive one.
        FilterValueError: *end* does not lie after *start*.

    >>> import datetime as dt
    >>> TimeFilter(dt.datetime(2026, 11, 1, tzinfo=dt.UTC), dt.datetime(2026, 11, 8, tzinfo=dt.UTC)).length
    datetime.timedelta(days=7)
    """

    start: datetime = attrs.field(converter=_start)
    end: datetime = attrs.field(converter=_end)

    def __attrs_post_init__(self) -> None:
        if self.start >= self.end:
            raise FilterValueError(
                f"TimeFilter: the start {self.start.isoformat()} does not lie"
                f" before the end {self.end.isoformat()}"
            )

    @classmethod
    def last(cls, *, days: float = 0, hours: float = 0, minutes: float = 0) -> Self:
        """The time up to now.

        Args:
            days: How long it is; what is given is added up.
            hours: As well.
            minutes: As well.

        Raises:
            FilterTypeError: A length is no number.
            FilterValueError: The length is zero or less, or longer than the calendar.

        >>> TimeFilter.last(days=7).length
        datetime.timedelta(days=7)
        """
        length = _length("last", days=days, hours=hours, minutes=minutes)
        now = datetime.now(UTC)
        try:
            return cls(now - length, now)
        except OverflowError:
            raise FilterValueError(f"TimeFilter.last(): {length} ago there was no calendar") from None

    @classmethod
    def since(cls, start: datetime) -> Self:
        """The time from *start* up to now.

        Args:
            start: An aware datetime that is past.

        Raises:
            FilterTypeError: It is no datetime, or a naive one.
            FilterValueError: It is not past.

        >>> import datetime as dt
        >>> TimeFilter.since(dt.datetime(2026, 1, 1))
        Traceback (most recent call last):
            ...
        helicone_sessions.errors.FilterTypeError: TimeFilter.start is the naive datetime 2026-01-01T00:00:00: say which zone it is in, for example .replace(tzinfo=datetime.UTC)
        """  # noqa: E501 - a doctest shows the message whole
        return cls(start, datetime.now(UTC))

    @property
    def length(self) -> timedelta:
        """From start to end.

        >>> TimeFilter.last(hours=36).length
        datetime.timedelta(days=1, seconds=43200)
        """
        return self.end - self.start

    def split(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, time_zone: str | tzinfo | None = None
    ) -> "list[TimeFilter]":
        """The same time in windows of equal length; the last may be shorter.

        Each request of the whole falls into exactly one window. The ends being exclusive, a window after
        the first starts one millisecond before its border, and so counts the requests made on the border
        itself. (The open-source server drops fractions of a second: there such a window also counts the
        requests of the second before its border.)

        Args:
            days: The length of a window.
            hours: As well.
            minutes: As well.
            time_zone: Take calendar days of this zone, as ``"Europe/Berlin"``, from midnight to midnight;
                a day on which the clocks change has 23 or 25 hours. The first window may be shorter then.
                Without it a day is 24 hours, counted from the start.

        Raises:
            FilterValueError: The length is below a millisecond, or the zone is not known or given for a
                length that is not whole days.

        >>> import datetime as dt
        >>> start = dt.datetime(2026, 10, 23, 22, tzinfo=dt.UTC)
        >>> week = TimeFilter(start, start + dt.timedelta(days=7))
        >>> _, sunday, *_ = week.split(days=1, time_zone="Europe/Berlin")
        >>> sunday.length
        datetime.timedelta(days=1, seconds=3600, microseconds=1000)
        """
        step = _length("split", days=days, hours=hours, minutes=minutes)
        if step < _MILLISECOND:
            raise FilterValueError(f"TimeFilter.split() needs windows of a millisecond or more, not {step}")
        if time_zone is None:
            inner = [self.start + step * place for place in range(1, math.ceil(self.length / step))]
        else:
            inner = _midnights(self, step, zone_of(time_zone))
        borders = [border - timedelta(microseconds=border.microsecond % 1000) for border in inner]
        starts = [self.start, *(border - _MILLISECOND for border in borders)]
        return [TimeFilter(start, end) for start, end in zip(starts, [*borders, self.end], strict=True)]


def zone_of(time_zone: str | tzinfo) -> tzinfo:
    """The zone of that name, or the zone itself.

    Raises:
        FilterTypeError: It is neither a name nor a zone.
        FilterValueError: No zone of that name is known.
    """
    if isinstance(time_zone, tzinfo):
        return time_zone
    if not isinstance(time_zone, str):
        raise FilterTypeError(
            f"time_zone is a name, as 'Europe/Berlin', or a tzinfo, not {shortened(time_zone)}"
        )
    try:
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FilterValueError(
            f"time_zone: no zone {time_zone!r} is known; names are as 'UTC' and 'Europe/Berlin'"
            " (where the system has none, python -m pip install tzdata)"
        ) from None


def _midnights(whole: TimeFilter, step: timedelta, zone: tzinfo) -> list[datetime]:
    """The borders inside *whole* at which every so many days of the zone begin, in UTC."""
    if step % _DAY:
        raise FilterValueError(
            f"TimeFilter.split(): with a time_zone windows are whole days, not {step};"
            " without it they are counted from the start"
        )
    day = whole.start.astimezone(zone).date()
    found: list[datetime] = []
    while True:
        try:
            day += step
            # A midnight that the clocks leave out is the moment at which they do.
            border = datetime.combine(day, time(), zone).astimezone(UTC)
        except OverflowError:
            return found
        if border >= whole.end:
            return found
        # A day that the calendar leaves out begins and ends at once.
        if border > (found[-1] if found else whole.start):
            found.append(border)


def _length(method: str, **parts: float) -> timedelta:
    try:
        length = timedelta(**parts)
    except TypeError:
        raise FilterTypeError(f"TimeFilter.{method}() takes numbers, as days=7") from None
    except (ValueError, OverflowError):
        raise FilterValueError(
            f"TimeFilter.{method}() takes a length of at most some thousand years"
        ) from None
    if length <= timedelta(0):
        raise FilterValueError(f"TimeFilter.{method}() needs a length above zero, as days=7; got {length}")
    return length
