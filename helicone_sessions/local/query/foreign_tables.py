"""Finds Helicone's tables in an existing ClickHouse, and how to query them."""

import logging
import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import Driver, DriverError, Statement
from helicone_sessions.local.query.contract_sql import Parameters
from helicone_sessions.local.storage.table import (
    REQUEST_COLUMNS,
    REQUESTS_TABLE,
    SESSION_ID,
    SESSION_NAME,
    TAGS_TABLE,
    Stored,
    Tables,
)

_LOG: Final = logging.getLogger(__name__)

_REQUIRED: Final = ("organization_id", "request_created_at", "request_id", "properties", "cost")
_OF_TAGS: Final = ("organization_id", "entity_type", "entity_id", "tag")
_SESSION_COLUMNS: Final = {"session_id": SESSION_ID, "session_name": SESSION_NAME}
_CANNOT_BE_FINAL: Final = 181
# Enough for an error message.
_MOST_ORGANIZATIONS: Final = 10
_TIME: Final = r"DateTime(?:64)?(?:\(.*\))?"
_INTEGER: Final = r"U?Int\d+"
_NUMBER: Final = rf"(?:{_INTEGER}|Float\d+|Decimal\(.*\))"
_FLAG: Final = r"(?:Bool|U?Int8)"
# The types of columns on which the engine's conditions work.
_FORMS: Final[dict[Stored, str]] = {
    Stored.UUID: "UUID",
    Stored.TIME: _TIME,
    Stored.MAYBE_TIME: _TIME,
    Stored.WHOLE: _NUMBER,
    Stored.MAYBE_WHOLE: _NUMBER,
    Stored.NANODOLLARS: _INTEGER,
    Stored.NAME: "String",
    Stored.TEXT: "String",
    Stored.MAYBE_TEXT: "String",
    Stored.FLAG: _FLAG,
    Stored.MAYBE_FLAG: _FLAG,
    Stored.TEXTS: r"Array\(String\)",
    Stored.PROPERTIES: r"Map\(String, String\)",
    Stored.SCORES: rf"Map\(String, {_INTEGER}\)",
}
# A wrapper that makes no difference to a condition.
_WRAPPERS: Final = re.compile(r"LowCardinality\(((?:[^()]|\([^()]*\))*)\)")
_NULLABLE: Final = re.compile(r"Nullable\((.*)\)")


async def find_tables(driver: Driver, database: str | None = None) -> Tables:
    """Helicone's tables in a database.

    Args:
        driver: The open driver.
        database: The database; by default the one that the driver is connected to.

    Raises:
        ConfigurationError: The table of requests is missing or cannot be used; the message says why.
        DriverError: ClickHouse rejected a statement or gave up.
    """
    found, tables = await _columns(driver, database)
    if REQUESTS_TABLE not in tables:
        raise ConfigurationError(
            argument="clickhouse",
            problem=f"database {found!r} has no table {REQUESTS_TABLE} that this user may read",
            remedy="Name Helicone's database in the URL, http://user:password@host:8123/database",
        )
    columns = tables[REQUESTS_TABLE]
    table = f"{_quoted(found)}.{_quoted(REQUESTS_TABLE)}"
    _check_required(f"{found}.{REQUESTS_TABLE}", columns)
    expressions = {
        name: name if _plain(columns.get(name, "")) == "String" else f"properties['{key}']"
        for name, key in _SESSION_COLUMNS.items()
    }
    final = await _final(driver, table)
    parts = await _reads_parts(driver, table + final)
    each = {
        name: f"properties.values[indexOf(properties.keys, '{key}')]"
        if parts and expressions[name] != name
        else expressions[name]
        for name, key in _SESSION_COLUMNS.items()
    }
    return Tables(
        requests=table + final,
        tags=await _tags(driver, found, tables.get(TAGS_TABLE)),
        columns=_usable(f"{found}.{REQUESTS_TABLE}", columns),
        session_id=expressions["session_id"],
        session_name=expressions["session_name"],
        each_id=each["session_id"],
        each_name=each["session_name"],
    )


