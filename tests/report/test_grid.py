"""`metrics_grid`: segments by periods, as one batch."""

import asyncio
import datetime as dt
import importlib.util
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest

from helicone_sessions import (
    ALL,
    AuthenticationError,
    F,
    Filter,
    FilterTypeError,
    FilterValueError,
    HeliconeClient,
    HeliconeError,
    MetricsOutcome,
    QueryFailed,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.report import Change, MetricsGrid, Period, metrics_grid
from helicone_sessions.testing import FakeHelicone, RecordedRequest, failure, metrics
from tests.parts import parts

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
WEEK = SessionMetricsQuery(F.status == 200, time_filter=TimeFilter(START, START + 7 * DAY), p_size="p95")
MODELS = F.model.is_each(["gpt-4o", "o3"])


@pytest.fixture
def service() -> Iterator[FakeHelicone]:
    """The service."""
    with FakeHelicone() as server:
        yield server


@pytest.fixture
async def client(service: FakeHelicone) -> AsyncIterator[HeliconeClient]:
    """A client of it that sends each query once."""
    async with HeliconeClient(service.api_key, base_url=service.url, max_retries=0) as client:
        yield client


def filters(service: FakeHelicone) -> set[str]:
    """The filters of the queries as text, without the start of a period."""
    texts = (str(Filter.from_wire(request.json.get("filter", "all"))) for request in service.requests)
    return {text.partition(" and request_created_at >= ")[0] for text in texts}


async def test_each_segment_in_each_period_is_asked_once(
    client: HeliconeClient, service: FakeHelicone
) -> None:
    """The cells are all pairs; the query's own filter applies to each."""
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY, totals=False)

    assert (14, 14, 2, 7) == (len(service.requests), len(grid), len(grid.segments), len(grid.periods))
    assert {'status == 200 and model == "gpt-4o"', 'status == 200 and model == "o3"'} == filters(service)
    assert {"p95"} == {request.json["pSize"] for request in service.requests}
    pairs = [(cell.segment, cell.period) for cell in grid]
    assert [(name, period) for name in ("gpt-4o", "o3") for period in grid.periods] == pairs


async def test_a_cell_holds_the_answer_to_its_query(client: HeliconeClient, service: FakeHelicone) -> None:
    """In whatever order the answers arrive."""

    async def end(request: RecordedRequest) -> SessionMetrics:
        return metrics(cost=request.json["timeFilter"]["endTimeUnixMs"] / 1000)

    service.otherwise(end)
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY)

    for cell in grid:
        assert cell.metrics is not None
        assert cell.period is not None
        assert cell.period.end is not None
        assert cell.period.end.timestamp() == cell.metrics.average.session_cost


async def test_totals_are_asked_for(client: HeliconeClient, service: FakeHelicone) -> None:
    """Totals of a segment over the whole time, of a period over all segments, and of everything."""
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY)

    assert 14 + 2 + 7 + 1 == len(service.requests)
    assert {"status == 200"} == filters(service) - set(filters_of_models())
    assert ("o3", None) == _names(grid.total("o3"))
    assert (None, grid.periods[2]) == _names(grid.total(period=2))
    assert grid["o3", 2] is grid.total("o3", 2)


def filters_of_models() -> list[str]:
    return ['status == 200 and model == "gpt-4o"', 'status == 200 and model == "o3"']


def _names(cell: Any) -> tuple[Any, Any]:
    return cell.segment, cell.period


async def test_of_one_segment_or_period_the_cell_is_the_total(
    client: HeliconeClient, service: FakeHelicone
) -> None:
    """No query is sent twice."""
    one = await metrics_grid(client, WEEK)
    assert (1, one["all", 0], WEEK) == (len(service.requests), one.total(), one.total().query)

    days = await metrics_grid(client, WEEK, every=DAY)
    assert days["all", 3] == days.total(period=3)
    assert 1 + 8 == len(service.requests)

    models = await metrics_grid(client, WEEK, by=MODELS)
    assert models["o3", 0] == models.total("o3")
    assert 9 + 3 == len(service.requests)


