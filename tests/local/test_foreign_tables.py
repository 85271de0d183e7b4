"""The tables that are found in somebody's ClickHouse, and that they are asked the same as one's own."""

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import attrs
import pytest

from helicone_sessions import ConfigurationError, F, SessionMetricsQuery, TimeFilter, any_of
from helicone_sessions.local.dataset import find_organizations, find_tables
from helicone_sessions.local.drivers import Driver, DriverError
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.drivers.clickhouse import ClickHouseDriver, parse_address
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.query.listing_sql import ContractListings, ServiceListings
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, SESSION_ID, SESSION_NAME
from helicone_sessions.local.storage.table import Tables, create_statements
from helicone_sessions.messages.grid_query import GridQuery, GroupBy, grid_figures_from_wire
from helicone_sessions.messages.query import RequestsQuery, SessionsQuery
from tests.local.clickhouse_server import ClickHouseServer, execute, quoted

START = datetime(2026, 11, 1, tzinfo=UTC)
OURS, THEIRS = UUID(int=1), UUID(int=2)
WHOLE = TimeFilter(START - timedelta(hours=1), START + timedelta(hours=2))
REQUESTS, TAGS = "request_response_rmt", "tags"

# As Helicone makes it: no columns of sessions, and an order that time is late in.
HELICONE = f"""
CREATE TABLE {{database}}.{REQUESTS} (
  response_id Nullable(UUID),
  response_created_at Nullable(DateTime64(3)),
  latency Nullable(Int64),
  time_to_first_token Nullable(Int64),
  status Int64,
  completion_tokens Nullable(Int64),
  prompt_tokens Nullable(Int64),
  prompt_cache_read_tokens Int64,
  prompt_cache_write_tokens Int64,
  cost UInt64,
  model LowCardinality(String),
  request_id UUID,
  request_created_at DateTime64(3),
  user_id LowCardinality(String),
  organization_id UUID,
  threat Nullable(Bool),
  provider LowCardinality(String),
  target_url Nullable(String),
  country_code Nullable(String),
  cache_enabled Bool DEFAULT false,
  cache_reference_id UUID,
  properties Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  scores Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
  request_body String CODEC(ZSTD(1)),
  response_body String CODEC(ZSTD(1)),
  assets Array(String),
  prompt_id String,
  prompt_version String,
  request_referrer String,
  is_passthrough_billing Bool,
  updated_at DateTime64(3) DEFAULT now64(3),
  INDEX by_property mapKeys(properties) TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX by_score mapKeys(scores) TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(updated_at)
PARTITION BY toYYYYMM(request_created_at)
ORDER BY (organization_id, provider, model, user_id, request_created_at, request_id)"""
HELICONE_TAGS = f"""
CREATE TABLE {{database}}.{TAGS} (
  organization_id UUID,
  entity_type LowCardinality(String),
  entity_id String,
  tag String,
  created_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(created_at) ORDER BY (organization_id, entity_type, entity_id, tag)"""

QUERIES = {
    "all": SessionMetricsQuery(),
    "cut": SessionMetricsQuery(p_size="p50", use_interquartile=True),
    "cost": SessionMetricsQuery(F.cost >= 0.02, p_size="p99"),
    "number": SessionMetricsQuery((F.latency > 500) & (F.status != 500)),
    "null": SessionMetricsQuery(F.latency <= 10**6),
    "tokens": SessionMetricsQuery(F.total_tokens > 60),
    "text": SessionMetricsQuery(F.model.contains("GPT") | (F.country_code == "null")),
    "pattern": SessionMetricsQuery(F.user_id.like("u_1")),
    "id": SessionMetricsQuery(F.request_id != str(UUID(int=7))),
    "time": SessionMetricsQuery(F.request_created_at >= START + timedelta(minutes=40)),
    "flag": SessionMetricsQuery(F.threat == False),  # noqa: E712 - a column is compared
    "cached": SessionMetricsQuery(F.cached == True),  # noqa: E712 - a column is compared
    "property": SessionMetricsQuery(F.properties["Tier"] == "it's\\pro\n"),
    "key": SessionMetricsQuery(F.property_key == "Tier"),
    "score": SessionMetricsQuery(F.scores["quality"].contains("1")),
    "assets": SessionMetricsQuery(F.assets.contains("A")),
    "body": SessionMetricsQuery(F.request_body.contains("%")),
    "session": SessionMetricsQuery(F.session_session_id != "s3"),
    "tag": SessionMetricsQuery(F.session_tag == "beta"),
    "whole": SessionMetricsQuery((F.session_total_requests > 5) | (F.session_total_cost < 0.05)),
    "mixed": SessionMetricsQuery((F.session_total_tokens > 300) & ~(F.model.contains("gpt"))),
    "window": SessionMetricsQuery(
        time_filter=TimeFilter(START + timedelta(minutes=10), START + timedelta(minutes=50)),
        name_contains="CHAT",
    ),
}


