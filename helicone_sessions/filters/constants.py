"""Constants in comparisons: validation, conversion to the form stored in a leaf, and escaping for LIKE."""

import json
import math
import numbers
import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError
from helicone_sessions.filters.schema import ColumnFacts, Kind
from helicone_sessions.masking import masked_repr


def zone_of(time_zone: str | tzinfo) -> tzinfo:
    """The time zone for a name or for a tzinfo.

    A pytz zone is replaced by the `ZoneInfo` with the same name. Attaching a pytz zone directly, without
    pytz's own functions, gives a datetime the zone's 19th-century offset.

    Raises:
        FilterTypeError: The zone is neither a name nor a tzinfo.
        FilterValueError: No time zone has that name.

    >>> zone_of("Europe/Berlin")
    zoneinfo.ZoneInfo(key='Europe/Berlin')
    """
    if isinstance(time_zone, tzinfo):
        name = getattr(time_zone, "zone", None)
        return zone_of(name) if isinstance(name, str) else time_zone
    if not isinstance(time_zone, str):
        raise FilterTypeError(
            argument="time_zone",
            problem=f"must be the name of a time zone or a tzinfo, got {time_zone!r}",
            remedy="Pass a name such as 'Europe/Berlin'",
        )
    try:
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FilterValueError(
            argument="time_zone",
            problem=f"must be the name of a known time zone, got {time_zone!r}",
            remedy="Use a name such as 'UTC' or 'Europe/Berlin'; if the system has no time zones,"
            " python -m pip install tzdata",
        ) from None


def has_misplaced_pytz_zone(moment: datetime) -> bool:
    """Whether a pytz zone was attached to the datetime directly, so that its offset is wrong.

    >>> from datetime import UTC
    >>> has_misplaced_pytz_zone(datetime(2026, 6, 1, tzinfo=UTC))
    False
    """
    zone = moment.tzinfo
    name, pytz = getattr(zone, "zone", None), sys.modules.get("pytz")
    if zone is None or pytz is None or not isinstance(name, str) or pytz.timezone(name) is not zone:
        return False
    # `localize` and `normalize` choose the offset for the given time, but `timezone` returns a zone with its
    # first offset.
    return bool(zone.normalize(moment).utcoffset() != moment.utcoffset())  # type: ignore[attr-defined]


Value = str | int | float | bool | datetime
E = TypeVar("E", bound=FilterError)

# Remedies for Python code. The parser of filter text replaces them.
NEGATIVE: Final = "To negate a comparison, put it in parentheses after ~: Python computes ~1 as -2"
ZONE: Final = "Add the zone, for example with .replace(tzinfo=datetime.UTC)"
DAY: Final = "Pass a datetime with its zone, because a day starts at a different instant in each zone"
IS_EMPTY: Final = "Use .is_empty(), because a missing value is stored as empty text"
IS_TRUE: Final = "Use .is_true() or .is_false()"
IS_NULL: Final = "Use .is_null() to match missing text"
DATETIME: Final = "Convert it to a datetime, for example with datetime.fromisoformat()"
# Above this value, several whole numbers can be read as the same JSON number.
_LARGEST_WHOLE: Final = 2**53


