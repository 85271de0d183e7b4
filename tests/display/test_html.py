"""HTML in notebooks: answers, grids, comparisons and filters."""

import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import NONE, F, Histogram, HistogramRow, SessionAverages, SessionMetrics
from helicone_sessions.testing import metrics
from tests.display.support import NASTY, a_grid, parsed, words

numbers = st.floats(0, 1e9) | st.sampled_from([0.0, 5e-324, 1e-9, 1e300])
# Each bar begins where the one before it ends.
bars = st.lists(st.tuples(numbers, numbers), max_size=10).map(
    lambda pairs: [
        HistogramRow(*ends, value)
        for ends, (_, value) in zip(pairwise([0.0, *sorted(end for end, _ in pairs)]), pairs, strict=True)
    ]
)
shown = st.builds(
    SessionMetrics,
    *[
        bars.map(lambda rows, unit=unit: Histogram(tuple(rows), unit=unit))
        for unit in ("requests", "seconds", "dollars")
    ],  # type: ignore[misc]
    st.builds(SessionAverages, *[st.none() | numbers] * 3),
)


@given(shown)
def test_any_answer_is_shown(answer: SessionMetrics) -> None:
    """For any bars, the fragment is well formed and has no NaN and no infinity."""
    fragment = answer._repr_html_()
    text = words(fragment)

    assert "Requests per session" in text
    assert "nan" not in fragment
    assert "inf" not in fragment.replace("info", "")


def test_an_answer_shows_its_histograms_and_means() -> None:
    """An answer has a bar for each range, between the range and its number of sessions."""
    fragment = metrics(cost=0.25)._repr_html_()

    assert 3 == fragment.count("<tr")
    assert "mean of all: $0.25" in words(fragment)
    assert "$0.25 4" in words(fragment)
    assert "no session" in words(SessionMetrics.empty()._repr_html_())


def test_a_grid_shows_a_table_and_what_failed() -> None:
    """Names and errors are shown as text, even if they hold markup."""
    fragment = a_grid()._repr_html_()
    text = words(fragment)

    assert (4, NASTY in text, "2026-11-02" in text) == (fragment.count("<tr>"), True, True)
    assert 1 == text.count("failed")
    assert ["QueryFailed: no " + NASTY] == [
        cell.get("title", "")[: 16 + len(NASTY)] for cell in parsed(fragment).iter("td") if cell.get("title")
    ]


def test_a_long_grid_says_what_it_leaves_out() -> None:
    """A notebook shows 200 periods and the number of the others."""
    fragment = a_grid(days=1000)._repr_html_()

    assert 201 == fragment.count("<tr>")
    assert "800 more periods are not shown" in words(fragment)


@pytest.mark.parametrize(
    ("expected", "shown_filter"),
    [
        ("cost gt 0.1 dollars", F.cost > 0.1),
        (f'user_id equals "{NASTY}"', F.user_id == NASTY),
        ("reads it differently", F.total_tokens > 1),
        ("nothing", NONE),
        ("no condition in the api", ~(F.model.startswith("a"))),
    ],
)
def test_a_filter_shows_its_tree_its_json_and_its_cautions(expected: str, shown_filter: Any) -> None:
    """A filter shows its conditions and cautions, even if it cannot be sent."""
    assert expected in words(shown_filter._repr_html_()).lower() or expected in words(
        shown_filter._repr_html_()
    )


@pytest.mark.skipif(sys.platform == "emscripten", reason="there are no processes here")
@pytest.mark.skipif(sys.platform == "emscripten", reason="there are no processes here")
def test_a_notebook_needs_no_extra() -> None:
    """HTML of an answer loads neither matplotlib nor rich nor aiohttp."""
    program = (
        "import sys\nfrom helicone_sessions import SessionMetrics, F\n"
        "SessionMetrics.empty()._repr_html_(), (F.cost > 1)._repr_html_()\n"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'rich', 'aiohttp')))"
    )
    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_a_cell_shows_its_metrics_or_its_error() -> None:
    """A cell shows its metrics, or its error, under the name of its segment."""
    grid = a_grid()

    assert f"no {NASTY}" in words(grid["gpt-4o", 0]._repr_html_())
    assert "Requests per session" in words(grid[NASTY, 1]._repr_html_())
    assert NASTY in words(grid[NASTY, 1]._repr_html_())
