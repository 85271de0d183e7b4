"""Facts about every column that a filter can name.

Names, tables, kinds and operators come from the contract (its OpenAPI page). The facts about the open-source
server come from its code of July 2026, run on ClickHouse 26.9 and in part also on 25.5 and 24.8. The hosted
service was not checked.
"""

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final, Literal

import attrs

Table = Literal["request_response_rmt", "sessions_request_response_rmt"]
REQUESTS: Final = "request_response_rmt"
SESSIONS: Final = "sessions_request_response_rmt"

Operator = Literal[
    "equals", "not-equals", "like", "ilike", "contains", "not-contains", "gt", "gte", "lt", "lte"
]
COMPARISONS: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    "equals": operator.eq,
    "not-equals": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
"""The comparison operators, as functions of a value and a constant."""


# The open-source server binds whole numbers as Int32, and in ClickHouse 26.9 larger ones wrap around.
SERVER_SMALLEST_WHOLE: Final = -(2**31)
SERVER_LARGEST_WHOLE: Final = 2**31 - 1
# In comparisons with a text column, it reads these words as "is missing" and "is empty".
SERVER_NULL: Final = "null"
SERVER_EMPTY: Final = "__empty__"
# It binds times as DateTime, whose range ends here.
SERVER_END_OF_TIME: Final = datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC)
# It rejects times before this year (status 422).
SERVER_FIRST_YEAR: Final = 100
# It keeps bodies for three months.
SERVER_BODY_DAYS: Final = 90


class Kind(StrEnum):
    """The type of a column's values, which determines the column's operators."""

    TEXT = "text"
    NUMBER = "number"
    TIMESTAMP = "timestamp"
    BOOLEAN = "boolean"
    MAP = "map of text"
    KEY = "map key"


class Reading(StrEnum):
    """How the metrics query of the open-source server treats a condition on a column."""

    READ = "read"
    IGNORED = "ignored: the condition becomes true"
    FAILS = "fails: the query ends with an error"


_TEXT_OPERATORS: Final[tuple[Operator, ...]] = (
    "equals",
    "not-equals",
    "like",
    "ilike",
    "contains",
    "not-contains",
)
OPERATORS: Final[dict[Kind, tuple[Operator, ...]]] = {
    Kind.TEXT: _TEXT_OPERATORS,
    Kind.NUMBER: ("equals", "not-equals", "gt", "gte", "lt", "lte"),
    Kind.TIMESTAMP: ("equals", "gt", "gte", "lt", "lte"),
    Kind.BOOLEAN: ("equals",),
    Kind.MAP: _TEXT_OPERATORS,
    Kind.KEY: ("equals",),
}


@attrs.frozen(eq=False)
class ColumnFacts:
    """The facts about one column in the contract.

    Args:
        name: The name of the column in the API.
        about: A short description.
        table: The name that leaves use for the column's table.
        kind: The type of the column's values.
        unit: The unit of a number, for display.
        whole: Whether the numbers are whole.
        negative: Whether the numbers can be below zero.
        uuid: Whether text must be a UUID.
        nullable: Whether text can be null. Other columns store missing text as empty text.
        empty: The text that represents an empty value.
        missing_as: The placeholder that is stored for a missing value, if nearly every request has a value;
            None for other columns.
        often_missing: Whether some requests in the service have no value.
        missing_remedy: How to exclude requests without a value.
        uncopied: How to get the values if a sync does not copy them; empty if a sync copies them.
        sentinels: Words that ``equals`` reads as a missing or empty value.
        on_server: How the open-source server treats a condition on the column.
        server_refuses: Operators that fail on that server, although it supports the column.
        server_twists: Operators whose meaning on that server differs from the contract.
        server_expires: Whether that server deletes the values of older requests.
        server_scale: The factor by which that server multiplies a constant before it drops the fraction.
        server_note: Other facts about the column on that server.
        server_remedy: How to avoid the difference from the contract.
        operators: The operators that the contract allows.
    """

    name: str
    about: str
    table: Table
    kind: Kind
    unit: str | None = None
    whole: bool = False
    negative: bool = False
    uuid: bool = False
    nullable: bool = False
    empty: str = ""
    missing_as: int | str | None = None
    often_missing: bool = False
    missing_remedy: str = ""
    uncopied: str = ""
    on_server: Reading = Reading.READ
    server_refuses: tuple[Operator, ...] = ()
    server_twists: tuple[Operator, ...] = ()
    server_expires: bool = False
    server_scale: int = 1
    server_note: str = ""
    server_remedy: str = ""
    sentinels: tuple[str, ...] = attrs.field()
    operators: tuple[Operator, ...] = attrs.field(init=False)

    @sentinels.default
    def _sentinels_of_its_kind(self) -> tuple[str, ...]:
        return (SERVER_NULL, SERVER_EMPTY) if self.kind is Kind.TEXT else ()

    @operators.default
    def _operators_of_its_kind(self) -> tuple[Operator, ...]:
        return OPERATORS[self.kind]

    @property
    def attribute(self) -> str:
        """The name of the column as an attribute of ``F``."""
        return self.name.replace("-", "_")

    def __reduce__(self) -> str | tuple[object, ...]:
        return column_facts, (self.name,)


