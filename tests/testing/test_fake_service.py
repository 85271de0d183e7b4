import asyncio
import errno
import json
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from helicone_sessions import (
    ALL,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    F,
    Filter,
    HeliconeClient,
    HeliconeError,
    QueryFailed,
    RequestTimeout,
    ServerError,
    SessionMetrics,
    SessionMetricsQuery,
    UnexpectedResponse,
    clock,
)
from helicone_sessions.testing import (
    FakeHelicone,
    Fault,
    RecordedRequest,
    Reply,
    VirtualClock,
    failure,
    gateway_page,
    metrics,
)

pytest_plugins = "pytester"

KEY = "sk-helicone-fake"
PATH = "/v1/session/metrics/query"
EMPTY = {"nameContains": "", "timezoneDifference": 0}
READS = "the open-source server would read only"
ONE = "send one condition a leaf"
TWO = {"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}}


def client_of(server: FakeHelicone, **options: Any) -> HeliconeClient:
    return HeliconeClient(server.api_key, **{"base_url": server.url, **options})


async def cost(server: FakeHelicone, query: Any = None, **options: Any) -> float | None:
    """The average cost in the answer to a separate client."""
    async with client_of(server, **options) as client:
        return (await client.get_metrics(query)).average.session_cost


async def posted(
    server: FakeHelicone, body: Any = None, *, path: str = PATH, authorization: str | None = f"Bearer {KEY}"
) -> tuple[int, Any, str]:
    """Status, headers and text of the response to a plain POST."""
    raw = body if isinstance(body, bytes) else json.dumps(EMPTY if body is None else body).encode()
    headers = {"Authorization": authorization} if authorization is not None else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}{path}", data=raw, headers=headers) as response,
    ):
        return response.status, response.headers, await response.text()


def with_filter(wire: Any) -> dict[str, Any]:
    return {**EMPTY, "filter": wire}


# Starting and ending


async def test_it_runs_in_the_loop_of_the_test() -> None:
    """With `async with` a client in the same loop gets answers."""
    async with FakeHelicone() as server:
        assert 0.25 == await cost(server)


def test_it_runs_in_a_thread_of_its_own() -> None:
    """With `with` it outlives the loops of several runs."""
    with FakeHelicone() as server:
        assert [0.25, 0.25] == [asyncio.run(cost(server)) for _ in range(2)]


def _in_the_loop(server: FakeHelicone) -> AbstractAsyncContextManager[FakeHelicone]:
    return server


@asynccontextmanager
async def _in_a_thread(server: FakeHelicone) -> Any:
    with server:
        yield server


either_way = pytest.mark.parametrize("running", [_in_the_loop, _in_a_thread], ids=["loop", "thread"])
Running = Callable[[FakeHelicone], AbstractAsyncContextManager[FakeHelicone]]


@either_way
async def test_leaving_ends_all_that_it_began(running: Running) -> None:
    """Requests that are held, connections and threads end with the block, and the address is free."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with running(FakeHelicone()) as server:
        server.hold()
        port = int(server.url.rpartition(":")[2])
        asking = asyncio.ensure_future(cost(server, max_retries=0))
        await server.arrived(1)
    with pytest.raises(ConnectionFailed):
        await asking
    await asyncio.sleep(0)

    assert threads == set(threading.enumerate())
    assert set() == asyncio.all_tasks() - tasks
    async with running(FakeHelicone(port=port)) as server:
        assert f"http://127.0.0.1:{port}" == server.url


@either_way
async def test_a_port_that_is_taken_is_an_error(running: Running) -> None:
    """The error of the operating system is raised, and nothing remains."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = FakeHelicone(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use") as caught:
            async with running(server):
                pass
    assert errno.EADDRINUSE == caught.value.errno


@either_way
async def test_it_runs_once_at_a_time(running: Running) -> None:
    """A running server cannot be started, and one that has ended can."""
    server = FakeHelicone()
    for _ in range(2):
        async with running(server):
            with pytest.raises(ConfigurationError, match="the server is already running"):
                server.__enter__()
            with pytest.raises(ConfigurationError, match="the server is already running"):
                await server.__aenter__()
            assert 0.25 == await cost(server)


