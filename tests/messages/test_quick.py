"""The quicker way from an answer to metrics: it gives what the converter gives, or leaves it to that."""

import copy
import json
import pickle
import random
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helicone_sessions import (
    APIError,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
    UnexpectedResponse,
)
from helicone_sessions.messages import codec
from helicone_sessions.messages.converter import Failure, Mismatch, converter, envelope
from helicone_sessions.messages.metrics import UNITS
from helicone_sessions.messages.protocol import decipher
from helicone_sessions.messages.quick import quick_metrics

NEGATIVE_ZERO = re.compile(r"-0\.0(?![\de])")
BOM = b"\xef\xbb\xbf"

pytestmark = pytest.mark.usefixtures("package")


def slowly(body: bytes) -> SessionMetrics | None:
    """What the converter makes of *body*; None where it refuses it."""
    try:
        found = envelope(codec.decode(body))
    except (ValueError, Mismatch):
        return None
    return None if isinstance(found, Failure) else found


def shown(metrics: SessionMetrics) -> str:
    return NEGATIVE_ZERO.sub("0.0", repr(metrics))


def hold_equal(body: bytes) -> SessionMetrics | None:
    """Fail if the two ways differ on *body*; what the quick one gives."""
    quick, slow = quick_metrics(body), slowly(body)
    if quick is not None:
        assert slow is not None
        assert slow == quick
        assert hash(slow) == hash(quick)
        assert shown(slow) == shown(quick)
        assert slow.extra == quick.extra
    return quick


# Bodies as text, so that fields may be repeated and numbers spelled in any way


@attrs.frozen
class Spelled:
    """A token of JSON as it is written."""

    text: str


@attrs.define(eq=False)
class Thing:
    """A JSON object whose fields are in any order, and may come twice."""

    fields: list[tuple[str, Any]]


def written(value: Any, gap: Callable[[], str] = str) -> str:
    """*value* as JSON, with what *gap* gives around each token."""
    if isinstance(value, Thing):
        fields = (f"{gap()}{name}{gap()}:{written(item, gap)}" for name, item in value.fields)
        return f"{gap()}{{{','.join(fields)}{gap()}}}{gap()}"
    if isinstance(value, list):
        return f"{gap()}[{','.join(written(item, gap) for item in value)}{gap()}]{gap()}"
    return f"{gap()}{value.text}{gap()}"


def thing(**fields: Any) -> Thing:
    return Thing([(f'"{name}"', value) for name, value in fields.items()])


PLAIN = (  # noqa: SIM905 - as a list it fills a page
    "0 -0 -0.0 0.0 1e5 1E5 1e+5 1.5e-7 1e-07 1e22 1e99 1.5e99 9e307 1e308 5e-324 1e-400 0e5 -0e-5 1.0E+02"
    " 123456789012345 1234567890123456 9007199254740993 1.7976931348623157e308 1e400 -1e400"
).split()
LONG = ["0." + "1" * 40, "9" * 400, "1" + "0" * 30]
# Of these, some are numbers to float() only, and some are none.
ODD = (  # noqa: SIM905 - likewise
    "1_0 +5 .5 5. 01 -01 00 --1 1e 1e+ nan NaN -nan inf -inf Infinity infinity null true x 0x10 1,5 1:5 n"
    r""" \u0031 1\n \"1\" \t1 1\u0030 1e1_0 '1'"""
).split()
ODDER = ["", " ", " 1 ", "1\x7f", "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}2"]
# What is no JSON at all.
NO_JSON = ["NaN", "nan", "Infinity", "-Infinity", "01", "+5", ".5", "5.", "1_0", "-", "1e"]
NAMES = [
    "new",
    "data",
    "error",
    "average",
    "value",
    "range_start",
    "session_cost",
    "Value",
    "n:",
    "",
    "range_start ",
]
ESCAPED_NAMES = [r"v\u0061lue", r"\"value\""]

