"""The column classes, which define the comparisons of each kind of column for Python and type checkers."""

import difflib
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NoReturn,
    SupportsIndex,
    TypeAlias,
    TypeVar,
)
from uuid import UUID

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError, UnknownOperator
from helicone_sessions.filters.constants import (
    IS_EMPTY,
    MISSING,
    check,
    escape_like,
    is_encodable,
    refusal,
    sent_for_contains,
    spell_column,
)
from helicone_sessions.filters.expression import Condition, Filter, Joinable, Operand, Unfinished
from helicone_sessions.filters.nodes import SYMBOLS, And, Leaf, Node, Not, Or, join
from helicone_sessions.filters.precedence import Open, Terms
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Operator
from helicone_sessions.masking import masked_repr

Inclusive = Literal["both", "left", "right", "neither"]
T = TypeVar("T")
E = TypeVar("E", bound=FilterError)

# The open-source server accepts about 4,000.
_MOST_VALUES: Final = 100_000
# Names of methods in other libraries, SQL and the API.
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


class _Documented:
    """The docstring of a column class. For a single column, it begins with the column's meaning and unit."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __get__(self, column: "Column | None", _owner: object) -> str:
        if column is None:
            return self._text
        facts = column.facts
        about = facts.about[:1].upper() + facts.about[1:]
        return f"{about}{f', in {facts.unit}' if facts.unit else ''}.\n\n{self._text}"


class Column(Operand):
    """A column of the API. Comparing it with a constant creates a `Filter`.

    Args:
        name: The name of the column in the API.
        key: The key of a map column.
    """

    __slots__ = ("_facts", "_key")

    # The operators and methods of the class, for messages.
    _has: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # In a notebook, `F.cost?` shows the docstring of the column.
        setattr(cls, "__doc__", _Documented(cls.__doc__ or ""))  # noqa: B010 - it is not plain text

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

    if not TYPE_CHECKING:  # so that type checkers report misspelt names

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
        """Compare the column with *constant*.

        Raises:
            FilterTypeError: The column has no such operator, or the constant has the wrong type.
            FilterValueError: The column cannot hold the constant.
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
        """``==`` as a method.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.eq(0.1)
        F.cost == 0.1
        """
        return self._where("equals", value)

    def ne(self, value: T) -> Filter:
        """``!=`` as a method.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.ne(0.1)
        F.cost != 0.1
        """
        return self._where("not-equals", value)

    def is_in(self, values: Iterable[T]) -> Filter:
        """Match any of *values*. An empty list gives ``NONE``.

        Args:
            values: Constants of the column's kind, at most 100,000. The open-source server accepts about
                4,000.

        >>> from helicone_sessions import F
        >>> F.model.is_in(["gpt-4o", "o3"])
        (F.model == 'gpt-4o') | (F.model == 'o3')
        """
        return Filter._of(join(Or, self._each("equals", values)))

    def not_in(self, values: Iterable[T]) -> Filter:
        """Match every value that is not in *values*. An empty list gives ``ALL``.

        Args:
            values: As in `is_in`.

        >>> from helicone_sessions import F
        >>> F.model.not_in(["gpt-4o", "o3"])
        (F.model != 'gpt-4o') & (F.model != 'o3')
        """
        return Filter._of(join(And, self._each("not-equals", values)))

    def is_each(self, values: Iterable[T]) -> dict[T, Filter]:
        """A dict with a filter for each of *values*, for example for the segments of a table.

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
    """A column whose values can be ordered."""

    __slots__ = ()

    def gt(self, value: T) -> Filter:
        """``>`` as a method.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.gt(0.1)
        F.cost > 0.1
        """
        return self._where("gt", value)

    def gte(self, value: T) -> Filter:
        """``>=`` as a method.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.gte(0.1)
        F.cost >= 0.1
        """
        return self._where("gte", value)

    def lt(self, value: T) -> Filter:
        """``<`` as a method.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.lt(0.1)
        F.cost < 0.1
        """
        return self._where("lt", value)

    def lte(self, value: T) -> Filter:
        """``<=`` as a method.

        Args:
            value: A constant of the column's kind.

        >>> from helicone_sessions import F
        >>> F.cost.lte(0.1)
        F.cost <= 0.1
        """
        return self._where("lte", value)

    def between(self, low: T, high: T, inclusive: Inclusive = "both") -> Filter:
        """Match values between *low* and *high*.

        Args:
            low: The lower end.
            high: The upper end.
            inclusive: Which ends belong to the range: ``"both"``, ``"left"``, ``"right"`` or ``"neither"``.

        Raises:
            FilterValueError: *low* is above *high*, or *inclusive* is unknown.

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


