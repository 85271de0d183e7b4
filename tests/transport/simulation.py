"""Processes that share the rate limit of one service, in virtual time.

Nothing waits here: requests, answers and waits are events in the order of their time. Each process has a
`Window` of its own, as processes on several machines have, and uses it as the client does: those that were
refused go first, and a query is given up after so many tries.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs

from helicone_sessions.messages.fixed_window import FixedWindow
from helicone_sessions.transport.rate_limit import Window


@attrs.define(eq=False)
class Process:
    """One process that asks.

    Args:
        queries: How many it asks.
        concurrency: How many of them are under way at once.
        begins: When it begins.
        tries: How often a query is tried at most.
    """

    queries: int
    concurrency: int
    begins: float
    tries: int = 5
    window: Window = attrs.field(factory=Window, init=False)
    answered: list[float] = attrs.field(factory=list, init=False)
    """When its answers came."""
    refused: int = attrs.field(default=0, init=False)
    lost: int = attrs.field(default=0, init=False)
    fresh: int = attrs.field(init=False)
    again: deque[int] = attrs.field(factory=deque, init=False)
    """Of those that were refused and wait, how often they were tried."""
    busy: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.fresh = self.queries

    def answered_in(self, begin: float, end: float) -> int:
        """How many answers came from *begin* on and before *end*."""
        return sum(begin <= time < end for time in self.answered)

    def next(self, now: float) -> tuple[float, int]:
        """In how many seconds the next may go, and how often it was tried before."""
        is_fresh = self.fresh > 0 and self.busy < self.concurrency
        ways = [(math.inf, 0)]
        if self.again:
            last = self.again[0] == self.tries - 1
            ways.append((self.window.wait(now, again=True, last=last, behind=is_fresh), self.again[0]))
        if is_fresh:
            ways.append((self.window.wait(now, ahead=bool(self.again)), 0))
        return min(ways, key=lambda way: max(way[0], 0.0))

    def send(self, tries: int) -> None:
        """Count the one that goes."""
        self.window.sent()
        if tries:
            self.again.popleft()
        else:
            self.fresh -= 1
            self.busy += 1


@attrs.define(eq=False)
class Simulation:
    """A service and the processes that ask it.

    Args:
        limit: How many requests a window of the service has.
        per: Its seconds.
        latency: The least and the most seconds that a request takes, half of them on its way there.
        seed: What chance begins with.
        tries: How often a query is tried at most.
    """

    limit: int = 200
    per: float = 60.0
    latency: tuple[float, float] = (0.001, 0.01)
    seed: int = 0
    tries: int = 5
    processes: list[Process] = attrs.field(factory=list, init=False)
    _service: FixedWindow = attrs.field(init=False)
    _random: random.Random = attrs.field(init=False)
    _events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = attrs.field(
        factory=list, init=False
    )
    _numbers: "count[int]" = attrs.field(factory=count, init=False)

    def __attrs_post_init__(self) -> None:
        self._service = FixedWindow(self.limit, self.per)
        self._random = random.Random(self.seed)  # noqa: S311 - it has to come out the same each time

    def add(self, queries: int, *, concurrency: int = 8, begins: float | None = None) -> Process:
        """A process more; those that begin together do so within a fifth of a second."""
        at = self._random.uniform(0, 0.2) if begins is None else begins
        process = Process(queries, concurrency, at, self.tries)
        self.processes.append(process)
        self._at(at, self._go_on, process)
        return process

    @property
    def answered(self) -> int:
        """How many queries were answered."""
        return sum(len(process.answered) for process in self.processes)

    @property
    def refused(self) -> int:
        """How many requests were refused."""
        return sum(process.refused for process in self.processes)

    @property
    def lost(self) -> int:
        """How many queries were given up."""
        return sum(process.lost for process in self.processes)

    @property
    def took(self) -> float:
        """When the last answer came."""
        return max(max(process.answered, default=0.0) for process in self.processes)

    @property
    def least(self) -> float:
        """The least time in which as many queries could be answered: by the limit, and by the slots."""
        queries = sum(process.queries for process in self.processes)
        slots = sum(process.concurrency for process in self.processes)
        by_limit = (math.ceil(queries / self.limit) - 1) * self.per
        return max(by_limit, queries / slots * sum(self.latency) / 2)

    def run(self) -> "Simulation":
        """Let the time pass until nothing more happens."""
        while self._events:
            now, _, happens, arguments = heapq.heappop(self._events)
            happens(now, *arguments)
        return self

    def _at(self, time: float, happens: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), happens, arguments))

    def _half_way(self, now: float) -> float:
        return now + self._random.uniform(*self.latency) / 2

    def _go_on(self, now: float, process: Process) -> None:
        """Send what may go now."""
        while True:
            seconds, tries = process.next(now)
            if seconds > 0:
                break
            process.send(tries)
            self._at(self._half_way(now), self._arrives, process, now, tries + 1)
        if seconds < math.inf:
            self._at(now + seconds, self._go_on, process)

    def _arrives(self, now: float, process: Process, sent_at: float, tries: int) -> None:
        """A request comes to the service."""
        status = 200 if self._service.take(now) else 429
        headers = self._service.headers(now)
        self._at(self._half_way(now), self._comes_back, process, sent_at, tries, status, headers)

    def _comes_back(
        self, now: float, process: Process, sent_at: float, tries: int, status: int, headers: dict[str, str]
    ) -> None:
        """An answer comes to its process."""
        process.window.ended()
        process.window.answered(status, headers, sent_at, now)
        if status == 200:
            process.answered.append(now)
            process.busy -= 1
        else:
            self._is_refused(now, process, tries, float(headers["Retry-After"]))
        self._go_on(now, process)

    def _is_refused(self, now: float, process: Process, tries: int, asked: float) -> None:
        process.refused += 1
        if process.window.refused(now, asked) is not None:
            asked = 0.0
        else:
            asked += self._random.random() * min(20.0, 0.5 * 2.0 ** (tries - 1))
        if tries >= self.tries:
            process.lost += 1
            process.busy -= 1
        elif asked:
            self._at(now + asked, self._stands_in_line, process, tries)
        else:
            process.again.append(tries)

    def _stands_in_line(self, now: float, process: Process, tries: int) -> None:
        process.again.append(tries)
        self._go_on(now, process)
