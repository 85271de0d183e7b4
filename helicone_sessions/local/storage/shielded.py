"""Work that a cancel does not cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*; a cancel waits for it, as what it began on another thread goes on anyway."""
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        # Nobody asks for its error any more.
        _ = task.cancelled() or task.exception()
        raise asyncio.CancelledError
    return task.result()
