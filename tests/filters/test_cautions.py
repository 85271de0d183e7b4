"""The cautions of filters: effects, reasons and remedies."""

import math
import pickle
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions.errors import FilterValueError
from helicone_sessions.filters.cautions import DataGaps, data_cautions
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, NONE, Filter, all_of, any_of
from helicone_sessions.filters.schema import SESSIONS, Kind, Operator, Reading
from tests.filters.support import read
from tests.repeats import repeats
from tests.strategies import COLUMNS, METHODS, conditions, filters

SESSION_COLUMNS = [c for c in COLUMNS if c.table == SESSIONS and c.name != "session_tag"]


def effects(filter_: Filter) -> list[tuple[str, str]]:
    """The condition and the effect of each caution."""
    return [(caution.condition, caution.effect) for caution in filter_.cautions()]


@pytest.mark.parametrize(
    "source",
    [
        "F.cost > 0.1 & F.model.contains('gpt')",
        "F.cost >= 2.147483647",
        "F.cost != 0",
        "F.cost.between(0.001, 1)",
        "(F.cost < 1) & (F.cost > 0)",
        "(F.cost != 0) & (F.threat | (F.cost < 1))",
        "F.status == 0",
        "F.status < 400",
        "F.model != 'o3'",
        "F.latency < 2147483647",
        "F.latency < 1.5",
        "F.status != -3",
        "F.model.contains('50%')",
        "~F.model.contains('null hypothesis')",
        "F.model == 'NULL'",
        "F.properties['env'] == 'null'",
        "F.properties['env'] != '__empty__'",
        "F.country_code.is_null()",
        "~F.country_code.is_null()",
        "F.user_id.is_empty()",
        "F.session_tag == 'beta'",
        "F.session_tag.ilike('%beta%')",
        "F.session_tag == 'beta' | F.threat",
        "F.property_key == 'env'",
        "F.property_key == 'null'",
        "F.threat | (F.property_key == 'env')",
        "F.request_id == '00000000-0000-0000-0000-000000000001'",
        "F.request_id == '00000000000000000000000000000001'",
        "F.request_id.like('null')",
        "F.scores_column.like('null')",
        "F.status == -2147483648",
        "F.cost > 1e300",
        "F.model.like('a\\\\\\\\')",
        "F.model.contains('a\\\\')",
        "~F.model.contains('a\\\\')",
        "F.model.endswith('a\\\\')",
        "F.model == 'a\\\\'",
        "F.request_created_at < datetime.datetime(2106, 2, 7, 6, 28, 15, tzinfo=datetime.UTC)",
        "F.request_created_at > datetime.datetime(100, 1, 1, tzinfo=datetime.UTC)",
        "F.request_created_at > MOMENT",
        "F.model.contains('__empty__')",
        "F.session_tag.contains('a_b')",
        "F.cost > 1.5e-9",
        "F.cost == 0.015699999",
        "F.request_created_at == MOMENT",
        "F.helicone_score_feedback",
        "~F.threat",
        "ALL",
        "NONE",
    ],
)
def test_nothing_to_say(source: str) -> None:
    """A filter that the server reads by the contract has no cautions."""
    assert () == all_of(read(source)).cautions()


