"""Answers are read whatever their form, and with msgspec and without it the same comes of them."""

import copy
import gzip
import json
import pickle
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
from helicone_sessions.messages import codec, protocol
from helicone_sessions.messages.converter import metrics_from_json
from helicone_sessions.messages.metrics import UNITS
from tests.repeats import repeats

ANSWERS = Path(__file__).parents[1] / "data" / "real_server_answers.jsonl.gz"
NEGATIVE_ZERO = re.compile(r"-0\.0(?![\de])")
BOM = b"\xef\xbb\xbf"

has_msgspec = codec.installed_msgspec() is not None
needs_msgspec = pytest.mark.skipif(not has_msgspec, reason="the extra `speed` is not installed")


def recorded() -> list[dict[str, Any]]:
    """The successful answers of the open-source server, with their keys in its order."""
    with gzip.open(ANSWERS, "rt", encoding="utf-8") as lines:
        found = [each for each in map(json.loads, lines) if each["kind"] == "answer"]
    return [each["answer"] for each in found if each["status"] == 200]


RECORDED = recorded()


def compact(answer: Any) -> bytes:
    """*answer* as the server writes it."""
    return json.dumps(answer, separators=(",", ":")).encode()


# Both ways


@contextmanager
def without_msgspec() -> Iterator[None]:
    """A block in which msgspec is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "msgspec", None)
        look_again()
        yield
    look_again()


def look_again() -> None:
    codec.installed_msgspec.cache_clear()
    protocol._metrics_reader.cache_clear()


def outcome(body: bytes) -> tuple[object, ...]:
    """The metrics in *body* with their repr, or all that there is to see of the error."""
    try:
        found = protocol.decipher(200, {}, body)
    except APIError as error:
        return type(error), error.message, getattr(error, "path", None)
    # The text "-0" is 0.0 to msgspec, and -0.0 to float().
    return found, hash(found), NEGATIVE_ZERO.sub("0.0", repr(found))


def same_both_ways(body: bytes) -> tuple[object, ...]:
    """Fail if msgspec changes what comes of *body*; else the outcome."""
    found = outcome(body)
    with without_msgspec():
        assert outcome(body) == found
    return found


# The answers of the open-source server


def by_hand(answer: Any) -> SessionMetrics:
    """The metrics of a recorded answer, read in the plainest way."""
    data = answer["data"]
    histograms: dict[str, Any] = {
        name: Histogram(
            tuple(
                HistogramRow(float(row["range_start"]), float(row["range_end"]), float(row["value"]))
                for row in data[name]
            ),
            unit=unit,
        )
        for name, unit in UNITS.items()
    }
    averages = {name: data["average"][name][0]["average"] for name in UNITS}
    average = SessionAverages(**{name: None if one is None else float(one) for name, one in averages.items()})
    return SessionMetrics(**histograms, average=average)


def rearranged(value: Any, order: Callable[[list[Any]], list[Any]]) -> Any:
    """*value* with the fields of each of its objects in another order."""
    if isinstance(value, dict):
        return {name: rearranged(value[name], order) for name in order(list(value))}
    return [rearranged(item, order) for item in value] if isinstance(value, list) else value


def with_more(value: Any) -> Any:
    """*value* with a new field in each of its objects, after the others and before them."""
    if isinstance(value, dict):
        fields = {name: with_more(item) for name, item in value.items()}
        return {"new": [{"value": "é"}], **fields, "newer": None}
    return [with_more(item) for item in value] if isinstance(value, list) else value


def shuffled(seed: int) -> Callable[[Any], bytes]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    return lambda answer: compact(rearranged(answer, lambda names: chance.sample(names, len(names))))


FORMS: dict[str, Callable[[Any], bytes]] = {
    "as the server sends it": compact,
    "sorted keys": lambda answer: compact(rearranged(answer, sorted)),
    "reversed keys": lambda answer: compact(rearranged(answer, lambda names: names[::-1])),
    **{f"shuffled keys {seed}": shuffled(seed) for seed in range(10)},
    "spaces": lambda answer: json.dumps(answer).encode(),
    "lines": lambda answer: json.dumps(answer, indent="\t").encode() + b"\r\n",
    "new fields": lambda answer: compact(with_more(answer)),
    "new fields in UTF-8": lambda answer: json.dumps(with_more(answer), ensure_ascii=False).encode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.usefixtures("package")
def test_an_answer_of_the_server_is_read_in_any_form(form: Callable[[Any], bytes]) -> None:
    """The order of the keys, white space and new fields make no difference to the metrics."""
    assert 80 < len(RECORDED)
    for answer in RECORDED:
        found = protocol.decipher(200, {}, form(answer))
        assert by_hand(answer) == found
        assert repr(by_hand(answer)) == repr(found)


@needs_msgspec
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_answer_of_the_server_is_read_by_msgspec(form: Callable[[Any], bytes]) -> None:
    """None of the recorded answers needs the slower converter, in whatever form."""
    from helicone_sessions.messages.metrics_decoder import metrics_in

    assert [by_hand(answer) for answer in RECORDED] == [metrics_in(form(answer)) for answer in RECORDED]


@needs_msgspec
@given(answer=st.sampled_from(RECORDED), seed=st.integers(0, 2**32 - 1))
def test_keys_in_any_order_give_the_same_metrics(answer: Any, seed: int) -> None:
    """Any order of the keys at any level gives the same metrics, with msgspec and without it."""
    assert by_hand(answer) == same_both_ways(shuffled(seed)(answer))[0]


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own bytes
    "evolve": attrs.evolve,
    "to_dict": lambda value: metrics_from_json(json.dumps(value.to_dict())),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.usefixtures("package")
def test_the_metrics_of_an_answer_are_values(duplicate: Callable[[Any], Any]) -> None:
    """Metrics that were read are frozen, and can be copied, hashed, compared and pickled, as any others."""
    found = protocol.decipher(200, {}, compact(max(RECORDED, key=compact)))
    other = duplicate(found)

    assert found == other
    assert (hash(found), repr(found)) == (hash(other), repr(other))
    for part, name in [(found, "average"), (found.session_cost, "rows"), (found.session_cost[0], "value")]:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(part, name, None)


# Bodies as text, so that fields may be repeated and numbers written in any way


@attrs.frozen
class Written:
    """A token of JSON as it is written."""

    text: str


@attrs.define(eq=False)
class Thing:
    """A JSON object whose fields are in any order, and may come twice."""

    fields: list[tuple[str, Any]]


def written(value: Any, gap: Callable[[], str] = str) -> str:
    """*value* as JSON, with the text of *gap* around each token."""
    if isinstance(value, Thing):
        fields = (f"{gap()}{name}{gap()}:{written(item, gap)}" for name, item in value.fields)
        return f"{gap()}{{{','.join(fields)}{gap()}}}{gap()}"
    if isinstance(value, list):
        return f"{gap()}[{','.join(written(item, gap) for item in value)}{gap()}]{gap()}"
    return f"{gap()}{value.text}{gap()}"


def thing(**fields: Any) -> Thing:
    return Thing([(f'"{name}"', value) for name, value in fields.items()])


def as_thing(value: Any) -> Any:
    """Plain JSON values as what `written` takes."""
    if isinstance(value, dict):
        return thing(**{name: as_thing(item) for name, item in value.items()})
    return [as_thing(item) for item in value] if isinstance(value, list) else Written(json.dumps(value))


PLAIN = (  # noqa: SIM905 - as a list it fills a page
    "0 -0 -0.0 0.0 1e5 1E5 1e+5 1.5e-7 1e-07 1e22 1e99 1.5e99 9e307 1e308 5e-324 1e-400 0e5 -0e-5 1.0E+02"
    " 123456789012345 1234567890123456 9007199254740993 1.7976931348623157e308 1e400 -1e400"
).split()
LONG = ["0." + "1" * 40, "9" * 400, "1" + "0" * 30]
# Of these, some are numbers to float() only, and some are not numbers at all.
ODD = (  # noqa: SIM905 - likewise
    "1_0 +5 .5 5. 01 -01 00 --1 1e 1e+ nan NaN -nan inf -inf Infinity infinity null true x 0x10 1,5 1:5 n"
    r""" \u0031 1\n \"1\" \t1 1\u0030 1e1_0 '1' \ud800 \u006ean"""
).split()
ODDER = ["", " ", " 1 ", "1\x7f", "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}2"]
NO_JSON = ["NaN", "nan", "Infinity", "-Infinity", "01", "+5", ".5", "5.", "1_0", "-", "1e", '"\x01"']
NAMES = ["new", "data", "error", "average", "value", "range_start", "session_cost", "Value", "", "value "]
ESCAPED_NAMES = [r"v\u0061lue", r"\"value\"", r"\ud800"]

