"""`metrics_grid`: metrics by segment and period, queried as one batch."""

from collections.abc import AsyncIterable, Callable, Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self, overload

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import column_numbers, number
from helicone_sessions.errors import FilterTypeError, FilterValueError, HeliconeError
from helicone_sessions.filters.expression import ALL, Condition, Filter, as_filter
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.tabular import Row, Tabular
from helicone_sessions.report.cells import QUANTITIES, GridCell, Quantity, metric_and_unit, quantity_title
from helicone_sessions.report.comparison import GridComparison
from helicone_sessions.report.grid_json import grid_from_json, grid_to_json
from helicone_sessions.report.periods import Every, Period, PeriodKey, covered_time, periods_of

if TYPE_CHECKING:
    from rich.console import RenderableType

# The indexes of a segment and a period; None is the total over all of them.
Position = tuple[int | None, int | None]
OnProgress = Callable[[int, int | None, int], object]

_EVERYTHING: Final = "all"
_FAILED: Final = "failed"
# A notebook shows no more rows and columns than these.
_MOST_ROWS: Final = 200
_MOST_COLUMNS: Final = 40
_MOST_NAMES: Final = 8


class Outcome(Protocol):
    """The outcome of one query of a batch, as `MetricsOutcome`."""

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
    """The part of `HeliconeClient` that a grid needs."""

    def stream_metrics(
        self, queries: Mapping[Any, SessionMetricsQuery], /
    ) -> AbstractAsyncContextManager[AsyncIterable[Outcome]]:
        """Run the queries, and yield their outcomes as they complete."""


@attrs.frozen(eq=False, repr=False)
class MetricsGrid(Tabular):
    """Metrics by segment and period, as `metrics_grid` returns them.

    Iterate over it for the cells, segment by segment. ``grid[segment, period]`` is one cell; name the period
    by its index, by itself, or by a datetime or a day in it. ``grid[segment]`` is a tuple of the segment's
    cells.

    Args:
        query: The query that all cells have in common.
        segments: The filters of the segments by name.
        periods: The periods in order.
        cells: The cells and totals by the indexes of segment and period; None is the total over all of them.

    >>> import asyncio
    >>> from helicone_sessions import F, HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         return await metrics_grid(client, by=F.model.is_each(["gpt-4o", "o3"]))
    >>> grid = asyncio.run(main())
    >>> len(grid), grid["o3", 0].quantity("dollars_mean"), grid.total().quantity("dollars_mean")
    (2, 0.25, 0.25)
    >>> grid.to_rows()[1]["segment"], MetricsGrid.from_json(grid.to_json()).to_rows() == grid.to_rows()
    ('o3', True)
    >>> grid.failed, grid.compare(grid).to_rows()[2]["ratio"]
    ((), 1.0)
    """

    query: SessionMetricsQuery
    segments: Mapping[Hashable, Filter]
    periods: tuple[Period, ...]
    cells: Mapping[Position, GridCell]

    columns: ClassVar[Mapping[str, str]] = {
        "segment": "the name of the segment",
        "start": "the start of the period",
        "end": "its end, which belongs to the next period",
        "requests_mean": "requests per session, the mean of all sessions",
        "seconds_mean": "seconds from a session's first request to its last, the mean of all sessions",
        "dollars_mean": "dollars per session, the mean of all sessions",
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

    # A segment's name can be such a pair too. Its user has to tell the type checker.
    @overload
    def __getitem__(self, key: tuple[Hashable, PeriodKey]) -> GridCell: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Hashable) -> tuple[GridCell, ...]: ...
    def __getitem__(self, key: Any) -> GridCell | tuple[GridCell, ...]:
        """A cell by segment and period, or the cells of a segment."""
        is_segment = isinstance(key, Hashable) and key in self.segments
        if is_segment or not (isinstance(key, tuple) and len(key) == 2):
            return self._cells_of(self._segment_index(key))
        return self.cells[self._segment_index(key[0]), self._period_index(key[1])]

    @property
    def failed(self) -> tuple[GridCell, ...]:
        """The cells and totals whose query failed."""
        return tuple(cell for cell in self.cells.values() if cell.metrics is None)

    def total(self, segment: Hashable = None, period: PeriodKey | None = None) -> GridCell:
        """The metrics of a segment over the whole time, of a period over all segments, or of everything.

        Totals have queries of their own, because they cannot be added up: a session can lie in several
        periods, and the mean of means is not the mean. "All segments" is everything that the query selects,
        including requests that are in no segment.

        Args:
            segment: The segment; None for all of them.
            period: The period, as in ``grid[segment, period]``; None for the whole time.

        Raises:
            LookupError: There is no such segment or period, or the grid was made without totals.
        """
        first = None if segment is None else self._segment_index(segment)
        second = None if period is None else self._period_index(period)
        # With a single period, or a single segment of everything, the cells are the totals.
        if second is None and len(self.periods) == 1:
            second = 0
        if first is None and _is_everything(self.segments):
            first = 0
        if (first, second) in self.cells:
            return self.cells[first, second]
        raise LookupError(
            "the grid has no such total. Use metrics_grid(..., totals=True), and periods without gaps"
        )

    def to_rows(self) -> list[Row]:
        """A dict for each cell, with the keys of `columns`; totals are left out."""
        return [_row(cell) for cell in self]

    def compare(self, before: "MetricsGrid") -> GridComparison:
        """Compare this grid with an earlier one: segments by name, periods by index.

        Args:
            before: The earlier grid.

        Raises:
            FilterValueError: The earlier grid has other segments or another number of periods.
        """
        if list(self.segments) != list(before.segments) or len(self.periods) != len(before.periods):
            raise FilterValueError(
                argument="before",
                problem=f"has {len(before.segments)} segments and {len(before.periods)} periods, and this"
                f" grid has {len(self.segments)} and {len(self.periods)}",
                remedy="Compare grids with as many periods and the same names of segments",
            )
        return GridComparison(tuple(zip(self, before, strict=True)))

    async def ask_again(
        self, client: MetricsClient, *, on_progress: OnProgress | None = None
    ) -> "MetricsGrid":
        """Run the failed queries again, and return the completed grid; this one does not change.

        Args:
            client: The client that runs them.
            on_progress: As in `metrics_grid`, counting only these queries.

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
        missing = {position: cell for position, cell in self.cells.items() if cell.metrics is None}
        return attrs.evolve(self, cells={**self.cells, **await _run(client, missing, on_progress)})

    def to_json(self) -> str:
        """The grid as JSON, which `from_json` reads back.

        Raises:
            ValueError: JSON cannot hold the name of a segment.
        """
        return grid_to_json(self.query, self.segments, self.periods, self.cells)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The grid that `to_json` wrote; errors come back as `HeliconeError` with their text.

        Args:
            text: The JSON.

        Raises:
            ValueError: The text is something else.
        """
        return cls(*grid_from_json(text))

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


