"""ClickHouse over HTTP: what goes there, what comes back, and what never leaves this process."""

import asyncio
import copy
import gc
import gzip
import logging
import os
import pickle
import socket
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from shutil import which
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from helicone_sessions import ConfigurationError
from helicone_sessions.local.drivers import DriverError, Limits, Statement
from helicone_sessions.local.drivers.clickhouse import ClickHouseDriver, form, parse_address
from helicone_sessions.local.query.contract_sql import Parameters
from tests.local.clickhouse_server import ClickHouseServer

PASSWORD = "open sesame/%?#"
USERS = {"default": ("", 0), "reader": (PASSWORD, 1), "careful": (PASSWORD, 2), "writer": (PASSWORD, 0)}
HELD = Statement("SELECT 'held'")

Opened = Callable[..., Any]


@pytest.fixture
async def server() -> AsyncIterator[ClickHouseServer]:
    """A ClickHouse with a user for each value of `readonly`."""
    async with ClickHouseServer(users=dict(USERS)) as server:
        yield server


@pytest.fixture
async def opened(server: ClickHouseServer) -> AsyncIterator[Opened]:
    """Backends that are open, each as the user asked for."""
    async with AsyncExitStack() as stack:

        async def driver_of(user: str = "writer", **options: Any) -> ClickHouseDriver:
            driver = ClickHouseDriver(
                server.url(user), **{"password": USERS[user][0], "limits": Limits(), **options}
            )
            stack.push_async_callback(driver.aclose)
            await driver.open()
            return driver

        yield driver_of


@pytest.fixture(params=["chdb", "server"])
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[ClickHouseDriver]:
    """A driver of the engine behind HTTP, and one of a real server where its address is given."""
    async with AsyncExitStack() as stack:
        if request.param == "chdb":
            url = (await stack.enter_async_context(ClickHouseServer())).url()
        elif not (url := os.environ.get("HELICONE_SESSIONS_CLICKHOUSE_URL", "")):
            pytest.skip("HELICONE_SESSIONS_CLICKHOUSE_URL names no ClickHouse server")
        driver = ClickHouseDriver(url)
        stack.push_async_callback(driver.aclose)
        await driver.open()
        yield driver


def echo(*values: str) -> Statement:
    """A statement that selects *values* as they are given."""
    parameters = Parameters()
    return Statement(
        f"SELECT {', '.join(parameters.add('String', value) for value in values)}", parameters.values
    )


def cut_off() -> web.Response:
    """An answer that ends too early."""
    response = web.Response(body=b"{", headers={"Content-Length": "10"})
    response.force_close()
    return response


HOSTILE = [
    "",
    "'\"`",
    "\\",
    "\\\\N",
    "\\N",
    "a\tb\nc\rd\be\ff",
    "\r\n--",
    "{p0:String}",
    "'; DROP TABLE x; --",
    "%_%25+&=?#",
    "emoji 🦆, é, \u2028",
    "NULL",
]


async def test_hostile_values(driver: ClickHouseDriver) -> None:
    """Any text comes back as it was sent."""
    assert HOSTILE == (await driver.query(echo(*HOSTILE))).rows[0]


async def test_nul(driver: ClickHouseDriver) -> None:
    """A NUL in a text does not end it."""
    assert [["a\0b"]] == (await driver.query(echo("a\0b"))).rows


@pytest.mark.parametrize("text", ["ab\\\n'", "é🦆"])
async def test_large_values(driver: ClickHouseDriver, text: str) -> None:
    """A value that is larger than a field of a form may be arrives whole."""
    times = 1_000_000 // len(text.encode())
    parameters = Parameters()
    whole, part = parameters.add("String", text * times), parameters.add("String", text)
    statement = f"SELECT length({whole}), {whole} = repeat({part}, {times})"
    found = await driver.query(Statement(statement, parameters.values))
    assert [len(text.encode()) * times, 1] == found.rows[0]


