"""Every operator and method on every column, and the leaves that it gives."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings

from helicone_sessions.errors import FilterTypeError, FilterValueError, UnknownOperator
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, NONE, Filter
from helicone_sessions.filters.schema import Kind
from tests.filters.support import MOMENT, again, branch, leaf, needs_contract, read, strict_contract
from tests.parts import parts
from tests.repeats import repeats
from tests.strategies import COMPARISONS, METHODS, PAIRS, filters

CONSTANTS: dict[Kind, Any] = {Kind.NUMBER: 2.5, Kind.TIMESTAMP: MOMENT, Kind.BOOLEAN: True}
TIMES = [name for name, word in PAIRS if name.endswith("_at") and word == "equals"]


def _case(name: str) -> tuple[Any, Any, str | None]:
    """A column to compare, a constant for it, and the key of a map column."""
    kind = F[name].facts.kind
    key = "env" if kind is Kind.MAP else None
    return F[name] if key is None else F[name][key], CONSTANTS.get(kind, "x"), key


@pytest.mark.parametrize(("name", "word"), PAIRS)
def test_a_pair_is_one_leaf(name: str, word: str) -> None:
    """Every operator of every column gives one leaf with one column and one operator."""
    column, constant, key = _case(name)
    sent = "2026-11-01T12:30:00.000Z" if constant is MOMENT else constant
    assert leaf(name, word, sent, key) == getattr(column, METHODS[word])(constant).to_wire()


@pytest.mark.parametrize(("name", "word"), [pair for pair in PAIRS if pair[1] in COMPARISONS])
def test_symbols_have_method_twins(name: str, word: str) -> None:
    """A comparison sign and its method build the same filter."""
    column, constant, _ = _case(name)
    assert COMPARISONS[word](column, constant) == getattr(column, METHODS[word])(constant)


@needs_contract
@pytest.mark.parametrize(("name", "word"), PAIRS)
def test_a_pair_is_in_the_contract(name: str, word: str) -> None:
    """Every leaf is valid by the contract's schema, read strictly."""
    column, constant, _ = _case(name)
    strict_contract().validate(getattr(column, METHODS[word])(constant).to_wire())


@needs_contract
@given(filters())
@settings(max_examples=repeats(60))
def test_filters_are_in_the_contract(filter_: Filter) -> None:
    """Every filter is valid by the contract's schema, read strictly."""
    strict_contract().validate(filter_.to_wire())


@needs_contract
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}},
        {"request_response_rmt": {"latency": {"gte": 1}, "cost": {"gt": 1}}},
        {"request_response_rmt": {"property_key": {"like": "x"}}},
        {"request_response_rmt": {"properties": {"a": {"equals": "x"}, "b": {"equals": "x"}}}},
    ],
)
def test_the_strict_contract_refuses(wrong: object) -> None:
    """The strict schema of these tests rejects everything that the server would read only in part."""
    assert not strict_contract().is_valid(wrong)


@pytest.mark.parametrize(
    ("source", "word", "value"),
    [
        ("contains('gpt')", "contains", "gpt"),
        ("contains('50%')", "ilike", r"%50\%%"),
        ("contains('a_b')", "ilike", r"%a\_b%"),
        (r"contains('a\\b')", "ilike", r"%a\\b%"),
        ("not_contains('gpt')", "not-contains", "gpt"),
        (r"not_contains('5%_\\')", "not-contains", r"5\%\_\\"),
        ("like('a%_b')", "like", "a%_b"),
        ("like('')", "like", ""),
        ("ilike('A%')", "ilike", "A%"),
        ("ilike('%gpt%')", "ilike", "%gpt%"),
        (r"ilike('%a\\b%')", "ilike", r"%a\b%"),
        (r"ilike('%50\\%%')", "ilike", r"%50\%%"),
        ("startswith('o3')", "like", "o3%"),
        (r"startswith('5%_\\')", "like", r"5\%\_\\%"),
        (r"istartswith('5%_\\')", "ilike", r"5\%\_\\%"),
        (r"endswith('5%_\\')", "like", r"%5\%\_\\"),
        (r"iendswith('5%_\\')", "ilike", r"%5\%\_\\"),
    ],
)
@pytest.mark.parametrize("name", ["model", "session_tag", "properties", "scores"])
def test_text_methods(name: str, source: str, word: str, value: str) -> None:
    r"""Text is searched literally, with % _ and \ escaped; in like and ilike they are wildcards."""
    column, _, key = _case(name)
    assert leaf(name, word, value, key) == read(f"column.{source}", column=column).to_wire()


