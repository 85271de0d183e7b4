"""Compiles queries and grids to SQL statements that compute their metrics.

The statement for a query reads the table once and returns the same result with any number of threads. It
reduces each session to one row, and the rows to three sorted arrays. From the arrays, it computes exact
quantiles and ClickHouse's ``histogram(10)``.

The statement for a grid groups requests into *parts*. A part contains the requests of a session that are in
the same periods and match the same segments. A part is counted in each cell of these periods and segments,
and the metrics of a cell are computed from the cell's sessions as in a single query. A condition on whole
sessions applies to a session's requests in one period, so the condition is evaluated after the parts are
distributed over the periods.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.constants import escape_like
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.schema import COLUMNS, Kind
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers import Driver, Statement
from helicone_sessions.local.query.contract_sql import (
    EXPRESSIONS,
    Condition,
    Parameters,
    Unanswerable,
    check_stored,
    condition,
    property_value,
)
from helicone_sessions.local.query.service_sql import second, service_condition
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.grid_query import (
    MOST_CELLS,
    GridQuery,
    GroupBy,
    SegmentValue,
)
from helicone_sessions.messages.metrics import (
    UNITS,
    Cut,
    Histogram,
    HistogramRow,
    PSize,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter

NANO: Final = 1_000_000_000
# The cost of a session may exceed the range of the column's type, so that a plain sum would wrap around.
COST: Final = "sum(toInt128(cost))"
# The columns of a group, computed from the columns of its parts.
SUMS_OF_PARTS: Final = (
    "sum(part_requests) AS requests, min(part_first) AS first, max(part_latest) AS latest,"
    " sum(part_nanodollars) AS nanodollars"
)
# A time range that contains all requests, in milliseconds since 1970.
_ALL_TIME: Final = (-2_208_988_800_000, 10_413_792_000_000)


@attrs.frozen
class Selection:
    """The requests that a query selects.

    Args:
        tables: The tables.
        scope: The condition on the caller's organisation, the time range and the name.
        condition: The condition of the filter.
        parameters: The values of both conditions.
    """

    tables: Tables
    scope: str
    condition: Condition
    parameters: Parameters

    def groups(self) -> str:
        """Build a statement that groups the selected requests by the session (``id``) and its ``name``.

        The columns are ``id``, ``name``, ``requests``, ``first``, ``latest`` and ``nanodollars``.
        """
        return self._by_session() if self.condition.on_sessions else self._by_request()

    def sessions(self) -> str:
        """Build a statement that selects the sessions. All conditions must be on requests.

        The columns are ``requests``, ``seconds`` and ``nanodollars``. If the tables do not record whether a
        session has several names, the additional column ``several`` does.
        """
        # Hashes are faster: min and max of the names would take longer than everything else.
        name = f"cityHash64({self.tables.each_name})"
        is_known = self.tables.has_several_names is not None
        several = "" if is_known else f", min({name}) != max({name}) AS several"
        return f"""
SELECT count() AS requests,
  dateDiff('second', min(request_created_at), max(request_created_at)) AS seconds,
  {COST} AS nanodollars{several}
FROM {self.tables.requests} WHERE {self._where}
GROUP BY {self.tables.session_key}"""

    @property
    def _where(self) -> str:
        """The condition on requests, if no condition of the filter is on whole sessions."""
        return all_of(self.scope, self.condition.text)

    def _by_request(self) -> str:
        return f"""
SELECT {self.tables.session_key} AS id, {self.tables.name_key} AS name, count() AS requests,
  min(request_created_at) AS first, max(request_created_at) AS latest, {COST} AS nanodollars
FROM {self.tables.requests} WHERE {self._where} GROUP BY id, name"""

    def _by_session(self) -> str:
        """Build the statement of `groups` for a filter with conditions on whole sessions.

        The statement also groups the requests by the results of the other conditions, computes the totals of
        each session with a window function, and keeps the groups that match the filter.
        """
        # All marks are in one column, because ClickHouse takes seconds to plan with hundreds of keys.
        marks = f", [{', '.join(self.condition.marks)}] AS marks" if self.condition.marks else ""
        marked = ", marks" if self.condition.marks else ""
        parts = f"""
