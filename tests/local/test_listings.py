"""Lists of sessions and requests on the embedded engine, held to a computation in Python."""

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import F, TimeFilter
from helicone_sessions.filters.schema import COLUMNS
from helicone_sessions.filters.schema import SESSIONS as TABLE_OF_SESSIONS
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers import DriverError
from helicone_sessions.local.query import engine as engine_module
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.messages.protocol import (
    REQUEST_COUNT,
    REQUESTS,
    SESSION_COUNT,
    SESSION_NAMES,
    SESSIONS,
)
from helicone_sessions.messages.query import (
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
)
from helicone_sessions.messages.sessions import Session, SessionName
from tests.local.conftest import Row, Tree, nano_of, session_id_of, session_name_of
from tests.local.nasty_rows import NAMES, ROWS, START
from tests.local.service_oracle import Fails, MayFail, ServiceOracle
from tests.local.test_oracle import CHANCES, MOMENTS, tree_of
from tests.local.test_service_semantics import wire_of
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

MILLISECOND = timedelta(milliseconds=1)
WHOLE = TimeFilter(min(MOMENTS) - MILLISECOND, max(MOMENTS) + MILLISECOND)
DAYS = TimeFilter(START - timedelta(days=30), START + timedelta(days=30))
SEARCHES = ["", "", "s", "S1", "%", "_", "\\", "CHAT", "'", "{x:String}", "😀", "\n", "zz"]


@pytest.fixture(scope="module")
def held(runner: asyncio.Runner, hold: Any) -> Iterator[Any]:
    """Tables that hold `ROWS`."""
    holding = hold(ROWS)
    yield runner.run(holding.__aenter__())
    runner.run(holding.__aexit__(None, None, None))


def average(values: list[int | None]) -> Any:
    """The mean of the values that are there; None if none is."""
    known = [value for value in values if value is not None]
    return pytest.approx(math.fsum(known) / len(known), rel=1e-12) if known else None


def sessions_of(requests: list[Row]) -> list[Session]:
    """The sessions of requests, the newest first; an id with two names is two sessions."""
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in requests:
        grouped[session_id_of(row), session_name_of(row)].append(row)
    found = []
    for (session_id, name), rows in grouped.items():
        prompt, completion = (
            sum(row[column] or 0 for row in rows) for column in ("prompt_tokens", "completion_tokens")
        )
        found.append(
            Session(
                session_id,
                name,
                min(row["request_created_at"] for row in rows),
                max(row["request_created_at"] for row in rows),
                sum(map(nano_of, rows)) / 10**9,
                len(rows),
                prompt,
                completion,
                prompt + completion,
                average([row["latency"] for row in rows]),
                tuple(sorted({row["user_id"] for row in rows} - {""}, key=str.encode)),
            )
        )
    found.sort(key=lambda one: (one.session_id.encode(), one.session_name.encode()))
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def period_of(chance: random.Random) -> TimeFilter:
    """All time, or a time with its ends on requests or just beside them."""
    if chance.random() < 0.5:
        return WHOLE
    start, end = sorted(chance.choice(MOMENTS) for _ in range(2))
    return TimeFilter(start - MILLISECOND * chance.randrange(2), end + MILLISECOND * chance.randrange(1, 3))


def matching(oracle: Any, tree: Tree, query: SessionsQuery) -> list[Row]:
    """The requests that a query for sessions selects."""

    def is_in_scope(row: Row) -> bool:
        session_id, name = session_id_of(row), session_name_of(row)
        is_found = any(query.search.lower() in text.lower() for text in (session_id, name))
        return bool(session_id) and is_found and (not query.name or query.name == name)

    found: list[Row] = oracle.requests(tree, query.time_filter, is_in_scope)
    return found


