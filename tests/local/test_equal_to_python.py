"""A month of generated requests and an hour of real ones: all that the client gives equals plain Python.

The same is asked of the embedded engine and, over HTTP, of a ClickHouse with the same rows.
"""

import asyncio
import csv
import gzip
import json
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import Filter, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.filters.schema import COLUMNS, Kind
from helicone_sessions.local import LocalServer
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS
from helicone_sessions.local.storage.table import create_statements
from helicone_sessions.messages.grid_query import GridQuery
from tests.local.clickhouse_server import ClickHouseServer, execute
from tests.local.conftest import LEVELS, Oracle, Row, Tree, nano_of, session_id_of, session_name_of
from tests.local.nasty_rows import NAMES, SESSIONS, TEXTS
from tests.local.test_listings import sessions_of
from tests.local.test_oracle import CHANCES
from tests.local.test_trace import TRACE

pytest.importorskip("chdb", reason="the extra `local` is not installed")

EXAMPLES = int(os.environ.get("HELICONE_SESSIONS_EXAMPLES", "2"))
BEGIN, END = datetime(2026, 10, 31, 22, 30, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
ORGANIZATION = UUID(int=7)
ASKED = [
    *("model", "status", "cost", "latency", "prompt_tokens", "user_id", "country_code", "properties"),
    *("request_created_at", "session_session_id", "session_session_name"),
]


def of_sample() -> list[Row]:
    """The generated requests of thirty days."""
    return list(LocalServer.sample(END))


def of_trace() -> list[Row]:
    """The requests of an hour, with costs, statuses and models of the test's own."""
    with gzip.open(TRACE, "rt", newline="") as lines:
        return [
            {
                "request_created_at": END
                - timedelta(hours=2)
                + timedelta(milliseconds=int(line["offset_ms"])),
                "prompt_tokens": int(line["prompt_tokens"]),
                "completion_tokens": int(line["completion_tokens"]),
                "cost": int(line["prompt_tokens"]) / 1000,
                "status": [200, 200, 500][number % 3],
                "model": ["gpt-4o", "o3", ""][number % 3],
                "properties": {"Helicone-Session-Id": line["session"], "Helicone-Session-Name": "Chat"},
            }
            for number, line in enumerate(csv.DictReader(lines))
        ]


def with_odd_text(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows with ids, in which the ids and names of sessions, users and countries are full of odd text."""
    odd = [text for text in TEXTS if text not in ("null", "__empty__")]
    made = []
    for number, row in enumerate(rows):
        chance = random.Random(session_id_of(row))  # noqa: S311 - each session has one name
        properties, made_at = dict(row["properties"]), row["request_created_at"]
        if session_id_of(row):
            properties["Helicone-Session-Id"] = chance.choice(SESSIONS) + session_id_of(row)
            properties["Helicone-Session-Name"] = chance.choice(NAMES)
        made.append(
            {
                **row,
                # The table has milliseconds.
                "request_created_at": made_at.replace(microsecond=made_at.microsecond // 1000 * 1000),
                "request_id": str(UUID(int=number + 1)),
                "organization_id": str(ORGANIZATION),
                "user_id": odd[number % len(odd)],
                "country_code": [None, "", "DE", "null"][number % 4],
                "properties": properties,
            }
        )
    return made


def as_stored(row: Row) -> dict[str, Any]:
    """A row as the table has it."""
    stored = {name: value for name, value in row.items() if name in REQUEST_COLUMNS and value is not None}
    times = {
        name: value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")
        for name, value in stored.items()
        if isinstance(value, datetime)
    }
    return {**stored, **times, "cost": nano_of(row)}


def batched(rows: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows in lists of this length."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


@asynccontextmanager
async def over_http(rows: list[dict[str, Any]]) -> AsyncIterator[HeliconeClient]:
    """A client of a server that answers from a ClickHouse with these rows."""
    async with ClickHouseServer() as clickhouse:
        for statement in create_statements("mine"):
            await execute(clickhouse.url(), statement)
        tags = [
            {"organization_id": row["organization_id"], "entity_type": "session"}
            | {"entity_id": session_id_of(row), "tag": row["session_tag"]}
            for row in rows
            if row.get("session_tag")
        ]
        for table, stored in (("request_response_rmt", [*map(as_stored, rows)]), ("tags", tags)):
            for some in batched(stored, 500):
                lines = "\n".join(map(json.dumps, some))
                await execute(clickhouse.url(), f"INSERT INTO mine.{table} FORMAT JSONEachRow\n{lines}")
        async with (
            LocalServer(clickhouse=clickhouse.url(database="mine")) as server,
            HeliconeClient(server.api_key, base_url=server.url, max_retries=0) as client,
        ):
            yield client


@attrs.frozen
class Place:
    """A client, and what is known of its rows."""

    client: HeliconeClient
    rows: list[dict[str, Any]] = attrs.field(repr=False)
    oracle: Oracle = attrs.field(repr=False)


@pytest.fixture(scope="module", params=["sample", "trace"])
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The requests."""
    return with_odd_text(of_sample() if request.param == "sample" else of_trace())


@pytest.fixture(scope="module", params=["embedded", "over HTTP"])
def place(
    request: pytest.FixtureRequest, runner: asyncio.Runner, serve: Any, rows: list[dict[str, Any]]
) -> Iterator[Place]:
    """A server that holds the requests."""
    serving: AbstractAsyncContextManager[HeliconeClient]
    serving = serve(rows) if request.param == "embedded" else over_http(rows)
    # Filters may match missing values here.
    client = runner.run(serving.__aenter__()).with_options(cautions="ignore")
    yield Place(client, rows, Oracle(rows))
    runner.run(serving.__aexit__(None, None, None))


def condition_of(chance: random.Random, place: Place) -> Tree:
    """A condition with a value of one of the requests, or near it."""
    column = COLUMNS[chance.choice(ASKED)]
    row = chance.choice(place.oracle.rows)
    properties = row["properties"]
    key = chance.choice([*properties, "missing"])
    values = {
        "cost": float(row["cost"]),
        "properties": properties.get(key, "x"),
        "session_session_id": session_id_of(row),
        "session_session_name": session_name_of(row),
    }
    value = values.get(column.name, row.get(column.name))
    operators = [each for each in column.operators if each not in ("like", "ilike")]
    if value is None or (column.kind is not Kind.NUMBER and not value):
        return "status", "equals", 200
    if column.kind is Kind.NUMBER and chance.random() < 0.3:
        value *= 2
    if column.kind is Kind.TEXT and chance.random() < 0.3:
        value = value[: len(value) // 2 + 1]
    return column.name, chance.choice(operators), value, *([key] * (column.kind is Kind.MAP))


def tree_of(chance: random.Random, place: Place) -> Tree:
    """A filter of one to four conditions, and at times one on whole sessions."""
    tree = condition_of(chance, place)
    for _ in range(chance.randrange(4)):
        tree = (chance.choice(["and", "or"]), tree, condition_of(chance, place))
        if chance.random() < 0.2:
            tree = ("not", tree)
    if chance.random() < 0.3:
        tree = (chance.choice(["and", "or"]), tree, ("session_total_requests", "gt", chance.randrange(1, 8)))
    return tree


def period_of(chance: random.Random, place: Place) -> TimeFilter:
    """A time with its ends beside requests, or all of it."""
    moments = [row["request_created_at"] for row in place.rows]
    start, end = sorted([chance.choice(moments), chance.choice(moments)])
    if chance.random() < 0.5:
        start, end = min(moments), max(moments)
    return TimeFilter(start - timedelta(milliseconds=1), end + timedelta(milliseconds=1))


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(chance=CHANCES, level=st.sampled_from([level for level in LEVELS if level]))
def test_all_that_a_client_gives(
    runner: asyncio.Runner, place: Place, chance: random.Random, level: Any
) -> None:
    """Metrics, percentiles, totals, lists and counts equal those of the requests, whatever the filter."""
    tree, time = tree_of(chance, place), period_of(chance, place)
    runner.run(_compare(place, tree, time, level))


async def _compare(place: Place, tree: Tree, time: TimeFilter, level: Any) -> None:
    client, given_ = place.client, Oracle.built(tree)
    expected = place.oracle.answer(tree, time_filter=time, p_size=level)
    assert expected == Oracle.summary(await client.get_metrics(given_, time_filter=time, p_size=level))

    requests = place.oracle.requests(tree, time)
    figures = await client.query_grid(
        GridQuery(SessionMetricsQuery(given_, time_filter=time), quantiles=(level,))
    )
    cell = figures.cell(None, None)
    assert cell.requests == len(requests)
    assert cell.sessions == len(set(map(session_id_of, requests)))
    assert cell.dollars == sum(map(nano_of, requests)) / 10**9
    if requests:
        for name in ("session_count", "session_duration", "session_cost"):
            assert getattr(cell.quantiles[level], name) == expected[f"{name} to"]
    await _compare_lists(client, given_, time, place.oracle, tree)


async def _compare_lists(
    client: HeliconeClient, given_: Filter, time: TimeFilter, oracle: Oracle, tree: Tree
) -> None:
    # Lists have the requests with an id only.
    named: list[Row] = [*oracle.requests(tree, time, lambda row: bool(session_id_of(row)))]
    sessions = sessions_of(named)
    listed = await client.get_sessions(given_, time_filter=time, limit=None)
    assert sorted(listed, key=_identity) == sorted(sessions, key=_identity)
    count = await client.count_sessions(given_, time_filter=time)
    assert (count.count, count.total_cost) == (len(sessions), sum(map(nano_of, named)) / 10**9)

    by_name: dict[str, set[str]] = defaultdict(set)
    for row in named:
        by_name[session_name_of(row)].add(session_id_of(row))
    names = await client.get_session_names(given_, time_filter=time)
    assert {one.name: one.session_count for one in names} == {name: len(ids) for name, ids in by_name.items()}
    if "session_" not in repr(tree):
        wanted = {row["request_id"] for row in oracle.requests(tree, time)}
        found = [row["request_id"] async for row in client.stream_requests(given_, time_filter=time)]
        assert sorted(found) == sorted(wanted)
        assert await client.count_requests(given_, time_filter=time) == len(wanted)


def _identity(session: Any) -> tuple[str, str]:
    return session.session_id, session.session_name
