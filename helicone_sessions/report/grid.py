"""`metrics_grid`: metrics by segment and window, asked for as one batch."""

from collections.abc import Hashable, Iterator, Mapping
from datetime import date, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, overload

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import number
from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.filter import ALL, Condition, Filter, as_filter
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.tabular import Row, Tabular
from helicone_sessions.report.cells import (
    QUANTITIES,
    GridCell,
    OnProgress,
    Quantity,
    ask,
    figure_of,
    quantity_title,
)
from helicone_sessions.report.comparison import GridComparison
from helicone_sessions.report.grid_json import grid_from_json, grid_to_json
from helicone_sessions.report.windows import Every, Window, WindowKey, whole_of, windows_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from helicone_sessions.transport.client import HeliconeClient

Place = tuple[int | None, int | None]

_EVERYTHING: Final = "all"
_FAILED: Final = "failed"
# A notebook shows no more rows than this.
_MOST_ROWS: Final = 200


@attrs.frozen(eq=False)
class MetricsGrid(Tabular):
    """Metrics by segment and window, as `metrics_grid` makes it.

    Iterating gives the cells, segment by segment. ``grid[segment, window]`` is one of them; a window is
    named by its place, by itself, or by a datetime or a day in it. ``grid[segment]`` is a segment's cells.

    Args:
        query: What all cells have in common.
        segments: The segments, by name.
        windows: The windows, in order.
        cells: The cells and the totals, by their places; None in a place is the total over it.

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
    windows: tuple[Window, ...]
    cells: Mapping[Place, GridCell] = attrs.field(repr=False)

    columns: ClassVar[Mapping[str, str]] = {
        "segment": "the name of the segment",
        "start": "where its window starts",
        "end": "where it ends; the next one starts there",
        "requests_mean": "requests per session, the mean of all sessions",
        "seconds_mean": "seconds from a session's first request to its last, the mean of all",
        "dollars_mean": "dollars per session, the mean of all",
        "requests_cut": "requests of the largest session that is drawn: close to the quantile of p_size",
        "seconds_cut": "seconds of the longest",
        "dollars_cut": "dollars of the most expensive",
        "sessions_drawn": "how many sessions the histogram of costs holds: the share p_size of all",
        "error": "why there are no figures",
    }

    def __iter__(self) -> Iterator[GridCell]:
        for segment in range(len(self.segments)):
            for window in range(len(self.windows)):
                yield self.cells[segment, window]

    def __len__(self) -> int:
        return len(self.segments) * len(self.windows)

    # Such a pair may be the name of a segment too; who names one so has to tell the checker.
    @overload
    def __getitem__(self, where: tuple[Hashable, WindowKey]) -> GridCell: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, where: Hashable) -> tuple[GridCell, ...]: ...
    def __getitem__(self, where: Any) -> GridCell | tuple[GridCell, ...]:
        """A cell by segment and window, or the cells of a segment."""
        names = list(self.segments)
        is_segment = isinstance(where, Hashable) and where in self.segments
        if is_segment or not (isinstance(where, tuple) and len(where) == 2):
            segment = self._segment(where, names)
            return tuple(self.cells[segment, place] for place in range(len(self.windows)))
        return self.cells[self._segment(where[0], names), self._window(where[1])]

    @property
    def failed(self) -> tuple[GridCell, ...]:
        """The cells and totals without an answer."""
        return tuple(cell for cell in self.cells.values() if cell.metrics is None)

    def total(self, segment: Hashable = None, window: WindowKey | None = None) -> GridCell:
        """The metrics of a segment over the whole time, of a window over all segments, or of everything.

        They are asked for, not added up: a session may lie in several windows, and no sum of means is a
        mean. "All segments" is what the query selects, whether it is in a segment or in none.

        Args:
            segment: The segment; None is all of them.
            window: The window, as in ``grid[segment, window]``; None is the whole time.

        Raises:
            LookupError: There is none of that name, or the totals were not asked for.
        """
        names = list(self.segments)
        place = (
            None if segment is None else self._segment(segment, names),
            None if window is None else self._window(window),
        )
        # Over one window, or over one segment of everything, the cells are the totals.
        if place[1] is None and len(self.windows) == 1:
            place = (place[0], 0)
        if place[0] is None and list(self.segments.values()) == [ALL]:
            place = (0, place[1])
        if place in self.cells:
            return self.cells[place]
        raise LookupError(
            "this total was not asked for: use metrics_grid(..., totals=True), with windows that meet"
        )

    def to_rows(self) -> list[Row]:
        """A dict for each cell, with the keys of `columns`; totals are not among them."""
        return [_row(cell) for cell in self]

    def compare(self, before: "MetricsGrid") -> GridComparison:
        """How this grid differs from one of an earlier time: segments by name, windows by place.

        Args:
            before: The earlier grid.

        Raises:
            FilterValueError: They have other segments, or not as many windows.
        """
        if list(self.segments) != list(before.segments) or len(self.windows) != len(before.windows):
            raise FilterValueError(
                f"compare: a grid of {len(self.segments)} segments and {len(self.windows)} windows is not"
                f" comparable with one of {len(before.segments)} and {len(before.windows)};"
                " segments have to have the same names"
            )
        return GridComparison(tuple(zip(self, before, strict=True)))

    async def ask_again(
        self, client: "HeliconeClient", *, on_progress: OnProgress | None = None
    ) -> "MetricsGrid":
        """The same grid with what failed asked for again; the rest stays as it is.

        Args:
            client: Who asks.
            on_progress: As in `metrics_grid`, of what is asked again.

        Raises:
            AuthenticationError: The key is refused.

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
        missing = {place: cell for place, cell in self.cells.items() if cell.metrics is None}
        return attrs.evolve(self, cells={**self.cells, **await ask(client, missing, on_progress)})

    def to_json(self) -> str:
        """The grid as JSON, which `from_json` reads back.

        Raises:
            ValueError: A segment has a name that JSON does not have.
        """
        return grid_to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The grid that `to_json` wrote; errors come back as `HeliconeError` with their text.

        Args:
            text: The JSON.

        Raises:
            ValueError: The text is something else.
        """
        return grid_from_json(cls, text)

    def _repr_html_(self) -> str:
        return grid_to_html(self)

    def __rich__(self) -> "RenderableType":
        return grid_to_terminal(self)

    @staticmethod
    def _segment(name: Any, names: list[Hashable]) -> int:
        if name in names:
            return names.index(name)
        shown = ", ".join(map(repr, names[:8]))
        raise LookupError(f"there is no segment {name!r}; there are {shown}{', …' if len(names) > 8 else ''}")

    def _window(self, which: WindowKey) -> int:
        if isinstance(which, int) and not isinstance(which, bool):
            if -len(self.windows) <= which < len(self.windows):
                return which % len(self.windows)
        elif isinstance(which, Window):
            if which in self.windows:
                return self.windows.index(which)
        elif isinstance(which, date):
            for place, window in enumerate(self.windows):
                if which in window:
                    return place
        raise LookupError(
            f"there is no window {which!r} among the {len(self.windows)} from {self.windows[0]} to"
            f" {self.windows[-1]}; name it by its place, or by a datetime or a date in it"
        )


def _row(cell: GridCell) -> Row:
    window = cell.window
    return {
        "segment": cell.segment,
        "start": window and window.start,
        "end": window and window.end,
        **{name: cell.quantity(name) for name in QUANTITIES},
        "sessions_drawn": cell.metrics and cell.metrics.session_cost.total,
        "error": None if cell.error is None else f"{type(cell.error).__name__}: {cell.error}",
    }


async def metrics_grid(
    client: "HeliconeClient",
    query: SessionMetricsQuery | Condition | None = None,
    *,
    by: Mapping[Any, Condition] | None = None,
    every: Every | None = None,
    time_zone: str | tzinfo | None = None,
    totals: bool = True,
    on_progress: OnProgress | None = None,
) -> MetricsGrid:
    """Ask for the metrics of each segment in each window, as one batch.

    Args:
        client: Who asks; its limits hold for the whole grid.
        query: What all cells have in common, with the time that is cut into windows.
        by: The segments: a filter for each name, as ``F.model.is_each([...])`` gives them. Without it
            there is one segment, "all".
        every: The length of the windows, or the windows themselves, as `TimeFilter.split` gives them.
            Without it there is one, the query's whole time.
        time_zone: The zone that windows are shown in. Windows of whole days follow its calendar, from
            midnight to midnight; without a zone a day is 24 hours from the start of the time.
        totals: Ask for the totals of segments and windows, too: as many queries more as there are segments
            and windows, and one.
        on_progress: Called after each answer with how many are done, how many there are, how many failed.

    Returns:
        The grid. A cell whose query failed holds the error; `MetricsGrid.ask_again` asks for it again.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: There is nothing to cut, or no segment.
        AuthenticationError: The key is refused, so that no cell would be answered.

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
    >>> len(grid), str(grid["o3", 2].window)
    (14, '2026-11-03')
    """
    common = _common(query)
    segments = _segments(by)
    windows = windows_of(common, every, time_zone)
    places: list[Place] = [(s, w) for s in range(len(segments)) for w in range(len(windows))]
    if totals:
        places += _totals(segments, windows)
    cells = {place: _cell(place, common, segments, windows) for place in places}
    return MetricsGrid(common, segments, windows, {**cells, **await ask(client, cells, on_progress)})


def _common(query: SessionMetricsQuery | Condition | None) -> SessionMetricsQuery:
    if isinstance(query, SessionMetricsQuery):
        return query
    return SessionMetricsQuery(query)


def _segments(by: Mapping[Any, Condition] | None) -> dict[Hashable, Filter]:
    if by is None:
        return {_EVERYTHING: ALL}
    if not isinstance(by, Mapping):
        raise FilterTypeError(
            "by is a mapping of names to filters, as F.model.is_each([...]) gives it, not"
            f" {type(by).__name__}"
        )
    if not by:
        raise FilterValueError("by: there is no segment in it; leave it out for one of everything")
    return {name: as_filter(each) for name, each in by.items()}


def _totals(segments: Mapping[Hashable, Filter], windows: tuple[Window, ...]) -> list[Place]:
    """The totals that are no cell; windows with gaps between them have no time in common."""
    over_time = len(windows) > 1 and whole_of(windows) is not None
    over_segments = list(segments.values()) != [ALL]
    found: list[Place] = []
    if over_time:
        found += [(segment, None) for segment in range(len(segments))]
    if over_segments:
        found += [(None, window) for window in range(len(windows))]
    if over_time and over_segments:
        found.append((None, None))
    return found


def _cell(
    place: Place,
    common: SessionMetricsQuery,
    segments: Mapping[Hashable, Filter],
    windows: tuple[Window, ...],
) -> GridCell:
    segment, window = place
    changes: dict[str, Any] = {}
    name: Hashable = None
    if segment is not None:
        name, narrowed = list(segments.items())[segment]
        changes["filter"] = narrowed if common.filter is None else common.filter & narrowed
    if window is not None:
        changes["time_filter"] = windows[window].time_filter
    else:
        changes["time_filter"] = whole_of(windows)
    return GridCell(name, None if window is None else windows[window], attrs.evolve(common, **changes))


def grid_to_html(
    grid: MetricsGrid, metric: Quantity = "dollars_mean", others: str = ".to_rows(), .to_pandas()"
) -> str:
    """A grid as an HTML table: a row for each window, a column for each segment; darker is more.

    Args:
        grid: The grid.
        metric: The figure to show.
        others: Where to find the other figures, for the note below the table.

    Raises:
        ValueError: There is no figure of that name.
    """
    _, unit = figure_of(metric)
    most = max((value for cell in grid if (value := cell.quantity(metric)) is not None), default=0.0) or 1.0

    def shown(cell: GridCell) -> html.Cell:
        if cell.metrics is None:
            return html.Cell(_FAILED, tip=f"{type(cell.error).__name__}: {cell.error}")
        value = cell.quantity(metric)
        return html.Cell(number(value, unit), (value or 0.0) / most)

    rows = [
        (str(window), [shown(grid.cells[row, place]) for row in range(len(grid.segments))])
        for place, window in enumerate(grid.windows[:_MOST_ROWS])
    ]
    left_out = len(grid.windows) - len(rows)
    more = f" {left_out:,} windows more are not shown." if left_out else ""
    note = f"In {unit}.{more} Other figures: {others}."
    return html.table(quantity_title(metric, grid.query), map(str, grid.segments), rows, note)


def grid_to_terminal(grid: MetricsGrid, metric: Quantity = "dollars_mean") -> "RenderableType":
    """A grid as a table for a terminal: a line for each window, a column for each segment (extra ``cli``).

    Args:
        grid: The grid.
        metric: The figure to show.

    Raises:
        ValueError: There is no figure of that name.
    """
    from helicone_sessions.display import terminal  # noqa: PLC0415 - rich is an extra

    _, unit = figure_of(metric)

    def shown(cell: GridCell) -> str:
        return _FAILED if cell.metrics is None else number(cell.quantity(metric), unit)

    rows = [
        (str(window), [shown(grid.cells[row, place]) for row in range(len(grid.segments))])
        for place, window in enumerate(grid.windows)
    ]
    return terminal.table(quantity_title(metric, grid.query), [str(name) for name in grid.segments], rows)
