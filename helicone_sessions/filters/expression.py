"""`Filter`, and the operators that combine filters, columns and constants."""

import json
import warnings
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NoReturn, Self, TypeVar, overload
from uuid import UUID

from helicone_sessions.display import html
from helicone_sessions.errors import FilterError, FilterTypeError, HeliconeFilterWarning
from helicone_sessions.filters.cautions import Caution, cautions
from helicone_sessions.filters.hints import suggestion
from helicone_sessions.filters.nodes import (
    EVERYTHING,
    NOTHING,
    And,
    Leaf,
    Node,
    Not,
    Or,
    from_program,
    join,
    program,
    simplify,
)
from helicone_sessions.filters.precedence import (
    Misread,
    Open,
    Terms,
    combined,
    compared,
    inverted,
    open_ends,
    spell,
)
from helicone_sessions.filters.printer import explain, to_source, to_text
from helicone_sessions.filters.schema import Operator
from helicone_sessions.filters.wire import WireFilter, from_wire, to_wire
from helicone_sessions.masking import masked_repr

Constant = bool | int | float | str | datetime | Decimal | Fraction | Enum | UUID


class Operand:
    """A part of a filter expression: a filter, a column, or an unfinished comparison.

    At run time, every operand has every operator, and the `precedence` module decides which expressions are
    valid. The subclasses declare only the operators that a type checker should accept, so that it rejects
    invalid expressions too.
    """

    __slots__ = ()

    # With this attribute, numpy scalars on the left leave the operation to these classes.
    __array_ufunc__: ClassVar[None] = None

    def _operand(self, *, alone: bool) -> Node | Terms:
        """This operand in the form that `precedence` uses; *alone* means that it is not next to & or |."""
        raise NotImplementedError

    if not TYPE_CHECKING:

        def __and__(self, other: object) -> Any:
            return _combined(And, self._operand(alone=False), _operand_of(other))

        def __rand__(self, other: object) -> Any:
            return _combined(And, _operand_of(other), self._operand(alone=False))

        def __or__(self, other: object) -> Any:
            return _combined(Or, self._operand(alone=False), _operand_of(other))

        def __ror__(self, other: object) -> Any:
            return _combined(Or, _operand_of(other), self._operand(alone=False))

        def __lt__(self, other: object) -> Any:
            return self._compare("lt", other)

        def __le__(self, other: object) -> Any:
            return self._compare("lte", other)

        def __gt__(self, other: object) -> Any:
            return self._compare("gt", other)

        def __ge__(self, other: object) -> Any:
            return self._compare("gte", other)

        def __eq__(self, other: object) -> Any:
            return self._compare("equals", other)

        def __ne__(self, other: object) -> Any:
            return self._compare("not-equals", other)

        def __hash__(self) -> NoReturn:
            raise misuse(
                f"{self!r} cannot be hashed, because a set or dict would compare it with ==, which builds a"
                " filter",
                "Use .is_in([...]) for membership, and the column's name as a key",
            )

        def __contains__(self, item: object) -> NoReturn:
            raise misuse(f"{masked_repr(item)} in {self!r} has no meaning", self._instead_of_in(item))

        def __iter__(self) -> NoReturn:
            raise FilterTypeError(
                problem=f"{self!r} cannot be iterated or unpacked, because the service has its values",
                remedy="Query the metrics of a filter on it",
            )

        def __xor__(self, _other: object) -> NoReturn:
            raise misuse("^ has no meaning in a filter", "Use & for and, | for or, ~ for not")

        __rxor__ = __xor__

    def _instead_of_in(self, _item: object) -> str:
        """The remedy to suggest for ``item in self``."""
        return "Use .contains() on a text column, or .is_in([...])"

    def _compare(self, operator: Operator, other: object) -> Any:
        try:
            return Filter._of(compared(self._operand(alone=True), operator, _operand_of(other, alone=True)))
        except Misread as misread:
            raise misuse(misread.problem, misread.remedy) from None

    def __bool__(self) -> NoReturn:
        raise misuse(
            f"{self!r} has no truth value, so and, or, not and if cannot use it",
            "Use & for and, | for or, ~ for not, and put each comparison in parentheses;"
            " use .between(low, high) for low <= x <= high and .is_in([...]) for in;"
            " test an optional filter with `is None`",
        )


