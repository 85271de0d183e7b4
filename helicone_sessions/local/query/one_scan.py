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
ARRAYS: Final = ("counts", "durations", "costs")
"""The columns with the figures of all sessions, in the order of `UNITS`."""
# The service's own default.
_DEFAULT_P: Final[PSize] = "p75"
LEVELS: Final[dict[PSize, float]] = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class OneScan:
    """Answers queries with one statement each.

    The service counts the requests of a session for each of its names. Nearly every session has one name, and
    grouping by the id alone takes a third less time; the statement also tells whether a session has several.
    If so, it runs again with the name, and later queries group by name at once.
    """

    def __init__(self) -> None:
        self._has_several_names = False

    async def answer(
        self, driver: Driver, selection: Selection, query: SessionMetricsQuery
    ) -> SessionMetrics:
        """The metrics of the sessions that *selection* holds.

        Raises:
            DriverError: ClickHouse rejected the statement or gave up.
        """
        if not (self._has_several_names or selection.condition.on_sessions):
            result = await driver.query(statement(selection, query, by_name=False))
            *figures, has_several = result.rows[0]
            if not has_several:
                return metrics_of(figures[:3], figures[3:])
            self._has_several_names = True
        figures = (await driver.query(statement(selection, query, by_name=True))).rows[0]
        return metrics_of(figures[:3], figures[3:])


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
        by_name: Count requests by session and name, instead of by session alone. Without it one more column
            tells whether that would change the result.
    """
    ends = quantile_levels(query)
    counts = "groupArrayArray(by_name)" if by_name else "groupArray(requests)"
    text = f"""
SELECT {", ".join(histograms(ends))},
  average_count, average_duration, average_cost{"" if by_name else ", has_several_names"}
FROM (SELECT *, {cut_columns(ends)}
FROM (SELECT arraySort({counts}) AS counts, arraySort(groupArray(seconds)) AS durations,
  arraySort(groupArray(nanodollars / {NANO})) AS costs,
  sum(requests) / count() AS average_count, sum(seconds) / count() AS average_duration,
  sum(nanodollars) / {NANO} / count() AS average_cost
  {"" if by_name else ", max(several) AS has_several_names"}
FROM ({_by_name(selection) if by_name else _by_id(selection)})))"""
    return Statement(text, selection.parameters.values)


def cut_columns(levels: Mapping[str, float]) -> str:
    """The columns for quantiles of the sorted arrays, each named after its array and the key of its level."""
    return ",\n  ".join(
        f"arrayReduce('quantileExactInclusive({level!r})', {array}) AS {array}_{end}"
        for array in ARRAYS
        for end, level in levels.items()
    )


def histograms(levels: Mapping[str, float]) -> list[str]:
    """The histograms of the sorted arrays, as SQL, between the columns for the ends of `quantile_levels`."""
    low = " AND x >= {0}_low" if "low" in levels else ""
    return [
        f"arrayReduce('histogram(10)', arrayFilter(x -> x <= {array}_high{low.format(array)}, {array}))"
        for array in ARRAYS
    ]


def _by_name(selection: Selection) -> str:
    return f"""SELECT groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({selection.groups()}
) AS named GROUP BY named.id"""


def _by_id(selection: Selection) -> str:
    return f"""SELECT requests, dateDiff('second', first, latest) AS seconds, nanodollars, several
FROM ({selection.sessions()}
)"""
