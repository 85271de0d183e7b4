"""Other forms of a filter: Python source, the indented tree, and the API's JSON read back."""

import re
from typing import Any

import pytest
from hypothesis import given, settings

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError, HeliconeFilterWarning
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, Filter, all_of, filter_of_contract
from tests.filters.support import MOMENT, branch, leaf, read
from tests.parts import parts
from tests.repeats import repeats
from tests.strategies import filters, wire_values

COST, THREAT = leaf("cost", "gt", 1), leaf("threat", "equals", True)


@pytest.mark.parametrize(
    "source",
    [
        "F.cost > 0.1",
        "(F.cost > 0.1) & F.model.contains('gpt')",
        "(F.cost > 0.1) | F.threat & F.cached",
        "~F.threat",
        "F.threat == False",
        "F.threat & (F.cached == False)",
        "~(F.model.like('a%') | (F.cost == 1))",
        "F.properties['it\\'s (\"x\") = 1'] == ')'",
        "F.properties['a b'].not_contains('(')",
        "F.request_created_at < datetime.datetime.fromisoformat('2026-11-01T12:30:00+00:00')",
        "(F.request_created_at < MOMENT) & (F.session_created_at > MOMENT)",
        "F.helicone_score_feedback == True",
        "F.session_tag.ilike('a\\\\%')",
        "ALL",
        "NONE",
        "~ALL & NONE",
        "any_of(*(F.latency == n for n in range(21)))",
        "F.threat & any_of(*(F.latency == n for n in range(2000)))",
    ],
)
def test_source_pastes_back(source: str) -> None:
    """The repr of a filter is Python source for an equal filter, however wide it is."""
    filter_ = read(source)
    assert filter_ == read(repr(filter_))


@given(filters(max_leaves=30))
@settings(max_examples=repeats(120))
def test_any_source_pastes_back(filter_: Filter) -> None:
    """The repr of any filter, and of its opposite, gives an equal filter."""
    assert filter_ == read(repr(filter_))
    assert ~filter_ == read(repr(~filter_))


def test_source_is_short() -> None:
    """The repr has the parentheses that a reader needs, and functions for long lists."""
    assert "(F.cost > 0.1) & F.threat & ~(F.status == 200)" == repr(
        all_of(F.cost > 0.1, F.threat, ~(F.status == 200))
    )
    assert repr(F.status.is_in([*range(0, 42, 2)])).startswith("any_of((F.status == 0), (F.status == 2), ")


def test_explained() -> None:
    """An explanation is a tree under the API's own names, with units, keys and constants."""
    filter_ = (F.cost > 0.1) & ~(F.helicone_score_feedback | (F.properties["env"] == "prod")) | ALL & F.threat
    expected = """\
any of
  all of
    cost gt 0.1 dollars
    not
      any of
        helicone-score-feedback equals True
        properties['env'] equals 'prod'
  threat equals True"""
    assert expected == filter_.explain()
    assert "everything" == ALL.explain()
    assert "not\n  everything" == (~ALL).explain()
    assert "session_total_tokens lte 5 tokens" == (F.session_total_tokens <= 5).explain()
    assert "2026-11-01" in (F.request_created_at == MOMENT).explain()


@given(filters(max_leaves=30))
@settings(max_examples=repeats(120))
def test_wire_is_read_back(filter_: Filter) -> None:
    """The wire form of a filter is read back as a filter with the same wire form."""
    wire = filter_.to_wire()
    assert wire == Filter.from_wire(wire).to_wire()


@pytest.mark.parametrize(
    ("wire", "same"),
    [
        ("all", "ALL"),
        (leaf("status", "gte", 200), "F.status >= 200"),
        (leaf("session_tag", "equals", "x"), "F.session_tag == 'x'"),
        (leaf("scores", "equals", "4", "q"), "F.scores['q'] == 4"),
        (leaf("property_key", "equals", "k"), "F.property_key == 'k'"),
        (leaf("model", "ilike", r"%50\%%"), "F.model.contains('50%')"),
        (leaf("model", "ilike", "%gpt%"), "F.model.ilike('%gpt%')"),
        (leaf("model", "not-contains", r"50\%"), "F.model.not_contains('50%')"),
        (leaf("request_created_at", "lt", "2026-11-01T12:30:00Z"), "F.request_created_at < MOMENT"),
        (leaf("request_created_at", "lt", "2026-11-01T14:30:00.000+02:00"), "F.request_created_at < MOMENT"),
        (branch("or", COST, branch("or", THREAT, COST)), "any_of(F.cost > 1, F.threat, F.cost > 1)"),
        (branch("and", branch("or", COST, THREAT), "all"), "(F.cost.gt(1) | F.threat) & (ALL | NONE)"),
    ],
)
def test_wire_forms(wire: object, same: str) -> None:
    """A leaf, a branch and "all" are read as the filter that sends them."""
    assert read(same).to_wire() == Filter.from_wire(wire).to_wire()


