"""Conditions on whole sessions: their place in the tree, and how lists and counts of sessions read them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import ALL, F, Filter, all_of, any_of
from helicone_sessions.filters.whole_sessions import (
    grouping_cautions,
    has_session_conditions,
    has_whole_session_conditions,
    sessions_first,
)
from helicone_sessions.testing.stored_data import predicate

SESSIONS = "sessions_request_response_rmt"
LEAVES = [
    F.cost > 1,
    F.properties["env"] == "prod",
    F.model == "o3",
    F.session_total_cost > 5,
    F.session_total_requests <= 3,
    F.session_tag == "vip",
]
FILTERS = st.recursive(
    st.sampled_from(LEAVES),
    lambda below: st.one_of(
        st.lists(below, min_size=1, max_size=4).map(lambda filters: all_of(*filters)),
        st.lists(below, min_size=1, max_size=4).map(lambda filters: any_of(*filters)),
    ),
    max_leaves=12,
)


def leaves(wire: Any) -> list[str]:
    """The tables of the leaves of a filter as it is sent, in their order."""
    if "operator" in wire:
        return [*leaves(wire["left"]), *leaves(wire["right"])]
    return list(wire)


@given(FILTERS, st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_order_changes_nothing(condition: Filter, values: list[bool]) -> None:
    """The reordered filter means the same."""
    truth = dict(zip(map(str, LEAVES), values, strict=True))

    def means(one: Filter) -> bool:
        return predicate(one)(lambda leaf: _fulfilling(leaf, truth[str(_as_filter(leaf))]))

    assert means(Filter.from_wire(sessions_first(condition))) == means(condition)


def _as_filter(leaf: Any) -> Filter:
    return next(one for one in LEAVES if one.node == leaf)


def _fulfilling(leaf: Any, is_true: bool) -> Any:
    """A value for which a condition holds, or does not."""
    if isinstance(leaf.value, str):
        return leaf.value if is_true else "other"
    return leaf.value + 1 if (leaf.operator == "gt") == is_true else leaf.value - 1


@given(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=12))
def test_conditions_on_sessions_are_first(conditions: list[Filter]) -> None:
    """Of conditions that are joined by "and", those on sessions come first."""
    tables = leaves(sessions_first(all_of(*conditions)))

    assert tables == sorted(tables, key=lambda table: table != SESSIONS)


@pytest.mark.parametrize(
    ("condition", "any_session", "whole"),
    [
        (ALL, False, False),
        (F.cost > 1, False, False),
        (F.session_tag == "vip", True, False),
        (F.session_total_cost > 1, True, True),
        (~((F.cost > 1) | (F.session_total_cost > 1)), True, True),
    ],
)
def test_which_conditions_are_on_sessions(condition: Any, any_session: bool, whole: bool) -> None:
    """Tags are looked up for each request; all other columns of sessions are about the whole session."""
    condition = all_of(condition)
    assert has_session_conditions(condition) is any_session
    assert has_whole_session_conditions(condition) is whole


@pytest.mark.parametrize(
    ("condition", "listed", "counted"),
    [
        (F.cost > 0.1, [], []),
        (F.cost > 3, ["overflow"], ["overflow"]),
        (F.session_total_cost > 5, [], ["fails"]),
        ((F.session_total_cost > 5) & (F.cost > 0.1), [], ["fails"]),
        ((F.session_total_cost > 5) | (F.cost > 0.1), ["widened"], ["fails"]),
        ((F.session_total_cost > 5) | (F.session_total_requests > 5), [], ["fails", "fails"]),
        (
            F.threat & ((F.session_total_cost > 5) | (F.cost > 3)),
            ["overflow", "widened"],
            ["overflow", "fails"],
        ),
        (F.total_tokens > 5, ["fails"], ["fails"]),
    ],
)
def test_cautions_of_lists_and_counts(condition: Filter, listed: list[str], counted: list[str]) -> None:
    """A list reads conditions on whole sessions, a count fails, and an "or" of both kinds is widened."""
    assert [one.effect for one in grouping_cautions(condition, "sessions")] == listed
    assert [one.effect for one in grouping_cautions(condition, "session count")] == counted
