"""Sessions, requests and their counts: queries and answers as JSON, rows, files, frames and HTML."""

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import F, FilterError, SessionMetricsQuery, Sessions, TimeFilter
from helicone_sessions.messages.converter import Mismatch
from helicone_sessions.messages.protocol import (
    ENDPOINTS,
    REQUEST_COUNT,
    REQUESTS,
    SESSION_COUNT,
    SESSION_NAMES,
    SESSIONS,
    Endpoint,
)
from helicone_sessions.messages.query import RequestCountQuery, RequestsQuery, SessionsQuery
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName
from helicone_sessions.testing import request, session

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
WEEK: Final = TimeFilter(START, START + timedelta(days=7))
ROW: Final = {
    "created_at": "2026-11-20 19:39:59.001",
    "latest_request_created_at": "2026-11-20 19:41:00",
    "session_id": "s-1",
    "session_name": "support",
    "avg_latency": 812.5,
    "total_cost": 0.25,
    "total_requests": 3,
    "prompt_tokens": 200,
    "completion_tokens": 100,
    "total_tokens": 300,
    "user_ids": ["user-1"],
}
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MOMENTS: Final = st.integers(0, 4 * 10**12).map(
    lambda place: datetime(1971, 1, 1, tzinfo=UTC) + timedelta(milliseconds=place)
)
AMOUNTS: Final = st.floats(0, 1e9)
COUNTS: Final = st.integers(0, 2**63 - 1)
SESSION: Final = st.builds(
    Session,
    TEXTS,
    TEXTS,
    MOMENTS,
    MOMENTS,
    AMOUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    AMOUNTS,
    st.tuples(TEXTS),
)


def read(endpoint: Endpoint[Any, Any], data: Any) -> Any:
    return endpoint.answer_from_wire(json.loads(json.dumps(data)), "$.data")


