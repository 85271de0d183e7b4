"""What the open-source server is known to read differently from what the contract says of a filter.

The facts are those of the column table in schema.py; here a filter is held against them.
"""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

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
from helicone_sessions.filters.values import MISSING, cut

Effect = Literal["ignored", "fails", "widened", "overflow", "sentinel", "twisted", "inexact", "size"]
_WRAP: Final = 2 * (SERVER_LARGEST_WHOLE + 1)
_WRITTEN_OUT: Final = 1e21
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
        sent = value * scale  # type: ignore[operator]
        return 0 <= sent <= SERVER_LARGEST_WHOLE and (scale == 1 or sent >= 1 or sent == 0)
    return False


def _of_leaf(leaf: Leaf) -> Iterator[Caution]:
    column = leaf.column
    if column.on_server is Reading.IGNORED:
        yield _caution(leaf, "ignored", f"the condition becomes true, because {column.server_note}")
    elif column.on_server is Reading.FAILS or leaf.operator in column.server_refuses:
        yield _caution(leaf, "fails", column.server_note)
    else:
        if leaf.operator in column.server_twists:
            yield _caution(leaf, "twisted", column.server_note)
        yield from _of_value(leaf)


def _of_value(leaf: Leaf) -> Iterator[Caution]:
    column, value = leaf.column, leaf.value
    match column.kind:
        case Kind.NUMBER:
            yield from _of_number(leaf, float(value))  # type: ignore[arg-type]
        case Kind.TEXT if value in _WORDS and value is not MISSING:
            yield from _of_sentinel(leaf)
        case Kind.TEXT if column.uuid and not _is_uuid(str(value)):
            yield _caution(leaf, "fails", column.server_note)
        case Kind.MAP if column.server_refuses and not str(value).lstrip("-").isdecimal():
            yield _caution(leaf, "fails", column.server_note)
        case Kind.BOOLEAN if column.server_remedy and not value:
            yield _caution(leaf, "twisted", column.server_note)
        case Kind.TIMESTAMP if leaf.operator == "equals" and _has_fraction(value):
            reason = f"no request matches, because the constant is {column.server_note}"
            yield _caution(leaf, "inexact", reason, "use .between() with the ends of a span")


def _of_number(leaf: Leaf, value: float) -> Iterator[Caution]:
    scale = leaf.column.server_scale
    sent = value * scale if scale == 1 or not math.isfinite(value * scale) else math.floor(value * scale)
    most = f"{SERVER_LARGEST_WHOLE / scale:.10g}"
    if abs(sent) > SERVER_LARGEST_WHOLE and (sent >= _WRITTEN_OUT or sent == int(sent)):
        # Above it JavaScript writes an exponent, which is no whole number to ClickHouse.
        wrapped = (int(sent) + _WRAP // 2) % _WRAP - _WRAP // 2 if abs(sent) < _WRITTEN_OUT else None
        read = "the query fails" if wrapped is None else f"it is read as {wrapped / scale:.10g}"
        reason = f"a constant beyond {most} does not fit into 32 bits: {read}"
        yield _caution(
            leaf, "overflow", reason, f"use a constant up to {most}; more cannot be asked for there"
        )
    elif sent == 0 < value:
        reason = f"the constant is read as 0, because it is floored to units of {1 / scale:g}"
        yield _caution(leaf, "inexact", reason, f"use a constant from {1 / scale:g} up")


def _of_sentinel(leaf: Leaf) -> Iterator[Caution]:
    word, is_read = str(leaf.value), leaf.value in leaf.column.sentinels
    if is_read and word == SERVER_NULL and leaf.operator in ("equals", "not-equals"):
        is_not = "" if leaf.operator == "equals" else "not "
        reason = f"{word!r} is taken for 'is {is_not}missing', not compared as text"
        yield _caution(leaf, "sentinel", reason, f"write {'~' if is_not else ''}….is_null() if that is meant")
    elif is_read and leaf.operator == "equals":
        reason = f"{word!r} is taken for 'is empty', not compared as text"
        yield _caution(leaf, "sentinel", reason, "write .is_empty() if that is meant")
    else:
        reason = f"{word!r} is put into the statement as it stands, and nothing matches or the query fails"
        yield _caution(leaf, "fails", reason, "that word cannot be looked for there")


def _caution(leaf: Leaf, effect: Effect, reason: str, remedy: str | None = None) -> Caution:
    remedy = leaf.column.server_remedy if remedy is None else remedy
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


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _has_fraction(value: object) -> bool:
    return isinstance(value, datetime) and value.microsecond > 0