async def test_without_a_time_there_is_one_period(client: HeliconeClient, service: FakeHelicone) -> None:
    """All time, as in a query without one."""
    grid = await metrics_grid(client, F.status == 200, by=MODELS)

    assert "all time" == str(grid.periods[0])
    assert not any("timeFilter" in request.json for request in service.requests)
    assert START in grid.periods[0]
    assert [None, None] == [row["start"] for row in grid.to_rows()]


async def test_segments_may_have_any_names_and_filters(client: HeliconeClient, service: FakeHelicone) -> None:
    """A boolean column is a filter, too."""
    by = {("slow", 1): F.latency > 1000, None: F.cached, 3: ALL}
    grid = await metrics_grid(client, by=by)

    assert [("slow", 1), None, 3] == list(grid.segments)
    assert {"latency > 1000", "cached", "all"} == filters(service)
    assert (("slow", 1),) == tuple(cell.segment for cell in grid["slow", 1])


# Failures


async def test_a_failed_cell_holds_its_error(client: HeliconeClient, service: FakeHelicone) -> None:
    """The other queries are answered, and the rows hold the error."""
    service.answers((F.status == 200) & (F.model == "o3"), failure("no such luck"))
    grid = await metrics_grid(client, WEEK, by=MODELS, totals=False)

    assert isinstance(grid["o3", 0].error, QueryFailed)
    assert (None, (grid["o3", 0],)) == (grid["o3", 0].metrics, grid.failed)
    good, bad = grid.to_rows()
    assert (None, "QueryFailed: no such luck") == (good["error"], bad["error"][:25])
    assert (None, None) == (bad["dollars_mean"], bad["sessions_drawn"])


async def test_only_what_failed_is_asked_again(client: HeliconeClient, service: FakeHelicone) -> None:
    """Existing answers stay unchanged."""
    service.will_answer(failure("busy"), failure("busy"))
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY)
    assert (24, 2) == (len(service.requests), len(grid.failed))

    again = await grid.ask_again(client)
    assert (26, ()) == (len(service.requests), again.failed)
    kept = {place for place, cell in grid.cells.items() if cell.metrics}
    assert all(again.cells[place] is grid.cells[place] for place in kept)
    assert list(grid.cells) == list(again.cells)

    await again.ask_again(client)
    assert 26 == len(service.requests)


async def test_a_refused_key_ends_the_grid(service: FakeHelicone) -> None:
    """No other cell would succeed."""
    async with HeliconeClient("sk-other", base_url=service.url) as client:
        with pytest.raises(AuthenticationError):
            await metrics_grid(client, WEEK, every=DAY)


async def test_progress_is_told(client: HeliconeClient, service: FakeHelicone) -> None:
    """The callback receives the numbers of completed, all and failed queries."""
    service.will_answer(failure("busy"))
    told: list[tuple[int, int | None, int]] = []
    await metrics_grid(client, WEEK, every=DAY, on_progress=lambda *counts: told.append(counts))

    assert (1, 8) == told[0][:2]
    assert (8, 8, 1) == told[-1]


# Periods


@pytest.mark.parametrize(
    ("expected", "every", "zone"),
    [
        ([24, 25, 24], DAY, "Europe/Berlin"),
        ([24, 25, 24], DAY, ZoneInfo("Europe/Berlin")),
        ([24, 24, 24, 1], DAY, None),
        ([49, 24], 2 * DAY, "Europe/Berlin"),
        ([36, 36, 1], dt.timedelta(hours=36), "Europe/Berlin"),
    ],
)
async def test_periods_of_whole_days_follow_the_calendar_of_a_zone(
    client: HeliconeClient, expected: list[int], every: dt.timedelta, zone: Any
) -> None:
    """Other periods have the requested length; without a zone a day is 24 hours."""
    berlin = ZoneInfo("Europe/Berlin")
    time = TimeFilter(dt.datetime(2026, 10, 24, tzinfo=berlin), dt.datetime(2026, 10, 27, tzinfo=berlin))
    grid = await metrics_grid(client, SessionMetricsQuery(time_filter=time), every=every, time_zone=zone)

    lengths = [(_utc(period.end) - _utc(period.start)) / dt.timedelta(hours=1) for period in grid.periods]
    assert expected == lengths
    assert all(before.end == after.start for before, after in pairwise(grid.periods))
    if zone is not None:
        assert "2026-10-24" == str(grid.periods[0])[:10]


