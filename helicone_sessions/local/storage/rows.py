"""Users' rows, read into the columns of the table.

A row comes under the table's own column names or under those of Helicone's request export. What cannot be
read is an error that names the row and the field; a column that is not known is reported.
"""

import json
import reprlib
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.clock import current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.storage.readers import Placed, Unreadable
from helicone_sessions.local.storage.row_values import ITEM_READERS, REQUEST_READERS, Reader, read_texts
from helicone_sessions.local.storage.table import FEEDBACK, REQUEST_COLUMNS, SESSION_ID, SESSION_NAME

DEFAULT_ORGANIZATION: Final = UUID("00000000-0000-4000-8000-000000000001")

# A batch ends with the first of these that it reaches.
_BATCH: Final = 20_000
_BATCH_CHARACTERS: Final = 32 * 1024 * 1024
# Rows that come slowly are not to wait for many of them.
_BATCH_SECONDS: Final = 1.0
# Rows whose columns all differ are not to fill the memory with plans.
_PLANS: Final = 1_000

# Where a column is found: under its own name, or under those of Helicone's export; the first value counts.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "status": ("status", "response_status"),
    "latency": ("latency", "delay_ms"),
    "user_id": ("user_id", "request_user_id"),
    "cost": ("costUSD", "cost"),
    "properties": ("properties", "request_properties"),
    "model": ("model", "model_override", "response_model", "request_model"),
    "assets": ("assets", "asset_ids"),
}
_SESSION_FIELDS: Final = {
    "session_id": SESSION_ID,
    "session_name": SESSION_NAME,
    "session_path": "Helicone-Session-Path",
}
_TAG: Final = "session_tag"
_TAGS: Final = frozenset({_TAG, "session_tags"})
# In the export, and computed here from other columns or not asked for by any filter.
_DERIVED: Final = frozenset({"total_tokens", "request_path"})

# Not circular: what it encodes was made here.
_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@attrs.define
class Loaded:
    """What a load took in.

    Args:
        rows: How many rows were taken in.
        replaced: How many of them took the place of a request that was there already, or came twice.
        rejected: How many rows could not be read and were written to the file of rejects.
        ignored: Columns of the data that the table does not have.
        mapped: Columns of the data that have another name in the table, with that name.

    >>> Loaded(rows=3, ignored={"note"}, mapped={"delay_ms": "latency"}).mapped["delay_ms"]
    'latency'
    """

    rows: int = 0
    replaced: int = 0
    rejected: int = 0
    ignored: set[str] = attrs.field(factory=set)
    mapped: dict[str, str] = attrs.field(factory=dict)


class BadRow(Exception):
    """A row that cannot be read.

    Args:
        where: Its place.
        field: The field that is wrong; None if it is the row as a whole.
        reason: What is wrong.
    """

    def __init__(self, where: str, field: str | None, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if field is None else f"{where}, field {field!r}: {reason}")
        self.where = where
        self.field = field
        self.reason = reason


@attrs.define
class Batch:
    """Rows that are taken in together, as lines of JSON.

    Args:
        requests: The requests.
        tags: The tags of sessions that they named.
        rejects: The lines for the file of rejects.
    """

    requests: list[str] = attrs.field(factory=list)
    tags: dict[str, None] = attrs.field(factory=dict)
    rejects: list[str] = attrs.field(factory=list)


