"""Make the pictures of the documentation again: ``python docs/pictures/make.py``.

They show the made-up requests of the embedded engine, so they come out the same each time.
"""

import asyncio
import datetime as dt
import io
import re
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.display import terminal
from helicone_sessions.display.numbers import means
from helicone_sessions.local import LocalServer
from helicone_sessions.messages.metrics import UNITS, panels
from helicone_sessions.report import metrics_grid, plot_grid, plot_metrics
from helicone_sessions.report.cells import cut_of

HERE = Path(__file__).parent
END = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4")


async def main() -> None:
    """Ask, draw and save."""
    query = SessionMetricsQuery(time_filter=TimeFilter(END - dt.timedelta(days=14), END), p_size="p95")
    async with (
        LocalServer(LocalServer.sample(END)) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        metrics = await client.get_metrics(query)
        grid = await metrics_grid(
            client, query, by=F.model.is_each(MODELS), every=dt.timedelta(days=1), time_zone="UTC"
        )
    axes, *_ = plot_metrics(metrics, query=query, title="Sessions of two weeks")
    axes.figure.savefig(HERE / "metrics.png")
    plot_grid(grid, "dollars_mean").figure.savefig(HERE / "lines.png")
    plot_grid(grid, "seconds_cut", "heatmap").figure.savefig(HERE / "heatmap.png")
    # As the command prints it.
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    (averages,) = means([panels(metrics)])
    heads = list(UNITS.values())
    console.print(terminal.NumberTable("Averages of a session", heads, [("all sessions", averages)]))
    console.print(terminal.histograms(panels(metrics), cut_of(query)))
    # Without the fonts that a browser would have to fetch.
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    title = "helicone-sessions metrics --last 14d --p-size p95"
    console.save_svg(str(HERE / "terminal.svg"), title=title, code_format=form, unique_id="t")


if __name__ == "__main__":
    asyncio.run(main())
