"""Decompress bodies, and read and write JSON with msgspec (``speed`` extra) or the standard library.

The standard library is authoritative: it reads bodies that msgspec rejects, and writes values that msgspec
would write differently.
"""

import json
import zlib
from functools import cache
from types import ModuleType
from typing import Any, Final

from helicone_sessions.masking import masked_repr

# json.dumps() and json.loads() would create a new encoder or decoder for each value.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)


class EndsEarly(ValueError):
    """The body is incomplete, for example because the sender failed."""


class TooLarge(ValueError):
    """The body is larger than the client accepts."""


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """Decompress a body according to its ``Content-Encoding``.

    Args:
        body: The compressed body.
        encoding: The value of the ``Content-Encoding`` header.
        most: The size limit in bytes. The result has at most one byte more, which shows that the limit was
            exceeded.

    Raises:
        EndsEarly: The body is incomplete.
        ValueError: The encoding is not gzip or deflate, or the body does not have this encoding.

    >>> import gzip
    >>> unpack(gzip.compress(b"1234567890"), "gzip", most=5)
    b'123456'
    """
    name = encoding.strip().lower()
    if name == "identity" or not body:
        return body
    wbits = {"gzip": 31, "x-gzip": 31, "deflate": 15}.get(name)
    if wbits is None:
        raise ValueError(f"has the content encoding {masked_repr(encoding)}, expected gzip or deflate")
    if name == "deflate" and body[0] & 0x0F != 8:
        # Some servers send deflate data without the zlib header that the standard requires.
        wbits = -15
    unpacker = zlib.decompressobj(wbits)
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise ValueError(f"is not in its content encoding {masked_repr(encoding)}: {error}") from None
    if not unpacker.eof and len(unpacked) <= most:
        raise EndsEarly("ends before it is complete")
    return unpacked


@cache
def installed_msgspec() -> ModuleType | None:
    """The msgspec module, or None if it is not installed."""
    try:
        import msgspec
    except ImportError:
        return None
    return msgspec


def encode(value: Any) -> bytes:
    """Encode *value* as compact JSON in UTF-8.

    Raises:
        ValueError: The value contains NaN, an infinity, or text that cannot be encoded in UTF-8.

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
    """Decode a JSON body.

    Raises:
        EndsEarly: The body begins as valid JSON, but is incomplete.
        ValueError: The body is not JSON, or is nested too deeply.
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
    except ValueError as error:
        if _ends_early(body, error):
            raise EndsEarly(str(error)) from None
        raise


def _ends_early(body: bytes, error: ValueError) -> bool:
    text = body.strip()
    if not text:
        return True
    # A closing bracket at the end may be an inner one, or part of a string.
    expects_more = isinstance(error, json.JSONDecodeError) and (
        error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    )
    return text[:1] in b"{[" and (text[-1:] not in b"}]" or expects_more)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
