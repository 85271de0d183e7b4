"""JSON with msgspec and without it, and packed bodies."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helicone_sessions.messages import codec

pytestmark = pytest.mark.usefixtures("package")

# The fixture holds for all the examples of a test.
SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def values(*scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """JSON values of these scalars and the usual ones."""
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.one_of(*scalars),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )


def outcome(work: Any, value: Any) -> tuple[object, ...]:
    """The result of *work* in all detail, or the text of its error."""
    try:
        found = work(value)
    except ValueError as error:
        return (str(error),)
    return found, repr(found)


@SETTINGS
@given(values(st.floats(allow_nan=False, allow_infinity=False), st.text()))
def test_values_come_back(value: Any) -> None:
    """A written value is read again, with and without msgspec."""
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


# Bodies that end early


@SETTINGS
@given(st.dictionaries(st.text(), values(st.text()), min_size=1), st.booleans(), st.data())
def test_the_beginning_of_json_ends_early(value: Any, is_ascii: bool, data: st.DataObject) -> None:
    """A JSON object that is cut anywhere, even inside a character, differs from a body that is not JSON."""
    whole = json.dumps(value, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(codec.EndsEarly):
        codec.decode(cut)


@pytest.mark.parametrize("body", [b"<html>", b"hello", b"nul", b'{"a": 1}}', b'{"a" 1}', b"{'a': 1}", b'"a'])
def test_other_bodies_do_not_end_early(body: bytes) -> None:
    """A body that does not begin like an object or a list, or that ends like one, is not JSON."""
    with pytest.raises(ValueError, match="line 1 column") as caught:
        codec.decode(body)
    assert not isinstance(caught.value, codec.EndsEarly)


# Packed bodies


def deflated(body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    (" GZIP ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", lambda body: deflated(body, -15)),
    ("identity", bytes),
]


@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
@given(body=st.binary(max_size=2000))
@SETTINGS
def test_a_packed_body_is_unpacked(encoding: str, pack: Callable[[bytes], bytes], body: bytes) -> None:
    """Gzip and deflate, with and without its header, give the body back."""
    assert body == codec.unpack(pack(body), encoding, most=2000)


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[:-1])
@given(body=st.binary(max_size=200), data=st.data())
@SETTINGS
def test_a_packed_body_that_ends_early_is_told(
    encoding: str, pack: Callable[[bytes], bytes], body: bytes, data: st.DataObject
) -> None:
    """Cut anywhere, a packed body is incomplete, and not a shorter body."""
    packed = pack(body)
    with pytest.raises(codec.EndsEarly):
        codec.unpack(packed[: data.draw(st.integers(1, len(packed) - 1))], encoding, most=2000)


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[:-1])
def test_unpacking_stops_at_its_limit(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """The result has one byte more than allowed, however large the body would be."""
    assert 1001 == len(codec.unpack(pack(b" " * 10_000_000), encoding, most=1000))


@pytest.mark.parametrize(
    ("problem", "encoding", "body"),
    [
        ("has the content encoding 'br', expected gzip or deflate", "br", b"x"),
        ("has the content encoding 'zstd'", "zstd", b"x"),
        ("has the content encoding 'gzip, gzip'", "gzip, gzip", b"x"),
        ("is not in its content encoding 'gzip'", "gzip", b'{"data": null}'),
        ("is not in its content encoding 'deflate'", "deflate", b'{"data": null}'),
        ("is not in its content encoding 'gzip'", "gzip", zlib.compress(b"x")),
    ],
)
def test_a_wrong_encoding_is_named(problem: str, encoding: str, body: bytes) -> None:
    """It lasts, so it is not mistaken for a body that ends early."""
    with pytest.raises(ValueError, match=problem) as caught:
        codec.unpack(body, encoding, most=1000)
    assert not isinstance(caught.value, codec.EndsEarly)