async def test_many_values(driver: ClickHouseDriver) -> None:
    """More values than a form may have fields arrive unchanged, each with its type."""
    parameters = Parameters()
    texts = HOSTILE * 100
    fields = [parameters.add("String", text) for text in [*texts, "long" * 1000]]
    numbers = [parameters.add("Int64", number - 600) for number in range(1_200)]
    others = [
        parameters.add("UUID", "0197a1b2-0000-7000-8000-000000000001"),
        parameters.add("DateTime64(6, 'UTC')", "2026-11-01 12:00:00.000001"),
        parameters.add("Int128", str(2**64)),
        parameters.add("Float64", "1e-7"),
    ]
    statement = (
        f"SELECT [{', '.join(fields)}], arraySum([{', '.join(numbers)}]), {', '.join(others)},"
        f" toTypeName({others[1]})"
    )
    found = (await driver.query(Statement(statement, parameters.values))).rows[0]
    assert [*texts, "long" * 1000] == found[0]
    assert [-600, "0197a1b2-0000-7000-8000-000000000001", "2026-11-01 12:00:00.000001"] == found[1:4]
    assert [2**64, 1e-7, "DateTime64(6, 'UTC')"] == [int(found[4]), *found[5:]]


async def test_large_statement(driver: ClickHouseDriver) -> None:
    """A text that is larger than a field of a form may be is read whole."""
    numbers = range(40_000)
    found = await driver.query(Statement(f"SELECT arraySum([{', '.join(map(str, numbers))}])"))
    assert [[sum(numbers)]] == found.rows


def test_escapes_stay_whole() -> None:
    """A long value is not cut between a backslash and what it escapes."""
    value = "a" * 99_999 + "\\n" + "\\\\" * 100_000
    _, body = form(Statement("SELECT {p0:String}", {"p0": value}))
    pieces = [part.split("\r\n\r\n")[1][:-2] for part in body.decode().split("--")[1:-1] if "param_" in part]
    assert value == "".join(pieces)
    assert all((len(piece) - len(piece.rstrip("\\"))) % 2 == 0 for piece in pieces)
    assert all(len(piece) <= 131_072 for piece in pieces)


async def test_ten_megabytes(opened: Opened) -> None:
    """A value of ten megabytes arrives."""
    driver = await opened()
    parameters = Parameters()
    text = f"SELECT length({parameters.add('String', 'x' * 10_000_000)})"
    assert [[10_000_000]] == (await driver.query(Statement(text, parameters.values))).rows


async def test_whole_numbers(driver: ClickHouseDriver) -> None:
    """Long whole numbers come as numbers."""
    found = await driver.query(Statement("SELECT toUInt64(18446744073709551615), toNullable(toInt64(-1))"))
    assert [[18446744073709551615, -1]] == found.rows


async def test_quoted_numbers(server: ClickHouseServer, opened: Opened) -> None:
    """Whole numbers that a server writes as text are numbers, and text that looks like one is text."""
    driver = await opened("reader")
    server.replies.append(
        web.json_response(
            {
                "meta": [{"name": "a", "type": "UInt64"}, {"name": "b", "type": "String"}],
                "data": [["12345678901234567", "12"]],
                "statistics": {"rows_read": 1},
            }
        )
    )
    assert [[12345678901234567, "12"]] == (await driver.query(Statement("SELECT 1"))).rows


