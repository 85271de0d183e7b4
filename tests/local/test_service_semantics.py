"""Filters read as the open-source server reads them: the engine answers what a second oracle answers."""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions import F, Filter, SessionMetricsQuery, TimeFilter
from helicone_sessions.filters.schema import COLUMNS, REQUESTS, SESSIONS, Kind, Reading
from helicone_sessions.local.drivers import DriverError
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.local.query.service_sql import Crash
from helicone_sessions.messages.converter import converter
from tests.local.nasty_rows import (
    DOLLARS,
    KEYS,
    NAMES,
    NUMBERS,
    ORGANIZATION,
    PIECES,
    ROWS,
    STATUSES,
    TAGS,
    TEXTS,
    rows_of,
    uuid_of,
)
from tests.local.service_oracle import NO_ID, Fails, MayFail, ServiceOracle
from tests.repeats import repeats
from tests.strategies import filters

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

WORDS = ["null", "__empty__"]
BELOW = {
    table: [column for column in COLUMNS.values() if column.table == table] for table in (REQUESTS, SESSIONS)
}
# Few leaves have conditions that the server cannot read, because otherwise nearly every query would fail.
READ = {
    table: [column for column in columns if column.on_server is not Reading.FAILS]
    for table, columns in BELOW.items()
}
# Around the ends of 32 bits, of the digits that JavaScript writes, and between whole numbers.
WIDE = [2**31 - 1, 2**31, 2**32, 2**32 + 200, -(2**31) - 1, 2**53, 2**60, 1e20, 1e21, 200.5, -0.0]
COSTLY = [2.147483647, 2.147483648, 3, 4.294967296, 4.394967296, 1e11, 1e12, 0.29, 1.1]
MOMENTS = [row["request_created_at"] for row in ROWS]


def _constant(chance: random.Random, name: str, kind: Kind, word: str) -> Any:
    match kind:
        case Kind.BOOLEAN:
            return chance.choice([True, False])
        case Kind.KEY:
            return chance.choice(KEYS)
        case Kind.TIMESTAMP:
            moment = chance.choice(MOMENTS) + timedelta(milliseconds=chance.choice([0, 1, -1, 500, 1000]))
            return moment.isoformat().replace("+00:00", chance.choice(["Z", "+00:00"]))
        case Kind.NUMBER:
            return chance.choice([*DOLLARS, *COSTLY] if name == "cost" else [*NUMBERS, *STATUSES, *WIDE])
    return _text_constant(chance, name, word)


def _text_constant(chance: random.Random, name: str, word: str) -> str:
    if name == "scores":
        return chance.choice(
            ["0", "1", "10", "-5", "01", "+2", "1.0", "", "null"][: 6 + (chance.random() > 0.9) * 3]
        )
    if COLUMNS[name].uuid and word in ("equals", "not-equals"):
        whole = [uuid_of(1), uuid_of(2), uuid_of(9), ORGANIZATION, NO_ID]
        known = [*whole, *map(str.upper, whole), uuid_of(1).replace("-", ""), *WORDS]
        return chance.choice(["x", "{" + uuid_of(1) + "}"] if chance.random() > 0.9 else known)
    if word in ("like", "ilike") and chance.random() > 0.3:
        return "".join(chance.choice(PIECES) for _ in range(chance.randrange(5)))
    return chance.choice([*(TAGS if name == "session_tag" else TEXTS), *WORDS * (chance.random() > 0.7)])


def _operators(chance: random.Random, name: str) -> dict[str, Any]:
    column = COLUMNS[name]
    words = column.operators
    if column.server_refuses and chance.random() < 0.9:
        words = ("equals", "not-equals")
    chosen = chance.sample(words, min(len(words), chance.choice([1, 1, 1, 2])))
    return {word: _constant(chance, name, column.kind, word) for word in chosen}


