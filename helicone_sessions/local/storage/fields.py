"""Defines the fields of a request: their columns, and the names and value formats allowed in users' rows.

`FIELDS` is the single source of these definitions. The columns of the tables, the parsers in Python
(`value_parsers`), the conversion in SQL (`conversion`), the error messages and the table in the documentation
are all derived from it.
"""

import difflib
from collections.abc import Mapping
from datetime import tzinfo
from enum import Enum, IntFlag, StrEnum
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.masking import masked_repr

SESSION_ID: Final = "Helicone-Session-Id"
SESSION_NAME: Final = "Helicone-Session-Name"
FEEDBACK: Final = "helicone-score-feedback"

CostUnit = Literal["dollars", "billionths"]
COST_UNITS: Final = ("dollars", "billionths")
# No request costs this many dollars, but most cost at least this many billionths of a dollar.
IMPLAUSIBLE_COST: Final = 1000
# The field for the reason in a rejected row. It is ignored if the row is fixed and loaded again.
REJECTED: Final = "_rejected"


class Stored(StrEnum):
    """The ClickHouse types of the stored columns."""

    UUID = "UUID"
    TIME = "DateTime64(3, 'UTC')"
    MAYBE_TIME = "Nullable(DateTime64(3, 'UTC'))"
    WHOLE = "Int64"
    MAYBE_WHOLE = "Nullable(Int64)"
    NANODOLLARS = "UInt64"
    NAME = "LowCardinality(String)"
    TEXT = "String"
    MAYBE_TEXT = "Nullable(String)"
    FLAG = "Bool"
    MAYBE_FLAG = "Nullable(Bool)"
    TEXTS = "Array(String)"
    PROPERTIES = "Map(LowCardinality(String), String)"
    SCORES = "Map(LowCardinality(String), Int64)"


class Form(Enum):
    """The forms of field values. The value of each member is its description in the documentation."""

    UUID = "a UUID"
    TIME = "an aware datetime, or ISO 8601 text with a zone"
    MILLISECONDS = "milliseconds, 0 or more; fractions are rounded"
    COUNT = "a whole number, 0 or more"
    STATUS = "a whole number"
    DOLLARS = "dollars, 0 or more"
    TEXT = "text"
    BODY = "text; objects become JSON text"
    FLAG = "true or false, or 1 or 0"
    TEXTS = "a list of strings"
    PROPERTIES = "an object of strings; other values become JSON text"
    SCORES = 'an object of whole numbers or booleans, or `{"value": 4}`'


class Flags(IntFlag):
    """Facts about a loaded row that cannot be derived from its other columns."""

    NO_COST = 1
    NO_STATUS = 2
    NO_MODEL = 4
    COSTS_DIFFER = 8