Text: TypeAlias = str | UUID | Enum
Number: TypeAlias = float | SupportsIndex | Decimal | Fraction | Enum
Score: TypeAlias = Text | Number
Moment: TypeAlias = datetime | Enum

_NEVER_MATCHES: Final = "A request without the score matches no condition on it"

V = TypeVar("V")


class Comparable(Joinable["Comparable[V]"], Generic[V]):
    """The static type of a column, or of a comparison that lacks the constant on its right."""

    __slots__ = ()

    if TYPE_CHECKING:
        # `&` or `|` may follow the constant: `F.model == "x" & F.threat`.
        def __eq__(self, other: V | Unfinished[V]) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: V | Unfinished[V]) -> Filter: ...  # type: ignore[override]
        def __invert__(self) -> "Comparable[V]": ...


class Sortable(Joinable["Sortable[V]"], Generic[V]):
    """The static type of a `Comparable` whose values can be ordered."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: V | Unfinished[V]) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: V | Unfinished[V]) -> Filter: ...  # type: ignore[override]
        def __lt__(self, other: V | Unfinished[V]) -> Filter: ...
        def __le__(self, other: V | Unfinished[V]) -> Filter: ...
        def __gt__(self, other: V | Unfinished[V]) -> Filter: ...
        def __ge__(self, other: V | Unfinished[V]) -> Filter: ...
        def __invert__(self) -> "Sortable[V]": ...


class Keyed(Joinable["Keyed"]):
    """The static type of ``property_key``, which has no ``!=``."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: Text | Unfinished[Text]) -> Filter: ...  # type: ignore[override]
        def __invert__(self) -> "Keyed": ...


