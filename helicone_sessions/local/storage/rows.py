"""Encodes users' rows for the tables.

A row has the table's own column names or those of Helicone's request export. A value that cannot be read is
an error that names the row and the field; unknown columns are reported.
"""

import json
import reprlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.clock import current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.constants import shortened
from helicone_sessions.local.storage.readers import Placed, Unreadable
from helicone_sessions.local.storage.table import FEEDBACK, REQUEST_COLUMNS, SESSION_ID, SESSION_NAME
from helicone_sessions.local.storage.value_parsers import (
    ITEM_PARSERS,
    REQUEST_PARSERS,
    Parser,
    parse_texts,
)

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
    """The result of a load.

    Args:
        rows: The number of rows loaded.
        replaced: How many of them took the place of a request that was there already, or came twice.
        rejected: How many rows could not be read, and were written to the file of rejects or skipped.
        reasons: The number of rejected rows by reason.
        ignored: Columns of the data that the table does not have.
        mapped: Columns of the data that have another name in the table, with that name.

    >>> Loaded(rows=3, ignored={"note"}, mapped={"delay_ms": "latency"}).mapped["delay_ms"]
    'latency'
    """

    rows: int = 0
    replaced: int = 0
    rejected: int = 0
    reasons: Counter[str] = attrs.field(factory=Counter)
    ignored: set[str] = attrs.field(factory=set)
    mapped: dict[str, str] = attrs.field(factory=dict)


class BadRow(Exception):
    """A row that cannot be read.

    Args:
        where: Its place.
        field: The field that is wrong; None if it is the row as a whole.
        reason: What is wrong with it; continues a sentence.
    """

    def __init__(self, where: str, field: str | None, reason: str) -> None:
        super().__init__(where, field, reason)
        self.where = where
        self.field = field
        self.reason = reason

    @property
    def summary(self) -> str:
        """The reason without the value of the row."""
        return self.reason if self.field is None else f"{self.field!r} cannot be read"

    def as_error(self, remedy: str | None) -> ConfigurationError:
        """The error for the user of a load that does not take such rows."""
        place = self.where if self.field is None else f"{self.where}, field {self.field!r}"
        return ConfigurationError(field=place, problem=self.reason, remedy=remedy)


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


class RowEncoder:
    """Encodes the rows of one load as lines of JSON for the tables.

    Args:
        organizations: The organisations that rows may name; by default the first row decides.
        first_version: The version of the first row; later rows have higher ones, and the highest counts.
        with_rejects: Put rows that cannot be read among the rejects, in the place of an error.
        remedy: The remedy in that error.
    """

    def __init__(
        self,
        organizations: Collection[UUID] | None = None,
        *,
        first_version: int = 0,
        with_rejects: bool = False,
        remedy: str | None = None,
    ) -> None:
        self._allowed = None if organizations is None else {str(each) for each in organizations}
        self._version = first_version
        self._with_rejects = with_rejects
        self._remedy = remedy
        self._is_stopped = False
        self._plans: dict[tuple[str, ...], _ColumnPlan] = {}
        self.organizations: set[str] = set()
        self.report = Loaded()

    def next_batch(self, rows: Iterator[Placed]) -> Batch | None:
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
                    raise bad.as_error(self._remedy) from None
                line = _reject(bad, row)
                batch.rejects.append(line)
                self.report.rejected += 1
                self.report.reasons[bad.summary] += 1
            count += 1
            characters += len(line)
            if count >= _BATCH or characters >= _BATCH_CHARACTERS or clock.now() >= ends:
                break
        return batch if count else None

    def stop(self) -> None:
        """End the batch that is read on another thread, at its next row."""
        self._is_stopped = True

    def _line(self, batch: Batch, where: str, row: Mapping[str, Any] | Unreadable) -> str:
        if isinstance(row, Unreadable):
            raise BadRow(where, None, row.reason)
        if not isinstance(row, Mapping):
            raise BadRow(where, None, f"must be an object, got {shortened(row)}")
        plan = self._plan(tuple(row))
        stored, tags = _stored(plan, where, row)
        if "request_created_at" not in stored:
            raise BadRow(where, None, "has no request_created_at")
        self._claim(stored, where)
        line = _encode(stored)
        if "request_id" not in stored:
            # A request without an id is identified by its position and content.
            name = blake2b(f"{where}\0{line}".encode(errors="backslashreplace"), digest_size=16).hexdigest()
            line = f'{{"request_id":"{UUID(name)}",{line[1:]}'
        line = f'{{"version":{self._version},{line[1:]}'
        session = stored.get("properties", {}).get(SESSION_ID, "")
        if tags and not session:
            raise BadRow(where, _TAG, "cannot be stored, because the row has no session_id")
        for tag in tags:
            batch.tags[_tag_line(stored["organization_id"], session, tag)] = None
        batch.requests.append(line)
        self._version += 1
        self.report.rows += 1
        return line

    def _plan(self, names: tuple[str, ...]) -> "_ColumnPlan":
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[names] = _ColumnPlan.of(names)
            self.report.ignored |= {str(name) for name in names} - {*plan.targets, *_DERIVED}
            self.report.mapped |= {name: target for name, target in plan.targets.items() if name != target}
        return plan

    def _claim(self, stored: dict[str, Any], where: str) -> None:
        """Settle the organisation of a row."""
        named = stored.get("organization_id")
        if self._allowed is None:
            self._allowed = {named or str(DEFAULT_ORGANIZATION)}
        if named is None:
            if len(self._allowed) != 1:
                raise BadRow(
                    where, None, f"has no organization_id, and it may be one of {len(self._allowed)}"
                )
            (named,) = self._allowed
            stored["organization_id"] = named
        elif named not in self._allowed:
            raise BadRow(where, "organization_id", f"must be {_expected(self._allowed)}, got {named}")
        self.organizations.add(named)


