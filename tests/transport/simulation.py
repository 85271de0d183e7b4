"""Processes that share the rate limit of one service, in virtual time.

Nothing waits here: requests, answers and waits are events in the order of their time. Each process has its
own `Window`, like processes on several machines, and uses it like the client: a refused query waits in line
again.
"""

import heapq
import math
import random
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs

from helicone_sessions.messages.protocol import FixedWindow
from helicone_sessions.transport.rate_limit import Window


@attrs.define(eq=False)
class Process:
    """One process with a batch of queries.

    Args:
        queries: The number of queries.
        concurrency: The number of slots.
        begins: The second at which it begins.
        window: Its knowledge of the service's limit.
    """

    queries: int
    concurrency: int
    begins: float
    window: Window
    answered: list[float] = attrs.field(factory=list, init=False)
    """The seconds at which its answers arrived."""
    refused: int = attrs.field(default=0, init=False)
    longest_refused: float = attrs.field(default=0.0, init=False)
    """The longest time, in seconds, from a query's first attempt to a refusal."""
    # Waiting in line: the second of the first attempt, or None of a new query.
    line: list[float | None] = attrs.field(factory=list, init=False)
    new: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.new = self.queries
        self._fill(self.concurrency)

    def _fill(self, slots: int) -> None:
        taken = min(slots, self.new)
        self.new -= taken
        self.line += [None] * taken

    def slot_is_free(self) -> None:
        """Let the next query take the slot."""
        self._fill(1)

    def answered_in(self, begin: float, end: float) -> int:
        """The number of answers from *begin* until before *end*."""
        return sum(begin <= time < end for time in self.answered)


@attrs.define(eq=False)
class Simulation:
    """A service and the processes that query it.

    Args:
        limit: The requests of a window.
        per: The length of a window in seconds.
        latency: The least and the most seconds of a request, half of them on its way to the service.
        seed: The seed of all chance.
        has_headers: Whether the service names its limit; a 429 without any header is all otherwise.
    """

    limit: int = 1000
    per: float = 300.0
    latency: tuple[float, float] = (0.001, 0.01)
    seed: int = 0
    has_headers: bool = True
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
        """Add a process; by default it begins within a fifth of a second."""
        at = self._random.uniform(0, 0.2) if begins is None else begins
        process = Process(queries, concurrency, at, Window(random=self._random.random))
        self.processes.append(process)
        self._at(at, self._go_on, process)
        return process

    @property
    def answered(self) -> int:
        """The number of queries with an answer."""
        return sum(len(process.answered) for process in self.processes)

    @property
    def refused(self) -> int:
        """The number of refused requests."""
        return sum(process.refused for process in self.processes)

    @property
    def longest_refused(self) -> float:
        """The longest time, in seconds, for which a query was refused."""
        return max(process.longest_refused for process in self.processes)

    @property
    def took(self) -> float:
        """The second of the last answer."""
        return max(max(process.answered, default=0.0) for process in self.processes)

    @property
    def least(self) -> float:
        """The shortest time for these queries: whole windows, then the time of the slots for the rest."""
        queries = sum(process.queries for process in self.processes)
        slots = sum(process.concurrency for process in self.processes)
        each = sum(self.latency) / 2 / slots
        windows = math.ceil(queries / self.limit) - 1
        return max(windows * self.per + (queries - windows * self.limit) * each, queries * each)

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
        """Send the requests that may go now."""
        while process.line:
            seconds = process.window.wait(now)
            if seconds > 0:
                if seconds < math.inf:
                    self._at(now + seconds, self._go_on, process)
                return
            process.window.in_flight += 1
            first_sent = process.line.pop(0)
            self._at(
                self._half_way(now), self._arrives, process, now, now if first_sent is None else first_sent
            )

    def _arrives(self, now: float, process: Process, sent_at: float, first_sent: float) -> None:
        """A request reaches the service."""
        status = 200 if self._service.take(now) else 429
        headers = self._service.headers(now) if self.has_headers else {}
        self._at(self._half_way(now), self._comes_back, process, sent_at, first_sent, status, headers)

    def _comes_back(
        self,
        now: float,
        process: Process,
        sent_at: float,
        first_sent: float,
        status: int,
        headers: dict[str, str],
    ) -> None:
        """An answer reaches its process."""
        process.window.answered(status, headers, sent_at, now)
        if status == 200:
            process.answered.append(now)
            process.slot_is_free()
        else:
            process.refused += 1
            process.longest_refused = max(process.longest_refused, now - first_sent)
            process.line.append(first_sent)
        self._go_on(now, process)
