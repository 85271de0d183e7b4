"""Command-line arguments as filters, times and segments."""

import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Final

import attrs
from cyclopts import Parameter

from helicone_sessions.errors import ConfigurationError, FilterError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.columns.kinds import Column
from helicone_sessions.filters.constants import zone_of
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import Leaf
from helicone_sessions.filters.parser import parse_filter
from helicone_sessions.messages.query import TimeFilter
from helicone_sessions.report.periods import length_of

# A column, and its values after the first = that is not inside a map key.
_BY: Final = re.compile(
    r"""((?:[^=\[]|\[(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[^\]"'])*+\])++)=(.*)""", re.DOTALL
)
# A name of any characters and a filter; names with characters of a column and its values need quotes.
_NAMED: Final = re.compile(
    r"""\s*(?:(?P<quote>["'])(?P<quoted>.+?)(?P=quote)|(?P<name>[^=<>:\["']+))\s*:(?P<filter>.*)""", re.DOTALL
)
_VALUE: Final = re.compile(r"""(?:\A|,)\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?=,|\Z)""")

_COLUMNS: Final = "helicone-sessions filter --help lists the columns, with examples"


def moment_of(argument: str, text: str, zone: tzinfo) -> datetime:
    """A date or a time such as 2026-11-01 or 2026-11-01T18:00, by default in *zone*."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            argument=argument,
            problem=f"must be a date or a time such as 2026-11-01 or 2026-11-01T18:00Z, got {text!r}",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def condition(text: str) -> Filter:
    """A filter as text.

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
        begin: The start of the time range, e.g. 2026-11-01 or 2026-11-01T18:00Z, by default in --time-zone.
        end: The end of the time range; now by default.
        time_zone: The time zone, e.g. Europe/Berlin, for dates and days; UTC by default.
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
        """The time range; None if no option gives one.

        In periods of whole days, *last* starts at midnight, so that only the current day is partial.
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
        # Python compares times of the same zone by the wall clock, even across a clock change.
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
        # The service drops fractions of a second.
        start, end = (moment.replace(microsecond=0) for moment in (found.start, found.end))
        if every is None or every % timedelta(days=1):
            return TimeFilter(start, end, self.zone)
        return TimeFilter(start.astimezone(self.zone).date(), end, self.zone)


def column_of(given: Sequence[str]) -> Column | None:
    """The column of ``--by model``; None if ``--by`` has values or filters.

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
    """The segments of ``--by``: ``model=gpt-4o,o3``, or ``slow:latency > 5000`` for any filter.

    A value with a comma needs quotes, single or double, and so does a name with one of ``=<>:["'``.

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
    # A whole condition, such as model == "gpt-4o", has another operator around the =.
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
    """The value without its quotes."""
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
    """The column compared with the value as text, or else as a number, a time, true or false."""
    try:
        found = parse_filter(f"{column} == {json.dumps(value, ensure_ascii=False)}")
    except FilterError as error:
        try:
            found = parse_filter(f"{column} == {value}")
        except FilterError:
            raise error from None
    # A column or a value with an `or` in it is a whole filter.
    if not isinstance(found.node, Leaf):
        raise _no_segments(text)
    return found
