import copy
import datetime as dt
import email.utils
import gzip
import json
import pickle
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from helicone_sessions import (
    ALL,
    NONE,
    APIError,
    AuthenticationError,
    F,
    Filter,
    FilterError,
    FilterTypeError,
    FilterValueError,
    InvalidRequest,
    QueryFailed,
    RateLimited,
    ServerError,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
    UnexpectedResponse,
    all_of,
    any_of,
)
from helicone_sessions.messages import protocol
from helicone_sessions.messages.converter import converter, js_number

SPEC = Path(__file__).parents[2].parent / "shared" / "openapi.yaml"
US = URL("https://api.helicone.ai")
NAMES = ("session_count", "session_duration", "session_cost")
KEY = "sk-helicone-example-key"
START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WEEK = TimeFilter(START, START + dt.timedelta(days=7))
HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
LETTERS = "aB1%_\\\"'[]{} .\n\x00\x7fé\u2028日\U0001f642"


def row(**changes: Any) -> dict[str, Any]:
    """A bar of a histogram as the service sends it."""
    return {"range_start": "1", "range_end": "2.5", "value": 3, **changes}


def averages(**changes: Any) -> dict[str, Any]:
    """The averages as the service sends them."""
    return {**{name: [{"average": 1.5}] for name in NAMES}, **changes}


def metrics(**changes: Any) -> dict[str, Any]:
    """The data of an answer; *changes* replace fields of it."""
    return {**{name: [row()] for name in NAMES}, "average": averages(), **changes}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def success(**changes: Any) -> bytes:
    """The body of a good answer."""
    return json.dumps({"data": metrics(**changes), "error": None}).encode()


def failure(text: object) -> bytes:
    """The envelope of a query that failed."""
    return json.dumps({"data": None, "error": text}).encode()


def read(status: int, body: bytes, headers: dict[str, str] | None = None, secret: str = "") -> SessionMetrics:
    return protocol.decipher(status, CIMultiDict(headers or {}), body, secret=secret)


def error_of(status: int, body: bytes, headers: dict[str, str] | None = None, secret: str = "") -> APIError:
    with pytest.raises(APIError) as caught:
        read(status, body, headers, secret)
    return caught.value


# Requests


def small_filters() -> st.SearchStrategy[Filter]:
    """Filters of a few conditions of every kind."""
    text = st.text(LETTERS, min_size=1, max_size=8)
    moments = st.datetimes(
        dt.datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
        dt.datetime(2100, 1, 1),  # noqa: DTZ001
        timezones=st.just(dt.UTC),
    )
    conditions = st.one_of(
        st.builds(lambda value: F.model == value, text),
        st.builds(lambda value: F.user_id != value, text),
        st.builds(F.request_body.contains, text),
        st.builds(F.provider.not_contains, text),
        st.builds(F.model.startswith, text),
        st.builds(lambda value: F.cost > value, st.floats(0, 1e6)),
        st.builds(F.status.is_in, st.lists(st.integers(0, 999), max_size=4)),
        st.builds(lambda value: F.latency <= value, st.integers(0, 2**53)),
        st.builds(lambda value: F.request_created_at >= value, moments),
        st.builds(lambda value: F.session_created_at != value, moments),
        st.sampled_from([F.threat.is_true(), ~F.cached, F["helicone-score-feedback"].is_false(), ALL, NONE]),
        st.builds(lambda key, value: F.properties[key] == value, text, text),
        st.builds(lambda key, value: F.scores[key] != value, text, st.integers(0, 9)),
        st.builds(F.property_key.eq, text),
        st.builds(F.session_tag.contains, text),
    )
    return st.recursive(
        conditions,
        lambda inner: st.builds(all_of, inner, inner) | st.builds(any_of, inner, inner, inner),
        max_leaves=8,
    )


def queries() -> st.SearchStrategy[SessionMetricsQuery]:
    """Queries with any of their arguments, or none."""
    times = st.builds(
        lambda start, length: TimeFilter(
            START + dt.timedelta(milliseconds=start), START + dt.timedelta(milliseconds=start + length)
        ),
        st.integers(-(10**12), 10**12),
        st.integers(1, 10**11),
    )
    return st.builds(
        SessionMetricsQuery,
        filter=st.none() | small_filters(),
        name_contains=st.text(LETTERS, max_size=8),
        time_filter=st.none() | times,
        p_size=st.sampled_from(["p50", "p75", "p95", "p99", "p99.9", None]),
        use_interquartile=st.sampled_from([True, False, None]),
        timezone_difference=st.integers(-1440, 1440) | st.floats(-1440, 1440),
    )


@pytest.fixture(scope="module")
def contract() -> Any:
    """The contract of a request body, with every object closed: no key that the contract does not name."""
    if not SPEC.exists():
        pytest.skip("the OpenAPI text is not beside the repository")
    import jsonschema
    import yaml

    components = copy.deepcopy(yaml.safe_load(SPEC.read_text())["components"])
    for schema in components["schemas"].values():
        if schema.get("properties"):
            schema["additionalProperties"] = False
    root = {"$ref": "#/components/schemas/SessionMetricsQueryParams", "components": components}
    return jsonschema.Draft202012Validator(root)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"nameContains": ""},
        {"nameContains": "", "timezoneDifference": "0"},
        {"nameContains": "", "timezoneDifference": 0, "pSize": "p80"},
        {"nameContains": "", "timezoneDifference": 0, "filter": {"cost": {"gt": 1}}},
        {"nameContains": "", "timezoneDifference": 0, "filter": {"request_response_rmt": {"price": {}}}},
        {"nameContains": "", "timezoneDifference": 0, "filter": None},
    ],
)
def test_the_contract_as_tested_here_refuses_a_wrong_body(contract: Any, body: dict[str, Any]) -> None:
    """The check below is not one that everything passes."""
    assert not contract.is_valid(body)


@given(query=queries())
def test_every_request_body_keeps_the_contract(contract: Any, query: SessionMetricsQuery) -> None:
    """Whatever is asked, the body is JSON that the OpenAPI text allows."""
    body = json.loads(protocol.request(query))

    assert [] == list(contract.iter_errors(body))


@given(query=queries())
def test_a_request_body_reads_back_as_the_same_query(query: SessionMetricsQuery) -> None:
    """The server's side of the converter finds in a body what the client put into it."""
    body = protocol.request(query)
    back = converter.structure(json.loads(body), SessionMetricsQuery)

    assert body == protocol.request(back)
    assert (query.name_contains, query.time_filter, query.p_size, query.use_interquartile) == (
        back.name_contains,
        back.time_filter,
        back.p_size,
        back.use_interquartile,
    )
    assert query.timezone_difference == back.timezone_difference


