"""Random filters on nasty rows: the engine answers what the oracle of plain Python answers."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
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
SESSIONS = [
    "",
    "s1",
    "S1",
    "s'2",
    "s\\3",
    "s\n4",
    "s%5",
    "😀",
    "\0",
    "{x:String}",
    *(f"t{i}" for i in range(9)),
]
NAMES = ["", "chat", "Chat", "cha%", "a_b", "a\\b", "日本", "'", "a\nb"]
TAGS = ["vip", "VIP", "a%b", "beta\\", "'", "日本", "a\tb"]
NOT_KEPT = {"node_id", "job_id", "search_properties", "scores_column"}
NO_OPPOSITE = {"like", "ilike"}


def _uuid(number: int) -> str:
    return str(UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC834) % 2**128))


def rows_of(chance: random.Random, count: int) -> list[Row]:
    """Nasty rows: nulls, missing keys, odd texts; some sessions without an id, some with two names."""

    def maybe(choices: list[Any]) -> Any:
        return chance.choice(choices) if chance.random() < 0.8 else None

    def request(number: int) -> Row:
        properties = {key: chance.choice(TEXTS) for key in KEYS if chance.random() < 0.4}
        properties |= {"Helicone-Session-Id": chance.choice(SESSIONS)} if chance.random() < 0.9 else {}
        properties |= {"Helicone-Session-Name": chance.choice(NAMES)} if chance.random() < 0.8 else {}
        numbers = [0, 1, 2, 3, 5, 8, 100, 2**31, 2**53, -1]
        made = START + timedelta(
            milliseconds=chance.choice([0, 1, 499, 500, 999]) + 1000 * chance.randrange(60)
        )
        return {
            "request_id": _uuid(number + 1),
            "organization_id": ORGANIZATION,
            "request_created_at": made,
            "response_created_at": made + timedelta(milliseconds=700) if chance.random() < 0.7 else None,
            "latency": maybe(numbers),
            "time_to_first_token": maybe(numbers),
            "prompt_tokens": maybe(numbers[:-2]),
            "completion_tokens": maybe(numbers[:-2]),
            "prompt_cache_read_tokens": maybe(numbers),
            "prompt_cache_write_tokens": maybe(numbers),
            "status": chance.choice([200, 429, 500, -3, 0]),
            "cost": Decimal(chance.choice([0, 1, 2, 10**8, 3 * 10**8, 10**9, 123_456_789, 10**13])).scaleb(
                -9
            ),
            "model": maybe(TEXTS),
            "provider": maybe(TEXTS),
            "user_id": maybe(TEXTS),
            "target_url": maybe(TEXTS),
            "country_code": maybe(TEXTS),
            "threat": maybe([True, False]),
            "properties": properties,
            "scores": {
                key: chance.choice([0, 1, 2, 10, -5]) for key in (*KEYS, FEEDBACK) if chance.random() < 0.4
            },
            "request_body": maybe(TEXTS),
            "response_body": maybe(TEXTS),
            "assets": chance.sample(TEXTS, chance.choice([0, 0, 1, 2, 3])),
            "cache_enabled": maybe([True, False]),
            "cache_reference_id": maybe([_uuid(1), _uuid(2), str(UUID(int=0))]),
            "prompt_id": maybe(TEXTS),
            "prompt_version": maybe(TEXTS),
            "request_referrer": maybe(TEXTS),
            "is_passthrough_billing": maybe([True, False]),
            "session_tag": chance.sample(TAGS, 1) if chance.random() < 0.1 else None,
        }

    return [request(number) for number in range(count)]


ROWS = rows_of(random.Random(20261101), 400)  # noqa: S311 - to be the same everywhere is its purpose


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


def _text_constants(column: ColumnFacts, word: str) -> st.SearchStrategy[str]:
    if column.name in ("request_id", "organization_id", "cache_reference_id"):
        whole = st.sampled_from([_uuid(1), _uuid(2), _uuid(9), ORGANIZATION, str(UUID(int=0))])
        odd = whole.map(str.upper) | whole.map(lambda text: "{" + text + "}") | st.sampled_from(["null", "x"])
        parts = st.sampled_from(["0", "ABC", "-", "9e3779b9", "00000000"])
        known = whole | odd if word in ("equals", "not-equals") else whole | parts
    elif column.name == "session_tag":
        known = st.sampled_from(TAGS)
    elif column.name == "session_session_id":
        known = st.sampled_from(SESSIONS)
    elif column.name == "session_session_name":
        known = st.sampled_from(NAMES)
    elif column.name == "scores":
        known = st.sampled_from(["0", "1", "10", "-5", "1.0", "", "null"])
    else:
        known = st.sampled_from(TEXTS)
    if word in NO_OPPOSITE:
        # A backslash at the end, which escapes nothing, is refused; another test is about that.
        return st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
    if word in ("contains", "not-contains"):
        return known.filter(bool)
    if column.name in ("assets", "session_tag"):
        return known.filter(lambda text: text not in ("null", "__empty__"))
    return known


def _constants(column: ColumnFacts, word: str) -> st.SearchStrategy[Any]:
    some = _constants_of(column, word)
    return st.sampled_from(DIVIDING[column.name]) | some if column.name in DIVIDING else some


def _constants_of(column: ColumnFacts, word: str) -> st.SearchStrategy[Any]:
    match column.kind:
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.TIMESTAMP:
            moments = st.sampled_from(ROWS).map(lambda row: row["request_created_at"])
            near = st.sampled_from([0, 1, -1, 1000, -1000, 700_000, 999])
            far = [datetime(1800, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
            return st.builds(lambda moment, off: moment + timedelta(microseconds=off), moments, near) | (
                st.sampled_from(far)
            )
        case Kind.NUMBER:
            least = -10 if column.negative else 0
            dollars = [
                0.1,
                0.3,
                0.30000000000000004,
                1e-9,
                1.5e-9,
                1e-10,
                0.123456789,
                10_000.0,
                1e300,
                5e-324,
            ]
            return (
                st.integers(least, 12)
                | st.sampled_from([200, 429, 500, 2**31, 2**53, 0.5, 2.5, 200.0, 1e19, 9.3e18])
                | st.sampled_from(dollars)
            )
        case Kind.KEY:
            return st.sampled_from([*KEYS, "Helicone-Session-Id", "missing"])
    return _text_constants(column, word)


@st.composite
def conditions(draw: st.DrawFn, *, opposable: bool) -> Tree:
    """One condition on a column that the engine keeps."""
    session = draw(st.booleans() | st.just(value=False))
    names = [name for name in COLUMNS if name not in NOT_KEPT and name.startswith("session_") == session]
    column = COLUMNS[draw(st.sampled_from(names))]
    words = [word for word in column.operators if not (opposable and word in NO_OPPOSITE)]
    word = draw(st.sampled_from(words))
    constant = draw(_constants(column, word))
    key = (draw(st.sampled_from([*KEYS, "missing"])),) if column.kind is Kind.MAP else ()
    return column.name, word, constant, *key


def _can_be_negated(tree: Tree) -> bool:
    name, _, constant, *_ = tree
    # Of "is empty" the API has no opposite: not-equals takes this word as it stands.
    return name != "property_key" and constant != "__empty__"


def _joined(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(trees, min_size=1, max_size=4)
    return st.builds(lambda word, parts: (word, *parts), st.sampled_from(["and", "or"]), several)


OPPOSABLE = st.recursive(
    conditions(opposable=True).filter(_can_be_negated),
    lambda trees: _joined(trees) | trees.map(lambda tree: ("not", tree)),
    max_leaves=6,
)
TREES = st.recursive(
    conditions(opposable=False) | OPPOSABLE.map(lambda tree: ("not", tree)), _joined, max_leaves=8
)


@st.composite
def windows(draw: st.DrawFn) -> TimeFilter:
    """A time whose ends lie on requests, or just beside them."""
    moments = st.sampled_from(ROWS).map(lambda row: row["request_created_at"])
    start, end = sorted((draw(moments), draw(moments)))
    before, after = draw(st.sampled_from([0, 1, 500])), draw(st.sampled_from([1, 2, 1000]))
    return TimeFilter(start - timedelta(milliseconds=before), end + timedelta(milliseconds=after))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "name_contains": st.sampled_from([*NAMES, "H", "%", "_", "\\", "zz"]),
        "time_filter": windows(),
        "p_size": st.sampled_from(["p50", "p75", "p95", "p99", "p99.9"]),
        "use_interquartile": st.booleans(),
    },
)


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


@settings(max_examples=300, deadline=None, database=None)
@given(tree=TREES, options=OPTIONS)
def test_any_filter(ask: Asked, oracle: Any, known: Any, tree: Tree, options: dict[str, Any]) -> None:
    """Any filter under any options selects the requests for which it is true, on any rows."""
    metrics = ask(oracle.built(tree), **options)
    assert known.answer(tree, **options) == oracle.summary(metrics)


async def _answer(serve: Any, rows: list[Row], asked: Any, options: dict[str, Any]) -> Any:
    async with serve(rows) as client:
        return await client.get_metrics(asked, **options)


@settings(
    max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
    for asked in (("and",), tree):
        metrics = runner.run(_answer(serve, rows, oracle.built(asked), options))
        assert oracle(rows).answer(asked, **options) == oracle.summary(metrics)
