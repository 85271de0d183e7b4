"""The metrics of a query: `SessionMetrics` and its parts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, overload

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import Panel, cut_note
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.tabular import Row, Tabular

if TYPE_CHECKING:
    from rich.console import RenderableType

UNITS: Final = {"session_count": "requests", "session_duration": "seconds", "session_cost": "dollars"}
"""The names of the histograms in the metrics, with their units."""
TITLES: Final = {
    "session_count": "Requests per session",
    "session_duration": "Seconds per session, first request to last",
    "session_cost": "Dollars per session",
}


PSize = Literal["p50", "p75", "p95", "p99", "p99.9"]
"""The quantile at which the histograms are cut. Only sessions at or below it are drawn."""

_SHARES: Final[Mapping[str, float]] = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class AsDict:
    """Base class of answers and their parts, which can be converted to plain JSON values."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The value as dicts, lists, strings and numbers, for ``json.dumps``.

        >>> SessionAverages(session_count=3.0, session_duration=12.0, session_cost=None).to_dict()
        {'session_count': 3.0, 'session_duration': 12.0, 'session_cost': None}
        """
        # attrs has no type for "an instance of any attrs class".
        return attrs.asdict(self, filter=_is_known, value_serializer=_plain)  # type: ignore[arg-type]


def _is_known(field: "attrs.Attribute[Any]", value: object) -> bool:
    return field.name != "cut" or value is not None


def _plain(_value: object, _field: object, part: Any) -> Any:
    return list(part) if isinstance(part, tuple) else part


@attrs.frozen
class HistogramRow(AsDict):
    """One bar of a histogram.

    ClickHouse computes the bars. A histogram has at most ten bars, their widths differ, and their heights
    can be fractional.

    Args:
        range_start: The start of the bar, in the unit of its histogram.
        range_end: The end of the bar.
        value: The number of sessions in the bar.

    >>> row = HistogramRow(range_start=1.0, range_end=2.0, value=6.0)
    >>> f"{row.value:.0f} sessions of {row.range_start:.0f} to {row.range_end:.0f} requests"
    '6 sessions of 1 to 2 requests'
    """

    range_start: float
    range_end: float
    value: float


@attrs.frozen
class Cut:
    """The quantiles beyond which a histogram leaves out sessions.

    Args:
        p_size: Sessions above this quantile are left out.
        both_ends: Whether sessions below the opposite quantile, for example p5 with "p95", are left out too.

    >>> str(Cut("p95")), Cut("p99.9").share
    ('p95', 0.999)
    """

    p_size: PSize
    both_ends: bool = False

    @property
    def share(self) -> float:
        """The share of sessions at or below the cut.

        >>> Cut("p50").share
        0.5
        """
        return _SHARES[self.p_size]

    def __str__(self) -> str:
        return f"{self.p_size} and its mirror" if self.both_ends else self.p_size


@attrs.frozen
class Histogram(AsDict, Sequence[HistogramRow]):
    """A histogram of sessions, cut at the query's ``p_size``.

    It is a sequence of `HistogramRow`, with the lowest bar first.

    Args:
        rows: The bars.
        unit: The unit of the ranges.
        cut: The quantiles beyond which sessions are left out; None if they are unknown. Comparing histograms
            ignores the cut.

    >>> h = Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit="requests")
    >>> len(h), h[0].value, h.total
    (2, 6.0, 8.0)
    """

    rows: tuple[HistogramRow, ...]
    unit: str = attrs.field(kw_only=True)
    cut: "Cut | None" = attrs.field(default=None, kw_only=True, eq=False)

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
        """The number of sessions in the histogram, excluding sessions beyond the cut.

        >>> Histogram((HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0)), unit="requests").total
        8.0
        """
        return sum(row.value for row in self.rows)

    def quantile(self, q: float) -> float | None:
        """The exact value of the largest session at or below quantile *q*.

        *q* must be the quantile of the cut. The histogram ends at its cut, so the end of its last bar is
        exact. Inside the histogram, one bar can hold most of the sessions, so for another quantile you need a
        query with another ``p_size``. `quantile_bounds` gives the ends of the bar that contains a quantile.

        Args:
            q: The quantile of the cut, for example 0.95 for "p95". With ``use_interquartile``, *q* can also
                be the opposite quantile, 0.05. The result is then the value of the smallest session at or
                above that quantile.

        Returns:
            The value in `unit`; None if no session matches.

        Raises:
            TypeError: *q* is not a number.
            ValueError: The histogram is not cut at *q*, or the cut is unknown. The message names the
                ``p_size`` to request.

        >>> rows = (HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0))
        >>> Histogram(rows, unit="requests", cut=Cut("p95")).quantile(0.95)
        4.0
        >>> Histogram(rows, unit="requests", cut=Cut("p95")).quantile(0.5)
        Traceback (most recent call last):
            ...
        ValueError: the histogram is cut at p95, so quantile(0.5) is unknown. Request p_size="p50"
        """
        _check_share(q)
        if not self.rows:
            return None
        cut = self._known_cut()
        if q == cut.share:
            return self.rows[-1].range_end
        if cut.both_ends and math.isclose(q, 1 - cut.share):
            return self.rows[0].range_start
        raise ValueError(f"the histogram is cut at {cut}, so quantile({q}) is unknown. {_remedy(q)}")

    def quantile_bounds(self, q: float) -> tuple[float, float] | None:
        """The ends of the bar that contains quantile *q* of all sessions.

        Adjacent bars share the sessions at their border, so a quantile near a border can be just outside the
        bar.

        Args:
            q: A quantile from 0 to the quantile of the cut.

        Returns:
            The two ends in `unit`; None if no session matches.

        Raises:
            TypeError: *q* is not a number.
            ValueError: *q* is beyond the cut, or the cut is unknown.

        >>> rows = (HistogramRow(1.0, 2.0, 6.0), HistogramRow(2.0, 4.0, 2.0))
        >>> Histogram(rows, unit="requests", cut=Cut("p95")).quantile_bounds(0.5)
        (1.0, 2.0)
        """
        _check_share(q)
        if not self.rows:
            return None
        cut = self._known_cut()
        low = 1 - cut.share if cut.both_ends else 0.0
        if not low <= q <= cut.share:
            raise ValueError(
                f"the histogram is cut at {cut}, so the bar of the quantile {q} is unknown. {_remedy(q)}"
            )
        wanted = (q - low) / (cut.share - low) * self.total
        for row in self.rows:
            if wanted <= row.value:
                return row.range_start, row.range_end
            wanted -= row.value
        return self.rows[-1].range_start, self.rows[-1].range_end

    def _known_cut(self) -> "Cut":
        if self.cut is None:
            raise ValueError("the cut of the histogram is unknown. Use the histograms of a query's metrics")
        return self.cut


def _check_share(q: float) -> None:
    if isinstance(q, bool) or not isinstance(q, (int, float)):
        raise TypeError(f"q must be a number from 0 to 1, got {masked_repr(q)}")
    if not 0 <= q <= 1:
        raise ValueError(f"q must be from 0 to 1, got {q}")


def _remedy(q: float) -> str:
    found = next((level for level, share in _SHARES.items() if share == q), None)
    if found is not None:
        return f'Request p_size="{found}"'
    return f"Quantiles are exact at {', '.join(map(str, _SHARES.values()))}, with the p_size of that share"


@attrs.frozen
class SessionAverages(AsDict):
    """Averages over *all* matching sessions; the cut of the histograms does not affect them.

    Each average is None if no session matches.

    Args:
        session_count: The average number of requests in a session.
        session_duration: The average time from the first to the last request of a session, in seconds. A
            session with one request has a duration of 0.
        session_cost: The average cost of a session in dollars.

    >>> averages = SessionAverages(session_count=3.0, session_duration=12.0, session_cost=0.25)
    >>> averages.session_cost / averages.session_count
    0.08333333333333333
    """

    session_count: float | None
    session_duration: float | None
    session_cost: float | None


@attrs.frozen
class SessionMetrics(AsDict, Tabular):
    """The number of requests, the duration and the cost of the sessions that match a query.

    As a table, the metrics have one row for each bar of a histogram. A histogram without bars has one row for
    its average.

    Args:
        session_count: A histogram of the requests per session.
        session_duration: A histogram of the seconds from the first to the last request of a session.
        session_cost: A histogram of the dollars per session.
        average: The averages of the requests, seconds and dollars per session.

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
        return html.histograms(panels(self), note_of_cut(self.session_cost.cut))

    def __rich__(self) -> "RenderableType":
        from helicone_sessions.display import terminal

        return terminal.histograms(panels(self), note_of_cut(self.session_cost.cut))

    @classmethod
    def empty(cls) -> "SessionMetrics":
        """The metrics of a query that matches no session.

        >>> SessionMetrics.empty().average.session_cost is None
        True
        """
        histograms: dict[str, Any] = {name: Histogram((), unit=unit) for name, unit in UNITS.items()}
        return cls(**histograms, average=SessionAverages(None, None, None))


def with_cut(metrics: SessionMetrics, cut: Cut) -> SessionMetrics:
    """The metrics with *cut* stored in the histograms.

    >>> with_cut(SessionMetrics.empty(), Cut("p95")).session_cost.cut
    Cut(p_size='p95', both_ends=False)
    """
    count, duration, cost = metrics.session_count, metrics.session_duration, metrics.session_cost
    return SessionMetrics(
        Histogram(count.rows, unit=count.unit, cut=cut),
        Histogram(duration.rows, unit=duration.unit, cut=cut),
        Histogram(cost.rows, unit=cost.unit, cut=cut),
        metrics.average,
    )


def note_of_cut(cut: Cut | None) -> str:
    """A sentence about the sessions that histograms leave out.

    >>> note_of_cut(Cut("p95"))
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    return cut_note() if cut is None else cut_note(cut.p_size, both_ends=cut.both_ends)


def panels(metrics: SessionMetrics) -> list[Panel]:
    """The three histograms as plain values for display.

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
