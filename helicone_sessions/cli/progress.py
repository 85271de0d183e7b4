"""The progress of queries on a terminal: how many are done, and how long the rate limit holds them back."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from helicone_sessions.transport.hooks import Hooks, WaitReason

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Shorter waits are over before anybody has read the line.
_NOTABLE = 1.0


class QueryProgress(Hooks):
    """Hooks for a client, and a function for ``on_progress=``.

    Args:
        bar: The bar.
        task: Its one task.
    """

    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self._bar = bar
        self._task = task
        self._waits_until = 0.0

    def on_progress(self, done: int, total: int | None, _failed: int) -> None:
        """Show the number of queries that are done."""
        self._bar.update(self._task, completed=done, total=total, description="queries")

    def waits(self, token: Any, seconds: float, reason: WaitReason, error: Any) -> None:
        """Show the wait: in the bar, or as one line if the standard error is a file."""
        until = self._bar.get_time() + seconds
        # All queries in line report the same wait.
        if reason != "rate limit" or seconds < _NOTABLE or until < self._waits_until + _NOTABLE:
            return
        self._waits_until = until
        text = f"waiting {seconds:.0f} s for the rate limit"
        if self._bar.disable:
            sys.stderr.write(f"helicone-sessions: {text}\n")
        self._bar.update(self._task, description=text)


@contextmanager
def of_queries(*, transient: bool = False) -> Iterator[QueryProgress]:
    """A bar on the standard error, if that is a terminal.

    Args:
        transient: Whether the bar disappears at the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=transient) as bar:
        yield QueryProgress(bar, bar.add_task("queries", total=None))