class _Missing(str):
    """A string that the open-source server reads as a missing value. It equals the plain string "null"."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "MISSING"


# The constant "null" with its special meaning on that server.
MISSING: Final = _Missing("null")


def spell_column(column: ColumnFacts, key: str | None = None) -> str:
    """The column as Python source."""
    return f"F.{column.attribute}" if key is None else f"F.{column.attribute}[{key!r}]"


def refusal(kind: type[E], column: ColumnFacts, problem: str, remedy: str, *, key: str | None = None) -> E:
    """An error about a column, with a message for Python code."""
    name = column.name if key is None else f"{column.name}[{json.dumps(key)}]"
    return kind(
        f"{spell_column(column, key)} {problem}. {remedy}", column=name, problem=problem, remedy=remedy
    )


def check(column: ColumnFacts, value: object, key: str | None = None) -> Value:
    """Validate *value*, and convert it to the form stored in a leaf on *column*.

    Args:
        column: The column to compare.
        value: The caller's value.
        key: The key, if the column is a map.

    Raises:
        FilterTypeError: The type is wrong for the column.
        FilterValueError: The type is right, but the column cannot hold the value.
    """
    plain: Any = value
    kind = type(plain)
    # Nearly all values have a built-in type, and a single test accepts them.
    if kind is str:
        if column.kind in _TEXTUAL and plain.isascii():
            return plain  # type: ignore[no-any-return]
    elif (kind is int or kind is float) and column.kind is Kind.NUMBER and 0 <= plain <= _LARGEST_WHOLE:
        return plain  # type: ignore[no-any-return]
    return _check_rarer(column, value, key)


def _check_rarer(column: ColumnFacts, value: object, key: str | None) -> Value:
    plain: Any = value
    kind = type(plain)
    if isinstance(value, Enum):
        return check(column, value.value, key)
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        # The item() of a longdouble is a longdouble again.
        item = plain.item()
        return check(column, float(plain) if type(item) is kind else item, key)
    if value is None:
        missing = IS_NULL if column.nullable else IS_EMPTY
        remedy = missing if column.kind is Kind.TEXT else "The API has no null in a comparison"
        raise refusal(FilterTypeError, column, "cannot be compared with None", remedy, key=key)
    return _CHECKS[column.kind](column, value, key)


def _text(column: ColumnFacts, value: object, key: str | None) -> str:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        raise _unfit(FilterTypeError, column, key, "text", value, "Write it in quotes")
    if not is_encodable(value):
        remedy = "Remove the half of a surrogate pair"
        raise _unfit(FilterValueError, column, key, "text that UTF-8 can hold", value, remedy)
    return str.__str__(value)


def is_encodable(text: str) -> bool:
    """Whether the text can be encoded in UTF-8. A lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _score(column: ColumnFacts, value: object, key: str | None) -> str:
    if column.name != "scores" or isinstance(value, (str, UUID, bool)):
        return _text(column, value, key)
    number = _number(column, value, key)
    return str(int(number)) if number == int(number) else repr(number)


def _number(column: ColumnFacts, value: object, key: str | None) -> float:
    number: float
    if isinstance(value, int) and not isinstance(value, bool):
        number = int(value)
        if abs(number) > _LARGEST_WHOLE:
            remedy = "JSON holds larger ones only as rounded numbers"
            raise _unfit(FilterValueError, column, key, "whole numbers up to 2**53", value, remedy)
    elif isinstance(value, (float, Decimal, numbers.Rational)) and not isinstance(value, bool):
        number = _finite(column, value, key)
    else:
        raise _no_number(column, key, value)
    if number < 0 and column.kind is Kind.NUMBER and not column.negative:
        problem = f"is never below zero, but is compared with {number}"
        raise refusal(FilterValueError, column, problem, NEGATIVE)
    return number


def _no_number(column: ColumnFacts, key: str | None, value: object) -> FilterTypeError:
    is_quoted = isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()
    remedy = "Write it without quotes" if is_quoted else f"Its unit is {column.unit}"
    return _unfit(FilterTypeError, column, key, "a number", value, remedy)


def _finite(column: ColumnFacts, value: float | Decimal | numbers.Rational, key: str | None) -> float:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _unfit(FilterValueError, column, key, "a finite number", value, "JSON has no other numbers")
    return number


def _timestamp(column: ColumnFacts, value: object, key: str | None) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        remedy = ZONE if isinstance(value, datetime) else DAY if isinstance(value, date) else DATETIME
        raise _unfit(FilterTypeError, column, key, "a datetime with a zone", value, remedy)
    if has_misplaced_pytz_zone(value):
        remedy = "Use zoneinfo.ZoneInfo, or the localize() method of the zone"
        raise _unfit(FilterValueError, column, key, "a time with the offset of its zone", value, remedy)
    if getattr(value, "nanosecond", 0):
        remedy = "Round it to microseconds"
        raise _unfit(FilterValueError, column, key, "a time without nanoseconds", value, remedy)
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        remedy = "Use a later or an earlier time"
        raise _unfit(FilterValueError, column, key, "a time that exists in UTC", value, remedy) from None
    # Subclasses, such as pandas.Timestamp, hold more than the time.
    return moment if type(moment) is datetime else datetime.combine(moment.date(), moment.time(), UTC)