def leaf_of(chance: random.Random) -> dict[str, Any]:
    """A leaf of the contract: mostly one condition, at times several, or none."""
    leaf: dict[str, Any] = {}
    for table in chance.choice(
        [[REQUESTS], [REQUESTS], [SESSIONS], [REQUESTS, SESSIONS], [SESSIONS, REQUESTS]]
    ):
        columns = (BELOW if chance.random() < 0.05 else READ)[table]
        named = [column.name for column in chance.sample(columns, chance.choice([1, 1, 1, 2, 3]))]
        if table == SESSIONS and chance.random() < 0.5:
            named = ["session_tag", *named]
        leaf[table] = {
            name: {key: _operators(chance, name) for key in chance.sample([*KEYS, "Helicone-Session-Id"], 2)}
            if COLUMNS[name].kind is Kind.MAP
            else _operators(chance, name)
            for name in named
        }
    return leaf if chance.random() < 0.97 else {}


def wire_of(chance: random.Random, leaves: int) -> Any:
    """A filter of so many leaves, as JSON."""
    if leaves == 1:
        return leaf_of(chance) if chance.random() < 0.97 else "all"
    first = chance.randrange(1, leaves)
    word = chance.choice(["and", "or"])
    return {"left": wire_of(chance, first), "operator": word, "right": wire_of(chance, leaves - first)}


