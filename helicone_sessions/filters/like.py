"""LIKE patterns: escaped, unescaped and recognised."""

import re
from typing import Final

# What ClickHouse takes for itself in a LIKE pattern; a backslash before another character is plain.
_META: Final = re.compile(r"[\\%_]")
_ESCAPED: Final = re.compile(r"\\([\\%_])")
_TOKEN: Final = re.compile(r"\\[\\%_]|.", re.DOTALL)


def escape_like(text: str) -> str:
    r"""*text* as a pattern that matches itself only.

    >>> print(escape_like("50%_off"))
    50\%\_off
    """
    return _META.sub(r"\\\g<0>", text)


def unescape_like(pattern: str) -> str | None:
    r"""The one text that *pattern* matches, or None if it has wildcards.

    >>> unescape_like(r"50\%"), unescape_like("50%")
    ('50%', None)
    """
    if any(token in {"%", "_"} for token in _TOKEN.findall(pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def like_inside(pattern: str) -> str | None:
    r"""The text for which *pattern* looks anywhere in a value, or None if it asks for something else.

    >>> like_inside("%gpt%"), like_inside("gpt%"), like_inside("%g_t%"), like_inside(r"%50\%")
    ('gpt', None, None, None)
    """
    tokens = _TOKEN.findall(pattern)
    if len(tokens) < 3 or tokens[0] != "%" or tokens[-1] != "%":
        return None
    return unescape_like("".join(tokens[1:-1]))


def unescape_literal(text: str) -> str:
    r"""*text* with the escapes of `escape_like` taken off, where wildcards stand for themselves.

    >>> print(unescape_literal(r"50\% off"), unescape_literal("50% off"))
    50% off 50% off
    """
    return _ESCAPED.sub(r"\1", text)


def pattern_for_contains(text: str) -> str | None:
    r"""The pattern to send where *text* is looked for, or None if *text* has nothing to escape.

    >>> print(pattern_for_contains("50%"), pattern_for_contains("gpt"))
    %50\%% None
    """
    is_plain = "%" not in text and "_" not in text and "\\" not in text
    return None if is_plain else f"%{escape_like(text)}%"


def sent_for_contains(pattern: str) -> str | None:
    r"""The text for which `pattern_for_contains` gives *pattern*, or None.

    >>> sent_for_contains(r"%50\%%"), sent_for_contains("%gpt%")
    ('50%', None)
    """
    inside = like_inside(pattern)
    return inside if inside and pattern_for_contains(inside) == pattern else None


def ends_in_escape(pattern: str) -> bool:
    r"""Whether *pattern* ends with a backslash that escapes nothing, which ClickHouse refuses.

    >>> ends_in_escape("50\\"), ends_in_escape(r"50\\")
    (True, False)
    """
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1
