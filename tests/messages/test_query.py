import copy
import datetime as dt
import pickle
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helicone_sessions import (
    ALL,
    NONE,
    F,
    FilterError,
    FilterTypeError,
    FilterValueError,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.messages.converter import converter
from tests.parts import parts

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MILLISECOND = dt.timedelta(milliseconds=1)
START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WEEK = TimeFilter(START, START + 7 * DAY)
NEW_YORK = ZoneInfo("America/New_York")  # in 2026 the clocks go forward on 8 March, and back on 1 November
# A local time that comes twice, an hour apart.
FIRST = dt.datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK)
SECOND = FIRST.replace(fold=1)
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own bytes
}

WHOLE = SessionMetricsQuery(
    F.cost > 0.1,
    name_contains="checkout",
    time_filter=WEEK,
    p_size="p99.9",
    use_interquartile=True,
    timezone_difference=-330,
)


def ms(number: int) -> dt.datetime:
    """The instant of this many milliseconds since 1970."""
    return EPOCH + number * MILLISECOND


def windows_with(instant: int, windows: list[TimeFilter]) -> int:
    """The number of windows in which the service counts a request made at *instant* (in milliseconds)."""
    wires = [converter.unstructure(window) for window in windows]
    return sum(wire["startTimeUnixMs"] < instant < wire["endTimeUnixMs"] for wire in wires)


# SessionMetricsQuery


def test_a_query_selects_everything_by_default() -> None:
    """Without arguments the query selects everything, with the service's defaults."""
    assert {
        "filter": None,
        "name_contains": "",
        "time_filter": None,
        "p_size": None,
        "use_interquartile": None,
        "timezone_difference": 0,
    } == attrs.asdict(SessionMetricsQuery())


@pytest.mark.parametrize(
    ("expected", "given_filter"),
    [(None, None), (F.cost > 1, F.cost > 1), (F.threat.is_true(), F.threat), (ALL, ALL), (NONE, NONE)],
    ids=["none", "filter", "boolean column", "ALL", "NONE"],
)
def test_filter_takes_a_condition(expected: object, given_filter: object) -> None:
    """The filter is a filter, a boolean column (the condition that it is true), or None."""
    assert expected == SessionMetricsQuery(given_filter).filter


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("expected a filter, got True", True),
        ("expected a filter, got False", False),
        ("expected a filter, got 'cost > 1'", "cost > 1"),
        ("expected a filter, got {", {"request_response_rmt": {}}),
        ("expected a filter, got 0", 0),
        ("F.cost is not a condition yet", F.cost),
        ("is a map", F.properties),
        ("is not a condition yet", F.threat & F.cost),
    ],
)
def test_filter_refuses_what_is_no_condition(message: str, value: object) -> None:
    """Anything else is an error at once, and never a query for everything."""
    with pytest.raises(FilterTypeError, match=message):
        SessionMetricsQuery(value)


@pytest.mark.parametrize(
    ("expected", "query"),
    [
        (False, SessionMetricsQuery()),
        (False, SessionMetricsQuery(ALL)),
        (False, SessionMetricsQuery(F.threat)),
        (True, SessionMetricsQuery(NONE)),
        (True, SessionMetricsQuery(NONE & F.threat)),
        (True, SessionMetricsQuery(F.model.is_in([]))),
        (True, SessionMetricsQuery(~ALL)),
    ],
)
def test_matches_nothing_knows_an_impossible_filter(expected: object, query: SessionMetricsQuery) -> None:
    """A query with a filter that matches nothing knows it."""
    assert expected is query.matches_nothing


@pytest.mark.parametrize("value", ["", "checkout", "naïve 日本", "100%_\\"])
def test_name_contains_is_kept_as_it_is(value: str) -> None:
    """A session name is any text."""
    assert value == SessionMetricsQuery(name_contains=value).name_contains


@pytest.mark.parametrize("value", ["p50", "p75", "p95", "p99", "p99.9", None])
def test_p_size_is_one_of_the_contract(value: Any) -> None:
    """All five cuts of the contract are allowed, and none of them."""
    assert value == SessionMetricsQuery(p_size=value).p_size


