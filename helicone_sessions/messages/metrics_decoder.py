"""Metrics as msgspec reads them: the wire classes, whose rows are the public `HistogramRow`.

The order of keys, whitespace and unknown fields make no difference. The converter decides about responses
that are unusual in any other way.
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

    # A string remains a string: read as a number, the text "null" would become None.
    average: float | str | None


class Averages(msgspec.Struct, frozen=True, gc=False):
    """Lists of one average each."""

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
    """A whole response with metrics."""

    data: Data


# Not strict, because the ends of a bar are numbers as text.
_DECODER: Final = msgspec.json.Decoder(Envelope, strict=False)


def metrics_in(body: bytes, cut: Cut | None = None) -> SessionMetrics | None:
    """The metrics in *body*, or None if the converter has to decide."""
    try:
        # msgspec does not check the encoding of skipped text, so Python does.
        data = _DECODER.decode(body if body.isascii() else body.decode()).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    total = 0.0
    for rows in (data.session_count, data.session_duration, data.session_cost):
        for row in rows:
            total += row.range_start + row.range_end + row.value
    # Text can be "nan" or "inf". The converter also decides if the sum overflows.
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
