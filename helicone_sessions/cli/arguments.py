"""Arguments that several commands share: filters, times, segments, and the data source."""

import json
import os
import re
import shlex
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs
from cyclopts import Parameter
from yarl import URL

from helicone_sessions.cli.error_text import say
from helicone_sessions.errors import ConfigurationError, FilterError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.columns.kinds import Column
from helicone_sessions.filters.constants import zone_of
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import Leaf
from helicone_sessions.filters.parser import parse_filter
from helicone_sessions.masking import masked_repr, masked_text
from helicone_sessions.messages.query import TimeFilter
from helicone_sessions.report.periods import length_of
from helicone_sessions.transport.client import HeliconeClient
from helicone_sessions.transport.hooks import Hooks, WaitReason

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from helicone_sessions.local.storage.rows import Loaded

# A column and, after the first = outside a map key, its values.
_BY: Final = re.compile(
    r"""((?:[^=\[]|\[(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[^\]"'])*+\])++)=(.*)""", re.DOTALL
)
# A name and a filter. A name needs quotes if it contains characters that separate a column from its values.
_NAMED: Final = re.compile(
    r"""\s*(?:(?P<quote>["'])(?P<quoted>.+?)(?P=quote)|(?P<name>[^=<>:\["']+))\s*:(?P<filter>.*)""", re.DOTALL
)
_VALUE: Final = re.compile(r"""(?:\A|,)\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?=,|\Z)""")

_COLUMNS: Final = "helicone-sessions filter --help lists the columns, with examples"


