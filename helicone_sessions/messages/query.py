"""The queries for the endpoints, and `TimeFilter`."""

import math
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Literal, Self, get_args

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.constants import has_misplaced_pytz_zone, zone_of
from helicone_sessions.filters.expression import Condition, Filter, as_filter
from helicone_sessions.filters.whole_sessions import has_session_conditions
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.metrics import Cut, PSize

_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_MILLISECOND = 999_000
_EXAMPLE = "Pass a length such as days=7"


@attrs.frozen(init=False, repr=False)
class TimeFilter:
    """The time range after *start* and before *end*. The contract excludes both ends.

    Both ends are stored in UTC and sent in milliseconds, the precision of stored requests.

    Args:
        start: An aware datetime, or ISO 8601 text. With a *time_zone*, it can also be a date (which means
            midnight), a naive datetime, or text without an offset.
        end: A later time, in one of the same forms.
        time_zone: The time zone for dates and for times without an offset, as a name or a tzinfo. A local
            time that occurs twice because clocks change means the first occurrence, unless its ``fold`` is 1.

    Raises:
        FilterTypeError: An end is not a time, or has no time zone.
        FilterValueError: *start* is not before *end*, an end is not ISO 8601 text, no time zone has that
            name, or an end has a pytz zone that was attached directly.

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
        """The time range of the given length that ends now. Days, hours and minutes are added together.

        Args:
            days: Days of 24 hours.
            hours: Hours.
            minutes: Minutes.

        Raises:
            FilterTypeError: A length is not a number.
            FilterValueError: The length is zero or less, or the start is before the first day of the
                calendar.

        >>> TimeFilter.last(days=7).length
        datetime.timedelta(days=7)
        """
        length = _length(days=days, hours=hours, minutes=minutes)
        now = datetime.now(UTC)
        try:
            return cls(now - length, now)
        except OverflowError:
            raise FilterValueError(
                argument="days", problem=f"must be within the calendar, got {length}"
            ) from None

    @classmethod
    def since(cls, start: datetime) -> Self:
        """The time range from *start* until now.

        Args:
            start: An aware datetime in the past.

        Raises:
            FilterTypeError: *start* is not a datetime, or is naive.
            FilterValueError: *start* is not in the past.

        >>> import datetime as dt
        >>> TimeFilter.since(dt.datetime(2026, 1, 1))
        Traceback (most recent call last):
            ...
        helicone_sessions.errors.FilterTypeError: start must have a time zone, got datetime.datetime(2026, 1, 1, 0, 0). Pass `time_zone`, or add the zone with .replace(tzinfo=datetime.UTC)
        """  # noqa: E501 - a doctest shows the message whole
        return cls(start, datetime.now(UTC))

    @property
    def length(self) -> timedelta:
        """The time from start to end.

        >>> TimeFilter.last(hours=36).length
        datetime.timedelta(days=1, seconds=43200)
        """
        return self.end - self.start

    def split(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, time_zone: str | tzinfo | None = None
    ) -> "list[TimeFilter]":
        """Split the time range into parts of equal length. The last part can be shorter.

        Each request in the range falls into exactly one part. The contract excludes both ends of a part, so
        every part except the first starts one millisecond before its border with the previous part, in order
        to include the requests made exactly at the border. (The open-source server drops fractions of a
        second, so such a part also includes the requests made in the second before its border.)

        Args:
            days: The length of a part. Days, hours and minutes are added together.
            hours: Hours.
            minutes: Minutes.
            time_zone: A time zone, for example ``"Europe/Berlin"``. Parts then run from midnight to midnight
                in this zone. A day on which clocks change has 23 or 25 hours, and the first part may be
                shorter. If the length is a whole number of days, the default is the time zone of the time
                filter. Without a time zone, a day is 24 hours, counted from the start.

        Raises:
            FilterTypeError: A length is not a number, or *time_zone* is neither a name nor a tzinfo.
            FilterValueError: The length is below a millisecond, no time zone has that name, or a time zone is
                given and the length is not a whole number of days.

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
        # Python compares and subtracts times in the same zone by the wall clock, even across a clock change.
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
    """The border at which a time filter begins.

    A part from `TimeFilter.split` starts one millisecond before its border, because the start is excluded.
    The border of any other time filter is its start.

    >>> border_of(datetime(2026, 10, 31, 23, 59, 59, 999_000, UTC))
    datetime.datetime(2026, 11, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    return start + _MILLISECOND if start.microsecond == _LAST_MILLISECOND else start


def _midnights(start: datetime, end: datetime, step: timedelta, zone: tzinfo) -> list[datetime]:
    """The midnights in the zone after *start* and before *end*, one for each *step*, converted to UTC."""
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
            # If the clocks skip midnight, this is the moment of the change.
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


_MINUTES_OF_A_DAY = 24 * 60
_NO_DIFFERENCE = 0
_DEFAULT_LEVEL: PSize = "p75"
_CUTS = {(level, both): Cut(level, both) for level in get_args(PSize) for both in (False, True)}


def optional_filter(value: Condition | None) -> Filter | None:
    """Convert *value* to a filter, unless it is None."""
    return value if value is None or type(value) is Filter else as_filter(value)


def minutes_west(value: float | timedelta | tzinfo) -> float:
    """Convert a time zone difference to minutes, positive west of UTC."""
    if value is _NO_DIFFERENCE:
        return 0
    if isinstance(value, tzinfo):
        offset = datetime.now(value).utcoffset()
        if offset is None:
            raise FilterValueError(
                argument="timezone_difference", problem=f"does not know its offset from UTC, got {value!r}"
            )
        return minutes_west(-offset)
    if isinstance(value, timedelta):
        value = value / timedelta(minutes=1)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FilterTypeError(
            argument="timezone_difference", problem=f"must be minutes, a timedelta or a tzinfo, got {value!r}"
        )
    if not -_MINUTES_OF_A_DAY <= value <= _MINUTES_OF_A_DAY:
        raise FilterValueError(
            argument="timezone_difference",
            problem=f"must be within a day of UTC (-1440 to 1440 minutes), got {value}",
        )
    return int(value) if value == int(value) else value


def _check_type(name: str, value: object, expected: str, kind: type) -> None:
    if not isinstance(value, kind):
        raise FilterTypeError(argument=name, problem=f"must be {expected}, got {value!r}")


def _check_text(name: str, value: object) -> None:
    _check_type(name, value, "a string", str)
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise FilterValueError(
            argument=name, problem=f"must not hold half a surrogate pair, got {value!r}"
        ) from None


def check_text(_query: object, field: "attrs.Attribute[Any]", value: object) -> None:
    """An attrs validator for a string that can be encoded in UTF-8."""
    _check_text(field.name, value)


def check_whole(_query: object, field: "attrs.Attribute[Any]", value: object) -> None:
    """An attrs validator for a whole number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FilterTypeError(
            argument=field.name, problem=f"must be a whole number, got {masked_repr(value)}"
        )
    if value < 0:
        raise FilterValueError(argument=field.name, problem=f"must be at least 0, got {value}")


