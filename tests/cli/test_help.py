"""The help of the command line."""

import re
import shlex
from pathlib import Path

import pytest

from helicone_sessions.testing import FakeHelicone
from tests.cli.conftest import Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


@pytest.mark.parametrize("command", ["demo", "metrics", "sessions", "filter", "serve"])
def test_each_help_fits_a_terminal_and_says_what_to_type(run: Run, command: str) -> None:
    """In 80 columns, with examples that are not broken, the exit codes, and the page of this version."""
    done = run(None, command, "--help", COLUMNS="80")

    assert 0 == done.returncode
    assert 80 >= max(map(len, done.stdout.splitlines()))
    assert re.search(rf"^ helicone-sessions {command}\b", done.stdout, re.MULTILINE)
    assert not re.search(r"default:\s+(None|False|\"\")", done.stdout)
    assert "Exit codes: 0 done" in done.stdout
    [page] = re.findall(r"Documentation: https://\S+/en/v0\.1\.0/(\S+)\.html", done.stdout)
    assert (Path(__file__).parents[2] / "docs" / f"{page}.md").is_file()


@pytest.mark.parametrize("command", ["metrics", "filter"])
def test_the_examples_of_the_help_work(run: Run, service: FakeHelicone, command: str) -> None:
    """Each line of them, as a shell would read it."""
    shown = run(None, command, "--help", COLUMNS="80").stdout
    examples = re.findall(r"^ helicone-sessions (.*?)(?: > \S+\.html)? *$", shown, re.MULTILINE)
    assert 4 <= len(examples)
    for example in examples:
        done = run(service, *shlex.split(example))
        assert 0 == done.returncode, (example, done.stderr)


def test_the_overview_says_what_each_command_does(run: Run) -> None:
    """And what to type first."""
    done = run(None, "--help")

    assert 0 == done.returncode
    for name, does in {
        "demo": "Show session metrics",
        "metrics": "Show the metrics",
        "filter": "Show the JSON of a filter",
        "serve": "Answer queries",
        "install-completion": "Install shell",
    }.items():
        assert re.search(rf"^│ {name} +{does}", done.stdout, re.MULTILINE)
    assert "helicone-sessions demo shows" in done.stdout
