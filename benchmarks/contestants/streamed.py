"""helicone_sessions: all queries given to `stream_metrics`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from contestants.rounds import KEY, Round, compete

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery


@asynccontextmanager
async def contestant(url: str, concurrency: int) -> AsyncIterator[Round]:
    async with HeliconeClient(KEY, base_url=url, max_concurrency=concurrency) as client:

        async def run(names: Iterator[str]) -> None:
            queries = (SessionMetricsQuery(filter=F.model == name) for name in names)
            async for outcome in client.stream_metrics(queries):
                if outcome.error:
                    raise outcome.error

        yield run


if __name__ == "__main__":
    compete(contestant)
