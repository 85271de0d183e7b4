"""Conditions of ``--fail-if``: figures that end a command with an exit code of their own."""

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, get_args

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.messages.metrics import PSize
from helicone_sessions.report.cells import QUANTITIES, GridCell, Quantity

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_CONDITION: Final = re.compile(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*\$?(\d+(?:\.\d+)?)\s*(x?)\s*")


@attrs.frozen
class Alarm:
    """A condition on a quantity of a cell, absolute or relative to the earlier cell.

    Args:
        text: The condition as it was written.
        quantity: The quantity.
        compare: Compares the quantity with the limit.
        limit: The limit.
        is_relative: Whether the limit is a multiple of the earlier value.
    """

    text: str
    quantity: Quantity
    compare: Callable[[Any, Any], bool] = attrs.field(repr=False)
    limit: float
    is_relative: bool

    @classmethod
    def parse(cls, text: str) -> "Alarm":
        """Read a condition such as ``dollars_p95 > 1.5x`` or ``dollars_total > 100``.

        Raises:
            ConfigurationError: The text is something else.

        >>> Alarm.parse("dollars_p95 > 1.5x").is_relative
        True
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConfigurationError(
                argument="fail_if",
                problem=f"must be a condition such as 'dollars_total > 100', got {text!r}",
                remedy="Write a quantity, a comparison and a number; 1.5x is relative to the time before",
            )
        quantity, sign, number, times = found.groups()
        if quantity not in QUANTITIES:
            raise ConfigurationError(
                argument="fail_if",
                problem=f"must begin with a quantity, got {quantity!r}",
                remedy=f"Use one of {', '.join(QUANTITIES)}",
            )
        return cls(text.strip(), quantity, _OPERATORS[sign], float(number), bool(times))

    @property
    def level(self) -> PSize | None:
        """The quantile that the grid needs for it; None if it needs none.

        >>> Alarm.parse("dollars_p95 > 1").level
        'p95'
        """
        kind = self.quantity.partition("_")[2]
        return next((level for level in get_args(PSize) if level == kind), None)

    def reason(self, after: GridCell, before: GridCell | None) -> str | None:
        """Why the alarm goes off for a cell; None if it does not, or if a value is missing.

        Args:
            after: The cell.
            before: The earlier cell, for a relative condition.
        """
        value = after.quantity(self.quantity)
        limit: float | None = self.limit
        if self.is_relative:
            earlier = None if before is None else before.quantity(self.quantity)
            limit = None if earlier is None else self.limit * earlier
        if value is None or limit is None or not self.compare(value, limit):
            return None
        return f"{after.segment}, {after.period}: {self.text} ({value:.6g} against {limit:.6g})"


def levels_of(alarms: Iterable[Alarm]) -> list[PSize]:
    """The quantiles that a grid needs for the alarms.

    >>> levels_of([Alarm.parse("dollars_p95 > 1"), Alarm.parse("sessions < 5")])
    ['p95']
    """
    return list(dict.fromkeys(alarm.level for alarm in alarms if alarm.level is not None))
