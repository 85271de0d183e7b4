"""chDB as it is used: clean answers after errors, readers that only read, answers that no thread changes."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import F, SessionMetrics, SessionMetricsQuery, TimeFilter
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers import DriverError, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.query import metrics_sql
from helicone_sessions.local.query.contract_sql import Parameters
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.query.metrics_sql import select
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION
from helicone_sessions.local.storage.store import Store

chdb = pytest.importorskip("chdb", reason="the extra `local` is not installed")

START = datetime(2026, 11, 1, tzinfo=UTC)
CLEAN = Statement("SELECT 'clean' AS word, 42 AS number")
# They fail when rows were already put out, which chDB then hands to the next query on that connection.
FAILING = [
    "SELECT number, throwIf(number = 500000) FROM numbers(1000000)",
    "SELECT number FROM (SELECT * FROM numbers(1000000)) WHERE throwIf(number = 999999) = 0",
]


@pytest.fixture
async def driver() -> AsyncIterator[ChdbDriver]:
    """A driver of one thread, so that every query would get the connection of the one before."""
    driver = ChdbDriver(threads=1)
    await driver.open()
    yield driver
    await driver.aclose()


async def test_answers_are_clean_after_failures(driver: ChdbDriver) -> None:
    """A query that fails in the middle leaves nothing in the answers that follow."""
    answers = []
    for number in range(30):
        with pytest.raises(DriverError, match="throwIf"):
            await driver.query(Statement(FAILING[number % 2]))
        answers.append((await driver.query(CLEAN)).rows)
    assert [[["clean", 42]]] * 30 == answers


async def test_failures_beside_answers() -> None:
    """Failing queries do not affect concurrent ones."""
    driver = ChdbDriver(threads=4)
    await driver.open()
    try:
        asked = [CLEAN if number % 2 else Statement(FAILING[0]) for number in range(40)]
        answers = await asyncio.gather(*map(driver.query, asked), return_exceptions=True)
    finally:
        await driver.aclose()
    assert [[["clean", 42]]] * 20 == [answer.rows for answer in answers[1::2]]  # type: ignore[union-attr]
    assert {DriverError} == set(map(type, answers[::2]))


async def test_statement_that_cannot_be_read(driver: ChdbDriver) -> None:
    """A statement that ClickHouse cannot read is an error in ClickHouse's words, and the next is answered."""
    with pytest.raises(DriverError) as caught:
        await driver.query(Statement("SELECT FROM WHERE"))
    assert 62 == caught.value.code
    assert [["clean", 42]] == (await driver.query(CLEAN)).rows


@pytest.mark.promise(name="D3")
@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE kept (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE kept (a Int8)",
        "CREATE DATABASE other",
        "INSERT INTO things VALUES (2)",
        "DROP TABLE things",
        "TRUNCATE TABLE things",
        "ALTER TABLE things DELETE WHERE 1",
        "SET readonly = 0",
        "SET max_execution_time = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1; DROP TABLE things",
    ],
)
async def test_readers_cannot_write(driver: ChdbDriver, text: str) -> None:
    """A connection that answers queries can change neither tables nor its own limits."""
    await driver.execute("CREATE TABLE things (a Int8) ENGINE = Memory")
    await driver.execute("INSERT INTO things VALUES (1)")
    with pytest.raises(DriverError, match="READONLY"):
        await driver.query(Statement(text))
    assert [[1]] == (await driver.query(Statement("SELECT a FROM things"))).rows


@pytest.mark.promise(name="D4")
@pytest.mark.parametrize(
    "source",
    [
        "url('http://127.0.0.1:9/', CSV, 'a String')",
        "remote('127.0.0.1:9', system.one)",
        "executable('true', TSV, 'a String')",
    ],
)
async def test_readers_cannot_reach_out(driver: ChdbDriver, source: str) -> None:
    """A connection that answers queries can reach no address and no program."""
    with pytest.raises(DriverError, match="READONLY"):
        await driver.query(Statement(f"SELECT * FROM {source}"))  # noqa: S608 - it is to be refused


