"""The texts of refusals, word by word: what was written, why it is none, and what to write instead.

Each section names what other libraries say at that place, where they say anything.
"""

import traceback
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest

from helicone_sessions.errors import (
    FilterError,
    FilterTypeError,
    FilterValueError,
    UnknownColumn,
    UnknownOperator,
)
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter, all_of
from tests.filters.support import read

P = F.model.contains("gpt")
MODELS = ["gpt-4o", "o3"]

NO_TRUTH = (
    " has no truth value, so and, or, not and if cannot use it. Use & for and, | for or, ~ for not, and put each"
    " comparison in parentheses; use .between(low, high) for low <= x <= high and .is_in([...]) for in;"
    " test an optional filter with `is None`"
)
PARENTHESES = "Put each comparison in parentheses, for example (F.cost > 1) & (F.status == 200)"
CHAIN = f" lacks its comparison, because Python chains two adjacent comparisons. {PARENTHESES}"


def mend(wrote: str, meant: str) -> str:
    """The last two lines of a message."""
    return f"\n  you wrote:    {wrote}\n  did you mean: {meant}"


def refusal(attempt: Callable[[], object]) -> FilterError:
    """The error of *attempt*."""
    with pytest.raises(FilterError) as caught:
        attempt()
    return caught.value


# SQLAlchemy: "Boolean value of this clause is not defined"; polars: "the truth value of an Expr is ambiguous" and a
# list of rewrites; pyarrow: "An Expression cannot be evaluated to python True or False. If you are using the 'and',
# 'or' or 'not' operators, use '&', '|' or '~' instead."; peewee, PyPika, tinydb, ndb, beanie: nothing, and a
# condition is lost.
TRUTH: list[tuple[Callable[[], object], str]] = [
    (
        lambda: F.cost > 1 and not F.threat,
        f"F.cost > 1{NO_TRUTH}" + mend("F.cost > 1 and not F.threat", "(F.cost > 1) & ~F.threat"),
    ),
    (
        lambda: F.threat or P,
        f"F.threat{NO_TRUTH}" + mend("F.threat or P", "F.threat | P"),
    ),
    (
        lambda: not F.threat,
        f"F.threat{NO_TRUTH}" + mend("not F.threat", "~F.threat"),
    ),
    (
        lambda: 1 if P else 2,
        f"F.model.contains('gpt'){NO_TRUTH}" + mend("if P", "if P is not None"),
    ),
    (lambda: bool(F.cost > 1), f"F.cost > 1{NO_TRUTH}"),
    (
        lambda: 1 < F.cost < 5,
        f"F.cost > 1{NO_TRUTH}" + mend("1 < F.cost < 5", 'F.cost.between(1, 5, inclusive="neither")'),
    ),
    (
        lambda: F.model in MODELS,
        f"F.model == 'gpt-4o'{NO_TRUTH}" + mend("F.model in MODELS", "F.model.is_in(MODELS)"),
    ),
]
# SQLAlchemy, pyarrow, PyPika, tinydb, ndb, sympy: "unsupported operand type(s) for &: 'float' and 'BinaryExpression'";
# polars, pandas.col, peewee, sqlglot, daft: nothing, and another filter.
SIDE_BY_SIDE: list[tuple[Callable[[], object], str]] = [
    (
        lambda: F.cost > 1 & F.latency < 2,
        f"F.latency{CHAIN}" + mend("F.cost > 1 & F.latency < 2", "(F.cost > 1) & (F.latency < 2)"),
    ),
    (
        lambda: F.model == "x" & F.user_id == "y",
        f"F.user_id{CHAIN}"
        + mend('F.model == "x" & F.user_id == "y"', '(F.model == "x") & (F.user_id == "y")'),
    ),
    (
        lambda: F.cost > 1 & F.threat | ~F.latency < 2,
        f"~F.latency{CHAIN}"
        + mend("F.cost > 1 & F.threat | ~F.latency < 2", "(F.cost > 1) & F.threat | ~(F.latency < 2)"),
    ),
    (
        lambda: F.cost > 1 & F.threat == True,  # noqa: E712 - the comparison is the subject
        f"(F.cost > 1) & F.threat{NO_TRUTH}"
        + mend("F.cost > 1 & F.threat == True", "(F.cost > 1) & (F.threat == True)"),
    ),
    (
        lambda: F.threat & F.cached == False,  # noqa: E712 - the comparison is the subject
        "… == False compares a condition with ==. Put each comparison in parentheses"
        + mend("F.threat & F.cached == False", "F.threat & (F.cached == False)"),
    ),
    (
        lambda: F.cost & F.threat,
        "F.cost is a column, not a condition. Compare it with a constant before &",
    ),
    (
        lambda: F.cost > F.latency,
        "F.cost cannot be compared with F.latency. The API compares a column with a constant only",
    ),
    (
        lambda: all_of(P & True),
        (
            "<unfinished: … & True> is not a condition yet. Compare it with a constant, for example F.cost > 0.1;"
            " use ALL or NONE instead of True"
        ),
    ),
    (
        lambda: P ^ F.threat,
        "^ has no meaning in a filter. Use & for and, | for or, ~ for not"
        + mend("P ^ F.threat", "(P | F.threat) & ~(P & F.threat)"),
    ),
]
# SQLAlchemy, tinydb, beanie: a plain False; polars: "unhashable type: 'Expr'" with a hint.
MEMBERS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: "gpt" in F.model,
        "'gpt' in F.model has no meaning. Use .contains('gpt')"
        + mend('"gpt" in F.model', 'F.model.contains("gpt")'),
    ),
    (
        lambda: {F.cost: 1},
        "F.cost cannot be hashed, because a set or dict would compare it with ==, which builds a filter."
        " Use .is_in([...]) for membership, and the column's name as a key"
        + mend("{F.cost: 1}", '{"cost": 1}'),
    ),
    (
        lambda: list(F.cost),
        "F.cost cannot be iterated or unpacked, because the service has its values. Query the metrics of a filter on it",
    ),
    (
        lambda: all_of(P, F.threat is True),
        (
            "expected a filter, got False. `is`, `in` and chained comparisons give a bool before there is a filter;"
            " ALL matches everything, NONE nothing"
        ),
    ),
]
# SQLAlchemy and ibis: an error without a suggestion; polars, peewee, PyPika, tinydb, beanie: accepted.
NAMES: list[tuple[Callable[[], object], str]] = [
    (lambda: read("F.cots"), "there is no column 'cots'. Did you mean 'cost'?"),
    (lambda: F["modle"], "there is no column 'modle'. Did you mean 'model'?"),
    (lambda: read("F.zzz"), "there is no column 'zzz'. dir(F) lists the columns"),
    (
        lambda: read("F.cost.contains"),
        "F.cost is a number column and has no .contains. It has ==, !=, <, <=, >, >=, .between(), .is_in(), .not_in()",
    ),
    (
        lambda: read("F.cost.isin"),
        (
            "F.cost is a number column and has no .isin. Did you mean .is_in?"
            " It has ==, !=, <, <=, >, >=, .between(), .is_in(), .not_in()"
        ),
    ),
    (
        lambda: read("F.model > 'a'"),
        (
            "F.model is a text column and has no >, got 'a'. It has ==, !=, .contains(), .not_contains(), .like(), .ilike(),"
            " .startswith(), .endswith(), .istartswith(), .iendswith(), .is_in(), .not_in(), .is_empty()"
        ),
    ),
    (
        lambda: read("F.properties == 'x'"),
        "F.properties is a map and has no value without a key. Name a key, as in F.properties['env'] == 'prod'",
    ),
    (
        lambda: read("F.properties.env == 'prod'"),
        "F.properties is a map and has no .env. Use a key, as in F.properties['env']",
    ),
    (
        lambda: read("F.properties.contains('prod')"),
        "F.properties is a map and has no .contains. Use a key, as in F.properties['env'].contains",
    ),
]
# ibis: "Arguments cost:float64 and Literal(True):boolean are not comparable"; ndb: "In field cost, expected float,
# got 'abc'"; SQLAlchemy, polars, peewee: accepted.
VALUES: list[tuple[Callable[[], object], str]] = [
    (lambda: read("F.cost == True"), "F.cost takes a number, got True. Its unit is dollars"),
    (lambda: read("F.cost > 'abc'"), "F.cost takes a number, got 'abc'. Its unit is dollars"),
    (lambda: F.cost == float("nan"), "F.cost takes a finite number, got nan. JSON has no other numbers"),
    (
        lambda: read("F.cost > None"),
        "F.cost cannot be compared with None. The API has no null in a comparison",
    ),
    (
        lambda: read("F.model == None"),
        (
            "F.model cannot be compared with None. Use .is_empty(), because a missing value is stored as empty text"
        ),
    ),
    (
        lambda: read("F.model == 3"),
        "F.model takes text, got 3. Write it in quotes",
    ),
    (
        lambda: F.request_created_at > datetime(2026, 11, 1),  # noqa: DTZ001 - the missing zone is the subject
        (
            "F.request_created_at takes a datetime with a zone, got 2026-11-01 00:00:00."
            " Add the zone, for example with .replace(tzinfo=datetime.UTC)"
        ),
    ),
    (
        lambda: F.request_created_at > date(2026, 11, 1),  # type: ignore[operator]
        (
            "F.request_created_at takes a datetime with a zone, got 2026-11-01."
            " Pass a datetime with its zone, because a day starts at a different instant in each zone"
        ),
    ),
    (
        lambda: read("F.request_created_at > '2026-11-01'"),
        (
            "F.request_created_at takes a datetime with a zone, got '2026-11-01'."
            " Convert it to a datetime, for example with datetime.fromisoformat()"
        ),
    ),
    (
        lambda: ~200 != F.latency,
        (
            "F.latency is never below zero, but is compared with -201."
            " To negate a comparison, put it in parentheses after ~: Python computes ~1 as -2"
        ),
    ),
    (
        lambda: F.latency > 2**60,
        "F.latency takes whole numbers up to 2**53, got 1152921504606846976. JSON holds larger ones only as rounded numbers",
    ),
    (
        (~F.model.startswith("x")).to_wire,
        (
            "F.model has no condition in the API that is the opposite of F.model.like('x%')."
            " Negate only ==, contains, comparisons and booleans"
        ),
    ),
    (
        lambda: Filter.from_wire({"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}}),
        (
            "$ is a leaf with 2 conditions; the service reads only the first of several, and a leaf without one"
            " as everything. Pass expand=True to join all of them by &"
        ),
    ),
]


@pytest.mark.parametrize(("attempt", "words"), [*TRUTH, *SIDE_BY_SIDE, *MEMBERS, *NAMES, *VALUES])
def test_the_words_of_a_refusal(attempt: Callable[[], object], words: str) -> None:
    """A mistake is rejected with these words."""
    assert words == str(refusal(attempt))


@pytest.mark.parametrize(
    ("attempts", "kind"),
    [(TRUTH, FilterTypeError), (SIDE_BY_SIDE, FilterTypeError), (MEMBERS, FilterTypeError)],
)
def test_the_kind_of_a_refusal(attempts: list[Any], kind: type[FilterError]) -> None:
    """A misread expression raises FilterTypeError itself, not a subclass."""
    assert {kind} == {type(refusal(attempt)) for attempt, _ in attempts}


def test_names_can_be_caught_either_way() -> None:
    """A misspelt name is an AttributeError, as Python's own, and an error of the filter language."""
    assert [UnknownColumn] * 3 + [UnknownOperator] * 2 == [type(refusal(attempt)) for attempt, _ in NAMES[:5]]
    for attempt, _ in NAMES[:5]:
        with pytest.raises(AttributeError):
            attempt()


@pytest.mark.parametrize("attempt", [attempt for attempt, _ in NAMES[:5]])
def test_python_adds_no_guess_of_its_own(attempt: Callable[[], object]) -> None:
    """Where Python itself suggests the nearest name, the message adds nothing."""
    with pytest.raises(AttributeError) as caught:
        attempt()
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.endswith(f"{caught.value}\n")


def test_across_the_tables() -> None:
    """An "or" between a request and a session column says that the service would match everything."""
    widened = ((F.model == "x") | (F.session_total_cost > 1)).cautions()[-1]
    assert (
        "(F.model == 'x') | (F.session_total_cost > 1): it matches everything, because F.session_total_cost > 1"
        " becomes true; replace that condition as its own caution says, or leave it out"
    ) == str(widened)


def test_without_the_source() -> None:
    """Without a readable source, the message is the general text."""
    with pytest.raises(FilterTypeError) as caught:
        read("F.cost > 1 & F.latency < 2")
    assert f"F.latency{CHAIN}" == str(caught.value)


def test_the_general_texts_name_the_mend() -> None:
    """Without the source, too, each text says what to write."""
    for source, word in [("P and P", "&"), ("P or P", "|"), ("not P", "~"), ("1 < F.cost < 5", ".between")]:
        with pytest.raises(FilterTypeError) as caught:
            read(source, P=P)
        assert word in str(caught.value)
    assert isinstance(refusal(lambda: F.cost == float("nan")), FilterValueError)
