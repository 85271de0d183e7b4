"""What the README shows."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SHOWN = [text for language, text in BLOCKS if language == "python"]


@pytest.fixture
async def environment() -> AsyncIterator[dict[str, str]]:
    """The variables that lead a client to an embedded engine."""
    pytest.importorskip("chdb")
    from helicone_sessions.local import LocalServer

    async with LocalServer(LocalServer.sample()) as server:
        yield {"HELICONE_API_KEY": server.api_key, "HELICONE_BASE_URL": server.url}


@pytest.mark.parametrize("code", SHOWN, ids=range(len(SHOWN)))
async def test_each_block_of_python_runs(code: str, environment: dict[str, str]) -> None:
    """Each block of Python in the README runs as it stands and prints figures."""
    import asyncio

    done = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=subprocess.PIPE, env={**os.environ, **environment}
    )
    printed, _ = await done.communicate()
    assert 0 == done.returncode
    assert re.search(rb"\d\.\d\d.* dollars a session", printed)


def test_the_readme_opens_with_the_two_commands() -> None:
    """The first two blocks are the command that shows the main job and the one that runs the tests."""
    assert [
        ("console", 'python -m pip install ".[local,cli]" && helicone-sessions demo\n'),
        ("console", "python -m pip install nox && nox\n"),
    ] == BLOCKS[:2]


def test_ci_runs_the_second_command() -> None:
    """What CI runs is what the README says."""
    script = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m pip install nox && nox" in script


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    """No link of the README to a file of the project is dead."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert [] == [link for link in links if not (README.parent / link).exists()]
