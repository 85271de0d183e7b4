"""The command ``helicone-sessions sessions``, which lists sessions, by default the most expensive first."""

import asyncio
import sys
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter

from helicone_sessions.cli.arguments import Source, Times, condition, of_queries
from helicone_sessions.display.numbers import column_numbers
from helicone_sessions.errors import ConfigurationError, HeliconeError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.messages.query import TimeFilter
from helicone_sessions.messages.sessions import Session, SessionCount, Sessions
from helicone_sessions.messages.tabular import json_text
from helicone_sessions.transport.client import HeliconeClient

if TYPE_CHECKING:
    from helicone_sessions.display.terminal import NumberTable

Output = Literal["table", "json", "csv"]

# Ordered by usefulness: a narrow terminal shows the last ones in a second block.
_HEADS: Final = ("cost", "requests", "seconds", "start", "tokens", "name", "users")
_WORDS: Final = ("start", "name", "users")
_PAST: Final = datetime(2000, 1, 1, tzinfo=UTC)


def sessions(
    text: str | None = None,
    /,
    *,
    times: Times = Times(),
    sort: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-total_cost",
    limit: int = 20,
    name: str | None = None,
    search: str = "",
    output: Output = "table",
    source: Source = Source(),
) -> None:
    """List the sessions that have matching requests, and the totals of these requests.

    The key is read from HELICONE_API_KEY, and the address from HELICONE_BASE_URL or --region. Neither is
    needed with --path or --data.

    Args:
        text: The filter, e.g. 'cost > 0.1 and model contains "gpt"'; all requests by default.
        times: The time range of the requests.
        sort: The field to sort by, with - for the largest first: created_at, latest_request_created_at,
            total_cost, total_requests, prompt_tokens, completion_tokens, total_tokens, avg_latency, duration,
            session_id or session_name.
        limit: The maximum number of sessions; 0 for all.
        name: Only sessions of this name.
        search: Only sessions with this text in their id or name.
        output: The format of the output.
        source: Where the data comes from.
    """
    if limit < 0:
        raise ConfigurationError(argument="limit", problem=f"must be 0 or more, got {limit}")
    zone = times.zone
    time = times.time_filter() or TimeFilter(_PAST, datetime.now(UTC), zone)
    given = source.narrowed(None if text is None else condition(text))
    found, count = asyncio.run(_listed(source, given, time, sort, limit or None, name, search))
    if output == "table":
        _show(found, count, zone)
    else:
        sys.stdout.write(found.to_csv() if output == "csv" else f"{json_text(found.to_rows())}\n")


async def _listed(
    source: Source,
    given: Filter | None,
    time: TimeFilter,
    sort: str,
    limit: int | None,
    name: str | None,
    search: str,
) -> tuple[Sessions, SessionCount | None]:
    with of_queries(transient=True) as progress:
        async with source.client(progress) as client:
            found = await client.get_sessions(
                given, time_filter=time, sort=sort, limit=limit, name=name, search=search
            )
            if limit is None or len(found) < limit:
                return found, None
            return found, await _count(client, given, time, name, search)


async def _count(
    client: HeliconeClient, given: Filter | None, time: TimeFilter, name: str | None, search: str
) -> SessionCount | None:
    try:
        return await client.count_sessions(given, time_filter=time, name=name, search=search)
    except HeliconeError:
        # The service cannot count sessions if the filter has conditions on whole sessions.
        return None


def _show(found: Sessions, count: SessionCount | None, zone: tzinfo) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not found:
        console.print("No session matches. Try a longer time range or fewer conditions.")
        return
    console.print(_table(found, zone))
    shown = f"{len(found):,} of {count.count:,} sessions" if count is not None else f"{len(found):,} sessions"
    cost = sum(session.total_cost for session in found)
    console.print(f"{shown}, ${cost:,.2f} in total. Times in {zone}.", style="dim")


def _table(found: Sessions, zone: tzinfo) -> "NumberTable":
    from helicone_sessions.display import terminal

    costs = column_numbers([session.total_cost for session in found], "dollars")
    rows = [
        (session.session_id, [cost, *_texts(session, zone)])
        for session, cost in zip(found, costs, strict=True)
    ]
    return terminal.NumberTable("", _HEADS, rows, words=_WORDS, label="session")


def _texts(session: Session, zone: tzinfo) -> list[str]:
    return [
        f"{session.total_requests:,}",
        f"{session.duration.total_seconds():,.0f}",
        session.created_at.astimezone(zone).strftime("%Y-%m-%d %H:%M"),
        f"{session.total_tokens:,}",
        session.session_name,
        ", ".join(session.user_ids),
    ]
