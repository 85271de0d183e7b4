"""aiohttp by hand as quick as it gets: JSON headers in the session, orjson in and out, no types."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
from contestants.rounds import KEY, PATH, Round, compete, pool


@asynccontextmanager
async def contestant(url: str, concurrency: int) -> AsyncIterator[Round]:
    headers = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(name: str) -> object:
            body = {
                "nameContains": "",
                "timezoneDifference": 0,
                "filter": {"request_response_rmt": {"model": {"equals": name}}},
            }
            async with session.post(url + PATH, data=orjson.dumps(body)) as response:
                return orjson.loads(await response.read())

        yield pool(ask, concurrency)


if __name__ == "__main__":
    compete(contestant)
