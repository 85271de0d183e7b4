"""Draw the pictures of the documentation: ``python docs/pictures/make.py``.

They show sample requests of the embedded engine. The picture of `demo` shows the month that ends today; the
others are the same each time. Each picture with a light background gets a dark variant.
"""

import asyncio
import datetime as dt
import io
import os
import re
import subprocess
from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.report import metrics_grid, plot_grid, plot_metrics

HERE = Path(__file__).parent
END = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
# The background of dark pages.
DARK = {"figure.facecolor": "#131416", "axes.facecolor": "#131416"}
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4")


async def main() -> None:
    """Query, draw and save."""
    query = SessionMetricsQuery(time_filter=TimeFilter(END - dt.timedelta(days=14), END), p_size="p95")
    async with (
        LocalServer(LocalServer.sample(END)) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        metrics = await client.get_metrics(query)
        grid = await metrics_grid(
            client, query, by=F.model.is_each(MODELS), every=dt.timedelta(days=1), time_zone="UTC"
        )
    for variant, style in (("", {}), ("-dark", DARK)):
        with mpl.rc_context(style):
            axes, *_ = plot_metrics(metrics, query=query, title="Sessions of two weeks", source="sample")
            axes.figure.savefig(HERE / f"metrics{variant}.png")
            lines = plot_grid(grid, "dollars_mean", source="sample")
            lines.figure.savefig(HERE / f"lines{variant}.png")
            heatmap = plot_grid(grid, "seconds_cut", "heatmap", source="sample")
            heatmap.figure.savefig(HERE / f"heatmap{variant}.png")
    darken_png(HERE / "engine.png")
    darken_svg(HERE / "architecture.svg")
    picture_of_command(HERE / "terminal.svg", "helicone-sessions", "demo")


def inverted(colors: np.ndarray) -> np.ndarray:
    """Colours with light and dark exchanged, and their hues kept; white becomes the grey of dark pages."""
    lightness = colors.max(-1, keepdims=True) + colors.min(-1, keepdims=True)
    return np.clip(0.075 + 0.925 * (colors + 1 - lightness), 0, 1)


def darken_png(file: Path) -> None:
    """Save a variant for dark pages."""
    pixels = matplotlib.image.imread(file)[..., :3]
    matplotlib.image.imsave(file.with_stem(f"{file.stem}-dark"), inverted(pixels))


def darken_svg(file: Path) -> None:
    """Save a variant for dark pages."""

    def dark(found: re.Match[str]) -> str:
        return to_hex(inverted(np.array(to_rgb(found[0]))))

    text = re.sub(r"#[0-9a-f]{6}\b|#[0-9a-f]{3}\b", dark, file.read_text("utf-8"))
    file.with_stem(f"{file.stem}-dark").write_text(text, "utf-8")


def picture_of_command(file: Path, *command: str) -> None:
    """Save the output of a command in a terminal of 80 columns."""
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
