"""Metrics from one statement that reads the table once, the same on any number of threads.

Each session becomes one row, the rows become three sorted arrays, and exact quantiles and ClickHouse's
``histogram(10)`` are taken of those.
"""

from collections.abc import Mapping
from typing import Any, Final

from helicone_sessions.local.drivers.driver import Driver, Statement
from helicone_sessions.local.query.selection import Selection
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    PSize,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import SessionMetricsQuery

NANO: Final = 1_000_000_000
# The figures of all sessions, in the order of `UNITS`.
_FIGURES: Final = "[counts, durations, costs]"
# The service's own default.
_DEFAULT_P: Final[PSize] = "p75"
LEVELS: Final[dict[PSize, float]] = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class OneScan:
    """Answers queries with one statement each.

    The service counts the requests of a session for each of its names. Nearly every session has one name, and
    grouping by the session alone takes a third less time. Where the tables do not say whether a session has
    several names, the statement finds out; if one has, the statement runs again with the name, and later
    queries group by name at once.
    """

    def __init__(self) -> None:
        self._found_several_names = False

    async def answer(
        self, driver: Driver, selection: Selection, query: SessionMetricsQuery
    ) -> SessionMetrics:
        """The metrics of the sessions that *selection* holds.

        Raises:
            DriverError: ClickHouse rejected the statement or gave up.
        """
        may_have_several = self._found_several_names or selection.tables.has_several_names
        if not (may_have_several or selection.condition.on_sessions):
            histograms, *averages = (await driver.query(statement(selection, query, by_name=False))).rows[0]
            has_several = len(averages) > len(UNITS) and averages.pop()
            if not has_several:
                return metrics_of(histograms, averages)
            self._found_several_names = True
        histograms, *averages = (await driver.query(statement(selection, query, by_name=True))).rows[0]
        return metrics_of(histograms, averages)


def quantile_levels(query: SessionMetricsQuery) -> dict[str, float]:
    """The quantiles at which the histograms end (``high``) and, if interquartile, begin (``low``)."""
    high = LEVELS[query.p_size or _DEFAULT_P]
    return {"high": high} | ({"low": 1 - high} if query.use_interquartile else {})


def metrics_of(histograms: list[list[Any]], averages: list[float | None]) -> SessionMetrics:
    """The metrics of three histograms, each a list of bars, and three averages, in the order of `UNITS`."""
    named: dict[str, Any] = {
        name: Histogram(tuple(HistogramRow(*bar) for bar in bars), unit=unit)
        for (name, unit), bars in zip(UNITS.items(), histograms, strict=True)
    }
    return SessionMetrics(**named, average=SessionAverages(*averages))


def statement(selection: Selection, query: SessionMetricsQuery, *, by_name: bool) -> Statement:
    """The statement for *query*.

    Args:
        selection: The requests.
        query: The query.
        by_name: Count requests by session and name, instead of by session alone. Without it, if the tables
            do not say whether a session has several names, one more column does.
    """
    several = "" if by_name or selection.tables.has_several_names is not None else ", max(several)"
    text = f"""
WITH {sorted_figures("groupArrayArray(by_name)" if by_name else "groupArray(requests)")}
SELECT {histograms(quantile_levels(query))},
  sum(requests) / count(), sum(seconds) / count(), sum(nanodollars) / {NANO} / count(){several}
FROM ({_by_name(selection) if by_name else selection.sessions()})"""
    return Statement(text, selection.parameters.values)


def sorted_figures(counts: str) -> str:
    """The sorted figures of all sessions as columns, all of one type.

    Args:
        counts: The counts of requests as an array.
    """
    return f"""arraySort(arrayMap(x -> toFloat64(x), {counts})) AS counts,
  arraySort(groupArray(toFloat64(seconds))) AS durations,
  arraySort(groupArray(nanodollars / {NANO})) AS costs"""


def histograms(levels: Mapping[str, float]) -> str:
    """The histograms of the sorted figures between the quantiles of `quantile_levels`, in one array."""
    inside = [f"x <= {_quantile(levels['high'])}"]
    if "low" in levels:
        inside.append(f"x >= {_quantile(levels['low'])}")
    # One function over an array of arrays: for three functions ClickHouse takes a millisecond more to plan.
    return (
        f"arrayMap(values -> arrayReduce('histogram(10)',"
        f" arrayFilter(x -> {' AND '.join(inside)}, values)), {_FIGURES})"
    )


def largest(level: float) -> str:
    """The largest of the sorted figures up to a quantile, in one array."""
    return f"arrayMap(values -> arrayLast(x -> x <= {_quantile(level)}, values), {_FIGURES})"


def _quantile(level: float) -> str:
    return f"arrayReduce('quantileExactInclusive({level!r})', values)"


def _by_name(selection: Selection) -> str:
    return f"""SELECT groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({selection.groups()}
) AS named GROUP BY named.id"""
