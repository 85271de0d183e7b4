"""Report the cost of each model on each day of the last calendar month.

    export HELICONE_API_KEY=sk-helicone-...
    python cost_report.py --models gpt-4o,o3 --time-zone Europe/Berlin

prints a table, and writes `costs-2026-10.csv` with a line for each day and
model. The exit code is 0 if all figures are there. If some are missing it is 5:
the others are also saved in `costs-2026-10.json`, and the same command queries
only the rest; with other models or another time zone it starts again. Without
any result, for example because of a wrong key, the exit code is 1 and no file
is written.
"""

import argparse
import asyncio
import csv
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from helicone_sessions import (
    F,
    Filter,
    HeliconeClient,
    HeliconeError,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.report import GridCell, MetricsGrid, metrics_grid

MODELS = "gpt-4o,gpt-4o-mini,claude-sonnet-4,claude-opus-4"


def time_zone(name: str) -> ZoneInfo:
    """The time zone of that name, or an error that argparse shows."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        message = f"no zone {name!r} is known; use a name such as Europe/Berlin"
        raise argparse.ArgumentTypeError(message) from None


def last_month(zone: ZoneInfo) -> TimeFilter:
    """The last month, from midnight to midnight in that zone."""
    now = datetime.now(zone)
    end = datetime(now.year, now.month, 1, tzinfo=zone)
    return TimeFilter((end - timedelta(days=1)).replace(day=1), end)


async def ask(
    month: TimeFilter, models: list[str], zone: ZoneInfo, kept: Path
) -> MetricsGrid:
    """Query all cells, or the missing cells of a saved report."""
    # Models that are not in the list count as "other".
    segments = {**F.model.is_each(models), "other": F.model.not_in(models)}
    days = month.split(days=1, time_zone=zone)
    begun = read(kept, segments, days)
    async with HeliconeClient() as client:
        if begun is not None:
            return await begun.ask_again(client)
        # Totals are estimated from the histograms, so cut them late.
        query = SessionMetricsQuery(p_size="p99.9")
        return await metrics_grid(
            client, query, by=segments, every=days, time_zone=zone, totals=False
        )


def read(
    kept: Path, segments: Mapping[Any, Filter], days: list[TimeFilter]
) -> MetricsGrid | None:
    """The saved report, if it has the same models and days."""
    if not kept.exists():
        return None
    try:
        begun = MetricsGrid.from_json(kept.read_text("utf-8"))
    except ValueError:
        print(f"{kept} cannot be read: starting again", file=sys.stderr)
        return None
    if (begun.segments, [day.time_filter for day in begun.periods]) == (
        segments,
        days,
    ):
        return begun
    print(f"{kept} has other models or days: starting again", file=sys.stderr)
    return None


def keep(grid: MetricsGrid, kept: Path) -> None:
    """Write the whole file or nothing, even if the program is killed."""
    part = kept.with_suffix(".part")
    part.write_text(grid.to_json(), "utf-8")
    part.replace(kept)


def dollars(cell: GridCell) -> float | None:
    """The total cost of a cell; None without a result."""
    return (
        None if cell.metrics is None else cell.quantity("dollars_total") or 0.0
    )


def save(grid: MetricsGrid, file: Path) -> None:
    """Write a line for each day and model."""
    with file.open("w", newline="", encoding="utf-8") as out:
        lines = csv.writer(out)
        lines.writerow(
            ["day", "model", "dollars", "dollars_a_session", "error"]
        )
        for cell in grid:
            mean = cell.quantity("dollars_mean")
            lines.writerow(
                [cell.period, cell.segment, dollars(cell), mean, cell.error]
            )


def shown(cells: Iterable[GridCell]) -> str:
    """The total cost of cells; a sum with missing cells is marked."""
    costs = [dollars(cell) for cell in cells]
    known = [cost for cost in costs if cost is not None]
    if not known:
        return "no answer"
    return f"{sum(known):.2f}" + (" + gaps" if len(known) < len(costs) else "")


def show(grid: MetricsGrid) -> None:
    """Print a line for each day, a column for each model, and the sums."""
    models = grid.segments
    table = {"": [str(model) for model in models]}
    for period in grid.periods:
        table[str(period)] = [shown([grid[model, period]]) for model in models]
    table["together"] = [shown(grid[model]) for model in models]
    for head, fields in table.items():
        print(f"{head:10}", *(f"{field:>16}" for field in fields))


def main() -> int:
    """Query, save, print."""
    parser = argparse.ArgumentParser(
        description="Report the cost of each model, day by day."
    )
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--time-zone", type=time_zone, default="UTC")
    given = parser.parse_args()
    month = last_month(given.time_zone)
    name = f"costs-{month.start.astimezone(given.time_zone):%Y-%m}"
    kept = Path(f"{name}.json")
    models = given.models.split(",")
    try:
        grid = asyncio.run(ask(month, models, given.time_zone, kept))
    except HeliconeError as error:
        print(f"there is no report: {error}", file=sys.stderr)
        return 1
    if len(grid.failed) == len(grid):
        print(f"there is no report: {grid.failed[0].error}", file=sys.stderr)
        return 1
    save(grid, Path(f"{name}.csv"))
    show(grid)
    if missing := len(grid.failed):
        keep(grid, kept)
        print(f"{missing} figures are missing: run this again", file=sys.stderr)
        return 5
    kept.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
