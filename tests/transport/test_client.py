import asyncio
import copy
import datetime as dt
import json
import logging
import pickle
import re
import socket
import traceback
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from helicone_sessions import (
    ALL,
    NONE,
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    F,
    FilterError,
    FilterTypeError,
    FilterValueError,
    HeliconeClient,
    HeliconeError,
    InvalidRequest,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
    UnexpectedResponse,
)
from helicone_sessions.testing import Fault, RecordedRequest, Reply, failure
from tests.parts import parts

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-example-key"
HTML = "<html>502 Bad Gateway</html>"
START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WEEK = TimeFilter(START, START + dt.timedelta(days=7))
LOCAL = "http://localhost:8585"

Make = Callable[..., HeliconeClient]


# What is sent


async def test_a_query_is_one_post_with_the_key(make_client: Make, service: Any) -> None:
    """The service receives a POST to the endpoint with the key, the user agent, and JSON in UTF-8."""
    await make_client().get_metrics(F.cost > 0.1, name_contains="日本")
    (request,) = service.requests

    assert ("POST", "/v1/session/metrics/query") == (request.method, request.path)
    assert {
        "nameContains": "日本",
        "timezoneDifference": 0,
        "filter": {"request_response_rmt": {"cost": {"gt": 0.1}}},
    } == json.loads(request.body)
    assert [f"Bearer {KEY}"] == service.headers[0].getall("Authorization")
    assert {
        "Host",
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "Content-Length",
        "Content-Type",
        "User-Agent",
    } == set(request.headers)
    assert re.fullmatch(r"helicone-sessions/\d\S* Python/3\.\d+\.\d\S*", request.headers["User-Agent"])
    assert ("application/json", "application/json") == (
        request.headers["Content-Type"],
        request.headers["Accept"],
    )


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ({}, {}),
        ({"filter": "all"}, {"query": ALL}),
        ({"filter": {"request_response_rmt": {"threat": {"equals": True}}}}, {"query": F.threat}),
        ({"nameContains": "x"}, {"name_contains": "x"}),
        (
            {"timeFilter": {"startTimeUnixMs": 1793491200000, "endTimeUnixMs": 1794096000000}},
            {"time_filter": WEEK},
        ),
        ({"pSize": "p95"}, {"p_size": "p95"}),
        ({"useInterquartile": False}, {"use_interquartile": False}),
        ({"useInterquartile": True}, {"use_interquartile": True}),
        ({"timezoneDifference": 300}, {"timezone_difference": dt.timedelta(hours=5)}),
        ({"timezoneDifference": -60}, {"timezone_difference": dt.timezone(dt.timedelta(hours=1))}),
        ({"pSize": "p50", "nameContains": "y"}, {"query": SessionMetricsQuery(None, "y", None, "p50")}),
    ],
)
async def test_the_keywords_are_those_of_a_query(
    make_client: Make, service: Any, expected: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """A filter with keywords, or a whole query, is sent; omitted arguments are not."""
    await make_client().get_metrics(**arguments)

    assert {"nameContains": "", "timezoneDifference": 0, **expected} == json.loads(service.requests[0].body)


async def test_the_path_of_the_address_is_kept(make_client: Make, service: Any) -> None:
    """For a Helicone behind a path, requests go below that path."""
    await make_client(base_url=f"{service.url}/helicone/").get_metrics()

    assert "/helicone/v1/session/metrics/query" == service.requests[0].path


async def test_cookies_of_the_service_are_not_kept(make_client: Make, service: Any) -> None:
    """A gateway's cookies are not sent back."""
    service.will_answer(service.metrics(headers={"Set-Cookie": "gateway=1; Path=/"}))
    # Of a bare IP address aiohttp would keep none anyway.
    client = make_client(base_url=service.url.replace("127.0.0.1", "localhost"))
    for _ in range(2):
        await client.get_metrics()

    assert [False, False] == ["Cookie" in request.headers for request in service.requests]


@pytest.mark.parametrize(
    ("error", "message", "query"),
    [
        (FilterTypeError, "expected a filter, got {", {"request_response_rmt": {}}),
        (FilterTypeError, "Use parse_filter", "cost > 1"),
        (FilterTypeError, "expected a filter, got True", True),
        (FilterTypeError, "is not a condition yet", F.cost),
        (FilterValueError, "property_key", SessionMetricsQuery(~(F.property_key == "env"))),
    ],
)
async def test_what_is_no_query_is_refused_and_not_sent(
    make_client: Make, service: Any, error: type[FilterError], message: str, query: Any
) -> None:
    """A query that cannot be built or sent is an error before anything goes out."""
    with pytest.raises(error, match=message):
        await make_client().get_metrics(query)
    assert [] == service.requests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name_contains", "x"),
        ("time_filter", WEEK),
        ("p_size", "p50"),
        ("use_interquartile", True),
        ("use_interquartile", False),
        ("timezone_difference", 60),
        ("timezone_difference", dt.timedelta(hours=1)),
        ("timezone_difference", dt.UTC),
    ],
)
async def test_a_whole_query_takes_no_keywords_beside_it(
    make_client: Make, service: Any, name: str, value: Any
) -> None:
    """A query with keywords is an error that names the keyword and the remedy."""
    with pytest.raises(FilterTypeError, match=rf"cannot be combined with {name}\. .*attrs\.evolve"):
        await make_client().get_metrics(SessionMetricsQuery(F.threat), **{name: value})
    assert [] == service.requests