class Load:
    """One load: rows in, lines of JSON for the tables out.

    Args:
        organizations: Those that rows may name, where it is not the first row that decides.
        first_version: The version of the first row; later rows have higher ones, and the highest counts.
        with_rejects: Put rows that cannot be read among the rejects, in the place of an error.
        advice: What that error notes on its way to the user.
    """

    def __init__(
        self,
        organizations: Collection[UUID] | None = None,
        *,
        first_version: int = 0,
        with_rejects: bool = False,
        advice: str = "",
    ) -> None:
        self._allowed = None if organizations is None else {str(each) for each in organizations}
        self._version = first_version
        self._with_rejects = with_rejects
        self._advice = advice
        self._is_stopped = False
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self.organizations: set[str] = set()
        self.report = Loaded()

    def batch(self, rows: Iterator[Placed]) -> Batch | None:
        """The next rows; None if there are no more.

        Raises:
            ConfigurationError: A row cannot be read.
        """
        batch = Batch()
        count = characters = 0
        clock = current()
        ends = clock.now() + _BATCH_SECONDS
        for where, row in rows:
            if self._is_stopped:
                return None
            try:
                line = self._line(batch, where, row)
            except BadRow as bad:
                if not self._with_rejects:
                    raise self._refusal(bad) from None
                line = _reject(bad, row)
                batch.rejects.append(line)
                self.report.rejected += 1
            count += 1
            characters += len(line)
            if count >= _BATCH or characters >= _BATCH_CHARACTERS or clock.now() >= ends:
                break
        return batch if count else None

    def stop(self) -> None:
        """End the batch that is read on another thread, at its next row."""
        self._is_stopped = True

    def _refusal(self, bad: BadRow) -> ConfigurationError:
        error = ConfigurationError(str(bad))
        if self._advice:
            error.add_note(self._advice)
        return error

    def _line(self, batch: Batch, where: str, row: Mapping[str, Any] | Unreadable) -> str:
        if isinstance(row, Unreadable):
            raise BadRow(where, None, row.reason)
        if not isinstance(row, Mapping):
            raise BadRow(where, None, f"a row is an object with named fields, not {type(row).__name__}")
        plan = self._plan(tuple(row))
        stored, tags = _stored(plan, where, row)
        if "request_created_at" not in stored:
            raise BadRow(where, None, "there is no request_created_at, and a request needs one")
        self._claim(stored, where)
        line = _encode(stored)
        if "request_id" not in stored:
            # Where it stands and what it says are the only name of a request without an id.
            name = blake2b(f"{where}\0{line}".encode(errors="backslashreplace"), digest_size=16).hexdigest()
            line = f'{{"request_id":"{UUID(name)}",{line[1:]}'
        line = f'{{"version":{self._version},{line[1:]}'
        session = stored.get("properties", {}).get(SESSION_ID, "")
        if tags and not session:
            raise BadRow(where, _TAG, "a tag is one of a session, and the row has no session_id")
        for tag in tags:
            batch.tags[_tag_line(stored["organization_id"], session, tag)] = None
        batch.requests.append(line)
        self._version += 1
        self.report.rows += 1
        return line

    def _plan(self, names: tuple[str, ...]) -> "_Plan":
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[names] = _Plan.of(names)
            self.report.ignored |= plan.ignored
            self.report.mapped |= plan.mapped
        return plan

    def _claim(self, stored: dict[str, Any], where: str) -> None:
        """Settle the organisation of a row."""
        named = stored.get("organization_id")
        if self._allowed is None:
            self._allowed = {named or str(DEFAULT_ORGANIZATION)}
        if named is None:
            if len(self._allowed) != 1:
                raise BadRow(
                    where, None, f"there is no organization_id, and it may be any of {len(self._allowed)}"
                )
            (named,) = self._allowed
            stored["organization_id"] = named
        elif named not in self._allowed:
            raise BadRow(where, None, f"the organisation {named} is not {_expected(self._allowed)}")
        self.organizations.add(named)


def _expected(allowed: set[str]) -> str:
    if len(allowed) == 1:
        return f"{min(allowed)}, the one that the data is of; several have to be named"
    return f"one of the {len(allowed)} that the data may be of"


def _stored(plan: "_Plan", where: str, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values for the table, and the tags of the session."""
    stored: dict[str, Any] = {}
    tags: list[str] = []
    source = ""
    try:
        for source, target, reader in plan.columns:
            if target not in stored:
                value = reader(row[source])
                if value is not None:
                    stored[target] = value
        for source, map_name, key in plan.keys:
            value = ITEM_READERS[map_name](row[source])
            if value is not None:
                stored.setdefault(map_name, {})[key] = value
        for source in plan.tags:
            tags += read_texts(row[source]) or ()
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BadRow(where, source, str(error)) from None
    return stored, tags


def _tag_line(organization: str, session: str, tag: str) -> str:
    return _encode(
        {"organization_id": organization, "entity_type": "session", "entity_id": session, "tag": tag}
    )


def _reject(bad: BadRow, row: object) -> str:
    content = row.content if isinstance(row, Unreadable) else row
    told = {"where": bad.where, "field": bad.field, "reason": bad.reason}
    try:
        return json.dumps({**told, "row": content}, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        # What JSON cannot say is told in Python's words.
        return json.dumps({**told, "row": _in_python(content)})


def _in_python(content: object) -> str:
    try:
        return repr(content)
    except RecursionError:
        return reprlib.repr(content)


@attrs.frozen
class _Plan:
    """How rows with the same columns are read, worked out once."""

    columns: tuple[tuple[str, str, Reader], ...]
    keys: tuple[tuple[str, str, str], ...]
    tags: tuple[str, ...]
    ignored: set[str]
    mapped: dict[str, str]

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "_Plan":
        columns = [
            (source, target, REQUEST_READERS[target])
            for target in REQUEST_COLUMNS
            for source in _NAMES.get(target, (target,))
            if source in names
        ]
        keys = [
            (name, *found) for name in names if name not in REQUEST_COLUMNS and (found := _map_and_key(name))
        ]
        tags = tuple(name for name in names if name in _TAGS)
        targets = {
            **{source: target for source, target, _ in columns},
            **{source: f"{map_name}[{key!r}]" for source, map_name, key in keys},
            **dict.fromkeys(tags, _TAG),
        }
        return cls(
            tuple(columns),
            tuple(keys),
            tags,
            {str(name) for name in names} - {*targets, *_DERIVED},
            {source: target for source, target in targets.items() if source != target},
        )


def _map_and_key(name: object) -> tuple[str, str] | None:
    """The map and the key that a flat column stands for, as in ``properties.env``."""
    if name == "feedback_rating":
        return "scores", FEEDBACK
    if name in _SESSION_FIELDS:
        return "properties", _SESSION_FIELDS[str(name)]
    map_name, dot, key = str(name).partition(".")
    return (map_name, key) if dot and key and map_name in ITEM_READERS else None
