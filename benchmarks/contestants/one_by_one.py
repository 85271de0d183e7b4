"""helicone_sessions: `get_metrics` from a pool of workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contestants.rounds import KEY, Round, compete, pool

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery


@asynccontextmanager
async def contestant(url: str, concurrency: int) -> AsyncIterator[Round]:
    async with HeliconeClient(KEY, base_url=url, max_concurrency=concurrency) as client:

        async def ask(name: str) -> object:
            return await client.get_metrics(SessionMetricsQuery(filter=F.model == name))

        yield pool(ask, concurrency)


if __name__ == "__main__":
    compete(contestant)
