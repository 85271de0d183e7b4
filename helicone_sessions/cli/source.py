"""The source of a command's answers: the service, or a store or files on this machine."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
from cyclopts import Parameter
from yarl import URL

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter
from helicone_sessions.transport.client import HeliconeClient
from helicone_sessions.transport.hooks import Hooks, WaitReason

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@Parameter(name="*")
@attrs.frozen
class Source:
    """The service, or data on this machine.

    Args:
        region: The region of the service.
        timeout: Seconds for one attempt.
        max_concurrency: The number of concurrent queries.
        path: Answer from this store instead, a directory filled by `serve --path` or `sync`.
        data: Answer from this file of requests instead, .jsonl, .json, .csv or .parquet. Repeat it for more.
        without_unsessioned: Leave out requests without a session id, which otherwise count as one session.
    """

    region: Literal["us", "eu"] | None = None
    timeout: float = 60.0
    max_concurrency: int = 8
    path: Path | None = None
    data: list[str] | None = None
    without_unsessioned: bool = False

    def __attrs_post_init__(self) -> None:
        if self.is_local and self.region is not None:
            raise ConfigurationError(
                argument="region",
                problem="cannot be combined with `path` or `data`",
                remedy="Leave one of them out",
            )
        if self.path is not None and self.data is None and not self.path.is_dir():
            raise ConfigurationError(
                argument="path",
                problem=f"must be the directory of a store, got {str(self.path)!r}",
                remedy="Fill one with helicone-sessions serve --path, or pass files with --data",
            )

    @property
    def is_local(self) -> bool:
        """Whether the answers come from this machine."""
        return self.path is not None or self.data is not None

    @property
    def name(self) -> str:
        """The store, the files or the host, for a caption."""
        if self.is_local:
            return ", ".join([*(() if self.path is None else [str(self.path)]), *(self.data or ())])
        host = URL(os.environ.get("HELICONE_BASE_URL", "")).host
        return host or f"Helicone{'' if self.region is None else f' ({self.region})'}"

    def narrowed(self, given: Filter | None) -> Filter | None:
        """The filter, without requests that have no session id if they are left out."""
        if not self.without_unsessioned:
            return given
        has_session = ~F.session_id.is_empty()
        return has_session if given is None else given & has_session

    @asynccontextmanager
    async def client(self, hooks: Hooks | None = None) -> AsyncIterator[HeliconeClient]:
        """A client of the service, or of an embedded engine that runs during the block."""
        options: dict[str, Any] = {
            "timeout": self.timeout,
            "max_concurrency": self.max_concurrency,
            "hooks": hooks,
        }
        if not self.is_local:
            async with HeliconeClient(region=self.region, **options) as client:
                yield client
            return
        from helicone_sessions.local import LocalServer

        data: Any = self.data or ()
        async with (
            LocalServer(data, path=self.path) as server,
            HeliconeClient(server.api_key, base_url=server.url, **options) as client,
        ):
            yield client


# Nobody can read the line about a shorter wait.
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
        """Show the number of completed queries."""
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
    """A progress bar on the standard error, if it is a terminal.

    Args:
        transient: Whether the bar disappears at the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=transient) as bar:
        yield QueryProgress(bar, bar.add_task("queries", total=None))
