"""`GridComparison`: two grids side by side."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import ClassVar

import attrs

from helicone_sessions.messages.tabular import Row, Tabular
from helicone_sessions.report.cells import QUANTITIES, GridCell, Quantity


@attrs.frozen
class Change:
    """The change of one quantity of a cell.

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
        """The later value divided by the earlier one; None if that is zero.

        >>> Change(2.0, 3.0).ratio
        1.5
        """
        return self.after / self.before if self.before and self.after is not None else None


@attrs.frozen
class GridComparison(Tabular):
    """The cells of two grids in pairs, as `MetricsGrid.compare` returns them.

    Args:
        pairs: Each cell with that of the earlier grid, segment by segment.

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
        "start": "the start of the period",
        "start_before": "the start of the period in the earlier grid",
        "quantity": "the name of the quantity, as in the columns of a grid",
        "unit": "requests, seconds or dollars: the unit of before, after and difference",
        "before": "the value in the earlier grid",
        "after": "the value in this grid",
        "difference": "after minus before",
        "ratio": "after divided by before",
    }
    column_types: ClassVar[Mapping[str, type]] = {
        **dict.fromkeys(("start", "start_before"), datetime),
        **dict.fromkeys(("before", "after", "difference", "ratio"), float),
    }

    def __iter__(self) -> Iterator[tuple[GridCell, GridCell]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def to_rows(self) -> list[Row]:
        """A dict for each quantity of each pair of cells, with the keys of `columns`."""
        return [_row(after, before, name) for after, before in self.pairs for name in QUANTITIES]


def _row(after: GridCell, before: GridCell, name: Quantity) -> Row:
    change = Change(before.quantity(name), after.quantity(name))
    return {
        "segment": after.segment,
        "start": after.period and after.period.start,
        "start_before": before.period and before.period.start,
        "quantity": name,
        "unit": QUANTITIES[name][1],
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "ratio": change.ratio,
    }