@pytest.mark.parametrize("value", [True, False, None])
def test_use_interquartile_is_true_false_or_left_to_the_service(value: bool | None) -> None:
    """An omitted argument differs from False."""
    assert value is SessionMetricsQuery(use_interquartile=value).use_interquartile


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (FilterTypeError, "name_contains must be a string, got None", {"name_contains": None}),
        (FilterTypeError, "name_contains must be a string, got b'x'", {"name_contains": b"x"}),
        (FilterTypeError, "name_contains must be a string, got 5", {"name_contains": 5}),
        (
            FilterTypeError,
            r"time_filter must be a TimeFilter .* got \(",
            {"time_filter": (START, START)},
        ),
        (
            FilterTypeError,
            "time_filter must be a TimeFilter .* datetime.timedelta",
            {"time_filter": DAY},
        ),
        (FilterValueError, "p_size must be one of p50, p75, p95, p99, p99.9, got 'p80'", {"p_size": "p80"}),
        (FilterValueError, "p_size must be one of .* got 75", {"p_size": 75}),
        (FilterValueError, "p_size must be one of .* got ''", {"p_size": ""}),
        (FilterValueError, r"p_size must be one of .* got \['p50'\]", {"p_size": ["p50"]}),
        (FilterTypeError, "use_interquartile must be True, False or None, got 1", {"use_interquartile": 1}),
        (
            FilterTypeError,
            "use_interquartile must be .* got 'yes'",
            {"use_interquartile": "yes"},
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(
    error: type[Exception], message: str, arguments: dict[str, Any]
) -> None:
    """The message names the argument, its type and the value."""
    with pytest.raises(error, match=message):
        SessionMetricsQuery(**arguments)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (0, 0),
        (0, -0.0),
        (300, 300),
        (300, 300.0),
        (-330, -330),
        (0.5, 0.5),
        (1440, 1440),
        (-1440, -1440),
        (300, dt.timedelta(hours=5)),
        (-345, dt.timedelta(hours=-5, minutes=-45)),
        (0.5, dt.timedelta(seconds=30)),
        (0, dt.UTC),
        (480, dt.timezone(dt.timedelta(hours=-8))),
        (-345, dt.timezone(dt.timedelta(hours=5, minutes=45))),
        (-330, ZoneInfo("Asia/Kolkata")),
        (-345, ZoneInfo("Asia/Kathmandu")),
        (420, ZoneInfo("America/Phoenix")),
        (600, ZoneInfo("Pacific/Honolulu")),
        (0, ZoneInfo("UTC")),
    ],
    ids=str,
)
def test_timezone_difference_is_minutes_positive_west_of_utc(expected: float, value: Any) -> None:
    """Minutes, a timedelta and a zone mean the same: the result of JavaScript's getTimezoneOffset()."""
    assert expected == SessionMetricsQuery(timezone_difference=value).timezone_difference


@pytest.mark.parametrize(
    "value", [300.0, dt.timedelta(hours=5), dt.timezone(dt.timedelta(hours=-5))], ids=str
)
def test_a_whole_timezone_difference_is_an_int(value: Any) -> None:
    """Whole minutes are written without a fraction in the request."""
    assert int is type(SessionMetricsQuery(timezone_difference=value).timezone_difference)


def test_a_zone_with_clock_changes_gives_its_present_offset() -> None:
    """A zone with summer time gives its offset of today."""
    assert SessionMetricsQuery(timezone_difference=NEW_YORK).timezone_difference in {240, 300}


class Homeless(dt.tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, _moment: dt.datetime | None) -> None:
        return None

    def fromutc(self, moment: dt.datetime) -> dt.datetime:
        return moment


@pytest.mark.parametrize(
    ("error", "message", "value"),
    [
        (FilterValueError, "within a day of UTC .* got 1441", 1441),
        (FilterValueError, r"within a day of UTC .* got -1440\.5", -1440.5),
        (FilterValueError, "within a day of UTC .* got nan", float("nan")),
        (FilterValueError, "within a day of UTC .* got inf", float("inf")),
        (FilterValueError, r"within a day of UTC .* got 1500\.0", dt.timedelta(hours=25)),
        (FilterValueError, "does not know its offset from UTC", Homeless()),
        (FilterTypeError, "got True", True),
        (FilterTypeError, "got 'Europe/Berlin'", "Europe/Berlin"),
        (FilterTypeError, "got None", None),
        (FilterTypeError, "got datetime", START),
    ],
)
def test_timezone_difference_refuses_what_is_no_offset(
    error: type[Exception], message: str, value: Any
) -> None:
    """An offset that no zone has, or no offset at all, is an error that names the argument."""
    with pytest.raises(error, match=f"timezone_difference.*{message}"):
        SessionMetricsQuery(timezone_difference=value)


