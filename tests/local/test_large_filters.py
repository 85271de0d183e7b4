"""Large filters, up to the size that is refused with a clear message."""

import io
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from helicone_sessions import F, Filter, QueryFailed, any_of
from helicone_sessions.local import LocalServer

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

PATH = "/v1/session/metrics/query"
START = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = [{"request_created_at": START, "cost": cost, "session_id": str(cost)} for cost in (1, 2, 3)]


def mixed(count: int) -> Filter:
    """So many conditions on whole sessions, each beside one on requests; the two dearest sessions fit."""
    return any_of(*[(F.cost > 1.5) & (F.session_total_cost < 100 + number) for number in range(count)])


def alternating(levels: int) -> bytes:
    """A body whose filter is so many levels deep."""
    leaf = '{"request_response_rmt": {"status": {"lt": %d}}}'
    inner = "".join(
        f', "operator": "{("and", "or")[level % 2]}", "right": {leaf % level}}}' for level in range(levels)
    )
    filter_ = '{"left": ' * levels + leaf % levels + inner
    return f'{{"nameContains": "", "timezoneDifference": 0, "filter": {filter_}}}'.encode()


async def test_hundreds_of_pairs_are_answered(serve: Any) -> None:
    """Up to two hundred conditions on whole sessions may each have conditions on requests beside them."""
    async with serve(ROWS) as client:
        assert 2.5 == (await client.get_metrics(mixed(200))).average.session_cost


async def test_more_pairs_are_refused_at_once(serve: Any) -> None:
    """They would keep ClickHouse planning for minutes; the next query is answered."""
    async with serve(ROWS) as client:
        for _ in range(5):
            with pytest.raises(QueryFailed, match=r"more than 200 times.* split the query"):
                await client.get_metrics(mixed(2_500))
        assert 2.0 == (await client.get_metrics()).average.session_cost


async def test_thousands_of_conditions_on_sessions_are_answered(serve: Any) -> None:
    """Without conditions on requests beside them there may be thousands."""
    filter_ = any_of(*[F.session_total_cost == number for number in range(3, 2_003)])
    async with serve(ROWS) as client:
        assert 3.0 == (await client.get_metrics(filter_)).average.session_cost


@pytest.mark.parametrize(("status", "levels"), [(200, 400), (500, 600), (400, 10_000)])
async def test_how_deep_and_and_or_may_alternate(status: int, levels: int) -> None:
    """Hundreds of levels are answered; beyond, the failure says so in clear words."""
    async with (
        LocalServer(ROWS) as server,
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {server.api_key}"}) as session,
        session.post(PATH, data=io.BytesIO(alternating(levels))) as answer,
    ):
        body = await answer.json()
    assert status == answer.status
    said = {200: None, 500: "at most 500 are supported", 400: "nested too deeply"}[status]
    assert said is None or said in body["error"]