def _utc(moment: dt.datetime | None) -> dt.datetime:
    assert moment is not None
    return moment.astimezone(dt.UTC)


async def test_periods_may_be_given(client: HeliconeClient) -> None:
    """As `TimeFilter.split` makes them; of periods with gaps there is no total over time."""
    days = TimeFilter(START, START + 3 * DAY).split(days=1)
    grid = await metrics_grid(client, by=MODELS, every=days)
    assert (days, TimeFilter(START, START + 3 * DAY)) == (
        [period.time_filter for period in grid.periods],
        grid.total().query.time_filter,
    )

    gaps = await metrics_grid(client, by=MODELS, every=[days[0], days[2]])
    assert gaps.total(period=1).metrics is not None
    with pytest.raises(LookupError, match="no such total"):
        gaps.total("o3")


@pytest.mark.parametrize(
    "which",
    [2, -5, START + 2 * DAY, START + 3 * DAY - dt.timedelta(milliseconds=1), dt.date(2026, 11, 3)],
    ids=str,
)
async def test_a_period_is_named_by_its_place_or_by_what_lies_in_it(
    client: HeliconeClient, which: Any
) -> None:
    """A border belongs to the later period."""
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY, totals=False)

    assert grid.periods[2] == grid["o3", which].period
    assert grid["o3", grid.periods[2]] is grid["o3", which] is grid["o3"][2]


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ("there is no segment 'o4'. Use one of 'gpt-4o', 'o3'", ("o4", 0)),
        ("there is no segment 'o4'", "o4"),
        ("there is no period 7 among the 7 from 2026-11-01 to 2026-11-07", ("o3", 7)),
        ("there is no period True", ("o3", True)),
        ("there is no period", ("o3", START + 7 * DAY)),
        ("there is no period", ("o3", dt.date(2026, 11, 8))),
        ("there is no period", ("o3", Period(None, None, None))),
        ("there is no segment", (1, 2, 3)),
    ],
)
async def test_what_is_not_there_is_named(client: HeliconeClient, message: str, where: Any) -> None:
    """The error lists the existing names."""
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY, totals=False)
    with pytest.raises(LookupError, match=message):
        grid[where]
    with pytest.raises(LookupError, match="no such total"):
        grid.total()


# Out of it


async def test_rows_have_the_documented_columns(client: HeliconeClient) -> None:
    """One for each cell, each column described with its unit."""
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY)
    rows = grid.to_rows()

    assert (14, {grid.column_names}, set(MetricsGrid.columns)) == (
        len(rows),
        {tuple(row) for row in rows},
        set(grid.column_names),
    )
    assert ("gpt-4o", START, START + DAY) == (rows[0]["segment"], rows[0]["start"], rows[0]["end"])
    assert (3.0, 12.0, 4.0) == tuple(
        rows[0][name] for name in ("requests_mean", "seconds_mean", "sessions_drawn")
    )
    assert 15 == len(grid.to_csv().splitlines())


async def test_frames_have_the_rows(client: HeliconeClient, service: FakeHelicone) -> None:
    """With times as times."""
    pytest.importorskip("pandas", reason="the extra `frames` is not installed")
    pytest.importorskip("polars", reason="the extra `frames` is not installed")
    service.will_answer(failure("busy"))
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY, time_zone="Europe/Berlin")

    assert grid.to_rows() == grid.to_polars().to_dicts()
    assert "Europe/Berlin" in str(grid.to_pandas()["start"].dtype)


async def test_json_is_read_back(client: HeliconeClient, service: FakeHelicone) -> None:
    """Segments, periods, answers, totals and the texts of errors."""
    service.will_answer(failure("busy"))
    grid = await metrics_grid(client, WEEK, by={**MODELS, 3: F.cached}, every=DAY, time_zone="Europe/Berlin")
    back = MetricsGrid.from_json(grid.to_json())

    assert (grid.query, grid.segments, grid.periods) == (back.query, back.segments, back.periods)
    assert list(grid.cells) == list(back.cells)
    for place, cell in grid.cells.items():
        assert attrs.evolve(cell, error=None) == attrs.evolve(back.cells[place], error=None)
        assert (cell.error is None) == (back.cells[place].error is None)
    assert "busy" in str(back.failed[0].error)
    assert () == (await back.ask_again(client)).failed
    assert json.loads(grid.to_json()) == json.loads(grid.to_json())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', "null", b"\xff"])