def _row(cell: GridCell) -> Row:
    period = cell.period
    return {
        "segment": cell.segment,
        "start": period and period.start,
        "end": period and period.end,
        **{name: cell.quantity(name) for name in QUANTITIES},
        "sessions_drawn": cell.metrics and cell.metrics.session_cost.total,
        "error": None if cell.error is None else f"{type(cell.error).__name__}: {cell.error}",
    }


async def metrics_grid(
    client: MetricsClient,
    query: SessionMetricsQuery | Condition | None = None,
    *,
    by: Mapping[Any, Condition] | None = None,
    every: Every | None = None,
    time_zone: str | tzinfo | None = None,
    totals: bool = True,
    on_progress: OnProgress | None = None,
) -> MetricsGrid:
    """Query the metrics of each segment in each period, as one batch.

    Args:
        client: The client that runs the queries; its limits apply to the whole grid.
        query: The query that all cells have in common, with the time to divide into periods.
        by: The segments: a filter for each name, as ``F.model.is_each([...])`` gives them. Without it
            there is one segment, "all".
        every: The length of a period, or the time filters of the periods, as `TimeFilter.split` gives them.
            Without it there is one period, the query's whole time.
        time_zone: The time zone of the periods. Periods of whole days follow its calendar, from midnight to
            midnight; without a time zone a day is 24 hours from the start of the time.
        totals: Whether to query the totals of segments and periods too: one query for each segment, one for
            each period, and one for everything.
        on_progress: Called after each query with the numbers of completed queries, of all queries, and of
            failed queries.

    Returns:
        The grid. A cell whose query failed holds the error; `MetricsGrid.ask_again` runs it again.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: There is no time to divide, or no segment.
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
    segments = _segments(by)
    periods = periods_of(common, every, time_zone)
    positions: list[Position] = [(s, p) for s in range(len(segments)) for p in range(len(periods))]
    if totals:
        positions += _totals(segments, periods)
    cells = {position: _cell(position, common, segments, periods) for position in positions}
    return MetricsGrid(common, segments, periods, {**cells, **await _run(client, cells, on_progress)})


def _segments(by: Mapping[Any, Condition] | None) -> dict[Hashable, Filter]:
    if by is None:
        return {_EVERYTHING: ALL}
    if not isinstance(by, Mapping):
        raise FilterTypeError(
            argument="by",
            problem=f"must be a mapping of names to filters, got {by!r}",
            remedy="Pass F.model.is_each([...]), for example",
        )
    if not by:
        raise FilterValueError(
            argument="by", problem="has no segment", remedy="Leave it out for one segment of everything"
        )
    return {name: as_filter(each) for name, each in by.items()}


def _totals(segments: Mapping[Hashable, Filter], periods: tuple[Period, ...]) -> list[Position]:
    """The totals that are not a cell; there are none over periods with gaps between them."""
    over_time = len(periods) > 1 and covered_time(periods) is not None
    over_segments = not _is_everything(segments)
    found: list[Position] = []
    if over_time:
        found += [(segment, None) for segment in range(len(segments))]
    if over_segments:
        found += [(None, period) for period in range(len(periods))]
    if over_time and over_segments:
        found.append((None, None))
    return found


def _cell(
    position: Position,
    common: SessionMetricsQuery,
    segments: Mapping[Hashable, Filter],
    periods: tuple[Period, ...],
) -> GridCell:
    segment, period = position
    name: Hashable = None
    changes: dict[str, Any] = {
        "time_filter": covered_time(periods) if period is None else periods[period].time_filter
    }
    if segment is not None:
        name, narrowed = list(segments.items())[segment]
        changes["filter"] = narrowed if common.filter is None else common.filter & narrowed
    return GridCell(name, None if period is None else periods[period], attrs.evolve(common, **changes))


async def _run(
    client: MetricsClient, cells: Mapping[Position, GridCell], on_progress: OnProgress | None
) -> dict[Position, GridCell]:
    """The cells with the outcomes of their queries."""
    completed: dict[Position, GridCell] = {}
    failed = 0
    async with client.stream_metrics({position: cell.query for position, cell in cells.items()}) as outcomes:
        async for outcome in outcomes:
            failed += outcome.error is not None
            completed[outcome.key] = attrs.evolve(
                cells[outcome.key], metrics=outcome.metrics, error=outcome.error
            )
            if on_progress is not None:
                on_progress(len(completed), len(cells), failed)
    return completed


def grid_to_html(
    grid: MetricsGrid, quantity: Quantity = "dollars_mean", others: str = ".to_rows(), .to_pandas()"
) -> str:
    """A grid as an HTML table: a row for each period, a column for each segment; darker is more.

    Args:
        grid: The grid.
        quantity: The number to show of each cell.
        others: Where to find the other quantities, for the note below the table.

    Raises:
        ValueError: There is no quantity of that name.
    """
    _, unit = metric_and_unit(quantity)
    most = max((value for cell in grid if (value := cell.quantity(quantity)) is not None), default=0.0) or 1.0

    def shown(cell: GridCell) -> html.Cell:
        if cell.metrics is None:
            return html.Cell(_FAILED, tip=f"{type(cell.error).__name__}: {cell.error}")
        value = cell.quantity(quantity)
        return html.Cell(number(value, unit), (value or 0.0) / most)

    columns = range(len(grid.segments))
    rows = [
        (str(period), [shown(grid.cells[segment, index]) for segment in columns[:_MOST_COLUMNS]])
        for index, period in enumerate(grid.periods[:_MOST_ROWS])
    ]
    left_out = [
        f" {count:,} more {name} are not shown."
        for name, count in (
            ("periods", len(grid.periods) - _MOST_ROWS),
            ("segments", len(grid.segments) - _MOST_COLUMNS),
        )
        if count > 0
    ]
    note = f"In {unit}.{''.join(left_out)} Other quantities: {others}."
    heads = map(str, list(grid.segments)[:_MOST_COLUMNS])
    return html.table(quantity_title(quantity, grid.query), heads, rows, note)


def grid_to_terminal(grid: MetricsGrid, quantity: Quantity = "dollars_mean") -> "RenderableType":
    """A grid as a terminal table (extra ``cli``).

    A grid of several periods has a line for each period and a column for each segment. A grid of one period
    has a line for each segment, with all quantities.

    Args:
        grid: The grid.
        quantity: The number to show of each cell, if there are several periods.

    Raises:
        ValueError: There is no quantity of that name.
    """
    from helicone_sessions.display import terminal  # noqa: PLC0415 - rich is an extra

    _, unit = metric_and_unit(quantity)
    names = [str(name) for name in grid.segments]
    if len(grid.periods) == 1:
        heads = [name.replace("_", " ") for name in QUANTITIES]
        columns = [_texts(grid, kind, QUANTITIES[kind][1]) for kind in QUANTITIES]
        title = f"Sessions by segment, {grid.periods[0]}"
        return terminal.NumberTable(title, heads, zip(names, zip(*columns, strict=True), strict=True))
    texts = _texts(grid, quantity, unit)
    count = len(grid.periods)
    rows = [(str(period), texts[index::count]) for index, period in enumerate(grid.periods)]
    return terminal.NumberTable(quantity_title(quantity, grid.query), names, rows)


def _texts(grid: MetricsGrid, quantity: Quantity, unit: str) -> list[str]:
    """One quantity of all cells, segment by segment."""
    numbers = column_numbers([cell.quantity(quantity) for cell in grid], unit)
    return [_FAILED if cell.metrics is None else text for cell, text in zip(grid, numbers, strict=True)]
