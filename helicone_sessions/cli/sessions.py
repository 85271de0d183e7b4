"""``helicone-sessions sessions``: list sessions, the most expensive first."""

import asyncio
import sys
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter

from helicone_sessions.cli.arguments import Times, condition
from helicone_sessions.cli.source import Source, of_queries
from helicone_sessions.display.numbers import column_numbers
from helicone_sessions.errors import ConfigurationError, HeliconeError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.masking import printable
from helicone_sessions.messages.query import TimeFilter
from helicone_sessions.messages.sessions import Session, SessionCount, Sessions
from helicone_sessions.messages.tabular import json_text
from helicone_sessions.transport.client import HeliconeClient

if TYPE_CHECKING:
    from rich.table import Table

Output = Literal["table", "json", "csv"]

_HEADS: Final = ("start", "seconds", "requests", "tokens", "cost")
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
    """List the sessions with matching requests, with the totals of these requests.

    The key is taken from HELICONE_API_KEY, the address from HELICONE_BASE_URL or --region; --path and --data
    need neither.

    Args:
        text: The filter, e.g. 'cost > 0.1 and model contains "gpt"'; all requests by default.
        times: The time of the requests.
        sort: The field to sort by, with - for the largest first: created_at, latest_request_created_at,
            total_cost, total_requests, prompt_tokens, completion_tokens, total_tokens, avg_latency, duration,
            session_id or session_name.
        limit: The number of sessions; 0 for all.
        name: Only sessions of this name.
        search: Only sessions with this text in their id or name.
        output: The format of the output.
        source: Where the answers come from.
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
        # The service cannot count with conditions on whole sessions.
        return None


def _show(found: Sessions, count: SessionCount | None, zone: tzinfo) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not found:
        console.print("No session matches. Try a longer time, or fewer conditions.")
        return
    console.print(_table(found, zone))
    shown = f"{len(found):,} of {count.count:,} sessions" if count is not None else f"{len(found):,} sessions"
    cost = sum(session.total_cost for session in found)
    console.print(f"{shown}, ${cost:,.2f} together. Times in {zone}.", style="dim")


def _table(found: Sessions, zone: tzinfo) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    # A truncated id cannot be used to find the session.
    table.add_column("session", overflow="fold")
    table.add_column("name", overflow="fold")
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    costs = column_numbers([session.total_cost for session in found], "dollars")
    for session, cost in zip(found, costs, strict=True):
        cells = (session.session_id, session.session_name, *_numbers(session, zone), cost)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _numbers(session: Session, zone: tzinfo) -> tuple[str, str, str, str]:
    return (
        session.created_at.astimezone(zone).strftime("%Y-%m-%d %H:%M"),
        f"{session.duration.total_seconds():,.0f}",
        f"{session.total_requests:,}",
        f"{session.total_tokens:,}",
    )
