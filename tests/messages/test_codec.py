"""JSON with and without the faster package."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helicone_sessions.messages import codec

pytestmark = pytest.mark.usefixtures("package")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none()
        | st.booleans()
        # orjson reads a whole number of more than 64 bits as a float.
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_values_come_back(value: Any) -> None:
    """What is written is read again, whichever package does it."""
    assert value == codec.decode(codec.encode(value))


def test_large_whole_numbers_are_written() -> None:
    """A number of more than 64 bits is written in full."""
    assert str(2**70).encode() == codec.encode(2**70)


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


def test_what_only_the_standard_library_reads_is_read() -> None:
    """JSON in UTF-16 is read with either package."""
    assert {"a": "é"} == codec.decode('{"a": "é"}'.encode("utf-16"))
