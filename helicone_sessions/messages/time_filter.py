"""`TimeFilter`: the time in which the requests of a query were made."""

import math
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Self

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.masking import masked_repr
from helicone_sessions.time_zones import has_misplaced_pytz_zone, zone_of

_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_MILLISECOND = 999_000
_EXAMPLE = "Pass a length such as days=7"


@attrs.frozen(init=False, repr=False)
class TimeFilter:
    """The requests made after *start* and before *end*; the contract excludes both ends.

    Both ends are kept in UTC and sent in milliseconds, the precision of the stored requests.

    Args:
        start: An aware datetime, or ISO 8601 text. With a *time_zone* also a date (its midnight), a naive
            datetime, or text without an offset.
        end: A later time, in the same forms.
        time_zone: The time zone of dates and of times without an offset, by name or as a tzinfo. A local
            time that clocks repeat is the first of the two, unless its ``fold`` is 1.

    Raises:
        FilterTypeError: An end is not a time, or has no time zone.
        FilterValueError: *start* is not before *end*, an end is not ISO 8601 text, no time zone has that
            name, or an end has a misplaced zone of pytz.

    >>> import datetime as dt
    >>> TimeFilter(dt.datetime(2026, 11, 1, tzinfo=dt.UTC), dt.datetime(2026, 11, 8, tzinfo=dt.UTC)).length
    datetime.timedelta(days=7)
    >>> TimeFilter("2026-10-19", "2026-11-02", time_zone="Europe/Berlin")
    TimeFilter('2026-10-19T00:00:00+02:00', '2026-11-02T00:00:00+01:00', time_zone='Europe/Berlin')
    """

    start: datetime
    end: datetime
    time_zone: tzinfo | None = attrs.field(default=None, eq=False)

    def __init__(self, start: date | str, end: date | str, time_zone: str | tzinfo | None = None) -> None:
        zone = None if time_zone is None else zone_of(time_zone)
        begin, finish = _instant("start", start, zone), _instant("end", end, zone)
        if begin >= finish:
            raise FilterValueError(
                argument="start",
                problem=f"must be before the end, got {begin.isoformat()} and {finish.isoformat()}",
                remedy="Use an earlier start or a later end",
            )
        self.__attrs_init__(begin, finish, zone)

    def __repr__(self) -> str:
        ends = ", ".join(
            repr(each.astimezone(self.time_zone or UTC).isoformat()) for each in (self.start, self.end)
        )
        if self.time_zone is None:
            return f"TimeFilter({ends})"
        return f"TimeFilter({ends}, time_zone={getattr(self.time_zone, 'key', self.time_zone)!r})"

    @classmethod
    def last(cls, *, days: float = 0, hours: float = 0, minutes: float = 0) -> Self:
        """The period of this length ending now. Days, hours and minutes are added.

        Args:
            days: Days of 24 hours.
            hours: Hours.
            minutes: Minutes.

        Raises:
            FilterTypeError: A length is not a number.
            FilterValueError: The length is zero or less, or longer than the calendar.

        >>> TimeFilter.last(days=7).length
        datetime.timedelta(days=7)
        """
        length = _length(days=days, hours=hours, minutes=minutes)
        now = datetime.now(UTC)
        try:
            return cls(now - length, now)
        except OverflowError:
            raise FilterValueError(
                argument="days", problem=f"must lie within the calendar, got {length}"
            ) from None

    @classmethod
    def since(cls, start: datetime) -> Self:
        """The time from *start* up to now.

        Args:
            start: An aware datetime in the past.

        Raises:
            FilterTypeError: It is not a datetime, or is naive.
            FilterValueError: It is not in the past.

        >>> import datetime as dt
        >>> TimeFilter.since(dt.datetime(2026, 1, 1))
        Traceback (most recent call last):
            ...
        helicone_sessions.errors.FilterTypeError: start must have a time zone, got datetime.datetime(2026, 1, 1, 0, 0). Pass `time_zone`, or add the zone with .replace(tzinfo=datetime.UTC)
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
        """The same time in parts of equal length; the last may be shorter.

        Each request of the whole falls into exactly one part. Because the contract excludes both ends, a
        part after the first starts one millisecond before its border, and so counts the requests made
        exactly at the border. (The open-source server drops fractions of a second, so such a part also
        counts the requests of the second before its border.)

        Args:
            days: The length of a part. Days, hours and minutes are added.
            hours: Hours.
            minutes: Minutes.
            time_zone: Use calendar days of this time zone, for example ``"Europe/Berlin"``, from midnight to
                midnight. A day on which clocks change has 23 or 25 hours, and the first part may be shorter.
                By default the time zone of the time filter, if the parts are whole days. Without a time zone
                a day is 24 hours, counted from the start.

        Raises:
            FilterTypeError: A length is not a number, or *time_zone* is neither a name nor a tzinfo.
            FilterValueError: The length is below a millisecond, no time zone has that name, or the length
                is not in whole days although a time zone is given.

        >>> import datetime as dt
        >>> start = dt.datetime(2026, 10, 23, 22, tzinfo=dt.UTC)
        >>> week = TimeFilter(start, start + dt.timedelta(days=7))
        >>> _, sunday, *_ = week.split(days=1, time_zone="Europe/Berlin")
        >>> sunday.length
        datetime.timedelta(days=1, seconds=3600, microseconds=1000)
        """
        step = _length(days=days, hours=hours, minutes=minutes)
        if step < _MILLISECOND:
            raise FilterValueError(
                argument="days",
                problem=f"must give parts of a millisecond or more, got {step}",
                remedy="Use longer parts",
            )
        if time_zone is None and step % _DAY == timedelta(0):
            time_zone = self.time_zone
        origin = border_of(self.start)
        if time_zone is None:
            count = math.ceil((self.end - origin) / step)
            inner = [origin + step * place for place in range(1, count)]
        else:
            inner = _midnights(origin, self.end, step, zone_of(time_zone))
        borders = [border - timedelta(microseconds=border.microsecond % 1000) for border in inner]
        starts = [self.start, *(border - _MILLISECOND for border in borders)]
        ends = [*borders, self.end]
        zone = self.time_zone if time_zone is None else time_zone
        return [TimeFilter(start, end, zone) for start, end in zip(starts, ends, strict=True)]


def _instant(argument: str, value: object, zone: tzinfo | None) -> datetime:
    moment = _from_text(argument, value) if isinstance(value, str) else value
    if isinstance(moment, date) and not isinstance(moment, datetime) and zone is not None:
        moment = datetime.combine(moment, time())
    if not isinstance(moment, datetime):
        raise FilterTypeError(
            argument=argument,
            problem=f"must be an aware datetime, or a date with a `time_zone`, got {masked_repr(value)}",
            remedy="Pass datetime(2026, 11, 1, tzinfo=UTC), or '2026-11-01' and time_zone='UTC'",
        )
    if moment.utcoffset() is None:
        if zone is None:
            raise FilterTypeError(
                argument=argument,
                problem=f"must have a time zone, got {masked_repr(value)}",
                remedy="Pass `time_zone`, or add the zone with .replace(tzinfo=datetime.UTC)",
            )
        moment = moment.replace(tzinfo=zone)
    if has_misplaced_pytz_zone(moment):
        raise FilterValueError(
            argument=argument,
            problem=f"must have the offset of its time, got {moment.isoformat()} with a zone of pytz",
            remedy="Use zoneinfo.ZoneInfo, or the localize() method of the zone",
        )
    try:
        # Python compares and subtracts times of the same zone by the wall clock, even when clocks change.
        return moment.astimezone(UTC)
    except OverflowError:
        raise FilterValueError(
            argument=argument,
            problem=f"must exist in UTC, got {moment.isoformat()}",
            remedy="Use another time",
        ) from None


def _from_text(argument: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise FilterValueError(
            argument=argument,
            problem=f"must be ISO 8601 text, got {masked_repr(text)}",
            remedy="Write it like 2026-11-01 or 2026-11-01T18:00:00Z",
        ) from None


def border_of(start: datetime) -> datetime:
    """The first moment after the start of a time filter that is a part of another, else the start itself.

    Such a part starts one millisecond before its border, because the start is excluded.

    >>> border_of(datetime(2026, 10, 31, 23, 59, 59, 999_000, UTC))
    datetime.datetime(2026, 11, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    return start + _MILLISECOND if start.microsecond == _LAST_MILLISECOND else start


def _midnights(start: datetime, end: datetime, step: timedelta, zone: tzinfo) -> list[datetime]:
    """The midnights of the zone after *start* and before *end*, one every *step*, in UTC."""
    if step % _DAY:
        raise FilterValueError(
            argument="time_zone",
            problem=f"needs parts of whole days, got {step}",
            remedy="Leave it out to count parts from the start",
        )
    day = start.astimezone(zone).date()
    found: list[datetime] = []
    while True:
        try:
            day += step
            # A midnight that the clocks skip is the moment of the change.
            border = datetime.combine(day, time(), zone).astimezone(UTC)
        except OverflowError:
            return found
        if border >= end:
            return found
        # A day that the calendar skips begins and ends at the same moment.
        if border > (found[-1] if found else start):
            found.append(border)


def _length(**parts: float) -> timedelta:
    given = ", ".join(f"{name}={value!r}" for name, value in parts.items() if value != 0) or "nothing"
    try:
        length = timedelta(**parts)
    except TypeError:
        raise FilterTypeError(
            argument="days", problem=f"and the other lengths must be numbers, got {given}", remedy=_EXAMPLE
        ) from None
    except (ValueError, OverflowError):
        raise FilterValueError(
            argument="days", problem=f"must give a length within the calendar, got {given}", remedy=_EXAMPLE
        ) from None
    if length <= timedelta(0):
        raise FilterValueError(
            argument="days", problem=f"must give a length above zero, got {given}", remedy=_EXAMPLE
        )
    return length
