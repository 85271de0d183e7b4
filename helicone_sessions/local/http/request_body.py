"""Request bodies: read within bounds, unpacked and decoded.

A call of a JSON decoder cannot be interrupted, not even on another thread, so the values that one call may
decode are limited as well as the bytes of a body.
"""

import asyncio
import io
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.wire import json_text
from helicone_sessions.messages.codec import DECODER, decode
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.query import SessionMetricsQuery

T = TypeVar("T")

# Larger bodies are held a few at a time, however many requests wait.
LARGE_BODY: Final = 1024 * 1024
# Larger bodies are decoded, and their SQL is made, on another thread than that of the loop.
SMALL_BODY: Final = 16 * 1024
# Commas and opening brackets that one call may decode: some 12,000 conditions. The call takes 10 ms, and the
# garbage collector 30 ms for their objects.
MOST_SEPARATORS: Final = 75_000
# Bytes of a row, whose texts are decoded in one call.
LARGEST_ROW: Final = 16 * 1024 * 1024
# Characters in which the rows of a list are decoded without another look at them.
_WINDOW: Final = 256 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]{1,1000000}")
_STRUCTURE: Final = re.compile(r'["\[\]{},]')
# How the parts of a gzipped body follow each other is looked at anew for each of them.
_MOST_PARTS: Final = 100


class TooSlow(Exception):
    """The body did not arrive in time."""


class TooLarge(Exception):
    """The body has more bytes than allowed."""


class LargeBodySlot:
    """One of the few slots for large bodies: taken at most once, and held until the block ends."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self.is_taken = False

    async def take(self) -> None:
        """Wait for a slot, unless one is taken already."""
        if not self.is_taken:
            await self._slots.acquire()
            self.is_taken = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_taken:
            self.is_taken = False
            self._slots.release()


async def body_of(request: web.Request, patience: float, large: LargeBodySlot, largest: int) -> bytes:
    """The body, decompressed.

    Args:
        request: The request.
        patience: Seconds that the body may take to arrive.
        large: Taken as soon as the body is known to be large; waiting for it does not count as patience.
        largest: The bytes that the body may have.

    Raises:
        TooSlow: It did not arrive in time.
        FilterValueError: It cannot be unpacked, or ends too early.
        TooLarge: It is too long.
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
    # Unlike a bytearray it gives its bytes away without a copy.
    body = io.BytesIO()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience) as limit:
        while True:
            if not large.is_taken and max(length, body.tell()) > LARGE_BODY:
                left = (limit.when() or 0.0) - loop.time()
                limit.reschedule(None)
                await large.take()
                limit.reschedule(loop.time() + left)
            chunk = await content.readany()
            if not chunk:
                return body.getvalue()
            body.write(chunk)
            _check_length(body.tell(), largest)


async def _unpacked(packed: bytes, encoding: str, large: LargeBodySlot, largest: int) -> bytes:
    try:
        return await read(packed, partial(_unpack, encoding=encoding, most=min(LARGE_BODY, largest)))
    except TooLarge:
        if largest <= LARGE_BODY:
            raise
    await large.take()
    return await asyncio.to_thread(_unpack, packed, encoding=encoding, most=largest)


