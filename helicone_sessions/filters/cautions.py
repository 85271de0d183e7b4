"""Cautions: warnings about conditions that can give unexpected results.

The open-source server reads such a condition differently from the contract, or the condition matches missing
values. The facts are in the column table in schema.py, and this module compares filters with those facts.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

import attrs

from helicone_sessions.filters.constants import MISSING, cut, ends_in_escape, spell_column
from helicone_sessions.filters.nodes import (
    And,
    Branch,
    Leaf,
    Node,
    Or,
    fold,
    leaves_of,
    simplify,
)
from helicone_sessions.filters.printer import to_source
from helicone_sessions.filters.schema import (
    COLUMNS,
    COMPARISONS,
    REQUESTS,
    SERVER_EMPTY,
    SERVER_END_OF_TIME,
    SERVER_FIRST_YEAR,
    SERVER_LARGEST_WHOLE,
    SERVER_NULL,
    SERVER_SMALLEST_WHOLE,
    SESSIONS,
    ColumnFacts,
    Kind,
    Operator,
    Reading,
)
from helicone_sessions.filters.wire import encode_leaf, to_wire

Effect = Literal[
    "ignored",
    "fails",
    "widened",
    "overflow",
    "sentinel",
    "twisted",
    "inexact",
    "version",
    "age",
    "size",
    "missing",
    "uncopied",
]
# Effects that depend on the data, and so also occur on a server that follows the contract.
IN_DATA: Final[frozenset[Effect]] = frozenset({"missing", "uncopied"})
_TURN: Final = 2 * (SERVER_LARGEST_WHOLE + 1)
# From this value on, JavaScript writes an exponent, which ClickHouse does not accept in whole numbers.
_WITH_EXPONENT: Final = 1e21
# Text that ClickHouse accepts as a UUID or as a whole number, and the form in which it writes whole numbers.
_UUID: Final = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_WHOLE: Final = re.compile("[+-]?[0-9]+")
_WRITTEN_WHOLE: Final = re.compile("0|-?[1-9][0-9]*")
_WORDS: Final = (SERVER_NULL, SERVER_EMPTY)
_NO_SEARCH: Final = "you cannot search for this word there"


@attrs.frozen
class Caution:
    """A warning about a part of a filter that can give an unexpected result.

    The open-source server reads that part differently from the contract, or the part matches missing values.

    Args:
        condition: The condition, as Python source.
        column: The API name of the column, or "" if the caution is about several columns.
        effect: The effect on the open-source server: ``"ignored"`` (the condition becomes true),
            ``"fails"`` (the query fails), ``"widened"`` (an "or" matches everything), ``"overflow"`` (the
            constant becomes another number), ``"sentinel"`` (a word is read as a missing or empty value),
            ``"twisted"`` (the condition gets another meaning), ``"inexact"`` (the constant is rounded),
            ``"version"`` (the effect depends on the version of ClickHouse), ``"age"`` (the condition does not
            match older requests), ``"size"`` (the SQL statement becomes too long), ``"missing"`` (the
            condition also matches requests without a value) or ``"uncopied"`` (no request has a value,
            because a sync did not copy the column).
        reason: The reason for the effect.
        remedy: How to avoid the effect.

    >>> from helicone_sessions import F
    >>> (caution,) = (F.cost > 3).cautions()
    >>> caution.effect, caution.remedy
    ('overflow', 'use a constant up to 2.147483647, the largest that can be sent there')
    """

    condition: str
    column: str
    effect: Effect
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.condition}: {self.reason}; {self.remedy}"


def cautions(root: Node) -> tuple[Caution, ...]:
    """The cautions for a filter, without duplicates, in the same order as its conditions.

    Raises:
        FilterValueError: The filter cannot be sent.
    """
    parts: tuple[Any, ...] = root.children if isinstance(root, Branch) else (root,)
    if all(map(_is_plain, parts)):
        return _of_length(parts)
    found: dict[Caution, None] = {}
    leaves: list[Leaf] = []

    def becomes_true(node: Node, below: list[bool]) -> bool:
        if isinstance(node, Leaf):
            leaves.append(node)
            found.update(dict.fromkeys(_of_leaf(node)))
            return node.column.on_server is Reading.IGNORED
        if isinstance(node, And):
            return all(below)
        if isinstance(node, Or) and any(below) and not all(below):
            found[_widened(node, below)] = None
        return any(below)

    fold(simplify(root), becomes_true)
    found.update(dict.fromkeys(_of_depth(root, leaves)))
    found.update(dict.fromkeys(_of_length(leaves)))
    if any(leaf.column.often_missing for leaf in leaves):
        found.update(_of_missing(root, SERVICE_GAPS.some))
    return tuple(found)


@attrs.frozen
class DataGaps:
    """The columns that lack values in a server's data.

    Args:
        some: Columns without a value in some requests.
        all: Columns without a value in any request.
    """

    some: frozenset[str] = frozenset()
    all: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.some or self.all)


# Some requests in the service have no cost, for example because their model has no price.
SERVICE_GAPS: Final = DataGaps(
    some=frozenset(name for name, column in COLUMNS.items() if column.often_missing)
)


def data_cautions(root: Node, gaps: DataGaps) -> tuple[Caution, ...]:
    """The cautions for a filter on data with known gaps.

    >>> from helicone_sessions import F
    >>> condition = (F.cost < 1) & F.request_body.contains("x")
    >>> gaps = DataGaps(some=frozenset({"cost"}), all=frozenset({"request_body"}))
    >>> [caution.effect for caution in data_cautions(condition.node, gaps)]
    ['missing', 'uncopied']
    """
    found = _of_missing(root, gaps.some)
    for leaf in leaves_of(root):
        if leaf.column.name in gaps.all:
            reason = f"no request on this server has a value for {leaf.column.name}"
            found[_caution(leaf, "uncopied", reason, leaf.column.uncopied)] = None
    return tuple(found)


def _of_missing(root: Node, columns: frozenset[str]) -> dict[Caution, None]:
    """A caution for each condition that matches the placeholder for a missing value."""

    def found(node: Node, below: list[dict[Caution, None]]) -> dict[Caution, None]:
        if isinstance(node, Leaf):
            return _of_missing_in_leaf(node) if node.column.name in columns else {}
        excluded = _exclude_missing(node)
        together = (caution for each in below for caution in each)
        return {caution: None for caution in together if caution.column not in excluded}

    return fold(simplify(root), found)


def _of_missing_in_leaf(leaf: Leaf) -> dict[Caution, None]:
    column = leaf.column
    if not _matches_missing(leaf):
        return {}
    stored = "an empty one" if column.missing_as == "" else f"{column.name} {column.missing_as}"
    reason = f"requests without a {column.name} are stored with {stored}, and match too"
    return {_caution(leaf, "missing", reason, column.missing_remedy): None}


def _exclude_missing(node: Node) -> set[str]:
    """If the node is an "and", the columns whose missing values one of its conditions excludes."""
    if not isinstance(node, And):
        return set()
    leaves = (child for child in node.children if isinstance(child, Leaf))
    return {leaf.column.name for leaf in leaves if not _matches_missing(leaf)}


def _matches_missing(leaf: Leaf) -> bool:
    """Whether a condition matches the placeholder for a missing value, but does not name that placeholder."""
    column, value = leaf.column, leaf.value
    if column.missing_as is None:
        return False
    if column.kind is Kind.NUMBER:
        return COMPARISONS[leaf.operator](column.missing_as, value)
    return leaf.operator in ("not-equals", "not-contains") and value not in ("", *_WORDS, MISSING)


def time_cautions(start: datetime, end: datetime) -> tuple[Caution, ...]:
    """The cautions for the ``time_filter`` of a query.

    >>> import datetime as dt
    >>> start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> time_cautions(start, dt.datetime(2200, 1, 1, tzinfo=dt.UTC))[0].effect
    'version'
    """
    if end < SERVER_END_OF_TIME:
        return ()
    late = start if start >= SERVER_END_OF_TIME else end
    condition = f"time_filter to {end.isoformat()}"
    return (Caution(condition, "request_created_at", "version", *_beyond_time(late)),)


def _is_plain(node: Node) -> bool:
    """Whether a condition certainly has no caution. The check is fast, because it runs for every query."""
    if type(node) is not Leaf:
        return False
    column, value = node.column, node.value
    # Every column that the server reads differently has a remedy.
    if column.server_remedy:
        return False
    if isinstance(value, str):
        return value not in _WORDS and value[-1:] != "\\"
    if column.kind is Kind.NUMBER:
        scale = column.server_scale
        product = value * scale  # type: ignore[operator]
        if not (0 <= product <= SERVER_LARGEST_WHOLE and (scale == 1 or product == int(product))):
            return False
        return not (column.often_missing and _matches_missing(node))
    return column.kind is Kind.BOOLEAN


def _of_leaf(leaf: Leaf) -> Iterator[Caution]:
    column, (operator, value) = leaf.column, _sent(leaf)
    if isinstance(leaf.value, datetime) and leaf.value.year < SERVER_FIRST_YEAR:
        reason = f"the server refuses times before the year {SERVER_FIRST_YEAR} (status 422)"
        yield _caution(leaf, "fails", reason, "use a later time, or leave the condition out")
    elif column.on_server is Reading.IGNORED:
        yield _caution(leaf, "ignored", f"the condition becomes true, because {column.server_note}")
    elif column.on_server is Reading.FAILS:
        yield _caution(leaf, "fails", column.server_note)
    else:
        if column.server_expires:
            yield _caution(leaf, "age", column.server_note)
        yield from _of_constant(leaf, operator, value)


def _sent(leaf: Leaf) -> tuple[str, Any]:
    """The operator and the constant of a condition, as the API receives them."""
    condition = encode_leaf(leaf)[leaf.column.table][leaf.column.name]
    ((operator, value),) = (condition if leaf.key is None else condition[leaf.key]).items()
    return operator, value


def _of_constant(leaf: Leaf, operator: str, value: Any) -> Iterator[Caution]:
    column = leaf.column
    match column.kind:
        case Kind.NUMBER:
            yield from _of_number(leaf, value)
        case Kind.TIMESTAMP:
            yield from _of_time(leaf, operator)
        case Kind.BOOLEAN:
            if column.server_remedy and not value:
                yield _caution(leaf, "twisted", column.server_note)
        case Kind.TEXT if value in _WORDS:
            yield from _of_word(leaf, operator, value)
        case Kind.TEXT | Kind.MAP:
            yield from _of_text(leaf, operator, value)


def _of_text(leaf: Leaf, operator: str, value: str) -> Iterator[Caution]:
    column = leaf.column
    is_no_uuid = column.uuid and not _UUID.fullmatch(value)
    if operator in column.server_refuses or is_no_uuid:
        yield _caution(leaf, "fails", column.server_note)
        return
    if operator in column.server_twists:
        yield _caution(leaf, "twisted", column.server_note)
    if column.name == "scores":
        yield from _of_score(leaf, value)
    if operator in ("like", "ilike") and ends_in_escape(value):
        reason = "ClickHouse refuses a pattern that ends with a single backslash (code 25)"
        yield _caution(leaf, "fails", reason, "double the backslash to look for one")


def _of_score(leaf: Leaf, value: str) -> Iterator[Caution]:
    """The cautions for ``!=``, the only operator that the server supports for scores."""
    column = leaf.column
    if not _WHOLE.fullmatch(value):
        yield _caution(leaf, "fails", column.server_note)
        return
    if not _WRITTEN_WHOLE.fullmatch(value):
        reason = "the text is compared as a number, so leading signs and zeros do not count"
        yield _caution(leaf, "twisted", reason, "write the number without them")
    yield _caution(leaf, "version", column.server_note)


def _of_number(leaf: Leaf, value: float) -> Iterator[Caution]:
    scale = leaf.column.server_scale
    product: float = value * scale if scale > 1 else value
    if math.isinf(product):
        return
    sent = math.floor(product) if scale > 1 else product
    if sent == int(sent) and not SERVER_SMALLEST_WHOLE <= sent <= SERVER_LARGEST_WHOLE:
        most = f"{SERVER_LARGEST_WHOLE / scale:.10g}"
        beyond = f"a constant beyond {most} does not fit into 32 bits"
        remedy = f"use a constant up to {most}, the largest that can be sent there"
        if abs(sent) >= _WITH_EXPONENT:
            yield _caution(leaf, "fails", f"{beyond}: the query fails (code 457)", remedy)
        else:
            read = (int(sent) + _TURN // 2) % _TURN - _TURN // 2
            yield _caution(leaf, "overflow", f"{beyond}: it is read as {read / scale:.10g}", remedy)
    elif sent != product and sent != (meant := _bound(leaf, value, scale)):
        reason = "the constant is read as {:f}, because fractions of a billionth are cut off"
        remedy = "use whole billionths"
        if meant is not None:
            remedy = f"{(Decimal(meant) + Decimal('0.1')) / scale:f} is read there as you mean it"
        yield _caution(leaf, "inexact", reason.format((Decimal(sent) / scale).normalize()), remedy)


def _bound(leaf: Leaf, value: float, scale: int) -> int | None:
    """The whole number that can replace the constant in a comparison with whole numbers, if there is one."""
    exact = Decimal(repr(value)) * scale
    if leaf.operator in ("gt", "lte"):
        return math.floor(exact)
    if leaf.operator in ("gte", "lt"):
        return math.ceil(exact)
    return int(exact) if exact == int(exact) else None


def _of_time(leaf: Leaf, operator: str) -> Iterator[Caution]:
    moment = leaf.value
    assert isinstance(moment, datetime)
    if moment.microsecond:
        nothing = ", and no request matches" if operator == "equals" else ""
        reason = f"the constant is {leaf.column.server_note}{nothing}"
        yield _caution(leaf, "inexact", reason, "use whole seconds: .replace(microsecond=0)")
    if moment >= SERVER_END_OF_TIME:
        yield _caution(leaf, "version", *_beyond_time(moment))


def _beyond_time(moment: datetime) -> tuple[str, str]:
    """The reason and the remedy for a time outside the range of ClickHouse's DateTime."""
    end = f"{SERVER_END_OF_TIME:%Y-%m-%dT%H:%M:%SZ}"
    reason = (
        f"ClickHouse 26.9 reads {moment.isoformat()} as the end of its calendar; older versions wrap around"
    )
    return reason, f"use a time before {end}"


