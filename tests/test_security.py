"""The promises of SECURITY.md that have no better place; the mark `promise` names those of all tests."""

import hmac
import inspect
import logging
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
import trustme
from aiohttp import web
from yarl import URL

from helicone_sessions import (
    ConfigurationError,
    ConnectionFailed,
    F,
    FilterTypeError,
    HeliconeClient,
    HeliconeError,
    SessionMetricsQuery,
    TimeFilter,
    UnexpectedResponse,
    any_of,
)
from helicone_sessions.clock import replaced
from helicone_sessions.testing import FakeHelicone, Reply, VirtualClock, failure, gateway_page, metrics

ROOT = Path(__file__).parents[1]
KEY = "sk-helicone-example-key"
ONE, OTHER = UUID(int=1), UUID(int=2)
TIME = "2026-11-01T12:00:00Z"
PATH = "v1/session/metrics/query"


def test_each_promise_has_a_test(request: pytest.FixtureRequest) -> None:
    """The marks of all tests name the promises of SECURITY.md, each of them and no other."""
    chosen = request.config.option
    if "tests" not in request.config.args or chosen.markexpr or chosen.keyword:
        pytest.skip("only a run of all tests sees all marks")
    promises = re.findall(
        r"^- \*\*(\w+)\*\*", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    marks = (mark for item in request.session.items for mark in item.iter_markers("promise"))

    assert set(promises) == {mark.kwargs["name"] for mark in marks}


# Connections


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Issues certificates for clients that are configured to trust it."""
    return trustme.CA()


@asynccontextmanager
async def over_tls(certificate: trustme.LeafCert) -> AsyncIterator[tuple[str, list[Any]]]:
    """The address of a server with this certificate, and the headers of what it was sent."""
    received: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(request.headers)
        return web.Response(body=metrics_body())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    try:
        yield f"https://localhost:{runner.addresses[0][1]}", received
    finally:
        await runner.cleanup()


def metrics_body() -> bytes:
    return Reply(200, {"data": metrics_data(), "error": None}).raw


def metrics_data() -> dict[str, Any]:
    names = ("session_count", "session_duration", "session_cost")
    return {**{name: [] for name in names}, "average": {name: [{"average": 7.0}] for name in names}}


def issued(authority: trustme.CA, kind: str) -> trustme.LeafCert:
    match kind:
        case "of another host":
            return authority.issue_cert("example.org")
        case "that has expired":
            return authority.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
        case "of an unknown authority":
            return trustme.CA().issue_cert("localhost")
    return authority.issue_cert("localhost")


@pytest.mark.promise(name="C2")
@pytest.mark.parametrize("kind", ["of another host", "that has expired", "of an unknown authority"])
async def test_a_certificate_that_is_not_trusted_ends_the_query_before_the_key_is_sent(
    authority: trustme.CA, kind: str
) -> None:
    """The error is lasting, the query is not retried, and nothing was sent."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        over_tls(issued(authority, kind)) as (url, received),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
    ):
        for options in ({"session": session}, {}):
            async with HeliconeClient(KEY, base_url=url, max_retries=3, **options) as client:  # type: ignore[arg-type]
                with pytest.raises(ConnectionFailed, match=r"[Cc]ertificate") as raised:
                    await client.get_metrics()
            assert (True, 1) == (raised.value.is_lasting, raised.value.attempts)

    assert [] == received


