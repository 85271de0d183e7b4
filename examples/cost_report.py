"""What each model cost on each day of last calendar month: a table, and a CSV file.

    export HELICONE_API_KEY=sk-helicone-...
    python cost_report.py --models gpt-4o,o3 --time-zone Europe/Berlin

prints the days, and writes `costs-2026-10.csv` with a line for each day and model. The
exit code is 0 if every figure is there. If some are missing it is 5: what came is kept
in `costs-2026-10.json` too, and the same command again asks for the rest and for
nothing else; with other models or another time zone it begins anew. If nothing came,
as with a wrong key or a service that is down, it is 1, and no file is written.
"""

import argparse
import asyncio
import csv
import math
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
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.report import GridCell, MetricsGrid, metrics_grid

MODELS = "gpt-4o,gpt-4o-mini,claude-sonnet-4,claude-opus-4"


def time_zone(name: str) -> ZoneInfo:
    """The zone of that name, or an error that argparse shows."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        message = f"no zone {name!r} is known; names are as Europe/Berlin"
        raise argparse.ArgumentTypeError(message) from None


def last_month(zone: ZoneInfo) -> TimeFilter:
    """From the midnight of the zone in which it began to the one in which it ended."""
    now = datetime.now(zone)
    end = datetime(now.year, now.month, 1, tzinfo=zone)
    return TimeFilter((end - timedelta(days=1)).replace(day=1), end)


async def ask(
    month: TimeFilter, models: list[str], zone: ZoneInfo, kept: Path
) -> MetricsGrid:
    """A cell for each model and day; if a report was begun, what is missing in it."""
    # What no model of the list accounts for is not forgotten.
    segments = {**F.model.is_each(models), "other": F.model.not_in(models)}
    days = month.split(days=1, time_zone=zone)
    begun = read(kept, segments, days)
    async with HeliconeClient() as client:
        if begun is not None:
            return await begun.ask_again(client)
        query = SessionMetricsQuery(p_size="p99.9")
        return await metrics_grid(
            client, query, by=segments, every=days, time_zone=zone, totals=False
        )


def read(
    kept: Path, segments: Mapping[Any, Filter], days: list[TimeFilter]
) -> MetricsGrid | None:
    """The report that was begun, if it is there and about the same."""
    if not kept.exists():
        return None
    try:
        begun = MetricsGrid.from_json(kept.read_text("utf-8"))
    except ValueError:
        print(f"{kept} cannot be read: beginning anew", file=sys.stderr)
        return None
    if (begun.segments, [day.time_filter for day in begun.periods]) == (segments, days):
        return begun
    print(f"{kept} has other models or days: beginning anew", file=sys.stderr)
    return None


def keep(grid: MetricsGrid, kept: Path) -> None:
    """Write it whole or not at all, whatever ends the program meanwhile."""
    part = kept.with_suffix(".part")
    part.write_text(grid.to_json(), "utf-8")
    part.replace(kept)


def sessions(metrics: SessionMetrics) -> float:
    """How many there are, nearly: the service does not tell.

    Its histogram at p99.9 leaves out the costliest thousandth, and at least one
    session, unless all cost the same.
    """
    drawn, mean = metrics.session_cost.total, metrics.average.session_cost
    if mean is None or math.isclose(metrics.session_cost[-1].range_end, mean):
        return drawn
    return max(drawn + 1, drawn / 0.999)


def dollars(cell: GridCell) -> float | None:
    """What the sessions of a cell cost together; None without an answer."""
    if cell.metrics is None:
        return None
    return (cell.metrics.average.session_cost or 0.0) * sessions(cell.metrics)


def save(grid: MetricsGrid, file: Path) -> None:
    """A line for each day and model."""
    with file.open("w", newline="", encoding="utf-8") as out:
        lines = csv.writer(out)
        lines.writerow(["day", "model", "dollars", "dollars_a_session", "error"])
        for cell in grid:
            mean = cell.quantity("dollars_mean")
            lines.writerow([cell.period, cell.segment, dollars(cell), mean, cell.error])


def shown(cells: Iterable[GridCell]) -> str:
    """What they cost together; a sum in which something is missing says so."""
    costs = [dollars(cell) for cell in cells]
    known = [cost for cost in costs if cost is not None]
    if not known:
        return "no answer"
    return f"{sum(known):.2f}" + (" + gaps" if len(known) < len(costs) else "")


def show(grid: MetricsGrid) -> None:
    """A line for each day, a column for each model, and the sums."""
    models = grid.segments
    table = {"": [str(model) for model in models]}
    for period in grid.periods:
        table[str(period)] = [shown([grid[model, period]]) for model in models]
    table["together"] = [shown(grid[model]) for model in models]
    for head, fields in table.items():
        print(f"{head:10}", *(f"{field:>16}" for field in fields))


def main() -> int:
    """Ask, save, show."""
    parser = argparse.ArgumentParser(description="What each model cost, day by day.")
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
