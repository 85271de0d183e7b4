"""Random filters on nasty rows: the engine answers what the oracle of plain Python answers."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import F, HeliconeClient, SessionMetricsQuery, TimeFilter, all_of
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Kind
from tests.local.nasty_rows import (
    DOLLARS,
    KEYS,
    NAMES,
    NUMBERS,
    ORGANIZATION,
    PART,
    PARTS,
    PIECES,
    ROWS,
    SESSIONS,
    STATUSES,
    TAGS,
    TEXTS,
    Row,
    rows_of,
    uuid_of,
)
from tests.repeats import repeats

pytest.importorskip("chdb", reason="the extra `local` is not installed")

Tree = tuple[Any, ...]

NOT_KEPT = {"node_id", "job_id", "search_properties", "scores_column"}
KEPT = [name for name in COLUMNS if name not in {*NOT_KEPT, PART}]
OF_SESSIONS = [name for name in KEPT if name.startswith("session_")]
OF_REQUESTS = [name for name in KEPT if not name.startswith("session_")]
UUIDS = ("request_id", "organization_id", "cache_reference_id")
MOMENTS = [row["request_created_at"] for row in ROWS]


def _of_sessions(rows: list[Row]) -> dict[str, list[Any]]:
    """For each column on sessions, the values that divide the sessions of *rows*."""
    sessions: dict[str, list[Row]] = {}
    for row in rows:
        sessions.setdefault(row["properties"].get("Helicone-Session-Id", ""), []).append(row)
    divided: dict[str, list[Any]] = {}
    for of in sessions.values():
        sent, received = (
            sum(row[name] or 0 for row in of) for name in ("prompt_tokens", "completion_tokens")
        )
        moments = [row["request_created_at"] for row in of]
        for name, value in {
            "session_total_cost": float(sum(row["cost"] for row in of)),
            "session_prompt_tokens": sent,
            "session_completion_tokens": received,
            "session_total_tokens": sent + received,
            "session_total_requests": len(of),
            "session_created_at": min(moments),
            "session_latest_request_created_at": max(moments),
        }.items():
            divided.setdefault(name, []).append(value)
    return divided


DIVIDING = _of_sessions(ROWS)


def _constant(chance: random.Random, column: ColumnFacts, word: str) -> Any:
    if column.name in DIVIDING and chance.random() < 0.8:
        return chance.choice(DIVIDING[column.name])
    match column.kind:
        case Kind.BOOLEAN:
            return chance.choice([True, False])
        case Kind.KEY:
            return chance.choice([*KEYS, "Helicone-Session-Id", "missing"])
        case Kind.TIMESTAMP:
            off = timedelta(microseconds=chance.choice([0, 0, 1, -1, 1000, -1000, 700_000, 700_001, 999]))
            far = [datetime(1800, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
            return chance.choice(MOMENTS) + off if chance.random() < 0.9 else chance.choice(far)
        case Kind.NUMBER:
            if column.name in ("cost", "session_total_cost"):
                return chance.choice(DOLLARS)
            return chance.choice([*STATUSES, 200.0] if column.name == "status" else NUMBERS)
    return _text_constant(chance, column.name, word)


def _text_constant(chance: random.Random, name: str, word: str) -> str:
    if word in ("like", "ilike"):
        # A backslash at the end, which escapes nothing, is refused; another test is about that.
        return "".join(chance.choice(PIECES) for _ in range(chance.randrange(6)))
    if name in UUIDS:
        whole = [uuid_of(1), uuid_of(2), uuid_of(9), ORGANIZATION, str(UUID(int=0))]
        odd = [*map(str.upper, whole), *("{" + text + "}" for text in whole), "null", "x"]
        parts = ["0", "ABC", "-", "9e3779b9", "00000000"]
        known = whole + (odd if word in ("equals", "not-equals") else parts)
    else:
        scores = ["0", "1", "10", "-5", "1.0", "", "null"]
        pools = {"session_tag": TAGS, "session_session_id": SESSIONS, "session_session_name": NAMES}
        # These words have a special meaning.
        known = [*{**pools, "scores": scores}.get(name, TEXTS), *["null", "__empty__"] * 3]
    if word in ("contains", "not-contains"):
        known = [text for text in known if text]
    if name in ("assets", "session_tag"):
        known = [text for text in known if text not in ("null", "__empty__")]
    return chance.choice(known)


def condition_of(chance: random.Random, *, opposable: bool) -> Tree:
    """One condition on a column that the engine keeps; *opposable* ones have an opposite in the API."""
    column = COLUMNS[chance.choice(OF_SESSIONS if chance.random() > 0.75 else OF_REQUESTS)]
    word = chance.choice(column.operators)
    constant = _constant(chance, column, word)
    # not-equals takes the word for "is empty" as it stands.
    stands = constant == "__empty__" and word == "not-equals" and column.sentinels
    if opposable and (column.kind is Kind.KEY or word in ("like", "ilike") or stands):
        return "threat", "equals", True
    return column.name, word, constant, *([chance.choice([*KEYS, "missing"])] * (column.kind is Kind.MAP))


def tree_of(chance: random.Random, leaves: int, *, opposable: bool = False) -> Tree:
    """A filter of so many conditions."""
    # Hypothesis makes numbers small: at zero, trees and options are to be the plainest.
    if chance.random() > 0.8:
        return "not", tree_of(chance, leaves, opposable=True)
    if leaves == 1:
        return condition_of(chance, opposable=opposable)
    first = chance.randrange(1, leaves)
    parts = (tree_of(chance, count, opposable=opposable) for count in (first, leaves - first))
    return chance.choice(["and", "or"]), *parts


def options_of(chance: random.Random) -> dict[str, Any]:
    """Options of a query; the ends of a time are equal to those of requests, or close."""
    options: dict[str, Any] = {
        "p_size": chance.choice([None, "p50", "p75", "p95", "p99", "p99.9"]),
        "use_interquartile": chance.choice([None, False, True]),
    }
    if chance.random() > 0.75:
        options["name_contains"] = chance.choice([*NAMES, "H", "CHAT", "%", "_", "\\", "zz"])
    if chance.random() > 0.75:
        start, end = sorted(chance.choice(MOMENTS) for _ in range(2))
        before, after = chance.choice([0, 1, 500]), chance.choice([1, 2, 1000])
        options["time_filter"] = TimeFilter(
            start - timedelta(milliseconds=before), end + timedelta(milliseconds=after)
        )
    return options


# Numbers that Hypothesis draws itself are mostly small, and filters made of them mostly plain.
CHANCES = st.randoms(use_true_random=True)
TREES = st.builds(tree_of, CHANCES, st.integers(1, 8))
OPTIONS = CHANCES.map(options_of)


class Asked:
    """A client that synchronous code can ask."""

    def __init__(self, runner: asyncio.Runner, client: HeliconeClient) -> None:
        self._runner = runner
        # Missing values are among the rows, so many filters would have a caution.
        self._client = client.with_options(cautions="ignore")

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._runner.run(self._client.get_metrics(*args, **options))


@pytest.fixture(scope="module")
def ask(runner: asyncio.Runner, serve: Any) -> Iterator[Asked]:
    """Asks a server that holds `ROWS`."""
    served = serve(ROWS)
    yield Asked(runner, runner.run(served.__aenter__()))
    runner.run(served.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def held(runner: asyncio.Runner, hold: Any) -> Iterator[Any]:
    """Tables that hold `ROWS`."""
    holding = hold(ROWS)
    yield runner.run(holding.__aenter__())
    runner.run(holding.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def known(oracle: Any) -> Any:
    """The oracle of `ROWS`."""
    return oracle(ROWS)


@settings(max_examples=repeats(40), database=None)
@given(tree=TREES, options=OPTIONS)
def test_any_filter(ask: Asked, oracle: Any, known: Any, tree: Tree, options: dict[str, Any]) -> None:
    """Any filter under any options selects the requests for which it is true."""
    metrics = ask(oracle.built(tree), **options)
    assert known.answer(tree, **options) == oracle.summary(metrics)


@pytest.mark.parametrize("seed", range(24))
def test_many_filters_at_once(ask: Asked, oracle: Any, known: Any, seed: int) -> None:
    """Each part of the rows is selected by a different filter, independent of the others."""
    chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
    parts = (("and", (PART, "equals", f"part {part}"), tree_of(chance, 1)) for part in range(PARTS))
    tree = ("or", *parts)
    assert known.answer(tree) == oracle.summary(ask(oracle.built(tree)))


@settings(max_examples=repeats(20), database=None)
@given(tree=TREES, options=OPTIONS)
def test_without_unsessioned(
    runner: asyncio.Runner, held: Any, oracle: Any, known: Any, tree: Tree, options: dict[str, Any]
) -> None:
    """Where requests without a session id are left out, they count for nothing."""
    query = SessionMetricsQuery(oracle.built(tree), **options)
    answer = runner.run(held.ask(query, include_unsessioned=False))
    assert known.answer(tree, **options, include_unsessioned=False) == oracle.summary(answer)


@settings(max_examples=repeats(20), database=None)
@given(tree=TREES, options=OPTIONS)
def test_unsessioned_left_out_by_a_filter(
    runner: asyncio.Runner, held: Any, oracle: Any, tree: Tree, options: dict[str, Any]
) -> None:
    """A condition on the session id leaves them out of one query, as the server's option does of all."""
    condition = oracle.built(tree)
    narrowed = SessionMetricsQuery(all_of(condition, F.session_id != ""), **options)
    left_out = runner.run(held.ask(SessionMetricsQuery(condition, **options), include_unsessioned=False))
    assert runner.run(held.ask(narrowed)) == left_out


def test_opposite_of_empty(ask: Asked, oracle: Any, known: Any) -> None:
    """A condition for text that is not empty is the opposite of one for empty text."""
    asked = ("not", ("model", "equals", "__empty__"))
    assert known.answer(("model", "not-equals", "")) == oracle.summary(ask(oracle.built(asked)))


async def _answer(serve: Any, rows: list[Row], asked: Any, options: dict[str, Any]) -> Any:
    async with serve(rows) as client:
        return await client.get_metrics(asked, **options)


@settings(max_examples=repeats(10), database=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 30), tree=TREES, options=OPTIONS)
def test_any_rows(
    runner: asyncio.Runner,
    serve: Any,
    oracle: Any,
    seed: int,
    count: int,
    tree: Tree,
    options: dict[str, Any],
) -> None:
    """The same holds on any rows, however few."""
    rows = rows_of(random.Random(seed), count)  # noqa: S311 - no secret
    metrics = runner.run(_answer(serve, rows, oracle.built(tree), options))
    assert oracle(rows).answer(tree, **options) == oracle.summary(metrics)
