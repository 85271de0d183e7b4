"""Decode metrics with msgspec. The wire classes use the public `HistogramRow` for their rows.

Key order, whitespace and unknown fields do not matter. If a response is unusual in another way,
the converter reads it instead.
"""

import math
from collections.abc import Callable
from typing import Final

import attrs
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


def _setters(of: type) -> list[Callable[[object, object], None]]:
    return [getattr(of, field.name).__set__ for field in attrs.fields(of)]


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
    return _metrics(
        _histogram(data.session_count, "session_count", cut),
        _histogram(data.session_duration, "session_duration", cut),
        _histogram(data.session_cost, "session_cost", cut),
        _averages(count.average, duration.average, cost.average),
    )


# The __init__ of a frozen class sets each field with object.__setattr__, so building the metrics would take a
# third of the time to decode them (CPython 3.11). The descriptors of the slots halve this.
_new: Final = object.__new__
_set_rows, _set_unit, _set_cut = _setters(Histogram)
_set_mean_count, _set_mean_duration, _set_mean_cost = _setters(SessionAverages)
_set_count, _set_duration, _set_cost, _set_average = _setters(SessionMetrics)


def _histogram(rows: Rows, name: str, cut: Cut | None) -> Histogram:
    new = _new(Histogram)
    _set_rows(new, rows)
    _set_unit(new, UNITS[name])
    _set_cut(new, cut)
    return new


def _averages(count: float | None, duration: float | None, cost: float | None) -> SessionAverages:
    new = _new(SessionAverages)
    _set_mean_count(new, count)
    _set_mean_duration(new, duration)
    _set_mean_cost(new, cost)
    return new


def _metrics(
    count: Histogram, duration: Histogram, cost: Histogram, average: SessionAverages
) -> SessionMetrics:
    new = _new(SessionMetrics)
    _set_count(new, count)
    _set_duration(new, duration)
    _set_cost(new, cost)
    _set_average(new, average)
    return new
