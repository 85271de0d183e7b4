"""Sessions and requests through the client, from the embedded engine and through ClickHouse's HTTP interface.

Every list, count and total equals a computation in Python, on the trace, the sample and nasty rows.
"""

import csv
import gzip
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import HeliconeClient, Session, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS
from tests.local import nasty_rows
from tests.local.conftest import Oracle, Row, Tree, nano_of, session_id_of, session_name_of
from tests.local.test_foreign_tables import HELICONE, HELICONE_TAGS, REQUESTS, TAGS, place
from tests.local.test_listings import SESSION_COLUMNS, sessions_of
from tests.local.test_oracle import tree_of
from tests.repeats import only_full, repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

# Arrival times and tokens of real requests, from kvcache-ai/Mooncake (Apache-2.0).
TRACE = Path(__file__).parents[1] / "data" / "mooncake_conversation.csv.gz"
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
WHOLE = TimeFilter(START - timedelta(days=60), START + timedelta(days=60))


def trace() -> list[Row]:
    """The requests of the trace, with a name for each session and a price for each token."""
    with gzip.open(TRACE, "rt", newline="") as lines:
        return [
            {
                "request_created_at": START + timedelta(milliseconds=int(line["offset_ms"])),
                "prompt_tokens": int(line["prompt_tokens"]),
                "completion_tokens": int(line["completion_tokens"]),
                "cost": Decimal(int(line["prompt_tokens"]) * 2_500).scaleb(-9),
                "status": 200 if int(line["session"][1:]) % 3 else 500,
                "properties": {
                    "Helicone-Session-Id": line["session"],
                    "Helicone-Session-Name": f"shift {int(line['session'][1:]) % 7}",
                },
            }
            for line in csv.DictReader(lines)
        ]


def sample() -> list[Row]:
    """The sample without tags, and to the millisecond, which is what a table keeps."""
    return [
        {**row, "request_created_at": _milliseconds(row["request_created_at"]), "session_tag": []}
        for row in LocalServer.sample(START)
    ]


def _milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def nasty() -> list[Row]:
    """Rows full of odd text."""
    return nasty_rows.ROWS


# Filters for the trace and the sample; the nasty rows have random ones.
TREES: list[Tree] = [
    ("and",),
    ("cost", "gt", 0.01),
    ("status", "equals", 500),
    ("session_total_requests", "gt", 4),
    ("and", ("session_total_cost", "gt", 0.05), ("status", "not-equals", 500)),
    ("or", ("session_total_requests", "gt", 9), ("prompt_tokens", "lt", 900)),
    ("properties", "contains", "S", "Helicone-Session-Name"),
    ("request_created_at", "gte", START - timedelta(hours=30)),
]


def trees_for(rows: Callable[[], list[Row]]) -> list[Tree]:
    chance = random.Random(20261130)  # noqa: S311 - the same each time
    return [tree_of(chance, 1 + number % 4) for number in range(repeats(16))] if rows is nasty else TREES


@asynccontextmanager
async def on_chdb(rows: list[Row]) -> AsyncIterator[HeliconeClient]:
    """A client of the embedded engine."""
    async with (
        LocalServer(rows) as server,
        HeliconeClient(server.api_key, base_url=server.url, cautions="ignore") as client,
    ):
        yield client


@asynccontextmanager
async def through_http(rows: list[Row]) -> AsyncIterator[HeliconeClient]:
    """A client of a server that answers from Helicone's own tables in a ClickHouse."""
    async with place("chdb") as made:
        await made.execute(HELICONE, HELICONE_TAGS)
        lines = [stored(number, row) for number, row in enumerate(rows)]
        for start in range(0, len(lines), 1000):
            await made.insert(REQUESTS, lines[start : start + 1000])
        tags = [
            {
                "organization_id": nasty_rows.ORGANIZATION,
                "entity_type": "session",
                "entity_id": session_id_of(row),
                "tag": tag,
            }
            for row in rows
            for tag in row.get("session_tag") or ()
        ]
        if tags:
            await made.insert(TAGS, tags)
        address = f"{made.url.rstrip('/')}/{made.database}"
        async with (
            LocalServer(clickhouse=address, organization_id=nasty_rows.ORGANIZATION) as server,
            HeliconeClient(server.api_key, base_url=server.url, cautions="ignore") as client,
        ):
            yield client


