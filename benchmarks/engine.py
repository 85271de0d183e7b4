"""One scan against the service's six queries, on millions of made-up requests, with DuckDB beside them.

    python benchmarks/engine.py [--quick] [--pictures DIRECTORY]

Two tables hold the same requests: one in the order of Helicone's, whose sessions are in a map, and one as
the engine keeps it. All run on one thread, by turns, and the best of each is compared. It wants some 4 GB
of disk for ten million requests, and an hour less on a machine that does nothing else.
"""

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs
from measure import Bar, report

from helicone_sessions import F, Filter, SessionMetricsQuery, TimeFilter
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.drivers.driver import Limits
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.query.foreign_tables import find_tables
from helicone_sessions.local.storage.table import (
    REQUEST_COLUMNS,
    SESSION_ID,
    SESSION_NAME,
    Tables,
    create_statements,
)

# The tests are not installed.
sys.path.append(str(Path(__file__).parents[1]))
from tests.local import six_queries
from tests.local.counting_driver import CountingDriver

ORGANIZATION: Final = UUID("00000000-0000-4000-8000-000000000001")
START: Final = datetime(2026, 8, 1, tzinfo=UTC)
DAYS: Final = 90
DAY: Final = timedelta(days=1)
MILLION: Final = 1_000_000
PER_SESSION: Final = 12
SERVICE: Final = "service"
ONE_DAY: Final = SessionMetricsQuery(time_filter=TimeFilter(START + 40 * DAY, START + 41 * DAY))


@attrs.frozen
class Question:
    """A query, and the same for DuckDB.

    Args:
        name: What it asks for.
        query: The query.
        sql: Its condition in SQL, over the columns that DuckDB has.
    """

    name: str
    query: SessionMetricsQuery
    sql: str

    @classmethod
    def of(cls, name: str, filter_: Filter, sql: str) -> "Question":
        """One about a filter."""
        return cls(name, SessionMetricsQuery(filter_), sql)


def questions() -> list[Question]:
    """What is asked."""
    begin, end = START + 40 * DAY, START + 41 * DAY
    return [
        Question("no filter", SessionMetricsQuery(), "true"),
        Question("one day", ONE_DAY, f"moment > '{begin:%Y-%m-%d}' AND moment < '{end:%Y-%m-%d}'"),
        Question.of("a property", F.properties["Tier"] == "pro", "tier = 'pro'"),
        Question.of("the name of a session", F.session_session_name == "flow-3", "session_name = 'flow-3'"),
        Question.of("a session", F.session_session_id == "session-4711", "session_id = 'session-4711'"),
        Question.of("a user", F.user_id == "user-42", "user_id = 'user-42'"),
        Question.of("a status", F.status == 500, "status = 500"),
    ]


def made_up(rows: int, sessions: int) -> str:
    """A statement for so many requests: a twentieth has no session, costs have a long tail."""
    return f"""
SELECT
  generateUUIDv4(number) AS request_id, toUUID('{ORGANIZATION}') AS organization_id,
  toDateTime64('{START:%Y-%m-%d %H:%M:%S}', 3, 'UTC')
    + toIntervalMillisecond(cityHash64(session, 'start') % {DAYS * 86_400_000 - 4_000_000}
    + cityHash64(number, 'later') % 3_600_000) AS request_created_at,
  cityHash64(number, 'latency') % 20000 AS latency,
  cityHash64(number, 'prompt') % 4000 AS prompt_tokens,
  cityHash64(number, 'completion') % 1000 AS completion_tokens,
  if(cityHash64(number, 'status') % 50 = 0, 500, 200) AS status,
  toUInt64(100000 * exp(8 * (cityHash64(number, 'cost') % 100000) / 100000)) AS cost,
  ['gpt-4o', 'gpt-4o-mini', 'o3', 'claude-sonnet-4'][1 + cityHash64(session, 'model') % 4] AS model,
  ['OPENAI', 'ANTHROPIC'][1 + cityHash64(session, 'provider') % 2] AS provider,
  concat('user-', toString(cityHash64(session, 'user') % 5000)) AS user_id,
  if(cityHash64(number, 'none') % 20 = 0, map('Tier', tier),
    map('Tier', tier, '{SESSION_ID}', concat('session-', toString(session)),
      '{SESSION_NAME}', concat('flow-', toString(cityHash64(session, 'name') % 20)))) AS properties
FROM (
  SELECT number, cityHash64(number, 'session') % {sessions} AS session,
    ['free', 'free', 'free', 'pro'][1 + cityHash64(session, 'tier') % 4] AS tier
  FROM numbers({rows})
)"""


