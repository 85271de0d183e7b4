"""Encodes users' rows for the tables.

The module `fields` defines valid rows. If a value cannot be read, the error names the row and the field.
Unknown columns are reported.
"""

import json
import reprlib
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b, md5
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.clock import current
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.storage.fields import (
    FIELDS,
    MISSING_FLAGS,
    REJECTED,
    SESSION_ID,
    TAG,
    TAGS,
    Flags,
    RowOptions,
    field_name,
    is_known,
    likely_name,
    map_and_key,
)
from helicone_sessions.local.storage.readers import Placed, Unreadable
from helicone_sessions.local.storage.value_parsers import (
    ITEM_PARSERS,
    ImplausibleCost,
    Parser,
    parse_texts,
    parser_of,
)
from helicone_sessions.masking import masked_repr

DEFAULT_ORGANIZATION: Final = UUID("00000000-0000-4000-8000-000000000001")

# A batch ends when it reaches the first of these limits.
_BATCH: Final = 20_000
_BATCH_CHARACTERS: Final = 32 * 1024 * 1024
# This limit ensures that rows from a slow source do not wait for a full batch.
_BATCH_SECONDS: Final = 1.0
# These limits bound the memory if all rows have different columns.
_PLANS: Final = 1_000
_NAMES: Final = 200
# If a row has no time, the error lists up to this many columns. A column is probably the time if its name
# contains one of these words.
_NAMES_SHOWN: Final = 8
_TIMES: Final = ("created", "time", "date", "start")

# The values are created in this module, so they cannot be circular.
_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@attrs.define
class Loaded:
    """The result of a load.

    Args:
        rows: The number of loaded rows.
        replaced: The number of loaded rows that replaced an existing request or another row of the same load.
        rejected: The number of rows that could not be read. They were written to the rejects file or skipped.
        reasons: The number of rejected rows for each reason.
        ignored: The columns of the data that are not fields of a request.
        mapped: A mapping from columns of the data to columns of the table, where the names differ.
        without_session: The number of rows without a session id. Together, these rows count as one session in
            every mean, unless the server excludes them (``include_unsessioned=False``).
        without_cost: The number of rows without a cost. A missing cost is stored as 0, so it lowers mean
            costs.
        without_status: The number of rows without a status. A missing status is stored as 0.
        without_model: The number of rows without a model. A missing model is stored as empty text.
        cost_differences: The number of rows whose ``costUSD`` differs from their ``cost``. In this case,
            ``cost`` is used.

    >>> Loaded(rows=3, ignored={"note"}, mapped={"delay_ms": "latency"}).mapped["delay_ms"]
    'latency'
    """

    rows: int = 0
    replaced: int = 0
    rejected: int = 0
    reasons: Counter[str] = attrs.field(factory=Counter)
    ignored: set[str] = attrs.field(factory=set)
    mapped: dict[str, str] = attrs.field(factory=dict)
    without_session: int = 0
    without_cost: int = 0
    without_status: int = 0
    without_model: int = 0
    cost_differences: int = 0

    def ignored_text(self, remedy: str = "Pass columns={{{theirs!r}: {field!r}}}") -> str:
        """List the ignored columns as text, each with the field that was probably intended.

        Args:
            remedy: A template for the advice to map a column to a field, with the placeholders ``theirs``
                (the column) and ``field``.

        >>> Loaded(ignored={"Session ID", "note"}).ignored_text()
        "Session ID (did you mean session_id? Pass columns={'Session ID': 'session_id'}), note"
        """
        return ", ".join(_ignored_name(name, remedy) for name in sorted(self.ignored))

    def remarks(self) -> list[str]:
        """Describe missing and contradictory values, one sentence for each kind.

        >>> Loaded(rows=5, without_cost=2).remarks()
        ['2 of 5 requests have no cost, which counts as 0 dollars in every mean']
        """
        facts = (
            (
                self.without_session,
                "have no session id; together they count as one session, unless they are left out",
            ),
            (self.without_cost, "have no cost, which counts as 0 dollars in every mean"),
            (self.without_status, "have no status, which is stored as 0"),
            (self.without_model, "have no model, which is stored as empty text"),
            (self.cost_differences, "have a costUSD that differs from their cost; cost is used"),
        )
        return [f"{count:,} of {self.rows:,} requests {text}" for count, text in facts if count]