def stored(number: int, row: Row) -> Row:
    """A row as ClickHouse takes it from JSON."""
    found = {name: value for name, value in row.items() if name in REQUEST_COLUMNS and value is not None}
    found |= {
        "request_id": row.get("request_id") or nasty_rows.uuid_of(number + 1),
        "organization_id": nasty_rows.ORGANIZATION,
        "cost": nano_of(row),
    }
    for name, value in found.items():
        if isinstance(value, datetime):
            found[name] = value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return found


everywhere = pytest.mark.parametrize(
    ("rows", "served"),
    [
        (trace, on_chdb),
        pytest.param(trace, through_http, marks=only_full),
        pytest.param(sample, on_chdb, marks=only_full),
        (sample, through_http),
        (nasty, on_chdb),
        (nasty, through_http),
    ],
)


@everywhere
async def test_lists_counts_and_names(rows: Any, served: Any, oracle: type[Oracle]) -> None:
    """Sessions, their count and their names are those of the requests that match."""
    data = rows()
    known = oracle(data)
    async with served(data) as client:
        for tree in trees_for(rows):
            condition = oracle.built(tree)
            matching = known.requests(tree, WHOLE, lambda row: bool(session_id_of(row)))
            expected = sessions_of(matching)
            found = [one async for one in client.stream_sessions(condition, time_filter=WHOLE)]
            assert sorted(found, key=by_key) == sorted(expected, key=by_key)

            costly = await client.get_sessions(condition, time_filter=WHOLE, sort="-total_cost", limit=7)
            largest = sorted((one.total_cost for one in expected), reverse=True)[:7]
            assert [one.total_cost for one in costly] == largest

            count = await client.count_sessions(condition, time_filter=WHOLE)
            assert count.count == len(expected)
            assert count.total_cost == sum(map(nano_of, matching)) / 10**9
            names = await client.get_session_names(condition, time_filter=WHOLE)
            assert {one.name for one in names} == set(map(session_name_of, matching))


@everywhere
async def test_requests(rows: Any, served: Any, oracle: type[Oracle]) -> None:
    """Every request that matches is given once, oldest first, and counted."""
    data = rows()
    known = oracle(data)
    async with served(data) as client:
        for tree in trees_for(rows):
            if any(f"'{name}'" in repr(tree) for name in SESSION_COLUMNS):
                continue
            condition = oracle.built(tree)
            matching = known.requests(tree)
            found = [one async for one in client.stream_requests(condition)]
            times = [datetime.fromisoformat(one["request_created_at"]) for one in found]
            assert times == sorted(row["request_created_at"] for row in matching)
            assert len({one["request_id"] for one in found}) == len(found)
            costs = sorted(round(one["cost"] * 10**9) for one in found)
            assert costs == sorted(map(nano_of, matching))
            assert await client.count_requests(condition) == len(matching)


async def test_whole_sessions(oracle: type[Oracle]) -> None:
    """A filtered list has the totals of what matches, and of whole sessions where they are requested."""
    data = sample()
    tree = ("status", "not-equals", 200)
    matching = oracle(data).requests(tree)
    ids = set(map(session_id_of, matching))
    whole = [row for row in oracle(data).rows if session_id_of(row) in ids]
    async with on_chdb(data) as client:
        options: Any = {"time_filter": WHOLE, "limit": None}
        listed = await client.get_sessions(oracle.built(tree), **options)
        assert list(listed) == sessions_of(matching)
        listed = await client.get_sessions(oracle.built(tree), whole_sessions=True, **options)
        assert sorted(listed, key=by_key) == sorted(sessions_of(whole), key=by_key)


def by_key(session: Session) -> tuple[str, str]:
    return session.session_id, session.session_name
