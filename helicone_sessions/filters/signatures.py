"""What type checkers know of the comparisons of columns; at run time there is nothing in these classes.

A type checker has to see a `Filter` in ``F.cost > 0.1 & F.threat``, where Python gives the number and what
follows it to ``&`` first. So ``0.1 & F.threat`` is an ``Unfinished[float]`` to it, which a number column
takes as it takes a number; and ``F.threat & F.cost`` is what the column itself is: something to be compared.
"""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias
from uuid import UUID

from helicone_sessions.filters.filter import Filter, Joinable, Unfinished

Text: TypeAlias = str | UUID | Enum
Number: TypeAlias = float | SupportsIndex | Decimal | Fraction | Enum
Score: TypeAlias = Text | Number
Moment: TypeAlias = datetime | Enum

if TYPE_CHECKING:
    # An operand that the caller wrote, or one with `&` or `|` behind it: `0.1 & F.threat`.
    AnyNumber: TypeAlias = Number | Unfinished[Number]
    AnyText: TypeAlias = Text | Unfinished[Text]
    AnyScore: TypeAlias = Score | Unfinished[Score]
    AnyMoment: TypeAlias = Moment | Unfinished[Moment]
    AnyTruth: TypeAlias = bool | Unfinished[bool]


class Numeric(Joinable["Numeric"]):
    """To a type checker: a number column, or a comparison that lacks the number on its right."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: AnyNumber) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: AnyNumber) -> Filter: ...  # type: ignore[override]
        def __lt__(self, other: AnyNumber) -> Filter: ...
        def __le__(self, other: AnyNumber) -> Filter: ...
        def __gt__(self, other: AnyNumber) -> Filter: ...
        def __ge__(self, other: AnyNumber) -> Filter: ...
        def __invert__(self) -> "Numeric": ...


class Textual(Joinable["Textual"]):
    """To a type checker: a text column, or a comparison that lacks the text on its right."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: AnyText) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: AnyText) -> Filter: ...  # type: ignore[override]
        def __invert__(self) -> "Textual": ...


class Temporal(Joinable["Temporal"]):
    """To a type checker: a timestamp column, or a comparison that lacks the datetime on its right."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: AnyMoment) -> Filter: ...  # type: ignore[override]
        def __ne__(self, other: AnyMoment) -> Filter: ...  # type: ignore[override]
        def __lt__(self, other: AnyMoment) -> Filter: ...
        def __le__(self, other: AnyMoment) -> Filter: ...
        def __gt__(self, other: AnyMoment) -> Filter: ...
        def __ge__(self, other: AnyMoment) -> Filter: ...
        def __invert__(self) -> "Temporal": ...


class Keyed(Joinable["Keyed"]):
    """To a type checker: ``property_key``, or a comparison of it that lacks the text on its right."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __eq__(self, other: AnyText) -> Filter: ...  # type: ignore[override]
        def __invert__(self) -> "Keyed": ...
