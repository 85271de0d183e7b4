"""What stands on a command line, read into filters, times and segments."""

import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from helicone_sessions.errors import ConfigurationError, FilterError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.nodes import Leaf
from helicone_sessions.filters.text.parser import parse_filter
from helicone_sessions.messages.time_filter import TimeFilter, zone_of

_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}

# A column, and its values behind the first = that is not in the key of a map.
_BY: Final = re.compile(
    r"""((?:[^=\[]|\[(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|[^\]"'])*+\])++)=(.*)""", re.DOTALL
)
_VALUE: Final = re.compile(r"""(?:\A|,)\s*("[^"]*"|'[^']*'|[^,]*?)\s*(?=,|\Z)""")

_COLUMNS: Final = "helicone-sessions filter --help lists the columns, with examples"


def length(option: str, text: str) -> timedelta:
    """A length of time, as 90m, 12h, 7d or 2w.

    >>> length("--last", "12h")
    datetime.timedelta(seconds=43200)
    """
    found = _LENGTH.fullmatch(text.strip().lower())
    if found is None or not float(found[1]):
        raise ConfigurationError(f"{option} is a length as 90m, 12h, 7d or 2w, not {text!r}")
    try:
        return float(found[1]) * _UNITS[found[2]]
    except OverflowError:
        raise ConfigurationError(f"{option}: {text} is longer than the calendar") from None


def moment(option: str, text: str, zone: tzinfo) -> datetime:
    """A day or a time, as 2026-11-01 or 2026-11-01T18:00; without a zone it is one of *zone*.

    >>> moment("--from", "2026-11-01", UTC)
    datetime.datetime(2026, 11, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} is a day or a time, as 2026-11-01 or 2026-11-01T18:00Z, not {text!r}"
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
            error.add_note('the quotes around a filter came through the shell: cmd.exe takes " only')
        elif len(text.split()) == 1:
            error.add_note("write the whole filter in quotes, 'cost > 0.1': or the shell takes the >")
        error.add_note(_COLUMNS)
        raise


def time_of(last: str | None, begin: str | None, end: str | None, zone: tzinfo) -> TimeFilter | None:
    """The time that ``--last``, ``--from`` and ``--to`` name; None where there is none of them."""
    if last is not None:
        if begin is not None or end is not None:
            raise ConfigurationError("--last is the time up to now: leave it out, or --from and --to")
        try:
            return TimeFilter.last(days=length("--last", last) / timedelta(days=1))
        except FilterError:
            raise ConfigurationError(f"--last: {last} is longer than the calendar") from None
    if begin is None:
        if end is not None:
            raise ConfigurationError("--to needs a --from, as --from 2026-11-01")
        return None
    begins = moment("--from", begin, zone)
    ends = datetime.now(UTC) if end is None else moment("--to", end, zone)
    if begins >= ends:
        other = "now" if end is None else f"--to {end}"
        raise ConfigurationError(f"--from {begin} does not lie before {other}: name an earlier time")
    return TimeFilter(begins, ends)


def zone(text: str | None) -> tzinfo:
    """The zone of that name, or UTC."""
    return UTC if text is None else zone_of(text)


def segments(given: Sequence[str]) -> dict[str, Filter] | None:
    """The segments that ``--by`` names: ``model=gpt-4o,o3``, or ``slow:latency > 5000`` for any filter.

    A value with a comma stands in quotes, of either kind.

    >>> segments(["model=gpt-4o,o3", "slow:latency > 5000"])
    {'gpt-4o': F.model == 'gpt-4o', 'o3': F.model == 'o3', 'slow': F.latency > 5000}
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
                raise ConfigurationError(f"--by: there are two segments of the name {name!r}")
            found[name] = each
    return found or None


def _segments(text: str) -> list[tuple[str, Filter]]:
    name, colon, condition = text.partition(":")
    if colon and re.fullmatch(r"[\w .-]+", name):
        return [(name.strip(), parse_filter(condition))]
    found = _BY.fullmatch(text)
    # What ends or begins so was a whole condition, as model == "gpt-4o".
    if not found or found[1].rstrip().endswith(("!", "<", ">")) or found[2].startswith("="):
        raise _no_segments(text)
    values = [_bare(value, text) for value in _VALUE.findall(found[2])]
    return [(value, _equal(found[1].strip(), value, text)) for value in values]


def _no_segments(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"--by is a column and its values, as model=gpt-4o,o3, or a name and a filter, as"
        f" 'slow:latency > 5000', not {text!r}"
    )


def _bare(value: str, text: str) -> str:
    """The value without the quotes that it would have in a filter."""
    if value.startswith(('"', "'")):
        if len(value) == 1 or value[-1] != value[0]:
            raise ConfigurationError(
                f"--by {shlex.quote(text)}: the quote before {value[1:]!r} is not closed"
            )
        value = value[1:-1]
    if not value:
        raise ConfigurationError(
            f"--by {shlex.quote(text)} has an empty value: leave its comma out, or write a name and a filter,"
            f" as 'none:model is empty'"
        )
    return value


def _equal(column: str, value: str, text: str) -> Filter:
    """The column compared with the value as a text, or as a number, a time, true or false."""
    try:
        found = parse_filter(f"{column} == {json.dumps(value, ensure_ascii=False)}")
    except FilterError as error:
        try:
            found = parse_filter(f"{column} == {value}")
        except FilterError:
            raise error from None
    # A column or a value with an `or` in it is a filter of its own.
    if not isinstance(found.node, Leaf):
        raise _no_segments(text)
    return found