async def test_rows_read(driver: ClickHouseDriver) -> None:
    """A result has the number of rows that were read."""
    found = await driver.query(Statement("SELECT sum(number) FROM numbers(1000)"))
    assert ([[499500]], 1000) == (found.rows, found.rows_read)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT nowhere", 47),
        ("SELECT * FROM nowhere", 60),
        ("SELEC 1", 62),
        ("SELECT 'a' LIKE materialize('b\\\\')", 25),
        ("SELECT throwIf(number = 900000) FROM numbers(1000000)", 395),
        ("CREATE DATABASE test_readers_write_nothing", 164),
    ],
)
async def test_errors(driver: ClickHouseDriver, text: str, code: int) -> None:
    """ClickHouse's errors have their number and text, and the next answer is its own query's."""
    with pytest.raises(DriverError) as caught:
        await driver.query(Statement(text))
    assert code == caught.value.code
    assert [["clean"]] == (await driver.query(echo("clean"))).rows


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(rows=10), 158),
        (Limits(memory=1_000_000), 241),
    ],
)
async def test_limits(driver: ClickHouseDriver, limits: Limits, code: int) -> None:
    """A query obeys the limits that are passed with it."""
    statement = Statement("SELECT length(groupArray(number)) FROM numbers(1000000)")
    assert [[1_000_000]] == (await driver.query(statement)).rows
    with pytest.raises(DriverError) as caught:
        await driver.query(statement, limits)
    assert code == caught.value.code


async def test_settings_of_limits(server: ClickHouseServer, opened: Opened) -> None:
    """Limits go along as settings; without them there are none of the client's."""
    driver = await opened(limits=Limits(seconds=1.5, memory=2**60 + 1, rows=7, threads=2))
    await driver.query(echo("a"))
    names = ("max_execution_time", "max_memory_usage", "max_rows_to_read", "max_threads")
    assert ["1.500000", str(2**60 + 1), "7", "2"] == [server.asked[-1][1][name] for name in names]
    with suppress(DriverError):
        await driver.query(echo("a"), Limits(seconds=1e-9))
    assert "0.001000" == server.asked[-1][1]["max_execution_time"]
    await driver.query(echo("a"), Limits(seconds=None))
    assert not server.asked[-1][1].keys() & set(names)


async def test_limits_of_the_server(server: ClickHouseServer, opened: Opened) -> None:
    """Of a setting that the server bounds or fixes, what it allows is sent."""
    rights = (
        "('readonly', '0', NULL, 0), ('max_execution_time', '5', '30', 0), ('max_query_size', '9', NULL, 1)"
    )
    columns = "name String, value String, max Nullable(String), readonly UInt8"
    server.replaced["system.settings"] = f"values('{columns}', {rights})"
    driver = await opened()
    await driver.query(echo("a"))
    sent = server.asked[-1][1]
    assert "30" == sent["max_execution_time"]
    assert not sent.keys() & {"max_query_size", "optimize_or_like_chain"}


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("writer", {"readonly": "2", "cancel_http_readonly_queries_on_client_close": "1"}),
        ("careful", {"readonly": None, "cancel_http_readonly_queries_on_client_close": "1"}),
        ("reader", {"readonly": None, "cancel_http_readonly_queries_on_client_close": None}),
    ],
)
async def test_users(
    server: ClickHouseServer, opened: Opened, user: str, sent: dict[str, str | None]
) -> None:
    """Each user is sent what it may set, and one that may set nothing still gets answers."""
    driver = await opened(user)
    assert HOSTILE == (await driver.query(echo(*HOSTILE))).rows[0]
    settings = server.asked[-1][1]
    assert sent == {name: settings.get(name) for name in sent}
    if user == "reader":
        assert {"query_id", "default_format", "wait_end_of_query"} == settings.keys()


async def test_query_ids(server: ClickHouseServer, opened: Opened) -> None:
    """Every query has a different id, and its URL has no values."""
    driver = await opened()
    for _ in range(3):
        await driver.query(echo("private"))
    assert len(server.asked) == len({settings["query_id"] for _, settings in server.asked})
    assert "private" not in repr([settings for _, settings in server.asked])


async def test_database(server: ClickHouseServer) -> None:
    """Queries go to the database in the URL, and a missing one is an error."""
    driver = ClickHouseDriver(server.url(database="system"))
    await driver.open()
    assert [["system"]] == (await driver.query(Statement("SELECT currentDatabase()"))).rows
    await driver.aclose()
    with pytest.raises(ConfigurationError, match="nowhere"):
        await ClickHouseDriver(server.url(database="nowhere")).open()


