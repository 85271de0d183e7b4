"""Metrics in a terminal: tables and block-character histograms that fit its width (extra ``cli``)."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from helicone_sessions.messages.metrics import UNITS, Histogram, SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.cells import GridCell, Quantity, figure_of
from helicone_sessions.report.words import TITLES, cut_of, number, quantity_title

if TYPE_CHECKING:
    from helicone_sessions.report.grid import MetricsGrid

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_MISSING: Final = "-"


def figures(metrics: SessionMetrics) -> list[str]:
    """The averages of an answer: requests, seconds, dollars."""
    return [number(getattr(metrics.average, name), unit) for name, unit in UNITS.items()]


class Bar:
    """A horizontal bar, as wide as its share of the width it gets."""

    def __init__(self, share: float, style: str = "cyan") -> None:
        self._share = min(max(share, 0.0), 1.0)
        self._style = style

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        if options.ascii_only:
            yield Text("#" * round(self._share * options.max_width), self._style)
            return
        eighths = round(self._share * options.max_width * 8)
        full, rest = divmod(eighths, 8)
        yield Text("█" * full + _EIGHTHS[rest].strip(), self._style)

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)


def histogram(drawn: Histogram, title: str) -> RenderableType:
    """One histogram: a line for each bar, with its range and how many sessions it holds."""
    table = Table(
        title=_title(title), title_justify="left", box=None, expand=True, pad_edge=False, show_header=False
    )
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    tallest = max((row.value for row in drawn), default=1.0) or 1.0
    for row in drawn:
        ends = f"{number(row.range_start, drawn.unit)} to {number(row.range_end, drawn.unit)}"
        table.add_row(ends, Bar(row.value / tallest), f"{row.value:,.0f}")
    if not len(drawn):
        table.add_row(_MISSING, "no session", "")
    return table


def histograms(metrics: SessionMetrics, query: SessionMetricsQuery | None = None) -> RenderableType:
    """The three histograms of an answer, and what they leave out."""
    parts = [histogram(getattr(metrics, name), title) for name, title in TITLES.items()]
    note = Text(
        f"Number of sessions at the right. {cut_of(query)} Bars are of unequal width.",
        "dim",
    )
    return Group(*(item for part in parts for item in (part, Text())), note)


def cells(
    title: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], marked: Mapping[str, str]
) -> Table:
    """A table of figures, to be printed with ``crop=False``; *marked* gives rows a style by label."""
    table = Table(
        title=_title(title), title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    lines = list(rows)
    for place, head in enumerate(heads):
        # Broken at hyphens, where the names of models have theirs.
        parts = wrap(head, 10)
        # A figure that is cut reads as another one.
        widest = max(map(cell_len, (*parts, *(figures[place] for _, figures in lines))), default=0)
        table.add_column(Text("\n".join(parts)), justify="right", min_width=widest)
    for label, figures in lines:
        table.add_row(*map(Text, (label, *figures)), style=marked.get(label))
    return table


def _title(title: str) -> Text:
    """As rich shows it; a plain str would be read as markup, here and in the cells."""
    return Text(title, "table.title")


def grid_table(grid: "MetricsGrid", metric: Quantity = "dollars_mean") -> Table:
    """A grid as a table: a line for each window, a column for each segment.

    Args:
        grid: The grid.
        metric: The figure that is shown.

    Raises:
        ValueError: There is no figure of that name.
    """
    _, unit = figure_of(metric)
    names = list(grid.segments)
    rows = [
        (str(window), [_shown(grid.cells[row, place], metric, unit) for row in range(len(names))])
        for place, window in enumerate(grid.windows)
    ]
    return cells(quantity_title(metric, grid.query), [str(name) for name in names], rows, {})


def _shown(cell: GridCell, metric: Quantity, unit: str) -> str:
    return "failed" if cell.metrics is None else number(cell.quantity(metric), unit)