@pytest.mark.parametrize(
    "query",
    [
        SessionMetricsQuery(),
        SessionMetricsQuery(ALL),
        SessionMetricsQuery(F.cost > 0.1),
        SessionMetricsQuery(F.threat),
        SessionMetricsQuery((F.cost > 0.1) & F.model.contains("gpt")),
        SessionMetricsQuery(F.properties["Helicone-Session-Id"] == "a", name_contains="x", p_size="p50"),
        SessionMetricsQuery(F.model.contains("100%_\\"), use_interquartile=False, time_filter=WEEK),
        SessionMetricsQuery(F.request_created_at >= START, timezone_difference=-330.5),
        SessionMetricsQuery(any_of(F.status == 200, F.status == 500, F.cached)),
    ],
    ids=repr,
)
def test_a_query_is_equal_to_what_its_body_reads_back_as(query: SessionMetricsQuery) -> None:
    """Structuring the JSON of a body gives an equal query."""
    assert query == converter.structure(json.loads(protocol.request(query)), SessionMetricsQuery)


@pytest.mark.parametrize(
    ("expected", "query"),
    [
        ({"nameContains": "", "timezoneDifference": 0}, SessionMetricsQuery()),
        ({"nameContains": "", "timezoneDifference": 0, "filter": "all"}, SessionMetricsQuery(ALL)),
        (
            {
                "nameContains": "checkout",
                "timezoneDifference": -330,
                "pSize": "p99.9",
                "useInterquartile": False,
                "timeFilter": {"startTimeUnixMs": 1793491200000, "endTimeUnixMs": 1794096000000},
                "filter": {"request_response_rmt": {"cost": {"gt": 0.1}}},
            },
            SessionMetricsQuery(
                F.cost > 0.1,
                name_contains="checkout",
                time_filter=WEEK,
                p_size="p99.9",
                use_interquartile=False,
                timezone_difference=dt.timedelta(hours=-5, minutes=-30),
            ),
        ),
    ],
)
def test_the_body_has_what_was_given_under_the_contracts_names(
    expected: dict[str, Any], query: SessionMetricsQuery
) -> None:
    """Omitted arguments are not sent, except the two fields that the contract requires."""
    assert expected == json.loads(protocol.request(query))


def test_text_is_sent_as_utf_8() -> None:
    """A session name of any script goes out as it is, in UTF-8."""
    assert '"naïve 日本"'.encode() in protocol.request(SessionMetricsQuery(name_contains="naïve 日本"))


def test_a_request_says_that_it_sends_and_wants_json() -> None:
    """The headers name JSON both ways; there is no key among them."""
    assert {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
    } == protocol.HEADERS


@pytest.mark.parametrize(
    "impossible", [~(F.property_key == "env"), ~F.model.like("gpt%"), ~F.model.startswith("gpt")], ids=repr
)
def test_a_filter_that_the_api_cannot_say_is_never_sent(impossible: Filter) -> None:
    """There is no request for a filter without an inverse; the error says so."""
    with pytest.raises(FilterValueError):
        protocol.request(SessionMetricsQuery(impossible))


def test_a_body_of_more_than_ten_megabytes_is_never_sent() -> None:
    """The server would answer it with a bare 500; the error says how large it is and what to do."""
    most = 10 * 1024 * 1024
    room = most - len(protocol.request(SessionMetricsQuery()))

    assert most == len(protocol.request(SessionMetricsQuery(name_contains="x" * room)))
    with pytest.raises(
        FilterValueError, match=r"query makes a request of 10,485,761 bytes.* Split the query"
    ):
        protocol.request(SessionMetricsQuery(name_contains="x" * (room + 1)))


def test_text_that_utf_8_cannot_hold_is_refused_as_an_error_of_the_tree() -> None:
    """Half a surrogate pair in a session name is a FilterError, when the query is built or sent."""
    with pytest.raises(FilterError):
        protocol.request(SessionMetricsQuery(name_contains="\ud800"))


# Good answers


def test_an_answer_becomes_metrics() -> None:
    """Histograms, their units and the averages are where the answer has them."""
    found = read(200, success(session_cost=[row(value=4.5), row(range_start="2.5", range_end="7")]))

    assert [(1.0, 2.5, 4.5), (2.5, 7.0, 3.0)] == [
        (bar.range_start, bar.range_end, bar.value) for bar in found.session_cost
    ]
    assert ["requests", "seconds", "dollars"] == [getattr(found, name).unit for name in NAMES]
    assert [1.5, 1.5, 1.5] == [getattr(found.average, name) for name in NAMES]


ORDINARY = read(200, success())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps({"data": metrics()}).encode(), id="the error key is missing"),
        pytest.param(json.dumps({"error": None, "data": metrics()}).encode(), id="error first"),
        pytest.param(success(session_cost=[row(value="3")]), id="a quoted value"),
        pytest.param(success(session_cost=[row(value=3.0)]), id="a value with a point"),
        pytest.param(success(session_cost=[row(range_start=1, range_end=2.5)]), id="ends as numbers"),
        pytest.param(success(session_cost=[row(range_end="2.50")]), id="an end with a zero"),
        pytest.param(success(average=averages(session_cost=[{"average": "1.5"}])), id="a quoted average"),
        pytest.param(
            json.dumps({"data": metrics(), "error": None}, indent=2).encode(), id="with white space"
        ),
        pytest.param(b"\xef\xbb\xbf" + success(), id="with a byte order mark"),
    ],
)
@pytest.mark.usefixtures("package")
def test_the_same_metrics_in_other_shapes(body: bytes) -> None:
    """Equal values are read as equal in each form, such as the numbers that older ClickHouse quotes."""
    assert ORDINARY == read(200, body)


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "text/html", "application/octet-stream", None]
)
def test_the_content_type_decides_nothing(kind: str | None) -> None:
    """JSON is read as JSON, whatever the answer calls itself."""
    assert ORDINARY == read(200, success(), {"Content-Type": kind} if kind else None)


@pytest.mark.parametrize("status", [200, 201, 500, 503])
@pytest.mark.usefixtures("package")
def test_the_envelope_decides_before_the_status(status: int) -> None:
    """Metrics are metrics, even where a gateway changed the status."""
    assert ORDINARY == read(status, success())


