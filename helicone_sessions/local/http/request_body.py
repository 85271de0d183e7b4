"""Reads, decompresses and decodes request bodies within limits.

The size of a body is limited. A call to a JSON decoder blocks all threads until it returns, so the number of
values in one call is limited too.
"""

import asyncio
import io
import re
import zlib
from codecs import BOM_UTF8, iterdecode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

# Only a few bodies above this size are in memory at a time, no matter how many requests are waiting.
LARGE_BODY: Final = 1024 * 1024
# Larger bodies are decoded on a thread, and their filters are compiled there.
SMALL_BODY: Final = 16 * 1024
# The maximum number of commas and opening brackets in one call. It allows about 12,000 conditions, which take
# 10 ms.
MOST_SEPARATORS: Final = 75_000
# The size of a piece of a body in bytes. Copying a large body in a single call would block the loop.
_PIECE: Final = 1024 * 1024
# The maximum size of a row in bytes. All strings of a row are decoded in one call.
LARGEST_ROW: Final = 16 * 1024 * 1024
# The rows of a list within this number of characters are decoded without counting their values.
_WINDOW: Final = 256 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]{1,1000000}")
_STRUCTURE: Final = re.compile(r'["\[\]{},]')
# The number of members of a gzip body is limited, because each member has a fixed cost.
_MOST_PARTS: Final = 100


class TooSlow(Exception):
    """The body did not arrive in time."""


class TooLarge(Exception):
    """The body is larger than allowed."""


class LargeBodySlot:
    """A slot for a large body. It is taken at most once, and released at the end of the ``with`` block."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self.is_taken = False

    async def take(self) -> None:
        """Wait for a slot, unless this object has already taken one."""
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


async def body_of(request: web.Request, patience: float, large: LargeBodySlot, largest: int) -> list[bytes]:
    """Read and decompress the body, and return it in pieces of about a megabyte.

    Args:
        request: The request.
        patience: The timeout for receiving the body, in seconds.
        large: The slot to take if the body is large. Waiting for the slot does not count towards the timeout.
        largest: The maximum size of the body in bytes.

    Raises:
        TooSlow: The body did not arrive in time.
        FilterValueError: The body cannot be decompressed, or is incomplete.
        TooLarge: The body is larger than allowed.
    """
    length = request.content_length or 0
    if length > largest:
        raise TooLarge
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise FilterValueError(problem=f"the content encoding must be gzip or deflate, got {encoding[:50]}")
    try:
        body = await _arrived(request.content, length, patience, large, largest)
        return body if encoding == "identity" else await _unpacked(body, encoding, large, largest)
    except TimeoutError:
        raise TooSlow from None
    except (web.RequestPayloadError, HttpProcessingError, zlib.error):
        raise FilterValueError(problem="the body does not match its headers") from None


class _Pieces:
    """Collects bytes into pieces of at least `_PIECE` bytes. Only the last piece may be smaller."""

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._pieces: list[bytes] = []
        # Unlike a bytearray, this returns its bytes without copying them.
        self._last = io.BytesIO()

    def add(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            TooLarge: The body is larger than allowed.
        """
        self.size += len(chunk)
        if self.size > self._most:
            raise TooLarge
        self._last.write(chunk)
        if self._last.tell() >= _PIECE:
            self._pieces.append(self._last.getvalue())
            self._last = io.BytesIO()

    def all(self) -> list[bytes]:
        return [*self._pieces, self._last.getvalue()]


async def _arrived(
    content: StreamReader, length: int, patience: float, large: LargeBodySlot, largest: int
) -> list[bytes]:
    body = _Pieces(largest)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience) as limit:
        while True:
            if not large.is_taken and max(length, body.size) > LARGE_BODY:
                left = (limit.when() or 0.0) - loop.time()
                limit.reschedule(None)
                await large.take()
                limit.reschedule(loop.time() + left)
            chunk = await content.readany()
            if not chunk:
                return body.all()
            body.add(chunk)


async def _unpacked(packed: list[bytes], encoding: str, large: LargeBodySlot, largest: int) -> list[bytes]:
    unpack = partial(_unpack, packed, encoding)
    try:
        if sum(map(len, packed)) <= SMALL_BODY:
            return unpack(min(LARGE_BODY, largest))
        return await asyncio.to_thread(unpack, min(LARGE_BODY, largest))
    except TooLarge:
        if largest <= LARGE_BODY:
            raise
    await large.take()
    return await asyncio.to_thread(unpack, largest)