@pytest.mark.parametrize(
    ("source", "condition", "effect", "reason"),
    [
        ("F.search_properties['k'] == 'x'", "F.search_properties['k'] == 'x'", "fails", "code 47"),
        ("F.node_id == 'x'", "F.node_id == 'x'", "fails", "code 47"),
        ("F.total_tokens > 2**31", "F.total_tokens > 2147483648", "fails", "code 47"),
        ("F.total_tokens == 1", "F.total_tokens == 1", "fails", "code 47"),
        ("F.assets.is_empty()", "F.assets == '__empty__'", "fails", "code 47"),
        ("F.request_id.like('a%')", "F.request_id.like('a%')", "fails", "code 43"),
        ("F.request_id == 'x'", "F.request_id == 'x'", "fails", "code 376"),
        (
            "F.request_id == '{00000000-0000-0000-0000-000000000001}'",
            "F.request_id == '{00000000-0000-0000-0000-000000000001}'",
            "fails",
            "code 376",
        ),
        ("F.scores_column.contains('x')", "F.scores_column.contains('x')", "fails", "codes 27 and 43"),
        ("F.scores_column == 'x'", "F.scores_column == 'x'", "fails", "codes 27 and 43"),
        (
            "~Filter.from_wire({'request_response_rmt': {'scores_column': {'equals': 'null'}}})",
            "F.scores_column != 'null'",
            "twisted",
            "never missing",
        ),
        ("F.scores_column.is_empty()", "F.scores_column == ''", "fails", "codes 27 and 43"),
        ("F.scores_column == '__empty__'", "F.scores_column == '__empty__'", "sentinel", "'is empty'"),
        ("F.cache_reference_id.like('a%')", "F.cache_reference_id.like('a%')", "fails", "code 43"),
        ("F.scores['q'] == 4", "F.scores['q'] == '4'", "fails", "code 170"),
        ("F.scores['q'] == '--5'", "F.scores['q'] == '--5'", "fails", "whole numbers"),
        ("F.scores['q'].contains('4')", "F.scores['q'].contains('4')", "fails", "whole numbers"),
        ("F.scores['q'] != 0.5", "F.scores['q'] != '0.5'", "fails", "whole numbers"),
        ("~(F.scores['q'] == 4)", "F.scores['q'] != '4'", "version", "on older versions"),
        ("F.scores['q'] != -4", "F.scores['q'] != '-4'", "version", "on older versions"),
        ("F.session_tag.contains('b')", "F.session_tag.contains('b')", "twisted", "matches the whole tag"),
        ("~(F.session_tag == 'b')", "F.session_tag != 'b'", "twisted", "has another tag"),
        ("~F.helicone_score_feedback", "F.helicone_score_feedback == False", "twisted", "without feedback"),
        ("F.model == 'null'", "F.model == 'null'", "sentinel", "'is missing'"),
        ("~(F.model == 'null')", "F.model != 'null'", "sentinel", "'is not missing'"),
        ("F.model.like('null')", "F.model.like('null')", "sentinel", "nothing matches"),
        ("F.model == '__empty__'", "F.model == '__empty__'", "sentinel", "'is empty'"),
        ("F.model != '__empty__'", "F.model != '__empty__'", "fails", "code 47"),
        ("F.model.contains('null')", "F.model.contains('null')", "fails", "code 70"),
        ("F.request_id.contains('null')", "F.request_id.contains('null')", "fails", "code 70"),
        ("F.session_tag == 'null'", "F.session_tag == 'null'", "sentinel", "nothing matches"),
        ("F.session_tag == '__empty__'", "F.session_tag == '__empty__'", "fails", "code 47"),
        ("F.model.like('a\\\\')", "F.model.like('a\\\\')", "fails", "code 25"),
        ("F.properties['k'].ilike('\\\\')", "F.properties['k'].ilike('\\\\')", "fails", "code 25"),
        ("F.cost > 3", "F.cost > 3", "overflow", "it is read as -1.294967296"),
        ("F.cost > 2.147483648", "F.cost > 2.147483648", "overflow", "it is read as -2.147483648"),
        ("F.cost > 1e13", "F.cost > 10000000000000.0", "fails", "code 457"),
        ("F.cost >= 1e-10", "F.cost >= 1e-10", "inexact", "read as 0"),
        ("F.cost == 1.5e-9", "F.cost == 1.5e-09", "inexact", "read as 0.000000001"),
        ("F.cost > 0.0157", "F.cost > 0.0157", "inexact", "read as 0.015699999"),
        ("F.prompt_tokens > 2**31", "F.prompt_tokens > 2147483648", "overflow", "as -2147483648"),
        ("F.status == -(2**31) - 1", "F.status == -2147483649", "overflow", "as 2147483647"),
        ("F.latency > 2.0**32", "F.latency > 4294967296.0", "overflow", "as 0"),
        ("F.request_body.contains('x')", "F.request_body.contains('x')", "age", "three months"),
        ("F.cost == 0", "F.cost == 0", "missing", "requests without a cost are stored with cost 0"),
        ("F.cost <= 2.147483647", "F.cost <= 2.147483647", "missing", "match too"),
        ("~(F.cost > 0.5)", "F.cost <= 0.5", "missing", "match too"),
        ("F.cost >= 0", "F.cost >= 0", "missing", "match too"),
        ("F.cost != 0.5", "F.cost != 0.5", "missing", "match too"),
        ("(F.cost > 0) | (F.cost < 1)", "F.cost < 1", "missing", "match too"),
        ("(F.latency > 5) & (F.cost < 1)", "F.cost < 1", "missing", "match too"),
    ],
)
def test_what_is_said_of_a_condition(source: str, condition: str, effect: str, reason: str) -> None:
    """A caution names the condition, the effect, the reason and the remedy."""
    (caution,) = all_of(read(source)).cautions()
    assert (condition, effect) == (caution.condition, caution.effect)
    assert reason in caution.reason
    assert caution.remedy
    assert f"{condition}: {caution.reason}; {caution.remedy}" == str(caution)


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
def test_a_fraction_of_a_second(sign: str) -> None:
    """The server drops a fraction of a second, and equality with one matches nothing."""
    cautions = read(f"F.request_created_at {sign} MOMENT.replace(microsecond=5)").cautions()
    assert {"inexact"} == {caution.effect for caution in cautions}
    assert (sign == "==") is ("no request matches" in cautions[0].reason)