def test_other_json_is_refused(text: Any) -> None:
    """The error says what it is for."""
    with pytest.raises(ValueError, match=r"not the JSON of MetricsGrid\.to_json"):
        MetricsGrid.from_json(text)


async def test_a_segment_that_json_cannot_name_is_an_error(client: HeliconeClient) -> None:
    """The message names it."""
    grid = await metrics_grid(client, by={("a", 1): F.cached})
    with pytest.raises(ValueError, match=r"segment name \('a', 1\)"):
        grid.to_json()


# Comparing


async def test_two_grids_are_compared_cell_by_cell(client: HeliconeClient, service: FakeHelicone) -> None:
    """This week and last week: segments by name, periods by position."""
    service.otherwise(metrics(cost=2.0, duration=10.0))
    last = await metrics_grid(client, WEEK, by=MODELS, every=DAY)
    service.otherwise(metrics(cost=3.0, duration=0.0))
    time = TimeFilter(START + 7 * DAY, START + 14 * DAY)
    this = await metrics_grid(client, attrs.evolve(WEEK, time_filter=time), by=MODELS, every=DAY)
    compared = this.compare(last)

    rows = {row["quantity"]: row for row in compared.to_rows() if row["segment"] == "o3"}
    assert (14, 9 * 14) == (len(compared), len(compared.to_rows()))
    assert (2.0, 3.0, 1.0, 1.5) == _figures(rows["dollars_mean"])
    assert (10.0, 0.0, -10.0, 0.0) == _figures(rows["seconds_mean"])
    assert 7 * DAY == rows["dollars_mean"]["start"] - rows["dollars_mean"]["start_before"]


def _figures(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("before", "after", "difference", "ratio"))


def test_a_change_from_nothing_has_no_ratio() -> None:
    """There is no ratio to or from a missing value."""
    assert (None, 3.0) == (Change(0.0, 3.0).ratio, Change(0.0, 3.0).difference)
    assert (None, None) == (Change(None, 3.0).ratio, Change(None, 3.0).difference)
    assert (None, None) == (Change(3.0, None).ratio, Change(3.0, None).difference)


async def test_grids_of_other_shapes_are_not_compared(client: HeliconeClient) -> None:
    """The error has the numbers of periods, or the segments that only one of them has."""
    days = await metrics_grid(client, WEEK, by=MODELS, every=DAY)
    whole = await metrics_grid(client, WEEK, by=MODELS)
    with pytest.raises(FilterValueError, check=parts(argument="before")) as caught:
        days.compare(whole)
    assert "before" == caught.value.argument
    with pytest.raises(FilterValueError, match="only one of the grids has 'all'"):
        whole.compare(await metrics_grid(client, WEEK, by={**MODELS, "all": F.cached}))


async def test_the_order_of_segments_does_not_matter_for_a_comparison(client: HeliconeClient) -> None:
    """Values of a column are in the order of their cost, which changes from week to week."""
    this = await metrics_grid(client, WEEK, by=MODELS, every=DAY)
    last = await metrics_grid(client, WEEK, by=dict(reversed(MODELS.items())), every=DAY)

    assert all(after.segment == before.segment for after, before in this.compare(last))


async def test_a_grid_equals_the_one_that_is_read_back(client: HeliconeClient) -> None:
    """One with other periods is unequal."""
    grid = await metrics_grid(client, WEEK, by=MODELS, every=DAY)
    other = await metrics_grid(client, WEEK, by=MODELS)

    assert MetricsGrid.from_json(grid.to_json()) == grid
    assert other != grid


# Wrong arguments