@pytest.mark.parametrize(
    "average",
    [
        pytest.param(None, id="average: null"),
        pytest.param(averages(session_cost=None), id="null in the place of the list"),
        pytest.param(averages(session_cost=[]), id="an empty list"),
        pytest.param(averages(session_cost=[{"average": None}]), id="a null average"),
    ],
)
@pytest.mark.usefixtures("package")
def test_an_average_of_nothing_is_none(average: Any) -> None:
    """ClickHouse's NaN comes as null or as nothing at all, at either level."""
    found = read(200, success(average=average)).average

    assert None is found.session_cost
    assert (None if average is None else 1.5) == found.session_count


@pytest.mark.parametrize("name", NAMES)
def test_a_histogram_of_nothing_is_empty(name: str) -> None:
    """An empty list is a histogram without bars."""
    found = read(200, success(**{name: []}))

    assert (0, 0) == (len(getattr(found, name)), getattr(found, name).total)


def test_the_metrics_of_nothing_are_the_empty_ones() -> None:
    """Empty lists everywhere are what `SessionMetrics.empty` gives."""
    nothing: dict[str, Any] = {name: [] for name in NAMES}

    assert SessionMetrics.empty() == read(200, success(**nothing, average=nothing))


@pytest.mark.parametrize(
    "body",
    [
        {"data": metrics(), "error": None, "trace": "t-1"},
        {"data": metrics(new={"deep": [1]}), "error": None},
        {"data": metrics(session_cost=[row(share=0.5, label="low")]), "error": None},
        {"data": metrics(average=averages(median=7, session_tokens=[{"average": 3}])), "error": None},
        {"data": metrics(average=averages(session_cost=[{"average": 1.5, "weight": 2}])), "error": None},
    ],
    ids=["envelope", "data", "bar", "averages", "row of an average"],
)
@pytest.mark.usefixtures("package")
def test_new_fields_are_ignored_at_each_level(body: dict[str, Any]) -> None:
    """A field that the service adds one day changes nothing."""
    assert ORDINARY == read(200, json.dumps(body).encode())


# Errors: the status

CLICKHOUSE = "Code: 43. DB::Exception: Illegal type UUID of argument of function ilike"

BY_STATUS = [
    pytest.param(
        401, b'{"error": "Unauthorized", "trace": "t-1"}', AuthenticationError, "Unauthorized", id="wrong key"
    ),
    pytest.param(401, b"", AuthenticationError, "the service answered with status 401", id="401, empty"),
    pytest.param(401, HTML, AuthenticationError, "status 401 and a page of HTML", id="401, HTML"),
    pytest.param(403, b'{"message": "no read access"}', AuthenticationError, "no read access", id="403"),
    pytest.param(400, b"Invalid token.", InvalidRequest, "Invalid token.", id="malformed token"),
    pytest.param(400, b'{"detail": "bad body"}', InvalidRequest, "bad body", id="400, detail"),
    pytest.param(400, HTML, InvalidRequest, "status 400 and a page of HTML", id="400, HTML"),
    pytest.param(400, success(), InvalidRequest, "the service answered with status 400", id="400, metrics"),
    pytest.param(404, HTML, InvalidRequest, "status 404 and a page of HTML", id="wrong address"),
    pytest.param(422, b'{"message": "Validation Failed"}', InvalidRequest, "Validation Failed", id="422"),
    pytest.param(422, failure("Validation"), InvalidRequest, "Validation", id="422, envelope"),
    pytest.param(422, b'["x"]', InvalidRequest, "the service answered with status 422", id="422, a list"),
    pytest.param(
        429,
        b'{"error": "Too many requests, please try again later."}',
        RateLimited,
        "Too many requests, please try again later.",
        id="rate limit",
    ),
    pytest.param(429, b"", RateLimited, "the service answered with status 429", id="429, empty"),
    pytest.param(429, failure("later"), RateLimited, "later", id="429, envelope"),
    pytest.param(200, failure("Invalid filter"), QueryFailed, "Invalid filter", id="200 with an error"),
    pytest.param(
        500, failure("Invalid timezone difference"), QueryFailed, "Invalid timezone difference", id="refused"
    ),
    pytest.param(500, failure("No request count found"), QueryFailed, "No request count found", id="failed"),
    pytest.param(500, failure(CLICKHOUSE), QueryFailed, CLICKHOUSE, id="ClickHouse"),
    pytest.param(503, failure("x"), QueryFailed, "x", id="503 with an envelope"),
    pytest.param(500, failure(""), QueryFailed, "the service answered with status 500", id="no text"),
    pytest.param(500, b"", ServerError, "the service answered with status 500", id="500, empty"),
    pytest.param(500, b'{"error": "boom"}', ServerError, "boom", id="500 without data"),
    pytest.param(500, b"null", ServerError, "", id="500, null"),
    pytest.param(
        500, b'{"data": null}', ServerError, "the service answered with status 500", id="500, no error"
    ),
    pytest.param(502, HTML, ServerError, "status 502 and a page of HTML", id="gateway"),
    pytest.param(503, b"upstream connect error", ServerError, "upstream connect error", id="proxy"),
    pytest.param(504, HTML, ServerError, "status 504 and a page of HTML", id="gateway timeout"),
    pytest.param(501, b"", ServerError, "the service answered with status 501", id="501"),
    pytest.param(599, b"[" * 100_000, ServerError, "[[[[", id="500, too deep"),
    pytest.param(500, b"\xe9t\xe9", ServerError, "�t�", id="500, latin-1"),
    pytest.param(500, b'{"data": NaN, "error": "x"}', ServerError, "NaN", id="500, NaN"),
]


@pytest.mark.parametrize(("status", "body", "kind", "message"), BY_STATUS)
@pytest.mark.usefixtures("package")
def test_an_answer_that_is_no_metrics_is_the_right_error(
    status: int, body: bytes, kind: type[APIError], message: str
) -> None:
    """Status and envelope decide the class; the message is the service's own words where it has some."""
    error = error_of(status, body)

    assert kind is type(error)
    assert message in error.message
    assert (status, 1) == (error.status, error.attempts)
    assert error.body_excerpt.startswith(body[:400].decode(errors="replace"))


@pytest.mark.parametrize("text", ["No request count found", "Error: No request count found"])
def test_a_failure_without_a_reason_has_a_hint(text: str) -> None:
    """The message is the service's own text; the remedy, which str() shows, says where to look."""
    error = error_of(500, failure(text))

    assert text == error.message
    assert "Filter.cautions()" in str(error.remedy)
    assert str(error).endswith(f"(status 500). {error.remedy}")
    assert str(error) == str(pickle.loads(pickle.dumps(error)))  # noqa: S301 - our own bytes


