"""Decode metrics with msgspec. The wire classes use the public `HistogramRow` for their rows.

Key order, whitespace and unknown fields do not matter. If a response is unusual in another way,
the converter reads it instead.
"""

import math
from typing import Final

import msgspec

from helicone_sessions.messages.metrics import (
    UNITS,
    Cut,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)

Rows = tuple[HistogramRow, ...]


class Average(msgspec.Struct, frozen=True, gc=False):
    """One average."""

    # A string is kept as a string. If it were read as a number, the text "null" would become None.
    average: float | str | None


class Averages(msgspec.Struct, frozen=True, gc=False):
    """The averages, each as a list with one item."""

    session_count: tuple[Average]
    session_duration: tuple[Average]
    session_cost: tuple[Average]


class Data(msgspec.Struct, frozen=True, gc=False):
    """The metrics of a response."""

    session_count: Rows
    session_duration: Rows
    session_cost: Rows
    average: Averages


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A complete response with metrics."""

    data: Data


# Not strict, because the ends of a bar are numbers in the form of text.
_DECODER: Final = msgspec.json.Decoder(Envelope, strict=False)


def metrics_in(body: bytes, cut: Cut | None = None) -> SessionMetrics | None:
    """The metrics in *body*, or None if the converter must read *body*."""
    try:
        # msgspec does not check the encoding of text that it skips, so Python checks it.
        data = _DECODER.decode(body if body.isascii() else body.decode()).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    total = 0.0
    for rows in (data.session_count, data.session_duration, data.session_cost):
        for row in rows:
            total += row.range_start + row.range_end + row.value
    # Text can be "nan" or "inf". If only the sum overflows, the converter decides too.
    if not math.isfinite(total):
        return None
    (count,) = data.average.session_count
    (duration,) = data.average.session_duration
    (cost,) = data.average.session_cost
    if isinstance(count.average, str) or isinstance(duration.average, str) or isinstance(cost.average, str):
        return None
    return SessionMetrics(
        Histogram(data.session_count, unit=UNITS["session_count"], cut=cut),
        Histogram(data.session_duration, unit=UNITS["session_duration"], cut=cut),
        Histogram(data.session_cost, unit=UNITS["session_cost"], cut=cut),
        SessionAverages(count.average, duration.average, cost.average),
    )
