"""Totals, bars and the sessions in a bar, compared with a computation in Python."""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import SessionMetricsQuery
from helicone_sessions.local import LocalServer
from helicone_sessions.local.query.overview_sql import BARS_PATH, IN_BAR_PATH, Bars, InBar
from tests.local.conftest import EPOCH, NANO, Row, nano_of, session_id_of, session_name_of
from tests.local.nasty_rows import ROWS
from tests.local.test_listings import period_of
from tests.local.test_oracle import CHANCES, tree_of

pytest.importorskip("chdb", reason="the extra `local` is not installed")

EDGES: dict[str, list[float]] = {
    "session_count": [1, 2, 3, 5, 8],
    "session_duration": [0, 0.5, 60, 3600, 86_400],
    "session_cost": [1e-9, 0.001, 0.1, 1, 2.5],
}
QUERY = {"nameContains": "", "timezoneDifference": 0}


@pytest.fixture(scope="module")
def held(runner: asyncio.Runner, hold: Any) -> Iterator[Any]:
    """Tables that hold `ROWS`."""
    holding = hold(ROWS)
    yield runner.run(holding.__aenter__())
    runner.run(holding.__aexit__(None, None, None))


def listed(rows: list[Row], *, by_name: bool = False) -> list[dict[str, Any]]:
    """The sessions of requests, the most expensive first."""
    grouped: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[session_id_of(row), session_name_of(row) if by_name else None].append(row)
    found = []
    for (session_id, _), requests in grouped.items():
        first, *_, latest = sorted(row["request_created_at"] for row in [*requests, *requests])
        names = {session_name_of(row) for row in requests}
        found.append(
            {
                "id": session_id,
                "name": ", ".join(sorted(names, key=str.encode)),
                "first": (first - EPOCH) // timedelta(milliseconds=1),
                "latest": (latest - EPOCH) // timedelta(milliseconds=1),
                "seconds": (latest - EPOCH) // timedelta(seconds=1) - (first - EPOCH) // timedelta(seconds=1),
                "dollars": sum(map(nano_of, requests)) / NANO,
                "requests": len(requests),
            }
        )
    found.sort(key=lambda one: (-one["dollars"], one["id"].encode(), one["name"].encode()))
    return found


@settings(max_examples=40, deadline=None, database=None)
@given(chance=CHANCES, leaves=st.integers(1, 4))
def test_bars_hold_each_session_once(
    runner: asyncio.Runner, held: Any, oracle: Any, chance: random.Random, leaves: int
) -> None:
    """Totals and bars are those of the sessions that match, and a bar lists as many sessions as it counts."""
    tree, unsessioned = tree_of(chance, leaves), chance.random() < 0.5
    time_filter = chance.choice([None, period_of(chance)])
    query = SessionMetricsQuery(oracle.built(tree), time_filter=time_filter)
    requests = oracle(ROWS).requests(tree, time_filter)
    kept = [row for row in requests if unsessioned or session_id_of(row)]
    engine = held.engine()

    def asked(wanted: Bars | InBar) -> Any:
        return runner.run(engine.answer_listing(engine.overview(wanted, held.organization_id)))

    found = asked(Bars(query, unsessioned, EDGES))
    sessions = listed(kept)
    assert found["sessions"] == len(sessions)
    assert found["requests"] == len(kept)
    assert found["dollars"] == sum(map(nano_of, kept)) / NANO
    assert found["unsessioned"] == len([row for row in requests if not session_id_of(row)])
    assert found["first"] == min((one["first"] for one in sessions), default=None)
    assert found["latest"] == max((one["latest"] for one in sessions), default=None)

    for (name, edges), figure in zip(EDGES.items(), ("requests", "seconds", "dollars"), strict=True):
        each = listed(kept, by_name=name == "session_count")
        ends = itertools.pairwise([None, *edges, None])
        bars = [
            [
                one
                for one in each
                if (low is None or one[figure] >= low) and (high is None or one[figure] < high)
            ]
            for low, high in ends
        ]
        assert found["counts"][name] == [len(bar) for bar in bars]
        place = chance.randrange(len(bars))
        low, high = [None, *edges][place], [*edges, None][place]
        in_bar = InBar(query, unsessioned, name, low, high, limit=1000)
        assert asked(in_bar) == bars[place]