def column_facts(name: str) -> ColumnFacts:
    """The facts about the column with this name in the API."""
    return COLUMNS[name]


_PATTERNS: Final[tuple[Operator, ...]] = ("like", "ilike", "contains", "not-contains")
_UUID_NOTE = "ClickHouse refuses patterns on a UUID (code 43) and text that is not a UUID (code 376)"
_MISSING_NOTE = "its table has no such column (code 47)"
_PROPERTY_REMEDY = "keep the value in a property of the request and use F.properties[key]"
_UUID_REMEDY = "compare the whole id with == or !="
_SUM_REMEDY = "use F.prompt_tokens and F.completion_tokens; the embedded engine (LocalServer) reads the sum"
_CACHED_NOTE = "the cache reference is not the zero UUID"
_FEEDBACK_REMEDY = (
    "requests without feedback cannot be left out there; keep the feedback in a property too and use"
    " F.properties[key], or the embedded engine (LocalServer)"
)
_SCORE_NOTE = (
    "ClickHouse refuses == on a score because of an index over the values (code 170), patterns because scores"
    " are whole numbers (code 43), and other text (code 53); != fails on older versions (code 170)"
)
_SCORE_REMEDY = f"{_PROPERTY_REMEDY}; the embedded engine (LocalServer) reads F.scores"
_SESSION_NOTE = "the metrics query leaves session conditions out"
_SESSION_REMEDY = (
    "narrow the requests by other columns or the time_filter instead;"
    " the embedded engine (LocalServer) reads it"
)
_SECONDS_NOTE = "bound in whole seconds; a fraction is dropped"
_BODY_NOTE = "bodies are kept for three months and cut at a few megabytes; older requests have an empty body"
_BODY_REMEDY = "pass a time_filter that starts within the last 90 days"


_text = partial(ColumnFacts, table=REQUESTS, kind=Kind.TEXT)
_uuid = partial(_text, uuid=True, server_refuses=_PATTERNS, server_note=_UUID_NOTE)
_absent = partial(_text, on_server=Reading.FAILS, server_note=_MISSING_NOTE)
_body = partial(
    _text,
    server_expires=True,
    server_note=_BODY_NOTE,
    server_remedy=_BODY_REMEDY,
    uncopied="copy bodies with sync(bodies=True) or `helicone-sessions sync --bodies`",
)
_number = partial(ColumnFacts, table=REQUESTS, kind=Kind.NUMBER)
_milliseconds = partial(_number, unit="milliseconds", whole=True)
_tokens = partial(_number, unit="tokens", whole=True)
_time = partial(ColumnFacts, table=REQUESTS, kind=Kind.TIMESTAMP, server_note=_SECONDS_NOTE)
_flag = partial(ColumnFacts, table=REQUESTS, kind=Kind.BOOLEAN)
_map = partial(ColumnFacts, table=REQUESTS, kind=Kind.MAP)
_session = partial(
    ColumnFacts,
    table=SESSIONS,
    on_server=Reading.IGNORED,
    server_note=_SESSION_NOTE,
    server_remedy=_SESSION_REMEDY,
)
_session_text = partial(_session, kind=Kind.TEXT)
_session_tokens = partial(_session, kind=Kind.NUMBER, unit="tokens", whole=True)
_session_time = partial(_session, kind=Kind.TIMESTAMP)

