"""Reads rows from Python objects, frames, and files in supported formats.

Files and frames are read in blocks of complete rows. The rows of a block can be read in two ways: one by one,
as Python objects with their positions, or by ClickHouse as columns of text (see `conversion`).
"""

import csv
import glob
import gzip
import io
import itertools
import json
import os
import zlib
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

import attrs

from helicone_sessions.errors import ConfigurationError, MissingExtra
from helicone_sessions.local.storage.fields import RowOptions, field_name, is_known
from helicone_sessions.masking import masked_text

PathLike = str | os.PathLike[str]


class Frame(Protocol):
    """A pandas or polars frame, a pyarrow table, or another source of Arrow data."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the data."""
        ...


Rows = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
Data = PathLike | Sequence[PathLike] | Frame | Rows

# The size of a block in bytes. A few blocks are in memory at once, and planning the statement for a block
# takes 30 ms.
_BLOCK: Final = 16 * 1024 * 1024
_LONGEST_LINE: Final = 256 * 1024 * 1024
_PIECE: Final = 128 * 1024
_ROWS_OF_BLOCK: Final = 65_536
_BOM: Final = b"\xef\xbb\xbf"
_OTHER_FIELDS: Final = "does not have as many fields as the header row"
_ONE_ROW_A_LINE: Final = "A file with one row per line is named .jsonl"
# Column names are collected from this many lines of a block. Rows with other names are left to Python.
_SAMPLED: Final = 50


@attrs.frozen
class Unreadable:
    """A part of a file that should be a row but cannot be read.

    Args:
        reason: The problem, as the end of a sentence.
        content: The unreadable content.
        field: The field that cannot be read; None if the whole row cannot be read.
    """

    reason: str
    content: Any
    field: str | None = None


@attrs.frozen
class Placed:
    """A row and its position.

    Args:
        where: The position, for error messages.
        row: The row.
        identity: The file, position and content of the row, from which a missing id is derived. If
            None, a missing id is derived from `where` and the encoded row.
        version: The version of the row, if one is reserved.
        index: The index of the row in its block.
    """

    where: str
    row: Any
    identity: bytes | None = None
    version: int | None = None
    index: int = 0


class Block(Protocol):
    """Consecutive rows of a file or a frame."""

    @property
    def is_for_python(self) -> bool:
        """Whether only Python can read the block, because ClickHouse would read different values."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns. For JSON Lines, they are taken from a sample of the rows."""
        ...

    @property
    def fraction(self) -> float | None:
        """The fraction of the file that has been read, from 0 to 1; None if unknown."""
        ...

    @property
    def count(self) -> int:
        """The number of rows."""
        ...

    def rows(self, chosen: Iterable[int] | None = None) -> Iterator[Placed]:
        """Yield the rows as Python objects: all rows, or the rows at the ascending indexes *chosen*."""
        ...


def is_rows(data: Data) -> bool:
    """Whether *data* is an iterable of rows rather than files or a frame.

    Raises:
        ConfigurationError: The data has an unsupported type.
    """
    if isinstance(data, (str, os.PathLike)) or _is_frame(data) or _is_list_of_paths(data):
        return False
    if isinstance(data, (bytes, Mapping)) or not isinstance(data, (Iterable, AsyncIterable)):
        raise ConfigurationError(
            argument="data",
            problem=f"must be a path or an iterable of rows, got {type(data).__name__}",
            remedy="Pass a file, a list of files, a frame, or an iterable of dicts",
        )
    return True


def _is_frame(data: object) -> bool:
    return hasattr(data, "__arrow_c_stream__")


def _is_list_of_paths(data: object) -> bool:
    return (
        isinstance(data, (list, tuple))
        and bool(data)
        and all(isinstance(item, (str, os.PathLike)) for item in data)
    )


def files_of(data: Data) -> list[Path]:
    """Return the files to which *data* refers, in order. For rows and frames, the list is empty.

    Raises:
        ConfigurationError: A pattern matches no file, or a path is empty.
    """
    if isinstance(data, (str, os.PathLike)):
        return _matching(os.fspath(data))
    if _is_list_of_paths(data):
        return [path for item in cast("Sequence[PathLike]", data) for path in _matching(os.fspath(item))]
    return []