SELECT {self.tables.session_key} AS id, {self.tables.name_key} AS name{marks}, {part_columns(self.tables)}
FROM {self.tables.requests} WHERE {self.scope} GROUP BY id, name{marked}"""
        return f"""
SELECT id, name, {SUMS_OF_PARTS}
FROM ({with_session_totals(parts, "id")}) WHERE {self.condition.text} GROUP BY id, name"""


def part_columns(tables: Tables) -> str:
    """Build the columns of a part: the requests of a session with the same values for all grouping keys."""
    prompt, completion = (
        f"ifNull(sum({column}), 0)" if column in tables.columns else "0"
        for column in ("prompt_tokens", "completion_tokens")
    )
    return f"""count() AS part_requests, min(request_created_at) AS part_first,
  max(request_created_at) AS part_latest, {COST} AS part_nanodollars,
  {prompt} AS part_prompt_tokens, {completion} AS part_completion_tokens"""


def with_session_totals(parts: str, session: str) -> str:
    """Add the totals of the session to each part. Conditions on whole sessions use these columns.

    Args:
        parts: A statement with the columns of `part_columns`.
        session: The columns of the statement that identify a session.
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
    """Compile the conditions of *query* to a selection of requests.

    Args:
        query: The query.
        tables: The tables.
        organization_id: The organisation of the caller.
        wire: The filter as the client sent it. If it is given, the query is interpreted as on the open-source
            server. By default, the query is interpreted according to the API's contract.
        include_unsessioned: Count the requests without a session id as one session, as the service does.

    Raises:
        Crash: The open-source server would crash on the filter.
        Unanswerable: The engine cannot evaluate a condition, or the query fails on the open-source server.
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
    """Build the condition on the caller, the time range and the name of *query*.

    Args:
        query: The query.
        tables: The tables.
        caller: The condition on the caller.
        parameters: The parameters of the statement. The values of the query are added to them.
        as_service: Interpret the query as later versions of the open-source server do. They truncate times
            to whole seconds, and match the name exactly.
        include_unsessioned: Include the requests without a session id.
    """
    conditions = [caller]
    if query.time_filter is not None:
        for sign, milliseconds in zip((">", "<"), _milliseconds(query.time_filter), strict=True):
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
    return all_of(*conditions)


def all_of(*conditions: str) -> str:
    """Join conditions with ``AND``, leaving out the condition ``1``.

    A constant condition would add a twelfth to the time of a statement that reads few rows.
    """
    return " AND ".join(each for each in conditions if each != "1") or "1"


def caller_condition(organization_id: UUID, parameters: Parameters) -> str:
    """Build the condition that restricts a table to the requests of an organisation."""
    return f"organization_id = {parameters.add('UUID', str(organization_id))}"


def owned_by(organization_id: UUID, tables: Tables, caller: str) -> str:
    """Return the condition on the caller, or ``1`` if the tables have only the caller's requests."""
    return "1" if tables.only_organization == organization_id else caller


class OneScan:
    """Answers each query with one statement.

    The service counts the requests of a session separately for each name. Nearly every session has one name,
    and grouping by the session alone takes a third less time. If the tables do not record whether a session
    has several names, the statement checks for such sessions. If there are any, the statement is
    repeated with grouping by name, and later queries group by name immediately.
    """

    def __init__(self) -> None:
        self._found_several_names = False

    async def answer(
        self, driver: Driver, selection: Selection, query: SessionMetricsQuery
    ) -> SessionMetrics:
        """Compute the metrics of the selected sessions.

        Raises:
            DriverError: ClickHouse rejected the statement or did not finish it.
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
    """Return the quantiles at which histograms end (``high``) and, if interquartile, start (``low``)."""
    high = query.cut.share
    return {"high": high} | ({"low": 1 - high} if query.cut.both_ends else {})


def metrics_of(histograms: list[list[Any]], averages: list[float | None]) -> SessionMetrics:
    """Build metrics from three histograms (lists of bars) and three averages, in the order of `UNITS`."""
    named: dict[str, Any] = {
        name: Histogram(tuple(HistogramRow(*bar) for bar in bars), unit=unit)
        for (name, unit), bars in zip(UNITS.items(), histograms, strict=True)
    }
    return SessionMetrics(**named, average=SessionAverages(*averages))


def statement(selection: Selection, query: SessionMetricsQuery, *, by_name: bool) -> Statement:
    """Build the statement for *query*.

    Args:
        selection: The selected requests.
        query: The query.
        by_name: Count requests by session and name instead of by session alone. If this is false and the
            tables do not record whether a session has several names, an additional column does.
    """
    several = "" if by_name or selection.tables.has_several_names is not None else ", max(several)"
    text = f"""
