"""Compiles a filter's JSON to the SQL condition of the open-source server.

The condition uses the same operators, constant types and unquoted words as the server's condition. ClickHouse
then decides which requests match and which queries fail, as it does for the server. This module checks the
server's limits, because the engine allows larger statements.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.cautions import STATEMENT_BYTES, is_too_deep, statement_bytes
from helicone_sessions.filters.schema import (
    COLUMNS,
    SERVER_EMPTY,
    SERVER_END_OF_TIME,
    SERVER_NULL,
    ColumnFacts,
    Kind,
    Operator,
    Reading,
)
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.query.contract_sql import (
    COMPARISONS,
    Condition,
    Parameters,
    Unanswerable,
    has_property,
    property_value,
)
from helicone_sessions.local.storage.fields import FEEDBACK
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.converter import js_number

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
# ClickHouse 26.9 reduces later times to this second.
_LAST_SECOND: Final = (SERVER_END_OF_TIME - EPOCH) // _SECOND - 1
# If a leaf has several columns, the server reads the first of these. If it has none of them, the server reads
# the first column in the leaf.
_READ_FIRST: Final = ("property_key", "properties", "search_properties", "scores", "cached", "cost")
# For these columns, the server binds more values than its condition on groups counts.
_SHIFTING: Final = frozenset({"properties", "search_properties", "scores"})
# The columns whose name on the server differs from the name in the API.
_NAMES: Final[Mapping[str, str]] = {
    "assets": "asset_ids",
    "scores_column": "scores",
    "helicone-score-feedback": f"scores['{FEEDBACK}']",
}


class Crash(Exception):
    """The server would crash and respond with status 500, without an envelope."""


class _Sql(str):
    """A compiled part of the condition, as opposed to a node of the filter that is not compiled yet."""

    __slots__ = ()


def service_condition(wire: WireFilter, parameters: Parameters, tables: Tables) -> Condition:
    """Compile a filter to the condition of the open-source server.

    Args:
        wire: The filter as the client sent it. It must follow the contract.
        parameters: The parameters of the statement. The values of the filter are added to them.
        tables: The tables.

    Raises:
        Crash: The server would crash on the filter.
        Unanswerable: The query is too large for the server, or the tags table is missing.
    """
    conditions: list[tuple[ColumnFacts, Operator]] = []

    def leaf(read: list[_Read]) -> str:
        conditions.extend((one.column, one.operator) for one in read)
        kept = (one for one in read if one.column.on_server is not Reading.IGNORED)
        return " AND ".join(one.sql(parameters, tables) for one in kept) or "true"

    text = _joined(wire, leaf)
    _check_limits(wire, conditions)
    return Condition(text)


def service_having(wire: WireFilter, parameters: Parameters, columns: Mapping[str, str]) -> str:
    """Compile a filter to the open-source server's condition on groups.

    In this condition, all conditions on requests are replaced by true.

    Args:
        wire: The filter as the client sent it. It must follow the contract.
        parameters: The parameters of the statement. The values of the filter are added to them.
        columns: The SQL of the session columns in the statement, by name.

    Raises:
        Crash: The server would crash on the filter.
        Unanswerable: The query fails on the server: the statement lacks a session column of the filter, or
            a condition on a map precedes a condition on a session column.
    """
    is_shifted = False

    def leaf(read: list[_Read]) -> str:
        nonlocal is_shifted
        kept = []
        for one in read:
            is_shifted |= one.column.name in _SHIFTING
            if one.column.on_server is Reading.IGNORED:
                if is_shifted or one.column.name not in columns:
                    raise Unanswerable(f"the condition on {one.column.name} fails (code 456)")
                kept.append(one.compared(columns[one.column.name], parameters))
        return " AND ".join(kept) or "true"

    return _joined(wire, leaf)


def _joined(wire: WireFilter, leaf: Callable[[list["_Read"]], str]) -> str:
    """Combine the conditions as in the filter. The function *leaf* compiles the conditions of a leaf."""
    parts: list[str] = []
    waiting: list[Any] = [wire]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Sql):
            parts.append(node)
        elif node == "all":
            parts.append("true")
        elif "left" in node:
            joint = _Sql(f" {node['operator'].upper()} ")
            waiting += [_Sql(")"), node["right"], joint, node["left"], _Sql("(")]
        else:
            parts.append(leaf([_Read.of(columns) for columns in node.values()]))
    return "".join(parts)


def _check_limits(wire: WireFilter, conditions: list[tuple[ColumnFacts, Operator]]) -> None:
    if is_too_deep(wire):
        raise Unanswerable("the filter is nested too deeply for ClickHouse's parser (code 306)")
    if statement_bytes(conditions) > STATEMENT_BYTES:
        raise Unanswerable("the statement is longer than ClickHouse accepts (code 62)")


def second(whole: int, parameters: Parameters) -> str:
    """Build the SQL for a time that is given in whole seconds since 1970."""
    # With a DateTime, as on the server, ClickHouse would skip partitions that end within the same second.
    moment = parameters.add("Int64", min(max(whole, 0), _LAST_SECOND) * 1000)
    return f"fromUnixTimestamp64Milli({moment}, 'UTC')"


@attrs.frozen
class _Read:
    """The only condition that the server evaluates in one table of a leaf."""

    column: ColumnFacts
    key: str
    operator: Operator
    constant: Any

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "_Read":
        """Select the condition in *columns* that the server evaluates.

        Raises:
            Crash: There is no condition.
        """
        name = next((name for name in _READ_FIRST if name in columns), None) or _first(columns)[0]
        column, below, key = COLUMNS[name], columns[name], ""
        if column.kind is Kind.MAP:
            key, below = _first(below)
        return cls(column, key, *_first(below))

    def sql(self, parameters: Parameters, tables: Tables) -> str:
        """Compile the condition to SQL."""
        match self.column.name:
            case "property_key":
                return has_property(self.constant, tables, parameters)
            case "properties":
                value = property_value(self.key, tables, parameters)
                return self._compared(value, parameters.add("String", self.constant))
            case "search_properties":
                return self._compared("key", parameters.add("String", self.constant))
            case "scores":
                key = parameters.add("String", self.key)
                # On the server, an index over the values makes ClickHouse reject every equality (code 170).
                # The tables here have no such index, so the constant is replaced by a text that ClickHouse
                # rejects as well.
                constant = parameters.add("String", "" if self.operator == "equals" else self.constant)
                return f"mapContains(scores, {key}) AND {self._compared(f'scores[{key}]', constant)}"
            case "cached":
                nothing = parameters.add("String", str(UUID(int=0)))
                return f"cache_reference_id {'!=' if self.constant else '='} {nothing}"
            case "session_tag":
                return self._tagged(parameters, tables)
        return self.compared(_NAMES.get(self.column.name, self.column.name), parameters)

    def compared(self, expression: str, parameters: Parameters) -> str:
        """Compile the condition on *expression* to SQL."""
        return self._sentinel(expression) or self._compared(expression, self._bound(parameters))

    def _sentinel(self, expression: str) -> str | None:
        match self.operator, self.constant:
            case "equals", "null":
                return f"{expression} IS NULL"
            case "not-equals", "null":
                return f"{expression} IS NOT NULL"
            case "equals", "__empty__":
                return f"empty({expression})"
        return None

    def _tagged(self, parameters: Parameters, tables: Tables) -> str:
        if tables.tags is None:
            raise Unanswerable("session_tag cannot be filtered on here: there is no table of tags")
        # The server searches the tags of all organisations, and does not put % around the constant.
        tag = f"tag {COMPARISONS[self.operator]} {self._bound(parameters)}"
        tagged = f"SELECT entity_id FROM {tables.tags} WHERE {tag} AND entity_type = 'session'"
        # Without GLOBAL, each server of a Distributed table would search only its own tags.
        return f"{tables.session_id} GLOBAL IN ({tagged})"

    def _compared(self, expression: str, constant: str) -> str:
        if self.operator in ("contains", "not-contains"):
            constant = f"'%' || {constant}::text || '%'"
        return f"{expression} {COMPARISONS[self.operator]} {constant}"

    def _bound(self, parameters: Parameters) -> str:
        """Compile the constant to a parameter, or to an unquoted word if the server treats it specially."""
        match self.column.kind:
            case Kind.NUMBER:
                return self._number(parameters)
            case Kind.TIMESTAMP:
                return second((moment_of(self.constant) - EPOCH) // _SECOND, parameters)
            case Kind.BOOLEAN:
                return parameters.add("UInt8", int(self.constant))
        if self.constant in (SERVER_NULL, SERVER_EMPTY):
            return str(self.constant)
        return parameters.add("String", self.constant)

    def _number(self, parameters: Parameters) -> str:
        # JavaScript has only doubles.
        value = float(self.constant)
        if self.column.server_scale > 1:
            value *= self.column.server_scale
            value = float(math.floor(value)) if math.isfinite(value) else value
        if value.is_integer():
            # The value is text, as on the server: ClickHouse wraps larger values and rejects exponents.
            return parameters.add("Int32", js_number(value))
        return parameters.add("Float64", repr(value))


def moment_of(text: str) -> datetime:
    """Parse an ISO 8601 time. A time without a zone is in UTC, the server's time zone.

    Raises:
        ValueError: The text is not a time.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _first(item: Mapping[str, Any]) -> tuple[Any, Any]:
    for found in item.items():
        return found
    raise Crash
