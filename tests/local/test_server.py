"""The server: what it answers over HTTP, to whom, and how it starts and ends."""

import asyncio
import copy
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
import pytest_asyncio
import yaml

from helicone_sessions import (
    ConfigurationError,
    ConnectionFailed,
    F,
    Filter,
    HeliconeClient,
    HeliconeError,
    MissingExtra,
    QueryFailed,
    RequestTimeout,
    SessionMetricsQuery,
    all_of,
    any_of,
)
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers import DriverError, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

CONTRACT = Path(__file__).parents[2].parent / "shared" / "openapi.yaml"
KEY = "sk-local-of-the-tests"
TIME = "2026-11-01T12:00:00Z"
PATH = "/v1/session/metrics/query"
PLAIN: dict[str, Any] = {"nameContains": "", "timezoneDifference": 0}
HOSTILE = [
    "'",
    '"',
    "`",
    "\\",
    "\\'",
    "'; DROP TABLE request_response_rmt; --",
    "') OR 1=1 --",
    "{p0:String}",
    "{x:Identifier}",
    "\0",
    "a\0'; --",
    "\n\t\r\b\f",
    "\\N",
    "%s%n",
    "😀\U0010ffff",
]

Post = Callable[..., Awaitable[tuple[int, Any]]]


def _rows() -> list[dict[str, Any]]:
    return [
        {
            "request_created_at": f"2026-11-01T12:00:{number % 60:02}Z",
            "cost": 2**number / 1e9,
            "latency": number,
            "status": 200 + number % 3,
            "model": f"m{number}",
            "session_id": f"s{number}",
            "properties.env": "prod",
        }
        for number in range(20)
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalServer]:
    """A server with twenty sessions of one request each."""
    async with LocalServer(_rows(), api_key=KEY) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: LocalServer) -> AsyncIterator[HeliconeClient]:
    """A client of `server`."""
    async with HeliconeClient(KEY, base_url=server.url, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(server: LocalServer) -> AsyncIterator[aiohttp.ClientSession]:
    """Plain HTTP to `server`, with its key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        yield session


@pytest.fixture(scope="module")
def post(http: aiohttp.ClientSession) -> Post:
    """Posts a body and gives the status and the JSON of the answer."""

    async def posted(body: object, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with http.post(PATH, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    return posted


@pytest.fixture(scope="module")
def envelope() -> jsonschema.Draft202012Validator:
    """The contract's answer; an average may be null, where the contract forgot that there may be none."""
    if not CONTRACT.exists():
        pytest.skip("the contract is not beside the repository")
    schemas = copy.deepcopy(yaml.safe_load(CONTRACT.read_text())["components"]["schemas"])
    schemas["AverageRow"]["properties"]["average"]["type"] = ["number", "null"]
    # `nullable` with an enum of null alone is OpenAPI's way to say null.
    for kind, field in (("ResultSuccess_SessionMetrics_", "error"), ("ResultError_string_", "data")):
        schemas[kind]["properties"][field] = {"type": "null"}
    root = {"$ref": "#/components/schemas/Result_SessionMetrics.string_", "components": {"schemas": schemas}}
    return jsonschema.Draft202012Validator(root)


def _leaf(name: str, **condition: object) -> dict[str, Any]:
    return {"request_response_rmt": {name: condition}}


def _alternating(depth: int, leaf: Filter) -> Filter:
    """A filter of *depth* levels."""
    for level in range(depth - 1):
        leaf = (F.latency == level) | leaf if level % 2 else (F.latency != level + 100) & leaf
    return leaf


@pytest.mark.promise(name="S3")
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        "Bearer ключ",
    ],
)
async def test_key_is_asked_for(server: LocalServer, authorization: str | None) -> None:
    """Without the key the answer is 401 in the service's form, and no key is in it."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with aiohttp.ClientSession(server.url) as session, session.post(PATH, headers=headers) as answer:
        assert 401 == answer.status
        assert {"error", "trace"} == set(await answer.json())
        assert KEY not in await answer.text()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", f"Bearer {KEY} {KEY}", f"Basic {KEY}", KEY]
)
async def test_malformed_token(server: LocalServer, authorization: str) -> None:
    """A header that is not the scheme and one key is answered with 400 in the service's words."""
    headers = {"Authorization": authorization}
    async with aiohttp.ClientSession(server.url) as session, session.post(PATH, headers=headers) as answer:
        assert (400, "text/plain") == (answer.status, answer.content_type)
        assert "Invalid token." == await answer.text()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
