"""Filters as data: trees of conditions joined by and, or and not, and operations on such trees.

Nodes are immutable and know nothing about operators, JSON or SQL. All traversals use the loops in `fold` and
`_flatten`, so even ten thousand conditions never reach the recursion limit, however they are joined.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from helicone_sessions.errors import FilterValueError
from helicone_sessions.filters.constants import (
    MISSING,
    Value,
    like_inside,
    refusal,
    spell_column,
    unescape_like,
)
from helicone_sessions.filters.schema import SERVER_EMPTY, ColumnFacts, Kind, Operator

SYMBOLS: Final[dict[Operator, str]] = {
    "equals": "==",
    "not-equals": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
}


def spell_value(value: Value) -> str:
    """The constant as Python source. The source of a time requires ``import datetime``."""
    if isinstance(value, datetime):
        return f"datetime.datetime.fromisoformat({value.isoformat()!r})"
    return repr(value)


def spell_leaf(column: ColumnFacts, operator: Operator, value: Value, key: str | None = None) -> str:
    """The condition as Python source."""
    left = spell_column(column, key)
    if value is MISSING and operator == "equals":
        return f"{left}.is_null()"
    if operator in SYMBOLS:
        return f"{left} {SYMBOLS[operator]} {spell_value(value)}"
    return f"{left}.{operator.replace('-', '_')}({spell_value(value)})"


if TYPE_CHECKING:
    from attrs import frozen
else:
    # Only type checkers see frozen nodes, because run-time checks would triple the time to create a node.
    frozen = partial(attrs.define, unsafe_hash=True)


class Node:
    """A node of the tree."""

    __slots__ = ()

    @property
    def children(self) -> "tuple[Node, ...]":
        """The nodes directly below this node."""
        return ()


@frozen
class Leaf(Node):
    """One condition: a column, an operator and a constant."""

    column: ColumnFacts
    operator: Operator
    value: Value
    key: str | None = None

    def __str__(self) -> str:
        return spell_leaf(self.column, self.operator, self.value, self.key)


@frozen
class Everything(Node):
    """The condition that always holds. `EVERYTHING` is the only instance."""

    def __reduce__(self) -> str:
        return "EVERYTHING"


@frozen
class Nothing(Node):
    """The condition that never holds. `NOTHING` is the only instance."""

    def __reduce__(self) -> str:
        return "NOTHING"


@frozen
class Not(Node):
    """The negation of a node. It is kept as written until the filter is compiled."""

    child: Node

    @property
    def children(self) -> tuple[Node, ...]:
        """The negated node."""
        return (self.child,)


@frozen(eq=False, unsafe_hash=False)
class Branch(Node):
    """Several nodes joined by "and" or "or", in the order in which they were written."""

    parts: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The joined nodes. A child of the same class is replaced by its children."""
        return self._flattened if type(self) in map(type, self.parts) else self.parts

    @cached_property
    def _flattened(self) -> tuple[Node, ...]:
        return tuple(_flatten(self.parts, type(self)))


@frozen(eq=False, unsafe_hash=False)
class And(Branch):
    """A branch that holds if all its children hold."""


@frozen(eq=False, unsafe_hash=False)
class Or(Branch):
    """A branch that holds if at least one of its children holds."""


T = TypeVar("T")

EVERYTHING: Final = Everything()
NOTHING: Final = Nothing()

_OPPOSITE: Final[dict[type[Branch], type[Branch]]] = {And: Or, Or: And}
_INVERSE: Final[dict[Operator, Operator]] = {
    "equals": "not-equals",
    "not-equals": "equals",
    "contains": "not-contains",
    "not-contains": "contains",
    "gt": "lte",
    "lte": "gt",
    "lt": "gte",
    "gte": "lt",
}


_PLAIN: Final = {Leaf}
_VALUE: Final = attrgetter("value")
_CONTENT: Final = attrgetter("value", "column", "operator", "key")


