"""The command ``helicone-sessions sql``, which runs a SELECT on a store."""

import asyncio
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.messages.tabular import json_text

if TYPE_CHECKING:
    from helicone_sessions.local import Limits, SqlResult

Output = Literal["table", "csv", "json", "parquet"]

_MEGABYTE: Final = 1024 * 1024


def sql(
    text: str,
    /,
    *,
    path: Path,
    limit: int = 100,
    max_seconds: float = 60.0,
    max_memory: int = 1024,
    output: Output = "table",
    unconfined: bool = False,
) -> None:
    """Run a ClickHouse SELECT statement on a store.

    The table `requests` contains the requests. The statement runs in a process that can read only the store.

    Args:
        text: The statement, e.g. 'SELECT model, sum(cost) AS dollars FROM requests GROUP BY model'.
        path: The directory of the store.
        limit: The maximum number of rows to return; 0 for all.
        max_seconds: The timeout in seconds.
        max_memory: The memory limit of the statement in megabytes.
        output: The format of the output; redirect Parquet to a file.
        unconfined: Run even if the system cannot prevent the statement from reading your other files.
    """
    from helicone_sessions.local import Limits

    if limit < 0:
        raise ConfigurationError(argument="limit", problem=f"must be 0 or more, got {limit}")
    if output == "parquet" and sys.stdout.isatty():
        raise ConfigurationError(
            argument="output", problem="parquet is binary", remedy="Redirect it to a file: > result.parquet"
        )
    limits = Limits(seconds=max_seconds, memory=max_memory * _MEGABYTE, threads=2)
    found = asyncio.run(_selected(text, path, limits, limit or None, unconfined=unconfined))
    if output == "table":
        _show(found)
    elif output == "parquet":
        sys.stdout.buffer.write(_parquet(found))
    else:
        sys.stdout.write(found.to_csv() if output == "csv" else f"{found.to_json()}\n")
    if found.is_cut:
        sys.stderr.write(f"The output is cut at --limit {limit}; --limit 0 returns all rows.\n")


async def _selected(
    text: str, path: Path, limits: "Limits", limit: int | None, *, unconfined: bool
) -> "SqlResult":
    from helicone_sessions.local import Store

    async with Store(path, limits=limits, unconfined=unconfined) as store:
        return await store.sql(text, limit=limit)


def _parquet(found: "SqlResult") -> bytes:
    written = BytesIO()
    found.to_polars().write_parquet(written)
    return written.getvalue()


def _show(found: "SqlResult") -> None:
    from rich.console import Console

    from helicone_sessions.display import terminal

    console = Console(highlight=False)
    if not len(found):
        console.print("The statement selects no rows.")
        return
    rows = [[_cell(value) for value in row] for row in found.values]
    numbers = {name for name, kind in found.column_types.items() if kind in (int, float)}
    console.print(terminal.Records(found.column_names, rows, numbers))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value).strip('"')
