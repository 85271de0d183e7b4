"""A quicker way from an ordinary answer to metrics: it is looked at as a whole, and its bars only on demand.

Thirty bars are most of an answer, and to make objects of them takes longer than all the rest. What is in
the least unusual is left to the converter, which stays the one that decides; a test holds the two equal on
every body.
"""

import re
from typing import Any, Final

from helicone_sessions.messages.codec import decode
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)

# So few digits that no number is beyond a float. Possessive, so that nothing is ever tried twice.
_NUMBER: Final = r"(?:0|-?+[1-9]\d{0,14}+|-0)(?:\.\d++)?+(?:[eE][+-]?+\d\d?+)?+"
_END: Final = rf'(?:"{_NUMBER}"|{_NUMBER})'
_ROW: Final = rf'\{{"range_start":{_END},"range_end":{_END},"value":{_NUMBER}\}}'
_ROWS: Final = rf"(\[(?:{_ROW}(?:,{_ROW})*+)?+\])"
_AVERAGE: Final = rf'\[\{{"average":({_NUMBER}|null)\}}\]'
_ANSWER: Final = re.compile(
    rf"""\{{"data":\{{{",".join(f'"{name}":{_ROWS}' for name in UNITS)}"""
    rf""","average":\{{{",".join(f'"{name}":{_AVERAGE}' for name in UNITS)}\}}\}},"error":null\}}""".encode(),
    re.ASCII,
)


def quick_metrics(body: bytes) -> SessionMetrics | None:
    """The metrics of an ordinary answer, or None where the converter has to look."""
    answer = _ANSWER.fullmatch(body)
    return None if answer is None else SessionMetrics.later(_metrics, answer)


def _metrics(answer: re.Match[bytes]) -> tuple[Any, ...]:
    texts = answer.groups()
    histograms = [
        Histogram.later(_histogram, (text, unit)) for text, unit in zip(texts, UNITS.values(), strict=False)
    ]
    count, duration, cost = [None if text == b"null" else float(text) for text in texts[len(UNITS) :]]
    return *histograms, SessionAverages(count, duration, cost), {}


def _histogram(source: tuple[bytes, str]) -> tuple[Any, ...]:
    text, unit = source
    rows = [
        HistogramRow(float(row["range_start"]), float(row["range_end"]), float(row["value"]))
        for row in decode(text)
    ]
    return tuple(rows), unit