def test_a_server_that_does_not_run_has_no_address() -> None:
    """The message says how to start it."""
    with pytest.raises(ConfigurationError, match="Use it with `async with` or `with`"):
        _ = FakeHelicone().url


def test_it_shows_no_key_and_is_not_pickled() -> None:
    """Its repr has the address and a masked key, and it cannot be pickled."""
    with FakeHelicone(api_key="sk-secret") as server:
        assert f"FakeHelicone(url='{server.url}', api_key='***')" == repr(server)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(server)
    assert "FakeHelicone(not running, api_key='***')" == repr(server)


async def test_it_listens_on_the_loopback_address_of_version_6() -> None:
    """The address of such a host is written in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no ::1 here")
    async with FakeHelicone(host="::1") as server:
        assert "http://[::1]:" == server.url[:13]
        assert 0.25 == await cost(server)


# What it saw


async def test_a_request_is_recorded_as_it_arrived() -> None:
    """Method, path, body, query, time and connection of each request, in their order."""
    virtual = VirtualClock(500)
    query = SessionMetricsQuery(F.cost > 0.1, "nightly", p_size="p95")
    async with FakeHelicone(clock=virtual) as server, client_of(server) as client:
        await client.get_metrics(query)
        await client.get_metrics()
        assert 1 == server.connections
    first, second = server.requests

    assert (1, "POST", PATH, 500.0) == (first.number, first.method, first.path, first.time)
    assert query == first.query
    assert {"nameContains": "nightly", "pSize": "p95"}.items() <= first.json.items()
    assert first.json == json.loads(first.body)
    assert SessionMetricsQuery() == second.query
    assert first.connection == second.connection


@pytest.mark.promise(name="K6")
async def test_no_key_is_recorded() -> None:
    """The header of the key is recorded without the key, whether it was right or not."""
    async with FakeHelicone() as server:
        await posted(server)
        await posted(server, authorization="sk-somebody's")

    assert ["Bearer ***"] * 2 == [request.headers["authorization"] for request in server.requests]
    assert "sk-" not in repr(server.requests)


async def test_the_conditions_of_a_filter_are_recorded() -> None:
    """Each condition is a separate filter, in the order of the request."""
    async with FakeHelicone() as server:
        await cost(server, (F.cost > 0.1 & F.model.contains("50%")) | F.properties["env"] == "prod")
        await cost(server, ALL)
        await cost(server)

    assert [
        (F.cost > 0.1, F.model.contains("50%"), F.properties["env"] == "prod"),
        (),
        (),
    ] == [request.conditions for request in server.requests]


# What it answers


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (0.5, metrics(cost=0.5)),
        (None, SessionMetrics.empty()),
        (2, Reply(body=b'{"data":{"session_count":[],"session_duration":[],"session_cost":[],"average":'
                  b'{"session_count":[],"session_duration":[],"session_cost":[{"average":2}]}},"error":null}')),
    ],
)  # fmt: skip
async def test_metrics_are_answered(expected: float | None, answer: Any) -> None:
    """Metrics, and bytes that spell some, reach the client as metrics."""
    async with FakeHelicone() as server:
        server.otherwise(answer)
        assert expected == await cost(server)


@pytest.mark.parametrize(
    "made", [metrics(), metrics(cost=None), metrics(cost=1e-7, duration=0, count=2, sessions=1.5)]
)
async def test_metrics_come_back_as_they_were_made(made: SessionMetrics) -> None:
    """The code under test receives the answer that the test sets."""
    async with FakeHelicone() as server, client_of(server) as client:
        server.otherwise(made)
        assert made == await client.get_metrics()


def test_sample_metrics_are_of_sessions_that_are_alike() -> None:
    """Each number is the average, and the only bar of its histogram."""
    made = metrics(cost=0.5, duration=9, count=2, sessions=7)

    assert (2.0, 9.0, 0.5) == (
        made.average.session_count,
        made.average.session_duration,
        made.average.session_cost,
    )
    assert (0.5, 7.0, "dollars") == (
        made.session_cost[0].range_end,
        made.session_cost.total,
        made.session_cost.unit,
    )


@pytest.mark.parametrize(
    ("kind", "message", "answer"),
    [
        (QueryFailed, "Invalid timezone difference", failure("Invalid timezone difference")),
        (QueryFailed, "odd", failure("odd", 200)),
        (ServerError, "status 502 and a page of HTML", gateway_page()),
        (ServerError, "status 599", gateway_page(599)),
        (UnexpectedResponse, "not JSON", Reply(200, "hello")),
        (UnexpectedResponse, "redirects to /there", Reply(302, headers={"Location": "/there"})),
        (AuthenticationError, "Unauthorized", Reply(401, {"error": "Unauthorized"})),
        (ConnectionFailed, "connection", Fault.DROP),
        (ConnectionFailed, "connection", Fault.RESET),
        (ConnectionFailed, "connection", Fault.TRUNCATE),
        (ConnectionFailed, "is not HTTP", Fault.NOT_HTTP),
        (RequestTimeout, "within 0.1 s", Fault.STALL),
    ],
)
@either_way
async def test_errors_and_faults_reach_the_client(
    running: Running, kind: type[HeliconeError], message: str, answer: Any
) -> None:
    """Each fault causes the error of a real one, and the next request is answered as usual."""
    async with running(FakeHelicone()) as server:
        # The client repeats a request at once if its connection is closed without a response.
        server.will_answer(*[answer] * (2 if answer in (Fault.DROP, Fault.RESET) else 1))
        with pytest.raises(kind, match=re.escape(message)):
            # Only a stall is to end in a timeout.
            await cost(server, max_retries=0, timeout=0.1 if answer is Fault.STALL else 60)
        assert 0.25 == await cost(server)


async def test_half_of_an_answer_is_half_of_the_one_that_was_due() -> None:
    """A truncated answer has its status and its first bytes, even if it is empty."""
    async with FakeHelicone() as server, aiohttp.ClientSession() as session:
        for body in (b"0123456789", b""):
            server.will_answer(Fault.TRUNCATE)
            server.otherwise(Reply(202, body))
            headers = {"Authorization": f"Bearer {KEY}"}
            async with session.post(f"{server.url}{PATH}", json=EMPTY, headers=headers) as response:
                assert 202 == response.status
                assert body[:5] == await response.content.readexactly(len(body) // 2)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()


async def test_a_stale_connection_breaks_under_the_next_request() -> None:
    """The answer comes, the connection is kept, and the next request on it is never seen."""
    async with FakeHelicone() as server, aiohttp.ClientSession() as session:
        server.will_answer(Fault.GOES_STALE)

        async def post() -> int:
            headers = {"Authorization": f"Bearer {KEY}"}
            async with session.post(f"{server.url}{PATH}", json=EMPTY, headers=headers) as response:
                await response.read()
                return response.status

        assert 200 == await post()
        with pytest.raises(aiohttp.ClientConnectionError):
            await post()
        assert 200 == await post()
    first, second = server.requests
    assert first.connection != second.connection


async def test_a_client_asks_again_after_a_stale_connection() -> None:
    """The code that uses the client does not notice it."""
    with clock.replaced(VirtualClock()):
        async with FakeHelicone() as server, client_of(server) as client:
            server.answers("a", Fault.GOES_STALE)
            for name in "ab":
                await client.get_metrics(name_contains=name)
    assert ["a", "b"] == [request.json["nameContains"] for request in server.requests]


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.GOES_STALE])
async def test_a_fault_may_be_the_answer_to_everything(fault: Fault) -> None:
    """A fault of an answer uses the default answer if there is no other."""
    async with FakeHelicone() as server:
        server.otherwise(fault)
        for _ in range(2):
            if fault is Fault.GOES_STALE:
                assert 0.25 == await cost(server, max_retries=0)
            else:
                with pytest.raises(ConnectionFailed):
                    await cost(server, max_retries=0)


async def test_the_next_answers_come_first() -> None:
    """will_answer sets one answer for each of the next requests; then the rules apply, then the default."""
    async with FakeHelicone() as server:
        server.otherwise(metrics(cost=9))
        server.answers(F.threat, metrics(cost=3))
        server.will_answer(metrics(cost=1), metrics(cost=2))
        assert [1, 2, 3, 9] == [await cost(server, query) for query in (None, F.threat, F.threat, F.cached)]


def _is_nightly(query: SessionMetricsQuery) -> bool:
    return query.name_contains.startswith("night")


@pytest.mark.parametrize(
    ("matched", "to"),
    [
        ({"a"}, SessionMetricsQuery(F.cost > 0.1)),
        ({"a"}, F.cost > 0.1),
        ({"a"}, ~(F.cost <= 0.1)),
        ({"b"}, F.threat),
        ({"b"}, F.threat.is_true()),
        ({"c", "d"}, ALL),
        ({"d"}, "nightly"),
        ({"d"}, SessionMetricsQuery(name_contains="nightly")),
        ({"d"}, _is_nightly),
        ({"e"}, F.model.is_in(["x", "y", "50%"])),
        (set(), "night"),
        (set(), SessionMetricsQuery(F.cost > 0.1, p_size="p95")),
    ],
)
async def test_rules_know_their_requests(matched: set[str], to: Any) -> None:
    """A query, a filter, a name or a function selects the requests, for any spelling of an equal filter."""
    queries = {
        "a": SessionMetricsQuery(F.cost > 0.1),
        "b": SessionMetricsQuery(F.threat, p_size="p50"),
        "c": SessionMetricsQuery(),
        "d": SessionMetricsQuery(name_contains="nightly"),
        "e": SessionMetricsQuery((F.model == "x") | (F.model == "y") | (F.model == "50%")),
    }
    async with FakeHelicone() as server:
        server.answers(to, metrics(cost=7))
        found = {key for key, query in queries.items() if await cost(server, query) == 7}
    assert matched == found


async def test_the_latest_rule_counts() -> None:
    """A later rule overrides an earlier one for the same requests."""
    async with FakeHelicone() as server:
        server.answers("a", metrics(cost=1))
        server.answers(_anything, metrics(cost=2))
        assert 2 == await cost(server, SessionMetricsQuery(name_contains="a"))
        server.answers("a", metrics(cost=3))
        assert 3 == await cost(server, SessionMetricsQuery(name_contains="a"))


def _anything(_query: SessionMetricsQuery) -> bool:
    return True


async def test_a_function_may_answer() -> None:
    """The function receives the request and returns the answer, or another function."""

    async def by_name(request: RecordedRequest) -> Any:
        name = request.json["nameContains"]
        return later if name == "later" else metrics(cost=float(name))

    async def later(_request: RecordedRequest) -> Any:
        return failure("no")

    async with FakeHelicone() as server:
        server.otherwise(by_name)
        assert 7 == await cost(server, SessionMetricsQuery(name_contains="7"))
        with pytest.raises(QueryFailed, match="no"):
            await cost(server, SessionMetricsQuery(name_contains="later"))


async def test_a_function_that_fails_fails_the_test() -> None:
    """Its error is a status 500 for the client, and raised at the end of the block."""

    async def broken(_request: RecordedRequest) -> Any:
        raise LookupError("nothing there")

    async def run() -> None:
        async with FakeHelicone() as server:
            server.will_answer(broken)
            with pytest.raises(ServerError):
                await cost(server, max_retries=0)

    with pytest.raises(
        AssertionError, match=r"request 1: answering it raised LookupError\('nothing there'\)"
    ):
        await run()


@pytest.mark.parametrize("answer", [None, 200, {"data": None}, "text", SessionMetrics], ids=repr)
def test_what_is_no_answer_is_refused(answer: Any) -> None:
    """The mistake is reported in the test, and not to the client."""
    server = FakeHelicone()
    for tell in (server.will_answer, server.otherwise, lambda answer: server.answers("a", answer)):
        with pytest.raises(TypeError, match="an answer must be SessionMetrics, a Reply, a Fault"):
            tell(answer)


@pytest.mark.parametrize("to", [5, {"request_response_rmt": {}}, b"name"], ids=repr)
def test_what_tells_no_requests_is_refused(to: Any) -> None:
    """A query, a filter, a name or a function selects requests."""
    with pytest.raises(TypeError, match="requests are matched by"):
        FakeHelicone().answers(to, metrics())


# Holding and waiting


@either_way
async def test_held_requests_wait_for_their_release(running: Running) -> None:
    """Matching requests wait, others do not, and after the release none does."""
    async with running(FakeHelicone()) as server, client_of(server) as client:
        with server.hold("a"):
            waiting = asyncio.ensure_future(client.get_metrics(name_contains="a"))
            await server.arrived(1)
            await client.get_metrics(name_contains="b")
            assert (False, 1) == (waiting.done(), server.open)
        await waiting
        await client.get_metrics(name_contains="a")
        await server.until(lambda: server.open == 0)
    assert (2, 3) == (server.most_open, len(server.requests))


async def test_answers_are_given_in_the_order_of_arrival() -> None:
    """A held request keeps the answer that was next when it arrived."""
    async with FakeHelicone() as server, client_of(server) as client:
        server.will_answer(metrics(cost=1), metrics(cost=2))
        held = server.hold("first")
        first = asyncio.ensure_future(client.get_metrics(name_contains="first"))
        await server.arrived(1)
        second = await client.get_metrics(name_contains="second")
        held.release()
        assert (1, 2) == ((await first).average.session_cost, second.average.session_cost)


def test_a_test_without_a_loop_waits_too() -> None:
    """The server in its thread is watched and released from the thread of the test."""
    found = []
    with FakeHelicone() as server:
        held = server.hold()
        asking = threading.Thread(target=lambda: found.append(asyncio.run(cost(server))))
        asking.start()
        server.wait_for_requests(1)
        assert 1 == server.open
        held.release()
        asking.join()
        server.wait_until(lambda: server.open == 0)
    assert [0.25] == found


async def test_waiting_in_vain_ends() -> None:
    """The error states the wait and the requests that the server has seen."""
    message = "not true within 0 s"
    async with FakeHelicone(patience=0) as server:
        with pytest.raises(TimeoutError, match=message):
            await server.arrived(1)
        with pytest.raises(ConfigurationError, match="the server runs in the loop of this thread"):
            server.wait_for_requests(1)
    with FakeHelicone(patience=0) as server, pytest.raises(TimeoutError, match=message):
        server.wait_for_requests(1)


@either_way
async def test_a_request_ends_with_its_client(running: Running) -> None:
    """After the client disconnects, nothing is in progress."""
    async with running(FakeHelicone()) as server:
        server.otherwise(Fault.STALL)
        asking = asyncio.ensure_future(cost(server))
        await server.until(lambda: server.open == 1)
        asking.cancel()
        await server.until(lambda: (server.open, server.connections) == (0, 0))
        assert asking.cancelled()


# The contract


@pytest.mark.parametrize(
    ("status", "said", "authorization"),
    [
        (200, '"error":null', f"Bearer {KEY}"),
        (200, '"error":null', f"bearer {KEY}"),
        (401, '"trace"', None),
        (401, '"Unauthorized"', "Bearer sk-helicone-other"),
        (400, "Invalid token.", KEY),
        (400, "Invalid token.", "Bearer "),
        (400, "Invalid token.", f"Bearer {KEY} {KEY}"),
        (400, "Invalid token.", f"Basic {KEY}"),
    ],
)
async def test_the_key_is_asked_for(status: int, said: str, authorization: str | None) -> None:
    """A missing, wrong or malformed key is rejected in the service's words."""
    async with FakeHelicone() as server:
        found, _, text = await posted(server, authorization=authorization)
    assert (status, True) == (found, said in text)