def test_a_query_cannot_be_changed() -> None:
    """A query is frozen, so that it can be a key."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        WHOLE.p_size = "p50"  # type: ignore[misc]


def test_evolve_makes_another_query() -> None:
    """attrs.evolve changes one argument, checked like all, and keeps the others."""
    other = attrs.evolve(WHOLE, p_size="p50", timezone_difference=dt.timedelta(hours=1))

    assert ("p50", 60) == (other.p_size, other.timezone_difference)
    assert WHOLE == attrs.evolve(other, p_size="p99.9", timezone_difference=-330)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "value", [SessionMetricsQuery(), WHOLE, WEEK, SessionMetricsQuery(~F.cached)], ids=repr
)
def test_queries_are_values(value: Any, duplicate: Any) -> None:
    """A copied or unpickled query or time filter is equal to the first and hashes like it."""
    other = duplicate(value)

    assert value == other
    assert hash(value) == hash(other)
    assert repr(value) == repr(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"filter": F.cost > 0.2},
        {"filter": None},
        {"name_contains": "Checkout"},
        {"time_filter": None},
        {"p_size": "p99"},
        {"p_size": None},
        {"use_interquartile": False},
        {"use_interquartile": None},
        {"timezone_difference": 330},
    ],
    ids=str,
)
def test_queries_differ_in_any_argument(changes: dict[str, Any]) -> None:
    """Only queries for the same thing are equal."""
    assert WHOLE != attrs.evolve(WHOLE, **changes)


def test_equal_queries_are_one_key() -> None:
    """Equal queries are one key of a dict, however they were written."""
    west = dt.timezone(dt.timedelta(hours=-5))

    assert 1 == len(
        {
            SessionMetricsQuery(F.threat, timezone_difference=300),
            SessionMetricsQuery(F.threat.is_true(), timezone_difference=dt.timedelta(hours=5)),
            SessionMetricsQuery(F.threat == True, timezone_difference=west),  # noqa: E712 - a filter
        }
    )


# TimeFilter


@pytest.mark.parametrize(
    ("error", "argument", "start", "end"),
    [
        (FilterTypeError, "start", "2026-11-01", dt.datetime(2026, 12, 1, tzinfo=dt.UTC)),
        (FilterValueError, "start", "yesterday", START),
        (FilterTypeError, "end", START, None),
        (FilterTypeError, "end", START, dt.date(2026, 12, 1)),
        (FilterTypeError, "start", 0, START),
        (FilterTypeError, "start", dt.datetime(2026, 10, 1), START),  # noqa: DTZ001 - the point
        (FilterTypeError, "end", START, dt.datetime(2026, 12, 1)),  # noqa: DTZ001 - the point
        (FilterTypeError, "end", START, dt.datetime(2026, 12, 1, tzinfo=Homeless())),
        (FilterValueError, "start", START, START),
        (FilterValueError, "start", START + DAY, START),
        (FilterValueError, "start", START, START.astimezone(ZoneInfo("Asia/Tokyo"))),
        (FilterValueError, "start", dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), START),
        (
            FilterValueError,
            "end",
            START,
            dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-2))),
        ),
    ],
)
def test_a_time_filter_goes_from_an_instant_to_a_later_one(
    error: type[FilterError], argument: str, start: Any, end: Any
) -> None:
    """Both ends are times with a zone, in order; an error names the end that is not, and a remedy."""
    with pytest.raises(error) as caught:
        TimeFilter(start, end)

    assert argument == caught.value.argument
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (dt.date(2026, 10, 19), dt.date(2026, 11, 2)),
        ("2026-10-19", "2026-11-02"),
        ("2026-10-19T00:00", "2026-11-02 00:00:00"),
        (dt.datetime(2026, 10, 19), "2026-11-01T23:00:00Z"),  # noqa: DTZ001 - the point
        ("2026-10-18T22:00:00+00:00", dt.datetime(2026, 11, 1, 23, tzinfo=dt.UTC)),
    ],
)
def test_a_time_zone_places_dates_and_times_without_one(start: Any, end: Any) -> None:
    """A date is its midnight in the zone; a time with an offset keeps it."""
    found = TimeFilter(start, end, time_zone="Europe/Berlin")

    assert dt.datetime(2026, 10, 18, 22, tzinfo=dt.UTC) == found.start
    assert dt.datetime(2026, 11, 1, 23, tzinfo=dt.UTC) == found.end
    assert found == eval(repr(found), {"TimeFilter": TimeFilter})  # noqa: S307 - our own repr
    assert "Europe/Berlin" in repr(found)
    assert [14] == [len(found.split(days=1))]
    assert {found.time_zone} == {part.time_zone for part in found.split(hours=5)}


def test_text_with_an_offset_needs_no_time_zone() -> None:
    """ISO 8601 text with an offset is an instant."""
    assert WEEK == TimeFilter(WEEK.start.isoformat(), WEEK.end.isoformat())


def test_the_same_instants_in_another_zone_are_the_same_time_filter() -> None:
    """Equality and hash depend on the instants."""
    tokyo = ZoneInfo("Asia/Tokyo")
    other = TimeFilter(WEEK.start.astimezone(tokyo), WEEK.end.astimezone(tokyo))

    assert WEEK == other
    assert hash(WEEK) == hash(other)


def test_a_time_filter_is_kept_in_utc() -> None:
    """The ends become instants of UTC, whatever their zone."""
    found = TimeFilter(FIRST, SECOND)

    assert (dt.UTC, dt.UTC) == (found.start.tzinfo, found.end.tzinfo)
    assert (5, 6) == (found.start.hour, found.end.hour)


def test_a_time_filter_cannot_be_changed() -> None:
    """A time filter is frozen."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        WEEK.end = START  # type: ignore[misc]


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        (7 * DAY, {"days": 7}),
        (DAY / 2, {"days": 0.5}),
        (dt.timedelta(hours=36), {"days": 1, "hours": 12}),
        (dt.timedelta(minutes=90), {"hours": 1, "minutes": 30}),
        (dt.timedelta(minutes=50), {"hours": 1, "minutes": -10}),
    ],
)
def test_last_is_the_time_up_to_now(expected: dt.timedelta, arguments: dict[str, float]) -> None:
    """These days, hours and minutes end now."""
    before = dt.datetime.now(dt.UTC)
    found = TimeFilter.last(**arguments)

    assert expected == found.length
    assert before <= found.end <= dt.datetime.now(dt.UTC)


