"""The sample: the same at every call, and the story that it tells."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.local.storage.sample import BAD_DAY, DAYS

pytest.importorskip("chdb", reason="the extra `local` is not installed")

END = datetime(2026, 11, 1, tzinfo=UTC)
START = END - timedelta(days=DAYS)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """The sample up to `END`."""
    return list(LocalServer.sample(END))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(serve: Any) -> AsyncIterator[HeliconeClient]:
    """A client of a server that holds the sample."""
    async with serve(LocalServer.sample(END)) as client:
        yield client


def _names(rows: list[dict[str, Any]]) -> set[str]:
    return {row["properties"]["Helicone-Session-Name"] for row in rows}


def test_same_at_every_call(rows: list[dict[str, Any]]) -> None:
    """Two calls with the same end give the same rows."""
    assert rows == list(LocalServer.sample(END))


def test_end_moves_the_times_only(rows: list[dict[str, Any]]) -> None:
    """With another end the same requests are made at other times."""
    week = timedelta(days=7)
    moved = [
        row | {name: row[name] + week for name in ("request_created_at", "response_created_at")}
        for row in rows
    ]
    assert moved == list(LocalServer.sample(END + week))


def test_size(rows: list[dict[str, Any]]) -> None:
    """It is more than 10,000 requests, each with a different id."""
    assert len(rows) >= 10_000
    assert len(rows) == len({row["request_id"] for row in rows})


def test_thirty_days(rows: list[dict[str, Any]]) -> None:
    """Each of thirty days has requests, and no other day has."""
    days = {(row["request_created_at"] - START) // timedelta(days=1) for row in rows}
    assert set(range(30)) == days


def test_without_an_end_it_ends_now() -> None:
    """Without an end the thirty days end with the last midnight."""
    earliest = datetime.now(UTC) - timedelta(days=DAYS + 1)
    times = [row["request_created_at"] for row in LocalServer.sample()]
    assert earliest <= min(times) < earliest + timedelta(days=2)
    assert datetime.now(UTC) - timedelta(days=2) <= max(times) <= datetime.now(UTC)


def test_variety(rows: list[dict[str, Any]]) -> None:
    """Four models of two providers serve four kinds of sessions, all of them named."""
    assert 4 == len({row["model"] for row in rows})
    assert {"OPENAI", "ANTHROPIC"} == {row["provider"] for row in rows}
    assert {"support-chat", "summarise-page", "code-review", "research-agent"} == _names(rows)


def test_sessions_are_whole(rows: list[dict[str, Any]]) -> None:
    """A session is of one name, one model and one day."""
    sessions: dict[str, set[Any]] = {}
    for row in rows:
        properties, day = row["properties"], row["request_created_at"].date()
        kind = (properties["Helicone-Session-Name"], row["model"], day)
        sessions.setdefault(properties["Helicone-Session-Id"], set()).add(kind)
    assert {1} == set(map(len, sessions.values()))


async def _averages(client: HeliconeClient, queries: dict[Any, Any], name: str) -> list[tuple[float, Any]]:
    """The values and keys of the answers, the greatest first."""
    answers = await client.get_metrics_many(queries)
    return sorted(((getattr(answer.average, name), key) for key, answer in answers.items()), reverse=True)


@pytest.mark.asyncio(loop_scope="module")
async def test_one_model_is_dearest(client: HeliconeClient, rows: list[dict[str, Any]]) -> None:
    """A session with one of the models costs several times as much as with any other."""
    models = {row["model"] for row in rows}
    dearest, second, *_ = await _averages(client, {m: F.model == m for m in models}, "session_cost")
    assert "claude-opus-4" == dearest[1]
    assert dearest[0] > 4 * second[0]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["session_duration", "session_count"])
async def test_research_is_longest(client: HeliconeClient, rows: list[dict[str, Any]], name: str) -> None:
    """Research sessions take longer and more requests than the other kinds."""
    queries = {n: SessionMetricsQuery(name_contains=n) for n in _names(rows)}
    longest, second, *_ = await _averages(client, queries, name)
    assert "research-agent" == longest[1]
    assert longest[0] > 2 * second[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_bad_day_is_longest(client: HeliconeClient) -> None:
    """On the bad day sessions take longer than on any other day, and only then requests fail."""
    windows = TimeFilter(START - timedelta(milliseconds=1), END).split(days=1)
    days = {day: SessionMetricsQuery(time_filter=window) for day, window in enumerate(windows[:DAYS])}
    longest, second, *_ = await _averages(client, days, "session_duration")
    assert BAD_DAY == longest[1]
    assert longest[0] > 1.25 * second[0]
    failed = {
        day: SessionMetricsQuery(F.status >= 500, time_filter=query.time_filter)
        for day, query in days.items()
    }
    answers = await client.get_metrics_many(failed)
    assert [BAD_DAY] == [day for day, answer in answers.items() if answer.average.session_count]


@pytest.mark.asyncio(loop_scope="module")
async def test_columns_that_filters_ask_for(client: HeliconeClient) -> None:
    """Countries, users, plans, prompts, tags and feedback divide the sample."""
    asked = [
        F.country_code == "DE",
        F.user_id == "user-001",
        F.properties["plan"] == "enterprise",
        F.prompt_id == "code-review",
        F.session_tag == "priority",
        F.helicone_score_feedback.is_true(),
        F.helicone_score_feedback.is_false(),
        F.target_url.contains("anthropic"),
        F.time_to_first_token > 1000,
        F.total_tokens > 10_000,
    ]
    answers = await client.get_metrics_many(asked)
    every = await client.get_metrics()
    assert None not in [answer.average.session_count for answer in answers]
    assert all(answer != every for answer in answers)
