"""``helicone-sessions demo``: metrics of sample data."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from helicone_sessions.cli.progress import of_queries
from helicone_sessions.display.numbers import cut_note, means, number
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.columns import F
from helicone_sessions.messages.metrics import UNITS, SessionMetrics, panels
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.time_filter import TimeFilter
from helicone_sessions.transport.client import HeliconeClient

if TYPE_CHECKING:
    from rich.console import Console

_MOST_DAYS: Final = 3660
# Up to this number of days, a day of the year appears once.
_DAYS_OF_A_YEAR: Final = 365
# The key of the query without a model, and its name in a table.
_ALL: Final = (None,)
_EVERYTHING: Final = "all sessions"
_LEVEL: Final = "p95"
_SAMPLE_SESSIONS: Final = ("support-chat", "summarise-page", "code-review", "research-agent")
MODELS: Final = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4", "claude-opus-4")

TEN_LINES: Final = """\
import asyncio, datetime as dt
from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer

async def main():
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = TimeFilter(today - dt.timedelta(days=30), today).split(days=1)
    async with LocalServer(LocalServer.sample()) as s, HeliconeClient(s.api_key, base_url=s.url) as client:
        queries = {(day, model): SessionMetricsQuery(F.model == model, time_filter=day)
                   for day in days for model in ["gpt-4o", "claude-opus-4"]}
        for (day, model), metrics in (await client.get_metrics_many(queries)).items():
            print(f"{day.end - dt.timedelta(days=1):%a %d %b}", model, metrics.average.session_cost)
asyncio.run(main())
"""


def demo(*, live: bool = False, model: list[str] | None = None, days: int = 30) -> None:
    """Show session metrics per model and day, queried as one concurrent batch.

    The embedded engine answers from thirty days of sample requests; no account is needed.

    Args:
        live: Query the real service instead, with the key in HELICONE_API_KEY.
        model: A model to show. Repeat it for more models.
        days: The number of days up to the last midnight in UTC.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise ConfigurationError(argument="days", problem=f"must be from 1 to {_MOST_DAYS}, got {days}")
    asyncio.run(_demo(tuple(model or MODELS), days, live=live))


async def _demo(models: tuple[str, ...], days: int, *, live: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - it is an extra

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    whole = TimeFilter(midnight - timedelta(days=days), midnight)
    times = {(time.end - timedelta(days=1)).date(): time for time in whole.split(days=1)}
    queries: dict[Any, SessionMetricsQuery] = {
        (day, model): SessionMetricsQuery(F.model == model if model else None, time_filter=time)
        for day, time in times.items()
        for model in (*models, None)
    }
    queries |= {(model,): SessionMetricsQuery(F.model == model, time_filter=whole) for model in models}
    if not live:
        named = F.properties["Helicone-Session-Name"]
        queries |= {
            ("session", name): SessionMetricsQuery(named == name, time_filter=whole)
            for name in _SAMPLE_SESSIONS
        }
    queries[_ALL] = SessionMetricsQuery(time_filter=whole, p_size=_LEVEL)
    async with _live_client() if live else _sample_client() as client:
        answers = await _asked(client, queries)
    _show(Console(), answers, models, list(times))


@asynccontextmanager
async def _sample_client() -> AsyncIterator[HeliconeClient]:
    from helicone_sessions.local import LocalServer  # noqa: PLC0415 - only this way needs the engine

    async with (
        LocalServer(LocalServer.sample()) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        sys.stderr.write(f"The embedded engine answers at {server.url} ({server.loaded.rows:,} requests).\n")
        yield client


@asynccontextmanager
async def _live_client() -> AsyncIterator[HeliconeClient]:
    async with HeliconeClient() as client:
        sys.stderr.write(f"Asking the service: {client!r}\n")
        yield client


async def _asked(
    client: HeliconeClient, queries: dict[Any, SessionMetricsQuery]
) -> dict[Any, SessionMetrics]:
    with of_queries() as progress:
        answers: dict[Any, SessionMetrics] = await client.with_options(hooks=progress).get_metrics_many(
            queries, on_progress=progress.on_progress
        )
    return answers


def _show(
    console: "Console", answers: dict[Any, SessionMetrics], models: tuple[str, ...], days: list[date]
) -> None:
    from helicone_sessions.display import terminal  # noqa: PLC0415 - rich is an extra

    def seconds(day: date) -> float:
        return answers[day, None].average.session_duration or 0.0

    form = "%a %d %b" if len(days) <= _DAYS_OF_A_YEAR else "%a %d %b %Y"
    slowest = max(days, key=seconds)
    table = terminal.table(
        "Mean dollars of a session by model and day, and its mean seconds",
        [*models, "all models", "seconds"],
        [
            (
                day.strftime(form),
                [
                    *(_dollars(answers[day, model]) for model in (*models, None)),
                    number(answers[day, None].average.session_duration, "seconds"),
                ],
            )
            for day in days
        ],
        {slowest.strftime(form): "bold red"},
    )
    console.print(table, crop=False)
    _show_averages(console, answers, models)
    if answers[_ALL].average.session_count is None:
        console.print("No session in this time. Name your models with --model, or use more --days.")
    else:
        dearest = max(models, key=lambda model: answers[model,].average.session_cost or 0.0)
        console.print(
            f"Costliest model: {dearest}, {_dollars(answers[dearest,])} dollars a session."
            f" Slowest day: {slowest:{form}}, {number(seconds(slowest), 'seconds')} seconds a session.\n",
            markup=False,
            emoji=False,
        )
    console.print(terminal.histograms(panels(answers[_ALL]), cut_note(_LEVEL)))
    console.print("\nThe same in Python:\n", style="bold")
    console.print(TEN_LINES, highlight=False, markup=False, soft_wrap=True)
    sys.stderr.write(
        "Next: your own figures, with HELICONE_API_KEY set:  helicone-sessions metrics --last 7d\n"
        "or your own data:  helicone-sessions serve --data requests.jsonl\n"
    )


def _show_averages(console: "Console", answers: dict[Any, SessionMetrics], models: tuple[str, ...]) -> None:
    from helicone_sessions.display import terminal  # noqa: PLC0415 - rich is an extra

    named = [(model, answers[model,]) for model in models]
    named += [(name, answers["session", name]) for name in _SAMPLE_SESSIONS if ("session", name) in answers]
    named.append((_EVERYTHING, answers[_ALL]))
    rows = [(name, means(panels(found))) for name, found in named]
    table = terminal.table("Averages of a session", list(UNITS.values()), rows, {_EVERYTHING: "bold"})
    console.print(table, crop=False)


def _dollars(metrics: SessionMetrics) -> str:
    return number(metrics.average.session_cost, "dollars")