OWN: Final = "own.request_response_rmt"
COLUMNS: Final = (
    "request_id, organization_id, request_created_at, latency, prompt_tokens, completion_tokens, status,"
    " cost, model, provider, user_id, properties"
)


class Stage:
    """Both tables, filled."""

    def __init__(self, driver: ChdbDriver) -> None:
        self.driver = driver
        self.counted = CountingDriver(driver)

    async def engines(self) -> dict[str, Engine]:
        """What is compared; the service reads without FINAL, and so do all of them but one."""
        found = await find_tables(self.driver, SERVICE)
        plain = attrs.evolve(found, requests=found.requests.removesuffix(" FINAL"))
        as_service = attrs.evolve(plain, each_id=plain.session_id, each_name=plain.session_name)
        return {
            "six": Engine(self.counted, as_service, strategy=six_queries.answer),
            "one": Engine(self.counted, plain),
            "final": Engine(self.counted, found),
            "own": Engine(self.counted, Tables.own("own")),
        }

    async def fill(self, rows: int, sessions: int) -> None:
        """Make the requests, and merge their parts as a server does in time."""
        columns = ", ".join(f"{name} {stored}" for name, stored in REQUEST_COLUMNS.items())
        order = "organization_id, provider, model, user_id, request_created_at, request_id"
        statements = [
            *create_statements("own"),
            f"CREATE DATABASE {SERVICE}",
            f"""CREATE TABLE {SERVICE}.request_response_rmt (
  {columns}, updated_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(updated_at) PARTITION BY toYYYYMM(request_created_at)
ORDER BY ({order})""",
            f"INSERT INTO own.request_response_rmt ({COLUMNS}) {made_up(rows, sessions)}",
            f"INSERT INTO {SERVICE}.request_response_rmt ({COLUMNS}) SELECT {COLUMNS} FROM {OWN}",
            "OPTIMIZE TABLE own.request_response_rmt FINAL",
            f"OPTIMIZE TABLE {SERVICE}.request_response_rmt FINAL",
        ]
        for statement in statements:
            await self.driver.execute(statement)


async def seconds_of(engine: Engine) -> float:
    """Seconds of a query without a filter."""
    seconds, _ = await timed(lambda: engine.answer(SessionMetricsQuery(), ORGANIZATION))
    return seconds


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """Seconds of the processor, and what came of it."""
    begun = time.process_time()
    found = await work()
    return time.process_time() - begun, found


async def compared(
    stage: Stage, engines: dict[str, Engine], question: Question, duck: Any, rounds: int
) -> list[Bar]:
    """The bars of one question."""
    best = dict.fromkeys((*engines, "duck"), math.inf)
    read: dict[str, int] = {}
    for _ in range(rounds):
        for name, engine in engines.items():
            before = stage.counted.rows_read
            seconds, _ = await timed(partial(engine.answer, question.query, ORGANIZATION))
            best[name], read[name] = min(best[name], seconds), stage.counted.rows_read - before
        begun = time.process_time()
        duck.execute(duck_sql(question.sql)).fetchall()
        best["duck"] = min(best["duck"], time.process_time() - begun)
    is_plain, is_day = question.name == "no filter", question.name == "one day"
    own_most = 9 if is_plain else 100 if is_day else None
    return [
        # The bars are told as "how many times", so the least is kept by turning it round.
        Bar.of(f"{question.name}: six queries, ms", 1000 * best["six"]),
        least("  times as fast, the same table", best["six"] / best["one"], 5),
        Bar.of("  times as fast, with FINAL", best["six"] / best["final"]),
        least("  times fewer rows read", read["six"] / max(read["one"], 1), 9 if read["one"] else None),
        least("  times as fast, the engine's table", best["six"] / best["own"], own_most),
        Bar.of("  the engine over DuckDB", best["own"] / best["duck"]),
    ]


@attrs.frozen
class Least(Bar):
    """A figure that has to be as great as it says."""

    least: float | None = None

    @property
    def holds(self) -> bool:
        return self.least is None or self.ratio >= self.least * (1 - 1e-9)

    def __str__(self) -> str:
        verdict = (
            "" if self.least is None else f"at least {self.least:g}   {'ok' if self.holds else 'TOO LITTLE'}"
        )
        return f"{self.name:<52} {self.ratio:7.2f}  {'':<16}  {verdict}".rstrip()


def least(name: str, figure: float, bar: float | None) -> Bar:
    """A figure that has to be at least *bar*."""
    return Least(name, figure, figure, figure, least=bar)


