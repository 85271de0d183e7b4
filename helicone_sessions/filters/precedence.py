"""Unparenthesised comparisons, re-read the way a reader means them.

Python's ``&`` and ``|`` bind tighter than its comparisons, so it reads ``F.cost > 0.1 & P`` as
``F.cost > (0.1 & P)``. The operands at the two ends of ``&`` and ``|`` may therefore be values that still
wait for their comparison. They are kept open here until it comes, and the whole is then read with
comparisons before ``~``, before ``&``, before ``|``.

One comparison can be completed on each level of parentheses. With two, Python chains them, and after the
first every end must be closed: it is refused. What is built is the tree that was meant, or nothing.
"""

from collections.abc import Sequence
from typing import Protocol

import attrs

from helicone_sessions.errors import FilterTypeError
from helicone_sessions.filters.nodes import And, Node, Not, Or, join

# As the operands change sides, so do the signs.
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


class Misread(FilterTypeError):
    """Python reads the expression otherwise than it was meant, or it has no meaning."""


class Comparable(Protocol):
    """A column, as far as a comparison needs it."""

    def condition(self, sign: str, constant: object) -> Node:
        """The condition ``column sign constant``."""
        ...


@attrs.frozen(eq=False)
class Open:
    """An operand that still waits for its comparison.

    Args:
        operand: A column or a constant.
        is_column: Which of the two.
        inversions: How many ``~`` stand before it.
    """

    operand: object
    is_column: bool
    inversions: int = 0

    @property
    def is_truth(self) -> bool:
        """Whether it is True or False, which are no conditions."""
        return isinstance(self.operand, bool)

    def __str__(self) -> str:
        return "~" * self.inversions + repr(self.operand)


# "Any of" of "all of" of conditions; the first and the last may be open.
Factor = Node | Open
Terms = Sequence[Sequence[Factor]]


def spell(terms: Terms, closed: str = "…") -> str:
    """The terms for a message, where a complete condition is only hinted at."""
    return " | ".join(
        " & ".join(str(factor) if isinstance(factor, Open) else closed for factor in term) for term in terms
    )


def is_compound(terms: Terms) -> bool:
    """Whether the terms join more than one operand."""
    return len(terms) > 1 or len(terms[0]) > 1


def starts_open(terms: Terms) -> bool:
    """Whether the first operand waits for a comparison."""
    return isinstance(terms[0][0], Open)


def ends_open(terms: Terms) -> bool:
    """Whether the last operand waits for a comparison."""
    return isinstance(terms[-1][-1], Open)


def is_open(terms: Terms) -> bool:
    """Whether an operand waits for a comparison."""
    return starts_open(terms) or ends_open(terms)


def closed(terms: Terms) -> Node:
    """The node that complete *terms* stand for."""
    return join(Or, (join(And, term) for term in terms))  # type: ignore[arg-type]


def combined(sign: str, left: Terms, right: Terms) -> Terms:
    """``left & right`` or ``left | right``, where *sign* says which.

    Raises:
        Misread: An operand that waits for its comparison can no longer get it.
    """
    if ends_open(left) and (is_compound(left) or _is_column(left[-1][-1])):
        raise Misread(_alone(left[-1][-1], sign))
    if is_compound(right) and starts_open(right):
        raise Misread(_alone(right[0][0], sign))
    if sign == "&":
        # An open operand inside "|" or on the right of "&" stood in parentheses of its own.
        if (is_open(left) and len(left) > 1) or (is_open(right) and is_compound(right)):
            raise Misread(_dangling(left if is_open(left) and len(left) > 1 else right))
        # What is left has one term: an "or" that is complete is a single condition by now.
        return [[*left[0], *right[0]]]
    if is_open(right) and len(right) > 1:
        raise Misread(_dangling(right))
    return [*left, *right]


def inverted(terms: Terms) -> Terms:
    """``~terms``, where the terms wait for a comparison.

    Raises:
        Misread: They join several operands.
    """
    only = terms[0][0]
    if is_compound(terms) or not isinstance(only, Open):
        raise Misread(_dangling(terms))
    return [[attrs.evolve(only, inversions=only.inversions + 1)]]


def compared(left: Terms, sign: str, right: Terms) -> Node:
    """``left sign right``: the operands on both sides of the sign meet, and everything is closed.

    Raises:
        Misread: What meets is not a column and a constant, or another end stays open.
    """
    before, after = left[-1][-1], right[0][0]
    if not isinstance(before, Open) or not isinstance(after, Open):
        raise Misread(
            f"a condition cannot be compared with {sign}: {spell(left)} {sign} {spell(right)}."
            " Put each comparison in parentheses"
        )
    if after.inversions:
        raise Misread(f"~ has no meaning on the right of {sign}: write ~({before} {sign} …)")
    node = _condition(before, sign, after)
    if before.inversions % 2:
        node = Not(node)
    terms: Terms = [*left[:-1], [*left[-1][:-1], node, *right[0][1:]], *right[1:]]
    if is_open(terms):
        end = terms[0][0] if starts_open(terms) else terms[-1][-1]
        raise Misread(
            f"{end} is left without its comparison. Where two comparisons stand side by side Python chains"
            " them: put each in parentheses, as (F.cost > 1) & (F.status == 200)"
        )
    return closed(terms)


def _condition(before: Open, sign: str, after: Open) -> Node:
    if before.is_column and after.is_column:
        raise Misread(
            f"{before} cannot be compared with {after}: the API compares a column with a constant only"
        )
    column, constant = (before, after) if before.is_column else (after, before)
    if not column.is_column:
        raise Misread(f"{before} {sign} {after} compares two constants inside a filter")
    sign = sign if column is before else MIRRORED[sign]
    return column.operand.condition(sign, constant.operand)  # type: ignore[attr-defined, no-any-return]


def _is_column(factor: Factor) -> bool:
    return isinstance(factor, Open) and factor.is_column


def _alone(factor: Factor, sign: str) -> str:
    if _is_column(factor):
        return f"{factor} is a column, not a condition: compare it with something before {sign}"
    if isinstance(factor, Open) and factor.is_truth:
        return f"{factor} is not a condition: ALL matches everything, NONE matches nothing"
    return f"{factor} stands alone beside {sign}: a constant belongs to a comparison"


def _dangling(terms: Terms) -> str:
    return f"({spell(terms)}) has a comparison missing inside its parentheses"