def test_the_way_out_of_a_cut_off_cost() -> None:
    """The server reads the suggested constant as the intended cost."""
    for tenths_of_a_cent in range(1, 20_000):
        for caution in (F.cost > tenths_of_a_cent / 10_000).cautions():
            offered = float(caution.remedy.split()[0])
            assert tenths_of_a_cent * 100_000 == math.floor(offered * 1e9)


EVERY_GAP = DataGaps(some=frozenset({"cost", "status", "model"}))


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("F.cost < 1", ["cost"]),
        ("F.status == 0", ["status"]),
        ("F.status != 200", ["status"]),
        ("F.status < 400", ["status"]),
        ("F.model != 'o3'", ["model"]),
        ("~F.model.contains('gpt')", ["model"]),
        ("~((F.model == 'o3') & (F.cost > 1))", ["model", "cost"]),
        ("F.status >= 200", []),
        ("F.status.between(200, 299)", []),
        ("F.model.is_empty()", []),
        ("~F.model.is_empty()", []),
        ("F.model.contains('gpt') & (F.model != 'gpt-4')", []),
        ("(F.status != 0) & (F.status != 200)", []),
        ("F.latency < 1", []),
        ("F.user_id != 'x'", []),
        ("F.prompt_tokens == 0", []),
        ("NONE", []),
    ],
)
def test_conditions_that_match_missing_values(source: str, columns: list[str]) -> None:
    """Where data lacks values, a condition that matches the stored 0 or "" is cautioned."""
    found = data_cautions(all_of(read(source)).node, EVERY_GAP)
    assert [(name, "missing") for name in columns] == [(one.column, one.effect) for one in found]
    assert all(f"F.{one.column}" in one.remedy for one in found)
    assert () == data_cautions(all_of(read(source)).node, DataGaps())


@pytest.mark.parametrize("source", ["F.cost < 1", "F.status < 400", "F.model != 'o3'"])
def test_the_way_out_of_missing_values(source: str) -> None:
    """With the condition that the remedy adds, there is no caution."""
    condition = all_of(read(source))
    (caution,) = data_cautions(condition.node, EVERY_GAP)
    added = read(caution.remedy.removeprefix("add ").removesuffix(" to leave them out"))
    assert () == data_cautions((condition & added).node, EVERY_GAP)


def test_values_that_no_request_has() -> None:
    """A condition on a column without any value has a caution, whatever it matches."""
    gaps = DataGaps(all=frozenset({"request_body", "session_tag"}))
    condition = F.request_body.contains("x") | ~(F.session_tag == "beta") | F.response_body.contains("x")
    found = data_cautions(condition.node, gaps)
    assert [("request_body", "uncopied"), ("session_tag", "uncopied")] == [
        (c.column, c.effect) for c in found
    ]


