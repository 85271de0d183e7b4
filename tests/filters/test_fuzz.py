"""Thousands of expressions, compared with a second reader: the intended meaning, or an error.

``HELICONE_SESSIONS_FUZZ`` is the number of expressions of each sort; from 200,000 on, they include all
strings of three words. Each expression comes from its own seed, and a failure names both.
"""

import datetime as dt
import enum
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import attrs
import pytest

from helicone_sessions.errors import FilterError, FilterTypeError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter, all_of, any_of
from helicone_sessions.filters.schema import Kind
from tests.filters.reading import (
    COMPARISONS,
    SWAPPED,
    Content,
    Reader,
    Reading,
    Word,
    constants_meet,
    content,
    joined,
    opposite,
    same_calls,
)
from tests.filters.support import MOMENT, Code, Flags, Level, Model

try:
    import numpy as np
except ImportError:  # it comes with an extra
    np = None  # type: ignore[assignment]

COUNT = int(os.environ.get("HELICONE_SESSIONS_FUZZ", "5000"))
# From Python 3.12 on, ~True warns.
pytestmark = pytest.mark.filterwarnings("ignore:Bitwise inversion:DeprecationWarning")


class Answer(enum.Enum):
    YES = True


P, Q = F.model.contains("gpt"), F.user_id.like("a%")
NAMES: dict[str, Any] = {
    "F": F,
    "P": P,
    "Q": Q,
    "MOMENT": MOMENT,
    "LATER": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5))) + dt.timedelta(days=1),
    "Decimal": Decimal,
    "Fraction": Fraction,
    "UUID": UUID,
    "Model": Model,
    "Code": Code,
    "Level": Level,
    "Answer": Answer,
    "Flags": Flags,
    "all_of": all_of,
    "any_of": any_of,
    "np": np,
}
KINDS = {
    Kind.TEXT: "text",
    Kind.NUMBER: "number",
    Kind.TIMESTAMP: "timestamp",
    Kind.BOOLEAN: "boolean",
    Kind.KEY: "key",
}
CONSTANTS = {
    "number": ["0", "2", "200", "0.5", "Decimal('0.25')", "Fraction(1, 3)", "Code.OK", "Level.HIGH"],
    "text": ["'x'", "'a & b > 1'", "''", "Model.MINI", "UUID(int=1)"],
    "timestamp": ["MOMENT", "LATER"],
    "boolean": ["True", "False", "Answer.YES"],
}
if np is not None:
    CONSTANTS["number"] += ["np.int64(5)", "np.float64(0.5)", "np.float32(0.5)"]
    CONSTANTS["text"] += ["np.str_('x')"]
    CONSTANTS["boolean"] += ["np.True_"]
# These never stand on the left, where Python would invert them after ~ to what the column can hold as well:
# np.True_, and whole numbers where the column goes below zero (`test_inverted_by_python`).
INVERTIBLE = {"np.True_"}
COLUMNS_BELOW_ZERO = {"F.status", "F.scores['quality']"}


def value_of(source: str) -> Any:
    return eval(source, NAMES)  # noqa: S307 - the tests' own text


def columns() -> Iterator[tuple[str, str]]:
    """Every column in its spelling, and its kind."""
    for name in dir(F):
        if not name.startswith("_") and (kind := KINDS.get(getattr(F, name).facts.kind)):
            yield f"F.{name}", kind
    yield from [("F.properties['env']", "text"), ("F.search_properties['a & b']", "text")]
    yield "F.scores['quality']", "score"


COLUMNS: dict[str, list[str]] = {}
WORDS: dict[str, Word] = {}
for source_, kind_ in columns():
    COLUMNS.setdefault(kind_, []).append(source_)
    WORDS[source_] = Word("column", kind_, value_of(source_))
WORDS |= {
    source: Word("constant", kind, value_of(source)) for kind in CONSTANTS for source in CONSTANTS[kind]
}
WORDS |= {source: Word("condition", "", value_of(source)) for source in ("P", "Q", "F.status.between(1, 5)")}
READER = Reader(WORDS)


