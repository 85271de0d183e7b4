"""Four processes on one key, which stay under the limit together.

    export HELICONE_API_KEY=sk-helicone-...
    python four_workers.py
    python four_workers.py --share 250

queries each hour of the last week, a quarter of them in each process. Every process
sees in the responses what is left of the shared limit, and waits when nothing is; if
two of them take the last request at once, one is refused, waits and is sent again.
With `--share` no process makes more than so many requests in 300 seconds, so that
something is left for other programs.

The exit code is 0 if every hour is answered. Otherwise it is 1, with the reasons.
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
    """A query for each hour up to *end*, by when it begins."""
    hours = TimeFilter(end - timedelta(days=7), end).split(hours=1)
    hour = timedelta(hours=1)
    return {time.end - hour: SessionMetricsQuery(time_filter=time) for time in hours}


async def ask(queries: Hours, rate_limit: RateLimit | None) -> Outcomes:
    """What one process does; the client is made in the loop that it is used in."""
    async with HeliconeClient(rate_limit=rate_limit) as client:
        return [outcome async for outcome in client.stream_metrics(queries)]


def work(rate_limit: RateLimit | None, queries: Hours) -> Outcomes:
    """What a process is started with; queries, answers and errors pickle."""
    return asyncio.run(ask(queries, rate_limit))


def deal(hours: Hours, share: int | None) -> Outcomes:
    """Have each process ask a part of them."""
    rate_limit = None if share is None else RateLimit(requests=share, per=300)
    # Every fourth, so that none gets all the busy days.
    parts = [dict(list(hours.items())[place::WORKERS]) for place in range(WORKERS)]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(chain.from_iterable(pool.map(partial(work, rate_limit), parts)))


def main() -> int:
    """Ask, and say what came of it."""
    parser = argparse.ArgumentParser(description="Asks in four processes.")
    parser.add_argument(
        "--share", type=int, help="requests of one process in 300 seconds"
    )
    given = parser.parse_args()
    now = datetime.now(UTC)
    hours = hours_of_a_week(now.replace(minute=0, second=0, microsecond=0))
    try:
        outcomes = deal(hours, given.share)
    except HeliconeError as error:  # as of a wrong key, which answers nothing at all
        print(f"no hour answered: {error}", file=sys.stderr)
        return 1
    found = {outcome.key: outcome.metrics for outcome in outcomes if outcome.metrics}
    means = {hour: metrics.average.session_cost for hour, metrics in found.items()}
    again = sum(outcome.attempts > 1 for outcome in outcomes)
    print(f"{len(means)} of {len(hours)} hours answered, {again} asked more than once")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    reasons = Counter(f"{type(error).__name__}: {error.message}" for error in errors)
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
