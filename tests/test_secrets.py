"""The API key and the password of a proxy are in nothing that could be shown, logged or sent on."""

import asyncio
import contextlib
import copy
import inspect
import logging
import pickle
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import attrs
import pytest

from helicone_sessions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    F,
    HeliconeClient,
    HeliconeError,
    Hooks,
    InvalidRequest,
    QueryFailed,
    RateLimit,
    RateLimited,
    RequestTimeout,
    ServerError,
    SessionMetricsQuery,
    UnexpectedResponse,
)
from helicone_sessions.clock import replaced
from helicone_sessions.testing import (
    FakeHelicone,
    Fault,
    Reply,
    VirtualClock,
    failure,
    gateway_page,
    metrics,
)

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-example-key"
PASSWORD = "open-sesame"
SECRETS = (KEY, PASSWORD)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHelicone]:
    """A service, in an environment that names a proxy with a password."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with FakeHelicone(api_key=KEY, clock=VirtualClock()) as server:
        yield server


@pytest.fixture
def behind_a_proxy(server: FakeHelicone, monkeypatch: pytest.MonkeyPatch) -> HeliconeClient:
    """A client that goes through a proxy with a password, which leads nowhere."""
    monkeypatch.setenv("HTTP_PROXY", f"http://aladdin:{PASSWORD}@127.0.0.1:9")
    return client_of(server, base_url="http://service.test")


def client_of(server: FakeHelicone, **options: Any) -> HeliconeClient:
    with replaced(server.clock):
        return HeliconeClient(KEY, **{"base_url": server.url, **options})


class Waits(Hooks):
    """Keeps the arguments of all waits."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, Any]] = []

    def waits(self, _token: object, seconds: float, reason: str, error: Any) -> None:
        self.heard.append((seconds, reason, error))


def shown(value: object) -> list[str]:
    """The output of printing *value*."""
    return [repr(value), str(value), f"{value}", f"{value!r}", f"{[value]}", f"{value!a}"]


def dumped(value: object) -> list[str]:
    """A dump of the object graph: our attributes and plain values at any depth."""
    found: list[str] = []
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found += [repr(item), str(item)]
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting += item
        elif type(item).__module__.partition(".")[0] == "helicone_sessions":
            waiting += list(vars(item).values()) if hasattr(item, "__dict__") else []
            waiting += listed(item)
    return found


def listed(item: object) -> list[object]:
    """The fields that a class of attrs shows; what it keeps to itself is no plain value."""
    kind: Any = type(item)
    return (
        [getattr(item, field.name) for field in attrs.fields(kind) if field.repr] if attrs.has(kind) else []
    )