def _of_word(leaf: Leaf, operator: str, word: str) -> Iterator[Caution]:
    """The cautions for a word that the server inserts into the SQL statement unchanged."""
    column = leaf.column
    is_read = word in column.sentinels
    if operator in column.server_twists:
        yield _caution(leaf, "twisted", column.server_note)
    if is_read and word == SERVER_NULL and operator in ("equals", "not-equals"):
        if leaf.value is not MISSING:
            yield _taken_for_null(leaf, operator)
    elif is_read and operator == "equals":
        reason = f"{word!r} is read as 'is empty', not as text"
        yield _caution(leaf, "sentinel", reason, f"write {spell_column(column)}.is_empty() if you mean that")
    else:
        yield from _of_unread_word(leaf, operator, word)


def _taken_for_null(leaf: Leaf, operator: str) -> Caution:
    is_not = "" if operator == "equals" else "not "
    remedy = _NO_SEARCH
    if leaf.column.nullable:
        source = spell_column(leaf.column)
        remedy = f"write {'~' if is_not else ''}{source}.is_null() if you mean that"
    reason = f"{SERVER_NULL!r} is read as 'is {is_not}missing', not as text"
    return _caution(leaf, "sentinel", reason, remedy)


def _of_unread_word(leaf: Leaf, operator: str, word: str) -> Iterator[Caution]:
    column = leaf.column
    if word == SERVER_EMPTY or (operator in ("contains", "not-contains") and column.table != SESSIONS):
        code = 47 if word == SERVER_EMPTY else 70
        reason = f"{word!r} becomes part of the statement, which ClickHouse refuses (code {code})"
        yield _caution(leaf, "fails", reason, _NO_SEARCH)
    elif not (column.uuid or column.server_refuses):
        reason = f"{word!r} is read as a missing value, so nothing matches"
        yield _caution(leaf, "sentinel", reason, _NO_SEARCH)