def outcome(source: str) -> Filter | Exception:
    """The filter that *source* gives, or the error."""
    try:
        return all_of(value_of(source))
    except (TypeError, FilterError) as error:
        refused = error
    # Only where Python itself works on constants, as in 0.5 & 2 or ~5 < F.cost, is it another error.
    assert isinstance(refused, FilterTypeError) or constants_meet(source, NAMES), f"{source}: {refused!r}"
    return refused


# Expressions that mean something.

OR, AND, NOT, COMPARISON, ATOM = range(5)
# How tightly it binds, and what it joins.
Tree = tuple[int, tuple[Any, ...]]


@attrs.frozen
class Condition:
    """A comparison or an operand, and its meaning."""

    source: str
    meant: Content
    constant_first: bool = False
    boolean: bool = False


ATOMS = [
    Condition(source, content(all_of(WORDS[source].value).node))
    for source in [*COLUMNS["boolean"], "P", "Q", "F.status.between(1, 5)"]
]


def drawn_comparison(chance: random.Random) -> Condition:
    kind = chance.choice(("number", "number", "text", "text", "timestamp", "boolean", "score", "key"))
    signs, kinds = COMPARISONS[kind]
    column = chance.choice(COLUMNS[kind])
    sign = chance.choice(sorted(signs))
    constant = chance.choice(CONSTANTS[chance.choice(sorted(kinds))])
    meant = READER.comparison(column, sign, constant)
    movable = column not in COLUMNS_BELOW_ZERO and constant not in INVERTIBLE
    if movable and chance.random() < 0.3:
        return Condition(f"{constant} {SWAPPED[sign]} {column}", meant, True, kind == "boolean")
    return Condition(f"{column} {sign} {constant}", meant, False, kind == "boolean")


def drawn_tree(chance: random.Random, depth: int = 4) -> Tree:
    sort = chance.random()
    if depth == 0 or sort < 0.3:
        if chance.random() < 0.6:
            return COMPARISON, (drawn_comparison(chance),)
        return ATOM, (chance.choice(ATOMS),)
    if sort < 0.5:
        return NOT, (drawn_tree(chance, depth - 1),)
    parts = [drawn_tree(chance, depth - 1) for _ in range(2 if chance.random() < 0.8 else 3)]
    return (AND if sort < 0.75 else OR), tuple(parts)


def meaning(tree: Tree) -> Content:
    binds, below = tree
    if binds >= COMPARISON:
        return below[0].meant  # type: ignore[no-any-return]
    if binds == NOT:
        return opposite(meaning(below[0]))
    return joined("and" if binds == AND else "or", map(meaning, below))


@attrs.define
class Place:
    """The place of a comparison without its own parentheses."""

    condition: Condition
    inverted: bool = False
    before: bool = False
    after: bool = False

    @property
    def delicate(self) -> bool:
        """Whether Python makes the same calls for another reading, so that rejection is allowed."""
        if self.condition.constant_first:
            return self.inverted or self.after
        return self.condition.boolean and self.before


