"""Parsers for the values in users' rows, one for each `Form`.

For a missing value, a parser returns None. For an invalid value, it raises a ValueError that describes the
expected type. Parsers check the most common types first, because they run millions of times. NumPy scalars
and arrays are parsed as the Python values that they represent, without importing numpy.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, NoReturn
from uuid import UUID

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.storage.fields import FIELDS, IMPLAUSIBLE_COST, Form, RowOptions
from helicone_sessions.masking import masked_repr

Parser = Callable[[Any], Any]

_NANO: Final = 9
_LARGEST_WHOLE: Final = 2**63
# If a double is below this limit, its product with a billion still has a few bits for the fraction.
EXACT_NANO: Final = 2.0**36
# Twice the relative error of this product, because both the factor and the result are rounded.
ROUNDING_ERROR: Final = 2.0**-51
# JavaScript uses an exponent for numbers at or above the first limit, and for numbers below the second.
_LARGE: Final = 1e21
_SMALL: Final = 1e-6
# The pattern also allows a lower-case `t` or `z` (RFC 3339), and the zone in BigQuery's format.
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[tT ](\d\d:\d\d.*?)(?:[zZ]| ?UTC)?", re.ASCII)
PLACEHOLDER: Final = "helicone_message"


class _Refused(ValueError):
    """An error with a message for users, unlike the errors of the JSON encoder."""


class ImplausibleCost(Exception):
    """A cost is a whole number of at least a thousand, and no unit is given."""

    def __init__(self, cost: object) -> None:
        super().__init__(cost)
        self.cost = cost

    def as_error(self, where: str, field: str) -> ConfigurationError:
        """Build the error for the user."""
        return ConfigurationError(
            field=f"{where}, field {field!r}",
            problem=f"must be dollars, and {masked_repr(self.cost, most=80)} is implausible for one request",
            remedy="For a dump of Helicone's own table, whose costs are billionths of a dollar, pass "
            "cost_unit='billionths' (--cost-unit billionths); if these are dollars, pass cost_unit='dollars'",
        )


def _text(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                _refuse(value, "text without half a surrogate pair")
        return value
    value = _plain(value)
    if isinstance(value, (bool, int, float, str)):
        return _scalar_text(value)
    return value if value is None else _refuse(value, "text")


def _scalar_text(value: bool | float | str) -> str | None:
    """Convert a value to JSON text. Numbers are formatted as in JavaScript."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (value.is_integer() and abs(value) < _LARGE):
        try:
            return str(int(value))
        except ValueError:
            return _refuse(value, "a number with fewer digits")
    if math.isinf(value):
        return _refuse(value, "JSON, which has no infinity")
    if _SMALL <= abs(value) < _LARGE:
        return format(Decimal(repr(value)), "f")
    return repr(value).replace("e-0", "e-")


def _body(value: Any) -> Any:
    """Parse a body. Bodies are text in the table, and objects in Helicone's export."""
    if isinstance(value, str):
        return None if _is_placeholder_text(value) else _text(value)
    value = _plain(value)
    if isinstance(value, Mapping) and value.keys() == {PLACEHOLDER}:
        return None
    return _json(value) if isinstance(value, (Mapping, list)) else _text(value)


def _is_placeholder_text(text: str) -> bool:
    """Whether the text is the placeholder that the API returns if a body is stored elsewhere."""
    if PLACEHOLDER not in text[:30] or not text.lstrip().startswith("{"):
        return False
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        return isinstance(found, dict) and found.keys() == {PLACEHOLDER}
    return False