async def test_key_opens(server: LocalServer, authorization: str) -> None:
    """With the key the query is answered, however the scheme is spelt."""
    headers = {"Authorization": authorization}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post(PATH, json=PLAIN, headers=headers) as answer,
    ):
        assert 200 == answer.status


@pytest.mark.asyncio(loop_scope="module")
async def test_key_of_odd_bytes(server: LocalServer) -> None:
    """A key that is no text is a wrong key."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n".encode())
    writer.write(b"Authorization: Bearer \xff\xfe\r\n\r\n{}")
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert b"HTTP/1.1 401 Unauthorized\r\n" == status


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405),
        ("PUT", PATH, 405),
        ("DELETE", PATH, 405),
        ("POST", "/v1/session/metrics", 404),
        ("POST", f"{PATH}/", 404),
        ("POST", "/healthcheck", 405),
        ("GET", "/healthcheck", 200),
    ],
)
async def test_addresses(http: aiohttp.ClientSession, method: str, path: str, status: int) -> None:
    """One address takes queries by POST and one says that the server runs; others there are none."""
    async with http.request(method, path) as answer:
        assert status == answer.status
        assert "application/json" == answer.content_type
        assert status == 200 or {"error"} == set(await answer.json())
        assert (status == 405) == ("Allow" in answer.headers)


@pytest.mark.promise(name="S3")
@pytest.mark.asyncio(loop_scope="module")
async def test_health_needs_no_key(server: LocalServer) -> None:
    """The health check needs no key."""
    async with aiohttp.ClientSession(server.url) as session, session.get("/healthcheck") as answer:
        assert {"status": "healthy"} == await answer.json()


NO_JSON = [b"", b"{", b"nameContains", b'{"nameContains": "\xe9", "timezoneDifference": 0}', b"[" * 50_000]
NO_JSON += [b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"1" * 5000]
WRONG: list[tuple[str, Any]] = [
    ("$", []),
    ("$", None),
    ("$", "all"),
    ("$", {}),
    ("$", {"nameContains": ""}),
    ("$", {"timezoneDifference": 0}),
    ("$", {**PLAIN, "limit": 5}),
    ("$.filter", {**PLAIN, "filter": None}),
    ("$.filter", {**PLAIN, "filter": []}),
    ("$.filter", {**PLAIN, "filter": "none"}),
    ("$.filter", {**PLAIN, "filter": {"users": {"id": {"equals": "x"}}}}),
    ("$.filter", {**PLAIN, "filter": {"left": "all", "operator": "and"}}),
    ("$.filter.operator", {**PLAIN, "filter": {"left": "all", "operator": "xor", "right": "all"}}),
    ("$.filter.right", {**PLAIN, "filter": {"left": "all", "operator": "or", "right": 5}}),
    ("$.filter.request_response_rmt", {**PLAIN, "filter": {"request_response_rmt": []}}),
    ("$.filter.request_response_rmt", {**PLAIN, "filter": _leaf("colour", equals="x")}),
    ("$.filter.request_response_rmt", {**PLAIN, "filter": _leaf("session_tag", equals="x")}),
    ("$.filter.request_response_rmt.cost", {**PLAIN, "filter": _leaf("cost", between=5)}),
    ("$.filter.request_response_rmt.cost.gt", {**PLAIN, "filter": _leaf("cost", gt="5")}),
    ("$.filter.request_response_rmt.cost.gt", {**PLAIN, "filter": _leaf("cost", gt=True)}),
    ("$.filter.request_response_rmt.cost.gt", {**PLAIN, "filter": _leaf("cost", gt=None)}),
    ("the body is not JSON: ", {**PLAIN, "filter": _leaf("cost", gt=float("nan"))}),
    ("$.filter.request_response_rmt.cost.gt", {**PLAIN, "filter": _leaf("cost", gt=10**400)}),
    ("$.filter.request_response_rmt.model.equals", {**PLAIN, "filter": _leaf("model", equals=5)}),
    ("$.filter.request_response_rmt.threat.equals", {**PLAIN, "filter": _leaf("threat", equals="true")}),
    (
        "$.filter.request_response_rmt.request_created_at.gt",
        {**PLAIN, "filter": _leaf("request_created_at", gt="2026-11-01T00:00:00")},
    ),
    (
        "$.filter.request_response_rmt.properties['env'].equals",
        {**PLAIN, "filter": _leaf("properties", env={"equals": 5})},
    ),
    ("$.timeFilter", {**PLAIN, "timeFilter": None}),
    ("$.timeFilter", {**PLAIN, "timeFilter": 5}),
    ("$.timeFilter", {**PLAIN, "timeFilter": {"startTimeUnixMs": 5}}),
    ("$.timeFilter", {**PLAIN, "timeFilter": {"startTimeUnixMs": 5, "endTimeUnixMs": 6, "zone": 0}}),
    ("$.timeFilter.startTimeUnixMs", {**PLAIN, "timeFilter": {"startTimeUnixMs": "5", "endTimeUnixMs": 6}}),
    ("$.timeFilter.endTimeUnixMs", {**PLAIN, "timeFilter": {"startTimeUnixMs": 5, "endTimeUnixMs": 1e99}}),
    ("$.pSize", {**PLAIN, "pSize": None}),
    ("$.useInterquartile", {**PLAIN, "useInterquartile": None}),
    ("$.pSize", {**PLAIN, "pSize": "p42"}),
    ("$.pSize", {**PLAIN, "pSize": ["p50"]}),
    ("$.useInterquartile", {**PLAIN, "useInterquartile": 1}),
    ("$.nameContains", {**PLAIN, "nameContains": None}),
    ("$.nameContains", {**PLAIN, "nameContains": 5}),
    ("$.nameContains", {**PLAIN, "nameContains": "\ud800"}),
    ("$.filter.request_response_rmt.model.equals", {**PLAIN, "filter": _leaf("model", equals="\udfff")}),
    ("$.timezoneDifference", {**PLAIN, "timezoneDifference": "0"}),
    ("$.timezoneDifference", {**PLAIN, "timezoneDifference": 1441}),
    ("$.timeFilter", {**PLAIN, "timeFilter": {"startTimeUnixMs": 5, "endTimeUnixMs": 5}}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:20]))
async def test_body_is_json(post: Post, body: bytes) -> None:
    """A body that is not JSON, or that nobody could decode, is refused as such."""
    status, answer = await post(body)
    assert (400, {"error"}) == (status, set(answer))
    assert answer["error"].startswith("the body is not JSON: ")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("path", "body"), WRONG, ids=lambda value: str(value)[-60:])
async def test_body_is_the_contracts(post: Post, path: str, body: object) -> None:
    """A body with a field or a value that the contract does not have is refused with the JSON path of it."""
    status, answer = await post(body)
    assert (400, {"error"}) == (status, set(answer))
    assert answer["error"].startswith(path)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        {**PLAIN, "filter": "all", "pSize": "p99.9", "useInterquartile": True},
        {**PLAIN, "timeFilter": {"startTimeUnixMs": 0, "endTimeUnixMs": 2e12}, "timezoneDifference": -60.5},
        {**PLAIN, "filter": _leaf("cost", gt=1000)},
        {**PLAIN, "nameContains": "nobody"},
    ],
)
async def test_answer_is_the_contracts(post: Post, envelope: Any, body: object) -> None:
    """An answer has the form of the contract."""
    status, answer = await post(body)
    assert 200 == status
    envelope.validate(answer)
    assert answer["error"] is None


@pytest.mark.asyncio(loop_scope="module")
async def test_failure_is_the_contracts(post: Post, envelope: Any) -> None:
    """A query that fails is answered with status 500 and the contract's form of an error."""
    status, answer = await post({**PLAIN, "filter": _leaf("node_id", equals="x")})
    assert 500 == status
    envelope.validate(answer)
    assert answer["data"] is None


