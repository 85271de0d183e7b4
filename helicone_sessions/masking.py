"""Prepares values and text for messages, logs and reports.

Secrets are masked, control characters are removed, and long text is cut. Secrets are recognised in plain,
quoted and truncated form, and with the escapes of JSON, Python, HTML and URLs.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

MASK: Final = "***"

# The shortest part of a secret that is masked at the start or the end of truncated text.
_SHORTEST_PART: Final = 8
_INSIDE: Final = ("-", "_", "/")
# Text may have been escaped more than once, which repeats backslashes and encodes percent signs.
_UNIT: Final = re.compile(
    r"\\+(?:u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|x(?P<x>[0-9a-fA-F]{2})"
    r"|(?P<space>[abfnrtv])|(?P<plain>[/\"']))|%(?:25)*(?P<percent>[0-9a-fA-F]{2})|(?P<entity>&\#?\w{1,8};)|.",
    re.DOTALL,
)
_KEY_LIKE: Final = (
    re.compile(r"(?<![a-z0-9])([sp]k[-_][\w-]{4,})", re.IGNORECASE),
    re.compile(r"\b(?:bearer|basic)[\s:=]+([^\s\"',;]{6,})", re.IGNORECASE),
    re.compile(r"://([^\s/?#]+)@"),
)


def masked_repr(value: object, *secrets: str, most: int = 60) -> str:
    """The ``repr`` of a value for an error message. Secrets are masked, and long text is cut.

    Args:
        value: The value. Strings are shown in quotes.
        secrets: Known secrets to mask. Other text that looks like a key or a password is masked too.
        most: The maximum number of characters in the result.

    >>> masked_repr("fast"), masked_repr(["sk-helicone-abc1234"]), masked_repr("x" * 100, most=10)
    ("'fast'", "['***']", "'xxxxxxxx…")
    >>> masked_repr("http://user:password@localhost")
    "'http://***@localhost'"
    """
    if isinstance(value, (str, bytes)):
        value = value[: _considered(most)]
    try:
        text = repr(value)
    except ValueError:
        text = "a number with thousands of digits"
    except Exception:  # noqa: BLE001 - the repr of a caller's class may raise anything
        text = f"<{type(value).__name__} without a repr>"
    return masked_text(text, *secrets, most=most)


def masked_text(text: str, *secrets: str, most: int = 500) -> str:
    r"""Mask secrets in external text, remove control characters, and cut the text if it is long.

    Args:
        text: The text, such as part of a response or the message of another library's exception.
        secrets: Known secrets to mask. Other text that looks like a key or a password is masked too.
        most: The maximum number of characters in the result.

    >>> masked_text("no such key: \\u0073k-1%32", "sk-12"), masked_text("\x1b[31mred")
    ('no such key: ***', '[31mred')
    """
    text = printable(text[: _considered(most)])
    plain, starts = _unescaped(text)
    spans = [(starts[start], starts[end]) for start, end in _secret_spans(plain, secrets)]
    # The original text is searched too. Unescaping can add a "/" that ends a password early, and it consumes
    # the first letter of a secret that follows a backslash.
    text = _replaced(text, [*spans, *_secret_spans(text, secrets)])
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str) -> str:
    r"""Remove control characters from external text, so that a terminal does not interpret them.

    >>> printable("\x1b[31mred\x07")
    '[31mred'
    """
    return "".join(letter for letter in text if letter in "\n\t" or not _is_control(letter))


def _considered(most: int) -> int:
    """The number of characters to examine, limited so that messages about large values are fast."""
    return 4 * most + 2000


def _is_control(letter: str) -> bool:
    # These include zero-width characters, characters that change the text direction, and lone surrogates.
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs")


def _unescaped(text: str) -> tuple[str, list[int]]:
    """The text with each escape replaced by its character, and the original position of each character."""
    plain: list[str] = []
    starts: list[int] = []
    for unit in _UNIT.finditer(text):
        letter = _meaning(unit)
        if len(letter) == 1 and (letter.isspace() or not _is_control(letter)):
            plain.append(letter)
            starts.append(unit.start())
    return "".join(plain), [*starts, len(text)]


def _meaning(unit: re.Match[str]) -> str:
    kind = unit.lastgroup
    if kind is None:
        return unit[0][-1]
    if kind == "space":
        return " "
    if kind == "plain":
        return unit[kind]
    if kind == "entity":
        return html.unescape(unit[kind])
    code = int(unit[kind], 16)
    return chr(code) if code <= 0x10FFFF else ""


def _secret_spans(text: str, secrets: Iterable[str]) -> Iterator[tuple[int, int]]:
    for pattern in _KEY_LIKE:
        for match in pattern.finditer(text):
            yield match.span(1)
    for secret in filter(None, secrets):
        yield from _part_spans(text, secret)
        size = len(text)
        for start, end in _part_spans(text[::-1], secret[::-1]):
            yield size - end, size - start


def _part_spans(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """The spans of the secret in the text. Truncated secrets are included if they are long enough."""
    head = secret[:_SHORTEST_PART]
    start = text.find(head)
    while start >= 0:
        length = len(head)
        while length < len(secret) and text.startswith(secret[: length + 1], start):
            length += 1
        end = start + length
        # A word that continues differently is not the secret. Text that ends early may be a truncated secret.
        if length == len(secret) or not (text[end : end + 1].isalnum() or text[end : end + 1] in _INSIDE):
            yield start, end
        start = text.find(head, end)


def _replaced(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with each span replaced by a mask. Spans that touch share one mask."""
    pieces: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if start > at or not pieces:
            pieces.append(text[at:start])
        at = max(at, end)
    return MASK.join([*pieces, text[at:]])