def test_a_failure_with_a_reason_has_no_hint() -> None:
    """Words of the service that say what is wrong are left alone."""
    error = error_of(500, failure(CLICKHOUSE))

    assert None is error.remedy
    assert f"{CLICKHOUSE} (status 500)" == str(error)


FILTER_FIELD = "requestBody.filter.request_response_rmt.status.equals"
STATUS_FIELD = "$.filter.request_response_rmt.status.equals"
FIRST = {FILTER_FIELD: {"message": "invalid float number", "value": "many"}}
SECOND = {"requestBody.pSize": {"message": "should be one of the following"}}

DETAILS = [
    pytest.param(STATUS_FIELD, "invalid float number", FIRST, id="as the server sends it"),
    pytest.param(STATUS_FIELD, "invalid float number", FIRST | SECOND, id="two fields"),
    pytest.param("$.pSize", "should be one of", SECOND | FIRST, id="two fields, the other first"),
    pytest.param(STATUS_FIELD, "invalid float number", json.dumps(FIRST), id="as text"),
    pytest.param(STATUS_FIELD, "odd", {FILTER_FIELD: "odd"}, id="the message alone"),
    pytest.param(
        "$.filter.cost", "odd", {"requestBody": {"filter": {"cost": {"message": "odd"}}}}, id="nested"
    ),
    pytest.param("$", "is required", {"requestBody": {"message": "is required"}}, id="the whole body"),
    pytest.param("$.pSize", "odd", {"body.pSize": {"message": "odd"}}, id="another name of the body"),
    pytest.param("$.pSize", "odd", {"pSize": {"message": "odd"}}, id="no name of the body"),
    pytest.param("$.message", "odd", {"requestBody": {"message": {"message": "odd"}}}, id="named message"),
]


@pytest.mark.parametrize(("field", "problem", "details"), DETAILS)
def test_a_failed_validation_names_the_first_field(field: str, problem: str, details: object) -> None:
    """The error has the field as its JSON path, and the message says what is wrong with it."""
    error = error_of(422, json.dumps({"message": "Validation Failed", "details": details}).encode())

    assert isinstance(error, InvalidRequest)
    assert field == error.field
    assert error.message.startswith(f"Validation Failed: {field}: {problem}")


@pytest.mark.parametrize(
    "details",
    [None, 5, [], {}, "", "words", "[]", {"a": 5}, {"a": {}}, {"a": {"message": 5}}, {"a": ["odd"]}],
    ids=repr,
)
def test_a_failed_validation_without_a_field_keeps_its_words(details: object) -> None:
    """Details that name no field are passed over."""
    error = error_of(422, json.dumps({"message": "Validation Failed", "details": details}).encode())

    assert ("Validation Failed", None) == (error.message, error.field)


def test_the_details_of_a_validation_are_cut() -> None:
    """A union of many types has a message of several pages; an error stays short."""
    details = {"x" * 10_000: {"message": "y" * 10_000}}
    error = error_of(422, json.dumps({"message": "Validation Failed", "details": details}).encode())

    assert 2000 > len(str(error))


@pytest.mark.parametrize(
    "body", [b'{"error": null, "trace": "t-1"}', b'{"error": "Unauthorized"}', b"", HTML]
)
def test_a_401_names_the_permission_that_a_key_needs(body: bytes) -> None:
    """A key that may only read is answered with 401 and no reason; the error gives the likely one."""
    error = error_of(401, body)

    assert isinstance(error, AuthenticationError)
    assert "write permission" in str(error)
    assert "write permission" not in error.message


@pytest.mark.parametrize(
    ("expected", "status", "body"),
    [
        (True, 500, b'{"message": "Internal Server Error", "details": "Internal Server Error"}'),
        (True, 500, b'{"message": "request entity too large"}'),
        (True, 500, b"{}"),
        (False, 500, b""),
        (False, 500, HTML),
        (False, 500, b"Internal Server Error"),
        (False, 500, b'"text"'),
        (False, 502, b'{"message": "Bad Gateway"}'),
        (False, 503, b'{"message": "Service Unavailable"}'),
    ],
)
def test_a_500_in_json_lasts(expected: object, status: int, body: bytes) -> None:
    """The server answers what it cannot handle with JSON; other faults are a gateway's, and may pass."""
    error = error_of(status, body)

    assert isinstance(error, ServerError)
    assert expected is error.is_lasting


ROOT = "$"