@pytest.mark.parametrize(
    "query", [NONE, F.model.is_in([]), SessionMetricsQuery(NONE, p_size="p50")], ids=repr
)
async def test_a_query_that_matches_nothing_is_answered_without_a_request(
    make_client: Make, service: Any, query: Any
) -> None:
    """A query that matches nothing is answered without a request."""
    assert SessionMetrics.empty() == await make_client().get_metrics(query)
    assert [] == service.requests


# What is answered


async def test_an_answer_is_metrics(make_client: Make) -> None:
    """The service's answer becomes typed metrics."""
    found = await make_client().get_metrics(name_contains="7")

    assert (7.0, 3.0, "dollars") == (
        found.average.session_cost,
        found.session_count.total,
        found.session_cost.unit,
    )


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        (QueryFailed, 200, {"data": None, "error": "Invalid filter"}),
        (QueryFailed, 500, {"data": None, "error": "Invalid timezone difference"}),
        (QueryFailed, 500, {"data": None, "error": "No request count found"}),
        (AuthenticationError, 401, {"error": "Unauthorized", "trace": "t"}),
        (AuthenticationError, 403, ""),
        (InvalidRequest, 400, "Invalid token."),
        (InvalidRequest, 404, HTML),
        (InvalidRequest, 422, {"message": "Validation Failed"}),
        (ServerError, 501, "Not Implemented"),
        (UnexpectedResponse, 200, HTML),
        (UnexpectedResponse, 200, {"data": {}, "error": None}),
        (UnexpectedResponse, 204, ""),
        (UnexpectedResponse, 413, HTML),
    ],
)
async def test_a_fault_that_stays_is_raised_at_once(
    make_client: Make, service: Any, clock: Any, kind: type[APIError], status: int, body: Any
) -> None:
    """A deterministic error has the right class and facts, after one attempt without a wait."""
    service.will_answer(Reply(status, body, {"X-Request-Id": "r-1"}))
    with pytest.raises(kind) as caught:
        await make_client(max_retries=9).get_metrics()

    assert kind is type(caught.value)
    assert (status, "r-1", 1) == (caught.value.status, caught.value.request_id, caught.value.attempts)
    assert (1, []) == (len(service.requests), clock.slept)


@pytest.mark.promise(name="C1")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(
    make_client: Make, service: Any, elsewhere: Any, status: int
) -> None:
    """The key goes only to the given address; the error names the redirect."""
    service.will_answer(Reply(status, headers={"Location": f"{elsewhere.url}/v1/session/metrics/query"}))
    with pytest.raises(UnexpectedResponse, match=f"redirects to {elsewhere.url}") as caught:
        await make_client().get_metrics()

    assert (status, 1, 0) == (caught.value.status, len(service.requests), len(elsewhere.requests))


