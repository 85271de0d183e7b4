import copy
import json
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import Histogram, HistogramRow, SessionAverages, SessionMetrics
from helicone_sessions.messages.converter import converter, metrics_from_json
from helicone_sessions.messages.metrics import Cut, with_cut
from tests.repeats import repeats

SPEC = Path(__file__).parents[2].parent / "shared" / "openapi.yaml"
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own bytes
}

LOW, HIGH = HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)
REQUESTS = Histogram((LOW, HIGH), unit="requests")
EMPTY = Histogram((), unit="dollars")
METRICS = SessionMetrics(
    session_count=REQUESTS,
    session_duration=Histogram((HistogramRow(0.0, 7.5, 8.0),), unit="seconds"),
    session_cost=EMPTY,
    average=SessionAverages(session_count=1.75, session_duration=3.0, session_cost=None),
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.builds(HistogramRow, numbers, numbers, numbers)
answers = st.builds(
    SessionMetrics,
    session_count=st.builds(Histogram, st.lists(rows, max_size=4).map(tuple), unit=st.just("requests")),
    session_duration=st.builds(Histogram, st.lists(rows, max_size=4).map(tuple), unit=st.just("seconds")),
    session_cost=st.builds(Histogram, st.lists(rows, max_size=4).map(tuple), unit=st.just("dollars")),
    average=st.builds(
        SessionAverages,
        session_count=st.none() | numbers,
        session_duration=st.none() | numbers,
        session_cost=st.none() | numbers,
    ),
)


# A histogram as a sequence


def test_a_histogram_is_a_sequence_of_its_bars() -> None:
    """All that a sequence can do, a histogram can."""
    assert isinstance(REQUESTS, Sequence)
    assert [LOW, HIGH] == list(REQUESTS)
    assert [HIGH, LOW] == list(reversed(REQUESTS))
    assert (2, LOW, HIGH, HIGH) == (len(REQUESTS), REQUESTS[0], REQUESTS[1], REQUESTS[-1])
    assert (HIGH,) == REQUESTS[1:]
    assert LOW in REQUESTS
    assert (1, 1) == (REQUESTS.index(HIGH), REQUESTS.count(LOW))


@pytest.mark.parametrize("index", [2, -3])
def test_a_bar_that_is_not_there_is_an_index_error(index: int) -> None:
    """A place beyond the ends is refused, as in any sequence."""
    with pytest.raises(IndexError):
        REQUESTS[index]


@pytest.mark.parametrize(("expected", "histogram"), [(True, REQUESTS), (False, EMPTY)])
def test_an_empty_histogram_is_false(expected: object, histogram: Histogram) -> None:
    """`if metrics.session_cost:` asks whether there are bars."""
    assert expected is bool(histogram)


@pytest.mark.parametrize(
    ("expected", "values"), [(0, []), (6, [6]), (8, [6, 2]), (7.5, [3.25, 4.25]), (0, [0, 0])]
)
def test_total_is_the_sum_of_the_heights(expected: float, values: list[float]) -> None:
    """The total is how many sessions are drawn."""
    bars = tuple(HistogramRow(place, place + 1.0, value) for place, value in enumerate(values))

    assert expected == Histogram(bars, unit="requests").total


# Quantiles

LEVELS = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


def cut_at(level: Any, *, both_ends: bool = False) -> Histogram:
    return attrs.evolve(REQUESTS, cut=Cut(level, both_ends))


@pytest.mark.parametrize("level", LEVELS)
def test_the_quantile_at_the_cut_is_the_end_of_the_last_bar(level: str) -> None:
    """Of all sessions, the largest one that is drawn is at or below the quantile of the cut."""
    assert 4.0 == cut_at(level).quantile(LEVELS[level])


def test_a_histogram_that_is_cut_at_both_ends_knows_two_quantiles() -> None:
    """The mirror of the cut is the smallest session that is drawn."""
    assert 1.0 == cut_at("p95", both_ends=True).quantile(0.05)
    assert 4.0 == cut_at("p95", both_ends=True).quantile(0.95)


@pytest.mark.parametrize(
    ("q", "remedy"),
    [
        (0.5, 'Request p_size="p50"'),
        (0.99, 'Request p_size="p99"'),
        (0.05, "0.5, 0.75, 0.95, 0.99, 0.999"),
        (0, "exact at"),
    ],
)
def test_any_other_quantile_is_an_error_that_names_the_p_size(q: float, remedy: str) -> None:
    """A bar can hold most of all sessions, so a quantile inside the histogram would be a guess."""
    with pytest.raises(ValueError, match=re.escape(remedy)):
        cut_at("p95").quantile(q)


def test_without_a_known_cut_there_are_no_quantiles() -> None:
    """A histogram that was made by hand does not say of which sessions it is."""
    for ask in (REQUESTS.quantile, REQUESTS.quantile_bounds):
        with pytest.raises(ValueError, match="cut of the histogram is unknown"):
            ask(0.95)


@pytest.mark.parametrize("q", [0, 0.5, 1])
def test_an_empty_histogram_has_no_quantile(q: float) -> None:
    """Of no sessions there is no quantile, at any share."""
    assert None is EMPTY.quantile(q)
    assert None is EMPTY.quantile_bounds(q)


@pytest.mark.parametrize("q", [-0.01, 1.01, 50, 95, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("histogram", [REQUESTS, EMPTY], ids=["bars", "empty"])
def test_a_share_lies_within_0_and_1(q: float, histogram: Histogram) -> None:
    """A percentage in the place of a share is refused, of an empty histogram too."""
    for ask in (histogram.quantile, histogram.quantile_bounds):
        with pytest.raises(ValueError, match="q must be from 0 to 1, got"):
            ask(q)


@pytest.mark.parametrize("q", [[0.5, 0.9], "0.5", None, True])
def test_a_share_is_a_number(q: Any) -> None:
    """Several shares, text and booleans are refused."""
    with pytest.raises(TypeError, match="q must be a number from 0 to 1, got"):
        REQUESTS.quantile(q)


@pytest.mark.parametrize(
    ("bounds", "q"), [((1.0, 2.0), 0), ((1.0, 2.0), 0.71), ((2.0, 4.0), 0.72), ((2.0, 4.0), 0.95)]
)
def test_the_bounds_are_the_bar_that_holds_the_share_of_all_sessions(bounds: Any, q: float) -> None:
    """Six of the eight drawn sessions are in the first bar; those drawn are 95 % of all."""
    assert bounds == cut_at("p95").quantile_bounds(q)


@pytest.mark.parametrize(("q", "both_ends"), [(0.951, False), (1, False), (0.04, True)])
def test_there_are_no_bounds_beyond_the_cut(q: float, both_ends: bool) -> None:
    """The sessions there are not drawn."""
    with pytest.raises(ValueError, match="cut at p95"):
        cut_at("p95", both_ends=both_ends).quantile_bounds(q)


def test_the_cut_survives_json() -> None:
    """Metrics that were written as JSON still know their quantiles."""
    cut = with_cut(METRICS, Cut("p99"))
    back = metrics_from_json(json.dumps(cut.to_dict()))

    assert cut == back == METRICS
    assert 4.0 == back.session_count.quantile(0.99)


# Values


def test_the_empty_metrics_are_empty() -> None:
    """The metrics of no session have no bars and no averages, and know their units."""
    empty = SessionMetrics.empty()

    assert ((), (), ()) == (empty.session_count.rows, empty.session_duration.rows, empty.session_cost.rows)
    assert ["requests", "seconds", "dollars"] == [
        empty.session_count.unit,
        empty.session_duration.unit,
        empty.session_cost.unit,
    ]
    assert SessionAverages(None, None, None) == empty.average


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "value", [LOW, REQUESTS, EMPTY, METRICS, METRICS.average, SessionMetrics.empty()], ids=repr
)
def test_answers_are_values(value: Any, duplicate: Any) -> None:
    """A copied or unpickled answer, or a part of one, is equal to the first and hashes like it."""
    other = duplicate(value)

    assert value == other
    assert hash(value) == hash(other)
    assert repr(value) == repr(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LOW, HIGH),
        (LOW, attrs.evolve(LOW, value=5.0)),
        (REQUESTS, Histogram((LOW, HIGH), unit="seconds")),
        (REQUESTS, Histogram((HIGH, LOW), unit="requests")),
        (REQUESTS, (LOW, HIGH)),
        (METRICS, attrs.evolve(METRICS, average=SessionAverages(None, None, None))),
        (METRICS, attrs.evolve(METRICS, session_cost=REQUESTS)),
        (SessionAverages(0.0, None, None), SessionAverages(None, None, None)),
    ],
)
def test_answers_differ_in_any_part(one: object, other: object) -> None:
    """Answers are equal only if all their parts are."""
    assert one != other


