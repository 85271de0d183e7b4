"""The vocabulary and the tokens of filter text, and the excerpt that marks the position of a mistake."""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

import attrs

from helicone_sessions.filters.constants import cut
from helicone_sessions.filters.schema import ALIASES, COLUMNS, Kind
from helicone_sessions.masking import masked_repr

Sort = Literal["word", "text", "json", "value", "sign", "mark", "end", "wrong"]

NAMES: Final = {
    **{name: facts for facts in COLUMNS.values() for name in (facts.name, facts.attribute)},
    **dict.fromkeys(ALIASES, COLUMNS["properties"]),
}
TRUTHS: Final = {"true": True, "false": False}
PATTERNS: Final = ("contains", "like", "ilike", "startswith", "endswith", "istartswith", "iendswith")
WORDED: Final = {*PATTERNS, "between", "in"}
KEYWORDS: Final = {*WORDED, "and", "or", "not", "is", "all", "none"}

_EQUAL: Final = ("==", "!=")
_ORDERED: Final = (*_EQUAL, "<", "<=", ">", ">=", "between", "in")
_TEXTUAL: Final = (*_EQUAL, *PATTERNS, "in")
OPERATORS_OF: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.TEXT: (*_TEXTUAL, "is null", "is empty"),
    Kind.MAP: (*_TEXTUAL, "is empty"),
    Kind.NUMBER: _ORDERED,
    Kind.TIMESTAMP: _ORDERED,
    Kind.BOOLEAN: (*_EQUAL, "in", "is true", "is false"),
    Kind.KEY: ("==",),
}
METHODS: Final = {
    *(*PATTERNS, "not_contains", "eq", "ne", "gt", "gte", "lt", "lte", "between", "is_in", "not_in"),
    *("is_null", "is_empty", "is_true", "is_false"),
}
# Other names of operators, and their spelling in filter text.
SYNONYMS: Final = {
    "eq": "==",
    "equals": "==",
    "ne": "!=",
    "not-equals": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "not-contains": "not contains",
}