def _ignored_name(name: str, remedy: str) -> str:
    shown = name if name and name == name.strip() else repr(name)
    likely = likely_name(name)
    if likely is None:
        return shown
    return f"{shown} (did you mean {likely}? {remedy.format(theirs=name, field=likely)})"


def _without_time(row: Mapping[Any, Any]) -> str:
    """Describe why a row without a time is rejected, and suggest a column that probably contains the time."""
    reason = "has no request_created_at"
    names = [str(name) for name in row]
    if not names or "request_created_at" in names:
        return reason
    shown = ", ".join(map(masked_repr, names[:_NAMES_SHOWN])) + (", …" if len(names) > _NAMES_SHOWN else "")
    likely = next((name for name in names if any(word in name.lower() for word in _TIMES)), None)
    remedy = "" if likely is None else f". If {masked_repr(likely)} is its time, map it with `columns`"
    return f"{reason}, only {shown}{remedy}"


class BadRow(Exception):
    """A row cannot be read.

    Args:
        where: The position of the row.
        field: The invalid field; None if the whole row is invalid.
        reason: The problem, as the end of a sentence.
    """

    def __init__(self, where: str, field: str | None, reason: str) -> None:
        super().__init__(where, field, reason)
        self.where = where
        self.field = field
        self.reason = reason

    @property
    def summary(self) -> str:
        """The reason, without any value from the row."""
        return self.reason if self.field is None else f"{self.field!r} cannot be read"

    def as_error(self, remedy: str | None) -> ConfigurationError:
        """Build the error for a load that does not collect rejects."""
        place = self.where if self.field is None else f"{self.where}, field {self.field!r}"
        return ConfigurationError(field=place, problem=self.reason, remedy=remedy)


@attrs.define
class Batch:
    """Rows that are inserted together, encoded as JSON Lines.

    Args:
        requests: The requests.
        tags: The session tags in the rows.
        rejects: The lines for the rejects file.
    """

    requests: list[str] = attrs.field(factory=list)
    tags: dict[str, None] = attrs.field(factory=dict)
    rejects: list[str] = attrs.field(factory=list)


