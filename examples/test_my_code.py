"""Tests of code that uses the client; here that of `alert.py`, beside this file.

    python -m pip install pytest ".[local]"  # in a clone of helicone-sessions
    pytest test_my_code.py

The fixture `helicone_server` comes with the package. It is a server that answers what a
test tells it, and sets HELICONE_API_KEY and HELICONE_BASE_URL, so that the code runs as
it is. Waits take no time on its clock. Where a test is about figures, the embedded
engine works them out of rows that you write.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import alert
import pytest

from helicone_sessions import SessionMetricsQuery
from helicone_sessions.local import LocalServer
from helicone_sessions.testing import FakeHelicone, failure, gateway_page, metrics


def is_of_an_hour(query: SessionMetricsQuery) -> bool:
    """Which of the two queries of alert.py it is."""
    time = query.time_filter
    return time is not None and time.length < timedelta(hours=2)


def test_a_costly_hour_is_an_alarm(
    helicone_server: FakeHelicone,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sessions that cost twice as much as the day before end it with code 1."""
    helicone_server.answers(is_of_an_hour, metrics(cost=0.5, duration=10))
    helicone_server.otherwise(metrics(cost=0.25, duration=10))
    monkeypatch.setattr("sys.argv", ["alert.py"])

    assert alert.main() == 1
    said = capsys.readouterr().out
    assert "dollars a session, mean: 0.5, the day before 0.25 - ALARM" in said


def test_what_passes_is_no_alarm(
    helicone_server: FakeHelicone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway's page of HTML is asked again, and nobody is woken."""
    helicone_server.will_answer(gateway_page(502))
    monkeypatch.setattr("sys.argv", ["alert.py"])

    assert alert.main() == 0
    assert len(helicone_server.requests) == 3


def test_no_answer_is_not_known(
    helicone_server: FakeHelicone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that fails ends it with code 3."""
    helicone_server.otherwise(failure("Code: 43. Illegal type of argument"))
    monkeypatch.setattr("sys.argv", ["alert.py"])

    assert alert.main() == 3


def test_the_figures_of_known_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour and the day before are each of their own requests."""
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
        return tuple(found[name].average.session_cost for name in ("hour", "day"))

    assert asyncio.run(asked()) == (1.0, 0.5)
