"""Format numbers as text, and convert histograms to plain values for HTML and the terminal."""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MISSING: Final = "-"

# Smaller amounts, in dollars, need more than two decimals.
_FEW_CENTS: Final = 0.1


class Panel(NamedTuple):
    """A histogram of sessions, ready for display.

    Args:
        title: The heading.
        unit: The unit of the ranges and the mean.
        bars: The start, the end and the session count of each bar, lowest bar first.
        mean: The mean over all sessions, or None if there are no sessions.
    """

    title: str
    unit: str
    bars: Sequence[tuple[float, float, float]]
    mean: float | None


class Range(NamedTuple):
    """A bar of a histogram with its range as text.

    Args:
        label: The range, without its unit.
        sessions: The number of sessions, which can be fractional.
    """

    label: str
    sessions: float


def number(value: float | None, unit: str) -> str:
    """The value, rounded for display, or a dash for None.

    >>> number(8.521, "dollars"), number(0.00103, "dollars"), number(421.19, "seconds")
    ('$8.52', '$0.0010', '421')
    """
    if value is None or unit == "dollars":
        return column_numbers([value], unit)[0]
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def column_numbers(values: Iterable[float | None], unit: str) -> list[str]:
    """The values of one column, rounded for display to the same number of decimals.

    >>> column_numbers([8.521, 0.00103, None], "dollars"), column_numbers([14.5, 2.364], "requests")
    (['$8.5210', '$0.0010', '-'], ['14.50', '2.36'])
    """
    found = list(values)
    known = [value for value in found if value is not None]
    decimals, sign = _decimals(known, unit), "$" if unit == "dollars" else ""
    return [MISSING if value is None else f"{sign}{value:,.{decimals}f}" for value in found]


def _decimals(values: list[float], unit: str) -> int:
    if unit == "dollars":
        return 4 if any(0 < abs(value) < _FEW_CENTS for value in values) else 2
    if all(value == round(value) for value in values):
        return 0
    largest = max(map(abs, values))
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2


def amount(value: float | None, unit: str) -> str:
    """The value with its unit.

    >>> amount(8.521, "dollars"), amount(421.19, "seconds"), amount(None, "requests")
    ('$8.52', '421 seconds', '-')
    """
    text = number(value, unit)
    return text if value is None or unit == "dollars" else f"{text} {unit}"


def means(answers: Iterable[Sequence[Panel]]) -> list[list[str]]:
    """The means of several sets of histograms, as rows of text.

    All values in a column have the same number of decimals.

    >>> panels = [Panel("Requests", "requests", [], 3.0), Panel("Dollars", "dollars", [], None)]
    >>> means([panels])
    [['3', '-']]
    """
    columns = [
        column_numbers([panel.mean for panel in panels], panels[0].unit)
        for panels in zip(*answers, strict=True)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def ranges(panel: Panel, most: int | None = None) -> list[Range]:
    """The bars of a histogram with their ranges as text.

    Request counts are whole numbers, so their ranges start and end at whole numbers.

    Args:
        panel: The histogram.
        most: The maximum number of bars. Adjacent bars with the fewest sessions are merged.

    >>> ranges(Panel("Requests", "requests", [(1, 1.5, 6), (1.5, 4.2, 2.5), (4.2, 9, 1)], 3.0))
    [Range(label='1', sessions=6.0), Range(label='2 to 4', sessions=2.5), Range(label='5 to 9', sessions=1.0)]
    >>> ranges(Panel("Dollars", "dollars", [(0.5, 1, 6), (1, 2, 2), (2, 4, 1)], 1.0), most=2)
    [Range(label='$0.50 to $1.00', sessions=6), Range(label='$1.00 to $4.00', sessions=3)]
    """
    bars = _whole(panel.bars) if panel.unit == "requests" else list(panel.bars)
    while most is not None and len(bars) > most:
        least = min(range(len(bars) - 1), key=lambda place: bars[place][2] + bars[place + 1][2])
        (start, _, first), (_, end, second) = bars[least : least + 2]
        bars[least : least + 2] = [(start, end, first + second)]
    edges = iter(column_numbers([edge for start, end, _ in bars for edge in (start, end)], panel.unit))
    labels = [start if start == end else f"{start} to {end}" for start, end in zip(edges, edges, strict=True)]
    return [Range(label, sessions) for label, (_, _, sessions) in zip(labels, bars, strict=True)]


def _whole(bars: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Round the bars to whole numbers. A bar without a whole number is merged with its neighbour."""
    found: list[tuple[float, float, float]] = []
    carried = 0.0
    for place, (start, end, sessions) in enumerate(bars):
        first = found[-1][1] + 1 if found else math.ceil(start)
        last = math.floor(end) if place == len(bars) - 1 else math.ceil(end) - 1
        if last >= first:
            found.append((first, last, carried + sessions))
            carried = 0.0
        elif found:
            *whole, others = found[-1]
            found[-1] = (whole[0], whole[1], others + sessions)
        else:
            carried += sessions
    return found or list(bars)


def cut_note(level: str = "the query's p_size", *, both_ends: bool = False) -> str:
    """A sentence about the sessions that a histogram leaves out.

    >>> cut_note("p95")
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    if both_ends:
        return f"Cut at both ends, at {level} and its mirror: sessions outside are not drawn."
    return f"Cut at {level}: sessions above that quantile are not drawn."