@attrs.frozen
class Place:
    """A ClickHouse to ask, and a database that is made for one test."""

    url: str
    database: str

    async def execute(self, *texts: str) -> None:
        for text in texts:
            await execute(self.url, text.replace("{database}", quoted(self.database)))

    async def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        lines = "\n".join(map(json.dumps, rows))
        await self.execute(f"INSERT INTO {{database}}.{table} FORMAT JSONEachRow\n{lines}")

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[ClickHouseDriver]:
        address = parse_address(self.url)
        url = str(address.url.with_user(address.user).with_password(address.password.reveal() or None))
        driver = ClickHouseDriver(f"{url.rstrip('/')}/{quote(self.database, safe='')}")
        await driver.open()
        try:
            yield driver
        finally:
            await driver.aclose()


@asynccontextmanager
async def place(kind: str, database: str | None = None) -> AsyncIterator[Place]:
    """A database in the engine behind HTTP, or in a real server where its address is given."""
    async with AsyncExitStack() as stack:
        if kind == "chdb":
            url = (await stack.enter_async_context(ClickHouseServer())).url()
        elif not (url := os.environ.get("HELICONE_SESSIONS_CLICKHOUSE_URL", "")):
            pytest.skip("HELICONE_SESSIONS_CLICKHOUSE_URL names no ClickHouse server")
        made = Place(url, database or f"test_{uuid4().hex}")
        await made.execute("CREATE DATABASE {database}")
        try:
            yield made
        finally:
            await made.execute("DROP DATABASE {database}")