@pytest.mark.parametrize("path", ["/", "/v1", f"/v2{PATH}", f"{PATH}/more"])
async def test_there_is_one_path(path: str) -> None:
    """Everything else is not found, and recorded."""
    async with FakeHelicone() as server:
        status, _, text = await posted(server, path=path)
    assert (404, f"Cannot POST {path}" in text) == (status, True)
    assert [path] == [request.path for request in server.requests]


@pytest.mark.parametrize(
    ("complaint", "body"),
    [
        ("$: the body is not JSON", b"{"),
        ("$ must be an object, got []", b"[]"),
        ("$.nameContains is missing", {"timezoneDifference": 0}),
        ('$ has an unknown field "pSzie"', {**EMPTY, "pSzie": "p50"}),
        ("$.pSize must be one of", {**EMPTY, "pSize": "p42"}),
        ('$.filter.request_response_rmt has no column "price"',
         with_filter({"request_response_rmt": {"price": {"gt": 1}}})),
    ],
)  # fmt: skip
@pytest.mark.parametrize("strict", [True, False])
async def test_a_body_that_breaks_the_contract_is_refused(complaint: str, body: Any, strict: bool) -> None:
    """The response has status 400 and the JSON path, and the request is recorded."""
    async with FakeHelicone(strict=strict) as server:
        status, _, text = await posted(server, body)
        assert (400, None) == (status, server.requests[0].query)
        assert json.loads(text) == {"error": server.complaints[0]}
        assert [f"request 1: {complaint}"] == [said[: 11 + len(complaint)] for said in server.complaints]
        server.complaints.clear()


