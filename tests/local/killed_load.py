"""A program that a test kills: it loads rows into a directory and prints how many are acknowledged."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage import rows
from helicone_sessions.local.storage.store import Store

BATCH = 500


def _row(number: int) -> dict[str, object]:
    return {
        "request_id": UUID(int=number + 1),
        # A request that comes again has another time.
        "request_created_at": datetime.now(UTC) - timedelta(days=number % 90),
        "session_id": f"s{number % 10}",
        "session_tag": "vip",
    }


def _acknowledged(count: int) -> None:
    sys.stdout.write(f"{count}\n")
    sys.stdout.flush()


class Deadly(ChdbDriver):
    """A driver that kills the process at the first statement of a kind, once a load has come in."""

    at = ""
    is_armed = False

    async def execute(self, text: str) -> None:
        if self.is_armed and self.at and text.startswith(self.at):
            os.kill(os.getpid(), signal.SIGKILL)
        await super().execute(text)


async def _main(path: str, first: int, last: int, at: str = "") -> None:
    driver = Deadly(path)
    driver.at = at
    await driver.open()
    store = Store(driver, "kept", directory=Path(path))
    await store.open()
    _acknowledged(0)
    driver.is_armed = True
    await store.load(map(_row, range(first, last)), on_progress=_acknowledged)
    sys.stdout.write("done\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    rows._BATCH = BATCH  # type: ignore[misc]
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