class TextColumn(Equatable[Text], Comparable[Text]):
    """A column of text.

    ``contains`` ignores case, as the service does. In the patterns of ``like`` and ``ilike``, ``%`` matches
    any text and ``_`` any character.

    >>> from helicone_sessions import F
    >>> (F.model == "gpt-4o") | F.model.istartswith("o3")
    (F.model == 'gpt-4o') | F.model.ilike('o3%')
    >>> F.model.iendswith("-mini") & F.user_id.not_contains("bot") & ~F.session_tag.ilike("/chat_/%")
    F.model.ilike('%-mini') & F.user_id.not_contains('bot') & ~F.session_tag.ilike('/chat_/%')
    """

    __slots__ = ()
    _has = (
        "==, !=, .contains(), .not_contains(), .like(), .ilike(), .startswith(), .endswith(),"
        " .istartswith(), .iendswith(), .is_in(), .not_in(), .is_empty()"
    )

    def _operators(self) -> str:
        return f"{self._has}, .is_null()" if self._facts.nullable else self._has

    def _instead_of_in(self, item: object) -> str:
        return f"Use .contains({masked_repr(item)})"

    def contains(self, text: Text) -> Filter:
        r"""Match values that contain *text*, ignoring case.

        Args:
            text: The text; ``%`` and ``_`` have no special meaning.

        Raises:
            FilterValueError: *text* is empty, so every value would match.

        >>> from helicone_sessions import F
        >>> F.request_body.contains("50%").to_wire()
        {'request_response_rmt': {'request_body': {'ilike': '%50\\%%'}}}
        """
        return self._matching("contains", text)

    def not_contains(self, text: Text) -> Filter:
        """Match values that do not contain *text*, ignoring case.

        Args:
            text: As in `contains`.
        """
        return self._matching("not-contains", text)

    def like(self, pattern: Text) -> Filter:
        """Match values against *pattern*. ``%`` matches any text, and ``_`` matches any character.

        Args:
            pattern: The pattern. A backslash makes the next ``%`` or ``_`` literal.

        >>> from helicone_sessions import F
        >>> F.model.like("gpt-_o%")
        F.model.like('gpt-_o%')
        """
        return self._where("like", pattern)

    def ilike(self, pattern: Text) -> Filter:
        """Match values against *pattern*, ignoring case.

        Args:
            pattern: As in `like`.
        """
        # `contains` sends such a pattern. Equal conditions must have the same form.
        literal = sent_for_contains(pattern) if isinstance(pattern, str) else None
        return self._where("contains", literal) if literal else self._where("ilike", pattern)

    def startswith(self, text: Text) -> Filter:
        r"""Match values that start with *text*. ``%`` and ``_`` are literal.

        Args:
            text: The beginning of the value. It must not be empty.

        >>> from helicone_sessions import F
        >>> F.model.startswith("o3_")
        F.model.like('o3\\_%')
        """
        return self._matching("like", text, after="%")

    def istartswith(self, text: Text) -> Filter:
        """Match values that start with *text*, ignoring case.

        Args:
            text: The beginning of the value. It must not be empty.
        """
        return self._matching("ilike", text, after="%")

    def endswith(self, text: Text) -> Filter:
        """Match values that end with *text*. ``%`` and ``_`` are literal.

        Args:
            text: The end of the value. It must not be empty.

        >>> from helicone_sessions import F
        >>> F.model.endswith("-mini")
        F.model.like('%-mini')
        """
        return self._matching("like", text, before="%")

    def iendswith(self, text: Text) -> Filter:
        """Match values that end with *text*, ignoring case.

        Args:
            text: The end of the value. It must not be empty.
        """
        return self._matching("ilike", text, before="%")

    def is_null(self) -> Filter:
        """Match missing values. Only ``country_code`` and ``target_url`` can be null.

        The contract has no such test, so the client sends a comparison with the text ``"null"``. The
        open-source server (observed, July 2026) and the embedded engine read this comparison as a test for a
        missing value.

        Raises:
            FilterTypeError: The column is never null, because a missing value is stored as empty text.

        >>> from helicone_sessions import F
        >>> F.country_code.is_null().to_wire()
        {'request_response_rmt': {'country_code': {'equals': 'null'}}}
        """
        if not self._facts.nullable:
            raise self._refusal(FilterTypeError, "is never null", IS_EMPTY)
        return Filter._of(Leaf(self._facts, "equals", MISSING))

    def is_empty(self) -> Filter:
        """Match empty text, which also represents most missing values.

        >>> from helicone_sessions import F
        >>> ~F.properties["env"].is_empty()
        ~(F.properties['env'] == '')
        """
        return self._where("equals", self._facts.empty)

    def _matching(self, operator: Operator, text: Text, *, before: str = "", after: str = "") -> Filter:
        literal = str(check(self._facts, text, self._key))
        if not literal:
            problem = "takes text that is not empty, got ''"
            raise self._refusal(
                FilterValueError, problem, "Leave the condition out: it is true of every value"
            )
        pattern = f"{before}{escape_like(literal)}{after}" if before or after else literal
        return Filter._of(Leaf(self._facts, operator, pattern, self._key))