async def find_organizations(driver: Driver, tables: Tables) -> list[UUID]:
    """The organisations that have requests, at most ten, in descending order of their requests.

    Args:
        driver: The open driver.
        tables: Its tables.

    Raises:
        DriverError: ClickHouse rejected the statement or gave up.
    """
    # Duplicates do not matter here, and without FINAL ClickHouse reads much less.
    table = tables.requests.removesuffix(" FINAL")
    text = (
        f"SELECT organization_id FROM {table} GROUP BY organization_id"
        f" ORDER BY count() DESC, organization_id LIMIT {_MOST_ORGANIZATIONS}"
    )
    return [UUID(row[0]) for row in (await driver.query(Statement(text))).rows]


async def _columns(driver: Driver, database: str | None) -> tuple[str, dict[str, dict[str, str]]]:
    """The name of the database and, for each table, the types of its columns."""
    if database is None:
        database = str((await driver.query(Statement("SELECT currentDatabase()"))).rows[0][0])
    parameters = Parameters()
    text = (
        f"SELECT table, name, type FROM system.columns WHERE database = {parameters.add('String', database)}"
        f" AND table IN ('{REQUESTS_TABLE}', '{TAGS_TABLE}')"
    )
    tables: dict[str, dict[str, str]] = {}
    for table, name, kind in (await driver.query(Statement(text, parameters.values))).rows:
        tables.setdefault(table, {})[name] = kind
    return database, tables


def _check_required(table: str, columns: Mapping[str, str]) -> None:
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise ConfigurationError(
            argument="clickhouse",
            problem=f"table {table} has no column {', '.join(missing)}, which is required",
            remedy="Name Helicone's database in the URL",
        )
    if wrong := [name for name in _REQUIRED if not _fits(name, columns[name])]:
        types = "; ".join(f"{name} must be {REQUEST_COLUMNS[name]}, got {columns[name]}" for name in wrong)
        raise ConfigurationError(argument="clickhouse", problem=f"table {table} cannot be used: {types}")


def _usable(table: str, columns: Mapping[str, str]) -> frozenset[str]:
    known = [name for name in REQUEST_COLUMNS if name in columns]
    for name in known:
        if not _fits(name, columns[name]):
            _LOG.warning(
                "the column %s of %s is ignored: its type is %s, expected %s",
                name,
                table,
                columns[name],
                REQUEST_COLUMNS[name],
            )
    return frozenset(name for name in known if _fits(name, columns[name]))


def _fits(name: str, kind: str) -> bool:
    stored = REQUEST_COLUMNS[name]
    plain = _plain(kind)
    if name not in _REQUIRED and (nullable := _NULLABLE.fullmatch(plain)):
        plain = nullable[1]
    return re.fullmatch(_FORMS[stored], plain) is not None


def _plain(kind: str) -> str:
    return _WRAPPERS.sub(r"\1", kind)


async def _tags(driver: Driver, database: str, columns: Mapping[str, str] | None) -> str | None:
    if columns is None:
        return None
    if missing := [name for name in _OF_TAGS if name not in columns]:
        names = ", ".join(missing)
        _LOG.warning("the table %s.%s is ignored: it has no column %s", database, TAGS_TABLE, names)
        return None
    table = f"{_quoted(database)}.{_quoted(TAGS_TABLE)}"
    return table + await _final(driver, table)


async def _final(driver: Driver, table: str) -> str:
    """`` FINAL``, which excludes replaced rows, if the table supports it; else an empty string.

    Only the servers behind a ``Distributed`` table know, so this runs a query that selects no rows.
    """
    text = f"SELECT 1 FROM {table} FINAL WHERE organization_id = toUUID('{UUID(int=0)}') LIMIT 1"
    try:
        await driver.query(Statement(text))
    except DriverError as error:
        if error.code != _CANNOT_BE_FINAL:
            raise
        return ""
    return " FINAL"


async def _reads_parts(driver: Driver, table: str) -> bool:
    """Whether keys and values can be read separately, which takes a fifth less time than reading the map."""
    text = f"SELECT properties.keys, properties.values FROM {table} LIMIT 0"
    try:
        await driver.query(Statement(text))
    except DriverError:
        return False
    return True


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