UNEXPECTED = [
    pytest.param(200, b"", ROOT, "the response is empty", id="empty"),
    pytest.param(200, b" \r\n", ROOT, "the response is empty", id="white space"),
    pytest.param(204, b"", ROOT, "the response is empty", id="204"),
    pytest.param(200, HTML, ROOT, "the response is a page of HTML", id="HTML"),
    pytest.param(200, b"pong", ROOT, "the response is not JSON", id="text"),
    pytest.param(200, success()[:-5], ROOT, "the response is not JSON", id="cut off"),
    pytest.param(200, b"[" * 100_000, ROOT, "not JSON: it is nested too deeply", id="too deep"),
    pytest.param(
        200, b'{"data": ' * 100_000, ROOT, "not JSON: it is nested too deeply", id="too deep objects"
    ),
    pytest.param(200, b'{"data": NaN, "error": null}', ROOT, "NaN is not JSON", id="NaN"),
    pytest.param(200, b'{"data": -Infinity}', ROOT, "-Infinity is not JSON", id="Infinity"),
    pytest.param(200, '{"data": "é"}'.encode("latin-1"), ROOT, "the response is not JSON", id="latin-1"),
    pytest.param(200, b"1" * 5000, ROOT, "the response is not JSON", id="a number of 5000 digits"),
    pytest.param(200, b"null", ROOT, "neither an answer nor the error of a query: no object", id="null"),
    pytest.param(200, b"[]", ROOT, "no object", id="a list"),
    pytest.param(200, b'"text"', ROOT, "no object", id="a string"),
    pytest.param(200, b"5", ROOT, "no object", id="a number"),
    pytest.param(200, b"{}", ROOT, "an object with no fields", id="an empty object"),
    pytest.param(200, b'{"ok": true, "n": 1}', ROOT, "an object with ok, n", id="another object"),
    pytest.param(200, failure(None), ROOT, "neither an answer nor the error", id="both null"),
    pytest.param(
        200, failure({"code": 5}), ROOT, "neither an answer nor the error", id="an error that is no text"
    ),
    pytest.param(200, b'{"error": "x"}', ROOT, "an object with error", id="no data"),
    pytest.param(405, b"Method Not Allowed", ROOT, "Method Not Allowed", id="405, text"),
    pytest.param(413, HTML, ROOT, "status 413 and a page of HTML", id="413, HTML"),
    pytest.param(
        200, b'{"data": [], "error": null}', "$.data", "expected an object, got list", id="data: []"
    ),
    pytest.param(200, b'{"data": 0}', "$.data", "expected an object, got int", id="data: 0"),
    pytest.param(
        200, success(session_cost=None), "$.data.session_cost", "a list of bars", id="null histogram"
    ),
    pytest.param(
        200, success(session_cost={}), "$.data.session_cost", "a list of bars", id="object histogram"
    ),
    pytest.param(200, success(session_cost=[5]), "$.data.session_cost[0]", "an object, got int", id="bar: 5"),
    pytest.param(
        200, success(session_count=[row(), None]), "$.data.session_count[1]", "got NoneType", id="bar: null"
    ),
    pytest.param(
        200,
        success(session_cost=[row(), row(value="many")]),
        "$.data.session_cost[1].value",
        "expected a number, got 'many'",
        id="text value",
    ),
    pytest.param(
        200,
        success(session_cost=[row(value=None)]),
        "$.data.session_cost[0].value",
        "got None",
        id="null value",
    ),
    pytest.param(
        200,
        success(session_cost=[row(value=True)]),
        "$.data.session_cost[0].value",
        "got True",
        id="true value",
    ),
    pytest.param(
        200,
        success(session_cost=[row(value="nan")]),
        "$.data.session_cost[0].value",
        "'nan'",
        id="quoted NaN",
    ),
    pytest.param(
        200,
        success(session_cost=[row(value=5)])
        .replace(b"5}", b"1e999}", 1)
        .replace(b'"value": 5', b'"value": 1e999'),
        "$.data.session_cost[0].value",
        "got inf",
        id="a value too large",
    ),
    pytest.param(
        200,
        success(session_cost=[row(value=10**400)]),
        "$.data.session_cost[0].value",
        "expected a number",
        id="a whole value too large",
    ),
    pytest.param(
        200,
        success(session_duration=[row(range_end="")]),
        "$.data.session_duration[0].range_end",
        "expected a number, got ''",
        id="an empty end",
    ),
    pytest.param(200, success(average=5), "$.data.average", "an object, got int", id="average: 5"),
    pytest.param(200, success(average=[]), "$.data.average", "an object, got list", id="average: []"),
    pytest.param(
        200,
        success(average=averages(session_cost=1.5)),
        "$.data.average.session_cost",
        "a list with one average, got 1.5",
        id="a bare average",
    ),
    pytest.param(
        200,
        success(average=averages(session_cost=[{"mean": 1}])),
        "$.data.average.session_cost",
        "a list with one average",
        id="an average under another name",
    ),
    pytest.param(
        200,
        success(average=averages(session_cost=[{"average": "much"}])),
        "$.data.average.session_cost",
        "expected a number, got 'much'",
        id="text average",
    ),
]


@pytest.mark.parametrize(("status", "body", "path", "message"), UNEXPECTED)
@pytest.mark.usefixtures("package")
def test_an_answer_off_the_contract_says_what_and_where(
    status: int, body: bytes, path: str, message: str
) -> None:
    """An answer that is neither metrics nor an error of the service gives the JSON path of what is off."""
    error = error_of(status, body)

    assert isinstance(error, UnexpectedResponse)
    assert message in error.message
    assert (status, path) == (error.status, error.path)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        *((f"$.data.{name}", without(metrics(), name)) for name in (*NAMES, "average")),
        *(
            (f"$.data.session_cost[1].{name}", metrics(session_cost=[row(), without(row(), name)]))
            for name in ("range_start", "range_end", "value")
        ),
        *((f"$.data.average.{name}", metrics(average=without(averages(), name))) for name in NAMES),
    ],
)
@pytest.mark.usefixtures("package")
def test_a_missing_field_is_named_by_its_path(path: str, data: dict[str, Any]) -> None:
    """A field of the contract that is not there is an error, and never a default."""
    error = error_of(200, json.dumps({"data": data, "error": None}).encode())

    assert isinstance(error, UnexpectedResponse)
    assert path == error.path
    assert f"the field {path.rpartition('.')[2]!r} is missing at {path}" in error.message


def test_the_first_of_several_faults_is_told() -> None:
    """With many things off the message stays short."""
    error = error_of(200, success(session_count=5, session_duration=5, session_cost=[5] * 1000))

    assert "$.data.session_count" == error.path  # type: ignore[attr-defined]
    assert 200 > len(str(error))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [b"", HTML, b'{"moved": true}'], ids=["empty", "HTML", "JSON"])
def test_a_redirect_is_an_error_that_says_where_to(status: int, body: bytes) -> None:
    """Redirects are not followed; the message gives the address, so that base_url can be fixed."""
    error = error_of(status, body, {"Location": "https://eu.example.org/"})

    assert isinstance(error, UnexpectedResponse)
    assert "the service redirects to https://eu.example.org/" in error.message


def test_a_redirect_to_nowhere_is_an_error_too() -> None:
    """A redirect without a Location is reported as a redirect."""
    assert "the service redirects to another address" in error_of(302, b"").message


@pytest.mark.parametrize("status", [405, 409, 413, 415])
def test_other_refusals_keep_the_words_of_the_service(status: int) -> None:
    """A 4xx with a reason in JSON says that reason."""
    assert "the body is too large" in error_of(status, b'{"message": "the body is too large"}').message