@pytest.mark.promise(name="C2")
async def test_a_certificate_that_is_trusted_is_taken(authority: trustme.CA) -> None:
    """An authority that was added to the caller's session is trusted, and the key is sent."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        over_tls(issued(authority, "good")) as (url, received),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
        HeliconeClient(KEY, base_url=url, session=session) as client,
    ):
        assert 7.0 == (await client.get_metrics()).average.session_cost

    assert [f"Bearer {KEY}"] == [headers["Authorization"] for headers in received]


@pytest.mark.promise(name="D5")
@pytest.mark.parametrize("kind", ["of another host", "that has expired", "of an unknown authority"])
async def test_no_password_goes_to_a_clickhouse_that_is_not_trusted(authority: trustme.CA, kind: str) -> None:
    """Where the certificate is not trusted nothing is sent, and the error says so."""
    from helicone_sessions.local.drivers.clickhouse import ClickHouseDriver

    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        over_tls(issued(authority, kind)) as (url, received),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
    ):
        for options in ({"session": session}, {}):
            driver = ClickHouseDriver(url, password="open-sesame", **options)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match=r"certificate of localhost.* is not trusted"):
                await driver.open()

    assert [] == received


@pytest.mark.promise(name="C1")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("is_own", [True, False], ids=["own session", "given session"])
async def test_a_redirect_takes_the_key_nowhere(status: int, is_own: bool) -> None:
    """Another origin that an answer points to is not asked, in a session that was given neither."""
    async with (
        FakeHelicone(api_key=KEY) as server,
        FakeHelicone(api_key=KEY) as elsewhere,
        aiohttp.ClientSession() as session,
    ):
        server.otherwise(Reply(status, "", {"Location": f"{elsewhere.url}/{PATH}"}))
        given = None if is_own else session
        async with HeliconeClient(KEY, base_url=server.url, session=given) as client:
            with pytest.raises(UnexpectedResponse, match="redirects to"):
                await client.get_metrics()
        assert (1, 0) == (len(server.requests), len(elsewhere.requests) + elsewhere.refused)


REACHED = """
import asyncio, sys

asked = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.exec")
reached = []
sys.addaudithook(lambda event, given: reached.append((event, given)) if event in asked else None)

from helicone_sessions import F, HeliconeClient, parse_filter
from helicone_sessions.local import LocalServer

async def main():
    async with LocalServer([{"request_created_at": "2026-11-01T12:00:00Z"}]) as server:
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            await client.get_metrics(parse_filter("cost > 0.1"))

asyncio.run(main())
for event, given in reached:
    print(event, given[1][0] if event == "socket.connect" else given[0])
"""


def run(script: str) -> list[str]:
    """The lines that a script prints in its own process."""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.promise(name="C3")
def test_nothing_is_reached_but_the_address_that_was_given() -> None:
    """The Python code of client and server reaches no other host, resolves no name, and starts no program.

    Python reports only its own sockets and programs; the test does not see what the compiled chDB, pyarrow
    and msgspec do.
    """
    pytest.importorskip("chdb")
    found = run(REACHED)

    assert "socket.connect 127.0.0.1" in found
    assert {"socket.connect 127.0.0.1", "socket.getaddrinfo 127.0.0.1"} >= set(found)


# Logs


@pytest.mark.promise(name="L2")
@pytest.mark.parametrize(
    "answer", [metrics(), failure("of-the-answer"), gateway_page(), Reply(400, "of-the-answer")]
)
async def test_the_log_holds_no_word_of_a_query_or_an_answer(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """At its most talkative the logger tells classes, codes, statuses, attempts and seconds alone."""
    caplog.set_level(logging.DEBUG, "helicone_sessions")
    clock = VirtualClock()
    query = SessionMetricsQuery(F.properties["of-the-query"] == "of-the-query", name_contains="of-the-query")
    async with FakeHelicone(api_key=KEY, clock=clock) as server:
        server.otherwise(answer)
        with replaced(clock):
            client = HeliconeClient(KEY, base_url=server.url, max_retries=1)
        async with client:
            (outcome,) = await client.get_metrics_many([query], return_errors=True)
    told = [record for record in caplog.records if record.name.startswith("helicone_sessions")]

    assert told
    assert not [word for word in ("of-the", KEY) for record in told if word in repr(vars(record))]
    assert isinstance(outcome, HeliconeError) == (answer != metrics())


# Filters from people

READ = """
import sys
from helicone_sessions import FilterError, parse_filter

