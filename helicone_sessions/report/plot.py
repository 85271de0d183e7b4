"""Pictures of metrics and grids (extra ``plot``): matplotlib axes, readable in black and white."""

import math
from collections.abc import Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final, Literal

from helicone_sessions.display.numbers import number
from helicone_sessions.errors import MissingExtra
from helicone_sessions.messages.metrics import TITLES, UNITS, Histogram, SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.cells import Quantity, cut_of, figure_of, quantity_title
from helicone_sessions.report.grid import MetricsGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["lines", "heatmap"]

_DARK, _BAR, _FAINT = "#1b1b1b", "#9db4c8", "#6b6b6b"
# Each line has a dash, a marker and a grey of its own, so that no colour is needed to tell them apart.
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
    """The three histograms of an answer, with the mean of all sessions marked.

    Bars are as wide as their ranges and as high as the sessions in them are dense, so that their *areas*
    are what compares. ``axes[0].figure.savefig("sessions.svg")`` writes the picture.

    Args:
        metrics: The answer.
        query: What was asked, so that the picture can say where it is cut.
        title: Above the panels.
        note: Below them; without one it says what is drawn.

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
    """A figure of each cell of a grid: a line for each segment over time, or a field of cells.

    Cells without an answer are gaps in a line and crossed out in a field; without a session, a dash.

    Args:
        grid: The grid.
        metric: Which figure: a column of the grid, as ``"dollars_mean"`` or ``"seconds_cut"``.
        kind: ``"lines"`` or ``"heatmap"``.
        title: Above the picture.
        note: Below it.

    Raises:
        MissingExtra: matplotlib is not installed.
        ValueError: There is no such metric or kind.

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
        raise ValueError(f"kind is one of {', '.join(_KINDS)}, not {kind!r}")
    values = [[cell.quantity(metric) for cell in grid[name]] for name in grid.segments]
    axes = _KINDS[kind](grid, values, metric)
    missing = sum(cell.metrics is None for cell in grid)
    said = f"{missing} of {len(grid)} cells have no answer." if missing else ""
    if metric.endswith("_cut"):
        said = f"{cut_of(grid.query)} {said}"
    _frame(axes.figure, title or quantity_title(metric, grid.query), note if note is not None else said)  # type: ignore[arg-type]
    return axes


def check_installed() -> None:
    """See that pictures can be drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - it is an extra
    except ImportError as error:
        raise MissingExtra("plot", package="matplotlib", purpose="a picture") from error


def _figure(width: float, height: float) -> "Figure":
    check_installed()
    # Without pyplot: it keeps what it makes, and wants a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - it is an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

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
    """The text for matplotlib, which would set what is between two dollar signs as a formula."""
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
    # All sessions alike, or many of one value: a bar needs a width to be seen.
    least = _NARROWEST * (high - low) or abs(high) / 10 or 0.1
    for row in histogram:
        width = row.range_end - row.range_start or least
        middle = (row.range_start + row.range_end) / 2
        axes.bar(middle, row.value / width, width, color=_BAR, edgecolor=_DARK, linewidth=0.8)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.18)
    if mean is not None:
        _mark_mean(axes, mean, low, high, unit)


def _mark_mean(axes: "Axes", mean: float, low: float, high: float, unit: str) -> None:
    """A line at the mean; it may lie beyond the cut, for it is of all sessions."""
    edge = axes.get_xlim()[1]
    text = f"mean of all {number(mean, unit)}"
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


Values = list[list[float | None]]


def _lines(grid: MetricsGrid, values: Values, metric: Quantity) -> "Axes":
    figure = _figure(9.0, 4.4)
    axes: Axes = figure.subplots()
    _plain(axes)
    places = range(len(grid.windows))
    names = [_literal(str(name)) for name in grid.segments]
    for (dash, marker, colour), name, figures in zip(cycle(_LINES), names, values, strict=False):
        heights = [math.nan if value is None else value for value in figures]
        # A mark at the upper end is drawn whole.
        style: dict[str, Any] = {"linestyle": dash, "marker": marker, "color": colour, "clip_on": False}
        axes.plot(places, heights, label=name, markersize=5, **style)
    _name_windows(axes, grid)
    _, unit = figure_of(metric)
    axes.set_ylabel(f"{unit} per session" if metric.endswith("_mean") else unit)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    if len(grid.segments) > 1:
        # By itself matplotlib would leave out the lines whose names begin with "_".
        figure.legend(axes.get_lines(), names, loc="outside right upper", fontsize=8.5, frameon=False)
    return axes


def _heatmap(grid: MetricsGrid, values: Values, metric: Quantity) -> "Axes":
    width = min(16.0, max(6.0, 2.5 + 0.62 * len(grid.windows)))
    figure = _figure(width, min(14.0, 2.2 + 0.42 * len(grid.segments)))
    axes: Axes = figure.subplots()
    field = [[math.nan if value is None else value for value in row] for row in values]
    # Dark and light in the order of the values, in grey too.
    image = axes.imshow(field, cmap="cividis_r", aspect="auto")
    axes.set_yticks(
        range(len(grid.segments)), [_literal(_short(name)) for name in grid.segments], fontsize=8.5
    )
    axes.tick_params(length=0)
    _name_windows(axes, grid)
    _, unit = figure_of(metric)
    known = [value for row in values for value in row if value is not None]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    small = len(grid) <= _MOST_NUMBERS
    for row, figures in enumerate(values):
        for column, value in enumerate(figures):
            cell = grid.cells[row, column]
            if cell.metrics is None:
                axes.plot(column, row, marker="x", color=_FAINT, markersize=8)
            elif value is None:
                axes.text(column, row, number(None, unit), ha="center", va="center", fontsize=7.5)
            elif small:
                colour = "white" if value > middle else "black"
                axes.text(
                    column, row, number(value, unit), ha="center", va="center", fontsize=7.5, color=colour
                )
    if known:
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label(unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return axes


def _name_windows(axes: "Axes", grid: MetricsGrid) -> None:
    step = math.ceil(len(grid.windows) / _MOST_TICKS)
    places = range(0, len(grid.windows), step)
    names = [str(grid.windows[place]) for place in places]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if sum(map(len, names)) > 60 else {}
    axes.set_xticks(places, names, fontsize=8.5, **turned)
    axes.set_xlim(-0.5, len(grid.windows) - 0.5)


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 28 else f"{text[:13]}…{text[-14:]}"


_KINDS: Final = {"lines": _lines, "heatmap": _heatmap}