def _caution(leaf: Leaf, effect: Effect, reason: str, remedy: str | None = None) -> Caution:
    if remedy is None:
        remedy = leaf.column.server_remedy
        if leaf.key is not None:
            remedy = remedy.replace("[key]", f"[{leaf.key!r}]")
    return Caution(cut(str(leaf)), leaf.column.name, effect, reason, remedy)


def _widened(node: Or, below: list[bool]) -> Caution:
    ignored = next(child for child, is_true in zip(node.children, below, strict=True) if is_true)
    return Caution(
        cut(to_source(node)),
        "",
        "widened",
        f"it matches everything, because {cut(to_source(ignored))} becomes true",
        "replace that condition as its own caution says, or leave it out",
    )


def _of_depth(root: Node, leaves: Sequence[Leaf]) -> Iterator[Caution]:
    if len(leaves) > DEEPEST_TO_THE_LEFT and is_too_deep(to_wire(root)):
        yield Caution(
            f"the filter of {len(leaves)} conditions",
            "",
            "fails",
            f"ClickHouse's parser gives up at {DEEPEST_TO_THE_LEFT + 1} parentheses in a row",
            "write the nested part of each & and | last, as in F.threat & (F.cached | ...), or nest less",
        )


def _of_length(leaves: Sequence[Leaf]) -> tuple[Caution, ...]:
    if len(leaves) <= ALWAYS_FIT:
        return ()
    leaves = list(dict.fromkeys(leaves))
    size = statement_bytes((leaf.column, leaf.operator) for leaf in leaves)
    if size <= STATEMENT_BYTES:
        return ()
    reason = f"its statement has about {size:,} bytes, and ClickHouse accepts {STATEMENT_BYTES:,}"
    filter_ = f"the filter of {len(leaves)} conditions"
    return (Caution(filter_, "", "size", reason, "split it over several queries"),)


