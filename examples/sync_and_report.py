"""Copy new requests, and report the last week against the week before.

    export HELICONE_API_KEY=sk-helicone-...
    python sync_and_report.py helicone-data --time-zone Europe/Berlin

prints the dollars and the requests of each model in the seven days before
today. The first run copies the last 30 days, later runs copy what is new. The
exit code is 0 if the copy is complete. If the service fails it is 1, and the
report has the data that is there; the next run copies the rest. Every night,
in a crontab:

    HELICONE_API_KEY=sk-helicone-...
    30 2 * * *  cd /srv/report && python sync_and_report.py helicone-data
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from helicone_sessions import (
    HeliconeClient,
    HeliconeError,
    SessionMetricsQuery,
    TimeFilter,
    sync,
)
from helicone_sessions.local import LocalServer
from helicone_sessions.report import MetricsGrid, metrics_grid


async def copy(path: str) -> bool:
    """Whether the copy is complete."""
    try:
        async with HeliconeClient() as client:
            done = await sync(
                client, path, since=datetime.now(UTC) - timedelta(days=30)
            )
    except HeliconeError as error:
        print(f"the copy is not complete: {error}", file=sys.stderr)
        return False
    print(f"{done.requests - done.replaced:,} new requests")
    for reason, number in done.skipped.items():
        print(f"{number:,} requests were skipped: {reason}", file=sys.stderr)
    return True


async def ask(path: str, zone: tzinfo) -> MetricsGrid:
    """A cell for each model and each of the two weeks before today."""
    today = datetime.now(zone).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    weeks = TimeFilter(today - timedelta(days=14), today)
    query = SessionMetricsQuery(time_filter=weeks)
    async with (
        LocalServer(path=path) as server,
        HeliconeClient(server.api_key, base_url=server.url) as local,
    ):
        return await metrics_grid(
            local, query, by="model", every=timedelta(days=7), time_zone=zone
        )


def show(grid: MetricsGrid) -> None:
    """A line for each model, the most expensive first."""
    heads = f"{'requests':>10}{'dollars':>12}{'week before':>14}{'change':>9}"
    print(f"{'model':24}{heads}")
    before, week = grid.periods
    for model in grid.segments:
        then = grid[model, before].quantity("dollars_total") or 0.0
        now = grid[model, week].quantity("dollars_total") or 0.0
        requests = grid[model, week].quantity("requests_total") or 0
        change = f"{now / then - 1:+.0%}" if then else "new"
        print(
            f"{model!s:24}{requests:>10,}{now:>12.2f}{then:>14.2f}{change:>9}"
        )


def main() -> int:
    """Copy, ask, show."""
    parser = argparse.ArgumentParser(
        description="Copy new requests, and report."
    )
    parser.add_argument("path")
    parser.add_argument("--time-zone", type=ZoneInfo, default="UTC")
    given = parser.parse_args()
    is_complete = asyncio.run(copy(given.path))
    try:
        show(asyncio.run(ask(given.path, given.time_zone)))
    except HeliconeError as error:
        print(f"there is no report: {error}", file=sys.stderr)
        return 1
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
