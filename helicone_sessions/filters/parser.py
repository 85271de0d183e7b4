"""Parse filter text: ``cost > 0.1 and model contains "gpt"`` becomes a `Filter`.

A comparison binds tightest, then ``not``, then ``and``, then ``or``. The parser reads the text once, from
left to right. Unfinished groups are kept in a list, so nesting never reaches the recursion limit. The columns
of ``F`` create the conditions, so filter text follows the same rules as Python expressions.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterError, FilterSyntaxError, FilterTypeError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.columns.kinds import MapColumn
from helicone_sessions.filters.constants import (
    DATETIME,
    DAY,
    IS_EMPTY,
    IS_NULL,
    IS_TRUE,
    NEGATIVE,
    ZONE,
    check,
    cut,
)
from helicone_sessions.filters.expression import ALL, NONE, Filter, Operand, as_filter
from helicone_sessions.filters.nodes import SYMBOLS, And, Node, Or, join
from helicone_sessions.filters.precedence import MIRRORED
from helicone_sessions.filters.schema import ALIASES, Kind, Operator
from helicone_sessions.filters.tokens import (
    KEYWORDS,
    METHODS,
    NAMES,
    OPERATORS_OF,
    SYNONYMS,
    TRUTHS,
    WORDED,
    Interpolation,
    Template,
    Token,
    nearest,
    place_of,
    scan,
)
from helicone_sessions.filters.wire import EXPAND
from helicone_sessions.masking import masked_repr

LONGEST: Final = 1_000_000

_TIME: Final = "2026-11-01T00:00:00Z"
# Remedies for filter text, which replace the remedies for Python code.
_COLUMNS: Final = "Columns have the names of the API, such as cost or model"
_EXAMPLES: Final = {
    Kind.NUMBER: "Write a number such as 0.1",
    Kind.BOOLEAN: "Write true or false",
    Kind.TIMESTAMP: f"Write a time such as {_TIME}",
}
_REMEDIES: Final = {
    DATETIME: f"Write it like {_TIME}",
    DAY: f"Write the time too, for example {_TIME}",
    EXPAND: "Write each condition in a separate leaf",
    IS_EMPTY: "Write is empty, because a missing value is stored as empty text",
    IS_NULL: "Write is null to match missing text",
    IS_TRUE: "Write true or false",
    NEGATIVE: "Compare it with zero or more",
    ZONE: f"Write the zone, for example {_TIME}",
}
_CONSTANTS: Final = {"all": ALL.node, "none": NONE.node}
_FUNCTIONS: Final[dict[str, type[And | Or]]] = {"all_of": And, "any_of": Or}
_FROM_ISO: Final = ("datetime.datetime.fromisoformat", "datetime.fromisoformat")
_SIGNS: Final[dict[str, Operator]] = {
    "==": "equals",
    "=": "equals",
    "!=": "not-equals",
    "<>": "not-equals",
    "<": "lt",
    "<=": "lte",
    ">": "gt",
    ">=": "gte",
}
_INCLUSIVE: Final = {
    ("gte", "lte"): "both",
    ("gte", "lt"): "left",
    ("gt", "lte"): "right",
    ("gt", "lt"): "neither",
}


def parse_filter(text: str | Template) -> Filter:
    """Parse filter text. Parsing the ``str()`` of a filter gives an equal filter.

    Use the API's column names, and write constants as in JSON and times in ISO 8601. The operators are ``==
    != < <= > >=``, ``0.1 < cost < 5``, ``between``, ``in``, ``contains``, ``like``, ``ilike``,
    ``startswith``, ``endswith``, ``istartswith``, ``iendswith``, ``is null`` and ``is empty``. Combine
    conditions with ``and``, ``or`` and ``not``, or with ``&``, ``|`` and ``~``. ``all`` matches everything,
    and ``none`` matches nothing. A condition can also be written as the API's JSON, or in Python syntax with
    or without ``F.``. The parser never runs code.

    Args:
        text: The filter text. On Python 3.14 and later, this can also be a template string such as ``t"cost >
            {x} and properties[{key}] == {value}"``. Each interpolation is a constant, a key, a list of
            constants after ``in``, or a filter. Interpolations need no quotes, and values keep their types.

    Raises:
        FilterSyntaxError: The text is not a valid filter. The message shows the position and the text to
            write instead.
        FilterTypeError: *text* is not a string, or an interpolation has a value of the wrong type.

    >>> parse_filter('cost > 0.1 and model contains "gpt" or properties["env"] == "test"')
    ((F.cost > 0.1) & F.model.contains('gpt')) | (F.properties['env'] == 'test')
    >>> parse_filter('F.cost > 0.1 & F.model.contains("gpt")')
    (F.cost > 0.1) & F.model.contains('gpt')
    """
    if isinstance(text, str):
        return Filter._of(_Parser(text).filter())
    if isinstance(text, Template):
        return Filter._of(_Parser(*_flattened(text)).filter())
    raise FilterTypeError(
        argument="text",
        problem=f"must be a string, got {masked_repr(text)}",
        remedy="Use Filter.from_wire() to read the API's JSON",
    )


def as_filter_text(source: str) -> str:
    """Convert the condition in an error or a caution from Python source to filter text.

    Args:
        source: The source. If it is not a condition, for example "the whole filter", it is returned
            unchanged.

    >>> as_filter_text("F.model.contains('gpt')"), as_filter_text("the whole filter")
    ('model contains "gpt"', 'the whole filter')
    """
    try:
        return str(parse_filter(source))
    except FilterError:
        return source


def _flattened(template: Template) -> tuple[str, list[Token]]:
    """The source of a template string, and a token for each interpolation."""
    text, tokens = template.strings[0], []
    for interpolation, after in zip(template.interpolations, template.strings[1:], strict=True):
        source = f"{{{interpolation.expression}}}"
        _refuse_formatting(interpolation)
        tokens.append(Token("value", source, len(text), len(text) + len(source), interpolation.value))
        text += source + after
    return text, tokens


def _refuse_formatting(interpolation: Interpolation) -> None:
    if interpolation.conversion or interpolation.format_spec:
        raise FilterTypeError(
            argument=interpolation.expression,
            problem="has a conversion or a format, which would turn its value into text",
            remedy=f"Write {{{interpolation.expression}}}",
        )


@attrs.frozen(eq=False)
class _Named:
    """A column, which starts at the token *first*, and the *method* after it, if any."""

    column: Any
    name: str
    first: Token
    method: str = ""

    @property
    def kind(self) -> Kind:
        kind: Kind = self.column.facts.kind
        return kind

    @property
    def has(self) -> str:
        operators = [word for word in OPERATORS_OF[self.kind] if word != "is null" or self.is_nullable]
        return f"It has {', '.join(operators)}"

    @property
    def test_for_null(self) -> str:
        if self.kind not in (Kind.TEXT, Kind.MAP):
            return "Leave the condition out"
        return f"Write {self.name} is {'null' if self.is_nullable else 'empty'}"

    @property
    def example(self) -> str:
        return _EXAMPLES.get(self.kind, 'Write text in quotes, such as "gpt-4o"')

    @property
    def is_nullable(self) -> bool:
        return bool(self.column.facts.nullable)

    def __str__(self) -> str:
        return f"{self.name} is a {'text' if self.kind is Kind.MAP else self.kind} column"


@attrs.define(eq=False)
class _Group:
    """The conditions read so far inside a pair of parentheses, as an "or" of "and" groups.

    Args:
        opening: The opening parenthesis.
        function: The class of branch that ``all_of(`` or ``any_of(`` creates.
        is_inverted: Whether a ``not`` applies to the next condition.
        arguments: The arguments of the function up to the last comma.
        terms: The conditions after the last comma.
    """

    opening: Token | None = None
    function: type[And | Or] | None = None
    is_inverted: bool = False
    arguments: list[Node] = attrs.field(factory=list)
    terms: list[list[Node]] = attrs.field(factory=lambda: [[]])

    def add(self, node: Node) -> None:
        self.terms[-1].append(_inverted(node) if self.is_inverted else node)

    def end_argument(self) -> None:
        self.arguments.append(join(Or, [join(And, term) for term in self.terms]))
        self.terms = [[]]

    def closed(self) -> Node:
        if self.terms != [[]]:
            self.end_argument()
        return join(self.function or And, self.arguments)


def _inverted(node: Node) -> Node:
    return (~Filter._of(node)).node


class _Parser:
    """The grammar, with one method for each rule. `token` is the next token, and `last` the previous one."""

    def __init__(self, text: str, interpolations: list[Token] | None = None) -> None:
        self.text = text
        self.tokens = scan(text, interpolations or ())
        self.token = self.last = Token("mark", "", 0, 0)
        if len(text) > LONGEST:
            end = Token("end", "", LONGEST, LONGEST)
            problem = f"the text has {len(text):,} characters; the limit is {LONGEST:,}"
            raise self.error(problem, "Build the filter in Python", end)
        self.advance()

    # Tokens

    def advance(self) -> Token:
        """Step over the next token, and return it."""
        self.last, self.token = self.token, next(self.tokens)
        if self.token.sort == "wrong":
            raise self.error(*self.token.value)
        return self.last

    def take(self, *words: str) -> Token | None:
        """Step over the next token and return it, if it is one of *words*."""
        return self.advance() if (self.token.word or self.token.text) in words else None

    # Errors

    def error(
        self, problem: str, remedy: str, first: Token | None = None, last: Token | None = None
    ) -> FilterSyntaxError:
        """An error that marks the text from *first* to *last*, by default the next token."""
        first = first or self.token
        line, column, picture = place_of(self.text, first.start, (last or first).end)
        message = f"line {line}, column {column}: {problem}. {remedy}{picture}"
        return FilterSyntaxError(
            message, line=line, column=column, offset=first.start, problem=problem, remedy=remedy
        )

    def expected(self, what: str, remedy: str) -> FilterSyntaxError:
        after = f" after {masked_repr(self.last.text)}" if self.last.text else ""
        return self.error(f"expected {what}{after}, got {self.token}", remedy)

    def no_operator(self, named: _Named) -> FilterSyntaxError:
        token = self.token
        if not token.word or token.word in KEYWORDS:
            return self.error(f"{named}, not a condition", named.has, named.first, self.last)
        if sign := SYNONYMS.get(token.word):
            return self.error(f"there is no operator {token}", f"Use {sign}")
        near = nearest(token.word, OPERATORS_OF[named.kind])
        return self.error(f"there is no operator {token}", near or named.has)

    def no_column(self) -> FilterSyntaxError:
        token = self.token
        if not token.word or token.word in KEYWORDS:
            if self.last.sort == "sign":
                return self.expected("a column", "Write its name, such as cost")
            return self.expected("a condition", "Write one such as cost > 0.1")
        near = nearest(token.word.removeprefix("f."), [*NAMES, *KEYWORDS])
        return self.error(f"there is no column {token}", near or _COLUMNS)

    def not_connected(self) -> FilterSyntaxError:
        if self.token.text == ")":
            return self.error("there is no ( for this )", "Remove it, or add the (")
        near = None if self.token.text in NAMES else nearest(self.token.word, ("and", "or"))
        remedy = near or "Write one of the two between conditions"
        return self.error(f"expected 'and' or 'or', got {self.token}", remedy)

    def unfit(self, named: _Named, token: Token) -> FilterSyntaxError:
        """The error for a word that is not a valid constant for the column."""
        kind, problem, remedy = named.kind, f"expected a constant, got {token}", named.example
        if token.word in ("null", "none"):
            problem, remedy = "the API has no comparison with null", named.test_for_null
        elif token.word in KEYWORDS:
            pass
        elif token.word and (token.text in NAMES or token.word.startswith("f.")):
            problem, remedy = "a column can be compared with a constant only", "Write a constant here"
        elif kind is Kind.TIMESTAMP:
            problem, remedy = f"{token} is not a time", f"Write it like {_TIME}"
        elif kind in (Kind.NUMBER, Kind.BOOLEAN):
            wanted = "a number" if kind is Kind.NUMBER else "true or false"
            problem = f"{named.name} takes {wanted}, got {token}"
        else:
            problem, remedy = f"the text {token} has no quotes", f"Write {token.quoted}"
        return self.error(problem, remedy, token)

    def call(
        self,
        method: Callable[..., Any],
        *values: Any,
        subject: str = "",
        first: Token,
        last: Token | None = None,
    ) -> Any:
        """Call *method*. If it rejects *values*, the error marks the text from *first* to *last*."""
        try:
            return method(*values)
        except FilterError as error:
            problem = f"{subject or error.field or ''} {error.problem}".lstrip()
            remedy = error.remedy or "Use another constant"
            remedy = _REMEDIES.get(remedy, remedy)
            refusal = self.error(problem, remedy, first, last or self.last)
            if first.sort == "value" and isinstance(error, FilterTypeError):
                raise FilterTypeError(
                    refusal.message, argument=first.text[1:-1], problem=problem, remedy=remedy
                ) from None
            raise refusal from None

    def build(self, named: _Named, method: Callable[..., Filter | Node], *values: Any) -> Node:
        """The condition that a method of the column returns."""
        built = self.call(method, *values, subject=named.name, first=named.first)
        return built.node if isinstance(built, Filter) else built

    # Grammar

    def filter(self) -> Node:
        """Parse the whole text."""
        if self.token.is_end:
            raise self.error("the filter is empty", "Write all to match everything")
        outer: list[_Group] = []
        group = _Group()
        while True:
            group.is_inverted = self.is_inverted()
            if opening := self.opening():
                outer.append(group)
                group = opening
                if not (group.function and self.token.text == ")"):
                    continue
            else:
                group.add(self.condition())
            while outer and self.take(")"):
                node, group = group.closed(), outer.pop()
                group.add(node)
            if self.token.is_end:
                break
            self.connect(group)
        if group.opening:
            raise self.error("this ( is not closed", "Add a )", group.opening)
        return group.closed()

    def is_inverted(self) -> bool:
        """Step over any ``not``, and return whether their number is odd."""
        inverted = False
        while self.take("not", "~"):
            inverted = not inverted
        if self.last.text == "~" and self.token.number is not None:
            raise self.error("~ cannot negate a constant", "Write not, or put the comparison in parentheses")
        return inverted

    def opening(self) -> _Group | None:
        function = _FUNCTIONS.get(self.token.word)
        if function:
            self.advance()
            if self.token.text != "(":
                raise self.expected("'('", "Write its conditions in parentheses")
        opening = self.take("(")
        return _Group(opening, function) if opening else None

    def connect(self, group: _Group) -> None:
        """Take ``and`` or ``or``, or a comma between arguments."""
        if self.take("or", "|"):
            group.terms.append([])
        elif group.function and self.take(","):
            group.end_argument()
        elif not self.take("and", "&"):
            raise self.not_connected()

    def condition(self) -> Node:
        """Parse one condition without parentheses."""
        token = self.token
        if token.sort == "json" or isinstance(token.value, Operand):
            self.advance()
            method: Callable[[object], Filter] = Filter.from_wire if token.sort == "json" else as_filter
            built: Filter = self.call(method, token.value, first=token)
            return built.node
        if constant := _CONSTANTS.get(token.word):
            self.advance()
            return constant
        if token.is_constant:
            return self.constant_first()
        return self.with_column(self.column())

    def with_column(self, named: _Named) -> Node:
        """Parse a condition that begins with a column."""
        if named.method:
            return self.called(named)
        if self.token.sort == "sign":
            return self.compared(named)
        inverted = self.take("not")
        if self.token.word in WORDED:
            return self.worded(named, inverted=bool(inverted))
        if inverted:
            raise self.expected("an operator in words", "Write not in or not contains, for example")
        if self.take("is"):
            return self.tested(named)
        if named.kind is Kind.BOOLEAN and self.token.word not in SYNONYMS:
            return self.build(named, named.column.is_true)
        raise self.no_operator(named)

    def column(self) -> _Named:
        """Parse a column, its key if it is a map, and the method name after it, if any."""
        first = self.token
        name, method = self.column_name()
        column: Any = F[name if name in ALIASES else NAMES[name].name]
        if isinstance(column, MapColumn):
            if self.token.text != "[":
                example = f"{name}[{cut(json.dumps(method or 'env'))}]"
                raise self.error(f"{name} is a map", f"Name a key, for example {example}", first)
            key = self.key()
            column = self.call(column.__getitem__, key.value, subject=name, first=key, last=key)
            name = cut(self.text[first.start : self.last.end])
        elif self.token.text == "[":
            raise self.error(f"{_Named(column, name, first)} and has no keys", "Remove the brackets", first)
        if not method and self.token.text.startswith("."):
            method = self.advance().text[1:]
        return _Named(column, name, first, method)

    def column_name(self) -> tuple[str, str]:
        """Parse the name of a column, such as ``cost`` or ``F["cost"]``, and a method name after it."""
        name, _, method = self.token.text.removeprefix("F.").partition(".")
        if self.token.text == "F":
            self.advance()
            key = self.key()
            name = str(key.value)
            if name not in NAMES:
                raise self.error(
                    f"there is no column {masked_repr(name)}", nearest(name, NAMES) or _COLUMNS, key
                )
        elif name not in NAMES:
            raise self.no_column()
        else:
            self.advance()
        return name, method

    def key(self) -> Token:
        """Parse a key in brackets."""
        self.expect("[")
        if self.token.sort == "word":
            raise self.error(f"the key {self.token} has no quotes", f"Write {self.token.quoted}")
        if self.token.sort not in ("text", "value"):
            raise self.expected("a key in quotes", 'Write one such as ["env"]')
        key = self.advance()
        self.expect("]")
        return key

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise self.expected(repr(sign), f"Add the {sign}")

    def called(self, named: _Named) -> Node:
        """Parse the arguments of a method, as in Python."""
        method = named.method
        methods = [name for name in METHODS if hasattr(type(named.column), name)]
        if method not in methods:
            problem = f"{named} and has no .{cut(method)}()"
            raise self.error(problem, nearest(method, methods) or named.has, named.first, self.last)
        self.expect("(")
        values: list[Any] = []
        if method in ("is_in", "not_in"):
            values.append(self.listed(named))
        elif not method.startswith("is_"):
            values.append(self.constant(named))
        if method == "between":
            self.expect(",")
            values.append(self.constant(named))
            if self.take(","):
                values.append(self.inclusive())
        self.expect(")")
        return self.build(named, getattr(named.column, method), *values)

    def inclusive(self) -> Any:
        """Parse the third argument of ``between``."""
        if self.take("inclusive"):
            self.expect("=")
        if self.token.sort != "text":
            raise self.expected(
                "the ends that belong to the range, in quotes", 'Write "both", "left", "right" or "neither"'
            )
        return self.advance().value

    def compared(self, named: _Named) -> Node:
        """Parse a comparison with the column on the left."""
        operator = self.sign(named)
        value = self.constant(named)
        if self.token.sort == "sign":
            raise self.error("two signs follow a column", "Write a range like 0.1 < cost < 5")
        return self.build(named, named.column.condition, operator, value)

    def constant_first(self) -> Node:
        """Parse a comparison with a constant on the left, and possibly a second one on the right."""
        constant = self.advance()
        if self.token.word == "in":
            raise self.error(
                "a constant is on the left of in",
                f"For example, write model contains {cut(constant.text)}",
                constant,
            )
        if self.token.sort != "sign":
            raise self.error(
                f"{constant} is not compared with a column",
                "For example, write status == 200, or status in (200, 404) for one of several values",
                constant,
            )
        sign = self.advance()
        if self.token.is_constant:
            raise self.error(
                "two constants are compared", "Compare a column with a constant", constant, self.token
            )
        named = self.column()
        before = MIRRORED[self.sign(named, sign)]
        low = self.value(named, constant)
        if self.token.sort != "sign":
            return self.build(named, named.column.condition, before, low)
        after = self.sign(named)
        high = self.constant(named)
        if before in ("lt", "lte"):
            before, low, after, high = after, high, before, low
        if (before, after) not in _INCLUSIVE:
            problem = "the signs of a range point in different directions"
            raise self.error(problem, "Write a range like 0.1 < cost < 5", constant, self.last)
        inclusive = _INCLUSIVE[before, after]
        return self.build(attrs.evolve(named, first=constant), named.column.between, low, high, inclusive)

    def sign(self, named: _Named, token: Token | None = None) -> Operator:
        """The operator of the next token, or of *token* if that has already been read."""
        token = token or self.advance()
        operator = _SIGNS[token.text]
        self.allow(named, SYMBOLS[operator], token)
        return operator

    def allow(self, named: _Named, word: str, token: Token) -> None:
        """Reject an operator that this kind of column does not have."""
        if word not in OPERATORS_OF[named.kind]:
            raise self.error(f"{named} and has no {word}", named.has, token)

    def worded(self, named: _Named, *, inverted: bool) -> Node:
        """Parse an operator that is a word, and its constants."""
        column, word = named.column, self.token.word
        self.allow(named, word, self.advance())
        if word == "in":
            return self.build(named, column.not_in if inverted else column.is_in, self.listed(named))
        values = [self.constant(named)]
        if word == "between":
            self.expect("and")
            values.append(self.constant(named))
        if inverted and word == "contains":
            return self.build(named, column.not_contains, *values)
        node = self.build(named, getattr(column, word), *values)
        return _inverted(node) if inverted else node

    def tested(self, named: _Named) -> Node:
        """Parse the word after ``is``."""
        first, inverted, word = self.last, self.take("not"), self.token.word
        if word not in ("null", "empty", *TRUTHS):
            raise self.error("expected null, empty, true or false after is", "Compare a value with ==")
        self.advance()
        # A column from a map has is_null(), which raises an error with an explanation.
        if not hasattr(named.column, f"is_{word}"):
            raise self.error(f"{named} and cannot be {word}", named.has, first, self.last)
        node = self.build(named, getattr(named.column, f"is_{word}"))
        return _inverted(node) if inverted else node

    def listed(self, named: _Named) -> list[Any]:
        """Parse a list of constants, or an interpolation that is a list."""
        if self.token.sort == "value":
            return self.listed_value(named, self.advance())
        opening = self.take("(", "[")
        if opening is None:
            raise self.expected("a list in parentheses", "Write one such as (200, 404)")
        closing = ")" if opening.text == "(" else "]"
        found: list[Any] = []
        while not self.take(closing):
            if self.token.is_end:
                raise self.error(f"this {opening.text} is not closed", f"Add a {closing}", opening)
            if found and not self.take(","):
                raise self.expected(f"a comma or '{closing}'", "Write a comma between two constants")
            # A comma after the last constant is allowed, as in Python.
            if found and self.take(closing):
                break
            found.append(self.constant(named))
        return found

    def listed_value(self, named: _Named, token: Token) -> list[Any]:
        values = self.call(named.column._given, token.value, subject=named.name, first=token)
        return [self.checked(named, value, token) for value in values]

    def constant(self, named: _Named) -> Any:
        """Parse the next constant."""
        in_call = bool(self.take(*_FROM_ISO))
        if in_call:
            self.expect("(")
        if self.token.sort not in ("word", "text", "value"):
            raise self.expected("a constant", named.example)
        value = self.value(named, self.token)
        self.advance()
        if in_call:
            self.expect(")")
        return value

    def value(self, named: _Named, token: Token) -> Any:
        """Convert the token to a constant, and check the constant for the column *named*."""
        value: Any = token.value
        if token.sort != "value":
            value = token.number
            if value is None and named.kind is Kind.TIMESTAMP:
                value = token.moment
            elif value is None:
                value = TRUTHS.get(token.word, token.value)
            if value is None:
                raise self.unfit(named, token)
        return self.checked(named, value, token)

    def checked(self, named: _Named, value: object, token: Token) -> Any:
        return self.call(check, named.column.facts, value, subject=named.name, first=token, last=token)