WITH {sorted_figures("groupArrayArray(by_name)" if by_name else "groupArray(toFloat64(requests))")}
SELECT {histograms(quantile_levels(query))},
  sum(requests) / count(), sum(seconds) / count(), sum(nanodollars) / {NANO} / count(){several}
FROM ({_by_name(selection) if by_name else selection.sessions()})"""
    return Statement(text, selection.parameters.values)


def sorted_figures(counts: str) -> str:
    """Build a column with three sorted arrays: the request counts, durations and costs of all sessions.

    The arrays are in the same order as `UNITS`, and all numbers are ``Float64``.

    Args:
        counts: The SQL for the array of request counts.
    """
    return f"""arrayMap(values -> arraySort(values), [{counts},
  groupArray(toFloat64(seconds)), groupArray(nanodollars / {NANO})]) AS figures"""


def histograms(levels: Mapping[str, float]) -> str:
    """Build an array with a histogram of each array of figures, between the quantiles in *levels*."""
    inside = [f"x <= {_quantile(levels['high'])}"]
    if "low" in levels:
        inside.append(f"x >= {_quantile(levels['low'])}")
    # A single function over an array of arrays: with three functions, planning takes a millisecond longer.
    return (
        f"arrayMap(values -> arrayReduce('histogram(10)',"
        f" arrayFilter(x -> {' AND '.join(inside)}, values)), figures)"
    )


def largest(level: float) -> str:
    """Build an array with the largest value of each array of figures that does not exceed the quantile."""
    return f"arrayMap(values -> arrayLast(x -> x <= {_quantile(level)}, values), figures)"


def _quantile(level: float) -> str:
    return f"arrayReduce('quantileExactInclusive({level!r})', values)"


def _by_name(selection: Selection) -> str:
    return f"""SELECT groupArray(toFloat64(named.requests)) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({selection.groups()}
) AS named GROUP BY named.id"""


async def answer_grid(
    driver: Driver,
    tables: Tables,
    organization_id: UUID,
    grid: GridQuery,
    *,
    include_unsessioned: bool = True,
) -> dict[str, Any]:
    """Run a grid query, and return the ``data`` of the response.

    Args:
        driver: The driver that runs the statements.
        tables: The tables to query.
        organization_id: The organisation whose requests are counted.
        grid: The query.
        include_unsessioned: Count the requests without a session id as one session.

    Raises:
        Unanswerable: The engine cannot evaluate a condition, or a column has too many values for segments.
        DriverError: ClickHouse rejected a statement or did not finish it.
    """

    def sql() -> _GridSql:
        return _GridSql(tables, organization_id, grid, include_unsessioned)

    values: list[SegmentValue] | None = None
    if isinstance(grid.segments, GroupBy):
        values = await _values(driver, sql(), grid.segments)
        segments = tuple(map(grid.segments.filter_of, values))
    else:
        segments = grid.segments
    # This runs on a thread, because compiling thousands of filters may take a second.
    statement = await asyncio.to_thread(sql().cells, segments)
    (columns,) = (await driver.query(statement)).rows
    return {"values": values, "cells": _cells(columns, grid.quantiles)}


async def _values(driver: Driver, sql: "_GridSql", by: GroupBy) -> list[SegmentValue]:
    most = MOST_CELLS // (len(sql.grid.periods) + 1) - 1
    rows = (await driver.query(sql.values(by, most))).rows
    if len(rows) > most:
        raise Unanswerable(
            f"{by.column} has more than {most:,} values, and the grid would have more than {MOST_CELLS:,}"
            " cells: select the top values, or fewer periods"
        )
    is_flag = COLUMNS[by.column].kind is Kind.BOOLEAN
    return [bool(value) if is_flag else value for value, _ in rows]


def _cells(columns: list[list[Any]], quantiles: Sequence[PSize]) -> dict[str, Any]:
    """Convert the result. The cells stay in columns, because parsing thousands of rows would be slow."""
    segments, periods, sessions, requests, nanodollars, *figures = columns
    bars, averages, *largest_ones = (figures[start : start + 3] for start in range(0, len(figures), 3))
    return {
        "segment": [segment - 1 if segment else None for segment in segments],
        "period": [period - 1 if period else None for period in periods],
        "sessions": sessions,
        "requests": requests,
        "dollars": [int(each) / NANO for each in nanodollars],
        "histograms": bars,
        "averages": averages,
        "quantiles": dict(zip(quantiles, largest_ones, strict=True)),
    }


@attrs.define
class _GridSql:
    """Compiles a grid to one statement. Segments and periods are numbered from 1, and 0 is the total."""

    tables: Tables
    organization_id: UUID
    grid: GridQuery
    include_unsessioned: bool
    parameters: Parameters = attrs.field(factory=Parameters)

    def values(self, by: GroupBy, most: int) -> Statement:
        """Build the statement that selects up to *most* + 1 values of a column, the most expensive first."""
        column = COLUMNS[by.column]
        check_stored(column, self.tables)
        if by.key is not None:
            value = property_value(by.key, self.tables, self.parameters)
        else:
            value = EXPRESSIONS.get(by.column, by.column)
            value = f"toString({value})" if column.uuid else value
        (common,) = self._compiled([self.grid.query.filter])
        parts, kept = self._parts(common, [], self.grid.query.time_filter, {"value": value})
        if common.on_sessions:
            parts = with_session_totals(parts, "id")
        known = "" if column.kind in (Kind.TEXT, Kind.MAP) else " HAVING value IS NOT NULL"
        return self._statement(
            f"""