class Printer:
    """Writes trees as sources.

    Args:
        chance: Decides where there are unnecessary parentheses.
        needless: How often they do.
        one_a_level: Put parentheses round all but one comparison on each level of parentheses.
    """

    def __init__(self, chance: random.Random, needless: float, *, one_a_level: bool) -> None:
        self._chance = chance
        self._needless = needless
        self._one_a_level = one_a_level
        self._places: list[Place] = []

    def printed(self, tree: Tree) -> tuple[str, list[Place]]:
        """The source, and the places of its comparisons without parentheses."""
        source, places = self._text(tree, OR, room=True)
        return source, self._places + places

    def _text(self, tree: Tree, around: int, *, room: bool) -> tuple[str, list[Place]]:
        binds, below = tree
        needed = binds < around or (binds == COMPARISON and self._one_a_level and not room)
        if not needed and self._chance.random() >= self._needless:
            return self._bare(binds, below, room=room)
        source, places = self._bare(binds, below, room=True)
        self._places += places
        return f"({source})", []

    def _bare(self, binds: int, below: tuple[Any, ...], *, room: bool) -> tuple[str, list[Place]]:
        if binds >= COMPARISON:
            return below[0].source, [Place(below[0])] if binds == COMPARISON else []
        if binds == NOT:
            source, places = self._text(below[0], NOT, room=room)
            for place in places:
                place.inverted = place.before = True
            return f"~{source}", places
        sources: list[str] = []
        found: list[Place] = []
        favoured = self._chance.randrange(len(below)) if room else -1
        for index, part in enumerate(below):
            source, places = self._text(part, binds, room=index == favoured)
            for place in places:
                place.before |= index > 0
                place.after |= index < len(below) - 1
            sources.append(source)
            found += places
        return (" & " if binds == AND else " | ").join(sources), found