def _matching(path: str) -> list[Path]:
    if not path:
        raise ConfigurationError(
            argument="data", problem="is an empty path", remedy="Name a file, or leave it out"
        )
    if not glob.has_magic(path) or Path(path).exists():
        return [Path(path)]
    if not (found := sorted(glob.glob(path, recursive=True))):  # noqa: PTH207 - it may be absolute
        raise ConfigurationError(
            argument="data", problem=f"matches no file: {path}", remedy="Check the pattern and the directory"
        )
    return list(map(Path, found))


def read_rows(data: Iterable[Any]) -> Iterator[Placed]:
    """Yield the rows of an iterable with their positions."""
    for place, row in enumerate(data):
        yield Placed(f"row {place}", row)


def read_blocks(data: Data, options: RowOptions) -> Iterator[Block]:
    """Yield the blocks of the files or the frame in *data*.

    Raises:
        ConfigurationError: A file is missing or damaged, or it has an unknown format.
        MissingExtra: The data is a Parquet file or a frame, and pyarrow is not installed.
    """
    if _is_frame(data):
        with _arrow_errors("the frame", "reading frames"):
            yield from _frame(data, options)
    for path in files_of(data):
        yield from _read_file(path, options)


def _name(path: Path) -> str:
    """Return the file name for messages and ids. Bytes that are not UTF-8 are escaped."""
    return path.name.encode(errors="backslashreplace").decode()


def _read_file(path: Path, options: RowOptions) -> Iterator[Block]:
    known = ", ".join(_FORMATS)
    if path.is_dir():
        raise ConfigurationError(
            field=str(path),
            problem="is a directory",
            remedy=f"Pass one file ({known}, also with .gz), or a pattern such as '{path / '*.jsonl'}'",
        )
    suffixes = [suffix.lower() for suffix in path.suffixes]
    ending = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    reader = _FORMATS.get(ending[0]) if ending else None
    if reader is None:
        raise ConfigurationError(
            field=str(path), problem="has an unknown format", remedy=f"Pass a {known} file (also with .gz)"
        )
    try:
        yield from reader(path, options)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "Check the path" if isinstance(error, FileNotFoundError) else None
        raise ConfigurationError(
            field=path.name, problem=f"cannot be read: {reason}", remedy=remedy
        ) from error


@attrs.define
class _Source:
    """An open file, decompressed while it is read."""

    path: Path
    file: IO[bytes]
    _raw: IO[bytes]
    _size: int

    @classmethod
    def open(cls, path: Path) -> "_Source":
        """Open a file.

        Raises:
            ConfigurationError: The file is encoded in UTF-16.
        """
        raw = path.open("rb")
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if path.suffix.lower() == ".gz" else raw
        source = cls(path, file, raw, path.stat().st_size)
        if raw.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raw.close()
            raise ConfigurationError(field=path.name, problem="is UTF-16", remedy="Save it as UTF-8")
        return source

    def read_after(self, rest: bytes | bytearray) -> bytearray:
        """Read the next block of the file, and return a buffer with *rest* and the new bytes.

        At the end of the file, the buffer contains only *rest*.
        """
        buffer = bytearray(len(rest) + _BLOCK)
        buffer[: len(rest)] = rest
        size = len(rest)
        with memoryview(buffer) as view:
            while more := cast("io.BufferedIOBase", self.file).readinto(view[size:]):
                size += more
        del buffer[size:]
        return buffer

    @property
    def fraction(self) -> float | None:
        """The fraction of the file that has been read."""
        is_open = self._size and not self._raw.closed
        return min(1.0, self._raw.tell() / self._size) if is_open else None

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        self._raw.close()