# The largest filter that the open-source server can run, given as the length and the nesting of its SQL
# statement. The limits are ClickHouse's defaults. On the server of July 2026 with ClickHouse 26.9, 3,000
# conditions on properties or 4,500 on the status work, and 4,000 or 5,000 fail.
STATEMENT_BYTES: Final = 262_144
# The largest number of parentheses that may open in a row, and the largest number of nested parentheses.
DEEPEST_TO_THE_LEFT: Final = 196
DEEPEST: Final = 259

# Constants and keys are sent as parameters, so their length has no effect.
_PARAMETER: Final = len("{val_1234 : String}")
_TABLE: Final = len(f"{REQUESTS}.")
_JOIN: Final = len("( and )")
_OPERATORS: Final[Mapping[Operator, int]] = {
    "like": len(" LIKE "),
    "ilike": len(" ILIKE "),
    "contains": len(" ILIKE '%' || ::text || '%'"),
    "not-contains": len(" NOT ILIKE '%' || ::text || '%'"),
}
_COMPARISON: Final = len(" >= ")
# The additional length for columns that need more than their name in the statement.
_MORE: Final[Mapping[str, int]] = {
    "property_key": len("has(, )"),
    "properties": len("[]") + _PARAMETER,
    "scores": len("has(scores, ) AND []") + 2 * _PARAMETER,
    "helicone-score-feedback": len("scores['']"),
    "cached": len("cache_reference_id"),
    "session_tag": len("properties['Helicone-Session-Id'] IN (SELECT entity_id FROM tags)") + 80,
}
# The length of the rest of the statement: conditions on the organisation, the time and the name.
_REST: Final = 1_000
# This many conditions always fit.
ALWAYS_FIT: Final = 1_000


