"""The columns' common part: comparison with a constant, with several, with the ends of a range."""

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NoReturn, TypeVar

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError, UnknownOperator
from helicone_sessions.filters.constants import check, refusal, spell_column
from helicone_sessions.filters.expression import Condition, Filter, Operand, Unfinished
from helicone_sessions.filters.nodes import SYMBOLS, And, Leaf, Node, Or, join
from helicone_sessions.filters.precedence import Open, Terms
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Operator
from helicone_sessions.masking import masked_repr

Inclusive = Literal["both", "left", "right", "neither"]
T = TypeVar("T")
E = TypeVar("E", bound=FilterError)

# The open-source server takes about 4,000.
_MOST_VALUES: Final = 100_000
# What other libraries, SQL and the API call it.
_SYNONYMS: Final = {
    "equals": "eq",
    "not_equals": "ne",
    "neq": "ne",
    "ge": "gte",
    "le": "lte",
    "in_": "is_in",
    "isin": "is_in",
    "one_of": "is_in",
    "notin": "not_in",
    "notin_": "not_in",
    "is_between": "between",
    "icontains": "contains",
    "includes": "contains",
    "starts_with": "startswith",
    "ends_with": "endswith",
    "regexp": "like",
    "match": "like",
    "is_": "eq",
    "isnull": "is_null",
    "isna": "is_null",
    "is_none": "is_null",
}


class Column(Operand):
    """A column of the API; comparing it with a constant gives a `Filter`.

    Args:
        name: Its name in the API.
        key: The key, of a map.
    """

    __slots__ = ("_facts", "_key")

    # The operators and methods of the class, for messages.
    _has: ClassVar[str]

    def __init__(self, name: str, key: str | None = None) -> None:
        self._facts = COLUMNS[name]
        self._key = key

    @property
    def key(self) -> str | None:
        """The key of a map column; None for any other column.

        >>> from helicone_sessions import F
        >>> F.properties["env"].key, F.model.key
        ('env', None)
        """
        return self._key

    @property
    def facts(self) -> ColumnFacts:
        """The kind, operators and unit of the column, and how the open-source server reads it."""
        return self._facts

    def __repr__(self) -> str:
        return spell_column(self._facts, self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._facts.name, self._key)

    def __copy__(self) -> "Column":
        return self

    def __deepcopy__(self, _memo: object) -> "Column":
        return self

    if not TYPE_CHECKING:  # to a type checker a misspelt name is an error

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            problem = f"is a {self._facts.kind} column and has no .{name}"
            raise self._refusal(UnknownOperator, problem, f"{self._nearest(name)}It has {self._operators()}")

        def __invert__(self) -> Unfinished[Any]:
            return Unfinished([[Open(self, is_column=True, inversions=1)]])

    def _operators(self) -> str:
        return self._has

    def _nearest(self, name: str) -> str:
        if isinstance(self, Condition) and hasattr(Filter, name):
            return f"Write {self!r}.is_true().{name}. "
        own = [word for word in dir(type(self)) if not word.startswith("_")]
        near = [_SYNONYMS.get(name.lower()), *difflib.get_close_matches(name.lower(), own, n=1, cutoff=0.7)]
        return next((f"Did you mean .{word}? " for word in near if word in own), "")

    def _refusal(self, kind: type[E], problem: str, remedy: str) -> E:
        return refusal(kind, self._facts, problem, remedy, key=self._key)

    def _compare(self, operator: Operator, other: object) -> Any:
        if isinstance(other, Operand):
            return super()._compare(operator, other)
        return Filter._of(self.condition(operator, other))

    def _operand(self, *, alone: bool) -> Node | Terms:
        return [[Open(self, is_column=True)]]

    def condition(self, operator: Operator, constant: object) -> Node:
        """The comparison of the column with *constant*.

        Raises:
            FilterTypeError: The kind of column has no such operator, or the constant has the wrong type.
            FilterValueError: The constant is one that the column cannot hold.
        """
        facts = self._facts
        if operator not in facts.operators:
            return self._without_operator(operator, constant)
        return Leaf(facts, operator, check(facts, constant, self._key), self._key)

    def _without_operator(self, operator: Operator, constant: object) -> Node:
        problem = (
            f"is a {self._facts.kind} column and has no {SYMBOLS[operator]}, got {masked_repr(constant)}"
        )
        raise self._refusal(FilterTypeError, problem, f"It has {self._operators()}")

    def _where(self, operator: Operator, constant: object) -> Filter:
        return Filter._of(self.condition(operator, constant))


