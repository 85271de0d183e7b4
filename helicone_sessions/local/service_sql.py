"""A filter's JSON as the SQL condition that the open-source server makes of it.

It shows what becomes of a filter there before it is sent. What is known of that server's reading stands in
the column table of the schema; here it is carried out. Constants that ClickHouse would refuse, wherever in a
filter they stand, are found before anything runs, and are reported in its words.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from helicone_sessions.filters.nodes import EVERYTHING, And, Leaf, Node, Or, fold, join
from helicone_sessions.filters.patterns import ends_in_escape
from helicone_sessions.filters.schema import (
    COLUMNS,
    SERVER_EMPTY,
    SERVER_LARGEST_WHOLE,
    SERVER_NULL,
    ColumnFacts,
    Kind,
    Reading,
)
from helicone_sessions.filters.values import shortened
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.sql import (
    COMPARISONS,
    EXPRESSIONS,
    Condition,
    Parameters,
    Unanswerable,
    around_tag,
    check_stored,
    flag,
    joined,
)
from helicone_sessions.local.table import FEEDBACK, Tables

_TURN: Final = 2 * (SERVER_LARGEST_WHOLE + 1)
# From there on JavaScript writes an exponent, which is no whole number to ClickHouse.
_WRITTEN_OUT: Final = 1e21
# What ClickHouse reads as a UUID, and as a whole number.
_UUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_WHOLE: Final = re.compile("[+-]?[0-9]+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What its DateTime can hold; a moment beyond is taken for the end.
_LAST_SECOND: Final = 2**32 - 1


def service_condition(wire: WireFilter, parameters: Parameters, tables: Tables, caller: str) -> Condition:
    """The condition that the open-source server makes of a filter.

    Args:
        wire: The filter as it was sent; it has been held to the contract.
        parameters: Takes the values.
        tables: The tables.
        caller: The condition that limits a table to the caller.

    Raises:
        Unanswerable: The query would fail; the text is what ClickHouse says.
    """

    def combined(node: Node, below: list[str]) -> str:
        if isinstance(node, Leaf):
            return _condition(node, parameters, tables, caller)
        return joined(node, below) if node.children else "1"

    return Condition(fold(_read(wire), combined))


def _read(wire: WireFilter) -> Node:
    """The tree of the conditions that are read; each holds its constant as it was sent."""
    done: list[Node] = []
    waiting: list[Any] = [wire]
    while waiting:
        step = waiting.pop()
        if isinstance(step, type):
            right, left = done.pop(), done.pop()
            done.append(step((left, right)))
        elif step == "all":
            done.append(EVERYTHING)
        elif "left" in step:
            waiting += [And if step["operator"] == "and" else Or, step["right"], step["left"]]
        else:
            done.append(join(And, _leaves(step)))
    return done[0]


def _leaves(item: Mapping[str, Any]) -> Iterator[Leaf]:
    """Of each table the first column with its first operator, unless the server ignores that column."""
    for columns in item.values():
        for name, below in _first(columns):
            column = COLUMNS[name]
            keyed = _first(below) if column.kind is Kind.MAP else [(None, below)]
            for key, operators in keyed:
                for operator, value in _first(operators):
                    if column.on_server is not Reading.IGNORED:
                        yield Leaf(column, operator, value, key)


def _first(item: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return list(item.items())[:1]


def _condition(leaf: Leaf, parameters: Parameters, tables: Tables, caller: str) -> str:
    column = leaf.column
    if column.on_server is Reading.FAILS or leaf.operator in column.server_refuses:
        raise _unreadable(column, leaf)
    check_stored(column, tables)
    match column.name:
        case "session_tag":
            before, after = around_tag(tables, caller)
            return f"{before}{_tag(leaf, parameters)}{after}"
        case "properties":
            return _text(f"properties[{parameters.add('String', str(leaf.key))}]", leaf, parameters)
        case "scores":
            return _score(leaf, parameters)
        case "helicone-score-feedback":
            # A score that is missing reads as 0.
            return f"scores['{FEEDBACK}'] = {int(bool(leaf.value))}"
    expression = EXPRESSIONS.get(column.name, column.name)
    match column.kind:
        case Kind.NUMBER:
            return f"{expression} {COMPARISONS[leaf.operator]} {_number(leaf, parameters)}"
        case Kind.TIMESTAMP:
            whole = (datetime.fromisoformat(str(leaf.value)) - _EPOCH) // timedelta(seconds=1)
            return f"{expression} {COMPARISONS[leaf.operator]} {second(whole, parameters)}"
        case Kind.BOOLEAN:
            return flag(expression, leaf, parameters)
    return _stored_text(expression, leaf, parameters)


def second(whole: int, parameters: Parameters) -> str:
    """The text that stands for a moment, in whole seconds since 1970."""
    # As a DateTime, which it is there, ClickHouse would pass over partitions that end within this second.
    moment = parameters.add("Int64", min(max(whole, 0), _LAST_SECOND) * 1000)
    return f"fromUnixTimestamp64Milli({moment}, 'UTC')"


def _number(leaf: Leaf, parameters: Parameters) -> str:
    # JavaScript has doubles only.
    value = float(leaf.value)  # type: ignore[arg-type]
    scale = leaf.column.server_scale
    if scale > 1:
        value *= scale
        value = math.floor(value) if math.isfinite(value) else value
    if abs(value) >= _WRITTEN_OUT:
        what = f"Value {value!r} cannot be parsed as Int32 for query parameter"
        raise _refused(457, what, "BAD_QUERY_PARAMETER")
    if value != int(value):
        return parameters.add("Float64", repr(value))
    digits = int(format(Decimal(repr(float(value))), "f").partition(".")[0])
    wrapped = (digits + _TURN // 2) % _TURN - _TURN // 2
    return parameters.add("Int32", wrapped)


def _score(leaf: Leaf, parameters: Parameters) -> str:
    if not _WHOLE.fullmatch(str(leaf.value)):
        raise _refused(53, f"Cannot convert string {shortened(leaf.value)} to type Int64", "TYPE_MISMATCH")
    key = parameters.add("String", str(leaf.key))
    return f"(mapContains(scores, {key}) AND {_text(f'scores[{key}]', leaf, parameters)})"


def _stored_text(column: str, leaf: Leaf, parameters: Parameters) -> str:
    operator, value = leaf.operator, str(leaf.value)
    if operator in ("equals", "not-equals") and value == SERVER_NULL:
        return f"{column} IS {'NOT ' if operator == 'not-equals' else ''}NULL"
    if operator == "equals" and value == SERVER_EMPTY:
        return f"empty({column})"
    if value == SERVER_NULL and operator in ("contains", "not-contains"):
        raise _refused(70, "Cannot convert NULL to a non-nullable type", "CANNOT_CONVERT_TYPE")
    if value in _WORDS:
        return _with_word(column, leaf)
    if leaf.column.uuid and not _UUID.fullmatch(value):
        raise _refused(376, f"Cannot parse uuid {shortened(value)}", "CANNOT_PARSE_UUID")
    return _text(column, leaf, parameters)


def _tag(leaf: Leaf, parameters: Parameters) -> str:
    """The condition on a tag; no ``%`` is put around its constant."""
    if leaf.value in _WORDS:
        return _with_word("tag", leaf)
    return _compared("tag", leaf, str(leaf.value), parameters)


_WORDS: Final = (SERVER_NULL, SERVER_EMPTY)


def _with_word(expression: str, leaf: Leaf) -> str:
    """The comparison with one of the words that are put into the statement as they stand."""
    if leaf.value == SERVER_EMPTY:
        what = f"Unknown expression or function identifier `{SERVER_EMPTY}`"
        raise _refused(47, what, "UNKNOWN_IDENTIFIER")
    return f"{expression} {COMPARISONS[leaf.operator]} NULL"


def _text(expression: str, leaf: Leaf, parameters: Parameters) -> str:
    is_inside = leaf.operator in ("contains", "not-contains")
    return _compared(expression, leaf, f"%{leaf.value}%" if is_inside else str(leaf.value), parameters)


def _compared(expression: str, leaf: Leaf, value: str, parameters: Parameters) -> str:
    if leaf.operator not in ("equals", "not-equals") and ends_in_escape(value):
        what = f"Invalid escape sequence at the end of LIKE pattern {shortened(value)}"
        raise _refused(25, what, "CANNOT_PARSE_ESCAPE_SEQUENCE")
    return f"{expression} {COMPARISONS[leaf.operator]} {parameters.add('String', value)}"


def _unreadable(column: ColumnFacts, leaf: Leaf) -> Unanswerable:
    if column.name in _BEHIND:
        what = f"Unknown expression or function identifier `request_response_rmt.{_BEHIND[column.name]}`"
        return _refused(47, f"{what}: {column.server_note}", "UNKNOWN_IDENTIFIER")
    if leaf.operator in ("equals", "not-equals"):
        return _refused(
            27, f"Cannot parse input: {column.server_note}", "CANNOT_PARSE_INPUT_ASSERTION_FAILED"
        )
    function = COMPARISONS[leaf.operator].lower().replace("not ilike", "notILike")
    what = f"Illegal type of argument of function {function}: {column.name}: {column.server_note}"
    return _refused(43, what, "ILLEGAL_TYPE_OF_ARGUMENT")


def _refused(code: int, what: str, name: str) -> Unanswerable:
    return Unanswerable(f"Code: {code}. DB::Exception: {what}. ({name})")


# What the server reads for a column that its table lacks.
_BEHIND: Final = {
    "node_id": "node_id",
    "job_id": "job_id",
    "assets": "asset_ids",
    "search_properties": "key",
}
