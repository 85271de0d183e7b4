"""Facts about the requests: which values are missing, and what makes queries faster.

The latter is whether sessions have several names, and which properties are frequent.

Frequent properties become columns of the tables. ClickHouse computes such a column from the map of properties
wherever a part does not have it yet, so a column changes the speed of a query and never its result.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Final
from uuid import UUID

from helicone_sessions.filters.cautions import DataGaps
from helicone_sessions.filters.schema import COLUMNS
from helicone_sessions.local.drivers import WritableDriver, rows_of
from helicone_sessions.local.storage.table import (
    INCOMING_REQUESTS,
    REQUESTS_TABLE,
    SESSION_COLUMNS,
    TAGS_TABLE,
)

_PREFIX: Final = "property_of_"
# With fewer requests, a condition on a property takes a few milliseconds anyway.
_FEWEST_REQUESTS: Final = 2**18
# The number of requests that are searched for keys, evenly spread: there may be millions of different keys.
_SAMPLE: Final = 2**18
_MOST_COLUMNS: Final = 8
_FREQUENT: Final = 0.1
_LOOKED_UP: Final = 10_000
# Columns that have a value in nearly every request, or that a sync may not copy.
_OFTEN_THERE: Final = frozenset(name for name, facts in COLUMNS.items() if facts.missing_as is not None)
_TAG: Final = "session_tag"
_UNCOPIED: Final = frozenset(name for name, facts in COLUMNS.items() if facts.uncopied) - {_TAG}


async def has_several_names(
    driver: WritableDriver, database: str, *, since: int = 0, rows: int | None = None
) -> bool:
    """Whether a session has several names.

    Args:
        driver: The ClickHouse.
        database: The database.
        since: Look only at the sessions that have requests of this version or a later one.
        rows: The number of those requests.
    """
    requests = f"{database}.{REQUESTS_TABLE}"
    changed = "1"
    if since:
        # For a few sessions, an index finds their other requests; for many, a scan is faster.
        key = "session_id" if rows is not None and rows <= _LOOKED_UP else "session_key"
        changed = f"{key} IN (SELECT {key} FROM {requests} WHERE version >= {since})"
    # Hashes are compared faster than texts; two names share a hash as rarely as two ids do.
    name = "sipHash128(session_name)"
    found = await rows_of(
        driver,
        f"SELECT 1 FROM {requests} WHERE {changed} GROUP BY organization_id, session_key"
        f" HAVING min({name}) != max({name}) LIMIT 1",
    )
    return bool(found)


async def data_gaps(driver: WritableDriver, database: str, organization: UUID) -> DataGaps:
    """The columns without a value in some or in all requests of an organisation.

    Args:
        driver: The ClickHouse.
        database: The database.
        organization: The organisation.
    """
    # Each search ends at the first row that it finds.
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
    """A subquery for 1 if a row matches a condition, or else 0."""
    first = f"SELECT 1 FROM {table} WHERE organization_id = {{organization:UUID}} AND {search} LIMIT 1"
    return f"(SELECT count() FROM ({first}))"


def is_due(before: int, after: int) -> bool:
    """Whether a load that changed the number of requests calls for `update_property_columns`.

    It does when that number passes a power of two, so that all calls together cost as much as the last two.
    """
    return after >= _FEWEST_REQUESTS and after.bit_length() > before.bit_length()


async def property_columns(driver: WritableDriver, database: str) -> dict[str, str]:
    """The columns of frequent properties by key, including the columns that identify a session."""
    found = await rows_of(
        driver,
        "SELECT comment, name FROM system.columns WHERE database = {database:String}"
        f" AND table = '{REQUESTS_TABLE}' AND startsWith(name, '{_PREFIX}')",
        database=database,
    )
    return {**SESSION_COLUMNS, **{bytes.fromhex(key).decode(): name for key, name in found}}


async def update_property_columns(driver: WritableDriver, database: str, *, is_first: bool = False) -> None:
    """Make columns of the frequent properties, and drop the columns of properties that are not frequent.

    Args:
        driver: The ClickHouse.
        database: The database.
        is_first: Look at the staged rows instead, because there are no requests yet. Rows that are staged
            later have the columns then, which takes far less time than adding them to the requests.
    """
    table = INCOMING_REQUESTS if is_first else REQUESTS_TABLE
    wanted = {_column_of(key): key for key in await _frequent_keys(driver, f"{database}.{table}")}
    known = set((await property_columns(driver, database)).values())
    unneeded = known - wanted.keys() - set(SESSION_COLUMNS.values())
    missing = {name: key for name, key in wanted.items() if name not in known}
    if changes := _changes(unneeded, missing):
        # A load may move whole parts from one table to the other, so both have the same columns.
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
    # A key may be any text, of any length.
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
    """*text* as a literal made of its bytes, so that no character needs an escape."""
    return f"unhex('{text.encode().hex()}')"
