"""Conditions of a filter on plain values, as the contract reads them."""

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from helicone_sessions.filters.constants import MISSING
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import Leaf, Node, Or, fold, simplify

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equals": operator.eq,
    "not-equals": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_WILDCARDS: Final = re.compile(r"\\([\\%_])|(%)|(_)|(.)", re.DOTALL)
ValueOf = Callable[[Leaf], Any]
"""Gives the value of the column of a condition; None if it is missing."""
UNKNOWN: Final = object()
"""The value of a column about which nothing is known: every condition on it holds."""


def predicate(condition: Filter | None, *, drops_fractions: bool = False) -> Callable[[ValueOf], bool]:
    """A function that says whether values fulfil a filter.

    Args:
        condition: The filter; None is always fulfilled.
        drops_fractions: Read the times of conditions in whole seconds, as the open-source server does.

    >>> from helicone_sessions import F
    >>> row = {"model": "gpt-4o"}
    >>> predicate(F.model.contains("GPT") | (F.cost > 0.1))(lambda leaf: row.get(leaf.column.name))
    True
    """
    if condition is None:
        return lambda _value_of: True
    if condition.matches_nothing:
        return lambda _value_of: False

    def made(node: Node, below: list[Callable[[ValueOf], bool]]) -> Callable[[ValueOf], bool]:
        if isinstance(node, Leaf):
            return lambda value_of: _holds(node, value_of(node), drops_fractions=drops_fractions)
        if isinstance(node, Or):
            return lambda value_of: any(holds(value_of) for holds in below)
        return lambda value_of: all(holds(value_of) for holds in below)

    return fold(simplify(condition.node), made)


def _holds(leaf: Leaf, value: Any, *, drops_fractions: bool) -> bool:
    wanted: Any = leaf.value
    if value is UNKNOWN:
        return True
    if wanted is MISSING:
        return (value is None) == (leaf.operator == "equals")
    if value is None:
        return False
    if isinstance(wanted, datetime) and drops_fractions:
        wanted = wanted.replace(microsecond=0)
    if leaf.operator in _COMPARE:
        return _COMPARE[leaf.operator](value, wanted)
    if leaf.operator in ("like", "ilike"):
        flags = re.IGNORECASE if leaf.operator == "ilike" else 0
        return re.fullmatch(_pattern(wanted), str(value), flags | re.DOTALL) is not None
    return (wanted.lower() in str(value).lower()) == (leaf.operator == "contains")


def _pattern(like: str) -> str:
    """A LIKE pattern as a regular expression."""

    def part(match: re.Match[str]) -> str:
        escaped, many, one, plain = match.groups()
        return ".*" if many else "." if one else re.escape(escaped or plain)

    return _WILDCARDS.sub(part, like)
