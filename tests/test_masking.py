"""Values and texts in messages show no secret, however it is spelt or cut."""

import html
import json
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions.masking import masked_repr, masked_text

KEY = "sk-helicone-abc1234-def5678"
PLAIN = "a-long-secret-without-a-form/0"
PROXY = "http://user:pa%2Fss@proxy:8080"


def json_escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


def percent_encoded(text: str) -> str:
    return "".join(f"%{ord(letter):02X}" for letter in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "JSON": json.dumps,
    "JSON, escaped": json_escaped,
    "JSON in JSON": lambda text: json.dumps(json_escaped(text)),
    "one escape": lambda text: text.replace("s", "\\u0073", 1),
    "slash escaped": lambda text: text.replace("/", "\\/"),
    "hexadecimal": lambda text: text.replace("e", "\\x65"),
    "long escape": lambda text: text.replace("e", "\\U00000065"),
    "percent": percent_encoded,
    "percent twice": lambda text: quote(percent_encoded(text)),
    "quoted": lambda text: quote(text, safe=""),
    "HTML": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(letter):x};" for letter in text),
    "zero width": "\u200b".join,
    "NUL": "\0".join,
    "after a line break": lambda text: repr(f"x\n{text}"),
}


def unescaped(text: str) -> str:
    """The text as a patient reader could decode it."""
    for _ in range(3):
        text = html.unescape(text).replace("\\/", "/").replace("%25", "%")
        for escape in ("\\x65", "\\U00000065"):
            text = text.replace(escape, "e")
        for code in range(33, 127):
            text = text.replace(f"\\u{code:04x}", chr(code)).replace(f"%{code:02X}", chr(code))
        text = text.replace("\\\\", "\\")
    return text


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("key", [KEY, PLAIN])
def test_a_known_secret_is_masked_in_every_spelling(spell: Callable[[str], str], key: str) -> None:
    """Escapes, quotes and invisible characters do not hide a known secret."""
    found = masked_text(f"no such key: {spell(key)}, sorry", key)

    assert "***" in found
    assert key[:8] not in unescaped(found)
    assert key[-8:] not in unescaped(found)
    assert found.startswith("no such key: ")
    assert found.endswith(", sorry")


@given(
    st.sampled_from(sorted(SPELLINGS)),
    st.text("abcdefghijklmnop-0123456789", min_size=16, max_size=60),
    st.text(max_size=20),
    st.data(),
)
def test_a_cut_secret_is_masked(spelling: str, key: str, before: str, data: st.DataObject) -> None:
    """At the beginning or end of a cut text, a part of eight or more characters is masked."""
    size = data.draw(st.integers(8, len(key)))
    spell = SPELLINGS[spelling]

    assert key[:8] not in unescaped(masked_text(before + spell(key[:size]), key))
    assert key[-8:] not in unescaped(masked_text(spell(key[-size:]) + before, key))


@pytest.mark.parametrize("length", range(440, 510))
def test_secrets_are_masked_before_a_text_is_cut(length: int) -> None:
    """A secret on the border of a cut leaves no part."""
    found = masked_text("x" * length + PLAIN + "y" * 100, PLAIN)

    assert 500 == len(found)
    assert "a-" not in found


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {KEY}", KEY),
        ("key sk-proj-Ab_12", "Ab_12"),
        ("key pk-helicone-xyz", "xyz"),
        ("Authorization: Bearer abcdef0123", "abcdef0123"),
        ("authorization: bearer%20abcdef0123", "abcdef0123"),
        ("Proxy-Authorization: Basic dXNlcjpwYXNz", "dXNl"),
        (f"proxy {PROXY}", "pa%2Fss"),
        ("proxy http:\\/\\/user:pass@proxy", "pass"),
        ("proxy https://token@host", "token"),
        (f"{json_escaped(KEY)}", "\\u0061\\u0062\\u0063"),
    ],
)
def test_whatever_looks_like_a_key_is_masked(text: str, secret: str) -> None:
    """Keys, credentials and passwords in addresses need not be known."""
    found = masked_text(text)

    assert "***" in found
    assert secret not in found


@pytest.mark.parametrize(
    "text",
    [
        "the service answered with status 502",
        "Cannot connect to host api.helicone.ai:443 ssl:default [Connect call failed ('1.2.3.4', 443)]",
        "Invalid filter: task-12345 is a desk-lamp at risk-free",
        "100% of 5 & more\n\tin two lines",
        "see https://api.helicone.ai/v1/x and write to a@example.org",
        "Bearer token",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Only secrets are replaced."""
    assert text == masked_text(text, KEY)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("'fast'", "fast"),
        ("5", 5),
        ("'***'", KEY),
        ("b'***'", KEY.encode()),
        ("['***', {'a': '***'}]", [KEY, {"a": KEY}]),
        ("'http://***@host'", "http://user:password@host"),
        ("'x\\ny'", "x\ny"),
        ("'" + "x" * 58 + "…", "x" * 1_000_000),
    ],
)
def test_a_value_is_shown_as_python_writes_it(expected: str, value: object) -> None:
    """Strings are quoted, secrets masked, and long values cut."""
    assert expected == masked_repr(value)


def test_a_number_too_long_for_python_to_write_is_described() -> None:
    """Python refuses to write numbers of more than 4,300 digits."""
    assert "a number with thousands of digits" == masked_repr(10**5000)


def test_a_value_without_a_repr_is_shown_by_its_class() -> None:
    """An exception in a repr is not raised while an error is written."""

    class Broken:
        def __repr__(self) -> str:
            raise LookupError

    assert "<Broken without a repr>" == masked_repr(Broken())


@given(st.one_of(st.text(), st.text("\\%&#;x0u37@:/ sk-")), st.text("sk-abc\\%", max_size=12))
def test_any_text_is_masked_without_an_error(text: str, secret: str) -> None:
    """Texts of any form end as texts without control characters and without the secret."""
    found = masked_text(text, secret)

    assert {"Cc", "Cf", "Cs"}.isdisjoint(map(unicodedata.category, found.translate({9: None, 10: None})))
    assert len(secret) < 8 or secret not in found


@pytest.mark.parametrize("unit", ["\x1b[31m", "\x9b31m", "\u202e", "\r", "\a", "\ud800"])
def test_control_characters_are_left_out(unit: str) -> None:
    """No text from outside moves the cursor, turns the direction of a line or breaks its encoding."""
    found: Any = masked_text(f"a{unit}b")

    assert unit not in found
    assert found.encode()
