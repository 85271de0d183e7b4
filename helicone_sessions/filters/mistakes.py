"""What is wrong with a text that is no filter, told with what to write instead."""

import json
import re
from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterSyntaxError
from helicone_sessions.filters.schema import Kind
from helicone_sessions.filters.tokens import KEYWORDS, NAMES, OPERATORS_OF, SPELT_HERE, Reader, Token, nearest
from helicone_sessions.filters.values import DAY, INVERTED, ZONE, cut

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
        """What the column holds."""
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
        """The error that something else stands where a column is due."""
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
    """A message of the language, without what is said to those who write Python."""
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
