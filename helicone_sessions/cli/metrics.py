"""``helicone-sessions metrics``: query the service, and show a table, JSON, CSV, HTML or a picture."""

import asyncio
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from helicone_sessions.cli.arguments import condition, length, segments, time_of, zone
from helicone_sessions.cli.progress import of_queries
from helicone_sessions.display import html
from helicone_sessions.display.numbers import means
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.messages.metrics import UNITS, PSize, SessionMetrics, panels
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.tabular import json_text
from helicone_sessions.report.cells import Quantity, cut_of
from helicone_sessions.report.grid import MetricsGrid, grid_to_html, grid_to_terminal, metrics_grid
from helicone_sessions.report.periods import periods_of
from helicone_sessions.transport.client import HeliconeClient

Output = Literal["table", "json", "csv", "html"]
# The exit code if some queries of a grid failed, after the rest was shown.
_PARTLY: Final = 5
# The rate limit of the free tier.
_MANY, _WINDOW_MINUTES = 1000, 5


def metrics(  # noqa: PLR0913 - options
    text: str | None = None,
    /,
    *,
    last: str | None = None,
    begin: Annotated[str | None, Parameter(name="--from")] = None,
    end: Annotated[str | None, Parameter(name="--to")] = None,
    p_size: PSize | None = None,
    use_interquartile: bool = False,
    name_contains: str = "",
    by: list[str] | None = None,
    every: str | None = None,
    time_zone: str | None = None,
    quantity: Quantity = "dollars_mean",
    output: Output = "table",
    plot: Path | None = None,
    kind: Literal["lines", "heatmap"] = "lines",
    region: Literal["us", "eu"] | None = None,
    timeout: float = 60.0,
    max_concurrency: int = 8,
    yes: bool = False,
) -> None:
    """Show the metrics of sessions, in total or by segment and period.

    The key is taken from HELICONE_API_KEY (`export HELICONE_API_KEY=sk-helicone-...`), the address from
    HELICONE_BASE_URL or --region.

    Args:
        text: The filter, e.g. 'cost > 0.1 and model contains "gpt"'; all requests by default.
        last: How far back to look, e.g. 90m, 12h, 7d or 2w.
        begin: The start of the time, e.g. 2026-11-01 or 2026-11-01T18:00Z, by default in --time-zone.
        end: The end of the time; now by default.
        p_size: The quantile at which the histograms are cut.
        use_interquartile: Cut the histograms at both ends.
        name_contains: Only sessions of this name.
        by: Segments: a column and its values, e.g. model=gpt-4o,o3, or a name and a filter, e.g.
            'slow:latency > 5000'. Repeat it for more segments.
        every: Divide the time into periods of this length, e.g. 1d or 6h.
        time_zone: The time zone, e.g. Europe/Berlin, whose calendar periods of whole days follow; UTC by
            default.
        quantity: The number that a table of segments and periods, or its picture, shows.
        output: The format of the output.
        plot: The picture file to write, .png, .svg or .pdf (extra plot).
        kind: How to draw segments and periods.
        region: The region of the service.
        timeout: Seconds for one attempt.
        max_concurrency: The number of queries under way at once.
        yes: Run thousands of queries without asking first.
    """
    where = zone(time_zone)
    period = None if every is None else length("every", every)
    query = SessionMetricsQuery(
        None if text is None else condition(text),
        name_contains=name_contains,
        time_filter=time_of(last, begin, end, where, period),
        p_size=p_size,
        use_interquartile=use_interquartile or None,
    )
    asked: dict[str, Any] = {
        "by": segments(by or []),
        "every": period,
        "time_zone": where,
    }
    if every is not None and query.time_filter is None:
        raise ConfigurationError(argument="every", problem="needs a time", remedy="Add --last 7d")
    is_table = asked["by"] is not None or every is not None
    if quantity != "dollars_mean" and not is_table:
        raise ConfigurationError(argument="quantity", problem="needs a table", remedy="Add --by or --every")
    if plot is not None:
        _check_picture(plot)
    elif kind != "lines":
        raise ConfigurationError(argument="kind", problem="needs a picture", remedy="Add --plot report.png")
    settings = {"region": region, "timeout": timeout, "max_concurrency": max_concurrency}
    if not is_table:
        _show_metrics(asyncio.run(_one(query, settings)), query, output, plot)
    else:
        count = len(asked["by"] or [None]) * len(periods_of(query, period, where))
        _announce(count, is_confirmed=yes)
        grid = asyncio.run(_grid(query, asked, settings))
        _show_grid(grid, quantity, output, plot, kind)
        if grid.failed:
            for cell in grid.failed:
                sys.stderr.write(f"helicone-sessions: {cell.segment}, {cell.period}: {cell.error}\n")
            raise SystemExit(_PARTLY)


