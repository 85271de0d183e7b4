"""One scan against the service's six queries, on millions of requests, with DuckDB beside them.

    python benchmarks/engine.py [--quick] [--pictures DIRECTORY]

Session ids have 36 characters, and a request has eight properties, as real ones do. Three tables hold the
same requests: one in Helicone's order with sessions in the map, one in the engine's own layout, and one in
DuckDB, in the order of time with columns for sessions and the properties as a MAP; for a property there is a
column in DuckDB, too. All of them run on one thread, in turns. In its turn, each answers two questions with
other constants, so that the second does not find the processor's caches full of another engine's data. The
fastest answer counts, in processor time. Ten million requests need 6 GB of disk, and ten minutes on an idle
machine.
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
from hashlib import md5
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs
from measure import Bar, report

from helicone_sessions import F, Filter, SessionMetricsQuery, TimeFilter
from helicone_sessions.local.dataset import find_tables
from helicone_sessions.local.drivers import Limits
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, SESSION_ID, SESSION_NAME
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.table import update_property_columns

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
# Answers of the six queries, which take seconds each.
SLOW_ANSWERS: Final = 2
SERVICE: Final = "service"
OWN: Final = "own"


@attrs.frozen
class Question:
    """A query, its condition in DuckDB's SQL, and the ratios that it must reach.

    Args:
        name: The name.
        query: The query.
        sql: The condition, with the properties as a map.
        column_sql: The condition with the property as a column.
        most: The engine's time over DuckDB's, at most.
        least: The six queries' time over the engine's, at least.
    """

    name: str
    query: SessionMetricsQuery
    sql: str
    column_sql: str | None = None
    most: float | None = None
    least: float | None = None

    @classmethod
    def of(cls, name: str, filter_: Filter, sql: str, **more: Any) -> "Question":
        """A question with a filter."""
        return cls(name, SessionMetricsQuery(filter_), sql, **more)


def session_id(number: int) -> str:
    """The id of a session, the same as in `requests_sql`."""
    return str(UUID(md5(f"session-{number}".encode(), usedforsecurity=False).hexdigest()))


def questions(turn: int) -> list[Question]:
    """The questions of a round, so that no cache of an earlier round helps."""
    begin = START + (40 + turn) * DAY
    end = begin + DAY
    day = f"moment > '{begin:%Y-%m-%d}' AND moment < '{end:%Y-%m-%d}'"
    flow, user, session = f"flow-{turn}", f"user-{42 + turn}", session_id(4711 + turn)
    release = f"2026.{turn}"
    return [
        Question("no filter", SessionMetricsQuery(), "true", most=1.5, least=12),
        Question(
            "one day", SessionMetricsQuery(time_filter=TimeFilter(begin, end)), day, most=1.5, least=100
        ),
        Question.of(
            "a property",
            F.properties["Tier"] == "pro",
            "properties['Tier'] = 'pro'",
            column_sql="tier = 'pro'",
            most=0.9,
        ),
        Question.of(
            "a rare property",
            F.properties["Experiment"] == release,
            f"properties['Experiment'] = '{release}'",
            column_sql=f"experiment = '{release}'",
        ),
        Question.of("a session name", F.session_session_name == flow, f"session_name = '{flow}'", most=2),
        Question.of("a session", F.session_session_id == session, f"session_id = '{session}'", most=0.4),
        Question.of("a user", F.user_id == user, f"user_id = '{user}'"),
        Question.of("a status", F.status == 500, "status = 500", most=2),
    ]


def requests_sql(rows: int, sessions: int) -> str:
    """A statement for random requests: a twentieth has no session, and costs have a long tail."""
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
  mapFromArrays(
    arrayConcat(
      ['Environment', 'Tier', 'Feature', 'Release', 'Tenant'],
      if(is_rare, ['Experiment'], []),
      if(has_session, ['{SESSION_ID}', '{SESSION_NAME}', 'Helicone-Session-Path'], [])),
    arrayConcat(
      [['production', 'production', 'staging'][1 + cityHash64(session, 'environment') % 3],
        ['free', 'free', 'free', 'pro'][1 + cityHash64(session, 'tier') % 4],
        concat('feature-', toString(cityHash64(number, 'feature') % 40)),
        concat('2026.', toString(cityHash64(session, 'release') % 60)),
        lower(hex(MD5(toString(cityHash64(session, 'tenant') % 2000))))],
      if(is_rare, [concat('2026.', toString(cityHash64(session, 'experiment') % 10))], []),
      if(has_session,
        [replaceRegexpOne(lower(hex(MD5(concat('session-', toString(session))))),
          '(.{{8}})(.{{4}})(.{{4}})(.{{4}})(.{{12}})', '\\\\1-\\\\2-\\\\3-\\\\4-\\\\5'),
          concat('flow-', toString(cityHash64(session, 'name') % 20)),
          concat('/plan/step-', toString(cityHash64(number, 'path') % 25))], [])
    ))::Map(LowCardinality(String), String) AS properties
FROM (
  SELECT number, cityHash64(number, 'session') % {sessions} AS session,
    cityHash64(number, 'none') % 20 != 0 AS has_session, cityHash64(session, 'rare') % 30 = 0 AS is_rare
  FROM numbers({rows})
)"""