def test_a_session_is_read() -> None:
    """Times without a zone are UTC; every field has its type."""
    (found,) = read(SESSIONS, [ROW])

    assert found == Session(
        "s-1",
        "support",
        datetime(2026, 11, 20, 19, 39, 59, 1000, UTC),
        datetime(2026, 11, 20, 19, 41, tzinfo=UTC),
        0.25,
        3,
        200,
        100,
        300,
        812.5,
        ("user-1",),
    )
    assert found.duration == timedelta(minutes=1, milliseconds=999)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"total_requests": "3"}, {"total_requests": 3}),
        ({"prompt_tokens": "9007199254740993"}, {"prompt_tokens": 9007199254740993}),
        ({"total_cost": "0.5", "avg_latency": "7"}, {"total_cost": 0.5, "avg_latency": 7.0}),
        ({"total_requests": 3.0}, {"total_requests": 3}),
        ({"session_name": None, "session_id": None}, {"session_name": "", "session_id": ""}),
        ({"total_tokens": None, "total_cost": None}, {"total_tokens": 0, "total_cost": 0.0}),
        ({"avg_latency": None}, {"avg_latency": None}),
        ({"user_ids": None}, {"user_ids": ()}),
        ({"user_ids": ["a", None]}, {"user_ids": ("a",)}),
        ({"created_at": "2026-11-20T19:39:59.001Z"}, {}),
        ({"created_at": "2026-11-20T20:39:59.001+01:00"}, {}),
        ({"a new field": [1]}, {}),
    ],
)
def test_forms_of_a_session(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Numbers can be text, nulls are zeros as in the service, and unknown fields are ignored."""
    (plain,) = read(SESSIONS, [ROW])
    (found,) = read(SESSIONS, [{**ROW, **changes}])
    assert found == attrs.evolve(plain, **expected)


def test_older_servers_list_no_users() -> None:
    """Without `user_ids` a session has none."""
    row = {name: value for name, value in ROW.items() if name != "user_ids"}
    assert read(SESSIONS, [row])[0].user_ids == ()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"total_requests": "three"}, "$.data[1].total_requests"),
        ({"total_requests": 2.5}, "$.data[1].total_requests"),
        ({"total_requests": True}, "$.data[1].total_requests"),
        ({"total_cost": "nan"}, "$.data[1].total_cost"),
        ({"total_cost": [1]}, "$.data[1].total_cost"),
        ({"created_at": None}, "$.data[1].created_at"),
        ({"created_at": "yesterday"}, "$.data[1].created_at"),
        ({"created_at": 5}, "$.data[1].created_at"),
        ({"session_id": 5}, "$.data[1].session_id"),
        ({"user_ids": "user-1"}, "$.data[1].user_ids"),
        ({"user_ids": [5]}, "$.data[1].user_ids"),
    ],
)
def test_a_session_off_the_contract_names_the_field(changes: dict[str, Any], path: str) -> None:
    """The error has the JSON path and the value."""
    with pytest.raises(Mismatch) as failed:
        read(SESSIONS, [ROW, {**ROW, **changes}])
    assert failed.value.path == path


@pytest.mark.parametrize("name", ["session_id", "created_at", "total_cost", "total_requests"])
def test_a_missing_field_is_named(name: str) -> None:
    """All fields but `user_ids` are required."""
    with pytest.raises(Mismatch, match=name):
        read(SESSIONS, [{field: value for field, value in ROW.items() if field != name}])


@pytest.mark.parametrize("endpoint", [SESSIONS, SESSION_NAMES, REQUESTS])
@pytest.mark.parametrize("data", [{}, "x", 5, [5], [[]], ["x"]])
def test_a_list_is_a_list_of_objects(endpoint: Endpoint[Any, Any], data: Any) -> None:
    """Anything else is an error with its path."""
    with pytest.raises(Mismatch) as failed:
        read(endpoint, data)
    assert failed.value.path.startswith("$.data")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (7, SessionCount(7)),
        ("7", SessionCount(7)),
        (0, SessionCount(0)),
        ({"count": "2", "total_cost": 1, "avg_cost": 0.5, "avg_latency": None, "avg_requests": "3"},
         SessionCount(2, 1.0, 0.5, None, 3.0)),
        ({"count": 0, "total_cost": 0, "avg_cost": 0, "avg_latency": 0, "avg_requests": 0},
         SessionCount(0, 0.0, 0.0, 0.0, 0.0)),
    ],
)  # fmt: skip
def test_counts_of_sessions(data: Any, expected: SessionCount) -> None:
    """Older servers give a bare number, and numbers may be text."""
    assert read(SESSION_COUNT, data) == expected


@pytest.mark.parametrize("data", ["many", 2.5, [], {"total_cost": 1}, {"count": "x"}])
def test_counts_off_the_contract(data: Any) -> None:
    """A count is a whole number."""
    with pytest.raises(Mismatch):
        read(SESSION_COUNT, data)


def test_names_of_sessions() -> None:
    """A name comes with its first and latest time, and its number of sessions may be text."""
    row = {
        "name": "support",
        "created_at": "2026-11-01 00:00:00.000",
        "first_used": "2026-11-01 00:00:00.000",
        "last_used": "2026-11-02 00:00:00.000",
        "avg_latency": 5,
        "session_count": "12",
    }
    expected = SessionName("support", START, START + timedelta(days=1), 5.0, 12)
    assert read(SESSION_NAMES, [row]) == [expected]
    assert read(SESSION_NAMES, SESSION_NAMES.answer_to_wire([expected])) == [expected]


def test_requests_are_kept_as_they_are() -> None:
    """A request needs an id and a time; all else is unchanged."""
    row = {"request_id": "r", "request_created_at": "2026-11-01T00:00:00.000Z", "cost": "1", "x": [None]}
    assert read(REQUESTS, [row]) == [row]


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"request_created_at": "2026-11-01T00:00:00Z"}, "$.data[1]"),
        ({"request_id": "r"}, "$.data[1]"),
        ({"request_id": None, "request_created_at": "2026-11-01T00:00:00Z"}, "$.data[1].request_id"),
        ({"request_id": "r", "request_created_at": "soon"}, "$.data[1].request_created_at"),
    ],
)
def test_requests_off_the_contract(row: Any, path: str) -> None:
    """The error has the JSON path."""
    with pytest.raises(Mismatch) as failed:
        read(REQUESTS, [request(), row])
    assert failed.value.path == path


@given(st.lists(SESSION, max_size=3))
def test_sessions_survive_the_wire(found: list[Session]) -> None:
    """The client reads a server's sessions exactly, to the millisecond."""
    assert read(SESSIONS, SESSIONS.answer_to_wire(found)) == found


@given(
    st.builds(
        SessionsQuery,
        st.just(WEEK),
        st.sampled_from([None, F.cost > 1, (F.session_total_cost > 1) & (F.model == "o3")]),
        TEXTS,
        st.none() | TEXTS,
        st.integers(0, 10**9),
        st.none() | st.integers(0, 5000),
        st.integers(-1440, 1440),
    )
)
def test_queries_for_sessions_survive_the_wire(query: SessionsQuery) -> None:
    """A server reads the query that the client sends."""
    assert SESSIONS.query_from_wire(json.loads(json.dumps(SESSIONS.query_to_wire(query)))) == query


@pytest.mark.parametrize(
    "query",
    [
        RequestsQuery(),
        RequestsQuery(F.cost > 1, offset=5, limit=1000, sort="asc", is_scored=True),
        RequestsQuery(sort="desc"),
    ],
)
def test_queries_for_requests_survive_the_wire(query: RequestsQuery) -> None:
    """A server reads the query that the client sends."""
    assert REQUESTS.query_from_wire(json.loads(json.dumps(REQUESTS.query_to_wire(query)))) == query
    count = RequestCountQuery(query.filter)
    assert REQUEST_COUNT.query_from_wire(REQUEST_COUNT.query_to_wire(count)) == count


TIME: Final = {"startTimeUnixMs": 0, "endTimeUnixMs": 1000}
BODY: Final = {"search": "", "timeFilter": TIME, "timezoneDifference": 0, "filter": "all"}


@pytest.mark.parametrize(
    ("endpoint", "body", "field"),
    [
        *(
            (SESSIONS, {key: value for key, value in BODY.items() if key != name}, f"$.{name}")
            for name in BODY
        ),
        (SESSIONS, {**BODY, "search": None}, "$.search"),
        (SESSIONS, {**BODY, "limit": -1}, "$.limit"),
        (SESSIONS, {**BODY, "limit": "5"}, "$.limit"),
        (SESSIONS, {**BODY, "offset": 1.5}, "$.offset"),
        (SESSIONS, {**BODY, "timezoneDifference": 1441}, "$.timezoneDifference"),
        (SESSIONS, {**BODY, "timeFilter": {**TIME, "endTimeUnixMs": 0}}, "$.timeFilter"),
        (SESSIONS, {**BODY, "filter": {"x": {}}}, "$.filter"),
        (SESSIONS, {**BODY, "nameContains": "x"}, "$"),
        (SESSIONS, [], "$"),
        (REQUESTS, {}, "$.filter"),
        (REQUESTS, {"filter": "all", "limit": None}, "$.limit"),
        (REQUESTS, {"filter": "all", "sort": {"cost": "asc"}}, "$.sort.created_at"),
        (REQUESTS, {"filter": "all", "sort": {"created_at": "up"}}, "$.sort.created_at"),
        (REQUESTS, {"filter": "all", "isCached": 1}, "$.isCached"),
        (REQUESTS, {"filter": (F.session_tag == "vip").to_wire()}, "$.filter"),
        (REQUEST_COUNT, {"filter": "all", "limit": 5}, "$"),
        (REQUEST_COUNT, {"filter": (F.session_total_cost > 5).to_wire()}, "$.filter"),
    ],
)
def test_a_broken_body_names_the_field(endpoint: Endpoint[Any, Any], body: Any, field: str) -> None:
    """A server's error has the JSON path of the field."""
    with pytest.raises(FilterError) as failed:
        endpoint.query_from_wire(body)
    assert failed.value.field == field


def test_an_empty_object_is_no_filter() -> None:
    """The service reads `{}` as everything."""
    assert SESSIONS.query_from_wire({**BODY, "filter": {}}).filter is None


@pytest.mark.parametrize(("limit", "size"), [(None, 50), (0, 50), (7, 7), (1000, 1000), (1001, 1000)])
def test_limits_as_the_service_reads_them(limit: int | None, size: int) -> None:
    """A limit is at most 1,000, and 0 means 50."""
    assert SessionsQuery(WEEK, limit=limit).page_size == size


def test_every_endpoint_has_its_path() -> None:
    """The paths are those of the API."""
    assert sorted(ENDPOINTS) == [
        "v1/request/count/query",
        "v1/request/query-clickhouse",
        "v1/session/count",
        "v1/session/metrics/query",
        "v1/session/name/query",
        "v1/session/query",
    ]
    assert SESSION_NAMES.query_from_wire(
        {"nameContains": "a", "timezoneDifference": 0}
    ) == SessionMetricsQuery(name_contains="a")


def test_sessions_are_a_sequence() -> None:
    """Index, slice, length, iteration, equality and pickling are those of a sequence."""
    found = Sessions((session("a"), session("b"), session("c")))

    assert found[-1] == session("c")
    assert found[1:] == Sessions((session("b"), session("c")))
    assert [one.session_id for one in reversed(found)] == ["c", "b", "a"]
    assert session("b") in found
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
    assert repr(found) == "<Sessions: 3>"


def test_sessions_as_rows_and_files() -> None:
    """Rows, CSV, JSON and dicts have every field, and JSON reads back."""
    found = Sessions(
        (session("=a", "sup,port", duration=90, user_ids=["x", "y"]), session("b", avg_latency=None))
    )

    assert found.to_rows()[0]["user_ids"] == "x, y"
    assert found.to_rows()[0]["duration"] == 90.0
    assert set(found.to_rows()[0]) == set(found.columns)
    assert found.to_csv().splitlines()[2].startswith("b,support,2026-11-01T12:00:00+00:00,")
    assert json.loads(found.to_json())[0]["user_ids"] == ["x", "y"]
    assert {"sessions": json.loads(found.to_json())} == json.loads(json.dumps(found.to_dict()))


@pytest.mark.parametrize("found", [Sessions(()), Sessions((session(), session(avg_latency=None)))])
def test_frames_have_one_type_per_column(found: Sessions) -> None:
    """The types of a frame do not depend on its rows."""
    pytest.importorskip("pandas")
    pytest.importorskip("polars")

    frame = found.to_pandas()

    assert [str(frame[name].dtype) for name in ("total_cost", "total_requests", "avg_latency")] == [
        "float64",
        "int64",
        "float64",
    ]
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"
    assert list(frame.columns) == found.to_polars().columns == list(found.columns)
    assert str(found.to_polars().schema["total_requests"]) == "Int64"


def test_html_escapes_and_is_short() -> None:
    """A notebook shows the first fifty sessions, with ids as text."""
    others = (session(f"s-{place}") for place in range(200))
    found = Sessions((session("<b>", total_cost=0.001), *others))

    text = found._repr_html_()

    assert "&lt;b&gt;" in text
    assert "201 sessions" in text
    assert "151 more" in text
    assert text.count("<tr>") == 51


def test_times_keep_their_moment() -> None:
    """A server with times in another zone sends them in UTC."""
    berlin = session(created_at=datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    assert SESSIONS.answer_to_wire([berlin])[0]["created_at"] == "2026-11-01 00:00:00.000"
