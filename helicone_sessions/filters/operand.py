"""`Operand`: the operators of what may stand in a filter expression."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from uuid import UUID

from helicone_sessions.errors import FilterTypeError
from helicone_sessions.filters.precedence import Misread, Open, Terms, combined, compared
from helicone_sessions.filters.rewrites import rewrite
from helicone_sessions.filters.values import shortened

Constant = bool | int | float | str | datetime | Decimal | Fraction | Enum | UUID


class Operand:
    """What may stand in a filter expression: a filter, a column, or a comparison still to be completed.

    At run time every operand has every operator, and `precedence` decides. What a type checker knows of
    them stands at the classes that are operands, so that it refuses what would be refused here.
    """

    __slots__ = ()

    # numpy scalars on the left of an operator hand over to ours.
    __array_ufunc__: ClassVar[None] = None

    # What an expression becomes: a filter, or what waits for its comparison. It is set beside those two.
    _made: ClassVar[Callable[[Terms], Any]]

    def _terms(self, *, alone: bool) -> Terms:
        """This operand for `precedence`; *alone* on its side of a comparison, or beside & or |."""
        raise NotImplementedError

    if not TYPE_CHECKING:

        def __and__(self, other: object) -> Any:
            return _joined("&", self, other)

        def __rand__(self, other: object) -> Any:
            return _joined("&", other, self)

        def __or__(self, other: object) -> Any:
            return _joined("|", self, other)

        def __ror__(self, other: object) -> Any:
            return _joined("|", other, self)

        def __lt__(self, other: object) -> Any:
            return self._compare("<", other)

        def __le__(self, other: object) -> Any:
            return self._compare("<=", other)

        def __gt__(self, other: object) -> Any:
            return self._compare(">", other)

        def __ge__(self, other: object) -> Any:
            return self._compare(">=", other)

        def __eq__(self, other: object) -> Any:
            return self._compare("==", other)

        def __ne__(self, other: object) -> Any:
            return self._compare("!=", other)

        def __hash__(self) -> NoReturn:
            raise refused(
                f"{self!r} cannot be hashed: a set or dict would compare it with ==, which builds a filter."
                " Use .is_in([...]) for membership, and the column's name as a key"
            )

        def __contains__(self, item: object) -> NoReturn:
            raise refused(f"{shortened(item)} in {self!r} has no meaning{self._instead_of_in(item)}")

        def __iter__(self) -> NoReturn:
            raise FilterTypeError(f"{self!r} cannot be iterated or unpacked: its values are in the service")

        def __xor__(self, _other: object) -> NoReturn:
            raise refused("^ has no meaning in a filter: use & for and, | for or, ~ for not")

        __rxor__ = __xor__

    def _instead_of_in(self, _item: object) -> str:
        """What a message says to write instead of ``item in self``."""
        return ""

    def _compare(self, sign: str, other: object) -> Any:
        return _compared(self, sign, other)

    def __bool__(self) -> NoReturn:
        raise refused(
            f"{self!r} has no truth value, so it cannot stand before or after and, or, not, if."
            " Use & for and, | for or, ~ for not, and put each comparison in parentheses;"
            " use .between(low, high) for low <= x <= high and .is_in([...]) for in;"
            " test an optional filter with `is None`"
        )


def _joined(sign: str, left: object, right: object) -> Any:
    try:
        return Operand._made(combined(sign, _terms_of(left, alone=False), _terms_of(right, alone=False)))
    except Misread as misread:
        raise refused(misread.message) from None


def _compared(left: object, sign: str, right: object) -> Any:
    try:
        return Operand._made([[compared(_terms_of(left, alone=True), sign, _terms_of(right, alone=True))]])
    except Misread as misread:
        raise refused(misread.message) from None


def _terms_of(value: object, *, alone: bool) -> Terms:
    if isinstance(value, Operand):
        return value._terms(alone=alone)
    if alone or is_constant(value):
        return [[Open(value, is_column=False)]]
    raise refused(f"a filter cannot be joined with {type(value).__name__} {value!r}")


def is_constant(value: object) -> bool:
    """Whether a column may be compared with it; of numpy nothing but scalars gets here."""
    return isinstance(value, Constant) or type(value).__module__ == "numpy"


def refused(reason: str) -> FilterTypeError:
    """The error for an expression that Python reads in another way, with a suggestion if it is certain."""
    found = rewrite()
    if found is None:
        return FilterTypeError(reason)
    wrote, meant = found
    return FilterTypeError(f"{reason}\n  you wrote:    {wrote}\n  did you mean: {meant}")
