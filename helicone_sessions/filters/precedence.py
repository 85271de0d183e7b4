"""Give comparisons without parentheses the precedence that the author of the expression intended.

In Python ``&`` and ``|`` bind tighter than comparisons, so ``F.cost > 0.1 & P`` is evaluated as
``F.cost > (0.1 & P)``. The first and the last operand of ``&`` and ``|`` can therefore still lack a
comparison. Such an operand stays `Open` until it is compared. In the whole expression, comparisons then
bind tightest, followed by ``~``, ``&`` and ``|``.

Each level of parentheses can complete only one comparison. Python chains two comparisons, so a second one is
an error, and the first one must close all open ends. The result is either the intended tree or an error.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import attrs

from helicone_sessions.filters.nodes import SYMBOLS, And, Node, Not, Or, join
from helicone_sessions.filters.schema import Operator

# The operator to use after the operands are swapped.
MIRRORED: Final[dict[Operator, Operator]] = {
    "lt": "gt",
    "gt": "lt",
    "lte": "gte",
    "gte": "lte",
    "equals": "equals",
    "not-equals": "not-equals",
}
_PARENTHESES: Final = "Put each comparison in parentheses, for example (F.cost > 1) & (F.status == 200)"


class Misread(Exception):
    """An expression that has no meaning, or that Python evaluates differently from what was intended."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy


@attrs.frozen(eq=False)
class Open:
    """An operand that still lacks its comparison.

    Args:
        operand: A column or a constant.
        is_column: Whether the operand is a column.
        inversions: The number of ``~`` before the operand.
    """

    operand: Any
    is_column: bool
    inversions: int = 0

    @property
    def is_truth(self) -> bool:
        """Whether the operand is True or False, which are not conditions."""
        return isinstance(self.operand, bool)

    def __str__(self) -> str:
        return "~" * self.inversions + repr(self.operand)


# Groups of operands: "and" joins each group, and "or" joins the groups. The first operand, the last or both
# are open.
Terms: TypeAlias = Sequence[Sequence[Node | Open]]


def spell(terms: Terms) -> str:
    """The terms as text for a message, with … for each complete condition."""
    return " | ".join(
        " & ".join(str(factor) if isinstance(factor, Open) else "…" for factor in term) for term in terms
    )


def open_ends(terms: Terms) -> list[Open]:
    """The first and the last operand, each only if it is open."""
    return [end for end in (terms[0][0], terms[-1][-1]) if isinstance(end, Open)]


def combined(kind: type[And | Or], left: Node | Terms, right: Node | Terms) -> Node | Terms:
    """Combine two operands with ``&`` or ``|``.

    Raises:
        Misread: An open operand can no longer get its comparison.
    """
    if isinstance(left, Node) and isinstance(right, Node):
        return join(kind, (left, right))
    left, right = _terms(left), _terms(right)
    _check_middle(kind, left, right)
    _check_ends(kind, left, right)
    # A complete "or" is a single node, so the left of "&" has one term.
    return [[*left[0], *right[0]]] if kind is And else [*left, *right]


def _check_middle(kind: type[And | Or], left: Terms, right: Terms) -> None:
    """Reject an operand next to ``&`` or ``|`` that can no longer get a comparison."""
    last, first = left[-1][-1], right[0][0]
    if isinstance(last, Open) and (_is_compound(left) or last.is_column):
        raise _alone(last, kind)
    if isinstance(first, Open) and _is_compound(right):
        raise _alone(first, kind)


def _check_ends(kind: type[And | Or], left: Terms, right: Terms) -> None:
    """Reject an open operand whose comparison is outside its parentheses: in "|", or on the right of "&"."""
    if kind is And and open_ends(left) and len(left) > 1:
        raise _dangling(left)
    if open_ends(right) and (_is_compound(right) if kind is And else len(right) > 1):
        raise _dangling(right)


def inverted(terms: Terms) -> Terms:
    """Apply ``~`` to the terms.

    Raises:
        Misread: The terms combine several operands.
    """
    only = terms[0][0]
    if _is_compound(terms) or not isinstance(only, Open):
        raise _dangling(terms)
    return [[attrs.evolve(only, inversions=only.inversions + 1)]]


def compared(left: Node | Terms, operator: Operator, right: Node | Terms) -> Node:
    """Compare the last operand of *left* with the first operand of *right*, and close all ends.

    Raises:
        Misread: The operands are not a column and a constant, or another end remains open.
    """
    left, right, sign = _terms(left), _terms(right), SYMBOLS[operator]
    before, after = left[-1][-1], right[0][0]
    if not isinstance(before, Open) or not isinstance(after, Open):
        raise Misread(
            f"{spell(left)} {sign} {spell(right)} compares a condition with {sign}",
            "Put each comparison in parentheses",
        )
    if after.inversions:
        raise Misread(f"~ has no meaning on the right of {sign}", f"Write ~({before} {sign} …)")
    node = _condition(before, operator, after)
    if before.inversions % 2:
        node = Not(node)
    terms: Terms = [*left[:-1], [*left[-1][:-1], node, *right[0][1:]], *right[1:]]
    for end in open_ends(terms):
        raise Misread(
            f"{end} lacks its comparison, because Python chains two adjacent comparisons",
            _PARENTHESES,
        )
    complete: Any = terms
    return join(Or, [join(And, term) for term in complete])


def _condition(before: Open, operator: Operator, after: Open) -> Node:
    if before.is_column and after.is_column:
        raise Misread(
            f"{before} cannot be compared with {after}", "The API compares a column with a constant only"
        )
    if after.is_column:
        before, operator, after = after, MIRRORED[operator], before
    if not before.is_column:
        raise Misread(
            f"{before} {SYMBOLS[operator]} {after} compares two constants", "Compare a column with a constant"
        )
    node: Node = before.operand.condition(operator, after.operand)
    return node


def _terms(operand: Node | Terms) -> Terms:
    return [[operand]] if isinstance(operand, Node) else operand


def _is_compound(terms: Terms) -> bool:
    return len(terms) > 1 or len(terms[0]) > 1


def _alone(end: Open, kind: type[And | Or]) -> Misread:
    sign = "&" if kind is And else "|"
    if end.is_column:
        return Misread(f"{end} is a column, not a condition", f"Compare it with a constant before {sign}")
    if end.is_truth:
        return Misread(f"{end} is not a condition", "Use ALL to match everything, NONE to match nothing")
    return Misread(f"{end} is a constant without a comparison beside {sign}", _PARENTHESES)


def _dangling(terms: Terms) -> Misread:
    return Misread(f"({spell(terms)}) lacks a comparison inside its parentheses", _PARENTHESES)
