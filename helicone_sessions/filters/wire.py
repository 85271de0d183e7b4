"""Convert filters to and from the API's JSON.

The server reads only the first column and the first operator of a leaf, so this module writes leaves with one
column and one operator. A branch joins two nodes. A long list of conditions is joined in pairs, level by
level, which keeps the order. Ten thousand conditions are then only fifteen levels deep.
"""

import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Optional

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError
from helicone_sessions.filters.constants import (
    MISSING,
    Value,
    cut,
    escape_like,
    is_encodable,
    pattern_for_contains,
    sent_for_contains,
    unescape_literal,
)
from helicone_sessions.filters.nodes import (
    EVERYTHING,
    And,
    Branch,
    Leaf,
    Node,
    Or,
    join,
    plain_conditions,
    reduce,
)
from helicone_sessions.filters.schema import (
    COLUMNS,
    REQUESTS,
    SERVER_NULL,
    SESSIONS,
    ColumnFacts,
    Kind,
    Operator,
)

WireFilter = dict[str, Any] | Literal["all"]

# The path to a node, last step first. It becomes text only for an error.
_Trail = tuple[str, Optional["_Trail"]]

# JSON encoders and the service's SQL fail at a slightly greater depth. Only alternating & and | add depth.
DEEPEST: Final = 200

# The remedy for Python code. The parser of filter text replaces it.
EXPAND: Final = "Pass expand=True to join all of them by &"

_TIME: Final = "Write it like 2026-11-01T00:00:00Z"
_OPERATOR: Final = 'Write an operator and a constant, for example {"gt": 0.1}'
_KEY: Final = 'Write a key and its condition, for example {"env": {"equals": "prod"}}'
_LEAF: Final = f'For example, write {{"{REQUESTS}": {{"cost": {{"gt": 0.1}}}}}}'
_EXPECTED: Final[dict[Kind, tuple[Any, str, str]]] = {
    Kind.NUMBER: ((int, float), "a number", "Write it without quotes, for example 0.1"),
    Kind.BOOLEAN: (bool, "true or false", "Write it without quotes"),
    Kind.TIMESTAMP: (str, "an ISO 8601 time", _TIME),
}
_STATUS: Final = COLUMNS["status"]
_CONTRADICTION: Final = (Leaf(_STATUS, "lt", 0), Leaf(_STATUS, "gt", 0))
# A part of the JSON, and its depth.
_Encoded = tuple[dict[str, Any], int]


def to_wire(root: Node) -> WireFilter:
    """The filter in the API's form.

    Raises:
        FilterValueError: A negated condition has no inverse, or the tree is more than `DEEPEST` levels deep.
    """
    if type(root) is Leaf:
        return encode_leaf(root)
    if conditions := plain_conditions(root):
        return _paired(type(root), [encode_leaf(leaf) for leaf in conditions])
    made = reduce(root, _encode, _join)
    if made is EVERYTHING:
        return "all"
    # A filter that matches nothing must never become a missing filter.
    wire, depth = made if isinstance(made, tuple) else _join(And, list(map(_encode, _CONTRADICTION)))
    if depth > DEEPEST:
        raise FilterValueError(
            argument="filter",
            problem=f"is {depth} levels deep; the API accepts {DEEPEST}",
            remedy="Join conditions with all_of() and any_of() instead of alternating & and |",
        )
    return wire


def _encode(leaf: Leaf) -> _Encoded:
    return encode_leaf(leaf), 1


def _join(kind: type[Branch], below: list[_Encoded]) -> _Encoded:
    wires, depths = zip(*below, strict=True)
    return _paired(kind, wires), _depth_of_pairs(depths)


def _depth_of_pairs(depths: Sequence[int]) -> int:
    if min(depths) == max(depths):
        return depths[0] + (len(depths) - 1).bit_length()
    while len(depths) > 1:
        pairs = [1 + max(two) for two in zip(depths[::2], depths[1::2], strict=False)]
        depths = [*pairs, *depths[2 * len(pairs) :]]
    return depths[0]


