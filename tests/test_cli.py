"""The command line."""

import asyncio
import contextlib
import io
import re
import subprocess
import sys

import pytest

from helicone_sessions import cli

pytest.importorskip("cyclopts")
pytest.importorskip("rich")


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "helicone_sessions", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "", "COLUMNS": "100", **(environment or {})},
    )


def test_demo_shows_models_days_and_histograms() -> None:
    """The demo ends well with a row for each day, a column for each model and the three histograms."""
    pytest.importorskip("chdb")
    done = run("demo", "--days", "5")
    assert (0, 5) == (done.returncode, sum(line.strip()[:3] in DAYS for line in done.stdout.splitlines()))
    for text in ("claude-", "Dearest model: claude-opus-4", "Requests per session", "Dollars per session"):
        assert text in done.stdout
    assert "embedded engine" in done.stderr
    assert done.stdout.rstrip().endswith("asyncio.run(main())")


DAYS = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}


def test_the_ten_lines_run() -> None:
    """The lines of Python that the demo ends with give the figures of its table."""
    pytest.importorskip("chdb")
    from helicone_sessions.report.console import number

    shown = run("demo").stdout
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(cli.TEN_LINES, "ten lines", "exec"), {})  # noqa: S102 - they are the subject
    lines = printed.getvalue().splitlines()
    assert 60 == len(lines)
    for line in lines:
        day, model, cost = re.fullmatch(r"(\w+ \d+ \w+) (\S+) (\S+)", line).groups()
        row = next(row.split() for row in shown.splitlines() if row.strip().startswith(day))
        assert number(float(cost), "dollars") == row[3 + cli.MODELS.index(model)]
    asyncio.set_event_loop(None)


def test_live_without_a_key_says_what_to_set() -> None:
    """Asking the real service without a key ends with code 2 and names the variable."""
    done = run("demo", "--live")
    assert (2, "") == (done.returncode, done.stdout)
    assert "HELICONE_API_KEY" in done.stderr


def test_live_asks_the_service_that_the_environment_names() -> None:
    """With --live the demo asks at HELICONE_BASE_URL, and a failure ends with code 1."""
    done = run(
        "demo",
        "--live",
        "--days",
        "1",
        "--model",
        "m",
        environment={"HELICONE_API_KEY": "sk-secret-0123", "HELICONE_BASE_URL": "http://127.0.0.1:9"},
    )
    assert 1 == done.returncode
    assert "http://127.0.0.1:9 failed" in done.stderr
    assert "sk-secret" not in done.stderr + done.stdout


def test_days_below_one_are_refused() -> None:
    """A demo of no days ends with code 2."""
    assert 2 == run("demo", "--days", "0").returncode


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
