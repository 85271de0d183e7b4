"""The words and numbers that tables and pictures have in common."""

from typing import Final

from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.cells import Quantity, figure_of

TITLES: Final = {
    "session_count": "Requests per session",
    "session_duration": "Seconds per session, first request to last",
    "session_cost": "Dollars per session",
}
MEANS: Final = {
    "session_count": "requests per session",
    "session_duration": "seconds from a session's first request to its last",
    "session_cost": "dollars per session",
}
_MISSING: Final = "-"


def number(value: float | None, unit: str) -> str:
    """The value as people read it; a dash where there is none.

    >>> number(8.521, "dollars"), number(0.00103, "dollars"), number(421.19, "seconds")
    ('8.52', '0.0010', '421')
    """
    if value is None:
        return _MISSING
    if unit == "dollars":
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cut_of(query: SessionMetricsQuery | None) -> str:
    """What the histograms of a query leave out, in a sentence.

    >>> cut_of(SessionMetricsQuery(p_size="p95"))
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    if query is None:
        return "Cut at the query's p_size: sessions above that quantile are not drawn."
    level = query.p_size or "p75"
    if query.use_interquartile:
        return f"Cut at both ends, at {level} and its mirror: sessions outside are not drawn."
    return f"Cut at {level}: sessions above that quantile are not drawn."


def quantity_title(name: Quantity, query: SessionMetricsQuery) -> str:
    """What a figure of a cell is, as the title of a table or a picture.

    >>> quantity_title("seconds_cut", SessionMetricsQuery(p_size="p95"))
    "Seconds from a session's first request to its last, at about p95"
    """
    metric, _ = figure_of(name)
    kind = "mean" if name.endswith("_mean") else f"at about {query.p_size or 'p75'}"
    return f"{MEANS[metric].capitalize()}, {kind}"
