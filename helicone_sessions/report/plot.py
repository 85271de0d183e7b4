"""Pictures of metrics, grids and comparisons, readable in black and white (extra ``plot``)."""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final, Literal

from helicone_sessions.display.numbers import number
from helicone_sessions.errors import MissingExtra
from helicone_sessions.messages.metrics import TITLES, UNITS, Histogram, SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.cells import GridCell, Quantity, cut_of, quantity_title, unit_of
from helicone_sessions.report.comparison import GridComparison
from helicone_sessions.report.grid import MetricsGrid
from helicone_sessions.report.periods import Period

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["lines", "heatmap"]

_DARK, _BAR, _FAINT = "#1b1b1b", "#9db4c8", "#6b6b6b"
# Lines differ in dashes, markers and greys, so that they can be told apart without colours.
_LINES: Final = (
    ("-", "o", "#0b3c5d"),
    ("--", "s", "#b5541c"),
    (":", "^", "#3f7d4e"),
    ("-.", "D", "#6a3d7c"),
    ((0, (5, 1)), "v", "#8c6d1f"),
    ((0, (1, 3)), "P", "#444444"),
)
_MOST_NUMBERS: Final = 240
_MOST_TICKS: Final = 12
_NARROWEST: Final = 0.02


def plot_metrics(
    metrics: SessionMetrics,
    *,
    query: SessionMetricsQuery | None = None,
    title: str | None = None,
    note: str | None = None,
) -> "tuple[Axes, Axes, Axes]":
    """Draw the three histograms, and mark the mean of all sessions.

    The area of a bar is its number of sessions. ``axes[0].figure.savefig("sessions.svg")`` writes the
    picture to a file.

    Args:
        metrics: The metrics.
        query: Their query, so that the picture can say where the histograms are cut.
        title: The title above the panels.
        note: The note below them; by default it says where the histograms are cut.

    Raises:
        MissingExtra: matplotlib is not installed.

    >>> from helicone_sessions.testing import metrics
    >>> [axes.get_xlabel() for axes in plot_metrics(metrics())]
    ['requests', 'seconds', 'dollars']
    """
    figure = _figure(11.0, 3.9)
    panels: Sequence[Axes] = figure.subplots(1, len(UNITS))
    for axes, name in zip(panels, UNITS, strict=True):
        _draw_histogram(axes, getattr(metrics, name), getattr(metrics.average, name), TITLES[name])
    _frame(
        figure, title or "Sessions", note or f"{cut_of(query)} The area of a bar is its number of sessions."
    )
    return tuple(panels)  # type: ignore[return-value]


def plot_grid(
    grid: MetricsGrid,
    metric: Quantity = "dollars_mean",
    kind: Kind = "lines",
    *,
    title: str | None = None,
    note: str | None = None,
) -> "Axes":
    """Draw one quantity of each cell of a grid: a line for each segment over time, or a heatmap.

    A failed cell is a gap in a line, and crossed out in a heatmap. A cell without a session has a dash there.

    Args:
        grid: The grid.
        metric: The quantity, for example ``"dollars_mean"`` or ``"seconds_cut"``.
        kind: ``"lines"`` or ``"heatmap"``.
        title: The title above the picture.
        note: The note below it.

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
    >>> plot_grid(asyncio.run(main()), "seconds_mean").get_ylabel()
    'seconds per session'
    """
    if kind not in _KINDS:
        raise ValueError(f"there is no kind {kind!r}. Use one of {', '.join(_KINDS)}")
    values = [[_value(cell, metric) for cell in grid[name]] for name in grid.segments]
    axes = _KINDS[kind](grid, values, metric)
    if note is None:
        note = _note(list(grid), metric, grid.query)
    _frame(axes.figure, title or quantity_title(metric, grid.query), note)  # type: ignore[arg-type]
    return axes


