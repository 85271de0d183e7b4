"""Make the pictures of the documentation again: ``python docs/pictures/make.py``.

They show sample requests of the embedded engine. The picture of `demo` shows the month that ends today; the
others are the same each time.
"""

import asyncio
import datetime as dt
import io
import os
import re
import subprocess
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.report import metrics_grid, plot_grid, plot_metrics

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
    picture_of_command(HERE / "terminal.svg", "helicone-sessions", "demo")


def picture_of_command(file: Path, *command: str) -> None:
    """Save what a command shows in a terminal of 80 columns."""
    environment = os.environ | {"COLUMNS": "80", "FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    # The progress bar is gone when the command ends.
    shown = re.sub(r"\x1b\[\?25l.*\x1b\[\?25h\r\x1b\[1A\x1b\[2K", "", done.stdout.decode(), flags=re.DOTALL)
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown))
    # Without the fonts that a browser would have to fetch.
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(file), title=" ".join(command), code_format=form, unique_id="t")


if __name__ == "__main__":
    asyncio.run(main())