@settings(max_examples=repeats(60), database=None)
@given(chance=CHANCES, leaves=st.integers(1, 5))
def test_sessions(runner: asyncio.Runner, held: Any, oracle: Any, chance: random.Random, leaves: int) -> None:
    """A list, its pages and its count are those of the requests that match, whatever the filter."""
    tree = tree_of(chance, leaves)
    query = SessionsQuery(
        period_of(chance),
        oracle.built(tree),
        search=chance.choice(SEARCHES),
        name=chance.choice([None, None, "", *NAMES]),
        offset=chance.choice([0, 0, 1, 7, 1000]),
        limit=chance.choice([None, 0, 1, 5, 1000, 5000]),
    )
    expected = sessions_of(matching(oracle(ROWS), tree, query))
    page = expected[query.offset : query.offset + query.page_size]
    assert page == SESSIONS.answer_from_wire(runner.run(held.data_of("sessions", query)), "$")

    count = SESSION_COUNT.answer_from_wire(runner.run(held.data_of("session_count", query)), "$")
    requests = matching(oracle(ROWS), tree, query)
    sessions = len(expected)
    assert count.count == sessions
    assert count.total_cost == sum(map(nano_of, requests)) / 10**9
    assert count.avg_cost == pytest.approx(count.total_cost / max(sessions, 1), rel=1e-12)
    assert count.avg_requests == pytest.approx(len(requests) / max(sessions, 1), rel=1e-12)
    latencies = sum(row["latency"] or 0 for row in requests)
    assert count.avg_latency == pytest.approx(latencies / max(sessions, 1), rel=1e-12)


@settings(max_examples=repeats(30), database=None)
@given(chance=CHANCES, leaves=st.integers(1, 4))
def test_names(runner: asyncio.Runner, held: Any, oracle: Any, chance: random.Random, leaves: int) -> None:
    """The names are those of the requests that match and have an id, the latest used first."""
    tree, time_filter = tree_of(chance, leaves), period_of(chance)
    part = chance.choice(["", "", "H", "%", "_", "\\", "zz"])
    query = SessionMetricsQuery(oracle.built(tree), name_contains=part, time_filter=time_filter)

    def is_in_scope(row: Row) -> bool:
        return bool(session_id_of(row)) and part.lower() in session_name_of(row).lower()

    named: dict[str, list[Row]] = defaultdict(list)
    for row in oracle(ROWS).requests(tree, time_filter, is_in_scope):
        named[session_name_of(row)].append(row)
    expected = [
        SessionName(
            name,
            min(row["request_created_at"] for row in rows),
            max(row["request_created_at"] for row in rows),
            average([row["latency"] for row in rows]),
            len(set(map(session_id_of, rows))),
        )
        for name, rows in sorted(named.items(), key=lambda item: item[0].encode())
    ]
    expected.sort(key=lambda one: one.last_used, reverse=True)
    assert expected == SESSION_NAMES.answer_from_wire(runner.run(held.data_of("session_names", query)), "$")


SESSION_COLUMNS = [name for name, column in COLUMNS.items() if column.table == TABLE_OF_SESSIONS]


def tree_on_requests(chance: random.Random, leaves: int) -> Tree:
    """A filter whose conditions are on requests only."""
    while True:
        tree = tree_of(chance, leaves)
        if not any(f"'{name}'" in repr(tree) for name in SESSION_COLUMNS):
            return tree


@settings(max_examples=repeats(40), database=None)
@given(chance=CHANCES, leaves=st.integers(1, 3))
def test_requests(runner: asyncio.Runner, held: Any, oracle: Any, chance: random.Random, leaves: int) -> None:
    """Pages of requests follow each other in order of time, and hold every request that matches once."""
    tree = tree_on_requests(chance, leaves)
    size, is_ascending = chance.choice([7, 50, 1000]), chance.random() < 0.5
    expected = sorted(
        oracle(ROWS).requests(tree),
        key=lambda row: row["request_created_at"],
        reverse=not is_ascending,
    )
    found: list[Any] = []
    for offset in range(0, len(expected) + 1, size):
        sort: Any = "asc" if is_ascending else "desc"
        query = RequestsQuery(oracle.built(tree), offset=offset, limit=size, sort=sort)
        found += REQUESTS.answer_from_wire(runner.run(held.data_of("requests", query)), "$")
    times = [datetime.fromisoformat(row["request_created_at"]) for row in found]
    assert times == [row["request_created_at"] for row in expected]
    assert {row["request_id"] for row in found} == {row["request_id"] for row in expected}
    count = runner.run(held.data_of("request_count", RequestCountQuery(oracle.built(tree))))
    assert REQUEST_COUNT.answer_from_wire(count, "$") == len(expected)