def test_expanded_leaves() -> None:
    """A leaf with several conditions is rejected; with expand=True all of them apply, with a warning."""
    several = {
        "request_response_rmt": {
            "latency": {"gte": 1, "lt": 5},
            "properties": {"a": {"equals": "x"}, "b": {"like": "y"}},
        },
        "sessions_request_response_rmt": {"session_tag": {"equals": "z"}},
    }
    expected = all_of(
        *(F.latency >= 1, F.latency < 5, F.properties["a"] == "x", F.properties["b"].like("y")),
        F.session_tag == "z",
    )
    with pytest.warns(HeliconeFilterWarning) as said:  # noqa: PT031 - four warnings are compared
        assert expected == Filter.from_wire(several, expand=True)
        assert (F.threat | expected) == Filter.from_wire(branch("or", THREAT, several), expand=True)
        assert ALL == Filter.from_wire({}, expand=True)
        Filter.from_wire(branch("and", {}, several), expand=True, path="$.filter")
    assert [__file__] * 4 == [warning.filename for warning in said]
    assert ["$", "$.right", "$", "$.filter.left and 1 others"] == [
        str(warning.message).partition(":")[0] for warning in said
    ]
    with pytest.raises(FilterValueError, check=parts(field="$.right")):
        Filter.from_wire(branch("or", THREAT, several))


def _requests(**columns: object) -> dict[str, Any]:
    return {"request_response_rmt": columns}


TYPE, VALUE = FilterTypeError, FilterValueError
R = "$.request_response_rmt"


@pytest.mark.parametrize(
    ("wire", "error", "message"),
    [
        (None, TYPE, '$ must be a leaf, a branch or "all", got null'),
        ([], TYPE, "$ must be a leaf"),
        ("ALL", TYPE, 'got "ALL"'),
        (5, TYPE, "got 5"),
        (True, TYPE, "got true"),
        ({}, VALUE, "$ is a leaf with no condition"),
        (_requests(), VALUE, "$ is a leaf with no condition"),
        (_requests(cost={}), VALUE, "$ is a leaf with no condition"),
        (_requests(properties={}), VALUE, "$ is a leaf with no condition"),
        (_requests(latency={"gte": 1, "lt": 5}), VALUE, "$ is a leaf with 2 conditions"),
        (_requests(**COST["request_response_rmt"], **THREAT["request_response_rmt"]), VALUE, "2 conditions"),
        ({"requests": {"cost": {"gt": 1}}}, VALUE, '$ has an unknown table "requests"'),
        (_requests(price={"gt": 1}), VALUE, f'{R} has no column "price"'),
        (_requests(session_tag={"equals": "x"}), VALUE, f'{R} has no column "session_tag"'),
        (_requests(cost={"like": "x"}), VALUE, f'{R}.cost has no operator "like"'),
        (_requests(request_created_at={"not-equals": "x"}), VALUE, 'no operator "not-equals"'),
        (_requests(scores={"q": {"gt": 1}}), VALUE, f"{R}.scores['q'] has no operator"),
        ({"request_response_rmt": []}, TYPE, f"{R} must be an object, got []"),
        (_requests(cost=1), TYPE, f"{R}.cost must be an object, got 1"),
        (_requests(properties={"a": "x"}), TYPE, f"{R}.properties['a'] must be an object"),
        (_requests(cost={"gt": "1"}), TYPE, f'{R}.cost.gt must be a number, got "1"'),
        (_requests(cost={"gt": True}), TYPE, f"{R}.cost.gt must be a number, got true"),
        (_requests(cost={"gt": None}), TYPE, f"{R}.cost.gt must be a number, got null"),
        (_requests(cost={"gt": float("nan")}), VALUE, f"{R}.cost.gt must be a finite number"),
        (_requests(cost={"gt": float("-inf")}), VALUE, f"{R}.cost.gt must be a finite number"),
        (_requests(cost={"gt": 10**400}), VALUE, f"{R}.cost.gt must be a finite number"),
        (_requests(cost={"gt": 10**5000}), VALUE, f"{R}.cost.gt must be a finite number"),
        (_requests(model={"equals": 5}), TYPE, f"{R}.model.equals must be a string"),
        (_requests(model={"equals": "\ud800"}), VALUE, f"{R}.model.equals must not hold half"),
        (_requests(properties={"\ud800": {"equals": "x"}}), VALUE, f"{R}.properties must not hold half"),
        (
            _requests(properties={5: {"equals": "x"}}),
            TYPE,
            f"{R}.properties must have strings as names, got 5",
        ),
        (_requests(model={"like": ["x"]}), TYPE, f"{R}.model.like must be a string, got ["),
        (_requests(scores={"q": {"equals": 4}}), TYPE, f"{R}.scores['q'].equals must be a string"),
        (_requests(threat={"equals": 1}), TYPE, f"{R}.threat.equals must be true or false"),
        (
            _requests(request_created_at={"gt": 0}),
            TYPE,
            f"{R}.request_created_at.gt must be an ISO 8601 time",
        ),
        (_requests(request_created_at={"gt": "2026-11-01T00:00:00"}), VALUE, "with its zone"),
        (_requests(request_created_at={"gt": "2026-11-01"}), VALUE, "with its zone"),
        (_requests(request_created_at={"gt": "yesterday"}), VALUE, 'got "yesterday"'),
        (_requests(request_created_at={"gt": "0001-01-01T00:00:00+02:00"}), VALUE, "with its zone"),
        ({"left": COST, "right": COST}, VALUE, "$ must be a branch with only left, operator and right"),
        ({"operator": "and"}, VALUE, "got operator"),
        ({**branch("and", COST, COST), "not": COST}, VALUE, "got left, not, operator, right"),
        (branch("xor", COST, COST), VALUE, '$.operator must be "and" or "or"'),
        (branch(None, COST, COST), VALUE, '$.operator must be "and" or "or"'),  # type: ignore[arg-type]
        (branch("and", COST, None), TYPE, "$.right must be a leaf"),
        (branch("or", COST, branch("and", {}, THREAT)), VALUE, "$.right.left is a leaf with no condition"),
    ],
)
def test_malformed_wire_is_refused(wire: object, error: type[Exception], message: str) -> None:
    """JSON that is not a filter is rejected with the JSON path of the mistake."""
    with pytest.raises(error, match=re.escape(message)):
        Filter.from_wire(wire)


