"""Tables and block-character histograms that fit a terminal (extra ``cli``)."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from helicone_sessions.display.numbers import MISSING, Panel, number

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


class Bar:
    """A horizontal bar that fills a share of the available width."""

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


def histogram(panel: Panel) -> Table:
    """One histogram: a line for each bar with its range and its number of sessions."""
    table = Table(
        title=_literal_title(panel.title),
        title_justify="left",
        box=None,
        expand=True,
        pad_edge=False,
        show_header=False,
    )
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    tallest = max((sessions for _, _, sessions in panel.bars), default=1.0) or 1.0
    for start, end, sessions in panel.bars:
        ends = f"{number(start, panel.unit)} to {number(end, panel.unit)}"
        table.add_row(ends, Bar(sessions / tallest), f"{sessions:,.0f}")
    if not panel.bars:
        table.add_row(MISSING, "no session", "")
    return table


def histograms(panels: Iterable[Panel], note: str) -> RenderableType:
    """Several histograms, and below them a note that says where they are cut."""
    lines = [item for panel in panels for item in (histogram(panel), Text())]
    below = f"Numbers on the right are session counts. {note} Bars are of unequal width."
    return Group(*lines, Text(below, "dim"))


def table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    styles: Mapping[str, str] | None = None,
) -> Table:
    """A table of numbers; print it with ``crop=False``.

    Args:
        title: The text above it.
        heads: The column headers, without the one above the labels.
        rows: A label and a text for each column.
        styles: The styles of rows by label.
    """
    shown = Table(
        title=_literal_title(title),
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    shown.add_column("", no_wrap=True)
    lines = list(rows)
    for column, head in enumerate(heads):
        # Names of models are long, and wrap breaks them at their hyphens.
        parts = wrap(head, 10)
        # A number that is cut off reads as another number.
        widest = max(map(cell_len, (*parts, *(texts[column] for _, texts in lines))), default=0)
        shown.add_column(Text("\n".join(parts)), justify="right", min_width=widest)
    for label, texts in lines:
        shown.add_row(*map(Text, (label, *texts)), style=(styles or {}).get(label))
    return shown


def _literal_title(title: str) -> Text:
    # rich reads a plain str as markup.
    return Text(title, "table.title")
