"""Grids on the embedded engine: each cell has the figures of a separate query, from one statement."""

import asyncio
import random
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import ALL, F, FilterError, SessionMetricsQuery, TimeFilter, all_of
from helicone_sessions.local import LocalServer
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.messages import grid_query
from helicone_sessions.messages.converter import Mismatch
from helicone_sessions.messages.grid_query import (
    GRID_PATH,
    CellFigures,
    GridQuery,
    GroupBy,
    grid_figures_from_wire,
    grid_query_from_wire,
    grid_query_to_wire,
    offers_grid,
)
from helicone_sessions.messages.metrics import HistogramRow, SessionAverages
from tests.local.conftest import nano_of, session_id_of
from tests.local.nasty_rows import KEYS, ROWS
from tests.local.test_oracle import CHANCES, MOMENTS, options_of, tree_of
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

MILLISECOND = timedelta(milliseconds=1)
WHOLE = TimeFilter(min(MOMENTS) - MILLISECOND, max(MOMENTS) + MILLISECOND)
LEVELS = ("p50", "p75", "p95", "p99", "p99.9")


@pytest.fixture(scope="module")
def held(runner: asyncio.Runner, hold: Any) -> Iterator[Any]:
    """Tables that hold `ROWS`."""
    holding = hold(ROWS)
    yield runner.run(holding.__aenter__())
    runner.run(holding.__aexit__(None, None, None))


def period_of(chance: random.Random) -> TimeFilter:
    """A time with its ends on requests, or just beside them."""
    start, end = sorted(chance.choice(MOMENTS) for _ in range(2))
    return TimeFilter(start - MILLISECOND * chance.randrange(2), end + MILLISECOND * chance.randrange(1, 3))


@settings(max_examples=repeats(60), database=None)
@given(chance=CHANCES, data=st.data())
def test_cells_equal_single_queries(
    runner: asyncio.Runner, held: Any, oracle: Any, chance: random.Random, data: st.DataObject
) -> None:
    """Any segments and periods, overlapping ones too: the metrics and quantiles are those of the queries."""
    trees = [tree_of(chance, leaves) for leaves in data.draw(st.lists(st.integers(1, 4), max_size=4))]
    segments = tuple(oracle.built(tree) for tree in trees)
    periods = tuple(period_of(chance) for _ in range(data.draw(st.integers(0, 4))))
    common = SessionMetricsQuery(oracle.built(tree_of(chance, 1)), **options_of(chance))
    if data.draw(st.booleans()):
        common = attrs.evolve(common, filter=None)
    levels = tuple(data.draw(st.lists(st.sampled_from(LEVELS), unique=True, max_size=2)))
    grid = GridQuery(common, segments, periods, totals=data.draw(st.booleans()), quantiles=levels)
    figures = runner.run(held.grid(grid))

    has_totals = grid.totals
    expected_positions = set()
    for segment in [*range(len(segments)), *([None] if has_totals or not segments else [])]:
        for period in [*range(len(periods)), *([None] if has_totals or not periods else [])]:
            expected_positions.add((segment, period))
            query = attrs.evolve(
                common,
                filter=all_of(common.filter, None if segment is None else segments[segment]),
                time_filter=common.time_filter if period is None else periods[period],
            )
            cell = figures.cell(segment, period)
            assert runner.run(held.ask(query)) == cell.metrics
            for level in levels if cell.sessions else ():
                alone = runner.run(held.ask(attrs.evolve(query, p_size=level, use_interquartile=None)))
                assert cell.quantiles[level].session_count == alone.session_count[-1].range_end
                assert cell.quantiles[level].session_duration == alone.session_duration[-1].range_end
                assert cell.quantiles[level].session_cost == alone.session_cost[-1].range_end
    assert expected_positions >= set(figures.cells)


