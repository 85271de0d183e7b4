"""`&`, `|`, `~`, all_of and any_of; what filters are as Python objects; and large ones."""

import copy
import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter, all_of, any_of
from helicone_sessions.filters.nodes import Not, simplify
from helicone_sessions.filters.schema import Kind
from tests.filters.support import CONTRADICTION, MOMENT, again, branch, leaf, read
from tests.parts import parts
from tests.repeats import repeats
from tests.strategies import METHODS, PAIRS, filters, numbers, texts, times

A, B, C, D = (F.latency == number for number in range(4))
NAMES = {"A": A, "B": B, "C": C, "D": D, "T": F.threat}
MANY = 10_000

Row = dict[Kind, Any]


class Written(dict[str, Any]):
    """A leaf or branch of the API; & and | join exactly two."""

    def __and__(self, other: "Written") -> "Written":
        return Written(branch("and", self, other))

    def __or__(self, other: "Written") -> "Written":  # type: ignore[override]
        return Written(branch("or", self, other))


WRITTEN = {name: Written(leaf("latency", "equals", number)) for number, name in enumerate("ABCD")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("A & B", "A & B"),
        ("A | B", "A | B"),
        ("A & B & C", "(A & B) & C"),
        ("A & (B & C)", "(A & B) & C"),
        ("A | B | C | D", "(A | B) | (C | D)"),
        ("A | B & C", "A | (B & C)"),
        ("(A | B) & C", "(A | B) & C"),
        ("all_of(A, B)", "A & B"),
        ("any_of(A, B)", "A | B"),
        ("all_of(A, None, B, None)", "A & B"),
        ("any_of(None, A)", "A"),
        ("all_of(all_of(A, B), C)", "(A & B) & C"),
        ("any_of(*(x for x in (A, B)))", "A | B"),
        ("A & A", "A"),
        ("A | B | A", "A | B"),
        ("all_of(B, A, B, A)", "B & A"),
        ("(A | B) & C & (A | B)", "(A | B) & C"),
        ("(A & A) | (B & B)", "A | B"),
        ("(A | A) & (A | A)", "A"),
        ("A & ALL", "A"),
        ("ALL & A & ALL", "A"),
        ("NONE | A", "A"),
        ("A | (B & NONE)", "A"),
        ("A & (B | ALL)", "A"),
        ("A | ~(ALL | B)", "A"),
        ("~(NONE & A) & B", "B"),
        ("~~A", "A"),
        ("~~(A | B)", "A | B"),
    ],
)
def test_joined(source: str, expected: str) -> None:
    """Filters are joined in the order written, paired evenly, without repetition, None and constants."""
    assert read(expected, **WRITTEN) == read(source, **NAMES).to_wire()


@pytest.mark.parametrize(
    "source", ["ALL", "all_of()", "all_of(None)", "~NONE", "A | ALL", "~any_of()", "ALL & ALL", "~(A & NONE)"]
)
def test_everything(source: str) -> None:
    """A filter that matches everything is sent as "all"."""
    assert "all" == read(source, **NAMES).to_wire()
    assert not read(source, **NAMES).matches_nothing


@pytest.mark.parametrize(
    "source",
    ["NONE", "any_of()", "any_of(None)", "~ALL", "A & NONE", "~all_of()", "NONE | NONE", "~(A | ALL)"],
)
def test_nothing(source: str) -> None:
    """A filter that matches nothing is sent as a contradiction, never as "all"."""
    assert CONTRADICTION == read(source, **NAMES).to_wire()
    assert read(source, **NAMES).matches_nothing


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (True, "ALL matches everything"),
        (False, "NONE nothing"),
        ("gpt", "got 'gpt'"),
        (F.cost, "Compare it with a constant"),
        (F.properties, "Name a key"),
        ({"cost": 1}, r"Filter\.from_wire"),
        ([A], "separate arguments"),
        ([A, B], "separate arguments"),
        (A & F.cost, "Compare it with a constant"),
        (A & True, "Compare it with a constant"),
    ],
)
@pytest.mark.parametrize("function", [all_of, any_of])
def test_only_filters_are_joined(function: Callable[..., Filter], wrong: object, words: str) -> None:
    """all_of and any_of reject anything but filters."""
    with pytest.raises(FilterTypeError, match=words):
        function(wrong)


