"""A Chromium, where there is one: for the tests of the server's page, and for its picture."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
    """A browser that asks nobody on its own.

    Args:
        options: What else the browser is launched with.
    """
    from playwright.async_api import async_playwright

    async with async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=FOUND, args=[*_FLAGS], chromium_sandbox=not _is_root(), **options
        )
        yield browser
        await browser.close()


def _is_root() -> bool:
    """Whether the user is the one for whom Chromium has no sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