def test_remedies_name_the_key() -> None:
    """A remedy names the key of the condition."""
    assert "use F.properties['k']" == (F.search_properties["k"] == "x").cautions()[0].remedy
    assert "use F.properties['k']" in (F.scores["k"] == 4).cautions()[0].remedy


@pytest.mark.parametrize("facts", SESSION_COLUMNS, ids=lambda facts: facts.name)
def test_session_columns_are_ignored(facts: object) -> None:
    """Every condition on a session column becomes true, except on the tag, and has a caution."""
    word: Operator = "gte" if "gte" in facts.operators else "equals"  # type: ignore[attr-defined]
    constant = {Kind.NUMBER: 1, Kind.TEXT: "x"}.get(facts.kind, read("MOMENT"))  # type: ignore[attr-defined]
    filter_ = getattr(F[facts.name], METHODS[word])(constant)  # type: ignore[attr-defined]
    (caution,) = filter_.cautions()
    assert ("ignored", facts.name) == (caution.effect, caution.column)  # type: ignore[attr-defined]


def test_the_ways_out_for_id_and_name_work() -> None:
    """For the session's id and name, the remedy is the property that the server reads."""
    for column, key in ((F.session_session_id, "Id"), (F.session_session_name, "Name")):
        (caution,) = (column == "x").cautions()
        assert f"use F.session_{key.lower()}" == caution.remedy
        assert () == (F.properties[f"Helicone-Session-{key}"] == "x").cautions()


@pytest.mark.parametrize(
    ("source", "widened"),
    [
        ("(F.model == 'x') | (F.session_total_cost > 1)", ["(F.model == 'x') | (F.session_total_cost > 1)"]),
        ("(F.model == 'x') & (F.session_total_cost > 1)", []),
        ("(F.session_total_tokens > 9) | (F.session_total_cost > 1)", []),
        (
            "~((F.model == 'x') & (F.session_total_cost > 1))",
            ["(F.model != 'x') | (F.session_total_cost <= 1)"],
        ),
        ("~((F.model == 'x') | (F.session_total_cost > 1))", []),
        ("(F.session_tag == 'x') | (F.model == 'x')", []),
        ("(F.property_key == 'k') | (F.model == 'x')", []),
        ("F.threat | (F.cached & (F.session_total_cost > 1))", []),
        ("F.threat | (F.session_total_cost > 1) & (F.session_total_tokens > 1)", ["F.threat | …"]),
        ("F.cached & (F.threat | (F.session_total_cost > 1))", ["F.threat | (F.session_total_cost > 1)"]),
    ],
)
def test_or_across_the_tables(source: str, widened: list[str]) -> None:
    """An "or" with a side that becomes true matches everything, and has a caution."""
    found = [c.condition for c in all_of(read(source)).cautions() if c.effect == "widened"]
    assert len(widened) == len(found)
    for start, condition in zip(widened, found, strict=True):
        assert condition.startswith(start.removesuffix("…"))


TWICE = datetime(2200, 1, 1, 0, 0, 0, 5, tzinfo=UTC)
EARLY = datetime(99, 12, 31, tzinfo=UTC)


def test_several_cautions_of_one_condition() -> None:
    """A condition can have several cautions."""
    assert ["inexact", "version"] == [c.effect for c in (F.request_created_at < TWICE).cautions()]
    assert ["twisted", "version"] == [c.effect for c in (F.scores["q"] != "04").cautions()]
    assert ["age", "fails"] == [c.effect for c in F.request_body.like("a\\").cautions()]


def test_times_that_are_refused() -> None:
    """The server rejects years below 100, even on columns that it ignores."""
    for column in (F.request_created_at, F.session_created_at):
        (caution,) = (column > EARLY).cautions()
        assert "fails" == caution.effect
        assert "422" in caution.reason


def test_no_remedy_leads_to_what_fails() -> None:
    """No remedy recommends a column that fails there, or equality on a score."""
    for facts in COLUMNS:
        assert "F.total_tokens" not in facts.server_remedy
        assert not re.search(r"F\.scores\S* ==|is_in", facts.server_remedy)


