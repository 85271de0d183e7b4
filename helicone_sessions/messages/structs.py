"""Answers as msgspec reads them: the wire classes, whose rows are the public `HistogramRow`.

The order of the keys, white space and unknown fields make no difference. An answer that is unusual in any
other way is left to the converter, which decides what it means.
"""

import math
from typing import Final

import msgspec

from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)

Rows = tuple[HistogramRow, ...]


class Average(msgspec.Struct, frozen=True, gc=False):
    """One average."""

    # A string is kept as it is: read as a number, the text "null" would become None.
    average: float | str | None


class Averages(msgspec.Struct, frozen=True, gc=False):
    """Lists of one average each."""

    session_count: list[Average]
    session_duration: list[Average]
    session_cost: list[Average]


class Data(msgspec.Struct, frozen=True, gc=False):
    """The metrics as they are sent."""

    session_count: Rows
    session_duration: Rows
    session_cost: Rows
    average: Averages


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A whole answer, if it holds metrics."""

    data: Data


# Not strict, because the ends of a bar are numbers as text.
_DECODER: Final = msgspec.json.Decoder(Envelope, strict=False)


def metrics_in(body: bytes) -> SessionMetrics | None:
    """The metrics that *body* holds, or None if the converter has to decide."""
    try:
        # As text, because msgspec does not check the encoding of fields that it skips.
        data = _DECODER.decode(body.decode()).data
    except (ValueError, RecursionError):
        return None
    rows = (*data.session_count, *data.session_duration, *data.session_cost)
    # Text can say "nan" or "inf". A sum that overflows is left to the converter too.
    if not math.isfinite(sum([row.range_start + row.range_end + row.value for row in rows])):
        return None
    count, duration, cost = map(
        _average, (data.average.session_count, data.average.session_duration, data.average.session_cost)
    )
    if isinstance(count, str) or isinstance(duration, str) or isinstance(cost, str):
        return None
    return SessionMetrics(
        Histogram(data.session_count, unit=UNITS["session_count"]),
        Histogram(data.session_duration, unit=UNITS["session_duration"]),
        Histogram(data.session_cost, unit=UNITS["session_cost"]),
        SessionAverages(count, duration, cost),
    )


def _average(rows: list[Average]) -> float | str | None:
    return rows[0].average if rows else None
