"""A constant of a comparison, checked and brought into the one form that a leaf holds."""

import math
import numbers
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.schema import ColumnFacts, Kind

Value = str | int | float | bool | datetime

# Parts of messages that speak of Python; where a filter is read from text they are others.
INVERTED: Final = " (a ~ before a whole number is computed by Python: ~1 is -2)"
ZONE: Final = "for example .replace(tzinfo=datetime.UTC)"
DAY: Final = "give a datetime with tzinfo"
# Above it a JSON number no longer names one whole number.
_LARGEST_WHOLE = 2**53


class _Missing(str):
    """The text by which the API's open-source server asks for a missing value; equal to that text."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "MISSING"


# It says that "null" was meant as what that server makes of it.
MISSING: Final = _Missing("null")


def check(column: ColumnFacts, value: object, *, spelling: object) -> Value:
    """The *value* as a leaf on *column* holds it.

    Args:
        column: The column that it is compared with.
        value: What the caller wrote.
        spelling: The column as the caller wrote it, for the message.

    Raises:
        FilterTypeError: The type is wrong for the column.
        FilterValueError: The type is right and the value is not.
    """
    kind = type(value)
    # The plain cases first: they are nearly all, and cost one look each.
    if kind is str:
        if column.kind in _TEXTUAL and value.isascii():  # type: ignore[attr-defined]
            return value  # type: ignore[return-value]
    elif (kind is float or kind is int) and column.kind is Kind.NUMBER and 0 <= value <= _LARGEST_WHOLE:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    if isinstance(value, Enum):
        return check(column, value.value, spelling=spelling)
    if value is None:
        mend = "; .is_null() asks for a missing text" if column.kind is Kind.TEXT else ""
        raise FilterTypeError(
            f"{spelling} cannot be compared with None: the API has no null in a comparison{mend}"
        )
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        scalar: Any = value
        plain = scalar.item()
        # A longdouble has no plain twin of its own.
        has_no_twin = type(plain) is kind
        return check(column, float(scalar) if has_no_twin else plain, spelling=spelling)
    return _CHECKS[column.kind](column, value, spelling)


def _text(_column: ColumnFacts, value: object, spelling: object) -> Value:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        raise _wrong_type(spelling, "text", value, hint="write it as text, in quotes")
    return check_text(value, spelling)


def check_text(text: str, spelling: object) -> str:
    """*text* as a plain str that can be sent.

    Raises:
        FilterValueError: It cannot be encoded.
    """
    plain = str.__str__(text)
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise FilterValueError(
            f"{spelling}: {shortened(plain)} holds half a surrogate pair, which is no text"
        ) from None
    return plain


def _score(column: ColumnFacts, value: object, spelling: object) -> Value:
    if column.name != "scores" or isinstance(value, (str, UUID, bool)):
        return _text(column, value, spelling)
    number = _number(column, value, spelling)
    return str(int(number)) if number == int(number) else repr(number)  # type: ignore[arg-type]


def _number(column: ColumnFacts, value: object, spelling: object) -> Value:
    if isinstance(value, bool):
        raise _wrong_type(spelling, "a number", value)
    if isinstance(value, int):
        number: int | float = int(value)
    elif isinstance(value, (float, Decimal, numbers.Rational)):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise FilterValueError(
                f"{spelling} cannot be compared with {shortened(value)}: only finite numbers can be sent"
            )
    else:
        hint = "write it without quotes" if isinstance(value, str) and value.strip().isdecimal() else ""
        raise _wrong_type(spelling, "a number", value, hint=hint)
    if abs(number) > _LARGEST_WHOLE and isinstance(number, int):
        raise FilterValueError(
            f"{spelling} cannot be compared with {shortened(number)}: JSON keeps whole numbers up to 2**53"
        )
    if number < 0 and column.kind is Kind.NUMBER and not column.negative:
        raise FilterValueError(
            f"{spelling} cannot be compared with {number}: it is never below zero{INVERTED}"
        )
    return number


def _timestamp(_column: ColumnFacts, value: object, spelling: object) -> Value:
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise FilterTypeError(
                f"{spelling} cannot be compared with the naive datetime {value.isoformat()}:"
                f" say which zone it is in, {ZONE}"
            )
        if getattr(value, "nanosecond", 0):
            raise FilterValueError(
                f"{spelling}: {value!r} has nanoseconds; times are kept to the microsecond"
            )
        try:
            moment = value.astimezone(UTC)
        except OverflowError:
            raise FilterValueError(f"{spelling}: {value.isoformat()} does not exist in UTC") from None
        # Of a subclass, as pandas has one, only the time is kept.
        return moment if type(moment) is datetime else datetime.combine(moment.date(), moment.time(), UTC)
    if isinstance(value, date):
        hint = f"a day starts at another instant in each zone: {DAY}"
    elif isinstance(value, str):
        hint = "turn it into one with datetime.fromisoformat()"
    else:
        hint = ""
    raise _wrong_type(spelling, "an aware datetime", value, hint=hint)


def _boolean(_column: ColumnFacts, value: object, spelling: object) -> Value:
    if isinstance(value, bool):
        return value
    raise _wrong_type(spelling, "True or False", value)


def _wrong_type(spelling: object, wanted: str, value: object, hint: str = "") -> FilterTypeError:
    mend = f"; {hint}" if hint else ""
    return FilterTypeError(
        f"{spelling} is compared with {wanted}, not with {type(value).__name__} {shortened(value)}{mend}"
    )


def shortened(value: object, most: int = 60) -> str:
    """The value for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    except Exception:  # noqa: BLE001 - a repr of the caller's may raise anything
        text = f"<{type(value).__name__} without a repr>"
    return cut(text, most)


def cut(text: str, most: int = 100) -> str:
    """The text for a message, cut where it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


_TEXTUAL = frozenset({Kind.TEXT, Kind.MAP, Kind.KEY})
_CHECKS: dict[Kind, Callable[[ColumnFacts, object, object], Value]] = {
    Kind.TEXT: _text,
    Kind.KEY: _text,
    Kind.MAP: _score,
    Kind.NUMBER: _number,
    Kind.TIMESTAMP: _timestamp,
    Kind.BOOLEAN: _boolean,
}