def check_time_filter(_query: object, field: "attrs.Attribute[Any]", value: object) -> None:
    """An attrs validator for a `TimeFilter`."""
    if not isinstance(value, TimeFilter):
        raise FilterTypeError(
            argument=field.name,
            problem=f"must be a TimeFilter, got {masked_repr(value)}",
            remedy="Pass TimeFilter.last(days=7), for example",
        )


@attrs.frozen
class SessionMetricsQuery:
    """A query to ``POST /v1/session/metrics/query``.

    Args:
        filter: The requests to include; None for all.
        name_contains: The session name to match; "" for all names. (Later versions of the open-source server
            compare the whole name. To match a part of it, use ``F.session_name.contains(...)``.)
        time_filter: The time range of the requests; None for all time.
        p_size: The cut of the *histograms*: only sessions at or below this quantile are drawn. The service
            uses p75 by default. The cut does not select a percentile to return, and it does not affect the
            averages.
        use_interquartile: Whether to cut the histograms at both ends, for example at p5 and p95.
        timezone_difference: The difference from UTC in minutes, positive west of UTC as in the API. It can
            also be a timedelta, or a tzinfo, whose current offset is used.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: An argument is out of range.

    >>> import attrs, datetime as dt
    >>> from helicone_sessions import F
    >>> query = SessionMetricsQuery(F.cost > 0.1, timezone_difference=dt.timedelta(hours=5))
    >>> attrs.evolve(query, p_size="p95")
    SessionMetricsQuery(filter=F.cost > 0.1, name_contains='', time_filter=None, p_size='p95', use_interquartile=None, timezone_difference=300)
    >>> SessionMetricsQuery(p_size="p90")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.FilterValueError: p_size must be one of p50, p75, p95, p99, p99.9, got 'p90'
    """  # noqa: E501 - a doctest shows the query whole

    filter: Filter | None = attrs.field(default=None, converter=optional_filter)
    name_contains: str = ""
    time_filter: TimeFilter | None = None
    p_size: PSize | None = None
    use_interquartile: bool | None = None
    timezone_difference: float = attrs.field(default=0, converter=minutes_west)

    def __attrs_post_init__(self) -> None:
        # All checks are here, with the most common defaults first, because a batch can create 100,000
        # queries.
        if self.name_contains != "":
            _check_text("name_contains", self.name_contains)
        if self.time_filter is not None:
            _check_type("time_filter", self.time_filter, "a TimeFilter or None", TimeFilter)
        if self.p_size is not None and self.p_size not in get_args(PSize):
            raise FilterValueError(
                argument="p_size", problem=f"must be one of {', '.join(get_args(PSize))}, got {self.p_size!r}"
            )
        if self.use_interquartile is not None:
            _check_type("use_interquartile", self.use_interquartile, "True, False or None", bool)

    @property
    def cut(self) -> Cut:
        """The cut of the histograms. The service uses p75 if the query has no ``p_size``.

        >>> SessionMetricsQuery(p_size="p95", use_interquartile=True).cut
        Cut(p_size='p95', both_ends=True)
        """
        return _CUTS[self.p_size or _DEFAULT_LEVEL, self.use_interquartile is True]

    @property
    def matches_nothing(self) -> bool:
        """Whether the filter cannot match any request, so that the client need not call the service.

        >>> from helicone_sessions import F
        >>> SessionMetricsQuery(F.model.is_in([])).matches_nothing
        True
        """
        return self.filter is not None and self.filter.matches_nothing