def plot_comparison(
    comparison: GridComparison,
    metric: Quantity = "dollars_mean",
    *,
    title: str | None = None,
    note: str | None = None,
) -> "Axes":
    """Draw one quantity of each pair of cells: the earlier value hollow, the later one filled.

    With several periods, each segment has a dashed line for the earlier grid and a solid one for the later.
    With one period, each segment has a row in which a line leads from the earlier value to the later.

    Args:
        comparison: The comparison.
        metric: The quantity, for example ``"dollars_mean"`` or ``"seconds_cut"``.
        title: The title above the picture.
        note: The note below it.

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
    by_segment: dict[Hashable, list[tuple[GridCell, GridCell]]] = {}
    for after, before in comparison:
        by_segment.setdefault(after.segment, []).append((after, before))
    axes = _subplots(9.0, 4.4)
    if len(by_segment) == len(comparison):
        _draw_changes(axes, by_segment, metric)
    else:
        _draw_two_lines_each(axes, by_segment, metric)
    query = comparison.pairs[0][0].query
    if note is None:
        cells = [cell for pair in comparison for cell in pair]
        times = f"Hollow: {_span(comparison, 1)}. Filled: {_span(comparison, 0)}."
        note = f"{times} {_note(cells, metric, query)}"
    _frame(axes.figure, title or f"{quantity_title(metric, query)}, before and after", note)  # type: ignore[arg-type]
    return axes


def _draw_changes(
    axes: "Axes", by_segment: "Mapping[Hashable, Sequence[tuple[GridCell, GridCell]]]", metric: Quantity
) -> None:
    for row, [(after, before)] in enumerate(by_segment.values()):
        earlier, later = _value(before, metric), _value(after, metric)
        axes.plot([earlier, later], [row, row], color=_BAR, linewidth=2.5, zorder=1)
        axes.plot([earlier], [row], marker="o", markersize=8, markerfacecolor="white", color=_DARK)
        axes.plot([later], [row], marker="o", markersize=8, color=_DARK)
    names = [_literal(_short(name)) for name in by_segment]
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(_axis_label(metric), fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_two_lines_each(
    axes: "Axes", by_segment: "Mapping[Hashable, Sequence[tuple[GridCell, GridCell]]]", metric: Quantity
) -> None:
    drawn = []
    for (_, marker, colour), pairs in zip(cycle(_LINES), by_segment.values(), strict=False):
        style: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 5, "clip_on": False}
        earlier = [_value(before, metric) for _, before in pairs]
        axes.plot(range(len(pairs)), earlier, linestyle="--", markerfacecolor="white", **style)
        drawn += axes.plot(range(len(pairs)), [_value(after, metric) for after, _ in pairs], **style)
    _name_periods(axes, [str(after.period) for after, _ in next(iter(by_segment.values()))])
    _scale_values(axes, metric)
    _name_lines(axes, drawn, list(by_segment))


def _span(comparison: GridComparison, side: int) -> str:
    """The time of the later (0) or the earlier (1) grid, for a note."""
    first, last = comparison.pairs[0][side].period, comparison.pairs[-1][side].period
    return str(Period(first.start if first else None, last.end if last else None, None))


def _value(cell: GridCell, metric: Quantity) -> float:
    value = cell.quantity(metric)
    return math.nan if value is None else value


def _note(cells: Sequence[GridCell], metric: Quantity, query: SessionMetricsQuery) -> str:
    failed = sum(cell.metrics is None for cell in cells)
    cut = cut_of(query) if metric.endswith("_cut") else ""
    return f"{cut} {failed} of {len(cells)} cells failed." if failed else cut


def check_installed() -> None:
    """Check that matplotlib is installed.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 - it is an extra
    except ImportError as error:
        raise MissingExtra("plot", package="matplotlib", purpose="a picture") from error


def _figure(width: float, height: float) -> "Figure":
    check_installed()
    # pyplot would keep each figure in memory and look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _frame(figure: "Figure", title: str, note: str) -> None:
    width = figure.get_figwidth()
    figure.suptitle(
        _literal(fill(title, int(width * 9))),
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=_DARK,
    )
    if note.strip():
        below = _literal(fill(note.strip(), int(width * 13)))
        figure.supxlabel(below, x=0.01, ha="left", fontsize=8.5, color=_FAINT)


def _literal(text: str) -> str:
    # matplotlib would set text between two dollar signs as a formula.
    return text.replace("$", r"\$")


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5, colors=_DARK)


def _draw_histogram(axes: "Axes", histogram: Histogram, mean: float | None, title: str) -> None:
    unit = histogram.unit
    _plain(axes)
    axes.set_title(title, loc="left", fontsize=10, color=_DARK)
    axes.set_xlabel(_literal(unit), fontsize=9)
    axes.set_ylabel(_literal(f"sessions per {unit.removesuffix('s')}"), fontsize=9)
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=5)
    if not histogram.rows:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no session", ha="center", va="center", transform=axes.transAxes, color=_FAINT)
        return
    low, high = histogram[0].range_start, histogram[-1].range_end
    # A bar of equal values has no width, and needs one to be seen.
    least = _NARROWEST * (high - low) or abs(high) / 10 or 0.1
    for row in histogram:
        width = row.range_end - row.range_start or least
        middle = (row.range_start + row.range_end) / 2
        axes.bar(middle, row.value / width, width, color=_BAR, edgecolor=_DARK, linewidth=0.8)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.18)
    if mean is not None:
        _mark_mean(axes, mean, low, high, unit)


