"""Request bodies and refusals in the form of the open-source server."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import AuthenticationError, F, HeliconeClient, QueryFailed, SessionMetricsQuery
from helicone_sessions.filters.schema import REQUESTS, SERVER_END_OF_TIME
from helicone_sessions.local import LocalServer
from helicone_sessions.local.http.service_form import Invalid, read_query
from helicone_sessions.local.query.contract_sql import Parameters
from helicone_sessions.local.query.service_sql import Crash, service_condition
from helicone_sessions.local.storage.table import Tables
from tests.strategies import wire_values

PLAIN: dict[str, Any] = {"nameContains": "", "timezoneDifference": 0}
PATH = "/v1/session/metrics/query"
SCALARS = (
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text()
)
EMPTY = {"startTimeUnixMs": 0, "endTimeUnixMs": 1}
LAST = (int(SERVER_END_OF_TIME.timestamp()) * 1000) - 1


def read(**fields: Any) -> Any:
    """The query of a body with these fields."""
    return read_query(json.dumps(PLAIN | fields).encode())


def leaf(name: str, operator: str, constant: Any) -> dict[str, Any]:
    """The leaf of one condition on requests."""
    return {REQUESTS: {name: {operator: constant}}}


@pytest.mark.parametrize(
    ("name", "operator", "sent", "read_as"),
    [
        ("latency", "gt", "5", 5),
        ("latency", "gt", "-1.5e3", -1500),
        ("threat", "equals", "true", True),
        ("threat", "equals", "FALSE", False),
        ("request_created_at", "gt", "2026-11-10", "2026-11-10T00:00:00+00:00"),
        ("request_created_at", "gt", "2026-11-10T12:00:00", "2026-11-10T12:00:00+00:00"),
        ("request_created_at", "gt", "2026-11-10T12:00:00+02:00", "2026-11-10T10:00:00+00:00"),
        ("model", "equals", "true", "true"),
    ],
)
def test_constants_are_converted(name: str, operator: str, sent: Any, read_as: Any) -> None:
    """Text becomes a number or a boolean where the column has those, and a time without a zone is UTC."""
    nested = {"left": "all", "operator": "or", "right": leaf(name, operator, sent)}
    expected = {"left": "all", "operator": "or", "right": leaf(name, operator, read_as)}
    assert expected == read(filter=nested).wire_filter


def test_fields_are_converted() -> None:
    """So do the fields of the body."""
    asked = read(timezoneDifference="60", useInterquartile="true")
    assert SessionMetricsQuery(timezone_difference=60, use_interquartile=True) == asked.query


@pytest.mark.parametrize(
    ("start", "end", "taken"),
    [
        (1000, 5000, {"startTimeUnixMs": 1000, "endTimeUnixMs": 5000}),
        ("1000", "5000", {"startTimeUnixMs": 1000, "endTimeUnixMs": 5000}),
        (5000, 1000, EMPTY),
        (5000, 5000, EMPTY),
        (-62_135_596_800_000, 5000, {"startTimeUnixMs": 0, "endTimeUnixMs": 5000}),
        (0, 253_402_300_799_999, {"startTimeUnixMs": 0, "endTimeUnixMs": LAST}),
    ],
)
def test_time_filters(start: Any, end: Any, taken: Any) -> None:
    """A time filter may start after its end, and reach beyond what the server can hold."""
    asked = read(timeFilter={"startTimeUnixMs": start, "endTimeUnixMs": end})
    assert asked.failure is None
    milliseconds = {name: value / 1000 for name, value in taken.items()}
    found = asked.query.time_filter
    assert found is not None
    assert list(milliseconds.values()) == [found.start.timestamp(), found.end.timestamp()]


@pytest.mark.parametrize("beyond", [8.64e15, 253_402_300_800_000, 1e300, -1e17])
def test_times_without_a_year_of_four_digits(beyond: float) -> None:
    """The query fails with an end that the server cannot write."""
    for ends in ((0, beyond), (beyond, 5000)):
        time_filter = dict(zip(("startTimeUnixMs", "endTimeUnixMs"), ends, strict=True))
        assert "No request count found" == read(timeFilter=time_filter).failure
    odd = read(timeFilter=time_filter, timezoneDifference=1441)
    assert "Invalid timezone difference" == odd.failure


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "requestBody"),
        ({"nameContains": ""}, "requestBody.timezoneDifference"),
        ({"timezoneDifference": 0}, "requestBody.nameContains"),
        (PLAIN | {"nameContains": 5}, "requestBody.nameContains"),
        (PLAIN | {"timezoneDifference": "soon"}, "requestBody.timezoneDifference"),
        (PLAIN | {"timezoneDifference": True}, "requestBody.timezoneDifference"),
        (PLAIN | {"pSize": "p90"}, "requestBody.pSize"),
        (PLAIN | {"useInterquartile": 1}, "requestBody.useInterquartile"),
        (PLAIN | {"timeFilter": {"startTimeUnixMs": 0}}, "requestBody.timeFilter"),
        (PLAIN | {"timeFilter": 5}, "requestBody.timeFilter"),
        (PLAIN | {"filter": leaf("latency", "gt", "soon")}, "requestBody.filter"),
        (PLAIN | {"filter": leaf("latency", "gt", None)}, "requestBody.filter"),
        (PLAIN | {"filter": leaf("model", "equals", 5)}, "requestBody.filter"),
        (PLAIN | {"filter": leaf("threat", "equals", "yes")}, "requestBody.filter"),
        (PLAIN | {"filter": leaf("none", "equals", "x")}, "requestBody.filter"),
        (PLAIN | {"filter": {REQUESTS: 5}}, "requestBody.filter"),
        (PLAIN | {"filter": {REQUESTS: {"latency": 5}}}, "requestBody.filter"),
        (PLAIN | {"filter": {"left": "all"}}, "requestBody.filter"),
        (PLAIN | {"filter": leaf("request_created_at", "gt", "soon")}, "requestBody.filter"),
        (PLAIN | {"filter": leaf("request_created_at", "gt", "0099-12-31")}, "requestBody.filter"),
        (PLAIN | {"limit": 5}, "requestBody"),
    ],
    ids=str,
)
def test_refused_bodies_name_the_field(body: Any, field: str) -> None:
    """A body that the server does not take is refused under the name of its field."""
    with pytest.raises(Invalid) as caught:
        read_query(json.dumps(body).encode())
    assert [field] == list(caught.value.details)
    assert caught.value.details[field]["message"]


@given(wire=wire_values())
def test_any_filter(wire: Any) -> None:
    """Any JSON as a filter is refused, breaks the server's code, or has a condition."""
    try:
        asked = read(filter=wire)
    except (Invalid, ValueError):
        return
    with suppress(Crash):
        assert service_condition(asked.wire_filter, Parameters(), Tables.own("any")).text