@settings(max_examples=repeats(40), database=None)
@given(chance=CHANCES, data=st.data())
def test_totals_are_exact(
    runner: asyncio.Runner, held: Any, oracle: Any, chance: random.Random, data: st.DataObject
) -> None:
    """Sessions, requests and dollars of each cell are those of a computation in Python."""
    known = oracle(ROWS)
    trees = [
        tree_of(chance, leaves) for leaves in data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    ]
    periods = tuple(period_of(chance) for _ in range(data.draw(st.integers(1, 4))))
    grid = GridQuery(SessionMetricsQuery(time_filter=WHOLE), tuple(map(oracle.built, trees)), periods)
    figures = runner.run(held.grid(grid))
    for segment, tree in [*enumerate(trees), (None, ("and",))]:
        for index, time in [*enumerate(periods), (None, WHOLE)]:
            requests = known.requests(tree, time)
            cell = figures.cell(segment, index)
            assert cell.requests == len(requests)
            assert cell.sessions == len(set(map(session_id_of, requests)))
            assert cell.dollars == sum(map(nano_of, requests)) / 10**9


def test_one_cell(runner: asyncio.Runner, held: Any) -> None:
    """A grid without segments and periods has the totals of its query."""
    figures = runner.run(held.grid(GridQuery(SessionMetricsQuery(F.cost > 0.1))))
    ((position, cell),) = figures.cells.items()
    matching = [row for row in ROWS if row["cost"] * 10 > 1]
    assert position == (None, None)
    assert figures.values is None
    assert cell.requests == len(matching)
    assert cell.dollars == sum(map(nano_of, matching)) / 10**9


@pytest.mark.parametrize(
    "by",
    [
        GroupBy("model"),
        GroupBy("country_code"),
        GroupBy("request_id", top=3),
        GroupBy("status"),
        GroupBy("threat"),
        GroupBy("cached"),
        GroupBy("helicone-score-feedback"),
        *(GroupBy("properties", key) for key in (*KEYS, "Helicone-Session-Name", "missing")),
    ],
)
def test_existing_values(runner: asyncio.Runner, held: Any, by: GroupBy) -> None:
    """Segments by existing values are those of their filters, the most expensive first, whatever the text."""
    grid = GridQuery(SessionMetricsQuery(F.status != 500, time_filter=WHOLE), by, (WHOLE,))
    figures = runner.run(held.grid(grid))
    assert figures.values
    listed = attrs.evolve(grid, segments=tuple(map(by.filter_of, figures.values)))
    assert runner.run(held.grid(listed)).cells == figures.cells
    dollars = [figures.cell(segment, None).dollars for segment in range(len(figures.values))]
    assert dollars == sorted(dollars, reverse=True)
    if by.column in ("model", "country_code", "properties"):
        # Every request has a text, or none, so it is in exactly one segment.
        requests = sum(figures.cell(segment, None).requests for segment in range(len(figures.values)))
        assert requests == figures.cell(None, None).requests
    top = attrs.evolve(by, top=2)
    assert list(figures.values[:2]) == list(runner.run(held.grid(attrs.evolve(grid, segments=top))).values)


def test_existing_values_of_whole_sessions(runner: asyncio.Runner, held: Any) -> None:
    """A condition on whole sessions narrows the values and their order."""
    common = SessionMetricsQuery((F.session_total_requests > 20) & (F.status == 200), time_filter=WHOLE)
    figures = runner.run(held.grid(GridQuery(common, GroupBy("model"))))
    assert figures.values
    for index, value in enumerate(figures.values):
        query = attrs.evolve(common, filter=common.filter & GroupBy("model").filter_of(value))
        alone = runner.run(held.grid(GridQuery(query)))
        assert alone.cell(None, None) == figures.cell(index, None)
        assert figures.cell(index, None).requests


