"""What kinds of columns share: comparison with a constant, with several, with the ends of a range."""

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NoReturn, TypeVar

from helicone_sessions.errors import FilterTypeError, FilterValueError, UnknownOperator
from helicone_sessions.filters.constants import check
from helicone_sessions.filters.expression import Condition, Filter, Operand, Unfinished
from helicone_sessions.filters.nodes import And, Leaf, Node, Or, join, spell_column
from helicone_sessions.filters.precedence import Open, Terms
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Operator

Inclusive = Literal["both", "left", "right", "neither"]
T = TypeVar("T")

_WIRE_NAME: Final[dict[str, Operator]] = {
    "==": "equals",
    "!=": "not-equals",
    "<": "lt",
    "<=": "lte",
    ">": "gt",
    ">=": "gte",
}
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

    # What the column has, for messages.
    _has: ClassVar[str]

    def __init__(self, name: str, key: str | None = None) -> None:
        self._facts = COLUMNS[name]
        self._key = key

    @property
    def has(self) -> str:
        """The operators and methods of the column, for messages."""
        return self._has

    @property
    def facts(self) -> ColumnFacts:
        """What is known of the column: kind, operators, unit, and how the open-source server reads it."""
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
            raise UnknownOperator(
                f"{self!r} is a {self._facts.kind} column and has no .{name}{self._nearest(name)};"
                f" it has {self.has}"
            )

    def _nearest(self, name: str) -> str:
        if isinstance(self, Condition) and hasattr(Filter, name):
            return f" (write {self!r}.is_true().{name})"
        own = [word for word in dir(type(self)) if not word.startswith("_")]
        near = [_SYNONYMS.get(name.lower()), *difflib.get_close_matches(name.lower(), own, n=1, cutoff=0.7)]
        return next((f" (did you mean .{word}?)" for word in near if word in own), "")

    def _compare(self, sign: str, other: object) -> Any:
        if isinstance(other, Operand):
            return super()._compare(sign, other)
        return Filter._of(self.condition(sign, other))

    def _terms(self, *, alone: bool) -> Terms:  # noqa: ARG002 - only a boolean column differs
        return [[Open(self, is_column=True)]]

    if not TYPE_CHECKING:

        def __invert__(self) -> Unfinished[Any]:
            return Unfinished([[Open(self, is_column=True, inversions=1)]])

    def condition(self, sign: str, constant: object) -> Node:
        """The condition ``self sign constant``.

        Raises:
            FilterTypeError: The kind of column has no such comparison, or the constant has the wrong type.
            FilterValueError: The constant is one that the column cannot hold.
        """
        operator = _WIRE_NAME[sign]
        facts = self._facts
        if operator not in facts.operators:
            return self._without_operator(sign, constant)
        return Leaf(facts, operator, check(facts, constant, spelling=self), self._key)

    def _without_operator(self, sign: str, constant: object) -> Node:
        raise FilterTypeError(f"{self!r} {sign} {constant!r}: a {self._facts.kind} column has {self.has}")

    def _leaf(self, operator: Operator, constant: object) -> Leaf:
        return Leaf(self._facts, operator, check(self._facts, constant, spelling=self), self._key)

    def _where(self, operator: Operator, constant: object) -> Filter:
        return Filter._of(self._leaf(operator, constant))


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
        return Filter._of(self.condition("==", value))

    def ne(self, value: T) -> Filter:
        """The method twin of ``!=``.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.ne(0.1)
        F.cost != 0.1
        """
        return Filter._of(self.condition("!=", value))

    def is_in(self, values: Iterable[T]) -> Filter:
        """One of *values*; of none it is ``NONE``.

        Args:
            values: Constants of the column's kind, 100,000 at most; the open-source server takes about 4,000.

        >>> from helicone_sessions import F
        >>> F.model.is_in(["gpt-4o", "o3"])
        (F.model == 'gpt-4o') | (F.model == 'o3')
        """
        return Filter._of(join(Or, self._each("==", values)))

    def not_in(self, values: Iterable[T]) -> Filter:
        """None of *values*; of none it is ``ALL``.

        Args:
            values: As in `is_in`.

        >>> from helicone_sessions import F
        >>> F.model.not_in(["gpt-4o", "o3"])
        (F.model != 'gpt-4o') & (F.model != 'o3')
        """
        return Filter._of(join(And, self._each("!=", values)))

    def is_each(self, values: Iterable[T]) -> dict[T, Filter]:
        """A filter for each of *values*, under that value: the segments of a table.

        Args:
            values: As in `is_in`.

        >>> from helicone_sessions import F
        >>> F.model.is_each(["gpt-4o", "o3"])
        {'gpt-4o': F.model == 'gpt-4o', 'o3': F.model == 'o3'}
        """
        return {value: Filter._of(self.condition("==", value)) for value in self._given(values)}

    def _each(self, sign: str, values: Iterable[T]) -> Iterable[Node]:
        return dict.fromkeys(self.condition(sign, value) for value in self._given(values))

    def _given(self, values: Iterable[T]) -> list[T]:
        if isinstance(values, (str, bytes, Operand)) or not isinstance(values, Iterable):
            raise FilterTypeError(f"{self!r} takes a list of values here, not {values!r}")
        given = list(islice(values, _MOST_VALUES + 1))
        if len(given) > _MOST_VALUES:
            raise FilterValueError(f"{self!r}: a list of more than {_MOST_VALUES:,} values cannot be sent")
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
            inclusive: Which of the ends belong to it.

        Raises:
            FilterValueError: *low* lies above *high*, or *inclusive* is another word.

        >>> from helicone_sessions import F
        >>> F.latency.between(100, 500, inclusive="left")
        (F.latency >= 100) & (F.latency < 500)
        """
        if inclusive not in ("both", "left", "right", "neither"):
            raise FilterValueError(f"inclusive is 'both', 'left', 'right' or 'neither', not {inclusive!r}")
        lower = self._leaf("gte" if inclusive in ("both", "left") else "gt", low)
        upper = self._leaf("lte" if inclusive in ("both", "right") else "lt", high)
        if lower.value > upper.value:  # type: ignore[operator]
            raise FilterValueError(
                f"{self!r}.between({low!r}, {high!r}): the lower end is above the upper one"
            )
        return Filter._of(join(And, (lower, upper)))