def duck_sql(condition: str) -> str:
    """The same figures in DuckDB's SQL, with ten bars of equal width: it has no adaptive histogram."""
    cuts = ", ".join(f"quantile_cont({each}, 0.75) AS {each}_high" for each in ("n", "seconds", "dollars"))
    bars = ", ".join(
        f"histogram(least(9, floor(10 * {each} / nullif({each}_high, 0)))) FILTER ({each} <= {each}_high)"
        for each in ("n", "seconds", "dollars")
    )
    return f"""
WITH named AS (
  SELECT session_id, session_name, count(*) AS n, min(moment) AS begun, max(moment) AS latest,
    sum(cost) AS cost
  FROM requests WHERE {condition} GROUP BY session_id, session_name
), sessions AS (
  SELECT session_id, sum(n) AS n, date_diff('second', min(begun), max(latest)) AS seconds,
    sum(cost) / 1e9 AS dollars FROM named GROUP BY session_id
), cuts AS (SELECT {cuts} FROM sessions)
SELECT {bars}, avg(n), avg(seconds), avg(dollars) FROM sessions, cuts"""


@contextmanager
def in_duckdb(folder: Path, parquet: Path) -> Iterator[Any]:
    """DuckDB with the same requests, in the order of time, on one thread."""
    import duckdb  # noqa: PLC0415 - only here

    connection = duckdb.connect(str(folder / "duck.db"))
    try:
        connection.execute("SET threads = 1")
        connection.execute(f"CREATE TABLE requests AS SELECT * FROM read_parquet('{parquet}')")
        yield connection
    finally:
        connection.close()


async def exported(driver: ChdbDriver, parquet: Path) -> None:
    """The requests as DuckDB takes them."""
    await driver.execute(
        "SELECT session_id, session_name, request_created_at AS moment, cost, user_id::String AS user_id,"
        f" status, properties['Tier'] AS tier FROM {OWN} ORDER BY moment INTO OUTFILE '{parquet}'"
        " FORMAT Parquet"
    )


async def run(
    rows: int, sessions: int, rounds: int, only: int | None = None
) -> tuple[list[Bar], dict[str, float]]:
    """All bars for so many requests, and the best seconds without a filter."""
    with tempfile.TemporaryDirectory(prefix="helicone-sessions-") as name:
        folder = Path(name)
        driver = ChdbDriver(folder / "store", limits=Limits(seconds=None, threads=1))
        await driver.open()
        try:
            stage = Stage(driver)
            await stage.fill(rows, sessions)
            engines = await stage.engines()
            parquet = folder / "requests.parquet"
            await exported(driver, parquet)
            with in_duckdb(folder, parquet) as duck:
                bars = [
                    bar
                    for each in questions()[:only]
                    for bar in await compared(stage, engines, each, duck, rounds)
                ]
            seconds = {
                name: min([await seconds_of(engine) for _ in range(rounds)])
                for name, engine in engines.items()
                if name != "final"
            }
            return bars, seconds
        finally:
            await driver.aclose()


def draw(
    directory: Path, by_rows: dict[int, dict[str, float]], by_sessions: dict[int, dict[str, float]]
) -> None:
    """Cost against rows, and against sessions."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only here

    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True)
    names = {
        "six": "the service's six queries",
        "one": "one scan, the same table",
        "own": "one scan, the engine's table",
    }
    for axes, found, label in zip(panels, (by_rows, by_sessions), ("requests", "sessions"), strict=True):
        for (key, name), dash, marker in zip(names.items(), ("-", "--", ":"), "os^", strict=True):
            axes.plot(
                list(found),
                [each[key] for each in found.values()],
                dash + marker,
                color="#1b1b1b",
                label=name,
            )
        axes.set(xscale="log", yscale="log", xlabel=f"{label}, in millions")
        axes.set_xticks(list(found), [f"{count / MILLION:g}" for count in found], minor=False)
        axes.tick_params(which="minor", labelbottom=False)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds of the processor, no filter")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(directory / "engine.png", dpi=100)


def main() -> int:
    """Fill, ask, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="half a million requests, so rougher figures")
    parser.add_argument("--pictures", type=Path, help="where to draw cost against requests and sessions")
    arguments = parser.parse_args()
    sizes = [MILLION // 2] if arguments.quick else [MILLION, 3 * MILLION, 10 * MILLION]
    by_rows = {}
    for rows in sizes:
        is_last = rows == sizes[-1]
        bars, by_rows[rows] = asyncio.run(run(rows, rows // PER_SESSION, 3, None if is_last else 1))
    code = report(f"{sizes[-1]:,} requests:", bars)
    if arguments.pictures:
        by_sessions = {}
        for sessions in (10_000, 100_000, MILLION):
            _, by_sessions[sessions] = asyncio.run(run(3 * MILLION, sessions, 3, 1))
        draw(arguments.pictures, by_rows, by_sessions)
    return 0 if arguments.quick else code


if __name__ == "__main__":
    sys.exit(main())