SELECT value, sum(part_nanodollars) AS nanodollars
FROM ({parts}) WHERE {kept} GROUP BY value{known}
ORDER BY nanodollars DESC, value LIMIT {by.top or most + 1}"""
        )

    def cells(self, segments: Sequence[Filter]) -> Statement:
        """Build the statement that computes all cells with at least one session."""
        common, *conditions = self._compiled([self.grid.query.filter, *segments])
        of_requests = {n: each.text for n, each in enumerate(conditions, 1) if not each.on_sessions}
        of_sessions = {n: each.text for n, each in enumerate(conditions, 1) if each.on_sessions}
        keys = {"periods": self._periods(), "segments": self._matching(of_requests)}
        parts, kept = self._parts(common, conditions, self._covered(), keys)
        spread = f"SELECT *, arrayJoin(periods) AS period FROM ({parts})"
        if common.on_sessions or of_sessions:
            spread = with_session_totals(spread, "period, id")
        has_total = self.grid.totals or not segments
        matching = f"arrayConcat({'[0]' if has_total else '[]'}, segments, {self._matching(of_sessions)})"
        return self._statement(
            self._figures(
                f"""
SELECT segment, period, id, name, {SUMS_OF_PARTS}
FROM (SELECT *, arrayJoin({matching}) AS segment FROM ({spread}) WHERE {kept})
GROUP BY segment, period, id, name"""
            )
        )

    def _figures(self, groups: str) -> str:
        """Build the SQL for the values of the cells. *groups* selects the requests, grouped by session."""
        levels = {f"q{n}": Cut(level).share for n, level in enumerate(self.grid.quantiles)}
        quantiles = "".join(f", {largest(level)} AS {name}" for name, level in levels.items())
        columns = [
            *("segment", "period", "sessions", "all_requests", "toString(all_nanodollars)"),
            *(f"arrayFlatten(arrayMap(bar -> [bar.1, bar.2, bar.3], bars[{n}]))" for n in (1, 2, 3)),
            *("all_requests / sessions", "all_seconds / sessions"),
            f"all_nanodollars / {NANO} / sessions",
            *(f"{name}[{n}]" for name in levels for n in (1, 2, 3)),
        ]
        return f"""
