"""Two files next to the tables of a store: the record of its rows, and the checkpoint of a sync.

If parts of a table are unreadable, ClickHouse sets them aside and continues with the other parts. The record
makes it possible to detect the missing rows. The checkpoint contains, for each organisation, the time ranges
whose requests are completely stored. The checkpoint is written after the rows. If the process is killed
between these two writes, the next sync copies the rows again, and they replace the existing rows.
"""

import asyncio
import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import DriverError, WritableDriver, rows_of
from helicone_sessions.local.private_files import replace_durably
from helicone_sessions.local.storage.table import OWN_TABLES, REQUESTS_TABLE, TAGS_TABLE
from helicone_sessions.masking import masked_text

_LOG: Final = logging.getLogger(__name__)

RECORD_FILE: Final = "helicone-sessions.json"
CHECKPOINT_FILE: Final = "helicone-sync.json"
_TABLES: Final = (
    "SELECT name FROM system.tables WHERE database = {database:String}"
    f" AND name IN ({', '.join(map(repr, OWN_TABLES))})"
)
_DETACHED: Final = "SELECT table, name FROM system.detached_parts WHERE database = {database:String}"
_MOST_NAMED: Final = 3
_LONGEST_REASON: Final = 200


@attrs.frozen
class Record:
    """The numbers of rows in a store.

    Args:
        requests: The number of requests.
        tags: The number of different tags.
        is_moving: Whether a load is moving rows into the store. If so, there may be more rows than recorded.
    """

    requests: int = 0
    tags: int = 0
    is_moving: bool = False

    @classmethod
    def read(cls, directory: Path) -> "Record | None":
        """Read the record in *directory*. Return None if the file is missing.

        Raises:
            ValueError: The record is damaged.
            OSError: The record cannot be read.
        """
        try:
            text = (directory / RECORD_FILE).read_bytes()
        except FileNotFoundError:
            return None
        content, _, checksum = text.rpartition(b"\n")
        if checksum != _checksum(content):
            raise ValueError("its checksum is wrong")
        fields = json.loads(content)
        return cls(fields["requests"], fields["tags"], fields["is_moving"])

    def write(self, directory: Path) -> None:
        """Replace the record in *directory* durably.

        Raises:
            DriverError: The record cannot be written.
        """
        content = json.dumps(attrs.asdict(self)).encode()
        path = directory / RECORD_FILE
        try:
            replace_durably(path, content + b"\n" + _checksum(content))
        except OSError as error:
            raise DriverError(f"{path} cannot be written: {error.strerror}") from error


def _checksum(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)


