"""The plan that reads the table once: one statement, and the same answer on any number of threads.

Each session becomes one row, the rows become three sorted arrays, and exact quantiles and ClickHouse's
``histogram(10)`` are taken of those.
"""

from helicone_sessions.local.backends import Backend, Statement
from helicone_sessions.local.plans import NANO, Answer, levels, metrics
from helicone_sessions.local.selection import Selection
from helicone_sessions.messages.query import SessionMetricsQuery


async def answer(backend: Backend, selection: Selection, query: SessionMetricsQuery) -> Answer:
    """The metrics of the sessions that *selection* holds.

    Raises:
        BackendError: ClickHouse refused or gave up.
    """
    result = await backend.query(statement(selection, query))
    *histograms, count, duration, cost = result.rows[0]
    return Answer(metrics(histograms, [count, duration, cost]), result.rows_read)


def statement(selection: Selection, query: SessionMetricsQuery) -> Statement:
    """The one statement; requests are counted by id and name, as the service does."""
    ends = levels(query)
    arrays = ("counts", "durations", "costs")
    cuts = ",\n  ".join(
        f"arrayReduce('quantileExactInclusive({level!r})', {array}) AS {array}_{end}"
        for array in arrays
        for end, level in ends.items()
    )
    histograms = ",\n  ".join(
        f"arrayReduce('histogram(10)', arrayFilter(x -> x <= {array}_high"
        f"{f' AND x >= {array}_low' if 'low' in ends else ''}, {array}))"
        for array in arrays
    )
    text = f"""
SELECT {histograms},
  average_count, average_duration, average_cost
FROM (SELECT *, {cuts}
FROM (SELECT arraySort(groupArrayArray(by_name)) AS counts, arraySort(groupArray(seconds)) AS durations,
  arraySort(groupArray(nanodollars / {NANO})) AS costs,
  sum(requests) / count() AS average_count, sum(seconds) / count() AS average_duration,
  sum(nanodollars) / {NANO} / count() AS average_cost
FROM (SELECT groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({selection.groups()}
) AS named GROUP BY named.id)))"""
    return Statement(text, selection.parameters.values)
