"""Numbers as text, and the plain form of a histogram that HTML and the terminal share."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MISSING: Final = "-"


class Panel(NamedTuple):
    """A histogram over sessions to show.

    Args:
        title: The text above it.
        unit: The unit of the ranges and the mean.
        bars: Start, end and number of sessions of each bar, lowest first.
        mean: The mean of all sessions; None if there is none.
    """

    title: str
    unit: str
    bars: Sequence[tuple[float, float, float]]
    mean: float | None


def number(value: float | None, unit: str) -> str:
    """The value rounded for reading; a dash if there is none.

    >>> number(8.521, "dollars"), number(0.00103, "dollars"), number(421.19, "seconds")
    ('8.52', '0.0010', '421')
    """
    if value is None:
        return MISSING
    if unit == "dollars":
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def means(panels: Iterable[Panel]) -> list[str]:
    """The means of histograms as text.

    >>> means([Panel("Requests", "requests", [], 3.0), Panel("Dollars", "dollars", [], None)])
    ['3', '-']
    """
    return [number(panel.mean, panel.unit) for panel in panels]


def cut_note(level: str = "the query's p_size", *, both_ends: bool = False) -> str:
    """A sentence that says which sessions a histogram leaves out.

    >>> cut_note("p95")
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    if both_ends:
        return f"Cut at both ends, at {level} and its mirror: sessions outside are not drawn."
    return f"Cut at {level}: sessions above that quantile are not drawn."