@pytest.mark.parametrize("needless", [0.0, 0.5, 0.9])
def test_what_is_meant_or_an_error(needless: float) -> None:
    """An expression with all necessary parentheses has its intended meaning, or is rejected."""
    counts: Counter[bool] = Counter()
    for seed in range(COUNT // 3):
        chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
        tree = drawn_tree(chance)
        source, _ = Printer(chance, needless, one_a_level=False).printed(tree)
        meant, read, found = meaning(tree), READER.read(source), outcome(source)
        assert read is not None
        assert meant == READER.content(read), f"seed {seed}: {source}"
        if isinstance(found, Filter):
            assert meant == content(found.node), f"seed {seed}: {source} gave {found!r}"
        counts[isinstance(found, Filter)] += 1
    assert min(counts.values()) > COUNT // 100


@pytest.mark.parametrize("needless", [0.0, 0.3])
def test_one_comparison_a_level_is_never_refused(needless: float) -> None:
    """One comparison on each level always works, except three forms that Python reads differently."""
    counts: Counter[bool] = Counter()
    for seed in range(COUNT // 2):
        chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
        tree = drawn_tree(chance)
        source, places = Printer(chance, needless, one_a_level=True).printed(tree)
        found = outcome(source)
        promised = not any(place.delicate for place in places)
        if promised or isinstance(found, Filter):
            assert isinstance(found, Filter), f"seed {seed}: {source} gave {found!r}"
            assert meaning(tree) == content(found.node), f"seed {seed}: {source} gave {found!r}"
        counts[promised] += 1
    assert min(counts.values()) > COUNT // 100


# Strings of words and signs, which mostly mean nothing.

FEW = ("F.cost", "F.threat", "P", "2")
MANY = (
    *FEW,
    "F.model",
    "F.properties['env']",
    "F.request_created_at",
    "0.5",
    "'x'",
    "True",
    "MOMENT",
)
SIGNS = ("&", "|", "<", "==")


def number_of_strings(words: tuple[str, ...], length: int) -> int:
    """The number of strings of *length* words, each plain or after ~, with signs between them."""
    return int((2 * len(words)) ** length * len(SIGNS) ** (length - 1))


def string(words: tuple[str, ...], length: int, number: int) -> str:
    """The string with this number."""
    parts = []
    for _ in range(length):
        number, word = divmod(number, len(words))
        number, inverted = divmod(number, 2)
        number, sign = divmod(number, len(SIGNS))
        parts += ["~" * inverted + words[word], SIGNS[sign]]
    return " ".join(parts[:-1])


def tangle(chance: random.Random, length: int) -> str:
    """A string of words, signs and parentheses that Python can read."""
    if length == 1:
        source = chance.choice(chance.choice([FEW, MANY, ("F.latency", "F.cached", "Q", "0.5")]))
    else:
        cut = chance.randrange(1, length)
        sign = chance.choice(("&", "&", "|", "|", "<", ">", "<=", ">=", "==", "!="))
        source = f"{tangle(chance, cut)} {sign} {tangle(chance, length - cut)}"
    if chance.random() < (0.1 if length == 1 else 0.35):
        source = f"({source})"
    return f"~{source}" if chance.random() < 0.15 else source


def closes(tokens: list[str], start: int) -> int:
    """The place of the parenthesis that closes the one at *start*."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index] == "(") - (tokens[index] == ")")
        if depth == 0:
            return index
    raise AssertionError(tokens)


def disturbed(chance: random.Random, source: str) -> str:
    """The source with a pair of parentheses more or less, or another sign, or one ~ more."""
    tokens = READER.tokens(source)
    signs = {"&", "|", *SWAPPED}
    starts = [index for index, token in enumerate(tokens) if token not in signs and token != ")"]
    start = chance.choice(starts)
    sort = chance.random()
    if sort < 0.6:
        # From one word to another, as long as what is between them is whole.
        ends, depth = [], 0
        for index in range(start, len(tokens)):
            depth += (tokens[index] == "(") - (tokens[index] == ")")
            if depth < 0:
                break
            if depth == 0 and tokens[index] not in signs and tokens[index] != "~":
                ends.append(index)
        end = chance.choice(ends)
        tokens[start : end + 1] = ["(", *tokens[start : end + 1], ")"]
    elif sort < 0.75:
        if "(" in tokens:
            start = chance.choice([index for index, token in enumerate(tokens) if token == "("])
            del tokens[closes(tokens, start)], tokens[start]
    elif sort < 0.85:
        tokens.insert(start, "~")
    elif others := [index for index, token in enumerate(tokens) if token in signs]:
        tokens[chance.choice(others)] = chance.choice(sorted(signs))
    return " ".join(tokens)


def verdict(source: str) -> str:
    """The outcome of *source*: rejected, equal to its reading, or why it is a filter without one."""
    found = outcome(source)
    if not isinstance(found, Filter):
        return "refused"
    held = content(found.node)
    reading = READER.read(source)
    if reading is not None:
        assert READER.content(reading) == held, f"{source} gave {found!r}"
        return "equal"
    for difference, other in same_calls(source, NAMES):
        reading = READER.read(other)
        if reading is not None and READER.content(reading) == held:
            return difference
    raise AssertionError(f"{source} has no meaning and gave {found!r}")


@pytest.mark.parametrize("length", [1, 2])
def test_every_short_string(length: int) -> None:
    """A string of one or two words is what it means, or refused, save a constant before ~ and a column."""
    counts = Counter(
        verdict(string(MANY, length, number)) for number in range(number_of_strings(MANY, length))
    )
    assert counts["equal"] > length
    assert counts.keys() <= {"equal", "refused", "sides"}


@pytest.mark.parametrize(("words", "length"), [(MANY, 3), (FEW, 4)])
def test_longer_strings(words: tuple[str, ...], length: int) -> None:
    """A longer string has its meaning, is rejected, or runs like another string with that meaning."""
    numbers: Sequence[int] = range(number_of_strings(words, length))
    if COUNT < 200_000:
        numbers = random.Random(length).sample(numbers, COUNT)  # noqa: S311 - always the same ones
    counts = Counter(verdict(string(words, length, number)) for number in numbers)
    assert counts["equal"] > COUNT // 1000


def test_strings_in_parentheses() -> None:
    """A string with parentheses has its meaning, is rejected, or runs like another one with that meaning."""
    counts: Counter[str] = Counter()
    for seed in range(COUNT):
        chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
        counts[verdict(tangle(chance, chance.randint(2, 6)))] += 1
    assert counts["equal"] > COUNT // 100


def test_disturbed_expressions() -> None:
    """A mistyped expression has its meaning, is rejected, or runs like another one with that meaning."""
    counts: Counter[str] = Counter()
    for seed in range(COUNT):
        chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
        source, _ = Printer(chance, 0.0, one_a_level=True).printed(drawn_tree(chance, 3))
        for _ in range(chance.randint(1, 3)):
            source = disturbed(chance, source)
        counts[verdict(source)] += 1
    assert counts["equal"] > COUNT // 10


# Misreadings that can neither be seen nor rejected, each form under a name.


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("F.status == 200 | 404", "F.status.eq(476)"),
        ("F.status == 400 | 500", "F.status.eq(500)"),
        ("F.status == 200 & 404", "F.status.eq(128)"),
        ("F.status == 404 & True", "F.status.eq(0)"),
        ("F.threat == True | False", "F.threat.is_true()"),
        ("F.threat == True & False", "F.threat.is_false()"),
        ("F.latency == Flags.ONE | Flags.TWO", "F.latency.eq(3)"),
    ],
)
def test_constants_joined_by_python(source: str, meant: str) -> None:
    """Whole numbers, bools and flags side by side are one constant before anything of ours is called."""
    assert value_of(meant) == value_of(source)


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("0.5 < 2 < F.cost", "F.cost.gt(2)"),
        ("F.threat == (1 < 2)", "F.threat.is_true()"),
        ("F.threat == (P == Q)", "F.threat.is_false()"),
        ("F.status == 200 & (P | F.cached == None)", "F.status.eq(0)"),
    ],
)
def test_comparisons_that_are_a_bool(source: str, meant: str) -> None:
    """Constants, or a filter and another one or None, are compared as values, and only the bool is seen."""
    assert value_of(meant) == value_of(source)


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("1 < F.threat & F.cost", "F.threat & F.cost > 1"),
        ("1 >= P | F.cost", "P | F.cost <= 1"),
        ("'x' != F.threat & ~F.model", "F.threat & ~F.model != 'x'"),
        ("1 == ~F.cost", "~F.cost == 1"),
    ],
)
def test_a_constant_before_what_ends_in_a_column(source: str, meant: str) -> None:
    """Python asks the right side with the sign swapped, which are the calls of a source with a meaning."""
    assert READER.read(source) is None
    assert value_of(meant) == value_of(source)


@pytest.mark.parametrize(
    "source", ["~200 != F.latency", "~2 < F.cost", "P & ~200 != F.latency", "~True == F.threat"]
)
def test_inverted_by_python_and_refused(source: str) -> None:
    """A constant that Python has inverted is negative, so most columns reject it."""
    assert isinstance(outcome(source), FilterError)


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("~-3 < F.cost", "F.cost.gt(2)"),
        ("~200 != F.status", "F.status.ne(-201)"),
        ("~2 == F.scores['quality']", "F.scores['quality'].eq('-3')"),
        ("~~200 < F.latency", "F.latency.gt(200)"),
    ],
)
def test_inverted_by_python(source: str, meant: str) -> None:
    """Python's ~ of a whole number is a number like any other if the column can hold it."""
    assert value_of(meant) == value_of(source)


def test_inverted_by_numpy() -> None:
    """An unsigned number that numpy has inverted is not below zero, and so a number like any other."""
    pytest.importorskip("numpy")
    assert F.latency.gt(250) == value_of("~np.uint8(5) < F.latency")


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("F.cost > (0.5 & P)", "F.cost > 0.5 & P"),
        ("(P & F.cost) > 1", "P & F.cost > 1"),
        ("(P | F.cost) > 1 & Q", "P | F.cost > 1 & Q"),
        ("Q | (P & F.cost) > 1", "Q | P & F.cost > 1"),
        ("F.cost > (0.5 | P) | Q", "F.cost > 0.5 | P | Q"),
        ("(~F.cost) > 1", "~F.cost > 1"),
    ],
)
def test_parentheses_that_python_puts_there_too(source: str, meant: str) -> None:
    """Parentheses around an expression without meaning leave no trace if Python reads them itself."""
    assert READER.read(source) is None
    assert value_of(meant) == value_of(source)


