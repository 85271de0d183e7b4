"""The command `demo`."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from helicone_sessions.cli.demo import MODELS
from helicone_sessions.testing import FakeHelicone
from tests.cli.conftest import Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


def test_the_demo_fits_one_screen(run: Run) -> None:
    """The headline, averages, one histogram and the next command fit 24 lines of 80 characters."""
    pytest.importorskip("chdb")
    done = run(None, "demo", COLUMNS="80")
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]

    assert (0, True) == (done.returncode, done.stdout.startswith("Costliest model: claude-opus-4, $"))
    assert (True, True) == (len(lines) < 24, max(map(len, lines)) <= 80)
    for text in ("gpt-4o", "all sessions", "Dollars per session", "demo --full", "metrics --last 7d"):
        assert text in "\n".join(lines)


def test_the_full_demo_shows_days_and_histograms(run: Run) -> None:
    """It has a row for each day, a column for each model, and the three histograms."""
    pytest.importorskip("chdb")
    done = run(None, "demo", "--days", "5", "--full")

    assert (0, 5) == (done.returncode, sum(line.strip()[:3] in DAYS for line in done.stdout.splitlines()))
    for text in ("claude-", "support-chat", "Requests per session", "Dollars per session"):
        assert text in done.stdout
    assert "embedded engine" in done.stderr


DAYS = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}


def test_days_of_several_years_are_told_apart(run: Run, service: FakeHelicone) -> None:
    """Each day has a row, even if two years have the same weekday and date."""
    done = run(service, "demo", "--live", "--days", "2300", "--model", "m", "--full")
    rows = [" ".join(line.split()[:4]) for line in done.stdout.splitlines() if line.strip()[:3] in DAYS]
    days = {datetime.strptime(row, "%a %d %b %Y").replace(tzinfo=UTC) for row in rows}
    assert (2300, 2300) == (len(rows), len(days))
    assert timedelta(days=2299) == max(days) - min(days)
    assert f"Slowest day: {min(days):%a %d %b %Y}, " in done.stdout


def test_names_of_models_are_shown_as_they_are(run: Run, service: FakeHelicone) -> None:
    """The name of a model is never read as markup."""
    done = run(service, "demo", "--live", "--days", "1", "--model", "[/x]")
    assert (0, True) == (done.returncode, "Costliest model: [/x], " in done.stdout)


def test_the_program_of_the_demo_gives_its_figures(run: Run) -> None:
    """The program that --code shows prints the costs in the table of days."""
    pytest.importorskip("chdb")
    program = run(None, "demo", "--code").stdout
    shown = run(None, "demo", "--full", COLUMNS="200").stdout
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()

    assert 60 == len(lines)
    for line in lines:
        day, model, cost = re.fullmatch(r"(\w+ \d+ \w+) (\S+) (\S+)", line).groups()
        row = next(row.split() for row in shown.splitlines() if row.strip().startswith(day))
        assert float(row[3 + MODELS.index(model)].strip("$")) == pytest.approx(float(cost), abs=0.006)


def test_live_without_a_key_says_what_to_set(run: Run) -> None:
    """A demo of the real service without a key ends with code 2 and names the variable."""
    done = run(None, "demo", "--live")
    assert (2, "") == (done.returncode, done.stdout)
    assert "HELICONE_API_KEY" in done.stderr


def test_live_asks_the_service_that_the_environment_names(run: Run) -> None:
    """With --live the demo queries HELICONE_BASE_URL, and a failure ends with code 1."""
    options = ("--days", "1", "--model", "m")
    environment = {"HELICONE_API_KEY": "sk-secret-0123", "HELICONE_BASE_URL": "http://127.0.0.1:9"}
    done = run(None, "demo", "--live", *options, **environment)
    assert 1 == done.returncode
    assert "http://127.0.0.1:9 failed" in done.stderr
    assert "sk-secret" not in done.stderr + done.stdout


def test_days_below_one_are_refused(run: Run) -> None:
    """A demo of no days ends with code 2."""
    assert 2 == run(None, "demo", "--days", "0").returncode


@pytest.mark.parametrize("package", ["cyclopts", "rich"])
def test_without_the_extra_the_command_names_it(package: str) -> None:
    """Where the extra is not installed the command says how to install it."""
    code = f"import sys; sys.modules[{package!r}] = None; from helicone_sessions.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 2 == done.returncode
    assert 'python -m pip install "helicone-sessions[cli]"' in done.stderr


def test_the_demo_without_the_engine_names_its_extra() -> None:
    """Where the engine is not installed the demo says how to install it."""
    code = (
        "import sys; sys.modules['chdb'] = None; sys.argv[1:] = ['demo'];"
        " from helicone_sessions.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 2 == done.returncode
    assert 'python -m pip install "helicone-sessions[local]"' in done.stderr
