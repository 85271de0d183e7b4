"""A store of an older layout is refused, and rebuilt by a command."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions import ConfigurationError, F, HeliconeClient
from helicone_sessions.cli.rebuild import rebuild
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers.chdb import ChdbDriver

pytest.importorskip("chdb", reason="the extra `local` is not installed")

ORGANIZATION = str(UUID(int=1))
# As layout 2 had it: fewer columns, and none for hashes and keys.
REQUESTS = """(
  request_id UUID, organization_id UUID, request_created_at DateTime64(3, 'UTC'), latency Nullable(Int64),
  cost UInt64, model LowCardinality(String), properties Map(LowCardinality(String), String), version UInt64,
  session_id String MATERIALIZED properties['Helicone-Session-Id']
)"""
TAGS = """(
  organization_id UUID, entity_type LowCardinality(String), entity_id String, tag String,
  created_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(created_at) ORDER BY (organization_id, entity_type, entity_id, tag)"""


def row(number: int, session: str, *, model: str = "a") -> dict[str, Any]:
    """A request; its number is its version."""
    return {
        "request_id": str(UUID(int=number)),
        "organization_id": ORGANIZATION,
        "request_created_at": f"2026-{number:02}-01 00:00:00.123",
        "latency": number,
        "cost": number * 10**9,
        "model": model,
        "properties": {"Helicone-Session-Id": session, "a'b\\": "😀"},
        "version": number,
    }


async def make_old_store(path: Path, layout: str) -> None:
    """Make a store of seven requests, of which one is deleted, and of one more in a staging table."""
    driver = ChdbDriver(path)
    await driver.open()
    mark = f" COMMENT '{layout}'"
    blocks = "SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1"
    engine = "ReplacingMergeTree(version) PARTITION BY toYYYYMM(request_created_at) ORDER BY request_id"
    for statement in (
        "CREATE DATABASE helicone_sessions",
        f"CREATE TABLE helicone_sessions.request_response_rmt {REQUESTS} ENGINE = {engine} {blocks} {mark}",
        f"CREATE TABLE helicone_sessions.incoming_requests {REQUESTS} ENGINE = MergeTree ORDER BY version"
        + mark,
        f"CREATE TABLE helicone_sessions.tags {TAGS} {mark}",
    ):
        await driver.execute(statement)
    rows = [row(number, f"s{number % 3}") for number in range(1, 8)]
    tag = {"organization_id": ORGANIZATION, "entity_type": "session", "entity_id": "s1", "tag": "vip"}
    for table, lines in (
        ("request_response_rmt", rows),
        ("incoming_requests", [row(8, "s2", model="b")]),
        ("tags", [tag]),
    ):
        await driver.insert(f"helicone_sessions.{table}", "\n".join(map(json.dumps, lines)).encode())
    await driver.execute("DELETE FROM helicone_sessions.request_response_rmt WHERE version = 3")
    await driver.aclose()


async def counts(path: Path, *filters: Any) -> list[float | None]:
    """The requests per session under each filter."""
    async with (
        LocalServer(path=path, accept_loss=True) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        found = [await client.get_metrics(filter_) for filter_ in filters]
        return [metrics.average.session_count for metrics in found]


def test_an_older_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the command, which keeps all requests and tags, and no deleted one."""
    path = tmp_path / "my store"
    asyncio.run(make_old_store(path, "helicone-sessions, layout 2"))
    with pytest.raises(ConfigurationError, match=rf"layout 2; .*helicone-sessions rebuild --path '{path}'"):
        asyncio.run(counts(path))
    rebuild(path=path)
    assert "6 requests" in capsys.readouterr().out
    expected = asyncio.run(
        counts(
            path,
            None,
            F.session_tag == "vip",
            F.model == "b",
            F.latency == 3,
            F.properties["a'b\\"] == "😀",
        )
    )
    assert expected == [7 / 3, 3, 1, None, 7 / 3]


def test_rebuild_again(tmp_path: Path) -> None:
    """A rebuild that was interrupted can be repeated, and so can a complete one."""
    asyncio.run(make_old_store(tmp_path, "helicone-sessions, layout 1"))

    async def interrupt() -> None:
        driver = ChdbDriver(tmp_path)
        await driver.open()
        await driver.execute("CREATE DATABASE helicone_sessions_rebuilt")
        await driver.execute(
            "CREATE TABLE helicone_sessions_rebuilt.tags ENGINE = Log AS SELECT 1 AS unfinished"
        )
        await driver.aclose()

    asyncio.run(interrupt())
    rebuild(path=tmp_path)
    rebuild(path=tmp_path)
    assert asyncio.run(counts(tmp_path, None)) == [7 / 3]


@pytest.mark.parametrize("mark", ["helicone-sessions, layout 999", "", "a table of somebody else"])
def test_an_unknown_layout(tmp_path: Path, mark: str) -> None:
    """Tables of a newer layout and tables of others are refused, and the command leaves them alone."""
    asyncio.run(make_old_store(tmp_path, mark))
    with pytest.raises(ConfigurationError, match=r"newer|unknown layout"):
        asyncio.run(counts(tmp_path))
    with pytest.raises(ConfigurationError, match="unknown layout"):
        rebuild(path=tmp_path)


def test_no_store(tmp_path: Path) -> None:
    """A path without a store is named."""
    with pytest.raises(ConfigurationError, match=r"must be the directory of a store, got .*nowhere"):
        rebuild(path=tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="holds no store"):
        rebuild(path=tmp_path)
