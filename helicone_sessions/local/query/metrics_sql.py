"""The requests that a query selects, as SQL, and the one statement that computes its metrics.

The statement reads the table once and gives the same result on any number of threads. Each session becomes
one row, the rows become three sorted arrays, and exact quantiles and ClickHouse's ``histogram(10)`` are
computed from the arrays.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.constants import escape_like
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers import Driver, Statement
from helicone_sessions.local.query.contract_sql import Condition, Parameters, condition
from helicone_sessions.local.query.service_sql import second, service_condition
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import SessionMetricsQuery

NANO: Final = 1_000_000_000
# The cost of a session may exceed the type of the column, whose sum would wrap around.
COST: Final = "sum(toInt128(cost))"
# The columns of a group, from the columns of its parts.
SUMS_OF_PARTS: Final = (
    "sum(part_requests) AS requests, min(part_first) AS first, max(part_latest) AS latest,"
    " sum(part_nanodollars) AS nanodollars"
)
# The figures of all sessions, in the order of `UNITS`.
_FIGURES: Final = "[counts, durations, costs]"


@attrs.frozen
class Selection:
    """The requests that a query selects.

    Args:
        tables: The tables.
        scope: The condition on the caller's organisation, the time and the name.
        condition: The condition of the filter.
        parameters: The values of both.
    """

    tables: Tables
    scope: str
    condition: Condition
    parameters: Parameters

    def groups(self) -> str:
        """A statement for the selected requests grouped by the session (``id``) and its ``name``.

        Its columns are ``id``, ``name``, ``requests``, ``first``, ``latest`` and ``nanodollars``.
        """
        return self._by_session() if self.condition.on_sessions else self._by_request()

    def sessions(self) -> str:
        """A statement for the sessions of the selected requests, for conditions on requests only.

        Its columns are ``requests``, ``seconds``, ``nanodollars`` and, unless the tables tell,
        ``several``: whether the session has several names.
        """
        # min and max of the names themselves take longer than all the rest.
        name = f"cityHash64({self.tables.each_name})"
        is_known = self.tables.has_several_names is not None
        several = "" if is_known else f", min({name}) != max({name}) AS several"
        return f"""
SELECT count() AS requests,
  dateDiff('second', min(request_created_at), max(request_created_at)) AS seconds,
  {COST} AS nanodollars{several}
FROM {self.tables.requests} WHERE {self.scope} AND {self.condition.text}
GROUP BY {self.tables.session_key}"""

    def _by_request(self) -> str:
        return f"""
SELECT {self.tables.session_key} AS id, {self.tables.name_key} AS name, count() AS requests,
  min(request_created_at) AS first, max(request_created_at) AS latest, {COST} AS nanodollars
FROM {self.tables.requests} WHERE {self.scope} AND {self.condition.text} GROUP BY id, name"""

    def _by_session(self) -> str:
        """The same statement for conditions on whole sessions.

        It groups the requests also by the results of the other conditions, computes the totals of each
        session with a window, and keeps the groups that match the filter.
        """
        # One column for all marks, because ClickHouse takes seconds to plan for hundreds of keys.
        marks = f", [{', '.join(self.condition.marks)}] AS marks" if self.condition.marks else ""
        marked = ", marks" if self.condition.marks else ""
        parts = f"""
SELECT {self.tables.session_key} AS id, {self.tables.name_key} AS name{marks}, {part_columns(self.tables)}
FROM {self.tables.requests} WHERE {self.scope} GROUP BY id, name{marked}"""
        return f"""
SELECT id, name, {SUMS_OF_PARTS}
FROM ({with_session_totals(parts, "id")}) WHERE {self.condition.text} GROUP BY id, name"""


def part_columns(tables: Tables) -> str:
    """The columns of a part: the requests of a session with the same values of all other keys."""
    prompt, completion = (
        f"ifNull(sum({column}), 0)" if column in tables.columns else "0"
        for column in ("prompt_tokens", "completion_tokens")
    )
    return f"""count() AS part_requests, min(request_created_at) AS part_first,
  max(request_created_at) AS part_latest, {COST} AS part_nanodollars,
  {prompt} AS part_prompt_tokens, {completion} AS part_completion_tokens"""


def with_session_totals(parts: str, session: str) -> str:
    """The parts with the totals of their sessions, the columns of conditions on whole sessions.

    Args:
        parts: A statement with the columns of `part_columns`.
        session: The columns that identify a session in it.
    """
    return f"""
SELECT *, sum(part_requests) OVER session AS session_requests,
  sum(part_nanodollars) OVER session AS session_cost,
  sum(part_prompt_tokens) OVER session AS session_prompt_tokens,
  sum(part_completion_tokens) OVER session AS session_completion_tokens,
  min(part_first) OVER session AS session_start, max(part_latest) OVER session AS session_end