# Errors: the headers


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, {}),
        (0.0, {"Retry-After": "0"}),
        (7.0, {"Retry-After": "7"}),
        (7.0, {"retry-after": "7"}),
        (7.0, {"Retry-After": " 7 "}),
        (1.5, {"Retry-After": "1.5"}),
        (0.0, {"Retry-After": "-5"}),
        (1e12, {"Retry-After": "1000000000000"}),
        (None, {"Retry-After": ""}),
        (None, {"Retry-After": "soon"}),
        (None, {"Retry-After": "nan"}),
        (None, {"Retry-After": "inf"}),
        (None, {"Retry-After": "1e999"}),
        (None, {"Retry-After": "Sun, 01 Nov 2026 00:01:00 GMT"}),
        (None, {"Retry-After": "Sun, 01 Nov 2026 00:01:00 GMT", "Date": "today"}),
        (None, {"Retry-After": "Sun, 01 Nov 99999 00:01:00 GMT", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"}),
        (None, {"Retry-After": "Sun, 01 Nov 2026 00:01:00 -0000", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"}),
        (60.0, {"Retry-After": "Sun, 01 Nov 2026 00:01:00 GMT", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"}),
        (0.0, {"Retry-After": "Sat, 31 Oct 2026 00:00:00 GMT", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"}),
        (3600.0, {"Retry-After": "Sun, 01 Nov 2026 00:00:00 -0100", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"}),
    ],
)
def test_the_wait_asked_for_is_read_from_seconds_or_a_date(
    expected: float | None, headers: dict[str, str]
) -> None:
    """Retry-After is seconds, or a date measured from the answer's own Date; nonsense is no wait at all."""
    assert expected == protocol.retry_after(CIMultiDict(headers))


@pytest.mark.parametrize("kind", [RateLimited, ServerError])
def test_a_refusal_for_a_time_holds_the_wait(kind: type[APIError]) -> None:
    """The errors that pass hold the wait that the service asked for."""
    error = error_of({RateLimited: 429, ServerError: 503}[kind], b"", {"Retry-After": "12"})

    assert isinstance(error, RateLimited | ServerError)
    assert (kind, 12.0) == (type(error), error.retry_after)


near_dates = st.builds(
    lambda moment, cut, text: email.utils.format_datetime(moment)[:cut] + text,
    st.datetimes(timezones=st.just(dt.UTC)),
    st.integers(0, 31),
    st.text("0123456789+-: GMTJan,", max_size=6),
)
header_texts = st.text([chr(number) for number in range(32, 256)], max_size=30)


@given(value=near_dates | header_texts | st.floats().map(str), date=near_dates | header_texts)
def test_any_retry_after_is_a_wait_or_none(value: str, date: str) -> None:
    """No header of a gateway, however odd, breaks the reading of the answer."""
    wait = protocol.retry_after({"Retry-After": value, "Date": date})

    assert wait is None or 0 <= wait < float("inf")


def test_a_retry_after_with_an_endless_zone_is_no_wait() -> None:
    """A date whose zone has thirty digits is nonsense like any other."""
    now = "Sun, 01 Nov 2026 00:00:00 GMT"

    assert None is protocol.retry_after(
        {"Retry-After": "Sun, 01 Nov 2026 00:00:00 +" + "9" * 30, "Date": now}
    )


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, {}),
        (None, {"Date": "x", "Server": "y"}),
        ("r-1", {"X-Request-Id": "r-1"}),
        ("r-1", {"x-request-id": "r-1"}),
        ("r-2", {"Helicone-Id": "r-2"}),
        ("r-3", {"CF-Ray": "r-3"}),
        ("r-1", {"CF-Ray": "r-3", "Helicone-Id": "r-2", "X-Request-Id": "r-1"}),
        ("r-2", {"CF-Ray": "r-3", "Helicone-Id": "r-2"}),
    ],
)
@pytest.mark.parametrize(("status", "body"), [(401, b""), (500, failure("x")), (502, HTML), (200, b"")])
def test_the_request_id_comes_from_the_service_or_its_gateway(
    expected: str | None, headers: dict[str, str], status: int, body: bytes
) -> None:
    """The closest id that a header gives is on the error, to be named to the support."""
    error = error_of(status, body, headers)

    assert expected == error.request_id
    assert (f"request id {expected}" in str(error)) is (expected is not None)


# Errors: what they must not hold


def everything_of(error: BaseException) -> str:
    """All that a log could show of an error."""
    return "\n".join(
        [
            str(error),
            repr(error),
            repr(vars(error)),
            *traceback.format_exception(error),
            repr(error.__cause__),
        ]
    )


ECHOES = [
    pytest.param(401, f'{{"error": "no such key: {KEY}"}}'.encode(), {}, id="401"),
    pytest.param(401, failure(KEY).replace(b"-", b"\\u002d"), {}, id="401, escaped in JSON"),
    pytest.param(401, json.dumps({"error": KEY}).encode("utf-16"), {}, id="401, UTF-16"),
    pytest.param(400, f"Invalid token {KEY}.".encode(), {}, id="400, text"),
    pytest.param(429, failure(KEY), {}, id="429"),
    pytest.param(500, failure(f"bad key {KEY}"), {}, id="envelope"),
    pytest.param(502, f"<p>{KEY}</p>".encode(), {}, id="HTML"),
    pytest.param(200, f"pong {KEY}".encode(), {}, id="not JSON"),
    pytest.param(200, json.dumps({KEY: 1}).encode(), {}, id="a field"),
    pytest.param(200, success(session_cost=KEY), {}, id="a histogram"),
    pytest.param(200, success(session_cost=[row(value=KEY)]), {}, id="a value"),
    pytest.param(200, success(average=averages(session_cost=KEY)), {}, id="an average"),
    pytest.param(302, b"", {"Location": f"https://example.org/?key={KEY}"}, id="Location"),
    pytest.param(401, f"<{'𝄞' * 494}{KEY}".encode(), {}, id="cut off in the excerpt"),
    pytest.param(401, b"", {"X-Request-Id": KEY}, id="request id"),
    pytest.param(405, f"{'x' * 480}{KEY}".encode(), {}, id="cut off by the length of a message"),
    pytest.param(401, json.dumps({"error": "x" * 480 + KEY}).encode(), {}, id="cut off in JSON"),
    pytest.param(200, success(session_cost=[row(value="x" * 30 + KEY)]), {}, id="cut off in a value"),
    pytest.param(200, json.dumps({"x" * 165 + KEY: 1}).encode(), {}, id="cut off in a field"),
    pytest.param(422, json.dumps({"details": {KEY: {"message": KEY}}}).encode(), {}, id="details"),
    pytest.param(
        422,
        json.dumps({"details": {"x" * 480 + KEY: {"message": "y"}}}).encode(),
        {},
        id="cut off in details",
    ),
]


@pytest.mark.promise(name="K4")
@pytest.mark.parametrize(("status", "body", "headers"), ECHOES)
@pytest.mark.usefixtures("package")
def test_a_key_that_the_service_echoes_is_masked(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Neither text, repr, attributes nor pickle of an error has most of the key, should it be echoed."""
    error = error_of(status, body, headers, secret=KEY)
    most = KEY[:15]

    assert most not in everything_of(error)
    assert most.encode() not in pickle.dumps(error)


@pytest.mark.parametrize(
    ("kind", "status", "body", "secret"),
    [
        *(
            (QueryFailed, 500, failure("Invalid filter"), secret)
            for secret in ("F", "test", "500", "Invalid")
        ),
        *(
            (AuthenticationError, 401, failure("Unauthorized"), secret)
            for secret in ("e", "error", "null", '"')
        ),
        *((ServerError, 502, HTML, secret) for secret in ("a", "html", "502", "<")),
        *(
            (QueryFailed, status, failure("Invalid filter"), secret)
            for status in (200, 500)
            for secret in ("a", "e", "data", "error", "null", '"', "{")
        ),
    ],
)
def test_masking_does_not_change_what_an_answer_is(
    kind: type[APIError], status: int, body: bytes, secret: str
) -> None:
    """A short key, as in tests and private servers, can occur in any body by chance."""
    assert kind is type(error_of(status, body, secret=secret))


def test_a_key_that_breaks_the_json_of_an_answer_is_masked() -> None:
    """A key with a quote in it, echoed without escaping, makes the answer no JSON, and is not shown."""
    secret = 'sk-"helicone'

    error = error_of(200, success(note="KEY").replace(b"KEY", secret.encode()), secret=secret)

    assert secret not in everything_of(error)


def test_a_masked_key_leaves_the_rest_readable() -> None:
    """Only the key itself is replaced."""
    assert "no such key: ***" == error_of(401, f"no such key: {KEY}".encode(), secret=KEY).message


def test_a_key_in_good_metrics_is_no_matter() -> None:
    """Metrics are read with a secret as without."""
    assert ORDINARY == read(200, success(), secret=KEY)


@pytest.mark.parametrize("status", [200, 401, 429, 502])
@pytest.mark.parametrize(
    "body",
    [b"x" * 10_000_000, "日本".encode() * 10_000, b'{"error": "' + b"y" * 100_000 + b'"}', HTML * 1000],
    ids=["ascii", "wide", "JSON", "HTML"],
)
def test_an_error_holds_the_beginning_of_a_large_body_only(status: int, body: bytes) -> None:
    """Neither excerpt nor text of an error grows with the body."""
    error = error_of(status, body)

    assert 500 == len(error.body_excerpt)
    assert body.decode().startswith(error.body_excerpt)
    assert 1000 > len(str(error))


# Request bodies, as a server reads them


def body_with(**changes: Any) -> dict[str, Any]:
    return {"nameContains": "", "timezoneDifference": 0, **changes}


SPAN = {"startTimeUnixMs": 0, "endTimeUnixMs": 1}
LEAF = {"request_response_rmt": {"cost": {"gt": 1}}}

MALFORMED = [
    (FilterTypeError, "$ must be an object", None),
    (FilterTypeError, "$ must be an object", []),
    (FilterTypeError, "$ must be an object", "all"),
    (FilterValueError, "$.nameContains is missing", {"timezoneDifference": 0}),
    (FilterValueError, "$.timezoneDifference is missing", {"nameContains": ""}),
    (
        FilterValueError,
        '$ has an unknown field "psize". The fields are',
        body_with(psize="p50"),
    ),
    (FilterValueError, '$ has an unknown field "name_contains"', body_with(name_contains="x")),
    (FilterTypeError, "$.filter must be a filter or absent, got null", body_with(filter=None)),
    (FilterTypeError, "$.timeFilter must be an object or absent, got null", body_with(timeFilter=None)),
    (FilterTypeError, "$.pSize must be a string or absent, got null", body_with(pSize=None)),
    (
        FilterTypeError,
        "$.useInterquartile must be true, false or absent",
        body_with(useInterquartile=None),
    ),
    (FilterTypeError, "$.timeFilter must be an object, got [0, 1]", body_with(timeFilter=[0, 1])),
    (
        FilterValueError,
        "$.timeFilter.endTimeUnixMs is missing",
        body_with(timeFilter={"startTimeUnixMs": 0}),
    ),
    (
        FilterValueError,
        "$.timeFilter.startTimeUnixMs is missing",
        body_with(timeFilter={"endTimeUnixMs": 0}),
    ),
    (
        FilterValueError,
        '$.timeFilter has an unknown field "zone"',
        body_with(timeFilter={**SPAN, "zone": "UTC"}),
    ),
    (
        FilterTypeError,
        "$.timeFilter.startTimeUnixMs must be a number of milliseconds since 1970",
        body_with(timeFilter={**SPAN, "startTimeUnixMs": "0"}),
    ),
    (
        FilterTypeError,
        "$.timeFilter.endTimeUnixMs must be a number of milliseconds since 1970",
        body_with(timeFilter={**SPAN, "endTimeUnixMs": True}),
    ),
    (
        FilterTypeError,
        "$.timeFilter.endTimeUnixMs must be a number of milliseconds since 1970",
        body_with(timeFilter={**SPAN, "endTimeUnixMs": None}),
    ),
    (
        FilterValueError,
        "$.timeFilter.endTimeUnixMs must be a date in milliseconds since 1970, got 1e+300",
        body_with(timeFilter={**SPAN, "endTimeUnixMs": 1e300}),
    ),
    (
        FilterValueError,
        "$.timeFilter.endTimeUnixMs must be a date in",
        body_with(timeFilter={**SPAN, "endTimeUnixMs": float("nan")}),
    ),
    (FilterTypeError, "$.filter must be a leaf, a branch", body_with(filter=5)),
    (FilterTypeError, "$.filter must be a leaf, a branch", body_with(filter="everything")),
    (FilterValueError, '$.filter has an unknown table "requests"', body_with(filter={"requests": {}})),
    (
        FilterValueError,
        '$.filter.left.request_response_rmt has no column "price"',
        body_with(filter={"left": {"request_response_rmt": {"price": {}}}, "operator": "and", "right": LEAF}),
    ),
    (
        FilterTypeError,
        "$.filter.right must be a leaf, a branch",
        body_with(filter={"left": LEAF, "operator": "or", "right": None}),
    ),
    (
        FilterTypeError,
        '$.filter.request_response_rmt.cost.gt must be a number, got "1"',
        body_with(filter={"request_response_rmt": {"cost": {"gt": "1"}}}),
    ),
]

OUT_OF_PLACE = [
    (FilterTypeError, "$.nameContains must be a string, got 5", body_with(nameContains=5)),
    (FilterTypeError, "$.nameContains", body_with(nameContains=None)),
    (FilterTypeError, "$.timezoneDifference", body_with(timezoneDifference="0")),
    (FilterTypeError, "$.timezoneDifference", body_with(timezoneDifference=None)),
    (FilterTypeError, "$.timezoneDifference", body_with(timezoneDifference=True)),
    (FilterValueError, "$.timezoneDifference", body_with(timezoneDifference=2000)),
    (FilterValueError, "$.pSize", body_with(pSize="p80")),
    (FilterError, "$.pSize", body_with(pSize=75)),
    (FilterTypeError, "$.useInterquartile", body_with(useInterquartile=1)),
    (FilterTypeError, "$.useInterquartile", body_with(useInterquartile="true")),
    (FilterValueError, "$.timeFilter", body_with(timeFilter={"startTimeUnixMs": 1, "endTimeUnixMs": 1})),
]


@pytest.mark.parametrize(
    ("kind", "message", "body"),
    [*MALFORMED, *OUT_OF_PLACE],
)
def test_a_body_off_the_contract_is_refused_with_its_path(
    kind: type[FilterError], message: str, body: Any
) -> None:
    """The message starts with the JSON path of the mistake, and says what is expected there."""
    with pytest.raises(kind) as caught:
        converter.structure(body, SessionMetricsQuery)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("body", [case[2] for case in OUT_OF_PLACE], ids=json.dumps)
def test_a_body_with_a_wrong_value_is_refused(body: Any) -> None:
    """A value of the wrong type or out of its range is never taken, nor made to fit."""
    with pytest.raises(FilterError):
        converter.structure(body, SessionMetricsQuery)


def test_several_conditions_in_one_leaf_all_count() -> None:
    """A server reads a leaf by the contract, which lets it hold several conditions."""
    body = body_with(filter={"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}})

    assert SessionMetricsQuery((F.latency >= 1) & (F.latency < 5)) == converter.structure(
        body, SessionMetricsQuery
    )


@pytest.mark.parametrize("instant", [1.5, 0.001])
def test_fractions_of_a_millisecond_are_read(instant: float) -> None:
    """The contract's milliseconds are a double."""
    found = converter.structure(body_with(timeFilter={**SPAN, "endTimeUnixMs": instant}), SessionMetricsQuery)

    assert dt.timedelta(milliseconds=instant) == found.time_filter.length


# Numbers


@pytest.mark.parametrize(
    ("expected", "number"),
    [
        ("0", 0),
        ("0", 0.0),
        ("0", -0.0),
        ("1", 1),
        ("5", 5.0),
        ("-5", -5.0),
        ("-3.5", -3.5),
        ("0.1", 0.1),
        ("0.30000000000000004", 0.1 + 0.2),
        ("7.699999999999999", 7.699999999999999),
        ("100", 100.0),
        ("1234567.25", 1234567.25),
        ("0.000001", 0.000001),
        ("0.0000015", 0.0000015),
        ("1e-7", 1e-7),
        ("9.9e-7", 9.9e-7),
        ("-1.5e-9", -1.5e-9),
        ("5e-324", 5e-324),
        ("4294967296", 2**32),
        ("9007199254740992", 2**53),
        ("10000000000000000", 1e16),
        ("123456789012345680000", 123456789012345680000),
        ("100000000000000000000", 1e20),
        ("999999999999999900000", 999999999999999900000),
        ("1e+21", 1e21),
        ("1.5e+21", 1.5e21),
        ("-1.2345e+25", -1.2345e25),
        ("1.7976931348623157e+308", 1.7976931348623157e308),
    ],
)
def test_numbers_are_written_as_javascript_does(expected: str, number: float) -> None:
    """The ends of a bar are text on the wire, in the form of JavaScript's Number.toString."""
    assert expected == js_number(number)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_is_the_same_number(number: float) -> None:
    """The text of a number reads back as the very number."""
    assert number == float(js_number(number))


# Packed answers


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_answer_is_read(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """Metrics and errors are those of the same body without packing."""
    headers = {"Content-Encoding": encoding}

    assert ORDINARY == read(200, pack(success()), headers)
    assert "Invalid filter" == error_of(500, pack(failure("Invalid filter")), headers).message
    assert (
        "no such key: ***" == error_of(401, pack(f"no such key: {KEY}".encode()), headers, secret=KEY).message
    )


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (UnexpectedResponse, 200, "the response has the content encoding 'br', expected gzip or deflate"),
        (AuthenticationError, 401, "the service answered with status 401"),
        (UnexpectedResponse, 413, "the response has the content encoding 'br'"),
        (ServerError, 502, "the service answered with status 502"),
    ],
)
def test_an_answer_in_another_encoding_keeps_its_status(
    kind: type[APIError], status: int, message: str
) -> None:
    """The status says more than a body that nobody can read."""
    error = error_of(status, b"\x0b\x02\x80abc\x03", {"Content-Encoding": "br"})

    assert (kind, status) == (type(error), error.status)
    assert error.message.startswith(message)


@pytest.mark.parametrize("status", [200, 413])
def test_an_answer_above_the_limit_is_refused(status: int) -> None:
    """Neither a large body nor one that is small when packed is read to its end."""
    large = b" " * (protocol.LARGEST_RESPONSE + 1)
    for body, headers in ((large, {}), (gzip.compress(large), {"Content-Encoding": "gzip"})):
        error = error_of(status, body, headers)

        assert (UnexpectedResponse, "the response is larger than 33,554,432 bytes") == (
            type(error),
            error.message,
        )


@pytest.mark.parametrize(
    ("is_truncated", "status", "body", "headers"),
    [
        (True, 200, b"", {}),
        (True, 200, success()[:-1], {}),
        (True, 200, success()[:9], {}),
        (True, 200, gzip.compress(success())[:-9], {"Content-Encoding": "gzip"}),
        (False, 200, HTML, {}),
        (False, 200, b"hello", {}),
        (False, 204, b"", {}),
        (False, 302, b"", {}),
        (False, 405, b"", {}),
        (False, 200, success(), {"Content-Encoding": "br"}),
    ],
)
def test_an_answer_that_ends_early_is_told_from_another(
    is_truncated: bool, status: int, body: bytes, headers: dict[str, str]
) -> None:
    """Only a success is expected to have a whole body."""
    error = error_of(status, body, headers)

    assert isinstance(error, UnexpectedResponse)
    assert is_truncated is error.is_truncated


def test_a_page_in_place_of_the_service_names_the_address() -> None:
    """Single sign-on in front of a self-hosted service answers with its login page and status 200."""
    error = error_of(200, b"<!DOCTYPE html><title>Sign in</title>", {"Content-Type": "text/html"})

    assert error.message == "the response is a page of HTML, not JSON"
    assert error.remedy is not None
    assert error.remedy.startswith("Check base_url")


@pytest.mark.promise(name="K4")
def test_the_cause_of_an_error_holds_no_body() -> None:
    """Errors of a JSON decoder keep the whole text, in which the key may be."""
    error = error_of(200, f"pong {KEY}".encode(), secret=KEY)

    assert (None, None) == (error.__cause__, error.__context__)
