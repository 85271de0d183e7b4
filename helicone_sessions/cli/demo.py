"""The command ``helicone-sessions demo``, which shows metrics of sample data."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from helicone_sessions.cli.arguments import of_queries
from helicone_sessions.display.numbers import amount, column_numbers, cut_note, means, number
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.columns import F
from helicone_sessions.messages.metrics import UNITS, SessionMetrics, panels
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter
from helicone_sessions.transport.client import HeliconeClient

if TYPE_CHECKING:
    from rich.console import Console

    from helicone_sessions.display import terminal

_MOST_DAYS: Final = 3660
# The largest number of days among which each day of the year occurs only once.
_DAYS_OF_A_YEAR: Final = 365
# The key of the query for all models, and its name in a table.
_ALL: Final = (None,)
_EVERYTHING: Final = "all sessions"
_LEVEL: Final = "p95"
# With these limits, the output fits on a terminal of 24 lines.
_MOST_BARS: Final = 6
_SAMPLE_SESSIONS: Final = ("support-chat", "summarise-page", "code-review", "research-agent")
MODELS: Final = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4", "claude-opus-4")

PROGRAM: Final = """\
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


def demo(
    *,
    live: bool = False,
    model: list[str] | None = None,
    days: int = 30,
    full: bool = False,
    code: bool = False,
) -> None:
    """Show session metrics per model, queried as one concurrent batch.

    The embedded engine answers from thirty days of sample requests. No account is required.

    Args:
        live: Query the real service instead, with the key in HELICONE_API_KEY.
        model: A model to show. Repeat it for more models.
        days: The number of days up to the last midnight in UTC.
        full: Show each day, each session name and all histograms as well.
        code: Show a Python program with the same queries instead.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise ConfigurationError(argument="days", problem=f"must be from 1 to {_MOST_DAYS}, got {days}")
    if code:
        sys.stdout.write(PROGRAM)
        return
    asyncio.run(_demo(tuple(model or MODELS), days, live=live, full=full))


def _queries(
    models: Sequence[str], whole: TimeFilter, days: Mapping[date, TimeFilter], *, full: bool
) -> dict[Any, SessionMetricsQuery]:
    """Return the queries for each day (with *full*, also per model), for each model, and for all requests."""
    shown = (*models, None) if full else (None,)
    queries: dict[Any, SessionMetricsQuery] = {
        (day, model): SessionMetricsQuery(F.model == model if model else None, time_filter=time)
        for day, time in days.items()
        for model in shown
    }
    queries |= {(model,): SessionMetricsQuery(F.model == model, time_filter=whole) for model in models}
    queries[_ALL] = SessionMetricsQuery(time_filter=whole, p_size=_LEVEL)
    return queries


def _session_queries(whole: TimeFilter) -> dict[Any, SessionMetricsQuery]:
    named = F.session_name
    return {
        ("session", name): SessionMetricsQuery(named == name, time_filter=whole) for name in _SAMPLE_SESSIONS
    }


async def _demo(models: tuple[str, ...], days: int, *, live: bool, full: bool) -> None:
    from rich.console import Console

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    whole = TimeFilter(midnight - timedelta(days=days), midnight)
    times = {(time.end - timedelta(days=1)).date(): time for time in whole.split(days=1)}
    queries = _queries(models, whole, times, full=full)
    if full and not live:
        queries |= _session_queries(whole)
    async with _live_client() if live else _sample_client() as client:
        answers = await _answers(client, queries)
    _show(Console(highlight=False), answers, models, list(times), full=full)


@asynccontextmanager
async def _sample_client() -> AsyncIterator[HeliconeClient]:
    from helicone_sessions.local import LocalServer

    async with (
        LocalServer(LocalServer.sample()) as server,
        HeliconeClient(server.api_key, base_url=server.url) as client,
    ):
        sys.stderr.write(f"The embedded engine answers from {server.loaded.rows:,} sample requests.\n")
        yield client


@asynccontextmanager
async def _live_client() -> AsyncIterator[HeliconeClient]:
    async with HeliconeClient() as client:
        sys.stderr.write(f"Querying the service: {client!r}\n")
        yield client


async def _answers(
    client: HeliconeClient, queries: dict[Any, SessionMetricsQuery]
) -> dict[Any, SessionMetrics]:
    with of_queries(transient=True) as progress:
        answers: dict[Any, SessionMetrics] = await client.with_options(hooks=progress).get_metrics_many(
            queries, on_progress=progress.on_progress
        )
    return answers


def _show(
    console: "Console",
    answers: dict[Any, SessionMetrics],
    models: tuple[str, ...],
    days: list[date],
    *,
    full: bool,
) -> None:
    """Print the headline first and the longest table last.

    Without *full*, the output fits on 24 lines.
    """
    from helicone_sessions.display import terminal

    found = answers[_ALL]
    if found.average.session_count is None:
        console.print("No session in this time range. Name your models with --model, or use more --days.")
    else:
        console.print(_headline(answers, models, days), markup=False, emoji=False)
    named = [(model, answers[model,]) for model in models]
    named += [(name, answers["session", name]) for name in _SAMPLE_SESSIONS if ("session", name) in answers]
    named.append((_EVERYTHING, found))
    names, metrics = zip(*named, strict=True)
    rows = zip(names, means(map(panels, metrics)), strict=True)
    styles = {_EVERYTHING: "bold"}
    console.print(terminal.NumberTable("Averages of a session", list(UNITS.values()), rows, styles))
    if full:
        console.print(terminal.histograms(panels(found), cut_note(_LEVEL)))
        console.print(_table_of_days(answers, models, days))
    else:
        console.print(terminal.histogram(panels(found)[-1], _MOST_BARS))
        console.print(f"Right: session counts. {cut_note(_LEVEL)}", style="dim")
    sys.stderr.write(
        "More: helicone-sessions demo --full, or --code for the program\n"
        "Your account: helicone-sessions metrics --last 7d, with HELICONE_API_KEY set\n"
    )


def _headline(answers: dict[Any, SessionMetrics], models: tuple[str, ...], days: list[date]) -> str:
    def dollars(model: str) -> float:
        return answers[model,].average.session_cost or 0.0

    def seconds(day: date) -> float:
        return answers[day, None].average.session_duration or 0.0

    costliest, slowest = max(models, key=dollars), max(days, key=seconds)
    most = (
        f"Costliest model: {costliest}, {number(dollars(costliest), 'dollars')} a session."
        if dollars(costliest)
        else f"No sessions with {', '.join(models)}."
    )
    return f"{most}\nSlowest day: {slowest:{_form(days)}}, {amount(seconds(slowest), 'seconds')} a session."


def _table_of_days(
    answers: dict[Any, SessionMetrics], models: tuple[str, ...], days: list[date]
) -> "terminal.NumberTable":
    from helicone_sessions.display import terminal

    averages = [[answers[day, model].average for day in days] for model in (*models, None)]
    columns = [column_numbers([each.session_cost for each in column], "dollars") for column in averages]
    columns.append(column_numbers([each.session_duration for each in averages[-1]], "seconds"))
    return terminal.NumberTable(
        "Mean cost of a session by model and day, and its mean seconds",
        [*models, "all models", "seconds"],
        [(day.strftime(_form(days)), texts) for day, *texts in zip(days, *columns, strict=True)],
    )


def _form(days: list[date]) -> str:
    return "%a %d %b" if len(days) <= _DAYS_OF_A_YEAR else "%a %d %b %Y"
