"""Rebuilds a store that an older version made: its rows move to tables of the present layout."""

import asyncio
from pathlib import Path
from typing import Final

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.drivers.driver import Limits, Statement, WritableDriver
from helicone_sessions.local.storage.profile import is_due, update_property_columns
from helicone_sessions.local.storage.table import (
    LAYOUT,
    OWN_DATABASE,
    OWN_TABLES,
    REQUESTS_TABLE,
    create_statements,
    layout_of,
)
from helicone_sessions.masking import masked_repr

_UNLIMITED: Final = Limits(seconds=None)


async def rebuild(path: Path) -> int:
    """Rebuild the store in a directory; if this is interrupted, it can be repeated.

    Args:
        path: The directory.

    Returns:
        The number of requests.

    Raises:
        ConfigurationError: There is no store of an older layout, or it is open elsewhere.
        DriverError: ClickHouse gave up; no row is lost.
    """
    if not await asyncio.to_thread(path.is_dir):
        raise ConfigurationError(argument="path", problem=f"must be the directory of a store, got {path}")
    driver = ChdbDriver(path, limits=_UNLIMITED)
    await driver.open()
    try:
        await _check_layouts(driver, path)
        return await _rebuild(driver)
    finally:
        await driver.aclose()


async def _check_layouts(driver: WritableDriver, path: Path) -> None:
    text = f"SELECT name, comment FROM system.tables WHERE database = '{OWN_DATABASE}'"
    comments = dict((await driver.query(Statement(text))).rows)
    if REQUESTS_TABLE not in comments:
        raise ConfigurationError(argument="path", problem=f"holds no store, got {path}")
    for table in OWN_TABLES:
        layout = layout_of(comments.get(table, ""))
        if table in comments and (layout is None or layout > LAYOUT):
            raise ConfigurationError(
                argument="path",
                problem=f"holds a table {table} of an unknown layout ({masked_repr(comments[table])})",
                remedy="Use the version of helicone-sessions that made it",
            )


async def _rebuild(driver: WritableDriver) -> int:
    fresh = f"{OWN_DATABASE}_rebuilt"
    await driver.execute(f"DROP DATABASE IF EXISTS {fresh} SYNC")
    for statement in (*create_statements(OWN_DATABASE), *create_statements(fresh)):
        await driver.execute(statement)
    for table in OWN_TABLES:
        columns = ", ".join(await _common_columns(driver, table, fresh))
        await driver.execute(
            f"INSERT INTO {fresh}.{table} ({columns}) SELECT {columns} FROM {OWN_DATABASE}.{table}"
            " SETTINGS max_partitions_per_insert_block = 0"
        )
    # From here on, each table is either the old one or the new one, and both have all rows.
    for table in OWN_TABLES:
        await driver.execute(f"EXCHANGE TABLES {fresh}.{table} AND {OWN_DATABASE}.{table}")
    await driver.execute(f"DROP DATABASE {fresh} SYNC")
    found = await driver.query(Statement(f"SELECT count() FROM {OWN_DATABASE}.{REQUESTS_TABLE}"))
    requests = int(found.rows[0][0])
    if is_due(0, requests):
        await update_property_columns(driver, OWN_DATABASE)
    return requests


async def _common_columns(driver: WritableDriver, table: str, fresh: str) -> list[str]:
    """The stored columns that both tables have."""
    databases = f"'{OWN_DATABASE}', '{fresh}'"
    text = (
        f"SELECT name FROM system.columns WHERE table = '{table}' AND database IN ({databases})"
        " AND default_kind IN ('', 'DEFAULT') GROUP BY name HAVING count() = 2 ORDER BY name"
    )
    return [name for (name,) in (await driver.query(Statement(text))).rows]
