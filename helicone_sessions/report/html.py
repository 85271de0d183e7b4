"""Metrics, grids and filters as HTML for notebooks: one fragment each, with nothing from outside.

Everything that is not a number is escaped.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.messages.metrics import UNITS, Histogram, HistogramRow, SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.cells import Quantity, figure_of
from helicone_sessions.report.grid import MetricsGrid
from helicone_sessions.report.words import TITLES, cut_of, number, quantity_title

_WIDTH, _HEIGHT = 240, 110
_BOX: Final = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.4"
_FAINT: Final = "opacity:.7;font-size:12px"
_CELL: Final = "padding:2px 8px;text-align:right"
_MOST_ROWS: Final = 200


def metrics_to_html(metrics: SessionMetrics, query: SessionMetricsQuery | None = None) -> str:
    """The three histograms and averages of an answer, and where its query cuts them.

    >>> "no session" in metrics_to_html(SessionMetrics.empty())
    True
    """
    panels = "".join(
        _panel(TITLES[name], getattr(metrics, name), getattr(metrics.average, name)) for name in UNITS
    )
    note = f"{escape(cut_of(query))} The area of a bar is its number of sessions."
    return (
        f'<div style="{_BOX}"><div style="display:flex;flex-wrap:wrap;gap:24px">{panels}</div>'
        f'<div style="{_FAINT}">{note}</div></div>'
    )


def _panel(title: str, histogram: Histogram, mean: float | None) -> str:
    picture = _picture(histogram) if histogram.rows else f'<div style="{_FAINT}">no session</div>'
    ends = ""
    if histogram.rows:
        low, high = (
            number(end, histogram.unit) for end in (histogram[0].range_start, histogram[-1].range_end)
        )
        ends = (
            f'<div style="display:flex;justify-content:space-between;width:{_WIDTH}px;{_FAINT}">'
            f"<span>{low}</span><span>{high} {escape(histogram.unit)}</span></div>"
        )
    return (
        f"<div><b>{escape(title)}</b>{picture}{ends}"
        f"<div>mean of all: {number(mean, histogram.unit)} {escape(histogram.unit)}</div></div>"
    )


def _picture(histogram: Histogram) -> str:
    placed = [(row, *_placed(histogram, row)) for row in histogram]
    densest = max(row.value / width for row, _, width in placed)
    drawn = "".join(
        _bar(row, left, width, _HEIGHT * (row.value / width / densest if densest else 0), histogram.unit)
        for row, left, width in placed
    )
    return (
        f'<svg role="img" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' style="display:block;overflow:visible">{drawn}'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}" stroke="currentColor"/></svg>'
    )


def _placed(histogram: Histogram, row: HistogramRow) -> tuple[float, float]:
    """Where a bar begins, and how wide it is."""
    low, span = histogram[0].range_start, histogram[-1].range_end - histogram[0].range_start
    if not span > 0:
        return 0.0, _WIDTH
    left, right = ((end - low) / span * _WIDTH for end in (row.range_start, row.range_end))
    # Many sessions of one value: a bar needs a width to be seen.
    return left, right - left if right - left >= 1 else _WIDTH / 50


def _bar(row: HistogramRow, left: float, width: float, height: float, unit: str) -> str:
    tip = f"{_range(row.range_start, row.range_end, unit)}: {row.value:,.1f} sessions"
    return (
        f'<rect x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
        f' fill="#9db4c8" stroke="#1b1b1b" stroke-width=".6"><title>{tip}</title></rect>'
    )


def _range(start: float, end: float, unit: str) -> str:
    return f"{number(start, unit)} to {number(end, unit)} {escape(unit)}"


def grid_to_html(
    grid: MetricsGrid, metric: Quantity = "dollars_mean", others: str = ".to_rows(), .to_pandas()"
) -> str:
    """A grid as a table: a row for each window, a column for each segment; darker is more.

    Args:
        grid: The grid.
        metric: The figure that is shown.
        others: Where there are the others, for the line below.

    Raises:
        ValueError: There is no figure of that name.
    """
    _, unit = figure_of(metric)
    names = list(grid.segments)
    known = [value for cell in grid if (value := cell.quantity(metric)) is not None]
    most = max(known, default=0.0) or 1.0
    rows = []
    for place, window in enumerate(grid.windows[:_MOST_ROWS]):
        cells = [grid.cells[row, place] for row in range(len(names))]
        rows.append(
            (
                str(window),
                [
                    _filled("failed", 0.0, title=f"{type(cell.error).__name__}: {cell.error}")
                    if cell.metrics is None
                    else _filled(number(value, unit), (value or 0.0) / most)
                    for cell in cells
                    for value in [cell.quantity(metric)]
                ],
            )
        )
    left_out = len(grid.windows) - len(rows)
    more = f" {left_out:,} windows more are not shown." if left_out else ""
    head = escape(quantity_title(metric, grid.query))
    return (
        f'<div style="{_BOX}"><b>{head}</b>{_table(names, rows)}'
        f'<div style="{_FAINT}">In {unit}.{more} Other figures: {escape(others)}.</div></div>'
    )


def _filled(text: str, share: float, title: str = "") -> str:
    tip = f' title="{escape(title)}"' if title else ""
    return (
        f'<td style="{_CELL};background:rgba(90,130,170,{0.55 * max(share, 0):.2f})"{tip}>{escape(text)}</td>'
    )


def _table(heads: Iterable[object], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f'<th style="{_CELL}">{escape(str(name))}</th>' for name in heads)
    body = "".join(
        f'<tr><th style="{_CELL}">{escape(label)}</th>{"".join(cells)}</tr>' for label, cells in rows
    )
    return f'<table style="border-collapse:collapse"><tr><th></th>{head}</tr>{body}</table>'


def filter_to_html(each: Filter) -> str:
    """A filter as its tree, with the JSON that is sent behind a fold."""
    warned = ""
    try:
        wire = json.dumps(each.to_wire(), indent=2, ensure_ascii=False)
        if cautions := "".join(f"<li>{escape(str(caution))}</li>" for caution in each.cautions()):
            warned = f"<div>The open-source server reads it differently:<ul>{cautions}</ul></div>"
    except FilterError as error:
        wire = str(error)
    return (
        f'<div style="{_BOX}"><pre style="margin:0">{escape(each.explain())}</pre>{warned}'
        f'<details><summary style="{_FAINT}">JSON</summary><pre>{escape(wire)}</pre></details></div>'
    )