@pytest.mark.parametrize(
    ("value", "name"),
    [(LOW, "value"), (REQUESTS, "rows"), (METRICS, "average"), (METRICS.average, "session_cost")],
)
def test_an_answer_cannot_be_changed(value: object, name: str) -> None:
    """Answers and their parts are frozen."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, None)


# JSON


@settings(max_examples=repeats(50))
@given(answer=answers)
def test_metrics_come_back_from_their_json(answer: SessionMetrics) -> None:
    """The client reads the metrics that the server writes as equal metrics."""
    assert answer == converter.structure(converter.unstructure(answer), SessionMetrics)


def test_metrics_are_written_as_the_service_writes_them() -> None:
    """Ends of bars are text in JavaScript's form, averages lists of one; an average of nothing is empty."""
    assert {
        "session_count": [
            {"range_start": "1", "range_end": "2", "value": 6.0},
            {"range_start": "2", "range_end": "4", "value": 2.0},
        ],
        "session_duration": [{"range_start": "0", "range_end": "7.5", "value": 8.0}],
        "session_cost": [],
        "average": {
            "session_count": [{"average": 1.75}],
            "session_duration": [{"average": 3.0}],
            "session_cost": [],
        },
    } == converter.unstructure(METRICS)


@pytest.fixture(scope="module")
def contract() -> Any:
    """The contract of the data of an answer."""
    if not SPEC.exists():
        pytest.skip("the OpenAPI text is not beside the repository")
    import jsonschema
    import yaml

    components = yaml.safe_load(SPEC.read_text())["components"]
    return jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/SessionMetrics", "components": components}
    )


@settings(max_examples=repeats(50))
@given(answer=answers)
def test_written_metrics_keep_the_contract(contract: Any, answer: SessionMetrics) -> None:
    """Metrics with averages are what the OpenAPI text describes."""
    plain = attrs.evolve(answer, average=SessionAverages(1.0, 2.0, 3.0))

    assert [] == list(contract.iter_errors(converter.unstructure(plain)))