def _uuid(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    value = _plain(value)
    if value is None:
        return None
    try:
        return str(UUID(value if isinstance(value, str) else ""))
    except ValueError:
        return _refuse(value, "a UUID")


def _whole(value: Any) -> Any:
    if type(value) is int and -_LARGEST_WHOLE < value < _LARGEST_WHOLE:
        return value
    number = _number(value)
    if number is None:
        return None
    # Larger Decimals can be compared, but arithmetic with them fails.
    if not -_LARGEST_WHOLE < number < _LARGEST_WHOLE or number != number.to_integral_value():
        _refuse(value, "a whole number")
    return int(number)


def _count(value: Any) -> Any:
    if type(value) is int and 0 <= value < _LARGEST_WHOLE:
        return value
    number = _whole(value)
    return number if number is None or number >= 0 else _refuse(value, "a whole number, 0 or more")


def _milliseconds(value: Any) -> Any:
    if type(value) is int and 0 <= value < _LARGEST_WHOLE:
        return value
    number = _number(value)
    if number is None:
        return None
    if not 0 <= number < _LARGEST_WHOLE - 1:
        _refuse(value, "milliseconds, 0 or more")
    return int(number.to_integral_value())


def _number(value: Any) -> Any:
    plain = _plain(value)
    if plain is None:
        return None
    if isinstance(plain, bool) or not isinstance(plain, (int, float, Decimal, str)):
        _refuse(value, "a number")
    try:
        number = Decimal(str(plain))
    except (InvalidOperation, ValueError):
        return _refuse(value, "a number")
    if number.is_nan():
        return None
    return number if number.is_finite() else _refuse(value, "a finite number")


def _dollars(value: Any) -> Any:
    if type(value) is float and 0 <= (scaled := value * 1e9) < EXACT_NANO:
        nearest = round(scaled)
        if abs(scaled - nearest) < 0.5 - ROUNDING_ERROR * scaled:
            return nearest
    dollars = _number(value)
    if dollars is None:
        return None
    # Much larger amounts would overflow.
    nano = dollars.scaleb(_NANO).to_integral_value() if -1 < dollars < 2**64 else Decimal(-1)
    return int(nano) if 0 <= nano < 2**64 and dollars >= 0 else _refuse(value, "dollars from 0 to 18 billion")


def _plausible_dollars(value: Any) -> Any:
    nano = _dollars(value)
    if nano is not None and nano >= IMPLAUSIBLE_COST * 10**_NANO and nano % 10**_NANO == 0:
        raise ImplausibleCost(value)
    return nano


def _billionths(value: Any) -> Any:
    number = _number(value)
    if number is None:
        return None
    if not 0 <= number < 2**64 or number != number.to_integral_value():
        _refuse(value, "a whole number of billionths of a dollar, 0 or more")
    return int(number)


def _time(value: Any, zone: tzinfo | None = None) -> Any:
    moment = _parsed_time(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        if _plain(value) is None:
            return None
        # numpy's datetime64 is a time without a zone.
        expected = (
            "a time with its zone" if hasattr(value, "tolist") else "an aware datetime or ISO 8601 text"
        )
        return _refuse(value, f"{expected}, for example 2026-11-01T00:00:00Z")
    if moment != moment:  # noqa: PLR0124 - NaT, the missing time of pandas
        return None
    if moment.utcoffset() is None:
        if zone is None:
            _refuse(
                value,
                "a time with its zone, for example 2026-11-01T00:00:00Z",
                " (`assume_time_zone` is for times without one)",
            )
        moment = moment.replace(tzinfo=zone)
    if not 1900 < moment.year < 2299:
        # The table would store the nearest time in its range instead of this time.
        _refuse(value, "a time between the years 1900 and 2299")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # Times are stored in milliseconds. The text of the time zone starts after 23 characters.
    return moment.isoformat(" ", "milliseconds")[:23]


def _parsed_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    day, time = found.groups()
    try:
        return datetime.fromisoformat(f"{day}T{time}{'+00:00' if text[-1] in 'zZC' else ''}")
    except ValueError:
        return None


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    plain = _plain(value)
    if plain is None:
        return None
    text = _scalar_text(plain) if isinstance(plain, (int, float, str)) else None
    known = {"true": True, "false": False, "1": True, "0": False}.get((text or "").lower())
    return _refuse(value, "true or false") if known is None else known


def _texts(value: Any) -> Any:
    value = _list_in(value) if isinstance(value, str) else _plain(value)
    if value is None:
        return None
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(text, str) for text in value
    ):
        _refuse(value, "a list of strings")
    return [_text(text) for text in value]


def _list_in(text: str) -> list[Any]:
    """Parse a CSV field as a JSON list. If it is not a list, return a list that contains the text."""
    if text.startswith("["):
        with suppress(ValueError, RecursionError):
            return list(json.loads(text))
    return [text]


def _map_of(parse_item: Parser) -> Parser:
    def parse_map(value: Any) -> Any:
        found = _object_in(value) if isinstance(value, str) else value
        if not isinstance(found, Mapping):
            return None if _plain(found) is None else _refuse(value, "an object with strings as keys")
        if not all(isinstance(key, str) for key in found):
            _refuse(value, "an object with strings as keys")
        return {_text(key): parsed for key, item in found.items() if (parsed := parse_item(item)) is not None}

    return parse_map


def _object_in(text: str) -> Any:
    """Parse a CSV field as a JSON object. Helicone's export tool doubles the quotes in objects."""
    for spelling in (text, text.replace('""', '"')):
        with suppress(ValueError, RecursionError):
            return json.loads(spelling)
    return _refuse(text, "an object, or the JSON text of one")


def _property(value: Any) -> Any:
    """Parse a property. Properties are text in the table."""
    if isinstance(value, (dict, list, tuple)):
        return _json(value)
    plain = _plain(value)
    if plain is None or isinstance(plain, (str, bool, int, float)):
        return _text(plain)
    return _json(plain)


def _json(value: Any) -> Any:
    """Encode a value as JSON without spaces or escapes, as JavaScript does."""
    try:
        return _text(_encode(value))
    except _Refused:
        raise
    except TypeError:
        return _refuse(value, "an object with strings as keys")
    except RecursionError:
        return _refuse(value, "less deeply nested")
    except ValueError:
        return _refuse(value, "JSON, which has null in place of NaN and infinity")


def _item(value: Any) -> Any:
    """Return a JSON value for a Python value that JSON does not support."""
    plain = dict(value) if isinstance(value, Mapping) else _plain(value)
    return _refuse(value, "text", f": JSON has no {type(value).__name__}") if plain is value else plain


# The encoder does not check for circular values, because the check is slow. They hit the recursion limit.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"), default=_item
).encode