def test_windows_too_small_to_be_told_apart_are_refused() -> None:
    """The API distinguishes times by milliseconds, so windows are not shorter."""
    with pytest.raises(FilterValueError, match="millisecond"):
        WEEK.split(minutes=0.00001)


@pytest.mark.parametrize("method", [TimeFilter.last, WEEK.split])
@pytest.mark.parametrize("arguments", [{}, {"days": 0}, {"days": -1}, {"hours": 1, "minutes": -60}], ids=str)
def test_a_length_is_above_zero(method: Any, arguments: dict[str, float]) -> None:
    """A length of zero or less is rejected."""
    with pytest.raises(FilterValueError, check=parts(argument="days")):
        method(**arguments)


@pytest.mark.parametrize("method", [TimeFilter.last, WEEK.split])
@pytest.mark.parametrize(
    ("error", "days"),
    [
        (FilterValueError, float("nan")),
        (FilterValueError, float("inf")),
        (FilterValueError, 1e12),
        (FilterTypeError, "7"),
    ],
)
def test_a_length_that_is_none_is_refused(error: type[Exception], method: Any, days: Any) -> None:
    """An invalid length of time is an error of the tree."""
    with pytest.raises(error, check=parts(argument="days")):
        method(days=days)


@pytest.mark.parametrize("days", [1e6, 1e8])
def test_the_last_so_many_days_lie_in_the_calendar(days: float) -> None:
    """A length that begins before the year 1 is rejected."""
    with pytest.raises(FilterValueError, check=parts(argument="days")):
        TimeFilter.last(days=days)


