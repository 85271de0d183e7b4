"""How answers, grids and filters show themselves in notebooks and terminals."""

import datetime as dt
import io
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import (
    NONE,
    F,
    Histogram,
    HistogramRow,
    QueryFailed,
    SessionAverages,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.report import GridCell, MetricsGrid
from helicone_sessions.report.grid import grid_to_html, grid_to_terminal
from helicone_sessions.report.periods import periods_of
from helicone_sessions.testing import metrics

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
NO_QUANTITY = "there is no quantity 'cost'. Use one of requests_mean"
NASTY = "<script>alert('&amp;')</script>"


def parsed(fragment: str) -> ET.Element:
    """The fragment as a tree; it is well formed, and brings nothing from outside."""
    for outside in ("http:", "https:", "src=", "url(", "@import", "<script", "javascript:"):
        assert outside not in fragment.lower()
    return ET.fromstring(fragment)  # noqa: S314 - it is our own


def words(fragment: str) -> str:
    """All text of a fragment."""
    return " ".join(parsed(fragment).itertext())


def a_grid(days: int = 3, segments: Any = None) -> MetricsGrid:
    """A grid whose first cell failed."""
    query = SessionMetricsQuery(time_filter=TimeFilter(START, START + days * DAY))
    periods = periods_of(query, DAY, None)
    segments = segments or F.model.is_each(["gpt-4o", NASTY])
    cells = {
        (row, column): GridCell(name, period, query, metrics(cost=0.5 * row + column))
        for row, name in enumerate(segments)
        for column, period in enumerate(periods)
    }
    cells[0, 0] = attrs.evolve(cells[0, 0], metrics=None, error=QueryFailed(f"no {NASTY}", status=500))
    return MetricsGrid(query, dict(segments), periods, cells)


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
@settings(deadline=None)
def test_any_answer_is_shown(answer: SessionMetrics) -> None:
    """Whatever its bars; the fragment is well formed, and no number is missing or endless."""
    fragment = answer._repr_html_()
    text = words(fragment)

    assert "Requests per session" in text
    assert "nan" not in fragment
    assert "inf" not in fragment.replace("info", "")


def test_an_answer_shows_its_histograms_and_means() -> None:
    """With a bar for each row, its range as a tip, and the unit."""
    fragment = metrics(cost=0.25)._repr_html_()

    assert 3 == fragment.count("<rect")
    assert "mean of all: $0.25" in words(fragment)
    assert "$0.25 to $0.25: 4 sessions" in words(fragment)
    assert "no session" in words(SessionMetrics.empty()._repr_html_())


def test_a_grid_shows_a_table_and_what_failed() -> None:
    """Names and errors are text, whatever is in them."""
    fragment = a_grid()._repr_html_()
    text = words(fragment)

    assert (4, NASTY in text, "2026-11-02" in text) == (fragment.count("<tr>"), True, True)
    assert 1 == text.count("failed")
    assert ["QueryFailed: no " + NASTY] == [
        cell.get("title", "")[: 16 + len(NASTY)] for cell in parsed(fragment).iter("td") if cell.get("title")
    ]


def test_a_long_grid_says_what_it_leaves_out() -> None:
    """A notebook is not filled with ten thousand lines."""
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
    """Also one that cannot be sent."""
    assert expected in words(shown_filter._repr_html_()).lower() or expected in words(
        shown_filter._repr_html_()
    )


def test_a_notebook_needs_no_extra() -> None:
    """To show an answer neither matplotlib nor rich nor aiohttp is loaded."""
    program = (
        "import sys\nfrom helicone_sessions import SessionMetrics, F\n"
        "SessionMetrics.empty()._repr_html_(), (F.cost > 1)._repr_html_()\n"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'rich', 'aiohttp')))"
    )
    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_shows_blocks_that_fit_its_width(width: int) -> None:
    """No line is longer than the terminal is wide."""
    rich = pytest.importorskip("rich.console", reason="the extra `cli` is not installed")
    console = rich.Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(metrics(cost=0.25, sessions=12))
    console.print(a_grid(segments=F.model.is_each(["gpt-4o", "o3"])))
    lines = console.file.getvalue().splitlines()

    assert max(map(len, lines)) <= width
    assert any("█" in line for line in lines)
    assert any("failed" in line for line in lines)


def printed(*shown: object) -> str:
    """What a wide terminal shows of it, with a space for each gap."""
    rich = pytest.importorskip("rich.console", reason="the extra `cli` is not installed")
    console = rich.Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(*shown)
    return " ".join(console.file.getvalue().split())


@pytest.mark.parametrize("name", ["[/x]", "[b] gpt", "[red]o3", ":smile:", r"\[b]"])
def test_a_terminal_shows_names_as_they_are(name: str) -> None:
    """Nothing in a segment, a label or a title is markup or the name of a picture."""
    pytest.importorskip("rich", reason="the extra `cli` is not installed")
    from helicone_sessions.display.numbers import Panel
    from helicone_sessions.display.terminal import NumberTable, histogram

    shown = printed(NumberTable(f"title {name}", [name], [(f"label {name}", [f"figure {name}"])]))

    assert f"title {name} {name} " in shown
    assert f"label {name} figure {name}" in shown
    assert f"mean {name} " in printed(a_grid(segments={name: F.cached}))
    assert f"drawn {name} " in printed(histogram(Panel(f"drawn {name}", "dollars", [], None)))


def test_an_unknown_quantity_is_an_error_that_lists_the_known_ones() -> None:
    """In a cell with or without metrics, in HTML and on a terminal."""
    pytest.importorskip("rich", reason="the extra `cli` is not installed")
    grid: Any = a_grid()
    for show in (grid["gpt-4o", 0].quantity, grid["gpt-4o", 1].quantity):
        with pytest.raises(ValueError, match=NO_QUANTITY):
            show("cost")
    for show in (grid_to_html, grid_to_terminal):
        with pytest.raises(ValueError, match=NO_QUANTITY):
            show(grid, "cost")


def test_large_grids_and_comparisons_have_short_reprs() -> None:
    """Printing 500 segments in 60 periods shows one line, and a notebook a shortened table."""
    grid = a_grid(days=60, segments={str(number): F.cost > number for number in range(500)})
    comparison = grid.compare(grid)

    assert 200 > max(len(repr(grid)), len(repr(comparison)), len(repr(grid["7", 3])))
    assert "1 failed" in repr(grid)
    assert "460 more segments are not shown" in words(grid._repr_html_())
    assert "29,800 more pairs are not shown" in words(comparison._repr_html_())


def test_a_comparison_shows_before_after_and_ratio() -> None:
    """In a notebook and on a terminal; a missing value has a dash."""
    earlier, later = (a_grid(segments={NASTY: F.cached, "o3": F.threat}) for _ in range(2))
    shown_as_html = words(later.compare(earlier)._repr_html_())
    shown_on_a_terminal = printed(later.compare(earlier))

    for text in ("before", "after", "ratio", "o3, 2026-11-02", "$1.50", "1.00", NASTY, " - "):
        assert text in shown_as_html
        assert text in shown_on_a_terminal


def test_a_cell_shows_its_metrics_or_its_error() -> None:
    """Under the name of its segment and its period."""
    grid = a_grid()

    assert f"no {NASTY}" in words(grid["gpt-4o", 0]._repr_html_())
    assert "Requests per session" in words(grid[NASTY, 1]._repr_html_())
    assert NASTY in words(grid[NASTY, 1]._repr_html_())