SELECT {", ".join(f"groupArray({column})" for column in columns)}
FROM (SELECT *, {histograms(quantile_levels(self.grid.query))} AS bars{quantiles}
FROM (SELECT segment, period, count() AS sessions, sum(requests) AS all_requests,
  sum(seconds) AS all_seconds, sum(nanodollars) AS all_nanodollars,
  {sorted_figures("groupArrayArray(by_name)")}
FROM (SELECT segment, period, groupArray(toFloat64(named.requests)) AS by_name,
  sum(named.requests) AS requests, sum(named.nanodollars) AS nanodollars,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds
FROM ({groups}
) AS named GROUP BY segment, period, named.id) GROUP BY segment, period))"""

    def _compiled(self, filters: Sequence[Filter | None]) -> list[Condition]:
        """Compile the filters. The last condition contains the marks of all filters."""
        compiled: list[Condition] = []
        caller = self._caller()
        for each in filters:
            marks = compiled[-1].marks if compiled else ()
            compiled.append(condition(each, self.parameters, self.tables, caller, marks))
        return compiled

    def _parts(
        self,
        common: Condition,
        conditions: Sequence[Condition],
        time_filter: TimeFilter | None,
        keys: Mapping[str, str],
    ) -> tuple[str, str]:
        """Build a statement that selects parts, and a condition on parts that the caller must still apply.

        Args:
            common: The condition of the query.
            conditions: The conditions of the segments.
            time_filter: The time range of all parts.
            keys: The SQL of additional grouping keys, by name.
        """
        query = attrs.evolve(self.grid.query, time_filter=time_filter)
        where = scope(
            query,
            self.tables,
            owned_by(self.organization_id, self.tables, self._caller()),
            self.parameters,
            include_unsessioned=self.include_unsessioned,
        )
        marks = list([common, *conditions][-1].marks)
        kept = "1"
        if common.on_sessions:
            kept = common.text
        elif any(each.on_sessions for each in conditions):
            # The totals of a session include requests that do not match, so these are kept for now.
            marks.append(f"ifNull({common.text}, 0)")
            kept = f"marks[{len(marks)}]"
        else:
            where = all_of(where, common.text)
        keys = {"id": self.tables.session_key, "name": self.tables.name_key, **keys}
        if marks:
            keys["marks"] = f"[{', '.join(marks)}]"
        columns = ", ".join(f"{sql} AS {name}" for name, sql in keys.items())
        return (
            f"""
SELECT {columns}, {part_columns(self.tables)}
FROM {self.tables.requests} WHERE {where} GROUP BY {", ".join(keys)}""",
            kept,
        )

    def _periods(self) -> str:
        """Build the SQL for the numbers of the periods that contain a request."""
        times: dict[int, TimeFilter | None] = dict(enumerate(self.grid.periods, 1))
        if self.grid.totals or not times:
            times[0] = self.grid.query.time_filter
        starts, ends = (
            f"arrayMap(x -> fromUnixTimestamp64Milli(x, 'UTC'), {self._array('Int64', column)})"
            for column in zip(*map(_milliseconds, times.values()), strict=True)
        )
        return f"""arrayFilter(
  (number, start, end) -> request_created_at > start AND request_created_at < end,
  {self._array("UInt32", times)}, {starts}, {ends})"""

    def _matching(self, conditions: Mapping[int, str]) -> str:
        """Build the SQL for the numbers of the conditions that are true."""
        if not conditions:
            return "emptyArrayUInt32()"
        holds = ", ".join(f"ifNull({text}, 0)" for text in conditions.values())
        return f"arrayFilter((number, holds) -> holds, {self._array('UInt32', conditions)}, [{holds}])"

    def _covered(self) -> TimeFilter | None:
        """The time range from the first cell to the last; None means all time."""
        grid = self.grid
        times = [*grid.periods, *([grid.query.time_filter] if grid.totals or not grid.periods else [])]
        known = [each for each in times if each is not None]
        if len(known) < len(times):
            return None
        return TimeFilter(min(each.start for each in known), max(each.end for each in known))

    def _array(self, kind: str, numbers: Iterable[int]) -> str:
        return self.parameters.add(f"Array({kind})", f"[{','.join(map(str, numbers))}]")

    def _caller(self) -> str:
        return caller_condition(self.organization_id, self.parameters)

    def _statement(self, text: str) -> Statement:
        return Statement(text, self.parameters.values)


def _milliseconds(time_filter: TimeFilter | None) -> tuple[int, int]:
    if time_filter is None:
        return _ALL_TIME
    wire = converter.unstructure(time_filter)
    return wire["startTimeUnixMs"], wire["endTimeUnixMs"]