COLUMNS: Final = (
    "request_id, organization_id, request_created_at, latency, prompt_tokens, completion_tokens, status,"
    " cost, model, provider, user_id, properties"
)


class Stage:
    """Both tables of ClickHouse."""

    def __init__(self, driver: ChdbDriver) -> None:
        self.driver = driver
        self.counted = CountingDriver(driver)

    async def engines(self) -> dict[str, Engine]:
        """The engines to compare; like the service, all but one read without FINAL."""
        found = await find_tables(self.driver, SERVICE)
        plain = attrs.evolve(found, requests=found.requests.removesuffix(" FINAL"))
        as_service = attrs.evolve(plain, each_id=plain.session_id, each_name=plain.session_name)
        store = await self._opened()
        return {
            "six": Engine(self.counted, as_service, strategy=six_queries.answer),
            "one": Engine(self.counted, plain),
            "final": Engine(self.counted, found),
            "own": Engine(self.counted, store.tables),
        }

    async def fill(self, rows: int, sessions: int) -> None:
        """Generate the requests, and merge the parts as a server does in time."""
        await self._opened()
        columns = ", ".join(f"{name} {stored}" for name, stored in REQUEST_COLUMNS.items())
        order = "organization_id, provider, model, user_id, request_created_at, request_id"
        own = f"{OWN}.request_response_rmt"
        await self._execute(
            f"CREATE DATABASE {SERVICE}",
            f"""CREATE TABLE {SERVICE}.request_response_rmt (
  {columns}, updated_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(updated_at) PARTITION BY toYYYYMM(request_created_at)
ORDER BY ({order})""",
            f"INSERT INTO {own} ({COLUMNS}) {requests_sql(rows, sessions)}",
            f"INSERT INTO {SERVICE}.request_response_rmt ({COLUMNS}) SELECT {COLUMNS} FROM {own}",
            f"OPTIMIZE TABLE {SERVICE}.request_response_rmt FINAL",
        )
        await update_property_columns(self.driver, OWN)
        await self._execute(f"OPTIMIZE TABLE {own} FINAL")

    async def export(self, parquet: Path) -> None:
        """Write the requests to a file for DuckDB."""
        await self._execute(
            "SELECT session_id, session_name::String AS session_name, request_created_at AS moment, cost,"
            " user_id::String AS user_id, status, properties['Tier'] AS tier,"
            f" properties['Experiment'] AS experiment, properties FROM {OWN}.request_response_rmt"
            f" ORDER BY moment INTO OUTFILE '{parquet}' FORMAT Parquet"
        )

    async def _opened(self) -> Store:
        """The engine's own tables, with what a store knows about them."""
        store = Store(self.driver, OWN)
        await store.open()
        await store.aclose()
        return store

    async def _execute(self, *statements: str) -> None:
        for statement in statements:
            await self.driver.execute(statement)


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    await work()
    return time.process_time() - begun