@pytest.mark.parametrize(
    ("error", "argument", "message", "arguments"),
    [
        (FilterTypeError, "by", "a column or a mapping of names to filters", {"by": [F.cached]}),
        (FilterValueError, "by", "must have values to group by", {"by": "cost"}),
        (FilterValueError, "top", "needs a column", {"top": 3}),
        (FilterValueError, "top", "at least 1", {"by": F.model, "top": 0}),
        (FilterValueError, "percentiles", "among p50", {"percentiles": ["p90"]}),
        (FilterTypeError, None, "'b'", {"by": {"a": "b"}}),
        (FilterValueError, "by", "no segment", {"by": {}}),
        (FilterValueError, "every", "a length such as 90m", {"every": "daily"}),
        (FilterTypeError, "every", "got 1", {"every": 1}),
        (FilterTypeError, "every", "got one with 3 in it", {"every": [3]}),
        (FilterValueError, "every", "no time filter", {"every": []}),
        (FilterValueError, "every", "the query has a time_filter too", {"every": [WEEK.time_filter]}),
        (FilterValueError, None, "above zero", {"every": -DAY}),
        (FilterValueError, None, "Mars", {"every": DAY, "time_zone": "Mars"}),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_sent(
    client: HeliconeClient,
    service: FakeHelicone,
    error: type[HeliconeError],
    argument: str | None,
    message: str,
    arguments: Any,
) -> None:
    """The error names the argument and quotes the value."""
    with pytest.raises(error, match=message) as caught:
        await metrics_grid(client, WEEK, **arguments)
    assert argument in (None, caught.value.argument)
    assert [] == service.requests


async def test_periods_need_a_time(client: HeliconeClient) -> None:
    """The message shows how to pass one."""
    with pytest.raises(FilterValueError, check=parts(argument="every")):
        await metrics_grid(client, every=DAY)


async def test_any_object_with_stream_metrics_fills_a_grid() -> None:
    """A grid needs no HeliconeClient, only outcomes with a key, and metrics or an error."""

    class Canned:
        @asynccontextmanager
        async def stream_metrics(
            self, queries: Mapping[Any, SessionMetricsQuery]
        ) -> AsyncIterator[AsyncIterator[MetricsOutcome[Any]]]:
            yield self.outcomes(queries)

        async def outcomes(
            self, queries: Mapping[Any, SessionMetricsQuery]
        ) -> AsyncIterator[MetricsOutcome[Any]]:
            for key, query in queries.items():
                yield MetricsOutcome(key, query, metrics(cost=2.0), None, 1, 0.0)

    grid = await metrics_grid(Canned(), WEEK, by=MODELS, every=DAY)

    assert {2.0} == {cell.quantity("dollars_mean") for cell in grid.cells.values()}


BERLIN = ZoneInfo("Europe/Berlin")


async def test_a_moment_of_the_repeated_hour_has_one_period(client: HeliconeClient) -> None:
    """When clocks go back, each of the two hours is a period with its own name."""
    night = TimeFilter("2026-10-25T00:00", "2026-10-25T05:00", time_zone=BERLIN)
    grid = await metrics_grid(client, SessionMetricsQuery(time_filter=night), every=dt.timedelta(hours=1))

    assert len({str(period) for period in grid.periods}) == len(grid.periods) == 6
    for fold, index in ((0, 2), (1, 3)):
        moment = dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
        assert grid["all", moment] == grid["all", moment.astimezone(dt.UTC)] == grid["all", index]
        assert [index] == [place for place, period in enumerate(grid.periods) if moment in period]


async def test_a_naive_moment_is_in_no_period(client: HeliconeClient) -> None:
    """The error says that the time zone is missing."""
    grid = await metrics_grid(client, WEEK, every=DAY)

    with pytest.raises(FilterTypeError, match="time zone"):
        grid["all", dt.datetime(2026, 11, 2, 12)]  # noqa: DTZ001 - the point


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "UTC", dt.timezone(dt.timedelta(hours=5, minutes=30)), None]
)
@pytest.mark.parametrize("start", ["2026-10-24", "2026-06-01"])
async def test_a_grid_keeps_its_zone_through_json(client: HeliconeClient, zone: Any, start: str) -> None:
    """Frames of a grid that was written as JSON have the same types and days."""
    time = TimeFilter(start, "2026-11-02", time_zone=zone or "UTC")
    query = SessionMetricsQuery(time_filter=time)
    grid = await metrics_grid(client, query, every=DAY, time_zone=zone)
    back = MetricsGrid.from_json(grid.to_json())

    assert grid.to_rows() == back.to_rows()
    assert [str(period) for period in grid.periods] == [str(period) for period in back.periods]
    if importlib.util.find_spec("pandas"):
        assert list(grid.to_pandas().dtypes) == list(back.to_pandas().dtypes)
    if importlib.util.find_spec("polars"):
        assert grid.to_polars().equals(back.to_polars())
        assert grid.to_polars().schema == back.to_polars().schema


