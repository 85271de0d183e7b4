"""JSON to and from bytes: msgspec where it is installed (extra ``speed``), else the standard library.

The standard library decides: it gets what msgspec refuses, and what msgspec would write in another way.
"""

import json
from functools import cache
from types import ModuleType
from typing import Any, Final

# json.dumps() and json.loads() would make one for each value.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)


@cache
def installed_msgspec() -> ModuleType | None:
    """The module, or None if msgspec is not installed."""
    try:
        import msgspec  # noqa: PLC0415 - it is an extra, and a filter does not need it
    except ImportError:
        return None
    return msgspec


def encode(value: Any) -> bytes:
    """*value* as compact JSON in UTF-8.

    Raises:
        ValueError: It holds NaN, an infinity, or text that UTF-8 cannot hold.

    >>> encode({"a": [1, "b"]})
    b'{"a":[1,"b"]}'
    """
    if msgspec := installed_msgspec():
        try:
            encoded: bytes = msgspec.json.encode(value)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
            pass
        else:
            # msgspec writes NaN and the infinities as null.
            if b"null" not in encoded:
                return encoded
    return _ENCODER.encode(value).encode()


def decode(body: bytes) -> Any:
    """The value that *body* holds.

    Raises:
        ValueError: It is not JSON, or is nested too deeply.
    """
    if msgspec := installed_msgspec():
        try:
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
    try:
        return DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
