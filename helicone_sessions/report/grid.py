"""Grids of metrics by segment and period, queried as one batch."""

import asyncio
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, get_args, overload

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import column_numbers
from helicone_sessions.errors import FilterValueError, HeliconeError
from helicone_sessions.filters.constants import zone_of
from helicone_sessions.filters.expression import ALL, Condition, Filter
from helicone_sessions.messages.converter import converter, metrics_from
from helicone_sessions.messages.grid_query import GridQuery, GroupBy, Position
from helicone_sessions.messages.metrics import PSize, SessionAverages, with_cut
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter
from helicone_sessions.messages.tabular import Row, Tabular, json_text
from helicone_sessions.report.cells import (
    CUTS,
    MEANS,
    QUANTITIES,
    TOTALS,
    CellSums,
    GridCell,
    Quantity,
    quantiles,
    quantity_title,
    unit_of,
)
from helicone_sessions.report.comparison import GridComparison
from helicone_sessions.report.fill import (
    SAMPLED_PAGE,
    SAMPLED_PARTS,
    By,
    MetricsClient,
    OnProgress,
    Plan,
    Segments,
    everything,
    fill,
    group_by,
    named_segments,
    segments_of_values,
    values_in_sample,
)
from helicone_sessions.report.periods import Every, Period, PeriodKey, covered_time, periods_of

if TYPE_CHECKING:
    from rich.console import RenderableType

_FAILED: Final = "failed"
_TOTAL: Final = "total"
# The maximum numbers of rows and columns shown in a notebook.
_MOST_ROWS: Final = 200
_MOST_COLUMNS: Final = 40
_MOST_NAMES: Final = 8


