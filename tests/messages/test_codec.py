"""JSON with msgspec and without it."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helicone_sessions.messages import codec

pytestmark = pytest.mark.usefixtures("package")

# The fixture holds for all the examples of a test.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def values(*scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """JSON values of these scalars and the usual ones."""
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.one_of(*scalars),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )


def outcome(work: Any, value: Any) -> tuple[object, ...]:
    """What *work* gives, in all detail, or the error that it raises."""
    try:
        found = work(value)
    except ValueError as error:
        return type(error), str(error)
    return found, repr(found)


@SETTINGS
@given(values(st.floats(allow_nan=False, allow_infinity=False), st.text()))
def test_values_come_back(value: Any) -> None:
    """What is written is read again, whichever package does it."""
    assert (value, repr(value)) == outcome(codec.decode, codec.encode(value))


@SETTINGS
@given(values(st.floats(), st.text(st.characters())))
def test_what_the_standard_library_writes_is_written(value: Any) -> None:
    """The bytes say what those of the standard library say; what it refuses is refused."""

    def standard(value: Any) -> Any:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return json.loads(text.encode())

    assert outcome(standard, value) == outcome(lambda value: json.loads(codec.encode(value)), value)


TOKENS = (  # noqa: SIM905 - as a list it fills a page
    r'[ ] { } : , "a" "b" "" 0 -0 1 -1.5 1e5 1E+2 1e999 null true false NaN Infinity -Infinity 01 1. + '
    r'"\u00e9" "\ud800" "\ud83d\ude00" "\x" "\/" 123456789012345678901234567890 0.1000000000000000055511'
).split()


@SETTINGS
@given(
    st.lists(st.sampled_from(TOKENS), max_size=12).map(lambda tokens: " ".join(tokens).encode())
    | values(st.floats(), st.text(st.characters())).map(lambda value: json.dumps(value).encode())
    | values(st.text()).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-16"))
    | st.binary(max_size=8).map(lambda raw: b'{"a":"' + raw + b'"}')
)
def test_what_the_standard_library_reads_is_read(body: bytes) -> None:
    """Values and errors are those of the standard library, save for NaN, which is not JSON."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    def standard(body: bytes) -> Any:
        return json.loads(body, parse_constant=refuse)

    assert outcome(standard, body) == outcome(codec.decode, body)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_not_written(number: float) -> None:
    """JSON has no such number, and null would be another value."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.encode({"a": [None, number]})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Expecting value"),
        (b"NaN", "NaN is not JSON"),
        (b"[1, Infinity]", "Infinity is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xe9", "codec can't decode"),
        (b"<html>", "Expecting value"),
    ],
)
def test_what_is_not_json_is_refused_in_the_same_words(body: bytes, message: str) -> None:
    """The error does not depend on the package."""
    with pytest.raises(ValueError, match=message):
        codec.decode(body)
