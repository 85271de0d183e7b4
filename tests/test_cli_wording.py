"""What the package says, in the words of the command: each translation still meets what it translates."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
import pytest_asyncio

from helicone_sessions import HeliconeClient, HeliconeError, TimeFilter
from helicone_sessions.cli.wording import ADVICE, ARGUMENTS, in_words_of_the_command
from helicone_sessions.local import LocalServer
from helicone_sessions.local.storage.table import create_statements
from tests.local.clickhouse_server import ClickHouseServer, execute

OTHERS: Final = "192.0.2.1"
KEYS: Final = {"sk-a": UUID(int=1), "sk-b": UUID(int=2)}
ROW: Final = {"request_created_at": "2026-11-01T12:00:00Z"}
# What of Python has no place in front of a command line.
OF_PYTHON: Final = re.compile(r"\b[a-z_]+=|\b(api_key|base_url|organization_id|rate_limit)\b|\{")


def refused(make: Callable[..., object], **options: Any) -> HeliconeError:
    with pytest.raises(HeliconeError) as caught:
        make(**options)
    return caught.value


async def refused_start(**options: Any) -> HeliconeError:
    with pytest.raises(HeliconeError) as caught:
        await LocalServer(**options).start()
    return caught.value


def of_arguments() -> Iterator[HeliconeError]:
    """What is refused before anything begins."""
    yield refused(HeliconeClient)
    yield refused(HeliconeClient, api_key="")
    yield refused(HeliconeClient, api_key="two words")
    yield refused(HeliconeClient, api_key="sk-a", base_url="helicone")
    yield refused(HeliconeClient, api_key="sk-a", base_url="http://sk-a@127.0.0.1:9")
    yield refused(HeliconeClient, api_key="sk-a", timeout=0)
    yield refused(HeliconeClient, api_key="sk-a", max_concurrency=0)
    yield refused(LocalServer, host=OTHERS)
    yield refused(LocalServer, host=5)
    yield refused(LocalServer, port=-1)
    yield refused(LocalServer, path="")
    yield refused(LocalServer, rejects="")
    yield refused(LocalServer, rate_limit=0)
    yield refused(LocalServer, rate_limit_window=0)
    yield refused(LocalServer, api_key="two words")
    yield refused(LocalServer, organization_id="mine")
    yield refused(LocalServer, clickhouse="http://127.0.0.1:9/", path="folder")
    yield refused(TimeFilter.last(days=1).split, days=1, time_zone="Mars/Olympus")


async def of_starts(folder: Path) -> AsyncIterator[HeliconeError]:
    """What is refused when a server starts."""
    yield await refused_start(data=[{}])
    yield await refused_start(host=OTHERS, api_key="sk-a")
    rows = [{**ROW, "organization_id": str(each)} for each in KEYS.values()]
    async with LocalServer(rows, path=folder, api_key=KEYS):
        pass
    yield await refused_start(path=folder)
    async with ClickHouseServer() as server:
        for statement in create_statements("empty"):
            await execute(server.url(), statement)
        try:
            yield await refused_start(clickhouse=server.url(database="empty"))
        finally:
            await execute(server.url(), "DROP DATABASE empty")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def errors(tmp_path_factory: pytest.TempPathFactory) -> list[HeliconeError]:
    """What the package says of mistakes that people make with the command."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("HELICONE_API_KEY", "HELICONE_BASE_URL"):
            patched.delenv(name, raising=False)
        found = [*of_arguments()]
    return found + [error async for error in of_starts(tmp_path_factory.mktemp("store") / "of-two")]


def parts_of(error: HeliconeError) -> list[str]:
    return [str(error), *getattr(error, "__notes__", ())]


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in ADVICE], ids=lambda pattern: pattern.pattern)
def test_each_advice_is_one_that_the_package_gives(
    errors: list[HeliconeError], pattern: re.Pattern[str]
) -> None:
    """What is translated is said by an error, once the translations before it were made."""
    texts = [part for error in errors for part in parts_of(error)]
    for earlier, words in ADVICE:
        if earlier is pattern:
            break
        texts = [earlier.sub(words, text) for text in texts]
    assert [text for text in texts if pattern.search(text)]


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_each_argument_begins_an_error(errors: list[HeliconeError], argument: str) -> None:
    """An error that begins with an argument begins with the option or the variable here."""
    about = [error for error in errors if re.match(rf"{argument}\b", str(error))]
    assert [error for error in about if re.match("--|HELICONE_", in_words_of_the_command(error))]


def test_nothing_of_python_is_left(errors: list[HeliconeError]) -> None:
    """Who has a command line is told of options and variables, and of no argument."""
    assert {} == {
        found[0]: text for text in map(in_words_of_the_command, errors) if (found := OF_PYTHON.search(text))
    }