def statement_bytes(conditions: Iterable[tuple[ColumnFacts, Operator]]) -> int:
    """The length of the SQL statement for *conditions* in bytes, accurate to a few bytes per condition.

    >>> from helicone_sessions import F
    >>> statement_bytes([(F.properties["env"].facts, "equals")] * 3000)
    247000
    """
    return _REST + sum(_condition_bytes(column, operator) for column, operator in conditions)


def _condition_bytes(column: ColumnFacts, operator: Operator) -> int:
    if column.on_server is Reading.IGNORED:
        return len("true") + _JOIN
    own = _TABLE + len(column.name) + _MORE.get(column.name, 0)
    return own + _OPERATORS.get(operator, _COMPARISON) + _PARAMETER + _JOIN


def is_too_deep(wire: Any) -> bool:
    """Whether the filter needs more parentheses than ClickHouse's parser accepts.

    Args:
        wire: The filter in the API's form.
    """
    waiting = [(wire, 1, 1)]
    while waiting:
        node, to_the_left, depth = waiting.pop()
        if isinstance(node, Mapping) and "left" in node:
            if to_the_left > DEEPEST_TO_THE_LEFT or depth > DEEPEST:
                return True
            waiting.append((node["left"], to_the_left + 1, depth + 1))
            waiting.append((node["right"], 1, depth + 1))
    return False
