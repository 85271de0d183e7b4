"""A whole filter as text: Python source that pastes back, and an indented tree for people."""

from typing import Final

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.nodes import (
    EVERYTHING,
    And,
    Branch,
    Leaf,
    Node,
    Not,
    fold,
)
from helicone_sessions.filters.schema import Kind
from helicone_sessions.filters.spelling import spell_column, spell_value
from helicone_sessions.filters.values import check
from helicone_sessions.filters.wire import encode_leaf

# Longer chains of & and | meet the limits of Python's own compiler from about 1,000 terms on.
_WIDEST_CHAIN: Final = 20


def to_source(root: Node) -> str:
    """The tree as Python source; evaluating it gives an equal filter."""
    return fold(root, _source)[1]


def _source(node: Node, below: list[tuple[str, str]]) -> tuple[str, str]:
    """The node inside a larger expression, and standing alone."""
    if isinstance(node, Leaf):
        alone = str(node)
        if not _can_be_written(node):
            text = f"Filter.from_wire({encode_leaf(node)})"
            return text, text
        if node.column.kind is Kind.BOOLEAN:
            return (spell_column(node.column) if node.value else f"({alone})"), alone
        return (alone if alone.endswith(")") and " " not in alone.split("(", 1)[0] else f"({alone})"), alone
    if isinstance(node, Not):
        text = f"~{below[0][0]}"
        return text, text
    if not isinstance(node, Branch):
        text = "ALL" if node is EVERYTHING else "NONE"
        return text, text
    parts = [inside for inside, _ in below]
    if len(parts) > _WIDEST_CHAIN:
        text = f"{'all_of' if isinstance(node, And) else 'any_of'}({', '.join(parts)})"
        return text, text
    text = (" & " if isinstance(node, And) else " | ").join(parts)
    return f"({text})", text


def _can_be_written(leaf: Leaf) -> bool:
    """Whether the language takes what another client sent, as a negative cost or an empty text."""
    if leaf.key == "" or (leaf.value == "" and leaf.operator in ("contains", "not-contains")):
        return False
    try:
        check(leaf.column, leaf.value, spelling="")
    except FilterError:
        return False
    return True


def explain(root: Node) -> str:
    """The tree with one condition a line, under the API's own names."""
    lines = []
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        lines.append("  " * depth + _label(node))
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