@pytest.mark.asyncio(loop_scope="module")
async def test_no_session_matches(post: Post) -> None:
    """Where no session matches the histograms are empty, and so are the lists of averages."""
    _, answer = await post({**PLAIN, "nameContains": "nobody"})
    names = ("session_count", "session_duration", "session_cost")
    assert {name: [] for name in names} == answer["data"].pop("average")
    assert {name: [] for name in names} == answer["data"]


@pytest.mark.asyncio(loop_scope="module")
async def test_pattern_without_end(client: HeliconeClient) -> None:
    """A pattern that ends with a lone backslash, which ClickHouse does not run, fails with its column."""
    with pytest.raises(QueryFailed, match=r"^model like: the pattern ends with a backslash"):
        await client.get_metrics(F.model.like("m1\\"))


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        ("0", "0"),
        ("5", "5"),
        ("0.000000001", "1e-9"),
        ("0.00000123", "0.00000123"),
        ("0.000000123", "1.23e-7"),
        ("1234567.5", "1234567.5"),
        ("0.1", "0.1"),
    ],
)
async def test_ends_are_written_as_javascript_does(dollars: str, text: str) -> None:
    """The ends of a bar are numbers written as JavaScript writes them, as text."""
    async with (
        LocalServer([{"request_created_at": TIME, "cost": dollars}], api_key=KEY) as server,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post(server.url + PATH, json=PLAIN) as answer,
    ):
        bar = {"range_start": text, "range_end": text, "value": 1}
        assert [bar] == (await answer.json())["data"]["session_cost"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("leaf", "requests"),
    [
        ({"request_response_rmt": {"latency": {"gte": 3, "lt": 5}}}, 2),
        ({"request_response_rmt": {"latency": {"gte": 3}, "status": {"equals": 200}}}, 6),
        (
            {
                "request_response_rmt": {"latency": {"gt": 10}},
                "sessions_request_response_rmt": {"session_session_id": {"contains": "s1"}},
            },
            9,
        ),
        ({"request_response_rmt": {"properties": {"env": {"equals": "prod"}, "no": {"equals": "x"}}}}, 0),
        ({}, 20),
        ({"request_response_rmt": {}}, 20),
    ],
)
async def test_all_conditions_of_a_leaf_count(post: Post, leaf: dict[str, Any], requests: int) -> None:
    """A leaf with several conditions means all of them, and a leaf without any means all requests."""
    _, answer = await post({**PLAIN, "filter": leaf, "pSize": "p99.9"})
    # Each session is one request, so its histogram draws them all.
    assert requests == sum(bar["value"] for bar in answer["data"]["session_count"])


