"""Facts that a store finds out about its requests, so that queries need not."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers import DriverError, Limits, Result, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.table import (
    SESSION_COLUMNS,
    has_several_names,
    is_due,
    property_columns,
    update_property_columns,
)
from tests.local.nasty_rows import KEYS, ORGANIZATION, START, Row, uuid_of

pytest.importorskip("chdb", reason="the extra `local` is not installed")

DATABASE = "profile"
ID, NAME = "Helicone-Session-Id", "Helicone-Session-Name"


@pytest.fixture
async def driver() -> AsyncIterator[ChdbDriver]:
    """An engine in memory."""
    opened = ChdbDriver()
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.fixture
async def store(driver: ChdbDriver) -> AsyncIterator[Store]:
    """An empty store."""
    opened = Store(driver, DATABASE)
    await opened.open()
    yield opened
    await opened.aclose()


def rows_with(*names: str, first: int = 1, **properties: str) -> list[Row]:
    """A request for each session name; session and request are numbered from *first*."""
    return [
        {
            "request_id": uuid_of(number),
            "organization_id": ORGANIZATION,
            "request_created_at": START + timedelta(seconds=number),
            "properties": {ID: f"s{number}", NAME: name, **properties},
        }
        for number, name in enumerate(names, first)
    ]


def named(session: int, name: str, *, request: int) -> Row:
    """A request of a session of `rows_with`."""
    (row,) = rows_with(name, first=session)
    return {**row, "request_id": uuid_of(request)}


async def sessions_counted(store: Store, driver: Any) -> Any:
    """The histogram that counts a session once for each of its names."""
    metrics = await Engine(driver, store.tables).answer(
        SessionMetricsQuery(p_size="p99.9"), UUID(ORGANIZATION)
    )
    return metrics.session_count.total


@pytest.mark.parametrize("count", [3, 12_000])
async def test_another_name(store: Store, driver: ChdbDriver, count: int) -> None:
    """A load that brings a second name for an earlier session is noticed, however large it is."""
    await store.load(rows_with(*["a"] * 20_000))
    assert store.tables.has_several_names is False
    others = [named(number + 100, "a", request=100_000 + number) for number in range(count - 1)]
    await store.load(others)
    assert store.tables.has_several_names is False
    await store.load([*others, named(7, "b", request=99_999)])
    assert store.tables.has_several_names is True
    metrics = await Engine(driver, store.tables).answer(
        SessionMetricsQuery(F.session_session_id == "s7"), UUID(ORGANIZATION)
    )
    assert 2 == metrics.session_count.total


async def test_a_name_that_is_replaced(store: Store, driver: ChdbDriver) -> None:
    """After the only second name is replaced, answers are right, and a store that opens again notices."""
    await store.load([*rows_with("a", "a"), named(1, "b", request=9)])
    assert (True, 3) == (store.tables.has_several_names, await sessions_counted(store, driver))
    await store.load([named(1, "a", request=9)])
    # The session of two requests is above the quantile of 99.9 percent, and so left out.
    assert 1 == await sessions_counted(store, driver)
    await store.aclose()
    again = Store(driver, DATABASE)
    await again.open()
    assert (False, 1) == (again.tables.has_several_names, await sessions_counted(again, driver))
    await again.aclose()


async def test_names_after_a_restart(tmp_path: Path) -> None:
    """A session that gets its second name in another run counts for both."""
    for name, expected in (("a", 2), ("b", 3)):
        row = named(1, name, request=ord(name))
        async with (
            LocalServer([*rows_with("a", "a", first=1)[1:], row], path=tmp_path / "store") as server,
            HeliconeClient(server.api_key, base_url=server.url) as client,
        ):
            metrics = await client.get_metrics(p_size="p99.9")
            assert expected == metrics.session_count.total


async def test_a_name_that_is_added() -> None:
    """A running server notices the second name in the rows that it gets."""
    async with (
        LocalServer(rows_with("a", "a")) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        assert 2 == (await client.get_metrics(p_size="p99.9")).session_count.total
        await server.add([named(1, "b", request=9)])
        assert 3 == (await client.get_metrics(p_size="p99.9")).session_count.total


async def test_organizations_with_one_session_id(store: Store, driver: ChdbDriver) -> None:
    """Sessions of two organisations with one id have one name each."""
    other = UUID(int=5)
    rows = [*rows_with("a"), {**named(1, "b", request=2), "organization_id": str(other)}]
    await store.load(rows[:1])
    assert store.tables.only_organization == UUID(ORGANIZATION)
    await store.load(rows[1:], organizations={UUID(ORGANIZATION), other})
    assert store.tables.only_organization is None
    assert store.tables.has_several_names is False
    engine = Engine(driver, store.tables)
    for organization, expected in ((UUID(ORGANIZATION), 1), (other, 1), (UUID(int=6), None)):
        metrics = await engine.answer(SessionMetricsQuery(), organization)
        assert expected == metrics.average.session_count


async def test_another_organization_sees_nothing(store: Store, driver: ChdbDriver) -> None:
    """Where all requests are of one organisation, the others still see none of them."""
    await store.load(rows_with("a", "b"))
    engine = Engine(driver, store.tables)
    assert engine.tables.only_organization is not None
    for filter_ in (None, F.session_total_requests > 0):
        metrics = await engine.answer(SessionMetricsQuery(filter_), UUID(int=6))
        assert metrics.average.session_count is None


class Failing(ChdbDriver):
    """A driver that cannot tell whether a session has several names."""

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        if "HAVING min" in statement.text:
            raise DriverError("Memory limit exceeded", 241)
        return await super().query(statement, limits)


async def test_unknown_names(caplog: pytest.LogCaptureFixture) -> None:
    """If it cannot be found out whether a session has several names, each query finds out."""
    driver = Failing()
    await driver.open()
    store = Store(driver)
    try:
        await store.open()
        await store.load([*rows_with("a", "a"), named(1, "b", request=9)])
        assert store.tables.has_several_names is None
        assert 3 == await sessions_counted(store, driver)
        assert "queries take longer" in caplog.text
    finally:
        await store.aclose()
        await driver.aclose()


async def test_columns_of_frequent_properties(store: Store, driver: ChdbDriver) -> None:
    """The most frequent keys become columns, up to eight; odd keys too, and not those of sessions."""
    odd = dict.fromkeys(KEYS[:5], "x")
    await store.load(
        [
            *rows_with(*["a"] * 95, **odd),
            *rows_with(*["a"] * 5, first=96, rare="y"),
        ]
    )
    assert SESSION_COLUMNS == await property_columns(driver, DATABASE)
    await update_property_columns(driver, DATABASE)
    assert {*odd, ID, NAME} == (await property_columns(driver, DATABASE)).keys()
    await store.load(rows_with(*["a"] * 900, first=101, **{f"k{number}": "z" for number in range(9)}))
    await update_property_columns(driver, DATABASE)
    assert {*(f"k{number}" for number in range(8)), ID, NAME} == (
        await property_columns(driver, DATABASE)
    ).keys()


async def test_columns_are_filled(store: Store, driver: ChdbDriver) -> None:
    """A column has the values of earlier, later and replaced requests."""
    await store.load(rows_with(*["a"] * 10, tier="free"))
    await update_property_columns(driver, DATABASE)
    await store.load(rows_with(*["a"] * 8, first=8, tier="pro"))
    column = store.tables.property_columns["tier"]
    text = f"SELECT {column}, count() FROM {store.tables.requests} GROUP BY 1 ORDER BY 1"  # noqa: S608
    found = await driver.query(Statement(text))
    assert [["free", 7], ["pro", 8]] == found.rows


async def test_columns_are_invisible(store: Store, driver: ChdbDriver) -> None:
    """Whoever selects all columns does not see the additional ones."""
    await store.load(rows_with(*["a"] * 10, tier="free"))
    await update_property_columns(driver, DATABASE)
    text = f"SELECT * FROM {store.tables.requests} LIMIT 1"  # noqa: S608
    found = await driver.query(Statement(text))
    # With the version and the flags of the load.
    assert len(REQUEST_COLUMNS) + 2 == len(found.rows[0])


def test_when_columns_are_updated() -> None:
    """Columns are updated when the number of requests passes a power of two, from a quarter million on."""
    assert not is_due(0, 200_000)
    assert is_due(0, 300_000)
    assert not is_due(300_000, 400_000)
    assert is_due(400_000, 600_000)
    assert not is_due(600_000, 600_000)


async def test_columns_come_with_a_load(
    store: Store, driver: ChdbDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that makes the store large enough makes the columns, which stay when the store opens again."""
    monkeypatch.setattr("helicone_sessions.local.storage.table._FEWEST_REQUESTS", 64)
    await store.load(rows_with(*["a"] * 60, tier="free"))
    assert "tier" not in store.tables.property_columns
    await store.load(rows_with(*["a"] * 10, first=61, tier="pro"))
    assert "tier" in store.tables.property_columns
    await store.aclose()
    again = Store(driver, DATABASE)
    await again.open()
    assert store.tables.property_columns == again.tables.property_columns
    await again.aclose()


