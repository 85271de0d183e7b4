"""`TimeFilter.split` by the calendar days of a zone."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import FilterError, FilterTypeError, FilterValueError, TimeFilter

MILLISECOND = dt.timedelta(milliseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Clocks that change in spring and autumn, at midnight, by half an hour, and a calendar that left a day out.
ZONES = ("Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "UTC")


def between(zone: str, first: tuple[int, ...], last: tuple[int, ...]) -> TimeFilter:
    """The time between two local times."""
    return TimeFilter(*(dt.datetime(*parts, tzinfo=ZoneInfo(zone)) for parts in (first, last)))  # type: ignore[arg-type, misc]


def hours(windows: list[TimeFilter]) -> list[float]:
    """How long windows are, without the millisecond by which they reach back."""
    first, *others = (window.length for window in windows)
    return [length / dt.timedelta(hours=1) for length in (first, *(other - MILLISECOND for other in others))]


@pytest.mark.parametrize(
    ("expected", "zone", "first", "last"),
    [
        ([24, 25, 24], "Europe/Berlin", (2026, 10, 24), (2026, 10, 27)),
        ([24, 23, 24], "Europe/Berlin", (2026, 3, 28), (2026, 3, 31)),
        ([24, 25, 24], "America/New_York", (2026, 10, 31), (2026, 11, 3)),
        ([24, 23, 24], "America/New_York", (2026, 3, 7), (2026, 3, 10)),
        ([24, 24.5, 24], "Australia/Lord_Howe", (2026, 4, 4), (2026, 4, 7)),
        # The hour from midnight to one is left out: the day begins at one.
        ([24, 23, 24], "Africa/Cairo", (2026, 4, 23), (2026, 4, 26)),
        # From the 29th of December straight to the 31st.
        ([24, 24], "Pacific/Apia", (2011, 12, 29), (2012, 1, 1)),
        ([24, 24, 24], "UTC", (2026, 10, 24), (2026, 10, 27)),
    ],
)
def test_a_day_is_as_long_as_on_the_wall(
    expected: list[float], zone: str, first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    """From midnight to midnight, 23 or 25 hours where the clocks change."""
    whole = between(zone, first, last)

    assert expected == hours(whole.split(days=1, time_zone=zone))
    assert expected == hours(whole.split(days=1, time_zone=ZoneInfo(zone)))


def test_the_first_and_the_last_window_may_be_parts_of_a_day() -> None:
    """Of a time that begins and ends in the middle of a day, the windows in between are whole days."""
    whole = between("Europe/Berlin", (2026, 11, 1, 18), (2026, 11, 4, 6))

    assert [6, 24, 24, 6] == hours(whole.split(days=1, time_zone="Europe/Berlin"))


def test_several_days_are_counted_from_the_first() -> None:
    """Weeks begin on the weekday of the start."""
    whole = between("Europe/Berlin", (2026, 10, 21), (2026, 11, 6))

    assert [7 * 24 + 1, 7 * 24, 2 * 24] == hours(whole.split(days=7, time_zone="Europe/Berlin"))


@given(
    st.sampled_from(ZONES),
    st.integers(0, 2_000_000_000_000),
    st.integers(1, 60 * 86_400_000),
    st.integers(1, 9),
)
def test_windows_of_days_meet_without_a_gap(zone: str, start: int, length: int, days: int) -> None:
    """Each begins a millisecond before the one before it ends, at the first moment of a local day."""
    begin = EPOCH + start * MILLISECOND
    whole = TimeFilter(begin, begin + length * MILLISECOND)
    windows = whole.split(days=days, time_zone=zone)

    assert (whole.start, whole.end) == (windows[0].start, windows[-1].end)
    for before, after in itertools.pairwise(windows):
        assert before.end - MILLISECOND == after.start
        local = before.end.astimezone(ZoneInfo(zone))
        earlier = (before.end - MILLISECOND).astimezone(ZoneInfo(zone))
        assert earlier.date() < local.date()


def test_the_end_of_the_calendar_ends_the_windows() -> None:
    """A time up to the last day that a datetime can hold is split, too."""
    whole = TimeFilter(dt.datetime(9999, 12, 30, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 12, tzinfo=dt.UTC))

    assert [24, 12] == hours(whole.split(days=1, time_zone="UTC"))


@pytest.mark.parametrize(
    ("error", "zone", "step"),
    [
        (FilterValueError, "Europe/Bielefeld", {"days": 1}),
        (FilterValueError, "", {"days": 1}),
        (FilterValueError, "../etc", {"days": 1}),
        (FilterTypeError, 2, {"days": 1}),
        (FilterValueError, "UTC", {"hours": 1}),
        (FilterValueError, "UTC", {"days": 1.5}),
    ],
)
def test_an_unknown_zone_and_parts_of_a_day_are_errors(
    error: type[FilterError], zone: object, step: dict[str, float]
) -> None:
    """The error names the argument and a remedy."""
    with pytest.raises(error) as caught:
        between("UTC", (2026, 11, 1), (2026, 11, 8)).split(**step, time_zone=zone)  # type: ignore[arg-type]

    assert caught.value.argument == "time_zone"
    assert caught.value.remedy


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_of_pytz_means_the_zone_of_its_name(zone: str) -> None:
    """Days begin and end at the same moments with pytz, zoneinfo and dateutil."""
    pytz, tz = pytest.importorskip("pytz"), pytest.importorskip("dateutil.tz")
    whole = between("UTC", (2026, 3, 1), (2026, 11, 20))
    expected = whole.split(days=1, time_zone=zone)

    assert expected == whole.split(days=1, time_zone=pytz.timezone(zone))
    assert expected == whole.split(days=1, time_zone=tz.gettz(zone))
    assert expected == TimeFilter(whole.start, whole.end, pytz.timezone(zone)).split(days=1)


def test_a_datetime_with_a_misplaced_pytz_zone_is_an_error() -> None:
    """A zone of pytz passed to a datetime has an offset of the 19th century, which localize() corrects."""
    pytz = pytest.importorskip("pytz")
    berlin = pytz.timezone("Europe/Berlin")

    with pytest.raises(FilterValueError, match="localize"):
        TimeFilter(dt.datetime(2026, 6, 1, tzinfo=berlin), dt.datetime(2026, 6, 2, tzinfo=dt.UTC))
    for placed in (berlin.localize(dt.datetime(2026, 6, 1)), dt.datetime(2026, 6, 1, tzinfo=pytz.utc)):  # noqa: DTZ001
        assert TimeFilter(placed, placed + dt.timedelta(days=200))
