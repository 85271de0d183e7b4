"""A faster way from an ordinary answer to metrics, where msgspec is installed (extra ``speed``).

The converter stays the one that decides: what is here in the least unusual is left to it, and a test holds
the two equal on every body.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from helicone_sessions.messages.metrics import UNITS, Histogram, SessionAverages, SessionMetrics

if TYPE_CHECKING:
    import msgspec

# In an answer without unknown or repeated fields each name comes once, and each brings one colon and so
# many of the letter n. More of either is something that msgspec passes over in silence.
_NAMES: Final = ("data", "error", *UNITS, "average", *UNITS, *("average",) * 3)
_NAMES_OF_A_ROW: Final = ("range_start", "range_end", "value")
_COLONS: Final = len(_NAMES)
_COLONS_OF_A_ROW: Final = len(_NAMES_OF_A_ROW)
_NS: Final = "".join(_NAMES).count("n") + "null".count("n")
_NS_OF_A_ROW: Final = "".join(_NAMES_OF_A_ROW).count("n")


@cache
def _decoder() -> "msgspec.json.Decoder[Any] | None":
    try:
        import msgspec  # noqa: PLC0415 - it is an extra, and a filter needs none of it
    except ImportError:
        return None

    def record(name: str, *fields: tuple[str, Any]) -> Any:
        # They hold no cycles, and the collector has enough to look at.
        return msgspec.defstruct(name, fields, gc=False)

    rows: Any = tuple.__class_getitem__((record("Row", *((name, float) for name in _NAMES_OF_A_ROW)), ...))
    one: Any = tuple.__class_getitem__((record("Average", ("average", float)),))
    averages = record("Averages", *((name, one) for name in UNITS))
    data = record("Data", *((name, rows) for name in UNITS), ("average", averages))
    envelope = record("Envelope", ("data", data), ("error", None))
    # The ends of a bar are numbers written as text, which only the lax way takes.
    return msgspec.json.Decoder(envelope, strict=False)


def quick_metrics(body: bytes) -> SessionMetrics | None:
    """The metrics of an ordinary answer, or None where the converter has to look."""
    decoder = _decoder()
    # Of text, the lax way takes "NaN" and "inf" as numbers too, in any case; small letters are seen by
    # their n. An escaped letter could be any.
    if decoder is None or b"N" in body or b"I" in body or b"\\" in body:
        return None
    try:
        data = decoder.decode(body).data
    except (ValueError, RecursionError):
        return None
    count, duration, cost, average = (
        data.session_count,
        data.session_duration,
        data.session_cost,
        data.average,
    )
    rows = len(count) + len(duration) + len(cost)
    if body.count(b":") != _COLONS + rows * _COLONS_OF_A_ROW or body.count(b"n") != _NS + rows * _NS_OF_A_ROW:
        return None
    return SessionMetrics(
        Histogram.of_bars(count, UNITS["session_count"]),
        Histogram.of_bars(duration, UNITS["session_duration"]),
        Histogram.of_bars(cost, UNITS["session_cost"]),
        SessionAverages(
            average.session_count[0].average,
            average.session_duration[0].average,
            average.session_cost[0].average,
        ),
    )
