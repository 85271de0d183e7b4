"""Describes the tables that the engine reads, and creates tables with the same structure as Helicone's.

The description includes some facts about the data. Cautions depend on which columns have no values. Queries
are faster if the engine knows whether sessions have several names, and which properties are frequent.

Frequent properties are stored as additional columns. If a part of the table does not have such a column yet,
ClickHouse computes the column from the map of properties. An additional column therefore never changes the
result of a query, only its speed.
"""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Final
from uuid import UUID

import attrs

from helicone_sessions.filters.cautions import DataGaps
from helicone_sessions.filters.schema import COLUMNS
from helicone_sessions.local.drivers import Limits, Statement, WritableDriver, rows_of
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, SESSION_ID, SESSION_NAME, Stored

SESSION_COLUMNS: Final[Mapping[str, str]] = {SESSION_ID: "session_id", SESSION_NAME: "session_name"}
"""The engine's table columns for the properties that identify a session."""


OWN_DATABASE: Final = "helicone_sessions"
"""The database of a store on disk."""
REQUESTS_TABLE: Final = "request_response_rmt"
TAGS_TABLE: Final = "tags"
# The staging tables of a load.
INCOMING_REQUESTS: Final = "incoming_requests"
INCOMING_TAGS: Final = "incoming_tags"
OWN_TABLES: Final = (REQUESTS_TABLE, TAGS_TABLE, INCOMING_REQUESTS, INCOMING_TAGS)

# A load is acknowledged only after its rows are on disk. Staged parts later become parts of the requests.
_WRITE_THROUGH: Final = (
    "fsync_after_insert = 1, fsync_part_directory = 1,"
    " min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1"
)

# The number increases with every change of the tables below. The tables of a store have it in their comment.
LAYOUT: Final = 3
LAYOUT_MARK: Final = f"helicone-sessions, layout {LAYOUT}"
_LAYOUT_MARKS: Final = re.compile(r"helicone-sessions, layout (\d{1,9})")


def _hash(text: str) -> str:
    # Requests are grouped by hashes, because grouping by 16 bytes takes half as long as grouping by a text of
    # 36 characters. With 128 bits, the probability that any two of a billion sessions share a hash is 10^-21,
    # far less than the probability of a memory error. Constructing two such ids takes 2^64 attempts.
    return f"reinterpretAsUInt128(sipHash128({text}))"


@attrs.frozen
class Tables:
    """The SQL for the tables of requests and tags, and known facts about them.

    Only the expressions for sessions and properties depend on the tables. All other SQL is the same for all
    tables.

    Args:
        requests: The table of requests, with ``FINAL`` if the table replaces rows.
        tags: The table of tags, also with ``FINAL``; None if there is no such table.
        columns: The existing columns of the table of requests.
        session_id: The expression for the session id in conditions. Such conditions can use an index.
        session_name: The expression for the session name in conditions.
        each_id: The expression for the session id in statements that read every row.
        each_name: The expression for the session name in statements that read every row.
        session_key: The expression that groups requests into sessions.
        each_name_key: The expression that groups the requests of a session by name.
        property_keys: The column with the property keys; None if there is no such column.
        property_columns: The columns of frequent properties, by key.
        has_several_names: Whether a session may have several names; None if unknown.
        only_organization: The only organisation with requests; None if there are several, or if unknown.
    """

    requests: str
    tags: str | None
    columns: frozenset[str] = frozenset(REQUEST_COLUMNS)
    session_id: str = "session_id"
    session_name: str = "session_name"
    each_id: str = attrs.field(default=attrs.Factory(lambda self: self.session_id, takes_self=True))
    each_name: str = attrs.field(default=attrs.Factory(lambda self: self.session_name, takes_self=True))
    session_key: str = attrs.field(default=attrs.Factory(lambda self: self.each_id, takes_self=True))
    each_name_key: str = attrs.field(default=attrs.Factory(lambda self: self.each_name, takes_self=True))
    property_keys: str | None = None
    property_columns: Mapping[str, str] = attrs.field(factory=dict)
    has_several_names: bool | None = None
    only_organization: UUID | None = None

    @classmethod
    def own(cls, database: str) -> "Tables":
        """Describe the tables that `create_statements` creates. They contain each request only once."""
        return cls(
            f"{database}.{REQUESTS_TABLE}",
            f"{database}.{TAGS_TABLE} FINAL",
            session_key="session_key",
            each_name_key=_hash("session_name"),
            property_keys="property_keys",
            property_columns=SESSION_COLUMNS,
        )

    @property
    def name_key(self) -> str:
        """The expression `each_name_key`, or an empty string literal if each session has only one name."""
        return "''" if self.has_several_names is False else self.each_name_key


