"""Make the pictures of the server's page again: ``python -m docs.pictures.page``.

It needs the dependency group ``browser`` and a Chromium. The requests are generated, so only the duration
of the query differs from run to run.
"""

import asyncio
import datetime as dt
from pathlib import Path

from helicone_sessions.local import LocalServer
from tests.local.chromium import chromium

HERE = Path(__file__).parent
FILES = {"light": HERE / "page.png", "dark": HERE / "page-dark.png"}
END = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
WIDTH, ROWS = 1100, 5


async def main() -> None:
    """Run a query in a browser, and save the page down to the first sessions."""
    async with LocalServer(LocalServer.sample(END)) as server, chromium() as browser:
        for scheme, file in FILES.items():
            page = await browser.new_page(
                color_scheme=scheme, timezone_id="UTC", viewport={"width": WIDTH, "height": 1000}
            )
            await page.goto(f"{server.url}/#key={server.api_key}&filter=model%20contains%20%22gpt%22")
            await page.locator("#segments tbody tr").nth(1).wait_for()
            row = page.locator("#sessions tbody tr").nth(ROWS)
            bottom = await row.evaluate("row => row.getBoundingClientRect().top + scrollY")
            area = {"x": 0, "y": 0, "width": WIDTH, "height": bottom}
            await page.screenshot(path=file, clip=area, full_page=True)


if __name__ == "__main__":
    asyncio.run(main())
