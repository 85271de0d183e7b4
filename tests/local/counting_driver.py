"""A driver around another that counts the table rows its queries read."""

from helicone_sessions.local.drivers import Driver, Limits, Result, Statement


class CountingDriver:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.rows_read = 0

    async def open(self) -> None:
        await self._driver.open()

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        result = await self._driver.query(statement, limits)
        self.rows_read += result.rows_read
        return result

    async def aclose(self) -> None:
        await self._driver.aclose()
