"""Make the picture of the server's page again: ``python -m docs.pictures.page``.

It needs the dependency group ``browser`` and a Chromium. The requests are made up, so that only the times of
the answer differ.
"""

import asyncio
import datetime as dt
from pathlib import Path

from helicone_sessions.local import LocalServer
from tests.local.chromium import chromium

FILE = Path(__file__).with_name("page.png")
END = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


async def main() -> None:
    """Ask in a browser, and save what it shows."""
    async with LocalServer(LocalServer.sample(END)) as server, chromium() as browser:
        page = await browser.new_page(color_scheme="light", viewport={"width": 1100, "height": 1000})
        await page.goto(f"{server.url}/#key={server.api_key}")
        await page.locator("#size").select_option("p95")
        await page.locator("#filter").fill('model contains "gpt" and cost > 0.001')
        await page.locator("#ask").click()
        await page.locator("#pictures svg").nth(2).wait_for()
        bottom = await page.locator("#cut").evaluate("note => note.getBoundingClientRect().bottom")
        await page.screenshot(path=FILE, clip={"x": 0, "y": 0, "width": 1100, "height": bottom + 2})


if __name__ == "__main__":
    asyncio.run(main())
