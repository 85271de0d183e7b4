"""The command ``sync``."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import HeliconeClient
from helicone_sessions.clock import replaced
from helicone_sessions.local import LocalServer
from helicone_sessions.testing import FakeHelicone, Reply, VirtualClock, gateway_page, request
from tests.cli.conftest import Run

pytest.importorskip("cyclopts")
pytest.importorskip("rich")
pytest.importorskip("chdb", reason="the extra `local` is not installed")

HOUR = timedelta(hours=1)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="processes are not sent signals there")


@pytest.fixture
def fake() -> Iterator[FakeHelicone]:
    """A service with thirty requests, one each hour up to now."""
    now = datetime.now(UTC)
    with FakeHelicone() as server:
        server.stored_requests = [request(created_at=now - HOUR * (number + 0.5)) for number in range(30)]
        yield server


def start(fake: FakeHelicone, *arguments: str, api_key: str = "") -> subprocess.Popen[str]:
    """The command in its own process."""
    return subprocess.Popen(
        [sys.executable, "-m", "helicone_sessions", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "", "HELICONE_API_KEY": api_key or fake.api_key, "HELICONE_BASE_URL": fake.url},
    )


def command(fake: FakeHelicone, *arguments: str) -> tuple[str, str, int]:
    """The output, the errors and the exit code of the command."""
    with start(fake, *arguments) as process:
        out, error = process.communicate(timeout=120)
    return out, error, process.returncode


def test_sync_fills_a_store_that_metrics_reads(fake: FakeHelicone, tmp_path: Path) -> None:
    """The first sync estimates and copies, the next one reads the last hour, and metrics need no account."""
    fake.limit(requests=1000, per=300)
    path = str(tmp_path / "helicone-data")
    out, error, code = command(fake, "sync", "--path", path)
    assert code == 0, error
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ 30 new requests, 0 replaced\n", out)
    assert "30 requests to copy in about 30 queries; the account's limit is 1,000 in 300 s\n" in error
    assert f"query it with: helicone-sessions metrics --path {path}" in error

    out, error, code = command(fake, "sync", "--path", path, "--since", "90d")
    assert (code, out.split(" ", 1)[1]) == (0, "0 new requests, 1 replaced\n")

    before = len(fake.requests)
    out, error, code = command(fake, "metrics", "--path", path, "--last", "7d", "--output", "json")
    assert code == 0, error
    assert '"average": 30.0' in out
    assert len(fake.requests) == before


@needs_signals
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_every_runs_until_a_signal(fake: FakeHelicone, tmp_path: Path, how: signal.Signals) -> None:
    """With --every the command reports each round in a line, and a signal ends it well."""
    with start(fake, "sync", "--path", str(tmp_path), "--every", "15m") as process:
        assert process.stdout is not None
        assert "30 new requests" in process.stdout.readline()
        process.send_signal(how)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert error.endswith("helicone-sessions: stopped; the next sync continues from here\n")


@needs_signals
def test_an_interrupted_sync_continues(fake: FakeHelicone, tmp_path: Path) -> None:
    """A signal during a sync ends it with the shell's code, and the next sync completes it."""
    with fake.hold(), start(fake, "sync", "--path", str(tmp_path)) as process:
        fake.wait_for_requests(1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in error
    out, _, code = command(fake, "sync", "--path", str(tmp_path))
    assert (code, "30 new requests" in out) == (0, True)


@needs_signals
async def test_serve_keeps_its_store_current(fake: FakeHelicone, tmp_path: Path) -> None:
    """A server with --sync-every answers from the account; who wants its store learns its address."""
    path = str(tmp_path)
    with start(fake, "serve", "--path", path, "--port", "0", "--sync-every", "15m") as process:
        assert process.stderr is not None
        said = ""
        while "new requests" not in said:
            said += process.stderr.readline()
        url, key = re.findall(r"export HELICONE_BASE_URL=(\S+) HELICONE_API_KEY=(\S+)", said)[0]
        async with HeliconeClient(key, base_url=url) as client:
            assert await client.count_requests() == 30

        for name in ("sync", "metrics"):
            out, error, code = await asyncio.to_thread(command, fake, name, "--path", path)
            assert (out, code) == ("", 2)
            assert f"is open in another process ({process.pid}), a server at {url}. " in error
            helps = {
                "sync": "serve --sync-every 15m",
                "metrics": f"set HELICONE_BASE_URL={url} and HELICONE_API_KEY to its key",
            }
            assert helps[name] in error
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


@needs_signals
def test_serve_ends_if_it_cannot_sync(fake: FakeHelicone, tmp_path: Path) -> None:
    """A key that the account rejects ends the server, with the reason."""
    command = ("serve", "--path", str(tmp_path), "--port", "0", "--sync-every", "15m")
    with start(fake, *command, api_key="sk-another") as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "HELICONE_API_KEY" in error


def test_a_server_in_memory_does_not_sync(run: Run) -> None:
    """--sync-every needs a directory."""
    done = run(None, "serve", "--sync-every", "15m")
    assert done.returncode == 2
    assert "--sync-every needs a store to sync into. Add --path helicone-data" in done.stderr


@pytest.fixture
async def in_loop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHelicone]:
    """A service in the loop of the test, which the environment names."""
    async with FakeHelicone() as server:
        monkeypatch.setenv("HELICONE_API_KEY", server.api_key)
        monkeypatch.setenv("HELICONE_BASE_URL", server.url)
        yield server