# Retries


@pytest.mark.parametrize(
    ("least", "most", "fault"),
    [
        (7, 7.5, Reply(429, {"error": "Too many requests"}, {"Retry-After": "7"})),
        (1, 2, Reply(429, {"error": "Too many requests"})),
        (20, 20.5, Reply(503, HTML, {"Retry-After": "20"})),
        (0, 0.5, Reply(502, HTML)),
        (0, 0.5, Reply(504, HTML)),
        (0, 0.5, Reply(500, "")),
        (0, 0.5, failure("Code: 159. DB::Exception: Timeout exceeded")),
        (0, 0.5, failure("Too many simultaneous queries")),
        (0, 0.5, Reply(200, "")),
        (0, 0.5, Reply(200, '{"data": {"session_count": [')),
        (0, 0.5, Fault.TRUNCATE),
        (0, 0.5, Fault.NOT_HTTP),
    ],
    ids=[
        "429 with a wait",
        "429",
        "503 with a wait",
        "502",
        "504",
        "500",
        "timeout of ClickHouse",
        "ClickHouse is busy",
        "an empty answer",
        "JSON that ends early",
        "half an answer",
        "no HTTP",
    ],
)
async def test_a_fault_that_passes_is_asked_again(
    make_client: Make, service: Any, clock: Any, least: float, most: float, fault: Any
) -> None:
    """The same request is sent again after a wait, and its answer counts."""
    service.will_answer(fault)
    found = await make_client().get_metrics(F.threat, name_contains="7")
    first, second = service.requests

    assert 7.0 == found.average.session_cost
    assert (first.body, service.headers[0]) == (second.body, service.headers[1])
    assert least <= clock.time - 1000 <= most


async def test_a_kept_connection_that_was_closed_is_asked_again(make_client: Make, service: Any) -> None:
    """The service may close a kept connection just as the next query uses it."""
    client = make_client()
    await client.get_metrics(name_contains="1")
    service.will_answer(Fault.DROP)
    found = await client.get_metrics(name_contains="2")

    assert (2.0, ["1", "2", "2"]) == (found.average.session_cost, service.names)
    assert service.requests[0].connection == service.requests[1].connection != service.requests[2].connection


@pytest.mark.parametrize("retries", [0, 1, 4])
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (ServerError, Reply(503, HTML, {"Retry-After": "3"})),
        (ServerError, Reply(502, HTML)),
        (QueryFailed, failure("Memory limit (total) exceeded")),
        (UnexpectedResponse, Reply(200, '{"data": ')),
        (ConnectionFailed, Fault.TRUNCATE),
    ],
    ids=["503", "502", "memory", "JSON that ends early", "half an answer"],
)
async def test_after_the_last_retry_the_error_is_raised(
    make_client: Make, service: Any, clock: Any, kind: type[HeliconeError], fault: Any, retries: int
) -> None:
    """A lasting failure is raised after max_retries, with the number of attempts."""
    service.answers("", fault)
    with pytest.raises(kind) as caught:
        await make_client(max_retries=retries).get_metrics()

    assert kind is type(caught.value)
    assert retries + 1 == caught.value.attempts == len(service.requests)  # type: ignore[attr-defined]
    assert retries == len(clock.slept)
    assert (f"after {retries + 1} attempts" in str(caught.value)) is (retries > 0)


async def test_a_wait_that_is_too_long_is_raised_at_once(make_client: Make, service: Any, clock: Any) -> None:
    """No call waits an hour; the error holds the requested wait."""
    service.will_answer(Reply(429, "", {"Retry-After": "3601"}))
    with pytest.raises(RateLimited) as caught:
        await make_client().get_metrics()

    assert (3601.0, 1, []) == (caught.value.retry_after, len(service.requests), clock.slept)


