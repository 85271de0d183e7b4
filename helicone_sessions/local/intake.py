"""What happens around a load: batches made ahead on another thread, and the file of rejects."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.files import Data, Placed, is_path, read
from helicone_sessions.local.rows import Batch, Load

# Rows of an asynchronous iterable that are taken before they are read on another thread.
_COLLECTED: Final = 5_000


class Intake:
    """The rows of *data* as batches, the next one read while the one before is put into the tables.

    Args:
        load: What reads the rows.
        data: Where they come from.

    Raises:
        ConfigurationError: The data is neither a path nor rows.
    """

    def __init__(self, load: Load, data: Data) -> None:
        self._load = load
        self._live: AsyncIterator[Any] | None = None
        if not is_path(data) and isinstance(data, AsyncIterable):
            self._live = aiter(data)
        self._place = 0
        self._rows: Iterator[Placed] = iter(()) if self._live else read(data)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The batches; what the rows' iterable raises comes through.

        Raises:
            ConfigurationError: A row or the file cannot be read.
        """
        following = asyncio.create_task(self._next())
        try:
            while (batch := await following) is not None:
                following = asyncio.create_task(self._next())
                yield batch
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _next(self) -> Batch | None:
        # Reading keeps a processor busy, which is not to be the loop's.
        batch = await asyncio.to_thread(self._load.batch, self._rows)
        if batch is None and self._live is not None and (rows := await self._collected(self._live)):
            self._rows = iter(rows)
            return await self._next()
        return batch

    async def _collected(self, live: AsyncIterator[Any]) -> list[Placed]:
        rows: list[Placed] = []
        async for row in live:
            rows.append((f"row {self._place}", row))
            self._place += 1
            if len(rows) == _COLLECTED:
                break
        return rows


class Rejects:
    """The file that takes the rows which cannot be read; without a path there is none.

    Args:
        path: The file; what it held before is gone.
        data: The data, which is not to be overwritten.

    Raises:
        ConfigurationError: It cannot be written, or it is the data itself.
    """

    def __init__(self, path: str | os.PathLike[str] | None, data: Data) -> None:
        self._path = None if path is None else Path(path)
        self._data = data
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                if is_path(self._data) and self._path.exists() and self._path.samefile(self._data):  # type: ignore[arg-type]
                    raise ConfigurationError(f"{self._path.name} is the data: name another file for rejects")
                self._file = self._path.open("w", encoding="utf-8")
            except OSError as error:
                raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, lines: list[str]) -> None:
        """Write lines, so that they outlive the process.

        Raises:
            ConfigurationError: They cannot be written.
        """
        if self._file is not None and lines:
            try:
                self._file.writelines(f"{line}\n" for line in lines)
                self._file.flush()
            except OSError as error:
                raise self._refused(error) from error

    def _refused(self, error: OSError) -> ConfigurationError:
        name = self._path.name if self._path else ""
        return ConfigurationError(f"{name}: rejected rows cannot be written there: {error}")