async def compare(stage: Stage, engines: dict[str, Engine], place: int, duck: Any, rounds: int) -> list[Bar]:
    """The bars of one question."""
    best = dict.fromkeys((*engines, "duck", "duck column"), math.inf)
    read: dict[str, int] = {}
    for first in range(0, 2 * rounds, 2):
        asked = [questions(turn)[place] for turn in (first, first + 1)]
        for name, engine in engines.items():
            if name == "six" and first >= SLOW_ANSWERS:
                continue
            for question in asked:
                before = stage.counted.rows_read
                seconds = await timed(partial(engine.answer, question.query, ORGANIZATION))
                best[name] = min(best[name], seconds)
                read.setdefault(name, stage.counted.rows_read - before)
        for question in asked:
            for name, condition in (("duck", question.sql), ("duck column", question.column_sql)):
                if condition is not None:
                    begun = time.process_time()
                    duck.execute(duck_sql(condition)).fetchall()
                    best[name] = min(best[name], time.process_time() - begun)
    bars = [
        Bar.of(f"{question.name}: six queries, ms", 1000 * best["six"]),
        Bar.of("  the engine, ms", 1000 * best["own"]),
        AtLeast.of("  times as fast, the same table", best["six"] / best["one"], least=5),
        Bar.of("  times as fast, with FINAL", best["six"] / best["final"]),
        AtLeast.of(
            "  times fewer rows read",
            read["six"] / max(read["one"], 1),
            least=9 if read["one"] else None,
        ),
        AtLeast.of("  times as fast, the engine's table", best["six"] / best["own"], least=question.least),
        Bar.of("  the engine over DuckDB", best["own"] / best["duck"], most=question.most),
    ]
    if question.column_sql is not None:
        bars.append(Bar.of("  … with a column in DuckDB", best["own"] / best["duck column"]))
    return bars


@attrs.frozen
class AtLeast(Bar):
    """A figure that must not be smaller than a limit."""

    least: float | None = None

    @classmethod
    def of(cls, name: str, figure: float, *, least: float | None) -> "AtLeast":  # type: ignore[override]
        return cls(name, figure, figure, figure, least=least)

    @property
    def holds(self) -> bool:
        return self.least is None or self.ratio >= self.least * (1 - 1e-9)

    def __str__(self) -> str:
        verdict = (
            "" if self.least is None else f"at least {self.least:g}   {'ok' if self.holds else 'TOO LITTLE'}"
        )
        return f"{self.name:<52} {self.ratio:7.2f}  {'':<16}  {verdict}".rstrip()


def duck_sql(condition: str) -> str:
    """The same figures in DuckDB's SQL, with ten bars of equal width: it has no adaptive histogram."""
    figures = ("requests", "seconds", "dollars")
    cuts = ", ".join(f"quantile_cont({each}, 0.75) AS {each}_high" for each in figures)
    bars = ", ".join(
        f"histogram(least(9, floor(10 * {each} / nullif({each}_high, 0)))) FILTER ({each} <= {each}_high)"
        for each in figures
    )
    averages = ", ".join(f"avg({each})" for each in figures)
    return f"""
WITH sessions AS (
  SELECT count(*) AS requests, date_diff('second', min(moment), max(moment)) AS seconds,
    sum(cost) / 1e9 AS dollars
  FROM requests WHERE {condition} GROUP BY session_id
), cuts AS (SELECT {cuts} FROM sessions)
SELECT {bars}, {averages} FROM sessions, cuts"""