def test_too_many_values(runner: asyncio.Runner, held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column with more values than a grid may have cells is refused."""
    monkeypatch.setattr("helicone_sessions.local.query.metrics_sql.MOST_CELLS", 100)
    with pytest.raises(Unanswerable, match="more than 99 values"):
        runner.run(held.grid(GridQuery(SessionMetricsQuery(), GroupBy("request_id"))))


@pytest.mark.parametrize("include_unsessioned", [True, False])
def test_unsessioned(runner: asyncio.Runner, held: Any, include_unsessioned: bool) -> None:
    """Requests without an id are in the cells only if the engine includes them."""
    figures = runner.run(held.grid(GridQuery(SessionMetricsQuery()), include_unsessioned=include_unsessioned))
    counted = [row for row in ROWS if include_unsessioned or session_id_of(row)]
    assert figures.cell(None, None).requests == len(counted)


def test_wire_round_trip() -> None:
    """A query comes back from its JSON."""
    for segments in ((F.cost > 1, ALL), GroupBy("properties", "tier", top=3), ()):
        grid = GridQuery(
            SessionMetricsQuery(p_size="p95"), segments, (WHOLE,), totals=False, quantiles=("p50",)
        )
        assert grid_query_from_wire(grid_query_to_wire(grid)) == grid


QUERY = {"nameContains": "", "timezoneDifference": 0}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "$"),
        ({}, "$.query"),
        ({"query": QUERY, "more": 1}, "$"),
        ({"query": {}}, "$.query.nameContains"),
        ({"query": QUERY, "segments": "all"}, "$.segments"),
        ({"query": QUERY, "segments": [{"x": 1}]}, "$.segments[0]"),
        ({"query": QUERY, "segments": {}}, "$.segments"),
        ({"query": QUERY, "segments": {"column": "model", "more": 1}}, "$.segments"),
        ({"query": QUERY, "segments": {"column": "cost"}}, "$.segments.column"),
        ({"query": QUERY, "segments": {"column": ["model"]}}, "$.segments.column"),
        ({"query": QUERY, "segments": {"column": "model", "key": "a"}}, "$.segments.key"),
        ({"query": QUERY, "segments": {"column": "properties"}}, "$.segments.key"),
        ({"query": QUERY, "segments": {"column": "model", "top": 0}}, "$.segments.top"),
        ({"query": QUERY, "segments": {"column": "model", "top": True}}, "$.segments.top"),
        ({"query": QUERY, "periods": {}}, "$.periods"),
        ({"query": QUERY, "periods": [{"startTimeUnixMs": 1}]}, "$.periods[0].endTimeUnixMs"),
        ({"query": QUERY, "totals": 1}, "$.totals"),
        ({"query": QUERY, "quantiles": ["p90"]}, "$.quantiles"),
        ({"query": QUERY, "quantiles": [["p90"]]}, "$.quantiles"),
    ],
)
def test_invalid_queries(body: Any, field: str) -> None:
    """A body that is not a grid query is refused with the JSON path of the fault."""
    with pytest.raises(FilterError) as error:
        grid_query_from_wire(body)
    assert (error.value.field or str(error.value).split(" ")[0]) == field


FIGURES = {
    "values": None,
    "cells": {
        "segment": [0],
        "period": [None],
        "sessions": [2],
        "requests": [5],
        "dollars": [0.75],
        "histograms": [[[1, 4, 2]], [[0, 60, 2]], [[0.25, 0.5, 2]]],
        "averages": [[2.5], [30], [0.375]],
        "quantiles": {"p50": [[1], [0], [0.25]]},
    },
}


def test_figures_from_wire() -> None:
    """The figures of a cell come from the columns of the response."""
    figures = grid_figures_from_wire(FIGURES)
    cell = figures.cell(0, None)
    assert (cell.sessions, cell.requests, cell.dollars) == (2, 5, 0.75)
    assert cell.metrics.session_cost.rows == (HistogramRow(0.25, 0.5, 2.0),)
    assert cell.metrics.average == SessionAverages(2.5, 30, 0.375)
    assert cell.quantiles == {"p50": SessionAverages(1, 0, 0.25)}
    assert figures.cell(1, None) == CellFigures.empty()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("segment", []),
        ("sessions", []),
        ("dollars", [1, 2]),
        ("histograms", [[[1, 4]], [[0, 60, 2]], [[0.25, 0.5, 2]]]),
        ("histograms", [[[1, 4, 2]]]),
        ("histograms", None),
        ("averages", [[2.5], [30]]),
        ("quantiles", {"p50": [[], [], []]}),
        ("quantiles", []),
    ],
)
def test_malformed_figures(column: str, value: Any) -> None:
    """A response of another form is refused."""
    cells: Any = {**FIGURES["cells"], column: value}  # type: ignore[dict-item]
    with pytest.raises(Mismatch, match=r"expected the figures of a grid .* at \$.data"):
        grid_figures_from_wire({"values": None, "cells": cells})


def test_too_many_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of more cells than one response can hold is refused before it is sent."""
    monkeypatch.setattr(grid_query, "MOST_CELLS", 10)
    GridQuery(SessionMetricsQuery(), (ALL,) * 4, (WHOLE,))
    with pytest.raises(FilterError, match="5 segments and 1 periods"):
        GridQuery(SessionMetricsQuery(), (ALL,) * 5, (WHOLE,))


async def test_sum_over_models_and_days() -> None:
    """The dollars of all models and days add up to those of the rows, and each request counts once."""
    rows = list(LocalServer.sample())
    start = min(row["request_created_at"] for row in rows).replace(hour=0, minute=0, second=0, microsecond=0)
    month = TimeFilter(start - MILLISECOND, start + timedelta(days=31))
    grid = GridQuery(SessionMetricsQuery(time_filter=month), GroupBy("model"), tuple(month.split(days=1)))
    async with LocalServer(rows) as server, aiohttp.ClientSession(server.url) as session:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with session.post(f"/{GRID_PATH}", json=grid_query_to_wire(grid), headers=headers) as answer:
            figures = grid_figures_from_wire((await answer.json())["data"])
    cells = [cell for (segment, day), cell in figures.cells.items() if None not in (segment, day)]
    assert sum(cell.requests for cell in cells) == len(rows)
    total = sum(Decimal(str(row["cost"])) for row in rows)
    assert round(sum(cell.dollars for cell in cells), 2) == float(round(total, 2))
    assert figures.cell(None, None).dollars == float(total)


@pytest.mark.parametrize(("semantics", "offers"), [("contract", True), ("helicone", False)])
async def test_endpoint(semantics: Any, offers: bool) -> None:
    """A server announces the endpoint and answers a grid; one with the service's semantics does not."""
    body = grid_query_to_wire(GridQuery(SessionMetricsQuery(), GroupBy("model", top=1)))
    async with LocalServer(ROWS, semantics=semantics) as server, aiohttp.ClientSession(server.url) as session:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with session.post("/v1/session/metrics/query", json=QUERY, headers=headers) as answer:
            assert offers_grid(answer.headers) == offers
        async with session.post(f"/{GRID_PATH}", json=body, headers=headers) as answer:
            assert answer.status == (200 if offers else 404)
            if offers:
                figures = grid_figures_from_wire((await answer.json())["data"])
                assert figures.cell(None, None).requests == len(ROWS)
                assert len(figures.values or ()) == 1


async def test_endpoint_refuses() -> None:
    """A body that is not a grid query has status 400; a query that cannot be answered fails."""
    async with LocalServer(ROWS) as server, aiohttp.ClientSession(server.url) as session:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with session.post(f"/{GRID_PATH}", json={"query": {}}, headers=headers) as answer:
            assert answer.status == 400
            assert "$.query.nameContains is missing" in (await answer.json())["error"]
        body = grid_query_to_wire(GridQuery(SessionMetricsQuery(F.node_id == "a")))
        async with session.post(f"/{GRID_PATH}", json=body, headers=headers) as answer:
            assert answer.status == 500
            assert "node_id" in (await answer.json())["error"]
