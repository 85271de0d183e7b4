"""The README and the pages next to it."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_readme_opens_with_the_two_commands() -> None:
    """The first two blocks are the command of the demo and the command of the tests."""
    assert [
        ("console", 'python -m pip install ".[local,cli]" && helicone-sessions demo\n'),
        ("console", "python -m pip install nox && nox\n"),
    ] == BLOCKS[:2]


def test_ci_runs_the_second_command() -> None:
    """CI runs the command of the README."""
    script = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m pip install nox && nox" in script


@pytest.mark.parametrize("page", sorted(README.parent.glob("*.md")), ids=lambda page: page.name)
def test_every_link_of_a_paper_leads_to_a_file(page: Path) -> None:
    """Every link to a file of the project leads to an existing file."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [] == [link for link in links if not (page.parent / link).exists()]