texts = sys.argv[1:]
def read(text):
    try:
        str(parse_filter(text))
    except FilterError as error:
        str(error)

for text in texts:  # what is imported on demand is there afterwards
    read(text)
seen = []
quiet = ("compile", "exec", "import", "open", "os.system", "subprocess.Popen", "socket.connect")
sys.addaudithook(lambda event, given: seen.append(event) if event in quiet else None)
for text in texts:
    read(text)
print(*seen)
"""


@pytest.mark.promise(name="F1")
def test_a_filter_from_people_is_never_evaluated() -> None:
    """Reading a text compiles, runs, imports and opens nothing, whatever it holds."""
    texts = [
        'cost > 0.1 and model contains "gpt"',
        "__import__('os').system('true')",
        'model == __import__("os").getcwd()',
        "(lambda: exec('x = 1'))()",
        "cost.__class__.__mro__ > 1",
        'model == f"{open(0)}"',
        "cost > eval('1')",
    ]
    done = subprocess.run(
        [sys.executable, "-c", READ, *texts], check=True, capture_output=True, text=True, timeout=60
    )

    assert "\n" == done.stdout


@pytest.mark.promise(name="F3")
def test_the_source_in_a_message_is_not_run() -> None:
    """An error shows the expression that was written, and calls nothing in it again."""
    calls: list[str] = []

    def noted(word: str) -> str:
        calls.append(word)
        return word

    with pytest.raises(FilterTypeError, match=r'noted\("b"\)'):
        _ = (F.model == noted("a")) and F.user_id == noted("b")

    assert ["a"] == calls


# The embedded server


@pytest.mark.promise(name="S1")
async def test_servers_listen_on_loopback_unless_they_are_told() -> None:
    """Without a host nothing but this machine reaches the server, its command or the fake."""
    from helicone_sessions.cli.serve import serve
    from helicone_sessions.local import LocalServer

    assert "127.0.0.1" == inspect.signature(serve).parameters["host"].default
    async with FakeHelicone() as fake:
        assert "127.0.0.1" == URL(fake.url).host
    pytest.importorskip("chdb")
    async with LocalServer() as server:
        assert "127.0.0.1" == URL(server.url).host
        sockets = server._listening._listening.sockets  # type: ignore[union-attr]
        assert {"127.0.0.1"} == {one.getsockname()[0] for one in sockets}


@pytest.mark.promise(name="S5")
def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever key is asked with, right or wrong, as many digests of one length are compared."""
    from helicone_sessions.local.server_config import Keys, WrongKey

    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def noted(one: Any, other: Any) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr("helicone_sessions.local.server_config.hmac.compare_digest", noted)
    keys = Keys({"sk-a": ONE, "sk-b": OTHER, "sk-c": ONE})
    seen = []
    for key in ("sk-a", "sk-c", "sk-", "sk-ab", "x" * 10_000):
        compared.clear()
        with suppress(WrongKey):
            keys.organization_of(f"Bearer {key}")
        seen.append(tuple(compared))

    assert 3 == len(seen[0])
    assert 1 == len(set(seen))


