"""A program that a test kills: it syncs, and kills itself at a given step of its work."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from helicone_sessions import HeliconeClient, syncing
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.transport.connection import Connection

steps_left = 0


def _step() -> None:
    global steps_left  # noqa: PLW0603 - one count for all that the program does
    steps_left -= 1
    if steps_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _counted(work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def counted(*args: Any, **options: Any) -> Any:
        _step()
        answer = await work(*args, **options)
        _step()
        return answer

    return counted


def _count_writes(write: Callable[..., None]) -> Callable[..., None]:
    def counted(*args: Any) -> None:
        _step()
        write(*args)
        _step()

    return counted


async def _main(path: str, address: str) -> None:
    async with HeliconeClient("sk-helicone-fake", base_url=address, max_retries=9) as client:
        # Retries do not wait.
        policy = attrs.evolve(client._sender.policy, random=lambda: 0.0)
        client._sender = attrs.evolve(client._sender, policy=policy)
        report = await syncing.sync(client, path)
    sys.stdout.write(f"{report.requests - report.replaced}\n")


if __name__ == "__main__":
    steps_left = int(sys.argv[2])
    syncing._AIM = int(sys.argv[4])  # type: ignore[misc]
    syncing._CHUNK = syncing._AIM * 3 // 4  # type: ignore[misc]
    for name in ("execute", "insert"):
        setattr(ChdbDriver, name, _counted(getattr(ChdbDriver, name)))
    Connection.send = _counted(Connection.send)  # type: ignore[method-assign]
    syncing.write_checkpoint = _count_writes(syncing.write_checkpoint)
    asyncio.run(_main(sys.argv[1], sys.argv[3]))