def test_the_path_can_be_given() -> None:
    """The JSON path in a message starts with the given path."""
    with pytest.raises(FilterValueError, check=parts(field="$.body.filter.left")):
        Filter.from_wire(branch("and", {}, COST), path="$.body.filter")


@given(wire_values())
@settings(max_examples=repeats(400))
def test_any_json_is_a_filter_or_refused(wire: object) -> None:
    """Any JSON is either read as a filter that can be sent, or rejected with its path."""
    for expand in (False, True):
        try:
            read_back = (filter_of_contract(wire, path="$") if expand else Filter.from_wire(wire)).to_wire()
        except FilterError as error:
            assert str(error.field).startswith("$")  # noqa: PT017 - there may be none
        else:
            assert read_back == Filter.from_wire(read_back).to_wire()


def test_deep_wire_is_read() -> None:
    """JSON nested ten thousand deep is read, and mistakes in it are found."""
    wire: Any = {}
    for _ in range(10_000):
        wire = branch("and", COST, wire)
    assert 10_000 == filter_of_contract(wire, path="$").explain().count("cost gt 1")
    with pytest.raises(FilterValueError, match=r"right\.right is a leaf with no condition"):
        Filter.from_wire(wire)


@pytest.mark.parametrize(
    "source", [r"F.model.ilike('%a\\b%')", r"F.model.contains('5%') | F.model.ilike('%5\\%%')"]
)
def test_loose_patterns_are_read_back(source: str) -> None:
    """A pattern that differs slightly from that of contains is read unchanged."""
    wire = read(source).to_wire()
    assert wire == Filter.from_wire(wire).to_wire()


@pytest.mark.parametrize(
    "wire",
    [
        leaf("properties", "equals", "x", ""),
        leaf("model", "contains", ""),
        leaf("session_tag", "not-contains", ""),
        leaf("cost", "gt", -1),
        leaf("cost", "gt", 2**53 + 1),
        branch("and", "all", COST),
        branch("or", leaf("cost", "gt", -1), THREAT),
    ],
)
def test_unusual_wire_pastes_back(wire: object) -> None:
    """Constants that only other clients send are read, and the repr gives an equal filter."""
    filter_ = Filter.from_wire(wire)
    assert filter_ == read(repr(filter_))
    assert filter_.to_wire() == Filter.from_wire(filter_.to_wire()).to_wire()
