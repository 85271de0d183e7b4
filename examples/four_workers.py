"""Query with four processes on one key, under one rate limit.

    export HELICONE_API_KEY=sk-helicone-...
    python four_workers.py
    python four_workers.py --share 250

queries each hour of the last week, a quarter of the hours in each process. Each
process reads in the responses what is left of the shared limit, and waits when
nothing is. If two take the last request, one is refused, waits and is sent
again. With `--share`, each process sends at most that many requests in 300
seconds.

The exit code is 0 if every hour has a result, otherwise 1, with the reasons.
"""

import argparse
import asyncio
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from multiprocessing import get_context

from helicone_sessions import (
    HeliconeClient,
    HeliconeError,
    MetricsOutcome,
    RateLimit,
    SessionMetricsQuery,
    TimeFilter,
)

WORKERS = 4

Hours = dict[datetime, SessionMetricsQuery]
Outcomes = list[MetricsOutcome[datetime]]


def hours_of_a_week(end: datetime) -> Hours:
    """A query for each hour up to *end*, by its start."""
    hours = TimeFilter(end - timedelta(days=7), end).split(hours=1)
    hour = timedelta(hours=1)
    return {
        time.end - hour: SessionMetricsQuery(time_filter=time) for time in hours
    }


async def ask(queries: Hours, rate_limit: RateLimit | None) -> Outcomes:
    """Run the queries of one process, with a client in its event loop."""
    async with HeliconeClient(rate_limit=rate_limit) as client:
        return [outcome async for outcome in client.stream_metrics(queries)]


def work(rate_limit: RateLimit | None, queries: Hours) -> Outcomes:
    """Run in a process; queries, metrics and errors can be pickled."""
    return asyncio.run(ask(queries, rate_limit))


def deal(hours: Hours, share: int | None) -> Outcomes:
    """Divide the hours between the processes."""
    rate_limit = None if share is None else RateLimit(requests=share, per=300)
    # Every fourth hour, so that no process gets all the busy days.
    parts = [
        dict(list(hours.items())[place::WORKERS]) for place in range(WORKERS)
    ]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(
            chain.from_iterable(pool.map(partial(work, rate_limit), parts))
        )


def main() -> int:
    """Query, and report the results."""
    parser = argparse.ArgumentParser(description="Query with four processes.")
    parser.add_argument(
        "--share", type=int, help="requests per process in 300 seconds"
    )
    given = parser.parse_args()
    now = datetime.now(UTC)
    hours = hours_of_a_week(now.replace(minute=0, second=0, microsecond=0))
    try:
        outcomes = deal(hours, given.share)
    except HeliconeError as error:  # for example a wrong key
        print(f"no hour answered: {error}", file=sys.stderr)
        return 1
    found = {
        outcome.key: outcome.metrics for outcome in outcomes if outcome.metrics
    }
    means = {
        hour: metrics.average.session_cost for hour, metrics in found.items()
    }
    again = sum(outcome.attempts > 1 for outcome in outcomes)
    print(
        f"{len(means)} of {len(hours)} hours answered, {again} sent repeatedly"
    )
    errors = [outcome.error for outcome in outcomes if outcome.error]
    reasons = Counter(
        f"{type(error).__name__}: {error.message}" for error in errors
    )
    for reason, count in reasons.most_common():
        print(f"{count} without an answer: {reason}", file=sys.stderr)
    # An hour without sessions has no mean.
    costs = [(cost, hour) for hour, cost in means.items() if cost is not None]
    if costs:
        cost, hour = max(costs)
        begins = f"{hour:%Y-%m-%d %H:%M} UTC"
        print(f"the costliest sessions: {cost:.4f} dollars, from {begins}")
    elif means:
        print("no sessions")
    return 0 if len(means) == len(hours) else 1


if __name__ == "__main__":
    sys.exit(main())
