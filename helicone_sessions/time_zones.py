"""Time zones by name or as tzinfo, with those of pytz turned into the standard library's."""

import sys
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from helicone_sessions.errors import FilterTypeError, FilterValueError


def zone_of(time_zone: str | tzinfo) -> tzinfo:
    """The time zone of that name, or the zone itself.

    A zone of pytz becomes the `ZoneInfo` of its name: pytz works only through its own methods, and gives a
    datetime that is made in the usual way the zone's offset of the 19th century.

    Raises:
        FilterTypeError: It is neither a name nor a tzinfo.
        FilterValueError: No time zone has that name.

    >>> zone_of("Europe/Berlin")
    zoneinfo.ZoneInfo(key='Europe/Berlin')
    """
    if isinstance(time_zone, tzinfo):
        name = getattr(time_zone, "zone", None)
        return zone_of(name) if isinstance(name, str) else time_zone
    if not isinstance(time_zone, str):
        raise FilterTypeError(
            argument="time_zone",
            problem=f"must be the name of a time zone or a tzinfo, got {time_zone!r}",
            remedy="Pass a name such as 'Europe/Berlin'",
        )
    try:
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FilterValueError(
            argument="time_zone",
            problem=f"must be the name of a known time zone, got {time_zone!r}",
            remedy="Use a name such as 'UTC' or 'Europe/Berlin'; if the system has no time zones,"
            " python -m pip install tzdata",
        ) from None


def has_misplaced_pytz_zone(moment: datetime) -> bool:
    """Whether a zone of pytz was passed to the datetime directly, so that its offset is wrong.

    >>> from datetime import UTC
    >>> has_misplaced_pytz_zone(datetime(2026, 6, 1, tzinfo=UTC))
    False
    """
    zone = moment.tzinfo
    name, pytz = getattr(zone, "zone", None), sys.modules.get("pytz")
    if zone is None or pytz is None or not isinstance(name, str) or pytz.timezone(name) is not zone:
        return False
    # `localize` and `normalize` choose the offset of that time; `timezone` gives the zone's first offset.
    return bool(zone.normalize(moment).utcoffset() != moment.utcoffset())  # type: ignore[attr-defined]
