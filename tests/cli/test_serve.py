"""The command `serve`."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import aiohttp
import attrs
import pytest

from helicone_sessions import AuthenticationError, HeliconeClient, SessionMetrics
from helicone_sessions.cli.serve import KEY_VARIABLE
from helicone_sessions.cli.sync import signals
from helicone_sessions.clock import replaced
from helicone_sessions.local import LocalServer
from helicone_sessions.testing import VirtualClock
from tests.cli.conftest import Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


KEY = "sk-local-of-the-command"
ENVIRONMENT = {"PATH": "", "COLUMNS": "100", "HELICONE_SESSIONS_SERVER_KEY": KEY}
ROW = {"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5, "session_id": "s"}


@attrs.define
class Serving:
    """The command ``serve`` in its own process, until the block ends."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = attrs.field(factory=lambda: ENVIRONMENT)
    process: Any = None
    said: str = ""
    url: str = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helicone_sessions", "serve", "--port", "0", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        for line in self.process.stderr:
            self.said += line
            if found := re.search(r"^helicone-sessions: ready at (http://\S+)$", line):
                self.url = found[1]
                return self
        raise AssertionError(f"it ended with code {self.process.wait()} before it was ready: {self.said}")

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, how: signal.Signals) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(how)
        out, error = self.process.communicate(timeout=60)
        self.said += error
        assert not out
        return int(self.process.returncode)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    async def ask(self, key: str = KEY) -> SessionMetrics:
        async with HeliconeClient(key, base_url=self.url, max_retries=0) as client:
            return await client.get_metrics()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file with one request."""
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(ROW))
    return file


needs_engine = pytest.mark.skipif(find_spec("chdb") is None, reason="the extra `local` is not installed")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="processes are not sent signals there")


@needs_engine
@needs_signals
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_serve_answers_until_it_is_told_to_stop(data: Path, how: signal.Signals) -> None:
    """The server answers from the file with the key of the environment, and ends well on a signal."""
    with Serving(("--data", str(data))) as serving:
        assert 0.5 == (await serving.ask()).average.session_cost
        with pytest.raises(AuthenticationError):
            await serving.ask("sk-wrong")
        assert 0 == serving.end(how)
    assert f"  export HELICONE_BASE_URL={serving.url} HELICONE_API_KEY=" in serving.said
    assert "1 requests loaded" in serving.said
    assert "serving 1 requests in memory" in serving.said
    assert "status=200" in serving.said
    assert "status=401" in serving.said
    assert serving.said.endswith("helicone-sessions: stopped\n")
    assert KEY not in serving.said
    assert "sk-wrong" not in serving.said


@needs_engine
@needs_signals
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_serve_ends_at_once_on_a_second_signal(how: signal.Signals) -> None:
    """A second signal does not wait for the requests that the first one lets end."""
    with Serving(()) as serving, socket.create_connection(serving.address) as unfinished:
        head = f"POST /v1/rows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n"
        unfinished.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert unfinished.recv(100).startswith(b"HTTP/1.1 100 ")
        serving.process.send_signal(how)
        assert "stopping" in serving.process.stderr.readline()
        # One that follows at once is taken for the same.
        while serving.process.poll() is None:
            serving.process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                serving.process.wait(0.1)
        assert serving.process.returncode in (128 + how, -how), serving.process.stderr.read()


@needs_signals
async def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """A signal that is sent to the process and to its group tells once; a later one does what it would."""
    clock, told, others = VirtualClock(), [], []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: others.append(number))
    try:
        with replaced(clock), signals(told.append):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            clock.advance(0.4)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            assert ([signal.SIGTERM], []) == (told, others)
            clock.advance(0.2)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            assert ([signal.SIGTERM], [signal.SIGTERM]) == (told, others)
    finally:
        signal.signal(signal.SIGTERM, before)


@needs_engine
@needs_signals
async def test_serve_makes_up_a_key() -> None:
    """Without a key in the environment one is made up, and shown for a client and in the page's address."""
    with Serving((), {"PATH": ""}) as serving:
        [key] = re.findall(r"HELICONE_API_KEY=(sk-local-\S+)$", serving.said, re.MULTILINE)
        assert (await serving.ask(key)).average.session_cost is None
        serving.end(signal.SIGTERM)
    assert 2 == serving.said.count(key)
    assert f"/#key={key}\n" in serving.said


@needs_engine
@needs_signals
async def test_serve_keeps_data_in_a_directory(data: Path, tmp_path: Path) -> None:
    """With --path the data of one run is there in the next."""
    for arguments in (("--data", str(data)), ()):
        with Serving(("--path", str(tmp_path / "store"), *arguments)) as serving:
            assert 0.5 == (await serving.ask()).average.session_cost
            assert 0 == serving.end(signal.SIGTERM)


@needs_engine
@needs_signals
async def test_serve_has_sample_data() -> None:
    """With --sample it serves the month of the demo, which is asked for as any data."""
    with Serving(("--sample",)) as serving:
        asked = await serving.ask(KEY)
    assert "serving 13,563 requests in memory" in serving.said
    assert asked.session_count.total > 1000


@needs_engine
@needs_signals
async def test_serve_keeps_a_rate_limit() -> None:
    """With --rate-limit one request too many is refused."""
    options = ("--rate-limit", "1", "--rate-limit-window", "90")
    with Serving((*options, "--semantics", "helicone", "--max-memory", "500")) as serving:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(serving.url, headers=headers) as session:
            for status in (200, 429):
                body = {"nameContains": "", "timezoneDifference": 0}
                async with session.post("/v1/session/metrics/query", json=body) as answer:
                    assert status == answer.status
                    assert "1;w=90" == answer.headers["RateLimit-Policy"]
                    assert "Helicone-Filter-Semantics" not in answer.headers