def test_requests_load_again(runner: asyncio.Runner, held: Any, hold: Any) -> None:
    """A page of requests, loaded into other tables, gives the same page and the same sessions."""
    query = RequestsQuery(limit=1000, sort="asc")
    sessions = SessionsQuery(WHOLE, limit=1000)
    page = runner.run(held.data_of("requests", query))

    async def loaded() -> tuple[Any, Any]:
        async with hold(page) as copy:
            return await copy.data_of("requests", query), await copy.data_of("sessions", sessions)

    assert runner.run(loaded()) == (page, runner.run(held.data_of("sessions", sessions)))
    assert len(page) == len(ROWS)


def test_whole_sessions(runner: asyncio.Runner, held: Any, oracle: Any) -> None:
    """A filtered list has the totals of the requests that match; the sessions themselves have their own."""
    matching_ = F.status == 200
    listed = SESSIONS.answer_from_wire(
        runner.run(held.data_of("sessions", SessionsQuery(WHOLE, matching_, limit=1000))), "$"
    )
    ids = {one.session_id for one in listed}
    query = SessionsQuery(WHOLE, F.session_session_id.is_in(ids), limit=1000)
    whole = SESSIONS.answer_from_wire(runner.run(held.data_of("sessions", query)), "$")
    with_id = [row for row in oracle(ROWS).rows if session_id_of(row)]
    assert listed == sessions_of([row for row in with_id if row["status"] == 200])
    assert whole == sessions_of([row for row in with_id if session_id_of(row) in ids])
    assert sum(one.total_requests for one in listed) < sum(one.total_requests for one in whole)


def test_conditions_on_whole_sessions(runner: asyncio.Runner, held: Any, oracle: Any) -> None:
    """A condition on a whole session selects it by all its requests, and lists the matching ones."""
    query = SessionsQuery(WHOLE, (F.session_total_requests > 5) & (F.status == 200), limit=1000)
    listed = SESSIONS.answer_from_wire(runner.run(held.data_of("sessions", query)), "$")
    with_id = [row for row in oracle(ROWS).rows if session_id_of(row)]
    large = [row for row in with_id if sum(session_id_of(row) == session_id_of(each) for each in with_id) > 5]
    assert listed == sessions_of([row for row in large if row["status"] == 200])
    assert any(one.total_requests <= 5 for one in listed)


def test_time_zone(runner: asyncio.Runner, held: Any) -> None:
    """The difference of the time zone is added to the times of the answer."""
    at_zero, shifted = (
        SESSIONS.answer_from_wire(
            runner.run(held.data_of("sessions", SessionsQuery(WHOLE, timezone_difference=minutes))), "$"
        )
        for minutes in (0, -90)
    )
    assert [one.created_at - timedelta(minutes=90) for one in at_zero] == [one.created_at for one in shifted]


def test_scored(runner: asyncio.Runner, held: Any, oracle: Any) -> None:
    """IsScored selects the requests with, or without, any score."""
    for is_scored in (True, False):
        query = RequestsQuery(limit=1000, is_scored=is_scored)
        page = runner.run(held.data_of("requests", query))
        assert len(page) == sum(bool(row["scores"]) == is_scored for row in oracle(ROWS).rows)


TIMES = {"startTimeUnixMs": 0, "endTimeUnixMs": 4_102_444_800_000}
SESSIONS_BODY = {"search": "", "timeFilter": TIMES, "timezoneDifference": 0, "filter": {}}
TOTAL = {"sessions_request_response_rmt": {"session_total_requests": {"gt": 5}}}
STATUS = {"request_response_rmt": {"status": {"equals": 200}}}
NAMED = {"request_response_rmt": {"properties": {"Helicone-Session-Name": {"not-equals": "x"}}}}


