"""The command ``helicone-sessions sync``, which copies the requests of an account into a local store."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from helicone_sessions.cli.arguments import QueryProgress, moment_of, progress_bar
from helicone_sessions.cli.error_text import error_text, say
from helicone_sessions.clock import current
from helicone_sessions.errors import (
    AuthenticationError,
    ConfigurationError,
    FilterError,
    FilterValueError,
    HeliconeError,
)
from helicone_sessions.report.periods import length_of
from helicone_sessions.syncing import SyncReport, queries_of
from helicone_sessions.syncing import sync as copy
from helicone_sessions.transport.client import HeliconeClient

if TYPE_CHECKING:
    from helicone_sessions.local import LocalServer

# Shells report 128 plus the number of the signal that ended a command.
SIGNALLED: Final = 128
# `timeout` and other programs signal both a process and its group, so the process receives the signal twice.
_SECONDS_OF_ONE_SIGNAL: Final = 0.5


@contextmanager
def signals(tell: Callable[[int], object]) -> Iterator[None]:
    """Call a function on the first SIGINT or SIGTERM in the block; later signals reach the previous handlers.

    Args:
        tell: The function to call with the number of the signal. It runs in the event loop.
    """
    before: dict[int, Any] = {}
    loop = asyncio.get_running_loop()
    clock = current()
    first: list[float] = []

    def taken(number: int, _frame: object) -> None:
        if not first:
            first.append(clock.now())
            loop.call_soon_threadsafe(tell, number)
        elif clock.now() - first[0] >= _SECONDS_OF_ONE_SIGNAL:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, taken)
    try:
        yield
    finally:
        restore()


def sync(
    *,
    path: Path,
    since: str | None = None,
    until: str | None = None,
    every: str | None = None,
    bodies: bool = False,
    organization: str | None = None,
    region: Literal["us", "eu"] | None = None,
    timeout: float = 60.0,
) -> None:
    """Copy new requests from your account into a store.

    The key is read from HELICONE_API_KEY, and the address from HELICONE_BASE_URL or --region. The store
    records which time range it covers, so the next sync continues where the previous one ended, even after a
    kill. Tags and deletions are not copied.

    Args:
        path: The directory of the store, which is created if it is missing.
        since: The start of the time range to copy, as a date or a length such as 90d. By default, all
            requests are copied.
        until: The end of the time range to copy, as a date or time; now by default.
        every: Repeat the sync at this interval, e.g. 15m, until Ctrl-C or SIGTERM.
        bodies: Also copy the bodies of requests and responses, with one download per request.
        organization: The organisation (a UUID) for the requests, if the store has several accounts.
        region: The region of the service.
        timeout: The time limit of one attempt, in seconds.
    """
    interval = None if every is None else length_of(every, "every")
    if interval is not None and until is not None:
        raise ConfigurationError(
            argument="every", problem="cannot be combined with `until`", remedy="Leave one of them out"
        )
    rounds = Rounds(path, since, until, interval, bodies, organization, region, timeout)
    # Make the files of the store readable only by this user.
    os.umask(0o077)
    if code := asyncio.run(_until_signal(rounds)):
        raise SystemExit(code)


async def _until_signal(rounds: "Rounds") -> int:
    """Run the rounds until they end or a signal arrives, and return the exit code."""
    received: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with signals(received.set_result):
        working = asyncio.create_task(rounds.run())
        await asyncio.wait((working, received), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            say(f"query it with: helicone-sessions metrics --path {rounds.path} --last 7d")
            return 0
        working.cancel()
        await asyncio.wait((working,))
    say("stopped; the next sync continues from here")
    # With --every, a signal is the normal way to stop.
    return 0 if rounds.every is not None else SIGNALLED + signal.Signals(received.result())


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@attrs.frozen
class Rounds:
    """The syncs of one command, into a store or into a server that has the store open."""

    path: "Path | LocalServer"
    since: str | None = None
    until: str | None = None
    every: timedelta | None = None
    bodies: bool = False
    organization: str | None = None
    region: Literal["us", "eu"] | None = None
    timeout: float = 60.0
    report: Callable[[str], object] = _write
    shows_bar: bool = True

    async def run(self) -> None:
        """Run rounds until cancelled, or a single round if `every` is None.

        Raises:
            HeliconeError: A round failed, and the next one would fail as well.
        """
        clock = current()
        ends = None if self.until is None else moment_of("until", self.until, UTC)
        is_first = True
        while True:
            began = clock.now()
            try:
                await self._round(_start(self.since), ends, is_first=is_first)
            except HeliconeError as error:
                if self.every is None or not _may_pass(error, is_first=is_first):
                    raise
                # The next round copies what this one could not.
                say(f"{_now()} {error_text(error, 'sync')}; the next round tries again")
            if self.every is None:
                return
            is_first = False
            await clock.sleep(max(0.0, began + self.every.total_seconds() - clock.now()))

    async def _round(self, since: datetime | None, until: datetime | None, *, is_first: bool) -> None:
        with _bar(is_shown=self.shows_bar) as (hooks, show):
            async with HeliconeClient(region=self.region, timeout=self.timeout, hooks=hooks) as client:

                def on_progress(done: int, total: int | None) -> None:
                    if is_first and done == 0 and total:
                        say(_estimate(total, client))
                    show(done, total)

                found = await copy(
                    client,
                    self.path,
                    since=since,
                    until=until,
                    bodies=self.bodies,
                    organization_id=self.organization,
                    on_progress=on_progress,
                )
        self.report(_line(found))


def _may_pass(error: HeliconeError, *, is_first: bool) -> bool:
    """Whether a later round may succeed.

    If the arguments are invalid, the first round fails, and so would all later ones. After the first round, a
    `ConfigurationError` can be temporary, for example if another process has the store open.
    """
    if isinstance(error, AuthenticationError):
        return False
    return not (is_first and isinstance(error, (ConfigurationError, FilterError)))


def _start(text: str | None) -> datetime | None:
    """Parse the start of the time range: a date, a time, or a length of time before now."""
    if text is None:
        return None
    try:
        return datetime.now(UTC) - length_of(text, "since")
    except (FilterValueError, OverflowError):
        return moment_of("since", text, UTC)


def _estimate(total: int, client: HeliconeClient) -> str:
    """Estimate, in one sentence, how many queries and how much time the sync takes."""
    queries = queries_of(total)
    text = f"{total:,} {'request' if total == 1 else 'requests'} to copy in about {queries:,} queries"
    limit = client.service_limit
    if limit is None:
        return text
    text += f"; the account's limit is {limit.requests:,} in {limit.per:g} s"
    wait = queries // limit.requests * limit.per
    return f"{text}, so it takes at least {_duration(wait)}" if wait else text


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _line(report: SyncReport) -> str:
    """Format the report as one line."""
    parts = [f"{report.requests - report.replaced:,} new requests", f"{report.replaced:,} replaced"]
    if report.skipped:
        reasons = "; ".join(f"{reason}: {number:,}" for reason, number in sorted(report.skipped.items()))
        parts.append(f"{sum(report.skipped.values()):,} skipped ({reasons})")
    if report.cost_differences:
        parts.append(f"cost and costUSD differ in {report.cost_differences:,}, cost is stored")
    return f"{_now()} {', '.join(parts)}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


@contextmanager
def _bar(*, is_shown: bool) -> Iterator[tuple[QueryProgress, Callable[[int, int | None], None]]]:
    """If standard error is a terminal, show a progress bar with count, rate and remaining time."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.fields[of]}"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns, is_shown=is_shown) as bar:
        task = bar.add_task("requests", total=None, rate=0.0, of="?")

        def show(done: int, total: int | None) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(
                task,
                completed=done,
                total=None if total is None else max(done, total),
                description="requests",
                rate=done / elapsed if elapsed else 0.0,
                of="?" if total is None else f"{max(done, total):,}",
            )

        yield QueryProgress(bar, task), show
