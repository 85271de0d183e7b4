"""``helicone-sessions rebuild``: brings a store that an older version made into the present layout."""

import asyncio
import sys
from pathlib import Path


def rebuild(*, path: Path) -> None:
    """Rebuild a store that an older version of helicone-sessions made; no request is lost.

    The store must not be open elsewhere. It needs as much free disk as the store takes. If the command is
    interrupted, run it again.

    Args:
        path: The directory of the store.
    """
    # Only the commands of the engine need it.
    from helicone_sessions.local.storage.store import rebuild as rebuild_store

    requests = asyncio.run(rebuild_store(path))
    sys.stdout.write(f"{requests:,} requests are in the present layout.\n")
