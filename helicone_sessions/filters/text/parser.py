"""Filters as text: ``cost > 0.1 and model contains "gpt"`` becomes a `Filter`.

A comparison binds tightest, then ``not``, then ``and``, then ``or``. The text is read once, from left to
right; what stands before an open parenthesis waits on a list, so that nesting never meets the recursion
limit. Conditions are built by the columns of ``F``, which have the rules of the language.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterError, FilterSyntaxError, FilterTypeError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.constants import DAY, INVERTED, ZONE, check, cut, shortened
from helicone_sessions.filters.expression import ALL, NONE, Filter
from helicone_sessions.filters.nodes import And, Node, Or, join
from helicone_sessions.filters.schema import Kind
from helicone_sessions.filters.text.tokens import (
    KEYWORDS,
    NAMES,
    OPERATORS_OF,
    SPELT_HERE,
    TRUTHS,
    WORDED,
    Reader,
    Token,
    nearest,
    syntax_error,
)

_ARGUMENT: Final = re.compile(r"""\s*\(?\s*("[^"\n]*"|'[^'\n]*'|[^\s()\[\],"']+)""")
_OF_PYTHON: Final = {
    INVERTED: "",
    ZONE: "as in 2026-11-01T00:00:00Z",
    DAY: "write the time too, as 2026-11-01T00:00:00Z",
    "; pass expand=True to have all of them joined by &": "; write each condition in a leaf of its own",
    "; .is_null() asks for a missing text": "; is null asks for a missing text",
    "use .is_empty()": "write is empty",
}


@attrs.frozen(eq=False)
class Named:
    """A column, and the *name* that the text gives it from the token *first* on."""

    column: Any
    name: str
    first: Token

    @property
    def kind(self) -> Kind:
        """The kind of the column."""
        kind: Kind = self.column.facts.kind
        return kind

    @property
    def has(self) -> str:
        """The operators of the column."""
        return f"it has {', '.join(OPERATORS_OF[self.kind])}"

    def __str__(self) -> str:
        return f"{self.name} is a {'text' if self.kind is Kind.MAP else self.kind} column"


class Critic(Reader):
    """A reader that says what is wrong with what comes next."""

    def allow(self, named: Named, operator: str, token: Token) -> None:
        """Refuse an operator that the kind of column does not have."""
        if operator not in OPERATORS_OF[named.kind]:
            raise self.error(f"{named}; {named.has}", token)

    def no_operator(self, named: Named) -> FilterSyntaxError:
        """The error that a column is followed by no operator."""
        token = self.token
        if mend := self.respelled(named.name, token.word.removeprefix(".")):
            return self.error(mend)
        if not token.word or token.word in KEYWORDS:
            return self.error(f"{named} and no condition by itself; {named.has}", named.first, self.last)
        near = nearest(token.word, OPERATORS_OF[named.kind])
        return self.error(f"there is no operator {token}; {near or named.has}")

    def no_column(self) -> FilterSyntaxError:
        """The error for a token that is not a column, where one is expected."""
        token = self.token
        if not token.word or token.word in KEYWORDS:
            return self.due("a column" if self.last.sort == "sign" else "a condition")
        base, _, rest = token.text.partition(".")
        if base == "F":
            return self.error(f"write {cut(rest.partition('.')[0]) or 'the name alone'}, without F.")
        if rest and base in NAMES and NAMES[base].kind is Kind.MAP:
            return self.error(f"write {base}[{cut(json.dumps(rest))}]")
        if base in NAMES and (mend := self.respelled(base, rest)):
            return self.error(mend)
        near = nearest(token.word, [*NAMES, *KEYWORDS])
        return self.error(f"there is no column {token}; {near or 'the columns have the names of the API'}")

    def respelled(self, name: str, method: str) -> str | None:
        """A method of Python, or an operator of the API, as it is written here."""
        if method not in SPELT_HERE:
            return None
        given = _ARGUMENT.match(self.text, self.token.end)
        return f"write {name} {SPELT_HERE[method].format(cut(given[1]) if given else '…')}"

    def not_connected(self) -> FilterSyntaxError:
        """The error that a condition is followed by no ``and`` or ``or``."""
        token = self.token
        if token.text == ")":
            return self.error("there is no ( for this )")
        near = "" if token.text in NAMES else nearest(token.word, ("and", "or"))
        return self.error(
            f"there is no {token}; {near}" if near else f"'and' or 'or' is missing before {token}"
        )


def in_text(message: str) -> str:
    """A message of the language, without its parts for Python."""
    for of_python, of_text in _OF_PYTHON.items():
        message = message.replace(of_python, of_text)
    return message.removeprefix("F.")


def unfit(named: Named, token: Token) -> str:
    """Why a word, or what is no time, is no constant for the column."""
    kind = named.kind
    if token.word in ("null", "none"):
        test = {Kind.TEXT: "null", Kind.MAP: "empty"}.get(kind)
        return "the API has no null in a comparison" + (f"; write {named.name} is {test}" if test else "")
    if token.word in KEYWORDS:
        return f"a constant is due, not {token}"
    if token.word and (token.text in NAMES or token.word.startswith("f.")):
        return "a column is compared with a constant only"
    if kind is Kind.TIMESTAMP:
        return f"{token} is no time; write it as 2026-11-01T00:00:00Z"
    if kind in (Kind.NUMBER, Kind.BOOLEAN):
        wanted = "a number" if kind is Kind.NUMBER else "true or false"
        return f"{named.name} is compared with {wanted}, not with {token}"
    return f"write {token.quoted}, in quotes"


LONGEST: Final = 1_000_000

_CONSTANTS: Final = {"all": ALL.node, "none": NONE.node}
_MIRRORED: Final = str.maketrans("<>", "><")
_INCLUSIVE: Final = {
    (">=", "<="): "both",
    (">=", "<"): "left",
    (">", "<="): "right",
    (">", "<"): "neither",
}


def parse_filter(text: str) -> Filter:
    """The filter that *text* says; what ``str()`` of a filter gives is read as an equal one.

    Columns have the API's names; constants are written as in JSON, times in ISO 8601. There are
    ``== != < <= > >=``, ``0.1 < cost < 5``, ``between``, ``in``, ``contains``, ``like``, ``ilike``,
    ``startswith``, ``endswith``, ``istartswith``, ``iendswith``, ``is null``, ``is empty``; ``and``, ``or``,
    ``not`` or ``&``, ``|``, ``~``; ``all`` and ``none``. The API's JSON may stand where a condition may.

    Args:
        text: The filter.

    Raises:
        FilterSyntaxError: The text is no filter; the message says where, and what to write instead.
        FilterTypeError: It is not text.

    >>> parse_filter('cost > 0.1 and model contains "gpt" or properties["env"] == "test"')
    ((F.cost > 0.1) & F.model.contains('gpt')) | (F.properties['env'] == 'test')
    """
    if not isinstance(text, str):
        raise FilterTypeError(f"a filter is read from text, not from {type(text).__name__} {shortened(text)}")
    if len(text) > LONGEST:
        raise syntax_error(text, f"the text has {len(text):,} characters; {LONGEST:,} are the most", LONGEST)
    return Filter._of(_Parser(text).whole())


def _inverted(node: Node) -> Node:
    return (~Filter._of(node)).node


@attrs.define(eq=False)
class _Group:
    """What stands between two parentheses, as far as it was read: any of all of conditions.

    Args:
        opening: The parenthesis.
        is_inverted: Whether a ``not`` waits for the next condition.
        terms: The conditions.
    """

    opening: Token | None = None
    is_inverted: bool = False
    terms: list[list[Node]] = attrs.field(factory=lambda: [[]])

    def add(self, node: Node) -> None:
        """The next condition of the last term."""
        self.terms[-1].append(_inverted(node) if self.is_inverted else node)

    def closed(self) -> Node:
        """The whole of it."""
        return join(Or, [join(And, term) for term in self.terms])


class _Parser(Critic):
    """The grammar: one method for each thing that may stand in the text."""

    def whole(self) -> Node:
        """The filter."""
        if self.token.is_end:
            raise self.error("an empty filter; write all to select everything")
        outer: list[_Group] = []
        group = _Group()
        while True:
            group.is_inverted = self.is_inverted()
            if opening := self.take("("):
                outer.append(group)
                group = _Group(opening)
                continue
            group.add(self.condition())
            while outer and self.take(")"):
                node, group = group.closed(), outer.pop()
                group.add(node)
            if self.token.is_end:
                break
            self.connect(group)
        if group.opening:
            raise self.error("this ( is not closed", group.opening)
        return group.closed()

    def is_inverted(self) -> bool:
        """Whether an odd number of ``not`` comes next."""
        inverted = False
        while self.take("not", "~"):
            inverted = not inverted
        return inverted

    def connect(self, group: _Group) -> None:
        """Take ``and`` or ``or``."""
        if self.take("or", "|"):
            group.terms.append([])
        elif not self.take("and", "&"):
            raise self.not_connected()

    def condition(self) -> Node:
        """One condition without parentheses."""
        if self.token.sort == "json":
            return self.build(Filter.from_wire, self.advance().value, first=self.last)
        if constant := _CONSTANTS.get(self.token.word):
            self.advance()
            return constant
        if self.token.is_constant:
            return self.constant_first()
        named = self.column()
        if self.token.sort == "sign":
            return self.compared(named)
        inverted = self.take("not")
        if self.token.word in WORDED:
            return self.worded(named, inverted=bool(inverted))
        if inverted:
            raise self.due("an operator in words, as in or contains,")
        if self.take("is"):
            return self.tested(named)
        if named.kind is Kind.BOOLEAN and self.token.word.removeprefix(".") not in SPELT_HERE:
            return self.build(named.column.is_true, first=named.first)
        raise self.no_operator(named)

    def column(self) -> Named:
        """A column, with the key if it is a map."""
        first = self.token
        facts = NAMES.get(first.text)
        if facts is None:
            raise self.no_column()
        self.advance()
        if facts.kind is not Kind.MAP:
            named = Named(F[facts.name], first.text, first)
            if self.token.text == "[":
                raise self.error(f"{named} and has no keys", first)
            return named
        if not self.take("["):
            raise self.error(f'{first.text} is a map: name a key, as {first.text}["env"]', first)
        if self.token.sort == "word":
            raise self.error(f"write {self.token.quoted}, in quotes")
        if self.token.sort != "text":
            raise self.due("a key in quotes")
        column = self.checked(F[facts.name].__getitem__, self.advance().value, first=self.last)
        if not self.take("]"):
            raise self.due("']'")
        return Named(column, cut(self.text[first.start : self.last.end]), first)

    def compared(self, named: Named) -> Node:
        """A column before a sign."""
        sign = self.sign(named)
        value = self.constant(named)
        if self.token.sort == "sign":
            raise self.error("a range has its column in the middle, as 0.1 < cost < 5")
        return self.build(named.column.condition, sign, value, first=named.first)

    def constant_first(self) -> Node:
        """A constant before a sign and a column, which another sign and constant may follow."""
        constant = self.advance()
        if self.token.word == "in":
            raise self.error(
                f"write it the other way round, as model contains {cut(constant.text)}", constant
            )
        if self.token.sort != "sign":
            mend = "write status == 200, and for one of several values status in (200, 404)"
            raise self.error(f"{constant} is compared with nothing; {mend}", constant)
        sign = self.advance()
        if self.token.is_constant:
            raise self.error("two constants are compared: one of them is a column", constant, self.token)
        named = self.column()
        before = self.sign(named, sign)
        low = self.value(named, constant)
        if self.token.sort != "sign":
            return self.build(named.column.condition, before, low, first=named.first)
        after = self.sign(named)
        high = self.constant(named)
        if before[0] == "<":
            before, low, after, high = after, high, before, low
        if (before, after) not in _INCLUSIVE:
            raise self.error(
                "the signs of a range point the same way, as 0.1 < cost < 5", constant, self.last
            )
        return self.build(named.column.between, low, high, _INCLUSIVE[before, after], first=constant)

    def sign(self, named: Named, token: Token | None = None) -> str:
        """The sign that comes next, or the *token* before the column, as it stands behind the column."""
        sign = (token or self.advance()).text
        sign = {"=": "==", "<>": "!="}.get(sign, sign.translate(_MIRRORED) if token else sign)
        self.allow(named, sign, token or self.last)
        return sign

    def worded(self, named: Named, *, inverted: bool) -> Node:
        """An operator in words, and what follows it."""
        column, word = named.column, self.token.word
        self.allow(named, word, self.advance())
        if word == "in":
            return self.build(
                column.not_in if inverted else column.is_in, self.listed(named), first=named.first
            )
        values = [self.constant(named)]
        if word == "between":
            if not self.take("and"):
                raise self.due("'and'")
            values.append(self.constant(named))
        if inverted and word == "contains":
            return self.build(column.not_contains, *values, first=named.first)
        node = self.build(getattr(column, word), *values, first=named.first)
        return _inverted(node) if inverted else node

    def tested(self, named: Named) -> Node:
        """What follows ``is``."""
        first, inverted, word = self.last, self.take("not"), self.token.word
        if word not in ("null", "empty", *TRUTHS):
            raise self.error("after is stands null, empty, true or false; a value is compared by ==")
        self.advance()
        # A map's column has the method for null and says why there is none.
        if not hasattr(named.column, f"is_{word}"):
            raise self.error(f"{named}; {named.has}", first, self.last)
        node = self.build(getattr(named.column, f"is_{word}"), first=named.first)
        return _inverted(node) if inverted else node

    def listed(self, named: Named) -> list[Any]:
        """The constants of a list."""
        opening = self.take("(", "[")
        if opening is None:
            raise self.due("a list in parentheses")
        closing = ")" if opening.text == "(" else "]"
        found: list[Any] = []
        while not self.take(closing):
            if self.token.is_end:
                raise self.error(f"this {opening.text} is not closed", opening)
            if found and not self.take(","):
                raise self.due(f"a comma or '{closing}'")
            # As in Python, a comma may stand behind the last one too.
            if found and self.take(closing):
                break
            found.append(self.constant(named))
        return found

    def constant(self, named: Named) -> Any:
        """The constant that comes next."""
        if self.token.sort not in ("word", "text"):
            raise self.due("a constant")
        value = self.value(named, self.token)
        self.advance()
        return value

    def value(self, named: Named, token: Token) -> Any:
        """What *token* stands for beside this column, by the rules of the language."""
        value: Any = token.number
        if value is None and named.kind is Kind.TIMESTAMP:
            value = token.moment
        elif value is None:
            value = TRUTHS.get(token.word, token.value)
        if value is None:
            raise self.error(unfit(named, token), token)
        return self.checked(check, named.column.facts, value, spelling=named.name, first=token, last=token)

    def build(self, method: Callable[..., Filter | Node], *values: Any, first: Token) -> Node:
        """The condition that *method* of the language gives; its error is shown from *first* on."""
        built: Filter | Node = self.checked(method, *values, first=first)
        return built.node if isinstance(built, Filter) else built

    def checked(
        self, method: Callable[..., Any], *values: Any, first: Token, last: Token | None = None, **more: Any
    ) -> Any:
        """What *method* of the language gives; its error is shown from *first* to *last*."""
        try:
            return method(*values, **more)
        except FilterError as error:
            raise self.error(in_text(error.message), first, last or self.last) from None
