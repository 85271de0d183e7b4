"""What the plans share: where the histograms are cut, and the answer that is made of the figures."""

from typing import Any, Final

import attrs

from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import PSize, SessionMetricsQuery

NANO: Final = 1_000_000_000
# The service's own default.
_DEFAULT_P: Final[PSize] = "p75"
_LEVELS: Final[dict[PSize, float]] = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@attrs.frozen
class Answer:
    """What a plan gives.

    Args:
        metrics: The metrics.
        rows_read: How many rows of tables were read for them, by all statements together.
    """

    metrics: SessionMetrics
    rows_read: int


def levels(query: SessionMetricsQuery) -> dict[str, float]:
    """The quantiles at which the histograms end (``high``) and, if it is asked for, begin (``low``)."""
    high = _LEVELS[query.p_size or _DEFAULT_P]
    return {"high": high} | ({"low": 1 - high} if query.use_interquartile else {})


def metrics(histograms: list[list[Any]], averages: list[float | None]) -> SessionMetrics:
    """The metrics of three histograms, each a list of bars, and three averages, in the order of `UNITS`."""
    named: dict[str, Any] = {
        name: Histogram(tuple(HistogramRow(*bar) for bar in bars), unit=unit)
        for (name, unit), bars in zip(UNITS.items(), histograms, strict=True)
    }
    count, duration, cost = averages
    return SessionMetrics(**named, average=SessionAverages(count, duration, cost))