def _matching_nothing(text: str) -> list[Filter]:
    return [
        F.model == text,
        F.model.contains(text),
        F.properties[text] == "prod",
        F.properties["env"] == text,
        F.scores[text] == 1,
        F.session_tag == text,
        F.assets.contains(text),
        F.property_key == text,
        F.request_id == text,
    ]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts(client: HeliconeClient, text: str) -> None:
    """Text of any kind, as a constant, a key, a tag or a name, is answered and does no harm."""
    nothing = any_of(*_matching_nothing(text))
    everything = all_of(F.model != text, F.model.not_contains(text), F.properties[text] == "")
    asked: list[SessionMetricsQuery | Filter] = [SessionMetricsQuery(name_contains=text), nothing, everything]
    client = client.with_options(cautions="ignore")
    averages = [answer.average.session_cost for answer in await client.get_metrics_many(asked)]
    assert [None, None, pytest.approx((2**20 - 1) / 20 / 1e9)] == averages


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("place", range(9))
async def test_long_text(client: HeliconeClient, place: int) -> None:
    """A text of a million characters, as a constant or a key, is answered."""
    client = client.with_options(cautions="ignore")
    answer = await client.get_metrics(_matching_nothing("x" * 1_000_000)[place])
    assert answer.average.session_count is None


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("asked", "sessions"),
    [
        (any_of(F.model == "m3", *(F.model == f"u{n}" for n in range(9_999))), {3}),
        # Of these ClickHouse's own rewriting used to take minutes and gigabytes.
        (any_of(F.model.contains("M19"), *(F.model.contains(f"u{n}") for n in range(1_999))), {19}),
        (all_of(F.latency > 17, *(F.latency > n / 1e4 for n in range(999))), {18, 19}),
    ],
    ids=["10,000 equal", "2,000 contained", "1,000 below"],
)
async def test_thousands_of_conditions(client: HeliconeClient, asked: Filter, sessions: set[int]) -> None:
    """A filter of thousands of conditions is answered."""
    metrics = await client.get_metrics(asked)
    dollars = sum(2**number for number in sessions) / 1e9
    assert dollars / len(sessions) == pytest.approx(metrics.average.session_cost)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "leaf",
    [
        F.model == "m3",
        F.session_total_requests == 1,
    ],
)
async def test_deepest_filter(client: HeliconeClient, leaf: Filter) -> None:
    """The deepest filter that a client sends is answered."""
    assert (await client.get_metrics(_alternating(200, leaf))).average.session_count


