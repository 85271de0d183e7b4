"""Pictures: what is on them, that nothing is cut or covered, and that they look as they did."""

import datetime as dt
import math
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import pytest

from helicone_sessions import (
    F,
    Histogram,
    HistogramRow,
    MissingExtra,
    QueryFailed,
    SessionAverages,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.messages.metrics import Cut, with_cut
from helicone_sessions.report import GridCell, MetricsGrid, plot_comparison, plot_grid, plot_metrics
from helicone_sessions.report.periods import periods_of
from helicone_sessions.testing import metrics

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")

import matplotlib as mpl
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

REFERENCES = Path(__file__).parent / "references"
# Of 255 steps of grey, the root of the mean square.
TOLERANCE = 12.0
START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
QUERY = SessionMetricsQuery(time_filter=TimeFilter(START, START + 14 * DAY), p_size="p95")
MODELS = F.model.is_each(["gpt-4o", "claude-sonnet-4", "o3"])
FALLING = SessionMetrics(
    Histogram(tuple(HistogramRow(float(n), n + 1.5, 60.0 / n) for n in range(1, 9)), unit="requests"),
    Histogram((HistogramRow(0.0, 0.0, 30.0), HistogramRow(5.0, 80.0, 60.0)), unit="seconds"),
    Histogram((HistogramRow(0.0001, 0.002, 50.0), HistogramRow(0.002, 0.01, 7.5)), unit="dollars"),
    SessionAverages(3.4, 210.0, 1.25),
)


def a_grid(segments: Any = MODELS, days: int = 14, costs: float = 1.0) -> MetricsGrid:
    """A grid with a failed cell and one without sessions."""
    query = attrs.evolve(QUERY, time_filter=TimeFilter(START, START + days * DAY))
    periods = periods_of(query, DAY, "UTC")
    cells = {}
    for row, name in enumerate(segments):
        for column, period in enumerate(periods):
            cost = costs * 0.1 * (row + 1) ** 2 * (1 + column % 5)
            found = metrics(cost=cost, duration=60.0 * (row + column))
            cells[row, column] = GridCell(name, period, query, found)
    if days > 5:
        failed = QueryFailed("too many queries", status=500)
        cells[0, 3] = attrs.evolve(cells[0, 3], metrics=None, error=failed)
        cells[0, 5] = attrs.evolve(cells[0, 5], metrics=SessionMetrics.empty())
    return MetricsGrid(query, dict(segments), periods, cells)


LONG = {
    f"{name}-with-a-name-that-goes-on-and-on-{number}": F.cached for number in range(9) for name in ("model",)
}
PICTURES: dict[str, Callable[[], Any]] = {
    "metrics": lambda: plot_metrics(FALLING, query=QUERY, title="Sessions of two weeks")[0],
    "metrics_of_one_session": lambda: plot_metrics(metrics(cost=0.0, sessions=1.0))[0],
    "metrics_of_nothing": lambda: plot_metrics(SessionMetrics.empty())[0],
    "lines": lambda: plot_grid(a_grid()),
    "lines_of_one_segment": lambda: plot_grid(a_grid({"all": F.cached}, days=6), "seconds_cut"),
    "lines_of_long_names": lambda: plot_grid(a_grid(LONG, days=60), "requests_mean"),
    "heatmap": lambda: plot_grid(a_grid(), "dollars_mean", "heatmap"),
    "comparison": lambda: plot_comparison(a_grid().compare(a_grid(costs=1.5))),
    "comparison_of_one_period": lambda: plot_comparison(a_grid(LONG, 1).compare(a_grid(LONG, 1, 2.0))),
    "bars": lambda: plot_grid(a_grid(LONG, 1)),
    "lines_that_differ_much": lambda: plot_grid(a_grid(LONG), log=True),
    "heatmap_of_long_names": lambda: plot_grid(a_grid(LONG, days=60), "seconds_mean", "heatmap"),
}


@pytest.fixture(params=PICTURES)
def figure(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each picture, by its name."""
    drawn = PICTURES[request.param]().figure
    drawn.set_label(request.param)
    return drawn


def test_it_looks_as_it_did(figure: Any, tmp_path: Path) -> None:
    """A picture equals its reference, with a small tolerance.

    With HELICONE_SESSIONS_NEW_REFERENCES set, the references are rewritten: look at them.
    """
    reference = REFERENCES / f"{figure.get_label()}.png"
    made_with = REFERENCES / "MATPLOTLIB"
    if os.environ.get("HELICONE_SESSIONS_NEW_REFERENCES"):
        figure.savefig(reference)
        made_with.write_text(mpl.__version__ + "\n", encoding="utf-8")
    release = made_with.read_text(encoding="utf-8").split(".")[:2]
    if release != mpl.__version__.split(".")[:2]:
        pytest.skip(
            f"letters look otherwise than in matplotlib {'.'.join(release)}, with which they were made"
        )
    now = tmp_path / "now.png"
    figure.savefig(now)

    assert None is compare_images(str(reference), str(now), TOLERANCE)


def test_no_text_is_cut_or_covered(figure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text is inside the picture, and overlaps no other text."""
    drawn: list[Text] = []
    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, renderer: (drawn.append(text), draw(text, renderer))[1])
    figure.canvas.draw()
    texts = dict.fromkeys(text for text in drawn if text.get_visible() and text.get_text().strip())
    boxes = [(text.get_text(), _corners(text)) for text in texts]

    assert len(boxes) > 3
    left, bottom, right, top = figure.bbox.extents
    for name, corners in boxes:
        assert all(left - 1 <= x <= right + 1 and bottom - 1 <= y <= top + 1 for x, y in corners), name
    for (one, first), (other, second) in combinations(boxes, 2):
        assert _is_apart(first, second), (one, other)


def _corners(text: Text) -> list[tuple[float, float]]:
    """The corners of a text in the picture, even if it is turned."""
    # Without the line that leads from a label to its place.
    around = Text.get_window_extent(text)
    turn = text.get_rotation()
    text.set_rotation(0)
    straight = Text.get_window_extent(text)
    text.set_rotation(turn)
    x, y = (around.x0 + around.x1) / 2, (around.y0 + around.y1) / 2
    along, across = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    sides = [(straight.width / 2 * i, straight.height / 2 * j) for i in (-1, 1) for j in (-1, 1)]
    return [(x + dx * along - dy * across, y + dx * across + dy * along) for dx, dy in sides]


def _is_apart(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> bool:
    """Whether a straight line goes between two boxes, however they are turned."""
    for corners in (first, second):
        for (x0, y0), (x1, y1) in combinations(corners, 2):
            across = (y1 - y0, x0 - x1)
            low, high = _shadow(first, across), _shadow(second, across)
            if low[1] <= high[0] + 0.5 or high[1] <= low[0] + 0.5:
                return True
    return False


def _shadow(corners: list[tuple[float, float]], along: tuple[float, float]) -> tuple[float, float]:
    length = (along[0] ** 2 + along[1] ** 2) ** 0.5 or 1.0
    places = [(x * along[0] + y * along[1]) / length for x, y in corners]
    return min(places), max(places)


def words_on(axes: Any) -> list[str]:
    """All texts of the picture that the axes are in."""
    return [text.get_text() for text in axes.figure.findobj(Text)]


def test_a_bar_is_as_long_as_its_sessions() -> None:
    """Each bar has the number of its sessions at its end, and its range beside it."""
    _, _, costs = plot_metrics(FALLING)

    assert [50.0, 7.5] == [patch.get_width() for patch in costs.patches]
    assert ["50", "8"] == [text.get_text() for text in costs.texts]
    assert [r"\$0.0001 to \$0.0020", r"\$0.0020 to \$0.0100"] == [
        label.get_text() for label in costs.get_yticklabels()
    ]


def test_requests_have_whole_numbers() -> None:
    """No range of a number of requests begins or ends between two whole numbers."""
    counts, *_ = plot_metrics(FALLING)

    labels = [label.get_text() for label in counts.get_yticklabels()]
    assert len(labels) > 3
    assert all(number.isdigit() for label in labels for number in label.split(" to "))


def test_fewer_than_ten_sessions_have_no_bars() -> None:
    """Their numbers are there, without the look of a distribution."""
    counts, *_ = plot_metrics(metrics(sessions=9.0))

    assert ([0.0], ["9"]) == (
        [patch.get_width() for patch in counts.patches],
        [text.get_text() for text in counts.texts],
    )


def test_the_caption_has_filter_time_source_and_cut() -> None:
    """The picture alone explains its content."""
    query = attrs.evolve(QUERY, filter=F.status == 200)
    panels = plot_metrics(FALLING, query=query, source="helicone-data")
    caption = " ".join(panels[0].figure.get_supxlabel().split())

    assert caption.startswith("Filter: status == 200. 2026-11-01 to 2026-11-14, UTC. Source: helicone-data.")
    assert "Cut at p95: sessions above that quantile are not drawn." in caption
    assert [
        "Requests per session\nmean of all: 3.4 requests",
        "Seconds per session, first request to last\nmean of all: 210 seconds",
        "Dollars per session\nmean of all: \\$1.25",
    ] == [axes.get_title(loc="left") for axes in panels]


def test_metrics_know_their_cut() -> None:
    """Without a query, the caption has the cut of the histograms."""
    (first, *_) = plot_metrics(with_cut(FALLING, Cut("p50")))

    assert first.figure.get_supxlabel().startswith("Cut at p50: sessions above that quantile are not drawn.")


def test_a_note_replaces_the_caption() -> None:
    """An empty one removes it."""
    assert "" == plot_grid(a_grid(), note="").figure.get_supxlabel()


def test_a_grid_names_its_segments_and_what_has_no_answer() -> None:
    """A failed cell is a gap in a line, and counted below."""
    axes = plot_grid(a_grid(), "dollars_mean")
    words = [text.get_text() for text in axes.figure.findobj(Text)]

    assert {"gpt-4o", "claude-sonnet-4", "o3", "Dollars per session, mean"} <= set(words)
    assert "1 of 42 cells failed." in axes.figure.get_supxlabel()
    first = axes.get_lines()[0].get_ydata()
    assert [3, 5] == [place for place, value in enumerate(first) if value != value]  # noqa: PLR0124 - not a number


def test_a_squashed_segment_makes_the_scale_logarithmic() -> None:
    """Only if all values are above zero, and not if `log` says otherwise."""
    grid = a_grid(MODELS, days=2)
    cells = {
        place: attrs.evolve(cell, metrics=metrics(cost=0.001 * 300 ** place[0]))
        for place, cell in grid.cells.items()
    }
    wide = attrs.evolve(grid, cells=cells)
    some_zero = attrs.evolve(
        wide, cells={**cells, (0, 0): attrs.evolve(cells[0, 0], metrics=metrics(cost=0.0))}
    )

    assert ["linear", "log", "linear", "linear", "log"] == [
        plot_grid(grid).get_yscale(),
        plot_grid(wide).get_yscale(),
        plot_grid(wide, log=False).get_yscale(),
        plot_grid(some_zero).get_yscale(),
        plot_grid(some_zero, log=True).get_yscale(),
    ]
    assert "Logarithmic scale without 1 values of 0." in plot_grid(some_zero, log=True).figure.get_supxlabel()


def test_a_heatmap_is_darker_where_values_are_larger() -> None:
    """On a dark background the colours are lighter, so that small values are faint on both."""
    (image,) = plot_grid(a_grid(), kind="heatmap").get_images()
    low, high = (sum(image.cmap(share)[:3]) for share in (0.0, 1.0))
    with mpl.rc_context({"axes.facecolor": "black"}):
        (on_dark,) = plot_grid(a_grid(), kind="heatmap").get_images()

    assert low > high
    assert (low, high) == tuple(sum(on_dark.cmap(share)[:3]) for share in (1.0, 0.0))


def test_periods_have_short_dates() -> None:
    """The day and the month; a partial day says so, and its marker is hollow."""
    query = attrs.evolve(QUERY, time_filter=TimeFilter(START, START + 2.5 * DAY))
    periods = periods_of(query, DAY, "UTC")
    cells = {(0, i): GridCell("all", each, query, metrics(cost=1.0)) for i, each in enumerate(periods)}
    axes = plot_grid(MetricsGrid(query, {"all": F.cached}, periods, cells))
    _, partial = axes.get_lines()

    assert ["1 Nov", "2 Nov", "3 Nov (part)"] == [label.get_text() for label in axes.get_xticklabels()]
    assert ([2], axes.get_facecolor()) == (list(partial.get_xdata()), partial.get_markerfacecolor())


def test_dollars_have_their_sign_on_the_axis() -> None:
    """Other units have none."""
    dollars, seconds = plot_grid(a_grid()), plot_grid(a_grid(), "seconds_mean")

    assert (r"\$1,000", "1,000") == tuple(
        axes.yaxis.get_major_formatter()(1000.0, 0) for axes in (dollars, seconds)
    )


def test_a_grid_of_one_period_has_a_bar_for_each_segment() -> None:
    """With its name and its value, all with the same decimals."""
    axes = plot_grid(a_grid(days=1))

    assert pytest.approx([0.1, 0.4, 0.9]) == [patch.get_width() for patch in axes.patches]
    assert [r"\$0.10", r"\$0.40", r"\$0.90"] == [text.get_text() for text in axes.texts]
    assert [*MODELS] == [label.get_text() for label in axes.get_yticklabels()]


def test_of_many_segments_those_with_the_highest_values_are_drawn() -> None:
    """The caption says how many there are."""
    axes = plot_grid(a_grid(dict.fromkeys(map(str, range(30)), F.cached), days=3))

    assert [str(number) for number in range(18, 30)] == [text.get_text() for text in axes.texts]
    assert "12 of 30 segments, those with the highest values." in axes.figure.get_supxlabel()


def test_pictures_are_drawn_into_axes_that_are_there() -> None:
    """Title and caption are then those of the axes; the figure has none."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    (first, second), (third, *others) = figure.subplots(1, 2), figure.subplots(1, 4)
    compared = a_grid().compare(a_grid(costs=2.0))

    assert (first, second, third) == (
        plot_grid(a_grid(), ax=first),
        plot_grid(a_grid(), kind="heatmap", ax=second),
        plot_comparison(compared, ax=third),
    )
    assert tuple(others) == plot_metrics(FALLING, ax=others)
    assert "Dollars per session, mean" == first.get_title(loc="left")
    assert "1 of 42 cells failed." in first.get_xlabel()
    assert "" == figure.get_suptitle() == figure.get_supxlabel()


def test_a_comparison_has_a_hollow_and_a_filled_marker_for_each_value() -> None:
    """A segment has a dashed line before and a solid one after; failed cells are gaps and counted."""
    axes = plot_comparison(a_grid().compare(a_grid(costs=2.0)), "dollars_mean")
    before, after = axes.get_lines()[:2]

    assert ("--", axes.get_facecolor(), "-") == (
        before.get_linestyle(),
        before.get_markerfacecolor(),
        after.get_linestyle(),
    )
    assert before.get_ydata()[0] == pytest.approx(2.0 * after.get_ydata()[0])
    assert math.isnan(after.get_ydata()[3])
    words = [text.get_text() for text in axes.figure.findobj(Text)]
    assert any("2026-11-01 to 2026-11-14" in text and "2 of 84 cells failed." in text for text in words)


def test_a_comparison_of_one_period_has_a_row_for_each_segment() -> None:
    """A line leads from the earlier to the later value, with both and their ratio beside it."""
    axes = plot_comparison(a_grid(days=1).compare(a_grid(days=1, costs=2.0)), "dollars_mean")
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]

    assert ["gpt-4o", "claude-sonnet-4", "o3"] == [label.get_text() for label in axes.get_yticklabels()]
    assert [0, 1, 2] == [line.get_ydata()[0] for line in lines]
    assert pytest.approx([0.2, 0.1]) == lines[0].get_xdata()
    assert r"\$0.20 → \$0.10, ratio 0.50" == axes.texts[0].get_text()


NAMES = (r"cheap $\bad$", "$a$ and $b$", r"\$5", "_hidden", "__", "$")


def svg_of(figure: Any, path: Path) -> str:
    """The texts of a picture, as they are drawn."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path)
    root = ET.parse(path).getroot()  # noqa: S314 - it is our own
    return "\n".join("".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize("kind", ["lines", "heatmap"])
def test_names_titles_and_notes_are_drawn_as_they_are(kind: Any, tmp_path: Path) -> None:
    """Dollar signs make no formula, and a line whose name begins with an underscore has its label."""
    axes = plot_grid(
        a_grid(dict.fromkeys(NAMES, F.cached)), kind=kind, title=r"title $\bad$", note=r"note $\bad$"
    )
    words = svg_of(axes.figure, tmp_path / "picture.svg").splitlines()

    assert {*NAMES, r"title $\bad$", r"note $\bad$"} <= set(words)


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_it_is_saved_in_every_format(ending: str, tmp_path: Path) -> None:
    """The figure of the axes writes files."""
    path = tmp_path / f"picture.{ending}"
    plot_grid(a_grid(), kind="heatmap").figure.savefig(path)

    assert path.stat().st_size > 2000


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("there is no quantity 'cost'", ("cost",)),
        ("there is no kind 'pie'", ("dollars_mean", "pie")),
    ],
)
def test_what_cannot_be_drawn_is_named(message: str, arguments: Any) -> None:
    """With what can."""
    with pytest.raises(ValueError, match=message):
        plot_grid(a_grid(), *arguments)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"'matplotlib'.*helicone-sessions\[plot\]"):
        plot_metrics(metrics())