@pytest.mark.parametrize("name", ["threat", "helicone-score-feedback"])
def test_boolean_columns_are_conditions(name: str) -> None:
    """A boolean column is a condition by itself, in all_of too."""
    assert leaf(name, "equals", True) == all_of(F[name]).to_wire()
    assert leaf(name, "equals", False) == (~F[name]).to_wire()


OPPOSITE = {
    "equals": "not-equals",
    "contains": "not-contains",
    "gt": "lte",
    "gte": "lt",
    "not-equals": "equals",
    "not-contains": "contains",
    "lte": "gt",
    "lt": "gte",
}


@pytest.mark.parametrize(("name", "word"), PAIRS)
def test_every_pair_is_negated_or_refused(name: str, word: str) -> None:
    """Each condition has an opposite in the API, or is rejected by name."""
    kind = F[name].facts.kind
    column = F[name]["k"] if kind is Kind.MAP else F[name]
    value = {Kind.NUMBER: 2, Kind.TIMESTAMP: MOMENT, Kind.BOOLEAN: True}.get(kind, "x%")
    condition = getattr(column, METHODS[word])(value)
    if kind is Kind.KEY or word in ("like", "ilike"):
        with pytest.raises(FilterValueError, match=re.escape(f"the opposite of {condition!r}.")):
            (~condition).to_wire()
        return
    if kind is Kind.BOOLEAN:
        opposite = column == False  # noqa: E712 - it builds a filter
    elif kind is Kind.TIMESTAMP and word == "equals":
        opposite = (column < value) | (column > value)
    else:
        opposite = getattr(column, METHODS[OPPOSITE[word]])(value)
    assert opposite.to_wire() == (~condition).to_wire()


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("~(A & B)", "(F.latency != 0) | (F.latency != 1)"),
        ("~(A | B)", "(F.latency != 0) & (F.latency != 1)"),
        ("~(A & (B | ~C))", "(F.latency != 0) | (F.latency != 1) & (F.latency == 2)"),
        ("~(T & ~F.cached)", "(F.threat == False) | (F.cached == True)"),
        ("~F.latency.between(1, 5)", "(F.latency < 1) | (F.latency > 5)"),
        ("~F.model.is_in(['a', 'b'])", "(F.model != 'a') & (F.model != 'b')"),
        ("~F.model.not_in(['a', 'b'])", "(F.model == 'a') | (F.model == 'b')"),
        ("~(F.request_created_at != MOMENT)", "F.request_created_at.between(MOMENT, MOMENT)"),
        ("~F.model.like('gpt')", "F.model != 'gpt'"),
        (r"~F.model.like('50\\%')", "F.model != '50%'"),
        ("~F.model.ilike('%gpt%')", "F.model.not_contains('gpt')"),
        (r"~F.model.ilike('%50\\%%')", "F.model.not_contains('50%')"),
        ("~F.model.contains('50%')", "F.model.not_contains('50%')"),
        ("~~F.model.like('a%')", "F.model.like('a%')"),
        ("~(~F.model.like('a%') | A)", "F.model.like('a%') & (F.latency != 0)"),
    ],
)
def test_negated(source: str, same: str) -> None:
    """A ~ moves into the conditions, where the API's opposite operators replace it."""
    assert read(same).to_wire() == read(source, **NAMES).to_wire()


@pytest.mark.parametrize(
    "source",
    [
        "F.model.like('a%')",
        "F.model.like('a_')",
        "F.model.ilike('abc')",
        "F.model.ilike('%abc')",
        "F.model.ilike('abc%')",
        "F.model.ilike('%a_b%')",
        "F.model.ilike('%%')",
        "F.model.startswith('a')",
        "F.properties['env'].iendswith('a')",
        "(F.property_key == 'k')",
    ],
)
def test_refused_opposites(source: str) -> None:
    """A condition without an opposite is rejected, by name, only when its negation is sent."""
    negated = A & (~read(source) | B)
    assert (~(A & (~read(source) | B))).to_wire() is not None
    with pytest.raises(FilterValueError, match=re.escape(repr(read(source)))):
        negated.to_wire()


