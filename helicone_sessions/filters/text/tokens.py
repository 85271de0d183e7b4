"""The words of filters as text: what there is, the text cut into them, and the place of a mistake shown."""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import Any, Final, Literal

import attrs

from helicone_sessions.errors import FilterSyntaxError
from helicone_sessions.filters.constants import cut, shortened
from helicone_sessions.filters.schema import COLUMNS, Kind

Sort = Literal["word", "text", "json", "sign", "mark", "end", "wrong"]

NAMES: Final = {name: facts for facts in COLUMNS.values() for name in (facts.name, facts.attribute)}
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
# What methods and the API's operators are here.
SPELT_HERE: Final = {
    **{word: f"{word} {{}}" for word in PATTERNS},
    **dict.fromkeys(("eq", "equals"), "== {}"),
    **dict.fromkeys(("ne", "not-equals"), "!= {}"),
    **dict.fromkeys(("not_contains", "not-contains"), "not contains {}"),
    **dict(zip(("gt", "gte", "lt", "lte"), ("> {}", ">= {}", "< {}", "<= {}"), strict=True)),
    **{f"is_{word}": f"is {word}" for word in ("null", "empty", "true", "false")},
    "is_in": "in (…)",
    "not_in": "not in (…)",
    "between": "between … and …",
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
_MENDS: Final = {
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
# [0-9]++ gives nothing back: a million digits are refused as fast as they are read.
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_QUOTES: Final = (
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}`"
)
_WIDEST: Final = 100


@attrs.frozen(eq=False)
class Token:
    """A piece of the text, from *start* to *end*.

    Args:
        sort: What it is; a comma is a "mark" as parentheses are, a name and a number are words.
        text: As it was written.
        start: Its offset.
        end: The offset behind it.
        value: What a text or JSON stands for; for what is wrong, the message.
    """

    sort: Sort
    text: str
    start: int
    end: int
    value: Any = None

    @property
    def is_end(self) -> bool:
        """Whether the text ends here."""
        return self.sort == "end"

    @property
    def word(self) -> str:
        """The word in small letters; nothing else has one."""
        return self.text.lower() if self.sort == "word" else ""

    @property
    def number(self) -> int | float | None:
        """The number that a word is."""
        if self.sort != "word" or not _NUMBER.fullmatch(self.text):
            return None
        try:
            return int(self.text)
        except ValueError:
            # Among these are numbers of more digits than Python takes for an int.
            return float(self.text)

    @property
    def moment(self) -> date | None:
        """The time that a word or a text is, or the day."""
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(self.value or self.text)
            except ValueError:
                continue
        return None

    @property
    def is_constant(self) -> bool:
        """Whether it can only be a constant; a word that begins as a number does is meant as one."""
        return self.sort == "text" or self.word in TRUTHS or self.word.lstrip("+-.")[:1].isdecimal()

    @property
    def quoted(self) -> str:
        """The word as it should have been written, if a text was meant."""
        return cut(json.dumps(self.text.strip(_QUOTES), ensure_ascii=False))

    def __str__(self) -> str:
        return shortened(self.text) if self.text else "the end"


class _Repeated(ValueError):
    """A key stands twice in a JSON object, of which a decoder would drop the first."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated
    return found


_JSON: Final = json.JSONDecoder(object_pairs_hook=_object)


def scan(text: str) -> Iterator[Token]:
    """The tokens of *text*, then one of sort "end" for ever; none has a meaning behind "wrong"."""
    offset = 0
    while True:
        found = _TOKEN.match(text, offset)
        assert found, "every character begins a token"  # noqa: S101 - so says the pattern
        sort: Sort = found.lastgroup  # type: ignore[assignment]
        start, offset = found.span(sort)
        token = Token(sort, found[sort], start, offset)
        if sort == "text":
            token = _decoded(token)
        elif sort == "json":
            token = _json(text, start)
        elif sort == "wrong":
            token = attrs.evolve(token, value=_mend(token, text))
        elif sort == "end":
            # A reader looks for it behind the last word.
            start = len(text.rstrip())
            token = Token(sort, "", start, start)
        yield token
        offset = token.end


def _mend(token: Token, text: str) -> str:
    if token.text == "}":
        return "there is no { for this }"
    if token.text in _MENDS:
        return f"there is no {token.text}; write {_MENDS[token.text]}"
    is_cut = token.text in text[token.end :]
    return "this quote is not closed" + (" on its line; a line break is written \\n" if is_cut else "")


def _decoded(token: Token) -> Token:
    if "\\" not in token.text:
        return attrs.evolve(token, value=token.text[1:-1])
    for escape in _ESCAPE.finditer(token.text, 1):
        if len(sign := escape[1]) == 1 and sign not in _MEANT:
            problem = f"there is no escape {escape[0]}: for a backslash itself write two, as \\{escape[0]}"
            start = token.start + escape.start()
            return Token("wrong", escape[0], start, start + 2, problem)
    value = _ESCAPE.sub(_meant, token.text[1:-1])
    # Two escapes may be the halves of one character.
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
        return Token("wrong", "", place, place + 1, f"this is no JSON: {error.msg[0].lower()}{error.msg[1:]}")
    except _Repeated:
        return Token("wrong", "{", start, start + 1, "a key stands twice in an object of this JSON")
    except RecursionError:
        return Token("wrong", "{", start, start + 1, "this JSON is nested too deeply")
    except ValueError:
        return Token("wrong", "{", start, start + 1, "this JSON has a number of thousands of digits")
    return Token("json", text[start:end], start, end, value)


def place_of(text: str, start: int, end: int) -> tuple[int, int, str]:
    """Line, column and picture of the piece of *text* from *start* to *end*.

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
    """How many columns of a terminal *text* takes."""
    marks = sum(unicodedata.category(sign) in ("Mn", "Me") for sign in text)
    wide = sum(unicodedata.east_asian_width(sign) in ("W", "F") for sign in text)
    return len(text) - marks + wide


def nearest(word: str, known: Iterable[str]) -> str:
    """The question whether one of the *known* words was meant, or nothing."""
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def syntax_error(text: str, problem: str, start: int, end: int = 0) -> FilterSyntaxError:
    """The error about the piece of *text* from *start* to *end*."""
    line, column, picture = place_of(text, start, end)
    message = f"line {line}, column {column}: {problem}{picture}"
    return FilterSyntaxError(message, line=line, column=column, offset=start)


class Reader:
    """One reading of one text; `token` is the one that comes next, `last` the one before it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = scan(text)
        self.token = self.last = Token("mark", "", 0, 0)
        self.advance()

    def advance(self) -> Token:
        """Step over the token that comes next; it is given."""
        self.last, self.token = self.token, next(self.tokens)
        if self.token.sort == "wrong":
            raise self.error(self.token.value)
        return self.last

    def take(self, *words: str) -> Token | None:
        """Step over the token that comes next if it is one of *words*."""
        return self.advance() if (self.token.word or self.token.text) in words else None

    def error(self, problem: str, first: Token | None = None, last: Token | None = None) -> FilterSyntaxError:
        """The error that shows the text from *first* to *last*, or the token that comes next."""
        first = first or self.token
        return syntax_error(self.text, problem, first.start, (last or first).end)

    def due(self, what: str) -> FilterSyntaxError:
        """The error that something else comes next."""
        after = f" after {shortened(self.last.text)}" if self.last.text else ""
        return self.error(f"{what} is due{after}, not {self.token}")
