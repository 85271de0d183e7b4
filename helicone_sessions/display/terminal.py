"""Tables and block-character histograms that fit a terminal (``cli`` extra)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from helicone_sessions.display.numbers import MISSING, Panel, ranges
from helicone_sessions.masking import printable

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
# Bars for fewer sessions would suggest a distribution that is not there.
_FEWEST_TO_DRAW: Final = 10
# Model names are long, and wrap() breaks them at hyphens.
_WIDEST_HEAD: Final = 10
# Wider than any table.
_UNBOUNDED: Final = 100_000
# The space between columns.
_GAP: Final = 3


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


def histogram(panel: Panel, most: int | None = None) -> Table:
    """A histogram with one line for each bar. The line shows the range and the number of sessions.

    Args:
        panel: The histogram.
        most: The maximum number of bars. Adjacent bars are merged.
    """
    table = Table(
        title=_literal(panel.title, "table.title"),
        title_justify="left",
        box=None,
        expand=True,
        pad_edge=False,
        show_header=False,
    )
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    bars = ranges(panel, most)
    tallest = max((bar.sessions for bar in bars), default=1.0) or 1.0
    is_drawn = sum(bar.sessions for bar in bars) >= _FEWEST_TO_DRAW
    for label, sessions in bars:
        table.add_row(label, Bar(sessions / tallest) if is_drawn else "", f"{sessions:,.0f}")
    if not bars:
        table.add_row(MISSING, "no session", "")
    return table


def histograms(panels: Iterable[Panel], note: str) -> RenderableType:
    """Several histograms, followed by a note about the cut."""
    lines = [item for panel in panels for item in (histogram(panel), Text())]
    below = f"Numbers on the right are session counts. {note} Bars are of unequal width."
    return Group(*lines, Text(below, "dim"))


class NumberTable:
    """A table of numbers that is split into blocks of columns if the terminal is too narrow.

    Args:
        title: The text above the table.
        heads: The column headers, except the one above the labels.
        rows: For each row, its label and a string for each column.
        styles: The row styles by label.
        words: The headers of columns that hold words instead of numbers.
        note: The text below the table.
        label: The header above the labels.
    """

    def __init__(
        self,
        title: str,
        heads: Sequence[str],
        rows: Iterable[tuple[str, Sequence[str]]],
        styles: Mapping[str, str] | None = None,
        words: Collection[str] = (),
        note: str = "",
        label: str = "",
    ) -> None:
        self._title = title
        self._note = note
        self._label = label
        self._justify: list[JustifyMethod] = ["left" if head in words else "right" for head in heads]
        self._heads = [wrap(printable(head), _WIDEST_HEAD) for head in heads]
        self._rows = list(rows)
        self._styles = styles or {}

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        # A truncated number would look like another number, so columns are wide enough for all numbers.
        widths = [
            max(map(cell_len, (*head, *(texts[column] for _, texts in self._rows))), default=0)
            for column, head in enumerate(self._heads)
        ]
        labels = max(map(cell_len, (self._label, *(label for label, _ in self._rows))))
        if self._title:
            yield _literal(self._title, "table.title")
        for block in _blocks(widths, options.max_width - labels - _GAP):
            yield self._block(block, widths)
            yield Text()
        if self._note:
            yield _literal(self._note, "dim")

    def _block(self, columns: range, widths: Sequence[int]) -> Table:
        shown = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        # Long names are wrapped, because a truncated name could not be used elsewhere.
        shown.add_column(self._label, overflow="fold")
        for column in columns:
            head = _literal("\n".join(self._heads[column]))
            shown.add_column(head, justify=self._justify[column], min_width=widths[column])
        for label, texts in self._rows:
            cells = (label, *(texts[column] for column in columns))
            shown.add_row(*map(_literal, cells), style=self._styles.get(label))
        return shown


class Records:
    """A table of any values. If the terminal is too narrow, each row becomes a list of names and values.

    Args:
        names: The names of the columns.
        rows: For each row, a string for each column.
        numbers: The names of the columns that hold numbers.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]) -> None:
        self._names = names
        self._rows = rows
        self._numbers = numbers

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name in self._names:
            table.add_column(_literal(name), justify="right" if name in self._numbers else "left")
        for row in self._rows:
            table.add_row(*map(_literal, row))
        wanted = Measurement.get(_console, options.update(max_width=_UNBOUNDED), table).maximum
        if wanted <= options.max_width:
            yield table
            return
        for count, row in enumerate(self._rows, 1):
            yield Text(f"row {count}", "bold")
            record = Table.grid(padding=(0, 2, 0, 0))
            record.add_column(overflow="fold")
            record.add_column(overflow="fold")
            for name, text in zip(self._names, row, strict=True):
                record.add_row(_literal(name, "dim"), _literal(text))
            yield record


def _blocks(widths: Sequence[int], room: int) -> Iterator[range]:
    """The columns of each block, as many as fit the width, but at least one."""
    start, used = 0, 0
    for column, width in enumerate(widths):
        used += width + _GAP
        if used > room and column > start:
            yield range(start, column)
            start, used = column, width + _GAP
    yield range(start, len(widths))


def _literal(text: str, style: str = "") -> Text:
    # rich reads a str as markup, and a terminal interprets control characters.
    return Text(printable(text), style)
