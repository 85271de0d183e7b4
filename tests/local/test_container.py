"""The commands of the Dockerfile; the image itself is built where docker is."""

import asyncio
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

pytestmark = pytest.mark.once

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text("utf-8")


def words_of(instruction: str) -> list[str]:
    """The words of a command in the Dockerfile."""
    (words,) = re.findall(rf"^ *{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    listed: list[str] = json.loads(words)
    return listed


async def test_the_health_check_passes_once_the_server_of_the_image_is_ready(tmp_path: Path) -> None:
    """It fails while nothing listens, and SIGTERM ends the server well."""
    port = unused_port()
    check = [word.replace(":8585/", f":{port}/") for word in words_of("CMD")]
    options = {"--host": "127.0.0.1", "--path": str(tmp_path)}
    entrypoint = words_of("ENTRYPOINT")
    serve = [options.get(before, word) for before, word in pairwise(entrypoint)]
    assert ["python", "helicone-sessions"] == [check[0], entrypoint[0]]
    environment = os.environ | {"HELICONE_SESSIONS_SERVER_KEY": "a-key-of-the-container"}

    assert 0 != (await finished(*check[1:])).returncode
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "helicone_sessions", *serve, "--port", str(port)),
        env=environment,
        stderr=subprocess.PIPE,
    )
    assert server.stderr is not None
    while b"ready at" not in (line := await server.stderr.readline()):
        assert line, "the server ended"
    checked = await finished(*check[1:])
    server.terminate()
    await server.communicate()

    assert (0, 0) == (checked.returncode, server.returncode)


async def finished(*arguments: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=subprocess.DEVNULL)
    await process.communicate()
    return process


def test_the_image_is_pinned_and_runs_without_root() -> None:
    """Each stage names one base by its hash, and the last user is not root."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert 1 == len(set(bases))
    assert re.fullmatch(r"python:3\.\d+-slim@sha256:[0-9a-f]{64}", bases[0])
    assert "10001" == re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)[-1]
