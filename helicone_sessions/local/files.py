"""Where rows come from: memory, or a file of one of the known formats."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from helicone_sessions.errors import ConfigurationError, MissingExtra

Data = str | os.PathLike[str] | Iterable[Mapping[str, Any]]


def read(data: Data) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of *data*, each with the place to name in an error.

    Raises:
        ConfigurationError: The file is not there, is of another format, or is broken.
    """
    if not isinstance(data, (str, os.PathLike)):
        rows: object = data
        if isinstance(rows, (bytes, Mapping)) or not isinstance(rows, Iterable):
            raise ConfigurationError(f"data is a path or an iterable of rows, not {type(data).__name__}")
        for place, row in enumerate(data):
            yield f"row {place}", row
        return
    path = Path(data)
    ending = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    reader = _FORMATS.get(ending.lower())
    if reader is None:
        known = ", ".join(_FORMATS)
        raise ConfigurationError(f"{path.name}: data is read from {known} files (.gz likewise)")
    try:
        for where, row in reader(path):
            yield f"{path.name}, {where}", row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error}") from error


_Rows = Iterator[tuple[str, Mapping[str, Any]]]


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _json_lines(path: Path) -> _Rows:
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"line {number}", _parsed(line, f"{path.name}, line {number}")


def _json(path: Path) -> _Rows:
    with _opened(path) as file:
        rows = _parsed(file.read(), path.name)
    if isinstance(rows, Mapping) and isinstance(rows.get("data"), list):
        # The export as the request API answers it.
        rows = rows["data"]
    if not isinstance(rows, list):
        raise ConfigurationError(f"{path.name}: a list of rows is due; one row a line is a .jsonl file")
    for place, row in enumerate(rows):
        yield f"row {place}", row


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: this is not JSON: {error}") from None


def _csv(path: Path) -> _Rows:
    with _opened(path) as file:
        # A body can be longer than the 131,072 characters that the module takes by default.
        csv.field_size_limit(2**31 - 1)
        reader = csv.DictReader(file, restkey="", strict=True)
        for row in reader:
            if "" in row or None in row.values():
                raise ConfigurationError(
                    f"{path.name}, line {reader.line_num}: the row has not as many fields as the head"
                )
            # An empty field is a missing value.
            yield f"line {reader.line_num}", {name: value or None for name, value in row.items()}


def _parquet(path: Path) -> _Rows:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        raise MissingExtra("local", package="pyarrow", purpose="reading Parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist(maps_as_pydicts="strict"))
            for place, row in enumerate(rows):
                yield f"row {place}", row
    except ArrowException as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error}") from error


_FORMATS: Final[dict[str, Callable[[Path], _Rows]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
