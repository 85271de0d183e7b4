"""What the open-source server is known to read differently from what the contract says of a filter.

The facts are those of the column table in schema.py; here a filter is held against them.
"""

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, Literal

import attrs

from helicone_sessions.filters.nodes import And, Leaf, Node, Or, fold, plain_conditions, simplify
from helicone_sessions.filters.schema import (
    SERVER_EMPTY,
    SERVER_LARGEST_WHOLE,
    SERVER_MOST_CONDITIONS,
    SERVER_NULL,
    Kind,
    Reading,
)
from helicone_sessions.filters.source import to_source
from helicone_sessions.filters.spelling import spell_column
from helicone_sessions.filters.values import MISSING, cut
from helicone_sessions.filters.wire import encode_leaf

Effect = Literal["ignored", "fails", "widened", "overflow", "sentinel", "twisted", "inexact", "size"]
_WRAP: Final = 2 * (SERVER_LARGEST_WHOLE + 1)
_WRITTEN_OUT: Final = 1e21
_WHOLE: Final = re.compile("-?[0-9]+")
# The form that ClickHouse is sure to read; Python takes others as well.
_UUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORDS: Final = (SERVER_NULL, SERVER_EMPTY)


@attrs.frozen
class Caution:
    """One thing that the open-source server reads differently.

    Args:
        condition: The condition that it is about, as Python source.
        column: The column's name in the API; empty where it is about several.
        effect: In one word, what becomes of it: ``"ignored"`` (it becomes true), ``"fails"`` (the query ends
            with an error), ``"widened"`` (an "or" that matches everything), ``"overflow"`` (another number),
            ``"sentinel"`` (a word taken for a missing or empty value), ``"twisted"`` (another meaning),
            ``"inexact"`` (a rounded constant), ``"size"`` (more than a statement can hold).
        reason: Why.
        remedy: What to do about it.

    >>> from helicone_sessions import F
    >>> (caution,) = (F.cost > 3).cautions()
    >>> caution.effect, caution.remedy
    ('overflow', 'use a constant up to 2.147483647; more cannot be asked for there')
    """

    condition: str
    column: str
    effect: Effect
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.condition}: {self.reason}; {self.remedy}"


def cautions(root: Node) -> tuple[Caution, ...]:
    """What that server would read differently, each thing once, in the order of the filter.

    Raises:
        FilterValueError: The filter cannot be sent at all.
    """
    conditions = (root,) if isinstance(root, Leaf) else plain_conditions(root)
    if conditions and all(map(_is_plain, conditions)):
        return (_too_many(len(conditions)),) if len(conditions) > SERVER_MOST_CONDITIONS else ()
    found: dict[Caution, None] = {}
    leaves = 0

    def becomes_true(node: Node, below: list[bool]) -> bool:
        nonlocal leaves
        if isinstance(node, Leaf):
            leaves += 1
            found.update(dict.fromkeys(_of_leaf(node)))
            return node.column.on_server is Reading.IGNORED
        if isinstance(node, And):
            return all(below)
        if isinstance(node, Or) and any(below) and not all(below):
            found[_widened(node, below)] = None
        return any(below)

    fold(simplify(root), becomes_true)
    if leaves > SERVER_MOST_CONDITIONS:
        found[_too_many(leaves)] = None
    return tuple(found)


def _is_plain(leaf: Leaf) -> bool:
    """Whether there is surely nothing to say: a quick look, as every query is looked at."""
    column, value = leaf.column, leaf.value
    if column.on_server is not Reading.READ or column.server_refuses or column.server_twists:
        return False
    if isinstance(value, str):
        return not column.uuid and value not in _WORDS
    if column.kind is Kind.NUMBER:
        scale = column.server_scale
        product = value * scale  # type: ignore[operator]
        return 0 <= product <= SERVER_LARGEST_WHOLE and (scale == 1 or product == int(product))
    return False


def _of_leaf(leaf: Leaf) -> Iterator[Caution]:
    column, (operator, value) = leaf.column, _sent(leaf)
    if column.on_server is Reading.IGNORED:
        yield _caution(leaf, "ignored", f"the condition becomes true, because {column.server_note}")
    elif column.on_server is Reading.FAILS or operator in column.server_refuses:
        yield _caution(leaf, "fails", column.server_note)
    else:
        if operator in column.server_twists:
            yield _caution(leaf, "twisted", column.server_note)
        yield from _of_value(leaf, operator, value)


def _sent(leaf: Leaf) -> tuple[str, Any]:
    """The operator and the constant that the API gets."""
    condition = encode_leaf(leaf)[leaf.column.table][leaf.column.name]
    ((operator, value),) = (condition if leaf.key is None else condition[leaf.key]).items()
    return operator, value


