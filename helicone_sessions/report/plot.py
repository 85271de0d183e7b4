"""Plots of metrics, grids and comparisons that are readable in black and white (extra ``plot``)."""

import math
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, time
from itertools import cycle
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from helicone_sessions.display.numbers import MISSING, Panel, amount, column_numbers, ranges
from helicone_sessions.errors import MissingExtra
from helicone_sessions.messages.metrics import SessionMetrics, note_of_cut, panels
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.cells import GridCell, Quantity, cut_of, quantity_title, unit_of
from helicone_sessions.report.comparison import Change, GridComparison
from helicone_sessions.report.grid import MetricsGrid
from helicone_sessions.report.periods import Period

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["lines", "heatmap"]

# The maximum numbers of lines and rows in a plot; with more, it is not readable.
_MOST_LINES: Final = 12
_MOST_ROWS: Final = 40
_MOST_NUMBERS: Final = 240
_MOST_TICKS: Final = 12
_LONGEST_FILTER: Final = 160
# If the highest values exceed the lowest by more than this ratio, a linear scale squashes the low ones.
_WIDE: Final = 50
# Histograms of fewer sessions are not drawn, because they would suggest a distribution.
_FEWEST_TO_DRAW: Final = 10
_TEXT: Final = 8.5


class _Look(NamedTuple):
    """The colours, dashes and markers for a light or dark background."""

    ink: str
    faint: str
    ruled: str
    bar: str
    lines: tuple[str, ...]
    shades: str

    @classmethod
    def on(cls, background: Any) -> Self:
        """Return the look for a background."""
        from matplotlib.colors import to_rgb

        is_dark = sum(to_rgb(background)) < 1.5
        return cls(*_ON_DARK) if is_dark else cls(*_ON_LIGHT)


_ON_LIGHT: Final = (
    "#1b1b1b",
    "#6b6b6b",
    "#dddddd",
    "#9db4c8",
    ("#0b3c5d", "#b5541c", "#3f7d4e", "#6a3d7c", "#8c6d1f", "#444444"),
    "Blues",
)
_ON_DARK: Final = (
    "#e8e8e8",
    "#a0a0a0",
    "#3a3a3a",
    "#4f708c",
    ("#7db8e8", "#f0995c", "#82c795", "#c49ad8", "#d9b95f", "#c0c0c0"),
    "Blues_r",
)
_FORMS: Final = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ((0, (5, 1)), "v"), ((0, (1, 3)), "P"))


def plot_metrics(
    metrics: SessionMetrics,
    *,
    query: SessionMetricsQuery | None = None,
    title: str | None = None,
    note: str | None = None,
    source: str = "",
    ax: "Sequence[Axes] | None" = None,
) -> "tuple[Axes, Axes, Axes]":
    """Draw the three histograms of metrics, each under a heading with the mean of all sessions.

    The length of a bar is the number of sessions in its range. To save the plot, call
    ``axes[0].figure.savefig("sessions.svg")``. The colours are chosen to suit the background of the current
    matplotlib style, light or dark.

    Args:
        metrics: The metrics.
        query: The query of the metrics. Its filter, time range and cut appear in the caption.
        title: The title above the histograms.
        note: The caption. By default, it contains the filter, the time range, the source and the cut.
        source: The source of the metrics, for the caption.
        ax: Three axes to draw into. By default, a new figure is created.

    Returns:
        The axes of the histograms of requests, seconds and dollars.

    Raises:
        MissingExtra: matplotlib is not installed.

    >>> from helicone_sessions.testing import metrics
    >>> [axes.get_title(loc="left").splitlines()[0] for axes in plot_metrics(metrics())]
    ['Requests per session', 'Seconds per session, first request to last', 'Dollars per session']
    """
    found = _figure(11.0, 3.9).subplots(1, 3) if ax is None else ax
    for axes, panel in zip(found, panels(metrics), strict=True):
        _draw_histogram(axes, panel)
    if note is None:
        limits = None if query is None else query.time_filter
        when = _span(None, None) if limits is None else _span(limits.start, limits.end)
        cut = metrics.session_cost.cut or (None if query is None else query.cut)
        below = [note_of_cut(cut), "Numbers are sessions, and ranges are of unequal width."]
        note = _caption(query, when if query else "", source, below)
    _frame(found[0], "Sessions" if title is None else title, note, is_new=ax is None)
    return tuple(found)


