"""The tables of one's own: made, filled, and dropped again if they are in memory."""

import asyncio
from uuid import UUID, uuid4

from helicone_sessions.local.backends import WritableBackend
from helicone_sessions.local.files import Data
from helicone_sessions.local.rows import DEFAULT_ORGANIZATION, Load, Loaded
from helicone_sessions.local.table import REQUESTS_TABLE, TAGS_TABLE, Tables, create_statements


class Store:
    """Tables in a ClickHouse of one's own."""

    def __init__(self, backend: WritableBackend) -> None:
        self._backend = backend
        self._database = f"helicone_{uuid4().hex}"
        self.tables = Tables.own(self._database)
        self.organization_id: UUID = DEFAULT_ORGANIZATION

    async def open(self) -> None:
        """Make the tables."""
        for statement in create_statements(self._database):
            await self._backend.execute(statement)

    async def load(self, data: Data) -> Loaded:
        """Take in rows or a file.

        Raises:
            ConfigurationError: A row cannot be read; the message names it.
        """
        load = Load(data)
        batches = load.requests()
        # Reading keeps a processor busy, which is not to be the loop's.
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            await self._backend.insert(f"{self._database}.{REQUESTS_TABLE}", batch)
        for batch in load.tags():
            await self._backend.insert(f"{self._database}.{TAGS_TABLE}", batch)
        self.organization_id = load.organization_id
        return load.report

    async def aclose(self) -> None:
        """Drop the tables."""
        await self._backend.execute(f"DROP DATABASE {self._database}")