async def test_columns_of_a_large_first_load(
    store: Store, driver: ChdbDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A large file gets the columns while it is loaded, so that no request is written twice."""
    monkeypatch.setattr("helicone_sessions.local.storage.table._FEWEST_REQUESTS", 512)
    monkeypatch.setattr("helicone_sessions.local.storage.readers._BLOCK", 32 * 1024)
    rows = [
        *rows_with(*["a"] * 500, tier="free"),
        *rows_with(*["a"] * 500, first=501, tier="pro"),
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    await store.load(path)
    column = store.tables.property_columns["tier"]
    counts = f"SELECT {column}, count() FROM {store.tables.requests} GROUP BY 1 ORDER BY 1"  # noqa: S608
    assert [["free", 500], ["pro", 500]] == (await driver.query(Statement(counts))).rows
    mutations = f"SELECT count() FROM system.mutations WHERE database = '{DATABASE}'"  # noqa: S608
    assert [[0]] == (await driver.query(Statement(mutations))).rows


async def test_names_of_an_empty_store(store: Store, driver: ChdbDriver) -> None:
    """Of no requests it is known that no session has several names."""
    assert store.tables.has_several_names is False
    assert not await has_several_names(driver, DATABASE)


async def test_hash_of_any_text(store: Store, driver: ChdbDriver) -> None:
    """Session ids that differ in one character are different sessions."""
    ids = ["", "a", "A", "a ", " a", "a\0", "é", "e\u0301", "😀", "a" * 5_000, "a" * 4_999 + "b"]
    rows = rows_with(*["n"] * len(ids))
    for row, session in zip(rows, ids, strict=True):
        row["properties"] = {ID: session}
    await store.load(json.loads(json.dumps(rows, default=str)))
    metrics = await Engine(driver, store.tables).answer(
        SessionMetricsQuery(p_size="p99.9"), UUID(ORGANIZATION)
    )
    assert len(ids) == metrics.session_count.total