async def test_nobody_listening_is_a_connection_that_failed(make_client: Make, clock: Any) -> None:
    """A refused connection is retried like a broken one; the message names the address."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match=f"the connection to {address} failed") as caught:
            await make_client(base_url=address, max_retries=2).get_metrics()

    assert (3, 2) == (caught.value.attempts, len(clock.slept))


# Time


@pytest.mark.parametrize("retries", [0, 1])
async def test_a_timeout_names_its_limit(make_client: Make, service: Any, retries: int) -> None:
    """A service that never answers ends with `timeout`, which the error names."""
    service.answers("", Fault.STALL)
    with pytest.raises(RequestTimeout, match=r"within 5 s \(timeout, per attempt\)") as caught:
        await make_client(timeout=5, max_retries=retries).get_metrics()

    assert ("timeout", 5, retries + 1) == (
        caught.value.limit,
        caught.value.seconds,
        caught.value.attempts,
    )


async def test_a_timeout_is_tried_again(make_client: Make, service: Any) -> None:
    """A slow answer can arrive in time at the second attempt."""
    service.will_answer(Fault.STALL)
    found = await make_client(timeout=5).get_metrics(name_contains="7")

    assert (7.0, 2) == (found.average.session_cost, len(service.requests))


async def test_queueing_never_counts_in_the_timeout(make_client: Make, service: Any) -> None:
    """Twenty queries through two slots take longer together than the timeout of one, and all are answered."""

    async def slow(_request: RecordedRequest) -> Any:
        await asyncio.sleep(10)
        return service.metrics(1.0)

    service.will_answer(*[slow] * 20)
    client = make_client(timeout=60, max_concurrency=2, max_retries=0)
    found = await asyncio.gather(*(client.get_metrics(name_contains=str(place)) for place in range(20)))

    assert [1.0] * 20 == [metrics.average.session_cost for metrics in found]
    assert 2 == service.most_open


@pytest.mark.parametrize("bound", [1, 3, 8])
async def test_the_bound_of_concurrency_is_kept_and_used(make_client: Make, service: Any, bound: int) -> None:
    """Single calls and batches of a client share its slots."""
    names = [str(number) for number in range(20)]
    service.hold_named(*names)
    client = make_client(max_concurrency=bound)
    queries = [SessionMetricsQuery(name_contains=name) for name in names]
    calls = asyncio.gather(
        client.get_metrics_many(queries[:8]),
        client.get_metrics_many(queries[8:16]),
        *(client.get_metrics(query) for query in queries[16:]),
    )
    await service.until(lambda: service.open == bound)
    service.release_named()
    await calls

    assert (bound, 20) == (service.most_open, len(service.requests))


async def test_a_cancelled_query_gives_its_slot_back(make_client: Make, service: Any) -> None:
    """Cancelling a call ends its request, and the next one is sent."""
    service.hold_named("1")
    client = make_client(max_concurrency=1)
    call = asyncio.ensure_future(client.get_metrics(name_contains="1"))
    await service.names_arrived("1")
    call.cancel()
    found = await client.get_metrics(name_contains="2")

    assert (2.0, True) == (found.average.session_cost, call.cancelled())
    await service.until(lambda: service.open == 0)


# The rate limit


async def test_nobody_sends_while_the_window_is_spent(make_client: Make, service: Any) -> None:
    """After an answer that leaves no requests, the next query waits for the end of the window."""
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "20"}))
    client = make_client()
    for name in "12":
        await client.get_metrics(name_contains=name)

    assert [("1", 1000), ("2", pytest.approx(1020, abs=0.01))] == [
        (request.query.name_contains, request.time) for request in service.requests
    ]


async def test_a_refusal_holds_back_every_query_of_the_client(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A wait that one query must make delays the others too, also of a client with other options."""
    service.will_answer(Reply(429, "", {"Retry-After": "30"}))
    clock.stop()
    client = make_client()
    calls = [asyncio.ensure_future(client.get_metrics(name_contains="1"))]
    await service.until(lambda: len(clock.slept) == 1)
    calls += [
        asyncio.ensure_future(client.get_metrics(name_contains="2")),
        asyncio.ensure_future(client.with_options(max_retries=0).get_metrics(name_contains="3")),
    ]
    await asyncio.sleep(0)
    before = service.names
    clock.go_on()
    await asyncio.gather(*calls)

    assert ["1"] == before
    assert {"1", "2", "3"} == {
        request.query.name_contains for request in service.requests if request.time >= 1030
    }


