"""Single values: numpy and pandas where their meaning is plain, and costs without loss."""

import random
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from helicone_sessions.local.storage.fields import FIELDS, RowOptions
from helicone_sessions.local.storage.value_parsers import ITEM_PARSERS, parser_of

PARSERS = {name: parser_of(name, name, RowOptions(cost_unit="dollars")) for name in FIELDS}

NUMPY: list[tuple[str, str, object, object]] = [
    ("latency", "int64", 5, 5),
    ("latency", "uint8", 5, 5),
    ("latency", "float64", 5.0, 5),
    ("cost", "float64", 0.1, 100_000_000),
    ("cost", "float32", 0.25, 250_000_000),
    ("cost", "int32", 3, 3_000_000_000),
    ("threat", "bool_", True, True),
    ("cache_enabled", "bool_", False, False),
    ("assets", "array", ["a", "b"], ["a", "b"]),
]


@pytest.mark.parametrize(("column", "kind", "value", "expected"), NUMPY)
def test_numpy(column: str, kind: str, value: object, expected: object) -> None:
    """Scalars and arrays of numpy are read as the Python values that they stand for."""
    numpy = pytest.importorskip("numpy")
    found = PARSERS[column](getattr(numpy, kind)(value))
    assert (expected, type(expected)) == (found, type(found))


@pytest.mark.parametrize(
    ("kind", "value", "as_text", "as_score"),
    [("int64", 3, "3", 3), ("float64", 2.0, "2", 2), ("bool_", True, "true", 1)],
)
def test_numpy_in_maps(kind: str, value: object, as_text: str, as_score: int) -> None:
    """Scalars of numpy are read in maps too."""
    scalar = getattr(pytest.importorskip("numpy"), kind)(value)
    assert {"a": as_text} == PARSERS["properties"]({"a": scalar})
    assert {"a": as_score} == PARSERS["scores"]({"a": scalar})
    assert (as_text, as_score) == (ITEM_PARSERS["properties"](scalar), ITEM_PARSERS["scores"](scalar))


@pytest.mark.parametrize(
    ("column", "kind", "value", "due"),
    [
        ("request_created_at", "datetime64", "2026-11-01T12:00:00", "a time with its zone"),
        ("request_created_at", "int64", 1_700_000_000, "a time with its zone"),
        ("prompt_tokens", "float64", 1.5, "must be a whole number"),
        ("latency", "bool_", True, "must be a number"),
        ("latency", "array", [1, 2], "must be a number"),
        ("cost", "float64", float("inf"), "must be a finite number"),
        ("model", "array", [1, 2], "must be text"),
        ("threat", "int64", 3, "must be true or false"),
    ],
)
def test_refused_numpy(column: str, kind: str, value: object, due: str) -> None:
    """Invalid values are invalid from numpy too; a datetime64 has no zone."""
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ValueError, match=due):
        PARSERS[column](getattr(numpy, kind)(value))


def test_pandas_times() -> None:
    """A Timestamp of pandas is a datetime, and its missing time is none."""
    pandas = pytest.importorskip("pandas")
    read = PARSERS["request_created_at"]
    assert "2026-11-01 11:00:00.123" == read(pandas.Timestamp("2026-11-01T12:00:00.123456789+01:00"))
    assert read(pandas.NaT) is None
    with pytest.raises(ValueError, match="a time with its zone"):
        read(pandas.Timestamp("2026-11-01"))


def test_costs_are_exact() -> None:
    """A float is as many billionths as its shortest decimal form says, rounded half to even."""
    chance = random.Random(1)  # noqa: S311 - the same numbers at every run
    read = PARSERS["cost"]
    values = [chance.randrange(10 ** chance.randrange(1, 19)) / 1e9 for _ in range(3000)]
    values += [chance.random() * 10.0 ** chance.randrange(-12, 9) for _ in range(3000)]
    values += [(number + 0.5) / 1e9 for number in range(500)]
    values += [float(f"{number}.5e-9") for number in range(1000)]
    for value in values:
        assert int((Decimal(repr(value)) * 10**9).to_integral_value()) == read(value), value


@pytest.mark.parametrize(
    "moment", [datetime(1901, 1, 1, tzinfo=UTC), "2298-12-31T23:59:59.999999Z", "20261101T120000Z"]
)
def test_times_have_one_form(moment: Any) -> None:
    """A time gets one form for the table, whatever its original form."""
    found = PARSERS["request_created_at"](moment)
    assert 23 == len(found)
    assert datetime.fromisoformat(found).isoformat(" ", "milliseconds") == found


@pytest.mark.parametrize("column", ["request_body", "response_body"])
def test_bodies_may_be_objects(column: str) -> None:
    """A body that is an object, as the export has it, is kept as its JSON text; text stays as it is."""
    body = {"model": "gpt-4o", "messages": [{"content": "日本"}]}
    assert '{"model":"gpt-4o","messages":[{"content":"日本"}]}' == PARSERS[column](body)
    assert ["[1]", "{ }", None] == [PARSERS[column](value) for value in ([1], "{ }", None)]
    with pytest.raises(ValueError, match="must be text"):
        PARSERS[column](b"7")


JSON_READERS = [PARSERS["response_body"], ITEM_PARSERS["properties"]]


@pytest.mark.parametrize("read", JSON_READERS)
def test_numpy_in_json(read: Callable[[object], object]) -> None:
    """Scalars and arrays of numpy within an object are the numbers and lists that they stand for."""
    numpy = pytest.importorskip("numpy")
    value = {"日": numpy.int64(3), "b": [numpy.array([1.5, 2]), numpy.bool_(True)]}
    assert '{"日":3,"b":[[1.5,2.0],true]}' == read(value)
    assert "[1,2]" == read(numpy.array([1, 2]))


def _deep() -> object:
    value: object = []
    for _ in range(100_000):
        value = [value]
    return value


def _circle() -> object:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize("read", JSON_READERS)
@pytest.mark.parametrize(
    ("value", "due"),
    [
        ({"at": [date(2026, 11, 1)]}, "must be text, got datetime.date(2026, 11, 1): JSON has no date"),
        ({"dollars": Decimal("1.5")}, "must be text, got Decimal('1.5'): JSON has no Decimal"),
        ([b"x"], "must be text, got b'x': JSON has no bytes"),
        ({(1, 2): 3}, "must be an object with strings as keys, got {(1, 2): 3}"),
        ({"a": float("nan")}, "must be JSON, which has null in place of NaN and infinity, got {'a': nan}"),
        ([float("-inf")], "must be JSON, which has null in place of NaN and infinity, got [-inf]"),
        (_deep(), "must be less deeply nested, got <list without a repr>"),
        (_circle(), "must be less deeply nested, got [[...]]"),
        (["\ud800"], "must be text without half a surrogate pair"),
    ],
    ids=["time", "decimal", "bytes", "key", "nan", "infinity", "deep", "circle", "surrogate"],
)
def test_what_json_does_not_have_is_refused(
    read: Callable[[object], object], value: object, due: str
) -> None:
    """The error for a value inside an object that JSON cannot express says what is expected."""
    with pytest.raises(ValueError, match=f"^{re.escape(due)}"):
        read(value)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object])
def test_properties_are_what_json_has(value: object) -> None:
    """A property that JSON cannot say is refused."""
    with pytest.raises(ValueError, match="must be text"):
        ITEM_PARSERS["properties"](value)
