"""A second reader of the filter language: it reads a source as a person means it.

Comparisons are read first, then ``~``, then ``&``, then ``|``. A column is compared with one constant of its
kind, on either side; a boolean column is also a condition by itself; ``~``, ``&`` and ``|`` take conditions.
Nothing else has a reading. Readings are plain data, and so is the `content` of a filter, so that one can be
held against the other. Neither Python's reading of the source nor the way filters are built is known here;
`same_calls`, at the end, asks Python.
"""

import ast
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import attrs

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.expression import Operand
from helicone_sessions.filters.nodes import Leaf, Node, Not, Or

EQUALITY = frozenset({"==", "!="})
ORDER = frozenset({"<", "<=", ">", ">="})
# How each kind of column is compared, and with what.
COMPARISONS = {
    "number": (EQUALITY | ORDER, {"number"}),
    "timestamp": (EQUALITY | ORDER, {"timestamp"}),
    "text": (EQUALITY, {"text"}),
    "score": (EQUALITY, {"text", "number"}),
    "boolean": (EQUALITY, {"boolean"}),
    "key": ({"=="}, {"text"}),
}
METHODS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
SWAPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

# ("where", column, sign, constant), ("holds", condition), ("not", …), ("and", …, …) or ("or", …, …), where
# columns, constants and conditions are what is written.
Reading = tuple[Any, ...]
# The same with what a filter holds in the place of "where" and "holds".
Content = tuple[Any, ...]


@attrs.frozen
class Word:
    """A column, a constant or a complete condition.

    Args:
        role: Which of the three.
        kind: The kind of the column or constant.
        value: Its value in Python.
    """

    role: Literal["column", "constant", "condition"]
    kind: str
    value: Any


class NoReading(Exception):
    """The source has no meaning."""


def opposite(inner: tuple[Any, ...]) -> tuple[Any, ...]:
    """Not *inner*; the opposite of a negation is its operand."""
    return inner[1] if inner[0] == "not" else ("not", inner)