@pytest.mark.parametrize(
    "source",
    [
        "F.threat is True",
        "F.model in []",
        "P is not Q",
        "2 < 0.5 < F.cost",
        "P == Q",
        "True",
        "P & (F.threat is True)",
        "(F.model in []) | P",
    ],
)
def test_a_bool_is_no_filter(source: str) -> None:
    """An expression that Python reduces to a bool first is rejected where a filter is expected."""
    for receiver in (all_of, any_of):
        with pytest.raises(FilterTypeError):
            receiver(value_of(source))


@pytest.mark.parametrize("source", ["F.cost > 0.1 & 0.2 < F.latency", "F.model == 'x' & 'y' == F.user_id"])
def test_python_refuses_by_itself(source: str) -> None:
    """Constants that Python cannot join raise its own TypeError, before any operator of the package."""
    with pytest.raises(TypeError, match="unsupported operand type") as caught:
        value_of(source)
    assert not isinstance(caught.value, FilterError)


@pytest.mark.parametrize(
    "source",
    [
        "F.threat & F.cached == np.True_",
        "F.status == 200 & (P | F.cached == np.True_)",
        "~F.threat != np.True_ & False != F.cached",
    ],
)
def test_a_condition_is_not_compared_with_a_numpy_bool(source: str) -> None:
    """A boolean column beside & is rejected before a numpy bool as before a bool."""
    pytest.importorskip("numpy")
    with pytest.raises(FilterTypeError):
        value_of(source)


