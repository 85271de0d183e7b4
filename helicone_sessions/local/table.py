"""The tables that the engine asks: Helicone's own, or those that it makes in their shape."""

from enum import StrEnum
from typing import Final

import attrs


class Stored(StrEnum):
    """The types of the stored columns, as ClickHouse spells them."""

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


REQUEST_COLUMNS: Final[dict[str, Stored]] = {
    "request_id": Stored.UUID,
    "organization_id": Stored.UUID,
    "request_created_at": Stored.TIME,
    "response_created_at": Stored.MAYBE_TIME,
    "latency": Stored.MAYBE_WHOLE,
    "time_to_first_token": Stored.MAYBE_WHOLE,
    "prompt_tokens": Stored.MAYBE_WHOLE,
    "completion_tokens": Stored.MAYBE_WHOLE,
    "prompt_cache_read_tokens": Stored.WHOLE,
    "prompt_cache_write_tokens": Stored.WHOLE,
    "status": Stored.WHOLE,
    "cost": Stored.NANODOLLARS,
    "model": Stored.NAME,
    "provider": Stored.NAME,
    "user_id": Stored.NAME,
    "target_url": Stored.MAYBE_TEXT,
    "country_code": Stored.MAYBE_TEXT,
    "threat": Stored.MAYBE_FLAG,
    "properties": Stored.PROPERTIES,
    "scores": Stored.SCORES,
    "request_body": Stored.TEXT,
    "response_body": Stored.TEXT,
    "assets": Stored.TEXTS,
    "cache_enabled": Stored.FLAG,
    "cache_reference_id": Stored.UUID,
    "prompt_id": Stored.TEXT,
    "prompt_version": Stored.TEXT,
    "request_referrer": Stored.TEXT,
    "is_passthrough_billing": Stored.FLAG,
}

SESSION_ID: Final = "Helicone-Session-Id"
SESSION_NAME: Final = "Helicone-Session-Name"
FEEDBACK: Final = "helicone-score-feedback"


REQUESTS_TABLE: Final = "request_response_rmt"
TAGS_TABLE: Final = "tags"


@attrs.frozen
class Tables:
    """Where requests and tags are, as SQL.

    Args:
        requests: The table of requests, with ``FINAL`` where it replaces rows.
        tags: The table of tags, likewise; None if there is none.
        columns: The columns of requests that are there.
        session_id: The expression for a request's session id.
        session_name: The expression for the name of its session.
    """

    requests: str
    tags: str | None
    columns: frozenset[str] = frozenset(REQUEST_COLUMNS)
    session_id: str = "session_id"
    session_name: str = "session_name"

    @classmethod
    def own(cls, database: str) -> "Tables":
        """The tables that `create_statements` makes."""
        return cls(f"{database}.{REQUESTS_TABLE} FINAL", f"{database}.{TAGS_TABLE} FINAL")


def create_statements(database: str) -> list[str]:
    """The statements that make the tables in *database*, whose name is the engine's own."""
    columns = ",\n  ".join(f"{name} {stored}" for name, stored in REQUEST_COLUMNS.items())
    return [
        f"CREATE DATABASE {database}",
        f"""CREATE TABLE {database}.request_response_rmt (
  {columns},
  updated_at DateTime64(3, 'UTC') DEFAULT now64(3),
  session_id String MATERIALIZED properties['{SESSION_ID}'],
  session_name String MATERIALIZED properties['{SESSION_NAME}']
) ENGINE = ReplacingMergeTree(updated_at)
PARTITION BY toYYYYMM(request_created_at)
ORDER BY (organization_id, request_created_at, request_id)""",
        f"""CREATE TABLE {database}.tags (
  organization_id UUID,
  entity_type LowCardinality(String),
  entity_id String,
  tag String,
  created_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(created_at)
ORDER BY (organization_id, entity_type, entity_id, tag)""",
    ]
