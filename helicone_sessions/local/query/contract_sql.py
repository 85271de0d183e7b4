"""Compiles a filter to a SQL condition that follows the API's contract.

The SQL contains only known column names. Names and values from the caller are always passed as parameters.

A filter may have conditions on whole sessions, such as the total cost. Such a condition applies to all
requests of a session within the time range and the name of the query, regardless of the rest of the filter.
This preserves the meaning of "and", "or" and "not" around the condition. Conditions on whole sessions can be
evaluated only after grouping. All other conditions are evaluated for each request before grouping, and their
results are stored as *marks*.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final
from uuid import UUID

import attrs

from helicone_sessions.filters.constants import ends_in_escape, escape_like
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import EVERYTHING, And, Leaf, Node, fold, simplify
from helicone_sessions.filters.schema import SERVER_EMPTY, SERVER_NULL, ColumnFacts, Kind, Operator
from helicone_sessions.local.storage.fields import FEEDBACK
from helicone_sessions.local.storage.table import Tables

_NANO: Final = 9
COMPARISONS: Final[dict[Operator, str]] = {
    "equals": "=",
    "not-equals": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "LIKE",
    "ilike": "ILIKE",
    "contains": "ILIKE",
    "not-contains": "NOT ILIKE",
}
# The opposites of the negative operators, for columns with several values.
_POSITIVE: Final[dict[Operator, Operator]] = {"not-equals": "equals", "not-contains": "contains"}
# Int64 parameters can hold whole numbers below this limit.
_INT64: Final = 2**63
# DateTime64 cannot compare times outside this range. No request has such a time.
_FIRST_DAY: Final = datetime(1900, 1, 1, tzinfo=UTC)
_LAST_DAY: Final = datetime(2299, 12, 31, tzinfo=UTC)
# With more marks, ClickHouse takes seconds to plan the query, and planning cannot be stopped.
_MOST_MARKS: Final = 200
# ClickHouse's parser rejects deeper conditions with an internal error.
_DEEPEST: Final = 500
_MOMENT: Final = "DateTime64(6, 'UTC')"


class Unanswerable(Exception):
    """The engine cannot evaluate a condition.

    Args:
        problem: The condition, and why it cannot be evaluated.
        remedy: A suggested alternative, without the final period.
    """

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


@attrs.define
class Parameters:
    """The named values of a statement."""

    values: dict[str, str | int | float] = attrs.field(factory=dict)

    def add(self, kind: str, value: str | float) -> str:
        """Add a value and return its placeholder."""
        name = f"p{len(self.values)}"
        self.values[name] = _tsv_escaped(value) if isinstance(value, str) else value
        return f"{{{name}:{kind}}}"


_TSV: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f"}
)


def _tsv_escaped(text: str) -> str:
    # ClickHouse expects parameters in this form. It would silently change a raw backslash.
    return text.translate(_TSV)


@attrs.frozen
class Condition:
    """A filter compiled to SQL.

    Args:
        text: The condition. It applies to requests or, if `on_sessions` is true, to groups of requests.
        marks: The conditions on requests to which `text` refers as ``marks[1]``, ``marks[2]``, …
        on_sessions: Whether the filter has conditions on whole sessions.
    """

    text: str
    marks: tuple[str, ...] = ()
    on_sessions: bool = False


def condition(
    matching: Filter | None, parameters: Parameters, tables: Tables, caller: str, marks: Iterable[str] = ()
) -> Condition:
    """Compile a filter.

    Args:
        matching: The filter; None matches every request.
        parameters: The parameters of the statement. The values of the filter are added to them.
        tables: The tables.
        caller: The condition that restricts a table to the caller's rows.
        marks: The marks of the conditions compiled earlier for the same statement. New marks follow these.

    Raises:
        Unanswerable: A column is not stored, or a pattern is invalid.
    """
    root = EVERYTHING if matching is None else simplify(matching.node)
    levels = fold(root, lambda _, below: 1 + max(below, default=0))
    if levels > _DEEPEST:
        raise Unanswerable(f"and/or alternate {levels:,} levels deep; at most {_DEEPEST} are supported")
    compiler = _Compiler(parameters, tables, caller, list(marks))
    text, on_sessions = fold(root, compiler.combined)
    return Condition(text, tuple(compiler.marks), on_sessions)


@attrs.define
class _Compiler:
    """Compiles the nodes of a filter, leaves first. Each result records whether it is on whole sessions."""

    parameters: Parameters
    tables: Tables
    caller: str
    marks: list[str] = attrs.field(factory=list)

    def combined(self, node: Node, below: list[tuple[str, bool]]) -> tuple[str, bool]:
        if isinstance(node, Leaf):
            return self._leaf(node)
        if not node.children:
            return ("1" if node is EVERYTHING else "0"), False
        on_requests = [text for text, on_sessions in below if not on_sessions]
        if len(on_requests) == len(below):
            return _joined(node, on_requests), False
        parts = [text for text, on_sessions in below if on_sessions]
        if on_requests:
            parts.append(self._mark(_joined(node, on_requests)))
        return _joined(node, parts), True

    def _leaf(self, leaf: Leaf) -> tuple[str, bool]:
        check_stored(leaf.column, self.tables)
        if leaf.column.name in _OF_SESSIONS:
            return _of_session(leaf, self.parameters), True
        return _of_request(leaf, self.parameters, self.tables, self.caller), False

    def _mark(self, text: str) -> str:
        if len(self.marks) == _MOST_MARKS:
            raise Unanswerable(
                f"the filter combines conditions on whole sessions with conditions on requests more than"
                f" {_MOST_MARKS} times",
                "Combine the conditions on requests, or split the query",
            )
        # Null becomes false. This is safe because there is no "not" above.
        self.marks.append(f"ifNull({text}, 0)")
        return f"marks[{len(self.marks)}]"


def _joined(node: Node, parts: list[str]) -> str:
    """Combine the conditions of a branch with AND or OR."""
    return f"({(' AND ' if isinstance(node, And) else ' OR ').join(parts)})"


def _of_request(leaf: Leaf, parameters: Parameters, tables: Tables, caller: str) -> str:
    column = leaf.column
    match column.name:
        case "session_tag":
            return _tag(leaf, parameters, tables, caller)
        case "property_key":
            return has_property(str(leaf.value), tables, parameters)
        case "properties":
            return _text(property_value(str(leaf.key), tables, parameters), leaf, parameters)
        case "session_session_id":
            return _text(tables.session_id, leaf, parameters)
        case "session_session_name":
            return _text(tables.session_name, leaf, parameters)
    if column.name in _OF_THEIR_OWN:
        return _OF_THEIR_OWN[column.name](leaf, parameters)
    return _BY_KIND[column.kind](EXPRESSIONS.get(column.name, column.name), leaf, parameters)


def check_stored(column: ColumnFacts, tables: Tables) -> None:
    """Check that the table has the columns that store *column*.

    Raises:
        Unanswerable: The table lacks such a column.
    """
    if column.name in _NOT_KEPT:
        raise Unanswerable(f"{column.name} cannot be filtered on here: {_NOT_KEPT[column.name]}")
    for name in _STORED_IN.get(column.name, (column.name,)):
        if name not in tables.columns:
            raise Unanswerable(
                f"{column.name} cannot be filtered on here: the table has no column {name} of a suitable type"
            )


def _tag(leaf: Leaf, parameters: Parameters, tables: Tables, caller: str) -> str:
    """Build a condition on the tags of a request's session."""
    if tables.tags is None:
        raise Unanswerable("session_tag cannot be filtered on here: there is no table of tags")
    tagged = f"SELECT entity_id FROM {tables.tags} WHERE {caller} AND entity_type = 'session' AND "
    # Without GLOBAL, each server of a Distributed table would search only its own tags.
    before = f"{tables.session_id} GLOBAL IN ({tagged}"
    return _any_of_several(leaf, parameters, "tag", before, ")")