@pytest.mark.parametrize(
    "method",
    ["contains", "not_contains", "startswith", "istartswith", "endswith", "iendswith"],
)
def test_empty_text_is_not_searched(method: str) -> None:
    """A search for empty text, which every value contains, is rejected."""
    with pytest.raises(FilterValueError, match=r"F\.model takes text that is not empty"):
        getattr(F.model, method)("")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), "2026-11-01T00:00:00.000Z"),
        (datetime(2026, 11, 1, 0, 0, 0, 7000, UTC), "2026-11-01T00:00:00.007Z"),
        (datetime(2026, 11, 1, 0, 0, 0, 7001, UTC), "2026-11-01T00:00:00.007001Z"),
        (datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-10-31T23:00:00.000Z"),
        (datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(minutes=-330))), "2026-11-01T06:30:00.000Z"),
        (datetime(999, 1, 1, tzinfo=UTC), "0999-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_sent_in_utc(moment: datetime, text: str) -> None:
    """A time is sent in UTC with Z, in milliseconds, or in microseconds if it has any."""
    assert leaf("request_created_at", "gte", text) == (F.request_created_at >= moment).to_wire()


@pytest.mark.parametrize("name", TIMES)
def test_unequal_times_are_before_or_after(name: str) -> None:
    """The != that the API lacks for times is sent as before or after."""
    assert ((F[name] < MOMENT) | (F[name] > MOMENT)) == (F[name] != MOMENT)
    assert F[name].ne(MOMENT) == (F[name] != MOMENT)


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("F.latency.between(1, 5)", "(F.latency >= 1) & (F.latency <= 5)"),
        ("F.latency.between(1, 5, 'both')", "(F.latency >= 1) & (F.latency <= 5)"),
        ("F.latency.between(1, 5, 'left')", "(F.latency >= 1) & (F.latency < 5)"),
        ("F.latency.between(1, 5, inclusive='right')", "(F.latency > 1) & (F.latency <= 5)"),
        ("F.latency.between(1, 5, inclusive='neither')", "(F.latency > 1) & (F.latency < 5)"),
        ("F.cost.between(2, 2.0)", "(F.cost >= 2) & (F.cost <= 2)"),
        (
            "F.session_created_at.between(MOMENT, MOMENT, 'left')",
            "(F.session_created_at >= MOMENT) & (F.session_created_at < MOMENT)",
        ),
        ("F.model.is_in(['b', 'a', 'b'])", "(F.model == 'b') | (F.model == 'a')"),
        ("F.model.is_in(name for name in ('a', 'b'))", "(F.model == 'a') | (F.model == 'b')"),
        ("F.model.is_in({'a': 1})", "F.model == 'a'"),
        ("F.model.not_in(('a', 'b'))", "(F.model != 'a') & (F.model != 'b')"),
        ("F.properties['env'].is_in(['a'])", "F.properties['env'] == 'a'"),
        ("F.scores['q'].is_in([1, 2])", "(F.scores['q'] == '1') | (F.scores['q'] == '2')"),
        ("F.threat.is_in([True, False])", "(F.threat == True) | (F.threat == False)"),
        ("F.threat.not_in([True])", "F.threat == False"),
        ("F.request_created_at.is_in([MOMENT])", "F.request_created_at == MOMENT"),
        ("F.request_created_at.not_in([MOMENT])", "F.request_created_at != MOMENT"),
        ("F.status.is_in(range(500, 600))", "(F.status >= 500) & (F.status < 600)"),
        ("F.status.is_in(range(500, 501))", "F.status == 500"),
        ("F.status.is_in(range(200, 500, 100))", "F.status.is_in([200, 300, 400])"),
        ("F.cost.is_in(range(1, 3))", "(F.cost == 1) | (F.cost == 2)"),
        ("F.status.not_in(range(1, 3))", "(F.status < 1) | (F.status >= 3)"),
        ("F.status.not_in(range(1, 2))", "F.status != 1"),
        ("F.threat.is_true()", "F.threat == True"),
        ("F.threat.is_false()", "F.threat == False"),
        ("F.threat != True", "F.threat == False"),
        ("F.threat != False", "F.threat == True"),
        ("F.threat & F.cached", "F.threat.is_true() & F.cached.is_true()"),
        ("F['helicone-score-feedback'] == True", "F.helicone_score_feedback.is_true()"),
        ("F.country_code.is_null()", "F.country_code == 'null'"),
        ("F.user_id.is_empty()", "F.user_id == ''"),
        ("F.properties['env'].is_empty()", "F.properties['env'] == ''"),
        ("F.assets.is_empty()", "F.assets == '__empty__'"),
    ],
)
def test_shorthands(source: str, same: str) -> None:
    """A shorthand builds the same filter as its long form."""
    assert read(same) == read(source)