ONE = [
    {"request_created_at": datetime(2026, 11, 1, tzinfo=UTC), "cost": number, "session_id": f"s{number}"}
    for number in range(3)
]


async def answer(path: str, body: Any, semantics: Any = "contract") -> tuple[int, Any]:
    async with (
        LocalServer(ONE, semantics=semantics) as server,
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {server.api_key}"}) as client,
        client.post(f"/{path}", json=body) as response,
    ):
        return response.status, await response.json()


@pytest.mark.parametrize("semantics", ["contract", "helicone"])
async def test_both_semantics_answer(semantics: str) -> None:
    """The endpoints answer under either semantics, in the order and the number that the query gives."""
    wire = {**QUERY, "filter": {"request_response_rmt": {"cost": {"gte": 1}}}}
    bars = {"query": wire, "edges": {"session_cost": [1, 2]}}
    status, found = await answer(BARS_PATH, bars, semantics)
    assert (200, [0, 1, 1]) == (status, found["data"]["counts"]["session_cost"])
    status, found = await answer(IN_BAR_PATH, {"query": wire, "sort": "dollars", "limit": 1}, semantics)
    assert (200, ["s1"]) == (status, [one["id"] for one in found["data"]])


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (BARS_PATH, [], "$ must be an object with query"),
        (BARS_PATH, {}, "$ must be an object with query"),
        (BARS_PATH, {"query": {}}, "nameContains"),
        (BARS_PATH, {"query": QUERY, "unsessioned": 1}, "$.unsessioned must be true or false"),
        (BARS_PATH, {"query": QUERY, "edges": {"session_tag": [1]}}, "$.edges must be an object"),
        (BARS_PATH, {"query": QUERY, "edges": {"session_cost": [1, True]}}, "must be a list of 1 to 100"),
        (BARS_PATH, {"query": QUERY, "edges": {"session_cost": []}}, "must be a list of 1 to 100"),
        (BARS_PATH, {"query": QUERY, "edges": {"session_cost": [1, 1]}}, "must be in ascending order"),
        (BARS_PATH, {"query": QUERY, "limit": 5}, "Its fields are query, unsessioned, edges"),
        (IN_BAR_PATH, {"query": QUERY, "figure": "cost"}, "$.figure must be among session_count"),
        (IN_BAR_PATH, {"query": QUERY, "figure": []}, "$.figure must be among session_count"),
        (IN_BAR_PATH, {"query": QUERY, "sort": "--id"}, "$.sort must be among id, name"),
        (IN_BAR_PATH, {"query": QUERY, "start": "1"}, "$.start must be a number or null"),
        (IN_BAR_PATH, {"query": QUERY, "limit": 1001}, "$.limit must be from 1 to 1000"),
        (IN_BAR_PATH, {"query": QUERY, "limit": "5"}, "$.limit must be from 1 to 1000"),
    ],
)
async def test_other_bodies_are_refused(path: str, body: Any, said: str) -> None:
    """A body of another form is refused with the path of the field and its valid values."""
    status, found = await answer(path, body)
    assert 400 == status
    assert said in found["error"]


@pytest.mark.parametrize("path", [BARS_PATH, IN_BAR_PATH])
async def test_a_filter_that_cannot_be_decided_fails(path: str) -> None:
    """A column that the engine does not store gives the error of the metrics query."""
    wire = {**QUERY, "filter": {"request_response_rmt": {"node_id": {"equals": "x"}}}}
    status, found = await answer(path, {"query": wire})
    assert (500, True) == (status, "node_id" in found["error"])