def _cost(leaf: Leaf, parameters: Parameters) -> str:
    return _nanodollars("cost", leaf, parameters)


def has_property(key: str, tables: Tables, parameters: Parameters) -> str:
    """Build the condition that a request has a property."""
    name = parameters.add("String", key)
    if tables.property_keys is None:
        return f"mapContains(properties, {name})"
    return f"has({tables.property_keys}, {name})"


def property_value(key: str, tables: Tables, parameters: Parameters) -> str:
    """Build the expression for a property. Its value is ``''`` if the request does not have the property."""
    column = tables.property_columns.get(key)
    return f"properties[{parameters.add('String', key)}]" if column is None else column


def _score(leaf: Leaf, parameters: Parameters) -> str:
    key = parameters.add("String", str(leaf.key))
    return f"(mapContains(scores, {key}) AND {_text(f'toString(scores[{key}])', leaf, parameters)})"


def _assets(leaf: Leaf, parameters: Parameters) -> str:
    if leaf.operator == "equals" and leaf.value == SERVER_EMPTY:
        return "empty(assets)"
    return _any_of_several(leaf, parameters, "asset", "arrayExists(asset -> ", ", assets)")


def _uuid(leaf: Leaf, parameters: Parameters) -> str:
    if leaf.operator in ("equals", "not-equals"):
        leaf = attrs.evolve(leaf, value=_uuid_text(str(leaf.value)))
    return _text(f"toString({leaf.column.name})", leaf, parameters)


def _flag(expression: str, leaf: Leaf, _parameters: Parameters) -> str:
    """Build a condition on a boolean."""
    return f"{expression} = {'true' if leaf.value else 'false'}"


def _of_session(leaf: Leaf, parameters: Parameters) -> str:
    column = _OF_SESSIONS[leaf.column.name]
    if leaf.column.name == "session_total_cost":
        return _nanodollars(column, leaf, parameters)
    return (_time if leaf.column.kind is Kind.TIMESTAMP else _number)(column, leaf, parameters)


def _number(column: str, leaf: Leaf, parameters: Parameters) -> str:
    value = leaf.value
    assert isinstance(value, (int, float))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        constant = parameters.add("Int64", value)
    else:
        constant = parameters.add("Float64", repr(float(value)))
    return f"{column} {COMPARISONS[leaf.operator]} {constant}"