def _announce(count: int, *, is_confirmed: bool) -> None:
    """Say how long many queries take, and on a terminal ask whether to run them."""
    if count < _MANY:
        return
    minutes = math.ceil(count / _MANY) * _WINDOW_MINUTES - _WINDOW_MINUTES
    sys.stderr.write(
        f"helicone-sessions: {count:,} queries, about {minutes} minutes at the free tier's rate limit"
        f" ({_MANY:,} requests in {_WINDOW_MINUTES} minutes)\n"
    )
    if is_confirmed or not sys.stdin.isatty():
        return
    sys.stderr.write("Run them? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise KeyboardInterrupt


async def _one(query: SessionMetricsQuery, settings: dict[str, Any]) -> SessionMetrics:
    with of_queries(transient=True) as progress:
        async with HeliconeClient(**settings, hooks=progress) as client:
            found = await client.get_metrics(query)
            progress.on_progress(1, 1, 0)
            return found


async def _grid(query: SessionMetricsQuery, asked: dict[str, Any], settings: dict[str, Any]) -> MetricsGrid:
    with of_queries(transient=True) as progress:
        async with HeliconeClient(**settings, hooks=progress) as client:
            return await metrics_grid(client, query, **asked, totals=False, on_progress=progress.on_progress)


def _check_picture(plot: Path) -> None:
    """Check that the picture can be written, before any query runs."""
    from helicone_sessions.report.plot import check_installed  # noqa: PLC0415 - it is an extra

    check_installed()
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigurationError(
            argument="plot", problem=f"must be a .png, .svg or .pdf file, got {str(plot)!r}"
        )
    if not plot.parent.is_dir():
        raise ConfigurationError(argument="plot", problem=f"needs a directory, got {str(plot.parent)!r}")
    if not os.access(plot if plot.exists() else plot.parent, os.W_OK):
        raise ConfigurationError(argument="plot", problem=f"cannot be written, got {str(plot)!r}")


def _show_metrics(
    found: SessionMetrics, query: SessionMetricsQuery, output: Output, plot: Path | None
) -> None:
    if output == "table":
        from rich.console import Console  # noqa: PLC0415 - it is an extra

        from helicone_sessions.display import terminal  # noqa: PLC0415

        console = Console(highlight=False)
        heads = list(UNITS.values())
        (averages,) = means([panels(found)])
        console.print(terminal.NumberTable("Averages of a session", heads, [("all sessions", averages)]))
        if found.average.session_count is None:
            console.print("No session matches. Try a longer time, or fewer conditions.")
        else:
            console.print(terminal.histograms(panels(found), cut_of(query)))
    elif output == "html":
        _write_page(html.histograms(panels(found), cut_of(query)))
    else:
        _write(found, output)
    if plot is not None:
        from helicone_sessions.report.plot import plot_metrics  # noqa: PLC0415 - it is an extra

        plot_metrics(found, query=query)[0].figure.savefig(plot)  # type: ignore[union-attr]


def _show_grid(
    grid: MetricsGrid,
    quantity: Quantity,
    output: Output,
    plot: Path | None,
    kind: Literal["lines", "heatmap"],
) -> None:
    if output == "table":
        from rich.console import Console  # noqa: PLC0415 - it is an extra

        Console(highlight=False).print(grid_to_terminal(grid, quantity))
    elif output == "html":
        _write_page(grid_to_html(grid, quantity, others="--quantity"))
    else:
        _write(grid, output)
    if plot is not None:
        from helicone_sessions.report.plot import plot_grid  # noqa: PLC0415 - it is an extra

        plot_grid(grid, quantity, kind).figure.savefig(plot)  # type: ignore[union-attr]


def _write(found: SessionMetrics | MetricsGrid, output: Output) -> None:
    sys.stdout.write(found.to_csv() if output == "csv" else f"{json_text(found.to_rows())}\n")


def _write_page(fragment: str) -> None:
    # Without the meta element a browser would guess the encoding of the file.
    sys.stdout.write(f'<!doctype html>\n<meta charset="utf-8">\n<title>Session metrics</title>\n{fragment}\n')