@attrs.frozen
class Field:
    """A field of a request.

    Args:
        column: The name of the column in the table.
        stored: The type of the column.
        form: The form of the values.
        aliases: Alternative names, in order of precedence after the column name. The first name with a value
            is used.
        is_required: Whether rows without this field are rejected.
        default: A description of the value stored if the field is missing; None for the default of the type.
    """

    column: str
    stored: Stored
    form: Form
    aliases: tuple[str, ...] = ()
    is_required: bool = False
    default: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the field, in order of precedence."""
        return (self.column, *self.aliases)

    @property
    def if_missing(self) -> str:
        """A description of the value that is stored if the field is missing."""
        if self.is_required:
            return "the row is rejected"
        return self.default or _DEFAULTS.get(self.stored, "null")


MISSING_FLAGS: Final = {"cost": Flags.NO_COST, "status": Flags.NO_STATUS, "model": Flags.NO_MODEL}

_DEFAULTS: Final = {
    Stored.UUID: "zeros",
    Stored.WHOLE: "0",
    Stored.NANODOLLARS: "0",
    Stored.NAME: "empty text",
    Stored.TEXT: "empty text",
    Stored.FLAG: "false",
    Stored.TEXTS: "an empty list",
    Stored.PROPERTIES: "no keys",
    Stored.SCORES: "no keys",
}

_FIELDS: Final = (
    Field("request_id", Stored.UUID, Form.UUID, default="an id from the file name, position and content"),
    Field("organization_id", Stored.UUID, Form.UUID, default="the organisation of the data"),
    Field("request_created_at", Stored.TIME, Form.TIME, is_required=True),
    Field("response_created_at", Stored.MAYBE_TIME, Form.TIME),
    Field("latency", Stored.MAYBE_WHOLE, Form.MILLISECONDS, ("delay_ms",)),
    Field("time_to_first_token", Stored.MAYBE_WHOLE, Form.MILLISECONDS),
    Field("prompt_tokens", Stored.MAYBE_WHOLE, Form.COUNT),
    Field("completion_tokens", Stored.MAYBE_WHOLE, Form.COUNT),
    Field("prompt_cache_read_tokens", Stored.WHOLE, Form.COUNT),
    Field("prompt_cache_write_tokens", Stored.WHOLE, Form.COUNT),
    Field("status", Stored.WHOLE, Form.STATUS, ("response_status",)),
    Field("cost", Stored.NANODOLLARS, Form.DOLLARS, ("costUSD",)),
    Field("model", Stored.NAME, Form.TEXT, ("model_override", "response_model", "request_model")),
    Field("provider", Stored.NAME, Form.TEXT),
    Field("user_id", Stored.NAME, Form.TEXT, ("request_user_id",)),
    Field("target_url", Stored.MAYBE_TEXT, Form.TEXT),
    Field("country_code", Stored.MAYBE_TEXT, Form.TEXT),
    Field("threat", Stored.MAYBE_FLAG, Form.FLAG),
    Field("properties", Stored.PROPERTIES, Form.PROPERTIES, ("request_properties",)),
    Field("scores", Stored.SCORES, Form.SCORES),
    Field("request_body", Stored.TEXT, Form.BODY),
    Field("response_body", Stored.TEXT, Form.BODY),
    Field("assets", Stored.TEXTS, Form.TEXTS, ("asset_ids",)),
    Field("cache_enabled", Stored.FLAG, Form.FLAG),
    Field("cache_reference_id", Stored.UUID, Form.UUID),
    Field("prompt_id", Stored.TEXT, Form.TEXT),
    Field("prompt_version", Stored.TEXT, Form.TEXT),
    Field("request_referrer", Stored.TEXT, Form.TEXT),
    Field("is_passthrough_billing", Stored.FLAG, Form.FLAG),
)
FIELDS: Final[Mapping[str, Field]] = {field.column: field for field in _FIELDS}
REQUEST_COLUMNS: Final[Mapping[str, Stored]] = {field.column: field.stored for field in _FIELDS}

TAG: Final = "session_tag"
TAGS: Final = (TAG, "session_tags")
# The fields that are stored under a key of a map.
KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "session_id": ("properties", SESSION_ID),
    "session_name": ("properties", SESSION_NAME),
    "session_path": ("properties", "Helicone-Session-Path"),
    **{name: ("properties", name) for name in (SESSION_ID, SESSION_NAME, "Helicone-Session-Path")},
    "feedback_rating": ("scores", FEEDBACK),
}
_MAPS: Final = {
    name: column
    for column, field in FIELDS.items()
    if field.form in (Form.PROPERTIES, Form.SCORES)
    for name in field.names
}
# Fields of Helicone's export that are derived from other fields, or that filters cannot use.
_DERIVED: Final = frozenset({"total_tokens", "request_path", "storage_location", REJECTED})
# Other fields of the export. They are left out like unknown fields, but they are not misspellings.
_EXPORTED: Final = frozenset(
    {"response_id", "helicone_user", "signed_body_url", "llmSchema", "asset_urls", "updated_at", "size_bytes"}
)
_KNOWN: Final = frozenset({*(name for field in _FIELDS for name in field.names), *KEYS, *TAGS, *_DERIVED})


def map_and_key(name: str) -> tuple[str, str] | None:
    """Return the map and the key under which a flat field is stored. For other fields, return None.

    >>> map_and_key("request_properties.env"), map_and_key("session_id"), map_and_key("model")
    (('properties', 'env'), ('properties', 'Helicone-Session-Id'), None)
    """
    if name in KEYS:
        return KEYS[name]
    map_name, _, key = name.partition(".")
    return (_MAPS[map_name], key) if key and map_name in _MAPS else None


def is_known(name: str) -> bool:
    """Whether a field name is known. Known fields are loaded or silently ignored. Others are reported.

    >>> is_known("delay_ms"), is_known("scores.quality"), is_known("Cost")
    (True, True, False)
    """
    return name in _KNOWN or map_and_key(name) is not None


def likely_name(name: str) -> str | None:
    """Guess the known field to which an unknown name refers. Return None if no field is similar.

    >>> likely_name("Session ID"), likely_name("costs"), likely_name("colour")
    ('session_id', 'cost', None)
    """
    if name in _EXPORTED:
        return None
    plain = "_".join(name.replace("-", " ").lower().split())
    spellings = {known.lower().replace("-", "_"): known for known in sorted(_KNOWN - _DERIVED)}
    found = difflib.get_close_matches(plain, spellings, n=1, cutoff=0.8)
    return spellings[found[0]] if found else None


def _time_zone(value: tzinfo | str | None) -> tzinfo | None:
    if value is None or isinstance(value, tzinfo):
        return value
    try:
        return ZoneInfo(value)
    except (ValueError, TypeError, OSError, ZoneInfoNotFoundError):
        raise ConfigurationError(
            argument="assume_time_zone",
            problem=f"must be the name of a time zone, got {masked_repr(value)}",
            remedy="Pass 'UTC' or 'Europe/Berlin', for example",
        ) from None


def _renamed(value: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            argument="columns",
            problem=f"must be a mapping of names in the data to names of fields, got {masked_repr(value)}",
        )
    for name in value.values():
        if not is_known(str(name)):
            likely = likely_name(str(name))
            raise ConfigurationError(
                argument="columns",
                problem=f"must map to known fields, got {masked_repr(name)}",
                remedy=f"Did you mean {likely!r}?"
                if likely
                else "Pass {'started': 'request_created_at'}, for example",
            )
    return dict(value)


def _check_cost_unit(_options: Any, _field: Any, value: Any) -> None:
    if value is not None and value not in COST_UNITS:
        raise ConfigurationError(
            argument="cost_unit", problem=f"must be 'dollars' or 'billionths', got {masked_repr(value)}"
        )


@attrs.frozen
class RowOptions:
    """Options for reading rows that do not follow the default rules.

    Args:
        cost_unit: The unit of ``cost``: ``"dollars"``, or ``"billionths"`` of a dollar, as in a dump of
            Helicone's table. By default, costs are in dollars, and a whole-number cost of 1,000 or more
            is rejected.
        columns: A mapping from column names in the data to field names.
        assume_time_zone: The time zone for times without a time zone: a ``tzinfo`` or a name such as
            ``"UTC"``.

    Raises:
        ConfigurationError: An option is invalid.

    >>> RowOptions(columns={"started": "request_created_at"}, assume_time_zone="UTC").assume_time_zone
    zoneinfo.ZoneInfo(key='UTC')
    """

    cost_unit: CostUnit | None = attrs.field(default=None, validator=_check_cost_unit)
    columns: Mapping[str, str] = attrs.field(factory=dict, converter=_renamed)
    assume_time_zone: tzinfo | None = attrs.field(default=None, converter=_time_zone)


def field_name(name: Any, options: RowOptions) -> str:
    """Return the name of the field for a column of the data."""
    if name in options.columns:
        return options.columns[name]
    return str(name).strip(" \t\ufeff")


def as_markdown() -> str:
    """Build the table of fields for the documentation."""
    lines = ["| Field | Also as | Holds | If missing |", "| --- | --- | --- | --- |"]
    for field in _FIELDS:
        aliases = ", ".join(f"`{name}`" for name in field.aliases)
        lines.append(f"| `{field.column}` | {aliases} | {field.form.value} | {field.if_missing} |")
    return "\n".join(lines)
