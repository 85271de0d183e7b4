"""``helicone-sessions rebuild``: convert a store of an older version to the current layout."""

import asyncio
import sys
from pathlib import Path


def rebuild(*, path: Path) -> None:
    """Convert a store of an older version of helicone-sessions to the current layout; no request is lost.

    The store must not be open elsewhere. It needs as much free disk space as the store takes. If the command
    is interrupted, run it again.

    Args:
        path: The directory of the store.
    """
    # Only commands with the engine need it.
    from helicone_sessions.local.storage.store import rebuild as rebuild_store

    requests = asyncio.run(rebuild_store(path))
    sys.stdout.write(f"{requests:,} requests are in the current layout.\n")