@pytest.mark.parametrize(
    ("complaint", "wire"),
    [
        (
            f"$.filter: a leaf with 2 conditions: {READS} F.latency >= 1 and drop F.latency < 5; {ONE}",
            TWO,
        ),
        (
            (
                f"$.filter: a leaf with 3 conditions: {READS} F.latency >= 1"
                f" and drop F.cost > 2, F.properties['env'] == 'x'; {ONE}"
            ),
            {
                "request_response_rmt": {
                    "latency": {"gte": 1},
                    "cost": {"gt": 2},
                    "properties": {"env": {"equals": "x"}},
                }
            },
        ),
        (
            (
                "$.filter.right: a leaf with 2 conditions: the contract does not say what"
                f" F.status == 200, F.session_tag == 'x' in one leaf mean together; {ONE}"
            ),
            {
                "left": "all",
                "operator": "or",
                "right": {
                    "request_response_rmt": {"status": {"equals": 200}},
                    "sessions_request_response_rmt": {"session_tag": {"equals": "x"}},
                },
            },
        ),
        (
            "$.filter: a leaf without a condition, which the open-source server reads as everything",
            {"request_response_rmt": {}},
        ),
    ],
)
async def test_a_filter_that_is_read_in_part_is_refused(complaint: str, wire: Any) -> None:
    """A leaf with several conditions or none is answered with 400, and fails the test at its end."""
    answers = []

    async def run() -> None:
        async with FakeHelicone() as server:
            answers.append(await posted(server, with_filter(wire)))

    with pytest.raises(AssertionError) as caught:
        await run()
    ((status, _, text),) = answers
    assert (400, {"error": f"request 1: {complaint}"}) == (status, json.loads(text))
    assert str(caught.value).endswith(f":\n  request 1: {complaint}")