@pytest.fixture(params=["chdb", "server"])
async def clickhouse(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A database of the test's own."""
    async with place(request.param) as made:
        yield made


def request_rows() -> list[dict[str, Any]]:
    """Requests of nine sessions and of none, with something in every kind of column."""
    random_ = random.Random(7)  # noqa: S311 - the same requests each time
    rows = []
    for number in range(120):
        session = random_.randrange(10)
        properties = {"Tier": random_.choice(["it's\\pro\n", "free", ""])} if number % 3 else {}
        if session:
            properties |= {SESSION_ID: f"s{session}", SESSION_NAME: f"{('chat', 'Chat', 'job')[session % 3]}"}
        rows.append(
            {
                "request_id": str(UUID(int=number)),
                "organization_id": str(THEIRS if number % 20 == 0 else OURS),
                "request_created_at": (START + timedelta(seconds=30.25 * number)).isoformat(" ")[:-6],
                "latency": random_.choice([None, 100, 700, 2000]),
                "prompt_tokens": random_.choice([None, 10, 50]),
                "completion_tokens": random_.choice([None, 5, 40]),
                "status": random_.choice([200, 500]),
                "cost": random_.randrange(50_000_000),
                "model": random_.choice(["gpt-4o", "claude"]),
                "provider": "x",
                "user_id": f"u{random_.randrange(4)}1",
                "country_code": random_.choice([None, "DE"]),
                "threat": random_.choice([None, True, False]),
                "properties": properties,
                "scores": {"quality": number % 12} if number % 2 else {},
                "request_body": random_.choice(["100%", "{p0:String}"]),
                "assets": random_.choice([[], ["a", "b"]]),
                "cache_reference_id": str(UUID(int=number % 2)),
            }
        )
    return rows


TAG_ROWS = [
    {"organization_id": str(owner), "entity_type": "session", "entity_id": f"s{number}", "tag": tag}
    for owner, number, tag in [(OURS, 1, "beta"), (OURS, 2, "beta"), (OURS, 3, "alpha"), (THEIRS, 4, "beta")]
]


async def answers(driver: Driver, tables: Tables) -> dict[str, Any]:
    """The response to each of the queries, as metrics, as a list, and all of them as a grid."""
    engine = Engine(driver, tables)
    found: dict[str, Any] = {name: await engine.answer(query, OURS) for name, query in QUERIES.items()}
    for name, query in QUERIES.items():
        listings = ContractListings(tables, OURS)
        sessions = SessionsQuery(query.time_filter or WHOLE, query.filter, search="s", limit=20)
        for kind, listing in {
            "sessions": listings.sessions(sessions),
            "count": listings.session_count(sessions),
            "names": listings.session_names(query),
        }.items():
            found[f"{kind} of {name}"] = await engine.answer_listing(listing)
    found["requests"] = await engine.answer_listing(
        ContractListings(tables, OURS).requests(RequestsQuery(limit=1000))
    )
    segments = tuple(query.filter for query in QUERIES.values() if query.filter is not None)
    for number, by in enumerate((segments, GroupBy("model"), GroupBy("properties", "Tier"))):
        grid = GridQuery(SessionMetricsQuery(), by, tuple(WHOLE.split(minutes=10)), quantiles=("p95",))
        found[f"grid {number}"] = grid_figures_from_wire(await engine.answer_grid(grid, OURS))
    return found


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The results of chDB in this process for the same rows in our tables."""

    async def asked() -> dict[str, Any]:
        driver = ChdbDriver()
        await driver.open()
        try:
            for text in create_statements("expected"):
                await driver.execute(text)
            for table, rows in ((REQUESTS, request_rows()), (TAGS, TAG_ROWS)):
                await driver.insert(f"expected.{table}", "\n".join(map(json.dumps, rows)).encode())
            return await answers(driver, Tables.own("expected"))
        finally:
            await driver.execute("DROP DATABASE expected")
            await driver.aclose()

    with asyncio.Runner() as runner:
        return runner.run(asked())


async def test_own_tables(clickhouse: Place, expected: Mapping[str, Any]) -> None:
    """Our tables are found with their session columns, and give the same results as in this process."""
    await clickhouse.execute(*create_statements(clickhouse.database)[1:])
    await clickhouse.insert(REQUESTS, request_rows())
    await clickhouse.insert(TAGS, TAG_ROWS)
    async with clickhouse.driver() as driver:
        tables = await find_tables(driver)
        database = quoted(clickhouse.database)
        assert tables == Tables(f"{database}.`{REQUESTS}` FINAL", f"{database}.`{TAGS}` FINAL")
        assert expected == await answers(driver, tables)
    assert len(QUERIES) - 3 <= len({repr(expected[name]) for name in QUERIES})


async def test_thousands_of_terms(clickhouse: Place) -> None:
    """A filter of more terms than a form may have fields is answered."""
    await clickhouse.execute(HELICONE)
    await clickhouse.insert(REQUESTS, request_rows())
    several = any_of(*(F.properties["Tier"] == f"it's {number}" for number in range(1_000)))
    filter_ = several | any_of(*(F.latency == number for number in range(1_000, 2_000))) | (F.status == 200)
    async with clickhouse.driver() as driver:
        engine = Engine(driver, await find_tables(driver))
        expected = await engine.answer(SessionMetricsQuery(F.status == 200), OURS)
        assert expected == await engine.answer(SessionMetricsQuery(filter_), OURS)


async def test_helicone(clickhouse: Place, expected: Mapping[str, Any]) -> None:
    """Helicone's own tables are asked as they are, and requests that were sent again count once."""
    await clickhouse.execute(HELICONE, HELICONE_TAGS)
    rows = request_rows()
    await clickhouse.insert(
        REQUESTS, [{**row, "cost": 10**12, "updated_at": "2026-11-01 00:00:00"} for row in rows]
    )
    await clickhouse.insert(REQUESTS, [{**row, "updated_at": "2026-11-02 00:00:00"} for row in rows])
    await clickhouse.insert(TAGS, TAG_ROWS)
    async with clickhouse.driver() as driver:
        tables = await find_tables(driver)
        assert tables.columns == frozenset(REQUEST_COLUMNS)
        assert (f"properties['{SESSION_ID}']", f"properties['{SESSION_NAME}']") == (
            tables.session_id,
            tables.session_name,
        )
        assert expected == await answers(driver, tables)


async def test_distributed(expected: Mapping[str, Any]) -> None:
    """A `Distributed` table needs nothing special."""
    async with place("server") as kept, place("server") as asked:
        await kept.execute(HELICONE, HELICONE_TAGS)
        await kept.insert(REQUESTS, request_rows())
        await kept.insert(TAGS, TAG_ROWS)
        for table in (REQUESTS, TAGS):
            await asked.execute(
                f"CREATE TABLE {{database}}.{table} AS {quoted(kept.database)}.{table}"
                f" ENGINE = Distributed('default', '{kept.database}', '{table}')"
            )
        async with asked.driver() as driver:
            tables = await find_tables(driver)
            assert tables.requests.endswith(" FINAL")
            assert expected == await answers(driver, tables)


async def test_plain_table(clickhouse: Place, expected: Mapping[str, Any]) -> None:
    """A table that does not replace rows is asked without the word for it."""
    plain = HELICONE.replace("ReplacingMergeTree(updated_at)", "MergeTree")
    await clickhouse.execute(plain, HELICONE_TAGS.replace("ReplacingMergeTree(created_at)", "MergeTree"))
    await clickhouse.insert(REQUESTS, request_rows())
    await clickhouse.insert(TAGS, TAG_ROWS)
    async with clickhouse.driver() as driver:
        tables = await find_tables(driver)
        assert tables.tags is not None
        assert "FINAL" not in tables.requests + tables.tags
        assert expected == await answers(driver, tables)


async def test_old_table(clickhouse: Place) -> None:
    """An older table answers, but for filters on the columns that it lacks, which are named."""
    await create(clickhouse, without=("prompt_version", "cache_reference_id", "scores"))
    await clickhouse.insert(REQUESTS, request_rows()[1:2])
    async with clickhouse.driver() as driver:
        tables = await find_tables(driver)
        assert (
            frozenset(REQUEST_COLUMNS) - {"prompt_version", "cache_reference_id", "scores"} == tables.columns
        )
        assert tables.tags is None
        engine = Engine(driver, tables)
        assert 1 == (await engine.answer(SessionMetricsQuery(F.status < 600), OURS)).average.session_count
        for filter_, name in [
            (F.prompt_version == "1", "prompt_version"),
            (F.cached == True, "cache_reference_id"),  # noqa: E712 - a column is compared
            (F.scores["a"] == "1", "scores"),
            (F.session_tag == "beta", "tags"),
        ]:
            with pytest.raises(Unanswerable, match=name):
                await engine.answer(SessionMetricsQuery(filter_), OURS)


async def test_lists_of_a_bare_table(clickhouse: Place) -> None:
    """A table with the required columns alone is listed; what it lacks is null, zero or empty."""
    required = ("organization_id", "request_created_at", "request_id", "properties", "cost")
    await create(clickhouse, without=tuple(name for name in REQUEST_COLUMNS if name not in required))
    row = {name: value for name, value in request_rows()[1].items() if name in required}
    row["properties"] = {SESSION_ID: "s1"}
    await clickhouse.insert(REQUESTS, [row])
    async with clickhouse.driver() as driver:
        tables = await find_tables(driver)
        engine, listings = Engine(driver, tables), ContractListings(tables, OURS)
        (session,) = await engine.answer_listing(listings.sessions(SessionsQuery(WHOLE)))
        assert (session["session_id"], session["total_tokens"], session["user_ids"]) == ("s1", 0, [])
        assert session["avg_latency"] is None
        assert (await engine.answer_listing(listings.session_count(SessionsQuery(WHOLE))))["avg_latency"] == 0
        (name,) = await engine.answer_listing(listings.session_names(SessionMetricsQuery()))
        assert (name["name"], name["avg_latency"]) == ("", None)
        (request,) = await engine.answer_listing(listings.requests(RequestsQuery()))
        assert (request["request_id"], request["model"]) == (row["request_id"], None)
        grid = await engine.answer_grid(
            GridQuery(SessionMetricsQuery(), GroupBy("properties", SESSION_ID)), OURS
        )
        assert grid["values"] == ["s1"]
        with pytest.raises(Unanswerable, match="model"):
            await engine.answer_grid(GridQuery(SessionMetricsQuery(), GroupBy("model")), OURS)
        service = ServiceListings(tables, OURS, "all")
        (session,) = await engine.answer_listing(service.sessions(SessionsQuery(WHOLE)))
        assert (session["avg_latency"], session["total_tokens"]) == (0, 0)


async def test_table_without_tokens(clickhouse: Place) -> None:
    """Conditions on whole sessions are answered, but for those on the tokens that it lacks."""
    await create(clickhouse, without=("prompt_tokens",))
    await clickhouse.insert(
        REQUESTS,
        [
            {name: value for name, value in row.items() if name != "prompt_tokens"}
            for row in request_rows()[1:2]
        ],
    )
    async with clickhouse.driver() as driver:
        engine = Engine(driver, await find_tables(driver))
        query = SessionMetricsQuery((F.session_total_requests >= 1) & (F.session_completion_tokens >= 0))
        assert 1 == (await engine.answer(query, OURS)).average.session_count
        for asked in (F.session_prompt_tokens > 1, F.session_total_tokens > 1, F.total_tokens > 1):
            with pytest.raises(Unanswerable, match="has no column prompt_tokens of a suitable type"):
                await engine.answer(SessionMetricsQuery(asked), OURS)


async def create(clickhouse: Place, without: tuple[str, ...] = (), **types: str) -> None:
    """Make a table of requests with other columns than one's own."""
    columns = {name: str(stored) for name, stored in REQUEST_COLUMNS.items() if name not in without} | types
    named = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    await clickhouse.execute(
        f"CREATE TABLE {{database}}.{REQUESTS} ({named}) ENGINE = MergeTree ORDER BY tuple()"
    )


async def test_missing_columns(clickhouse: Place) -> None:
    """A table without a column that every query needs is refused, and each is named."""
    await create(clickhouse, without=("cost", "properties", "latency"))
    async with clickhouse.driver() as driver:
        with pytest.raises(
            ConfigurationError, match=f"{clickhouse.database}.{REQUESTS} has no column properties, cost,"
        ):
            await find_tables(driver)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cost", "Float64"),
        ("cost", "Nullable(UInt64)"),
        ("properties", "String"),
        ("properties", "Map(String, Nullable(String))"),
        ("properties", "Map(String, UInt64)"),
        ("request_created_at", "String"),
        ("request_created_at", "Int64"),
        ("organization_id", "String"),
    ],
)
async def test_wrong_types(clickhouse: Place, name: str, kind: str) -> None:
    """A needed column of a type that queries would misread is refused with both types."""
    await create(clickhouse, (), **{name: kind})
    async with clickhouse.driver() as driver:
        with pytest.raises(ConfigurationError) as caught:
            await find_tables(driver)
    assert f"{name} must be {REQUEST_COLUMNS[name]}, got {kind}" in str(caught.value)