def body_of(chance: random.Random, leaves: int) -> dict[str, Any]:
    """A request body."""
    body: dict[str, Any] = {"nameContains": "", "timezoneDifference": chance.choice([0, 60, -1440, 1440])}
    if leaves:
        body["filter"] = wire_of(chance, leaves)
    if chance.random() > 0.8:
        body["nameContains"] = chance.choice([*NAMES, "cha", "zz"])
    if chance.random() > 0.8:
        start, end = (
            int((chance.choice(MOMENTS) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
            for _ in range(2)
        )
        body["timeFilter"] = {"startTimeUnixMs": min(start, end) - 1, "endTimeUnixMs": max(start, end) + 500}
    if chance.random() > 0.5:
        body["pSize"] = chance.choice(["p50", "p75", "p95", "p99", "p99.9"])
        body["useInterquartile"] = chance.choice([True, False])
    return body


def one(name: str, word: str, constant: Any, key: str | None = None) -> dict[str, Any]:
    """The leaf of one condition."""
    operators = {word: constant} if key is None else {key: {word: constant}}
    return {COLUMNS[name].table: {name: operators}}


# Numbers that Hypothesis draws itself are mostly small, and bodies made of them mostly plain.
CHANCES = st.randoms(use_true_random=True)
BODIES = st.builds(body_of, CHANCES, st.integers(0, 5))

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(runner: asyncio.Runner, hold: Any) -> Iterator[Ask]:
    """Asks an engine that holds `ROWS` with a request body."""
    holding = hold(ROWS)
    held = runner.run(holding.__aenter__())

    def asked(body: dict[str, Any], **options: Any) -> Any:
        query = converter.structure(body, SessionMetricsQuery)
        answer = held.ask(query, body.get("filter"), **{"semantics": "helicone", **options})
        return runner.run(answer)

    yield asked
    runner.run(holding.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def select(ask: Ask) -> Callable[[Any], float]:
    """How many sessions of `ROWS` a filter selects, or the number of the error with which it fails."""

    def selected(wire: Any, **options: Any) -> Any:
        try:
            metrics = ask(
                {"nameContains": "", "timezoneDifference": 0, "pSize": "p99.9", "filter": wire}, **options
            )
        except DriverError as error:
            return error.code
        return metrics.average

    return selected


@pytest.fixture(scope="module")
def known() -> ServiceOracle:
    """The oracle of `ROWS`."""
    return ServiceOracle(ROWS)


def _expected(known: ServiceOracle, body: dict[str, Any], **options: Any) -> list[Any]:
    """The outcomes that the oracle allows."""
    try:
        return [known.answer(body, **options)]
    except Fails:
        return ["fails"]
    except MayFail as may:
        return ["fails", may.answer]


def _found(ask: Ask, oracle: Any, body: dict[str, Any], **options: Any) -> Any:
    try:
        return oracle.summary(ask(body, **options))
    except (Unanswerable, DriverError):
        return "fails"


@settings(max_examples=repeats(80), database=None)
@given(body=BODIES, unsessioned=st.booleans())
def test_any_body(
    ask: Ask, oracle: Any, known: ServiceOracle, body: dict[str, Any], unsessioned: bool
) -> None:
    """Any body of the contract is answered as the oracle answers it, or fails as it says."""
    outcomes = _expected(known, body, include_unsessioned=unsessioned)
    assert _found(ask, oracle, body, include_unsessioned=unsessioned) in outcomes


@pytest.mark.parametrize("seed", range(6))
def test_conditions_one_by_one(ask: Ask, oracle: Any, known: ServiceOracle, seed: int) -> None:
    """Single conditions are answered alike, or fail alike."""
    chance = random.Random(seed)  # noqa: S311 - to be the same everywhere is its purpose
    for _ in range(25):
        body = {"nameContains": "", "timezoneDifference": 0, "filter": leaf_of(chance)}
        assert _found(ask, oracle, body) in _expected(known, body), body


@settings(max_examples=repeats(10), database=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 30), body=BODIES)
def test_any_rows(
    runner: asyncio.Runner, hold: Any, oracle: Any, seed: int, count: int, body: dict[str, Any]
) -> None:
    """The same holds on any rows, however few."""
    rows = rows_of(random.Random(seed), count)  # noqa: S311 - no secret
    query = converter.structure(body, SessionMetricsQuery)

    async def answered() -> Any:
        async with hold(rows) as held:
            try:
                answer = await held.ask(query, body.get("filter"), semantics="helicone")
            except (Unanswerable, DriverError):
                return "fails"
            return oracle.summary(answer)

    assert runner.run(answered()) in _expected(ServiceOracle(rows), body)


DEPENDS = {"version", "age"}


@settings(max_examples=repeats(30), database=None)
@given(asked=filters(max_leaves=3).filter(lambda one: all(c.effect in DEPENDS for c in one.cautions())))
def test_filters_without_cautions_mean_the_same(ask: Ask, asked: Filter) -> None:
    """A filter of which no caution is known means the same there; so do those about versions and ages."""
    body = {"nameContains": "", "timezoneDifference": 0, "filter": asked.to_wire()}
    assert ask(body, semantics="contract") == ask(body)


def test_filter_as_it_would_be_sent(
    runner: asyncio.Runner, hold: Any, known: ServiceOracle, oracle: Any
) -> None:
    """Without the JSON that was sent a filter is read as it would be sent."""
    asked = F.model.contains("a%b") | (F.session_tag != "vip")
    body = {"nameContains": "", "filter": asked.to_wire()}

    async def answered() -> Any:
        async with hold(ROWS) as held:
            return await held.ask(SessionMetricsQuery(asked), semantics="helicone")

    assert known.answer(body) == oracle.summary(runner.run(answered()))


@pytest.mark.parametrize(
    ("wire", "same"),
    [
        ({REQUESTS: {"status": {"gt": 0, "lt": 500}}}, one("status", "gt", 0)),
        ({REQUESTS: {"status": {"lt": 500}, "model": {"equals": "a"}}}, one("status", "lt", 500)),
        ({REQUESTS: {"status": {"lt": 500}, "cost": {"gt": 1}}}, one("cost", "gt", 1)),
        ({REQUESTS: {"cost": {"gt": 1}, "cached": {"equals": True}}}, one("cached", "equals", True)),
        (
            {REQUESTS: {"cached": {"equals": True}, "property_key": {"equals": "env"}}},
            one("property_key", "equals", "env"),
        ),
        (
            {REQUESTS: {"properties": {"env": {"equals": "a"}, "%": {"equals": "b"}}}},
            one("properties", "equals", "a", "env"),
        ),
        (
            {REQUESTS: {"status": {"gt": 0}}, SESSIONS: {"session_total_cost": {"gt": 1}}},
            one("status", "gt", 0),
        ),
        (
            {"left": one("status", "gt", 0), "operator": "or", "right": one("session_total_cost", "gt", 9)},
            "all",
        ),
        (one("session_session_id", "equals", "s1"), "all"),
        ({}, "all"),
        (one("property_key", "equals", "env"), one("property_key", "equals", "env")),
        (one("scores_column", "not-equals", "null"), "all"),
        (one("request_id", "like", "null"), one("status", "equals", 7)),
        (one("cost", "gt", 3), one("cost", "gt", -1.294967296)),
        (one("latency", "gte", 2**32 + 5), one("latency", "gte", 5)),
        (one("latency", "gt", 2.5), one("latency", "gte", 3)),
        (one("cost", "lte", 0.1000000009), one("cost", "lte", 0.1)),
        (
            one("request_created_at", "lt", "2026-11-01T00:00:00.999Z"),
            one("request_created_at", "lt", "2026-11-01T00:00:00Z"),
        ),
        (one("request_created_at", "lt", "0001-01-01T00:00:00Z"), one("status", "equals", 7)),
        (one("request_created_at", "lt", "9999-12-31T23:59:59Z"), "all"),
        (one("model", "contains", "A%b"), one("model", "ilike", "%a%B%")),
        (one("country_code", "like", "null"), one("status", "equals", 7)),
        (one("session_tag", "not-equals", "null"), one("status", "equals", 7)),
        (one("session_tag", "contains", "VIP"), one("session_tag", "ilike", "vip")),
        (one("model", "equals", "__empty__"), one("model", "equals", "")),
        (one("helicone-score-feedback", "equals", False), one("helicone-score-feedback", "equals", False)),
    ],
)
def test_reading(select: Any, wire: Any, same: Any) -> None:
    """The server reads this other filter instead."""
    assert select(same) == select(wire)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (one("node_id", "equals", "a"), 47),
        (one("job_id", "like", "a"), 47),
        (one("assets", "equals", "__empty__"), 47),
        (one("total_tokens", "gt", 1), 47),
        (one("search_properties", "equals", "a", "env"), 47),
        (one("scores_column", "contains", "a"), 43),
        (one("scores", "contains", "1", "env"), 43),
        (one("request_id", "not-contains", "0"), 43),
        (one("model", "not-equals", "__empty__"), 47),
        (one("session_tag", "equals", "__empty__"), 47),
        (one("model", "contains", "null"), 70),
        (one("cost", "lt", 1e12), 457),
        (one("latency", "lt", 1e21), 457),
    ],
)
def test_failing(select: Any, wire: Any, code: str) -> None:
    """Conditions that ClickHouse refuses by their types fail in any company."""
    assert code == select(wire)
    assert code == select({"left": "all", "operator": "or", "right": wire})


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (one("scores_column", "equals", "a"), 27),
        # Where the table has an index over the values the code is 170.
        (one("scores", "equals", "1", "env"), 53),
        (one("scores", "equals", "good", "env"), 53),
        (one("request_id", "equals", "no id"), 376),
        (one("model", "like", "a\\"), 25),
        (one("session_tag", "contains", "a\\"), 25),
    ],
)
def test_failing_when_it_matters(select: Any, wire: Any, code: str) -> None:
    """Conditions that ClickHouse refuses by their constants fail, unless something else decides."""
    assert code == select(wire)
    assert code == select({"left": one("status", "gt", 0), "operator": "and", "right": wire})
    assert select("all") == select({"left": "all", "operator": "or", "right": wire})


