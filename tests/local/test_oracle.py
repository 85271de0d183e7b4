"""Random filters on nasty rows: the engine answers what the oracle of plain Python answers."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import HeliconeClient, TimeFilter
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Kind

pytest.importorskip("chdb", reason="the extra `local` is not installed")

Tree = tuple[Any, ...]
Row = dict[str, Any]

START = datetime(2026, 10, 31, 23, 59, 30, tzinfo=UTC)
ORGANIZATION = str(UUID(int=0xABCDEF))
FEEDBACK = "helicone-score-feedback"
# Letters are ASCII or have no case, so that Python and ClickHouse agree on what "in capitals or not" means.
TEXTS = [
    *("", "a", "A", "ab", "aB", "abab", "b", "GPT-4o", "gpt-4o-mini", "null", "NULL", "__empty__"),
    *("a%b", "a_b", "a\\b", "%", "_", "\\", "\\\\", "\\%", "\\N", "100%", "%%", "a\\%b", "\\a"),
    *("'", '"', "`", "O'Brien", "'; DROP TABLE tags; --", "{x:String}", "{p0:String}", "$1", "/* */", "--"),
    *("\n", "a\nb", "a\n", "\t", "a\tb", "\r\n", "\0", "a\0b", "\b\f", " ", " a "),
    *("😀", "a😀b", "日本", "日", "\u200b", "\ufeffa", "\U0010ffff"),
]
PIECES = ["%", "_", r"\%", r"\_", r"\\", "\\a", "a", "B", "b", "gpt", "\n", "\0", "😀", "'", "日", "."]
KEYS = ["env", "a'b", "a\\b", "\n", "😀", "a\0b", "{x:String}", "%"]
SESSIONS = ["", "s1", "S1", "s'2", "s\\3", "s\n4", "s%5", "😀", "\0", "{x:String}"]
NAMES = ["", "chat", "Chat", "cha%", "a_b", "a\\b", "日本", "'", "a\nb"]
TAGS = ["vip", "VIP", "a%b", "beta\\", "'", "日本", "a\tb"]
COUNTS = [0, 1, 2, 3, 5, 8, 100, 2**31, 2**53]
STATUSES = [200, 429, 500, -3, 0]
NANODOLLARS = [0, 1, 2, 10**8, 3 * 10**8, 10**9, 123_456_789, 10**13]
NUMBERS = [*COUNTS, 2.0, 0.5, 2.5, 9.3e18, 1e19, 1e300, 5e-324]
DOLLARS = [*(nano / 1e9 for nano in NANODOLLARS), 0.30000000000000004, 1.5e-9, 5e-10, 1e-10, 1e300, 5e-324]
# Nothing is drawn in this column: it divides the rows, so that one query can ask many things.
PART, PARTS = "prompt_version", 16
NOT_KEPT = {"node_id", "job_id", "search_properties", "scores_column"}
KEPT = [name for name in COLUMNS if name not in {*NOT_KEPT, PART}]
OF_SESSIONS = [name for name in KEPT if name.startswith("session_")]
OF_REQUESTS = [name for name in KEPT if not name.startswith("session_")]
UUIDS = ("request_id", "organization_id", "cache_reference_id")


def _uuid(number: int) -> str:
    return str(UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC834) % 2**128))


def rows_of(chance: random.Random, count: int) -> list[Row]:
    """Nasty rows: nulls, missing keys, odd texts; sessions without an id, of two names, of one request."""

    def maybe(choices: list[Any]) -> Any:
        return chance.choice(choices) if chance.random() < 0.8 else None

    def some(of: dict[str, Any], share: float) -> dict[str, Any]:
        return {key: value for key, value in of.items() if chance.random() < share}

    def request(number: int) -> Row:
        session = chance.choice(SESSIONS) if chance.random() < 0.6 else f"t{chance.randrange(80)}"
        properties = some({key: chance.choice(TEXTS) for key in KEYS}, 0.4)
        properties |= some({"Helicone-Session-Id": session}, 0.9)
        properties |= some({"Helicone-Session-Name": chance.choice(NAMES)}, 0.8)
        seconds, milliseconds = chance.randrange(0, 60, 5), chance.choice([0, 1, 499, 500, 999])
        made = START + timedelta(seconds=seconds, milliseconds=milliseconds)
        return {
            "request_id": _uuid(number + 1),
            "organization_id": ORGANIZATION,
            "request_created_at": made,
            "response_created_at": made + timedelta(milliseconds=700) if chance.random() < 0.7 else None,
            "latency": maybe([*COUNTS, -1]),
            "time_to_first_token": maybe([*COUNTS, -1]),
            "prompt_tokens": maybe(COUNTS[:-1]),
            "completion_tokens": maybe(COUNTS[:-1]),
            "prompt_cache_read_tokens": maybe(COUNTS),
            "prompt_cache_write_tokens": maybe(COUNTS),
            "status": chance.choice(STATUSES),
            "cost": Decimal(chance.choice(NANODOLLARS)).scaleb(-9),
            **{name: maybe(TEXTS) for name in ("model", "provider", "user_id", "target_url", "country_code")},
            **{
                name: maybe(TEXTS)
                for name in ("request_body", "response_body", "request_referrer", "prompt_id")
            },
            "threat": maybe([True, False]),
            "cache_enabled": maybe([True, False]),
            "is_passthrough_billing": maybe([True, False]),
            "cache_reference_id": maybe([_uuid(1), _uuid(2), str(UUID(int=0))]),
            "properties": properties,
            "scores": some({key: chance.choice([0, 1, 2, 10, -5]) for key in (*KEYS, FEEDBACK)}, 0.4),
            "assets": chance.sample(TEXTS, chance.choice([0, 0, 1, 2, 3])),
            "session_tag": [chance.choice(TAGS)] if chance.random() < 0.1 else None,
            PART: f"part {number % PARTS}",
        }

    return [request(number) for number in range(count)]


ROWS = rows_of(random.Random(20261101), 400)  # noqa: S311 - to be the same everywhere is its purpose
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
        whole = [_uuid(1), _uuid(2), _uuid(9), ORGANIZATION, str(UUID(int=0))]
        odd = [*map(str.upper, whole), *("{" + text + "}" for text in whole), "null", "x"]
        parts = ["0", "ABC", "-", "9e3779b9", "00000000"]
        known = whole + (odd if word in ("equals", "not-equals") else parts)
    else:
        scores = ["0", "1", "10", "-5", "1.0", "", "null"]
        pools = {"session_tag": TAGS, "session_session_id": SESSIONS, "session_session_name": NAMES}
        # These have a meaning of their own.
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
    """Options of a query; the ends of a time lie on requests, or just beside them."""
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


# Hypothesis draws the numbers behind these, so that what fails is made small.
CHANCES = st.randoms(use_true_random=False)
TREES = st.builds(tree_of, CHANCES, st.integers(1, 8))
OPTIONS = CHANCES.map(options_of)


class Asked:
    """A client that synchronous code can ask."""

    def __init__(self, runner: asyncio.Runner, client: HeliconeClient) -> None:
        self._runner = runner
        self._client = client

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._runner.run(self._client.get_metrics(*args, **options))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of this module."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def ask(runner: asyncio.Runner, serve: Any) -> Iterator[Asked]:
    """Asks a server that holds `ROWS`."""
    served = serve(ROWS)
    yield Asked(runner, runner.run(served.__aenter__()))
    runner.run(served.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def known(oracle: Any) -> Any:
    """The oracle of `ROWS`."""
    return oracle(ROWS)


@settings(max_examples=200, deadline=None, database=None)
@given(tree=TREES, options=OPTIONS)
def test_any_filter(ask: Asked, oracle: Any, known: Any, tree: Tree, options: dict[str, Any]) -> None:
    """Any filter under any options selects the requests for which it is true."""
    metrics = ask(oracle.built(tree), **options)
    assert known.answer(tree, **options) == oracle.summary(metrics)


@pytest.mark.parametrize("seed", range(40))
def test_many_filters_at_once(ask: Asked, oracle: Any, known: Any, seed: int) -> None:
    """Each part of the rows is selected by a filter of its own, whatever the filters of the others."""
    chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
    parts = (("and", (PART, "equals", f"part {part}"), tree_of(chance, 1)) for part in range(PARTS))
    tree = ("or", *parts)
    assert known.answer(tree) == oracle.summary(ask(oracle.built(tree)))


def test_opposite_of_empty(ask: Asked, oracle: Any, known: Any) -> None:
    """What is not empty is the opposite of what is."""
    asked = ("not", ("model", "equals", "__empty__"))
    assert known.answer(("model", "not-equals", "")) == oracle.summary(ask(oracle.built(asked)))


async def _answer(serve: Any, rows: list[Row], asked: Any, options: dict[str, Any]) -> Any:
    async with serve(rows) as client:
        return await client.get_metrics(asked, **options)


@settings(max_examples=20, deadline=None, database=None)
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
