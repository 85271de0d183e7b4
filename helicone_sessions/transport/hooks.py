"""What a client tells of its queries, for logs, metrics and traces: `Hooks` and what they are given."""

from typing import Any

import attrs

from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery


@attrs.frozen
class Attempt:
    """One request of a query, after its end.

    Args:
        number: The first attempt of a query is 1.
        status: The HTTP status of the answer, or None if there was none.
        error: Why it brought no metrics: a `HeliconeError`, or what ended the task, as a
            `CancelledError`. None if it did.
        seconds: From sending to the end of the answer.
        waited: Seconds before it: for the rate limit, and after an attempt that failed.

    >>> attempt = Attempt(number=2, status=200, error=None, seconds=0.8, waited=0.5)
    >>> print(f"attempt {attempt.number}: status {attempt.status} after {attempt.seconds} s")
    attempt 2: status 200 after 0.8 s
    """

    number: int
    status: int | None
    error: BaseException | None
    seconds: float
    waited: float


@attrs.frozen
class QueryOutcome:
    """One query of a client, after its end.

    Args:
        query: What was asked.
        metrics: The answer, or None.
        error: Why there is none: a `HeliconeError`, or what ended the task, as a `CancelledError`.
        attempts: How many requests were made for it. Zero if none was needed, if it ended before, or if it
            was given the answer to another's.
        is_shared: Whether it waited for the answer to the same query of another, which was under way.
        seconds: From its start to its end, all waits included.
        queued: Seconds of those until one of the client's slots was free (``max_concurrency``).
        waited: Seconds of those before its attempts, as in `Attempt`.

    >>> from helicone_sessions import HeliconeClient
    >>> class Ends(Hooks):
    ...     def query_ends(self, token, outcome):
    ...         print(outcome.error or outcome.metrics.average.session_cost, outcome.attempts)
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(
    ...         fake.api_key, base_url=fake.url, hooks=Ends()
    ...     ) as client:
    ...         await client.get_metrics()
    >>> import asyncio
    >>> asyncio.run(main())
    0.25 1
    """

    query: SessionMetricsQuery
    metrics: SessionMetrics | None
    error: BaseException | None
    attempts: int
    is_shared: bool
    seconds: float
    queued: float
    waited: float


class Hooks:
    """What to do when a query or one of its attempts begins or ends; derive from it and pass an object.

    Each method is called in the task that runs the query and is not awaited, so it should be quick. What a
    ``begins`` returns is handed to its ``ends``, which is called however it ends, also when the task is
    cancelled. What a method raises ends no query: its class and place go to the logger ``helicone_sessions``,
    without its text, and if it was a ``begins``, the calls that would follow it are left out. Only what ends
    a task or a program, as a ``CancelledError`` or ``SystemExit``, is raised, once the others were told.

    Without a method of your own, `query_begins` returns the query and `attempt_begins` what it was given.

    >>> class Requests(Hooks):
    ...     def query_begins(self, query):
    ...         return query.filter
    ...     def attempt_begins(self, token, number, url):
    ...         print("asks", number)
    ...     def attempt_ends(self, token, attempt):
    ...         print("has status", attempt.status)
    ...     def query_ends(self, token, outcome):
    ...         print(token, "took", outcome.attempts)
    >>> from helicone_sessions import F, HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(
    ...         fake.api_key, base_url=fake.url, hooks=Requests()
    ...     ) as client:
    ...         await client.get_metrics(F.cost > 0.1)
    >>> import asyncio
    >>> asyncio.run(main())
    asks 1
    has status 200
    cost > 0.1 took 1
    """

    def query_begins(self, query: SessionMetricsQuery) -> Any:
        """A query begins, before it waits for anything.

        Args:
            query: What is asked.

        Returns:
            What `attempt_begins` and `query_ends` are given for this query.
        """
        return query

    def attempt_begins(self, token: Any, number: int, url: str) -> Any:  # noqa: ARG002 - for others to use
        """A request is about to be sent.

        Args:
            token: What `query_begins` returned.
            number: 1 for the first of the query.
            url: Where it goes.

        Returns:
            What `attempt_ends` is given for this attempt.
        """
        return token

    def attempt_ends(self, token: Any, attempt: Attempt) -> None:
        """An answer was read, or there is none.

        Args:
            token: What `attempt_begins` returned.
            attempt: What it came to.
        """

    def query_ends(self, token: Any, outcome: QueryOutcome) -> None:
        """A query has its answer, or has none.

        Args:
            token: What `query_begins` returned.
            outcome: What it came to.
        """