@pytest.mark.promise(name="D4")
@pytest.mark.parametrize(
    "text",
    [
        "SELECT file({path})",
        "SELECT `file`({path})",
        r"SELECT `\x66ile`({path})",
        r'SELECT "fil\x65"({path})',
        "SELECT length(file/**/({path}))",
        "DESCRIBE file({path}, CSV)",
        "SELECT 1 INTO OUTFILE {path}",
        "SELECT 1 into/**/outfile {path} TRUNCATE",
    ],
)
async def test_readers_cannot_reach_files(driver: ChdbDriver, tmp_path: Path, text: str) -> None:
    """A statement that reads is refused if it names a way to files which ClickHouse leaves open."""
    secret = tmp_path / "secret.csv"
    secret.write_text("secret\n")
    with pytest.raises(DriverError) as caught:
        await driver.query(Statement(text.format(path=f"'{secret}'")))
    assert 497 == caught.value.code
    assert "secret\n" == secret.read_text()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "plain",
            "'",
            '"',
            "`",
            "\\",
            "\\\\",
            "\\N",
            "\\n",
            "a\\'b",
            "%_",
            "{p0:String}",
            "$1 ?",
            "-- x",
        ),
        *("\n", "\t", "\r\n", "\0", "\b\f", "\x1b\x7f", "😀", "\U0010ffff", "\ufeff", "'; DROP TABLE t; --"),
    ],
)
async def test_parameters_arrive_unchanged(driver: ChdbDriver, text: str) -> None:
    """A parameter is what it was, whatever is in it, as a value and as the key of a map."""
    parameters = Parameters()
    placed = parameters.add("String", text)
    statement = f"SELECT {placed}, map({placed}, 1)[{placed}], length({placed})"
    answer = await driver.query(Statement(statement, parameters.values))
    assert [[text, 1, len(text.encode())]] == answer.rows


async def test_unknown_field_is_an_error(driver: ChdbDriver) -> None:
    """A line with a field that the table lacks is refused rather than cut."""
    await driver.execute("CREATE TABLE things (a Int8) ENGINE = Memory")
    with pytest.raises(DriverError) as caught:
        await driver.insert("things", b'{"a": 1, "b": 2}')
    assert 117 == caught.value.code
    await driver.insert("things", b'{"a": 3}\n{"a": 4}')
    assert [[3], [4]] == (await driver.query(Statement("SELECT a FROM things ORDER BY a"))).rows


