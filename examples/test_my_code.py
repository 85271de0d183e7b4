"""Test code that uses the client: `alert.py`, in the same directory.

    python -m pip install pytest ".[local]"  # in a clone of helicone-sessions
    pytest test_my_code.py

The fixture `helicone_server` comes with the package. It is a server with
programmable responses, and sets HELICONE_API_KEY and HELICONE_BASE_URL, so the
code runs unchanged. Its clock is virtual. For tests about figures, the embedded
engine computes them from your rows.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import alert
import pytest

from helicone_sessions import SessionMetricsQuery
from helicone_sessions.local import LocalServer
from helicone_sessions.testing import (
    FakeHelicone,
    failure,
    gateway_page,
    metrics,
)


def is_of_an_hour(query: SessionMetricsQuery) -> bool:
    """Whether it is the query of the last hour."""
    time = query.time_filter
    return time is not None and time.length < timedelta(hours=2)


def test_a_costly_hour_is_an_alarm(
    helicone_server: FakeHelicone,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sessions that cost twice as much as the day before cause exit code 1."""
    helicone_server.answers(is_of_an_hour, metrics(cost=0.5, duration=10))
    helicone_server.otherwise(metrics(cost=0.25, duration=10))
    monkeypatch.setattr("sys.argv", ["alert.py"])

    assert alert.main() == 1
    said = capsys.readouterr().out
    assert "dollars a session, mean: 0.5, the day before 0.25 - ALARM" in said


def test_a_transient_failure_is_no_alarm(
    helicone_server: FakeHelicone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway's HTML page is retried."""
    helicone_server.will_answer(gateway_page(502))
    monkeypatch.setattr("sys.argv", ["alert.py"])

    assert alert.main() == 0
    assert len(helicone_server.requests) == 3


def test_a_failed_query_is_reported(
    helicone_server: FakeHelicone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed query causes exit code 3."""
    helicone_server.otherwise(failure("Code: 43. Illegal type of argument"))
    monkeypatch.setattr("sys.argv", ["alert.py"])

    assert alert.main() == 3


def test_the_figures_of_known_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour and the day before each include their own requests only."""
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    late, early = now - timedelta(minutes=30), now - timedelta(hours=3)
    rows = [
        {"request_created_at": late, "session_id": "a", "cost": 0.75},
        {"request_created_at": late, "session_id": "a", "cost": 0.25},
        {"request_created_at": early, "session_id": "b", "cost": 0.5},
    ]

    async def asked() -> tuple[float | None, ...]:
        async with LocalServer(rows) as server:
            monkeypatch.setenv("HELICONE_API_KEY", server.api_key)
            monkeypatch.setenv("HELICONE_BASE_URL", server.url)
            found = await alert.ask(now)
        return tuple(
            found[name].average.session_cost for name in ("hour", "day")
        )

    assert asyncio.run(asked()) == (1.0, 0.5)