async def test_the_type_of_a_column_does_not_depend_on_its_values(
    client: HeliconeClient, service: FakeHelicone
) -> None:
    """Frames of grids without sessions, without a time and with errors can be put together."""
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    full = await metrics_grid(client, WEEK, by={"a": F.cost > 1}, every=DAY)
    ever = await metrics_grid(client, by={1: F.cost > 1})
    service.will_answer(SessionMetrics.empty())
    empty = await metrics_grid(client, WEEK, by={None: F.cost > 1}, totals=False)
    service.will_answer(failure("down"), failure("down"))
    failed = await metrics_grid(client, WEEK, by={"c": F.cost > 1}, totals=False)

    grids = [full, ever, empty, failed]
    assert pl.concat([grid.to_polars() for grid in grids]).height == sum(map(len, grids))
    assert 1 == len({tuple(map(str, grid.to_pandas().dtypes)) for grid in grids})
    assert len(pd.concat([grid.to_pandas() for grid in grids])) == sum(map(len, grids))
    comparisons = [grid.compare(grid) for grid in grids]
    assert 1 == len({tuple(map(str, each.to_pandas().dtypes)) for each in comparisons})
    assert pl.concat([each.to_polars() for each in comparisons]).height
    answers = [metrics(cost=1), SessionMetrics.empty()]
    assert 1 == len({tuple(map(str, each.to_pandas().dtypes)) for each in answers})
    assert pl.concat([each.to_polars() for each in answers]).height


@pytest.mark.parametrize(
    ("names", "every", "zone"),
    [
        (["2026-11-01 (part)", "2026-11-02", "2026-11-03 (part)"], DAY, "UTC"),
        (["2026-11-01 to 2026-11-02 (part)", "2026-11-03 (part)"], 2 * DAY, "UTC"),
        (["2026-11-01 18:00", "2026-11-02 18:00 (part)"], DAY + dt.timedelta(hours=0), None),
        (["2026-11-01 18:00", "2026-11-02 06:00", "2026-11-02 18:00"], DAY / 2, None),
    ],
)
async def test_a_shorter_period_is_marked(client: HeliconeClient, names: Any, every: Any, zone: Any) -> None:
    """The first and the last period of a calendar, and the last one of equal lengths, can be partial."""
    time = TimeFilter(START + dt.timedelta(hours=18), START + dt.timedelta(days=2, hours=6))
    grid = await metrics_grid(client, SessionMetricsQuery(time_filter=time), every=every, time_zone=zone)

    assert names == [str(period) for period in grid.periods]
    assert names == [str(period) for period in MetricsGrid.from_json(grid.to_json()).periods]
    assert ["(part)" in name for name in names] == [period.is_partial for period in grid.periods]


async def test_an_interrupted_grid_keeps_its_cells(client: HeliconeClient, service: FakeHelicone) -> None:
    """The error has the grid, whose missing cells can be queried again."""
    held = service.hold(lambda query: "o3" in str(query.filter))
    running = asyncio.ensure_future(metrics_grid(client, WEEK, by=MODELS, totals=False))
    await service.until(lambda: service.open == 1 and len(service.requests) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    held.release()
    partial: MetricsGrid = caught.value.grid  # type: ignore[attr-defined]

    assert ["o3"] == [cell.segment for cell in partial.failed]
    assert (3.0, None) == (partial["gpt-4o", 0].quantity("requests_mean"), partial["o3", 0].metrics)
    assert () == (await partial.ask_again(client)).failed
    assert 3 == len(service.requests)
