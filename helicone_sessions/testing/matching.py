"""Conditions of a filter on plain values, as the contract reads them."""

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from helicone_sessions.filters.constants import MISSING
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import And, Leaf, Node, fold, simplify

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equals": operator.eq,
    "not-equals": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_WILDCARDS: Final = re.compile(r"\\([\\%_])|(%)|(_)|(.)", re.DOTALL)
UNKNOWN: Final = object()
"""The value of a column about which nothing is known: every condition on it holds."""


def matches(
    condition: Filter | None, value_of: Callable[[Leaf], Any], *, drops_fractions: bool = False
) -> bool:
    """Whether the values fulfil a filter.

    Args:
        condition: The filter; None is fulfilled.
        value_of: The value of the column of a condition; None if it is missing.
        drops_fractions: Read the times of conditions in whole seconds, as the open-source server does.

    >>> from helicone_sessions import F
    >>> row = {"model": "gpt-4o"}
    >>> matches(F.model.contains("GPT") | (F.cost > 0.1), lambda leaf: row.get(leaf.column.name))
    True
    """

    def holds(node: Node, below: list[bool]) -> bool:
        if isinstance(node, Leaf):
            return _holds(node, value_of(node), drops_fractions=drops_fractions)
        return all(below) if isinstance(node, And) or not below else any(below)

    if condition is None:
        return True
    return not condition.matches_nothing and fold(simplify(condition.node), holds)


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