@pytest.mark.parametrize(
    "wire",
    [
        {REQUESTS: {}},
        {REQUESTS: {"latency": {}}},
        {REQUESTS: {"properties": {}}},
        {REQUESTS: {"properties": {"env": {}}}},
        {SESSIONS: {"session_total_cost": {}}},
        {REQUESTS: {"status": {"equals": 200}, "cost": {}}},
        {REQUESTS: {"status": {"equals": 200}}, SESSIONS: {}},
    ],
)
def test_leaves_without_a_condition(select: Any, wire: Any) -> None:
    """A table, a column or a key without a condition breaks the server's code, wherever it is."""
    for filter_ in (wire, {"left": "all", "operator": "or", "right": wire}):
        with pytest.raises(Crash):
            select(filter_)


def test_backslash_at_the_end_of_what_is_contained(select: Any) -> None:
    """With % around it, a backslash at the end of a text makes the last % a plain sign."""
    assert select(one("model", "ilike", "%a\\%")) == select(one("model", "contains", "a\\"))


def test_name_is_compared_whole(ask: Ask, oracle: Any) -> None:
    """The name of a session is compared as a whole, with its letters as they are."""
    body = {"nameContains": "chat", "timezoneDifference": 0}
    by_property = {"nameContains": "", "timezoneDifference": 0}
    by_property["filter"] = one("properties", "equals", "chat", "Helicone-Session-Name")
    assert ask(body) == ask(by_property)
    assert oracle.summary(ask(body)) != oracle.summary(ask(body, semantics="contract"))


