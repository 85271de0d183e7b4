"""The values of a column of a result, by its type in ClickHouse."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

_WRAPPED: Final = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")
_TIME: Final = re.compile(r"DateTime(?:64)?(?:\((?:\d+, )?(?:'([^']+)')?\d*\))?")
_WHOLE: Final = re.compile(r"U?Int(?:8|16|32|64)")
_FRACTIONAL: Final = re.compile(r"B?Float\d+|Decimal\(.*\)")
_LARGEST: Final = 2**63 - 1


def kind_of(type_: str, values: Sequence[Any]) -> type | None:
    """The Python type of a column in frames; None is text.

    >>> kind_of("UInt64", [1, 2]), kind_of("Nullable(Int64)", [1]), kind_of("LowCardinality(String)", [])
    (<class 'int'>, <class 'float'>, None)
    """
    plain = _plain(type_)
    if _WHOLE.fullmatch(plain):
        if "Nullable(" in type_:
            return float
        # Frames have no larger integers, which hashes are.
        return int if max(values, default=0) <= _LARGEST else None
    if _FRACTIONAL.fullmatch(plain):
        return float
    return datetime if _TIME.fullmatch(plain) else None


def convert(type_: str, values: list[Any]) -> list[Any]:
    """The values of a column from JSON, with times as datetimes in the zone of the column.

    >>> convert("DateTime64(3, 'Europe/Berlin')", ["2026-11-01T12:00:00.500Z"])[0].isoformat()
    '2026-11-01T13:00:00.500000+01:00'
    """
    found = _TIME.fullmatch(_plain(type_))
    if found is None:
        return values
    zone = ZoneInfo(found[1]) if found[1] else UTC
    return [value and datetime.fromisoformat(value).astimezone(zone) for value in values]


def _plain(type_: str) -> str:
    while found := _WRAPPED.fullmatch(type_):
        type_ = found[1]
    return type_
