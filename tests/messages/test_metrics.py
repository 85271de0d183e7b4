import copy
import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import Histogram, HistogramRow, SessionAverages, SessionMetrics
from helicone_sessions.messages.converter import converter

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


@pytest.mark.parametrize(
    ("expected", "q"),
    [(1.0, 0), (1.0, 0.0), (1.5, 0.375), (2.0, 0.75), (3.0, 0.875), (3.5, 0.9375), (4.0, 1), (4.0, 1.0)],
)
def test_a_quantile_lies_where_the_share_of_sessions_is_reached(expected: float, q: float) -> None:
    """Six of eight sessions lie between 1 and 2, and two between 2 and 4, spread evenly."""
    assert expected == REQUESTS.quantile(q)


@pytest.mark.parametrize("q", [0, 0.5, 1])
def test_an_empty_histogram_has_no_quantile(q: float) -> None:
    """Of no sessions there is no quantile, at any share."""
    assert None is EMPTY.quantile(q)


@pytest.mark.parametrize("q", [-0.01, 1.01, 50, 95, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("histogram", [REQUESTS, EMPTY], ids=["bars", "empty"])
def test_a_share_lies_within_0_and_1(q: float, histogram: Histogram) -> None:
    """A percentage in the place of a share is refused, of an empty histogram too."""
    with pytest.raises(ValueError, match="q must be a number from 0 to 1, got"):
        histogram.quantile(q)


@pytest.mark.parametrize(("expected", "q"), [(1.0, 0), (1.0, 0.5), (1.0, 1)])
def test_bars_without_height_have_quantiles_at_their_start(expected: float, q: float) -> None:
    """A histogram of bars without sessions does not divide by zero."""
    flat = Histogram((HistogramRow(1.0, 2.0, 0.0), HistogramRow(2.0, 3.0, 0.0)), unit="requests")

    assert expected == flat.quantile(q)


def test_the_whole_share_lies_at_the_end_whatever_the_rounding() -> None:
    """Heights that do not add up exactly in floats still have their last quantile at the last end."""
    bars = tuple(HistogramRow(place, place + 1.0, 0.1) for place in range(3))

    assert 3.0 == Histogram(bars, unit="requests").quantile(1)


@pytest.mark.parametrize(("expected", "q"), [(0.0, 0), (1.0, 0.5), (10.0, 0.75), (11.0, 1)])
def test_a_gap_between_bars_is_jumped(expected: float, q: float) -> None:
    """No session lies in a gap: the half lies at the end of the bar before it, and more in the next bar."""
    gap = Histogram(
        (HistogramRow(0.0, 1.0, 2.0), HistogramRow(10.0, 10.0, 1.0), HistogramRow(10.0, 11.0, 1.0)),
        unit="requests",
    )

    assert expected == gap.quantile(q)


@settings(deadline=None, max_examples=50)
@given(
    widths=st.lists(
        st.tuples(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1e3)), min_size=1, max_size=10
    ),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=5).map(sorted),
)
def test_quantiles_rise_and_stay_inside(
    widths: list[tuple[float, float, float]], shares: list[float]
) -> None:
    """A larger share never lies lower, and none lies outside the bars."""
    bars, end = [], 0.0
    for gap, width, value in widths:
        bars.append(HistogramRow(end + gap, end + gap + width, value))
        end = bars[-1].range_end
    found = [Histogram(tuple(bars), unit="seconds").quantile(q) for q in shares]

    assert all(value is not None and bars[0].range_start <= value <= end + 1e-9 for value in found)
    assert all(low <= high + 1e-9 for low, high in itertools.pairwise(found))  # type: ignore[operator]


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


@settings(deadline=None, max_examples=50)
@given(answer=answers)
def test_metrics_come_back_from_their_json(answer: SessionMetrics) -> None:
    """What the server's side writes, the client's side reads as the same metrics."""
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
        pytest.skip("the OpenAPI text does not lie beside the repository")
    import jsonschema
    import yaml

    components = yaml.safe_load(SPEC.read_text())["components"]
    return jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/SessionMetrics", "components": components}
    )


@settings(deadline=None, max_examples=50)
@given(answer=answers)
def test_written_metrics_keep_the_contract(contract: Any, answer: SessionMetrics) -> None:
    """Metrics with averages are what the OpenAPI text describes."""
    plain = attrs.evolve(answer, average=SessionAverages(1.0, 2.0, 3.0))

    assert [] == list(contract.iter_errors(converter.unstructure(plain)))
