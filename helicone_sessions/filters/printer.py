"""Convert filters to text: Python source, filter text for `parse_filter`, or a readable tree."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, TypeVar

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.constants import MISSING, Value, check, spell_column
from helicone_sessions.filters.nodes import (
    EVERYTHING,
    SYMBOLS,
    And,
    Branch,
    Leaf,
    Node,
    Not,
    Or,
    spell_value,
)
from helicone_sessions.filters.schema import Kind
from helicone_sessions.filters.wire import encode_leaf

# Python's compiler rejects chains of & and | with about 1,000 terms or more.
_WIDEST_CHAIN: Final = 20
_DEEPEST_INDENT: Final = 40

# Text, or a node and whether it is inside another node.
Pieces = list[str | tuple[Node, bool]]
Step = TypeVar("Step")


def _written(first: Step, pieces_of: Callable[[Step], list[str | Step]]) -> str:
    """Write a tree piece by piece, because joining the text at each level would take quadratic time."""
    written = []
    waiting: list[str | Step] = [first]
    while waiting:
        step = waiting.pop()
        if isinstance(step, str):
            written.append(step)
        else:
            waiting.extend(reversed(pieces_of(step)))
    return "".join(written)


def to_source(root: Node) -> str:
    """The tree as Python source that evaluates to an equal filter."""
    return _written((root, False), _source_pieces)


def _source_pieces(step: tuple[Node, bool]) -> Pieces:
    node, is_inside = step
    if isinstance(node, Leaf):
        return [_leaf_source(node, is_inside=is_inside)]
    if isinstance(node, Not):
        return ["~", (node.child, True)]
    if not isinstance(node, Branch):
        return ["ALL" if node is EVERYTHING else "NONE"]
    is_and, children = isinstance(node, And), node.children
    if len(children) > _WIDEST_CHAIN:
        before, between, after = ("all_of(" if is_and else "any_of("), ", ", ")"
    else:
        before, between, after = "(" * is_inside, (" & " if is_and else " | "), ")" * is_inside
    pieces: Pieces = [before]
    for child in children:
        pieces += [(child, True), between]
    pieces[-1] = after
    return pieces


def _leaf_source(leaf: Leaf, *, is_inside: bool) -> str:
    if not can_be_written(leaf):
        return f"Filter.from_wire({encode_leaf(leaf)})"
    if is_inside and leaf.column.kind is Kind.BOOLEAN and leaf.value:
        return spell_column(leaf.column)
    is_call = leaf.operator not in SYMBOLS or (leaf.value is MISSING and leaf.operator == "equals")
    return f"({leaf})" if is_inside and not is_call else str(leaf)


def can_be_written(leaf: Leaf) -> bool:
    """Whether the filter language accepts the condition.

    Other clients can send constants that the language rejects, such as a negative cost or empty text.
    """
    if leaf.value is MISSING and not leaf.column.nullable:
        return False
    if leaf.key == "" or (leaf.value == "" and leaf.operator in ("contains", "not-contains")):
        return False
    try:
        check(leaf.column, leaf.value)
    except FilterError:
        return False
    return True


def to_text(root: Node) -> str:
    """The tree as filter text, from which `parse_filter` creates an equal filter."""
    return _written(root, _pieces)


def _pieces(node: Node) -> list[Node | str]:
    """The pieces of the node: its text, and the nodes inside it."""
    if isinstance(node, Leaf):
        return [_leaf_text(node)]
    if isinstance(node, Not):
        return ["not ", *_in_parentheses(node.child, And, Or)]
    if not isinstance(node, Branch):
        return ["all" if node is EVERYTHING else "none"]
    word = " and " if isinstance(node, And) else " or "
    pieces: list[Node | str] = []
    for part in _parts(node):
        # Only "or" inside "and" needs parentheses, because "and" binds tighter.
        inside = [part] if isinstance(part, str) else _in_parentheses(part, Or)
        pieces += [word, *inside]
    return pieces[1:]


def _in_parentheses(node: Node, *kinds: type[Branch]) -> list[Node | str]:
    """The node, in parentheses if it is one of the *kinds* and has more than one part."""
    if isinstance(node, Branch) and isinstance(node, kinds):
        parts = list(_parts(node))
        return [parts[0]] if len(parts) == 1 else ["(", node, ")"]
    return [node]


def _parts(node: Branch) -> Iterator[Node | str]:
    """The children of a branch. Adjacent conditions that differ only in their constants become one list."""
    operator, word = ("equals", "in") if isinstance(node, Or) else ("not-equals", "not in")
    for column, group in groupby(node.children, lambda part: _listed_column(part, operator)):
        parts = list(group)
        values = [part.value for part in parts if isinstance(part, Leaf)]
        # The parser reads a list as one condition for each distinct constant.
        if column and 1 < len(values) == len({*values}):
            yield f"{column} {word} ({', '.join(map(_constant_text, values))})"
        else:
            yield from parts


def _listed_column(node: Node, operator: str) -> str:
    """The column of a condition that can be part of a list, or an empty string."""
    if not isinstance(node, Leaf) or node.operator != operator or node.column.kind is Kind.KEY:
        return ""
    return "" if node.value is MISSING or not can_be_written(node) else _column_text(node)


def _leaf_text(leaf: Leaf) -> str:
    if not can_be_written(leaf):
        return _escaped(json.dumps(encode_leaf(leaf), ensure_ascii=False))
    column = _column_text(leaf)
    if leaf.value is MISSING and leaf.operator == "equals":
        return f"{column} is null"
    if leaf.value is True:
        return column
    word = SYMBOLS.get(leaf.operator) or leaf.operator.replace("-", " ")
    return f"{column} {word} {_constant_text(leaf.value)}"


def _column_text(leaf: Leaf) -> str:
    return leaf.column.name if leaf.key is None else f"{leaf.column.name}[{_constant_text(leaf.key)}]"


def _constant_text(value: Value) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    """JSON text with invisible characters escaped."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def explain(root: Node) -> str:
    """The tree with one condition per line, using the API's names."""
    lines = []
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        # Deeper levels are not indented further, because thousands of levels would be mostly spaces.
        indent = "  " * depth if depth <= _DEEPEST_INDENT else f"{'  ' * _DEEPEST_INDENT}({depth}) "
        lines.append(indent + _label(node))
        waiting.extend((child, depth + 1) for child in reversed(node.children))
    return "\n".join(lines)


def _label(node: Node) -> str:
    if isinstance(node, Leaf):
        column = node.column.name if node.key is None else f"{node.column.name}[{node.key!r}]"
        unit = f" {node.column.unit}" if node.column.unit else ""
        return f"{column} {node.operator} {spell_value(node.value)}{unit}"
    if not node.children:
        return "everything" if node is EVERYTHING else "nothing"
    return "not" if isinstance(node, Not) else "all of" if isinstance(node, And) else "any of"