@given(filters())
@settings(max_examples=repeats(60))
def test_negated_twice(filter_: Filter) -> None:
    """~~x is x."""
    assert filter_ == ~~filter_
    assert filter_.to_wire() == (~~filter_).to_wire()


def _like(pattern: str, text: str) -> bool:
    """ClickHouse's ILIKE as a regular expression."""
    tokens = re.findall(r"\\[\\%_]|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(token) or re.escape(token[-1]) for token in tokens)
    return re.fullmatch(expression, text, re.DOTALL | re.IGNORECASE) is not None


def _matches(wire: Any, row: Row) -> bool:
    """Whether the server finds *row*, which has one value for all columns of a kind."""
    if wire == "all":
        return True
    if "operator" in wire:
        left, right = _matches(wire["left"], row), _matches(wire["right"], row)
        return left and right if wire["operator"] == "and" else left or right
    [(name, below)] = next(iter(wire.values())).items()
    kind = F[name].facts.kind
    [(word, value)] = next(iter(below.values())).items() if kind is Kind.MAP else below.items()
    found = row[Kind.TEXT if kind in (Kind.MAP, Kind.KEY) else kind]
    if kind is Kind.TIMESTAMP:
        value = datetime.fromisoformat(value)
    tests: dict[str, Callable[[], bool]] = {
        "equals": lambda: found == value,
        "not-equals": lambda: found != value,
        "gt": lambda: found > value,
        "gte": lambda: found >= value,
        "lt": lambda: found < value,
        "lte": lambda: found <= value,
        "like": lambda: _like(value, found),
        "ilike": lambda: _like(value, found),
        "contains": lambda: _like(f"%{value}%", found),
        "not-contains": lambda: not _like(f"%{value}%", found),
    }
    return tests[word]()


rows = st.fixed_dictionaries(
    {Kind.TEXT: texts, Kind.NUMBER: numbers, Kind.TIMESTAMP: times, Kind.BOOLEAN: st.booleans()}
)


@given(filters(negatable=True), rows)
@settings(max_examples=repeats(120))
def test_opposites_match_the_other_rows(filter_: Filter, row: Row) -> None:
    """Exactly one of x and ~x matches a row."""
    assert _matches(filter_.to_wire(), row) is not _matches((~filter_).to_wire(), row)


@given(st.lists(filters(max_leaves=6), max_size=4), rows)
@settings(max_examples=repeats(80))
def test_joined_filters_match_together(parts: list[Filter], row: Row) -> None:
    """all_of matches where all parts match, any_of where at least one does."""
    found = [_matches(part.to_wire(), row) for part in parts]
    assert all(found) is _matches(all_of(*parts).to_wire(), row)
    assert any(found) is _matches(any_of(*parts).to_wire(), row)


def _depth(wire: Any) -> int:
    return 1 + max(_depth(wire["left"]), _depth(wire["right"])) if "operator" in wire else 1


def _constants(wire: Any) -> list[int]:
    if "operator" in wire:
        return _constants(wire["left"]) + _constants(wire["right"])
    return [wire["request_response_rmt"]["latency"]["equals"]]


@pytest.mark.parametrize("count", [2, 3, 7, 1000, MANY])
@pytest.mark.parametrize("function", [all_of, any_of])
def test_wide_filters_are_balanced(function: Callable[..., Filter], count: int) -> None:
    """Many terms are sent as a tree of minimal depth, in their order."""
    wire = function(*(F.latency == number for number in range(count))).to_wire()
    assert math.ceil(math.log2(count)) + 1 == _depth(wire)
    assert list(range(count)) == _constants(wire)


def _alternation(depth: int) -> Filter:
    built = F.latency == 0
    for number in range(1, depth):
        term = F.latency == number
        built = all_of(built, term) if number % 2 else any_of(term, built)
    return built


def test_the_deepest_that_is_sent() -> None:
    """A filter of 200 levels is sent, and one of 201 is rejected."""
    assert 200 == _depth(_alternation(200).to_wire())
    with pytest.raises(FilterValueError, check=parts(argument="filter")):
        _alternation(201).to_wire()


def _chain() -> Filter:
    built = F.latency == 0
    for number in range(1, MANY):
        built |= F.latency == number
    return built


def _doubly_negated() -> Filter:
    return ~_alternation(MANY)


@pytest.mark.parametrize("build", [_chain, lambda: _alternation(MANY), _doubly_negated])
def test_large_filters(build: Callable[[], Filter]) -> None:
    """Ten thousand terms in a row or nested are hashed, compared, pickled and printed."""
    filter_ = build()
    assert hash(build()) == hash(filter_)
    assert build() == filter_
    assert A != filter_
    assert filter_ == again(filter_)
    assert "F.latency == 9999" in repr(filter_)
    assert filter_.explain().count("latency equals") == MANY
    assert not filter_.matches_nothing


def test_a_chain_is_flat() -> None:
    """Ten thousand terms joined one by one are the same filter as any_of, and its opposite can be sent."""
    terms = [F.latency == number for number in range(MANY)]
    assert any_of(*terms) == _chain()
    assert all_of(*(F.latency != number for number in range(MANY))).to_wire() == (~_chain()).to_wire()
    assert _chain() == Filter.from_wire(_chain().to_wire())


def test_filters_do_not_change() -> None:
    """A filter cannot be changed, or created by its class; &= creates another."""
    before = filter_ = A & B
    filter_ &= C
    assert (A & B) == before
    for name in ("_node", "extra"):
        with pytest.raises(AttributeError, match=f"cannot be changed; '{name}'"):
            setattr(before, name, C)
        with pytest.raises(AttributeError, match=f"cannot be changed; '{name}'"):
            delattr(before, name)
    with pytest.raises(FilterTypeError, match="Compare a column"):
        Filter()


def test_filters_are_equal_by_structure() -> None:
    """Filters written alike are equal, with equal hashes."""
    assert (A & B) == (A & B)
    assert 2 == len({A & B, all_of(A, B), B & A})
    assert (A & B) != (B & A)
    assert (A & B & C) == (A & (B & C))
    assert (F.cost == 1) == (F.cost == 1.0)
    assert (F.cost == 1) != (F.latency == 1)
    assert (F.properties["a"] == "x") != (F.properties["b"] == "x")
    assert {A: "a"} == {F.latency == 0: "a"}
    assert A in [B, A]


@pytest.mark.parametrize("other", [None, [], {}, object(), ()])
def test_filters_equal_nothing_else(other: object) -> None:
    """A filter is unequal to a value that is neither a filter nor a constant, as dataclasses need it."""
    assert A != other
    assert not other == A  # noqa: SIM201 - the other operator


@given(filters())
@settings(max_examples=repeats(60))
def test_copies_are_equal(filter_: Filter) -> None:
    """Copies of a filter, and its pickle, are equal to it."""
    assert filter_ is copy.copy(filter_)
    assert [filter_] == copy.deepcopy([filter_])
    assert hash(filter_) == hash(again(filter_))
    assert filter_ == again(filter_)


@pytest.mark.parametrize("column", [F.cost, F.properties["env"]], ids=repr)
def test_a_column_is_its_own_copy(column: Any) -> None:
    """Copies of a column are the column itself, because it cannot be changed."""
    assert column is copy.copy(column)
    assert column is copy.deepcopy([column])[0]


def test_a_filter_is_formatted_as_its_text() -> None:
    """A format specification applies to the text of the filter."""
    assert "      cost > 1" == f"{F.cost > 1:>14}"


def test_a_negation_of_a_negation_is_none() -> None:
    """A double negation of plain data has the message for none."""
    node = (F.cost > 1).node
    assert node == simplify(Not(Not(node)))


@pytest.mark.parametrize("source", ["ALL", "NONE", "A | ~ALL", "A & NONE", "A | ALL"])
def test_pickled_constants(source: str) -> None:
    """A filter with ALL or NONE inside is sent and printed the same after pickle."""
    filter_ = read(source, **NAMES)
    assert filter_.to_wire() == again(filter_).to_wire()
    assert repr(filter_) == repr(again(filter_))
