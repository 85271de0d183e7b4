"""The plan that reads the table once: one statement, and the same answer on any number of threads.

Each session becomes one row, the rows become three sorted arrays, and exact quantiles and ClickHouse's
``histogram(10)`` are taken of those.
"""

from typing import Any

from helicone_sessions.local.drivers import Backend, Statement
from helicone_sessions.local.query.result import NANO, Answer, levels, metrics
from helicone_sessions.local.query.selection import Selection
from helicone_sessions.messages.query import SessionMetricsQuery


class OneScan:
    """Answers by one statement.

    The service counts the requests of a session for each of its names. Nearly always a session has one, and
    grouping by the id alone takes a third less time; the statement also tells whether one has several. If
    so, it is run again with the name, and from then on at once.
    """

    def __init__(self) -> None:
        self._has_several_names = False

    async def answer(self, backend: Backend, selection: Selection, query: SessionMetricsQuery) -> Answer:
        """The metrics of the sessions that *selection* holds.

        Raises:
            BackendError: ClickHouse refused or gave up.
        """
        rows_read = 0
        if not (self._has_several_names or selection.asked.on_sessions):
            result = await backend.query(statement(selection, query, by_name=False))
            *figures, has_several = result.rows[0]
            rows_read = result.rows_read
            if not has_several:
                return _answer(figures, rows_read)
            self._has_several_names = True
        result = await backend.query(statement(selection, query, by_name=True))
        return _answer(result.rows[0], rows_read + result.rows_read)


def _answer(figures: list[Any], rows_read: int) -> Answer:
    *histograms, count, duration, cost = figures
    return Answer(metrics(histograms, [count, duration, cost]), rows_read)


def statement(selection: Selection, query: SessionMetricsQuery, *, by_name: bool) -> Statement:
    """The one statement.

    Args:
        selection: The requests.
        query: What is asked of them.
        by_name: Count requests by session and name, and not by session alone; without it one column more
            tells whether that would be another answer.
    """
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
    counts = "groupArrayArray(by_name)" if by_name else "groupArray(requests)"
    text = f"""
SELECT {histograms},
  average_count, average_duration, average_cost{"" if by_name else ", has_several_names"}
FROM (SELECT *, {cuts}
FROM (SELECT arraySort({counts}) AS counts, arraySort(groupArray(seconds)) AS durations,
  arraySort(groupArray(nanodollars / {NANO})) AS costs,
  sum(requests) / count() AS average_count, sum(seconds) / count() AS average_duration,
  sum(nanodollars) / {NANO} / count() AS average_cost
  {"" if by_name else ", max(several) AS has_several_names"}
FROM ({_by_name(selection) if by_name else _by_id(selection)})))"""
    return Statement(text, selection.parameters.values)


def _by_name(selection: Selection) -> str:
    return f"""SELECT groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({selection.groups()}
) AS named GROUP BY named.id"""


def _by_id(selection: Selection) -> str:
    return f"""SELECT requests, dateDiff('second', first, latest) AS seconds, nanodollars, several
FROM ({selection.sessions()}
)"""
