"""Which request is given which answer, and which ones wait."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from helicone_sessions.filters.expression import ALL, Condition, Filter, as_filter, filter_of_contract
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.testing.answers import Answer, Fault, checked, metrics
from helicone_sessions.testing.bell import Bell

Matching = SessionMetricsQuery | Condition | str | Callable[[SessionMetricsQuery], object]
"""Which requests are meant: those of an equal query, of an equal filter, of a ``name_contains``, or those
for whose query a function says so."""

_Matches = Callable[[SessionMetricsQuery], object]
# Faults of an answer that is due otherwise.
_ON_TOP: tuple[Answer, ...] = (Fault.TRUNCATE, Fault.GOES_STALE)


def matcher(to: Matching | None) -> _Matches:
    """A test for queries.

    Queries and filters are compared as the service is sent them, so that it does not matter in which of
    several equal ways they were written.

    Raises:
        TypeError: *to* cannot be compared with a query.
        FilterError: It cannot be sent.
    """
    if to is None:
        return lambda _query: True
    if isinstance(to, str):
        return lambda query: query.name_contains == to
    if isinstance(to, SessionMetricsQuery):
        as_sent = converter.structure(converter.unstructure(to), SessionMetricsQuery)
        return lambda query: query == as_sent
    if isinstance(to, Condition):
        wanted = filter_of_contract(as_filter(to).to_wire(), path="$")
        return lambda query: _filter_of(query) == wanted
    if callable(to):
        return to
    raise TypeError(
        "requests are told by a SessionMetricsQuery, a filter, a text or a function of the query, not by"
        f" {type(to).__name__}"
    )


def _filter_of(query: SessionMetricsQuery) -> Filter:
    return ALL if query.filter is None else query.filter


class Held:
    """Requests that are left without an answer until `release`, or until the end of its ``with`` block.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         with fake.hold() as held:
    ...             asking = asyncio.create_task(client.get_metrics())
    ...             await fake.until(lambda: fake.open == 1)
    ...             print(asking.done())
    ...             held.release()
    ...             return (await asking).average.session_cost
    >>> asyncio.run(main())
    False
    0.25
    """

    def __init__(self, matches: _Matches) -> None:
        self.matches = matches
        self._is_released = False
        self._bell = Bell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Answer them, and those still to come; from any thread."""
        self._is_released = True
        self._bell.ring()

    async def passed(self) -> None:
        """Wait for the release."""
        await self._bell.until(lambda: self._is_released)


class Program:
    """The answers to come: first those for the next requests, then the rules, the latest first."""

    def __init__(self) -> None:
        self.otherwise: Answer = metrics()
        self._next: deque[Answer] = deque()
        self._rules: list[tuple[_Matches, Answer]] = []
        self._holds: list[Held] = []

    def add(self, *answers: Answer) -> None:
        """Give the next requests these."""
        self._next.extend([checked(answer) for answer in answers])

    def add_rule(self, to: Matching, answer: Answer) -> None:
        """Give requests that match *to* this."""
        self._rules.append((matcher(to), checked(answer)))

    def hold(self, to: Matching | None) -> Held:
        """Let requests that match *to* wait."""
        held = Held(matcher(to))
        self._holds.append(held)
        return held

    def holds_on(self, query: SessionMetricsQuery) -> list[Held]:
        """What a request has to wait for."""
        return [held for held in tuple(self._holds) if held.matches(query)]

    def answer_to(self, query: SessionMetricsQuery) -> Answer:
        """What a request that comes now is given."""
        return self._next.popleft() if self._next else self._by_rule(query)

    def answer_below(self, query: SessionMetricsQuery) -> Answer:
        """What it is given that a fault cuts short, or leaves a stale connection behind."""
        return next(
            (answer for answer in (self._by_rule(query), self.otherwise) if answer not in _ON_TOP), metrics()
        )

    def _by_rule(self, query: SessionMetricsQuery) -> Answer:
        rules = reversed(tuple(self._rules))
        return next((answer for matches, answer in rules if matches(query)), self.otherwise)
