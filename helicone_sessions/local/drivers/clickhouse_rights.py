"""Which settings a user of a ClickHouse server may send along with a query."""

from typing import Any, ClassVar, Final, Self

import attrs

from helicone_sessions.local.drivers import Limits, Statement
from helicone_sessions.local.drivers.limits import FOR_LARGE_FILTERS, OF_LIMITS, of_limits

_SETTINGS: Final = {
    "output_format_json_quote_64bit_integers": 0,
    "http_write_exception_in_output_format": 0,
    **FOR_LARGE_FILTERS,
}
# Together they stop a query whose caller is gone; the first alone does nothing.
_CANCEL: Final = "cancel_http_readonly_queries_on_client_close"
_READ_ONLY: Final = "readonly"
_NAMES: Final = (*_SETTINGS, *OF_LIMITS, _CANCEL, _READ_ONLY)


@attrs.frozen
class Rights:
    """Which settings a user may send; without knowing better, none.

    Args:
        settable: The settings that the server knows and the user may change, each with the greatest value
            that is allowed, or None.
        is_read_only: Whether the user's own profile only reads.
        stops_on_close: Whether a query ends when its connection is closed.
    """

    asked_for: ClassVar[Statement] = Statement(
        "SELECT name, value, max, readonly FROM system.settings"
        f" WHERE name IN ({', '.join(map(repr, _NAMES))})"
    )

    settable: dict[str, float | None] = attrs.field(factory=dict)
    is_read_only: bool = False
    stops_on_close: bool = False

    @classmethod
    def read(cls, rows: list[list[Any]]) -> Self:
        """The rights that *rows*, the answer to `asked_for`, tell of."""
        values = {name: value for name, value, _, _ in rows}
        mode = values.get(_READ_ONLY)
        settable = {
            name: _number(greatest)
            for name, _, greatest, is_fixed in rows
            # Of a user with `readonly = 1` the server takes no setting whatever.
            if mode != "1" and not int(is_fixed)
        }
        only_reads = mode != "0" or _READ_ONLY in settable
        cancels = values.get(_CANCEL) == "1" or _CANCEL in settable
        return cls(settable, is_read_only=mode != "0", stops_on_close=only_reads and cancels)

    def settings(self, limits: Limits) -> dict[str, str]:
        """The settings to send with a query that may take *limits*."""
        wanted: dict[str, float] = {**_SETTINGS, _CANCEL: 1, **of_limits(limits)}
        if not self.is_read_only:
            wanted[_READ_ONLY] = 2
        return {name: self._written(name, value) for name, value in wanted.items() if name in self.settable}

    def _written(self, name: str, value: float) -> str:
        greatest = self.settable[name]
        if greatest is not None:
            value = min(value, greatest)
        # Less than that would be written as zero, which is without a limit.
        return str(int(value)) if value == int(value) else f"{max(value, 0.001):.6f}"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
