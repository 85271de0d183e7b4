"""The command ``helicone-sessions filter``, which converts a filter and counts matching requests."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Literal

from helicone_sessions.cli.arguments import Source, condition
from helicone_sessions.cli.error_text import caution_text
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.cautions import IN_DATA
from helicone_sessions.filters.expression import Filter
from helicone_sessions.messages.grid_query import CellFigures, GridQuery
from helicone_sessions.messages.query import SessionMetricsQuery

Output = Literal["json", "tree", "python", "text"]


def filter_(
    text: str,
    /,
    *,
    output: Output = "json",
    path: Path | None = None,
    data: list[str] | None = None,
    without_unsessioned: bool = False,
) -> None:
    """Show the JSON of a filter, its tree, and the parts that the open-source server would read differently.

    The command sends nothing and needs no key. With --path or --data, it also counts the requests that match.

    Args:
        text: The filter, e.g. 'cost > 0.1 and model contains "gpt"', or its JSON.
        output: The format of the output: the JSON of the API, the tree, Python source, or text.
        path: Count in this store: a directory filled by `serve --path` or `sync`.
        data: Count in this file of requests (.jsonl, .json, .csv or .parquet). Repeat it for more.
        without_unsessioned: Leave out requests without a session id, which otherwise count as one session.
    """
    read = condition(text)
    wire = json.dumps(read.to_wire(), indent=2, ensure_ascii=False)
    shown = {"json": wire, "tree": read.explain(), "python": repr(read), "text": str(read)}
    source = Source(path=path, data=data, without_unsessioned=without_unsessioned)
    if output == "json":
        # In a terminal, show the tree as well. A pipe gets only the JSON.
        sys.stderr.write(f"{read.explain()}\n\n")
    sys.stdout.write(f"{shown[output]}\n")
    for caution in read.cautions():
        # For local data, skip cautions about gaps, because the data itself shows whether it has any.
        if not (source.is_local and caution.effect in IN_DATA):
            sys.stderr.write(f"caution: {caution_text(caution)}\n")
    if source.is_local:
        found, everything = asyncio.run(_counted(source, read))
        sys.stderr.write(
            f"matches {found.requests:,} of {everything.requests:,} requests,"
            f" in {found.sessions:,} of {everything.sessions:,} sessions, ${found.dollars:,.2f}\n"
        )


async def _counted(source: Source, given: Filter) -> tuple[CellFigures, CellFigures]:
    """Return the totals of the matching requests and of all requests."""
    from helicone_sessions.local.drivers.directory_lock import StoreInUse

    queries = [SessionMetricsQuery(source.narrowed(each)) for each in (given, None)]
    try:
        async with source.client() as client:
            figures = [await client.query_grid(GridQuery(query)) for query in queries]
    except StoreInUse as error:
        remedy = "Stop that process, or run `helicone-sessions metrics` on its server"
        raise ConfigurationError(argument="path", problem=error.problem, remedy=remedy) from error
    found, everything = (each.cell(None, None) for each in figures)
    return found, everything
