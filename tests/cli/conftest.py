"""Commands in this process: without a process for each test they take milliseconds."""

import datetime as dt
import os
import sys
import warnings
from collections.abc import Callable, Iterator

import attrs
import pytest

from helicone_sessions.testing import FakeHelicone, metrics, request, session

KEY = "sk-helicone-of-the-command-line"
NOW = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


@attrs.frozen
class Done:
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a command in this process; its output never shows the key."""
    pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
    pytest.importorskip("rich", reason="the extra `cli` is not installed")
    from helicone_sessions.cli import main

    def run(service: FakeHelicone | None, *arguments: str, **environment: str) -> Done:
        where = {} if service is None else {"HELICONE_API_KEY": KEY, "HELICONE_BASE_URL": service.url}
        for name in ("HELICONE_API_KEY", "HELICONE_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"COLUMNS": "100", **where, **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["helicone-sessions", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        shown = capsys.readouterr()
        assert KEY not in shown.out + shown.err
        assert isinstance(code, int)
        return Done(code, shown.out, shown.err)

    # `main` changes both for the rest of its process.
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    mask = os.umask(0o077)
    os.umask(mask)
    yield run
    os.umask(mask)


@pytest.fixture
def service() -> Iterator[FakeHelicone]:
    """A service with 30 sessions and 3 requests."""
    with FakeHelicone(api_key=KEY) as server:
        server.otherwise(metrics(cost=0.25, duration=90.0, count=3.0, sessions=12))
        server.stored_requests = [
            request(model=model, created_at=NOW) for model in ("gpt-4o", "o3", "gpt-4o")
        ]
        server.sessions = [session(str(n), total_cost=n, created_at=NOW) for n in range(1, 31)]
        yield server
