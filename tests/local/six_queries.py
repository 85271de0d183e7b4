"""The service's own six queries as a strategy of the engine, to compare with its one scan.

They read the table nine times: ClickHouse writes a ``WITH`` out wherever it is named, and the histograms
name theirs twice. ``quantile`` is exact up to 8192 sessions and takes samples of more; ``histogram`` depends
on the order of the rows from 21 sessions on, and so on the threads. The sum of a session's cost wraps around
at 2**64 billionths of a dollar.
"""

import asyncio
from typing import Any, Final

import attrs

from helicone_sessions.local.drivers import Driver, Result, Statement
from helicone_sessions.local.query.metrics_sql import NANO, Selection, metrics_of, quantile_levels
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery


@attrs.frozen
class _Measure:
    """One of the three things that are measured of a session.

    Args:
        of_requests: It as an aggregate of requests.
        of_groups: It as an aggregate of the rows of `Selection.groups`.
        drawn_by: The unit that a bar of its histogram counts.
    """

    of_requests: str
    of_groups: str
    drawn_by: tuple[str, ...] = ("id",)


# In the order of the answer.
_MEASURES: Final = (
    _Measure("count()", "sum(requests)", drawn_by=("name", "id")),
    _Measure(
        "dateDiff('second', min(request_created_at), max(request_created_at))",
        "dateDiff('second', min(first), max(latest))",
    ),
    _Measure(f"sum(cost) / {NANO}", f"sum(nanodollars) / {NANO}"),
)


async def answer(driver: Driver, selection: Selection, query: SessionMetricsQuery) -> SessionMetrics:
    """The metrics of the sessions that *selection* holds.

    As in the service the histograms come one after another, then the averages all at once.

    Raises:
        DriverError: ClickHouse refused or gave up.
    """
    histograms = [await driver.query(_histogram(selection, one, quantile_levels(query))) for one in _MEASURES]
    averages = await _all_of(driver, [_average(selection, one) for one in _MEASURES])
    bars = [[bar for (bar,) in result.rows] for result in histograms]
    means = [result.rows[0][0] for result in averages]
    return metrics_of(bars, means)


async def _all_of(driver: Driver, statements: list[Statement]) -> list[Result]:
    results: list[Any] = await asyncio.gather(*map(driver.query, statements), return_exceptions=True)
    # Only now that none of them runs any more.
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _histogram(selection: Selection, measure: _Measure, ends: dict[str, float]) -> Statement:
    bounds = ", ".join(f"quantile({level!r})(value) AS {end}" for end, level in ends.items())
    inside = "value BETWEEN low AND high" if "low" in ends else "value <= high"
    text = f"""
WITH sessions AS ({_sessions(selection, measure, measure.drawn_by)}
), bounds AS (SELECT {bounds} FROM sessions)
SELECT arrayJoin(histogram(10)(value)) AS bar FROM sessions, bounds WHERE {inside}"""
    return Statement(text, selection.parameters.values)


def _average(selection: Selection, measure: _Measure) -> Statement:
    text = f"SELECT avg(value) AS average FROM ({_sessions(selection, measure, ('id',))})"
    return Statement(text, selection.parameters.values)


def _sessions(selection: Selection, measure: _Measure, keys: tuple[str, ...]) -> str:
    """A statement for the *measure*, as ``value``, of the selected requests grouped by *keys*."""
    by = ", ".join(keys)
    if selection.condition.on_sessions:
        return f"SELECT {by}, {measure.of_groups} AS value FROM ({selection.groups()}) GROUP BY {by}"
    tables = selection.tables
    # The service reads without it: requests that came again count twice until ClickHouse merges them.
    plain = tables.requests.removesuffix(" FINAL")
    behind = {"id": tables.session_id, "name": tables.session_name}
    return f"""
SELECT {", ".join(f"{behind[key]} AS {key}" for key in keys)}, {measure.of_requests} AS value
FROM {plain} WHERE {selection.scope} AND {selection.condition.text} GROUP BY {by}"""
