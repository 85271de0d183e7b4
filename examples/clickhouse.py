"""Query your own ClickHouse: Helicone's database, or a cluster.

    export CLICKHOUSE_URL=https://reader@clickhouse.example:8443/default
    export HELICONE_SESSIONS_CLICKHOUSE_PASSWORD=...
    python clickhouse.py

The program only reads. For a cluster, name the database with the Distributed
tables. If the table has several organisations, set one:
`ORGANIZATION_ID=83635a30-...`.
"""

import asyncio
import os
import sys
from datetime import timedelta

from helicone_sessions import (
    ConfigurationError,
    HeliconeClient,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.local import Limits, LocalServer
from helicone_sessions.report import metrics_grid


async def main(clickhouse: str) -> None:
    """Start a server for the ClickHouse, query a week by day, and stop it."""
    server = LocalServer(
        clickhouse=clickhouse,
        organization_id=os.environ.get("ORGANIZATION_ID"),
        # The most that one query may use.
        limits=Limits(seconds=30, memory=4 * 1024**3),
    )
    async with (
        server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        print(f"{await server.count():,} requests")
        week = SessionMetricsQuery(time_filter=TimeFilter.last(days=7))
        day = timedelta(days=1)
        grid = await metrics_grid(client, week, every=day, time_zone="UTC")
    for cell in grid:
        dollars = cell.quantity("dollars_mean")
        found = (
            "no sessions"
            if dollars is None
            else f"{dollars:.4f} dollars a session"
        )
        print(cell.period, cell.error or found)


if __name__ == "__main__":
    if not (address := os.environ.get("CLICKHOUSE_URL")):
        sys.exit(
            "set CLICKHOUSE_URL, for example https://reader@host:8443/default"
        )
    try:
        asyncio.run(main(address))
    except ConfigurationError as error:
        sys.exit(f"the ClickHouse cannot be queried: {error}")
