"""The cells of a grid, and the quantities that can be shown for each cell."""

from collections.abc import Hashable, Mapping
from typing import Final, Literal, get_args

import attrs

from helicone_sessions.display import html
from helicone_sessions.errors import HeliconeError
from helicone_sessions.messages.metrics import UNITS, PSize, SessionAverages, SessionMetrics, note_of_cut
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.periods import Period

Quantity = Literal[
    "requests_mean",
    "seconds_mean",
    "dollars_mean",
    "sessions",
    "requests_total",
    "dollars_total",
    "requests_cut",
    "seconds_cut",
    "dollars_cut",
    "requests_p50",
    "seconds_p50",
    "dollars_p50",
    "requests_p75",
    "seconds_p75",
    "dollars_p75",
    "requests_p95",
    "seconds_p95",
    "dollars_p95",
    "requests_p99",
    "seconds_p99",
    "dollars_p99",
    "requests_p99.9",
    "seconds_p99.9",
    "dollars_p99.9",
]
"""The name of a quantity of a cell: a mean, a quantile, a total, or the value where a histogram is cut."""

_METRICS: Final = {unit: name for name, unit in UNITS.items()}
_MEANINGS: Final = {
    "requests": "requests per session",
    "seconds": "seconds from a session's first request to its last",
    "dollars": "dollars per session",
}
_TOTALS: Final = {"sessions": "sessions", "requests_total": "requests", "dollars_total": "dollars"}

MEANS: Final[tuple[Quantity, ...]] = ("requests_mean", "seconds_mean", "dollars_mean")
TOTALS: Final[tuple[Quantity, ...]] = ("sessions", "requests_total", "dollars_total")
CUTS: Final[tuple[Quantity, ...]] = ("requests_cut", "seconds_cut", "dollars_cut")


def quantiles(levels: "tuple[PSize, ...]") -> tuple[Quantity, ...]:
    """Return the names of the quantities for the given quantile levels.

    >>> quantiles(("p95",))
    ('requests_p95', 'seconds_p95', 'dollars_p95')
    """
    return tuple(f"{unit}_{level}" for level in levels for unit in _MEANINGS)  # type: ignore[misc]


QUANTITIES: Final[tuple[Quantity, ...]] = get_args(Quantity)


@attrs.frozen
class CellSums:
    """The numbers of sessions and requests in a cell, and their cost.

    Args:
        sessions: The number of sessions.
        requests: The number of requests.
        dollars: The cost of all requests, in dollars.
        is_exact: Whether the numbers are exact. Otherwise, they are estimated from the number of sessions
            in the histograms. An estimate may be up to one session too low (three with
            ``use_interquartile``). It may be too high by up to the ratio of excluded to included sessions:
            1/3 at p75, 5.3 % at p95, 0.1 % at p99.9.

    >>> CellSums(sessions=4, requests=12, dollars=1.0).is_exact
    True
    """

    sessions: float
    requests: float
    dollars: float
    is_exact: bool = True


@attrs.frozen(repr=False)
class GridCell:
    """One cell of a grid.

    Args:
        segment: The name of the segment; None in the total of a period.
        period: The period; None in the total of a segment.
        query: The query of the cell.
        metrics: The metrics; None if the query failed or has not run.
        error: The error of the query; None if it succeeded.
        sums: The numbers of sessions, requests and dollars; None if there are no metrics.
        percentiles: The quantiles requested for the grid, keyed by ``p_size``.

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
    sums: CellSums | None = None
    percentiles: Mapping[PSize, SessionAverages] = attrs.field(factory=dict)

    def __repr__(self) -> str:
        state = type(self.error).__name__ if self.error else "metrics" if self.metrics else "not queried"
        return f"<GridCell {self.segment!r}, {self.period}: {state}>"

    def _repr_html_(self) -> str:
        shown = str(self.error or "not queried") if self.metrics is None else self.metrics._repr_html_()
        return html.titled(f"{self.segment}, {self.period}", shown, is_html=self.metrics is not None)

    def quantity(self, name: Quantity) -> float | None:
        """Return a quantity of the cell.

        The result is None if the query failed, if no session matches, or if the quantity was not requested.

        Args:
            name: The name of a mean or quantile of all sessions, of a total, or of the value at which a
                histogram is cut.

        Raises:
            ValueError: There is no quantity of that name.

        >>> from helicone_sessions.testing import metrics
        >>> GridCell("o3", None, SessionMetricsQuery(), metrics(duration=12)).quantity("seconds_cut")
        12.0
        >>> GridCell("o3", None, SessionMetricsQuery()).quantity("seconds_cut") is None
        True
        """
        unit_of(name)
        if self.metrics is None:
            return None
        if name in _TOTALS:
            return None if self.sums is None else getattr(self.sums, name.removesuffix("_total"))
        unit, _, kind = name.partition("_")
        metric = _METRICS[unit]
        if kind == "mean":
            return getattr(self.metrics.average, metric)  # type: ignore[no-any-return]
        if kind == "cut":
            bars = getattr(self.metrics, metric)
            return bars[-1].range_end if bars else None
        values = self.percentiles.get(kind)  # type: ignore[call-overload]
        return None if values is None else getattr(values, metric)


def unit_of(name: Quantity) -> str:
    """Return the unit of a quantity.

    Raises:
        ValueError: There is no quantity of that name.

    >>> unit_of("seconds_cut"), unit_of("sessions")
    ('seconds', 'sessions')
    """
    if name not in QUANTITIES:
        raise ValueError(f"there is no quantity {name!r}. Use one of {', '.join(QUANTITIES)}")
    return name.partition("_")[0]


def cut_of(query: SessionMetricsQuery | None) -> str:
    """Describe in one sentence where the histograms of a query are cut.

    >>> cut_of(SessionMetricsQuery(p_size="p95"))
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    return note_of_cut(None if query is None else query.cut)


def quantity_title(name: Quantity, query: SessionMetricsQuery) -> str:
    """Return the title of a table or plot that shows one quantity.

    >>> quantity_title("seconds_cut", SessionMetricsQuery(p_size="p95"))
    "Seconds from a session's first request to its last, at about p95"
    >>> quantity_title("dollars_total", SessionMetricsQuery())
    'Dollars of all requests'
    """
    unit_of(name)
    if name in _TOTALS:
        return {"sessions": "Sessions", "requests_total": "Requests"}.get(name, "Dollars of all requests")
    unit, _, kind = name.partition("_")
    shown = {"mean": "mean", "cut": f"at about {query.cut.p_size}"}.get(kind, kind)
    return f"{_MEANINGS[unit].capitalize()}, {shown}"
