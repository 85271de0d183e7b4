"""How large a filter the open-source server can run: the bytes and the nesting of its SQL statement.

The limits are ClickHouse's defaults. They were measured with that server's code of July 2026 on ClickHouse
26.9: 3,000 conditions on properties and 4,500 on the status run, 4,000 and 5,000 fail.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from helicone_sessions.filters.schema import REQUESTS, ColumnFacts, Operator, Reading

STATEMENT_BYTES: Final = 262_144
# Parentheses that open one after another, and parentheses in all.
DEEPEST_TO_THE_LEFT: Final = 196
DEEPEST: Final = 259

# A constant and a key are parameters, so their own length does not count.
_PARAMETER: Final = len("{val_1234 : String}")
_TABLE: Final = len(f"{REQUESTS}.")
_JOIN: Final = len("( and )")
_OPERATORS: Final[Mapping[Operator, int]] = {
    "like": len(" LIKE "),
    "ilike": len(" ILIKE "),
    "contains": len(" ILIKE '%' || ::text || '%'"),
    "not-contains": len(" NOT ILIKE '%' || ::text || '%'"),
}
_COMPARISON: Final = len(" >= ")
# Columns behind which there is more than their name.
_MORE: Final[Mapping[str, int]] = {
    "property_key": len("has(, )"),
    "properties": len("[]") + _PARAMETER,
    "scores": len("has(scores, ) AND []") + 2 * _PARAMETER,
    "helicone-score-feedback": len("scores['']"),
    "cached": len("cache_reference_id"),
    "session_tag": len("properties['Helicone-Session-Id'] IN (SELECT entity_id FROM tags)") + 80,
}
# The rest of the statement, with conditions on the organisation, the time and the name.
_REST: Final = 1_000
# So many conditions fit, whatever they are.
ALWAYS_FIT: Final = 1_000


def statement_bytes(conditions: Iterable[tuple[ColumnFacts, Operator]]) -> int:
    """The length of the statement, exact to a few bytes a condition.

    >>> from helicone_sessions import F
    >>> statement_bytes([(F.properties["env"].facts, "equals")] * 3000)
    247000
    """
    return _REST + sum(_condition_bytes(column, operator) for column, operator in conditions)


def _condition_bytes(column: ColumnFacts, operator: Operator) -> int:
    if column.on_server is Reading.IGNORED:
        return len("true") + _JOIN
    own = _TABLE + len(column.name) + _MORE.get(column.name, 0)
    return own + _OPERATORS.get(operator, _COMPARISON) + _PARAMETER + _JOIN


def is_too_deep(wire: Any) -> bool:
    """Whether ClickHouse's parser gives up on a filter because of its parentheses.

    Args:
        wire: The filter as the API takes it.
    """
    waiting = [(wire, 1, 1)]
    while waiting:
        node, to_the_left, depth = waiting.pop()
        if isinstance(node, Mapping) and "left" in node:
            if to_the_left > DEEPEST_TO_THE_LEFT or depth > DEEPEST:
                return True
            waiting.append((node["left"], to_the_left + 1, depth + 1))
            waiting.append((node["right"], 1, depth + 1))
    return False