class Asked:
    """A server that is asked in JSON."""

    def __init__(self, server: LocalServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session

    async def __call__(self, path: str, body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.server.api_key}"}
        async with self._session.post(f"/{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture(scope="module")
def ask_service(runner: asyncio.Runner) -> Iterator[Any]:
    """Asks a server with the semantics of the service that holds `ROWS`."""

    async def started() -> Asked:
        server = LocalServer(ROWS, semantics="helicone")
        await server.start()
        return Asked(server, aiohttp.ClientSession(server.url))

    asked = runner.run(started())
    yield lambda path, body: runner.run(asked(path, body))
    runner.run(asked._session.close())
    runner.run(asked.server.aclose())


@pytest.fixture(scope="module")
def service() -> ServiceOracle:
    """The oracle of the service's answers about `ROWS`."""
    return ServiceOracle(ROWS)


def with_key(rows: list[Row]) -> list[Row]:
    """The requests that name a session; its id may be empty."""
    return [row for row in rows if "Helicone-Session-Id" in row["properties"]]


def test_service_sessions(ask_service: Any, oracle: Any) -> None:
    """The service lists 50 sessions by default and 1,000 at most; numbers of requests are text."""
    expected = sessions_of(with_key(oracle(ROWS).rows))
    for limit, size in ((None, 50), (0, 50), ("3", 3), (1000, 1000), (5000, 1000)):
        body = SESSIONS_BODY | ({} if limit is None else {"limit": limit})
        status, answer = ask_service(SESSIONS.path, body)
        assert status == 200
        assert [row["session_id"] for row in answer["data"]] == [one.session_id for one in expected[:size]]
        assert [row["total_requests"] for row in answer["data"]] == [
            str(one.total_requests) for one in expected[:size]
        ]
    row = answer["data"][0]
    assert row["created_at"] == expected[0].created_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    assert (
        ask_service(SESSIONS.path, SESSIONS_BODY | {"filter": "all"})[1]
        == ask_service(SESSIONS.path, SESSIONS_BODY)[1]
    )


def test_service_conditions_on_sessions(ask_service: Any, oracle: Any) -> None:
    """They compare the requests that match; an "or" with a request column matches everything."""
    rows = with_key(oracle(ROWS).rows)
    both = {"left": TOTAL, "operator": "and", "right": STATUS}
    matching_ = sessions_of([row for row in rows if row["status"] == 200])
    found = ask_service(SESSIONS.path, SESSIONS_BODY | {"filter": both, "limit": 1000})[1]["data"]
    assert [row["session_id"] for row in found] == [
        one.session_id for one in matching_ if one.total_requests > 5
    ]
    either = {"left": TOTAL, "operator": "or", "right": STATUS}
    found = ask_service(SESSIONS.path, SESSIONS_BODY | {"filter": either, "limit": 1000})[1]["data"]
    assert len(found) == len(sessions_of(rows))


def test_service_order_of_conditions(ask_service: Any) -> None:
    """A condition on a property before one on sessions fails; after it, it works. Counting fails."""
    before = {"left": NAMED, "operator": "and", "right": TOTAL}
    after = {"left": TOTAL, "operator": "and", "right": NAMED}
    assert ask_service(SESSIONS.path, SESSIONS_BODY | {"filter": before})[0] == 500
    assert ask_service(SESSIONS.path, SESSIONS_BODY | {"filter": after})[0] == 200
    status, answer = ask_service(SESSION_COUNT.path, SESSIONS_BODY | {"filter": TOTAL})
    assert status == 500
    assert answer["data"] is None


def test_service_search(ask_service: Any, oracle: Any) -> None:
    """The service does not escape a search; % and _ are wildcards in it."""
    expected = len(sessions_of(with_key(oracle(ROWS).rows)))
    assert (
        len(ask_service(SESSIONS.path, SESSIONS_BODY | {"search": "%", "limit": 1000})[1]["data"]) == expected
    )


def test_service_count(ask_service: Any, oracle: Any) -> None:
    """A count has the totals of all sessions; of nothing they are zero."""
    rows = with_key(oracle(ROWS).rows)
    data = ask_service(SESSION_COUNT.path, SESSIONS_BODY)[1]["data"]
    assert data["count"] == len(sessions_of(rows))
    assert data["total_cost"] == sum(map(nano_of, rows)) / 10**9
    nothing = ask_service(SESSION_COUNT.path, SESSIONS_BODY | {"nameEquals": "no such name"})[1]["data"]
    assert set(nothing.values()) == {0}


@settings(max_examples=repeats(80), database=None)
@given(chance=CHANCES, leaves=st.integers(1, 3))
def test_service_filters(
    runner: asyncio.Runner, held: Any, service: ServiceOracle, chance: random.Random, leaves: int
) -> None:
    """Any filter lists the sessions that a second oracle lists, or fails as it says."""
    wire = wire_of(chance, leaves)
    try:
        allowed: list[Any] = [sorted(service.sessions(wire))]
    except Fails:
        allowed = ["fails"]
    except MayFail as may:
        allowed = ["fails", sorted(may.answer)]
    query = SessionsQuery(DAYS, limit=1000)
    try:
        page = runner.run(held.data_of("sessions", query, wire, semantics="helicone"))
        found: Any = sorted(
            (row["session_id"], row["session_name"], int(row["total_requests"])) for row in page
        )
    except (Unanswerable, DriverError):
        found = "fails"
    assert found in allowed


async def test_service_names() -> None:
    """At most 50 names are listed, and none that was used last more than 150 days ago."""
    now = datetime.now(UTC)

    def row(name: str, days: float) -> Row:
        properties = {"Helicone-Session-Id": name, "Helicone-Session-Name": name}
        return {"request_created_at": now - timedelta(days=days), "properties": properties}

    rows = [row(f"new {number}", 1) for number in range(60)] + [row("old", 151)]
    async with (
        LocalServer(rows, semantics="helicone") as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        ask = Asked(server, session)
        body = {"nameContains": "", "timezoneDifference": 0}
        data = (await ask(SESSION_NAMES.path, body))[1]["data"]
        assert len(data) == 50
        assert {each["session_count"] for each in data} == {"1"}
        assert (await ask(SESSION_NAMES.path, body | {"nameContains": "OLD"}))[1]["data"] == []
        (found,) = (await ask(SESSION_NAMES.path, body | {"nameContains": "EW 59"}))[1]["data"]
        assert found["name"] == "new 59"
    async with LocalServer(rows) as server, aiohttp.ClientSession(server.url) as session:
        assert len((await Asked(server, session)(SESSION_NAMES.path, body))[1]["data"]) == 61


def test_service_requests(ask_service: Any, oracle: Any) -> None:
    """Rows have the export's names; a body that is not stored is a placeholder."""
    data = ask_service(REQUESTS.path, {"filter": "all", "limit": 1000})[1]["data"]
    stored = {row["request_id"]: row for row in oracle(ROWS).rows}
    assert len(data) == len(stored)
    for row in data:
        known = stored[row["request_id"]]
        assert row["cost"] == nano_of(known) / 10**9
        assert row["delay_ms"] == known["latency"]
        assert row["properties"] == known["properties"] == row["request_properties"]
        assert ("helicone_message" in row["request_body"]) == (known["request_body"] == "")
    assert ask_service(REQUESTS.path, {"filter": "all", "limit": 1001}) == (
        500,
        {"data": None, "error": "invalid limit"},
    )
    assert ask_service(REQUESTS.path, {"filter": "all", "limit": -1})[1]["error"] == "invalid limit"
    assert len(ask_service(REQUESTS.path, {"filter": "all"})[1]["data"]) == 10
    assert ask_service(REQUEST_COUNT.path, {"filter": "all"})[1]["data"] == len(ROWS)
    assert ask_service(REQUESTS.path, {"filter": TOTAL})[0] == 422
    assert ask_service(REQUESTS.path, {})[0] == 422


async def test_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page whose bodies are too large has status 504; a smaller one is answered."""
    monkeypatch.setattr(engine_module, "LARGEST_PAGE", 1000)
    rows = [{"request_created_at": START, "request_body": "x" * 400} for _ in range(4)]
    async with LocalServer(rows) as server, aiohttp.ClientSession(server.url) as session:
        ask = Asked(server, session)
        status, answer = await ask(REQUESTS.path, {"filter": "all", "limit": 4})
        assert status == 504
        assert "Use a smaller limit" in answer["error"]
        assert (await ask(REQUESTS.path, {"filter": "all", "limit": 2}))[0] == 200
