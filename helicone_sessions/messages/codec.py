"""JSON to and from bytes: orjson where it is installed (extra ``speed``), else the standard library.

What one of them refuses is given to the standard library, so that both give the same values and the same
errors.
"""

import json
from functools import cache
from types import ModuleType
from typing import Any, Final

# json.dumps() would make one for each value.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)


@cache
def _orjson() -> ModuleType | None:
    try:
        import orjson  # noqa: PLC0415 - it is an extra, and a filter needs none of it
    except ImportError:
        return None
    return orjson


def encode(value: Any) -> bytes:
    """*value* as compact JSON in UTF-8.

    >>> encode({"a": [1, None]})
    b'{"a":[1,null]}'
    """
    if fast := _orjson():
        try:
            return fast.dumps(value)  # type: ignore[no-any-return]
        except TypeError:
            # A whole number of more than 64 bits.
            pass
    return _ENCODER.encode(value).encode()


def decode(body: bytes) -> Any:
    """The value that *body* spells; orjson gives a whole number of more than 64 bits as a float.

    Raises:
        ValueError: It is not JSON, or is nested too deeply.
    """
    if fast := _orjson():
        try:
            return fast.loads(body)
        except ValueError:
            # The words of the error are the other's.
            pass
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