class NumberColumn(Ordered[Number], Sortable[Number]):
    """A column of numbers, measured in `unit`.

    >>> from helicone_sessions import F
    >>> (F.cost > 0.1) & F.latency.between(100, 500)
    (F.cost > 0.1) & (F.latency >= 100) & (F.latency <= 500)
    """

    __slots__ = ()
    _has = "==, !=, <, <=, >, >=, .between(), .is_in(), .not_in()"

    @property
    def unit(self) -> str:
        """The unit of the values.

        >>> from helicone_sessions import F
        >>> F.cost.unit, F.latency.unit
        ('dollars', 'milliseconds')
        """
        return str(self._facts.unit)

    def is_in(self, values: Iterable[Number]) -> Filter:
        """Match any of *values*. An empty list gives ``NONE``.

        A ``range`` of whole numbers requires only two conditions.

        Args:
            values: Numbers, at most 100,000. The open-source server accepts about 4,000.

        >>> from helicone_sessions import F
        >>> F.status.is_in(range(500, 600))
        (F.status >= 500) & (F.status < 600)
        """
        if isinstance(values, range) and values.step == 1 and len(values) > 1 and self._facts.whole:
            return self.between(values.start, values.stop, inclusive="left")
        return super().is_in(values)

    def not_in(self, values: Iterable[Number]) -> Filter:
        """Match every value that is not in *values*. An empty list gives ``ALL``.

        A ``range`` of whole numbers requires only two conditions.

        Args:
            values: As in `is_in`.

        >>> from helicone_sessions import F
        >>> F.status.not_in(range(500, 600))
        (F.status < 500) | (F.status >= 600)
        """
        if isinstance(values, range) and values.step == 1 and len(values) > 1 and self._facts.whole:
            return self._where("lt", values.start) | self._where("gte", values.stop)
        return super().not_in(values)


class TimestampColumn(Ordered[Moment], Sortable[Moment]):
    """A column of times. Its constants are datetimes with a time zone.

    >>> import datetime as dt
    >>> from helicone_sessions import F
    >>> (F.request_created_at >= dt.datetime(2026, 11, 1, tzinfo=dt.UTC)).to_wire()
    {'request_response_rmt': {'request_created_at': {'gte': '2026-11-01T00:00:00.000Z'}}}
    """

    __slots__ = ()
    _has = "==, !=, <, <=, >, >=, .between(), .is_in(), .not_in()"

    def _without_operator(self, operator: Operator, constant: object) -> Node:
        # The API has no not-equals for times, so this condition is "before or after".
        return Or((self.condition("lt", constant), self.condition("gt", constant)))


class BooleanColumn(Equatable[bool], Condition):
    """A boolean column, which is also a condition by itself.

    >>> from helicone_sessions import F
    >>> F.threat & ~F.cached & F.cache_enabled.is_false()
    F.threat & ~F.cached & (F.cache_enabled == False)
    >>> F.threat.is_true()
    F.threat == True
    """

    __slots__ = ()
    _has = "==, !=, .is_true(), .is_false(), and is a condition by itself"

    if TYPE_CHECKING:

        def __eq__(self, other: bool | Unfinished[bool]) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: bool | Unfinished[bool]) -> Filter: ...  # type: ignore[override]

    def _operand(self, *, alone: bool) -> Node | Terms:
        return super()._operand(alone=True) if alone else self.condition("equals", True)

    def __invert__(self) -> Filter:
        return Filter._of(Not(self.condition("equals", True)))

    def _without_operator(self, operator: Operator, constant: object) -> Node:
        if operator == "not-equals":
            return self.condition("equals", not check(self._facts, constant))
        return super()._without_operator(operator, constant)

    def is_true(self) -> Filter:
        """Match true values."""
        return self._where("equals", True)

    def is_false(self) -> Filter:
        """Match false values."""
        return self._where("equals", False)