@attrs.frozen(repr=False)
class MetricsGrid(Tabular):
    """Metrics by segment and period, as returned by `metrics_grid`.

    Iterating over a grid yields its cells, segment by segment. ``grid[segment, period]`` is one cell, where
    the period is an index, a `Period`, or a datetime or date in the period. ``grid[segment]`` is a tuple of
    the cells of a segment.

    Args:
        query: The query that all cells have in common.
        segments: The filters of the segments, by name.
        periods: The periods in order.
        cells: The cells and totals, keyed by the indexes of segment and period. An index of None means
            the total over all segments or periods.
        percentiles: The quantiles that were requested for each cell.
        exact_sums: Whether exact sums were requested from the service.
        note: A note on how the segments were found, if they are the values of a column.

    >>> import asyncio
    >>> from helicone_sessions import F, HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         return await metrics_grid(client, by=F.model.is_each(["gpt-4o", "o3"]))
    >>> grid = asyncio.run(main())
    >>> len(grid), grid["o3", 0].quantity("dollars_mean"), grid.total().quantity("dollars_mean")
    (2, 0.25, 0.25)
    >>> grid.to_rows()[1]["segment"], MetricsGrid.from_json(grid.to_json()) == grid
    ('o3', True)
    >>> grid.failed, grid.compare(grid).to_rows()[2]["ratio"]
    ((), 1.0)
    """

    query: SessionMetricsQuery
    segments: Mapping[Hashable, Filter]
    periods: tuple[Period, ...]
    cells: Mapping[Position, GridCell]
    percentiles: tuple[PSize, ...] = ()
    exact_sums: bool = False
    note: str = ""

    columns: ClassVar[Mapping[str, str]] = {
        "segment": "the name of the segment",
        "start": "the start of the period",
        "end": "its end, which belongs to the next period",
        "requests_mean": "requests per session, the mean of all sessions",
        "seconds_mean": "seconds from a session's first request to its last, the mean of all sessions",
        "dollars_mean": "dollars per session, the mean of all sessions",
        "sessions": "number of sessions",
        "requests_total": "number of requests",
        "dollars_total": "dollars of all requests",
        "sums": "whether the three numbers before are exact or estimated",
        "requests_cut": "requests of the largest session that is drawn: close to the quantile of p_size",
        "seconds_cut": "seconds of the longest session that is drawn",
        "dollars_cut": "dollars of the most expensive session that is drawn",
        "sessions_drawn": "number of sessions in the histogram of costs: the share p_size of all",
        "error": "the error if the query failed",
    }
    column_types: ClassVar[Mapping[str, type]] = {
        "start": datetime,
        "end": datetime,
        **dict.fromkeys((*QUANTITIES, "sessions_drawn"), float),
    }

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns of the rows: those in `columns`, and the requested percentiles.

        >>> MetricsGrid(SessionMetricsQuery(), {}, (), {}, percentiles=("p95",)).column_names[-1]
        'dollars_p95'
        """
        return (*self.columns, *quantiles(self.percentiles))

    def __repr__(self) -> str:
        failed = f", {len(self.failed):,} failed" if self.failed else ""
        return (
            f"<MetricsGrid of {len(self.segments):,} segments in {len(self.periods):,} periods,"
            f" {self.periods[0]} to {self.periods[-1]}{failed}>"
        )

    def __iter__(self) -> Iterator[GridCell]:
        for segment in range(len(self.segments)):
            yield from self._cells_of(segment)

    def __len__(self) -> int:
        return len(self.segments) * len(self.periods)

    # The name of a segment can also be such a pair, but the type checker cannot know this.
    @overload
    def __getitem__(self, key: tuple[Hashable, PeriodKey]) -> GridCell: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Hashable) -> tuple[GridCell, ...]: ...
    def __getitem__(self, key: Any) -> GridCell | tuple[GridCell, ...]:
        """Return the cell of a segment and period, or all cells of a segment."""
        is_segment = isinstance(key, Hashable) and key in self.segments
        if is_segment or not (isinstance(key, tuple) and len(key) == 2):
            return self._cells_of(self._segment_index(key))
        return self.cells[self._segment_index(key[0]), self._period_index(key[1])]

    @property
    def plan(self) -> Plan:
        """The properties that all cells share."""
        return Plan(self.query, self.segments, self.periods, self.percentiles, self.exact_sums)

    @property
    def failed(self) -> tuple[GridCell, ...]:
        """The cells and totals whose query failed or has not run."""
        return tuple(cell for cell in self.cells.values() if cell.metrics is None)

    def total(self, segment: Hashable = None, period: PeriodKey | None = None) -> GridCell:
        """Return the total of a segment over all periods, of a period over all segments, or of everything.

        Totals come from separate queries. They cannot be computed from the cells, because a session can be in
        several periods, and the mean of means is not the mean. The total over all segments covers everything
        that the query selects, including requests that are in no segment.

        Args:
            segment: The segment; None for all segments.
            period: The period, as in ``grid[segment, period]``; None for the whole time range.

        Raises:
            LookupError: There is no such segment or period, or the grid was created without totals.
        """
        first = None if segment is None else self._segment_index(segment)
        second = None if period is None else self._period_index(period)
        # If there is only one period, or one segment of everything, the cells are the totals.
        if second is None and len(self.periods) == 1:
            second = 0
        if first is None and _is_everything(self.segments):
            first = 0
        if (first, second) in self.cells:
            return self.cells[first, second]
        raise LookupError(
            "the grid has no such total. Use metrics_grid(..., totals=True), and periods without gaps"
        )

    @property
    def totals(self) -> "GridTotals":
        """The totals over segments and periods as a table, with the same columns as the grid."""
        return GridTotals(self)

    def to_rows(self) -> list[Row]:
        """Return a dict for each cell, with the keys in `column_names`.

        For the totals, use ``totals.to_rows()``.
        """
        return [_row(self, cell) for cell in self]

    def compare(self, before: "MetricsGrid") -> GridComparison:
        """Compare this grid with an earlier one.

        Segments are matched by name, and periods by index.

        Args:
            before: The earlier grid.

        Raises:
            FilterValueError: The grids differ in their segments or in the number of periods.
        """
        if len(self.periods) != len(before.periods):
            raise FilterValueError(
                argument="before",
                problem=f"has {len(before.periods)} periods, and this grid has {len(self.periods)}",
                remedy="Compare grids with the same number of periods",
            )
        if others := [*self.segments.keys() ^ before.segments.keys()]:
            shown = ", ".join(map(repr, others[:_MOST_NAMES])) + (", …" if len(others) > _MOST_NAMES else "")
            raise FilterValueError(
                argument="before",
                problem=f"has other segments: only one of the grids has {shown}",
                remedy="Use the same segments for both, for example by=this_week.segments",
            )
        earlier = [cell for name in self.segments for cell in before[name]]
        return GridComparison(tuple(zip(self, earlier, strict=True)), self.query)

    async def ask_again(
        self, client: MetricsClient, *, on_progress: OnProgress | None = None
    ) -> "MetricsGrid":
        """Run the missing queries and return the completed grid.

        This grid does not change.

        Args:
            client: The client that runs the queries.
            on_progress: Called as in `metrics_grid`. Only the missing queries are counted.

        Raises:
            AuthenticationError: The service rejects the key.

        >>> import asyncio
        >>> from helicone_sessions import HeliconeClient
        >>> from helicone_sessions.testing import FakeHelicone, Reply
        >>> async def main():
        ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
        ...         fake.will_answer(Reply(400, "not now"))
        ...         grid = await metrics_grid(client)
        ...         return len(grid.failed), len((await grid.ask_again(client)).failed)
        >>> asyncio.run(main())
        (1, 0)
        """
        return await _filled(client, self, on_progress)

    def to_json(self) -> str:
        """Return the grid as JSON that `from_json` can read.

        Raises:
            ValueError: The name of a segment cannot be represented in JSON.
        """
        return grid_to_json(self.plan, self.cells, self.note)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a grid from the JSON that `to_json` returns.

        Errors of cells are restored as `HeliconeError` with the original text.

        Args:
            text: The JSON.

        Raises:
            ValueError: The text is not the JSON of a grid.
        """
        plan, cells, note = grid_from_json(text)
        return cls(plan.query, plan.segments, plan.periods, cells, plan.percentiles, plan.exact_sums, note)

    def _repr_html_(self) -> str:
        return grid_to_html(self)

    def __rich__(self) -> "RenderableType":
        return grid_to_terminal(self)

    def _cells_of(self, segment: int) -> tuple[GridCell, ...]:
        return tuple(self.cells[segment, period] for period in range(len(self.periods)))

    def _segment_index(self, name: Any) -> int:
        names = list(self.segments)
        if name in names:
            return names.index(name)
        shown = ", ".join(map(repr, names[:_MOST_NAMES]))
        more = ", …" if len(names) > _MOST_NAMES else ""
        raise LookupError(f"there is no segment {name!r}. Use one of {shown}{more}")

    def _period_index(self, key: PeriodKey) -> int:
        if isinstance(key, int) and not isinstance(key, bool):
            if -len(self.periods) <= key < len(self.periods):
                return key % len(self.periods)
        elif isinstance(key, Period):
            if key in self.periods:
                return self.periods.index(key)
        elif isinstance(key, date):
            for index, period in enumerate(self.periods):
                if key in period:
                    return index
        raise LookupError(
            f"there is no period {key!r} among the {len(self.periods)} from {self.periods[0]} to"
            f" {self.periods[-1]}. Use an index, or a datetime or date in a period"
        )


