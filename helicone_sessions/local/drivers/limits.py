"""The settings that every ClickHouse is given with a query: its limits, and room for large filters."""

import math
from collections.abc import Mapping
from typing import Final

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import Limits

# The first five are guards for text written by hand: here they would only bound how many conditions a filter
# may have. The others look at every pair of conditions: of ten thousand they make minutes and gigabytes.
FOR_LARGE_FILTERS: Final[Mapping[str, float]] = {
    "max_query_size": 64 * 1024 * 1024,
    "max_ast_elements": 2_000_000,
    "max_expanded_ast_elements": 2_000_000,
    "max_parser_depth": 10_000,
    "max_ast_depth": 10_000,
    "optimize_or_like_chain": 0,
    "query_plan_merge_filters": 0,
}
# Under the name of the setting, the field of `Limits` that it is.
OF_LIMITS: Final[Mapping[str, str]] = {
    "max_execution_time": "seconds",
    "max_memory_usage": "memory",
    "max_rows_to_read": "rows",
    "max_threads": "threads",
}


def of_limits(limits: Limits) -> dict[str, float]:
    """The settings for *limits*; what is without a limit is not there."""
    given = {name: getattr(limits, field) for name, field in OF_LIMITS.items()}
    return {name: value for name, value in given.items() if value is not None}


def check(limits: Limits) -> None:
    """See that *limits* are limits.

    Raises:
        ConfigurationError: One is not above zero, which ClickHouse would read as no limit.
    """
    for name, value in attrs.asdict(limits).items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigurationError(
                f"the limit of {name} is to be a number above 0, not {value}; None is without a limit"
            )