def _mark_mean(axes: "Axes", mean: float, low: float, high: float, unit: str) -> None:
    """Draw a line at the mean of all sessions, which can be above the cut."""
    edge = axes.get_xlim()[1]
    text = _literal(f"mean of all {number(mean, unit)}")
    if mean > high + (high - low):
        place, text = edge, f"{text} →"
    else:
        axes.axvline(mean, color=_DARK, linestyle="--", linewidth=1.2)
        axes.set_xlim(right=max(edge, mean))
        place = mean
    left, right = axes.get_xlim()
    is_right = place > (left + right) / 2
    axes.annotate(
        text,
        (place, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if is_right else 4, -2),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="top",
        fontsize=8.5,
        color=_DARK,
    )


Values = list[list[float]]


def _lines(grid: MetricsGrid, values: Values, metric: Quantity) -> "Axes":
    axes = _subplots(9.0, 4.4)
    for (dash, marker, colour), heights in zip(cycle(_LINES), values, strict=False):
        # Without clip_on a marker at the upper end would be cut.
        style: dict[str, Any] = {"linestyle": dash, "marker": marker, "color": colour, "clip_on": False}
        axes.plot(range(len(grid.periods)), heights, markersize=5, **style)
    _name_periods(axes, [str(period) for period in grid.periods])
    _scale_values(axes, metric)
    _name_lines(axes, axes.get_lines(), list(grid.segments))
    return axes


def _heatmap(grid: MetricsGrid, values: Values, metric: Quantity) -> "Axes":
    width = min(16.0, max(6.0, 2.5 + 0.62 * len(grid.periods)))
    figure = _figure(width, min(14.0, 2.2 + 0.42 * len(grid.segments)))
    axes: Axes = figure.subplots()
    # In grey too, this map is the darker the larger the value.
    image = axes.imshow(values, cmap="cividis_r", aspect="auto")
    names = [_literal(_short(name)) for name in grid.segments]
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.tick_params(length=0)
    _name_periods(axes, [str(period) for period in grid.periods])
    unit = unit_of(metric)
    known = [value for row in values for value in row if not math.isnan(value)]
    _name_cells(axes, grid, metric, middle=(min(known) + max(known)) / 2 if known else 0.0)
    if known:
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label(unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return axes


def _name_cells(axes: "Axes", grid: MetricsGrid, metric: Quantity, *, middle: float) -> None:
    """Write numbers into the cells of a small grid, and mark the cells without an answer."""
    for index, cell in enumerate(grid):
        row, column = divmod(index, len(grid.periods))
        value = cell.quantity(metric)
        if cell.metrics is None:
            axes.plot(column, row, marker="x", color=_FAINT, markersize=8)
        elif value is None or len(grid) <= _MOST_NUMBERS:
            colour = "white" if value is not None and value > middle else "black"
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "color": colour}
            axes.text(column, row, _literal(number(value, unit_of(metric))), **style)


def _subplots(width: float, height: float) -> "Axes":
    axes: Axes = _figure(width, height).subplots()
    _plain(axes)
    return axes


def _name_periods(axes: "Axes", names: Sequence[str]) -> None:
    step = math.ceil(len(names) / _MOST_TICKS)
    shown = names[::step]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if sum(map(len, shown)) > 60 else {}
    axes.set_xticks(range(0, len(names), step), shown, fontsize=8.5, **turned)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _scale_values(axes: "Axes", metric: Quantity) -> None:
    axes.set_ylabel(_axis_label(metric))
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def _axis_label(metric: Quantity) -> str:
    unit = unit_of(metric)
    return f"{unit} per session" if metric.endswith("_mean") else unit


def _name_lines(axes: "Axes", lines: Sequence[Any], segments: Sequence[object]) -> None:
    """Add a legend, which a single line does not need."""
    if len(segments) > 1:
        # With labels instead, matplotlib would leave out the lines whose names begin with "_".
        names = [_literal(str(name)) for name in segments]
        axes.figure.legend(lines, names, loc="outside right upper", fontsize=8.5, frameon=False)


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 28 else f"{text[:13]}…{text[-14:]}"


_KINDS: Final = {"lines": _lines, "heatmap": _heatmap}
