"""The command ``helicone-sessions serve``, which runs the embedded engine as a server."""

import asyncio
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from helicone_sessions.cli.arguments import Loading, progress_bar
from helicone_sessions.cli.error_text import say
from helicone_sessions.cli.sync import SIGNALLED, Rounds, signals
from helicone_sessions.errors import ConfigurationError
from helicone_sessions.report.periods import length_of

if TYPE_CHECKING:
    from helicone_sessions.local import Limits, LocalServer
    from helicone_sessions.local.storage.readers import Data
    from helicone_sessions.local.storage.rows import Loaded

KEY_VARIABLE: Final = "HELICONE_SESSIONS_SERVER_KEY"
_MEGABYTE: Final = 1024 * 1024


def serve(
    *,
    data: list[str] | None = None,
    loading: Loading = Loading(),
    without_unsessioned: bool = False,
    sample: bool = False,
    path: Path | None = None,
    accept_loss: bool = False,
    sync_every: str | None = None,
    sync_since: str | None = None,
    clickhouse: str | None = None,
    organization: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8585,
    rate_limit: int | None = None,
    rate_limit_window: float = 300.0,
    semantics: Literal["contract", "helicone"] = "contract",
    max_seconds: float = 60.0,
    max_memory: int | None = None,
) -> None:
    """Answer queries from your own data as the service would, until Ctrl-C or SIGTERM.

    Clients need the key in HELICONE_SESSIONS_SERVER_KEY. If it is not set, a random key is generated and
    shown. Each request is logged as one line on standard error.

    Args:
        data: A .jsonl, .json, .csv or .parquet file of requests (also .gz) to load first, or a pattern in
            quotes, e.g. 'exports/*.jsonl'. Repeat it for more.
        loading: How the files are read.
        without_unsessioned: Leave out requests without a session id, which otherwise count as one session.
        sample: Load a sample month that ends now, as in the demo.
        path: A directory for the data. By default, the data is kept in memory and lost at the end.
        accept_loss: Open a damaged store without its lost rows.
        sync_every: Copy new requests from your account into the store at this interval, e.g. 15m. The key of
            the account is read from HELICONE_API_KEY.
        sync_since: The start of the time range to copy, as a date or a length such as 90d. By default, all
            requests are copied.
        clickhouse: Answer from this ClickHouse server instead, e.g. http://user@host:8123/database. Put its
            password into HELICONE_SESSIONS_CLICKHOUSE_PASSWORD, because other users can see the arguments.
        organization: The organisation to answer for, if the data contains several.
        host: The address to listen on. Other machines can connect only if HELICONE_SESSIONS_SERVER_KEY is
            set.
        port: The port to listen on; 0 for a free one.
        rate_limit: The number of requests per window. Further requests get status 429. The free tier of the
            hosted service allows 1,000.
        rate_limit_window: The length of the window of --rate-limit in seconds.
        semantics: How to read filters: as the contract requires, or as the open-source server does.
        max_seconds: The timeout of one query in seconds.
        max_memory: The memory limit of one query in megabytes; unlimited by default.
    """
    from helicone_sessions.local import LocalServer

    limits = _limits(max_seconds, max_memory)
    if sample:
        _check_sample_alone(data, clickhouse)
    every = None if sync_every is None else _interval(sync_every, path)
    loads = sample or bool(data)
    rows: Data = LocalServer.sample() if sample else data or ()
    key = os.environ.get(KEY_VARIABLE) or None
    # Make the files of the engine and of rejected rows readable only by this user.
    os.umask(0o077)
    make = partial(
        LocalServer,
        rows,
        path=path,
        accept_loss=accept_loss,
        clickhouse=clickhouse,
        include_unsessioned=not without_unsessioned,
        **loading.options,
        organization_id=organization,
        api_key=key,
        host=host,
        port=port,
        semantics=semantics,
        rate_limit=rate_limit,
        rate_limit_window=rate_limit_window,
        limits=limits,
    )
    where = _where(path, clickhouse)

    def rounds(server: "LocalServer") -> Rounds:
        return Rounds(server, sync_since, every=every, organization=organization, report=say, shows_bar=False)

    serving = _serve(
        make,
        where,
        data=data or (),
        loading=loading,
        shows_key=key is None,
        loads=loads,
        kept=path is not None,
        rounds=None if every is None else rounds,
    )
    code = asyncio.run(serving)
    if code:
        raise SystemExit(code)


def _where(path: Path | None, clickhouse: str | None) -> str:
    """Describe where the requests are stored, without a password."""
    if clickhouse is None:
        return "in memory" if path is None else f"in {path}"
    from helicone_sessions.local.drivers.clickhouse import parse_address

    return f"in ClickHouse at {parse_address(clickhouse)}"


_STOPPED: Final = {
    False: "no rows are kept",
    True: "the rows reported so far are kept; run the same command again to load all of them",
}