async def test_a_lenient_server_reads_filters_as_the_contract_does() -> None:
    """With strict=False all conditions of a leaf count, there is an answer, and nothing is raised."""
    async with FakeHelicone(strict=False) as server:
        server.answers((F.latency >= 1) & (F.latency < 5), metrics(cost=7))
        status, _, text = await posted(server, with_filter(TWO))
    assert (200, 7, 1) == (
        status,
        json.loads(text)["data"]["average"]["session_cost"][0]["average"],
        len(server.complaints),
    )
    assert (F.latency >= 1, F.latency < 5) == server.requests[0].conditions


def test_complaints_can_be_cleared() -> None:
    """A test that breaks the contract on purpose clears the complaints."""
    with FakeHelicone() as server:
        asyncio.run(posted(server, b"{"))
        server.complaints.clear()


def test_another_error_is_not_hidden_by_complaints() -> None:
    """The error that ended the block is raised."""

    def run() -> None:
        with FakeHelicone() as server:
            asyncio.run(posted(server, b"{"))
            raise LookupError("something else")

    with pytest.raises(LookupError, match="something else"):
        run()


@pytest.mark.parametrize("query", [F.cost > 0.1 & F.threat, F.latency.between(1, 5), ALL, None])
async def test_what_the_client_sends_has_no_complaints(query: Filter | None) -> None:
    """Filters of this package hold one condition a leaf."""
    async with FakeHelicone() as server:
        await cost(server, query)
        assert [] == server.complaints