def _differing(number: int) -> Filter:
    kind, least = number % 4, number // 4
    kinds = [
        F.model == f"m{least}",
        F.latency <= least,
        (F.session_total_requests >= 1) & (F.latency > least),
        F.properties["env"].contains("pro") & F.model.ilike(f"M%{least % 10}"),
    ]
    return kinds[kind]


@pytest.mark.asyncio(loop_scope="module")
async def test_concurrent_queries(server: LocalServer) -> None:
    """Queries that run at once are each given their own answer, failures among them."""
    asked: list[Filter] = [_differing(number) for number in range(64)]
    asked[7::8] = [F.node_id == f"n{number}" for number in range(8)]
    async with HeliconeClient(KEY, base_url=server.url, max_retries=0, max_concurrency=64) as client:
        alone = [(await client.get_metrics_many([each], return_errors=True))[0] for each in asked]
        at_once = await client.get_metrics_many(asked, return_errors=True)
    assert list(map(repr, alone)) == list(map(repr, at_once))
    assert 8 == sum(isinstance(answer, QueryFailed) for answer in at_once)
    assert len(set(map(repr, alone))) > 40


@pytest.mark.asyncio(loop_scope="module")
async def test_client_that_leaves(server: LocalServer, client: HeliconeClient) -> None:
    """Clients that go away in the middle of a query do not disturb the others."""
    async with HeliconeClient(KEY, base_url=server.url, max_retries=0, max_concurrency=16) as other:
        tasks = [asyncio.create_task(other.get_metrics(F.latency >= number)) for number in range(16)]
        await client.get_metrics()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert 1.0 == (await client.get_metrics(F.latency >= 19)).average.session_count


def test_key_is_not_in_the_repr() -> None:
    """The representation of a server does not hold its key."""
    server = LocalServer(api_key=KEY)
    assert KEY == server.api_key
    assert KEY not in repr(server)
    assert repr(server).startswith("LocalServer(host='127.0.0.1', port=0")


@pytest.mark.promise(name="S4")
def test_keys_are_made_up() -> None:
    """Without a key each server makes up its own."""
    keys = {LocalServer().api_key for _ in range(8)}
    assert 8 == len(keys)
    assert min(map(len, keys)) >= 32


