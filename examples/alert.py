"""Compare the sessions of the last hour with those of the day before.

    export HELICONE_API_KEY=sk-helicone-...
    python alert.py --factor 2

prints a line for each figure. The exit code is 1 if a figure is at least so
many times that of the day before, 3 if there is no result, otherwise 0. In a
crontab, where cron mails the output:

    HELICONE_API_KEY=sk-helicone-...
    MAILTO=you@example.com
    */10 * * * *  cd /srv/alert && out=$(python alert.py 2>&1) || echo "$out"
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from helicone_sessions import (
    HeliconeClient,
    HeliconeError,
    Histogram,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
)

PATIENCE = 120  # seconds; cron starts the next run in ten minutes


async def ask(end: datetime) -> dict[str, SessionMetrics]:
    """Query the hour up to *end*, and the 24 hours before it."""
    start = end - timedelta(hours=1)
    times = {
        "hour": TimeFilter(start, end),
        "day": TimeFilter(start - timedelta(days=1), start),
    }
    # Cut at p95, each histogram ends at that percentile.
    queries = {
        name: SessionMetricsQuery(time_filter=time, p_size="p95")
        for name, time in times.items()
    }
    async with asyncio.timeout(PATIENCE), HeliconeClient() as client:
        return await client.get_metrics_many(queries)


def p95(sessions: Histogram) -> float | None:
    """The largest session that the histogram shows."""
    return sessions[-1].range_end if sessions else None


def figures(metrics: SessionMetrics) -> dict[str, float | None]:
    """The watched figures; None where there was no session."""
    return {
        "dollars a session, mean": metrics.average.session_cost,
        "dollars a session, p95": p95(metrics.session_cost),
        "seconds a session, mean": metrics.average.session_duration,
        "seconds a session, p95": p95(metrics.session_duration),
    }


def judged(
    hour: SessionMetrics, day: SessionMetrics, factor: float
) -> Iterator[tuple[bool, str]]:
    """For each figure, whether it is an alarm, and a line that says why."""
    before = figures(day)
    for name, now in figures(hour).items():
        then = before[name]
        if now is None or then is None:
            yield False, f"{name}: no sessions in the last hour, or none before"
        else:
            # A figure that was zero cannot be exceeded by a factor.
            is_alarm = now >= factor * then > 0
            mark = " - ALARM" if is_alarm else ""
            yield (
                is_alarm,
                f"{name}: {now:.4g}, the day before {then:.4g}{mark}",
            )


def main() -> int:
    """Query, compare, print."""
    parser = argparse.ArgumentParser(
        description="Compare the last hour's sessions with the day before."
    )
    parser.add_argument("--factor", type=float, default=2.0)
    given = parser.parse_args()
    try:
        found = asyncio.run(ask(datetime.now(UTC)))
    except HeliconeError as error:
        print(f"not known: {error}", file=sys.stderr)
        return 3
    except TimeoutError:
        print(f"not known: no answer in {PATIENCE} s", file=sys.stderr)
        return 3
    lines = list(judged(found["hour"], found["day"], given.factor))
    print(*(line for _, line in lines), sep="\n")
    return int(any(is_alarm for is_alarm, _ in lines))


if __name__ == "__main__":
    sys.exit(main())
