"""A condition as Python source: the spelling of columns, constants and leaves."""

from datetime import datetime
from typing import Final

from helicone_sessions.filters.schema import ColumnFacts, Kind, Operator
from helicone_sessions.filters.values import MISSING, Value

SYMBOLS: Final[dict[Operator, str]] = {
    "equals": "==",
    "not-equals": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
}


def spell_column(column: ColumnFacts, key: str | None = None) -> str:
    """The column as Python source."""
    if column.kind is Kind.MAP and key is not None:
        return f"F.{column.attribute}[{key!r}]"
    return f"F.{column.attribute}"


def spell_value(value: Value) -> str:
    """The constant as Python source; a time needs ``import datetime``."""
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
