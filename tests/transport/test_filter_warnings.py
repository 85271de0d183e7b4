"""How the client says what the open-source server would read differently."""

import asyncio
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

from helicone_sessions import (
    ConfigurationError,
    F,
    Filter,
    FilterValueError,
    HeliconeClient,
    HeliconeError,
    HeliconeFilterWarning,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.messages.protocol import CONTRACT_HEADER
from helicone_sessions.testing import failure
from helicone_sessions.transport.warn import FilterWarnings
from tests.parts import parts

Make = Callable[..., HeliconeClient]
IGNORED = F.session_total_cost > 1


def said(caught: list[warnings.WarningMessage]) -> list[str]:
    """The first words of each warning."""
    return [str(warning.message).partition(":")[0] for warning in caught]


@pytest.fixture
def caught() -> Any:
    """The warnings of the test, as a program with Python's default filters would show them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        yield caught


async def test_a_warning_names_condition_reason_and_way_out(make_client: Make, caught: Any) -> None:
    """A query with a filter that the server would read differently is answered, with a warning."""
    await make_client().get_metrics(F.session_session_id == "x")
    (warning,) = caught
    assert warning.category is HeliconeFilterWarning
    assert (
        "F.session_session_id == 'x': the condition becomes true, because the metrics query leaves session"
        " conditions out; use F.session_id"
    ) == str(warning.message)


async def test_it_points_at_the_callers_line(make_client: Make, caught: Any) -> None:
    """The warning has the file and the line of the call."""
    await make_client().get_metrics(IGNORED)
    await make_client().get_metrics_many([IGNORED])
    async with make_client().stream_metrics({"a": IGNORED}) as outcomes:
        async for _ in outcomes:
            pass
    first = test_it_points_at_the_callers_line.__code__.co_firstlineno
    assert [(__file__, first + line) for line in (2, 3, 4)] == [(w.filename, w.lineno) for w in caught]


async def test_once_for_each_place(make_client: Make, caught: Any) -> None:
    """A place with many such queries gets one warning for each column; other places get their own."""
    client = make_client()
    for cost in range(5):
        await client.get_metrics(F.session_total_cost > cost)
    await client.get_metrics_many([F.session_total_cost > cost for cost in range(5)])
    await client.get_metrics_many([(F.cost > cost) & (F.node_id == "x") for cost in range(4)])
    assert [
        "F.session_total_cost > 0",
        "F.session_total_cost > 0",
        "F.node_id == 'x'",
        "F.cost > 3",
    ] == said(caught)


async def test_tasks_of_the_callers(make_client: Make, caught: Any) -> None:
    """Queries in tasks cause warnings at the lines that created them."""
    client = make_client()
    await asyncio.gather(*(client.get_metrics(IGNORED) for _ in range(3)))
    await asyncio.create_task(client.get_metrics(IGNORED))
    await asyncio.wait_for(client.get_metrics_many([IGNORED]), 5)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.get_metrics(IGNORED))
    first = test_tasks_of_the_callers.__code__.co_firstlineno
    assert [(__file__, first + line) for line in (3, 4, 5, 7)] == [(w.filename, w.lineno) for w in caught]


def test_methods_are_known_as_coroutine_functions() -> None:
    """A mock of the client has methods that can be awaited."""
    mock = create_autospec(HeliconeClient, instance=True)
    assert isinstance(mock.get_metrics, AsyncMock)
    assert isinstance(mock.get_metrics_many, AsyncMock)


async def test_a_failed_query_is_warned_about(make_client: Make, service: Any, caught: Any) -> None:
    """If the query fails, the warning comes before the error, because it may explain it."""
    service.will_answer(failure("Unknown identifier"))
    with pytest.raises(HeliconeError, match="Unknown identifier"):
        await make_client().get_metrics(F.search_properties["k"] == "x")
    assert ["F.search_properties['k'] == 'x'"] == said(caught)


async def test_a_server_that_follows_the_contract(make_client: Make, service: Any, caught: Any) -> None:
    """A server that announces that it follows the contract causes no warnings."""
    service.will_answer(service.metrics(headers=CONTRACT_HEADER))
    client = make_client()
    await client.get_metrics(IGNORED)
    await client.get_metrics(F.cost > 3)
    assert [] == said(caught)


async def test_the_embedded_engine_needs_no_warning(caught: Any) -> None:
    """A client of the embedded engine gets no warnings, because session columns are conditions there."""
    pytest.importorskip("chdb")
    from helicone_sessions.local import LocalServer

    rows = [{"request_created_at": "2026-11-01T12:00:00Z", "cost": cost} for cost in (0.25, 0.5)]
    async with LocalServer(rows) as server, HeliconeClient(server.api_key, base_url=server.url) as client:
        assert 1 == (await client.get_metrics(F.session_total_cost > 0.5)).session_count.total
        assert 0 == (await client.get_metrics(F.session_total_cost > 1)).session_count.total
    assert [] == said(caught)


async def test_the_service_may_lack_costs(make_client: Make, caught: Any) -> None:
    """A condition that matches the stored 0 of requests without a cost is warned about."""
    client = make_client()
    await client.get_metrics(F.cost < 0.5)
    await client.get_metrics((F.cost < 0.5) & (F.cost > 0))
    (warning,) = caught
    assert "requests without a cost are stored with cost 0, and match too" in str(warning.message)


async def test_conditions_that_match_missing_values_are_no_errors(service: Any, make_client: Make) -> None:
    """With cautions="error" such a condition is sent, because the server reads it as the contract does."""
    await make_client(cautions="error").get_metrics(F.cost < 0.5)
    assert 1 == len(service.requests)


ROW = {"request_created_at": "2026-11-01T12:00:00Z", "model": "o3", "status": 200, "cost": 0.5}


@pytest.mark.parametrize(
    ("row", "condition", "effect"),
    [
        ({**ROW, "model": None}, F.model != "o3", "match too"),
        ({**ROW, "cost": None}, F.cost == 0, "match too"),
        ({**ROW, "cost": None}, F.cost < 1, "match too"),
        ({**ROW, "status": None}, F.status != 200, "match too"),
        (ROW, F.request_body.contains("x"), "no request on this server has a value"),
        (ROW, F.session_tag == "beta", "no request on this server has a value"),
        ({**ROW, "latency": None}, F.latency < 1, None),
        ({**ROW, "cost": None}, F.cost.between(0.1, 1), None),
        ({**ROW, "request_body": "hello"}, F.request_body.contains("x"), None),
        ({**ROW, "session_id": "s", "session_tag": ["old"]}, F.session_tag == "beta", None),
        (ROW, (F.model != "x") & (F.cost < 1) & (F.status != 500), None),
    ],
)
async def test_the_gaps_of_the_embedded_engine(
    row: dict[str, Any], condition: Filter, effect: str | None, caught: Any
) -> None:
    """The engine announces what its data lacks, and the client warns at the first query."""
    pytest.importorskip("chdb")
    from helicone_sessions.local import LocalServer

    async with LocalServer([row]) as server, HeliconeClient(server.api_key, base_url=server.url) as client:
        await client.get_metrics(condition)
        found = [str(warning.message) for warning in caught]
        await client.with_options(cautions="ignore").get_metrics(condition)
    assert len(found) == len(caught) == (0 if effect is None else 1)
    assert effect is None or effect in found[0]


async def test_gaps_change_with_the_data(caught: Any) -> None:
    """Rows that are added later have gaps too, and lists and counts are warned about as metrics are."""
    pytest.importorskip("chdb")
    from helicone_sessions.local import LocalServer

    async with LocalServer([ROW]) as server, HeliconeClient(server.api_key, base_url=server.url) as client:
        assert 0 == await client.count_requests(F.model != "o3")
        assert [] == said(caught)
        await server.add([{**ROW, "model": None}])
        assert 1 == await client.count_requests(F.model != "o3")
    assert ["F.model != 'o3'"] == said(caught)


BODY = F.request_body.contains("x")
NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begins", "effects"),
    [(None, ["age"]), (NOW - timedelta(days=91), ["age"]), (NOW - timedelta(days=89), [])],
)
def test_bodies_of_older_requests(begins: datetime | None, effects: list[str]) -> None:
    """A condition on a body has no caution if the query is about the last 90 days."""
    warnings_ = FilterWarnings("warn", now=lambda: NOW)
    found = warnings_.of(BODY, begins and TimeFilter(begins, NOW), follows_contract=False)
    assert effects == [caution.effect for caution in found]


@pytest.mark.parametrize("start", [NOW, datetime(2107, 1, 1, tzinfo=UTC)])
def test_time_filters_beyond_the_servers_calendar(start: datetime) -> None:
    """A time filter that ends in 2106 or later has a caution, even without a filter."""
    warnings_ = FilterWarnings("warn")
    period = TimeFilter(start, datetime(2200, 1, 1, tzinfo=UTC))
    (caution,) = warnings_.of(None, period, follows_contract=False)
    assert ("version", "request_created_at") == (caution.effect, caution.column)
    assert () == warnings_.of(None, period, follows_contract=True)
    early = TimeFilter(NOW, datetime(2106, 2, 7, tzinfo=UTC))
    assert () == warnings_.of(None, early, follows_contract=False)


async def test_as_an_error(make_client: Make, service: Any) -> None:
    """With cautions="error" such a query is rejected before anything is sent, with all reasons."""
    with pytest.raises(FilterValueError, match=r"(?s)F\.cost > 3: .*\n  F\.node_id == 'x': "):
        await make_client(cautions="error").get_metrics((F.cost > 3) & (F.node_id == "x"))
    assert [] == service.requests
    await make_client(cautions="error").get_metrics(F.cost > 2)
    assert 1 == len(service.requests)


async def test_as_an_error_in_a_batch(make_client: Make, service: Any) -> None:
    """In a batch the rejected query has the error, and the others their answers."""
    client = make_client(cautions="error")
    found = await client.get_metrics_many({"bad": IGNORED, "good": F.threat}, return_errors=True)
    assert isinstance(found["bad"], FilterValueError)
    assert not isinstance(found["good"], HeliconeError)
    assert 1 == len(service.requests)


async def test_not_at_all(make_client: Make, caught: Any) -> None:
    """With cautions="ignore" there are no warnings, whether set at creation or later."""
    await make_client(cautions="ignore").get_metrics(IGNORED)
    await make_client().with_options(cautions="ignore").get_metrics(IGNORED)
    assert [] == said(caught)


async def test_other_options_keep_what_was_said(make_client: Make, caught: Any) -> None:
    """A client with other limits does not repeat the warnings of a place."""
    client = make_client()
    for variant in (client, client.with_options(timeout=5)):
        await variant.get_metrics(IGNORED)
    assert 1 == len(caught)


async def test_queries_without_a_filter(make_client: Make, caught: Any) -> None:
    """A query without a filter, or one that matches nothing, causes no warnings."""
    await make_client().get_metrics()
    await make_client().get_metrics(SessionMetricsQuery(filter=F.node_id.is_in([])))
    assert [] == caught


@pytest.mark.parametrize("wrong", ["raise", None, True])
def test_another_word(wrong: Any) -> None:
    """Any other mode is rejected when the client is created."""
    with pytest.raises(ConfigurationError, check=parts(argument="cautions")):
        HeliconeClient("sk-helicone-example-key", cautions=wrong)


async def test_warnings_as_errors(make_client: Make) -> None:
    """If Python turns warnings into errors, the query ends with the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(HeliconeFilterWarning):
            await make_client().get_metrics(IGNORED)