def test_since_is_the_time_from_an_instant_up_to_now() -> None:
    """Since yesterday starts there and ends now."""
    start = dt.datetime.now(dt.UTC) - DAY
    before = dt.datetime.now(dt.UTC)
    found = TimeFilter.since(start)

    assert start == found.start
    assert before <= found.end <= dt.datetime.now(dt.UTC)


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (FilterValueError, dt.datetime(9999, 1, 1, tzinfo=dt.UTC)),
        (FilterTypeError, dt.datetime(2026, 1, 1)),  # noqa: DTZ001 - the point
        (FilterValueError, "yesterday"),
    ],
    ids=str,
)
def test_since_needs_an_aware_instant_of_the_past(error: type[Exception], start: Any) -> None:
    """The future, a naive datetime and text are rejected."""
    with pytest.raises(error, check=parts(argument="start")):
        TimeFilter.since(start)


# TimeFilter on the wire


@pytest.mark.parametrize(
    ("expected", "microseconds"),
    [
        ((0, 1), (0, 1)),
        ((0, 1), (0, 1000)),
        ((0, 2), (1, 1001)),
        ((0, 1), (999, 1000)),
        ((1, 2), (1000, 1001)),
        ((1, 3), (1500, 2500)),
        ((-1, 0), (-1, 0)),
        ((-2, -1), (-1001, -1000)),
        ((-2, 0), (-1001, -999)),
    ],
)
def test_milliseconds_are_rounded_outwards(expected: tuple[int, int], microseconds: tuple[int, int]) -> None:
    """The wire has whole milliseconds; rounding never excludes a request of the time."""
    start, end = (EPOCH + dt.timedelta(microseconds=number) for number in microseconds)

    assert {"startTimeUnixMs": expected[0], "endTimeUnixMs": expected[1]} == converter.unstructure(
        TimeFilter(start, end)
    )


def test_the_wire_has_milliseconds_of_utc() -> None:
    """Whatever the zone of the datetimes, the wire counts from 1970 in UTC."""
    berlin = ZoneInfo("Europe/Berlin")
    found = TimeFilter(dt.datetime(2026, 11, 1, 1, tzinfo=berlin), dt.datetime(2026, 11, 8, 1, tzinfo=berlin))

    assert {
        "startTimeUnixMs": 1793491200000,
        "endTimeUnixMs": 1794096000000,
    } == converter.unstructure(found)


@given(start=st.integers(-(10**12), 4 * 10**12), length=st.integers(1, 10**11))
def test_whole_milliseconds_come_back_from_the_wire(start: int, length: int) -> None:
    """A time filter of whole milliseconds is the same after the wire."""
    whole = TimeFilter(ms(start), ms(start + length))

    assert whole == converter.structure(converter.unstructure(whole), TimeFilter)


# TimeFilter.split


@pytest.mark.parametrize(
    ("expected", "step"),
    [
        (7, {"days": 1}),
        (4, {"days": 2}),
        (1, {"days": 7}),
        (1, {"days": 30}),
        (14, {"hours": 12}),
        (2, {"days": 6}),
    ],
)
def test_split_gives_as_many_windows_as_are_needed(expected: int, step: dict[str, float]) -> None:
    """The whole is cut from its start; the last window may be shorter."""
    windows = WEEK.split(**step)

    assert expected == len(windows)
    assert (WEEK.start, WEEK.end) == (windows[0].start, windows[-1].end)


def test_windows_after_the_first_start_a_millisecond_before_their_border() -> None:
    """Because ends are exclusive, a window begins early enough to count the requests on its border."""
    first, second, *_ = WEEK.split(days=1)

    assert (START, START + DAY) == (first.start, first.end)
    assert (START + DAY - MILLISECOND, START + 2 * DAY) == (second.start, second.end)


wholes = st.builds(
    lambda start, length: TimeFilter(
        EPOCH + dt.timedelta(microseconds=start), EPOCH + dt.timedelta(microseconds=start + length)
    ),
    st.integers(0, 4 * 10**12).map(lambda number: number * 1000) | st.integers(0, 4 * 10**15),
    st.integers(2, 10**8).map(lambda number: number * 1000) | st.integers(2000, 10**11),
)


