"""Where rows come from: memory, or a file of one of the known formats."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, cast

import attrs

from helicone_sessions.errors import ConfigurationError, MissingExtra

Rows = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
Data = str | os.PathLike[str] | Rows

# Rows of a Parquet file that are Python objects at a time.
_PARQUET_BATCH: Final = 4096
_ONE_ROW_A_LINE: Final = "A file with one row per line is named .jsonl"


@attrs.frozen
class Unreadable:
    """A part of a file that should be a row and cannot be read.

    Args:
        reason: What is wrong with it; continues a sentence.
        content: The part of the file.
    """

    reason: str
    content: Any


Placed = tuple[str, Mapping[str, Any] | Unreadable]
"""A row and its position, for error messages."""


def is_path(data: Data) -> bool:
    """Whether *data* names a file; otherwise it is the rows.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(data, (str, os.PathLike)):
        return True
    if isinstance(data, (bytes, Mapping)) or not isinstance(data, (Iterable, AsyncIterable)):
        raise ConfigurationError(
            argument="data", problem=f"must be a path or an iterable of rows, got {type(data).__name__}"
        )
    return False


def read(data: Data) -> Iterator[Placed]:
    """The rows of *data*, each with its place.

    Raises:
        ConfigurationError: The file is not there, is of another format, or is broken.
    """
    if is_path(data):
        if not (path := os.fspath(cast("str | os.PathLike[str]", data))):
            raise ConfigurationError(
                argument="data", problem="is an empty path", remedy="Name a file, or leave it out"
            )
        yield from _read_file(Path(path))
    else:
        for place, row in enumerate(cast("Iterable[Mapping[str, Any]]", data)):
            yield f"row {place}", row


def _read_file(path: Path) -> Iterator[Placed]:
    known = ", ".join(_FORMATS)
    if path.is_dir():
        raise ConfigurationError(
            field=str(path), problem="is a directory", remedy=f"Pass one file ({known}, also with .gz)"
        )
    ending = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    reader = _FORMATS.get(ending.lower())
    if reader is None:
        raise ConfigurationError(
            field=str(path), problem="has an unknown format", remedy=f"Pass a {known} file (also with .gz)"
        )
    try:
        for where, row in reader(path):
            yield f"{path.name}, {where}", row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(field=path.name, problem=f"cannot be read: {reason}") from error


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _opened_text(path: Path, errors: str = "strict") -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=errors, newline="")
    return path.open(encoding="utf-8-sig", errors=errors, newline="")


def _json_lines(path: Path) -> Iterator[Placed]:
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            encoded = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if encoded.strip():
                yield f"line {number}", _parsed_line(encoded)


def _parsed_line(line: bytes) -> Any:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        shown = line.rstrip(b"\r\n").decode(errors="backslashreplace")
        return Unreadable(f"is not UTF-8: {error.reason}", shown)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"is not JSON: {error}", text.rstrip("\r\n"))


def _json(path: Path) -> Iterator[Placed]:
    with _opened_text(path) as file:
        text = file.read()
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        remedy = _ONE_ROW_A_LINE if str(error).startswith("Extra data") else None
        raise ConfigurationError(field=path.name, problem=f"is not JSON: {error}", remedy=remedy) from None
    if isinstance(rows, Mapping) and isinstance(rows.get("data"), list):
        # The export as the request API answers it.
        rows = rows["data"]
    if not isinstance(rows, list):
        raise ConfigurationError(field=path.name, problem="must be a list of rows", remedy=_ONE_ROW_A_LINE)
    for place, row in enumerate(rows):
        yield f"row {place}", row


def _csv(path: Path) -> Iterator[Placed]:
    # Invalid UTF-8 is detected below, row by row.
    with _opened_text(path, errors="surrogateescape") as file:
        # A body can be longer than the 131,072 characters that the module takes by default.
        csv.field_size_limit(2**31 - 1)
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        header = _csv_header(path, reader)
        while True:
            lines.taken.clear()
            first = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                begin = "" if first == reader.line_num else f" (the row begins at line {first})"
                wrong = Unreadable(f"is not CSV: {error}{begin}", lines.shown())
                yield f"line {reader.line_num}", wrong
                continue
            if fields is None:
                return
            where = f"line {reader.line_num}"
            if not _is_utf8(fields):
                yield where, Unreadable("is not UTF-8", lines.shown())
            elif len(fields) == len(header):
                # An empty field is a missing value.
                yield where, {name: field or None for name, field in zip(header, fields, strict=True)}
            elif fields:
                yield where, Unreadable("does not have as many fields as the header row", fields)


def _csv_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise _bad_header(path, f"is not CSV: {error}") from None
    if not _is_utf8(header):
        raise _bad_header(path, "is not UTF-8")
    if len(header) == 1 and (other := next((sign for sign in ";\t|" if sign in header[0]), None)):
        raise _bad_header(path, f"must have commas between the fields, got {other!r}")
    if twice := {name for name in header if header.count(name) > 1}:
        raise _bad_header(path, f"has two columns {min(twice)!r}")
    return header


def _bad_header(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(field=f"{path.name}, line 1", problem=problem)


def _is_utf8(fields: list[str]) -> bool:
    text = "".join(fields)
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


@attrs.define
class _Lines:
    """The lines of a file, of which those since the last row are kept."""

    lines: Iterator[str]
    taken: list[str] = attrs.field(factory=list)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.taken.append(line)
        return line

    def shown(self) -> str:
        """The lines of the current row, unchanged."""
        text = "".join(self.taken).rstrip("\r\n")
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _parquet(path: Path) -> Iterator[Placed]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        raise MissingExtra("local", package="pyarrow", purpose="reading Parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=_PARQUET_BATCH)
            rows = (row for batch in batches for row in batch.to_pylist(maps_as_pydicts="strict"))
            for place, row in enumerate(rows):
                yield f"row {place}", row
    except ArrowException as error:
        raise ConfigurationError(field=path.name, problem=f"cannot be read: {error}") from error


_FORMATS: Final[dict[str, Callable[[Path], Iterator[Placed]]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