def joined(word: str, parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """All ("and") or any ("or") of the *parts*, in one row with the parts of such parts."""
    row: list[Any] = []
    for part in parts:
        row += part[1:] if part[0] == word else (part,)
    return (word, *row) if len(row) > 1 else row[0]


def content(node: Node) -> Content:
    """The content of a filter's *node*; constants with their types, since 1 equals True."""
    if isinstance(node, Leaf):
        return ("leaf", node.column.name, node.key, node.operator, repr(node.value))
    parts = [content(child) for child in node.children]
    if isinstance(node, Not):
        return opposite(parts[0])
    return joined("or" if isinstance(node, Or) else "and", parts)


class Reader:
    """Reads sources made of *words*, signs, parentheses, whole numbers, True and False."""

    def __init__(self, words: Mapping[str, Word]) -> None:
        self._words = words
        longest_first = sorted(map(re.escape, words), key=len, reverse=True)
        self._token = re.compile(
            "|".join([r"-?\d+\b(?!\.)", *longest_first, r"True|False|[<>=!]=|[&|~<>()]|\S"])
        )
        # There are few comparisons and many sources.
        self.comparison = functools.cache(self._by_method)

    def word(self, text: str) -> Word:
        """The word spelled *text*."""
        if text in self._words:
            return self._words[text]
        if text in ("True", "False"):
            return Word("constant", "boolean", text == "True")
        return Word("constant", "number", int(text))

    def tokens(self, source: str) -> list[str]:
        """The words, signs and parentheses of *source*."""
        return self._token.findall(source)

    def read(self, source: str) -> Reading | None:
        """The meaning of *source*, if it has one."""
        # The next token is the last of the list, and nothing is the last token.
        tokens = ["", *reversed(self.tokens(source))]
        try:
            reading = self._condition(self._either(tokens))
        except NoReading:
            return None
        assert [""] == tokens, source
        return reading

    def content(self, reading: Reading) -> Content:
        """The expected content of the filter with this *reading*, built by methods instead of operators."""
        match reading:
            case ("where", column, sign, constant):
                return self.comparison(column, sign, constant)
            case ("holds", condition):
                return content(self._words[condition].value.node)
            case ("not", inner):
                return opposite(self.content(inner))
        return joined(reading[0], map(self.content, reading[1:]))

    def _by_method(self, column: str, sign: str, constant: str) -> Content:
        method = getattr(self._words[column].value, METHODS[sign])
        return content(method(self.word(constant).value).node)

    # Each function takes its part of the tokens and returns a reading, or the text of a column or constant.

    def _either(self, tokens: list[str]) -> Reading | str:
        return self._row("|", "or", self._all, tokens)

    def _all(self, tokens: list[str]) -> Reading | str:
        return self._row("&", "and", self._negation, tokens)

    def _row(
        self, sign: str, word: str, part: Callable[[list[str]], Reading | str], tokens: list[str]
    ) -> Reading | str:
        first = part(tokens)
        if tokens[-1] != sign:
            return first
        parts = [self._condition(first)]
        while tokens[-1] == sign:
            tokens.pop()
            parts.append(self._condition(part(tokens)))
        return joined(word, parts)

    def _negation(self, tokens: list[str]) -> Reading | str:
        if tokens[-1] != "~":
            return self._comparison(tokens)
        tokens.pop()
        return opposite(self._condition(self._negation(tokens)))

    def _comparison(self, tokens: list[str]) -> Reading | str:
        left = self._operand(tokens)
        if tokens[-1] not in METHODS:
            return left
        sign = tokens.pop()
        right = self._operand(tokens)
        if tokens[-1] in METHODS or not isinstance(left, str) or not isinstance(right, str):
            raise NoReading
        if self.word(left).role == "constant":
            left, sign, right = right, SWAPPED[sign], left
        column, constant = self.word(left), self.word(right)
        if column.role != "column" or constant.role != "constant":
            raise NoReading
        signs, kinds = COMPARISONS[column.kind]
        if sign not in signs or constant.kind not in kinds:
            raise NoReading
        return ("where", left, sign, right)

    def _operand(self, tokens: list[str]) -> Reading | str:
        text = tokens.pop()
        if text == "(":
            inner = self._either(tokens)
            assert tokens.pop() == ")"
            return inner
        if text == "~":  # behind a sign
            raise NoReading
        return ("holds", text) if self.word(text).role == "condition" else text

    def _condition(self, found: Reading | str) -> Reading:
        if not isinstance(found, str):
            return found
        word = self.word(found)
        if word.role != "column" or word.kind != "boolean":
            raise NoReading
        return ("where", found, "==", "True")


# Some sources run the very same calls as another one: no code that is called can tell the two apart.


class _Computed(ast.NodeTransformer):
    """Replaces constants that Python joins, inverts or compares by the resulting bool or whole number."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self._computed(node) or self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self._computed(node) or self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if whole := self._computed(node):
            return whole
        # a < b < c is a < b and b < c, and what is true does not matter there.
        while len(node.ops) > 1 and self._computed(
            ast.Compare(node.left, node.ops[:1], node.comparators[:1])
        ):
            node = ast.Compare(node.comparators[0], node.ops[1:], node.comparators[1:])
        return self.generic_visit(node)

    def _computed(self, node: ast.expr) -> ast.Constant | None:
        try:
            value = _value(node, self._names)
        except (TypeError, FilterError):
            return None
        if hasattr(value, "item"):  # numpy's
            value = value.item()
        return ast.Constant(value) if isinstance(value, int) else None


class _Swapped(ast.NodeTransformer):
    """Puts the constant after the sign, because Python asks the other side with the sign swapped."""

    _SIGNS: ClassVar[dict[type[ast.cmpop], type[ast.cmpop]]] = {
        ast.Eq: ast.Eq,
        ast.NotEq: ast.NotEq,
        ast.Lt: ast.Gt,
        ast.LtE: ast.GtE,
        ast.Gt: ast.Lt,
        ast.GtE: ast.LtE,
    }

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) > 1 or not is_constant(node.left):
            return node
        return ast.Compare(node.comparators[0], [self._SIGNS[type(node.ops[0])]()], [node.left])


def is_constant(node: ast.AST) -> bool:
    """Whether neither a column nor a filter is part of it."""
    return not any(isinstance(below, ast.Name) and below.id in ("F", "P", "Q") for below in ast.walk(node))


def constants_meet(source: str, names: dict[str, Any]) -> bool:
    """Whether Python itself joins, inverts or compares plain values in *source*."""
    for node in ast.walk(ast.parse(source, mode="eval")):
        match node:
            case ast.UnaryOp(operand=operand):
                operands = [operand]
            case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right, *_]):
                operands = [left, right]
            case _:
                continue
        if all(_is_plain(operand, names) for operand in operands):
            return True
    return False


def _is_plain(node: ast.expr, names: dict[str, Any]) -> bool:
    try:
        return not isinstance(_value(node, names), Operand)
    except (TypeError, FilterError):
        return False


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    code = compile(ast.fix_missing_locations(ast.Expression(node)), "", "eval")
    return eval(code, names)  # noqa: S307 - the tests' own text


def same_calls(source: str, names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Other sources that Python runs like *source*, each with its differences."""
    tree = ast.parse(source, mode="eval")
    yield "parentheses", ast.unparse(tree)
    yield "sides", ast.unparse(_Swapped().visit(ast.parse(source, mode="eval")))
    computed = _Computed(names).visit(tree)
    yield "constants", ast.unparse(computed)
    yield "constants and sides", ast.unparse(_Swapped().visit(computed))
