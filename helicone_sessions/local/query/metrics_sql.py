"""The requests that a query selects, as SQL, and the statement that computes its metrics, or a whole grid.

The statement reads the table once and gives the same result on any number of threads. Each session becomes
one row, the rows become three sorted arrays, and exact quantiles and ClickHouse's ``histogram(10)`` are
computed from the arrays.

The statement of a grid groups requests into *parts*: the requests of a session in the same periods that match
the same segments. Each part counts in each of its cells, and the sessions of a cell become its metrics as in
a single query. A condition on whole sessions covers the session's requests in the period, so it is evaluated
after the parts are distributed over the periods.
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
# The cost of a session may exceed the type of the column, whose sum would wrap around.
COST: Final = "sum(toInt128(cost))"
# The columns of a group, from the columns of its parts.
SUMS_OF_PARTS: Final = (
    "sum(part_requests) AS requests, min(part_first) AS first, max(part_latest) AS latest,"
    " sum(part_nanodollars) AS nanodollars"
)
# The figures of all sessions, in the order of `UNITS`.
_FIGURES: Final = "[counts, durations, costs]"
# A start and an end, in milliseconds since 1970, between which all requests are.
_ALL_TIME: Final = (-2_208_988_800_000, 10_413_792_000_000)


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

        Its columns are ``requests``, ``seconds``, ``nanodollars`` and, unless the tables record
        it, ``several``: whether the session has several names.
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

        It also groups the requests by the results of the other conditions, computes the totals of each
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
        Unanswerable: A condition cannot be evaluated, or the query fails on the open-source server.
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
    return " AND ".join(conditions)


def caller_condition(organization_id: UUID, parameters: Parameters) -> str:
    """The condition that limits a table to the requests of an organisation."""
    return f"organization_id = {parameters.add('UUID', str(organization_id))}"


def owned_by(organization_id: UUID, tables: Tables, caller: str) -> str:
    """The condition that limits requests to those of the caller; ``1`` if all requests are."""
    return "1" if tables.only_organization == organization_id else caller


class OneScan:
    """Answers queries with one statement each.

    The service counts the requests of a session by name. Nearly every session has one name, and grouping by
    the session alone takes a third less time. Unless the tables record whether a session has several names,
    the statement checks it. If one has, the statement runs again by name, and later queries group by name
    immediately.
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
            column shows whether a session has several names, unless the tables record it.
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


async def answer_grid(
    driver: Driver,
    tables: Tables,
    organization_id: UUID,
    grid: GridQuery,
    *,
    include_unsessioned: bool = True,
) -> dict[str, Any]:
    """The ``data`` of the response to a grid query.

    Args:
        driver: Runs the statements.
        tables: The tables in its ClickHouse.
        organization_id: The organisation whose requests are counted.
        grid: The query.
        include_unsessioned: Count the requests without a session id as one session.

    Raises:
        Unanswerable: A condition cannot be evaluated, or a column has too many values for segments.
        DriverError: ClickHouse rejected a statement or gave up.
    """

    def sql() -> _GridSql:
        return _GridSql(tables, organization_id, grid, include_unsessioned)

    values: list[SegmentValue] | None = None
    if isinstance(grid.segments, GroupBy):
        values = await _values(driver, sql(), grid.segments)
        segments = tuple(map(grid.segments.filter_of, values))
    else:
        segments = grid.segments
    # On a thread, because compiling thousands of filters may take a second.
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
    """The cells by column, as in the statement, because thousands of rows would be slow to parse."""
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
    """Makes one statement of a grid. Segments and periods have numbers from 1; 0 is the total."""

    tables: Tables
    organization_id: UUID
    grid: GridQuery
    include_unsessioned: bool
    parameters: Parameters = attrs.field(factory=Parameters)

    def values(self, by: GroupBy, most: int) -> Statement:
        """The statement for at most *most* + 1 values of a column, the most expensive first."""
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
        """The statement for the cells that have sessions."""
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
        """The figures of the cells, as SQL, from their requests grouped by id and name of the session."""
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
FROM (SELECT segment, period, groupArray(named.requests) AS by_name, sum(named.requests) AS requests,
  dateDiff('second', min(named.first), max(named.latest)) AS seconds, sum(named.nanodollars) AS nanodollars
FROM ({groups}
) AS named GROUP BY segment, period, named.id) GROUP BY segment, period))"""

    def _compiled(self, filters: Sequence[Filter | None]) -> list[Condition]:
        """Compile the filters; the last condition has the marks of all."""
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
        """A statement for parts, and a condition that the parts must still match.

        Args:
            common: The condition of the query.
            conditions: The conditions of the segments.
            time_filter: The time range of all parts.
            keys: The keys that group requests besides the session, as SQL by name.
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
            # The totals of a session include requests that do not match, so these must be kept for now.
            marks.append(f"ifNull({common.text}, 0)")
            kept = f"marks[{len(marks)}]"
        else:
            where = f"{where} AND {common.text}"
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
        """The numbers of the periods of a request, as SQL."""
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
        """The numbers of the conditions that hold, as SQL."""
        if not conditions:
            return "emptyArrayUInt32()"
        holds = ", ".join(f"ifNull({text}, 0)" for text in conditions.values())
        return f"arrayFilter((number, holds) -> holds, {self._array('UInt32', conditions)}, [{holds}])"

    def _covered(self) -> TimeFilter | None:
        """The time range from the first cell to the last; None is all time."""
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