@given(name=st.sampled_from([*PLAIN, "pSize", "useInterquartile", "timeFilter"]), value=SCALARS)
def test_any_field(name: str, value: Any) -> None:
    """Any value of a field is read, or refused under its name."""
    fields = [f"requestBody.{name}"]
    try:
        read(**{name: value})
    except Invalid as refused:
        fields = list(refused.details)
    assert [f"requestBody.{name}"] == fields


def test_refusals_show_a_plain_value() -> None:
    """A refusal holds the value of a field, if it is not a whole structure."""
    with pytest.raises(Invalid) as caught:
        read(pSize="p90")
    assert "p90" == caught.value.details["requestBody.pSize"]["value"]


# Over HTTP


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalServer]:
    """A server that reads and answers as the open-source one."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    row = {"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5, "session_id": "s", "latency": 5}
    async with LocalServer([row], semantics="helicone") as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(server: LocalServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A session of plain HTTP with that server."""
    headers = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        yield session


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        (b"{", 500, ["message"]),
        (b" " * (10 * 1024 * 1024 + 1), 500, ["message"]),
        (b'{"nameContains": ""}', 422, ["message", "details"]),
        (json.dumps(PLAIN | {"filter": {REQUESTS: {}}}).encode(), 500, ["message", "details"]),
        (json.dumps(PLAIN | {"filter": leaf("total_tokens", "gt", 1)}).encode(), 500, ["data", "error"]),
        (json.dumps(PLAIN | {"timezoneDifference": 1441}).encode(), 500, ["data", "error"]),
        (json.dumps(PLAIN | {"filter": leaf("latency", "equals", "5")}).encode(), 200, ["data", "error"]),
    ],
    ids=["malformed", "large", "incomplete", "empty leaf", "failing", "time zone", "text for a number"],
)
async def test_forms_of_answers(
    session: aiohttp.ClientSession, body: bytes, status: int, fields: list[str]
) -> None:
    """A body that is not JSON or is too large is answered without an envelope, a failed query with one."""
    async with session.post(PATH, data=io.BytesIO(body)) as answer:
        assert (status, fields) == (answer.status, list(await answer.json()))


@pytest.mark.asyncio(loop_scope="module")
async def test_another_content_type(session: aiohttp.ClientSession) -> None:
    """A body that is not declared as JSON is not read."""
    async with session.post(PATH, data=json.dumps(PLAIN), headers={"Content-Type": "text/plain"}) as answer:
        assert (500, ["message"]) == (answer.status, list(await answer.json()))


@pytest.mark.asyncio(loop_scope="module")
async def test_large_body_in_parts(session: aiohttp.ClientSession) -> None:
    """A body without a length is refused as soon as it is too long, and the next request is answered."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1024 * 1024

    async with session.post(PATH, data=parts()) as answer:
        assert 500 == answer.status
    async with session.post(PATH, json=PLAIN) as answer:
        assert 200 == answer.status


@pytest.mark.asyncio(loop_scope="module")
async def test_answers_keep_the_servers_order(session: aiohttp.ClientSession) -> None:
    """Averages come in the server's order, and where no session matches they are null."""
    async with session.post(PATH, json=PLAIN | {"nameContains": "nobody"}) as answer:
        average = (await answer.json())["data"]["average"]
    assert ["session_cost", "session_duration", "session_count"] == list(average)
    assert [[{"average": None}]] * 3 == list(average.values())


@pytest.mark.asyncio(loop_scope="module")
async def test_our_own_client(server: LocalServer) -> None:
    """The client reads such answers, and its refusals in the service's form."""
    async with HeliconeClient(server.api_key, base_url=server.url, cautions="ignore") as client:
        nothing = await client.get_metrics(F.model == "nothing")
        assert nothing.average.session_cost is None
        with pytest.raises(QueryFailed, match="No request count found"):
            await client.get_metrics(F.total_tokens > 1)
    async with HeliconeClient("wrong", base_url=server.url) as client:
        with pytest.raises(AuthenticationError, match="Unauthorized"):
            await client.get_metrics()