_ENCODINGS: Final = {"identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}


def _unpack(packed: bytes, *, encoding: str, most: int) -> bytes:
    window = _ENCODINGS[encoding]
    if encoding == "deflate" and packed and packed[0] & 0xF != zlib.DEFLATED:
        # Many send it without the header that the standard asks for.
        window = -window
    body = b""
    for _ in range(_MOST_PARTS):
        part = zlib.decompressobj(window)
        # No more is unpacked than is looked at.
        body += part.decompress(packed, most + 1 - len(body))
        if len(body) > most:
            raise TooLarge
        if not part.eof:
            raise zlib.error
        packed = part.unused_data
        if not packed:
            return body
    raise zlib.error


def _check_length(length: int, largest: int) -> None:
    if length > largest:
        raise TooLarge


async def read(body: bytes, reader: Callable[[bytes], T]) -> T:
    """The result of *reader*; a thread reads long bodies, so that the loop stays free."""
    return reader(body) if len(body) <= SMALL_BODY else await asyncio.to_thread(reader, body)


def query_in(body: bytes) -> SessionMetricsQuery:
    """The query that a body holds, by the contract.

    Raises:
        FilterError: The body is not JSON, or not a query of the contract.
    """
    return converter.structure(json_in(body), SessionMetricsQuery)


def rows_in(body: bytes) -> Iterator[Mapping[str, Any]]:
    """The rows that a body holds: a list in JSON, or one in JSON on each line.

    Each row is decoded when it is taken: no call of the decoder is long, and few rows are objects at once.

    Raises:
        FilterError: It is neither, or a row is not an object or is too large.
    """
    begin = body[:_WINDOW].removeprefix(BOM_UTF8).lstrip()
    for place, row in enumerate(_elements(_text(body)) if begin.startswith(b"[") else _lines(body)):
        if not isinstance(row, dict):
            raise FilterTypeError(field=f"row {place}", problem=f"must be an object, got {json_text(row)}")
        yield row


def json_in(body: bytes, subject: str = "the body") -> Any:
    """The JSON value of a body, or of a part of it.

    Raises:
        FilterValueError: It is not JSON, or has too many values.
    """
    # Texts hold such characters too, so the exact count is only made where it matters.
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_SEPARATORS:
        _end_of_value(_text(body), 0, subject)
    try:
        return decode(body)
    except ValueError as error:
        raise FilterValueError(problem=f"{subject} is not JSON: {error}") from None


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FilterValueError(problem=f"the body is not UTF-8: {error.reason}") from None


def _lines(body: bytes) -> Iterator[Any]:
    for number, line in enumerate(io.BytesIO(body), 1):
        if len(line) > LARGEST_ROW:
            raise _too_large(f"line {number}")
        if line.strip():
            yield json_in(line, f"line {number}")


def _elements(text: str) -> Iterator[Any]:
    """The elements of a list, a few decoded at a time."""
    start = _after_space(text, text.index("[") + 1)
    is_over = text[start : start + 1] == "]"
    start += is_over
    place = 0
    while not is_over:
        values, length, is_over = _leading_elements(text[start : start + _WINDOW])
        if not values:
            # It is longer than the window, or no element.
            end = _end_of_value(text, start, f"row {place}")
            values, length, is_over = _leading_elements(text[start : _after_space(text, end) + 1])
            if not values:
                json_in(text[start:end].encode(), f"row {place}")
                raise FilterValueError(problem=f"the body is not JSON: no comma follows row {place}")
        yield from values
        place += len(values)
        start += length
    if _after_space(text, start) < len(text):
        raise FilterValueError(problem="the body is not JSON: there is text after the list")


def _leading_elements(window: str) -> tuple[list[Any], int, bool]:
    """The elements whose comma or end of the list is in *window*, their length, and whether the list ends."""
    values: list[Any] = []
    length = 0
    while True:
        try:
            value, end = DECODER.raw_decode(window, _after_space(window, length))
        except (ValueError, RecursionError):
            return values, length, False
        end = _after_space(window, end)
        sign = window[end : end + 1]
        if sign not in {",", "]"}:
            return values, length, False
        values.append(value)
        length = end + 1
        if sign == "]":
            return values, length, True


def _end_of_value(text: str, start: int, subject: str) -> int:
    """The position after the value at *start*, without decoding it.

    Raises:
        FilterValueError: It has too many values, is too long or has no end.
    """
    depth = separators = 0
    position = start
    while found := _STRUCTURE.search(text, position, start + LARGEST_ROW):
        position = found.end()
        match found[0]:
            case '"':
                position = _end_of_string(text, position)
            case "]" | "}":
                depth -= 1
            case "[" | "{":
                depth += 1
                separators += 1
            case ",":
                separators += 1
        if depth <= 0:
            return position
        if separators > MOST_SEPARATORS:
            raise FilterValueError(
                problem=f"{subject} has more than {MOST_SEPARATORS:,} values",
                remedy="Send it in several parts",
            )
    if len(text) - start > LARGEST_ROW:
        raise _too_large(subject)
    raise FilterValueError(problem=f"{subject} is not JSON: it has no end")


def _end_of_string(text: str, position: int) -> int:
    while (quote := text.find('"', position)) >= 0:
        backslashes = quote
        while text[backslashes - 1] == "\\":
            backslashes -= 1
        position = quote + 1
        if (quote - backslashes) % 2 == 0:
            break
    return position if quote >= 0 else len(text)


def _after_space(text: str, position: int) -> int:
    while found := _SPACE.match(text, position):
        position = found.end()
    return position


def _too_large(subject: str) -> FilterValueError:
    return FilterValueError(
        problem=f"{subject} is longer than {LARGEST_ROW // 1024**2} MB", remedy="Load it from a file"
    )