@pytest.mark.parametrize("name", sorted({name for name, _ in PAIRS if name != "property_key"}))
def test_lists_of_nothing(name: str) -> None:
    """One of no values is NONE, none of no values is ALL, on every column."""
    column, _, _ = _case(name)
    assert NONE == column.is_in([])
    assert ALL == column.not_in([])
    assert column.is_in(range(0)).matches_nothing


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("F.latency.between(5, 1)", FilterValueError, "takes the lower end of a range first"),
        ("F.latency.between(1, 5, 'outer')", FilterValueError, "one of both, left, right, neither"),
        ("F.latency.between(1, '5')", FilterTypeError, "got '5'"),
        ("F.latency.between(float('nan'), 5)", FilterValueError, "finite"),
        ("F.model.is_in('gpt')", FilterTypeError, "a list of values"),
        ("F.model.not_in('gpt')", FilterTypeError, "a list of values"),
        ("F.model.is_in(F.provider)", FilterTypeError, "a list of values"),
        ("F.model.is_in(None)", FilterTypeError, "a list of values"),
        ("F.model.is_in(['a', None])", FilterTypeError, "None"),
        ("F.model.is_in([['a']])", FilterTypeError, r"got \['a'\]"),
        ("F.cost.is_in([1, True])", FilterTypeError, "got True"),
        ("F.model < 'x'", FilterTypeError, r"F\.model is a text column and has no <, got 'x'. It has ==, !="),
        ("F.scores['q'] >= 3", FilterTypeError, r"F\.scores\['q'\] is a .* column and has no >=, got 3"),
        ("F.threat > False", FilterTypeError, "is_true"),
        ("F.property_key != 'k'", FilterTypeError, "has =="),
        ("F.properties == 'x'", FilterTypeError, "Name a key"),
        ("~F.properties", FilterTypeError, "Name a key"),
        ("F.properties[5]", FilterTypeError, "takes text as a key"),
        ("F.properties['']", FilterValueError, "takes a key that is not empty"),
        (r"F.properties['\ud800']", FilterValueError, "surrogate"),
        ("F.cost.contains('x')", AttributeError, r"F\.cost is a number column .* \.between\(\)"),
        ("F.model.between('a', 'b')", AttributeError, r"F\.model is a text column"),
        ("F.property_key.is_in(['k'])", AttributeError, r"map key column and has no \.is_in. It has =="),
        ("F.model.is_in(5)", FilterTypeError, "a list of values"),
        ("F.properties['k'].is_null()", FilterTypeError, r"is never null. Use \.is_empty\(\)"),
        ("F.session_tag.is_null()", FilterTypeError, "never null"),
        ("F.model.is_null()", FilterTypeError, "F.model is never null"),
        ("F.scores_column.is_null()", FilterTypeError, "never null"),
        ("F.scores['q'].is_empty()", FilterTypeError, "is never empty"),
        ("F.scores['q'].is_null()", FilterTypeError, "matches no condition"),
        ("F.scores['q'] > 4", FilterTypeError, r"\.not_in\(\)$"),
        ("F.properties['k'] > 'x'", FilterTypeError, r"\.not_in\(\), \.is_empty\(\)$"),
        ("F.cost.is_in(range(10**9))", FilterValueError, "at most 100,000 values"),
        ("F.threat.to_wire", AttributeError, r"Write F\.threat\.is_true\(\)\.to_wire"),
        ("F.properties.contains('x')", AttributeError, r"F\.properties\['env'\]\.contains"),
    ],
)
def test_what_a_column_lacks(source: str, error: type[Exception], words: str) -> None:
    """A missing method or operator is rejected with the list of the column's own."""
    with pytest.raises(error, match=words):
        read(source)


