"""`Store`: runs read-only SQL on a store on disk, in a confined process."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import Limits, limit_settings
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.tabular import Row, Tabular, json_text

_WORKER: Final = "helicone_sessions.local.sql.worker"
DEFAULT_LIMITS: Final = Limits(seconds=60.0, memory=1024**3, threads=2)
# The process is killed this many seconds after the timeout of its statement.
_GRACE: Final = 2.0
# The dynamic loader needs these environment variables. The process gets no others.
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

# ClickHouse's error codes for exceeded limits, each with the field of `Limits` and the unit of the limit.
_TIMEOUT_EXCEEDED: Final = 159
_LIMITS: Final[Mapping[int, tuple[str, str]]] = {
    _TIMEOUT_EXCEEDED: ("seconds", "s"),
    241: ("memory", "bytes"),
    158: ("rows", "rows"),
}

_WRAPPED: Final = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")
_TIME: Final = re.compile(r"DateTime(?:64)?(?:\((?:\d+, )?(?:'([^']+)')?\d*\))?")
_WHOLE: Final = re.compile(r"U?Int(?:8|16|32|64)")
_FRACTIONAL: Final = re.compile(r"B?Float\d+|Decimal\(.*\)")
_LARGEST: Final = 2**63 - 1


@attrs.frozen(eq=False)
class SqlResult(Tabular):
    """The rows selected by a statement.

    Args:
        columns: A mapping from column names to ClickHouse types, in the order of the statement.
        values: The values of each row. Times are aware datetimes, arrays are lists, maps are dicts, and all
            other values have their JSON types.
        is_cut: Whether rows are missing because the statement selects more than ``limit`` rows.

    >>> SqlResult({"model": "String", "n": "UInt64"}, (("o3", 5),), is_cut=False).to_rows()
    [{'model': 'o3', 'n': 5}]
    """

    columns: Mapping[str, str]  # type: ignore[misc] # depends on the statement
    values: tuple[tuple[Any, ...], ...] = attrs.field(repr=False)
    is_cut: bool

    @property
    def column_types(self) -> dict[str, type]:  # type: ignore[override] # likewise
        """The types of columns that become `float`, `int` or `datetime` in frames. Others become text."""
        values = zip(*self.values, strict=True) if self.values else [()] * len(self.columns)
        kinds = {
            name: _column_type(type_, each)
            for (name, type_), each in zip(self.columns.items(), values, strict=True)
        }
        return {name: kind for name, kind in kinds.items() if kind is not None}

    def to_rows(self) -> list[Row]:
        """Return the rows as dicts with the column names as keys."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.values]

    def to_json(self) -> str:
        """Return the rows as a JSON array of objects, with times in ISO 8601.

        >>> SqlResult({"n": "UInt64"}, ((5,),), is_cut=False).to_json()
        '[{"n": 5}]'
        """
        return json_text(self.to_rows())

    def __len__(self) -> int:
        return len(self.values)