def moment_of(argument: str, text: str, zone: tzinfo) -> datetime:
    """Parse a date or time such as 2026-11-01 or 2026-11-01T18:00; *zone* is the default time zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            argument=argument,
            problem=f"must be a date or a time such as 2026-11-01 or 2026-11-01T18:00Z, got {text!r}",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def condition(text: str) -> Filter:
    """Parse a filter.

    >>> condition("cost > 0.1")
    F.cost > 0.1
    """
    try:
        return parse_filter(text)
    except FilterError as error:
        if text.startswith(("'", '"')):
            error.add_note('the shell passed the quotes on: cmd.exe understands " only')
        elif text.isidentifier():
            error.add_note("write the whole filter in quotes, 'cost > 0.1', because the shell reads the >")
        error.add_note(_COLUMNS)
        raise


@Parameter(name="*")
@attrs.frozen
class Times:
    """The time range of the requests.

    Args:
        last: How far back to look, e.g. 90m, 12h, 7d or 2w.
        begin: The start of the time range, e.g. 2026-11-01 or 2026-11-01T18:00Z. If it has no time zone,
            --time-zone applies.
        end: The end of the time range; now by default.
        time_zone: The time zone for dates and days, e.g. Europe/Berlin; UTC by default.
    """

    last: str | None = None
    begin: Annotated[str | None, Parameter(name="--from")] = None
    end: Annotated[str | None, Parameter(name="--to")] = None
    time_zone: str | None = None

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        try:
            return UTC if self.time_zone is None else zone_of(self.time_zone)
        except FilterError as error:
            raise ConfigurationError(
                argument="time_zone", problem=error.problem, remedy=error.remedy
            ) from None

    def time_filter(self, every: timedelta | None = None) -> TimeFilter | None:
        """Return the time range, or None if no option sets one.

        If *every* is a number of whole days, a range set by *last* starts at midnight, so that only the
        current day is partial.
        """
        if self.last is not None:
            return self._up_to_now(self.last, every)
        if self.begin is None:
            if self.end is not None:
                raise ConfigurationError(
                    argument="end", problem="needs a start", remedy="Add --from 2026-11-01"
                )
            return None
        begins = moment_of("begin", self.begin, self.zone)
        ends = datetime.now(UTC) if self.end is None else moment_of("end", self.end, self.zone)
        # Convert to UTC: Python compares times of the same zone by the wall clock, even across a clock
        # change.
        if begins.astimezone(UTC) >= ends.astimezone(UTC):
            raise ConfigurationError(
                argument="begin",
                problem=f"must be before {f'`end` {self.end}' if self.end else 'now'}, got {self.begin}",
                remedy="Use an earlier time",
            )
        return TimeFilter(begins, ends, self.zone)

    def _up_to_now(self, last: str, every: timedelta | None) -> TimeFilter:
        if self.begin is not None or self.end is not None:
            raise ConfigurationError(
                argument="last",
                problem="ends now",
                remedy="Leave it out, or leave out `begin` and `end`",
            )
        try:
            found = TimeFilter.last(days=length_of(last, "last") / timedelta(days=1))
        except FilterError as error:
            problem = error.problem if error.argument == "last" else f"is too long, got {last}"
            raise ConfigurationError(argument="last", problem=problem) from None
        # Drop fractions of a second, as the service does.
        start, end = (moment.replace(microsecond=0) for moment in (found.start, found.end))
        if every is None or every % timedelta(days=1):
            return TimeFilter(start, end, self.zone)
        return TimeFilter(start.astimezone(self.zone).date(), end, self.zone)


def column_of(given: Sequence[str]) -> Column | None:
    """Return the column of an option such as ``--by model``, or None if ``--by`` has values or filters.

    >>> column_of(["model"]), column_of(["properties['tier']"]), column_of(["model=gpt-4o"])
    (F.model, F.properties['tier'], None)
    """
    if len(given) != 1:
        return None
    try:
        leaf = parse_filter(f'{given[0]} == ""').node
    except FilterError:
        return None
    if not isinstance(leaf, Leaf):
        return None
    column: Column = F[leaf.column.name] if leaf.key is None else F[leaf.column.name][leaf.key]
    return column


def segments(given: Sequence[str]) -> dict[str, Filter] | None:
    """Return the segments of ``--by``, such as ``model=gpt-4o,o3`` or ``slow:latency > 5000``.

    A value that contains a comma must be in single or double quotes, as must a name that contains one of
    ``=<>:["'``.

    >>> segments(["model=gpt-4o,o3", "slow:latency > 5000"])
    {'gpt-4o': F.model == 'gpt-4o', 'o3': F.model == 'o3', 'slow': F.latency > 5000}
    >>> segments(["🚀 rocket: cost > 1", '"a=b": cached'])
    {'🚀 rocket': F.cost > 1, 'a=b': F.cached == True}
    """
    found: dict[str, Filter] = {}
    for text in given:
        try:
            named = _segments(text)
        except FilterError as error:
            error.add_note(f"in --by {shlex.quote(text)}")
            error.add_note(_COLUMNS)
            raise
        for name, each in named:
            if name in found:
                raise ConfigurationError(argument="by", problem=f"has two segments of the name {name!r}")
            found[name] = each
    return found or None


def _segments(text: str) -> list[tuple[str, Filter]]:
    if named := _NAMED.fullmatch(text):
        return [(named["quoted"] or named["name"].strip(), parse_filter(named["filter"]))]
    found = _BY.fullmatch(text)
    # In a complete condition, such as model == "gpt-4o", the = is part of another operator.
    if not found or found[1].rstrip().endswith(("!", "<", ">")) or found[2].startswith("="):
        raise _no_segments(text)
    values = [_bare(value, text) for value in _VALUE.findall(found[2])]
    return [(value, _equal(found[1].strip(), value, text)) for value in values]


def _no_segments(text: str) -> ConfigurationError:
    return ConfigurationError(
        argument="by",
        problem="must be a column with values such as model=gpt-4o,o3, or a name with a filter such as"
        f" 'slow:latency > 5000', got {text!r}",
    )


def _bare(value: str, text: str) -> str:
    """Remove the quotes around a value."""
    if value.startswith(('"', "'")):
        if len(value) == 1 or value[-1] != value[0]:
            raise ConfigurationError(
                argument="by",
                problem=f"has an open quote before {value[1:]!r}, got {shlex.quote(text)}",
                remedy="Close the quote",
            )
        value = value[1:-1]
    if not value:
        raise ConfigurationError(
            argument="by",
            problem=f"has an empty value, got {shlex.quote(text)}",
            remedy="Leave out its comma, or use a name and a filter such as 'none:model is empty'",
        )
    return value


def _equal(column: str, value: str, text: str) -> Filter:
    """Build a filter that compares a column with a value.

    The value is read as text if possible, otherwise as a number, time or boolean.
    """
    try:
        found = parse_filter(f"{column} == {json.dumps(value, ensure_ascii=False)}")
    except FilterError as error:
        try:
            found = parse_filter(f"{column} == {value}")
        except FilterError:
            raise error from None
    # If there is an `or` in the column or value, the text is a complete filter.
    if not isinstance(found.node, Leaf):
        raise _no_segments(text)
    return found


@Parameter(name="*")
@attrs.frozen
class Loading:
    """Options for reading files of requests.

    Args:
        cost_unit: The unit of cost. A dump of Helicone's own table uses billionths of a dollar.
        map: Read a column of the data as a field, e.g. started=request_created_at. Repeat it for more.
        assume_time_zone: The time zone of times that have none, e.g. UTC or Europe/Berlin.
        rejects: A file for rows that cannot be read. By default, the load stops at the first such row.
    """

    cost_unit: Literal["dollars", "billionths"] | None = None
    map: list[str] | None = None
    assume_time_zone: str | None = None
    rejects: Path | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return the options as arguments of `LocalServer`."""
        return {
            "cost_unit": self.cost_unit,
            "columns": dict(map_option(each) for each in self.map or ()),
            "assume_time_zone": self.assume_time_zone,
            "rejects": self.rejects,
        }

    def remarks(self, loaded: "Loaded") -> list[str]:
        """Return sentences about a load: its rejected rows, missing values and unknown columns."""
        found = []
        if loaded.rejected:
            where = f", written to {self.rejects}" if self.rejects is not None else ""
            found.append(f"{loaded.rejected:,} rejected{where}")
        found += loaded.remarks()
        if loaded.ignored:
            found.append(f"unknown columns are ignored: {masked_text(loaded.ignored_text(_MAP))}")
        return found


# The advice on how to map a column.
_MAP: Final = "Pass --map {theirs}={field}"


def map_option(text: str) -> tuple[str, str]:
    """Split the value of ``--map`` into the name of the column and the name of the field.

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
    """The data source: the service, or a store or files on this machine.

    Args:
        region: The region of the service.
        timeout: The time limit of one attempt, in seconds.
        max_concurrency: The maximum number of concurrent queries.
        path: Answer from this store instead: a directory filled by `serve --path` or `sync`.
        data: Answer from this file of requests instead (.jsonl, .json, .csv or .parquet), or from all files
            that match a pattern in quotes. Repeat it for more.
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
        """Whether the data is on this machine."""
        return self.path is not None or self.data is not None

    @property
    def name(self) -> str:
        """The name of the store, files or host for captions."""
        if self.is_local:
            return ", ".join([*(() if self.path is None else [str(self.path)]), *(self.data or ())])
        host = URL(os.environ.get("HELICONE_BASE_URL", "")).host
        return host or f"Helicone{'' if self.region is None else f' ({self.region})'}"

    def narrowed(self, given: Filter | None) -> Filter | None:
        """Return the filter; with --without-unsessioned, it excludes requests without a session id."""
        if not self.without_unsessioned:
            return given
        has_session = ~F.session_id.is_empty()
        return has_session if given is None else given & has_session

    @asynccontextmanager
    async def client(self, hooks: Hooks | None = None) -> AsyncIterator[HeliconeClient]:
        """Yield a client for the service, or for an embedded engine that runs until the block ends."""
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
                # The remarks report the same, with the names of the options.
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
        # Leave this remark out: commands report the requests without a session id that their query selects.
        for remark in self.loading.remarks(attrs.evolve(loaded, without_session=0)):
            say(remark)


# The shortest wait in seconds that is shown; a shorter one would be over before it could be read.
_NOTABLE = 1.0


class QueryProgress(Hooks):
    """Shows the progress and the waits of queries in a progress bar.

    It provides hooks for a client, and a function for ``on_progress=``.

    Args:
        bar: The progress bar.
        task: The only task of the bar.
    """

    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self._bar = bar
        self._task = task
        self._waits_until = 0.0

    def on_progress(self, done: int, total: int | None, _failed: int) -> None:
        """Show the number of completed queries."""
        self._bar.update(self._task, completed=done, total=total, description="queries")

    def waits(self, token: Any, seconds: float, reason: WaitReason, error: Any) -> None:
        """Show a wait in the progress bar or, if standard error is a file, as one line."""
        until = self._bar.get_time() + seconds
        # All waiting queries report the same wait, so show it only once.
        if reason != "rate limit" or seconds < _NOTABLE or until < self._waits_until + _NOTABLE:
            return
        self._waits_until = until
        text = f"waiting {seconds:.0f} s for the rate limit"
        if self._bar.disable:
            say(text)
        self._bar.update(self._task, description=text)


@contextmanager
def progress_bar(
    *columns: "ProgressColumn", is_shown: bool = True, transient: bool = True
) -> "Iterator[Progress]":
    """Show a progress bar if standard error is a terminal.

    Args:
        columns: The columns of the bar.
        is_shown: Whether to show the bar on a terminal.
        transient: Whether to remove the bar at the end.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    is_disabled = not (is_shown and console.is_terminal)
    bar = Progress(*columns, console=console, disable=is_disabled, transient=transient)
    # Stopping a disabled bar writes an empty line (rich 13.9), so it is never started.
    with nullcontext() if is_disabled else bar:
        yield bar


@contextmanager
def of_queries(*, transient: bool = False) -> Iterator[QueryProgress]:
    """Show a progress bar if standard error is a terminal.

    Args:
        transient: Whether to remove the bar at the end.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns, transient=transient) as bar:
        yield QueryProgress(bar, bar.add_task("queries", total=None))
