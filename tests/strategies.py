"""Hypothesis strategies: filters that can be sent, and JSON that is nearly a filter."""

import operator
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, NONE, Filter, all_of, any_of
from helicone_sessions.filters.schema import REQUESTS, SESSIONS, ColumnFacts, Kind

# Two names of F are aliases of a property.
COLUMNS = tuple(dict.fromkeys(getattr(F, name).facts for name in dir(F) if not name.startswith("_")))
PAIRS = tuple((column.name, word) for column in COLUMNS for word in column.operators)
# The pairs whose opposite the API has, whatever the constant.
NEGATABLE = tuple(
    (name, word) for name, word in PAIRS if name != "property_key" and word not in ("like", "ilike")
)
METHODS = {
    "equals": "eq",
    "not-equals": "ne",
    "like": "like",
    "ilike": "ilike",
    "contains": "contains",
    "not-contains": "not_contains",
    "gt": "gt",
    "gte": "gte",
    "lt": "lt",
    "lte": "lte",
}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "equals": operator.eq,
    "not-equals": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}

_letters = st.characters(exclude_categories=["Cs"], exclude_characters="\\")
texts = st.text(st.sampled_from("aB%_\\'\"() ") | _letters, min_size=1, max_size=8)
texts |= st.sampled_from(["null", "__empty__", "true", "200", "2026-11-01T00:00:00Z"])
patterns = st.lists(st.sampled_from(["%", "_", r"\%", r"\_", r"\\"]) | _letters, max_size=8).map("".join)
numbers = st.integers(0, 9) | st.integers(0, 2**53) | st.floats(0, 1e12)
times = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001 - the zone is drawn below
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def constants(column: ColumnFacts, word: str) -> st.SearchStrategy[Any]:
    """Constants that *column* can be compared with under the operator *word*."""
    if column.kind is Kind.NUMBER:
        return numbers | st.integers(-9, -1) if column.negative else numbers
    if column.kind is Kind.TIMESTAMP:
        return times
    if column.kind is Kind.BOOLEAN:
        return st.booleans()
    return patterns if word in ("like", "ilike") else texts


@st.composite
def conditions(draw: st.DrawFn, *, negatable: bool = False) -> Filter:
    """One condition on any column, under any of its operators."""
    name, word = draw(st.sampled_from(NEGATABLE if negatable else PAIRS))
    facts = F[name].facts
    column = F[name][draw(texts)] if facts.kind is Kind.MAP else F[name]
    given = constants(facts, word)
    if negatable:
        # The word for "is empty" has an opposite under == only, and another word.
        given = given.filter(lambda constant: constant != "__empty__")
    built: Filter = getattr(column, METHODS[word])(draw(given))
    return built


def filters(*, max_leaves: int = 12, negatable: bool = False) -> st.SearchStrategy[Filter]:
    """Filters that can be sent; where they are *negatable*, their opposites can be sent too."""
    constant = st.sampled_from([ALL, NONE])
    opposable = st.recursive(
        conditions(negatable=True) | constant,
        lambda inner: _joined(inner) | inner.map(operator.invert),
        max_leaves=max_leaves,
    )
    if negatable:
        return opposable
    return st.recursive(
        conditions() | constant | opposable.map(operator.invert), _joined, max_leaves=max_leaves
    )


def _joined(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(inner, min_size=1, max_size=4)
    return (
        st.builds(operator.and_, inner, inner)
        | st.builds(operator.or_, inner, inner)
        | several.map(lambda parts: all_of(*parts))
        | several.map(lambda parts: any_of(*parts))
    )


def wire_values() -> st.SearchStrategy[Any]:
    """JSON values, mostly one mistake away from a filter of the API."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | times.map(datetime.isoformat)
    tables = st.sampled_from([REQUESTS, SESSIONS])
    names = st.sampled_from([column.name for column in COLUMNS]) | texts
    words = st.sampled_from([*METHODS, "left", "right", "operator", "all"])
    leaves = st.dictionaries(
        tables, st.dictionaries(names, st.dictionaries(words, scalars, max_size=2), max_size=2), max_size=2
    )
    branch = ("left", "operator", "right")
    return st.recursive(
        leaves | scalars | st.just("all") | filters(max_leaves=3).map(Filter.to_wire),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(tables | names | words, inner, max_size=3)
            | st.builds(
                lambda *parts: dict(zip(branch, parts, strict=True)),
                inner,
                st.sampled_from(["and", "or", "xor"]),
                inner,
            )
        ),
        max_leaves=6,
    )
