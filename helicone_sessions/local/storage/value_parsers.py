"""Parsers of the values in a user's row, one for each type of column.

A parser returns None for a missing value, and raises ValueError with the type that it expects. The usual
types come first in each, because they are parsed millions of times. Scalars and arrays of numpy, which is
not imported, are parsed as the Python values that they stand for.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn
from uuid import UUID

from helicone_sessions.local.storage.table import REQUEST_COLUMNS, Stored
from helicone_sessions.masking import masked_repr

Parser = Callable[[Any], Any]

_NANO: Final = 9
_LARGEST_WHOLE: Final = 2**63
# Below it a double times a billion is off by far less than the distance that is kept from a half.
_EXACT_NANO: Final = 2.0**40
_NEAR_A_HALF: Final = 0.49


class _Refused(ValueError):
    """Has a message for users, unlike the errors of the JSON encoder."""


def _text(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        _refuse(value, "text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            _refuse(value, "text without half a surrogate pair")
    return value


def _body(value: Any) -> Any:
    """A body is text in the table, and an object in Helicone's export."""
    if value is None or isinstance(value, str):
        return _text(value)
    value = _plain(value)
    return _json(value) if isinstance(value, (dict, list)) else _refuse(value, "text")


def _uuid(value: Any) -> Any:
    if value is None or isinstance(value, UUID):
        return value and str(value)
    try:
        return str(UUID(_text(value)))
    except ValueError:
        return _refuse(value, "a UUID")


def _whole(value: Any) -> Any:
    if type(value) is int and -_LARGEST_WHOLE < value < _LARGEST_WHOLE:
        return value
    number = _number(value)
    if number is None:
        return None
    # A larger Decimal compares, but does not compute.
    if not -_LARGEST_WHOLE < number < _LARGEST_WHOLE or number != number.to_integral_value():
        _refuse(value, "a whole number")
    return int(number)


def _number(value: Any) -> Any:
    if value is None:
        return None
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float, Decimal, str)):
        _refuse(value, "a number")
    try:
        number = Decimal(str(plain))
    except InvalidOperation:
        return _refuse(value, "a number")
    return number if number.is_finite() else _refuse(value, "a finite number")


def _nanodollars(value: Any) -> Any:
    if type(value) is float and 0 <= (scaled := value * 1e9) < _EXACT_NANO:
        nearest = round(scaled)
        if abs(scaled - nearest) < _NEAR_A_HALF:
            return nearest
    dollars = _number(value)
    if dollars is None:
        return None
    # Far more than the table holds cannot even be multiplied.
    nano = dollars.scaleb(_NANO).to_integral_value() if -1 < dollars < 2**64 else Decimal(-1)
    return int(nano) if 0 <= nano < 2**64 else _refuse(value, "dollars from 0 to 18 billion")


def _time(value: Any) -> Any:
    if value is None:
        return None
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        # A datetime64 of numpy is a time too, but one without its zone.
        expected = (
            "a time with its zone" if hasattr(value, "tolist") else "an aware datetime or ISO 8601 text"
        )
        return _refuse(value, f"{expected}, for example 2026-11-01T00:00:00Z")
    if moment != moment:  # noqa: PLR0124 - NaT, the missing time of pandas
        return None
    if moment.utcoffset() is None:
        return _refuse(value, "a time with its zone, for example 2026-11-01T00:00:00Z")
    if not 1900 < moment.year < 2299:
        # The table would move it to the nearest time that it can hold.
        _refuse(value, "a time between the years 1900 and 2299")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # Requests are kept to the millisecond; what follows it is the zone.
    return moment.isoformat(" ", "milliseconds")[:23]


def _flag(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    known = {"true": True, "false": False, "1": True, "0": False}.get(str(_plain(value)).lower())
    return _refuse(value, "true or false") if known is None else known


def _texts(value: Any) -> Any:
    if value is None:
        return None
    value = _list_in(value) if isinstance(value, str) else _plain(value)
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(text, str) for text in value
    ):
        _refuse(value, "a list of texts")
    return [_text(text) for text in value]


def _list_in(text: str) -> list[Any]:
    """The list that a CSV field spells in JSON, or the text itself as the only one."""
    if text.startswith("["):
        with suppress(ValueError):
            return list(json.loads(text))
    return [text]


def _map_of(parse_item: Parser) -> Parser:
    def parse_map(value: Any) -> Any:
        if isinstance(value, str):
            value = _object_in(value)
        if value is None:
            return None
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return _refuse(value, "an object with text for keys")
        return {_text(key): parsed for key, item in value.items() if (parsed := parse_item(item)) is not None}

    return parse_map


def _object_in(text: str) -> Any:
    """The object that a CSV field spells in JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _refuse(text, "an object, or the JSON text of one")


def _property(value: Any) -> Any:
    """A property is text in the table."""
    if value is None or isinstance(value, str):
        return _text(value)
    return _json(value)


def _json(value: Any) -> Any:
    """The value as JSON, without spaces or escapes, as JavaScript writes it."""
    try:
        return _text(_encode(value))
    except _Refused:
        raise
    except TypeError:
        return _refuse(value, "an object with text for keys")
    except RecursionError:
        return _refuse(value, "less deeply nested")
    except ValueError:
        return _refuse(value, "JSON, which has null in place of NaN and infinity")


def _item(value: Any) -> Any:
    """The JSON value for a Python value that JSON does not have."""
    plain = _plain(value)
    return _refuse(value, "text", f": JSON has no {type(value).__name__}") if plain is value else plain


# A circular value reaches the recursion limit; checking each row for one would cost time.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"), default=_item
).encode


def _score(value: Any) -> Any:
    """A score is a whole number in the table; feedback is 1 or 0."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return int(value.lower() == "true")
    value = _plain(value)
    return int(value) if isinstance(value, bool) else _whole(value)


def _plain(value: Any) -> Any:
    """A numpy scalar or array as a Python value; other values unchanged."""
    convert = getattr(value, "tolist", None)
    return value if convert is None else convert()


def _refuse(value: object, expected: str, why: str = "") -> NoReturn:
    raise _Refused(f"must be {expected}, got {masked_repr(value, most=80)}{why}")


_PARSERS: Final[dict[Stored, Parser]] = {
    Stored.UUID: _uuid,
    Stored.TIME: _time,
    Stored.MAYBE_TIME: _time,
    Stored.WHOLE: _whole,
    Stored.MAYBE_WHOLE: _whole,
    Stored.NANODOLLARS: _nanodollars,
    Stored.NAME: _text,
    Stored.TEXT: _text,
    Stored.MAYBE_TEXT: _text,
    Stored.FLAG: _flag,
    Stored.MAYBE_FLAG: _flag,
    Stored.TEXTS: _texts,
    Stored.PROPERTIES: _map_of(_property),
    Stored.SCORES: _map_of(_score),
}
REQUEST_PARSERS: Final = {
    **{name: _PARSERS[stored] for name, stored in REQUEST_COLUMNS.items()},
    "request_body": _body,
    "response_body": _body,
}
# The parsers of single keys of the maps, for flat columns such as `properties.env`.
ITEM_PARSERS: Final[dict[str, Parser]] = {"properties": _property, "scores": _score}
parse_texts: Final = _texts