class Store:
    """Runs read-only SQL on a store on disk.

    Statements run one at a time in a separate process. That process can read the tables of the store, but it
    cannot write, read other files, or use the network. While a store is open, no other process can use it.

    Args:
        path: The directory of the store. `LocalServer` and `sync` create stores.
        limits: The limits for each statement. The default is 60 seconds, 1 GiB of memory and 2 threads.
        unconfined: Open the store even if the system lacks Landlock (Linux 5.13 or later). Statements can
            then read every file that your user account can read.

    Raises:
        ConfigurationError: The path is not a directory.

    >>> import asyncio, tempfile
    >>> from helicone_sessions.local import LocalServer, Store
    >>> async def main(path):
    ...     rows = [{"request_created_at": "2026-11-01T12:00:00Z", "model": "gpt-4o", "cost": 0.25}]
    ...     async with LocalServer(rows, path=path):
    ...         pass
    ...     async with Store(path, unconfined=True) as store:
    ...         return await store.sql("SELECT model, sum(cost) AS dollars FROM requests GROUP BY model")
    >>> with tempfile.TemporaryDirectory() as path:
    ...     result = asyncio.run(main(path))
    >>> result.to_rows(), result.is_cut
    ([{'model': 'gpt-4o', 'dollars': 0.25}], False)
    >>> result.columns
    {'model': 'LowCardinality(String)', 'dollars': 'Float64'}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limits: Limits = DEFAULT_LIMITS,
        unconfined: bool = False,
    ) -> None:
        self._path = Path(path).absolute()
        if not self._path.is_dir():
            raise ConfigurationError(
                argument="path",
                problem=f"must be the directory of a store, got {masked_repr(os.fspath(path))}",
                remedy="Create one with helicone-sessions sync or serve --path",
            )
        self._limits = limits
        self._is_unconfined = unconfined
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Open the store.

        Raises:
            ConfigurationError: Another process is using the store, the store is damaged or was written by an
                incompatible version, or this system cannot confine the process.
        """
        self._process = await self._started()
        self._is_open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        await self._stop()

    async def sql(self, text: str, *, limit: int | None = 1000) -> SqlResult:
        """Run one SELECT.

        Args:
            text: The statement, in ClickHouse's SQL dialect. The table is ``requests``. Its columns have the
                same names as in filters, and ``cost`` is in dollars.
            limit: The maximum number of rows to return. None returns all rows, up to 256 MB.

        Raises:
            ConfigurationError: ClickHouse rejects the statement, the statement exceeds a limit, or the store
                is closed.
        """
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ConfigurationError(
                argument="limit", problem=f"must be a whole number, 0 or more, got {masked_repr(limit)}"
            )
        request = {"text": _encodable(text), "limit": limit, "settings": limit_settings(self._limits)}
        async with self._lock:
            if not self._is_open:
                raise ConfigurationError(problem="the store is closed", remedy="Use it in `async with`")
            if self._process is None:
                self._process = await self._started()
            kind, body = await self._asked(self._process, request)
        if kind == "error":
            raise self._rejected(**json.loads(body))
        return _decoded(body, limit)

    async def _started(self) -> asyncio.subprocess.Process:
        search = [each or str(Path.cwd()) for each in sys.path]
        variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _WORKER, str(self._path), str(self._limits.memory or "")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**variables, "PYTHONPATH": os.pathsep.join(search)},
        )
        try:
            self._check(*await _response(process))
        except BaseException:
            await _ended(process)
            raise
        return process

    def _check(self, kind: str, body: bytes) -> None:
        found = json.loads(body)
        if kind == "refused":
            raise ConfigurationError(**found)
        if not (found["is_confined"] or self._is_unconfined):
            raise ConfigurationError(
                problem="this system has no Landlock, so a statement could read your user's files",
                remedy="Pass `unconfined` if you trust the statements",
            )

    async def _asked(self, process: asyncio.subprocess.Process, request: dict[str, Any]) -> tuple[str, bytes]:
        seconds = self._limits.seconds
        assert process.stdin is not None
        try:
            async with asyncio.timeout(None if seconds is None else seconds + _GRACE):
                process.stdin.write(json.dumps(request).encode() + b"\n")
                await process.stdin.drain()
                return await _response(process)
        except TimeoutError:
            await self._stop()
            raise self._rejected("", _TIMEOUT_EXCEEDED) from None
        except BaseException:
            # Otherwise the rest of the output would be read as the response to the next statement.
            await self._stop()
            raise

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _ended(process)

    def _rejected(self, problem: str, code: int | None) -> ConfigurationError:
        if code is not None and code in _LIMITS:
            name, unit = _LIMITS[code]
            return ConfigurationError(
                argument=f"limits.{name}",
                problem=f"is {getattr(self._limits, name)} {unit}, and the statement needs more",
                remedy="Select fewer rows, for example from a shorter time range, or increase the limit",
            )
        # This is not passed as `problem`, where names in backticks would be rendered as arguments.
        return ConfigurationError(f"ClickHouse rejects the statement: {problem}")


async def _response(process: asyncio.subprocess.Process) -> tuple[str, bytes]:
    assert process.stdout is not None
    try:
        kind, length = (await process.stdout.readuntil()).split()
        return kind.decode(), await process.stdout.readexactly(int(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise ConfigurationError(
            problem="the process of the statement ended unexpectedly",
            remedy="The store is not damaged. Select fewer rows, or use less memory",
        ) from None


async def _ended(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _encodable(text: str) -> str:
    try:
        text.encode()
    except (UnicodeEncodeError, AttributeError):
        raise ConfigurationError(
            argument="text", problem=f"must be a string of Unicode characters, got {masked_repr(text)}"
        ) from None
    return text


def _decoded(body: bytes, limit: int | None) -> SqlResult:
    try:
        found = json.loads(body.decode(errors="replace"))
    except RecursionError:
        raise ConfigurationError(problem="the result is nested too deeply", remedy="Select less") from None
    types = {column["name"]: column["type"] for column in found["meta"]}
    if len(types) < len(found["meta"]):
        names = [column["name"] for column in found["meta"]]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigurationError(
            problem=f"the statement has two columns with the name {masked_repr(twice)}",
            remedy="Rename one of them with AS",
        )
    rows = found["data"][:limit]
    converted = [_converted(type_, [row[i] for row in rows]) for i, type_ in enumerate(types.values())]
    return SqlResult(types, tuple(zip(*converted, strict=True)), is_cut=len(found["data"]) > len(rows))


def _column_type(type_: str, values: Sequence[Any]) -> type | None:
    """Return the type of a column in frames; None means text.

    >>> _column_type("UInt64", [1, 2]), _column_type("Nullable(Int64)", [1]), _column_type("String", [])
    (<class 'int'>, <class 'float'>, None)
    """
    plain = _plain(type_)
    if _WHOLE.fullmatch(plain):
        if "Nullable(" in type_:
            return float
        # Frames cannot hold larger integers, such as hashes.
        return int if max(values, default=0) <= _LARGEST else None
    if _FRACTIONAL.fullmatch(plain):
        return float
    return datetime if _TIME.fullmatch(plain) else None


def _converted(type_: str, values: list[Any]) -> list[Any]:
    """Convert the JSON values of a column. Times become datetimes in the time zone of the column.

    >>> _converted("DateTime64(3, 'Europe/Berlin')", ["2026-11-01T12:00:00.500Z"])[0].isoformat()
    '2026-11-01T13:00:00.500000+01:00'
    """
    found = _TIME.fullmatch(_plain(type_))
    if found is None:
        return values
    zone = ZoneInfo(found[1]) if found[1] else UTC
    return [value and datetime.fromisoformat(value).astimezone(zone) for value in values]


def _plain(type_: str) -> str:
    while found := _WRAPPED.fullmatch(type_):
        type_ = found[1]
    return type_
