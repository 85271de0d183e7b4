"""What is answered: `SessionMetrics` and its parts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, overload

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import Panel, cut_note
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.tabular import Row, Tabular

if TYPE_CHECKING:
    from rich.console import RenderableType

UNITS: Final = {"session_count": "requests", "session_duration": "seconds", "session_cost": "dollars"}
"""The histograms of an answer, and the unit of each."""
TITLES: Final = {
    "session_count": "Requests per session",
    "session_duration": "Seconds per session, first request to last",
    "session_cost": "Dollars per session",
}


class AsDict:
    """Base class of metrics and their parts: values that become plain JSON values."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The value as dicts, lists, strings and numbers, for ``json.dumps``.

        >>> SessionAverages(session_count=3.0, session_duration=12.0, session_cost=None).to_dict()
        {'session_count': 3.0, 'session_duration': 12.0, 'session_cost': None}
        """
        # attrs has no type for "an instance of any attrs class".
        return attrs.asdict(self, value_serializer=_plain)  # type: ignore[arg-type]


def _plain(_value: object, _field: object, part: Any) -> Any:
    return list(part) if isinstance(part, tuple) else part


@attrs.frozen
class HistogramRow(AsDict):
    """One bar of a histogram.

    Bars are ClickHouse's: at most ten, of unequal width, and their heights can be fractional.

    Args:
        range_start: Where the bar starts, in the unit of its histogram.
        range_end: Where it ends.
        value: Its height, in sessions.

    >>> row = HistogramRow(range_start=1.0, range_end=2.0, value=6.0)
    >>> f"{row.value:.0f} sessions of {row.range_start:.0f} to {row.range_end:.0f} requests"
    '6 sessions of 1 to 2 requests'
    """

    range_start: float
    range_end: float
    value: float


@attrs.frozen
class Histogram(AsDict, Sequence[HistogramRow]):
    """A histogram over sessions, cut at the query's ``p_size``.

    It is a sequence of `HistogramRow`, lowest first.

    Args:
        rows: The bars.
        unit: What the ranges are counted in.

    >>> h = Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit="requests")
    >>> len(h), h[0].value, h.total, h.quantile(0.5)
    (2, 6.0, 8.0, 1.6666666666666665)
    """

    rows: tuple[HistogramRow, ...]
    unit: str = attrs.field(kw_only=True)

    @overload
    def __getitem__(self, index: int) -> HistogramRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[HistogramRow]: ...
    def __getitem__(self, index: int | slice) -> HistogramRow | Sequence[HistogramRow]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[HistogramRow]:
        return iter(self.rows)

    @property
    def total(self) -> float:
        """How many sessions are drawn; those beyond the cut are not among them.

        >>> Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit="requests").total
        8.0
        """
        return sum(row.value for row in self.rows)

    @property
    def mean(self) -> float | None:
        """An estimate of the mean of the drawn sessions, in `unit`; None for an empty histogram.

        Each session counts as the middle of its bar; on samples of many shapes that is off by less than
        half the widest bar (measured). The mean of *all* sessions is in `SessionMetrics.average`, and exact.

        >>> Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit="requests").mean
        1.875
        """
        total = self.total
        if not total:
            return None
        return math.fsum((row.range_start + row.range_end) / 2 * row.value for row in self.rows) / total

    def quantile(self, q: float) -> float | None:
        """An estimate of the value below which the share *q* of the drawn sessions lies.

        Inside a bar the sessions are taken as spread evenly. Bars share sessions on the border between
        them, so that the estimate may be off by as much as its bar and the two beside it are wide together
        (measured: by half of that, on samples of many shapes). It is a quantile of what is *drawn*: at a
        cut of p95 ``quantile(1)`` is close to the 95th percentile of all sessions.

        Args:
            q: From 0 to 1.

        Returns:
            The estimate in `unit`, or None for an empty histogram.

        Raises:
            ValueError: *q* is outside 0 to 1.

        >>> h = Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit="requests")
        >>> h.quantile(0.75), h.quantile(0.875), Histogram((), unit="requests").quantile(0.5)
        (2.0, 3.0, None)
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be a number from 0 to 1, got {masked_repr(q)}")
        if not self.rows:
            return None
        wanted = q * self.total
        for row in self.rows:
            if wanted <= row.value:
                share = wanted / row.value if row.value else 0.0
                return row.range_start + share * (row.range_end - row.range_start)
            wanted -= row.value
        return self.rows[-1].range_end


