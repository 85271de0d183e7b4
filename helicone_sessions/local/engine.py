"""One query, one statement: the metrics of the sessions that a query selects, in one scan of the table.

The service runs six queries for the same answer. Here each session becomes one row, the rows become three
sorted arrays, and exact quantiles and ClickHouse's ``histogram(10)`` are taken of those. Nothing in it
depends on the number of threads.
"""

from typing import Any, Final
from uuid import uuid4

from helicone_sessions.filters.filter import ALL
from helicone_sessions.filters.nodes import simplify
from helicone_sessions.filters.patterns import escape_like
from helicone_sessions.local.backends import Backend, Statement
from helicone_sessions.local.files import Data
from helicone_sessions.local.rows import DEFAULT_ORGANIZATION, Load, Loaded
from helicone_sessions.local.sql import Condition, Parameters, condition
from helicone_sessions.local.table import create_statements
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import PSize, SessionMetricsQuery

# The service's own default.
_DEFAULT_P: Final[PSize] = "p75"
_LEVELS: Final[dict[PSize, float]] = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
_NANO: Final = 1_000_000_000


class Engine:
    """The tables, and the answers computed from them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._database = f"helicone_{uuid4().hex}"
        self.organization_id = DEFAULT_ORGANIZATION

    async def open(self) -> None:
        """Make the tables."""
        for statement in create_statements(self._database):
            await self._backend.execute(statement)

    async def load(self, data: Data) -> Loaded:
        """Take in rows or a file.

        Raises:
            ConfigurationError: A row cannot be read; the message names it.
        """
        load = Load(data)
        await self._backend.insert(f"{self._database}.request_response_rmt", load.requests())
        await self._backend.insert(f"{self._database}.tags", load.tags())
        self.organization_id = load.organization_id
        return load.report

    async def answer(self, query: SessionMetricsQuery) -> SessionMetrics:
        """The metrics that *query* asks for.

        Raises:
            Unanswerable: A condition cannot be decided.
            BackendError: ClickHouse refused or gave up.
        """
        rows = await self._backend.query(self.statement(query))
        return _metrics(rows[0])

    async def aclose(self) -> None:
        """Drop the tables."""
        await self._backend.execute(f"DROP DATABASE {self._database}")
        await self._backend.aclose()

    def statement(self, query: SessionMetricsQuery) -> Statement:
        """The one statement that answers *query*."""
        parameters = Parameters()
        caller = f"organization_id = {parameters.add('UUID', str(self.organization_id))}"
        tags = f"{self._database}.tags FINAL WHERE {caller} AND entity_type = 'session'"
        asked = condition(
            simplify((ALL if query.filter is None else query.filter).node), parameters, tags=tags
        )
        table = f"{self._database}.request_response_rmt FINAL"
        window = " AND ".join([caller, *_window(query, parameters)])
        groups = _groups_by_session if asked.on_sessions else _groups
        return Statement(_metrics_of(groups(table, window, asked), query), parameters.values)


def _window(query: SessionMetricsQuery, parameters: Parameters) -> list[str]:
    conditions = []
    if query.time_filter:
        wire = converter.unstructure(query.time_filter)
        for sign, name in ((">", "startTimeUnixMs"), ("<", "endTimeUnixMs")):
            moment = parameters.add("Int64", wire[name])
            conditions.append(f"request_created_at {sign} fromUnixTimestamp64Milli({moment}, 'UTC')")
    if query.name_contains:
        pattern = parameters.add("String", f"%{escape_like(query.name_contains)}%")
        conditions.append(f"session_name ILIKE {pattern}")
    return conditions


def _groups(table: str, window: str, asked: Condition) -> str:
    """The requests asked for, grouped by session id and name."""
    return f"""
SELECT session_id AS id, session_name AS name, count() AS requests,
  min(request_created_at) AS first, max(request_created_at) AS latest, sum(cost) AS nanodollars
FROM {table} WHERE {window} AND {asked.text} GROUP BY id, name"""


def _groups_by_session(table: str, window: str, asked: Condition) -> str:
    """The same where conditions are on sessions as a whole.

    The requests are grouped by what they say to the other conditions too; a window over each session gives
    its totals; then the groups that fulfil the whole filter are kept.
    """
    marks = "".join(f", {text} AS mark{place}" for place, text in enumerate(asked.marks))
    marked = "".join(f", mark{place}" for place in range(len(asked.marks)))
    return f"""
SELECT id, name, sum(part_requests) AS requests, min(part_first) AS first, max(part_latest) AS latest,
  sum(part_nanodollars) AS nanodollars
FROM (
  SELECT *, sum(part_requests) OVER session AS session_requests,
    sum(part_nanodollars) OVER session AS session_cost,
    sum(part_prompt_tokens) OVER session AS session_prompt_tokens,
    sum(part_completion_tokens) OVER session AS session_completion_tokens,
    min(part_first) OVER session AS session_start, max(part_latest) OVER session AS session_end
  FROM (
    SELECT session_id AS id, session_name AS name{marks}, count() AS part_requests,
      min(request_created_at) AS part_first, max(request_created_at) AS part_latest,
      sum(cost) AS part_nanodollars, ifNull(sum(prompt_tokens), 0) AS part_prompt_tokens,
      ifNull(sum(completion_tokens), 0) AS part_completion_tokens
    FROM {table} WHERE {window} GROUP BY id, name{marked}
  ) WINDOW session AS (PARTITION BY id)
) WHERE {asked.text} GROUP BY id, name"""


def _metrics_of(groups: str, query: SessionMetricsQuery) -> str:
    """Histograms and averages of *groups*; requests are counted by id and name, as the service does."""
    level = _LEVELS[query.p_size or _DEFAULT_P]
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
    return f"""
SELECT {histograms},
  average_count, average_duration, average_cost
FROM (SELECT *, {cuts}
FROM (SELECT arraySort(groupArrayArray(by_name)) AS counts, arraySort(groupArray(seconds)) AS durations,
  arraySort(groupArray(nanodollars / {_NANO})) AS costs,
  sum(requests) / count() AS average_count, sum(seconds) / count() AS average_duration,
  sum(nanodollars) / count() / {_NANO} AS average_cost
FROM (SELECT groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({groups}
) AS named GROUP BY named.id)))"""


def _metrics(row: list[Any]) -> SessionMetrics:
    *histograms, count, duration, cost = row
    named: dict[str, Any] = {
        name: Histogram(tuple(HistogramRow(*bar) for bar in bars), unit=unit)
        for (name, unit), bars in zip(UNITS.items(), histograms, strict=True)
    }
    return SessionMetrics(**named, average=SessionAverages(count, duration, cost))