# The rate limit


def limits(headers: Any) -> tuple[str | None, ...]:
    names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy", "Retry-After")
    return tuple(headers.get(name) for name in names)


async def test_without_a_limit_nothing_is_said_of_one() -> None:
    """The headers come with the first call of limit()."""
    async with FakeHelicone() as server:
        _, headers, _ = await posted(server)
        assert (None,) * 5 == limits(headers)
        with pytest.raises(ConfigurationError, match="Call limit"):
            server.spend(1)


async def test_a_window_is_counted_as_the_service_counts() -> None:
    """A window opens with the first request after the last one; refused requests count, in whole seconds."""
    virtual = VirtualClock()
    async with FakeHelicone(clock=virtual) as server:
        server.limit(2, 60.0)
        virtual.advance(7)
        found = []
        for seconds in (0, 0.5, 0.25, 59, 0.25, 59.9):
            virtual.advance(seconds)
            status, headers, _ = await posted(server)
            found.append((status, *limits(headers)))

    policy = "2;w=60"
    assert [
        (200, "2", "1", "60", policy, None),
        (200, "2", "0", "60", policy, None),
        (429, "2", "0", "60", policy, "60"),
        (429, "2", "0", "1", policy, "1"),
        (200, "2", "1", "60", policy, None),
        (200, "2", "0", "1", policy, None),
    ] == found
    assert 2 == server.refused