class RowEncoder:
    """Encodes the rows of one load as JSON Lines for the tables.

    Args:
        organizations: The organisations that rows may name. By default, only the organisation of the first
            row is allowed.
        first_version: The version of the first row. Later rows have higher versions. If several rows have the
            same request id, the row with the highest version is used.
        with_rejects: Add unreadable rows to the rejects of the batch instead of raising an error.
        remedy: The remedy in the error for a row that cannot be read.
        options: The options for reading the values.
    """

    def __init__(
        self,
        organizations: Collection[UUID] | None = None,
        *,
        options: RowOptions = RowOptions(),  # noqa: B008 - it is frozen
        first_version: int = 0,
        with_rejects: bool = False,
        remedy: str | None = None,
    ) -> None:
        # The organisations that rows may name; None until the first row has determined the only one.
        self.allowed = None if organizations is None else {str(each) for each in organizations}
        self.next_version = first_version
        self._with_rejects = with_rejects
        self._remedy = remedy
        self.options = options
        self._is_stopped = False
        self._plans: dict[tuple[Any, ...], ColumnPlan] = {}
        # Rows from different blocks may be encoded on different threads.
        self._lock = threading.RLock()
        self._names: dict[Any, None] = {}
        self.organizations: set[str] = set()
        self.report = Loaded()

    def next_batch(self, rows: Iterator[Placed]) -> Batch | None:
        """Encode the next rows. Return None if there are no more rows.

        Raises:
            ConfigurationError: A row cannot be read.
        """
        with self._lock:
            return self._next_batch(rows)

    def _next_batch(self, rows: Iterator[Placed]) -> Batch | None:
        batch = Batch()
        count = characters = 0
        clock = current()
        ends = clock.now() + _BATCH_SECONDS
        for placed in rows:
            if self._is_stopped:
                return None
            try:
                line = self._line(batch, placed)
            except BadRow as bad:
                if not self._with_rejects:
                    raise bad.as_error(self._remedy) from None
                line = _reject(bad, placed.row)
                batch.rejects.append(line)
                self.report.rejected += 1
                self.report.reasons[bad.summary] += 1
            count += 1
            characters += len(line)
            if count >= _BATCH or characters >= _BATCH_CHARACTERS or clock.now() >= ends:
                break
        return batch if count else None

    def stop(self) -> None:
        """Stop a running `next_batch` call on another thread. The call ends when it reaches its next row."""
        self._is_stopped = True

    @property
    def names(self) -> tuple[str, ...]:
        """The column names in all rows so far, up to a limit."""
        return tuple(self._names)

    def reserve(self, count: int) -> int:
        """Reserve versions for *count* rows, and return the first version."""
        first = self.next_version
        self.next_version += count
        return first

    def note_columns(self, names: tuple[Any, ...]) -> "ColumnPlan":
        """Add ignored and renamed columns to the report, and return the plan for rows with these columns."""
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            if len(self._names) < _NAMES:
                self._names |= dict.fromkeys(names)
            plan = self._plans[names] = ColumnPlan.of(names, self.options)
            self.report.ignored |= plan.ignored
            self.report.mapped |= plan.mapped
        return plan

    def _line(self, batch: Batch, placed: Placed) -> str:
        where, row = placed.where, placed.row
        if isinstance(row, Unreadable):
            raise BadRow(where, row.field, row.reason)
        if not isinstance(row, Mapping):
            raise BadRow(where, None, f"must be an object, got {masked_repr(row)}")
        plan = self.note_columns(tuple(row))
        stored, tags = _stored(plan, where, row)
        if "request_created_at" not in stored:
            raise BadRow(where, None, _without_time(row))
        self._claim(stored, where)
        line = _encode(stored)
        if "request_id" not in stored:
            name = _row_id(placed, line)
            line = f'{{"request_id":"{name}",{line[1:]}'
        version = self.reserve(1) if placed.version is None else placed.version
        line = f'{{"version":{version},{line[1:]}'
        session = stored.get("properties", {}).get(SESSION_ID, "")
        if tags and not session:
            raise BadRow(where, TAG, "cannot be stored, because the row has no session_id")
        for tag in tags:
            batch.tags[_tag_line(stored["organization_id"], session, tag)] = None
        batch.requests.append(line)
        self.report.rows += 1
        return line

    def _claim(self, stored: dict[str, Any], where: str) -> None:
        """Check the organisation of a row, or set the organisation if the row names none."""
        named = stored.get("organization_id")
        if self.allowed is None:
            self.allowed = {named or str(DEFAULT_ORGANIZATION)}
        if named is None:
            if len(self.allowed) != 1:
                raise BadRow(
                    where,
                    None,
                    f"has no organization_id, which is required with {len(self.allowed)} organisations",
                )
            (named,) = self.allowed
            stored["organization_id"] = named
        elif named not in self.allowed:
            raise BadRow(where, "organization_id", f"must be {_expected(self.allowed)}, got {named}")
        self.organizations.add(named)


def _expected(allowed: set[str]) -> str:
    if len(allowed) == 1:
        return f"{min(allowed)}, the organisation of the data"
    return f"one of the {len(allowed)} organisations of the data"


def _row_id(placed: Placed, line: str) -> UUID:
    """Derive an id from the position and content of a row that has no id."""
    if placed.identity is None:
        name = f"{placed.where}\0{line}".encode(errors="backslashreplace")
        return UUID(blake2b(name, digest_size=16).hexdigest())
    # The conversion in SQL creates the same id.
    return UUID(md5(placed.identity, usedforsecurity=False).hexdigest())