async def test_cancelled_query(driver: ChdbDriver) -> None:
    """A query whose caller has gone leaves nothing in the answer of the next."""
    for text in (FAILING[0], "SELECT number FROM numbers(1000000)"):
        task = asyncio.create_task(driver.query(Statement(text)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [["clean", 42]] == (await driver.query(CLEAN)).rows


@pytest.fixture
def connection() -> Iterator[Any]:
    """A connection of the tests' own, to the memory that all connections of a process share."""
    connection = chdb.connect(":memory:")
    yield connection
    connection.close()


async def test_nothing_is_left(connection: Any) -> None:
    """When a server is closed its tables are gone, after a load that failed too."""
    before = connection.query("SHOW DATABASES").bytes()
    async with LocalServer([{"request_created_at": START}]):
        assert before != connection.query("SHOW DATABASES").bytes()
    with pytest.raises(ValueError, match="row 1"):
        await LocalServer([{"request_created_at": START}, {}]).start()
    assert before == connection.query("SHOW DATABASES").bytes()


def _rows(count: int) -> list[dict[str, Any]]:
    chance = random.Random(7)  # noqa: S311 - to be the same everywhere is its purpose
    return [
        {
            "request_id": f"{number:032x}",
            "request_created_at": START + timedelta(milliseconds=chance.randrange(10**9)),
            "cost": f"{chance.lognormvariate(-5, 2):.9f}",
            "prompt_tokens": chance.randrange(5000),
            "completion_tokens": chance.choice([None, 1, 10, 100]),
            "latency": chance.randrange(10_000),
            # More sessions than the 8,192 of which an inexact quantile takes its sample.
            "properties": {
                "Helicone-Session-Id": f"s{chance.randrange(15_000)}",
                "Helicone-Session-Name": f"n{chance.randrange(3)}",
            },
            "session_tag": [f"t{number % 5}"] if number % 50 == 0 else None,
        }
        for number in range(count)
    ]


QUERIES = [
    SessionMetricsQuery(),
    SessionMetricsQuery(F.latency > 2000, p_size="p99.9"),
    SessionMetricsQuery((F.session_total_cost > 0.1) | (F.latency < 50), p_size="p95"),
    SessionMetricsQuery((F.session_tag == "t1") | (F.session_total_requests < 3), use_interquartile=True),
    SessionMetricsQuery(
        name_contains="N1",
        time_filter=TimeFilter(START + timedelta(days=1), START + timedelta(days=9)),
        p_size="p99",
        use_interquartile=True,
    ),
]


# Else a table of this size would be read and grouped by one thread.
SHARED_OUT = (
    "merge_tree_min_rows_for_concurrent_read = 1, merge_tree_min_bytes_for_concurrent_read = 1,"
    " group_by_two_level_threshold = 1, group_by_two_level_threshold_bytes = 1, max_block_size = 1000"
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Twenty thousand requests."""
    return _rows(20_000)


@pytest.fixture(scope="module")
def engine(rows: list[dict[str, Any]]) -> Iterator[Engine]:
    """An engine that holds `rows`."""
    with asyncio.Runner() as runner:
        opened = runner.run(_opened(rows))
        yield opened[0]
        runner.run(_closed(*opened))


async def _opened(rows: list[dict[str, Any]]) -> tuple[Engine, Store]:
    store = Store(driver := ChdbDriver())
    await driver.open()
    await store.open()
    await store.load(rows)
    return Engine(driver, store.tables), store


async def _closed(engine: Engine, store: Store) -> None:
    await store.aclose()
    await engine.driver.aclose()


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("query", QUERIES)
def test_threads_change_nothing(
    engine: Engine, connection: Any, query: SessionMetricsQuery, by_name: bool
) -> None:
    """An answer is the same to the last byte, however many threads work it out."""
    selection = select(query, engine.tables, DEFAULT_ORGANIZATION)
    # Conditions on whole sessions are always answered by name.
    statement = metrics_sql.statement(selection, query, by_name=by_name or selection.condition.on_sessions)
    answers = {
        connection.query(
            f"{statement.text} SETTINGS max_threads = {threads}, {shared}",
            "JSONCompactEachRow",
            params=dict(statement.parameters),
        ).bytes()
        for threads in (1, 2, 3)
        for shared in (SHARED_OUT, "max_block_size = 65000")
    }
    assert 1 == len(answers)


@pytest.mark.parametrize("use_interquartile", [False, True])
async def test_many_sessions(
    engine: Engine, oracle: Any, rows: list[dict[str, Any]], use_interquartile: bool
) -> None:
    """Of more than ten thousand sessions the cuts are exact too."""
    options: dict[str, Any] = {"p_size": "p95", "use_interquartile": use_interquartile}
    metrics = await engine.answer(SessionMetricsQuery(**options), DEFAULT_ORGANIZATION)
    assert oracle(rows).answer(**options) == oracle.summary(metrics)


async def test_order_of_rows_changes_nothing() -> None:
    """An answer is the same in whatever order the rows came."""
    rows = _rows(2_000)
    orders = [rows, rows[::-1], sorted(rows, key=lambda row: str(row["cost"]))]
    answers: list[list[SessionMetrics]] = []
    for order in orders:
        engine, store = await _opened(order)
        answers.append([await engine.answer(query, DEFAULT_ORGANIZATION) for query in QUERIES])
        await _closed(engine, store)
    assert answers[0] == answers[1] == answers[2]
    assert len(QUERIES) == len(set(map(repr, answers[0])))


async def test_lines_without_a_row(driver: ChdbDriver) -> None:
    """An insert of something that holds no row is an error, not a load that was lost."""
    await driver.execute("CREATE TABLE no_rows (a Int8) ENGINE = Memory")
    with pytest.raises(DriverError, match="no row was written"):
        await driver.insert("no_rows", b"[]")
    await driver.execute("DROP TABLE no_rows")
