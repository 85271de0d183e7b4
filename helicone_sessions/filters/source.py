"""A whole filter as Python source that pastes back."""

from typing import Final

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.nodes import EVERYTHING, And, Branch, Leaf, Node, Not
from helicone_sessions.filters.schema import Kind
from helicone_sessions.filters.spelling import SYMBOLS, spell_column
from helicone_sessions.filters.values import MISSING, check
from helicone_sessions.filters.wire import encode_leaf

# Longer chains of & and | meet the limits of Python's own compiler from about 1,000 terms on.
_WIDEST_CHAIN: Final = 20

# What is still to be written, last piece first: text, or a node and whether it stands inside of another.
Pieces = list[str | tuple[Node, bool]]


def to_source(root: Node) -> str:
    """The tree as Python source; evaluating it gives an equal filter."""
    written = []
    # Piece by piece: to join the text of each level again would cost the square of the depth.
    waiting: Pieces = [(root, False)]
    while waiting:
        step = waiting.pop()
        if isinstance(step, str):
            written.append(step)
        else:
            waiting.extend(reversed(_pieces(*step)))
    return "".join(written)


def _pieces(node: Node, is_inside: bool) -> Pieces:
    if isinstance(node, Leaf):
        return [_leaf(node, is_inside=is_inside)]
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


def _leaf(leaf: Leaf, *, is_inside: bool) -> str:
    if not can_be_written(leaf):
        return f"Filter.from_wire({encode_leaf(leaf)})"
    if is_inside and leaf.column.kind is Kind.BOOLEAN and leaf.value:
        return spell_column(leaf.column)
    is_call = leaf.operator not in SYMBOLS or (leaf.value is MISSING and leaf.operator == "equals")
    return f"({leaf})" if is_inside and not is_call else str(leaf)


def can_be_written(leaf: Leaf) -> bool:
    """Whether the language takes what another client sent, as a negative cost or an empty text."""
    if leaf.key == "" or (leaf.value == "" and leaf.operator in ("contains", "not-contains")):
        return False
    try:
        check(leaf.column, leaf.value, spelling="")
    except FilterError:
        return False
    return True