@attrs.frozen
class Inspection:
    """The state of a store on disk.

    Args:
        record: The record; None if it is missing or unreadable.
        losses: Descriptions of the damage. Each description is a part of a sentence.
        broken: The table and the name of each part that is in use and cannot be read.
    """

    record: Record | None
    losses: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def error(self, directory: Path) -> ConfigurationError:
        """Build the error for a store that has lost rows."""
        more = len(self.losses) - _MOST_NAMED
        named = [*self.losses[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]
        return ConfigurationError(
            argument="path",
            problem=f"{str(directory)!r} is a damaged store: {'; '.join(named)}",
            remedy="Restore it from a backup, or pass `accept_loss` to open it with the remaining rows",
        )


async def inspect(driver: WritableDriver, database: str, directory: Path) -> Inspection:
    """Read all parts of a store, and compare the numbers of rows with the record."""
    try:
        record = Record.read(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return Inspection(None, (f"{RECORD_FILE}, the record of its rows, cannot be read",))
    tables = {table for (table,) in await rows_of(driver, _TABLES, database=database)}
    if record is not None and (missing := [table for table in OWN_TABLES if table not in tables]):
        return Inspection(record, tuple(f"the table {table} is missing" for table in missing))
    damaged = await _damaged_parts(driver, database, sorted(tables))
    losses = list(damaged.values())
    if not damaged and tables.issuperset(OWN_TABLES):
        losses = _differences(record, *await _count_rows(driver, database))
    if losses and not damaged:
        parts = await rows_of(driver, _DETACHED, database=database)
        losses += [f"ClickHouse could not read {part} of {table}" for table, part in parts]
    return Inspection(record, tuple(losses), tuple(damaged))


async def _damaged_parts(
    driver: WritableDriver, database: str, tables: Iterable[str]
) -> dict[tuple[str, str], str]:
    """Find the damaged parts. Return a description of the damage by table and part name."""
    damaged = {}
    for table in tables:
        for part, is_intact, reason in await rows_of(driver, f"CHECK TABLE {database}.{table}"):
            if not is_intact:
                why = masked_text(reason, most=_LONGEST_REASON)
                damaged[table, part] = f"part {part} of {table} is damaged ({why})"
    return damaged


def _differences(record: Record | None, requests: int, tags: int) -> list[str]:
    if record is None:
        return [f"{RECORD_FILE}, the record of its rows, is missing"] if requests or tags else []
    wrong = []
    if requests < record.requests:
        wrong.append(f"{record.requests - requests:,} of its {record.requests:,} requests are missing")
    if requests > record.requests and not record.is_moving:
        wrong.append(f"{requests - record.requests:,} replaced requests have reappeared")
    if tags < record.tags:
        wrong.append(f"{record.tags - tags:,} of its {record.tags:,} tags are missing")
    return wrong


@attrs.define
class RecordKeeper:
    """Updates the record of a store when loads change the store. A store in memory has no record.

    Args:
        driver: The connection.
        database: The database of the store.
        directory: The directory of the store; None if it is in memory.
        record: The current record.
    """

    driver: WritableDriver
    database: str
    directory: Path | None
    record: Record = Record()

    async def keep(self, record: Record) -> None:
        """Write *record*, unless it equals the current record.

        Raises:
            DriverError: The record cannot be written.
        """
        if self.directory is not None and record != self.record:
            await asyncio.to_thread(record.write, self.directory)
        self.record = record

    async def begin_move(self, replaced: int) -> None:
        """Record the start of a move that first deletes *replaced* existing requests.

        Raises:
            DriverError: The record cannot be written.
        """
        remaining = max(0, self.record.requests - replaced)
        await self.keep(Record(remaining, self.record.tags, is_moving=True))

    async def end_move(self) -> None:
        """Count the rows after a move, and record the result.

        Raises:
            DriverError: The rows cannot be counted, or the record cannot be written.
        """
        if self.directory is not None:
            await self.keep(Record(*await _count_rows(self.driver, self.database)))


async def _count_rows(driver: WritableDriver, database: str) -> tuple[int, int]:
    """Count the requests and the different tags in a store."""
    requests = await rows_of(driver, f"SELECT count() FROM {database}.{REQUESTS_TABLE}")
    tags = await rows_of(driver, f"SELECT count() FROM {database}.{TAGS_TABLE} FINAL")
    return int(requests[0][0]), int(tags[0][0])


Period = tuple[datetime, datetime]
"""A time range, given by its start and its exclusive end."""


@attrs.frozen
class Coverage:
    """The time ranges in which all requests of one organisation are stored.

    Args:
        periods: The time ranges, sorted and without overlap.
        newest: The time of the newest request.

    >>> from datetime import UTC
    >>> day = lambda number: datetime(2026, 11, number, tzinfo=UTC)
    >>> covered = Coverage().plus(day(1), day(3)).plus(day(5), day(7))
    >>> [(start.day, end.day) for start, end in covered.missing(day(2), day(9))]
    [(3, 5), (7, 9)]
    >>> len(covered.plus(day(3), day(5)).periods)
    1
    """

    periods: tuple[Period, ...] = ()
    newest: datetime | None = None

    def plus(self, start: datetime, end: datetime) -> "Coverage":
        """Return the coverage with an additional period, which may be empty or overlap other periods."""
        merged: list[Period] = []
        for first, last in sorted([*self.periods, *([(start, end)] if start < end else [])]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return attrs.evolve(self, periods=tuple(merged))

    def with_newest(self, moment: datetime) -> "Coverage":
        """Return the coverage after adding a request that was made at *moment*."""
        return attrs.evolve(self, newest=max(moment, self.newest or moment))

    def missing(self, start: datetime, end: datetime) -> Iterator[Period]:
        """Yield the periods between *start* and *end* that are not covered, in ascending order."""
        for first, last in self.periods:
            if start < min(first, end):
                yield start, min(first, end)
            start = max(start, last)
        if start < end:
            yield start, end


def read_checkpoint(directory: Path, organization: UUID) -> Coverage:
    """Read the coverage of an organisation. The coverage is empty if the file is missing or damaged.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    found = _read(directory).get(str(organization))
    try:
        return Coverage() if found is None else _coverage(found)
    except (TypeError, ValueError, KeyError):
        _LOG.warning("%s is damaged; the sync starts from the beginning", directory / CHECKPOINT_FILE)
        return Coverage()


def write_checkpoint(directory: Path, organization: UUID, coverage: Coverage) -> None:
    """Durably replace the coverage of an organisation in the checkpoint file.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    newest = coverage.newest
    entry = {
        "covered": [[start.isoformat(), end.isoformat()] for start, end in coverage.periods],
        "newest": None if newest is None else newest.isoformat(),
    }
    whole = {**_read(directory), str(organization): entry}
    try:
        replace_durably(directory / CHECKPOINT_FILE, json.dumps(whole, indent=1).encode())
    except OSError as error:
        raise _unusable(directory, "written", error) from error


def delete_checkpoint(directory: Path) -> None:
    """Delete the checkpoint after rows were lost, so that the next sync copies everything again.

    Raises:
        ConfigurationError: The file cannot be deleted.
    """
    try:
        (directory / CHECKPOINT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(directory, "deleted", error) from error


def _read(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / CHECKPOINT_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        _LOG.warning("%s is damaged; the sync starts from the beginning", directory / CHECKPOINT_FILE)
        return {}
    except OSError as error:
        raise _unusable(directory, "read", error) from error
    return found if isinstance(found, dict) else {}


def _coverage(entry: dict[str, Any]) -> Coverage:
    coverage = Coverage()
    for start, end in entry["covered"]:
        coverage = coverage.plus(_moment(start), _moment(end))
    newest = entry["newest"]
    return coverage if newest is None else coverage.with_newest(_moment(newest))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no time zone")
    return moment


def _unusable(directory: Path, action: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        argument="path",
        problem=f"{str(directory / CHECKPOINT_FILE)!r} cannot be {action}: {error.strerror}",
        remedy="Check the permissions of the directory",
    )
