"""Answers, grids and comparisons on a terminal."""

import io
from typing import Any

import pytest

from helicone_sessions import F
from helicone_sessions.report.grid import grid_to_html, grid_to_terminal
from helicone_sessions.testing import metrics
from tests.display.support import NASTY, a_grid, words

NO_QUANTITY = "there is no quantity 'cost'. Use one of requests_mean"


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
    """The text on a wide terminal, with single spaces."""
    rich = pytest.importorskip("rich.console", reason="the extra `cli` is not installed")
    console = rich.Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(*shown)
    return " ".join(console.file.getvalue().split())


@pytest.mark.parametrize("name", ["[/x]", "[b] gpt", "[red]o3", ":smile:", r"\[b]"])
def test_a_terminal_shows_names_as_they_are(name: str) -> None:
    """No text in a segment, a label or a title is read as markup or as an emoji."""
    pytest.importorskip("rich", reason="the extra `cli` is not installed")
    from helicone_sessions.display.numbers import Panel
    from helicone_sessions.display.terminal import NumberTable, histogram

    shown = printed(NumberTable(f"title {name}", [name], [(f"label {name}", [f"figure {name}"])]))

    assert f"title {name} {name} " in shown
    assert f"label {name} figure {name}" in shown
    assert f"mean {name} " in printed(a_grid(segments={name: F.cached}))
    assert f"drawn {name} " in printed(histogram(Panel(f"drawn {name}", "dollars", [], None)))


def test_an_unknown_quantity_is_an_error_that_lists_the_known_ones() -> None:
    """The same error appears for a cell with or without metrics, in HTML and on a terminal."""
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


def lines_of(shown: object) -> list[str]:
    """The lines on a terminal of 80 columns, without the spaces at their ends."""
    rich = pytest.importorskip("rich.console", reason="the extra `cli` is not installed")
    console = rich.Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(shown)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_wide_row_becomes_a_list_of_names_and_values() -> None:
    """No value is cut or broken into letters where a table does not fit."""
    pytest.importorskip("rich", reason="the extra `cli` is not installed")
    from helicone_sessions.display.terminal import Records

    names = [f"column_{number}" for number in range(9)]
    narrow = lines_of(Records(names, [["a value of some length"] * 9], set()))
    fitting = lines_of(Records(names[:2], [["a", "1"], ["b", "22"]], {"column_1"}))

    assert ["row 1", *(f"{name}  a value of some length" for name in names)] == narrow
    assert ["a                 1", "b                22"] == fitting[2:]


def test_a_long_grid_has_the_number_of_the_periods_that_it_leaves_out() -> None:
    """A terminal shows 200 periods."""
    assert "800 more periods are not shown." == lines_of(a_grid(days=1000))[-1]


def test_a_comparison_shows_before_after_and_ratio() -> None:
    """HTML and the terminal show all three; a missing value is a dash."""
    earlier, later = (a_grid(segments={NASTY: F.cached, "o3": F.threat}) for _ in range(2))
    shown_as_html = words(later.compare(earlier)._repr_html_())
    shown_on_a_terminal = printed(later.compare(earlier))

    for text in ("before", "after", "ratio", "o3, 2026-11-02", "$1.50", "1.00", NASTY, " - "):
        assert text in shown_as_html
        assert text in shown_on_a_terminal