async def test_a_round_that_fails_is_repeated(
    in_loop: FakeHelicone, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A failure of the service in a later round is a line, and the rounds go on."""
    from helicone_sessions.cli.sync import Rounds

    async def fails_twice(_received: Any) -> Any:
        pages.append(1)
        return gateway_page(503) if 10 < len(pages) <= 30 else Reply(200, {"data": [], "error": None})

    pages: list[int] = []
    in_loop.otherwise(fails_twice)
    with replaced(VirtualClock()):
        rounds = Rounds(tmp_path, every=timedelta(minutes=15))
        running = asyncio.create_task(rounds.run())
        await in_loop.arrived(45)
        running.cancel()
        await asyncio.wait({running})
    shown = capfd.readouterr()
    assert "the next round tries again" in shown.err
    assert shown.out.count("0 new requests") >= 2


async def test_a_wrong_key_ends_the_rounds(in_loop: FakeHelicone, tmp_path: Path) -> None:
    """A key that is rejected in a later round ends the command."""
    from helicone_sessions import AuthenticationError
    from helicone_sessions.cli.sync import Rounds

    async def revoke(_received: Any) -> Any:
        in_loop.api_key = "sk-another"
        return Reply(200, {"data": [], "error": None})

    in_loop.otherwise(revoke)
    with replaced(VirtualClock()), pytest.raises(AuthenticationError):
        await Rounds(tmp_path, "1d", every=timedelta(minutes=15)).run()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--since", "nonsense"], "--since must be a date"),
        (["--until", "7d"], "--until must be a date"),
        (["--every", "soon"], "--every must be a length"),
        (["--every", "5m", "--until", "2026-11-01"], "--every cannot be combined with --until"),
        (["--organization", "acme"], "--organization must be a UUID"),
        (["--since", "2999-01-01"], "--since must be before now"),
    ],
)
def test_errors_name_options(
    run: Run, service: FakeHelicone, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    """A wrong option is named as it was typed."""
    done = run(service, "sync", "--path", str(tmp_path), *arguments)
    assert (done.stdout, done.returncode) == ("", 2)
    assert f"helicone-sessions: {problem}" in done.stderr


async def test_two_accounts_in_one_store(tmp_path: Path, fake: FakeHelicone) -> None:
    """With --organization each account has its own requests in the store."""
    ids = [f"00000000-0000-4000-8000-00000000000{number}" for number in (7, 8)]
    for organization in ids:
        fake.stored_requests = fake.stored_requests[:-1]
        done = await asyncio.to_thread(
            command, fake, "sync", "--path", str(tmp_path), "--organization", organization
        )
        assert done[2] == 0, done[1]
    keys = dict(zip(("sk-seven", "sk-eight"), ids, strict=True))
    async with LocalServer(path=tmp_path, api_key=keys) as server:
        for key, count in (("sk-seven", 29), ("sk-eight", 28)):
            async with HeliconeClient(key, base_url=server.url) as client:
                assert await client.count_requests() == count
