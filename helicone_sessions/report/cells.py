"""`GridCell`: one answer of a grid, and how cells are asked for."""

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import attrs

from helicone_sessions.display.numbers import cut_note
from helicone_sessions.errors import HeliconeError
from helicone_sessions.messages.metrics import UNITS, SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.report.windows import Window

if TYPE_CHECKING:
    from helicone_sessions.transport.client import HeliconeClient

K = TypeVar("K", bound=Hashable)

Quantity = Literal[
    "requests_mean", "seconds_mean", "dollars_mean", "requests_cut", "seconds_cut", "dollars_cut"
]
"""A figure of a cell: the mean of all its sessions, or where its histogram is cut."""
QUANTITIES: Final[dict[Quantity, tuple[str, str]]] = {
    f"{unit}_{kind}": (name, unit)  # type: ignore[misc]
    for kind in ("mean", "cut")
    for name, unit in UNITS.items()
}
_MEANINGS: Final = {
    "session_count": "requests per session",
    "session_duration": "seconds from a session's first request to its last",
    "session_cost": "dollars per session",
}
# The service cuts here if the query names no p_size.
_DEFAULT_LEVEL: Final = "p75"
OnProgress = Callable[[int, int | None, int], object]


@attrs.frozen
class GridCell:
    """One cell of a grid.

    Args:
        segment: The name of its segment; None in the total of a window.
        window: Its window; None in the total of a segment.
        query: What is asked for it.
        metrics: The answer; None where there is none.
        error: Why there is none.

    >>> from helicone_sessions.testing import metrics
    >>> cell = GridCell("o3", None, SessionMetricsQuery(), metrics(cost=0.5))
    >>> cell.quantity("dollars_mean"), cell.error
    (0.5, None)
    """

    segment: Hashable
    window: Window | None
    query: SessionMetricsQuery
    metrics: SessionMetrics | None = None
    error: HeliconeError | None = None

    def quantity(self, name: Quantity) -> float | None:
        """One of its figures; None where there is no answer, or no session.

        Args:
            name: A mean of all sessions, or where a histogram is cut.

        Raises:
            ValueError: There is no figure of that name.

        >>> from helicone_sessions.testing import metrics
        >>> GridCell("o3", None, SessionMetricsQuery(), metrics(duration=12)).quantity("seconds_cut")
        12.0
        >>> GridCell("o3", None, SessionMetricsQuery()).quantity("seconds_cut") is None
        True
        """
        metric, _ = figure_of(name)
        if self.metrics is None:
            return None
        if name.endswith("_mean"):
            mean: float | None = getattr(self.metrics.average, metric)
            return mean
        bars = getattr(self.metrics, metric)
        return bars[-1].range_end if bars else None


def figure_of(name: str) -> tuple[str, str]:
    """What a figure is taken from, and its unit.

    Raises:
        ValueError: There is no figure of that name.

    >>> figure_of("seconds_cut")
    ('session_duration', 'seconds')
    """
    try:
        return QUANTITIES[name]  # type: ignore[index]
    except KeyError:
        raise ValueError(f"a figure of a cell is one of {', '.join(QUANTITIES)}, not {name!r}") from None


def cut_of(query: SessionMetricsQuery | None) -> str:
    """A sentence that says where the histograms of a query are cut.

    >>> cut_of(SessionMetricsQuery(p_size="p95"))
    'Cut at p95: sessions above that quantile are not drawn.'
    """
    if query is None:
        return cut_note()
    return cut_note(query.p_size or _DEFAULT_LEVEL, both_ends=bool(query.use_interquartile))


def quantity_title(name: Quantity, query: SessionMetricsQuery) -> str:
    """The title of a table or a picture of one figure.

    >>> quantity_title("seconds_cut", SessionMetricsQuery(p_size="p95"))
    "Seconds from a session's first request to its last, at about p95"
    """
    metric, _ = figure_of(name)
    kind = "mean" if name.endswith("_mean") else f"at about {query.p_size or _DEFAULT_LEVEL}"
    return f"{_MEANINGS[metric].capitalize()}, {kind}"


async def ask(
    client: "HeliconeClient", cells: Mapping[K, GridCell], on_progress: OnProgress | None
) -> dict[K, GridCell]:
    """The cells with their answers, or the errors in their place.

    Raises:
        AuthenticationError: The key is refused, so that no cell would be answered.
    """
    found: dict[K, GridCell] = {}
    failed = 0
    queries: dict[Any, SessionMetricsQuery] = {place: cell.query for place, cell in cells.items()}
    async with client.stream_metrics(queries) as outcomes:
        async for outcome in outcomes:
            failed += outcome.error is not None
            found[outcome.key] = attrs.evolve(
                cells[outcome.key], metrics=outcome.metrics, error=outcome.error
            )
            if on_progress is not None:
                on_progress(len(found), len(cells), failed)
    return found
