"""The checkpoint of a sync: the time ranges whose requests a store holds completely, by organisation.

It is written after the rows: after a kill between the two, the next sync reads and replaces them.
"""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.private_files import replace_durably

CHECKPOINT_FILE: Final = "helicone-sync.json"
_LOG: Final = logging.getLogger(__name__)

Period = tuple[datetime, datetime]
"""A start and an end; the end is excluded."""


@attrs.frozen
class Coverage:
    """The time ranges of one organisation whose requests are stored.

    Args:
        periods: The time ranges, in order and without overlap.
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
        """The coverage with one more period, which may overlap others or be empty."""
        merged: list[Period] = []
        for first, last in sorted([*self.periods, *([(start, end)] if start < end else [])]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return attrs.evolve(self, periods=tuple(merged))

    def with_newest(self, moment: datetime) -> "Coverage":
        """The coverage after a request of this time."""
        return attrs.evolve(self, newest=max(moment, self.newest or moment))

    def missing(self, start: datetime, end: datetime) -> Iterator[Period]:
        """The periods between *start* and *end* that are not covered, in order."""
        for first, last in self.periods:
            if start < min(first, end):
                yield start, min(first, end)
            start = max(start, last)
        if start < end:
            yield start, end


def read_checkpoint(directory: Path, organization: UUID) -> Coverage:
    """The coverage of an organisation; empty if the file is missing or damaged.

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
    """Replace the coverage of an organisation; when this returns, it survives a power failure.

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
    """Forget the coverage, because rows are lost: the next sync reads everything again.

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
