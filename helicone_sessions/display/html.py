"""HTML fragments for notebooks. They load no external resources, and all text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from helicone_sessions.display.numbers import Panel, amount, ranges

_BOX: Final = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.4"
_FAINT: Final = "opacity:.7;font-size:12px"
_CELL: Final = "padding:2px 8px;text-align:right"


class Cell(NamedTuple):
    """A table cell.

    Args:
        text: The text.
        share: How dark the background is, from 0 to 1.
        tip: The tooltip.
    """

    text: str
    share: float = 0.0
    tip: str = ""


def histograms(panels: Iterable[Panel], note: str) -> str:
    """HTML with the histograms side by side, the mean of each, and a note about the cut.

    >>> "no session" in histograms([Panel("Dollars per session", "dollars", [], None)], "Cut at p75.")
    True
    """
    drawn = "".join(map(_panel, panels))
    below = f"{note} Numbers are sessions, and ranges are of unequal width."
    return (
        f'<div style="{_BOX}"><div style="display:flex;flex-wrap:wrap;gap:24px">{drawn}</div>'
        f'<div style="{_FAINT}">{escape(below)}</div></div>'
    )


def _panel(panel: Panel) -> str:
    bars = ranges(panel)
    tallest = max((bar.sessions for bar in bars), default=1.0) or 1.0
    rows = "".join(
        f'<tr><td style="{_CELL}">{escape(bar.label)}</td><td style="width:140px;padding:0">'
        f'<div style="background:#9db4c8;height:.8em;width:{100 * bar.sessions / tallest:.1f}%"></div></td>'
        f'<td style="{_CELL}">{bar.sessions:,.0f}</td></tr>'
        for bar in bars
    )
    none = f'<div style="{_FAINT}">no session</div>'
    shown = f'<table style="border-collapse:collapse">{rows}</table>' if bars else none
    mean = escape(amount(panel.mean, panel.unit))
    return f"<div><b>{escape(panel.title)}</b><div>mean of all: {mean}</div>{shown}</div>"


def table(title: str, heads: Iterable[str], rows: Iterable[tuple[str, Sequence[Cell]]], note: str) -> str:
    """An HTML table of labelled rows, followed by a note.

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
    """HTML with a title above an HTML fragment or plain text.

    >>> "&lt;b&gt;" in titled("o3", "<b>", is_html=False)
    True
    """
    shown = content if is_html else escape(content)
    return f'<div style="{_BOX}"><b>{escape(title)}</b><div>{shown}</div></div>'


def filter_tree(tree: str, cautions: Sequence[str], wire: str) -> str:
    """HTML with a filter as a tree, followed by its cautions and its JSON (collapsed).

    >>> "<details>" in filter_tree("cost gt 0.1 dollars", [], "{}")
    True
    """
    listed = "".join(f"<li>{escape(caution)}</li>" for caution in cautions)
    warned = f"<div>The open-source server reads it differently:<ul>{listed}</ul></div>" if cautions else ""
    return (
        f'<div style="{_BOX}"><pre style="margin:0">{escape(tree)}</pre>{warned}'
        f'<details><summary style="{_FAINT}">JSON</summary><pre>{escape(wire)}</pre></details></div>'
    )