@pytest.mark.parametrize(
    "source",
    [
        "~(0.5 & P) < F.cost",
        "~(0.5 | P) < F.cost",
        "F.cost > ~(0.5 & P)",
        "~(P & F.cost) > 1",
        "P & (2 & Q) < F.cost",
        "(2 & P) & Q < F.cost",
        "P & (2 | Q) < F.cost",
        "(P | F.cost) & Q > 2",
        "P | (Q | F.cost) > 2",
    ],
)
def test_no_part_is_lost(source: str) -> None:
    """If only a part of the operands can be read, everything is rejected."""
    assert READER.read(source) is None
    with pytest.raises(FilterTypeError):
        all_of(value_of(source))


# The second reader itself.


@pytest.mark.parametrize(
    ("source", "reading"),
    [
        ("F.cost > 0.5 & P", ("and", ("where", "F.cost", ">", "0.5"), ("holds", "P"))),
        (
            "P | 2 < F.cost & Q",
            ("or", ("holds", "P"), ("and", ("where", "F.cost", ">", "2"), ("holds", "Q"))),
        ),
        ("~F.cost > 2", ("not", ("where", "F.cost", ">", "2"))),
        ("~(P & F.threat)", ("not", ("and", ("holds", "P"), ("where", "F.threat", "==", "True")))),
        ("~~P & Q", ("and", ("holds", "P"), ("holds", "Q"))),
        (
            "F.cost > 2 & F.cost < 200",
            ("and", ("where", "F.cost", ">", "2"), ("where", "F.cost", "<", "200")),
        ),
        ("(F.cost) > (2)", ("where", "F.cost", ">", "2")),
        ("F.status == 200 | 404", None),
        ("0.5 < F.cost < 2", None),
        ("F.cost > (0.5 & P)", None),
        ("(~F.cost) > 2", None),
        ("2 < ~F.cost", None),
        ("F.cost > 'x'", None),
        ("F.model > 'x'", None),
        ("F.cost > F.latency", None),
        ("2 > 0.5", None),
        ("P == True", None),
        ("F.cost & P", None),
        ("True", None),
    ],
)
def test_the_second_reader(source: str, reading: Reading | None) -> None:
    """A source is read with comparisons first, then ~, then &, then |; what has no meaning has no reading."""
    assert reading == READER.read(source)