async def test_a_refusal_is_in_the_services_words() -> None:
    """The body is the service's, whatever answer was set."""
    async with FakeHelicone() as server:
        server.limit(requests=0, per=60)
        server.will_answer(metrics(cost=7))
        status, headers, text = await posted(server)
        assert (429, "0;w=60", {"error": "Too many requests, please try again later."}) == (
            status,
            headers["RateLimit-Policy"],
            json.loads(text),
        )
        server.limit()
        assert 7 == await cost(server)


async def test_others_spend_of_the_same_budget() -> None:
    """Requests of other processes reduce the remaining number."""
    async with FakeHelicone() as server:
        server.limit()
        server.spend(950)
        _, headers, _ = await posted(server)
        assert ("1000", "49", "300") == limits(headers)[:3]
        server.spend(50)
        status, *_ = await posted(server)
    assert (429, 1) == (status, server.refused)


async def test_headers_of_a_reply_are_the_last_word() -> None:
    """A test can set headers that contradict the limit."""
    async with FakeHelicone() as server:
        server.limit()
        server.will_answer(Reply(200, "", {"ratelimit-remaining": "5"}))
        _, headers, _ = await posted(server)
    assert ["5"] == headers.getall("RateLimit-Remaining")


@pytest.mark.parametrize(
    "wrong", [{"requests": -1}, {"requests": 1.5}, {"requests": True}, {"per": 0}, {"per": float("inf")}]
)
def test_a_limit_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    """A window has a whole number of requests, and a length."""
    with pytest.raises(ValueError, match=r"^(requests|per) must be"):
        FakeHelicone().limit(**wrong)


async def test_a_client_lives_with_the_limit_in_no_time() -> None:
    """Thirty queries through a limit of ten in 60 seconds take two minutes of the clock."""
    virtual = VirtualClock()
    with clock.replaced(virtual):
        async with FakeHelicone() as server, client_of(server, max_concurrency=1) as client:
            server.limit(requests=10, per=60)
            await client.get_metrics_many([SessionMetricsQuery(name_contains=str(n)) for n in range(30)])
    assert 1120 <= virtual.time < 1300
    assert {str(n) for n in range(30)} == {request.json["nameContains"] for request in server.requests}


# The clock