@pytest.mark.parametrize(
    ("columns", "most"),
    [
        (lambda index: F.properties[f"key {index}"] == "x", 3000),
        (lambda index: F.status == index, 4500),
        (lambda index: F.model.contains(f"model {index}"), 2900),
    ],
)
def test_too_many_conditions(columns: Any, most: int) -> None:
    """A statement that is too long has a caution; the number of conditions that fit depends on them."""
    many = [columns(index) for index in range(most * 6 // 5)]
    assert () == any_of(*many[:most]).cautions()
    (caution,) = any_of(*many).cautions()
    assert (f"the filter of {len(many)} conditions", "size") == (caution.condition, caution.effect)
    among = (F.cached | F.session_tag.like("x")) & any_of(*many)
    assert ["size"] == [caution.effect for caution in among.cautions()]


def nested(levels: int, *, first: bool) -> Filter:
    """And and or by turns: the nested part comes first, or last."""
    made = F.status == 0
    for level in range(1, levels + 1):
        parts = (made, F.status == level) if first else (F.status == level, made)
        made = all_of(*parts) if level % 2 else any_of(*parts)
    return made


def test_deep_nesting() -> None:
    """The server's parser fails from 197 levels on if the nested part comes first."""
    assert () == nested(196, first=True).cautions()
    (caution,) = nested(197, first=True).cautions()
    assert "fails" == caution.effect
    assert () == nested(199, first=False).cautions()


def test_each_thing_is_said_once_and_in_order() -> None:
    """Repeated cautions appear once, in the order of the filter."""
    filter_ = all_of(F.cost > 3, F.node_id == "x", any_of(F.cost > 3, F.threat))
    assert [("F.cost > 3", "overflow"), ("F.node_id == 'x'", "fails")] == effects(filter_)


def test_a_filter_that_cannot_be_sent() -> None:
    """If the API cannot express a filter, its cautions raise the error of sending it."""
    with pytest.raises(FilterValueError, match="the opposite of"):
        (~F.model.like("a%")).cautions()


def test_the_word_null_and_a_test_for_null() -> None:
    """The remedy for the text "null" is is_null() where the column can be null, and only there."""
    assert "write F.target_url.is_null() if you mean that" == (F.target_url == "null").cautions()[0].remedy
    assert "you cannot search for this word there" == (F.model == "null").cautions()[0].remedy


def test_long_conditions_are_cut() -> None:
    """A caution stays readable, however long the condition is."""
    (caution,) = (F.node_id == "x" * 1000).cautions()
    assert len(str(caution)) < 400


def test_cautions_are_plain_values() -> None:
    """Cautions compare and are pickled as values."""
    (caution,) = (F.cost > 3).cautions()
    assert caution == pickle.loads(pickle.dumps(caution))  # noqa: S301 - the test's own bytes
    assert hash(caution) == hash((F.cost > 3).cautions()[0])


@given(filters())
@settings(max_examples=repeats(200))
def test_every_filter_that_can_be_sent_has_an_answer(filter_: Filter) -> None:
    """Every filter that can be sent has its cautions, and they include ignored columns."""
    try:
        filter_.to_wire()
    except FilterValueError:
        return
    said = {caution.column for caution in filter_.cautions()}
    text = str(filter_.to_wire())
    assert all(f"'{c.name}'" not in text or c.name in said for c in COLUMNS if c.on_server is Reading.IGNORED)


def test_every_fact_has_a_way_out() -> None:
    """Every column that the server reads differently has a note and a remedy."""
    for facts in COLUMNS:
        is_plain = facts.on_server is Reading.READ and not (
            facts.server_refuses or facts.server_twists or facts.server_expires or facts.uuid
        )
        if not is_plain:
            assert facts.server_note, facts.name
            assert facts.server_remedy, facts.name


def test_constants_have_no_cautions() -> None:
    """Everything and nothing have none."""
    assert () == ALL.cautions() == NONE.cautions()


@given(conditions() | st.integers().map(lambda number: F.status == max(min(number, 2**53), -(2**53))))
@settings(max_examples=repeats(300))
def test_alone_and_among_others(condition: Filter) -> None:
    """A condition has the same cautions alone and deep among others."""
    nested = F.threat.is_true() & (F.cached.is_true() | (F.latency > 1) & condition)
    widened = [caution for caution in nested.cautions() if caution.effect != "widened"]
    assert list(condition.cautions()) == widened
