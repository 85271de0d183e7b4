"""One class for each kind of column: the conditions that it takes, and what a type checker knows of them."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, SupportsIndex, TypeAlias, TypeVar
from uuid import UUID

from helicone_sessions.errors import FilterTypeError, FilterValueError, UnknownOperator
from helicone_sessions.filters.columns.base import Column, Equatable, Ordered
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
from helicone_sessions.filters.nodes import Leaf, Node, Not, Or
from helicone_sessions.filters.precedence import Terms
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Operator
from helicone_sessions.masking import masked_repr

Text: TypeAlias = str | UUID | Enum
Number: TypeAlias = float | SupportsIndex | Decimal | Fraction | Enum
Score: TypeAlias = Text | Number
Moment: TypeAlias = datetime | Enum

_NEVER_MATCHES: Final = "A request without the score matches no condition on it"

V = TypeVar("V")


class Comparable(Joinable["Comparable[V]"], Generic[V]):
    """To a type checker: a column, or a comparison that lacks the constant on its right."""

    __slots__ = ()

    if TYPE_CHECKING:
        # The constant may have `&` or `|` behind it: `F.model == "x" & F.threat`.
        def __eq__(self, other: V | Unfinished[V]) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: V | Unfinished[V]) -> Filter: ...  # type: ignore[override]
        def __invert__(self) -> "Comparable[V]": ...


class Sortable(Joinable["Sortable[V]"], Generic[V]):
    """The same for values that have an order."""

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
    """The same for ``property_key``, which has no ``!=``."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: Text | Unfinished[Text]) -> Filter: ...  # type: ignore[override]
        def __invert__(self) -> "Keyed": ...