async def test_url_before_the_start() -> None:
    """A server has an address only while it runs."""
    server = LocalServer()
    with pytest.raises(ConfigurationError, match=r"is not running|was stopped"):
        _ = server.url
    async with server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)
    with pytest.raises(ConfigurationError, match=r"is not running|was stopped"):
        _ = server.url


async def test_start_twice() -> None:
    """A server that runs cannot be started again, and runs on."""
    async with LocalServer() as server:
        with pytest.raises(ConfigurationError, match="already running"):
            await server.start()
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            assert (await client.get_metrics()).average.session_count is None


async def test_start_again_after_the_end() -> None:
    """A server that was closed can be started again, with its data loaded anew."""
    server = LocalServer([{"request_created_at": TIME, "cost": 3}])
    for _ in range(2):
        async with server, HeliconeClient(server.api_key, base_url=server.url) as client:
            assert 3.0 == (await client.get_metrics()).average.session_cost
            assert 1 == server.loaded.rows


async def test_start_again_on_an_iterator() -> None:
    """Data that can be read only once is not silently empty at the second start."""
    server = LocalServer(iter([{"request_created_at": TIME, "cost": 3}]))
    async with server:
        assert 1 == server.loaded.rows
    with pytest.raises(ConfigurationError) as caught:
        await server.start()
    assert "data" == caught.value.argument


async def test_servers_side_by_side() -> None:
    """Two servers of one process do not see each other's rows, and one outlives the other."""
    row = {"request_id": "0" * 31 + "1", "request_created_at": TIME, "session_id": "s"}
    row["session_tag"] = "of the first"
    async with LocalServer([row | {"cost": 1}]) as first:
        async with (
            LocalServer([row | {"cost": 2, "session_tag": None}], api_key=KEY) as second,
            HeliconeClient(first.api_key, base_url=first.url) as one,
            HeliconeClient(KEY, base_url=second.url, cautions="ignore") as other,
        ):
            assert 1.0 == (await one.get_metrics()).average.session_cost
            assert 2.0 == (await other.get_metrics()).average.session_cost
            assert (await other.get_metrics(F.session_tag == "of the first")).average.session_cost is None
        async with HeliconeClient(first.api_key, base_url=first.url) as one:
            assert 1.0 == (await one.get_metrics(F.session_tag == "of the first")).average.session_cost


async def test_closing_twice() -> None:
    """Closing a server again, or one that never ran, does nothing."""
    server = LocalServer()
    await server.aclose()
    async with server:
        pass
    await server.aclose()
    await server.aclose()


async def test_closing_lets_go_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is closed even if dropping the tables fails, and the failure is raised."""

    async def refuse(_driver: ChdbDriver, text: str) -> None:
        raise DriverError(f"no more memory for {text.partition(' ')[0]}")

    server = LocalServer(_rows())
    await server.start()
    driver = server._dataset._opened().driver
    monkeypatch.setattr(ChdbDriver, "execute", refuse)
    with pytest.raises(DriverError, match="no more memory for DROP"):
        await server.aclose()
    with pytest.raises(ConfigurationError, match="the driver is not open"):
        await driver.query(Statement("SELECT 1"))


async def test_an_engine_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine refuses what the start or a count needs, the error tells what it says."""

    async def refuse(_driver: ChdbDriver, *_: object) -> Any:
        raise DriverError("there is no room")

    async with LocalServer(_rows()) as server:
        assert 20 == await server.count()
        monkeypatch.setattr(ChdbDriver, "query", refuse)
        with pytest.raises(ConfigurationError, match=r"ClickHouse rejected the count .*: there is no"):
            await server.count()
        with pytest.raises(ConfigurationError, match="ClickHouse rejected a statement: there is no"):
            await LocalServer().start()


async def test_rows_for_a_server_that_does_not_run() -> None:
    """Rows are added while a server runs: before and after, the error says which of the two it is."""
    server = LocalServer()
    with pytest.raises(ConfigurationError, match="is not running"):
        await server.add(_rows())
    async with server:
        pass
    with pytest.raises(ConfigurationError, match="was stopped"):
        await server.add(_rows())


