"""The rules that choose the answer to a request, or hold it back."""

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

from helicone_sessions.filters.expression import ALL, Condition, Filter, as_filter, filter_of_contract
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.protocol import AnyQuery
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.testing.faults import Fault
from helicone_sessions.testing.recorded_request import RecordedRequest
from helicone_sessions.testing.replies import Reply, metrics
from helicone_sessions.testing.virtual_clock import Notifier

Answer: TypeAlias = SessionMetrics | Reply | Fault | Callable[[RecordedRequest], Awaitable["Answer"]]
"""An answer, or an async function that takes the request and returns one."""
Matching = AnyQuery | Condition | str | Callable[[Any], object]
"""The requests with an equal query, with an equal filter, with this ``name_contains``, or those for whose
query a function returns true."""

_Matches = Callable[[AnyQuery], object]
# These faults need an answer that they truncate or follow.
_FAULTS_OF_ANSWERS: tuple[Answer, ...] = (Fault.TRUNCATE, Fault.GOES_STALE)


def checked(answer: Answer) -> Answer:
    """The answer itself.

    Raises:
        TypeError: It is not an answer.
    """
    is_function = callable(answer) and not isinstance(answer, type)
    if is_function or isinstance(answer, (SessionMetrics, Reply, Fault)):
        return answer
    raise TypeError(
        f"an answer must be SessionMetrics, a Reply, a Fault or an async function, got {masked_repr(answer)}"
    )


def matcher(to: Matching | None) -> _Matches:
    """A predicate for queries.

    Queries and filters are compared in their wire form, in which equal ones have one spelling.

    Raises:
        TypeError: *to* cannot be compared with a query.
        FilterError: It cannot be sent.
    """
    if to is None:
        return lambda _query: True
    if isinstance(to, str):
        return lambda query: getattr(query, "name_contains", None) == to
    if isinstance(to, SessionMetricsQuery):
        as_sent = converter.structure(converter.unstructure(to), SessionMetricsQuery)
        return lambda query: query == as_sent
    if isinstance(to, Condition):
        wanted = filter_of_contract(as_filter(to).to_wire(), path="$")
        return lambda query: _filter_of(query) == wanted
    if callable(to):
        return to
    raise TypeError(
        "requests are matched by a SessionMetricsQuery, a filter, a string or a function of the query, got"
        f" {masked_repr(to)}"
    )


def _filter_of(query: AnyQuery) -> Filter:
    return ALL if query.filter is None else query.filter


class Held:
    """Requests that wait for `release`, or for the end of its ``with`` block.

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
        self._released = Notifier()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Answer these requests and later ones; callable from any thread."""
        self._is_released = True
        self._released.notify_all()

    async def wait(self) -> None:
        """Wait for the release."""
        await self._released.wait_for(lambda: self._is_released)


class AnswerRules:
    """The answers to come: first those for the next requests, then the rules, the latest first."""

    def __init__(self) -> None:
        self.otherwise: Answer = metrics()
        self._next: deque[Answer] = deque()
        self._rules: list[tuple[_Matches, Answer]] = []
        self._holds: list[Held] = []

    def add(self, *answers: Answer) -> None:
        """Answer the next requests so, one each."""
        self._next.extend([checked(answer) for answer in answers])

    def add_rule(self, to: Matching, answer: Answer) -> None:
        """Answer requests that match *to* so."""
        self._rules.append((matcher(to), checked(answer)))

    def hold(self, to: Matching | None) -> Held:
        """Hold back requests that match *to*."""
        held = Held(matcher(to))
        self._holds.append(held)
        return held

    def holds_on(self, query: AnyQuery) -> list[Held]:
        """The holds that a request waits for."""
        return [held for held in tuple(self._holds) if held.matches(query)]

    def answer_to(self, query: AnyQuery) -> Answer:
        """The answer to the next request."""
        return self._next.popleft() if self._next else self._by_rule(query)

    def answer_with_fault(self, query: AnyQuery) -> Answer:
        """The answer that a fault truncates, or after which the connection goes stale."""
        answers = (self._by_rule(query), self.otherwise)
        return next((answer for answer in answers if answer not in _FAULTS_OF_ANSWERS), metrics())

    def _by_rule(self, query: AnyQuery) -> Answer:
        rules = reversed(tuple(self._rules))
        return next((answer for matches, answer in rules if matches(query)), self.otherwise)