class TextColumn(Equatable[Text], Comparable[Text]):
    """A column of text.

    ``contains`` ignores case, as the service does; ``like`` and ``ilike`` take a pattern in which ``%`` is
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
        r"""The value contains *text*, ignoring case.

        Args:
            text: The text; ``%`` and ``_`` have no special meaning.

        Raises:
            FilterValueError: *text* is empty, which every value contains.

        >>> from helicone_sessions import F
        >>> F.request_body.contains("50%").to_wire()
        {'request_response_rmt': {'request_body': {'ilike': '%50\\%%'}}}
        """
        return self._matching("contains", text)

    def not_contains(self, text: Text) -> Filter:
        """The value does not contain *text*, ignoring case.

        Args:
            text: As in `contains`.
        """
        return self._matching("not-contains", text)

    def like(self, pattern: Text) -> Filter:
        """The value matches *pattern*, where ``%`` is any text, ``_`` any character.

        Args:
            pattern: The pattern; a backslash before ``%`` or ``_`` takes them literally.

        >>> from helicone_sessions import F
        >>> F.model.like("gpt-_o%")
        F.model.like('gpt-_o%')
        """
        return self._where("like", pattern)

    def ilike(self, pattern: Text) -> Filter:
        """The value matches *pattern*, ignoring case.

        Args:
            pattern: As in `like`.
        """
        # Such a pattern is what `contains` sends; one meaning has one form.
        literal = sent_for_contains(pattern) if isinstance(pattern, str) else None
        return self._where("contains", literal) if literal else self._where("ilike", pattern)

    def startswith(self, text: Text) -> Filter:
        r"""The value starts with *text*, taken literally.

        Args:
            text: The beginning, not empty.

        >>> from helicone_sessions import F
        >>> F.model.startswith("o3_")
        F.model.like('o3\\_%')
        """
        return self._matching("like", text, after="%")

    def istartswith(self, text: Text) -> Filter:
        """The value starts with *text*, ignoring case.

        Args:
            text: The beginning, not empty.
        """
        return self._matching("ilike", text, after="%")

    def endswith(self, text: Text) -> Filter:
        """The value ends with *text*, taken literally.

        Args:
            text: The end, not empty.

        >>> from helicone_sessions import F
        >>> F.model.endswith("-mini")
        F.model.like('%-mini')
        """
        return self._matching("like", text, before="%")

    def iendswith(self, text: Text) -> Filter:
        """The value ends with *text*, ignoring case.

        Args:
            text: The end, not empty.
        """
        return self._matching("ilike", text, before="%")

    def is_null(self) -> Filter:
        """The value is missing; only ``country_code`` and ``target_url`` can be null.

        The contract has no such test. The open-source server takes a comparison with the text ``"null"``
        for one (executed, July 2026), and so does the embedded engine; that comparison is sent.

        Raises:
            FilterTypeError: The column is never null; a missing value is stored as the empty text.

        >>> from helicone_sessions import F
        >>> F.country_code.is_null().to_wire()
        {'request_response_rmt': {'country_code': {'equals': 'null'}}}
        """
        if not self._facts.nullable:
            raise self._refusal(FilterTypeError, "is never null", IS_EMPTY)
        return Filter._of(Leaf(self._facts, "equals", MISSING))

    def is_empty(self) -> Filter:
        """The value is the empty text, which also stands for most missing values.

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
    """A column of numbers in the unit `unit`.

    >>> from helicone_sessions import F
    >>> (F.cost > 0.1) & F.latency.between(100, 500)
    (F.cost > 0.1) & (F.latency >= 100) & (F.latency <= 500)
    """

    __slots__ = ()
    _has = "==, !=, <, <=, >, >=, .between(), .is_in(), .not_in()"

    @property
    def unit(self) -> str:
        """The unit of its values.

        >>> from helicone_sessions import F
        >>> F.cost.unit, F.latency.unit
        ('dollars', 'milliseconds')
        """
        return str(self._facts.unit)

    def is_in(self, values: Iterable[Number]) -> Filter:
        """One of *values*; of none it is ``NONE``. A ``range`` of whole numbers takes two conditions.

        Args:
            values: Numbers, 100,000 at most; the open-source server takes about 4,000.

        >>> from helicone_sessions import F
        >>> F.status.is_in(range(500, 600))
        (F.status >= 500) & (F.status < 600)
        """
        if isinstance(values, range) and values.step == 1 and len(values) > 1 and self._facts.whole:
            return self.between(values.start, values.stop, inclusive="left")
        return super().is_in(values)

    def not_in(self, values: Iterable[Number]) -> Filter:
        """None of *values*; of none it is ``ALL``. A ``range`` of whole numbers takes two conditions.

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
    """A column of instants; its constants are datetimes with a zone.

    >>> import datetime as dt
    >>> from helicone_sessions import F
    >>> (F.request_created_at >= dt.datetime(2026, 11, 1, tzinfo=dt.UTC)).to_wire()
    {'request_response_rmt': {'request_created_at': {'gte': '2026-11-01T00:00:00.000Z'}}}
    """

    __slots__ = ()
    _has = "==, !=, <, <=, >, >=, .between(), .is_in(), .not_in()"

    def _without_operator(self, operator: Operator, constant: object) -> Node:
        # The API has no not-equals for times; before or after is the same.
        return Or((self.condition("lt", constant), self.condition("gt", constant)))


class BooleanColumn(Equatable[bool], Condition):
    """A column of true and false; it is a condition by itself.

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
        """The condition that it is true."""
        return self._where("equals", True)

    def is_false(self) -> Filter:
        """The condition that it is false."""
        return self._where("equals", False)


class PropertyKeyColumn(Column, Keyed):
    """The names of a request's properties; it can only be compared with ``==``.

    >>> from helicone_sessions import F
    >>> (F.property_key == "env") | F.property_key.eq("team")
    (F.property_key == 'env') | (F.property_key == 'team')
    """

    __slots__ = ()
    _has = "=="

    def eq(self, value: Text) -> Filter:
        """The method twin of ``==``.

        Args:
            value: The name of a property.
        """
        return self._where("equals", value)


class ScoreColumn(TextColumn):
    """One score; it is compared with text or with a number, written in its shortest form.

    The open-source server fails with every comparison but ``!=``; the embedded engine evaluates them.

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
        """Refuse: a request without the score never matches."""
        raise self._refusal(FilterTypeError, "is never null", _NEVER_MATCHES)

    def is_empty(self) -> NoReturn:
        """Refuse: a score is a whole number, or is not there."""
        raise self._refusal(FilterTypeError, "is never empty", _NEVER_MATCHES)


M = TypeVar("M", bound=TextColumn)


class MapColumn(Operand, Generic[M]):
    """A map of texts; ``[key]`` gives the column of one key.

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

    if not TYPE_CHECKING:  # to a type checker a misspelt name is an error

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            problem = f"is a map and has no .{name}"
            raise refusal(
                UnknownOperator, self._facts, problem, f"Name a key first, as in {self!r}['env'].{name}"
            )

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
