"""Finds the segments of a grid and runs its queries.

On the embedded engine, one request returns many cells; on the service, each cell takes one request.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, Callable, Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import attrs

from helicone_sessions.errors import (
    AuthenticationError,
    FilterError,
    FilterTypeError,
    FilterValueError,
    HeliconeError,
)
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.columns.kinds import Column
from helicone_sessions.filters.expression import ALL, Condition, Filter, as_filter
from helicone_sessions.messages.grid_query import (
    CellFigures,
    GridFigures,
    GridQuery,
    GroupBy,
    Position,
    SegmentValue,
)
from helicone_sessions.messages.metrics import UNITS, PSize, SessionAverages, SessionMetrics, with_cut
from helicone_sessions.messages.query import Request, SessionMetricsQuery, TimeFilter
from helicone_sessions.report.cells import CellSums, GridCell
from helicone_sessions.report.periods import Period, covered_time

EVERYTHING: Final = "all"
# To find the values of a column, one page of requests is read from each part of the time range.
SAMPLED_PARTS, SAMPLED_PAGE = 10, 1000

By = Mapping[Any, Condition] | Column | str
"""Named filters, or a column such as ``F.model`` or ``"model"`` for one segment per value."""
Segments = dict[Hashable, Filter]


class RequestStream(Protocol):
    """The part of `HeliconeClient` that is used to find the values of a column."""

    def stream_requests(
        self,
        filter: Filter | None = None,
        *,
        time_filter: TimeFilter,
        page_size: int,
    ) -> Any:
        """Return an async generator of the matching requests."""


def named_segments(by: Mapping[Any, Condition]) -> Segments:
    """Return the filters of the segments, by name.

    Raises:
        FilterTypeError: A value is not a filter.
        FilterValueError: The mapping is empty.
    """
    if not by:
        raise FilterValueError(
            argument="by", problem="has no segment", remedy="Leave it out for one segment of everything"
        )
    return {name: as_filter(each) for name, each in by.items()}


def group_by(by: Any, top: int | None) -> GroupBy | None:
    """Return the column in *by*, or None if *by* is a mapping or omitted.

    Raises:
        FilterTypeError: *by* has another type, or *top* is not a whole number.
        FilterValueError: The column does not support grouping, or *top* is given without a column.
    """
    if by is None or isinstance(by, Mapping):
        if top is not None:
            raise FilterValueError(
                argument="top", problem="needs a column in `by`", remedy='Pass by="model", for example'
            )
        return None
    if isinstance(by, Column):
        name, key = by.facts.name, by.key
    elif isinstance(by, str):
        name, key = by, None
    else:
        raise FilterTypeError(
            argument="by",
            problem=f"must be a column or a mapping of names to filters, got {by!r}",
            remedy='Pass F.model, "model", F.properties["tier"], or F.model.is_each([...])',
        )
    try:
        return GroupBy(name, key, top)
    except FilterError as error:
        argument = "top" if error.argument == "top" else "by"
        raise type(error)(argument=argument, problem=error.problem, remedy=error.remedy) from None


def everything() -> Segments:
    """Return one segment that contains all requests."""
    return {EVERYTHING: ALL}


def segments_of_values(by: GroupBy, values: "list[SegmentValue] | tuple[SegmentValue, ...]") -> Segments:
    """Return one segment per value."""
    return {value: by.filter_of(value) for value in values}


async def values_in_sample(
    client: RequestStream, query: SessionMetricsQuery, by: GroupBy
) -> list[SegmentValue]:
    """Find the values of a column in a sample of up to 10,000 requests, the most expensive value first.

    The service cannot list the values of a column. Therefore one page of requests is read from each tenth of
    the time range.

    Raises:
        FilterValueError: The query has no time range, or no requests match the query.
    """
    if query.time_filter is None:
        raise FilterValueError(
            argument="by",
            problem="needs a time range in which to find values",
            remedy="Give the query a time filter, such as time_filter=TimeFilter.last(days=30),"
            " or pass filters",
        )
    costs: defaultdict[SegmentValue, float] = defaultdict(float)
    length = query.time_filter.length / SAMPLED_PARTS
    for part in query.time_filter.split(minutes=length.total_seconds() / 60):
        left = SAMPLED_PAGE
        requests = client.stream_requests(query.filter, time_filter=part, page_size=SAMPLED_PAGE)
        try:
            async for request in requests:
                value = _value(request, by)
                if isinstance(value, (str, int, bool)) or value is None:
                    costs[value] += float(request.get("cost") or request.get("costUSD") or 0)
                left -= 1
                if not left:
                    break
        finally:
            await requests.aclose()
    if not costs:
        raise FilterValueError(
            argument="by",
            problem="finds no request in the time range of the query",
            remedy="Use a longer time range",
        )
    return sorted(costs, key=lambda value: -costs[value])[: by.top]


def _value(request: Request, by: GroupBy) -> Any:
    names = (by.column, f"request_{by.column}", f"response_{by.column}")
    found = next((request[name] for name in names if request.get(name) is not None), None)
    return (found or {}).get(by.key) if by.key is not None else found


OnProgress = Callable[[int, int | None, int], object]

_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
# The maximum number of cells per request to the engine, which keeps the response far below the client's size
# limit.
_MOST_CELLS: Final = 5000
# The maximum number of concurrent calls to count_sessions. Most of them wait for one of the client's slots.
_COUNTED_AT_ONCE: Final = 32
_NO_SESSION: Final = SessionAverages(None, None, None)
# A time before any stored request.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Outcome(Protocol):
    """The outcome of one query of a batch; `MetricsOutcome` implements it."""

    @property
    def key(self) -> Any:
        """The key of the query."""

    @property
    def metrics(self) -> SessionMetrics | None:
        """The metrics; None if the query failed."""

    @property
    def error(self) -> HeliconeError | None:
        """The error; None if the query succeeded."""


class MetricsClient(Protocol):
    """The part of `HeliconeClient` that all grids need.

    Grids also use the methods ``query_grid``, ``count_sessions`` and ``stream_requests`` of `HeliconeClient`
    if the client has them.
    """

    def stream_metrics(
        self, queries: Mapping[Any, SessionMetricsQuery], /
    ) -> AbstractAsyncContextManager[AsyncIterable[Outcome]]:
        """Run the queries, and yield their outcomes as they complete."""


@attrs.frozen
class Plan:
    """The properties that all cells of a grid share.

    Args:
        query: The query that all cells have in common.
        segments: The filters of the segments, by name.
        periods: The periods in order.
        percentiles: The quantiles to query for each cell.
        exact_sums: Whether to get exact sums from the service as well, with one extra query per cell.
    """

    query: SessionMetricsQuery
    segments: Mapping[Hashable, Filter]
    periods: tuple[Period, ...]
    percentiles: tuple[PSize, ...] = ()
    exact_sums: bool = False

    def cell(self, position: Position) -> GridCell:
        """Create the cell at a position, with its query but no metrics yet."""
        segment, index = position
        name: Hashable = None
        changes: dict[str, Any] = {}
        if segment is not None:
            name, narrowed = list(self.segments.items())[segment]
            changes["filter"] = narrowed if self.query.filter is None else self.query.filter & narrowed
        period = None if index is None else self.periods[index]
        query = attrs.evolve(self.query, **changes)
        return GridCell(name, period, _in_time(query, self._span(period)))

    def grid_query(self, periods: tuple[Period, ...], *, totals: bool) -> GridQuery:
        """Create one query for the periods, or for the whole time range if *periods* is empty."""
        whole = _engine_time(self._span(None))
        return GridQuery(
            self.query if whole is None else attrs.evolve(self.query, time_filter=whole),
            tuple(self.segments.values()),
            tuple(filter(None, (_engine_time(period) for period in periods))),
            totals=totals,
            quantiles=self.percentiles,
        )

    def _span(self, period: Period | None) -> Period:
        """Return *period*, or a period that spans all periods if *period* is None."""
        if period is not None:
            return period
        first, last = self.periods[0], self.periods[-1]
        return Period(first.start, last.end, covered_time(self.periods), first.every)


def _engine_time(period: Period) -> TimeFilter | None:
    """Return a time filter that includes the start of a period, which the contract would exclude."""
    if not period.includes_start or period.start is None or period.end is None:
        return period.time_filter
    # Convert to UTC, because Python subtracts times of the same zone by the wall clock, even across a clock
    # change.
    return TimeFilter(period.start.astimezone(UTC) - _MILLISECOND, period.end)


def _in_time(query: SessionMetricsQuery, period: Period) -> SessionMetricsQuery:
    """Limit a query to a period, including the start of the period.

    The service drops fractions of a second and excludes both ends of a time filter. Therefore an extra
    condition selects the requests made exactly at the start.
    """
    if not period.includes_start or period.start is None or period.end is None:
        return attrs.evolve(query, time_filter=period.time_filter)
    starts = F.request_created_at >= period.start
    return attrs.evolve(
        query,
        filter=starts if query.filter is None else query.filter & starts,
        time_filter=TimeFilter(period.start.astimezone(UTC) - _SECOND, period.end),
    )


@attrs.define
class _Progress:
    total: int
    on_progress: OnProgress | None
    done: int = 0
    failed: int = 0

    def add(self, count: int = 1, *, failed: int = 0) -> None:
        self.done = min(self.done + count, self.total)
        self.failed += failed
        if self.on_progress is not None:
            self.on_progress(self.done, self.total, self.failed)


async def fill(
    client: MetricsClient,
    plan: Plan,
    cells: dict[Position, GridCell],
    on_progress: OnProgress | None,
) -> None:
    """Run the queries of all cells that have no metrics yet, and store the results in *cells*.

    If the call is cancelled, the results so far remain in *cells*.

    Args:
        client: The client that runs the queries.
        plan: The properties that all cells share.
        cells: The cells by position, updated in place.
        on_progress: Called with the numbers of completed queries, all queries and failed queries.

    Raises:
        AuthenticationError: The service rejects the key.
    """
    missing = [position for position, cell in cells.items() if cell.metrics is None]
    if not missing:
        return
    progress = _Progress(len(missing) * len(_levels(plan, cells[missing[0]])), on_progress)
    rest = missing
    if hasattr(client, "query_grid") and not _offers_grid(client):
        # Send one query first: only a response shows whether the server can answer whole grids.
        await _query_cells(client, plan, cells, missing[:1], progress)
        rest = missing[1:]
    if _offers_grid(client):
        await _query_grid(client, plan, cells, missing, progress)
        return
    await _query_cells(client, plan, cells, rest, progress)
    if plan.exact_sums:
        await _count_sessions(client, cells, missing)


def _offers_grid(client: Any) -> bool:
    return bool(getattr(client, "offers_grid", False))


async def _query_grid(
    client: Any, plan: Plan, cells: dict[Position, GridCell], missing: list[Position], progress: _Progress
) -> None:
    levels = len(_levels(plan, cells[missing[0]]))
    for places, query in _requests(plan, missing):
        wanted = [position for position in missing if position[1] in places]
        try:
            figures: GridFigures = await client.query_grid(query)
        except AuthenticationError:
            raise
        except HeliconeError as error:
            for position in wanted:
                cells[position] = attrs.evolve(cells[position], error=error)
            progress.add(len(wanted) * levels, failed=len(wanted))
            continue
        for segment, period in wanted:
            found = figures.cell(segment, places[period])
            cells[segment, period] = _with_figures(cells[segment, period], found, plan.percentiles)
        progress.add(len(wanted) * levels)


def _requests(
    plan: Plan, missing: list[Position]
) -> Iterator[tuple[dict[int | None, int | None], GridQuery]]:
    """Yield queries for the missing cells, each with a map from the grid's period indexes to the query's."""
    wanted = sorted({period for _, period in missing if period is not None})
    has_totals = any(segment is None for segment, _ in missing)
    if any(period is None for _, period in missing):
        yield {None: None}, plan.grid_query((), totals=True)
    size = max(1, _MOST_CELLS // (len(plan.segments) + 1))
    for start in range(0, len(wanted), size):
        some = wanted[start : start + size]
        if plan.periods[some[0]].time_filter is None:
            yield {some[0]: None}, plan.grid_query((), totals=True)
            continue
        periods = tuple(plan.periods[place] for place in some)
        places: dict[int | None, int | None] = {place: index for index, place in enumerate(some)}
        yield places, plan.grid_query(periods, totals=has_totals)


def _with_figures(cell: GridCell, figures: CellFigures, levels: tuple[PSize, ...]) -> GridCell:
    return attrs.evolve(
        cell,
        metrics=with_cut(figures.metrics, cell.query.cut),
        error=None,
        sums=CellSums(figures.sessions, figures.requests, figures.dollars),
        percentiles={level: figures.quantiles.get(level, _NO_SESSION) for level in levels},
    )


def _levels(plan: Plan, cell: GridCell) -> list[PSize | None]:
    """Return the quantile levels to query for a cell.

    None means the main query of the cell. The other levels are the quantiles that this query does not
    return.
    """
    cut = cell.query.cut
    return [None, *(level for level in plan.percentiles if cut.both_ends or level != cut.p_size)]


async def _query_cells(
    client: MetricsClient,
    plan: Plan,
    cells: dict[Position, GridCell],
    missing: list[Position],
    progress: _Progress,
) -> None:
    queries = {
        (position, level): _at_level(cells[position].query, level)
        for position in missing
        for level in _levels(plan, cells[position])
    }
    async with client.stream_metrics(queries) as outcomes:
        async for outcome in outcomes:
            position, level = outcome.key
            cells[position] = _with_outcome(cells[position], plan, level, outcome)
            progress.add(failed=outcome.error is not None)


def _at_level(query: SessionMetricsQuery, level: PSize | None) -> SessionMetricsQuery:
    return query if level is None else attrs.evolve(query, p_size=level, use_interquartile=None)


def _with_outcome(cell: GridCell, plan: Plan, level: PSize | None, outcome: Outcome) -> GridCell:
    if outcome.metrics is None:
        return attrs.evolve(cell, error=outcome.error) if level is None else cell
    found = {}
    own = level or cell.query.cut.p_size
    if level is not None or (own in plan.percentiles and not cell.query.cut.both_ends):
        found[own] = SessionAverages(**{name: _end(outcome.metrics, name) for name in UNITS})
    percentiles = {**cell.percentiles, **found}
    if level is not None:
        return attrs.evolve(cell, percentiles=percentiles)
    sums = _estimate(outcome.metrics, cell.query)
    return attrs.evolve(cell, metrics=outcome.metrics, error=None, sums=sums, percentiles=percentiles)


def _end(metrics: SessionMetrics, name: str) -> float | None:
    bars = getattr(metrics, name)
    return bars[-1].range_end if bars else None


def _estimate(metrics: SessionMetrics, query: SessionMetricsQuery) -> CellSums:
    """Estimate the sums of a cell from the number of sessions in its histograms.

    The histograms contain at least the share of all sessions that the cut specifies, such as 95 % at p95.
    """
    average = metrics.average
    if average.session_count is None:
        return CellSums(0, 0, 0.0)
    share = 2 * query.cut.share - 1 if query.cut.both_ends else query.cut.share
    drawn = min(getattr(metrics, name).total for name in UNITS)
    if not share:
        return CellSums(drawn, drawn, 0.0, is_exact=False)
    sessions = drawn / share
    return CellSums(
        sessions, sessions * average.session_count, sessions * (average.session_cost or 0.0), is_exact=False
    )


async def _count_sessions(client: Any, cells: dict[Position, GridCell], missing: list[Position]) -> None:
    positions = iter([position for position in missing if cells[position].metrics is not None])

    async def work() -> None:
        for position in positions:
            cells[position] = await _counted(client, cells[position])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_COUNTED_AT_ONCE):
            tasks.create_task(work())


async def _counted(client: Any, cell: GridCell) -> GridCell:
    query = cell.query
    time = query.time_filter or TimeFilter(_EARLIEST, datetime.now(UTC) + timedelta(days=1))
    try:
        count = await client.count_sessions(query.filter, time_filter=time, name=query.name_contains or None)
    except HeliconeError:
        # The service cannot count with this filter, for example a condition on whole sessions. Keep the
        # estimate.
        return cell
    if count.total_cost is None or count.avg_requests is None:
        return cell
    requests = round(count.count * count.avg_requests)
    return attrs.evolve(cell, sums=CellSums(count.count, requests, count.total_cost))