@attrs.frozen
class JsonLines:
    """A block of JSON Lines. The number of a row is its line number, counted from 1."""

    file: str
    payload: bytearray
    first: int
    fraction: float | None
    is_for_python: bool = False

    @property
    def count(self) -> int:
        """The number of lines, including empty lines, which are not rows."""
        return _count_lines(self.payload)

    @property
    def names(self) -> tuple[str, ...]:
        """The column names in a sample of the lines."""
        found: dict[str, None] = {}
        for start in range(0, len(self.payload), len(self.payload) // _SAMPLED + 1):
            begin = self.payload.rfind(b"\n", 0, start) + 1
            end = self.payload.find(b"\n", begin)
            line = self.payload[begin:] if end < 0 else self.payload[begin:end]
            row = _parsed_line(line) if line.strip() else None
            found |= dict.fromkeys(row) if isinstance(row, dict) else {}
        return tuple(found)

    def rows(self, chosen: Iterable[int] | None = None) -> Iterator[Placed]:
        """Yield the rows. Empty lines are skipped."""
        lines = self.payload.split(b"\n")
        for index in range(self.count) if chosen is None else chosen:
            line = bytes(lines[index]).removeprefix(_BOM).removesuffix(b"\r")
            if line.strip():
                number = self.first + index
                identity = f"{self.file}\0{number}\0".encode() + line
                yield Placed(f"{self.file}, line {number}", _parsed_line(line), identity, index=index)


def _count_lines(payload: bytes | bytearray) -> int:
    return payload.count(b"\n") + (not payload.endswith(b"\n"))


def _parsed_line(line: bytes | bytearray) -> Any:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8: {error.reason}", line.decode(errors="backslashreplace"))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        shortened = text.rstrip().removesuffix(",")
        if len(shortened) < len(text.rstrip()):
            # The lines are elements of a JSON list.
            return _parsed_line(shortened.encode())
        return Unreadable(f"is not JSON: {error}", text)


def _json_lines(path: Path, _options: RowOptions) -> Iterator[Block]:
    with closing(_Source.open(path)) as source:
        first, rest = 1, bytearray()
        while len(payload := source.read_after(rest)) > len(rest):
            end = payload.rfind(b"\n") + 1
            rest = payload[end:]
            del payload[end:]
            if payload:
                yield (block := JsonLines(_name(path), payload, first, source.fraction))
                first += block.count
            elif len(rest) > _LONGEST_LINE:
                raise ConfigurationError(
                    field=f"{path.name}, line {first}",
                    problem=f"is longer than {_LONGEST_LINE // 1024**2} MB",
                    remedy="A file with one row per line has line breaks between the rows",
                )
        if rest:
            yield JsonLines(_name(path), rest, first, source.fraction)


def _json(path: Path, _options: RowOptions) -> Iterator[Block]:
    with closing(_Source.open(path)) as source:
        text = source.file.read().decode("utf-8-sig")
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            rows = _without_trailing_comma(text)
            if rows is None:
                remedy = _ONE_ROW_A_LINE if str(error).startswith("Extra data") else None
                raise ConfigurationError(
                    field=path.name, problem=f"is not JSON: {error}", remedy=remedy
                ) from None
        if isinstance(rows, Mapping) and isinstance(rows.get("data"), list):
            # Responses of the request API are objects that contain the rows.
            rows = rows["data"]
        if not isinstance(rows, list):
            raise ConfigurationError(
                field=path.name, problem="must be a list of rows", remedy=_ONE_ROW_A_LINE
            )
        for first in range(0, len(rows), _ROWS_OF_BLOCK):
            part = rows[first : first + _ROWS_OF_BLOCK]
            placed = [Placed(f"{path.name}, row {first + place}", row) for place, row in enumerate(part)]
            yield RowList(placed, source.fraction)


def _without_trailing_comma(text: str) -> Any:
    """Parse a JSON list that ends with a comma. Programs that append rows to a file leave such lists."""
    start, comma, end = text.rpartition(",")
    if not comma or end.strip() not in ("", "]"):
        return None
    try:
        return json.loads(f"{start}]")
    except (ValueError, RecursionError):
        return None


@attrs.frozen
class RowList:
    """Rows that are already Python objects, or that cannot be read."""

    placed: list[Placed]
    fraction: float | None
    names: tuple[str, ...] = ()
    is_for_python: bool = True

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.placed)

    def rows(self, chosen: Iterable[int] | None = None) -> Iterator[Placed]:
        """Yield the rows."""
        return iter(self.placed if chosen is None else [self.placed[index] for index in chosen])


@attrs.frozen
class CsvRows:
    """Complete CSV rows, each with as many fields as the header row. Rows are numbered from 1."""

    file: str
    text: str
    first: int
    fraction: float | None
    names: tuple[str, ...]
    # The line number at which each row ends.
    lines: list[int]
    is_for_python: bool
    skips_spaces: bool = False

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.lines)

    @property
    def payload(self) -> bytes:
        """The unchanged text of the rows in UTF-8."""
        return self.text.encode()

    def rows(self, chosen: Iterable[int] | None = None) -> Iterator[Placed]:
        """Yield the rows. Empty fields are missing values."""
        wanted = None if chosen is None else set(chosen)
        reader = csv.reader(
            io.StringIO(self.text, newline=""), strict=True, skipinitialspace=self.skips_spaces
        )
        for index, fields in enumerate(reader):
            if wanted is None or index in wanted:
                yield _csv_row(self, index, self.lines[index], fields)