@needs_engine
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--data", "requests.xls"), "Pass a .jsonl"),
        (("--host", "192.0.2.1"), "--host must be an address of this machine"),
        (("requests.jsonl",), "write --data requests.jsonl"),
        (("--file", "requests.jsonl"), "did you mean --data?"),
        (("--sample", "--data", "requests.jsonl"), "--sample cannot be combined with --data"),
        (("--rate-limit", "soon"), "--rate-limit must be a whole number, got 'soon'"),
        (("--rate-limit-window", "0"), "--rate-limit-window must be a number of seconds above 0, got 0.0"),
        (("--max-seconds", "0"), "--max-seconds must be a number above 0, got 0"),
        (("--max-memory", "-1"), "--max-memory must be a number above 0, got -1"),
        (("--rate-limit", "0"), "--rate-limit must be a whole number, 1 or more"),
        (("--organization", "mine"), "--organization must be a UUID, got 'mine'"),
        (
            ("--clickhouse", "http://127.0.0.1:9/", "--path", "x"),
            "cannot be combined with --data or --path",
        ),
        (("--clickhouse", "http://someone:secret-word@127.0.0.1:9/"), "127.0.0.1:9"),
    ],
    ids=str,
)
def test_serve_says_what_it_cannot_do(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """A command that cannot serve ends with code 2 and a remedy, and shows no password."""
    done = run(None, "serve", "--port", "0", *arguments, **{KEY_VARIABLE: KEY})
    assert (2, "") == (done.returncode, done.stdout)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stderr


@needs_engine
@pytest.mark.parametrize(
    ("environment", "arguments"), [({}, ("--host", "192.0.2.1")), ({KEY_VARIABLE: "two words"}, ())]
)
def test_serve_does_not_show_a_bad_key(
    run: Run, environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    """A key that cannot be used ends with code 2, and is not shown."""
    done = run(None, "serve", "--port", "0", *arguments, **environment)
    assert (2, "") == (done.returncode, done.stdout)
    assert "two words" not in done.stderr


@needs_engine
def test_serve_names_what_a_row_lacks(run: Run, tmp_path: Path) -> None:
    """A row that cannot be read ends the load with code 2, and names the missing column."""
    file = tmp_path / "bad.jsonl"
    file.write_text("{}")
    done = run(None, "serve", "--port", "0", "--data", str(file))
    assert 2 == done.returncode
    assert "has no request_created_at" in done.stderr
    assert "--rejects" in done.stderr
    assert "rejects=" not in done.stderr


@needs_engine
def test_serve_lists_the_organisations_to_choose_from(run: Run, tmp_path: Path) -> None:
    """If the data belongs to several organisations, the error lists them."""
    folder = str(tmp_path / "store")

    async def fill() -> None:
        keys = {"sk-a": UUID(int=1), "sk-b": UUID(int=2)}
        rows = [ROW | {"organization_id": str(each)} for each in keys.values()]
        async with LocalServer(rows, path=folder, api_key=keys):
            pass

    asyncio.run(fill())
    done = run(None, "serve", "--port", "0", "--path", folder)
    assert 2 == done.returncode
    assert str(UUID(int=1)) in done.stderr


@needs_engine
@needs_signals
@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ("no rows are kept", ()),
        ("the rows reported so far are kept", ("--path", "kept")),
    ],
)
def test_serve_that_is_stopped_during_the_load_says_what_becomes_of_it(
    tmp_path: Path, expected: str, options: tuple[str, ...]
) -> None:
    """After a load that a signal ends, the command reports the rows it kept, and its exit code is not 0."""
    pipe = tmp_path / "endless.jsonl"
    os.mkfifo(pipe)
    command = [
        sys.executable,
        "-m",
        "helicone_sessions",
        "serve",
        "--port",
        "0",
        "--data",
        str(pipe),
        *options,
    ]
    with (
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path
        ) as process,
        # It opens once the other end reads: the load has begun.
        pipe.open("w") as endless,
    ):
        endless.write(json.dumps(ROW) + "\n")
        endless.flush()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert 128 + signal.SIGTERM == process.returncode
    assert f"stopped during the load: {expected}" in said


@needs_engine
def test_serve_on_a_port_that_is_taken(run: Run) -> None:
    """Where the port is taken, the command says so and ends with code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(None, "serve", "--port", str(port))
    assert 2 == done.returncode
    assert f"--port {port} of 127.0.0.1 is taken" in done.stderr


@needs_engine
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.json", '{"a": 1}\n{"a": 2}', "A file with one row per line is named .jsonl"),
        ("rows.csv", "request_created_at;cost\n2026-11-01;1", "must have commas between the fields, got ';'"),
    ],
)
def test_a_file_of_another_form_is_named(
    run: Run, tmp_path: Path, name: str, text: str, message: str
) -> None:
    """The error suggests the likely meaning of such a file."""
    file = tmp_path / name
    file.write_text(text)
    done = run(None, "serve", "--port", "0", "--data", str(file))
    assert (2, True) == (done.returncode, message in done.stderr)


@needs_engine
@needs_signals
def test_a_server_without_requests_says_how_they_come_in(tmp_path: Path) -> None:
    """A file without a row is no error, and is not served in silence either."""
    file = tmp_path / "empty.jsonl"
    file.touch()
    with Serving(("--data", str(file))) as serving:
        serving.end(signal.SIGTERM)
    assert f"every answer will be empty: {file} has no rows" in serving.said