_COLUMNS: Final[tuple[ColumnFacts, ...]] = (
    _text("country_code", "two-letter country code of the caller", nullable=True),
    _milliseconds("latency", "time from request to complete response"),
    _number(
        "cost",
        "price of the request",
        unit="dollars",
        missing_as=0,
        often_missing=True,
        missing_remedy="add F.cost > 0 to leave them out",
        server_scale=10**9,
        server_note="multiplied by 1e9, floored and bound as Int32: above 2.147483647 it wraps around",
    ),
    _text("provider", "provider of the model, such as OPENAI or ANTHROPIC"),
    _milliseconds("time_to_first_token", "time from request to the first token"),
    _number(
        "status",
        "HTTP status of the response",
        unit="code",
        whole=True,
        negative=True,
        missing_as=0,
        missing_remedy="add F.status != 0 to leave them out",
    ),
    _time("request_created_at", "time of the request"),
    _time("response_created_at", "time of the complete response"),
    _text(
        "model",
        "name of the model",
        missing_as="",
        missing_remedy="add ~F.model.is_empty() to leave them out",
    ),
    _text("user_id", "user id set by the application"),
    _uuid("organization_id", "UUID of the organisation", server_remedy=_UUID_REMEDY),
    _absent("node_id", "id of a node", server_remedy=_PROPERTY_REMEDY),
    _absent("job_id", "id of a job", server_remedy=_PROPERTY_REMEDY),
    _flag("threat", "the request was marked as a threat"),
    _uuid("request_id", "UUID of the request", server_remedy=_UUID_REMEDY),
    _tokens("prompt_tokens", "tokens sent"),
    _tokens("completion_tokens", "tokens received"),
    _tokens("prompt_cache_read_tokens", "tokens read from the provider's cache"),
    _tokens("prompt_cache_write_tokens", "tokens written to the provider's cache"),
    _tokens(
        "total_tokens",
        "tokens sent and received",
        on_server=Reading.FAILS,
        server_note=_MISSING_NOTE,
        server_remedy=_SUM_REMEDY,
    ),
    _text("target_url", "address that the request was forwarded to", nullable=True),
    ColumnFacts("property_key", "the request has a property of this name", table=REQUESTS, kind=Kind.KEY),
    _map("properties", "properties of the request by key, such as Helicone-Session-Id"),
    _map(
        "search_properties",
        "searchable properties by key",
        on_server=Reading.FAILS,
        server_note=_MISSING_NOTE,
        server_remedy="use F.properties[key]",
    ),
    _map(
        "scores",
        "scores of the request by key, as whole numbers",
        server_refuses=("equals", *_PATTERNS),
        server_note=_SCORE_NOTE,
        server_remedy=_SCORE_REMEDY,
    ),
    _text(
        "scores_column",
        "the map of scores as a whole",
        server_refuses=("equals", "not-equals", *_PATTERNS),
        server_twists=("not-equals",),
        server_note="ClickHouse cannot compare a map with text (codes 27 and 43), and a map is never missing",
        server_remedy=_SCORE_REMEDY,
    ),
    _body("request_body", "text of the request"),
    _body("response_body", "text of the response"),
    _flag("cache_enabled", "Helicone's cache was enabled for the request"),
    _uuid(
        "cache_reference_id",
        "UUID of the request whose response came from the cache",
        server_remedy=f"{_UUID_REMEDY}, or use F.cached",
    ),
    _flag("cached", "the response came from Helicone's cache", server_note=_CACHED_NOTE),
    _absent(
        "assets",
        "ids of the assets of the request",
        empty=SERVER_EMPTY,
        sentinels=(SERVER_EMPTY,),
        server_remedy=f"{_PROPERTY_REMEDY}; the embedded engine (LocalServer) reads F.assets",
    ),
    _flag(
        "helicone-score-feedback",
        "the user's feedback, true if positive",
        server_note="a request without feedback counts as one with bad feedback",
        server_remedy=_FEEDBACK_REMEDY,
    ),
    _text("prompt_id", "id of the prompt template"),
    _text("prompt_version", "version of the prompt template"),
    _text("request_referrer", "referrer of the request"),
    _flag("is_passthrough_billing", "the provider's bill was passed through"),
    _session_text("session_session_id", "id of the session", server_remedy="use F.session_id"),
    _session_text(
        "session_session_name",
        "name of the session",
        server_remedy="use F.session_name",
    ),
    _session("session_total_cost", "price of all requests of the session", kind=Kind.NUMBER, unit="dollars"),
    _session_tokens("session_total_tokens", "tokens sent and received in the session"),
    _session_tokens("session_prompt_tokens", "tokens sent in the session"),
    _session_tokens("session_completion_tokens", "tokens received in the session"),
    _session_tokens("session_total_requests", "number of requests in the session", unit="requests"),
    _session_time("session_created_at", "time of the first request of the session"),
    _session_time("session_latest_request_created_at", "time of the latest request of the session"),
    _session_text(
        "session_tag",
        "tag of the session",
        on_server=Reading.READ,
        sentinels=(),
        uncopied="sync cannot copy tags; query the service for them",
        server_twists=("contains", "not-equals", "not-contains"),
        server_note=(
            "looked up in a table of tags: contains matches the whole tag, a negation means 'has another tag'"
            "; tags of other organisations and earlier tags of a session count too"
        ),
        server_remedy="for contains use .ilike('%text%'); a negation has no equivalent there",
    ),
)

# Other names for the properties that identify a session.
ALIASES: Final = {"session_id": "Helicone-Session-Id", "session_name": "Helicone-Session-Name"}
COLUMNS: Final[dict[str, ColumnFacts]] = {column.name: column for column in _COLUMNS}