SESSIONS_PAGE: Final = 1000
"""The maximum page size for sessions (server source). The server silently lowers a larger ``limit``."""
DEFAULT_SESSIONS_PAGE: Final = 50
"""The page size if ``limit`` is missing or 0, and always on older servers."""
MOST_NAMES: Final = 50
"""The maximum number of names that the service lists (server source)."""


@attrs.frozen
class SessionsQuery:
    """A query for one page of ``POST /v1/session/query``. ``POST /v1/session/count`` takes the same body.

    Args:
        time_filter: The time range of the requests.
        filter: Conditions on requests and sessions; None for all.
        search: A part of the session's id or name, ignoring case; "" for all.
        name: The exact name of the session.
        offset: The number of sessions to skip. Servers before 2025-09-22 ignore it (server source).
        limit: The number of sessions in a page, at most 1,000. None and 0 mean 50.
        timezone_difference: Minutes that the service adds to the times in its response; the client sends 0.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: An argument is out of range.

    >>> SessionsQuery(TimeFilter("2026-11-01", "2026-11-08", "UTC"), limit=5000).page_size
    1000
    """

    time_filter: TimeFilter = attrs.field(validator=check_time_filter)
    filter: Filter | None = attrs.field(default=None, converter=optional_filter)
    search: str = attrs.field(default="", validator=check_text)
    name: str | None = attrs.field(default=None, validator=attrs.validators.optional(check_text))
    offset: int = attrs.field(default=0, validator=check_whole)
    limit: int | None = attrs.field(default=None, validator=attrs.validators.optional(check_whole))
    timezone_difference: float = attrs.field(default=0, converter=minutes_west)

    @property
    def page_size(self) -> int:
        """The page size that the service derives from ``limit``."""
        return min(self.limit or DEFAULT_SESSIONS_PAGE, SESSIONS_PAGE)


REQUESTS_PAGE = 1000
"""The maximum page size for requests (server source). The server rejects a larger ``limit``."""

Request = dict[str, Any]
"""A request as a dict with the API's field names, such as ``request_id`` and ``request_created_at``."""


def _requests_only(_query: object, _field: object, value: Filter | None) -> None:
    if value is not None and has_session_conditions(value):
        raise FilterValueError(
            argument="filter",
            problem=f"must hold conditions on requests only, got {value}",
            remedy="Replace the conditions on session_… columns",
        )


@attrs.frozen
class RequestsQuery:
    """A query for one page of ``POST /v1/request/query-clickhouse``.

    The server removes duplicates after it selects a page, so a page can be shorter than its limit even if
    more pages follow. Only an empty page is certainly the last one (server source).

    Args:
        filter: Conditions on requests; None for all requests.
        offset: The number of stored rows to skip.
        limit: The number of stored rows in a page, at most 1,000.
        sort: The sort direction by ``created_at``; None uses the server's default.
        is_scored: True selects requests with scores, False requests without scores, and None all requests.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: A number is negative, or the filter has a condition on sessions.

    >>> from helicone_sessions import F
    >>> RequestsQuery(F.status == 200, limit=100, sort="asc").limit
    100
    """

    filter: Filter | None = attrs.field(default=None, converter=optional_filter, validator=_requests_only)
    offset: int = attrs.field(default=0, validator=check_whole)
    limit: int = attrs.field(default=10, validator=check_whole)
    sort: Literal["asc", "desc"] | None = attrs.field(default=None)
    is_scored: bool | None = None

    @sort.validator
    def _check_sort(self, _field: object, value: object) -> None:
        if value not in ("asc", "desc", None):
            raise FilterValueError(argument="sort", problem=f'must be "asc" or "desc", got {value!r}')


@attrs.frozen
class RequestCountQuery:
    """A query to ``POST /v1/request/count/query`` for the number of requests.

    Args:
        filter: Conditions on requests; None for all requests.

    Raises:
        FilterTypeError: *filter* is not a filter.
        FilterValueError: The filter has a condition on sessions.

    >>> RequestCountQuery()
    RequestCountQuery(filter=None)
    """

    filter: Filter | None = attrs.field(default=None, converter=optional_filter, validator=_requests_only)
