"""Request bodies: read within bounds, unpacked and decoded."""

import asyncio
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.wire import json_text
from helicone_sessions.local.http.request_queue import LargeBodySlot
from helicone_sessions.messages.codec import decode
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.query import SessionMetricsQuery

T = TypeVar("T")

# Five times what the service takes: rows are added in bodies too.
LARGEST_BODY: Final = 50 * 1024 * 1024
# Larger ones are held a few at a time, however many requests wait.
LARGE_BODY: Final = 1024 * 1024
# Below that, reading it takes less time than a thread would.
_SMALL_BODY: Final = 64 * 1024
# How the parts of a gzipped body follow each other is looked at anew for each of them.
_MOST_PARTS: Final = 100


class TooSlow(Exception):
    """The body did not arrive in time."""


async def body_of(
    request: web.Request, patience: float, large: LargeBodySlot, *, largest: int = LARGEST_BODY
) -> bytes:
    """The body, decompressed.

    Args:
        request: The request.
        patience: Seconds that the body may take to arrive.
        large: Taken as soon as the body is known to be large; waiting for it does not count as patience.
        largest: The bytes that the body may have.

    Raises:
        TooSlow: It did not arrive in time.
        FilterValueError: It cannot be unpacked, or ends too early.
        web.HTTPRequestEntityTooLarge: It is too long.
    """
    length = request.content_length or 0
    _check_length(length, largest)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise FilterValueError(problem=f"the content encoding must be gzip or deflate, got {encoding[:50]}")
    try:
        body = await _arrived(request.content, length, patience, large, largest)
        return body if encoding == "identity" else await _unpacked(body, encoding, large, largest)
    except TimeoutError:
        raise TooSlow from None
    except (web.RequestPayloadError, HttpProcessingError, zlib.error):
        raise FilterValueError(problem="the body is not what its headers announce") from None


async def _arrived(
    content: StreamReader, length: int, patience: float, large: LargeBodySlot, largest: int
) -> bytes:
    body = bytearray()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience) as limit:
        while True:
            if not large.is_taken and max(length, len(body)) > LARGE_BODY:
                left = (limit.when() or 0.0) - loop.time()
                limit.reschedule(None)
                await large.take()
                limit.reschedule(loop.time() + left)
            chunk = await content.readany()
            if not chunk:
                return bytes(body)
            body += chunk
            _check_length(len(body), largest)


async def _unpacked(packed: bytes, encoding: str, large: LargeBodySlot, largest: int) -> bytes:
    try:
        return await read(packed, partial(_unpack, encoding=encoding, most=LARGE_BODY))
    except _TooLong:
        await large.take()
    try:
        return await asyncio.to_thread(_unpack, packed, encoding=encoding, most=largest)
    except _TooLong:
        raise web.HTTPRequestEntityTooLarge(largest, largest + 1) from None


class _TooLong(Exception):
    """It unpacks to more bytes than allowed."""


_ENCODINGS: Final = {"identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}


def _unpack(packed: bytes, *, encoding: str, most: int) -> bytes:
    window = _ENCODINGS[encoding]
    if encoding == "deflate" and packed and packed[0] & 0xF != zlib.DEFLATED:
        # Many send it without the header that the standard asks for.
        window = -window
    body = bytearray()
    for _ in range(_MOST_PARTS):
        part = zlib.decompressobj(window)
        # No more is unpacked than is looked at.
        body += part.decompress(packed, most + 1 - len(body))
        if len(body) > most:
            raise _TooLong
        if not part.eof:
            raise zlib.error
        packed = part.unused_data
        if not packed:
            return bytes(body)
    raise zlib.error


def _check_length(length: int, largest: int) -> None:
    if length > largest:
        raise web.HTTPRequestEntityTooLarge(largest, length)


async def read(body: bytes, reader: Callable[[bytes], T]) -> T:
    """What *reader* makes of a body; a long one does not hold up the others."""
    return reader(body) if len(body) <= _SMALL_BODY else await asyncio.to_thread(reader, body)


def query_in(body: bytes) -> SessionMetricsQuery:
    """The query that a body holds, by the contract.

    Raises:
        FilterError: The body is not JSON, or not a query of the contract.
    """
    return converter.structure(json_in(body), SessionMetricsQuery)


def rows_in(body: bytes) -> list[Mapping[str, Any]]:
    """The rows that a body holds: a list in JSON, or one in JSON on each line.

    Raises:
        FilterError: It is neither, or a row is not an object.
    """
    is_list = body.lstrip()[:1] == b"["
    rows: list[Any] = json_in(body) if is_list else list(_lines(body))
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise FilterTypeError(field=f"row {place}", problem=f"must be an object, got {json_text(row)}")
    return rows


def _lines(body: bytes) -> Iterator[Any]:
    for number, line in enumerate(body.splitlines(), 1):
        if line.strip():
            yield json_in(line, f"line {number}")


def json_in(body: bytes, subject: str = "the body") -> Any:
    """The JSON value of a body, or of a part of it.

    Raises:
        FilterValueError: It is not JSON.
    """
    try:
        return decode(body)
    except ValueError as error:
        raise FilterValueError(problem=f"{subject} is not JSON: {error}") from None
