"""The command ``helicone-sessions rebuild``, which converts an older store to the current layout."""

import asyncio
import sys
from pathlib import Path


def rebuild(*, path: Path) -> None:
    """Convert a store of an older version to the current layout; no requests are lost.

    The store must not be open elsewhere. The conversion needs as much free disk space as the store takes. If
    the command is interrupted, run it again.

    Args:
        path: The directory of the store.
    """
    # Imported here because only commands that use the engine need it.
    from helicone_sessions.local.storage.store import rebuild as rebuild_store

    requests = asyncio.run(rebuild_store(path))
    sys.stdout.write(f"{requests:,} requests are in the current layout.\n")
