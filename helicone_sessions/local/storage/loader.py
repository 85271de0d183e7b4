"""Reading ahead on another thread while rows are inserted, and the file of rejected rows."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from contextvars import copy_context
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.private_files import open_private
from helicone_sessions.local.storage.readers import Data, Placed, is_path, read
from helicone_sessions.local.storage.rows import Batch, RowEncoder

# Rows of an asynchronous iterable that are taken before they are read on another thread.
_COLLECTED: Final = 5_000


class BatchReader:
    """The rows of *data* as batches, the next one read while the one before is put into the tables.

    Args:
        encoder: Parses the rows.
        data: Their source.

    Raises:
        ConfigurationError: The data is neither a path nor rows.
    """

    def __init__(self, encoder: RowEncoder, data: Data) -> None:
        self._encoder = encoder
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
            self._encoder.stop()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _next(self) -> Batch | None:
        # Reading keeps a processor busy, which is not to be the loop's.
        batch = await _on_own_thread(self._encoder.next_batch, self._rows)
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


async def _on_own_thread(
    work: Callable[[Iterator[Placed]], Batch | None], rows: Iterator[Placed]
) -> Batch | None:
    """What *work* answers, on a thread that no end waits for: the user's rows may never come."""
    future: Future[Batch | None] = Future()
    future.set_running_or_notify_cancel()

    def do() -> None:
        try:
            future.set_result(work(rows))
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(do,), name="helicone-rows", daemon=True).start()
    return await asyncio.wrap_future(future)


class RejectsFile:
    """The file that takes the rows which cannot be read; without a path there is none.

    It is opened for the first of them, so that a load without any leaves it as it was.

    Args:
        path: The file; what it held before is gone then.
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
                self._refuse_early(self._path)
            except OSError as error:
                raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # After a write error, closing would fail to flush again.
            with suppress(OSError) if error else nullcontext():
                self._file.close()

    def write(self, lines: list[str]) -> None:
        """Write lines, so that they outlive the process.

        Raises:
            ConfigurationError: They cannot be written.
        """
        if self._path is not None and lines:
            try:
                if self._file is None:
                    descriptor = open_private(self._path, os.O_WRONLY | os.O_TRUNC)
                    self._file = os.fdopen(descriptor, "w", encoding="utf-8")
                self._file.writelines(f"{line}\n" for line in lines)
                self._file.flush()
            except OSError as error:
                raise self._refused(error) from error

    def _refuse_early(self, path: Path) -> None:
        """Refuse what could not be written, before anything is taken in."""
        if is_path(self._data) and path.exists() and path.samefile(self._data):  # type: ignore[arg-type]
            raise ConfigurationError(argument="rejects", problem=f"is the data itself ({path})")
        if os.path.lexists(path):
            # It changes nothing.
            os.close(open_private(path, os.O_WRONLY))
        elif not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(path.parent))
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))

    def _refused(self, error: OSError) -> ConfigurationError:
        reason = error.strerror or str(error)
        return ConfigurationError(
            argument="rejects",
            problem=f"cannot be written to {self._path}: {reason}",
            remedy="Name a file in a writable directory",
        )