# By default, ClickHouse compresses large parts with ZSTD, and decompression takes a third of the time of a
# query without a filter. T64 drops the bits that no value of a block uses, so it is both smaller and faster.
_CODECS: Final[Mapping[Stored, str]] = {
    Stored.TIME: "T64",
    Stored.MAYBE_TIME: "T64, LZ4",
    Stored.WHOLE: "T64, LZ4",
    Stored.MAYBE_WHOLE: "T64, LZ4",
    Stored.NANODOLLARS: "T64",
    Stored.NAME: "LZ4",
}

_DERIVED_COLUMNS: Final = f"""\
  session_id String MATERIALIZED properties['{SESSION_ID}'],
  session_name LowCardinality(String) MATERIALIZED properties['{SESSION_NAME}'] CODEC(LZ4),
  session_key UInt128 MATERIALIZED {_hash("session_id")} CODEC(LZ4),
  property_keys Array(LowCardinality(String)) MATERIALIZED mapKeys(properties) CODEC(LZ4)"""
_INDEXES: Final = """\
  INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_session_id session_id TYPE bloom_filter(0.0001) GRANULARITY 1,
  INDEX by_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_version version TYPE minmax GRANULARITY 1,
  INDEX by_property mapKeys(properties) TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_property_key property_keys TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_property_value mapValues(properties) TYPE bloom_filter(0.01) GRANULARITY 1"""
# In merged parts, a map has as many buckets as keys. So a condition on a key reads little more than that key.
_BUCKETS: Final = (
    "map_serialization_version = 'with_buckets', map_buckets_strategy = 'linear',"
    " map_buckets_min_avg_size = 0"
)


def _column(name: str, stored: Stored) -> str:
    return f"{name} {stored} CODEC({_CODECS[stored]})" if stored in _CODECS else f"{name} {stored}"


def layout_of(comment: str) -> int | None:
    """Parse the layout number in a table comment. Return None if this package did not create the table."""
    mark = _LAYOUT_MARKS.fullmatch(comment)
    return None if mark is None else int(mark[1])