@attrs.frozen
class CsvLines:
    """Lines of a CSV file. Each line is one row or is unreadable; see `_is_row_per_line`."""

    file: str
    payload: bytes
    first: int
    fraction: float | None
    names: tuple[str, ...]
    # The line number of the first line.
    first_line: int
    is_for_python: bool = False

    @property
    def count(self) -> int:
        """The number of rows."""
        return _count_lines(self.payload)

    def rows(self, chosen: Iterable[int] | None = None) -> Iterator[Placed]:
        """Yield the rows. Empty fields are missing values."""
        lines = self.payload.split(b"\n")
        for index in range(self.count) if chosen is None else chosen:
            text = lines[index].decode()
            try:
                (fields,) = csv.reader([text], strict=True)
            except csv.Error as error:
                wrong = Unreadable(f"is not CSV: {error}", _shown(text))
                yield Placed(f"{self.file}, line {self.first_line + index}", wrong, index=index)
            else:
                yield _csv_row(self, index, self.first_line + index, fields)


def _csv_row(block: CsvRows | CsvLines, index: int, line: int, fields: list[str]) -> Placed:
    where = f"{block.file}, line {line}"
    if len(fields) != len(block.names):
        return Placed(where, Unreadable(_OTHER_FIELDS, fields), index=index)
    identity = "\0".join([block.file, str(block.first + index), *fields]).encode()
    row = {name: field or None for name, field in zip(block.names, fields, strict=True)}
    return Placed(where, row, identity, index=index)


def _is_row_per_line(text: bytes, fields: int) -> bool:
    """Whether both Python's `csv` module and ClickHouse certainly read each line of the text as one row.

    This is true if quotes follow RFC 4180, no field contains a line break, no line is empty, and each line
    has exactly *fields* fields.
    """
    start = 0
    while start < len(text):
        # The text is checked in pieces that fit into the processor's cache, which is twice as fast.
        end = text.find(b"\n", start + _PIECE) + 1 or len(text)
        if not _is_piece_row_per_line(text[start:end], fields):
            return False
        start = end
    return fields > 1 and start > 0


def _is_piece_row_per_line(text: bytes, fields: int) -> bool:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if b"\0" in text or b"\r" in text:
        return False
    # Quotes inside quoted fields are doubled. All other quotes alternately open and close fields.
    parts = text.replace(b'""', b"").split(b'"')
    unquoted = b"\n%b\n" % b'"'.join(parts[::2]).removesuffix(b"\n")
    quoted = len(parts) // 2
    lines = _count_lines(text)
    return (
        len(parts) % 2 == 1
        and unquoted.count(b"\n") == lines + 1
        and b"\n\n" not in unquoted
        and unquoted.count(b",") == (fields - 1) * lines
        and unquoted.count(b',"') + unquoted.count(b'\n"') == quoted
        and unquoted.count(b'",') + unquoted.count(b'"\n') == quoted
    )


def _csv(path: Path, _options: RowOptions) -> Iterator[Block]:
    # A body can be longer than 131,072 characters, the default limit of the csv module.
    csv.field_size_limit(2**31 - 1)
    with closing(_Source.open(path)) as source:
        yield from _CsvReader(_name(path), source).blocks()