class PropertyKeyColumn(Column, Keyed):
    """A column of a request's property names. It can only be compared with ``==``.

    >>> from helicone_sessions import F
    >>> (F.property_key == "env") | F.property_key.eq("team")
    (F.property_key == 'env') | (F.property_key == 'team')
    """

    __slots__ = ()
    _has = "=="

    def eq(self, value: Text) -> Filter:
        """``==`` as a method.

        Args:
            value: The name of a property.
        """
        return self._where("equals", value)


class ScoreColumn(TextColumn):
    """The column of one score. Compare it with text or a number; a number is sent in its shortest form.

    On the open-source server, every operator except ``!=`` fails. The embedded engine supports them all.

    >>> from helicone_sessions import F
    >>> F.scores["quality"] == 4
    F.scores['quality'] == '4'
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: Score | Unfinished[Score]) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: Score | Unfinished[Score]) -> Filter: ...  # type: ignore[override]
        def eq(self, value: Score) -> Filter: ...
        def ne(self, value: Score) -> Filter: ...
        def is_in(self, values: Iterable[Score]) -> Filter: ...
        def not_in(self, values: Iterable[Score]) -> Filter: ...
        def is_each(self, values: Iterable[Score]) -> dict[Score, Filter]: ...  # type: ignore[override]

    def _operators(self) -> str:
        return super()._operators().removesuffix(", .is_empty()")

    def is_null(self) -> NoReturn:
        """Raise an error, because a request without the score never matches."""
        raise self._refusal(FilterTypeError, "is never null", _NEVER_MATCHES)

    def is_empty(self) -> NoReturn:
        """Raise an error, because a score is either a whole number or missing."""
        raise self._refusal(FilterTypeError, "is never empty", _NEVER_MATCHES)


M = TypeVar("M", bound=TextColumn)


class MapColumn(Operand, Generic[M]):
    """A column that maps strings to strings. ``[key]`` gives the column of one key.

    >>> from helicone_sessions import F
    >>> F.properties["Helicone-Session-Name"].contains("nightly")
    F.properties['Helicone-Session-Name'].contains('nightly')
    """

    __slots__ = ("_column", "_facts")

    def __init__(self, name: str, column: type[M]) -> None:
        self._facts = COLUMNS[name]
        self._column = column

    @property
    def facts(self) -> ColumnFacts:
        """The kind and operators of the column, and how the open-source server reads it."""
        return self._facts

    def __getitem__(self, key: str | Enum) -> M:
        name = key.value if isinstance(key, Enum) else key
        if not isinstance(name, str):
            problem = f"takes text as a key, got {masked_repr(key)}"
            raise refusal(FilterTypeError, self._facts, problem, "Write the key in quotes")
        if not name:
            problem = "takes a key that is not empty, got ''"
            raise refusal(FilterValueError, self._facts, problem, "Name a property or a score")
        if not is_encodable(name):
            problem = f"takes a key that UTF-8 can hold, got {masked_repr(name)}"
            raise refusal(FilterValueError, self._facts, problem, "Remove the half of a surrogate pair")
        return self._column(self._facts.name, str.__str__(name))

    if not TYPE_CHECKING:  # so that type checkers report misspelt names

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            problem = f"is a map and has no .{name}"
            is_operator = _SYNONYMS.get(name, name) in dir(self._column)
            remedy = f"{self!r}['env'].{name}" if is_operator else f"{self!r}[{name!r}]"
            raise refusal(UnknownOperator, self._facts, problem, f"Use a key, as in {remedy}")

    def _instead_of_in(self, item: object) -> str:
        if self._facts.name == "scores":
            return "Compare F.scores[key] instead"
        return f"Use ~{self!r}[{masked_repr(item)}].is_empty()"

    def _operand(self, *, alone: bool) -> NoReturn:
        problem = "is a map and has no value without a key"
        raise refusal(FilterTypeError, self._facts, problem, f"Name a key, as in {self!r}['env'] == 'prod'")

    def __invert__(self) -> NoReturn:
        self._operand(alone=True)

    def __repr__(self) -> str:
        return spell_column(self._facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._facts.name, self._column)