@attrs.frozen
class SessionAverages(AsDict):
    """Averages over *all* sessions that match: the cut of the histograms does not touch them.

    Each is None where no session matches.

    Args:
        session_count: Requests per session.
        session_duration: Seconds from a session's first request to its last; of one request, 0.
        session_cost: Dollars per session.

    >>> averages = SessionAverages(session_count=3.0, session_duration=12.0, session_cost=0.25)
    >>> averages.session_cost / averages.session_count
    0.08333333333333333
    """

    session_count: float | None
    session_duration: float | None
    session_cost: float | None


@attrs.frozen
class SessionMetrics(AsDict, Tabular):
    """How many requests, how long and how costly the sessions are that a query selects.

    Its rows are the bars of its histograms; a histogram without bars has one row, for its average.

    Args:
        session_count: Sessions by their number of requests.
        session_duration: Sessions by their seconds from first to last request.
        session_cost: Sessions by their dollars.
        average: The averages of the three.

    >>> from helicone_sessions.testing import metrics
    >>> found = metrics(cost=0.5, sessions=4)
    >>> found.average.session_cost, found.session_cost[0].value, found.session_cost.unit
    (0.5, 4.0, 'dollars')
    """

    session_count: Histogram
    session_duration: Histogram
    session_cost: Histogram
    average: SessionAverages

    columns: ClassVar[Mapping[str, str]] = {
        "metric": "session_count, session_duration or session_cost",
        "unit": "requests, seconds or dollars: of the average and the ends of the range",
        "average": "the mean over all sessions",
        "range_start": "where the bar starts",
        "range_end": "where it ends",
        "sessions": "its height; it can be fractional",
    }
    column_types: ClassVar[Mapping[str, type]] = dict.fromkeys(
        ("average", "range_start", "range_end", "sessions"), float
    )

    def to_rows(self) -> list[Row]:
        """A dict for each bar, with the keys of `columns`.

        >>> SessionMetrics.empty().to_rows()[0]["unit"]
        'requests'
        """
        rows: list[Row] = []
        for name, unit in UNITS.items():
            common = {"metric": name, "unit": unit, "average": getattr(self.average, name)}
            bars = [(row.range_start, row.range_end, row.value) for row in getattr(self, name)]
            for start, end, value in bars or [(None, None, None)]:
                rows.append({**common, "range_start": start, "range_end": end, "sessions": value})
        return rows

    def _repr_html_(self) -> str:
        return html.histograms(panels(self), cut_note())

    def __rich__(self) -> "RenderableType":
        from helicone_sessions.display import terminal  # noqa: PLC0415 - rich is an extra

        return terminal.histograms(panels(self), cut_note())

    @classmethod
    def empty(cls) -> "SessionMetrics":
        """The metrics of no session at all.

        >>> SessionMetrics.empty().average.session_cost is None
        True
        """
        histograms: dict[str, Any] = {name: Histogram((), unit=unit) for name, unit in UNITS.items()}
        return cls(**histograms, average=SessionAverages(None, None, None))


def panels(metrics: SessionMetrics) -> list[Panel]:
    """The three histograms of an answer as plain values to show.

    >>> panels(SessionMetrics.empty())[2]
    Panel(title='Dollars per session', unit='dollars', bars=[], mean=None)
    """
    return [
        Panel(
            TITLES[name],
            histogram.unit,
            [(row.range_start, row.range_end, row.value) for row in histogram],
            getattr(metrics.average, name),
        )
        for name, histogram in ((name, getattr(metrics, name)) for name in UNITS)
    ]
