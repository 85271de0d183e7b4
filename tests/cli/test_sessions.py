"""The command `sessions`."""

import csv
import io
import json

import pytest

from helicone_sessions.testing import FakeHelicone, session
from tests.cli.conftest import NOW, Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


def test_the_most_expensive_sessions_come_first(run: Run, service: FakeHelicone) -> None:
    """With complete ids, the number of all, and their cost."""
    service.sessions = [session("an id " * 8 + str(n), total_cost=n, created_at=NOW) for n in range(1, 31)]
    done = run(service, "sessions", "--last", "1d", "--limit", "3", COLUMNS="80")
    text = " ".join(done.stdout.split())

    assert 0 == done.returncode
    assert text.index("$30.00") < text.index("$29.00") < text.index("$28.00")
    assert "$27.00" not in text
    assert "3 of 30 sessions, $87.00 in total" in text


def test_sessions_are_rows_for_programs(run: Run, service: FakeHelicone) -> None:
    """As JSON and as CSV, in the order that was chosen."""
    rows = json.loads(
        run(service, "sessions", "--last", "1d", "--sort", "total_cost", "--output", "json").stdout
    )
    lines = list(
        csv.DictReader(io.StringIO(run(service, "sessions", "--last", "1d", "--output", "csv").stdout))
    )

    assert [float(n) for n in range(1, 21)] == [row["total_cost"] for row in rows]
    assert (20, "30") == (len(lines), lines[0]["session_id"])


def test_no_session_says_what_to_change(run: Run, service: FakeHelicone) -> None:
    """In place of an empty table."""
    assert "Try a longer time range" in run(service, "sessions", "--last", "1m").stdout


@pytest.mark.parametrize("sort", ["cost", "-", "total_cost desc"])
def test_an_unknown_order_lists_the_known_ones(run: Run, service: FakeHelicone, sort: str) -> None:
    """Before anything is sent."""
    done = run(service, "sessions", "--sort", sort)

    assert (2, []) == (done.returncode, service.requests)
    assert "total_cost" in done.stderr


def test_control_characters_in_names_are_not_shown(run: Run, service: FakeHelicone) -> None:
    """A name from outside cannot change the terminal."""
    service.sessions = [session("a", "\x1b[31mred\x07", created_at=NOW)]

    assert "[31mred" in run(service, "sessions", "--last", "1d").stdout
    assert "\x1b[31m" not in run(service, "sessions", "--last", "1d").stdout