def _combined(kind: type[And | Or], left: Node | Terms, right: Node | Terms) -> Any:
    try:
        result = combined(kind, left, right)
    except Misread as misread:
        raise misuse(misread.problem, misread.remedy) from None
    return Filter._of(result) if isinstance(result, Node) else Unfinished(result)


def _operand_of(value: object, *, alone: bool = False) -> Node | Terms:
    if isinstance(value, Operand):
        return value._operand(alone=alone)
    if alone or is_constant(value):
        return [[Open(value, is_column=False)]]
    raise misuse(
        f"a filter cannot be combined with {masked_repr(value)}", "Combine filters and comparisons only"
    )


def is_constant(value: object) -> bool:
    """Whether a column can be compared with the value. The only numpy values passed here are scalars."""
    return isinstance(value, Constant) or type(value).__module__ == "numpy"


def misuse(problem: str, remedy: str) -> FilterTypeError:
    """The error for an expression that Python does not evaluate as intended, with a suggested correction."""
    return FilterTypeError(problem=problem, remedy=remedy + suggestion())


C = TypeVar("C", bound=Constant)
C_co = TypeVar("C_co", covariant=True)
J = TypeVar("J")
J_co = TypeVar("J_co", covariant=True)


class Joinable(Operand, Generic[J_co]):
    """An operand that is allowed on the right of ``&`` and ``|``. The result has the type ``J_co``."""

    __slots__ = ()


