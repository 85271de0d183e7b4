"""Users' rows, read into the columns of the table.

A row comes under the table's own column names or under those of Helicone's request export. What cannot be
read is an error that names the row and the field; a column that is not known is reported.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Final, NoReturn
from uuid import UUID, uuid5

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.files import Data, read
from helicone_sessions.local.table import FEEDBACK, REQUEST_COLUMNS, SESSION_ID, SESSION_NAME, Stored

DEFAULT_ORGANIZATION: Final = UUID("00000000-0000-4000-8000-000000000001")

_BATCH: Final = 20_000
_NANO: Final = 9

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
_TAGS: Final = frozenset({"session_tag", "session_tags"})
# In the export, and computed here from other columns or not asked for by any filter.
_DERIVED: Final = frozenset({"total_tokens", "request_path"})


@attrs.define
class Loaded:
    """What a load took in.

    Args:
        rows: How many requests.
        ignored: Columns of the data that the table does not have.
    """

    rows: int = 0
    ignored: set[str] = attrs.field(factory=set)


class Load:
    """One load: rows in, lines of JSON for the tables out."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._tags: dict[tuple[str, str], None] = {}
        self._organization_id: UUID | None = None
        self.report = Loaded()

    @property
    def organization_id(self) -> UUID:
        """The organisation that the rows name, or a fixed one."""
        return self._organization_id or DEFAULT_ORGANIZATION

    def requests(self) -> Iterator[bytes]:
        """The requests in batches."""
        rows = read(self._data)
        while batch := [self._line(where, row) for where, row in islice(rows, _BATCH)]:
            yield "\n".join(batch).encode()

    def tags(self) -> Iterator[bytes]:
        """The tags of sessions that the requests named."""
        common = {"organization_id": str(self.organization_id), "entity_type": "session"}
        if lines := [json.dumps({**common, "entity_id": session, "tag": tag}) for session, tag in self._tags]:
            yield "\n".join(lines).encode()

    def _line(self, where: str, row: Mapping[str, Any]) -> str:
        if not isinstance(row, Mapping):
            raise ConfigurationError(
                f"{where}: a row is an object with named fields, not {type(row).__name__}"
            )
        names = tuple(row)
        plan = self._plans.get(names) or self._plans.setdefault(names, _Plan.of(names))
        self.report.ignored |= plan.ignored
        self.report.rows += 1
        return json.dumps(self._stored(plan, where, row))

    def _stored(self, plan: "_Plan", where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        source = ""
        try:
            for target, sources in plan.columns:
                for source in sources:
                    value = REQUEST_READERS[target](row[source])
                    if value is not None:
                        stored[target] = value
                        break
            for source, map_name, key in plan.keys:
                value = _of_map(map_name, row[source])
                if value is not None:
                    stored.setdefault(map_name, {})[key] = value
            for source in plan.tags:
                self._tag(stored, row[source])
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise ConfigurationError(f"{where}, field {source!r}: {error}") from None
        if "request_created_at" not in stored:
            raise ConfigurationError(f"{where}: there is no request_created_at, and a request needs one")
        self._claim(stored, where)
        # Of a request without an id, its place in the data is the only name.
        stored.setdefault("request_id", str(uuid5(DEFAULT_ORGANIZATION, str(self.report.rows))))
        return stored

    def _tag(self, stored: dict[str, Any], value: object) -> None:
        session = stored.get("properties", {}).get(SESSION_ID, "")
        for tag in _texts(value) or ():
            self._tags[session, tag] = None

    def _claim(self, stored: dict[str, Any], where: str) -> None:
        named = stored.get("organization_id")
        if named and self._organization_id is None and self.report.rows == 1:
            self._organization_id = UUID(named)
        elif named and UUID(named) != self.organization_id:
            raise ConfigurationError(
                f"{where}: the organisation {named} is not {self.organization_id}, as of the rows before;"
                " a server answers for one organisation"
            )
        stored["organization_id"] = str(self.organization_id)


@attrs.frozen
class _Plan:
    """How rows with the same columns are read, worked out once."""

    columns: tuple[tuple[str, tuple[str, ...]], ...]
    keys: tuple[tuple[str, str, str], ...]
    tags: tuple[str, ...]
    ignored: set[str]

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "_Plan":
        columns = {
            target: tuple(name for name in _sources(target) if name in names) for target in REQUEST_COLUMNS
        }
        keys = [
            (name, *found) for name in names if name not in REQUEST_COLUMNS and (found := _map_and_key(name))
        ]
        tags = tuple(name for name in names if name in _TAGS)
        used = {
            *_DERIVED,
            *tags,
            *(name for name, *_ in keys),
            *(name for names in columns.values() for name in names),
        }
        return cls(
            tuple((target, sources) for target, sources in columns.items() if sources),
            tuple(keys),
            tags,
            {str(name) for name in names} - used,
        )


def _sources(target: str) -> tuple[str, ...]:
    return _NAMES.get(target, (target,))


def _map_and_key(name: object) -> tuple[str, str] | None:
    """The map and the key that a flat column stands for, as in ``properties.env``."""
    if name == "feedback_rating":
        return "scores", FEEDBACK
    if name in _SESSION_FIELDS:
        return "properties", _SESSION_FIELDS[str(name)]
    map_name, dot, key = str(name).partition(".")
    return (map_name, key) if dot and key and map_name in ("properties", "scores") else None


# Each reads one value into what the table takes, or None where there is none.


def _text(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        _refuse(value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(value, "text without half a surrogate pair")
    return value


def _uuid(value: Any) -> Any:
    if value is None or isinstance(value, UUID):
        return value and str(value)
    try:
        return str(UUID(_text(value)))
    except ValueError:
        return _refuse(value, "a UUID")


def _whole(value: Any) -> Any:
    number = _number(value)
    if number is None:
        return None
    if number != number.to_integral_value() or abs(number) >= 2**63:
        _refuse(value, "a whole number")
    return int(number)


def _number(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        _refuse(value, "a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return _refuse(value, "a number")
    return number if number.is_finite() else _refuse(value, "a finite number")


def _nanodollars(value: Any) -> Any:
    dollars = _number(value)
    if dollars is None:
        return None
    nano = dollars.scaleb(_NANO).to_integral_value()
    return int(nano) if 0 <= nano < 2**64 else _refuse(value, "dollars from 0 to 18 billion")


def _time(value: Any) -> Any:
    if value is None:
        return None
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        return _refuse(value, "an aware datetime or ISO 8601 text with a zone")
    if moment.utcoffset() is None:
        return _refuse(value, "a time with its zone, as 2026-11-01T00:00:00Z")
    if not 1900 < moment.year < 2299:
        # The table would move it to the nearest time that it can hold.
        _refuse(value, "a time between the years 1900 and 2299")
    # Requests are kept to the millisecond.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _flag(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    known = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
    return _refuse(value, "true or false") if known is None else known


def _texts(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        value = _list_in(value)
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(text, str) for text in value
    ):
        _refuse(value, "a list of texts")
    return [_text(text) for text in value]


def _list_in(text: str) -> list[Any]:
    """The list that a CSV field spells in JSON, or the text itself as the only one."""
    if text.startswith("["):
        with suppress(ValueError):
            return list(json.loads(text))
    return [text]


def _map_of(name: str) -> Callable[[Any], Any]:
    def read_map(value: Any) -> Any:
        if isinstance(value, str):
            value = json.loads(value)
        if value is None:
            return None
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return _refuse(value, "an object with text for keys")
        return {_text(key): read for key, item in value.items() if (read := _of_map(name, item)) is not None}

    return read_map


def _of_map(name: str, value: Any) -> Any:
    """A value of a map: scores are whole numbers in the table, properties are text."""
    if name == "scores":
        return int(value) if isinstance(value, bool) else _flag_or_whole(value)
    if value is None or isinstance(value, str):
        return _text(value)
    return json.dumps(value) if isinstance(value, (bool, int, float, list, dict)) else _refuse(value, "text")


def _flag_or_whole(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return int(value.lower() == "true")
    return _whole(value)


def _refuse(value: object, due: str) -> NoReturn:
    shown = repr(value)
    raise ValueError(f"{due} is due, not {shown if len(shown) <= 80 else shown[:79] + '…'}")


_READERS: Final[dict[Stored, Callable[[object], Any]]] = {
    Stored.UUID: _uuid,
    Stored.TIME: _time,
    Stored.MAYBE_TIME: _time,
    Stored.WHOLE: _whole,
    Stored.MAYBE_WHOLE: _whole,
    Stored.NANODOLLARS: _nanodollars,
    Stored.NAME: _text,
    Stored.TEXT: _text,
    Stored.MAYBE_TEXT: _text,
    Stored.FLAG: _flag,
    Stored.MAYBE_FLAG: _flag,
    Stored.TEXTS: _texts,
    Stored.PROPERTIES: _map_of("properties"),
    Stored.SCORES: _map_of("scores"),
}
REQUEST_READERS: Final = {name: _READERS[stored] for name, stored in REQUEST_COLUMNS.items()}
