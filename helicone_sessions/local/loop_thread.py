"""An event loop on a thread of its own, for a server beside code that blocks."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines on its own loop; the thread does not keep the process alive.

    Args:
        name: The name of the thread.

    >>> thread = LoopThread("example")
    >>> thread.call(asyncio.sleep(0, "done"))
    'done'
    >>> thread.stop()
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start *work*; the result comes on the future, whose cancel ends the work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*, awaited on the caller's loop."""
        return await asyncio.wrap_future(self.submit(work))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*; the caller's thread waits for it, and an interrupt ends the work."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and the thread, when the work in it has ended."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        # It cancels what is left when the loop stops, and closes the loop.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