def _flatten(parts: Iterable[Node], kind: type[Branch]) -> Iterable[Node]:
    waiting = list(parts)[::-1]
    # A repeated branch, as in `f & f`, adds nothing, so it is skipped. Otherwise, repeated doubling would
    # make this loop practically endless.
    met: set[int] = set()
    while waiting:
        node = waiting.pop()
        if type(node) is not kind:
            yield node
        elif id(node) not in met:
            met.add(id(node))
            waiting.extend(node.parts[::-1])


def join(kind: type[Branch], nodes: Iterable[Node]) -> Node:
    """Join *nodes*, but leave out the neutral constant: `EVERYTHING` for "and", `NOTHING` for "or".

    If no other node remains, the result is that constant.
    """
    neutral = EVERYTHING if kind is And else NOTHING
    parts = [node for node in nodes if node is not neutral]
    if len(parts) > 1:
        return kind(tuple(parts))
    return parts[0] if parts else neutral


def fold(
    root: Node,
    combine: Callable[[Node, list[T]], T],
    *,
    prepare: Callable[[Node], Node] | None = None,
) -> T:
    """Compute a result bottom-up, without recursion.

    Args:
        root: The tree.
        combine: Called with a node and the results of its children.
        prepare: Called with each node before its children; returns the node to visit instead.
    """
    results: list[T] = []
    # A branch is put back here, with the number of its children, to be handled after them.
    waiting: list[Any] = [root]
    while waiting:
        step = waiting.pop()
        if type(step) is Leaf:
            results.append(combine(step, []))
            continue
        if type(step) is tuple:
            node, count = step
            first = len(results) - count
            result = combine(node, results[first:])
            del results[first:]
            results.append(result)
            continue
        node = prepare(step) if prepare else step
        if children := node.children:
            waiting.append((node, len(children)))
            waiting.extend(children[::-1])
        else:
            results.append(combine(node, []))
    return results[0]


def program(root: Node) -> tuple[Any, ...]:
    """The tree as one flat tuple, with children before parents. Equal trees have equal tuples."""
    steps: list[Any] = []

    def note(node: Node, _below: list[None]) -> None:
        steps.append((type(node), len(node.children)) if node.children else node)

    fold(root, note)
    return tuple(steps)


def from_program(steps: Iterable[Any]) -> Node:
    """The tree whose `program` is *steps*."""
    done: list[Node] = []
    for step in steps:
        if isinstance(step, Node):
            done.append(step)
            continue
        kind, count = step
        parts = tuple(done[-count:])
        del done[-count:]
        done.append(Not(parts[0]) if kind is Not else kind(parts))
    return done[0]


def plain_conditions(root: Node) -> tuple[Leaf, ...]:
    """The distinct conditions of a branch that joins only single conditions; () for any other node."""
    if not isinstance(root, Branch):
        return ()
    children: tuple[Any, ...] = root.parts
    kinds = set(map(type, children))
    if type(root) in kinds:
        children = root.children
        kinds = set(map(type, children))
    if kinds != _PLAIN:
        return ()
    # Conditions with different values are distinct, so hashing the conditions is rarely necessary.
    if len(set(map(_VALUE, children))) == len(children):
        return children
    return tuple(dict.fromkeys(children))


def simplify(root: Node) -> Node:
    """An equivalent tree without `Not`, nested constants and repetitions.

    Raises:
        FilterValueError: A negated condition has no inverse in the API.
    """
    if type(root) is Leaf:
        return root
    if conditions := plain_conditions(root):
        return conditions[0] if len(conditions) == 1 else type(root)(conditions)  # type: ignore[call-arg]
    return reduce(root, lambda leaf: leaf, join)


# A part of a simplified tree: its result, its number (equal parts have equal numbers), and for a branch its
# class and its parts.
_Part = tuple[Any, int, type[Branch] | None, tuple[Any, ...]]


def leaves_of(root: Node) -> list[Leaf]:
    """The conditions of a tree, with negations pushed into them."""
    found: list[Leaf] = []
    fold(simplify(root), lambda node, _below: found.append(node) if isinstance(node, Leaf) else None)
    return found


