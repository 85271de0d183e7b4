"""Answers as rows, and rows as CSV, JSON and frames."""

import csv
import io
import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import Histogram, HistogramRow, MissingExtra, SessionAverages, SessionMetrics
from helicone_sessions.messages.converter import metrics_from_json

METRICS = SessionMetrics(
    Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 1.5)), unit="requests"),
    Histogram((HistogramRow(0.0, 600.0, 7.5),), unit="seconds"),
    Histogram((), unit="dollars"),
    SessionAverages(1.75, 300.5, None),
)
JSON = json.dumps(METRICS.to_dict())
COLUMNS = ["metric", "unit", "average", "range_start", "range_end", "sessions"]

numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


def histograms(unit: str) -> st.SearchStrategy[Histogram]:
    """Histograms of any bars."""
    rows = st.lists(st.builds(HistogramRow, numbers, numbers, numbers), max_size=4)
    return rows.map(lambda bars: Histogram(tuple(bars), unit=unit))


averages = st.builds(SessionAverages, *[st.none() | numbers] * 3)
answers = st.builds(
    SessionMetrics, histograms("requests"), histograms("seconds"), histograms("dollars"), averages
)


def test_each_bar_is_a_row() -> None:
    """A histogram without bars has one row for its average."""
    assert [
        ("session_count", "requests", 1.75, 1.0, 2.0, 6.0),
        ("session_count", "requests", 1.75, 2.0, 4.0, 1.5),
        ("session_duration", "seconds", 300.5, 0.0, 600.0, 7.5),
        ("session_cost", "dollars", None, None, None, None),
    ] == [tuple(row.values()) for row in METRICS.to_rows()]


@given(answers)
def test_every_row_has_the_documented_columns(metrics: SessionMetrics) -> None:
    """The columns are fixed, and each is described."""
    assert {tuple(COLUMNS)} == {tuple(row) for row in metrics.to_rows()}
    assert COLUMNS == [name for name, about in SessionMetrics.columns.items() if about]


@given(answers)
def test_json_is_read_back(metrics: SessionMetrics) -> None:
    """The JSON of to_dict() is read back exactly, from text and from bytes."""
    text = json.dumps(metrics.to_dict())

    assert metrics == metrics_from_json(text)
    assert metrics == metrics_from_json(text.encode())


def test_each_part_of_metrics_has_plain_values() -> None:
    """Metrics, histograms, bars and averages become dicts, lists, strings and numbers."""
    row = {"range_start": 1.0, "range_end": 2.0, "value": 6.0}
    averages = {"session_count": 1.75, "session_duration": 300.5, "session_cost": None}

    assert row == METRICS.session_count[0].to_dict()
    assert row == METRICS.session_count.to_dict()["rows"][0]
    assert averages == METRICS.average.to_dict()
    assert {"rows": [], "unit": "dollars"} == METRICS.to_dict()["session_cost"]
    assert averages == METRICS.to_dict()["average"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("not JSON", ""),
        ("not JSON", "[1"),
        ("not JSON", "[" * 100_000),
        ("not JSON", b"\xff"),
        (r"to_dict\(\): .* at \$", "[1]"),
        (r"to_dict\(\): .* at \$", "null"),
        (r"the field 'session_count' is missing at \$", "{}"),
        (
            r"a number, got 'many' at \$\.session_count\.rows\[0\]\.value",
            json.dumps(METRICS.to_dict()).replace("6.0", '"many"'),
        ),
        (r"a number, got nan", json.dumps(METRICS.to_dict()).replace("6.0", "NaN")),
    ],
)
def test_other_json_is_refused(message: str, text: str | bytes) -> None:
    """The error names the mistake and its place."""
    with pytest.raises(ValueError, match=message):
        metrics_from_json(text)


def test_csv_has_a_head_and_empty_fields() -> None:
    """A spreadsheet reads it."""
    rows = list(csv.DictReader(io.StringIO(METRICS.to_csv())))

    assert COLUMNS == list(rows[0])
    assert ["6.0", "1.5", "7.5", ""] == [row["sessions"] for row in rows]


def test_a_pandas_frame_has_the_rows() -> None:
    """Numbers are numbers, and missing values are missing."""
    pytest.importorskip("pandas", reason="the extra `frames` is not installed")
    frame = METRICS.to_pandas()

    assert COLUMNS == list(frame.columns)
    assert 15.0 == frame["sessions"].sum()
    assert math.isnan(frame["average"].iloc[-1])


def test_a_polars_frame_has_the_rows() -> None:
    """Numbers are numbers, and missing values are null."""
    pytest.importorskip("polars", reason="the extra `frames` is not installed")
    frame = METRICS.to_polars()

    assert COLUMNS == frame.columns
    assert METRICS.to_rows() == frame.to_dicts()


@pytest.mark.parametrize(("method", "package"), [("to_pandas", "pandas"), ("to_polars", "polars")])
def test_a_frame_without_its_library_names_the_extra(
    method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the package to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"'{package}'.*helicone-sessions\[frames\]"):
        getattr(METRICS, method)()


# Histogram