def _paired(kind: type[Node], parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the parts of a branch in pairs, then the pairs in pairs, and so on. The order stays the same."""
    if len(parts) == 1:
        return parts[0]
    left = 1 << (len(parts) - 1).bit_length() - 1
    return {
        "left": _paired(kind, parts[:left]),
        "operator": "and" if kind is And else "or",
        "right": _paired(kind, parts[left:]),
    }


def encode_leaf(leaf: Leaf) -> dict[str, Any]:
    """One condition as a leaf in the API's form."""
    column, operator, value, key = leaf.column, leaf.operator, leaf.value, leaf.key
    if isinstance(value, str):
        # The server puts % around the value of `contains` without escaping it.
        if operator == "contains":
            if pattern := pattern_for_contains(value):
                operator, value = "ilike", pattern
        elif operator == "not-contains":
            value = escape_like(value)
        elif value is MISSING:
            value = SERVER_NULL
    elif isinstance(value, datetime):
        value = _timestamp(value)
    condition = {operator: value} if key is None else {key: {operator: value}}
    return {column.table: {column.name: condition}}


def _timestamp(value: datetime) -> str:
    whole = value.microsecond % 1000 == 0
    text = value.astimezone(UTC).isoformat(timespec="milliseconds" if whole else "microseconds")
    return text.replace("+00:00", "Z")


def from_wire(
    wire: object, *, expand: bool = False, path: str = "$", expanded: list[str] | None = None
) -> Node:
    """The filter that *wire* represents.

    Args:
        wire: A leaf, a branch or ``"all"``, as decoded from JSON.
        expand: If a leaf does not have exactly one condition, combine all its conditions with "and". The
            open-source server would read only the first one.
        path: The JSON path of *wire* in its document, for messages.
        expanded: Receives the JSON path of each leaf that does not have exactly one condition.

    Raises:
        FilterTypeError: A value has the wrong type. The message gives its JSON path.
        FilterValueError: A name is unknown, or a leaf does not have exactly one condition. The message gives
            its JSON path.
    """
    done: list[Node] = []
    waiting: list[tuple[object, _Trail] | type[And | Or]] = [(wire, (path, None))]
    while waiting:
        step = waiting.pop()
        if isinstance(step, type):
            right, left = done.pop(), done.pop()
            done.append(join(step, (left, right)))
            continue
        item, trail = step
        try:
            if isinstance(item, str) and item == "all":
                done.append(EVERYTHING)
            elif not isinstance(item, Mapping):
                raise FilterTypeError(
                    problem=f'must be a leaf, a branch or "all", got {json_text(item)}', remedy=_LEAF
                )
            elif item.keys() & {"left", "right", "operator"}:
                waiting.append(_branch_kind(item))
                waiting.append((item["right"], (".right", trail)))
                waiting.append((item["left"], (".left", trail)))
            else:
                conditions = _decode_leaf(item, expand=expand)
                done.append(join(And, conditions))
                if expanded is not None and len(conditions) != 1:
                    expanded.append(_spell(trail))
        except FilterError as error:
            raise _placed(error, trail) from None
    return done[0]


def _placed(error: FilterError, trail: _Trail) -> FilterError:
    return type(error)(
        field=f"{_spell(trail)}{error.field or ''}", problem=error.problem, remedy=error.remedy
    )


def _spell(trail: _Trail) -> str:
    steps = []
    rest: _Trail | None = trail
    while rest:
        step, rest = rest
        steps.append(step)
    return "".join(reversed(steps))


def _branch_kind(item: Mapping[str, Any]) -> type[And | Or]:
    if item.keys() != {"left", "operator", "right"}:
        raise FilterValueError(
            problem=f"must be a branch with only left, operator and right, got {_listed(item)}",
            remedy='Write {"left": ..., "operator": "and", "right": ...}',
        )
    if item["operator"] not in ("and", "or"):
        raise FilterValueError(
            field=".operator",
            problem=f'must be "and" or "or", got {json_text(item["operator"])}',
            remedy='Write "and" if both sides must match, "or" if one is enough',
        )
    return And if item["operator"] == "and" else Or


def _decode_leaf(item: Mapping[str, Any], *, expand: bool) -> list[Leaf]:
    conditions = list(_conditions(item))
    if len(conditions) != 1 and not expand:
        found = "no condition" if not conditions else f"{len(conditions)} conditions"
        raise FilterValueError(
            problem=f"is a leaf with {found}; the service reads only the first of several, and a leaf without"
            " one as everything",
            remedy=EXPAND,
        )
    return conditions


def _conditions(item: Mapping[str, Any]) -> Iterator[Leaf]:
    for table, columns in item.items():
        if table not in (REQUESTS, SESSIONS):
            raise FilterValueError(
                problem=f"has an unknown table {json_text(table)}", remedy=f"Use {REQUESTS} or {SESSIONS}"
            )
        for name, below in _object(columns, f".{table}", _LEAF).items():
            column = COLUMNS.get(name)
            if column is None or column.table != table:
                raise _no_column(table, name)
            where = f".{table}.{name}"
            if column.kind is Kind.MAP:
                for key, operators in _object(below, where, _KEY).items():
                    yield from _operators(column, operators, f"{where}[{key!r}]", key)
            else:
                yield from _operators(column, below, where, None)


def _no_column(table: str, name: str) -> FilterValueError:
    known = [column.name for column in COLUMNS.values() if column.table == table]
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"Did you mean {json_text(near[0])}?" if near else f"It has {', '.join(known)}"
    return FilterValueError(field=f".{table}", problem=f"has no column {json_text(name)}", remedy=remedy)


def _operators(column: ColumnFacts, below: object, here: str, key: str | None) -> Iterator[Leaf]:
    for operator, value in _object(below, here, _OPERATOR).items():
        if operator not in column.operators:
            raise FilterValueError(
                field=here,
                problem=f"has no operator {json_text(operator)}",
                remedy=f"A {column.kind} column has {', '.join(column.operators)}",
            )
        yield _decode_condition(column, operator, _decode_value(column, value, f"{here}.{operator}"), key)


def _decode_condition(column: ColumnFacts, operator: Operator, value: Value, key: str | None) -> Leaf:
    """The inverse of `encode_leaf`."""
    if operator in ("equals", "not-equals"):
        # The API has no other way to search for a missing value.
        if value == SERVER_NULL and value in column.sentinels:
            value = MISSING
    elif operator == "not-contains":
        value = unescape_literal(str(value))
    elif operator == "ilike" and (inside := sent_for_contains(str(value))):
        operator, value = "contains", inside
    return Leaf(column, operator, value, key)


def _decode_value(column: ColumnFacts, value: object, here: str) -> Value:
    types, wanted, remedy = _EXPECTED.get(column.kind, (str, "a string", "Write it in quotes"))
    if not isinstance(value, types) or (isinstance(value, bool) and column.kind is not Kind.BOOLEAN):
        raise FilterTypeError(field=here, problem=f"must be {wanted}, got {json_text(value)}", remedy=remedy)
    plain: Any = value
    match column.kind:
        case Kind.BOOLEAN:
            return plain  # type: ignore[no-any-return]
        case Kind.NUMBER:
            return _within_double(plain, here)
        case Kind.TIMESTAMP:
            return _decode_timestamp(plain, here)
    return _encodable(plain, here)


def _encodable(text: str, here: str) -> str:
    if not is_encodable(text):
        problem = f"must not hold half a surrogate pair, got {json_text(text)}"
        raise FilterValueError(field=here, problem=problem, remedy="Remove it")
    return str.__str__(text)


def _within_double(value: float, here: str) -> int | float:
    # A whole number can be too large for a float.
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise FilterValueError(
            field=here,
            problem="must be a finite number that a double can hold",
            remedy="Use a number below 1.8e308",
        )
    return value


def _decode_timestamp(text: str, here: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise FilterValueError(
        field=here,
        problem=f"must be an ISO 8601 time with its zone, got {json_text(text)}",
        remedy=_TIME,
    )


def _object(value: object, here: str, remedy: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise FilterTypeError(
                    field=here,
                    problem=f"must have strings as names, got {json_text(key)}",
                    remedy="Write each name in quotes",
                )
            _encodable(key, here)
        return value
    raise FilterTypeError(field=here, problem=f"must be an object, got {json_text(value)}", remedy=remedy)


def json_text(value: object) -> str:
    """The value as JSON for an error message, cut if it is long.

    >>> json_text(None), json_text("yes"), json_text([True])
    ('null', '"yes"', '[true]')
    """
    try:
        return cut(json.dumps(value, default=repr), 60)
    except (ValueError, TypeError, RecursionError):
        # The value does not come from JSON.
        return f"a {type(value).__name__}"


def _listed(item: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, item))) or "nothing"
