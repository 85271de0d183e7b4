"""What stands on a command line, read into filters, times and segments."""

import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from helicone_sessions.errors import ConfigurationError, FilterError
from helicone_sessions.filters.filter import Filter
from helicone_sessions.filters.parse import parse_filter
from helicone_sessions.messages.time_filter import TimeFilter, zone_of

_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}

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
    column, equals, values = text.rpartition("=")
    column, values = column.strip(), values.strip()
    # What ends so was a whole condition, as model == "gpt-4o".
    if not equals or not column or column.endswith(("=", "!", "<", ">")) or not values:
        raise ConfigurationError(
            f"--by is a column and its values, as model=gpt-4o,o3, or a name and a filter, as"
            f" 'slow:latency > 5000', not {text!r}"
        )
    return [(value, _equal(column, value)) for value in map(_bare, values.split(","))]


def _bare(value: str) -> str:
    """The value without the quotes that it would have in a filter."""
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _equal(column: str, value: str) -> Filter:
    """The column compared with the value as a text, or as a number, a time, true or false."""
    try:
        return parse_filter(f"{column} == {json.dumps(value, ensure_ascii=False)}")
    except FilterError as error:
        try:
            return parse_filter(f"{column} == {value}")
        except FilterError:
            raise error from None