plain_numbers = (
    st.integers(0, 1000).map(str)
    | st.integers(-(2**70), 2**70).map(str)
    | st.floats(0, 1e9).map(repr)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.sampled_from([*PLAIN, *LONG])
)
numbers = plain_numbers.map(Spelled)
quoted = (plain_numbers | st.sampled_from([*ODD, *ODDER])).map(lambda text: Spelled(f'"{text}"'))
likely_numbers = numbers | plain_numbers.map(lambda text: Spelled(f'"{text}"')) | quoted
scalars = st.sampled_from(
    [Spelled(text) for text in ("null", "true", "false", '""', '"text"', '"a:b"', '"n:n"', r'"\""', '"]"')]
)
anything: st.SearchStrategy[Any] = (
    scalars
    | likely_numbers
    | st.sampled_from(NO_JSON).map(Spelled)
    | st.builds(list)
    | st.lists(scalars, max_size=2)
    | st.builds(lambda value: thing(average=value), likely_numbers | scalars)
    | st.builds(lambda: Thing([]))
)
names = st.sampled_from([f'"{name}"' for name in [*NAMES, *ESCAPED_NAMES]])


def rows(ends: st.SearchStrategy[Any], heights: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    bars = st.builds(
        lambda *three: thing(range_start=three[0], range_end=three[1], value=three[2]), *[ends] * 2, heights
    )
    return st.lists(bars, max_size=3)


def answers(
    ends: st.SearchStrategy[Any], heights: st.SearchStrategy[Any], averages: st.SearchStrategy[Any]
) -> st.SearchStrategy[Thing]:
    """Answers in the order of the service, with such numbers."""
    one = averages.map(lambda value: [thing(average=value)])
    fields = {name: rows(ends, heights) for name in UNITS}
    together = st.fixed_dictionaries(dict.fromkeys(UNITS, one)).map(lambda found: thing(**found))
    data = st.fixed_dictionaries({**fields, "average": together}).map(lambda found: thing(**found))
    return data.map(lambda found: thing(data=found, error=Spelled("null")))


def places(value: Any) -> list[tuple[Any, int]]:
    """Every field and item in *value*, as what holds it and its place there."""
    found: list[tuple[Any, int]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        items = here.fields if isinstance(here, Thing) else here
        if isinstance(here, (Thing, list)):
            found += [(items, place) for place in range(len(items))]
            waiting += [item[1] if isinstance(here, Thing) else item for item in items]
    return found


def things(value: Any) -> list[Thing]:
    """Every object in *value*."""
    inside = [item for items, place in places(value) for item in [items[place]]]
    values = [item[1] if isinstance(item, tuple) else item for item in inside]
    return [value, *(item for item in values if isinstance(item, Thing))]


def change(draw: st.DrawFn, answer: Thing) -> None:
    """One mistake, or one liberty, somewhere in *answer*."""
    kind = draw(st.sampled_from(["value", "unknown", "repeated", "missing", "order", "name", "twice"]))
    fields = draw(st.sampled_from(things(answer))).fields
    if kind == "unknown":
        fields.insert(draw(st.integers(0, len(fields))), (draw(names), draw(anything)))
    elif kind == "order":
        fields[:] = draw(st.permutations(fields))
    elif kind == "repeated" and fields:
        name, value = draw(st.sampled_from(fields))
        fields.insert(draw(st.integers(0, len(fields))), (name, draw(st.just(value) | anything)))
    elif kind == "missing" and fields:
        fields.pop(draw(st.integers(0, len(fields) - 1)))
    elif found := places(answer):
        items, place = draw(st.sampled_from(found))
        item = items[place]
        if kind == "twice" and not isinstance(item, tuple):
            items.append(item)
        elif isinstance(item, tuple):
            items[place] = (draw(names), item[1]) if kind == "name" else (item[0], draw(anything))
        else:
            items[place] = draw(anything)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies that are answers, or were until something was done to them."""
    number = draw(st.sampled_from([numbers, likely_numbers]))
    answer = draw(answers(likely_numbers, number, number))
    for _ in range(draw(st.integers(0, 3))):
        change(draw, answer)
    gaps = draw(st.sampled_from([[""], ["", "", "", " ", "\n", "\t\r\n"], ["", "", "\x0b", "\xa0"]]))
    # One draw for all the gaps: each by itself would take longer than all the rest of a test.
    chance = random.Random(draw(st.integers(0, 2**32 - 1)))  # noqa: S311 - no secret
    body = written(answer, lambda: chance.choice(gaps)).encode()
    return draw(st.just(body) | st.builds(damage, st.just(body), st.randoms(use_true_random=False)))


def damage(body: bytes, random: Any) -> bytes:
    """*body* as a bad line would give it."""
    place = random.randrange(len(body))
    return bytes(
        random.choice(
            [
                body[:place],
                body[place:],
                body[:place] + body[place + 1 :],
                body[:place] + bytes([random.randrange(256)]) + body[place + 1 :],
                body[:place]
                + random.choice([b" ", b'"', b":", b"n", b",", b"\\", b"\xff", b"0"])
                + body[place:],
                BOM + body,
                body + random.choice([b" ", b"\n", b"\0", b"}", b"x", body]),
                body.decode().encode("utf-16"),
            ]
        )
    )


@settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))
@given(body=bodies())
def test_the_two_ways_agree_on_every_body(body: bytes) -> None:
    """What is taken the quick way is what the converter gives, and never what it refuses."""
    hold_equal(body)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(body=bodies())
def test_an_answer_reads_the_same_with_and_without_the_quick_way(body: bytes) -> None:
    """Metrics or the error, and its words: nothing tells which way an answer went."""
    slow = slowly(body)
    try:
        found = decipher(200, {}, body)
    except APIError:
        assert None is slow
    else:
        assert slow == found


ROW = '{"range_start":"1","range_end":"2","value":3}'
COUNT, AVERAGE = f'"session_count":[{ROW}]', '"session_count":[{"average":1.5}]'


def answer_text(**changes: str) -> str:
    """An answer as the service writes it; each of *changes* is put in the place of what it names."""
    pieces = {
        "count": COUNT,
        "duration": '"session_duration":[]',
        "cost": '"session_cost":[]',
        "count_average": AVERAGE,
        "duration_average": '"session_duration":[{"average":12}]',
        "cost_average": '"session_cost":[{"average":null}]',
        **changes,
    }
    data = ",".join(pieces[name] for name in ("count", "duration", "cost"))
    averages = ",".join(pieces[name] for name in ("count_average", "duration_average", "cost_average"))
    return f'{{"data":{{{data},"average":{{{averages}}}}},"error":null}}'


def counts(row: str) -> str:
    return answer_text(count=f'"session_count":[{row}]')


UNUSUAL = {
    "text for a height": counts(ROW.replace("3", '"3"')),
    "numbers for ends": counts(ROW.replace('"1"', "1").replace('"2"', "2.5")),
    "an end with an underscore": counts(ROW.replace('"1"', '"1_0"')),
    "an end with spaces": counts(ROW.replace('"1"', '" 1 "')),
    "an end with a plus": counts(ROW.replace('"1"', '"+5"')),
    "an end that is escaped": counts(ROW.replace('"1"', r'"\u0031"')),
    "an end in other digits": counts(ROW.replace('"1"', '"\N{ARABIC-INDIC DIGIT ONE}"')),
    "a repeated field": counts(ROW.replace('"value":3', '"value":3,"value":4')),
    "an unknown field": counts(ROW.replace("}", ',"new":null}')),
    "an unknown field with colons": counts(ROW.replace("}", ',"n":":::nnn"}')),
    "no averages": answer_text(count_average='"session_count":[]'),
    "an average that is null": answer_text(count_average='"session_count":null'),
    "two averages": answer_text(count_average='"session_count":[{"average":1},{"average":2}]'),
    "an average too large": answer_text(count_average=AVERAGE.replace("1.5", "9" * 400)),
    "white space": answer_text().replace(":", " : ").replace(",", ",\n"),
    "a line break behind it": answer_text() + "\n",
    "an error beside it": answer_text().replace('"error":null', '"error":"Invalid filter"'),
    "no error": answer_text().replace(',"error":null', ""),
    "the error first": '{"error":null,' + answer_text().replace(',"error":null', "")[1:],
    "data twice": answer_text().replace('"error":null', '"data":null'),
}


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_answer_loses_nothing(text: str) -> None:
    """The liberties that the converter takes are taken the quick way in the same manner, or not at all."""
    hold_equal(text.encode())


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "NAN", "inf", "-inf", "Infinity", "infinity", "null", "x", ""]
)
def test_a_word_is_never_a_number(word: str) -> None:
    """Text that float() would take for no finite number is refused as without the quick way."""
    for text in (
        counts(ROW.replace('"1"', f'"{word}"')),
        counts(ROW.replace("3", f'"{word}"')),
        answer_text(count_average=AVERAGE.replace("1.5", f'"{word}"')),
    ):
        assert None is quick_metrics(text.encode())
        with pytest.raises(UnexpectedResponse, match="expected a number, got"):
            decipher(200, {}, text.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b'{"data":null,"error":"Invalid filter"}',
        b"<html>502 Bad Gateway</html>",
        b"[" * 100_000,
        b'{"data":' * 100_000,
        b'{"data":{"session_count":' + b"[" * 100_000,
        answer_text().encode()[:-1],
        BOM + answer_text().encode(),
        answer_text().encode("utf-16"),
        answer_text().encode() + b"x",
        answer_text().encode() * 2,
        b"\xff" + answer_text().encode(),
        counts(",".join([ROW] * 50_000))[:-1].encode(),
        counts(ROW.replace("3", "1" * 100_000 + "x")).encode(),
    ],
    ids=range(17),
)
def test_what_is_no_answer_is_left_to_the_converter(body: bytes) -> None:
    """The quick way takes nothing of it, whatever it looks like, and does not fail."""
    assert None is quick_metrics(body)


def test_a_status_other_than_200_goes_the_slow_way() -> None:
    """What the status decides, it decides before the body is read in haste."""
    body = answer_text().encode()

    assert slowly(body) == decipher(200, {}, body) == decipher(500, {}, body)
    with pytest.raises(APIError):
        decipher(401, {}, body)


# Ordinary answers are taken

ordinary_numbers = st.integers(0, 10**12).map(float) | st.floats(1e-9, 1e12)
ordinary_rows = st.builds(HistogramRow, ordinary_numbers, ordinary_numbers, ordinary_numbers)
ordinary = st.builds(
    SessionMetrics,
    **{
        name: st.builds(Histogram, st.lists(ordinary_rows, max_size=10).map(tuple), unit=st.just(unit))
        for name, unit in UNITS.items()
    },
    average=st.builds(SessionAverages, *[ordinary_numbers] * 3),
)


def as_sent(metrics: SessionMetrics) -> bytes:
    return codec.encode({"data": converter.unstructure(metrics), "error": None})


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metrics=ordinary)
@example(metrics=SessionMetrics.empty())
def test_what_the_service_sends_is_taken_the_quick_way(metrics: SessionMetrics) -> None:
    """An ordinary answer is not left to the converter, and comes out as it went in."""
    if metrics == SessionMetrics.empty():
        metrics = attrs.evolve(metrics, average=SessionAverages(0.0, 0.0, 0.0))

    assert metrics == hold_equal(as_sent(metrics))


@pytest.mark.parametrize("ends", [("1", "2"), ("0.1", "0.25"), ("1e-7", "1e+21"), ("0", "0")])
def test_ends_as_javascript_writes_them_are_taken(ends: tuple[str, str]) -> None:
    """Small and large ends are written with an exponent, and are ordinary all the same."""
    row = json.dumps({"range_start": ends[0], "range_end": ends[1], "value": 0.5}, separators=(",", ":"))
    found = hold_equal(counts(row).replace("null}]", "0}]").encode())

    assert found is not None
    assert (*map(float, ends), 0.5) == attrs.astuple(found.session_count[0])[:3]


# Rows on demand

EAGER = SessionMetrics(
    session_count=Histogram(
        (HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit=UNITS["session_count"]
    ),
    session_duration=Histogram((HistogramRow(0.0, 7.5, 8.0),), unit=UNITS["session_duration"]),
    session_cost=Histogram((), unit=UNITS["session_cost"]),
    average=SessionAverages(1.75, 3.0, 0.5),
)

LOOKS: dict[str, Callable[[Any], object]] = {
    "rows": lambda histogram: histogram.rows,
    "hash": hash,
    "repr": repr,
    "str": str,
    "len": len,
    "bool": bool,
    "list": list,
    "reversed": lambda histogram: list(reversed(histogram)),
    "slice": lambda histogram: histogram[:1],
    "total": lambda histogram: histogram.total,
    "quantile": lambda histogram: [histogram.quantile(q) for q in (0, 0.25, 0.5, 1)],
    "unit": lambda histogram: histogram.unit,
    "contains": lambda histogram: HistogramRow(1.0, 2.0, 6.0) in histogram,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "unpickled": lambda histogram: pickle.loads(pickle.dumps(histogram)),  # noqa: S301 - our own bytes
    "evolve": attrs.evolve,
    "evolve the unit": lambda histogram: attrs.evolve(histogram, unit="sessions"),
    "asdict": attrs.asdict,
    "as JSON": converter.unstructure,
}


def unread() -> SessionMetrics:
    """Metrics whose rows nobody has looked at."""
    found = quick_metrics(as_sent(EAGER))
    assert found is not None
    return found


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_rows_on_demand_look_like_any_others(look: Callable[[Any], object], name: str) -> None:
    """Whichever way a histogram is looked at first, it is what it would be if its rows had been there."""
    eager, first = getattr(EAGER, name), getattr(unread(), name)

    assert look(eager) == look(first)
    assert look(eager) == look(first)
    assert eager == first
    assert hash(eager) == hash(first)


def test_equality_looks_at_the_rows_of_both_sides() -> None:
    """Two answers whose rows nobody has looked at are equal, and differ from others."""
    assert unread() == unread()
    assert unread() == EAGER
    assert EAGER == unread()
    assert unread().session_count != unread().session_duration
    assert 1 == len({unread(), unread(), EAGER})


WHOLE: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "unpickled": LOOKS["unpickled"],
    "evolve": attrs.evolve,
    "evolve a part": lambda metrics: attrs.evolve(metrics, average=SessionAverages(None, None, None)),
    "hash": hash,
    "repr": repr,
    "asdict": attrs.asdict,
    "astuple": attrs.astuple,
    "average": lambda metrics: metrics.average,
    "one average": lambda metrics: metrics.average.session_cost,
    "histogram": lambda metrics: metrics.session_count,
    "extra": lambda metrics: (metrics.extra, metrics.average.extra),
    "as JSON": converter.unstructure,
}


@pytest.mark.parametrize("look", WHOLE.values(), ids=WHOLE)
def test_whole_metrics_on_demand_look_like_any_others(look: Callable[[Any], object]) -> None:
    """Metrics that nobody has looked at give, cross processes and copy as those made at once."""
    first = unread()

    assert look(EAGER) == look(first)
    assert look(EAGER) == look(first)
    assert EAGER == first
    assert repr(EAGER) == repr(first)
    assert hash(EAGER) == hash(first)


def test_fields_beside_the_contract_are_each_ones_own() -> None:
    """Two answers share no dict that one of them could change."""
    first, second = unread(), unread()

    assert first.extra is not second.extra
    assert first.average.extra is not second.average.extra
    assert first.extra is first.extra


def test_an_unknown_attribute_of_metrics_is_an_attribute_error() -> None:
    """Whatever is made on demand, a misspelt name is told."""
    with pytest.raises(AttributeError, match="session_costs"):
        unread().session_costs  # type: ignore[attr-defined] # noqa: B018 - it raises


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("name", ["row", "rows_", "_rows", "__deepcopy__", "extra", "bars"])
def test_an_unknown_attribute_is_an_attribute_error(name: str, is_read: bool) -> None:
    """Making rows on demand lends a histogram no other names."""
    histogram = unread().session_count
    assert not is_read or 2 == len(histogram.rows)

    assert not hasattr(histogram, name)
    with pytest.raises(AttributeError, match=re.escape(f"'{name}'")) as caught:
        getattr(histogram, name)
    assert name == caught.value.name


def test_rows_on_demand_cannot_be_set() -> None:
    """A histogram is frozen before its rows are made, and after."""
    histogram = unread().session_count
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        histogram.rows = ()  # type: ignore[misc]
    assert EAGER.session_count.rows == histogram.rows
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        histogram.rows = ()  # type: ignore[misc]


def test_rows_are_made_once() -> None:
    """Who looks twice is given the same rows."""
    histogram = unread().session_count

    assert histogram.rows is histogram.rows


def test_several_threads_may_look_first() -> None:
    """Of threads that look at the same histogram at the same moment, each finds its rows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    wrong: list[object] = []
    together = threading.Barrier(4)
    histograms = [unread().session_count for _ in range(300)]

    def look() -> None:
        for histogram in histograms:
            together.wait()
            try:
                found: object = histogram.rows
            except AttributeError as error:
                found = error
            if found != EAGER.session_count.rows:
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert [] == wrong
