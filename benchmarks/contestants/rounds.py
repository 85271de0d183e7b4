"""The common parts of all contestants: names to query, a pool of workers, and the CPU time of a round."""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from workers import obey

KEY: Final = "sk-helicone-benchmark"
PATH: Final = "/v1/session/metrics/query"

Ask = Callable[[str], Awaitable[object]]
Round = Callable[[Iterator[str]], Awaitable[object]]
Contestant = Callable[[str, int], AbstractAsyncContextManager[Round]]


def pool(ask: Ask, size: int) -> Round:
    """So many workers over one iterator: what is quickest by hand, and takes no more memory than it must."""

    async def worker(names: Iterator[str]) -> None:
        for name in names:
            await ask(name)

    async def run(names: Iterator[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(size):
                group.create_task(worker(names))

    return run


async def _compete(contestant: Contestant, url: str, concurrency: int) -> None:
    async with contestant(url, concurrency) as run:

        async def seconds(first: int, count: int) -> float:
            gc.collect()
            begun = time.process_time()
            await run(f"model {place}" for place in range(first, first + count))
            return time.process_time() - begun

        await obey(seconds)


def compete(contestant: Contestant) -> None:
    """Do rounds on command; the service's address and the concurrency are the command line."""
    asyncio.run(_compete(contestant, sys.argv[1], int(sys.argv[2])))
