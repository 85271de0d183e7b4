"""The plan that reads the table once: one statement, and the same answer on any number of threads.

Each session becomes one row, the rows become three sorted arrays, and exact quantiles and ClickHouse's
``histogram(10)`` are taken of those.
"""

from typing import Any, Final

from helicone_sessions.local.backends import Backend, Statement
from helicone_sessions.local.selection import Selection
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import PSize, SessionMetricsQuery

# The service's own default.
DEFAULT_P: Final[PSize] = "p75"
LEVELS: Final[dict[PSize, float]] = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
_NANO: Final = 1_000_000_000


async def answer(backend: Backend, selection: Selection, query: SessionMetricsQuery) -> SessionMetrics:
    """The metrics of the sessions that *selection* holds.

    Raises:
        BackendError: ClickHouse refused or gave up.
    """
    result = await backend.query(statement(selection, query))
    return _metrics(result.rows[0])


def statement(selection: Selection, query: SessionMetricsQuery) -> Statement:
    """The one statement; requests are counted by id and name, as the service does."""
    level = LEVELS[query.p_size or DEFAULT_P]
    levels = {"high": level} | ({"low": 1 - level} if query.use_interquartile else {})
    arrays = ("counts", "durations", "costs")
    cuts = ",\n  ".join(
        f"arrayReduce('quantileExactInclusive({value!r})', {array}) AS {array}_{end}"
        for array in arrays
        for end, value in levels.items()
    )
    histograms = ",\n  ".join(
        f"arrayReduce('histogram(10)', arrayFilter(x -> x <= {array}_high"
        f"{f' AND x >= {array}_low' if query.use_interquartile else ''}, {array}))"
        for array in arrays
    )
    text = f"""
SELECT {histograms},
  average_count, average_duration, average_cost
FROM (SELECT *, {cuts}
FROM (SELECT arraySort(groupArrayArray(by_name)) AS counts, arraySort(groupArray(seconds)) AS durations,
  arraySort(groupArray(nanodollars / {_NANO})) AS costs,
  sum(requests) / count() AS average_count, sum(seconds) / count() AS average_duration,
  sum(nanodollars) / count() / {_NANO} AS average_cost
FROM (SELECT groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({selection.groups()}
) AS named GROUP BY named.id)))"""
    return Statement(text, selection.parameters.values)


def _metrics(row: list[Any]) -> SessionMetrics:
    *histograms, count, duration, cost = row
    named: dict[str, Any] = {
        name: Histogram(tuple(HistogramRow(*bar) for bar in bars), unit=unit)
        for (name, unit), bars in zip(UNITS.items(), histograms, strict=True)
    }
    return SessionMetrics(**named, average=SessionAverages(count, duration, cost))