def create_statements(database: str) -> list[str]:
    """Build the statements that create missing tables in *database*, a name chosen by the engine.

    A load moves whole parts from the staging table to the table of requests, so both tables have the same
    structure, and neither is partitioned. Both store block numbers, because the deletes of a load, which are
    patches of a few rows, need block numbers. The staging table does not merge parts, because a merged part
    would carry block numbers from one table to the other. Each staged part stores all columns in one file.
    Otherwise, each part would have about 160 files, and writing them would take a sixth of the time of a
    load.
    """
    columns = ",\n  ".join(_column(name, stored) for name, stored in REQUEST_COLUMNS.items())
    structure = f"""(
  {columns},
  version UInt64 CODEC(T64, LZ4),
  load_flags UInt8,
{_DERIVED_COLUMNS},
{_INDEXES}
)"""
    order = "ORDER BY (organization_id, request_created_at, request_id)"
    # A merge needs buffers for each column of each part. By default, it can include up to 100 parts.
    settings = (
        "enable_block_number_column = 1, enable_block_offset_column = 1, max_parts_to_merge_at_once = 16,"
        f" {_WRITE_THROUGH}, {_BUCKETS}"
    )
    staging = (
        "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1,"
        " parts_to_delay_insert = 1000000, parts_to_throw_insert = 1000000, max_parts_to_move = 1000000,"
        " min_bytes_for_wide_part = 1000000000000"
    )
    return [
        f"CREATE DATABASE IF NOT EXISTS {database}",
        f"""CREATE TABLE IF NOT EXISTS {database}.{REQUESTS_TABLE} {structure}
ENGINE = ReplacingMergeTree(version) {order} SETTINGS {settings} COMMENT '{LAYOUT_MARK}'""",
        f"""CREATE TABLE IF NOT EXISTS {database}.{INCOMING_REQUESTS} {structure}
ENGINE = MergeTree {order} SETTINGS {settings}, {staging} COMMENT '{LAYOUT_MARK}'""",
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


_PREFIX: Final = "property_of_"
# With fewer requests, a condition on a property takes only a few milliseconds without such a column.
_FEWEST_REQUESTS: Final = 2**18
# Keys are collected from this many evenly spread requests, because there may be millions of different keys.
_SAMPLE: Final = 2**18
_MOST_COLUMNS: Final = 8
_FREQUENT: Final = 0.1
_LOOKED_UP: Final = 10_000
# Columns that nearly every request has, and columns that a sync may not copy.
_OFTEN_THERE: Final = frozenset(name for name, facts in COLUMNS.items() if facts.missing_as is not None)
_TAG: Final = "session_tag"
_UNCOPIED: Final = frozenset(name for name, facts in COLUMNS.items() if facts.uncopied) - {_TAG}


async def has_several_names(
    driver: WritableDriver, database: str, *, since: int = 0, rows: int | None = None
) -> bool:
    """Whether any session has several names.

    Args:
        driver: The connection.
        database: The database.
        since: Check only sessions that have requests of this version or a later version.
        rows: The number of requests with these versions, if known.
    """
    requests = f"{database}.{REQUESTS_TABLE}"
    changed = "1"
    if since:
        # If there are few sessions, an index finds their other requests. If there are many, a scan is faster.
        key = "session_id" if rows is not None and rows <= _LOOKED_UP else "session_key"
        changed = f"{key} IN (SELECT {key} FROM {requests} WHERE version >= {since})"
    # Comparing hashes is faster than comparing texts. Two names share a hash as rarely as two ids.
    name = "sipHash128(session_name)"
    statement = Statement(
        f"SELECT 1 FROM {requests} WHERE {changed} GROUP BY organization_id, session_key"
        f" HAVING min({name}) != max({name}) LIMIT 1"
    )
    # Each thread would need memory for all sessions.
    return bool((await driver.query(statement, Limits(seconds=None, threads=1))).rows)


async def data_gaps(driver: WritableDriver, database: str, organization: UUID) -> DataGaps:
    """Find the columns that lack values in some or all requests of an organisation.

    Args:
        driver: The connection.
        database: The database.
        organization: The organisation.
    """
    # Each search stops at the first match.
    searches = {"": "1"}
    searches |= {name: f"{name} = {COLUMNS[name].missing_as!r}" for name in _OFTEN_THERE}
    searches |= {name: f"{name} != ''" for name in _UNCOPIED}
    found = [_any_of(f"{database}.{REQUESTS_TABLE}", search) for search in searches.values()]
    found.append(_any_of(f"{database}.{TAGS_TABLE}", "1"))
    (row,) = await rows_of(driver, f"SELECT {', '.join(found)}", organization=str(organization))
    exists = {name for name, count in zip([*searches, _TAG], row, strict=True) if int(count)}
    if "" not in exists:
        return DataGaps()
    return DataGaps(_OFTEN_THERE & exists, (_UNCOPIED | {_TAG}) - exists)


def _any_of(table: str, search: str) -> str:
    """Build a subquery that returns 1 if a row matches a condition, otherwise 0."""
    first = f"SELECT 1 FROM {table} WHERE organization_id = {{organization:UUID}} AND {search} LIMIT 1"
    return f"(SELECT count() FROM ({first}))"


def is_due(before: int, after: int) -> bool:
    """Whether `update_property_columns` is needed after a load that changed the number of requests.

    The update is needed whenever the number of requests passes a power of two. All updates together therefore
    take only about as long as the last two.
    """
    return after >= _FEWEST_REQUESTS and after.bit_length() > before.bit_length()


async def property_columns(driver: WritableDriver, database: str) -> dict[str, str]:
    """Return the columns of frequent properties by key, including the columns that identify a session."""
    found = await rows_of(
        driver,
        "SELECT comment, name FROM system.columns WHERE database = {database:String}"
        f" AND table = '{REQUESTS_TABLE}' AND startsWith(name, '{_PREFIX}')",
        database=database,
    )
    return {**SESSION_COLUMNS, **{bytes.fromhex(key).decode(): name for key, name in found}}


async def update_property_columns(driver: WritableDriver, database: str, *, is_first: bool = False) -> None:
    """Create columns for the frequent properties, and drop the columns of properties that are not frequent.

    Args:
        driver: The connection.
        database: The database.
        is_first: Use the staged rows, because there are no requests yet. Rows that are staged later are then
            written with the columns, which is much faster than adding columns to existing requests.
    """
    table = INCOMING_REQUESTS if is_first else REQUESTS_TABLE
    wanted = {_column_of(key): key for key in await _frequent_keys(driver, f"{database}.{table}")}
    known = set((await property_columns(driver, database)).values())
    unneeded = known - wanted.keys() - set(SESSION_COLUMNS.values())
    missing = {name: key for name, key in wanted.items() if name not in known}
    if changes := _changes(unneeded, missing):
        # A load may move whole parts between the tables, so both need the same columns.
        for table in (INCOMING_REQUESTS, REQUESTS_TABLE):
            await driver.execute(f"ALTER TABLE {database}.{table} {', '.join(changes)}")
    if missing and not is_first:
        written = (f"MATERIALIZE COLUMN {name}, MATERIALIZE INDEX by_{name}" for name in missing)
        await driver.execute(
            f"ALTER TABLE {database}.{REQUESTS_TABLE} {', '.join(written)} SETTINGS mutations_sync = 2"
        )


def _changes(unneeded: AbstractSet[str], missing: Mapping[str, str]) -> list[str]:
    changes = [change for name in sorted(unneeded) for change in _drop(name)]
    return changes + [change for name, key in missing.items() for change in _add(name, key)]


async def _frequent_keys(driver: WritableDriver, requests: str) -> list[str]:
    ((rows,),) = await rows_of(driver, f"SELECT count() FROM {requests}")
    step = max(1, rows // _SAMPLE)
    found = await rows_of(
        driver,
        f"SELECT arrayJoin(property_keys) AS key FROM {requests} WHERE rowNumberInAllBlocks() % {step} = 0"
        f" AND key NOT IN ({', '.join(map(_literal, SESSION_COLUMNS))})"
        f" GROUP BY key HAVING count() >= {_FREQUENT * rows / step} ORDER BY count() DESC, key"
        f" LIMIT {_MOST_COLUMNS}",
    )
    return [key for (key,) in found]


def _column_of(key: str) -> str:
    # The name is a hash, because a key may be any text of any length.
    return f"{_PREFIX}{blake2b(key.encode(), digest_size=16).hexdigest()}"


def _add(name: str, key: str) -> Iterable[str]:
    value = f"properties[{_literal(key)}]"
    yield (
        f"ADD COLUMN IF NOT EXISTS {name} LowCardinality(String) MATERIALIZED {value}"
        f" COMMENT '{key.encode().hex()}' CODEC(LZ4)"
    )
    yield f"ADD INDEX IF NOT EXISTS by_{name} {name} TYPE bloom_filter(0.01) GRANULARITY 1"


def _drop(name: str) -> Iterable[str]:
    yield f"DROP INDEX IF EXISTS by_{name}"
    yield f"DROP COLUMN IF EXISTS {name}"


def _literal(text: str) -> str:
    """Build a SQL literal from the bytes of *text*, so that no character needs an escape."""
    return f"unhex('{text.encode().hex()}')"
