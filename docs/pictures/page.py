"""Make the picture of the server's page again: ``python docs/pictures/page.py``.

It needs the dependency group ``browser`` and a Chromium. The requests are made up, so that only the times of
the answer differ.
"""

import asyncio
import datetime as dt
import shutil
from pathlib import Path

from playwright.async_api import async_playwright

from helicone_sessions.local import LocalServer

FILE = Path(__file__).with_name("page.png")
END = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
NAMES = ("chromium", "chromium-browser", "google-chrome")


async def main() -> None:
    """Ask in a browser, and save what it shows."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    async with LocalServer(LocalServer.sample(END)) as server, async_playwright() as started:
        chromium = await started.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await chromium.new_page(color_scheme="light", viewport={"width": 1100, "height": 1000})
        await page.goto(f"{server.url}/#key={server.api_key}")
        await page.locator("#size").select_option("p95")
        await page.locator("#filter").fill('model contains "gpt" and cost > 0.001')
        await page.locator("#ask").click()
        await page.locator("#pictures svg").nth(2).wait_for()
        bottom = await page.locator("#cut").evaluate("note => note.getBoundingClientRect().bottom")
        await page.screenshot(path=FILE, clip={"x": 0, "y": 0, "width": 1100, "height": bottom + 2})
        await chromium.close()


if __name__ == "__main__":
    asyncio.run(main())
