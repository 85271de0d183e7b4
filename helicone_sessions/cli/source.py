"""The source of a command's answers: the service, or a store or files on this machine."""

import os
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
from cyclopts import Parameter
from yarl import URL

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter
from helicone_sessions.masking import masked_repr, masked_text
from helicone_sessions.transport.client import HeliconeClient
from helicone_sessions.transport.hooks import Hooks, WaitReason

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from helicone_sessions.local.storage.rows import Loaded


@Parameter(name="*")
@attrs.frozen
class Loading:
    """How files of requests are read.

    Args:
        cost_unit: The unit of cost; billionths of a dollar in a dump of Helicone's own table.
        map: The field that a column of the data holds, e.g. started=request_created_at. Repeat it for more.
        assume_time_zone: The zone of times without one, e.g. UTC or Europe/Berlin.
        rejects: A file for rows that cannot be read; by default the first such row ends the load.
    """

    cost_unit: Literal["dollars", "billionths"] | None = None
    map: list[str] | None = None
    assume_time_zone: str | None = None
    rejects: Path | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `LocalServer`."""
        return {
            "cost_unit": self.cost_unit,
            "columns": dict(map_option(each) for each in self.map or ()),
            "assume_time_zone": self.assume_time_zone,
            "rejects": self.rejects,
        }

    def remarks(self, loaded: "Loaded") -> list[str]:
        """Sentences about a load: its rejected rows, what is missing in others, and unknown columns."""
        found = []
        if loaded.rejected:
            where = f", written to {self.rejects}" if self.rejects is not None else ""
            found.append(f"{loaded.rejected:,} rejected{where}")
        found += loaded.remarks()
        if loaded.ignored:
            found.append(f"unknown columns are ignored: {masked_text(loaded.ignored_text(_MAP))}")
        return found


# How a column is mapped on the command line.
_MAP: Final = "Pass --map {theirs}={field}"


def map_option(text: str) -> tuple[str, str]:
    """The two names of a ``--map``.

    >>> map_option("Started at=request_created_at")
    ('Started at', 'request_created_at')
    """
    theirs, sign, field = text.rpartition("=")
    if not (theirs and sign and field):
        raise ConfigurationError(
            argument="map",
            problem=f"must be COLUMN=FIELD, got {masked_repr(text)}",
            remedy="Pass --map started=request_created_at, for example",
        )
    return theirs, field


@Parameter(name="*")
@attrs.frozen
class Source:
    """The service, or data on this machine.

    Args:
        region: The region of the service.
        timeout: Seconds for one attempt.
        max_concurrency: The number of concurrent queries.
        path: Answer from this store instead, a directory filled by `serve --path` or `sync`.
        data: Answer from this file of requests instead, .jsonl, .json, .csv or .parquet, or a pattern in
            quotes. Repeat it for more.
        loading: How the files are read.
        without_unsessioned: Leave out requests without a session id, which otherwise count as one session.
    """

    region: Literal["us", "eu"] | None = None
    timeout: float = 60.0
    max_concurrency: int = 8
    path: Path | None = None
    data: list[str] | None = None
    loading: Loading = Loading()
    without_unsessioned: bool = False

    def __attrs_post_init__(self) -> None:
        if self.is_local and self.region is not None:
            raise ConfigurationError(
                argument="region",
                problem="cannot be combined with `path` or `data`",
                remedy="Leave one of them out",
            )
        if self.data is None and self.loading != Loading():
            option = next(name for name, value in attrs.asdict(self.loading).items() if value is not None)
            raise ConfigurationError(argument=option, problem="needs files to read", remedy="Add `data` FILE")
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
        async with AsyncExitStack() as stack:
            with warnings.catch_warnings():
                # The remarks say the same with the names of options.
                warnings.simplefilter("ignore", UserWarning)
                server = LocalServer(data, path=self.path, **self.loading.options)
                await stack.enter_async_context(server)
            if self.data is not None:
                self._report(server.loaded)
            client = HeliconeClient(server.api_key, base_url=server.url, **options)
            yield await stack.enter_async_context(client)

    def _report(self, loaded: "Loaded") -> None:
        if not loaded.rows + loaded.rejected:
            files = ", ".join(self.data or ())
            raise ConfigurationError(argument="data", problem=f"must contain rows, got {files}")
        # A command counts the requests without a session id that its query selects.
        for remark in self.loading.remarks(attrs.evolve(loaded, without_session=0)):
            sys.stderr.write(f"helicone-sessions: {remark}\n")


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
        """Show the wait: in the bar, or as one line if standard error is a file."""
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
    """A progress bar on standard error, if it is a terminal.

    Args:
        transient: Whether the bar disappears at the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=transient) as bar:
        yield QueryProgress(bar, bar.add_task("queries", total=None))