def _of_value(leaf: Leaf, operator: str, value: Any) -> Iterator[Caution]:
    column = leaf.column
    match column.kind:
        case Kind.NUMBER:
            yield from _of_number(leaf, value)
        case Kind.TEXT if value in _WORDS and leaf.value is not MISSING:
            yield from _of_sentinel(leaf, operator, value)
        case Kind.TEXT if column.uuid and leaf.value is not MISSING and not _UUID.fullmatch(value):
            yield _caution(leaf, "fails", column.server_note)
        case Kind.MAP if column.server_refuses and not _WHOLE.fullmatch(value):
            yield _caution(leaf, "fails", column.server_note)
        case Kind.BOOLEAN if column.server_remedy and not value:
            yield _caution(leaf, "twisted", column.server_note)
        case Kind.TIMESTAMP if leaf.value.microsecond:  # type: ignore[union-attr]
            nothing = ", and no request matches" if operator == "equals" else ""
            reason = f"the constant is {column.server_note}{nothing}"
            yield _caution(
                leaf, "inexact", reason, "use whole seconds, as .replace(microsecond=0) gives them"
            )


def _of_number(leaf: Leaf, value: float) -> Iterator[Caution]:
    scale = leaf.column.server_scale
    product = value * scale if scale > 1 else value
    if scale > 1 and math.isfinite(product):
        product = math.floor(product)
    if abs(product) > SERVER_LARGEST_WHOLE and (abs(product) >= _WRITTEN_OUT or product == int(product)):
        most = f"{SERVER_LARGEST_WHOLE / scale:.10g}"
        reason = f"a constant beyond {most} does not fit into 32 bits: {_wrapped(product, scale)}"
        mend = f"use a constant up to {most}; more cannot be asked for there"
        yield _caution(leaf, "overflow", reason, mend)
    elif scale > 1 and value * scale != product and product != (meant := _bound(leaf, value, scale)):
        read = (Decimal(product) / scale).normalize()
        reason = f"the constant is read as {read:f}, because what is less than a billionth is cut off"
        mend = "use whole billionths"
        if meant is not None:
            mend = f"there {(Decimal(meant) + Decimal('0.1')) / scale:f} is read as it should be"
        yield _caution(leaf, "inexact", reason, mend)


def _wrapped(product: float, scale: int) -> str:
    # From there on JavaScript writes an exponent, which is no whole number to ClickHouse.
    if abs(product) >= _WRITTEN_OUT:
        return "the query fails"
    wrapped = (int(product) + _WRAP // 2) % _WRAP - _WRAP // 2
    return f"it is read as {wrapped / scale:.10g}"


def _bound(leaf: Leaf, value: float, scale: int) -> int | None:
    """The whole number that stands for the constant exactly, beside a column of whole numbers."""
    exact = Decimal(repr(value)) * scale
    if leaf.operator in ("gt", "lte"):
        return math.floor(exact)
    if leaf.operator in ("gte", "lt"):
        return math.ceil(exact)
    return int(exact) if exact == int(exact) else None


def _of_sentinel(leaf: Leaf, operator: str, word: str) -> Iterator[Caution]:
    column = spell_column(leaf.column)
    is_read = word in leaf.column.sentinels
    if is_read and word == SERVER_NULL and operator in ("equals", "not-equals"):
        is_not = "" if operator == "equals" else "not "
        mend = f"write {'~' if is_not else ''}{column}.is_null() if that is meant"
        yield _caution(
            leaf, "sentinel", f"{word!r} is taken for 'is {is_not}missing', not compared as text", mend
        )
    elif is_read and operator == "equals":
        mend = f"write {column}.is_empty() if that is meant"
        yield _caution(leaf, "sentinel", f"{word!r} is taken for 'is empty', not compared as text", mend)
    else:
        reason = f"{word!r} is put into the statement as it stands, and nothing matches or the query fails"
        yield _caution(leaf, "fails", reason, "that word cannot be looked for there")


def _caution(leaf: Leaf, effect: Effect, reason: str, remedy: str | None = None) -> Caution:
    if remedy is None:
        key = leaf.value if leaf.column.kind is Kind.KEY else leaf.key
        remedy = leaf.column.server_remedy.replace("[key]", "[key]" if key is None else f"[{key!r}]")
    return Caution(cut(str(leaf)), leaf.column.name, effect, reason, remedy)


def _widened(node: Or, below: list[bool]) -> Caution:
    ignored = next(child for child, is_true in zip(node.children, below, strict=True) if is_true)
    return Caution(
        cut(to_source(node)),
        "",
        "widened",
        f"it matches everything, because {cut(to_source(ignored))} becomes true",
        "replace that condition, as its own caution says, or leave it out",
    )


def _too_many(leaves: int) -> Caution:
    return Caution(
        f"the filter of {leaves} conditions",
        "",
        "size",
        f"a statement holds about {SERVER_MOST_CONDITIONS} conditions (262,144 bytes)",
        "split it over several queries",
    )
