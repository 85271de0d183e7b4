"""A grid and texts that the tests of HTML and of terminals share."""

import datetime as dt
import xml.etree.ElementTree as ET
from typing import Any

import attrs

from helicone_sessions import F, QueryFailed, SessionMetricsQuery, TimeFilter
from helicone_sessions.report import GridCell, MetricsGrid
from helicone_sessions.report.periods import periods_of
from helicone_sessions.testing import metrics

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
NASTY = "<script>alert('&amp;')</script>"


def parsed(fragment: str) -> ET.Element:
    """The fragment as a tree; it is well formed, and loads nothing."""
    for outside in ("http:", "https:", "src=", "url(", "@import", "<script", "javascript:"):
        assert outside not in fragment.lower()
    return ET.fromstring(fragment)  # noqa: S314 - it is our own


def words(fragment: str) -> str:
    """All text of a fragment."""
    return " ".join(parsed(fragment).itertext())


def a_grid(days: int = 3, segments: Any = None) -> MetricsGrid:
    """A grid whose first cell failed."""
    query = SessionMetricsQuery(time_filter=TimeFilter(START, START + days * DAY))
    periods = periods_of(query, DAY, None)
    segments = segments or F.model.is_each(["gpt-4o", NASTY])
    cells = {
        (row, column): GridCell(name, period, query, metrics(cost=0.5 * row + column))
        for row, name in enumerate(segments)
        for column, period in enumerate(periods)
    }
    cells[0, 0] = attrs.evolve(cells[0, 0], metrics=None, error=QueryFailed(f"no {NASTY}", status=500))
    return MetricsGrid(query, dict(segments), periods, cells)
