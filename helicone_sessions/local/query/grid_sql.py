"""A whole grid from one statement, whose cells equal the metrics of single queries.

The statement groups requests into *parts*: the requests of a session in the same periods that match the same
segments. Each part counts in each of its cells, and the sessions of a cell become its metrics as in a single
query. A condition on whole sessions is about the session's requests in the period, so it is decided after the
parts are distributed over the periods.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.schema import COLUMNS, Kind
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
from helicone_sessions.local.query.metrics_sql import (
    NANO,
    SUMS_OF_PARTS,
    caller_condition,
    histograms,
    largest,
    owned_by,
    part_columns,
    quantile_levels,
    scope,
    sorted_figures,
    with_session_totals,
)
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.grid_query import (
    MOST_CELLS,
    GridQuery,
    GroupBy,
    SegmentValue,
)
from helicone_sessions.messages.metrics import Cut, PSize
from helicone_sessions.messages.query import TimeFilter

# A start and an end, in milliseconds since 1970, between which all requests are.
_ALL_TIME: Final = (-2_208_988_800_000, 10_413_792_000_000)


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
        Unanswerable: A condition cannot be decided, or a column has too many values for segments.
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
            time_filter: The time of all parts.
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
        """The time from the first cell to the last; None is all time."""
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
