"""HTML fragments for notebooks; they load nothing, and escape all text."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from helicone_sessions.display.numbers import Panel, amount, number, session_count

_WIDTH, _HEIGHT = 240, 110
_BOX: Final = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.4"
_FAINT: Final = "opacity:.7;font-size:12px"
_CELL: Final = "padding:2px 8px;text-align:right"


class Cell(NamedTuple):
    """A cell of a table.

    Args:
        text: The text.
        share: The darkness of its background, from 0 to 1.
        tip: The tooltip.
    """

    text: str
    share: float = 0.0
    tip: str = ""


def histograms(panels: Iterable[Panel], note: str) -> str:
    """Histograms side by side with their means, above a note about their cut.

    >>> "no session" in histograms([Panel("Dollars per session", "dollars", [], None)], "Cut at p75.")
    True
    """
    drawn = "".join(map(_panel, panels))
    return (
        f'<div style="{_BOX}"><div style="display:flex;flex-wrap:wrap;gap:24px">{drawn}</div>'
        f'<div style="{_FAINT}">{escape(note)} The area of a bar is its number of sessions.</div></div>'
    )


def _panel(panel: Panel) -> str:
    picture = _picture(panel) if panel.bars else f'<div style="{_FAINT}">no session</div>'
    ends = ""
    if panel.bars:
        low, high = number(panel.bars[0][0], panel.unit), amount(panel.bars[-1][1], panel.unit)
        ends = (
            f'<div style="display:flex;justify-content:space-between;width:{_WIDTH}px;{_FAINT}">'
            f"<span>{low}</span><span>{escape(high)}</span></div>"
        )
    return (
        f"<div><b>{escape(panel.title)}</b>{picture}{ends}"
        f"<div>mean of all: {escape(amount(panel.mean, panel.unit))}</div></div>"
    )


def _picture(panel: Panel) -> str:
    places = [_place(panel, start, end) for start, end, _ in panel.bars]
    densest = max(sessions / width for (_, _, sessions), (_, width) in zip(panel.bars, places, strict=True))
    drawn = []
    for (start, end, sessions), (left, width) in zip(panel.bars, places, strict=True):
        height = _HEIGHT * (sessions / width / densest if densest else 0)
        tip = f"{number(start, panel.unit)} to {amount(end, panel.unit)}: {session_count(sessions)}"
        drawn.append(
            f'<rect x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' fill="#9db4c8" stroke="#1b1b1b" stroke-width=".6"><title>{escape(tip)}</title></rect>'
        )
    return (
        f'<svg role="img" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' style="display:block;overflow:visible">{"".join(drawn)}'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}" stroke="currentColor"/></svg>'
    )


def _place(panel: Panel, start: float, end: float) -> tuple[float, float]:
    """The left edge and the width of a bar, in pixels."""
    low, high = panel.bars[0][0], panel.bars[-1][1]
    if not high > low:
        return 0.0, _WIDTH
    left, right = ((edge - low) / (high - low) * _WIDTH for edge in (start, end))
    # A bar of equal values has no width, and would be invisible.
    return left, right - left if right - left >= 1 else _WIDTH / 50


def table(title: str, heads: Iterable[str], rows: Iterable[tuple[str, Sequence[Cell]]], note: str) -> str:
    """A table of labelled rows, and a note below it.

    >>> "<td" in table("Dollars", ["o3"], [("2026-11-01", [Cell("0.25", 1.0)])], "In dollars.")
    True
    """
    head = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th style="{_CELL}">{escape(label)}</th>{"".join(map(_cell, cells))}</tr>'
        for label, cells in rows
    )
    return (
        f'<div style="{_BOX}"><b>{escape(title)}</b>'
        f'<table style="border-collapse:collapse"><tr><th></th>{head}</tr>{body}</table>'
        f'<div style="{_FAINT}">{escape(note)}</div></div>'
    )


def _cell(cell: Cell) -> str:
    tip = f' title="{escape(cell.tip)}"' if cell.tip else ""
    background = f"rgba(90,130,170,{0.55 * max(cell.share, 0):.2f})"
    return f'<td style="{_CELL};background:{background}"{tip}>{escape(cell.text)}</td>'


def titled(title: str, content: str, *, is_html: bool) -> str:
    """A title above a fragment, or above a text.

    >>> "&lt;b&gt;" in titled("o3", "<b>", is_html=False)
    True
    """
    shown = content if is_html else escape(content)
    return f'<div style="{_BOX}"><b>{escape(title)}</b><div>{shown}</div></div>'


def filter_tree(tree: str, cautions: Sequence[str], wire: str) -> str:
    """A filter as its tree with its cautions; its JSON is folded.

    >>> "<details>" in filter_tree("cost gt 0.1 dollars", [], "{}")
    True
    """
    listed = "".join(f"<li>{escape(caution)}</li>" for caution in cautions)
    warned = f"<div>The open-source server reads it differently:<ul>{listed}</ul></div>" if cautions else ""
    return (
        f'<div style="{_BOX}"><pre style="margin:0">{escape(tree)}</pre>{warned}'
        f'<details><summary style="{_FAINT}">JSON</summary><pre>{escape(wire)}</pre></details></div>'
    )