async def _serve(
    make: Callable[..., "LocalServer"],
    where: str,
    *,
    data: Sequence[str],
    loading: Loading,
    shows_key: bool,
    loads: bool,
    kept: bool,
    rounds: Callable[["LocalServer"], Rounds] | None,
) -> int:
    """Serve until a signal arrives, and return the exit code."""
    numbers: list[int] = []
    ending = asyncio.Event()

    def tell(number: int) -> None:
        numbers.append(number)
        ending.set()

    with signals(tell):
        server = await _started(make, ending)
        if server is not None:
            try:
                if not ending.is_set():
                    _log_requests()
                    await _announce(server, where, data=data, loading=loading, shows_key=shows_key)
                    with _modules_not_collected():
                        await _until(ending, rounds and rounds(server))
                    say("stopping: running queries may finish; another signal stops immediately")
            finally:
                await server.aclose()
    if server is None and loads:
        say(f"stopped during the load: {_STOPPED[kept]}")
        return SIGNALLED + numbers[0]
    say("stopped")
    return 0


@contextmanager
def _modules_not_collected() -> Iterator[None]:
    """Exclude loaded modules from garbage collection, whose pauses would otherwise reach 50 ms."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _until(ending: asyncio.Event, rounds: Rounds | None) -> None:
    """Wait until *ending* is set, and run the syncs meanwhile.

    Raises:
        HeliconeError: The sync cannot continue.
    """
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(ending.wait())]
    if rounds is not None:
        tasks.append(asyncio.create_task(rounds.run()))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _started(make: Callable[..., "LocalServer"], ending: asyncio.Event) -> "LocalServer | None":
    """Return the server after it has loaded its data, or None if a signal ended the load."""
    with _progress() as on_progress, warnings.catch_warnings():
        # The command reports the content of these warnings itself.
        warnings.simplefilter("ignore", UserWarning)
        server = make(on_progress=on_progress)
        starting = asyncio.create_task(server.start())
        telling = asyncio.create_task(ending.wait())
        await asyncio.wait((starting, telling), return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            if starting.cancelled():
                return None
        await starting
        return server


def _check_sample_alone(data: list[str] | None, clickhouse: str | None) -> None:
    if data or clickhouse is not None:
        raise ConfigurationError(
            argument="sample",
            problem="cannot be combined with `data` or `clickhouse`",
            remedy="Leave one of them out",
        )


def _limits(max_seconds: float, max_memory: int | None) -> "Limits":
    from helicone_sessions.local import Limits

    for argument, value in (("max_seconds", max_seconds), ("max_memory", max_memory)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigurationError(argument=argument, problem=f"must be a number above 0, got {value:g}")
    return Limits(seconds=max_seconds, memory=None if max_memory is None else max_memory * _MEGABYTE)


def _interval(sync_every: str, path: Path | None) -> timedelta:
    if path is None:
        raise ConfigurationError(
            argument="sync_every", problem="needs a store to sync into", remedy="Add `path` helicone-data"
        )
    return length_of(sync_every, "sync_every")


async def _announce(
    server: "LocalServer", where: str, *, data: Sequence[str], loading: Loading, shows_key: bool
) -> None:
    _report_load(server.loaded, loading)
    # Counting the rows of an external cluster can take a long time.
    count = None if where.startswith("in ClickHouse") else await server.count()
    say(f"serving {'the requests' if count is None else f'{count:,} requests'} {where}")
    if count == 0:
        why = f"{', '.join(data)} has no rows" if data else "start with --data FILE or --sample"
        say(f"every answer will be empty: {why}. Rows can also be sent to POST /v1/rows")
    key = server.api_key if shows_key else f'"${KEY_VARIABLE}"'
    say("point a client at it with")
    sys.stderr.write(f"  export HELICONE_BASE_URL={server.url} HELICONE_API_KEY={key}\n")
    # Browsers do not send the part after the # to the server.
    say(f"or open it in a browser: {server.url}/" + (f"#key={quote(key, safe='')}" if shows_key else ""))
    # Scripts wait for this line.
    say(f"ready at {server.url}")


def _report_load(loaded: "Loaded", loading: Loading) -> None:
    if loaded.rows or loaded.rejected:
        say(f"{loaded.rows:,} requests loaded, {loaded.replaced:,} replaced, {loaded.rejected:,} rejected")
    for remark in loading.remarks(loaded):
        say(remark)
    if loaded.mapped:
        mapped = ", ".join(f"{name} to {to}" for name, to in sorted(loaded.mapped.items()))
        say(f"columns mapped: {mapped}")


def _log_requests() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    log = logging.getLogger("helicone_sessions")
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
    # Log one line for each request, in addition to problems.
    logging.getLogger("helicone_sessions.access").setLevel(logging.INFO)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show the progress of a load, on a terminal only."""
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description} requests loaded"), TimeElapsedColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task("0", total=None)
        yield lambda rows: progress.update(task, description=_described(rows))


def _described(rows: int) -> str:
    fraction: float | None = getattr(rows, "fraction", None)
    return f"{rows:,}" if fraction is None else f"{fraction:.0%}, {rows:,}"