class Condition(Joinable["Filter"]):
    """A `Filter`, or a boolean column, which can be used as one."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __and__(self, other: Joinable[J]) -> J: ...
        @overload
        def __and__(self, other: C) -> "Unfinished[C]": ...
        def __and__(self, other: Any) -> Any: ...
        @overload
        def __or__(self, other: Joinable[J]) -> J: ...
        @overload
        def __or__(self, other: C) -> "Unfinished[C]": ...
        def __or__(self, other: Any) -> Any: ...
        def __rand__(self, other: C) -> "Unfinished[C]": ...
        def __ror__(self, other: C) -> "Unfinished[C]": ...


class Filter(Condition):
    """An immutable condition on requests and sessions, which can be hashed and pickled.

    Compare a column of ``F`` to create a filter, and combine filters with ``&``, ``|`` and ``~``.

    >>> from helicone_sessions import F
    >>> F.cost > 0.1 & F.model.contains("gpt")
    (F.cost > 0.1) & F.model.contains('gpt')
    >>> print(~((F.cost > 0.1) | F.threat))
    not (cost > 0.1 or threat)
    """

    __slots__ = ("_node",)
    _node: Node

    def __new__(cls, *_: object) -> Self:
        """Raise an error, because filters are created by ``F``, `all_of`, `any_of` and `from_wire`."""
        raise FilterTypeError(
            problem="Filter cannot be called",
            remedy="Compare a column, for example F.cost > 0.1, or use all_of() or Filter.from_wire()",
        )

    @classmethod
    def _of(cls, node: Node) -> "Filter":
        new = object.__new__(cls)
        object.__setattr__(new, "_node", node)
        return new

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"a filter cannot be changed; {name!r} was not set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a filter cannot be changed; {name!r} was not deleted")

    def _operand(self, *, alone: bool) -> Node:
        return self._node

    def __invert__(self) -> "Filter":
        node = self._node
        return Filter._of(node.child if isinstance(node, Not) else Not(node))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Filter):
            return self._node is other._node or program(self._node) == program(other._node)
        if isinstance(other, Operand) or is_constant(other):
            self._compare("equals", other)  # raises, because a condition has no value to compare
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return hash(program(self._node))

    def __str__(self) -> str:
        return to_text(self._node)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __repr__(self) -> str:
        return to_source(self._node)

    def __copy__(self) -> "Filter":
        return self

    def __deepcopy__(self, _memo: object) -> "Filter":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A flat tuple, because pickling a deeply nested tree would exceed the recursion limit.
        return _from_program, (program(self._node),)

    def to_wire(self) -> WireFilter:
        """The filter in the API's form: one column and one operator in each leaf, or ``"all"``.

        Raises:
            FilterValueError: A negated condition has no inverse in the API, or the filter is nested too
                deeply to be sent.

        >>> from helicone_sessions import F
        >>> (F.status == 200).to_wire()
        {'request_response_rmt': {'status': {'equals': 200}}}
        """
        return to_wire(self._node)

    @classmethod
    def from_wire(cls, wire: object, *, expand: bool = False, path: str = "$") -> "Filter":
        """The filter that a decoded JSON value represents.

        Args:
            wire: A leaf, a branch or ``"all"``.
            expand: If a leaf has several conditions, combine them with ``&`` and issue a
                `HeliconeFilterWarning`. By default, such a leaf is an error, because the open-source server
                reads only its first condition.
            path: The JSON path of *wire* in its document, for messages.

        Raises:
            FilterError: *wire* is not a valid filter. The message gives the JSON path.

        >>> Filter.from_wire({"request_response_rmt": {"status": {"gte": 200}}})
        F.status >= 200
        """
        expanded: list[str] = []
        node = from_wire(wire, expand=expand, path=path, expanded=expanded)
        if expanded:
            more = f" and {len(expanded) - 1} others" if len(expanded) > 1 else ""
            message = (
                f"{expanded[0]}{more}: a leaf without exactly one condition was read as all its conditions,"
                " joined by &; the open-source server reads only the first"
            )
            warnings.warn(HeliconeFilterWarning(message), stacklevel=2)
        return cls._of(node)

    def explain(self) -> str:
        """The filter as an indented tree that uses the API's column names and shows units.

        >>> from helicone_sessions import F
        >>> print((F.threat | F.cost > 0.1).explain())
        any of
          threat equals True
          cost gt 0.1 dollars
        """
        return explain(self._node)

    def _repr_html_(self) -> str:
        try:
            wire = json.dumps(self.to_wire(), indent=2, ensure_ascii=False)
            cautions = [str(caution) for caution in self.cautions()]
        except FilterError as error:
            wire, cautions = str(error), []
        return html.filter_tree(self.explain(), cautions, wire)

    def cautions(self) -> tuple[Caution, ...]:
        """The cautions for the filter. Most concern parts that the open-source server is known to misread.

        Each caution has a ``condition``, an ``effect``, a ``reason`` and a ``remedy``. The facts come from
        the open-source server's code of July 2026; the hosted service was not checked.

        Raises:
            FilterValueError: The filter cannot be sent.

        >>> from helicone_sessions import F
        >>> (F.total_tokens > 1000).cautions()[0].reason
        'its table has no such column (code 47)'
        """
        return cautions(self._node)

    @property
    def node(self) -> Node:
        """The filter as plain data, for conversion into other languages such as SQL.

        >>> from helicone_sessions import F
        >>> leaf = (F.cost > 0.1).node
        >>> leaf.column.name, leaf.operator, leaf.value
        ('cost', 'gt', 0.1)
        """
        return self._node

    @property
    def matches_nothing(self) -> bool:
        """Whether no row can match, for example because the filter is an empty `any_of`.

        >>> from helicone_sessions import F, any_of
        >>> any_of().matches_nothing, F.threat.is_true().matches_nothing
        (True, False)
        """
        node = self._node
        return type(node) is not Leaf and simplify(node) is NOTHING


def _from_program(steps: tuple[Any, ...]) -> Filter:
    return Filter._of(from_program(steps))


class Unfinished(Operand, Generic[C_co]):
    """Operands of ``&`` and ``|`` that still lack a comparison, and so are not a filter.

    For type checkers, ``C_co`` is the type of the constant at the open end.
    """

    __slots__ = ("_terms",)

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    if TYPE_CHECKING:

        def __and__(self, other: Condition) -> "Unfinished[C_co]": ...
        def __or__(self, other: Condition) -> "Unfinished[C_co]": ...

    def _operand(self, *, alone: bool) -> Terms:
        return self._terms

    def __invert__(self) -> "Unfinished[Any]":
        try:
            return Unfinished(inverted(self._terms))
        except Misread as misread:
            raise misuse(misread.problem, misread.remedy) from None

    def __repr__(self) -> str:
        return f"<unfinished: {spell(self._terms)}>"


def filter_of_contract(wire: object, *, path: str) -> Filter:
    """The filter that *wire* represents under the contract, which combines all conditions of a leaf.

    Raises:
        FilterError: *wire* is not a valid filter. The message gives the JSON path, which starts with *path*.
    """
    return Filter._of(from_wire(wire, expand=True, path=path))


def as_filter(value: object) -> Filter:
    """Convert *value*, a filter or a boolean column, to a filter.

    Raises:
        FilterTypeError: *value* is neither a filter nor a boolean column.
    """
    if isinstance(value, Filter):
        return value
    if isinstance(value, Operand):
        operand = value._operand(alone=False)
        if isinstance(operand, Node):
            return Filter._of(operand)
        truths = [f"; use ALL or NONE instead of {end}" for end in open_ends(operand) if end.is_truth]
        raise FilterTypeError(
            problem=f"{value!r} is not a condition yet",
            remedy="Compare it with a constant, for example F.cost > 0.1" + "".join(truths[:1]),
        )
    if isinstance(value, bool):
        remedy = (
            "`is`, `in` and chained comparisons give a bool before there is a filter;"
            " ALL matches everything, NONE nothing"
        )
    elif isinstance(value, str):
        remedy = "Use parse_filter() to read a filter from text"
    else:
        remedy = "Use Filter.from_wire() to read the API's JSON"
    raise FilterTypeError(problem=f"expected a filter, got {masked_repr(value)}", remedy=remedy)


ALL: Final = Filter._of(EVERYTHING)
NONE: Final = Filter._of(NOTHING)


def all_of(*filters: Condition | None) -> Filter:
    """A filter that matches if all *filters* match. Arguments that are None are skipped.

    Without filters, the result is ``ALL``. Building the result takes linear time, so thousands of filters are
    fine.

    Args:
        filters: Filters and boolean columns, as separate arguments.

    Raises:
        FilterTypeError: An argument is not a filter, or the filters are in a list.

    >>> from helicone_sessions import F
    >>> user = None
    >>> all_of(F.status == 200, F.user_id == user if user else None, ~F.cached)
    (F.status == 200) & ~F.cached
    """
    return _all_or_any(And, filters)


def any_of(*filters: Condition | None) -> Filter:
    """A filter that matches if at least one of *filters* matches. Arguments that are None are skipped.

    Without filters, the result is ``NONE``, which matches nothing.

    Args:
        filters: Filters and boolean columns, as separate arguments.

    Raises:
        FilterTypeError: An argument is not a filter, or the filters are in a list.

    >>> from helicone_sessions import F
    >>> any_of(*(F.model == name for name in ["gpt-4o", "o3"]))
    (F.model == 'gpt-4o') | (F.model == 'o3')
    """
    return _all_or_any(Or, filters)


def _all_or_any(kind: type[And | Or], filters: tuple[Any, ...]) -> Filter:
    given = [item for item in filters if item is not None]
    if len(given) == 1 and isinstance(given[0], Iterable) and not isinstance(given[0], (Operand, str, dict)):
        name = "all_of" if kind is And else "any_of"
        raise FilterTypeError(
            argument="filters",
            problem=f"must be separate arguments of {name}()",
            remedy=f"Write {name}(*filters)",
        )
    return Filter._of(join(kind, [as_filter(item)._node for item in given]))
