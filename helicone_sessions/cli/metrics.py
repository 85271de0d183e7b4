"""The command ``helicone-sessions metrics``, which shows metrics as a table, JSON, CSV, HTML or a plot."""

import asyncio
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, get_args

import attrs

from helicone_sessions.cli.arguments import Source, Times, column_of, condition, of_queries, segments
from helicone_sessions.cli.error_text import say
from helicone_sessions.display import html
from helicone_sessions.display.numbers import means
from helicone_sessions.errors import ConfigurationError, FilterError, FilterValueError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.columns.kinds import Column
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import Leaf, Node
from helicone_sessions.messages.metrics import UNITS, PSize, SessionMetrics, panels
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter
from helicone_sessions.messages.tabular import Tabular, json_text
from helicone_sessions.report.cells import QUANTITIES, GridCell, Quantity, cut_of
from helicone_sessions.report.comparison import GridComparison, comparison_to_html, comparison_to_terminal
from helicone_sessions.report.grid import MetricsGrid, grid_to_html, grid_to_terminal, metrics_grid
from helicone_sessions.report.periods import length_of, periods_of
from helicone_sessions.transport.client import HeliconeClient

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_CONDITION: Final = re.compile(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*\$?(\d+(?:\.\d+)?)\s*(x?)\s*")


@attrs.frozen
class Alarm:
    """A condition on a quantity of a cell.

    The limit is a fixed number, or a multiple of the value in the preceding time range.

    Args:
        text: The text of the condition.
        quantity: The quantity to compare.
        compare: Compares the quantity with the limit.
        limit: The limit.
        is_relative: Whether the limit is a multiple of the value in the preceding time range.
    """

    text: str
    quantity: Quantity
    compare: Callable[[Any, Any], bool] = attrs.field(repr=False)
    limit: float
    is_relative: bool

    @classmethod
    def parse(cls, text: str) -> "Alarm":
        """Parse a condition such as ``dollars_p95 > 1.5x`` or ``dollars_total > 100``.

        Raises:
            ConfigurationError: The text is not a condition.

        >>> Alarm.parse("dollars_p95 > 1.5x").is_relative
        True
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConfigurationError(
                argument="fail_if",
                problem=f"must be a condition such as 'dollars_total > 100', got {text!r}",
                remedy="Write a quantity, a comparison and a number;"
                " 1.5x is relative to the preceding time range",
            )
        quantity, sign, number, times = found.groups()
        if quantity not in QUANTITIES:
            raise ConfigurationError(
                argument="fail_if",
                problem=f"must begin with a quantity, got {quantity!r}",
                remedy=f"Use one of {', '.join(QUANTITIES)}",
            )
        return cls(text.strip(), quantity, _OPERATORS[sign], float(number), bool(times))

    @property
    def level(self) -> PSize | None:
        """The quantile that a grid must query for this alarm, or None if it needs none.

        >>> Alarm.parse("dollars_p95 > 1").level
        'p95'
        """
        kind = self.quantity.partition("_")[2]
        return next((level for level in get_args(PSize) if level == kind), None)

    def reason(self, after: GridCell, before: GridCell | None) -> str | None:
        """Return the reason if a cell sets off the alarm; None if it does not, or if a value is missing.

        Args:
            after: The cell.
            before: The same cell in the preceding time range, or None without a comparison.
        """
        value = after.quantity(self.quantity)
        limit: float | None = self.limit
        if self.is_relative:
            earlier = None if before is None else before.quantity(self.quantity)
            limit = None if earlier is None else self.limit * earlier
        if value is None or limit is None or not self.compare(value, limit):
            return None
        return f"{after.segment}, {after.period}: {self.text} ({value:.6g} against {limit:.6g})"


def levels_of(alarms: Iterable[Alarm]) -> list[PSize]:
    """Return the quantiles that a grid must query for the alarms.

    >>> levels_of([Alarm.parse("dollars_p95 > 1"), Alarm.parse("sessions < 5")])
    ['p95']
    """
    return list(dict.fromkeys(alarm.level for alarm in alarms if alarm.level is not None))


Output = Literal["table", "json", "csv", "html"]
Kind = Literal["lines", "heatmap"]
# The exit codes for a grid with failed queries, and for a --fail-if condition that is met.
_PARTLY, _ALARM = 5, 6
# The rate limit of the free tier: requests, and minutes.
_MANY, _WINDOW_MINUTES = 1000, 5
_DAY: Final = timedelta(days=1)
_ABOVE: Final = ("gt", "gte")


@attrs.frozen
class _Report:
    """The query of a report, and how to show the report."""

    query: SessionMetricsQuery
    grid: dict[str, Any]
    quantity: Quantity
    output: Output
    plot: Path | None
    kind: Kind
    source: Source
    alarms: list[Alarm]
    previous: TimeFilter | None

    @property
    def is_table(self) -> bool:
        """Whether the report has segments, periods, or quantities beyond those of plain metrics."""
        options = self.grid
        has_columns = bool(options["percentiles"]) or options["exact_sums"]
        return options["by"] is not None or options["every"] is not None or has_columns

    @property
    def is_grid(self) -> bool:
        """Whether the report needs a grid instead of plain metrics."""
        return self.is_table or bool(self.alarms) or self.previous is not None

    @property
    def query_count(self) -> int:
        """The number of queries.

        If a column defines the segments, their number is unknown, so each period counts as one query.
        """
        by, zone = self.grid["by"], self.grid["time_zone"]
        segments = len(by) if isinstance(by, Mapping) else 1
        return segments * len(periods_of(self.query, self.grid["every"], zone))


def metrics(
    text: str | None = None,
    /,
    *,
    times: Times = Times(),
    p_size: PSize | None = None,
    use_interquartile: bool = False,
    name_contains: str = "",
    by: list[str] | None = None,
    top: int | None = None,
    every: str | None = None,
    quantity: Quantity = "dollars_mean",
    percentile: list[PSize] | None = None,
    exact: bool = False,
    compare: Literal["previous"] | None = None,
    fail_if: list[str] | None = None,
    output: Output = "table",
    plot: Path | None = None,
    kind: Kind = "lines",
    yes: bool = False,
    source: Source = Source(),
) -> None:
    """Show the metrics of sessions, in total or by segment and period.

    The key is read from HELICONE_API_KEY (`export HELICONE_API_KEY=sk-helicone-...`), and the address from
    HELICONE_BASE_URL or --region. Neither is needed with --path or --data.

    Args:
        text: The filter, e.g. 'cost > 0.1 and model contains "gpt"'; all requests by default.
        times: The time range of the requests.
        p_size: The quantile at which the histograms are cut.
        use_interquartile: Cut the histograms at both ends.
        name_contains: Only sessions of this name.
        by: The segments: a column (model) for one segment per value, a column with values (model=gpt-4o,o3),
            or a name with a filter ('slow:latency > 5000'). Repeat the last two for more.
        top: The maximum number of segments if --by is a column. The values with the highest total cost are
            kept.
        every: Divide the time range into periods of this length, e.g. 1d or 6h.
        quantity: The quantity to show in a plot or in a table of several periods.
        percentile: A quantile of all sessions to add to the table: p50, p75, p95, p99 or p99.9. Repeat it for
            more. On the service, each takes one extra query per cell.
        exact: Get exact totals of sessions, requests and dollars from the service as well. This takes one
            extra query per cell.
        compare: Compare the time range with the preceding one of the same length.
        fail_if: Exit with code 6 if a condition is met, e.g. 'dollars_total > 100' or, with --compare
            previous, 'dollars_p95 > 1.5x'. Repeat it for more.
        output: The format of the output.
        plot: The plot file to write: .png, .svg or .pdf (extra plot).
        kind: How to draw segments and periods.
        yes: Run thousands of queries without confirmation.
        source: Where the data comes from.
    """
    period = None if every is None else length_of(every)
    alarms = list(map(Alarm.parse, fail_if or ()))
    query = SessionMetricsQuery(
        source.narrowed(None if text is None else condition(text)),
        name_contains=name_contains,
        time_filter=times.time_filter(period),
        p_size=p_size,
        use_interquartile=use_interquartile or None,
    )
    grid: dict[str, Any] = {
        "by": _segments_by(by or []),
        "top": top,
        "every": period,
        "time_zone": times.zone,
        "percentiles": list(dict.fromkeys([*(percentile or ()), *levels_of(alarms)])),
        "exact_sums": exact,
    }
    previous = None if compare is None else _before(query.time_filter)
    report = _Report(query, grid, quantity, output, plot, kind, source, alarms, previous)
    _check(report)
    if report.is_grid:
        _announce(report.query_count, source, is_confirmed=yes)
        _run_grids(report)
        return
    found, follows_contract = asyncio.run(_metrics(report))
    _show_metrics(found, report)
    if found.average.session_count is None:
        say(_advice(query, follows_contract=follows_contract))


def _segments_by(given: list[str]) -> Column | dict[str, Filter] | None:
    column = column_of(given)
    return segments(given) if column is None else column


def _check(report: _Report) -> None:
    """Check that each option comes with the options that it requires.

    Raises:
        ConfigurationError: An option is missing.
    """
    if report.query.time_filter is None and report.grid["every"] is not None:
        raise ConfigurationError(argument="every", problem="needs a time range", remedy="Add --last 7d")
    if report.previous is None and any(alarm.is_relative for alarm in report.alarms):
        raise ConfigurationError(
            argument="fail_if",
            problem="needs an earlier time range to compare with",
            remedy="Add --compare previous",
        )
    _check_form(report)


def _check_form(report: _Report) -> None:
    if report.quantity != "dollars_mean" and not report.is_table and report.previous is None:
        raise ConfigurationError(argument="quantity", problem="needs a table", remedy="Add --by or --every")
    if report.plot is not None:
        _check_picture(report.plot)
    elif report.kind != "lines":
        raise ConfigurationError(argument="kind", problem="needs a picture", remedy="Add --plot report.png")


def _before(time: TimeFilter | None) -> TimeFilter:
    """Return the preceding time range of the same length; whole days stay whole across clock changes.

    Raises:
        ConfigurationError: The report covers all time.
    """
    if time is None:
        raise ConfigurationError(argument="compare", problem="needs a time range", remedy="Add --last 7d")
    zone = time.time_zone
    if zone is None or time.length % _DAY > timedelta(hours=1):
        return TimeFilter(time.start - time.length, time.start, zone)
    start, end = (moment.astimezone(zone) for moment in (time.start, time.end))
    days = end.replace(tzinfo=None) - start.replace(tzinfo=None)
    return TimeFilter(start - days, start, zone)


def _run_grids(report: _Report) -> None:
    after, before = asyncio.run(_grids(report))
    comparison = None if before is None else after.compare(before)
    if comparison is None:
        _show_grid(after, report)
    else:
        _show_comparison(comparison, report)
    failed = [*after.failed, *(before.failed if before is not None else ())]
    for cell in failed:
        say(f"{_name_of(cell)}: {cell.error}")
    reasons = list(_reasons(report.alarms, after, before))
    for reason in reasons:
        say(reason)
    if failed or reasons:
        raise SystemExit(_PARTLY if failed else _ALARM)


def _name_of(cell: GridCell) -> str:
    """Return the names of a cell's segment and period, or "total" where one of them is missing."""
    found = [str(part) for part in (cell.segment, cell.period) if part is not None]
    return ", ".join(found if len(found) > 1 else [*found, "total"])


def _reasons(alarms: Iterable[Alarm], after: MetricsGrid, before: MetricsGrid | None) -> Iterator[str]:
    """Yield the reasons for all alarms that go off."""
    for alarm in alarms:
        for new, old in zip(after, before or [None] * len(after), strict=True):
            if reason := alarm.reason(new, old):
                yield reason


def _advice(query: SessionMetricsQuery, *, follows_contract: bool) -> str:
    """Return advice for a report without matching sessions."""
    leaves = () if query.filter is None else _leaves(query.filter.node)
    limit = next(
        (leaf.value for leaf in leaves if leaf.column.name == "cost" and leaf.operator in _ABOVE), None
    )
    if limit is None:
        return "Try a longer time range or fewer conditions"
    condition = f"session_total_cost > {limit}"
    if follows_contract:
        return f"`cost` is the cost of one request. For the cost of whole sessions use {condition!r}"
    return (
        "`cost` is the cost of one request. For the sessions that cost more in total,"
        f" run helicone-sessions sessions {condition!r}"
    )


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    for child in node.children:
        yield from _leaves(child)


def _announce(count: int, source: Source, *, is_confirmed: bool) -> None:
    """Announce how long the queries will take and, in a terminal, ask whether to run them."""
    if count < _MANY or source.is_local:
        return
    minutes = (math.ceil(count / _MANY) - 1) * _WINDOW_MINUTES
    say(
        f"{count:,} queries, about {minutes} minutes at the free tier's rate limit"
        f" ({_MANY:,} requests in {_WINDOW_MINUTES} minutes)"
    )
    if is_confirmed or not sys.stdin.isatty():
        return
    sys.stderr.write("Run them? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise KeyboardInterrupt


async def _metrics(report: _Report) -> tuple[SessionMetrics, bool]:
    """Return the metrics, and whether the server reads filters as the contract does."""
    with of_queries(transient=True) as progress:
        async with report.source.client(progress) as client:
            found = await client.get_metrics(report.query)
            progress.on_progress(1, 1, 0)
            await _note_unsessioned(client, report)
            return found, client.offers_grid


async def _note_unsessioned(client: HeliconeClient, report: _Report) -> None:
    """Report how many requests have no session id.

    This is skipped on the service, where it would take another query.
    """
    if report.source.without_unsessioned or not client.offers_grid:
        return
    query, has_none = report.query, F.session_id.is_empty()
    narrowed = has_none if query.filter is None else query.filter & has_none
    try:
        count = await client.count_requests(narrowed, time_filter=query.time_filter)
    except FilterError:
        # Requests cannot be counted with conditions on whole sessions.
        return
    if count:
        say(
            f"requests without a session id count as one session ({count:,} here)."
            " --without-unsessioned leaves them out"
        )


async def _grids(report: _Report) -> tuple[MetricsGrid, MetricsGrid | None]:
    """Return the grid and, for a comparison, the grid of the preceding time range."""
    with of_queries(transient=True) as progress:
        async with report.source.client(progress) as client:

            async def grid(query: SessionMetricsQuery, **options: Any) -> MetricsGrid:
                return await metrics_grid(client, query, **options, on_progress=progress.on_progress)

            try:
                # Totals appear only in tables and HTML, and not in comparisons.
                totals = report.previous is None and report.output in ("table", "html")
                after = await grid(report.query, **report.grid, totals=totals)
            except FilterValueError as error:
                if error.argument == "by":
                    error.add_note(_advice(report.query, follows_contract=client.offers_grid))
                raise
            if all(_is_empty(cell) for cell in after):
                say(f"no session matches. {_advice(report.query, follows_contract=client.offers_grid)}")
            await _note_unsessioned(client, report)
            if report.previous is None:
                return after, None
            # Use the same segments for both, even if they are the values of a column.
            options = {**report.grid, "by": after.segments, "top": None}
            earlier = attrs.evolve(report.query, time_filter=report.previous)
            return after, await grid(earlier, **options, totals=False)


def _is_empty(cell: GridCell) -> bool:
    return cell.metrics is not None and cell.metrics.average.session_count is None


def _check_picture(plot: Path) -> None:
    """Check, before any query runs, that the plot can be written."""
    from helicone_sessions.report.plot import check_installed

    check_installed()
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigurationError(
            argument="plot", problem=f"must be a .png, .svg or .pdf file, got {str(plot)!r}"
        )
    if not plot.parent.is_dir():
        raise ConfigurationError(
            argument="plot", problem=f"must be in an existing directory, got {str(plot)!r}"
        )
    if not os.access(plot if plot.exists() else plot.parent, os.W_OK):
        raise ConfigurationError(argument="plot", problem=f"must be a writable file, got {str(plot)!r}")


def _show_metrics(found: SessionMetrics, report: _Report) -> None:
    if report.output == "table":
        from rich.console import Console

        from helicone_sessions.display import terminal

        console = Console(highlight=False)
        heads = list(UNITS.values())
        (averages,) = means([panels(found)])
        console.print(terminal.NumberTable("Averages of a session", heads, [("all sessions", averages)]))
        if found.average.session_count is None:
            console.print("No session matches.")
        else:
            console.print(terminal.histograms(panels(found), cut_of(report.query)))
    else:
        _write(found, report, lambda: html.histograms(panels(found), cut_of(report.query)))
    if report.plot is not None:
        from helicone_sessions.report.plot import plot_metrics

        drawn, *_ = plot_metrics(found, query=report.query, source=report.source.name)
        drawn.figure.savefig(report.plot)  # type: ignore[union-attr]


def _show_grid(grid: MetricsGrid, report: _Report) -> None:
    if report.output == "table":
        _print(grid_to_terminal(grid, report.quantity), grid.note)
    else:
        _write(grid, report, lambda: grid_to_html(grid, report.quantity, others="--quantity"))
    if report.plot is not None:
        from helicone_sessions.report.plot import plot_grid

        drawn = plot_grid(grid, report.quantity, report.kind, source=report.source.name)
        drawn.figure.savefig(report.plot)  # type: ignore[union-attr]


def _show_comparison(comparison: GridComparison, report: _Report) -> None:
    if report.output == "table":
        _print(comparison_to_terminal(comparison, report.quantity), "")
    else:
        _write(comparison, report, lambda: comparison_to_html(comparison, report.quantity))
    if report.plot is not None:
        from helicone_sessions.report.plot import plot_comparison

        drawn = plot_comparison(comparison, report.quantity, source=report.source.name)
        drawn.figure.savefig(report.plot)  # type: ignore[union-attr]


def _print(shown: Any, note: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(shown)
    if note:
        console.print(note, style="dim")


def _write(found: Tabular, report: _Report, as_html: Callable[[], str]) -> None:
    if report.output == "html":
        # Without the meta element, a browser would have to guess the encoding of the file.
        head = '<!doctype html>\n<meta charset="utf-8">\n<title>Session metrics</title>'
        sys.stdout.write(f"{head}\n{as_html()}\n")
    else:
        sys.stdout.write(found.to_csv() if report.output == "csv" else f"{json_text(found.to_rows())}\n")
