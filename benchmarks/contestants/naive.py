"""aiohttp as its front page shows it: ``json=`` and ``.json()``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from contestants.rounds import KEY, PATH, Round, compete, pool


@asynccontextmanager
async def contestant(url: str, concurrency: int) -> AsyncIterator[Round]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:

        async def ask(name: str) -> object:
            body = {
                "nameContains": "",
                "timezoneDifference": 0,
                "filter": {"request_response_rmt": {"model": {"equals": name}}},
            }
            async with session.post(url + PATH, json=body) as response:
                return await response.json()

        yield pool(ask, concurrency)


if __name__ == "__main__":
    compete(contestant)
