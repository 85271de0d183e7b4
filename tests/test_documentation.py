"""Every block of code in the README and the documentation runs unchanged.

``nox -s docs`` runs the blocks of Sphinx (`testcode`, `doctest`, the notebook); the other blocks run here. A
block that is part of a program finds the public names, a `client` and some `queries`.
"""

import ast
import asyncio
import doctest
import gzip
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import attrs
import pytest
import pytest_asyncio

import helicone_sessions

pytestmark = pytest.mark.once

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "docs" / "llms.txt"])
# Blocks of Sphinx, of example programs and of nginx, and blocks without code.
ELSEWHERE: Final = re.compile(
    r"text|nginx|\{(testcode|testoutput|doctest|eval-rst|toctree|raw|table|note|image|figure|index)\}.*"
    r"|\{literalinclude\} \.\./\.\./examples/\w+\.py"
)
# Commands that do nothing here, because they install something or take too long.
COMMANDS: Final = f"""
set -euo pipefail
helicone-sessions() {{ "{sys.executable}" "{Path(__file__).with_name("documented_command.py")}" "$@"; }}
python() {{ [[ "$*" == "-m pip install "* ]] || "{sys.executable}" "$@"; }}
git() {{ [[ "$1" == clone ]] && mkdir -p "${{@: -1}}"; }}
nox() {{ :; }}
docker() {{ :; }}
uvx() {{ [[ "$1 $3" == "--from helicone-sessions" ]] && "${{@:3}}"; }}
"""
FILL: Final = """
import asyncio
from helicone_sessions.local import LocalServer

async def main():
    async with LocalServer(LocalServer.sample(), path="helicone-data"):
        pass

asyncio.run(main())
"""
PART: Final = str(Path(__file__).with_name("documented_part.py"))


# The address of a cluster in the pages.
CLUSTER: Final = "https://reader@clickhouse.example:8443/default"


@attrs.frozen
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[2].strip(), dedent(found[3]))
        for found in fences
    ]


BLOCKS: Final = [block for page in PAGES for block in blocks_of(page)]