plain_numbers = (
    st.integers(0, 1000).map(str)
    | st.integers(-(2**70), 2**70).map(str)
    | st.floats(0, 1e9).map(repr)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,25})\.[0-9]{1,30}([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    | st.sampled_from([*PLAIN, *LONG])
)
numbers = plain_numbers.map(Written)
quoted = (plain_numbers | st.sampled_from([*ODD, *ODDER])).map(lambda text: Written(f'"{text}"'))
likely_numbers = numbers | plain_numbers.map(lambda text: Written(f'"{text}"')) | quoted
scalars = st.sampled_from(
    [Written(text) for text in ("null", "true", "false", '""', '"text"', '"é"', r'"\""', '"]"')]
)
anything: st.SearchStrategy[Any] = (
    scalars
    | likely_numbers
    | st.sampled_from(NO_JSON).map(Written)
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
    """Answers with such numbers."""
    one = averages.map(lambda value: [thing(average=value)])
    fields = {name: rows(ends, heights) for name in UNITS}
    together = st.fixed_dictionaries(dict.fromkeys(UNITS, one)).map(lambda found: thing(**found))
    data = st.fixed_dictionaries({**fields, "average": together}).map(lambda found: thing(**found))
    return data.map(lambda found: thing(data=found, error=Written("null")))


def places(value: Any) -> list[tuple[Any, int]]:
    """Every field and item in *value*, each as its container and its place there."""
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
    """Make one mistake, or take one liberty, somewhere in *answer*."""
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
    answer = draw(st.sampled_from(RECORDED).map(as_thing) | answers(likely_numbers, number, number))
    for _ in range(draw(st.integers(0, 3))):
        change(draw, answer)
    gaps = draw(st.sampled_from([[""], ["", "", "", " ", "\n", "\t\r\n"], ["", "", "\x0b", "\xa0"]]))
    # One draw for all the gaps: one for each would take longer than all the rest of a test.
    chance = random.Random(draw(st.integers(0, 2**32 - 1)))  # noqa: S311 - no secret
    body = written(answer, lambda: chance.choice(gaps)).encode()
    return draw(st.just(body) | st.builds(damage, st.just(body), st.randoms(use_true_random=False)))


def damage(body: bytes, random: Any) -> bytes:
    """*body* after a bad line."""
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


ROW = '{"range_start":"1","range_end":"2","value":3}'
COUNT, AVERAGE = f'"session_count":[{ROW}]', '"session_count":[{"average":1.5}]'


def answer_text(**changes: str) -> str:
    """An answer as the server writes it; each of *changes* replaces the part of that name."""
    pieces = {
        "count": COUNT,
        "duration": '"session_duration":[]',
        "cost": '"session_cost":[]',
        "cost_average": '"session_cost":[{"average":null}]',
        "duration_average": '"session_duration":[{"average":12}]',
        "count_average": AVERAGE,
        **changes,
    }
    data = ",".join(pieces[name] for name in ("count", "duration", "cost"))
    averages = ",".join(pieces[name] for name in ("cost_average", "duration_average", "count_average"))
    return f'{{"data":{{{data},"average":{{{averages}}}}},"error":null}}'


def counts(row: str) -> str:
    return answer_text(count=f'"session_count":[{row}]')


@needs_msgspec
@settings(max_examples=repeats(400), suppress_health_check=list(HealthCheck))
@given(body=bodies())
@example(body=counts(ROW.replace("}", ',"new":"\xff"}')).encode("latin-1"))
@example(body=counts(ROW.replace('"1"', '"nan"')).encode())
@example(body=counts(ROW.replace('"1"', '"1e308"').replace('"2"', '"1e308"')).encode())
@example(body=answer_text(count_average=AVERAGE.replace("1.5", '"null"')).encode())
def test_msgspec_changes_neither_values_nor_errors(body: bytes) -> None:
    """On every body, msgspec gives the metrics of the standard library and cattrs, or their error."""
    same_both_ways(body)


UNUSUAL = {
    "text for a height": counts(ROW.replace("3", '"3"')),
    "numbers for ends": counts(ROW.replace('"1"', "1").replace('"2"', "2.5")),
    "an end with an underscore": counts(ROW.replace('"1"', '"1_0"')),
    "an end with spaces": counts(ROW.replace('"1"', '" 1 "')),
    "an end with a plus": counts(ROW.replace('"1"', '"+5"')),
    "an end that is escaped": counts(ROW.replace('"1"', r'"\u0031"')),
    "an end in other digits": counts(ROW.replace('"1"', '"\N{ARABIC-INDIC DIGIT ONE}"')),
    "ends whose sum is beyond a float": counts(ROW.replace('"1"', '"1e308"').replace('"2"', '"1e308"')),
    "a repeated field": counts(ROW.replace('"value":3', '"value":3,"value":4')),
    "an unknown field": counts(ROW.replace("}", ',"new":null}')),
    "no averages": answer_text(count_average='"session_count":[]'),
    "an average that is null": answer_text(count_average='"session_count":null'),
    "an average as text": answer_text(count_average=AVERAGE.replace("1.5", '"1.5"')),
    "two averages": answer_text(count_average='"session_count":[{"average":1},{"average":2}]'),
    "an error beside it": answer_text().replace('"error":null', '"error":"Invalid filter"'),
    "no error": answer_text().replace(',"error":null', ""),
    "the error first": '{"error":null,' + answer_text().replace(',"error":null', "")[1:],
}


@needs_msgspec
@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_answer_is_read_the_same(text: str) -> None:
    """The liberties that the converter takes are taken with msgspec too."""
    assert isinstance(same_both_ways(text.encode())[0], SessionMetrics)


@needs_msgspec
@pytest.mark.parametrize(
    "word", ["nan", "NaN", "NAN", "inf", "-inf", "Infinity", "infinity", "null", "x", "", r"\u006ean"]
)
@pytest.mark.parametrize("place", ["end", "height", "average"])
def test_a_word_is_never_a_number(word: str, place: str) -> None:
    """Text that is not a finite number is an error that names its place, with msgspec and without it."""
    text = {
        "end": counts(ROW.replace('"1"', f'"{word}"')),
        "height": counts(ROW.replace("3", f'"{word}"')),
        "average": answer_text(count_average=AVERAGE.replace("1.5", f'"{word}"')),
    }[place]
    kind, message, path = same_both_ways(text.encode())

    assert UnexpectedResponse is kind
    assert "expected a number, got " in str(message)
    assert "session_count" in str(path)


@needs_msgspec
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
        answer_text().replace('"error":null', '"data":null').encode(),
        counts(",".join([ROW] * 50_000))[:-1].encode(),
        counts(ROW.replace("3", "1" * 100_000 + "x")).encode(),
    ],
    ids=range(18),
)
def test_a_body_that_is_no_answer_has_the_same_outcome(body: bytes) -> None:
    """Neither msgspec nor the standard library makes more of it than the other, or fails in another way."""
    same_both_ways(body)
