"""The layout of the engine's own tables changes how fast queries are, and never what they answer."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import F, SessionMetricsQuery
from helicone_sessions.local.dataset import find_tables
from helicone_sessions.local.drivers import DriverError, Limits, Result, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.table import update_property_columns
from helicone_sessions.messages.converter import converter
from tests.local.nasty_rows import KEYS, NAMES, ORGANIZATION, Row, rows_of
from tests.local.test_oracle import OPTIONS, TREES, Tree
from tests.local.test_service_semantics import body_of
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")

DATABASE = "layout"
ID, NAME = "Helicone-Session-Id", "Helicone-Session-Name"


def with_one_name(row: Row) -> Row:
    """The row with a session name that depends on the session alone."""
    name = NAMES[len(row["properties"].get(ID, "")) % len(NAMES)]
    return {**row, "properties": row["properties"] | {NAME: name}}


@attrs.define
class Layouts:
    """The same requests in tables of the engine, in a plain table as elsewhere, and in Python."""

    own: Engine
    plain: Engine
    rows: list[Row]

    async def answers(self, query: SessionMetricsQuery, wire: Any = None, **options: Any) -> list[Any]:
        """The answers of both tables, or the texts of their errors."""
        found: list[Any] = []
        for engine in (self.own, self.plain):
            try:
                answer = attrs.evolve(engine, **options).answer(query, UUID(ORGANIZATION), wire)
                found.append(await answer)
            except Unanswerable as error:
                found.append(str(error))
            except DriverError as error:
                found.append(error.code)
        return found


@asynccontextmanager
async def layouts_of(rows: list[Row], more: list[Row], *, is_merged: bool) -> AsyncIterator[Layouts]:
    """Loads *rows*, and *more*, some of which replace rows; halfway it makes columns of the properties."""
    driver = ChdbDriver()
    await driver.open()
    store = Store(driver, DATABASE)
    try:
        await store.open()
        await store.load(rows)
        await store.load(more[:100])
        await update_property_columns(driver, DATABASE)
        await store.load(more[100:])
        if is_merged:
            # Only large merged parts have maps in buckets otherwise.
            await driver.execute(
                f"ALTER TABLE {store.tables.requests} MODIFY SETTING min_bytes_for_wide_part = 0"
            )
            await driver.execute(f"OPTIMIZE TABLE {store.tables.requests} FINAL")
        await copy_to_plain_table(driver)
        yield Layouts(
            Engine(driver, store.tables),
            Engine(driver, await find_tables(driver, "plain")),
            list({row["request_id"]: row for row in rows + more}.values()),
        )
    finally:
        await store.aclose()
        await driver.aclose()


async def copy_to_plain_table(driver: ChdbDriver) -> None:
    """Copy the requests to a table without any of the additional columns."""
    columns = ", ".join(f"{name} {stored}" for name, stored in REQUEST_COLUMNS.items())
    names = ", ".join(REQUEST_COLUMNS)
    for statement in (
        "CREATE DATABASE plain",
        f"CREATE TABLE plain.request_response_rmt ({columns}) ENGINE = MergeTree ORDER BY tuple()",
        f"INSERT INTO plain.request_response_rmt SELECT {names} FROM {DATABASE}.request_response_rmt",  # noqa: S608
        f"CREATE TABLE plain.tags AS {DATABASE}.tags ENGINE = MergeTree ORDER BY tuple()",
        f"INSERT INTO plain.tags SELECT * FROM {DATABASE}.tags FINAL",  # noqa: S608
    ):
        await driver.execute(statement)


@pytest.fixture(scope="module", params=["several names", "one name, merged"])
def layouts(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Layouts]:
    """Odd rows, a third of them replaced, whose sessions have several names or one each."""
    rows = rows_of(random.Random(7), 300)  # noqa: S311 - no secret
    # Their ids are those of the rows 200 to 399.
    more = rows_of(random.Random(8), 400)[200:]  # noqa: S311 - no secret
    is_merged = request.param == "one name, merged"
    if is_merged:
        rows, more = [*map(with_one_name, rows)], [*map(with_one_name, more)]
    # Tags belong to a session, not to a request, so a replaced request leaves them behind.
    more = [{**row, "session_tag": None} for row in more]
    for row in rows[200:]:
        row["session_tag"] = None
    opened = layouts_of(rows, more, is_merged=is_merged)
    found = runner.run(opened.__aenter__())
    assert found.own.tables.has_several_names is not is_merged
    assert {*KEYS} <= found.own.tables.property_columns.keys()
    assert found.plain.tables.property_columns == {}
    yield found
    runner.run(opened.__aexit__(None, None, None))


@settings(max_examples=repeats(60), database=None)
@given(tree=TREES, options=OPTIONS, unsessioned=st.booleans())
def test_any_filter(
    runner: asyncio.Runner,
    layouts: Layouts,
    oracle: Any,
    tree: Tree,
    options: dict[str, Any],
    unsessioned: bool,
) -> None:
    """Both layouts and Python give the same answer to any filter."""
    query = SessionMetricsQuery(oracle.built(tree), **options)
    own, plain = runner.run(layouts.answers(query, include_unsessioned=unsessioned))
    assert own == plain
    expected = oracle(layouts.rows).answer(tree, **options, include_unsessioned=unsessioned)
    assert expected == oracle.summary(own)


@pytest.mark.parametrize("seed", range(repeats(30)))
def test_any_filter_of_the_service(runner: asyncio.Runner, layouts: Layouts, seed: int) -> None:
    """Both layouts give the same answer to any filter that is read as the open-source server reads it."""
    body = body_of(random.Random(seed), 2)  # noqa: S311 - no secret
    query = converter.structure(body, SessionMetricsQuery)
    own, plain = runner.run(layouts.answers(query, body.get("filter"), semantics="helicone"))
    assert own == plain


def test_any_number_of_threads(runner: asyncio.Runner, layouts: Layouts) -> None:
    """The answer does not depend on the number of threads."""
    query = SessionMetricsQuery(F.properties["env"] != "a", p_size="p95", use_interquartile=True)

    async def answer(threads: int) -> Any:
        driver = Limited(layouts.own.driver, threads)
        return await attrs.evolve(layouts.own, driver=driver).answer(query, UUID(ORGANIZATION))

    assert 1 == len({repr(runner.run(answer(threads))) for threads in (1, 2, 3, 7)})


@attrs.frozen
class Limited:
    """A driver that runs queries on a number of threads."""

    driver: Any
    threads: int

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:  # noqa: ARG002
        result: Result = await self.driver.query(statement, Limits(threads=self.threads))
        return result