def test_a_server_is_not_pickled() -> None:
    """A server cannot be sent to another process."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(LocalServer())


async def test_port_is_closed_at_the_end() -> None:
    """After the end nothing listens on the port."""
    async with LocalServer() as server:
        url = server.url
    async with HeliconeClient(KEY, base_url=url, max_retries=0) as client:
        with pytest.raises(ConnectionFailed):
            await client.get_metrics()


async def test_given_port() -> None:
    """A server listens on the port that it is given."""
    async with LocalServer() as server:
        port = int(server.url.rpartition(":")[2])
    async with LocalServer(port=port) as again:
        assert f"http://127.0.0.1:{port}" == again.url


async def test_port_that_is_taken() -> None:
    """Where the port is taken the start fails, and nothing of it is left."""
    async with LocalServer() as first:
        second = LocalServer(port=int(first.url.rpartition(":")[2]))
        with pytest.raises(ConfigurationError) as caught:
            await second.start()
        assert "port" == caught.value.argument
        with pytest.raises(ConfigurationError, match=r"is not running|was stopped"):
            _ = second.url
        await second.aclose()


async def test_end_waits_for_queries() -> None:
    """A query in progress when the server is closed is answered, or fails as a connection that broke."""
    server = LocalServer(_rows())
    await server.start()
    async with HeliconeClient(server.api_key, base_url=server.url, max_retries=0) as client:
        asked = [F.latency >= number for number in range(8)]
        many = asyncio.create_task(client.get_metrics_many(asked, return_errors=True))
        await client.get_metrics()
        await server.aclose()
        for answer in await many:
            if isinstance(answer, HeliconeError):
                assert isinstance(answer, ConnectionFailed)
            else:
                assert 1.0 == answer.average.session_count


@pytest.mark.parametrize("turns", range(0, 12, 2))
async def test_end_while_connections_are_made(turns: int) -> None:
    """However far a connection has come when the server is closed, its query is not left waiting."""
    server = LocalServer(_rows())
    await server.start()
    async with HeliconeClient(server.api_key, base_url=server.url, max_retries=0, timeout=20) as client:
        asked = [F.latency >= number for number in range(8)]
        many = asyncio.create_task(client.get_metrics_many(asked, return_errors=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.aclose()
        assert not [answer for answer in await many if isinstance(answer, RequestTimeout)]


async def test_missing_chdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where chDB is not installed the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(MissingExtra) as caught:
        await LocalServer().start()
    assert "local" == caught.value.extra


@pytest.mark.parametrize("path", ["//v1/session/metrics/query", "/v1//session/metrics///query"])
async def test_doubled_slashes(path: str) -> None:
    """Clients that join a base URL with a slash at its end to a path are served."""
    async with (
        LocalServer() as server,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.api_key}"}) as session,
        session.post(server.url + path, json={"nameContains": "", "timezoneDifference": 0}) as answer,
    ):
        assert 200 == answer.status


async def test_column_names_in_a_warning() -> None:
    """The names of unknown columns reach a terminal without control characters."""
    with pytest.warns(UserWarning, match=r"unknown columns are ignored: \[31mred$"):
        async with LocalServer([{"request_created_at": "2026-11-01T00:00:00Z", "\x1b[31mred": 1}]):
            pass


@pytest.mark.promise(name="S11")
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX rights")
def test_files_of_the_command_are_private(tmp_path: Path) -> None:
    """All files that `serve` writes are readable by their owner only."""
    path = tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "helicone_sessions",
        "serve",
        "--path",
        str(path),
        "--port",
        "0",
        "--sample",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("ready at" in line for line in process.stderr)
        process.terminate()
    files = [file for file in (path, *path.rglob("*")) if not file.is_symlink()]
    assert len(files) > 10
    assert {0} == {file.stat().st_mode & 0o077 for file in files}