class Equatable(Column, Generic[T]):
    """A column that can be compared with ``==`` and ``!=``."""

    __slots__ = ()

    def eq(self, value: T) -> Filter:
        """The method twin of ``==``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.eq(0.1)
        F.cost == 0.1
        """
        return self._where("equals", value)

    def ne(self, value: T) -> Filter:
        """The method twin of ``!=``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.ne(0.1)
        F.cost != 0.1
        """
        return self._where("not-equals", value)

    def is_in(self, values: Iterable[T]) -> Filter:
        """One of *values*; of none it is ``NONE``.

        Args:
            values: Constants of the column's kind, 100,000 at most; the open-source server takes about 4,000.

        >>> from helicone_sessions import F
        >>> F.model.is_in(["gpt-4o", "o3"])
        (F.model == 'gpt-4o') | (F.model == 'o3')
        """
        return Filter._of(join(Or, self._each("equals", values)))

    def not_in(self, values: Iterable[T]) -> Filter:
        """None of *values*; of none it is ``ALL``.

        Args:
            values: As in `is_in`.

        >>> from helicone_sessions import F
        >>> F.model.not_in(["gpt-4o", "o3"])
        (F.model != 'gpt-4o') & (F.model != 'o3')
        """
        return Filter._of(join(And, self._each("not-equals", values)))

    def is_each(self, values: Iterable[T]) -> dict[T, Filter]:
        """A filter for each of *values*, under that value: the segments of a table.

        Args:
            values: As in `is_in`.

        >>> from helicone_sessions import F
        >>> F.model.is_each(["gpt-4o", "o3"])
        {'gpt-4o': F.model == 'gpt-4o', 'o3': F.model == 'o3'}
        """
        return {value: self._where("equals", value) for value in self._given(values)}

    def _each(self, operator: Operator, values: Iterable[T]) -> Iterable[Node]:
        return dict.fromkeys(self.condition(operator, value) for value in self._given(values))

    def _given(self, values: Iterable[T]) -> list[T]:
        if isinstance(values, (str, bytes, Operand)) or not isinstance(values, Iterable):
            problem = f"takes a list of values, got {masked_repr(values)}"
            raise self._refusal(FilterTypeError, problem, "Put a single value into a list")
        given = list(islice(values, _MOST_VALUES + 1))
        if len(given) > _MOST_VALUES:
            problem = f"takes at most {_MOST_VALUES:,} values in a list, got more"
            raise self._refusal(FilterValueError, problem, "Split them over several queries")
        return given


class Ordered(Equatable[T]):
    """A column whose values have an order."""

    __slots__ = ()

    def gt(self, value: T) -> Filter:
        """The method twin of ``>``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.gt(0.1)
        F.cost > 0.1
        """
        return self._where("gt", value)

    def gte(self, value: T) -> Filter:
        """The method twin of ``>=``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.gte(0.1)
        F.cost >= 0.1
        """
        return self._where("gte", value)

    def lt(self, value: T) -> Filter:
        """The method twin of ``<``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.lt(0.1)
        F.cost < 0.1
        """
        return self._where("lt", value)

    def lte(self, value: T) -> Filter:
        """The method twin of ``<=``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.lte(0.1)
        F.cost <= 0.1
        """
        return self._where("lte", value)

    def between(self, low: T, high: T, inclusive: Inclusive = "both") -> Filter:
        """From *low* to *high*.

        Args:
            low: The lower end.
            high: The upper end.
            inclusive: Which of the ends belong to the range.

        Raises:
            FilterValueError: *low* is above *high*, or *inclusive* is another word.

        >>> from helicone_sessions import F
        >>> F.latency.between(100, 500, inclusive="left")
        (F.latency >= 100) & (F.latency < 500)
        """
        if inclusive not in ("both", "left", "right", "neither"):
            raise FilterValueError(
                argument="inclusive",
                problem=f"must be one of both, left, right, neither, got {masked_repr(inclusive)}",
                remedy="Name the ends that belong to the range",
            )
        lower: Any = check(self._facts, low)
        upper: Any = check(self._facts, high)
        if lower > upper:
            problem = f"takes the lower end of a range first, got {masked_repr(low)} and {masked_repr(high)}"
            raise self._refusal(FilterValueError, problem, "Swap the ends")
        above: Operator = "gte" if inclusive in ("both", "left") else "gt"
        below: Operator = "lte" if inclusive in ("both", "right") else "lt"
        return self._where(above, lower) & self._where(below, upper)
