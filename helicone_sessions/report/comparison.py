"""Comparisons of two grids."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import MISSING, column_numbers
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.tabular import Row, Tabular
from helicone_sessions.report.cells import (
    CUTS,
    MEANS,
    TOTALS,
    GridCell,
    Quantity,
    quantiles,
    quantity_title,
    unit_of,
)
from helicone_sessions.report.periods import Period

if TYPE_CHECKING:
    from rich.console import RenderableType

_HEADS: Final = ("before", "after", "ratio")
# The maximum number of rows shown in a notebook.
_MOST_ROWS: Final = 200


@attrs.frozen
class Change:
    """The change in one quantity of a cell.

    Args:
        before: The earlier value; None if it is missing.
        after: The later value; None if it is missing.

    >>> Change(before=2.0, after=3.0).difference, Change(before=None, after=3.0).difference
    (1.0, None)
    """

    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """The later value minus the earlier one."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def ratio(self) -> float | None:
        """The later value divided by the earlier one; None if the earlier value is zero.

        >>> Change(2.0, 3.0).ratio
        1.5
        """
        return self.after / self.before if self.before and self.after is not None else None


@attrs.frozen(repr=False)
class GridComparison(Tabular):
    """The paired cells of two grids, as returned by `MetricsGrid.compare`.

    Args:
        pairs: Pairs of a cell and the matching cell of the earlier grid, segment by segment.
        query: The query that the cells of the later grid have in common, if known.

    >>> from helicone_sessions import SessionMetricsQuery
    >>> from helicone_sessions.testing import metrics
    >>> before, after = (GridCell("o3", None, SessionMetricsQuery(), metrics(cost=c)) for c in (0.25, 0.5))
    >>> row = GridComparison(((after, before),)).to_rows()[2]
    >>> row["quantity"], row["before"], row["after"], row["ratio"]
    ('dollars_mean', 0.25, 0.5, 2.0)
    """

    pairs: tuple[tuple[GridCell, GridCell], ...]
    query: SessionMetricsQuery | None = None

    columns: ClassVar[Mapping[str, str]] = {
        "segment": "the name of the segment",
        "start": "the start of the period",
        "start_before": "the start of the period in the earlier grid",
        "quantity": "the name of the quantity, as in the columns of a grid",
        "unit": "requests, seconds, dollars or sessions: the unit of before, after and difference",
        "before": "the value in the earlier grid",
        "after": "the value in this grid",
        "difference": "after minus before",
        "ratio": "after divided by before",
    }
    column_types: ClassVar[Mapping[str, type]] = {
        **dict.fromkeys(("start", "start_before"), datetime),
        **dict.fromkeys(("before", "after", "difference", "ratio"), float),
    }

    def __repr__(self) -> str:
        return f"<GridComparison of {len(self.pairs):,} pairs of cells>"

    def _repr_html_(self) -> str:
        return comparison_to_html(self)

    def __rich__(self) -> "RenderableType":
        return comparison_to_terminal(self)

    def __iter__(self) -> Iterator[tuple[GridCell, GridCell]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def to_rows(self) -> list[Row]:
        """Return a dict for each quantity of each pair of cells, with the keys in `columns`."""
        return [_row(after, before, name) for after, before in self.pairs for name in _quantities(after)]


def _quantities(cell: GridCell) -> tuple[Quantity, ...]:
    return (*MEANS, *TOTALS, *CUTS, *quantiles(tuple(cell.percentiles)))


def _row(after: GridCell, before: GridCell, name: Quantity) -> Row:
    change = Change(before.quantity(name), after.quantity(name))
    return {
        "segment": after.segment,
        "start": after.period and after.period.start,
        "start_before": before.period and before.period.start,
        "quantity": name,
        "unit": unit_of(name),
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "ratio": change.ratio,
    }


def comparison_to_html(comparison: GridComparison, quantity: Quantity = "dollars_mean") -> str:
    """Render a comparison as an HTML table.

    Each pair of cells has one row, with the earlier value, the later value and their ratio.

    Args:
        comparison: The comparison.
        quantity: The quantity to compare.

    Raises:
        ValueError: There is no quantity of that name.
    """
    unit = unit_of(quantity)
    rows = [(label, list(map(html.Cell, texts))) for label, texts in _lines(comparison, quantity)]
    left_out = len(comparison) - len(rows)
    more = f" {left_out:,} more pairs are not shown." if left_out else ""
    note = f"In {unit}.{more} Other quantities: .to_rows(), .to_pandas()."
    return html.table(_title(comparison, quantity), _HEADS, rows, note)


def comparison_to_terminal(
    comparison: GridComparison, quantity: Quantity = "dollars_mean"
) -> "RenderableType":
    """Render a comparison as a terminal table (extra ``cli``).

    If there is only one pair of cells, the table shows all quantities.

    Args:
        comparison: The comparison.
        quantity: The quantity to compare.

    Raises:
        ValueError: There is no quantity of that name.
    """
    from helicone_sessions.display import terminal

    if len(comparison) == 1:
        ((after, _),) = comparison.pairs
        lines = [
            (name.replace("_", " "), texts)
            for name in _quantities(after)
            for _, texts in _lines(comparison, name)
        ]
        return terminal.NumberTable(_times(comparison), _HEADS, lines)
    return terminal.NumberTable(_title(comparison, quantity), _HEADS, _lines(comparison, quantity))


def _title(comparison: GridComparison, quantity: Quantity) -> str:
    return f"{quantity_title(quantity, comparison.pairs[0][0].query)}, {_times(comparison)}"


def _times(comparison: GridComparison) -> str:
    """Describe the time ranges of both grids."""
    spans = []
    for first, last in zip(comparison.pairs[0], comparison.pairs[-1], strict=True):
        if first.period is None or last.period is None:
            return "before and after"
        spans.append(Period(first.period.start, last.period.end, None).span())
    return "before {1}, after {0}".format(*spans)


def _lines(comparison: GridComparison, quantity: Quantity) -> list[tuple[str, list[str]]]:
    """Return a label for each pair of cells, and the texts for the columns in `_HEADS`."""
    unit = unit_of(quantity)
    pairs = comparison.pairs[:_MOST_ROWS]
    changes = [Change(before.quantity(quantity), after.quantity(quantity)) for after, before in pairs]
    values = column_numbers([each for change in changes for each in (change.before, change.after)], unit)
    ratios = [MISSING if change.ratio is None else f"{change.ratio:.2f}" for change in changes]
    # If each segment has only one period, the name of the segment is a sufficient label.
    has_periods = len({after.segment for after, _ in comparison.pairs}) < len(comparison)
    labels = [f"{after.segment}, {after.period}" if has_periods else str(after.segment) for after, _ in pairs]
    texts = zip(values[::2], values[1::2], ratios, strict=True)
    return [(label, list(each)) for label, each in zip(labels, texts, strict=True)]