def reduce(
    root: Node,
    of_leaf: Callable[[Leaf], T],
    of_branch: Callable[[type[Branch], list[T]], T],
) -> T | Everything | Nothing:
    """Simplify the tree and compute a result bottom-up.

    Args:
        root: The tree. Negations move into the conditions; constants and repetitions are dropped.
        of_leaf: Returns the result for a condition.
        of_branch: Combines the results for the children of a branch.

    Raises:
        FilterValueError: A negated condition has no inverse in the API.
    """
    numbers: dict[Any, int] = {}

    def combine(node: Node, below: list[_Part]) -> _Part:
        if type(node) is Leaf:
            return of_leaf(node), numbers.setdefault(_CONTENT(node), len(numbers)), None, ()
        if not isinstance(node, Branch):
            return node, numbers.setdefault(node, len(numbers)), None, ()
        kind = type(node)
        settles, neutral = (NOTHING, EVERYTHING) if kind is And else (EVERYTHING, NOTHING)
        kept: dict[int, _Part] = {}
        part: _Part
        for child in below:
            for part in child[3] if child[2] is kind else (child,):
                if part[0] is settles:
                    return part
                if part[0] is not neutral:
                    kept.setdefault(part[1], part)
        parts = tuple(kept.values())
        if not parts:
            return neutral, numbers.setdefault(neutral, len(numbers)), None, ()
        if len(parts) == 1:
            return parts[0]
        made = of_branch(kind, [part[0] for part in parts])
        return made, numbers.setdefault((kind, *kept), len(numbers)), kind, parts

    return fold(root, combine, prepare=_push_not)[0]  # type: ignore[no-any-return]


def _push_not(node: Node) -> Node:
    while isinstance(node, Not):
        child = node.child
        if isinstance(child, Not):
            node = child.child
        elif isinstance(child, Branch):
            return _OPPOSITE[type(child)](tuple([_negated(part) for part in child.children]))
        elif isinstance(child, Leaf):
            return inverse(child)
        else:
            return NOTHING if child is EVERYTHING else EVERYTHING
    return node


def _negated(node: Node) -> Node:
    if type(node) is Leaf:
        return inverse(node)
    return node.child if isinstance(node, Not) else Not(node)


def _is_empty_word(leaf: Leaf) -> bool:
    is_equality = leaf.operator in ("equals", "not-equals")
    return is_equality and leaf.value == SERVER_EMPTY and leaf.value in leaf.column.sentinels


def _inverse_pattern(leaf: Leaf) -> Leaf | None:
    """The inverse of a pattern as a condition without wildcards, or None if there is no such condition."""
    if leaf.operator == "ilike" and (inside := like_inside(str(leaf.value))):
        return Leaf(leaf.column, "not-contains", inside, leaf.key)
    if leaf.operator == "like":
        plain = unescape_like(str(leaf.value))
        if plain is not None and plain not in leaf.column.sentinels:
            return Leaf(leaf.column, "not-equals", plain, leaf.key)
    return None


def inverse(leaf: Leaf) -> Node:
    """The condition that matches the rows that *leaf* does not match.

    The API has no "not", but the operators for numbers, text and booleans, and most comparisons of times,
    have an inverse. As in SQL, a row with null matches neither the condition nor its inverse.

    Raises:
        FilterValueError: The condition has no inverse.
    """
    column, operator, value, key = leaf.column, leaf.operator, leaf.value, leaf.key
    if column.kind is Kind.BOOLEAN:
        return Leaf(column, operator, not value, key)
    if column.kind is Kind.TIMESTAMP and operator == "equals":
        return Or((Leaf(column, "lt", value), Leaf(column, "gt", value)))
    if _is_empty_word(leaf):
        # Only == gives this word its special meaning. The inverse compares with the empty text itself.
        if operator == "equals" and column.empty == "":
            return Leaf(column, "not-equals", "", key)
    elif operator in _INVERSE and column.kind is not Kind.KEY:
        return Leaf(column, _INVERSE[operator], value, key)
    if (pattern := _inverse_pattern(leaf)) is not None:
        return pattern
    raise refusal(
        FilterValueError,
        column,
        f"has no condition in the API that is the opposite of {leaf}",
        "Negate only ==, contains, comparisons and booleans",
        key=key,
    )
