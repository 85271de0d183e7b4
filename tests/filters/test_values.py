"""Which constants each kind of column takes, and in which form they are sent."""

import enum
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.columns import F
from tests.filters.support import MOMENT, Model, leaf, read
from tests.parts import parts


class Odd(enum.Enum):
    TEXT = "gpt"
    NUMBER = 4
    TIME = MOMENT
    FLAG = True
    NOTHING = None


class Nowhere(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None


EAST = timezone(timedelta(hours=2))
NAMES = {"Odd": Odd, "Model": Model, "UUID": UUID, "Nowhere": Nowhere, "EAST": EAST}
NUMBER, TEXT, TIME, FLAG, SCORE = "cost", "model", "request_created_at", "threat", "scores"


def _column(name: str) -> tuple[Any, str | None]:
    return (F.scores["q"], "q") if name == SCORE else (F[name], None)


@pytest.mark.parametrize(
    ("name", "source", "sent"),
    [
        (NUMBER, "0", 0),
        (NUMBER, "0.1", 0.1),
        (NUMBER, "1e300", 1e300),
        (NUMBER, "2**53", 2**53),
        (NUMBER, "Decimal('0.10')", 0.1),
        (NUMBER, "Fraction(1, 4)", 0.25),
        (NUMBER, "Odd.NUMBER", 4),
        ("status", "-1", -1),
        ("latency", "1.5", 1.5),
        (TEXT, "''", ""),
        (TEXT, "'é☃😀'", "é☃😀"),
        (TEXT, "'null'", "null"),
        (TEXT, "'%_'", "%_"),
        (TEXT, "Odd.TEXT", "gpt"),
        (TEXT, "Model.MINI", "gpt-mini"),
        (TEXT, "UUID(int=1)", "00000000-0000-0000-0000-000000000001"),
        (TIME, "MOMENT", "2026-11-01T12:30:00.000Z"),
        (TIME, "Odd.TIME", "2026-11-01T12:30:00.000Z"),
        (FLAG, "True", True),
        (FLAG, "False", False),
        (FLAG, "Odd.FLAG", True),
        (SCORE, "4", "4"),
        (SCORE, "4.0", "4"),
        (SCORE, "0.85", "0.85"),
        (SCORE, "-3", "-3"),
        (SCORE, "Decimal('1.50')", "1.5"),
        (SCORE, "'4.0'", "4.0"),
    ],
)
def test_values_that_are_taken(name: str, source: str, sent: object) -> None:
    """A constant of the right type is sent as JSON's own type, as it stands or in its shortest form."""
    column, key = _column(name)
    wire = (column == read(source, **NAMES)).to_wire()
    assert leaf(name, "equals", sent, key) == wire
    value = wire["request_response_rmt"][name]
    assert type(sent) is type((value if key is None else value[key])["equals"])


TYPE, VALUE = FilterTypeError, FilterValueError


@pytest.mark.parametrize(
    ("name", "source", "error", "words"),
    [
        (NUMBER, "True", TYPE, "got True"),
        (NUMBER, "Odd.FLAG", TYPE, "got True"),
        (NUMBER, "'5'", TYPE, "got '5'"),
        (NUMBER, "MOMENT", TYPE, "a number"),
        (NUMBER, "1j", TYPE, "a number"),
        (NUMBER, "float('nan')", VALUE, "finite"),
        (NUMBER, "float('inf')", VALUE, "finite"),
        (NUMBER, "-float('inf')", VALUE, "finite"),
        (NUMBER, "Decimal('NaN')", VALUE, "finite"),
        (NUMBER, "Decimal('sNaN')", VALUE, "finite"),
        (NUMBER, "Decimal('1e400')", VALUE, "finite"),
        (NUMBER, "Fraction(10**400)", VALUE, "finite"),
        (NUMBER, "2**53 + 1", VALUE, r"2\*\*53"),
        (NUMBER, "-2**53 - 1", VALUE, r"2\*\*53"),
        (NUMBER, "10**400", VALUE, r"2\*\*53"),
        (NUMBER, "10**5000", VALUE, r"2\*\*53"),
        (NUMBER, "-1", VALUE, "never below zero"),
        (NUMBER, "~1", VALUE, "~1 as -2"),
        (NUMBER, "Decimal('-0.1')", VALUE, "never below zero"),
        ("total_tokens", "-1", VALUE, "never below zero"),
        ("session_total_cost", "-1", VALUE, "never below zero"),
        ("status", "2**53 + 1", VALUE, r"2\*\*53"),
        (TEXT, "5", TYPE, "Write it in quotes"),
        (TEXT, "True", TYPE, "Write it in quotes"),
        (TEXT, "10**5000", TYPE, "Write it in quotes"),
        (TEXT, "b'x'", TYPE, "Write it in quotes"),
        (TEXT, "MOMENT", TYPE, "Write it in quotes"),
        (TEXT, "Odd.NUMBER", TYPE, "Write it in quotes"),
        (TEXT, "'\\ud800'", VALUE, "surrogate"),
        (TIME, "MOMENT.replace(tzinfo=None)", TYPE, "Add the zone"),
        (TIME, "MOMENT.replace(tzinfo=Nowhere())", TYPE, "Add the zone"),
        (TIME, "MOMENT.min.replace(tzinfo=EAST)", VALUE, "a time that exists in UTC"),
        (TIME, "MOMENT.date()", TYPE, "Pass a datetime with its zone"),
        (TIME, "MOMENT.isoformat()", TYPE, "fromisoformat"),
        (TIME, "MOMENT.timestamp()", TYPE, "a datetime with a zone"),
        (TIME, "True", TYPE, "a datetime with a zone"),
        (FLAG, "1", TYPE, "True or False"),
        (FLAG, "0", TYPE, "True or False"),
        (FLAG, "'true'", TYPE, "True or False"),
        (SCORE, "True", TYPE, "got True"),
        (SCORE, "float('nan')", VALUE, "finite"),
        (SCORE, "2**53 + 1", VALUE, r"2\*\*53"),
        (SCORE, "MOMENT", TYPE, "a number"),
        ("properties", "'x'", TYPE, "Name a key"),
    ],
)
def test_values_that_are_refused(name: str, source: str, error: type[Exception], words: str) -> None:
    """A constant that the column cannot hold is refused where it is written, on either side of the sign."""
    column, _ = _column(name)
    value = read(source, **NAMES)
    for compare in ("column == value", "value == column", "column != value"):
        with pytest.raises(error, match=words):
            read(compare, column=column, value=value)


@pytest.mark.parametrize("source", ["None", "Odd.NOTHING"])
@pytest.mark.parametrize("name", [NUMBER, TEXT, TIME, FLAG, SCORE, "property_key"])
def test_none_is_refused(name: str, source: str) -> None:
    """No column is compared with None, which the API cannot express."""
    column, _ = _column(name)
    with pytest.raises(FilterTypeError, match="cannot be compared with None"):
        column.eq(read(source, **NAMES))


@pytest.mark.parametrize("method", ["eq", "ne", "contains", "like", "startswith"])
@pytest.mark.parametrize("wrong", [F.provider, F.threat, F.model == "x", F.properties])
def test_methods_take_constants_only(method: str, wrong: object) -> None:
    """A column or a filter is no constant for a method either."""
    with pytest.raises(FilterTypeError):
        getattr(F.model, method)(wrong)


@pytest.mark.parametrize(
    ("name", "scalar", "sent"),
    [
        (NUMBER, "float64(0.5)", 0.5),
        (NUMBER, "float32(0.5)", 0.5),
        (NUMBER, "int64(4)", 4),
        (NUMBER, "uint8(4)", 4),
        (TEXT, "str_('gpt')", "gpt"),
        (FLAG, "True_", True),
        (SCORE, "int64(4)", "4"),
        (NUMBER, "longdouble(1.5)", 1.5),
        (NUMBER, "True_", FilterTypeError),
        (NUMBER, "float64('nan')", FilterValueError),
        (NUMBER, "str_('5')", FilterTypeError),
        (NUMBER, "complex128(1)", FilterTypeError),
        (NUMBER, "array([1, 2])", FilterTypeError),
        (FLAG, "int64(1)", FilterTypeError),
        (TIME, "datetime64('2026-11-01T00:00')", FilterTypeError),
    ],
)
def test_numpy_scalars(name: str, scalar: str, sent: Any) -> None:
    """A numpy scalar counts as the Python value that it holds."""
    value = read(f"np.{scalar}", np=pytest.importorskip("numpy"))
    column, key = _column(name)
    if isinstance(sent, type):
        with pytest.raises(sent):
            column.eq(value)
    else:
        expected = leaf(name, "equals", sent, key)
        assert repr(expected) == repr(column.eq(value).to_wire())


@pytest.mark.parametrize(
    ("key", "name"), [(Model.MINI, "gpt-mini"), (Odd.TEXT, "gpt"), (type("Text", (str,), {})("gpt"), "gpt")]
)
def test_keys_become_plain_text(key: Any, name: str) -> None:
    """A key that is an Enum or a kind of str is kept as plain text."""
    wire: Any = (F.properties[key] == "x").to_wire()
    [found] = wire["request_response_rmt"]["properties"]
    assert name == found
    assert str is type(found)


class Moment(datetime):
    """A time as pandas has one: it stays what it is when its zone is changed, and may know more."""

    nanosecond = 0

    def isoformat(self, *_: object, **__: object) -> str:  # type: ignore[override]
        return "what nobody meant"


def test_subclasses_of_times() -> None:
    """Of a datetime of another class only the time is kept; one with nanoseconds is refused."""
    moment = Moment(2026, 11, 1, 12, 30, tzinfo=UTC)
    filter_ = F.request_created_at > moment
    assert (F.request_created_at > datetime(2026, 11, 1, 12, 30, tzinfo=UTC)) == filter_
    assert "2026-11-01T12:30:00.000Z" in str(filter_.to_wire())
    assert type(filter_.node.value) is datetime  # type: ignore[attr-defined]
    moment.nanosecond = 5
    with pytest.raises(FilterValueError, check=parts(column="request_created_at")):
        F.request_created_at > moment  # noqa: B015 - it is refused


def test_a_value_without_a_repr() -> None:
    """A value whose repr fails is refused like any other."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(FilterTypeError, match="got <Odd without a repr>"):
        F.cost > Odd()  # type: ignore[operator] # noqa: B015 - it is refused


def test_a_time_with_a_misplaced_pytz_zone_is_refused() -> None:
    """Its offset is one of the 19th century; localize() of the zone sets the right one."""
    pytz = pytest.importorskip("pytz")
    zone = pytz.timezone("America/New_York")

    with pytest.raises(FilterValueError, match="localize"):
        F.request_created_at.gt(datetime(2026, 6, 1, tzinfo=zone))
    placed = zone.localize(datetime(2026, 6, 1))  # noqa: DTZ001 - the zone is set here
    assert (F.request_created_at > datetime(2026, 6, 1, 4, tzinfo=UTC)) == (F.request_created_at > placed)
