"""`GridComparison`: two grids beside each other."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import attrs

from helicone_sessions.messages.tabular import Row, Tabular
from helicone_sessions.report.cells import QUANTITIES, GridCell, Quantity


@attrs.frozen
class Change:
    """How a figure of a cell differs from an earlier one.

    Args:
        before: The earlier figure; None where there is none.
        after: The later one.

    >>> Change(before=2.0, after=3.0).difference, Change(before=None, after=3.0).difference
    (1.0, None)
    """

    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """How much more it is now."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def ratio(self) -> float | None:
        """How many times as much it is now; None too where it was nothing.

        >>> Change(2.0, 3.0).ratio
        1.5
        """
        return self.after / self.before if self.before and self.after is not None else None


@attrs.frozen
class GridComparison(Tabular):
    """The cells of two grids, side by side, as `MetricsGrid.compare` gives them.

    Args:
        pairs: Each cell and the one of the earlier grid.

    >>> from helicone_sessions import SessionMetricsQuery
    >>> from helicone_sessions.testing import metrics
    >>> before, after = (GridCell("o3", None, SessionMetricsQuery(), metrics(cost=c)) for c in (0.25, 0.5))
    >>> row = GridComparison(((after, before),)).to_rows()[2]
    >>> row["quantity"], row["before"], row["after"], row["ratio"]
    ('dollars_mean', 0.25, 0.5, 2.0)
    """

    pairs: tuple[tuple[GridCell, GridCell], ...]

    columns: ClassVar[Mapping[str, str]] = {
        "segment": "the name of the segment",
        "start": "where the window starts",
        "start_before": "where the window of the earlier grid starts",
        "quantity": "which figure, as in the columns of a grid",
        "unit": "requests, seconds or dollars: of before, after and difference",
        "before": "the figure of the earlier grid",
        "after": "the figure of this one",
        "difference": "how much more it is now",
        "ratio": "how many times as much it is now",
    }

    def __iter__(self) -> Iterator[tuple[GridCell, GridCell]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def to_rows(self) -> list[Row]:
        """A dict for each figure of each pair of cells, with the keys of `columns`."""
        return [_row(after, before, name) for after, before in self.pairs for name in QUANTITIES]


def _row(after: GridCell, before: GridCell, name: Quantity) -> Row:
    change = Change(before.quantity(name), after.quantity(name))
    return {
        "segment": after.segment,
        "start": after.window and after.window.start,
        "start_before": before.window and before.window.start,
        "quantity": name,
        "unit": QUANTITIES[name][1],
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "ratio": change.ratio,
    }