def written_in(language: str) -> list[Any]:
    """The blocks of a language, without duplicates."""
    different = {block.text: block for block in reversed(BLOCKS) if block.language == language}
    return [pytest.param(block, id=str(block)) for block in reversed(different.values())]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def environment() -> AsyncIterator[dict[str, str]]:
    """Environment variables that connect a client to an embedded engine."""
    pytest.importorskip("chdb")
    from helicone_sessions.local import LocalServer

    # A fifth of the sample has sessions of every kind, and is copied in a fifth of the time.
    async with LocalServer([*LocalServer.sample()][::5]) as server:
        shown = {"HELICONE_API_KEY": server.api_key, "HELICONE_BASE_URL": server.url, "COLUMNS": "100"}
        yield os.environ | shown


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files that the pages mention."""
    row = json.dumps({"request_created_at": "2026-11-23T12:00:00Z", "cost": 0.5, "model": "gpt-4o"}) + "\n"
    for name in ("requests", "october"):
        (tmp_path / f"{name}.jsonl").write_text(row, encoding="utf-8")
    for name in ("requests", "november", "december"):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    return tmp_path


@pytest_asyncio.fixture(loop_scope="module")
async def cluster() -> AsyncIterator[str]:
    """The address of a ClickHouse server with the table from the documentation."""
    pytest.importorskip("chdb")
    from helicone_sessions.local.storage.fields import REQUEST_COLUMNS
    from tests.local.clickhouse_server import ClickHouseServer, execute

    (shown,) = (block.text for block in BLOCKS if block.text.startswith("CREATE TABLE"))
    columns = {**REQUEST_COLUMNS, "updated_at": "DateTime"}
    named = ",\n".join(f"{name} {stored}" for name, stored in columns.items())
    async with ClickHouseServer() as server:
        database = server.url(database="documented")
        await execute(server.url(), "CREATE DATABASE IF NOT EXISTS documented")
        await execute(database, shown.replace("  ... ", f"{named},", 1))
        one = "INSERT INTO request_response_rmt (organization_id) VALUES (generateUUIDv4())"
        await execute(database, one)
        yield database
        await execute(server.url(), "DROP DATABASE documented")


async def finished(*command: str, cwd: Path, env: dict[str, str]) -> str:
    """The output of a command, which must succeed."""
    run = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    printed, said = await run.communicate()
    assert 0 == run.returncode, said.decode()
    return printed.decode()


def waits_at_its_top_level(text: str) -> bool:
    """Whether a block is part of a program that already runs in a loop."""
    code = compile(text, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return bool(code.co_flags & inspect.CO_COROUTINE)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("block", written_in("python"))
async def test_each_block_of_python_runs(
    block: Block, environment: dict[str, str], cluster: str, directory: Path
) -> None:
    """Every Python block succeeds, prints figures where it should, and its tests pass."""
    if sys.version_info < (3, 14) and re.search(r'\bt"', block.text):
        pytest.skip("template strings come with Python 3.14")
    file = directory / "test_shown.py"
    file.write_text(block.text.replace(CLUSTER, cluster), encoding="utf-8")
    how = [PART] if waits_at_its_top_level(block.text) else []
    if re.search(r"^def test_", block.text, re.MULTILINE):
        how = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    printed = await finished(sys.executable, *how, file.name, cwd=directory, env=environment)
    says_so = "dollars a session" in block.text
    assert says_so == bool(re.search(r"\d\.\d\d.* dollars a session", printed))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("block", written_in("console"))
async def test_each_block_of_commands_runs(
    block: Block, environment: dict[str, str], cluster: str, directory: Path
) -> None:
    """Every command of the pages succeeds; commands that install something are skipped."""
    pytest.importorskip("cyclopts")
    shown = block.text.replace(CLUSTER, cluster).replace('"sk-helicone-…"', '"$HELICONE_API_KEY"')
    script = COMMANDS + shown.replace("=… ", "= ")
    await finished("bash", "-c", script, cwd=directory, env=environment)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A store with the sample."""
    pytest.importorskip("chdb")
    from helicone_sessions.local import Store

    directory = tmp_path_factory.mktemp("documented")
    # The engine of this process has the data of `environment`.
    await finished(sys.executable, "-c", FILL, cwd=directory, env=dict(os.environ))
    async with Store(directory / "helicone-data", unconfined=True) as opened:
        yield opened


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "block", [each for each in written_in("sql") if "FROM requests" in each.values[0].text]
)
async def test_each_select_finds_rows(block: Block, store: Any) -> None:
    """Every statement of the page on SQL runs unchanged and finds rows in the sample."""
    assert len(await store.sql(block.text))


@pytest.mark.parametrize("block", written_in("json"))
def test_each_block_of_json_is_json(block: Block) -> None:
    """Every JSON block is valid JSON."""
    json.loads(block.text)


@pytest.mark.parametrize("block", written_in("pycon"))
def test_each_session_of_the_interpreter_is_as_shown(block: Block) -> None:
    """Interpreter sessions print what the page shows, apart from line breaks."""
    space = {name: getattr(helicone_sessions, name) for name in helicone_sessions.__all__}
    shown = doctest.DocTestParser().get_doctest(block.text, space, str(block), str(block.page), block.line)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert (0, 1) == runner.run(shown)[:2]


def test_every_block_is_run_somewhere() -> None:
    """Every block has a language that some test runs."""
    here = {"python", "console", "json", "sql", "pycon"}
    others = [block for block in BLOCKS if block.language not in here]
    assert [] == [str(block) for block in others if not ELSEWHERE.fullmatch(block.language)]


def test_the_map_for_language_models_has_every_page() -> None:
    """llms.txt links to each page of the documentation and nothing else."""
    docs = ROOT / "docs"
    pages = {*docs.glob("**/*.md"), *docs.glob("how-to/*.ipynb")} - {docs / "index.md"}
    built = {
        page.relative_to(docs).with_suffix(".html").as_posix() for page in pages if "_build" not in page.parts
    }
    assert built == set(re.findall(r"\]\((.+?)\)", (docs / "llms.txt").read_text(encoding="utf-8")))
