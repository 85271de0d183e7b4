"""Grids on the embedded engine: each request counts in one period, over changes of the clocks."""

import datetime as dt
import random
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.report import metrics_grid

pytest.importorskip("chdb", reason="the extra `local` is not installed")

MILLISECOND = dt.timedelta(milliseconds=1)
DAY = dt.timedelta(days=1)
HALF_HOUR = dt.timedelta(minutes=30)
MODELS = ("gpt-4o", "o3")


def local(zone: str, *parts: int) -> dt.datetime:
    """A local time in UTC."""
    return dt.datetime(*parts, tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)  # type: ignore[arg-type, misc]


def midnights(zone: str, begin: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    """Where the local date changes between the two, found by looking at every half hour."""
    halves = [begin + dt.timedelta(minutes=30) * number for number in range((end - begin) // HALF_HOUR + 1)]
    dates = [half.astimezone(ZoneInfo(zone)).date() for half in halves]
    return [
        half for half, (before, after) in zip(halves[1:], pairwise(dates), strict=True) if before != after
    ]


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("Europe/Berlin", (2026, 3, 26, 12), (2026, 4, 1, 18)),
        ("Europe/Berlin", (2026, 10, 22, 12), (2026, 10, 28, 18)),
        ("America/New_York", (2026, 3, 6, 12), (2026, 3, 11, 18)),
        ("America/New_York", (2026, 10, 30, 12), (2026, 11, 4, 18)),
        ("Australia/Lord_Howe", (2026, 4, 2, 12), (2026, 4, 8, 18)),
        ("Australia/Lord_Howe", (2026, 10, 1, 12), (2026, 10, 7, 18)),
    ],
)
async def test_each_request_counts_in_one_cell(
    zone: str, first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    """Those on a midnight count in the day that begins there; each cell is what it is when asked alone."""
    begin, end = local(zone, *first), local(zone, *last)
    borders = [begin, *midnights(zone, begin, end), end]
    chance = random.Random(zone)  # noqa: S311 - it has to come out the same each time
    moments = [border + MILLISECOND * off for border in borders for off in (-1, 0, 1)]
    moments += [begin + MILLISECOND * chance.randrange((end - begin) // MILLISECOND) for _ in range(200)]
    rows = [
        {"request_created_at": moment, "model": chance.choice(MODELS), "cost": chance.random()}
        for moment in moments
    ]
    query = SessionMetricsQuery(time_filter=TimeFilter(begin, end), p_size="p99")
    async with LocalServer(rows) as server, HeliconeClient(server.api_key, base_url=server.url) as client:
        grid = await metrics_grid(client, query, by=F.model.is_each(MODELS), every=DAY, time_zone=zone)
        alone = {place: await client.get_metrics(cell.query) for place, cell in grid.cells.items()}

    assert list(pairwise(borders)) == [(period.start, period.end) for period in grid.periods]
    assert alone == {place: cell.metrics for place, cell in grid.cells.items()}
    # Requests without a session make one session, so the mean of its requests is how many there are.
    counted = {
        (cell.segment, cell.period.start): cell.metrics.average.session_count or 0
        for cell in grid
        if cell.metrics and cell.period
    }
    expected = dict.fromkeys(counted, 0)
    for row in rows:
        if begin <= row["request_created_at"] < end:
            start = max(border for border in borders if border <= row["request_created_at"])
            expected[row["model"], start] += 1
    assert expected == counted
    whole = grid.total().metrics
    assert whole is not None
    assert whole.average.session_count == sum(counted.values())