@pytest.mark.promise(name="S8")
def test_a_query_has_an_end_unless_it_is_given_another() -> None:
    """By itself a query may take 60 seconds, of the server's command too."""
    from helicone_sessions.cli.serve import serve
    from helicone_sessions.local import Limits

    assert 60.0 == Limits().seconds == inspect.signature(serve).parameters["max_seconds"].default


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The statements that are run to answer queries."""
    pytest.importorskip("chdb")
    from helicone_sessions.local.drivers.chdb import ChdbDriver

    seen: list[Any] = []
    query = ChdbDriver.query

    async def noted(self: ChdbDriver, statement: Any, limits: Any = None) -> Any:
        seen.append(statement)
        return await query(self, statement, limits)

    monkeypatch.setattr(ChdbDriver, "query", noted)
    return seen


SEMANTICS = pytest.mark.parametrize("semantics", ["contract", "helicone"])


@pytest.mark.promise(name="S9")
@SEMANTICS
@pytest.mark.filterwarnings("ignore::helicone_sessions.HeliconeFilterWarning")
async def test_the_rows_of_others_are_never_seen(semantics: Any, statements: list[Any]) -> None:
    """Whatever a key asks for, the answer and every statement are bound to its own organisation."""
    from helicone_sessions.local import LocalServer

    rows = [
        {
            "request_created_at": TIME,
            "cost": cost,
            "session_id": "s",
            "session_tag": tag,
            "organization_id": str(whose),
        }
        for whose, cost, tag in ((ONE, 1, "mine"), (OTHER, 500, "theirs"))
    ]
    theirs = F.organization_id == str(OTHER)
    asked = (
        None,
        theirs,
        ~theirs,
        theirs | (F.cost > 0),
        F.session_tag == "theirs",
        F.session_total_cost > 100,
    )
    async with LocalServer(rows, api_key={"sk-one": ONE, "sk-other": OTHER}, semantics=semantics) as server:
        statements.clear()
        async with HeliconeClient("sk-one", base_url=server.url) as client:
            found = [(await client.get_metrics(one)).average.session_cost for one in asked]
        bound = [str(ONE) in map(str, statement.parameters.values()) for statement in statements]
        async with HeliconeClient("sk-other", base_url=server.url) as client:
            assert 500 == (await client.get_metrics()).average.session_cost

    assert {None, 1.0} == set(found)
    assert [True] * len(asked) <= bound
    assert all(bound)


@pytest.mark.promise(name="D1")
@SEMANTICS
@pytest.mark.filterwarnings("ignore::helicone_sessions.HeliconeFilterWarning")
async def test_sql_holds_no_value(semantics: Any, statements: list[Any]) -> None:
    """Values, keys and patterns of a query are beside the statement, never in its text."""
    from helicone_sessions.local import LocalServer

    word, number, cost = "'; DROP--marked", 987_654_321, 123.456789012
    moment = datetime(2019, 3, 4, 5, 6, 7, tzinfo=UTC)
    texts = (F.model, F.user_id, F.session_tag, F.session_session_id, F.request_body, F.properties[word])
    asked = any_of(
        *(column == word for column in texts),
        *(column.contains(word) for column in texts),
        *(column.like(f"%{word}_") for column in (F.model, F.properties[word])),
        F.scores[word] == 987_654_321,
        F.property_key == word,
        F.cost > cost,
        F.latency == number,
        F.session_total_tokens == number,
        F.request_created_at > moment,
    )
    times = TimeFilter(moment, moment + timedelta(days=1))
    async with LocalServer([{"request_created_at": TIME}], semantics=semantics) as server:
        statements.clear()
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            await client.get_metrics(asked, name_contains=word, time_filter=times, timezone_difference=-77)
    written = "\n".join(statement.text for statement in statements)
    beside = repr([statement.parameters for statement in statements])

    assert statements
    assert [] == [
        one
        for one in ("marked", str(number), "123456789012", "123.456", "2019", "1551675967")
        if one in written
    ]
    assert "marked" in beside
    assert str(number) in beside


@pytest.mark.promise(name="D2")
@pytest.mark.parametrize(
    "name", ["cost) OR 1=1 --", "cost`", "organization", "p0", "cost FROM system.tables"]
)
async def test_no_column_comes_from_a_query(name: str, statements: list[Any]) -> None:
    """A column that the table of columns does not know is refused before any statement is made."""
    from helicone_sessions.local import LocalServer

    body = {
        "nameContains": "",
        "timezoneDifference": 0,
        "filter": {"request_response_rmt": {name: {"equals": 1}}},
    }
    async with LocalServer() as server:
        statements.clear()
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server.url}/{PATH}", json=body, headers=headers) as answer,
        ):
            assert 400 == answer.status

    assert [] == statements