_ENCODINGS: Final = {"identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}


def _window_bits(packed: list[bytes], encoding: str) -> int:
    window = _ENCODINGS[encoding]
    if encoding == "deflate" and packed[0] and packed[0][0] & 0xF != zlib.DEFLATED:
        # The standard requires a zlib header for deflate, but many clients send none.
        return -window
    return window


def _unpack(packed: list[bytes], encoding: str, most: int) -> list[bytes]:
    window = _window_bits(packed, encoding)
    body = _Pieces(most)
    part, parts = zlib.decompressobj(window), 1
    for chunk in packed:
        data = chunk
        while data:
            if part.eof:
                part, parts = zlib.decompressobj(window), parts + 1
                if parts > _MOST_PARTS:
                    raise zlib.error
            body.add(part.decompress(data, _PIECE))
            data = part.unused_data or part.unconsumed_tail
    while rest := part.decompress(b"", _PIECE):
        body.add(rest)
    if not part.eof:
        raise zlib.error
    return body.all()


async def read(body: bytes, reader: Callable[[bytes], T]) -> T:
    """Call *reader* with the body, on a thread if the body is long, to keep the event loop responsive."""
    return reader(body) if len(body) <= SMALL_BODY else await asyncio.to_thread(reader, body)


def query_in(body: bytes) -> SessionMetricsQuery:
    """Parse the query in a body according to the API's contract.

    Raises:
        FilterError: The body is not JSON, or does not follow the contract.
    """
    return converter.structure(json_in(body), SessionMetricsQuery)


def rows_in(pieces: Sequence[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows in the pieces of a body, which contains a JSON list or JSON Lines.

    The rows are decoded a few at a time, so that no call takes long and only a few rows are in memory as
    objects.

    Raises:
        FilterError: The body is not in one of these formats, or a row is not an object or is too large.
    """
    begin = pieces[0][:_WINDOW].removeprefix(BOM_UTF8).lstrip()
    for place, row in enumerate(_elements(pieces) if begin.startswith(b"[") else _lines(pieces)):
        if not isinstance(row, dict):
            raise FilterTypeError(field=f"row {place}", problem=f"must be an object, got {json_text(row)}")
        yield row


def json_in(body: bytes, subject: str = "the body") -> Any:
    """Decode the JSON value in a body, or in a part of a body.

    Raises:
        FilterValueError: The text is not JSON, or has too many values.
    """
    # Strings may contain these characters too, so if there are many, an exact count follows.
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_SEPARATORS and (
        _end_of_value(_text(body), 0, subject) is None
    ):
        raise _without_end(subject)
    try:
        return decode(body)
    except ValueError as error:
        raise FilterValueError(problem=f"{subject} is not JSON: {error}") from None


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf_8(error) from None


def _lines(pieces: Iterable[bytes]) -> Iterator[Any]:
    number, size = 1, 0
    parts: list[bytes] = []
    for piece in pieces:
        # Blank lines between rows are skipped all at once.
        rest = piece if parts else piece.lstrip()
        number += piece.count(b"\n", 0, len(piece) - len(rest))
        for part in io.BytesIO(rest):
            parts.append(part)
            size += len(part)
            if size > LARGEST_ROW:
                raise _too_large(f"line {number}")
            if part.endswith(b"\n"):
                yield from _value_in_line(parts, number)
                parts, size = [], 0
                number += 1
    yield from _value_in_line(parts, number)


def _value_in_line(parts: list[bytes], number: int) -> Iterator[Any]:
    line = b"".join(parts)
    if line.strip():
        yield json_in(line, f"line {number}")


class _Text:
    """The text of a body, which is decoded piece by piece.

    Attributes:
        text: The decoded text, except the part that was dropped.
        start: The position of the first unread character in `text`.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.text = ""
        self.start = 0
        self._more = iterdecode(pieces, "utf-8-sig")

    def fill(self, size: int) -> bool:
        """Decode text until *size* characters are unread or the body ends. Return whether text was added.

        Raises:
            FilterValueError: The body is not UTF-8.
        """
        missing = size - len(self.text) + self.start
        added: list[str] = []
        try:
            while missing > 0 and (part := next(self._more, "")):
                added.append(part)
                missing -= len(part)
        except UnicodeDecodeError as error:
            raise _not_utf_8(error) from None
        if added:
            self.text, self.start = "".join([self.text[self.start :], *added]), 0
        return bool(added)

    def skip_space(self) -> None:
        """Skip whitespace."""
        while True:
            self.start = _after_space(self.text, self.start)
            if self.start < len(self.text) or not self.fill(1):
                return

    def take(self) -> str:
        """Skip whitespace and read one character. At the end of the body, return an empty string."""
        self.skip_space()
        character = self.text[self.start : self.start + 1]
        self.start += len(character)
        return character

    def long_value(self, subject: str) -> Any:
        """Read one value.

        Raises:
            FilterValueError: The value is not JSON, contains too many values, or is too long.
        """
        while (end := _end_of_value(self.text, self.start, subject)) is None:
            if len(self.text) - self.start > LARGEST_ROW:
                raise _too_large(subject)
            if not self.fill(LARGEST_ROW + 1):
                raise _without_end(subject)
        text = self.text[self.start : end]
        try:
            value, length = DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            # The error of this function names the subject.
            return json_in(text.encode(), subject)
        self.start += length
        return value


def _elements(pieces: Iterable[bytes]) -> Iterator[Any]:
    """Yield the elements of a list, decoding a few at a time."""
    text = _Text(pieces)
    text.take()
    text.skip_space()
    is_over = text.text.startswith("]", text.start)
    text.start += is_over
    place = 0
    while not is_over:
        text.skip_space()
        text.fill(_WINDOW)
        values, length, is_over = _leading_elements(text.text[text.start : text.start + _WINDOW])
        text.start += length
        if not values:
            # The element is longer than the window, or it is invalid.
            values = [text.long_value(f"row {place}")]
            sign = text.take()
            if sign not in {",", "]"}:
                raise FilterValueError(problem=f"the body is not JSON: no comma follows row {place}")
            is_over = sign == "]"
        yield from values
        place += len(values)
    if text.take():
        raise FilterValueError(problem="the body is not JSON: there is text after the list")


def _leading_elements(window: str) -> tuple[list[Any], int, bool]:
    """Return the leading complete elements, their total length, and whether the list ends in *window*."""
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


def _end_of_value(text: str, start: int, subject: str) -> int | None:
    """Find the end of the value at *start* without decoding it. Return None if *text* does not contain it.

    Raises:
        FilterValueError: The value contains too many values.
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
                remedy="Split it into several requests",
            )
    return None


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


def _without_end(subject: str) -> FilterValueError:
    return FilterValueError(problem=f"{subject} is not JSON: it has no end")


def _not_utf_8(error: UnicodeDecodeError) -> FilterValueError:
    return FilterValueError(problem=f"the body is not UTF-8: {error.reason}")