def _stored(plan: "ColumnPlan", where: str, row: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values for the table, and the tags of the session."""
    stored, flags = _columns(plan, where, row)
    tags: list[str] = []
    for source, map_name, key in plan.keys:
        value = _parsed(where, source, ITEM_PARSERS[map_name], row)
        if value is not None:
            stored.setdefault(map_name, {})[key] = value
    for source in plan.tags:
        tags += _parsed(where, source, parse_texts, row) or ()
    flags |= sum(flag for column, flag in MISSING_FLAGS.items() if column not in stored)
    if flags:
        stored["load_flags"] = int(flags)
    return stored, tags


def _columns(plan: "ColumnPlan", where: str, row: Mapping[Any, Any]) -> tuple[dict[str, Any], int]:
    """Return the values of all columns that are not maps, and a flag if two costs of the row differ."""
    stored: dict[str, Any] = {}
    flags = 0
    for source, target, parse in plan.columns:
        if target not in stored:
            value = _parsed(where, source, parse, row)
            if value is not None:
                stored[target] = value
        elif target == "cost" and _differs(parse, row[source], stored[target]):
            flags = Flags.COSTS_DIFFER
    return stored, flags


def _parsed(where: str, source: Any, parse: Parser, row: Mapping[Any, Any]) -> Any:
    try:
        return parse(row[source])
    except ImplausibleCost as error:
        raise error.as_error(where, source) from None
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BadRow(where, source, str(error)) from None


def _differs(parse: Parser, value: Any, cost: int) -> bool:
    try:
        other = parse(value)
    except (ValueError, TypeError, ArithmeticError):
        # If there are two values, only the first must be readable.
        return False
    return other is not None and other != cost


def _tag_line(organization: str, session: str, tag: str) -> str:
    return _encode(
        {"organization_id": organization, "entity_type": "session", "entity_id": session, "tag": tag}
    )


def _reject(bad: BadRow, row: object) -> str:
    """Encode a rejected row and the reason as a line of JSON, so that the user can fix and load the row."""
    reason: dict[str, Any] = {"where": bad.where, "field": bad.field, "reason": bad.reason}
    fields = {}
    if isinstance(row, Unreadable) and isinstance(row.content, Mapping):
        row = row.content
    if isinstance(row, Mapping):
        fields = {name if isinstance(name, str) else repr(name): value for name, value in row.items()}
    else:
        reason["content"] = row.content if isinstance(row, Unreadable) else row
    encoded = {name: _encoded(value) for name, value in [*fields.items(), (REJECTED, reason)]}
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in encoded.items()) + "}"


def _encoded(value: object) -> str:
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        # The value has a type that JSON does not support.
        return json.dumps(_in_python(value))


def _in_python(content: object) -> str:
    try:
        return repr(content)
    except RecursionError:
        return reprlib.repr(content)


@attrs.frozen
class ColumnPlan:
    """A plan for parsing rows that have the same columns.

    Args:
        columns: The data column, the table column and the parser of each value, in order of precedence.
        keys: The data column, the map and the key of each flat field.
        tags: The data columns that contain tags.
        ignored: The data columns that are not fields.
        mapped: A mapping from data columns to table columns, where the names differ.
    """

    columns: tuple[tuple[Any, str, Parser], ...]
    keys: tuple[tuple[Any, str, str], ...]
    tags: tuple[Any, ...]
    ignored: frozenset[str]
    mapped: dict[str, str]

    @classmethod
    def of(cls, names: tuple[Any, ...], options: RowOptions) -> "ColumnPlan":
        """Build the plan for rows with these columns."""
        # A renamed column takes precedence over a column that already has the name.
        ordered = sorted(names, key=lambda name: name not in options.columns)
        fields = {name: field_name(name, options) for name in ordered}
        columns = [
            (source, field.column, parser_of(alias, field.column, options))
            for field in FIELDS.values()
            for alias in field.names
            for source, found in fields.items()
            if found == alias
        ]
        keys = [(source, *key) for source, found in fields.items() if (key := map_and_key(found))]
        tags = tuple(source for source, found in fields.items() if found in TAGS)
        targets = {
            **{source: target for source, target, _ in columns},
            **{source: f"{map_name}[{key!r}]" for source, map_name, key in keys},
            **dict.fromkeys(tags, TAG),
        }
        return cls(
            tuple(columns),
            tuple(keys),
            tags,
            frozenset(str(source) for source, found in fields.items() if not is_known(found)),
            {source: target for source, target in targets.items() if source != target},
        )