def _nanodollars(column: str, leaf: Leaf, parameters: Parameters) -> str:
    """Compare a column in billionths of a dollar with a value in dollars, without rounding."""
    exact = Decimal(repr(leaf.value)).scaleb(_NANO)
    below = int(min(max(exact.to_integral_value(ROUND_FLOOR), Decimal(-1)), Decimal(2**64)))
    above = int(min(max(exact.to_integral_value(ROUND_CEILING), Decimal(-1)), Decimal(2**64)))
    if leaf.operator in ("equals", "not-equals") and below != above:
        return "0" if leaf.operator == "equals" else "1"
    bound = above if leaf.operator in ("gte", "lt") else below
    return f"{column} {COMPARISONS[leaf.operator]} {parameters.add('Int128', str(bound))}"


def _time(column: str, leaf: Leaf, parameters: Parameters) -> str:
    assert isinstance(leaf.value, datetime)
    moment = min(max(leaf.value, _FIRST_DAY), _LAST_DAY)
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return f"{column} {COMPARISONS[leaf.operator]} {parameters.add(_MOMENT, text)}"


def _text(expression: str, leaf: Leaf, parameters: Parameters) -> str:
    operator, value = leaf.operator, str(leaf.value)
    if operator in ("equals", "not-equals"):
        # In the API, only these words test for a missing value. The service compiles them to the same SQL.
        if value == SERVER_NULL and value in leaf.column.sentinels:
            return f"{expression} IS {'NOT ' if operator == 'not-equals' else ''}NULL"
        if value == SERVER_EMPTY and value in leaf.column.sentinels and operator == "equals":
            return f"empty({expression})"
    elif operator in ("like", "ilike"):
        _check_pattern(leaf, value)
    else:
        value = f"%{escape_like(value)}%"
    return f"{expression} {COMPARISONS[operator]} {parameters.add('String', value)}"


def _any_of_several(leaf: Leaf, parameters: Parameters, each: str, before: str, after: str) -> str:
    """Build the condition that at least one value matches.

    For a negative operator, build the condition that no value matches the opposite operator.
    """
    positive = _POSITIVE.get(leaf.operator)
    inner = attrs.evolve(leaf, operator=positive) if positive else leaf
    value = str(leaf.value)
    if inner.operator == "equals":
        text = f"{each} = {parameters.add('String', value)}"
    else:
        text = _text(each, inner, parameters)
    return f"{'NOT ' if positive else ''}{before}{text}{after}"


def _uuid_text(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        return value


def _check_pattern(leaf: Leaf, pattern: str) -> None:
    if ends_in_escape(pattern):
        raise Unanswerable(
            f"{leaf.column.name} {leaf.operator}: the pattern ends with a backslash that escapes nothing"
        )


EXPRESSIONS: Final = {
    "total_tokens": "(prompt_tokens + completion_tokens)",
    "cached": f"(cache_reference_id != toUUID('{UUID(int=0)}'))",
    "helicone-score-feedback": f"if(mapContains(scores, '{FEEDBACK}'), scores['{FEEDBACK}'] = 1, NULL)",
}
# The columns of the table that store a column of the API, if the names differ.
_STORED_IN: Final[dict[str, tuple[str, ...]]] = {
    "session_tag": (),
    "session_session_id": (),
    "session_session_name": (),
    "total_tokens": ("prompt_tokens", "completion_tokens"),
    "cached": ("cache_reference_id",),
    "helicone-score-feedback": ("scores",),
    "property_key": ("properties",),
    "session_total_cost": (),
    "session_total_tokens": ("prompt_tokens", "completion_tokens"),
    "session_prompt_tokens": ("prompt_tokens",),
    "session_completion_tokens": ("completion_tokens",),
    "session_total_requests": (),
    "session_created_at": (),
    "session_latest_request_created_at": (),
}
_BY_KIND: Final[dict[Kind, Callable[[str, Leaf, Parameters], str]]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.TIMESTAMP: _time,
    Kind.BOOLEAN: _flag,
}
_OF_THEIR_OWN: Final[dict[str, Callable[[Leaf, Parameters], str]]] = {
    "cost": _cost,
    "scores": _score,
    "assets": _assets,
    "request_id": _uuid,
    "organization_id": _uuid,
    "cache_reference_id": _uuid,
}
_OF_SESSIONS: Final = {
    "session_total_cost": "session_cost",
    "session_total_tokens": "(session_prompt_tokens + session_completion_tokens)",
    "session_prompt_tokens": "session_prompt_tokens",
    "session_completion_tokens": "session_completion_tokens",
    "session_total_requests": "session_requests",
    "session_created_at": "session_start",
    "session_latest_request_created_at": "session_end",
}
_NOT_KEPT: Final = {
    "node_id": "Helicone's table has no such column",
    "job_id": "Helicone's table has no such column",
    "search_properties": "Helicone's table has no such column; use properties",
    "scores_column": "it is the whole map; use scores with a key",
}