@given(whole=wholes, pieces=st.integers(1, 40), data=st.data())
@example(whole=WEEK, pieces=7, data=None)
def test_each_instant_of_the_whole_falls_into_exactly_one_window(
    whole: TimeFilter, pieces: int, data: st.DataObject | None
) -> None:
    """No request strictly inside is missed or counted twice, on a border or beside it."""
    step = max(whole.length // pieces, MILLISECOND)
    windows = whole.split(minutes=step / dt.timedelta(minutes=1))
    start, end = (converter.unstructure(whole)[name] for name in ("startTimeUnixMs", "endTimeUnixMs"))
    borders = (converter.unstructure(window)["endTimeUnixMs"] for window in windows)
    near = {border + off for border in (start, *borders) for off in range(-2, 3)}
    if data and start + 1 < end:
        near.add(data.draw(st.integers(start + 1, end - 1)))

    assert {1} >= {windows_with(instant, windows) for instant in near if start < instant < end}
    assert {0} == {windows_with(instant, windows) for instant in (start - 1, start, end, end + 1)}


@pytest.mark.parametrize("microsecond", [1, 500, 999])
def test_a_start_with_microseconds_splits_into_windows_without_overlap(microsecond: int) -> None:
    """Windows of a time like the last seven days share no request, though its start has microseconds."""
    start = START.replace(microsecond=microsecond)
    windows = TimeFilter(start, start + 2 * DAY).split(days=1)
    border = (START + DAY - EPOCH) // MILLISECOND

    assert [1] * 5 == [windows_with(border + off, windows) for off in range(-2, 3)]


@pytest.mark.parametrize(
    ("hours", "start"),
    [(49, dt.datetime(2026, 10, 31, tzinfo=NEW_YORK)), (47, dt.datetime(2026, 3, 7, tzinfo=NEW_YORK))],
    ids=["clocks go back", "clocks go forward"],
)
def test_split_counts_the_hours_that_really_pass(hours: int, start: dt.datetime) -> None:
    """Across a clock change, two days by the wall clock are 49 or 47 hours, and each is in one window."""
    whole = TimeFilter(start, start + 2 * DAY)
    windows = whole.split(hours=1)
    first, last = converter.unstructure(windows[0]), converter.unstructure(windows[-1])

    assert hours == len(windows)
    assert converter.unstructure(whole) == {**first, "endTimeUnixMs": last["endTimeUnixMs"]}
    begin = first["startTimeUnixMs"]
    instants = [begin + 3_600_000 * hour + off for hour in range(hours) for off in (-1, 0, 1)]
    assert {1} == {windows_with(instant, windows) for instant in instants if instant > begin}


def test_the_wire_tells_the_two_hours_of_a_clock_change_apart() -> None:
    """The same wall-clock time before and after the clocks go back is an hour apart on the wire."""
    first, second = (converter.unstructure(TimeFilter(start, START + DAY)) for start in (FIRST, SECOND))

    assert 3_600_000 == second["startTimeUnixMs"] - first["startTimeUnixMs"]


def test_a_time_filter_may_lie_in_the_hour_that_comes_twice() -> None:
    """From half past one to half past one an hour later is a time filter."""
    assert TimeFilter(FIRST, SECOND)


def test_a_time_filter_that_ends_before_it_starts_is_refused_across_a_clock_change() -> None:
    """A later wall clock does not make an earlier instant the later one."""
    with pytest.raises(FilterValueError, check=parts(argument="start")):
        TimeFilter(SECOND.replace(minute=15), FIRST.replace(minute=45))


def test_time_filters_with_different_instants_differ() -> None:
    """Two time filters whose starts are an hour apart are not equal, though the wall clocks are."""
    assert TimeFilter(FIRST, FIRST + DAY) != TimeFilter(SECOND, FIRST + DAY)


def test_length_is_the_time_that_passes() -> None:
    """A day on which the clocks go back is 25 hours long."""
    day = dt.datetime(2026, 11, 1, tzinfo=NEW_YORK)

    assert dt.timedelta(hours=25) == TimeFilter(day, day + DAY).length