_TOKEN: Final = re.compile(
    r"""\s*+(?:
    (?P<text>"(?:[^"\\\n]++|\\[^\n])*+"|'(?:[^'\\\n]++|\\[^\n])*+')
    |(?P<wrong>[=!]==|=>|=<|=!|!(?!=)|&&|\|\||["'}])
    |(?P<sign>[=!<>]=|<>|[=<>])
    |(?P<mark>[()\[\],&|~])
    |(?P<json>\{)
    |(?P<word>[^\s()\[\]{},"'&|~<>=!]++)
    |(?P<end>\Z)
    )""",
    re.VERBOSE,
)
_MEANT_SIGNS: Final = {
    "===": "==",
    "!==": "!=",
    "=>": ">=",
    "=<": "<=",
    "=!": "!=",
    "!": "~ or not",
    "&&": "& or and",
    "||": "| or or",
}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_MEANT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", **{sign: sign for sign in "\"'\\/"}}
# [0-9]++ never backtracks, so rejecting a million digits takes no longer than reading them.
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_QUOTES: Final = (
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}`"
)
_WIDEST: Final = 100


@runtime_checkable
class Interpolation(Protocol):
    """A ``string.templatelib.Interpolation``, available from Python 3.14."""

    @property
    def value(self) -> Any:
        """The value."""

    @property
    def expression(self) -> str:
        """The source between the braces."""

    @property
    def conversion(self) -> str | None:
        """The letter after ``!``."""

    @property
    def format_spec(self) -> str:
        """The text after ``:``."""


@runtime_checkable
class Template(Protocol):
    """A ``string.templatelib.Template``, the value of a t-string."""

    @property
    def strings(self) -> tuple[str, ...]:
        """The strings around the interpolations."""

    @property
    def interpolations(self) -> tuple[Interpolation, ...]:
        """The interpolations between the strings."""


class Wrong(NamedTuple):
    """A mistake that can be detected from a single token."""

    problem: str
    remedy: str


@attrs.frozen(eq=False)
class Token:
    """One token of the text, from *start* to *end*.

    Args:
        sort: The kind of token. Commas and parentheses are "mark"; names and numbers are "word".
        text: The token as written.
        start: The offset of its first character.
        end: The offset after its last character.
        value: The value of a string, a JSON object or an interpolation, or the `Wrong` that describes a
            mistake.
    """

    sort: Sort
    text: str
    start: int
    end: int
    value: Any = None

    @property
    def is_end(self) -> bool:
        """Whether the token marks the end of the text."""
        return self.sort == "end"

    @property
    def word(self) -> str:
        """The word in lower case, or an empty string if the token is not a word."""
        return self.text.lower() if self.sort == "word" else ""

    @property
    def number(self) -> int | float | None:
        """The word as a number, or None if it is not a number."""
        if self.sort != "word" or not _NUMBER.fullmatch(self.text):
            return None
        try:
            return int(self.text)
        except ValueError:
            # The number has a fraction, or more digits than int() accepts.
            return float(self.text)

    @property
    def moment(self) -> date | None:
        """The word or the string as a time or a date, or None if it is neither."""
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(self.value or self.text)
            except ValueError:
                continue
        return None

    @property
    def is_constant(self) -> bool:
        """Whether the token can only be a constant. A word that begins like a number is a constant."""
        if self.sort in ("text", "value") or self.word in TRUTHS:
            return True
        return self.word.lstrip("+-.")[:1].isdecimal()

    @property
    def quoted(self) -> str:
        """The token in quotes."""
        return cut(json.dumps(self.text.strip(_QUOTES), ensure_ascii=False))

    def __str__(self) -> str:
        if not self.text:
            return "the end"
        return self.text if self.sort == "value" else masked_repr(self.text)


class _Repeated(ValueError):
    """A JSON object contains a key twice. The decoder would drop the first value."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated
    return found


_JSON: Final = json.JSONDecoder(object_pairs_hook=_object)


def scan(text: str, interpolations: Iterable[Token] = ()) -> Iterator[Token]:
    """Yield the tokens of *text*, then "end" tokens endlessly.

    Tokens after a "wrong" token are meaningless.

    Args:
        text: The filter text.
        interpolations: The tokens of the interpolations, which have the sort "value", in text order.
    """
    offset = 0
    for value in interpolations:
        for token in _scan(text, offset, value.start):
            if token.sort == "end":
                break
            yield token
        yield value
        offset = value.end
    yield from _scan(text, offset, len(text))


def _scan(text: str, offset: int, end: int) -> Iterator[Token]:
    while True:
        found = _TOKEN.match(text, offset, end)
        assert found, "every character begins a token"
        sort: Sort = found.lastgroup  # type: ignore[assignment]
        start, offset = found.span(sort)
        token = Token(sort, found[sort], start, offset)
        if sort == "text":
            token = _decoded(token)
        elif sort == "json":
            token = _json(text[:end], start)
        elif sort == "wrong":
            token = attrs.evolve(token, value=_wrong(token, text, end))
        elif sort == "end":
            # Report the end at the position after the last word, where a reader expects it.
            start = len(text.rstrip())
            token = Token(sort, "", start, start)
        yield token
        offset = token.end


def _wrong(token: Token, text: str, end: int) -> Wrong:
    if token.text == "}":
        return Wrong("there is no { for this }", "Remove it, or write text in quotes")
    if meant := _MEANT_SIGNS.get(token.text):
        return Wrong(f"there is no operator {token.text}", f"Use {meant}")
    if end < len(text):
        return Wrong("this quote is not closed before the interpolation", "Interpolations need no quotes")
    if token.text in text[token.end :]:
        return Wrong("this quote is not closed on its line", "Write a line break as \\n")
    return Wrong("this quote is not closed", f"Add {token.text} at the end of the text")


def _decoded(token: Token) -> Token:
    if "\\" not in token.text:
        return attrs.evolve(token, value=token.text[1:-1])
    for escape in _ESCAPE.finditer(token.text, 1):
        if len(sign := escape[1]) == 1 and sign not in _MEANT:
            wrong = Wrong(f"there is no escape {escape[0]}", f"Write a backslash as two: \\{escape[0]}")
            start = token.start + escape.start()
            return Token("wrong", escape[0], start, start + 2, wrong)
    value = _ESCAPE.sub(_meant, token.text[1:-1])
    # Two escapes can be a surrogate pair, which is one character.
    return attrs.evolve(
        token, value=value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    )


def _meant(escape: re.Match[str]) -> str:
    return _MEANT.get(escape[1]) or chr(int(escape[1][1:], 16))


def _json(text: str, start: int) -> Token:
    try:
        value, end = _JSON.raw_decode(text, start)
    except json.JSONDecodeError as error:
        place = min(error.pos, len(text.rstrip()))
        problem = f"this is not JSON: {error.msg[0].lower()}{error.msg[1:]}"
        return Token("wrong", "", place, place + 1, Wrong(problem, "Paste a whole filter of the API"))
    except _Repeated:
        wrong = Wrong("an object of this JSON has a key twice", "Write each condition in a separate leaf")
    except RecursionError:
        wrong = Wrong("this JSON is nested too deeply", 'Join its conditions with "and" or "or"')
    except ValueError:
        wrong = Wrong("this JSON has a number with thousands of digits", "Use a shorter number")
    else:
        return Token("json", text[start:end], start, end, value)
    return Token("wrong", "{", start, start + 1, wrong)


def place_of(text: str, start: int, end: int) -> tuple[int, int, str]:
    """The line and the column at *start*, and an excerpt of *text* that marks the part from *start* to *end*.

    >>> print("here:" + place_of("cost > 0.1 and modle", 15, 20)[2])
    here:
      cost > 0.1 and modle
                     ^~~~~
    """
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    left = max(first, min(start - _WIDEST // 2, last - _WIDEST))
    right = min(last, left + _WIDEST)
    head, tail = "…" * (left > first), "…" * (right < last)
    shown = "".join(sign if sign.isprintable() else " " for sign in text[left:right])
    before, marked = shown[: start - left], shown[start - left : max(end, start) - left]
    marks = "^" + "~" * (_width(marked) - 1)
    picture = f"\n  {head}{shown.rstrip()}{tail}\n  {' ' * (len(head) + _width(before))}{marks}"
    return text.count("\n", 0, start) + 1, start - first + 1, picture if shown.strip() else ""


def _width(text: str) -> int:
    """The number of terminal columns that *text* occupies."""
    marks = sum(unicodedata.category(sign) in ("Mn", "Me") for sign in text)
    wide = sum(unicodedata.east_asian_width(sign) in ("W", "F") for sign in text)
    return len(text) - marks + wide


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A question that suggests the closest of the *known* words, or None if none is close."""
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"Did you mean {near[0]!r}?" if near else None