async def test_sleepers_find_their_time_gone() -> None:
    """Waiting takes no time and is recorded; concurrent waits overlap."""
    virtual = VirtualClock(100)
    await asyncio.gather(virtual.sleep(30), virtual.sleep(10))
    assert (130, [30, 10], "VirtualClock(130)") == (virtual.now(), virtual.slept, repr(virtual))


async def test_a_stopped_clock_moves_by_hand() -> None:
    """A sleeper wakes at its time, or when the clock starts again."""
    virtual = VirtualClock(100)
    virtual.stop()
    short, long = asyncio.ensure_future(virtual.sleep(10)), asyncio.ensure_future(virtual.sleep(3600))
    await asyncio.sleep(0)
    virtual.advance(9)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (False, False) == (short.done(), long.done())
    virtual.advance(1)
    await short
    assert (110, False) == (virtual.now(), long.done())
    virtual.go_on()
    await long
    assert 3700 == virtual.now()


def test_a_stopped_clock_may_serve_several_loops() -> None:
    """A loop that ended with a sleeper leaves nothing to wake."""
    virtual = VirtualClock(100)
    virtual.stop()

    async def give_up() -> None:
        sleeping = asyncio.ensure_future(virtual.sleep(5))
        await asyncio.sleep(0)
        sleeping.cancel()

    for _ in range(2):
        asyncio.run(give_up())
        virtual.advance(1)
    virtual.go_on()
    asyncio.run(virtual.sleep(5))
    assert 107 == virtual.now()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_does_not_go_back(seconds: float) -> None:
    """The clock of a test cannot be put back."""
    with pytest.raises(ValueError, match="Time does not go back"):
        VirtualClock().advance(seconds)


# The pytest plugin


async def test_the_fixture_leads_a_client_to_the_fake(helicone_server: FakeHelicone) -> None:
    """A client created without arguments queries the fake, and its waits take no time."""
    helicone_server.will_answer(gateway_page(503), metrics(cost=7))
    async with HeliconeClient() as client:
        assert 7 == (await client.get_metrics()).average.session_cost
    assert isinstance(helicone_server.clock, VirtualClock)
    assert 1 == len(helicone_server.clock.slept)


def test_the_fixture_is_there_and_fails_a_test_that_asks_wrongly(pytester: pytest.Pytester) -> None:
    """In another project the fixture works without configuration."""
    pytester.makepyfile(
        """
        import asyncio, json, os, urllib.request
        import pytest

        def test_right(helicone_server):
            from helicone_sessions import HeliconeClient

            async def ask():
                async with HeliconeClient() as client:
                    return await client.get_metrics()

            assert 0.25 == asyncio.run(ask()).average.session_cost

        def test_wrong(helicone_server):
            leaf = {"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}}
            request = urllib.request.Request(
                os.environ["HELICONE_BASE_URL"] + "/v1/session/metrics/query",
                json.dumps({"nameContains": "", "timezoneDifference": 0, "filter": leaf}).encode(),
                {"Authorization": "Bearer " + os.environ["HELICONE_API_KEY"]},
            )
            with pytest.raises(urllib.request.HTTPError, match="400"):
                urllib.request.urlopen(request)

        def test_afterwards():
            assert "HELICONE_BASE_URL" not in os.environ
        """
    )
    run = pytester.runpytest_subprocess("-v")

    run.assert_outcomes(passed=3, errors=1)
    run.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_wrong*",
            "*AssertionError: the requests break the contract or would be misread:",
            f"*request 1: $.filter: a leaf with 2 *: {READS} F.latency >= 1 and drop F.latency < 5; {ONE}",
        ]
    )


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import helicone_sessions.testing", "pytest"),
        ("import helicone_sessions.pytest_plugin", "aiohttp"),
        ("import helicone_sessions.pytest_plugin", "helicone_sessions.testing"),
    ],
)
def test_neither_module_imports_what_it_does_not_need(statement: str, absent: str) -> None:
    """The fake needs no pytest, and pytest loads no server before a test needs one."""
    program = f"import sys\n{statement}\nsys.exit({absent!r} in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode
