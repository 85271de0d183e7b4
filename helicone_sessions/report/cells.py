"""`GridCell`: one query of a grid with its metrics, and the quantities that grids show."""

from collections.abc import Hashable
from typing import Final, Literal

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import cut_note
from helicone_sessions.errors import HeliconeError
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.periods import Period

Quantity = Literal[
    "requests_mean", "seconds_mean", "dollars_mean", "requests_cut", "seconds_cut", "dollars_cut"
]
"""A number of a cell: the mean of all its sessions, or the value at which its histogram is cut."""
QUANTITIES: Final[dict[Quantity, tuple[str, str]]] = {
    "requests_mean": ("session_count", "requests"),
    "seconds_mean": ("session_duration", "seconds"),
    "dollars_mean": ("session_cost", "dollars"),
    "requests_cut": ("session_count", "requests"),
    "seconds_cut": ("session_duration", "seconds"),
    "dollars_cut": ("session_cost", "dollars"),
}
_MEANINGS: Final = {
    "session_count": "requests per session",
    "session_duration": "seconds from a session's first request to its last",
    "session_cost": "dollars per session",
}
# The service cuts here if the query has no p_size.
_DEFAULT_LEVEL: Final = "p75"


@attrs.frozen(repr=False)
class GridCell:
    """One cell of a grid.

    Args:
        segment: The name of its segment; None in the total of a period.
        period: Its period; None in the total of a segment.
        query: Its query.
        metrics: The metrics; None if the query failed.
        error: The error of the query; None if it succeeded.

    >>> from helicone_sessions.testing import metrics
    >>> cell = GridCell("o3", None, SessionMetricsQuery(), metrics(cost=0.5))
    >>> cell.quantity("dollars_mean"), cell.error
    (0.5, None)
    """

    segment: Hashable
    period: Period | None
    query: SessionMetricsQuery
    metrics: SessionMetrics | None = None
    error: HeliconeError | None = None

    def __repr__(self) -> str:
        state = type(self.error).__name__ if self.error else "metrics" if self.metrics else "not queried"
        return f"<GridCell {self.segment!r}, {self.period}: {state}>"

    def _repr_html_(self) -> str:
        shown = str(self.error or "not queried") if self.metrics is None else self.metrics._repr_html_()
        return html.titled(f"{self.segment}, {self.period}", shown, is_html=self.metrics is not None)

    def quantity(self, name: Quantity) -> float | None:
        """A number of the cell; None if its query failed, or if no session matches.

        Args:
            name: A mean of all sessions, or the value at which a histogram is cut.

        Raises:
            ValueError: There is no quantity of that name.

        >>> from helicone_sessions.testing import metrics
        >>> GridCell("o3", None, SessionMetricsQuery(), metrics(duration=12)).quantity("seconds_cut")
        12.0
        >>> GridCell("o3", None, SessionMetricsQuery()).quantity("seconds_cut") is None
        True
        """
        metric, _ = metric_and_unit(name)
        if self.metrics is None:
            return None
        if name.endswith("_mean"):
            mean: float | None = getattr(self.metrics.average, metric)
            return mean
        bars = getattr(self.metrics, metric)
        return bars[-1].range_end if bars else None


def metric_and_unit(name: Quantity) -> tuple[str, str]:
    """The metric that a quantity is taken from, and its unit.

    Raises:
        ValueError: There is no quantity of that name.

    >>> metric_and_unit("seconds_cut")
    ('session_duration', 'seconds')
    """
    try:
        return QUANTITIES[name]
    except KeyError:
        raise ValueError(f"there is no quantity {name!r}. Use one of {', '.join(QUANTITIES)}") from None


def cut_of(query: SessionMetricsQuery | None) -> str:
    """A sentence that says where the histograms of a query are cut.

    >>> cut_of(SessionMetricsQuery(p_size="p95"))
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    if query is None:
        return cut_note()
    return cut_note(query.p_size or _DEFAULT_LEVEL, both_ends=bool(query.use_interquartile))


def quantity_title(name: Quantity, query: SessionMetricsQuery) -> str:
    """The title of a table or a picture that shows one quantity.

    >>> quantity_title("seconds_cut", SessionMetricsQuery(p_size="p95"))
    "Seconds from a session's first request to its last, at about p95"
    """
    metric, _ = metric_and_unit(name)
    kind = "mean" if name.endswith("_mean") else f"at about {query.p_size or _DEFAULT_LEVEL}"
    return f"{_MEANINGS[metric].capitalize()}, {kind}"