@pytest.mark.parametrize(
    ("source", "mend"),
    [
        ("F.model.contian", "contains"),
        ("F.model.starts_with", "startswith"),
        ("F.model.isin", "is_in"),
        ("F.model.in_", "is_in"),
        ("F.model.equals", "eq"),
        ("F.country_code.isnull", "is_null"),
        ("F.model.StartsWith", "startswith"),
        ("F.cost.ge", "gte"),
        ("F.cost.is_between", "between"),
        ("F.threat.istrue", "is_true"),
        ("F.properties['env'].icontains", "contains"),
    ],
)
def test_a_misspelt_operator(source: str, mend: str) -> None:
    """A misspelt operator, or one of another library, is answered with the right name."""
    with pytest.raises(UnknownOperator, match=rf"Did you mean \.{mend}\? It has =="):
        read(source)


def test_what_is_no_operator() -> None:
    """A name without a near match is answered with the column's operators, and hasattr is False."""
    with pytest.raises(UnknownOperator, check=parts(column="cost")):
        _ = F.cost.contains  # type: ignore[attr-defined]
    assert not hasattr(F.cost, "contains")
    assert not hasattr(F, "modle")


def test_is_null_says_so() -> None:
    """A test for a missing value keeps its name, and is the comparison that the API has for it."""
    filter_ = F.country_code.is_null()
    assert "F.country_code.is_null()" == repr(filter_)
    assert leaf("country_code", "equals", "null") == filter_.to_wire()
    assert leaf("country_code", "not-equals", "null") == (~filter_).to_wire()
    assert filter_ == Filter.from_wire(filter_.to_wire())
    assert "F.country_code.is_null()" == repr(again(filter_))


def test_the_opposite_of_empty() -> None:
    """A value that is not empty differs from the empty text, in each spelling of "is empty"."""
    assert (
        leaf("model", "not-equals", "")
        == (~F.model.is_empty()).to_wire()
        == (~(F.model == "__empty__")).to_wire()
    )
    assert (
        leaf("properties", "not-equals", "__empty__", "k") == (~(F.properties["k"] == "__empty__")).to_wire()
    )
    for refused in (~F.assets.is_empty(), ~(F.model != "__empty__"), ~F.model.like("null")):
        with pytest.raises(FilterValueError, match="the opposite of"):
            refused.to_wire()


def test_keys_are_free() -> None:
    """A key of a map can be any text, even a word of the API."""
    for key in ("left", "equals", "properties", 'it\'s "quoted"', "é☃", " "):
        expected = branch("and", leaf("properties", "equals", "x", key), leaf("threat", "equals", True))
        assert expected == (F.properties[key] == "x" & F.threat).to_wire()