def plot_grid(
    grid: MetricsGrid,
    metric: Quantity = "dollars_mean",
    kind: Kind = "lines",
    *,
    log: bool | None = None,
    title: str | None = None,
    note: str | None = None,
    source: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw one quantity of each cell of a grid, as lines over time or as a heatmap.

    In a line plot, each segment has one line, or one bar if the grid has only one period. Failed cells leave
    a gap in a line and are crossed out in a heatmap. In a heatmap, a dash marks a cell without sessions.
    Partial periods have hollow markers. If there are many segments, only the segments with the highest values
    are drawn.

    Args:
        grid: The grid.
        metric: The quantity, for example ``"dollars_mean"`` or ``"seconds_cut"``.
        kind: ``"lines"`` or ``"heatmap"``.
        log: Whether the scale is logarithmic. By default, it is logarithmic if a linear scale would squash a
            segment. Bars always have a linear scale.
        title: The title above the plot.
        note: The caption. By default, it contains the filter, the time range, the source, the cut and the
            number of failed cells.
        source: The source of the metrics, for the caption.
        ax: The axes to draw into. By default, a new figure is created.

    Raises:
        MissingExtra: matplotlib is not installed.
        ValueError: There is no such quantity or kind.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.report import metrics_grid
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         return await metrics_grid(client)
    >>> plot_grid(asyncio.run(main()), "seconds_mean").get_xlabel()
    'seconds per session'
    """
    if kind not in _KINDS:
        raise ValueError(f"there is no kind {kind!r}. Use one of {', '.join(_KINDS)}")
    is_heatmap = kind == "heatmap"
    cells = {name: grid[name] for name in grid.segments}
    rows = _Rows.of(cells, metric, _MOST_ROWS if is_heatmap else _MOST_LINES)
    is_bars = len(grid.periods) == 1 and not is_heatmap
    # On a logarithmic scale, the length of a bar has no meaning.
    is_log = not is_bars and (rows.are_wide if log is None else log)
    draw = _heatmap if is_heatmap else _bars if is_bars else _lines
    axes = draw(rows, metric, is_log=is_log, ax=ax)
    if note is None:
        when = _span_of(grid.periods)
        remarks = [*rows.remarks(grid.query, is_log=is_log), grid.note]
        note = _caption(grid.query, when, source, list(filter(None, remarks)))
    _frame(axes, _or_default(title, quantity_title(metric, grid.query)), note, is_new=ax is None)
    return axes


def plot_comparison(
    comparison: GridComparison,
    metric: Quantity = "dollars_mean",
    *,
    log: bool | None = None,
    title: str | None = None,
    note: str | None = None,
    source: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the earlier and later value of one quantity for each pair of cells.

    Markers of earlier values are hollow, and those of later values are filled. If there are several periods,
    each segment has a dashed line for the earlier grid and a solid line for the later one. If there is one
    period, each segment has a row that shows both values and their ratio.

    Args:
        comparison: The comparison.
        metric: The quantity, for example ``"dollars_mean"`` or ``"seconds_cut"``.
        log: Whether the scale is logarithmic. By default, it is logarithmic if a linear scale would squash a
            segment.
        title: The title above the plot.
        note: The caption. By default, it contains both time ranges, the filter, the source, the cut and the
            number of failed cells.
        source: The source of the metrics, for the caption.
        ax: The axes to draw into. By default, a new figure is created.

    Raises:
        MissingExtra: matplotlib is not installed.
        ValueError: There is no such quantity.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.report import metrics_grid
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         return await metrics_grid(client)
    >>> grid = asyncio.run(main())
    >>> plot_comparison(grid.compare(grid), "seconds_mean").get_xlabel()
    'seconds per session'
    """
    cells = _cells_by_segment(comparison)
    is_changes = len(cells) == len(comparison)
    rows = _Rows.of(cells, metric, _MOST_ROWS if is_changes else _MOST_LINES)
    is_log = rows.are_wide if log is None else log
    axes = (_changes if is_changes else _two_lines_each)(rows, metric, is_log=is_log, ax=ax)
    query = comparison.query or comparison.pairs[0][0].query
    if note is None:
        first, last = comparison.pairs[0], comparison.pairs[-1]
        filled, hollow = (
            _span_of([one.period, other.period]) for one, other in zip(first, last, strict=True)
        )
        when = f"Hollow: {hollow}. Filled: {filled}"
        note = _caption(comparison.query, when, source, rows.remarks(query, is_log=is_log))
    default = f"{quantity_title(metric, query)}, before and after"
    _frame(axes, _or_default(title, default), note, is_new=ax is None)
    return axes


def _cells_by_segment(comparison: GridComparison) -> dict[Hashable, list[GridCell]]:
    """Return each segment's cells in the later grid, followed by its cells in the earlier grid."""
    by_segment: dict[Hashable, list[tuple[GridCell, GridCell]]] = {}
    for after, before in comparison:
        by_segment.setdefault(after.segment, []).append((after, before))
    return {
        name: [cell for side in zip(*pairs, strict=True) for cell in side]
        for name, pairs in by_segment.items()
    }


class _Rows(NamedTuple):
    """The cells to draw for each segment, and their values."""

    metric: Quantity
    names: list[str]
    cells: list[Sequence[GridCell]]
    values: list[list[float]]
    segment_count: int

    @classmethod
    def of(cls, cells: Mapping[Hashable, Sequence[GridCell]], metric: Quantity, most: int) -> Self:
        """Return the rows of the *most* segments with the highest values."""
        values = {name: [_value(cell, metric) for cell in row] for name, row in cells.items()}
        highest = sorted(values, key=lambda name: max(_known(values[name]), default=-math.inf), reverse=True)
        drawn = set(highest[:most])
        names = [name for name in cells if name in drawn]
        shown = [_literal(_short(name)) for name in names]
        return cls(
            metric, shown, [cells[name] for name in names], [values[name] for name in names], len(cells)
        )

    @property
    def periods(self) -> list[Period]:
        """The periods of each row."""
        return [cell.period for cell in self.cells[0] if cell.period is not None]

    @property
    def are_wide(self) -> bool:
        """Whether a linear scale would squash a row, and a logarithmic scale can show all values."""
        peaks = [max(known) for row in self.values if (known := _known(row))]
        lowest = min((value for row in self.values for value in _known(row)), default=0.0)
        return lowest > 0 and max(peaks) > _WIDE * min(peaks)

    def remarks(self, query: SessionMetricsQuery, *, is_log: bool) -> list[str]:
        """Return sentences for the caption."""
        cells = [cell for row in self.cells for cell in row]
        found = [cut_of(query)] if self.metric.endswith("_cut") else []
        if len(self.cells) < self.segment_count:
            found.append(
                f"{len(self.cells)} of {self.segment_count:,} segments, those with the highest values."
            )
        if is_log:
            found.append(f"Logarithmic scale{self._zeros()}.")
        if failed := sum(cell.metrics is None for cell in cells):
            found.append(f"{failed} of {len(cells)} cells failed.")
        return found

    def _zeros(self) -> str:
        zeros = sum(value <= 0 for row in self.values for value in row)
        return f" without {zeros} values of 0" if zeros else ""


def _or_default(title: str | None, default: str) -> str:
    return default if title is None else title


def _value(cell: GridCell, metric: Quantity) -> float:
    value = cell.quantity(metric)
    return math.nan if value is None else value


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _span(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return "All time"
    return f"{Period(start, end, None).span()}, {start.tzinfo}"


def _span_of(periods: Sequence[Period | None]) -> str:
    first, last = periods[0], periods[-1]
    return _span(None if first is None else first.start, None if last is None else last.end)


def _caption(query: SessionMetricsQuery | None, when: str, source: str, remarks: Sequence[str]) -> str:
    found = []
    if query is not None and query.filter is not None:
        found.append(f"Filter: {shorten(str(query.filter), _LONGEST_FILTER, placeholder=' …')}.")
    if query is not None and query.name_contains:
        found.append(f"Name: {query.name_contains}.")
    found += [f"{when}."] if when else []
    found += [f"Source: {source}."] if source else []
    return " ".join([*found, *remarks])


def check_installed() -> None:
    """Check that matplotlib is installed.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 - an extra
    except ImportError as error:
        raise MissingExtra("plot", package="matplotlib", purpose="a picture") from error


def _figure(width: float, height: float) -> "Figure":
    check_installed()
    # Figures are created without pyplot, which would keep them in memory and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _prepared(ax: "Axes | None", width: float, height: float) -> "tuple[Axes, _Look]":
    """Return the axes to draw into, and their look."""
    axes: Axes = _figure(width, height).subplots() if ax is None else ax
    look = _Look.on(axes.get_facecolor())
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(look.ink)
    axes.tick_params(labelsize=_TEXT, colors=look.ink)
    return axes, look


def _frame(axes: "Axes", title: str, note: str, *, is_new: bool) -> None:
    """Set the title and caption: on the figure if it is new, otherwise on the axes."""
    figure: Any = axes.figure
    look = _Look.on(axes.get_facecolor())
    if is_new:
        width = figure.get_figwidth()
        style: dict[str, Any] = {"x": 0.01, "ha": "left"}
        head = _literal(fill(title, int(width * 9)))
        figure.suptitle(head, fontsize=13, fontweight="bold", color=look.ink, **style)
        if note:
            below = _literal(fill(note, int(width * 13)))
            figure.supxlabel(below, fontsize=_TEXT, color=look.faint, **style)
        return
    if title:
        axes.set_title(_literal(title), loc="left", fontsize=11, fontweight="bold", color=look.ink)
    if note:
        width = axes.get_window_extent().width / figure.dpi
        below = _literal(fill(note, max(30, int(width * 13))))
        label = "\n".join(filter(None, [axes.get_xlabel(), below]))
        axes.set_xlabel(label, loc="left", fontsize=_TEXT, color=look.faint)


def _literal(text: str) -> str:
    # matplotlib would typeset text between two dollar signs as a formula.
    return text.replace("$", r"\$")


def _draw_histogram(axes: "Axes", panel: Panel) -> None:
    """Draw a bar for each range, as in the terminal."""
    axes, look = _prepared(axes, 0, 0)
    axes.set_title(
        _literal(f"{panel.title}\nmean of all: {amount(panel.mean, panel.unit)}"),
        loc="left",
        fontsize=10,
        color=look.ink,
    )
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    bars = ranges(panel)
    if not bars:
        axes.set_yticks([])
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": look.faint}
        axes.text(0.5, 0.5, "no session", transform=axes.transAxes, **style)
        return
    are_drawn = sum(bar.sessions for bar in bars) >= _FEWEST_TO_DRAW
    lengths = [bar.sessions if are_drawn else 0.0 for bar in bars]
    _draw_bars(axes, look, lengths, [f"{bar.sessions:,.0f}" for bar in bars])
    axes.set_yticks(range(len(bars)), [_literal(bar.label) for bar in bars], fontsize=_TEXT)


def _draw_bars(axes: "Axes", look: _Look, lengths: Sequence[float], texts: Sequence[str]) -> None:
    """Draw horizontal bars with labels at their ends, the first bar at the top."""
    axes.barh(range(len(lengths)), lengths, 0.7, color=look.bar, edgecolor=look.ink, linewidth=0.7)
    for row, (length, text) in enumerate(zip(lengths, texts, strict=True)):
        style: dict[str, Any] = {"va": "center", "fontsize": _TEXT, "color": look.ink}
        axes.annotate(_literal(text), (length, row), xytext=(4, 0), textcoords="offset points", **style)
    axes.set_ylim(len(lengths) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(lengths) or 1.0)
    axes.tick_params(axis="y", length=0)


def _bars(rows: _Rows, metric: Quantity, *, is_log: bool, ax: "Axes | None") -> "Axes":
    axes, look = _prepared(ax, 9.0, min(14.0, 1.6 + 0.36 * len(rows.names)))
    cells = [cell for [cell] in rows.cells]
    texts = column_numbers([cell.quantity(metric) for cell in cells], unit_of(metric))
    shown = ["failed" if cell.metrics is None else text for cell, text in zip(cells, texts, strict=True)]
    _draw_bars(axes, look, [0.0 if math.isnan(value) else value for [value] in rows.values], shown)
    axes.set_yticks(range(len(rows.names)), rows.names, fontsize=_TEXT)
    _scale_values(axes, "x", metric, look, is_log=is_log)
    return axes


def _lines(rows: _Rows, metric: Quantity, *, is_log: bool, ax: "Axes | None") -> "Axes":
    axes, look = _prepared(ax, 9.0, 4.4)
    drawn = []
    for (dash, marker), colour, heights in zip(cycle(_FORMS), cycle(look.lines), rows.values, strict=False):
        # With clipping, a marker at the upper end of the axis would be cut off.
        style: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 5, "clip_on": False}
        drawn += axes.plot(range(len(heights)), heights, linestyle=dash, **style)
        partial = [place for place, period in enumerate(rows.periods) if period.is_partial]
        if partial:
            hollow: dict[str, Any] = {"markerfacecolor": axes.get_facecolor(), "linestyle": "", "zorder": 3}
            axes.plot(partial, [heights[place] for place in partial], **{**style, **hollow})
    _name_periods(axes, rows.periods)
    _scale_values(axes, "y", metric, look, is_log=is_log)
    _name_lines(axes, look, drawn, rows.names)
    return axes


def _two_lines_each(rows: _Rows, metric: Quantity, *, is_log: bool, ax: "Axes | None") -> "Axes":
    axes, look = _prepared(ax, 9.0, 4.4)
    count = len(rows.values[0]) // 2
    drawn = []
    for (_, marker), colour, heights in zip(cycle(_FORMS), cycle(look.lines), rows.values, strict=False):
        style: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 5, "clip_on": False}
        hollow: dict[str, Any] = {"markerfacecolor": axes.get_facecolor(), "linestyle": "--"}
        axes.plot(range(count), heights[count:], **style, **hollow)
        drawn += axes.plot(range(count), heights[:count], **style)
    _name_periods(axes, rows.periods[:count])
    _scale_values(axes, "y", metric, look, is_log=is_log)
    _name_lines(axes, look, drawn, rows.names)
    return axes


def _changes(rows: _Rows, metric: Quantity, *, is_log: bool, ax: "Axes | None") -> "Axes":
    axes, look = _prepared(ax, 9.0, min(14.0, 1.8 + 0.36 * len(rows.names)))
    for row, (cells, (later, earlier)) in enumerate(zip(rows.cells, rows.values, strict=True)):
        style: dict[str, Any] = {"marker": "o", "markersize": 8, "color": look.ink, "clip_on": False}
        axes.plot([earlier, later], [row, row], color=look.bar, linewidth=2.5, zorder=1)
        axes.plot([earlier], [row], markerfacecolor=axes.get_facecolor(), **style)
        axes.plot([later], [row], **style)
        after, before = (cell.quantity(metric) for cell in cells)
        old, new = column_numbers([before, after], unit_of(metric))
        ratio = Change(before, after).ratio
        text = f"{old} → {new}, ratio {MISSING if ratio is None else f'{ratio:.2f}'}"
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": _TEXT}
        axes.text(1.03, row, _literal(text), color=look.ink, **place)
    axes.set_yticks(range(len(rows.names)), rows.names, fontsize=_TEXT)
    axes.set_ylim(len(rows.names) - 0.5, -0.5)
    _scale_values(axes, "x", metric, look, is_log=is_log)
    return axes


def _heatmap(rows: _Rows, metric: Quantity, *, is_log: bool, ax: "Axes | None") -> "Axes":
    from matplotlib.colors import LogNorm, Normalize

    count = len(rows.periods)
    width = min(16.0, max(6.0, 2.5 + 0.62 * count))
    axes, look = _prepared(ax, width, min(14.0, 2.2 + 0.42 * len(rows.names)))
    axes.spines[:].set_visible(False)
    known = [value for row in rows.values for value in _known(row) if value > 0 or not is_log]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)
    norm = LogNorm(low, high) if is_log else Normalize(low, high)
    image = axes.imshow(rows.values, cmap=look.shades, norm=norm, aspect="auto")
    axes.set_yticks(range(len(rows.names)), rows.names, fontsize=_TEXT)
    axes.tick_params(length=0)
    _name_periods(axes, rows.periods)
    _write_values(axes, rows, metric, look, image, is_log=is_log)
    if known:
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label(_axis_label(metric), fontsize=9, color=look.ink)
        bar.ax.tick_params(which="both", labelsize=8, colors=look.ink)
        bar.outline.set_visible(False)
        _format_values(bar.ax.yaxis, metric)
    return axes


def _write_values(
    axes: "Axes", rows: _Rows, metric: Quantity, look: _Look, image: Any, *, is_log: bool
) -> None:
    """Mark failed cells and cells without a value; if the heatmap is small, write the other values."""
    is_small = len(rows.periods) * len(rows.names) <= _MOST_NUMBERS
    for row, cells in enumerate(rows.cells):
        texts = column_numbers([cell.quantity(metric) for cell in cells], unit_of(metric))
        for column, (cell, text) in enumerate(zip(cells, texts, strict=True)):
            value = rows.values[row][column]
            if cell.metrics is None:
                axes.plot(column, row, marker="x", color=look.faint, markersize=8)
            elif math.isnan(value) or is_small:
                is_blank = math.isnan(value) or (is_log and value <= 0)
                shade = axes.get_facecolor() if is_blank else image.cmap(image.norm(value))
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
                axes.text(column, row, _literal(text), color=_Look.on(shade[:3]).ink, **style)


def _name_periods(axes: "Axes", periods: Sequence[Period]) -> None:
    names = _dates(periods)
    step = math.ceil(len(names) / _MOST_TICKS)
    shown = names[::step]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if sum(map(len, shown)) > 80 else {}
    axes.set_xticks(range(0, len(names), step), shown, fontsize=_TEXT, **turned)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _dates(periods: Sequence[Period]) -> list[str]:
    """Return short names for periods, such as 17 Nov, with the time or year if needed."""
    starts = [period.start for period in periods if period.start is not None]
    if len(starts) < len(periods) or len(periods) == 1:
        return [period.span() for period in periods]
    form = _date_form(starts)
    return [
        f"{start.day} {start:{form}}{' (part)' if period.is_partial else ''}"
        for start, period in zip(starts, periods, strict=True)
    ]


def _date_form(starts: Sequence[datetime]) -> str:
    # The first period may start in the middle of a day.
    has_times = any(start.time() != time() for start in starts[1:])
    has_years = len({start.year for start in starts}) > 1
    return f"%b{' %Y' if has_years else ''}{' %H:%M' if has_times else ''}"


def _scale_values(
    axes: "Axes", name: Literal["x", "y"], metric: Quantity, look: _Look, *, is_log: bool
) -> None:
    """Label the value axis, and start it at 0 if it is linear."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    if is_log:
        (axes.set_xscale if name == "x" else axes.set_yscale)("log", nonpositive="mask")
    elif name == "x":
        axes.set_xlim(left=0)
    else:
        axes.set_ylim(bottom=0)
    axis.set_label_text(_axis_label(metric), fontsize=9, color=look.ink)
    _format_values(axis, metric)
    axes.grid(axis=name, color=look.ruled, linewidth=0.7)
    axes.set_axisbelow(True)


def _format_values(axis: Any, metric: Quantity) -> None:
    from matplotlib.ticker import FuncFormatter

    sign = r"\$" if unit_of(metric) == "dollars" else ""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{sign}{value:,g}"))


def _axis_label(metric: Quantity) -> str:
    unit = unit_of(metric)
    return f"{unit} per session" if metric.endswith("_mean") else unit


def _name_lines(axes: "Axes", look: _Look, lines: Sequence[Any], names: Sequence[str]) -> None:
    """Write the name of each line at its right end, unless there is only one line."""
    if len(names) == 1:
        return
    ends = [
        max(
            ((x, y) for x, y in zip(*line.get_data(), strict=True) if not math.isnan(y)),
            default=(0.0, math.nan),
        )
        for line in lines
    ]
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [0.0 if math.isnan(y) else float(to_axes.transform((x, y))[1]) for x, y in ends]
    # Names must be at least 12 points apart.
    gap = 12.0 / (axes.get_window_extent().height / axes.figure.dpi * 72)
    for line, name, end, height in zip(lines, names, ends, _spread(heights, gap), strict=True):
        style: dict[str, Any] = {"va": "center", "fontsize": _TEXT, "color": line.get_color()}
        leader = {"arrowstyle": "-", "color": look.ruled, "linewidth": 0.7, "shrinkB": 3}
        axes.annotate(
            name,
            end if not math.isnan(end[1]) else (1.0, height),
            xycoords="data" if not math.isnan(end[1]) else "axes fraction",
            xytext=(1.03, height),
            textcoords="axes fraction",
            arrowprops=leader,
            annotation_clip=False,
            **style,
        )


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Move positions at least *gap* apart, in the same order, and keep them below 1 if they fit."""
    order = sorted(range(len(places)), key=places.__getitem__)
    found = list(places)
    lowest = 0.0
    for index in order:
        found[index] = lowest = max(places[index], lowest)
        lowest += gap
    highest = max(1.0, gap * (len(places) - 1))
    for index in reversed(order):
        found[index] = highest = min(found[index], highest)
        highest -= gap
    return found


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 28 else f"{text[:13]}…{text[-14:]}"


_KINDS: Final = ("lines", "heatmap")
