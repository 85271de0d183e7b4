"""What is asked: `SessionMetricsQuery`."""

from datetime import datetime, timedelta, tzinfo
from typing import Any, get_args

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.expression import Condition, Filter, as_filter
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.metrics import Cut, PSize
from helicone_sessions.messages.time_filter import TimeFilter

_MINUTES_OF_A_DAY = 24 * 60
_NO_DIFFERENCE = 0
_DEFAULT_LEVEL: PSize = "p75"
_CUTS = {(level, both): Cut(level, both) for level in get_args(PSize) for both in (False, True)}


def optional_filter(value: Condition | None) -> Filter | None:
    """None, or *value* as a filter."""
    return value if value is None or type(value) is Filter else as_filter(value)


def minutes_west(value: float | timedelta | tzinfo) -> float:
    """A time zone difference as minutes, positive west of UTC."""
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
    """An attrs validator for a string that UTF-8 can hold."""
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

    >>> import attrs, datetime as dt
    >>> from helicone_sessions import F
    >>> query = SessionMetricsQuery(F.cost > 0.1, timezone_difference=dt.timedelta(hours=5))
    >>> attrs.evolve(query, p_size="p95")
    SessionMetricsQuery(filter=F.cost > 0.1, name_contains='', time_filter=None, p_size='p95', use_interquartile=None, timezone_difference=300)
    >>> SessionMetricsQuery(p_size="p90")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.FilterValueError: p_size must be one of p50, p75, p95, p99, p99.9, got 'p90'
    """  # noqa: E501 - a doctest shows the whole of it

    filter: Filter | None = attrs.field(default=None, converter=optional_filter)
    name_contains: str = ""
    time_filter: TimeFilter | None = None
    p_size: PSize | None = None
    use_interquartile: bool | None = None
    timezone_difference: float = attrs.field(default=0, converter=minutes_west)

    def __attrs_post_init__(self) -> None:
        # In one place, and what is mostly left out first: a batch makes a hundred thousand of them.
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
        """Where the histograms are cut; the service takes p75 if the query has no ``p_size``.

        >>> SessionMetricsQuery(p_size="p95", use_interquartile=True).cut
        Cut(p_size='p95', both_ends=True)
        """
        return _CUTS[self.p_size or _DEFAULT_LEVEL, self.use_interquartile is True]

    @property
    def matches_nothing(self) -> bool:
        """Whether the filter can match no request, so that the answer is known without asking.

        >>> from helicone_sessions import F
        >>> SessionMetricsQuery(F.model.is_in([])).matches_nothing
        True
        """
        return self.filter is not None and self.filter.matches_nothing
