"""Conditions on whole sessions: the endpoints that support them, and their required order in a filter.

These facts were observed on the open-source server of July 2026, unless the column table states otherwise.
"""

from collections.abc import Iterator
from typing import Final, Literal

from helicone_sessions.filters.cautions import Caution
from helicone_sessions.filters.constants import cut
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import Branch, Leaf, Node, Or, fold, join, leaves_of, simplify
from helicone_sessions.filters.printer import to_source
from helicone_sessions.filters.schema import COLUMNS, SESSIONS, ColumnFacts, Reading
from helicone_sessions.filters.wire import WireFilter, to_wire

Grouping = Literal["sessions", "session count"]
"""The endpoints that group requests by session before filtering: the session list and the session count."""

_COUNT_NOTE: Final = "a count of sessions cannot have a condition on whole sessions: the query fails"
_COUNT_REMEDY: Final = (
    "count the sessions that stream_sessions() yields, or use the embedded engine (LocalServer)"
)
_MIXED_NOTE: Final = (
    "it matches everything, because the server applies conditions on requests and on sessions one after the"
    " other"
)
_MIXED_REMEDY: Final = "send one query for each side, or use the embedded engine (LocalServer)"


def is_of_whole_session(column: ColumnFacts) -> bool:
    """Whether a condition on the column applies to a session as a whole.

    >>> is_of_whole_session(COLUMNS["session_total_cost"]), is_of_whole_session(COLUMNS["session_tag"])
    (True, False)
    """
    # The server looks up the tag for each request.
    return column.table == SESSIONS and column.on_server is not Reading.READ


def has_session_conditions(condition: Filter) -> bool:
    """Whether the filter names a column of the sessions table.

    >>> from helicone_sessions import F
    >>> has_session_conditions(F.session_total_cost > 5), has_session_conditions(F.cost > 5)
    (True, False)
    """
    return any(leaf.column.table == SESSIONS for leaf in leaves_of(condition.node))


def has_whole_session_conditions(condition: Filter) -> bool:
    """Whether the filter has a condition on whole sessions.

    >>> from helicone_sessions import F
    >>> has_whole_session_conditions(~((F.cost > 5) | (F.session_total_cost > 5)))
    True
    """
    return any(is_of_whole_session(leaf.column) for leaf in leaves_of(condition.node))


def sessions_first(condition: Filter) -> WireFilter:
    """The filter in the API's form, with conditions on sessions first.

    If a condition on properties or scores comes before one on sessions, the server assigns values to the
    wrong conditions and the query fails.

    Raises:
        FilterValueError: The filter cannot be sent.

    >>> from helicone_sessions import F
    >>> list(sessions_first((F.cost > 1) & (F.session_total_cost > 5))["left"])
    ['sessions_request_response_rmt']
    """

    def ordered(node: Node, below: list[tuple[Node, bool]]) -> tuple[Node, bool]:
        if not isinstance(node, Branch):
            return node, isinstance(node, Leaf) and node.column.table == SESSIONS
        below = sorted(below, key=lambda child: not child[1])
        return join(type(node), [child for child, _ in below]), below[0][1]

    return to_wire(fold(simplify(condition.node), ordered)[0])


def grouping_cautions(condition: Filter, grouping: Grouping) -> tuple[Caution, ...]:
    """The cautions for a filter in a session list or a session count.

    For a metrics query, use `Filter.cautions`.

    >>> from helicone_sessions import F
    >>> grouping_cautions(F.session_total_cost > 5, "sessions")
    ()
    >>> grouping_cautions(F.session_total_cost > 5, "session count")[0].effect
    'fails'
    """
    found = condition.cautions()
    if not has_whole_session_conditions(condition):
        return found
    # These cautions apply only to the metrics query, which ignores conditions on whole sessions and any "or"
    # that contains one.
    kept = [one for one in found if one.effect != "widened" and not _is_ignored(one)]
    if grouping == "session count":
        return (*kept, *dict.fromkeys(_uncountable(condition)))
    return (*kept, *dict.fromkeys(_mixed(condition)))


def _is_ignored(caution: Caution) -> bool:
    return caution.column in COLUMNS and is_of_whole_session(COLUMNS[caution.column])


def _uncountable(condition: Filter) -> Iterator[Caution]:
    for leaf in leaves_of(condition.node):
        if is_of_whole_session(leaf.column):
            yield Caution(cut(str(leaf)), leaf.column.name, "fails", _COUNT_NOTE, _COUNT_REMEDY)


def _mixed(condition: Filter) -> list[Caution]:
    """A caution for each "or" that mixes conditions on requests with conditions on whole sessions."""
    found: list[Caution] = []

    def kinds(node: Node, below: list[frozenset[bool]]) -> frozenset[bool]:
        if isinstance(node, Leaf):
            return frozenset([is_of_whole_session(node.column)])
        together = frozenset[bool]().union(*below)
        if isinstance(node, Or) and len(together) > 1:
            found.append(Caution(cut(to_source(node)), "", "widened", _MIXED_NOTE, _MIXED_REMEDY))
        return together

    fold(simplify(condition.node), kinds)
    return found