class _CsvReader:
    """Splits a CSV file into blocks. The `csv` module determines where rows end and which rows are valid."""

    def __init__(self, file: str, source: _Source) -> None:
        self._file = file
        self._source = source
        self._names: tuple[str, ...] = ()
        self._skips_spaces = False
        self._first = 1
        # The number of lines before the current lines.
        self._before = 0

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks.

        Raises:
            ConfigurationError: The header row cannot be used, or a row is incomplete.
        """
        text = self._after_header(self._source.file.read(_BLOCK).removeprefix(_BOM))
        while text:
            more = self._source.file.read(_BLOCK)
            end = len(text) if not more else text.rfind(b"\n") + 1
            whole, text = text[:end], text[end:]
            if not self._skips_spaces and _is_utf8(whole) and _is_row_per_line(whole, len(self._names)):
                yield self._lines(whole)
            else:
                lines = _lines_of(whole)
                done = yield from self._rows_of(lines, is_last=not more)
                self._before += done
                text = "".join(lines[done:]).encode(errors="surrogateescape") + text
            if len(text) > _LONGEST_LINE:
                raise ConfigurationError(
                    field=f"{self._file}, line {self._before + 1}",
                    problem=f"begins a row of more than {_LONGEST_LINE // 1024**2} MB",
                    remedy="Check whether a quote is never closed",
                )
            text += more

    def _lines(self, text: bytes) -> CsvLines:
        block = CsvLines(self._file, text, self._first, self._source.fraction, self._names, self._before + 1)
        self._first += block.count
        self._before += block.count
        return block

    def _after_header(self, text: bytes) -> bytes:
        lines = _lines_of(text)
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise self._bad_header(f"is not CSV: {error}") from None
        if not _is_utf8("".join(header)):
            raise self._bad_header("is not UTF-8")
        if len(header) == 1 and (other := next((sign for sign in ";\t|" if sign in header[0]), None)):
            raise self._bad_header(f"must have commas between the fields, got {other!r}")
        # Spaces after the commas mean that the file was written by hand.
        self._skips_spaces = any(name.startswith(" ") for name in header)
        self._names = tuple(name.strip(" \t\ufeff") for name in header)
        if twice := _repeated(self._names):
            raise self._bad_header(_named_twice(twice))
        self._before = reader.line_num
        return text[len("".join(lines[: reader.line_num]).encode(errors="surrogateescape")) :]

    def _bad_header(self, problem: str) -> ConfigurationError:
        return ConfigurationError(field=f"{self._file}, line 1", problem=problem)

    def _rows_of(self, lines: list[str], *, is_last: bool) -> Generator[Block, None, int]:
        """Yield blocks of complete rows, and return the number of lines that the blocks cover."""
        begin = end = 0
        while begin < len(lines):
            reader = csv.reader(
                itertools.islice(lines, begin, None), strict=True, skipinitialspace=self._skips_spaces
            )
            ends: list[int] = []
            end = begin
            wrong: Unreadable | None = None
            try:
                for fields in reader:
                    start, end = end, begin + reader.line_num
                    if len(fields) != len(self._names):
                        if fields:
                            wrong = Unreadable(_OTHER_FIELDS, fields)
                        else:
                            end = start
                        break
                    ends.append(end)
            except csv.Error as error:
                start, end = end, begin + reader.line_num
                if end == len(lines) and not is_last and "unexpected end" in str(error):
                    yield from self._cut(lines, begin, ends)
                    return start
                since = "" if end == start + 1 else f" (the row begins at line {self._before + start + 1})"
                wrong = Unreadable(f"is not CSV: {error}{since}", _shown("".join(lines[start:end])))
            yield from self._cut(lines, begin, ends)
            if wrong is not None:
                yield self._wrong(wrong, end)
            # If nothing else has ended the loop, the line after the last row is empty.
            begin = end if wrong is not None or end == len(lines) else end + 1
        return len(lines)

    def _cut(self, lines: list[str], begin: int, ends: list[int]) -> Iterator[Block]:
        """Yield the rows delimited by *ends*, as one block if all of them are UTF-8."""
        if not ends:
            return
        text = "".join(lines[begin : ends[-1]])
        numbers = [self._before + end for end in ends]
        if _is_utf8(text):
            # In files with a single column, ClickHouse reads empty lines as rows. It also supports only the
            # usual line breaks.
            is_plain = len(self._names) > 1 and "\0" not in text and text.count("\r") == text.count("\r\n")
            yield CsvRows(
                self._file,
                text,
                self._first,
                self._source.fraction,
                self._names,
                numbers,
                self._skips_spaces or not is_plain,
                self._skips_spaces,
            )
            self._first += len(ends)
            return
        for start, end in itertools.pairwise([begin, *ends]):
            if _is_utf8("".join(lines[start:end])):
                yield from self._cut(lines, start, [end])
            else:
                yield self._wrong(Unreadable("is not UTF-8", _shown("".join(lines[start:end]))), end)

    def _wrong(self, wrong: Unreadable, end: int) -> Block:
        self._first += 1
        placed = Placed(f"{self._file}, line {self._before + end}", wrong)
        return RowList([placed], self._source.fraction)


def _shown(text: str) -> str:
    text = text.rstrip("\r\n")
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _lines_of(text: bytes) -> list[str]:
    """Split *text* into lines that include their line breaks. Invalid UTF-8 is detected later, row by row."""
    return io.StringIO(text.decode(errors="surrogateescape"), newline="").readlines()


def _is_utf8(text: str | bytes) -> bool:
    try:
        return text.isascii() or bool(text.decode() if isinstance(text, bytes) else text.encode())
    except UnicodeError:
        return False


def _repeated(names: Sequence[str]) -> str | None:
    """Find the first repeated name. Columns without a name are ignored."""
    seen: set[str] = set()
    return next((name for name in names if name and (name in seen or seen.add(name))), None)  # type: ignore[func-returns-value]


def _named_twice(name: str) -> str:
    return f"has the column {name!r} twice; names must be unique"


@attrs.frozen
class ArrowRows:
    """A batch of rows from a Parquet file or a frame. Rows are numbered from 0.

    Args:
        batch: The columns that are known fields.
        names: The names of all columns of the source.
    """

    file: str
    batch: Any
    first: int
    fraction: float | None
    names: tuple[str, ...]
    is_for_python: bool = False

    @property
    def count(self) -> int:
        """The number of rows."""
        return int(self.batch.num_rows)

    def rows(self, chosen: Iterable[int] | None = None) -> Iterator[Placed]:
        """Yield the rows. Each value is read separately, so that an invalid value affects no other value."""
        indexes = range(self.count) if chosen is None else list(chosen)
        columns = [
            (name, [_value(column, index) for index in indexes])
            for name, column in zip(self.batch.schema.names, self.batch.columns, strict=True)
        ]
        for place, index in enumerate(indexes):
            row = {name: values[place] for name, values in columns}
            wrong = next((value for value in row.values() if isinstance(value, Unreadable)), None)
            if wrong is not None:
                field = next(name for name, value in row.items() if value is wrong)
                shown = {name: None if value is wrong else value for name, value in row.items()}
                wrong = attrs.evolve(wrong, field=field, content=shown)
            yield Placed(f"{self.file}, row {self.first + index}", wrong or row, index=index)


def _value(column: Any, index: int) -> Any:
    try:
        scalar = column[index]
        value = scalar.as_py()
        # If a map repeats a key, the last value is used, as in ClickHouse's drivers.
        return dict(value) if value is not None and hasattr(scalar.type, "key_type") else value
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:
        return Unreadable(f"cannot be read: {error}", None)


def _parquet(path: Path, options: RowOptions) -> Iterator[Block]:
    with _arrow_errors(path.name, "reading Parquet"):
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            known = _known_names(path.name, names, options)
            metadata = file.metadata
            size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
            rows = min(_ROWS_OF_BLOCK, max(1, _BLOCK * metadata.num_rows // max(size, 1)))
            batches = file.iter_batches(batch_size=rows, columns=known, use_threads=False)
            first = 0
            for batch in batches:
                first += batch.num_rows
                yield ArrowRows(_name(path), batch, first - batch.num_rows, first / metadata.num_rows, names)


def _frame(data: Any, options: RowOptions) -> Iterator[Block]:
    import pyarrow as pa

    first = 0
    with pa.RecordBatchReader.from_stream(data) as reader:
        names = tuple(reader.schema.names)
        known = _known_names("the frame", names, options)
        for whole in reader:
            for start in range(0, whole.num_rows, _ROWS_OF_BLOCK):
                batch = whole.slice(start, _ROWS_OF_BLOCK).select(known)
                yield ArrowRows("the frame", batch, first, None, names)
                first += batch.num_rows


def _known_names(file: str, names: tuple[str, ...], options: RowOptions) -> list[str]:
    if twice := _repeated(names):
        raise ConfigurationError(field=file, problem=_named_twice(twice))
    return [name for name in names if is_known(field_name(name, options))]


@contextmanager
def _arrow_errors(file: str, purpose: str) -> Iterator[None]:
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        raise MissingExtra("local", package="pyarrow", purpose=purpose) from error
    try:
        yield
    except ArrowException as error:
        raise ConfigurationError(field=file, problem=f"cannot be read: {masked_text(str(error))}") from error


_FORMATS: Final[dict[str, Callable[[Path, RowOptions], Iterator[Block]]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