FROM ({parts}) WINDOW session AS (PARTITION BY {session})"""


def select(
    query: SessionMetricsQuery,
    tables: Tables,
    organization_id: UUID,
    *,
    wire: WireFilter | None = None,
    include_unsessioned: bool = True,
) -> Selection:
    """The requests that *query* selects.

    Args:
        query: The query.
        tables: The tables.
        organization_id: The caller.
        wire: The filter as it was sent, to read the query as the open-source server does; by default the
            query is read as the contract defines it.
        include_unsessioned: Count the requests without a session id as one session, as the service does.

    Raises:
        Crash: The open-source server crashes on the filter.
        Unanswerable: A condition cannot be decided, or the query fails on the open-source server.
    """
    parameters = Parameters()
    caller = caller_condition(organization_id, parameters)
    within = scope(
        query,
        tables,
        owned_by(organization_id, tables, caller),
        parameters,
        as_service=wire is not None,
        include_unsessioned=include_unsessioned,
    )
    if wire is None:
        compiled = condition(query.filter, parameters, tables, caller)
    else:
        compiled = service_condition(wire, parameters, tables)
    return Selection(tables, within, compiled, parameters)


def scope(
    query: SessionMetricsQuery,
    tables: Tables,
    caller: str,
    parameters: Parameters,
    *,
    as_service: bool = False,
    include_unsessioned: bool = True,
) -> str:
    """The condition on the caller, and on the time and the name of *query*.

    Args:
        query: The query.
        tables: The tables.
        caller: The condition on the caller.
        parameters: Takes the values.
        as_service: Read the query as later versions of the open-source server do: times lose their fractions
            of a second, and the name must be equal.
        include_unsessioned: Include the requests without a session id.
    """
    conditions = [caller]
    for sign, milliseconds in _ends(query):
        if as_service:
            moment = second(milliseconds // 1000, parameters)
        else:
            moment = f"fromUnixTimestamp64Milli({parameters.add('Int64', milliseconds)}, 'UTC')"
        conditions.append(f"request_created_at {sign} {moment}")
    name = query.name_contains
    if name and as_service:
        conditions.append(f"{tables.session_name} = {parameters.add('String', name)}")
    elif name:
        pattern = parameters.add("String", f"%{escape_like(name)}%")
        conditions.append(f"{tables.session_name} ILIKE {pattern}")
    if not include_unsessioned:
        conditions.append(f"{tables.session_id} != ''")
    return " AND ".join(conditions)


def caller_condition(organization_id: UUID, parameters: Parameters) -> str:
    """The condition that limits a table to the requests of an organisation."""
    return f"organization_id = {parameters.add('UUID', str(organization_id))}"


def owned_by(organization_id: UUID, tables: Tables, caller: str) -> str:
    """The condition on the caller of the table of requests; ``1`` if all requests are the caller's."""
    return "1" if tables.only_organization == organization_id else caller


def _ends(query: SessionMetricsQuery) -> list[tuple[str, int]]:
    """The exclusive ends of the time filter, with their comparisons, in milliseconds since 1970."""
    if query.time_filter is None:
        return []
    wire = converter.unstructure(query.time_filter)
    return [(">", wire["startTimeUnixMs"]), ("<", wire["endTimeUnixMs"])]


class OneScan:
    """Answers queries with one statement each.

    The service counts the requests of a session by name. Nearly every session has one name, and grouping by
    the session alone takes a third less time. Unless the tables tell whether a session has several names, the
    statement finds out. If one has, the statement runs again by name, and later queries group by name at
    once.
    """

    def __init__(self) -> None:
        self._found_several_names = False

    async def answer(
        self, driver: Driver, selection: Selection, query: SessionMetricsQuery
    ) -> SessionMetrics:
        """The metrics of the selected sessions.

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
    """The quantiles at which the histograms end (``high``) and, if interquartile, start (``low``)."""
    high = query.cut.share
    return {"high": high} | ({"low": 1 - high} if query.cut.both_ends else {})


def metrics_of(histograms: list[list[Any]], averages: list[float | None]) -> SessionMetrics:
    """Make metrics of three histograms, each a list of bars, and three averages, in the order of `UNITS`."""
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
        by_name: Count requests by session and name, instead of by session alone. Without it, an additional
            column tells whether a session has several names, unless the tables tell.
    """
    several = "" if by_name or selection.tables.has_several_names is not None else ", max(several)"
    text = f"""
WITH {sorted_figures("groupArrayArray(by_name)" if by_name else "groupArray(requests)")}
SELECT {histograms(quantile_levels(query))},
  sum(requests) / count(), sum(seconds) / count(), sum(nanodollars) / {NANO} / count(){several}
FROM ({_by_name(selection) if by_name else selection.sessions()})"""
    return Statement(text, selection.parameters.values)


def sorted_figures(counts: str) -> str:
    """The sorted figures of all sessions, as columns of the same type.

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
    # One function over an array of arrays, because ClickHouse plans a millisecond longer for three functions.
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