def _boolean(column: ColumnFacts, value: object, key: str | None) -> bool:
    if isinstance(value, bool):
        return value
    raise _unfit(FilterTypeError, column, key, "True or False", value, IS_TRUE)


def _unfit(kind: type[E], column: ColumnFacts, key: str | None, wanted: str, value: object, remedy: str) -> E:
    shown = str(value) if isinstance(value, date) else masked_repr(value)
    return refusal(kind, column, f"takes {wanted}, got {shown}", remedy, key=key)


def cut(text: str, most: int = 100) -> str:
    """The text for a message, shortened if it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


_TEXTUAL: Final = frozenset({Kind.TEXT, Kind.MAP, Kind.KEY})
_CHECKS: Final[dict[Kind, Callable[[ColumnFacts, object, str | None], Value]]] = {
    Kind.TEXT: _text,
    Kind.KEY: _text,
    Kind.MAP: _score,
    Kind.NUMBER: _number,
    Kind.TIMESTAMP: _timestamp,
    Kind.BOOLEAN: _boolean,
}


# Characters with a special meaning in LIKE patterns. A backslash before any other character is literal.
_META: Final = re.compile(r"[\\%_]")
_ESCAPED: Final = re.compile(r"\\([\\%_])")
_TOKEN: Final = re.compile(r"\\[\\%_]|.", re.DOTALL)


def escape_like(text: str) -> str:
    r"""The LIKE pattern that matches only *text*.

    >>> print(escape_like("50%_off"))
    50\%\_off
    """
    return _META.sub(r"\\\g<0>", text)


def unescape_like(pattern: str) -> str | None:
    r"""The only text that *pattern* matches, or None if the pattern has wildcards.

    >>> unescape_like(r"50\%"), unescape_like("50%")
    ('50%', None)
    """
    if any(token in {"%", "_"} for token in _TOKEN.findall(pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def like_inside(pattern: str) -> str | None:
    r"""The text in a pattern like ``%text%`` without other wildcards; None for any other pattern.

    >>> like_inside("%gpt%"), like_inside("gpt%"), like_inside("%g_t%"), like_inside(r"%50\%")
    ('gpt', None, None, None)
    """
    tokens = _TOKEN.findall(pattern)
    if len(tokens) < 3 or tokens[0] != "%" or tokens[-1] != "%":
        return None
    return unescape_like("".join(tokens[1:-1]))


def unescape_literal(text: str) -> str:
    r"""*text* without the escapes of `escape_like`, for operators that read wildcards literally.

    >>> print(unescape_literal(r"50\% off"), unescape_literal("50% off"))
    50% off 50% off
    """
    return _ESCAPED.sub(r"\1", text)


def pattern_for_contains(text: str) -> str | None:
    r"""The pattern that searches for *text*, or None if *text* needs no escapes.

    >>> print(pattern_for_contains("50%"), pattern_for_contains("gpt"))
    %50\%% None
    """
    is_plain = "%" not in text and "_" not in text and "\\" not in text
    return None if is_plain else f"%{escape_like(text)}%"


def sent_for_contains(pattern: str) -> str | None:
    r"""The text for which `pattern_for_contains` returns *pattern*, or None if there is no such text.

    >>> sent_for_contains(r"%50\%%"), sent_for_contains("%gpt%")
    ('50%', None)
    """
    inside = like_inside(pattern)
    return inside if inside and pattern_for_contains(inside) == pattern else None


def ends_in_escape(pattern: str) -> bool:
    r"""Whether *pattern* ends with a single backslash, which ClickHouse rejects.

    >>> ends_in_escape("50\\"), ends_in_escape(r"50\\")
    (True, False)
    """
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1