async def test_other_types(clickhouse: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Types that read alike are taken; another column that cannot work is left out with a warning."""
    await create(
        clickhouse,
        request_created_at="DateTime('UTC')",
        cost="Int64",
        properties="Map(String, LowCardinality(String))",
        model="String",
        country_code="LowCardinality(Nullable(String))",
        threat="UInt8",
        latency="Float64",
        scores="Map(String, String)",
        session_id="Nullable(String)",
        session_name="LowCardinality(String)",
    )
    rows = request_rows()[1:2]
    await clickhouse.insert(
        REQUESTS, [{**rows[0], "request_created_at": "2026-11-01 00:00:30", "scores": {}}]
    )
    with caplog.at_level(logging.WARNING, "helicone_sessions"):
        async with clickhouse.driver() as driver:
            tables = await find_tables(driver)
            assert frozenset(REQUEST_COLUMNS) - {"scores"} == tables.columns
            assert (f"properties['{SESSION_ID}']", "session_name") == (tables.session_id, tables.session_name)
            metrics = await Engine(driver, tables).answer(
                SessionMetricsQuery((F.latency < 10**6) & (F.request_created_at > START) & (F.cost < 1)), OURS
            )
            assert metrics.average.session_count in (1, None)
    assert "scores" in caplog.text
    assert "Map(String, String)" in caplog.text


async def test_no_table(clickhouse: Place) -> None:
    """A database without the table of requests is named with it."""
    await clickhouse.execute(HELICONE_TAGS)
    async with clickhouse.driver() as driver:
        with pytest.raises(ConfigurationError, match=rf"'{clickhouse.database}' has no table {REQUESTS}"):
            await find_tables(driver)
        with pytest.raises(ConfigurationError, match="'nowhere' has no table"):
            await find_tables(driver, "nowhere")


async def test_tags_of_another_kind(clickhouse: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A table of tags that lacks a column is left out with a warning."""
    await clickhouse.execute(
        HELICONE,
        HELICONE_TAGS.replace("entity_type LowCardinality(String),", "").replace("entity_type, ", ""),
    )
    async with clickhouse.driver() as driver:
        assert (await find_tables(driver)).tags is None
    assert "entity_type" in caplog.text


@pytest.mark.parametrize("name", ["a`b", "a\\", "a b'\"c", "{p0:String}", "é/%?#&", "a.b FINAL"])
async def test_names_of_databases(name: str) -> None:
    """Whatever a database is called, its name is a name in the statements."""
    async with place("chdb", name) as clickhouse:
        await clickhouse.execute(HELICONE, HELICONE_TAGS)
        await clickhouse.insert(REQUESTS, request_rows()[1:3])
        async with clickhouse.driver() as driver:
            tables = await find_tables(driver)
            assert [OURS] == await find_organizations(driver, tables)
            metrics = await Engine(driver, tables).answer(SessionMetricsQuery(F.session_tag != "x"), OURS)
            assert metrics.session_count.total


async def test_named_database(clickhouse: Place) -> None:
    """A database may be named, if it is not the one that is connected to."""
    await clickhouse.execute(HELICONE)
    driver = ClickHouseDriver(clickhouse.url)
    await driver.open()
    assert clickhouse.database in (await find_tables(driver, clickhouse.database)).requests
    await driver.aclose()


async def test_organizations(clickhouse: Place) -> None:
    """The error lists the organisations with requests, largest first."""
    await clickhouse.execute(HELICONE)
    async with clickhouse.driver() as driver:
        tables = await find_tables(driver)
        assert [] == await find_organizations(driver, tables)
        await clickhouse.insert(REQUESTS, request_rows())
        assert [OURS, THEIRS] == await find_organizations(driver, tables)


async def test_errors_are_told(clickhouse: Place) -> None:
    """An error of ClickHouse's while it looks is not taken for an answer."""
    await clickhouse.execute(HELICONE)

    class Failing(ClickHouseDriver):
        async def query(self, statement: Any, limits: Any = None) -> Any:
            if "FINAL" in statement.text:
                raise DriverError("Memory limit exceeded", 241)
            return await super().query(statement, limits)

    driver = Failing(clickhouse.url)
    await driver.open()
    with pytest.raises(DriverError, match="Memory limit"):
        await find_tables(driver, clickhouse.database)
    await driver.aclose()
