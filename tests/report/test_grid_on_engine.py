"""Grids on the embedded engine: each request counts in one period, over changes of the clocks."""

import datetime as dt
import random
from collections import Counter
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.report import metrics_grid

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

MILLISECOND = dt.timedelta(milliseconds=1)
DAY = dt.timedelta(days=1)
HALF_HOUR = dt.timedelta(minutes=30)
MODELS = ("gpt-4o", "o3")
START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WEEK = TimeFilter("2026-11-01", "2026-11-08", "UTC")


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


class CellByCell:
    """A client that cannot query a whole grid."""

    def __init__(self, client: HeliconeClient) -> None:
        self.stream_metrics = client.stream_metrics


def some_rows(seed: int, count: int = 300) -> list[dict[str, Any]]:
    """Requests of sessions that use several models and plans over a week, some without a session."""
    chance = random.Random(seed)  # noqa: S311 - the same requests each time
    return [
        {
            "request_created_at": START + dt.timedelta(minutes=chance.randrange(7 * 24 * 60)),
            "model": chance.choice([*MODELS, "", "日本\"'"]),
            "cost": chance.choice([0, 0.001, 0.25, 1.5, chance.random()]),
            "session_id": chance.choice([None, *(f"session {number}" for number in range(40))]),
            "properties": chance.choice([{}, {"plan": "free"}, {"plan": "team", "odd ' key": "x"}]),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("both_ends", [None, True])
async def test_a_grid_in_one_statement_equals_its_cells(both_ends: bool | None) -> None:
    """Metrics and percentiles are those of single queries; sums are exact instead of estimated."""
    query = SessionMetricsQuery(time_filter=WEEK, p_size="p95", use_interquartile=both_ends)
    by = {"all": F.cost >= 0, "free": F.properties["plan"] == "free", "none": F.model == "none"}
    options: Any = {"by": by, "every": "1d", "percentiles": ["p50", "p95"]}
    async with (
        LocalServer(some_rows(1)) as server,
        HeliconeClient(server.api_key, base_url=server.url, cautions="ignore") as client,
    ):
        whole = await metrics_grid(client, query, **options)
        cells = await metrics_grid(CellByCell(client), query, **options)

    assert list(whole.cells) == list(cells.cells)
    for position, cell in whole.cells.items():
        other = cells.cells[position]
        assert (cell.metrics, cell.percentiles) == (other.metrics, other.percentiles)
        assert cell.sums
        assert other.sums
        assert cell.sums.is_exact
        share, too_few = (0.9, 3) if both_ends else (0.95, 1)
        assert cell.sums.sessions - too_few <= other.sums.sessions <= cell.sums.sessions / share + 1e-9


async def test_the_sums_of_values_and_days_are_those_of_the_rows() -> None:
    """Every request is in one cell of a grid by an existing value and by day."""
    rows = some_rows(2)
    query = SessionMetricsQuery(time_filter=WEEK)
    async with (
        LocalServer(rows) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        models = await metrics_grid(client, query, by="model", every="1d")
        plans = await metrics_grid(client, query, by=F.properties["plan"], top=1)

    expected: Counter[tuple[str, dt.date]] = Counter()
    for row in rows:
        expected[row["model"], row["request_created_at"].date()] += row["cost"]
    found = {
        (cell.segment, cell.period.start.date()): cell.quantity("dollars_total")
        for cell in models
        if cell.period and cell.period.start and cell.quantity("requests_total")
    }
    assert pytest.approx(dict(expected)) == found
    assert pytest.approx(sum(row["cost"] for row in rows)) == models.total().quantity("dollars_total")
    assert len(rows) == sum(cell.quantity("requests_total") or 0 for cell in models)
    costs = Counter(dict.fromkeys(("free", "team"), 0.0))
    for row in rows:
        if row["properties"]:
            costs[row["properties"]["plan"]] += row["cost"]
    assert [costs.most_common(1)[0][0]] == list(plans.segments)


async def test_percentiles_are_the_largest_sessions_at_or_below_the_exact_quantile() -> None:
    """As an independent computation finds them, of requests, seconds and dollars."""
    rows = [row for row in some_rows(3) if row["session_id"]]
    async with (
        LocalServer(rows) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        grid = await metrics_grid(client, SessionMetricsQuery(time_filter=WEEK), percentiles=["p50", "p95"])
        cut = await client.get_metrics(time_filter=WEEK, p_size="p95")

    costs: Counter[str] = Counter()
    for row in rows:
        costs[row["session_id"]] += row["cost"]
    values = sorted(costs.values())
    for level, share in (("p50", 0.5), ("p95", 0.95)):
        place = share * (len(values) - 1)
        low, part = int(place), place - int(place)
        exact = values[low] + part * (values[min(low + 1, len(values) - 1)] - values[low])
        largest = max(value for value in values if value <= exact + 1e-12)
        assert pytest.approx(largest) == grid["all", 0].quantity(f"dollars_{level}")  # type: ignore[arg-type]
    assert cut.session_cost.quantile(0.95) == grid["all", 0].quantity("dollars_p95")


async def test_the_two_hours_that_clocks_repeat_are_two_cells() -> None:
    """Whether the grid is one statement or one query for each cell."""
    zone = ZoneInfo("Europe/Berlin")
    night = TimeFilter("2026-10-25T00:00", "2026-10-25T04:00", zone)
    rows = [
        {
            "request_created_at": local("UTC", 2026, 10, 25, hour, 30),
            "session_id": str(hour),
            "cost": hour + 3,
        }
        for hour in range(2)
    ]
    async with (
        LocalServer(rows) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        query = SessionMetricsQuery(time_filter=night)
        for each in (client, CellByCell(client)):
            grid = await metrics_grid(each, query, every="1h", time_zone=zone)
            costs = {
                str(cell.period): cell.quantity("dollars_mean") for cell in grid if cell.quantity("sessions")
            }
            assert {"2026-10-25 02:00+02:00": 3.0, "2026-10-25 02:00+01:00": 4.0} == costs
