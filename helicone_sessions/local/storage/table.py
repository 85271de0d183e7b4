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
# The staging tables of a load.
INCOMING_REQUESTS: Final = "incoming_requests"
INCOMING_TAGS: Final = "incoming_tags"
OWN_TABLES: Final = (REQUESTS_TABLE, TAGS_TABLE, INCOMING_REQUESTS, INCOMING_TAGS)

# A load is acknowledged when its rows are on the disk; staged parts become parts of the requests.
_WRITE_THROUGH: Final = (
    "fsync_after_insert = 1, fsync_part_directory = 1,"
    " min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1"
)

# It goes up with every change of the tables below; the tables of a store carry it as their comment.
LAYOUT: Final = 3
LAYOUT_MARK: Final = f"helicone-sessions, layout {LAYOUT}"


@attrs.frozen
class Tables:
    """Where requests and tags are, as SQL.

    Args:
        requests: The table of requests, with ``FINAL`` where it replaces rows.
        tags: The table of tags, likewise; None if there is none.
        columns: The columns of requests that are there.
        session_id: The expression for a request's session id, as a condition has it, for which there may
            be an index.
        session_name: The expression for the name of its session, likewise.
        each_id: The expression for the session id where every row is read.
        each_name: The expression for the name, likewise.
    """

    requests: str
    tags: str | None
    columns: frozenset[str] = frozenset(REQUEST_COLUMNS)
    session_id: str = "session_id"
    session_name: str = "session_name"
    each_id: str = attrs.field(default=attrs.Factory(lambda self: self.session_id, takes_self=True))
    each_name: str = attrs.field(default=attrs.Factory(lambda self: self.session_name, takes_self=True))

    @classmethod
    def own(cls, database: str) -> "Tables":
        """The tables that `create_statements` makes; a load leaves no request in them twice."""
        return cls(f"{database}.{REQUESTS_TABLE}", f"{database}.{TAGS_TABLE} FINAL")


def create_statements(database: str) -> list[str]:
    """The statements that make what is not there yet in *database*, whose name is the engine's own.

    A load moves whole parts from the staging table to the requests, so both have the same structure, and
    neither is partitioned. Numbers of blocks are kept for the deletes of a load, which are patches of a few
    rows; a merged part would bring those of another table with it, so the staging table does not merge.
    """
    columns = ",\n  ".join(f"{name} {stored}" for name, stored in REQUEST_COLUMNS.items())
    structure = f"""(
  {columns},
  version UInt64,
  load_flags UInt8,
  session_id String MATERIALIZED properties['{SESSION_ID}'],
  session_name LowCardinality(String) MATERIALIZED properties['{SESSION_NAME}'],
  INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_property mapKeys(properties) TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_property_value mapValues(properties) TYPE bloom_filter(0.01) GRANULARITY 1
)"""
    order = "ORDER BY (organization_id, request_created_at, request_id)"
    blocks = f"enable_block_number_column = 1, enable_block_offset_column = 1, {_WRITE_THROUGH}"
    no_merges = (
        "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1,"
        " parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000, max_parts_to_move = 1000000"
    )
    return [
        f"CREATE DATABASE IF NOT EXISTS {database}",
        f"""CREATE TABLE IF NOT EXISTS {database}.{REQUESTS_TABLE} {structure}
ENGINE = ReplacingMergeTree(version) {order} SETTINGS {blocks} COMMENT '{LAYOUT_MARK}'""",
        f"""CREATE TABLE IF NOT EXISTS {database}.{INCOMING_REQUESTS} {structure}
ENGINE = MergeTree {order} SETTINGS {blocks}, {no_merges} COMMENT '{LAYOUT_MARK}'""",
        *(
            f"""CREATE TABLE IF NOT EXISTS {database}.{name} (
  organization_id UUID,
  entity_type LowCardinality(String),
  entity_id String,
  tag String,
  created_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(created_at)
ORDER BY (organization_id, entity_type, entity_id, tag)
SETTINGS {_WRITE_THROUGH}
COMMENT '{LAYOUT_MARK}'"""
            for name in (TAGS_TABLE, INCOMING_TAGS)
        ),
    ]