async def test_a_refusal_that_is_not_waited_out_holds_back_the_others(
    make_client: Make, service: Any, clock: Any
) -> None:
    """If a query has no time to wait, the requested pause still applies to the next one."""
    service.will_answer(Reply(429, "", {"Retry-After": "30"}))
    client = make_client()
    with pytest.raises(RateLimited):
        await client.with_options(deadline=10).get_metrics(name_contains="1")
    await client.get_metrics(name_contains="2")

    assert [1000, 1030] == [request.time for request in service.requests]
    assert 1030 == clock.time


# Making and ending clients


def test_making_a_client_needs_no_running_loop() -> None:
    """A client can be created at import time and used later."""
    assert f"HeliconeClient(base_url='{LOCAL}', api_key='***')" == repr(HeliconeClient(KEY, base_url=LOCAL))


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("timeout must be a number of seconds above 0, got 0", {"timeout": 0}),
        ("timeout must be a number of seconds above 0, got -1", {"timeout": -1}),
        ("timeout must be a number of seconds above 0, got inf", {"timeout": float("inf")}),
        ("timeout must be a number of seconds above 0, got nan", {"timeout": float("nan")}),
        ("timeout must be a number of seconds above 0, got True", {"timeout": True}),
        ("timeout must be a number of seconds above 0, got '5'", {"timeout": "5"}),
        ("max_retries must be a whole number of at least 0, got -1", {"max_retries": -1}),
        ("max_retries must be a whole number of at least 0, got 1.5", {"max_retries": 1.5}),
        ("max_retries must be a whole number of at least 0, got True", {"max_retries": True}),
    ],
)
def test_a_limit_that_is_none_is_refused(message: str, options: dict[str, Any]) -> None:
    """The constructor and with_options check limits by the same rules."""
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        HeliconeClient(KEY, **options)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        HeliconeClient(KEY).with_options(**options)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_there_is_at_least_one_slot(value: Any) -> None:
    """max_concurrency is a whole number from one up."""
    with pytest.raises(ConfigurationError, check=parts(argument="max_concurrency")):
        HeliconeClient(KEY, max_concurrency=value)


def test_without_a_key_there_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is an error when the client is created, which explains how to pass one."""
    monkeypatch.delenv("HELICONE_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, check=parts(argument="api_key")):
        HeliconeClient()


async def test_leaving_the_block_closes_the_connections(make_client: Make, service: Any) -> None:
    """The client's own session ends with it."""
    async with make_client() as client:
        await client.get_metrics()
        assert 1 == service.connections
    await service.until(lambda: service.connections == 0)


