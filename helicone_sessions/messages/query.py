"""What is asked: `SessionMetricsQuery` and `TimeFilter`."""

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, Self, get_args

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.filter import Condition, Filter, as_filter
from helicone_sessions.filters.values import check_text, shortened

PSize = Literal["p50", "p75", "p95", "p99", "p99.9"]
"""Where the histograms are cut: only sessions at or below this quantile are drawn."""

_MINUTES_OF_A_DAY = 24 * 60
_NO_DIFFERENCE = 0
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
        """The time from *start* up to now."""
        return cls(start, datetime.now(UTC))

    @property
    def length(self) -> timedelta:
        """From start to end."""
        return self.end - self.start

    def split(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> "list[TimeFilter]":
        """The same time in windows of equal length; the last may be shorter.

        Each request of the whole falls into exactly one window. The ends being exclusive, a window after
        the first starts one millisecond before its border, and so counts the requests made on the border
        itself. (The open-source server drops fractions of a second: there such a window also counts the
        requests of the second before its border.)

        >>> import datetime as dt
        >>> start = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
        >>> week = TimeFilter(start, start + dt.timedelta(days=7))
        >>> len(week.split(days=1))
        7
        """
        step = _length("split", days=days, hours=hours, minutes=minutes)
        if step < _MILLISECOND:
            raise FilterValueError(f"TimeFilter.split() needs windows of a millisecond or more, not {step}")
        count = math.ceil(self.length / step)
        inner = [self.start + step * place for place in range(1, count)]
        borders = [border - timedelta(microseconds=border.microsecond % 1000) for border in inner]
        starts = [self.start, *(border - _MILLISECOND for border in borders)]
        return [TimeFilter(start, end) for start, end in zip(starts, [*borders, self.end], strict=True)]


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


def _optional_filter(value: Condition | None) -> Filter | None:
    return value if value is None or type(value) is Filter else as_filter(value)


def _minutes(value: object) -> float:
    if value is _NO_DIFFERENCE:
        return 0
    if isinstance(value, tzinfo):
        offset = datetime.now(value).utcoffset()
        if offset is None:
            raise FilterValueError(f"timezone_difference: {value!r} does not know its offset from UTC")
        return _minutes(-offset)
    if isinstance(value, timedelta):
        value = value / timedelta(minutes=1)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FilterTypeError(
            f"timezone_difference is minutes, a timedelta or a tzinfo, not {type(value).__name__} {value!r}"
        )
    if not -_MINUTES_OF_A_DAY <= value <= _MINUTES_OF_A_DAY:
        raise FilterValueError(
            f"timezone_difference: {value} minutes is not within a day of UTC (-1440 to 1440)"
        )
    return int(value) if value == int(value) else value


def _check_type(name: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise FilterTypeError(f"{name} is {wanted}, not {type(value).__name__} {value!r}")


@attrs.frozen
class SessionMetricsQuery:
    """One question to ``POST /v1/session/metrics/query``.

    Args:
        filter: Which requests count; None is all of them.
        name_contains: Only sessions of this name; "" is all. (The open-source server compares the whole
            name in its later versions; for a part of it use
            ``F.properties["Helicone-Session-Name"].contains(...)``.)
        time_filter: When the requests were made; None is all time.
        p_size: Where the *histograms* are cut: only sessions at or below this quantile are drawn. The
            service takes p75 when none is given. It is not a percentile that is returned, and the averages
            are not cut.
        use_interquartile: Cut the histograms at both ends, at the quantiles 1-p and p.
        timezone_difference: Minutes as the API counts them, positive west of UTC; or a timedelta of them;
            or a tzinfo, whose present offset is taken.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: An argument is out of its range.

    >>> from helicone_sessions import F
    >>> SessionMetricsQuery(F.cost > 0.1, p_size="p95").p_size
    'p95'
    """

    filter: Filter | None = attrs.field(default=None, converter=_optional_filter)
    name_contains: str = ""
    time_filter: TimeFilter | None = None
    p_size: PSize | None = None
    use_interquartile: bool | None = None
    timezone_difference: float = attrs.field(default=0, converter=_minutes)

    def __attrs_post_init__(self) -> None:
        # In one place, and what is mostly left out first: a batch makes a hundred thousand of them.
        if self.name_contains != "":
            _check_type("name_contains", self.name_contains, str)
            check_text(self.name_contains, "name_contains")
        if self.time_filter is not None:
            _check_type("time_filter", self.time_filter, TimeFilter, type(None))
        if self.p_size is not None and self.p_size not in get_args(PSize):
            raise FilterValueError(f"p_size is one of {', '.join(get_args(PSize))}, not {self.p_size!r}")
        if self.use_interquartile is not None:
            _check_type("use_interquartile", self.use_interquartile, bool, type(None))

    @property
    def matches_nothing(self) -> bool:
        """Whether the filter can match no request, so that the answer is known without asking."""
        return self.filter is not None and self.filter.matches_nothing