@pytest.mark.parametrize(("user", "password"), [("writer", "wrong"), ("nobody", ""), ("writer", "")])
async def test_wrong_password(server: ClickHouseServer, user: str, password: str) -> None:
    """The error of a rejected user says where user and password come from."""
    driver = ClickHouseDriver(server.url(user), password=password)
    with pytest.raises(ConfigurationError, match=rf"{user}.*HELICONE_SESSIONS_CLICKHOUSE_PASSWORD") as caught:
        await driver.open()
    assert not password or password not in str(caught.value).replace(" is wrong", "")


async def test_password_changes_later(server: ClickHouseServer, opened: Opened) -> None:
    """A user that is not let in any more gets ClickHouse's number of that error."""
    driver = await opened()
    server.users["writer"] = ("another", 0)
    with pytest.raises(DriverError) as caught:
        await driver.query(echo("a"))
    assert 516 == caught.value.code


async def test_password_from_environment(server: ClickHouseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a password in the URL the environment's is taken; one in the URL goes first."""
    monkeypatch.setenv("HELICONE_SESSIONS_CLICKHOUSE_PASSWORD", PASSWORD)
    driver = ClickHouseDriver(server.url("writer"))
    await driver.open()
    await driver.aclose()
    server.users["writer"] = ("of-the-url", 0)
    driver = ClickHouseDriver(f"http://writer:of-the-url@127.0.0.1:{server.port}")
    await driver.open()
    await driver.aclose()


def test_password_with_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newline in the password is an error before anything is sent."""
    monkeypatch.setenv("HELICONE_SESSIONS_CLICKHOUSE_PASSWORD", f"{PASSWORD}\n")
    with pytest.raises(ConfigurationError, match="newline") as caught:
        ClickHouseDriver("http://reader@localhost:8123/")
    assert PASSWORD not in str(caught.value)


async def test_busy_server(server: ClickHouseServer) -> None:
    """A server that has no time for the first look is not taken for an old one."""
    server.replaced["{word:String}"] = "throwIf(materialize(1), {word:String})"
    with pytest.raises(ConfigurationError, match="cannot be used: Code: 395") as caught:
        await ClickHouseDriver(server.url()).open()
    assert "or later" not in str(caught.value)


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"mapContains(": "mapContainsOfLater("}, "mapContainsOfLater"),
        ({"'histogram(10)'": "'histogramOfLater(10)'"}, "histogramOfLater"),
        ({"OVER (": "OVERTHROWN ("}, "Syntax error"),
    ],
)
async def test_old_server(server: ClickHouseServer, replaced: dict[str, str], reason: str) -> None:
    """A server that lacks what is needed is refused with its version, the least one and its own reason."""
    server.replaced |= {"version()": "'18.16.1'", **replaced}
    with pytest.raises(ConfigurationError, match=rf"18\.16\.1(?s:.*){reason}(?s:.*)22\.3 or later"):
        await ClickHouseDriver(server.url()).open()


async def test_changed_parameters(server: ClickHouseServer) -> None:
    """A server that reads parameters in another way is refused, as filters would mean something else."""
    server.replaced["{word:String}"] = "upper({word:String})"
    with pytest.raises(ConfigurationError, match="parameters"):
        await ClickHouseDriver(server.url()).open()


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        (
            {"text": '{"meta": [{"name": "a"}], "data": [[1],\nCode: 241. DB::Exception: Memory limit'},
            241,
            "^Code: 241.*Memory limit",
        ),
        (
            {"text": '{"data": [], "exception": "Code: 159. DB::Exception: Timeout exceeded"}'},
            159,
            "^Code: 159.*Timeout",
        ),
        (
            {"text": "Code: 1.", "headers": {"X-ClickHouse-Exception-Code": "241"}},
            241,
            "Code: 1.",
        ),
        ({"text": "<html>502</html>", "status": 502}, None, "status 502.*html.*Check that host and port"),
        ({"text": "Port 9000 is for clickhouse-client program", "status": 400}, None, "Port 9000"),
        ({"text": "Ok.\n"}, None, "not from ClickHouse.*'Ok"),
        ({"text": ""}, None, "not from ClickHouse"),
        ({"text": '{"data": [[1]]}'}, None, "not from ClickHouse"),
        ({"text": "[1, 2]"}, None, "not from ClickHouse"),
        ({"body": b"\xff\xfe"}, None, "not from ClickHouse"),
        (
            {"text": f"Code: 62. DB::Exception: {'x' * 10**6} {PASSWORD}", "status": 500},
            62,
            "x…$",
        ),
        (
            {
                "text": "HTML Form Exception: Too many form fields",
                "status": 500,
                "headers": {"X-ClickHouse-Exception-Code": "1000"},
            },
            1000,
            "http_max_fields",
        ),
    ],
)
async def test_odd_answers(
    server: ClickHouseServer, opened: Opened, reply: dict[str, Any], code: int | None, text: str
) -> None:
    """A response that is not from ClickHouse, or ends in an error, is an error."""
    driver = await opened()
    server.replies.append(web.Response(**reply))
    with pytest.raises(DriverError, match=rf"(?s){text}") as caught:
        await driver.query(echo("a"))
    assert code == caught.value.code
    assert 2_000 > len(str(caught.value))


async def test_response_of_many_bytes(
    server: ClickHouseServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response is read up to a limit, and a packed one is not unpacked."""
    monkeypatch.setattr("helicone_sessions.local.drivers.clickhouse._LARGEST_RESPONSE", 16 * 1024 * 1024)
    driver = await opened()
    server.replies.append(web.Response(body=b" " * (16 * 1024 * 1024 + 1)))
    with pytest.raises(DriverError, match="more than 16 MB"):
        await driver.query(echo("a"))
    packed = gzip.compress(b" " * 100_000_000)
    server.replies.append(web.Response(body=packed, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(DriverError, match="not from ClickHouse"):
        await driver.query(echo("a"))
    assert "identity" == server.headers[-1]["Accept-Encoding"]
    assert [["a"]] == (await driver.query(echo("a"))).rows


async def test_rows_may_hold_error_texts(driver: ClickHouseDriver) -> None:
    """A row whose text looks like an error is a row."""
    text = "Code: 241. DB::Exception: not one"
    assert [[text]] == (await driver.query(echo(text))).rows


async def test_broken_answer(opened: Opened, server: ClickHouseServer) -> None:
    """An answer that ends too early is an error."""
    driver = await opened()
    server.replies.append(cut_off())
    with pytest.raises(DriverError, match="broke before the response was complete"):
        await driver.query(echo("a"))


@pytest.mark.promise(name="D5")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects(server: ClickHouseServer, opened: Opened, status: int) -> None:
    """A redirect is not followed, as the password would go with it."""
    driver = await opened()
    before = len(server.asked)
    server.replies.append(web.Response(status=status, headers={"Location": server.url()}))
    with pytest.raises(DriverError, match=r"redirects to 'http://127\.0\.0\.1"):
        await driver.query(echo("a"))
    assert before + 1 == len(server.asked)


async def test_nobody_listens() -> None:
    """The error of an unreachable server names host and port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match=rf"no connection to 127\.0\.0\.1:{port}"):
        await ClickHouseDriver(f"http://127.0.0.1:{port}/").open()


async def test_server_goes_away(server: ClickHouseServer, opened: Opened) -> None:
    """A server that stops between queries is an error that says so."""
    driver = await opened()
    await server._runner.cleanup()
    with pytest.raises(DriverError, match=rf"no connection to 127\.0\.0\.1:{server.port}"):
        await driver.query(echo("a"))


async def test_no_tls_there(server: ClickHouseServer) -> None:
    """A port without https is an error that says so."""
    with pytest.raises(ConfigurationError, match="speaks https there"):
        await ClickHouseDriver(f"https://127.0.0.1:{server.port}/").open()


@pytest.mark.skipif(which("openssl") is None, reason="there is no openssl to make a certificate with")
async def test_certificate_is_checked(tmp_path: Path) -> None:
    """A certificate that nobody trusts ends the connection before anything is sent."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    async with tls_server(certificate, key) as (port, received):
        with pytest.raises(ConfigurationError, match=r"certificate of localhost:.* is not trusted"):
            await ClickHouseDriver(f"https://localhost:{port}/").open()
        assert not received


@asynccontextmanager
async def tls_server(certificate: Path, key: Path) -> AsyncIterator[tuple[int, list[web.Request]]]:
    """A server with a self-made certificate, and the bytes that it received."""
    import ssl

    received: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(request)
        return web.Response()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1], received
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("user", ["writer", "careful", "reader"])
async def test_cancel(server: ClickHouseServer, opened: Opened, user: str) -> None:
    """A cancelled query's connection is closed; where that does not stop it, it is killed by its id."""
    driver = await opened(user)
    asked = asyncio.create_task(driver.query(HELD))
    await server.waits.wait()
    query_id = server.asked[-1][1]["query_id"]
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert query_id == await server.abandoned.get()
    assert [["clean"]] == (await driver.query(echo("clean"))).rows
    await driver.aclose()
    kills = [text for text, _ in server.asked if text.startswith("KILL")]
    expected = [f"KILL QUERY WHERE query_id = '{query_id}' ASYNC"] if user == "reader" else []
    assert expected == kills


async def test_close_ends_queries(server: ClickHouseServer, opened: Opened) -> None:
    """Closing the driver ends the queries in progress with an error of theirs."""
    driver = await opened("reader")
    asked = asyncio.create_task(driver.query(HELD))
    await server.waits.wait()
    query_id = server.asked[-1][1]["query_id"]
    await driver.aclose()
    with pytest.raises(DriverError, match="closed"):
        await asked
    assert query_id == await server.abandoned.get()
    assert f"KILL QUERY WHERE query_id = '{query_id}' ASYNC" == server.asked[-1][0]
    await driver.aclose()


async def test_no_answer_in_time(
    server: ClickHouseServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not keep the limit itself is waited for no longer."""
    monkeypatch.setattr("helicone_sessions.local.drivers.clickhouse._MARGIN", 0.0)
    driver = await opened("reader")
    with pytest.raises(DriverError, match=r"no response from ClickHouse within 0\.01 s"):
        await driver.query(HELD, Limits(seconds=0.01))
    await driver.aclose()
    assert server.asked[-1][0].startswith("KILL QUERY")


async def test_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes connections and never answers is given up soon, whatever queries may take."""
    monkeypatch.setattr("helicone_sessions.local.drivers.clickhouse._SECONDS_TO_OPEN", 0.1)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        driver = ClickHouseDriver(f"http://127.0.0.1:{port}/", limits=Limits(seconds=None))
        with pytest.raises(ConfigurationError, match=r"did not answer within 0\.1 s. Check host and port"):
            await driver.open()
    async with asyncio.timeout(10):
        while not heard:  # noqa: ASYNC110 - the other end of the connection
            await asyncio.sleep(0)
    assert b"SELECT version()" in heard[0]
    assert not [text for text in heard if b"KILL" in text]


async def test_failed_kill(
    server: ClickHouseServer, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a query cannot be killed, the log says so and nobody is bothered."""
    driver = await opened("reader")
    asked = asyncio.create_task(driver.query(HELD))
    await server.waits.wait()
    address, driver._address = driver._address, parse_address("http://127.0.0.1:1/")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await driver.aclose()
    assert "could not be killed" in caplog.text
    assert address.password.reveal() not in caplog.text


async def test_real_server_stops_query() -> None:
    """On a real server nothing goes on working for a query that was cancelled."""
    url = os.environ.get("HELICONE_SESSIONS_CLICKHOUSE_URL", "")
    if not url:
        pytest.skip("HELICONE_SESSIONS_CLICKHOUSE_URL names no ClickHouse server")
    driver = ClickHouseDriver(url)
    await driver.open()
    running = Statement("SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.1 + 0)%'")
    text = "SELECT sum(sleepEachRow(0.1 + 0)) FROM numbers(600) SETTINGS max_block_size = 1"
    asked = asyncio.create_task(driver.query(Statement(text)))
    async with asyncio.timeout(20):
        while (await driver.query(running)).rows[0][0] < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0)
        asked.cancel()
        while (await driver.query(running)).rows[0][0] > 1:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0)
    await driver.aclose()


async def test_many_at_once(opened: Opened) -> None:
    """Of many queries at once, some of which fail, each gets the answer to its own."""
    driver = await opened()

    async def one(place: int) -> Any:
        if place % 10 == 0:
            return await driver.query(Statement(f"SELECT {place}, throwIf(1)"))
        return (await driver.query(echo(str(place)))).rows[0][0]

    found = await asyncio.gather(*map(one, range(100)), return_exceptions=True)
    assert all(
        isinstance(answer, DriverError) if place % 10 == 0 else answer == str(place)
        for place, answer in enumerate(found)
    )


async def test_nothing_stays_open(server: ClickHouseServer) -> None:
    """Neither an opening that fails nor a driver that is closed leaves a session behind."""
    failed = [
        ClickHouseDriver(server.url("writer"), password="wrong"),
        ClickHouseDriver(server.url(database="nowhere")),
        ClickHouseDriver(f"https://127.0.0.1:{server.port}/"),
    ]
    for driver in failed:
        with pytest.raises(ConfigurationError):
            await driver.open()
    driver = ClickHouseDriver(server.url())
    await driver.open()
    await driver.query(echo("a"))
    await driver.aclose()
    gc.collect()
    assert not [
        found for found in gc.get_objects() if type(found) is aiohttp.ClientSession and not found.closed
    ]
    with pytest.raises(ConfigurationError, match="not open"):
        await driver.query(echo("a"))
    with pytest.raises(ConfigurationError, match="closed"):
        await driver.open()


async def test_not_opened(server: ClickHouseServer) -> None:
    """A driver that is not open says so."""
    with pytest.raises(ConfigurationError, match="not open"):
        await ClickHouseDriver(server.url()).query(echo("a"))


async def test_own_session(server: ClickHouseServer) -> None:
    """A session of the caller's is used and left open."""
    async with aiohttp.ClientSession() as session:
        driver = ClickHouseDriver(server.url(), session=session)
        await driver.open()
        assert [["a"]] == (await driver.query(echo("a"))).rows
        await driver.aclose()
        assert not session.closed


@pytest.mark.promise(name="D5")
async def test_proxies_of_the_environment(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment gets nothing."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert [["a"]] == (await (await opened()).query(echo("a"))).rows


@pytest.mark.promise(name="D5")
async def test_password_is_nowhere(
    server: ClickHouseServer, caplog: pytest.LogCaptureFixture, opened: Opened
) -> None:
    """The password goes in a header, and is in no text, log, error or pickle."""
    caplog.set_level(logging.DEBUG)
    driver = await opened("reader")
    shown = [repr(driver), str(driver), repr(vars(driver)), repr(driver._address)]
    assert PASSWORD == server.headers[-1]["X-ClickHouse-Key"]
    errors: list[BaseException] = []
    replies = [
        web.Response(status=500, text=f"Code: 62. DB::Exception: {PASSWORD}"),
        web.Response(status=403, text=f"X-ClickHouse-Key: {PASSWORD}"),
        web.Response(text=f"who said {PASSWORD}"),
        web.Response(text=f'{{"exception": "{PASSWORD}"}}'),
        web.Response(status=307, headers={"Location": f"http://x/{PASSWORD}"}),
        cut_off(),
    ]
    for reply in replies:
        server.replies.append(reply)
        with pytest.raises(DriverError) as caught:
            await driver.query(echo("a"))
        errors.append(caught.value)
    server.users["reader"] = ("another", 1)
    await server._runner.cleanup()
    with pytest.raises(DriverError) as caught:
        await driver.query(echo("a"))
    errors.append(caught.value)
    with pytest.raises(ConfigurationError) as refused:
        await ClickHouseDriver(server.url("reader"), password=PASSWORD).open()
    errors.append(refused.value)
    for error in errors:
        shown += ["".join(traceback.format_exception(error)), repr(vars(error))]
        # Some tools print the attributes of an error too.
        behind = error
        while behind := behind.__context__ or behind.__cause__:  # type: ignore[assignment]
            assert not isinstance(behind, aiohttp.ClientError)
            shown.append(repr(behind))
    shown.append(caplog.text)
    assert not [text for text in shown if PASSWORD in text or "sesame" in text]
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="pickle"):
            copied(driver)


@pytest.mark.parametrize(
    ("url", "host", "user", "database"),
    [
        ("http://localhost:8123", "localhost:8123", None, None),
        ("http://localhost:8123/", "localhost:8123", None, None),
        ("http://ada@localhost:8123/helicone/", "localhost:8123", "ada", "helicone"),
        ("https://ada:p%40ss@db.example.com:8443/my%2Fbase%20%25", "db.example.com:8443", "ada", "my/base %"),
        ("https://db.example.com/helicone", "db.example.com:443", None, "helicone"),
        ("http://[::1]:8123/helicone", "[::1]:8123", None, "helicone"),
        ("  http://localhost:8123/helicone\n", "localhost:8123", None, "helicone"),
    ],
)
def test_addresses(url: str, host: str, user: str | None, database: str | None) -> None:
    """A URL names host, port, user and database."""
    address = parse_address(url)
    assert (host, user, database) == (address.place, address.user, address.database)


def test_password_in_url() -> None:
    """A password in a URL is decoded."""
    assert "p@ss" == parse_address("http://ada:p%40ss@localhost:8123").password.reveal()


@pytest.mark.promise(name="D5")
@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "http://"),
        ("localhost:8123", "http://"),
        ("clickhouse://ada:sesame@localhost:9000/helicone", "http://"),
        ("ada:sesame@localhost", "http://"),
        ("http://", "has no host"),
        ("http:///helicone", "has no host"),
        ("http://ada:sesame@/helicone", "no host|not a valid URL"),
        ("http://ada:sesame@localhost:port/helicone", "not a valid URL"),
        ("http://ada:sesame@localhost:99999/helicone", "not a valid URL"),
        ("http://ada:ses/ame@localhost:8123/helicone", "not a valid URL"),
        ("http://ada:sesame@localhost:8123/helicone/requests", "several parts"),
        ("http://ada:sesame@localhost:8123/?database=helicone", "query string or a fragment"),
        ("http://ada:sesame@localhost:8123/helicone#x", "query string or a fragment"),
        ("http://ada:ses%0Aame@localhost:8123/helicone", "control character"),
        ("http://ada:sesame@localhost:8123/a%00b", "control character"),
        (None, "not a valid URL"),
        (b"http://localhost", "not a valid URL"),
    ],
)
def test_bad_addresses(url: Any, text: str) -> None:
    """The error of an unusable URL says what is expected, without repeating the URL."""
    with pytest.raises(ConfigurationError, match=text) as caught:
        ClickHouseDriver(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__context__ is None
    assert "http://user:password@host:8123/database" in str(caught.value) or text == "control character"