def test_time_without_fractions(ask: Ask) -> None:
    """The ends of a time lose their fractions of a second, so the second before the start counts too."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    rows = [row["request_created_at"] for row in ROWS]
    late = converter.unstructure(
        TimeFilter(start + timedelta(milliseconds=900), start + timedelta(seconds=20))
    )
    whole = converter.unstructure(TimeFilter(start, start + timedelta(seconds=20)))
    assert any(start < moment <= start + timedelta(milliseconds=900) for moment in rows)
    answers = [
        ask({"nameContains": "", "timezoneDifference": 0, "timeFilter": within}) for within in (late, whole)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("word", ["gt", "gte", "lt", "lte"])
def test_last_second_of_a_month(ask: Ask, oracle: Any, known: ServiceOracle, word: str) -> None:
    """Requests of the last second of a part of the table are not passed over."""
    wire = one("request_created_at", word, "2026-10-31T23:59:55.700Z")
    body = {"nameContains": "", "timezoneDifference": 0, "filter": wire}
    assert known.answer(body) == oracle.summary(ask(body))


async def test_all_of_time(hold: Any) -> None:
    """A time may have any ends that there are."""
    always = TimeFilter(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    async with hold(ROWS) as held:
        answers = [
            await held.ask(SessionMetricsQuery(time_filter=within), semantics="helicone")
            for within in (always, None)
        ]
    assert answers[0] == answers[1]


def nested(levels: int, side: str) -> Any:
    """Conditions of which each holds the next on this side."""
    wire: Any = one("status", "equals", 200)
    other = "right" if side == "left" else "left"
    for level in range(levels):
        wire = {other: one("status", "equals", level), "operator": "or", side: wire}
    return wire


@pytest.mark.parametrize(("side", "most"), [("left", 196), ("right", 259)])
def test_deep_nesting(select: Any, side: str, most: int) -> None:
    """ClickHouse's parser gives up on more levels than these."""
    assert select(one("status", "lt", 196)) != select(nested(most, side))
    with pytest.raises(Unanswerable, match="nested too deeply"):
        select(nested(most + 1, side))
    with pytest.raises(Unanswerable, match="nested too deeply"):
        select(nested(10_000, side))


def test_long_statements(select: Any) -> None:
    """A statement may have 262,144 bytes, so that a property counts more than a number."""
    for column, fits, too_many in ((F.properties["k"], 3_000, 4_000), (F.model, 4_500, 5_000)):
        assert select("all") != select(column.is_in([f"x{n}" for n in range(fits)]).to_wire())
        with pytest.raises(Unanswerable, match="longer than ClickHouse accepts"):
            select(column.is_in([f"x{n}" for n in range(too_many)]).to_wire())


async def test_tags_of_other_organisations(hold: Any) -> None:
    """Tags are looked up without the organisation: that of another one's session of the same id counts."""
    row = {"request_created_at": "2026-11-01T12:00:00Z", "session_id": "s", "organization_id": ORGANIZATION}
    others = {**row, "organization_id": uuid_of(9), "session_tag": ["vip"]}
    query = SessionMetricsQuery(F.session_tag == "vip")
    async with hold([row, others], organizations={UUID(ORGANIZATION), UUID(uuid_of(9))}) as held:
        for semantics, average in (("contract", None), ("helicone", 1)):
            engine = held.engine(semantics=semantics)
            assert average == (await engine.answer(query, UUID(ORGANIZATION))).average.session_count