async def test_an_injected_session_is_used_and_stays_open(make_client: Make, service: Any) -> None:
    """The caller's session stays open, and the client's key replaces its key."""
    headers = {"X-App": "mine", "Authorization": "Bearer other"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with make_client(session=session) as client:
            await client.get_metrics()
        assert not session.closed

    assert "mine" == service.requests[0].headers["X-App"]
    assert [f"Bearer {KEY}"] == service.headers[0].getall("Authorization")


async def test_an_injected_session_that_raises_for_status_changes_no_error(
    make_client: Make, service: Any
) -> None:
    """Errors are the client's own, whatever the session does with a status elsewhere."""
    service.answers("", Reply(401, {"error": "Unauthorized"}))
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        with pytest.raises(AuthenticationError, match="Unauthorized"):
            await make_client(session=session, max_retries=0).get_metrics()


async def test_an_injected_session_that_was_closed_is_an_error_of_the_tree(make_client: Make) -> None:
    """A session closed by its owner is an error of this package."""
    async with aiohttp.ClientSession() as session:
        client = make_client(session=session)
    with pytest.raises(HeliconeError):
        await client.get_metrics()


async def test_a_closed_client_says_so(make_client: Make, service: Any) -> None:
    """After aclose every use is a ConfigurationError; closing again does no harm."""
    client = make_client()
    await client.get_metrics()
    await client.aclose()
    await client.aclose()

    with pytest.raises(ConfigurationError, check=parts(problem="the client is closed")):
        await client.get_metrics()
    with pytest.raises(ConfigurationError, check=parts(problem="the client is closed")):
        await client.get_metrics_many([F.threat])
    with pytest.raises(ConfigurationError, check=parts(problem="the client is closed")):
        await client.with_options(timeout=1).get_metrics()
    with pytest.raises(ConfigurationError, check=parts(problem="the client is closed")):
        async with client:
            pass
    assert 1 == len(service.requests)


async def test_closing_an_unused_client_does_nothing(make_client: Make, service: Any) -> None:
    """A client that sent nothing has nothing to close."""
    await make_client().aclose()

    assert 0 == service.connections


def test_a_client_belongs_to_its_first_loop() -> None:
    """Use on another event loop is an error with a remedy, instead of a hang."""
    client = HeliconeClient(KEY, base_url=LOCAL)
    asyncio.run(client.__aenter__())

    with pytest.raises(
        ConfigurationError, match=r"first used on another event loop\. Create one client per loop"
    ):
        asyncio.run(client.get_metrics())
    with pytest.raises(ConfigurationError):
        asyncio.run(client.__aenter__())


def test_without_asyncio_the_error_says_what_is_needed() -> None:
    """Under trio the error is one of the package, with and without `async with`."""
    for started in (
        HeliconeClient(KEY, base_url=LOCAL).__aenter__(),
        HeliconeClient(KEY, base_url=LOCAL).get_metrics(),
    ):
        with pytest.raises(
            ConfigurationError, match=r"no asyncio event loop is running\. Run it with asyncio"
        ):
            started.send(None)


# with_options


async def test_other_limits_make_another_client(make_client: Make, service: Any) -> None:
    """with_options changes only the given options, and not the first client."""
    client = make_client(timeout=30, max_retries=2)
    other = client.with_options(timeout=5, max_retries=0)
    service.answers("slow", Fault.STALL)
    with pytest.raises(RequestTimeout) as caught:
        await other.get_metrics(name_contains="slow")
    service.will_answer(Reply(502), Reply(502))
    found = await client.get_metrics(name_contains="7")

    assert (5, 1) == (caught.value.seconds, caught.value.attempts)
    assert (7.0, 3) == (found.average.session_cost, service.names.count("7"))


async def test_options_not_named_are_kept(make_client: Make, service: Any) -> None:
    """A client with another timeout retries as often as the first."""
    service.answers("", Reply(502))
    with pytest.raises(ServerError) as caught:
        await make_client(max_retries=2).with_options(timeout=5).get_metrics()

    assert 3 == caught.value.attempts


async def test_clients_with_other_limits_share_the_connections(make_client: Make, service: Any) -> None:
    """Both clients send over the same kept connections."""
    client = make_client()
    await client.get_metrics()
    await client.with_options(max_retries=0).get_metrics()

    assert service.requests[0].connection == service.requests[1].connection


async def test_clients_with_other_limits_share_the_slots(make_client: Make, service: Any) -> None:
    """The limit of concurrency counts the queries of both."""
    service.hold_named("1", "2")
    client = make_client(max_concurrency=1)
    calls = [
        asyncio.ensure_future(client.get_metrics(name_contains="1")),
        asyncio.ensure_future(client.with_options(timeout=30).get_metrics(name_contains="2")),
    ]
    await service.names_arrived("1")
    service.release_named()
    await asyncio.gather(*calls)

    assert 1 == service.most_open


# The key


def everything_of(error: BaseException) -> str:
    """Everything that a log could show of an error and its causes."""
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    return "\n".join(
        [*map(repr, chain), *map(str, chain), repr(vars(error)), *traceback.format_exception(error)]
    )


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%r".__mod__, lambda client: repr(vars(client))])
def test_a_client_shows_no_key(show: Callable[[HeliconeClient], str]) -> None:
    """Neither the repr nor the attributes of a client show the key."""
    assert KEY not in show(HeliconeClient(KEY, base_url=LOCAL))


@pytest.mark.promise(name="K3")
@pytest.mark.parametrize(
    "duplicate", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
def test_a_client_is_not_pickled_or_copied(duplicate: Callable[[object], object]) -> None:
    """A client cannot be pickled; the message names the remedy."""
    with pytest.raises(TypeError, match="is not pickled; create one where it is used"):
        duplicate(HeliconeClient(KEY, base_url=LOCAL))


@pytest.mark.parametrize(
    "fault",
    [
        Reply(401, {"error": f"unknown key {KEY}"}),
        Reply(400, f"Invalid token {KEY}"),
        Reply(200, f"<p>{KEY}</p>"),
        Reply(200, {KEY: KEY}),
        Reply(302, "", {"Location": f"https://example.org/{KEY}"}),
        Reply(429, {"error": KEY}, {"Retry-After": "1"}),
        Reply(502, KEY),
        failure(f"Timeout of {KEY}"),
        Fault.DROP,
        Fault.TRUNCATE,
        Fault.STALL,
        Fault.NOT_HTTP,
    ],
    ids=[
        "401",
        "400",
        "HTML",
        "JSON",
        "302",
        "429",
        "502",
        "envelope",
        "drop",
        "truncate",
        "timeout",
        "no HTTP",
    ],
)
async def test_the_key_is_in_no_error_and_no_log(
    make_client: Make, service: Any, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    """Text, traceback, causes, pickle and log records of every failure are without the key."""
    caplog.set_level(logging.DEBUG)
    service.answers("", fault)
    with pytest.raises(HeliconeError) as caught:
        await make_client(max_retries=1, timeout=5).get_metrics()

    assert KEY not in everything_of(caught.value)
    assert KEY.encode() not in pickle.dumps(caught.value)
    assert KEY not in caplog.text
    assert KEY not in repr([vars(record) for record in caplog.records])


async def test_errors_of_a_client_cross_processes(make_client: Make, service: Any) -> None:
    """A raised error can be pickled, with its cause and attempts."""
    service.answers("", Fault.DROP)
    with pytest.raises(ConnectionFailed) as caught:
        await make_client(max_retries=1).get_metrics()
    other = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes

    assert (ConnectionFailed, str(caught.value), 2) == (type(other), str(other), other.attempts)


async def test_closing_ends_what_waits_for_the_limit_before_a_deadline(
    make_client: Make, service: Any, clock: Any
) -> None:
    """A refused query that waits for the reset within its deadline ends in the same way."""
    spent = {"RateLimit-Remaining": "0", "RateLimit-Reset": "60", "Retry-After": "60"}
    service.will_answer(Reply(429, "", spent))
    clock.stop()
    client = make_client(deadline=100)
    call = asyncio.ensure_future(client.get_metrics())
    await service.until(lambda: clock.slept)
    await client.aclose()

    with pytest.raises(ConfigurationError, check=parts(problem="the client is closed")):
        await call
    assert 1 == len(service.requests)


async def test_closing_ends_what_waits_for_the_limit(make_client: Make, service: Any, clock: Any) -> None:
    """Closing a client ends the waits of all queries in line at once with the error."""
    service.will_answer(service.metrics(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "60"}))
    client = make_client()
    await client.get_metrics()
    clock.stop()
    calls = [asyncio.ensure_future(client.get_metrics(name_contains=name)) for name in "12"]
    await service.until(lambda: clock.slept)
    await client.aclose()
    ends = await asyncio.gather(*calls, return_exceptions=True)

    assert [ConfigurationError] * 2 == [type(end) for end in ends]
    assert 1 == len(service.requests)