def _expected(allowed: set[str]) -> str:
    if len(allowed) == 1:
        return f"{min(allowed)}, the organisation of the data"
    return f"one of the {len(allowed)} organisations of the data"


def _stored(plan: "_ColumnPlan", where: str, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values for the table, and the tags of the session."""
    stored: dict[str, Any] = {}
    tags: list[str] = []
    source = ""
    try:
        for source, target, parse in plan.columns:
            if target not in stored:
                value = parse(row[source])
                if value is not None:
                    stored[target] = value
        for source, map_name, key in plan.keys:
            value = ITEM_PARSERS[map_name](row[source])
            if value is not None:
                stored.setdefault(map_name, {})[key] = value
        for source in plan.tags:
            tags += parse_texts(row[source]) or ()
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BadRow(where, source, str(error)) from None
    return stored, tags


def _tag_line(organization: str, session: str, tag: str) -> str:
    return _encode(
        {"organization_id": organization, "entity_type": "session", "entity_id": session, "tag": tag}
    )


def _reject(bad: BadRow, row: object) -> str:
    content = row.content if isinstance(row, Unreadable) else row
    parts = {"where": bad.where, "field": bad.field, "reason": bad.reason}
    try:
        return json.dumps({**parts, "row": content}, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        # A value that JSON does not have.
        return json.dumps({**parts, "row": _in_python(content)})


def _in_python(content: object) -> str:
    try:
        return repr(content)
    except RecursionError:
        return reprlib.repr(content)


@attrs.frozen
class _ColumnPlan:
    """How to parse rows with the same columns, worked out once."""

    columns: tuple[tuple[str, str, Parser], ...]
    keys: tuple[tuple[str, str, str], ...]
    tags: tuple[str, ...]
    targets: dict[str, str]

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "_ColumnPlan":
        columns = [
            (source, target, REQUEST_PARSERS[target])
            for target in REQUEST_COLUMNS
            for source in _NAMES.get(target, (target,))
            if source in names
        ]
        keys = [(name, *found) for name in names if (found := _map_and_key(name))]
        tags = tuple(_TAGS.intersection(names))
        targets = {
            **{source: target for source, target, _ in columns},
            **{source: f"{map_name}[{key!r}]" for source, map_name, key in keys},
            **dict.fromkeys(tags, _TAG),
        }
        return cls(tuple(columns), tuple(keys), tags, targets)


def _map_and_key(name: object) -> tuple[str, str] | None:
    """The map and the key of a flat column such as ``properties.env``."""
    if name == "feedback_rating":
        return "scores", FEEDBACK
    if name in _SESSION_FIELDS:
        return "properties", _SESSION_FIELDS[str(name)]
    map_name, dot, key = str(name).partition(".")
    return (map_name, key) if dot and key and map_name in ITEM_PARSERS else None
