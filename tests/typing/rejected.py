"""Code that type checkers have to reject: each line is an error for the checkers in its comment.

An unnecessary comment is an error itself, so that a line which is accepted by mistake is seen. Nothing here
is run: `nox -s typing` checks it with mypy and with pyright.
"""

from datetime import UTC, datetime

from helicone_sessions import F, Filter, SessionMetricsQuery, all_of
from helicone_sessions.report import MetricsGrid

START = datetime(2026, 11, 1, tzinfo=UTC)
P = F.model.contains("gpt")


def takes_a_filter(_: Filter) -> None:
    """Stand for all that takes one."""


# A misspelt column, operator or key.
F.modle == "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
F.model.contain("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
F.cost.contains("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
F.model.between("a", "b")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
F.threat.gt(True)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
F.properties.contains("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
F.properties[1]  # type: ignore[index]  # pyright: ignore[reportArgumentType]

# A wrong value.
F.cost > "x"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.cost > None  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.cost > START  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.latency.gt("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
F.model.eq(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
F.model.contains(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
F.model.is_in([1, 2])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
F.threat.eq("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
F.request_created_at > "2026-11-01"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.request_created_at.between(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
F.cost.between(1, 5, inclusive="low")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# A wrong operator.
F.model > "x"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.threat > True  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.properties["env"] < "x"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.property_key > "x"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]

# An equality with a wrong value is a plain bool, and that is no filter.
takes_a_filter(F.model == 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter(F.cost == "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter(F.threat == 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter(F.property_key != "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# No condition at all.
takes_a_filter(True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter(F.cost)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter("cost > 1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter(P & F.cost)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
takes_a_filter(0.1 & P)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
all_of(F.cost)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
all_of(P, True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionMetricsQuery(filter=F.cost)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionMetricsQuery(timezone_difference="1 h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
F.cost & F.threat  # type: ignore[type-var]  # pyright: ignore[reportOperatorIssue]
P & None  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.cost > P  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.cost > F.latency  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]

# Two comparisons side by side, which Python chains.
F.cost > 1 & F.latency < 2  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
F.model == "x" & F.threat == True  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
F.cost > 1 & F.threat == True  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]

# No truth value, no hash, no membership, no iteration.
{F.cost: 1}  # pyright: ignore[reportUnhashable]
"gpt" in F.model  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
list(F.cost)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def takes_cells_for_one(grid: MetricsGrid) -> None:
    grid["o3"].quantity("dollars_mean")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    grid["o3", 0][0]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    grid.total(period="2026-11-01")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tests_a_filter() -> None:
    if P:  # pyright: ignore[reportGeneralTypeIssues]
        print("never")


def tests_a_column() -> None:
    while F.threat:  # pyright: ignore[reportGeneralTypeIssues]
        print("never")


def negates_with_not() -> bool:
    return not P  # pyright: ignore[reportGeneralTypeIssues]


def joins_with_and() -> object:
    return P and F.threat  # type: ignore[redundant-expr]


def ranges_by_a_chain() -> object:
    return 1 < F.cost < 5
