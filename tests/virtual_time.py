"""An event loop whose time passes at once where there is nothing else to do."""

import asyncio
import selectors
from typing import Any

# Data on loopback arrives within this time, however busy the machine is.
_SECONDS_FOR_LOOPBACK = 0.005


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop on which a timeout of a minute takes no time, and a request on loopback no virtual time.

    Its time moves only when no callback is ready and no socket has data. Clients and servers of a test have
    to run in the same loop, without threads.
    """

    def __init__(self, seconds_for_sockets: float = _SECONDS_FOR_LOOPBACK) -> None:
        self.seconds = 0.0
        self.seconds_for_sockets = seconds_for_sockets
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.seconds

    def call_at(  # type: ignore[override] # whatever it is called with
        self, *arguments: Any, **options: Any
    ) -> asyncio.TimerHandle:
        self.timers.append(super().call_at(*arguments, **options))
        return self.timers[-1]


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not timeout:
            return super().select(timeout)
        ready = super().select(self._loop.seconds_for_sockets)
        if not ready:
            self._loop.seconds += timeout
        return ready
