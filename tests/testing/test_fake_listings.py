"""The fake service lists and counts the sessions and requests that a test stores."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientSession

from helicone_sessions import F, HeliconeClient, QueryFailed, TimeFilter
from helicone_sessions.testing import FakeHelicone, Fault, failure, gateway_page, request, session

WEEK = TimeFilter("2026-11-01", "2026-11-08", time_zone="UTC")


async def listed(fake: FakeHelicone, call: Callable[[HeliconeClient], Any]) -> Any:
    async with HeliconeClient(fake.api_key, base_url=fake.url, cautions="ignore") as client:
        return await call(client)


async def test_stored_requests_are_filtered() -> None:
    """The fake evaluates every kind of condition on its requests."""
    one = request("a", model="gpt-4o", cost=0.5, scores={"quality": "4"}, threat=True)
    other = request("b", model="o3_mini", cost=0.1, session_id=None, request_user_id=None)
    async with FakeHelicone() as fake:
        fake.stored_requests = [one, other]
        for condition, expected in [
            (F.model.contains("GPT"), 1),
            (F.model.like("o3\\_%"), 1),
            (F.model.not_contains("gpt"), 1),
            (F.cost >= 0.1, 2),
            (F.cost.between(0.2, 0.6), 1),
            (F.status == 200, 2),
            (F.latency > 800, 0),
            (F.properties["Helicone-Session-Id"] == "session-1", 1),
            (F.property_key == "Helicone-Session-Id", 1),
            (F.threat, 1),
            (F.cached, 0),
            (F.request_created_at >= one_second_after(one), 0),
            ((F.model == "gpt-4o") | (F.cost < 0.2), 2),
            (~(F.model == "gpt-4o"), 1),
        ]:
            assert await listed(fake, partial(HeliconeClient.count_requests, filter=condition)) == expected


def one_second_after(one: Any) -> datetime:
    return datetime.fromisoformat(one["request_created_at"]) + timedelta(seconds=1)


async def test_stored_sessions_are_listed_within_their_time() -> None:
    """A session is listed if the time filter overlaps it."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    async with FakeHelicone() as fake:
        fake.sessions = [
            session("before", created_at=start - timedelta(minutes=2), duration=60),
            session("across", created_at=start - timedelta(minutes=2), duration=600),
            session("inside", created_at=start + timedelta(days=1)),
            session("after", created_at=start + timedelta(days=8)),
        ]
        found = await listed(fake, lambda client: client.get_sessions(time_filter=WEEK))

    assert [one.session_id for one in found] == ["inside", "across"]


async def test_answers_and_faults_are_for_every_endpoint() -> None:
    """A programmed answer is given to the next request, whatever its endpoint."""
    async with FakeHelicone() as fake:
        fake.sessions = [session()]
        fake.will_answer(failure("no such table"), Fault.DROP, Fault.TRUNCATE, gateway_page(502))
        fake.answers(lambda query: getattr(query, "search", "") == "x", failure("no such session"))

        with pytest.raises(QueryFailed, match="no such table"):
            await listed(fake, lambda client: client.count_sessions(time_filter=WEEK))
        assert len(await listed(fake, lambda client: client.get_sessions(time_filter=WEEK))) == 1
        with pytest.raises(QueryFailed, match="no such session"):
            await listed(fake, lambda client: client.get_sessions(time_filter=WEEK, search="x"))

    assert {one.path for one in fake.requests} == {"/v1/session/count", "/v1/session/query"}


async def test_requests_beyond_the_largest_page_are_refused() -> None:
    """The service clamps pages of sessions, and rejects pages of requests, of more than 1,000 rows."""
    async with FakeHelicone() as fake, ClientSession() as http:
        body = {"filter": "all", "limit": 1001}
        headers = {"Authorization": f"Bearer {fake.api_key}"}
        async with http.post(f"{fake.url}/v1/request/query-clickhouse", json=body, headers=headers) as got:
            assert (got.status, await got.json()) == (500, {"data": None, "error": "invalid limit"})


def test_the_fixture_lists_sessions(helicone_server: FakeHelicone) -> None:
    """The fixture can be programmed with sessions and requests."""
    helicone_server.sessions = [session("a", total_cost=2.5)]
    helicone_server.stored_requests = [request()]

    async def totals() -> tuple[float | None, int]:
        async with HeliconeClient() as client:
            count = await client.count_sessions(time_filter=WEEK)
            return count.total_cost, await client.count_requests()

    assert asyncio.run(totals()) == (2.5, 1)
