"""Code that type checkers have to accept: every line here runs, with the given result.

`nox -s typing` checks it with mypy and with pyright; test_typing.py runs it.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from typing import assert_type
from uuid import UUID

from helicone_sessions import ALL, F, Filter, SessionMetricsQuery, all_of, any_of, parse_filter
from helicone_sessions.report import GridCell, MetricsGrid, Period


class Model(StrEnum):
    MINI = "gpt-mini"


class Code(IntEnum):
    OK = 200


class Limit(Enum):
    SLOW = 500


START = datetime(2026, 11, 1, tzinfo=UTC)
P = F.model.contains("gpt")

# One comparison, every kind of column, every kind of constant.
assert_type(F.cost > 0.1, Filter)
assert_type(F.cost >= Decimal("0.1"), Filter)
assert_type(F.cost < Fraction(1, 3), Filter)
assert_type(F.status == 200, Filter)
assert_type(F.status != Code.OK, Filter)
assert_type(F.latency <= Limit.SLOW, Filter)
assert_type(F.model == "gpt-4o", Filter)
assert_type(F.model != Model.MINI, Filter)
assert_type(F.request_id == UUID(int=1), Filter)
assert_type(F.request_created_at >= START, Filter)
assert_type(F.request_created_at != START, Filter)
assert_type(F.threat == True, Filter)
assert_type(F.properties["env"] == "prod", Filter)
assert_type(F.properties[Model.MINI] != "prod", Filter)
assert_type(F.scores["quality"] == 4, Filter)
assert_type(F.scores["quality"] == "4", Filter)
assert_type(F.property_key == "env", Filter)
assert_type(F.session_total_cost > 1, Filter)
assert_type(0.1 < F.cost, Filter)
assert_type(START <= F.request_created_at, Filter)

# Without parentheses, on either side of & and |.
assert_type(F.cost > 0.1 & F.model.contains("gpt"), Filter)
assert_type(F.model.contains("gpt") & F.cost > 0.1, Filter)
assert_type(F.threat & F.cost > 1, Filter)
assert_type(F.status == 200 & P, Filter)
assert_type(F.model == "x" & F.threat, Filter)
assert_type(F.model == "x" | P & ~F.cached, Filter)
assert_type(P & F.model != "x", Filter)
assert_type(P & F.properties["env"] == "prod", Filter)
assert_type(F.request_created_at >= START & P, Filter)
assert_type(P | F.request_created_at < START & F.threat, Filter)
assert_type(F.threat == True & P, Filter)
assert_type(F.scores["quality"] == 4 & P, Filter)
assert_type(P & F.property_key == "env", Filter)
assert_type(F.cost > Decimal("0.1") & P, Filter)
assert_type(F.cost > 0.1 & (P | F.threat), Filter)
assert_type(~F.cost > 1, Filter)
assert_type(P & ~F.cost > 1, Filter)
assert_type(~P & F.cost > 1, Filter)
assert_type(P & 5 < F.latency, Filter)

# Complete conditions.
assert_type(P & F.threat, Filter)
assert_type(F.threat & F.cached, Filter)
assert_type(F.threat | P, Filter)
assert_type(~F.threat, Filter)
assert_type(~P, Filter)
assert_type((F.cost > 1) & (F.latency < 5), Filter)
assert_type(all_of(F.threat, P, None, F.cost > 1), Filter)
assert_type(any_of(*(F.model == name for name in ("a", "b"))), Filter)
assert_type(parse_filter("cost > 0.1"), Filter)
assert_type(F.helicone_score_feedback & ALL, Filter)

# Methods.
assert_type(F.model.is_in(["a", Model.MINI]), Filter)
assert_type(F.status.is_in(range(500, 600)), Filter)
assert_type(F.cost.between(0.1, 5, inclusive="left"), Filter)
assert_type(F.request_created_at.between(START, START), Filter)
assert_type(F.scores["quality"].is_in([4, "5"]), Filter)
assert_type(F.model.startswith("o3") | F.country_code.is_null() | F.user_id.is_empty(), Filter)
assert_type(F.threat.is_true(), Filter)
assert_type(F.cost.gt(1) & F.model.eq("x"), Filter)
assert_type(P == F.model.contains("gpt"), bool)

is_slow: Callable[[int], Filter] = lambda limit: F.latency > limit  # noqa: E731 - its type is the subject
filter_ = P
filter_ &= F.cost > 1
filter_ |= F.threat
SessionMetricsQuery(filter=F.threat)
SessionMetricsQuery(filter=filter_)
SessionMetricsQuery(timezone_difference=UTC)
SessionMetricsQuery(timezone_difference=-90)

# Parts of a grid.
PERIOD = Period(None, None, None)
CELL = GridCell("o3", PERIOD, SessionMetricsQuery())
GRID = MetricsGrid(SessionMetricsQuery(), {"o3": P, ("o3", "eu"): P}, (PERIOD,), {(0, 0): CELL, (1, 0): CELL})
assert_type(GRID["o3", 0], GridCell)
assert_type(GRID["o3", PERIOD], GridCell)
assert_type(GRID["o3", START], GridCell)
assert_type(GRID["o3", date(2026, 11, 3)], GridCell)
assert_type(GRID["o3"], tuple[GridCell, ...])
assert_type(GRID["o3", "eu"], tuple[GridCell, ...])
assert_type(GRID.total("o3", START), GridCell)
