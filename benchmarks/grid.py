"""A grid of 500 segments and 60 periods, totals included, on 20,000 requests of the embedded engine.

The grid is one query of the endpoint for grids, over HTTP in the same process, from the filters to figures
for each cell. Beside it are single queries for some of the cells, and what all of them would take. All times
are processor time of the server and the client together: on an idle machine a grid takes no longer.
"""

import asyncio
import datetime as dt
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
from measure import Bar, is_quick, report

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.messages.codec import decode, encode
from helicone_sessions.messages.grid_query import (
    GRID_PATH,
    GridFigures,
    GridQuery,
    GroupBy,
    grid_figures_from_wire,
    grid_query_to_wire,
)

SEGMENTS: Final = 500
DAYS: Final = 60
REQUESTS: Final = 20_000
CELLS: Final = (SEGMENTS + 1) * (DAYS + 1)
START: Final = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WHOLE: Final = TimeFilter(START, START + dt.timedelta(days=DAYS))
LONGEST: Final = 2.0
SINGLE: Final = 300


def rows() -> Iterator[dict[str, Any]]:
    chance = random.Random(20261101)  # noqa: S311 - the same each time
    for _ in range(REQUESTS):
        yield {
            "request_created_at": START + chance.random() * dt.timedelta(days=DAYS),
            "model": f"model {chance.randrange(SEGMENTS)}",
            "cost": round(chance.random(), 6),
            "session_id": f"session {chance.randrange(REQUESTS // 4)}",
            "session_name": f"name {chance.randrange(5)}",
        }


async def figures(server: LocalServer, session: aiohttp.ClientSession, grid: GridQuery) -> GridFigures:
    headers = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"}
    url = f"{server.url}/{GRID_PATH}"
    async with session.post(url, data=encode(grid_query_to_wire(grid)), headers=headers) as response:
        response.raise_for_status()
        return grid_figures_from_wire(decode(await response.read())["data"])


async def measured(*, rounds: int, single: int) -> list[Bar]:
    query = SessionMetricsQuery(time_filter=WHOLE)
    periods = tuple(WHOLE.split(days=1))
    models = [f"model {number}" for number in range(SEGMENTS)]
    by_filters = GridQuery(query, tuple(F.model.is_each(models).values()), periods)
    grids = {
        "processor seconds for a grid of 500 filters and 60 days": by_filters,
        "the same with p50 and p99 of each cell": GridQuery(
            query, by_filters.segments, periods, quantiles=("p50", "p99")
        ),
        "the same segments by the values of a column": GridQuery(query, GroupBy("model"), periods),
    }
    bars = []
    async with LocalServer(rows()) as server, aiohttp.ClientSession() as session:
        for name, grid in grids.items():
            times = []
            for _ in range(rounds):
                begun = time.process_time()
                found = await figures(server, session, grid)
                times.append(time.process_time() - begun)
            if found.cell(None, None).requests != REQUESTS:
                raise RuntimeError("the grid has not counted all requests")
            bars.append(Bar.of(name, *times, most=LONGEST))
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            cells = [
                SessionMetricsQuery(F.model == models[number % SEGMENTS], time_filter=periods[number % DAYS])
                for number in range(single)
            ]
            begun = time.process_time()
            await client.get_metrics_many(cells)
            each = (time.process_time() - begun) / single
    bars.append(Bar.of(f"processor seconds for {CELLS:,} single queries, from {single}", each * CELLS))
    bars.append(Bar.of("single queries over the grid", each * CELLS / bars[0].ratio))
    return bars


def main() -> int:
    quick = is_quick(__doc__)
    bars = asyncio.run(measured(rounds=3 if quick else 9, single=SINGLE // 3 if quick else SINGLE))
    return report("A grid on the embedded engine", bars)


if __name__ == "__main__":
    sys.exit(main())
