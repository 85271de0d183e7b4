"""Comparisons without parentheses: what was meant, or an error."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions.errors import FilterError, FilterTypeError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter, all_of, any_of
from tests.filters.support import MOMENT, Code, Flags, Level, Model, read
from tests.repeats import repeats

P, Q = F.model.contains("gpt"), F.user_id.like("a%")
NAMES = {"P": P, "Q": Q, "Model": Model, "Code": Code, "Level": Level, "Flags": Flags, "UUID": UUID}


def test_the_first_example() -> None:
    """F.cost > 0.1 & F.model.contains("gpt") means what it says."""
    expected = {
        "left": {"request_response_rmt": {"cost": {"gt": 0.1}}},
        "operator": "and",
        "right": {"request_response_rmt": {"model": {"contains": "gpt"}}},
    }
    assert expected == (F.cost > 0.1 & F.model.contains("gpt")).to_wire()


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("P & F.cost > 0.1", "P & F.cost.gt(0.1)"),
        ("F.status == 200 & P", "F.status.eq(200) & P"),
        ("F.model == 'x' & F.threat", "F.model.eq('x') & F.threat"),
        ("F.status == 200 | P & F.threat", "F.status.eq(200) | (P & F.threat)"),
        ("F.threat & F.cost > 1", "F.threat.is_true() & F.cost.gt(1)"),
        ("F.threat | F.cost > 1 & F.cached", "F.threat.is_true() | (F.cost.gt(1) & F.cached)"),
        ("~F.threat & F.cost > 1", "~(F.threat.is_true()) & F.cost.gt(1)"),
        ("~P & F.model == 'x' & ~F.cached", "all_of(~P, F.model.eq('x'), ~F.cached)"),
        ("~F.cost > 1", "~(F.cost.gt(1))"),
        ("~~F.cost > 1", "F.cost.gt(1)"),
        ("P & ~F.cost > 1 | Q", "(P & ~(F.cost.gt(1))) | Q"),
        ("F.threat == True & P", "F.threat.is_true() & P"),
        ("(F.cost > 1) & F.latency < 2", "F.cost.gt(1) & F.latency.lt(2)"),
        ("F.cost > 1 & (F.latency < 2)", "F.cost.gt(1) & F.latency.lt(2)"),
        ("F.cost > 0.1 & (P | Q)", "F.cost.gt(0.1) & (P | Q)"),
        ("F.cost > 0.1 | P | F.cached & Q", "any_of(F.cost.gt(0.1), P, F.cached & Q)"),
        ("P | Q & F.cost <= 0.1", "P | (Q & F.cost.lte(0.1))"),
        ("P & Q | F.cost >= 0.1 & Q", "(P & Q) | (F.cost.gte(0.1) & Q)"),
        ("P & 5 < F.cost", "P & F.cost.gt(5)"),
        ("5 >= F.cost", "F.cost.lte(5)"),
        ("'x' != F.model", "F.model.ne('x')"),
        ("True == F.threat", "F.threat.is_true()"),
        ("P & 'x' == F.properties['env']", "P & F.properties['env'].eq('x')"),
        ("F.properties['env'] != 'x' | P", "F.properties['env'].ne('x') | P"),
        ("F.scores['q'] == 4 & P", "F.scores['q'].eq('4') & P"),
        ("F.property_key == 'k' & P", "F.property_key.eq('k') & P"),
        ("F.request_created_at >= MOMENT & P", "F.request_created_at.gte(MOMENT) & P"),
        ("P & F.session_created_at != MOMENT", "P & (F.session_created_at.ne(MOMENT))"),
        ("P & MOMENT > F.request_created_at", "P & F.request_created_at.lt(MOMENT)"),
        ("F.cost > Decimal('0.5') & P", "F.cost.gt(0.5) & P"),
        ("F.cost > Fraction(1, 2) & P", "F.cost.gt(0.5) & P"),
        ("F.model == Model.MINI & F.threat", "F.model.eq('gpt-mini') & F.threat"),
        ("F.status == Code.OK | P", "F.status.eq(200) | P"),
        ("F.latency == Level.HIGH & P", "F.latency.eq(5) & P"),
        ("F.latency == Flags.ONE & P", "F.latency.eq(1) & P"),
        ("F.request_id == UUID(int=1) & P", "F.request_id.eq('00000000-0000-0000-0000-000000000001') & P"),
        ("F.cost > (0.1 & P)", "F.cost.gt(0.1) & P"),
    ],
)
def test_what_was_meant(source: str, meant: str) -> None:
    """Comparisons are read before ~, before &, before |."""
    assert read(meant, **NAMES) == read(source, **NAMES)


def test_augmented_assignment() -> None:
    """&= and |= take a comparison without parentheses."""
    filter_ = P
    filter_ &= F.cost > 1
    filter_ |= 5 < F.latency
    assert ((P & (F.cost > 1)) | (F.latency > 5)) == filter_


@pytest.mark.parametrize("number", ["float64(0.5)", "float32(0.5)", "int64(5)", "uint8(5)"])
def test_numpy_beside_an_operator(number: str) -> None:
    """A numpy scalar hands & and comparisons over to the filter, from either side."""
    numpy = pytest.importorskip("numpy")
    value = read(f"np.{number}", np=numpy)
    expected = F.cost.gt(value.item()) & P
    assert expected == read("F.cost > value & P", value=value, P=P)
    assert expected == read("(value < F.cost) & P", value=value, P=P)
    with pytest.raises(FilterTypeError):
        numpy.array([1, 2]) < F.cost  # noqa: B015 - it must not become an array of filters


@pytest.mark.parametrize(
    "source",
    [
        "F.cost > 1 & F.latency < 2",
        "F.model == 'x' & F.user_id == 'y'",
        "F.request_created_at > MOMENT & F.cost > 1",
        "F.cost > 1 & F.threat == True",
        "P & F.cost > 1 | F.latency < 5",
        "F.threat & F.cached == False",
        "~F.threat == True",
        "(F.threat & F.cached) == False",
        "1 < F.cost < 5",
        "P and Q",
        "F.cost > 1 or P",
        "F.threat and P",
        "not P",
        "not F.cost",
        "1 if P else 2",
        "1 if F.threat else 2",
        "F.model in ['a', 'b']",
        "F.model in {'a'}",
        "'a' in F.model",
        "'a' in F.properties",
        "'a' in P",
        "P ^ Q",
        "P ^ 1",
        "1 ^ P",
        "F.cost & F.threat",
        "F.cost & F.latency > 5",
        "F.latency & 1 == 1",
        "F.cost > F.latency",
        "F.cost > P",
        "P > F.cost",
        "P == 5",
        "P != 'x'",
        "P == MOMENT",
        "F.threat == F.cached",
        "F.properties == 'x'",
        "P & F.properties",
        "(P | F.cost) & Q",
        "F.cost > (0.1 | P) & Q",
        "~(P & F.cost) > 1",
        "~(P | 5) < F.cost",
        "5 < F.cost & P",
        "5 < ~F.cost & P",
        "P & 5 < ~F.cost",
        "P & (Q & F.cost) > 1",
        "P | (Q | F.cost) > 1",
        "P & 5 & Q",
        "P & 'x' | Q",
        "True & P == 5",
        "P & None",
        "P | b'x'",
        "P & [Q]",
        "P & MOMENT.date()",
        "hash(F.cost)",
        "hash(F.properties)",
        "{F.cost: 1}",
        "bool(P & F.cost)",
        "all_of(P & True)",
        "all_of(True & P)",
        "all_of(P, F.threat is True)",
        "any_of(F.model in [])",
        "all_of(5 < 1 < F.cost)",
    ],
)
def test_what_is_refused(source: str) -> None:
    """An expression that Python misreads, or that has no reading, raises FilterTypeError."""
    with pytest.raises(FilterTypeError):
        read(source, **NAMES)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("F.cost > 1 & F.latency < 2", "Put each comparison in parentheses"),
        ("1 < F.cost < 5", r"\.between\(low, high\)"),
        ("P and Q", "Use & for and"),
        ("F.model in {'a'}", r"\.is_in\(\[\.\.\.\]\)"),
        ("'a' in F.model", r"\.contains\('a'\)"),
        ("F.cost & F.latency > 5", r"F\.cost is a column, not a condition"),
        ("F.cost > (0.1 | P) & Q", r"\(0\.1 \| …\) lacks a comparison"),
        ("P & True & Q", "Use ALL to match everything"),
        ("F.cost > F.latency", "a column with a constant only"),
    ],
)
def test_refusals_help(source: str, words: str) -> None:
    """A refusal says what to write instead."""
    with pytest.raises(FilterTypeError, match=words):
        read(source, **NAMES)


@pytest.mark.parametrize(
    "source", ["list(F.cost)", "[*F.properties]", "list(P)", "dict(F.scores)", "list(F)"]
)
def test_iteration_is_refused(source: str) -> None:
    """Columns, maps and filters cannot be iterated."""
    with pytest.raises((TypeError, FilterError)):
        read(source, **NAMES)


def test_unfinished_comparisons_are_shown() -> None:
    """A comparison that is not complete yet says so, and is no filter."""
    unfinished = P & F.cost
    assert "<unfinished: … & F.cost>" == repr(unfinished)
    assert not isinstance(unfinished, Filter)


COMPARISONS = [
    ("F.cost > 0.5", F.cost.gt(0.5)),
    ("F.latency <= 3", F.latency.lte(3)),
    ("F.model == 'x'", F.model.eq("x")),
    ("F.properties['env'] != 'x'", F.properties["env"].ne("x")),
    ("F.request_created_at >= MOMENT", F.request_created_at.gte(MOMENT)),
    ("F.session_created_at != MOMENT", F.session_created_at.ne(MOMENT)),
]
# Two that are refused on purpose in some places: Python makes the same calls for another reading.
DELICATE = [("2 < F.latency", F.latency.gt(2)), ("F.threat == False", F.threat.is_false())]
ATOMS = [
    ("F.threat", F.threat.is_true()),
    ("F.model.contains('gpt')", P),
    ("F.status.between(1, 5)", F.status.between(1, 5)),
]
OR, AND, NOT, COMPARISON, ATOM = range(5)
# How tightly it binds; what it joins, or its source and filter; whether it has needless parentheses.
Tree = tuple[int, tuple[Any, ...], bool]


def trees(comparisons: list[tuple[str, Filter]]) -> st.SearchStrategy[Tree]:
    leaves = st.tuples(st.just(COMPARISON), st.sampled_from(comparisons), st.booleans())
    leaves |= st.tuples(st.just(ATOM), st.sampled_from(ATOMS), st.booleans())
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(st.just(NOT), st.tuples(inner), st.booleans())
            | st.tuples(st.sampled_from([AND, OR]), st.tuples(inner, inner), st.booleans())
            | st.tuples(st.sampled_from([AND, OR]), st.tuples(inner, inner, inner), st.booleans())
        ),
        max_leaves=7,
    )


def meaning(tree: Tree) -> Filter:
    """The filter that *tree* stands for, built by methods."""
    binds, below, _ = tree
    if binds >= COMPARISON:
        return below[1]  # type: ignore[no-any-return]
    if binds == NOT:
        return ~meaning(below[0])
    return (all_of if binds == AND else any_of)(*map(meaning, below))


def text(tree: Tree, around: int, *, one_a_level: bool) -> tuple[str, int]:
    """The source of *tree*, and the number of its comparisons outside of parentheses."""
    binds, below, redundant = tree
    if binds >= COMPARISON:
        source, bare = below[0], int(binds == COMPARISON)
    elif binds == NOT:
        source, bare = text(below[0], NOT, one_a_level=one_a_level)
        source = f"~{source}"
    else:
        parts, bare = [], 0
        for child in below:
            part, count = text(child, binds, one_a_level=one_a_level)
            if one_a_level and bare + count > 1:
                part, count = f"({part})", 0
            parts.append(part)
            bare += count
        source = (" & " if binds == AND else " | ").join(parts)
    if binds < around or (redundant and not one_a_level):
        return f"({source})", 0
    return source, bare


@given(trees(COMPARISONS + DELICATE))
@settings(max_examples=repeats(500))
def test_never_another_tree(tree: Tree) -> None:
    """An expression with the parentheses that a reader needs gives what was meant, or an error."""
    source, _ = text(tree, OR, one_a_level=False)
    try:
        found = all_of(read(source))
    except (TypeError, FilterError):  # Python itself refuses 0.5 & 2
        return
    assert meaning(tree).to_wire() == found.to_wire()


@given(trees(COMPARISONS))
@settings(max_examples=repeats(300))
def test_one_comparison_on_each_level_is_enough(tree: Tree) -> None:
    """An expression with one comparison on each level of parentheses is never refused."""
    source, _ = text(tree, OR, one_a_level=True)
    assert meaning(tree).to_wire() == all_of(read(source)).to_wire()