def told_of(error: BaseException) -> list[str]:
    """Everything that a log could show of an error and its causes."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in chain:
            chain.append(one)
            waiting += [one.__cause__, one.__context__]
    found = [text for one in chain for text in [*shown(one), *dumped(vars(one)), *map(repr, one.args)]]
    return [*found, *traceback.format_exception(error), *traceback.format_exception_only(error)]


def leaks(texts: list[str]) -> list[str]:
    return [text for text in texts if any(secret in text for secret in SECRETS)]


# A client at rest


@pytest.mark.promise(name="K2")
@pytest.mark.parametrize("is_used", [False, True])
async def test_a_client_and_its_parts_show_no_secret(server: FakeHelicone, is_used: bool) -> None:
    """Whatever part of a client is printed, before its first query or after, the key is not in it."""
    client = client_of(server, rate_limit=RateLimit(requests=100, per=60), hooks=Waits())
    other = client.with_options(timeout=5, deadline=30, max_retries=1)
    if is_used:
        await other.get_metrics(F.cost > 0)
    parts = [
        client,
        other,
        client._sender,
        client._connection,
        client._sender.gate,
        client._connection._settings,
    ]
    parts += [client._sender.key, client._sender.policy, client.get_metrics, client.stream_metrics([])]
    await client.aclose()

    assert [] == leaks([text for part in parts for text in shown(part)])


def test_a_key_in_the_address_is_not_shown() -> None:
    """A private proxy may want the key in the path too; no repr shows it there."""
    client = HeliconeClient(KEY, base_url=f"http://127.0.0.1:8585/{KEY}/")
    assert "/***/" in repr(client)
    assert not [part for part in (client, client._connection) if KEY in repr(part)]


async def test_the_parts_of_a_client_behind_a_proxy_show_no_secret(behind_a_proxy: HeliconeClient) -> None:
    """The password of the proxy is kept as the key is."""
    parts = [behind_a_proxy, behind_a_proxy._sender, behind_a_proxy._connection]
    parts += [behind_a_proxy._connection._settings, behind_a_proxy.with_options(timeout=5)]

    assert [] == leaks([text for part in parts for text in shown(part)])


@pytest.mark.promise(name="K2")
@pytest.mark.parametrize("is_used", [False, True])
async def test_a_dump_of_a_client_shows_no_secret(server: FakeHelicone, is_used: bool) -> None:
    """A tool that shows attributes of attributes, as monitors do, does not come upon the key."""
    client = client_of(server)
    if is_used:
        await client.get_metrics()
    texts = dumped(client)
    await client.aclose()

    assert [] == leaks(texts)


@pytest.mark.promise(name="C5")
async def test_a_dump_of_a_client_behind_a_proxy_shows_no_secret(behind_a_proxy: HeliconeClient) -> None:
    """Nor does it come upon the password of the proxy."""
    assert [] == leaks(dumped(behind_a_proxy))


@pytest.mark.promise(name="K3")
@pytest.mark.parametrize(
    "part",
    [
        lambda client: client,
        lambda client: client.with_options(timeout=5),
        lambda client: client._sender,
        lambda client: client._connection,
        lambda client: client._connection._settings,
        lambda client: client._sender.key,
    ],
    ids=["client", "with options", "sender", "connection", "settings", "key"],
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_nothing_that_holds_a_secret_is_pickled(
    server: FakeHelicone, part: Callable[[HeliconeClient], object], protocol: int
) -> None:
    """No part of a client takes the key to another process."""
    with pytest.raises(TypeError):
        pickle.dumps(part(client_of(server)), protocol=protocol)


async def test_nothing_that_is_asked_or_answered_holds_a_secret(server: FakeHelicone) -> None:
    """Queries, outcomes, answers and the values that hooks receive can be pickled and shown."""
    server.will_answer(gateway_page())
    waits = Waits()
    client = client_of(server, hooks=waits)
    given = SessionMetricsQuery(F.cost > 0, name_contains="x")
    async with client.stream_metrics({"a": given}) as outcomes:
        found = [outcome async for outcome in outcomes]
    await client.aclose()

    assert 1 == len(waits.heard) == len(found)
    for value in (given, found[0], found[0].metrics, waits.heard):
        assert [] == leaks([*shown(value), repr(pickle.dumps(value)), *dumped(value)])


# Errors of every kind

FAULTS: dict[str, tuple[type[HeliconeError], Any]] = {
    "400": (InvalidRequest, Reply(400, f"Invalid token {KEY}")),
    "401": (AuthenticationError, Reply(401, {"error": f"unknown key {KEY}"})),
    "403": (AuthenticationError, Reply(403, f"<html>{KEY}</html>")),
    "404": (InvalidRequest, Reply(404, f"<pre>Cannot POST /{KEY}</pre>")),
    "408": (UnexpectedResponse, Reply(408, KEY)),
    "422": (InvalidRequest, Reply(422, {"message": KEY, KEY: KEY})),
    "429": (RateLimited, Reply(429, {"error": KEY}, {"Retry-After": "1", "X-Request-Id": KEY})),
    "500": (ServerError, Reply(500, KEY)),
    "502": (ServerError, gateway_page(502)),
    "503": (ServerError, Reply(503, KEY * 300, {"Retry-After": KEY})),
    "redirect": (UnexpectedResponse, Reply(302, "", {"Location": f"https://example.org/{KEY}"})),
    "HTML": (UnexpectedResponse, Reply(200, f"<p>{KEY}</p>")),
    "JSON": (UnexpectedResponse, Reply(200, {KEY: KEY})),
    "off the contract": (UnexpectedResponse, Reply(200, {"data": {"session_count": KEY}, "error": None})),
    "header": (UnexpectedResponse, Reply(204, "", {"X-Request-Id": KEY, "CF-Ray": KEY})),
    "envelope": (QueryFailed, failure(f"Invalid {KEY}")),
    "passing envelope": (QueryFailed, failure(f"Timeout of {KEY}")),
    "drop": (ConnectionFailed, Fault.DROP),
    "reset": (ConnectionFailed, Fault.RESET),
    "truncate": (ConnectionFailed, Fault.TRUNCATE),
    "no HTTP": (ConnectionFailed, Fault.NOT_HTTP),
    "stall": (RequestTimeout, Fault.STALL),
}


def everything_seen(caplog: pytest.LogCaptureFixture, caught: list[warnings.WarningMessage]) -> list[str]:
    """All log records and warnings."""
    records = [text for record in caplog.records for text in (repr(vars(record)), record.getMessage())]
    return [*records, caplog.text, *(repr(warning) + str(warning.message) for warning in caught)]


async def _from_a_stream(client: HeliconeClient, query: SessionMetricsQuery) -> None:
    async with client.stream_metrics([query]) as outcomes:
        async for outcome in outcomes:
            raise outcome.error or LookupError("there is an answer")


WAYS: dict[str, Callable[[HeliconeClient, SessionMetricsQuery], Awaitable[object]]] = {
    "one": lambda client, query: client.get_metrics(query),
    "many": lambda client, query: client.get_metrics_many([query]),
    "stream": _from_a_stream,
}


@pytest.mark.promise(name="K4")
@pytest.mark.promise(name="L1")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "fault"), FAULTS.values(), ids=FAULTS)
async def test_no_error_log_or_warning_holds_a_secret(
    server: FakeHelicone,
    caplog: pytest.LogCaptureFixture,
    kind: type[HeliconeError],
    fault: Any,
    way: str,
) -> None:
    """Whatever goes wrong, and however it was asked: text, causes, copies and logs are clean."""
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp", "aiohttp.client", "aiohttp.internal", "helicone_sessions"):
        caplog.set_level(logging.DEBUG, name)
    server.otherwise(fault)
    waits = Waits()
    asyncio.get_running_loop().set_debug(True)
    limit = 0.1 if fault is Fault.STALL else 30
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with client_of(server, max_retries=1, timeout=limit, hooks=waits) as client:
            query = SessionMetricsQuery(F.cost > 0)
            with pytest.raises(HeliconeError) as raised:
                await WAYS[way](client, query)
    error = raised.value

    assert kind is type(error)
    assert [] == leaks(told_of(error))
    for duplicate in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - ours
        assert [] == leaks(told_of(duplicate))
        assert str(error) == str(duplicate)
    assert [] == leaks([repr(pickle.dumps(error)), *shown(waits.heard)])
    assert [] == leaks(everything_seen(caplog, caught))


@pytest.mark.parametrize("options", [{}, {"base_url": "https://service.test"}], ids=["plain", "tunnel"])
async def test_no_error_of_a_proxy_holds_a_secret(
    server: FakeHelicone,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
) -> None:
    """The error about a missing proxy does not show its password, whatever query meets it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ALL_PROXY", f"http://aladdin:{PASSWORD}@127.0.0.1:9")
    waits = Waits()
    given = {"base_url": "http://service.test", **options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with client_of(server, max_retries=1, hooks=waits, **given) as client:
            with pytest.raises(ConnectionFailed) as raised:
                await client.get_metrics()

    ((_, _, error),) = waits.heard
    assert [] == leaks([*told_of(raised.value), *told_of(error), repr(pickle.dumps(raised.value))])
    assert [] == leaks(everything_seen(caplog, caught))


async def test_no_error_of_a_wrong_use_holds_a_secret(server: FakeHelicone) -> None:
    """The errors about a closed client, a closed session and another loop do not show the key."""
    errors: list[BaseException] = []
    client = client_of(server)
    await client.aclose()
    session = aiohttp.ClientSession()
    await session.close()
    for use in (client, client_of(server, session=session)):
        with pytest.raises(ConfigurationError) as raised:
            await use.get_metrics()
        errors.append(raised.value)
    for options in ({"timeout": KEY}, {"max_retries": KEY}, {"region": KEY}, {"base_url": KEY}):
        with pytest.raises(ConfigurationError) as raised:
            HeliconeClient(**{"api_key": "sk-other", **options})  # type: ignore[arg-type]
        # A value in a wrong place is shown if it cannot be a key.
        if options.keys() & {"region", "base_url"}:
            errors.append(raised.value)

    assert [] == leaks([text for error in errors for text in told_of(error)])


async def test_the_warning_of_an_unclosed_client_holds_no_secret(
    server: FakeHelicone, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does what aiohttp and asyncio say of its connections."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = client_of(server)
        await client.get_metrics()
        del client
        await server.until(lambda: caught)
    texts = everything_seen(caplog, caught)

    assert [] == leaks(texts)
    # Tracing tools show the source of a warning.
    assert [] == leaks([text for warning in caught for text in shown(warning.source)])


async def test_a_task_that_nobody_awaited_tells_no_secret(
    server: FakeHelicone, caplog: pytest.LogCaptureFixture
) -> None:
    """The log of asyncio about an error that nobody retrieved does not show the key."""
    caplog.set_level(logging.DEBUG)
    server.otherwise(Reply(400, f"Invalid token {KEY}"))
    async with client_of(server) as client:
        task = asyncio.ensure_future(client.get_metrics())
        await asyncio.wait([task])
        shown_of_task = shown(task)
        del task
        await server.until(lambda: "never retrieved" in caplog.text)

    assert [] == leaks([caplog.text, *shown_of_task])


async def test_the_key_is_in_no_name_of_a_coroutine_or_task(server: FakeHelicone) -> None:
    """A debugger's view of a query in progress does not show the key."""
    server.hold()
    async with client_of(server) as client:
        task = asyncio.ensure_future(client.get_metrics(name_contains="x"))
        await server.arrived(1)
        texts = [text for one in asyncio.all_tasks() for text in (repr(one), one.get_name())]
        texts += [repr(inspect.getcoroutinelocals(task.get_coro()))]  # type: ignore[arg-type]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    assert [] == leaks(texts)


@pytest.mark.promise(name="K1")
async def test_the_service_is_told_the_key_and_nobody_else(server: FakeHelicone) -> None:
    """The key is in one header, and in nothing else of what is sent."""
    seen: list[Any] = []
    server.otherwise(metrics())
    trace = aiohttp.TraceConfig()

    async def note(_session: object, _context: object, sent: Any) -> None:
        seen.append(sent)

    trace.on_request_headers_sent.append(note)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        await client_of(server, session=session).get_metrics(F.cost > 0)
    (request,) = server.requests
    headers = {name: value for name, value in seen[0].headers.items() if KEY in value}

    assert {"Authorization": f"Bearer {KEY}"} == headers
    assert KEY.encode() not in request.body
    assert KEY not in str(seen[0].url)


# Errors are kept whole, as the client raises them


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],  # noqa: S301 - our own bytes
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (ServerError, gateway_page()),
        (ServerError, Reply(503, "", {"Retry-After": "2"})),
        (ConnectionFailed, Fault.DROP),
    ],
    ids=["502", "503", "drop"],
)
async def test_an_error_keeps_its_attempts_waits_and_answers(
    server: FakeHelicone, kind: Any, fault: Any, duplicate: Callable[[Any], Any]
) -> None:
    """Facts that retries and batches add to an error go where the error goes."""
    server.answers("bad", fault)
    server.otherwise(metrics(cost=7.0))
    given = [SessionMetricsQuery(name_contains=name) for name in ("good", "bad")]
    async with client_of(server, max_retries=2, max_concurrency=1) as client:
        with pytest.raises(kind) as caught:
            await client.get_metrics_many(given)
    error, other = caught.value, duplicate(caught.value)

    assert (3, error.waited) == (other.attempts, other.waited)
    assert error.waited > 0
    assert [7.0] == [found.average.session_cost for found in other.answered.values()]
    assert vars(error) == vars(other)
    assert str(error) == str(other)


# Tools that show the variables of each frame


@pytest.mark.parametrize(
    "answer", [Reply(401, {"error": "no"}), Reply(400, "bad"), gateway_page(), failure("no"), *Fault], ids=str
)
async def test_no_frame_of_ours_shows_the_key(server: FakeHelicone, answer: Any) -> None:
    """A report with the variables of all frames, of the error and of what led to it, is without the key."""
    server.otherwise(answer)
    async with client_of(server, max_retries=0, timeout=5) as client:
        try:
            await client.get_metrics()
        except HeliconeError as error:
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            text = "".join(report.format())
        else:
            text = ""

    inner = text.split("get_metrics", 1)[-1]
    assert [] == leaks([inner])