def _score(value: Any) -> Any:
    """Parse a score. Scores are whole numbers in the table, feedback is 1 or 0, and the API uses objects."""
    if isinstance(value, Mapping) and "value" in value:
        value = value["value"]
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return int(value.lower() == "true")
    value = _plain(value)
    return int(value) if isinstance(value, bool) else _whole(value)


def _plain(value: Any) -> Any:
    """Convert numpy scalars and arrays to Python values, and pandas' missing values to None."""
    convert = getattr(value, "tolist", None)
    if convert is not None:
        value = convert()
    if isinstance(value, float):
        return None if math.isnan(value) else value
    # These values cannot be compared: the result would be the missing value, which is not a boolean.
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _refuse(value: object, expected: str, why: str = "") -> NoReturn:
    raise _Refused(f"must be {expected}, got {masked_repr(value, most=80)}{why}")


_PARSERS: Final[dict[Form, Parser]] = {
    Form.UUID: _uuid,
    Form.TIME: _time,
    Form.MILLISECONDS: _milliseconds,
    Form.COUNT: _count,
    Form.STATUS: _whole,
    Form.DOLLARS: _dollars,
    Form.TEXT: _text,
    Form.BODY: _body,
    Form.FLAG: _flag,
    Form.TEXTS: _texts,
    Form.PROPERTIES: _map_of(_property),
    Form.SCORES: _map_of(_score),
}
# The parsers for single keys of maps, which are needed for flat fields such as `properties.env`.
ITEM_PARSERS: Final[dict[str, Parser]] = {"properties": _property, "scores": _score}
parse_texts: Final = _texts


def parser_of(name: str, column: str, options: RowOptions) -> Parser:
    """Select the parser for the field *name*, whose values are stored in *column*."""
    form = FIELDS[column].form
    if form is Form.TIME:
        return partial(_time, zone=options.assume_time_zone)
    # costUSD is always in dollars, regardless of the unit of cost.
    if name == "cost" and options.cost_unit != "dollars":
        return _plausible_dollars if options.cost_unit is None else _billionths
    return _PARSERS[form]
