"""The Chromium of this machine, for tests of the page and for its pictures."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
FOUND: Final = next(filter(None, map(shutil.which, NAMES)), None)
_FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def chromium(**options: Any) -> AsyncIterator[Any]:
    """A browser that sends no requests by itself.

    Args:
        options: More options for the launch.
    """
    from playwright.async_api import async_playwright

    async with async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=FOUND, args=[*_FLAGS], chromium_sandbox=not _is_root(), **options
        )
        yield browser
        await browser.close()


def _is_root() -> bool:
    """Whether this is root, for whom Chromium has no sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def axe_source() -> str | None:
    """The script of axe-core, a package of Node.js; None if it is not installed."""
    node = shutil.which("node")
    if node is None:
        return None
    # The directory of this repository, or those in NODE_PATH.
    find = "console.log(require.resolve('axe-core/axe.min.js'))"
    found = subprocess.run([node, "-e", find], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()).read_text("utf-8") if found.returncode == 0 else None