@contextmanager
def in_duckdb(folder: Path, parquet: Path) -> Iterator[Any]:
    """DuckDB with the same requests in the order of time, on one thread."""
    import duckdb  # noqa: PLC0415 - only here

    connection = duckdb.connect(str(folder / "duck.db"))
    try:
        connection.execute("SET threads = 1")
        connection.execute(f"CREATE TABLE requests AS SELECT * FROM read_parquet('{parquet}')")
        connection.execute("CHECKPOINT")
        yield connection
    finally:
        connection.close()


async def run(rows: int, sessions: int, rounds: int, only: int | None = None) -> dict[str, list[Bar]]:
    """The bars of all questions, or of the first ones, for so many requests."""
    with tempfile.TemporaryDirectory(prefix="helicone-sessions-") as name:
        folder = Path(name)
        driver = ChdbDriver(folder / "store", limits=Limits(seconds=None, threads=1))
        await driver.open()
        try:
            stage = Stage(driver)
            await stage.fill(rows, sessions)
            parquet = folder / "requests.parquet"
            await stage.export(parquet)
            engines = await stage.engines()
            with in_duckdb(folder, parquet) as duck:
                return {
                    question.name: await compare(stage, engines, place, duck, rounds)
                    for place, question in enumerate(questions(0)[:only])
                }
        finally:
            await driver.aclose()


# Each with the name of its figure among the bars of `compare`, None for the milliseconds of the six queries.
CURVES: Final = {
    "the service's six queries": None,
    "one scan, the same table": "  times as fast, the same table",
    "one scan, the engine's table": "  times as fast, the engine's table",
}


def seconds_of(bars: list[Bar]) -> dict[str, float]:
    """The seconds of a question for each of the `CURVES`."""
    figures = {bar.name: bar.ratio for bar in bars}
    six = bars[0].ratio / 1000
    return {curve: six if figure is None else six / figures[figure] for curve, figure in CURVES.items()}


def draw(
    directory: Path, by_rows: dict[int, dict[str, float]], by_sessions: dict[int, dict[str, float]]
) -> None:
    """Draw the cost against requests and against sessions."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only here

    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, found, label in zip(panels, (by_rows, by_sessions), ("requests", "sessions"), strict=True):
        for curve, dash, marker in zip(CURVES, ("-", "--", ":"), "os^", strict=True):
            seconds = [each[curve] for each in found.values()]
            axes.plot(list(found), seconds, dash + marker, color="#1b1b1b", label=curve)
        axes.set(xscale="log", yscale="log", xlabel=f"{label}, in millions")
        axes.set_xticks(list(found), [f"{count / MILLION:g}" for count in found], minor=False)
        axes.tick_params(which="minor", labelbottom=False)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds of the processor, no filter")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(directory / "engine.png", dpi=100)


def main() -> int:
    """Print the figures, which must be reached at the largest size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="half a million requests, so rougher figures")
    parser.add_argument("--pictures", type=Path, help="where to draw cost against requests and sessions")
    arguments = parser.parse_args()
    sizes = [MILLION // 2] if arguments.quick else [MILLION, 3 * MILLION, 10 * MILLION]
    by_rows = {}
    code = 0
    for rows in sizes:
        bars = asyncio.run(run(rows, rows // PER_SESSION, rounds=5))
        by_rows[rows] = seconds_of(bars["no filter"])
        code = report(f"{rows:,} requests:", [bar for each in bars.values() for bar in each])
    if arguments.pictures:
        by_sessions = {}
        for sessions in (10_000, 100_000, MILLION):
            bars = asyncio.run(run(3 * MILLION, sessions, rounds=3, only=1))
            by_sessions[sessions] = seconds_of(bars["no filter"])
        draw(arguments.pictures, by_rows, by_sessions)
    return 0 if arguments.quick else code


if __name__ == "__main__":
    sys.exit(main())