def _is_everything(segments: Mapping[Hashable, Filter]) -> bool:
    return list(segments.values()) == [ALL]


def _row(grid: MetricsGrid, cell: GridCell) -> Row:
    """Return the row of a cell or total, with the keys in `MetricsGrid.column_names`."""
    period = cell.period

    def quantities(names: Iterable[Quantity]) -> Row:
        return {name: cell.quantity(name) for name in names}

    return {
        "segment": cell.segment,
        "start": period and period.start,
        "end": period and period.end,
        **quantities((*MEANS, *TOTALS)),
        "sums": cell.sums and ("exact" if cell.sums.is_exact else "estimated"),
        **quantities(CUTS),
        "sessions_drawn": cell.metrics and cell.metrics.session_cost.total,
        "error": None if cell.error is None else f"{type(cell.error).__name__}: {cell.error}",
        **quantities(quantiles(grid.percentiles)),
    }


@attrs.frozen
class GridTotals(Tabular):
    """The totals of a grid as rows.

    A row with a segment of None has the total over all segments.

    Args:
        grid: The grid.

    >>> import asyncio
    >>> from helicone_sessions import F, HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         return await metrics_grid(client, by=F.model.is_each(["gpt-4o", "o3"]))
    >>> [row["segment"] for row in asyncio.run(main()).totals.to_rows()]
    [None]
    """

    grid: MetricsGrid

    columns: ClassVar[Mapping[str, str]] = MetricsGrid.columns
    column_types: ClassVar[Mapping[str, type]] = MetricsGrid.column_types

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns of the rows, the same as in the grid."""
        return self.grid.column_names

    def to_rows(self) -> list[Row]:
        """Return a dict for each total, with the keys in `column_names`."""
        grid = self.grid
        first, last = grid.periods[0], grid.periods[-1]
        rows = []
        for (segment, period), cell in grid.cells.items():
            if segment is None or period is None:
                row = _row(grid, cell)
                if period is None:
                    row |= {"start": first.start, "end": last.end}
                rows.append(row)
        return rows


async def metrics_grid(
    client: MetricsClient,
    query: SessionMetricsQuery | Condition | None = None,
    *,
    by: By | None = None,
    top: int | None = None,
    every: Every | None = None,
    time_zone: str | tzinfo | None = None,
    totals: bool = True,
    percentiles: Iterable[PSize] = (),
    exact_sums: bool = False,
    on_progress: OnProgress | None = None,
) -> MetricsGrid:
    """Get the metrics of each segment in each period, as one batch of queries.

    The embedded engine runs one statement for the whole grid. The service is queried cell by cell. If the
    call is cancelled, the `asyncio.CancelledError` has an attribute ``grid``, which contains the completed
    cells. To run the remaining queries, call `MetricsGrid.ask_again` on that grid.

    Args:
        client: The client that runs the queries. Its limits apply to the whole grid.
        query: The query that all cells have in common. Its time range is divided into periods.
        by: The segments. Pass a mapping of names to filters, for example ``F.model.is_each([...])``, or a
            column such as ``F.model``, ``"model"`` or ``F.properties["tier"]`` to get one segment per value.
            On the service, the values are taken from a sample of up to 10,000 requests, and
            `MetricsGrid.note` says so. By default, there is a single segment named "all".
        top: The maximum number of segments if *by* is a column. The values with the highest total cost are
            kept; None keeps all.
        every: The length of a period, for example ``"1d"``, or a list of the time filters of all periods, for
            example from `TimeFilter.split`. By default, the whole time range of the query is one period. Each
            period includes its start.
        time_zone: The time zone of the periods. With a time zone, periods of whole days run from midnight to
            midnight. By default, a day is 24 hours, counted from the start of the time range.
        totals: Whether to get the totals of segments and periods as well. This takes one query per segment,
            one per period, and one for everything.
        percentiles: The quantiles of all sessions to get for each cell, for example ``["p50", "p95"]``. They
            are exact. On the service, each quantile takes one extra query per cell.
        exact_sums: Whether to get exact sums of sessions, requests and dollars from the service, with one
            extra query per cell. Otherwise, the sums from the service are estimates. The service counts only
            requests with a session id. The sums from the embedded engine are always exact.
        on_progress: Called after each query with the numbers of completed queries, all queries and failed
            queries.

    Returns:
        The grid. If the query of a cell failed, the cell contains the error. `MetricsGrid.ask_again` runs
        failed queries again.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: There is no time range to divide, or there are no segments.
        AuthenticationError: The service rejects the key.

    >>> import asyncio, datetime as dt
    >>> from helicone_sessions import F, HeliconeClient, TimeFilter
    >>> from helicone_sessions.testing import FakeHelicone
    >>> november = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    >>> async def main():
    ...     week = SessionMetricsQuery(time_filter=TimeFilter(november, november + dt.timedelta(days=7)))
    ...     models = F.model.is_each(["gpt-4o", "o3"])
    ...     async with FakeHelicone() as server:
    ...         async with HeliconeClient(server.api_key, base_url=server.url) as client:
    ...             return await metrics_grid(client, week, by=models, every=dt.timedelta(days=1))
    >>> grid = asyncio.run(main())
    >>> len(grid), str(grid["o3", 2].period)
    (14, '2026-11-03')
    """
    common = query if isinstance(query, SessionMetricsQuery) else SessionMetricsQuery(query)
    column = group_by(by, top)
    periods = periods_of(common, every, time_zone)
    levels = _levels(percentiles)
    note = ""
    if by is None:
        segments = everything()
    elif column is None:
        segments = named_segments(by)  # type: ignore[arg-type] # else there is a column
    else:
        segments, note = await _found_segments(client, common, column)
    plan = Plan(common, segments, periods, levels, exact_sums)
    positions: list[Position] = [(s, p) for s in range(len(segments)) for p in range(len(periods))]
    if totals:
        positions += _totals(segments, periods)
    cells = {position: plan.cell(position) for position in positions}
    grid = MetricsGrid(common, segments, periods, cells, levels, exact_sums, note)
    return await _filled(client, grid, on_progress)


async def _filled(client: MetricsClient, grid: MetricsGrid, on_progress: OnProgress | None) -> MetricsGrid:
    cells = dict(grid.cells)
    try:
        await fill(client, grid.plan, cells, on_progress)
    except asyncio.CancelledError as error:
        error.grid = attrs.evolve(grid, cells=cells)  # type: ignore[attr-defined]
        raise
    return attrs.evolve(grid, cells=cells)


async def _found_segments(client: Any, query: SessionMetricsQuery, column: GroupBy) -> tuple[Segments, str]:
    """Find the segments for the values of a column; return them with a note on how they were found."""
    if not client.offers_grid:
        # Send one query first: only a response shows whether the server can answer whole grids.
        await client.get_metrics(query)
    if client.offers_grid:
        figures = await client.query_grid(GridQuery(query, column))
        values = figures.values or ()
        if not values:
            raise FilterValueError(
                argument="by",
                problem="finds no request that matches",
                remedy="Use a longer time range or another filter",
            )
        return segments_of_values(column, values), ""
    values = await values_in_sample(client, query, column)
    count = SAMPLED_PARTS * SAMPLED_PAGE
    note = f"The segments are the values in up to {count:,} requests; rare ones can be missing."
    return segments_of_values(column, values), note


def _levels(percentiles: Iterable[PSize]) -> tuple[PSize, ...]:
    found = tuple(percentiles)
    for level in found:
        if level not in get_args(PSize):
            raise FilterValueError(
                argument="percentiles",
                problem=f"must be among {', '.join(get_args(PSize))}, got {level!r}",
                remedy="Leave it out",
            )
    return found


def _totals(segments: Segments, periods: tuple[Period, ...]) -> list[Position]:
    found: list[Position] = []
    over_time = len(periods) > 1 and covered_time(periods) is not None
    over_segments = not _is_everything(segments)
    if over_time:
        found += [(segment, None) for segment in range(len(segments))]
    if over_segments:
        found += [(None, period) for period in range(len(periods))]
    if over_time and over_segments:
        found.append((None, None))
    return found


def grid_to_html(
    grid: MetricsGrid, quantity: Quantity = "dollars_mean", others: str = ".to_rows(), .to_pandas()"
) -> str:
    """Render a grid as an HTML table, with a row per period and a column per segment.

    Darker cells have higher values.

    Args:
        grid: The grid.
        quantity: The quantity to show for each cell.
        others: Where to find the other quantities, for the note below the table.

    Raises:
        ValueError: There is no quantity of that name.
    """
    unit = unit_of(quantity)
    most = max((value for cell in grid if (value := cell.quantity(quantity)) is not None), default=0.0) or 1.0

    def shown(cell: GridCell, text: str) -> html.Cell:
        return _html_cell(cell, text, (cell.quantity(quantity) or 0.0) / most, len(grid.periods))

    segments, periods, left_out = _shown(grid)
    columns = []
    for segment in segments:
        cells = [grid.cells[segment, period] for period in periods]
        columns.append(list(map(shown, cells, _texts(cells, quantity))))
    labels = [_period_name(grid, period) for period in periods]
    rows = zip(labels, zip(*columns, strict=True), strict=True)
    note = " ".join(filter(None, [f"In {unit}.", left_out, f"Other quantities: {others}.", grid.note]))
    heads = [_segment_name(grid, segment) for segment in segments]
    return html.table(quantity_title(quantity, grid.query), heads, rows, note)


def _html_cell(cell: GridCell, text: str, share: float, period_count: int) -> html.Cell:
    if cell.metrics is None:
        return html.Cell(text, tip=f"{type(cell.error).__name__}: {cell.error}")
    # Totals are not shaded, because they are not comparable with the cells.
    is_total = cell.segment is None or (cell.period is None and period_count > 1)
    return html.Cell(text, 0.0 if is_total else share)


def grid_to_terminal(grid: MetricsGrid, quantity: Quantity = "dollars_mean") -> "RenderableType":
    """Render a grid as a terminal table (extra ``cli``).

    If the grid has several periods, the table has a line per period and a column per segment. If it has one
    period, the table has a line per segment and shows all quantities.

    Args:
        grid: The grid.
        quantity: The quantity to show for each cell, if there are several periods.

    Raises:
        ValueError: There is no quantity of that name.
    """
    from helicone_sessions.display import terminal

    unit_of(quantity)
    segments, periods, left_out = _shown(grid)
    names = [_segment_name(grid, segment) for segment in segments]
    if len(grid.periods) == 1:
        kinds = (*MEANS, *TOTALS, *CUTS, *quantiles(grid.percentiles))
        columns = [_texts([grid.cells[segment, 0] for segment in segments], kind) for kind in kinds]
        heads = [kind.replace("_", " ") for kind in kinds]
        title = f"Sessions by segment, {grid.periods[0].span()}"
        rows = zip(names, zip(*columns, strict=True), strict=True)
        return terminal.NumberTable(title, heads, rows, note=left_out)
    columns = [_texts([grid.cells[segment, period] for period in periods], quantity) for segment in segments]
    labels = [_period_name(grid, period) for period in periods]
    rows = zip(labels, zip(*columns, strict=True), strict=True)
    return terminal.NumberTable(quantity_title(quantity, grid.query), names, rows, note=left_out)


def _shown(grid: MetricsGrid) -> tuple[list[int | None], list[int | None], str]:
    """Return the segments and periods to show in a table, and a sentence about the others."""
    segments, periods = _indexes(grid, 0), _indexes(grid, 1)
    # If there is only one period, each segment is a line of the terminal table.
    most = _MOST_ROWS if len(grid.periods) == 1 else _MOST_COLUMNS
    columns, lines = _shortened(segments, most), _shortened(periods, _MOST_ROWS)
    left_out = [
        f"{len(all_) - len(shown):,} more {name} are not shown."
        for name, all_, shown in (("periods", periods, lines), ("segments", segments, columns))
        if len(all_) > len(shown)
    ]
    return columns, lines, " ".join(left_out)


def _indexes(grid: MetricsGrid, axis: Literal[0, 1]) -> list[int | None]:
    """Return the indexes of the segments (axis 0) or periods (axis 1) of a table.

    If the grid has totals, their index is None.
    """
    count = (len(grid.segments), len(grid.periods))[axis]
    positions = [position[axis] for position in grid.cells]
    # A grid with only one segment or period has no grand total.
    is_complete = axis == 0 or len(grid.periods) > 1
    return [*range(count), *([None] if None in positions and is_complete else [])]


def _shortened(indexes: list[int | None], most: int) -> list[int | None]:
    """Return the first *most* indexes, and None for the totals."""
    totals = [index for index in indexes if index is None]
    return [*indexes[: len(indexes) - len(totals)][:most], *totals]


def _segment_name(grid: MetricsGrid, index: int | None) -> str:
    return _TOTAL if index is None else str(list(grid.segments)[index])


def _period_name(grid: MetricsGrid, index: int | None) -> str:
    return _TOTAL if index is None else str(grid.periods[index])


def _texts(cells: list[GridCell], quantity: Quantity) -> list[str]:
    """Format one quantity of the cells of a column."""
    numbers = column_numbers([cell.quantity(quantity) for cell in cells], unit_of(quantity))
    return [_FAILED if cell.metrics is None else text for cell, text in zip(cells, numbers, strict=True)]


_VERSION: Final = 2


def grid_to_json(plan: Plan, cells: Mapping[Position, GridCell], note: str) -> str:
    """Return the parts of a `MetricsGrid` as JSON.

    The queries of the cells are left out because the plan determines them.

    Raises:
        ValueError: The name of a segment cannot be represented in JSON.
    """
    for name in plan.segments:
        if name is not None and not isinstance(name, (str, int, float)):
            raise ValueError(f"JSON cannot hold the segment name {name!r}. Use a string or a number")
    time = plan.query.time_filter
    return json_text(
        {
            "version": _VERSION,
            "query": converter.unstructure(attrs.evolve(plan.query, time_filter=None)),
            "time": time and _time_to_json(time),
            "segments": [{"name": name, "filter": each.to_wire()} for name, each in plan.segments.items()],
            "periods": [_period_to_json(period) for period in plan.periods],
            "percentiles": plan.percentiles,
            "exactSums": plan.exact_sums,
            "note": note,
            "cells": [_cell_to_json(position, cell) for position, cell in cells.items()],
        }
    )


def _cell_to_json(position: Position, cell: GridCell) -> dict[str, Any]:
    return {
        "position": position,
        "metrics": cell.metrics and converter.unstructure(cell.metrics),
        "error": cell.error and f"{type(cell.error).__name__}: {cell.error}",
        "sums": cell.sums and attrs.asdict(cell.sums),
        "percentiles": {level: each.to_dict() for level, each in cell.percentiles.items()},
    }


def grid_from_json(text: str | bytes) -> tuple[Plan, dict[Position, GridCell], str]:
    """Read the plan, cells and note from the JSON that `grid_to_json` returns.

    Raises:
        ValueError: The text is not the JSON of a grid.
    """
    try:
        return _parts(json.loads(text))
    except Exception as error:  # noqa: BLE001 - any error means that this is not the JSON of a grid
        raise ValueError(f"this is not the JSON of MetricsGrid.to_json(): {error!r}") from None


def _parts(wire: Any) -> tuple[Plan, dict[Position, GridCell], str]:
    if wire["version"] != _VERSION:
        raise ValueError(f"expected version {_VERSION}, got {wire['version']!r}")
    time = wire["time"] and _time_from_json(wire["time"])
    plan = Plan(
        attrs.evolve(converter.structure(wire["query"], SessionMetricsQuery), time_filter=time),
        {each["name"]: Filter.from_wire(each["filter"]) for each in wire["segments"]},
        tuple(_period_from_json(each) for each in wire["periods"]),
        tuple(wire["percentiles"]),
        wire["exactSums"],
    )
    cells: dict[Position, GridCell] = {}
    for each in wire["cells"]:
        segment, period = each["position"]
        cells[segment, period] = _cell_from_json(plan.cell((segment, period)), each)
    return plan, cells, wire["note"]


def _cell_from_json(cell: GridCell, wire: Mapping[str, Any]) -> GridCell:
    metrics = None if wire["metrics"] is None else metrics_from(wire["metrics"])
    return attrs.evolve(
        cell,
        metrics=None if metrics is None else with_cut(metrics, cell.query.cut),
        error=None if wire["error"] is None else HeliconeError(wire["error"]),
        sums=None if wire["sums"] is None else CellSums(**wire["sums"]),
        percentiles={level: SessionAverages(**each) for level, each in wire["percentiles"].items()},
    )


def _time_to_json(time: TimeFilter) -> dict[str, Any]:
    return {
        "start": time.start.isoformat(),
        "end": time.end.isoformat(),
        "timeZone": getattr(time.time_zone, "key", None),
    }


def _time_from_json(wire: Mapping[str, Any]) -> TimeFilter:
    return TimeFilter(wire["start"], wire["end"], wire["timeZone"])


def _period_to_json(period: Period) -> Any:
    if period.start is None or period.end is None:
        return None
    return {
        "start": period.start.isoformat(),
        "end": period.end.isoformat(),
        "everySeconds": period.every and period.every.total_seconds(),
        "timeZone": getattr(period.start.tzinfo, "key", None),
        "time": period.time_filter and _time_to_json(period.time_filter),
    }


def _period_from_json(wire: Any) -> Period:
    if wire is None:
        return Period(None, None, None)
    start, end = (datetime.fromisoformat(wire[name]) for name in ("start", "end"))
    if zone := wire.get("timeZone"):
        start, end = (moment.astimezone(zone_of(zone)) for moment in (start, end))
    every = None if wire.get("everySeconds") is None else timedelta(seconds=wire["everySeconds"])
    return Period(start, end, wire["time"] and _time_from_json(wire["time"]), every)
