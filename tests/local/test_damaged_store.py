"""A store whose files are damaged: it opens with all of its rows, or it names the rows that are lost."""

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions import ConfigurationError, F, HeliconeClient
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.store_files import RECORD_FILE
from helicone_sessions.local.storage.table import OWN_DATABASE as DATABASE
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")

REQUESTS = 250
EACH = 50
FILTERS = (
    None,
    F.cost > 0.5,
    F.user_id.contains("u"),
    F.request_created_at > datetime(2026, 1, 1, tzinfo=UTC),
    F.session_tag == "vip",
)


def _rows(first: int, last: int) -> list[dict[str, Any]]:
    """Rows, fifty in each month."""
    return [
        {
            "request_id": UUID(int=number + 1),
            "request_created_at": datetime(2026, 4 + number // EACH, 1, tzinfo=UTC),
            "cost": 1,
            "user_id": f"u{number}",
            "session_id": f"s{number}",
            "session_tag": "vip",
        }
        for number in range(first, last)
    ]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("intact") / "store"

    async def fill() -> None:
        driver = ChdbDriver(path)
        await driver.open()
        store = Store(driver, DATABASE, directory=path)
        await store.open()
        # So that each load leaves separate parts.
        await driver.execute("SYSTEM STOP MERGES")
        for first in range(0, REQUESTS, EACH):
            await store.load(_rows(first, first + EACH))
        # At another time, so that no merge finds out by itself that they replace others.
        later = [row | {"request_created_at": datetime(2026, 12, 1, tzinfo=UTC)} for row in _rows(20, 30)]
        await store.load(later)
        await store.aclose()
        await driver.aclose()

    asyncio.run(fill())
    return path


@pytest.fixture
def store(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "store", symlinks=True))


async def _counts(path: Path, **options: Any) -> set[float]:
    """The numbers of requests that the store counts and that queries find, which should be one number."""
    async with (
        LocalServer(path=path, **options) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        found = [(await client.get_metrics(each)).session_count.total for each in FILTERS]
        return {float(await server.count()), *found}


@pytest.mark.once
@pytest.mark.parametrize("seed", range(repeats(50)))
@pytest.mark.promise(name="S12")
async def test_random_damage(store: Path, seed: int) -> None:
    """After any damage to any file the store has all of its rows, or an error names the directory."""
    _damage_some_file(store, seed)
    try:
        found = await _counts(store)
    except ConfigurationError as caught:
        error = caught
    else:
        assert {REQUESTS} == found
        return
    assert ("path", True) == (error.argument, str(store) in str(error.problem))
    if "does not start" not in str(error.problem):
        # The rest can be opened.
        assert max(await _counts(store, accept_loss=True)) <= REQUESTS


def _damage_some_file(store: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same damage at every run
    files = sorted(file for file in store.rglob("*") if file.is_file())
    file = chance.choice(files)
    match chance.choice(["truncate", "empty", "delete", "flip"]):
        case "truncate":
            os.truncate(file, file.stat().st_size // 2)
        case "empty":
            os.truncate(file, 0)
        case "delete":
            file.unlink()
        case "flip" if content := bytearray(file.read_bytes()):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            file.write_bytes(content)


def _part(store: Path, pattern: str) -> Path:
    return next(iter(store.glob(f"store/*/*/{pattern}")))


@pytest.mark.promise(name="S12")
async def test_lost_rows_are_counted_and_named(store: Path) -> None:
    """The error has the number of lost requests and their part, and only `accept_loss` opens the store."""
    os.truncate(_requests_part(store) / "data.bin", 10)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"50 of its 250 .*all_2_2_0.*accept_loss"):
            await _counts(store)
    assert {200.0} == await _counts(store, accept_loss=True)
    assert {200.0} == await _counts(store)


async def test_replaced_rows_that_are_there_again(store: Path) -> None:
    """If the deletion of replaced requests is lost, no query counts them twice."""
    _empty_patches(store)
    with pytest.raises(ConfigurationError, match="10 replaced requests have reappeared"):
        await _counts(store)
    assert {250.0} == await _counts(store, accept_loss=True)
    assert {250.0} == await _counts(store)


def _empty_patches(store: Path) -> None:
    """Empty a file of each part with deletions; some of them may be out of use."""
    patches = [*store.glob("store/*/*/patch-*/checksums.txt")]
    assert patches
    for patch in patches:
        os.truncate(patch, 0)


def _requests_part(store: Path) -> Path:
    """The part of the requests of the second load."""
    return next(iter(store.glob("store/*/*/all_2_2_0/skp_idx*"))).parent


def _remove_part(store: Path) -> None:
    shutil.rmtree(_requests_part(store))


def _remove_table(store: Path) -> None:
    _part(store, "request_response_rmt.sql").unlink()


def _remove_database(store: Path) -> None:
    (store / "metadata/helicone_sessions.sql").unlink()


def _remove_record(store: Path) -> None:
    (store / RECORD_FILE).unlink()


def _change_record(store: Path) -> None:
    record = store / RECORD_FILE
    record.write_bytes(record.read_bytes().replace(b"250", b"150"))


@pytest.mark.parametrize(
    ("damage", "loss", "left"),
    [
        (_remove_part, "50 of its 250 requests are missing", 200.0),
        (_remove_table, "the table request_response_rmt is missing", 0.0),
        (_remove_database, "the table request_response_rmt is missing", 0.0),
        (_remove_record, f"{RECORD_FILE}, the record of its rows, is missing", 250.0),
        (_change_record, f"{RECORD_FILE}, the record of its rows, cannot be read", 250.0),
    ],
)
async def test_missing_pieces(store: Path, damage: Callable[[Path], None], loss: str, left: float) -> None:
    """Whatever piece of a store is removed, the error names it, and the rest can be opened."""
    damage(store)
    with pytest.raises(ConfigurationError) as caught:
        await _counts(store)
    assert loss in str(caught.value)
    assert {left} == await _counts(store, accept_loss=True)
