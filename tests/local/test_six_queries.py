"""The queries of the service beside the one scan: the same answers, as far as they can be the same.

ClickHouse's ``quantile`` interpolates as ``a * (1 - share) + b * share``, which of two equal costs can be a
little less than either (7.699999999999999 of 7.7): then the service's cut drops every session of that cost.
The exact quantile of the one scan does not. And an average of costs depends on the order in which they are
added. So costs here are small multiples of a 512th of a dollar, with which doubles reckon exactly; where
they are of any kind no two sessions cost the same, and averages have a tolerance.

``histogram`` depends on the order of its rows from 21 on. Up to there answers are compared byte for byte, as
the JSON that is sent; beyond, the numbers of sessions drawn, the ends and the averages.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pytest

from helicone_sessions import F, SessionMetrics, SessionMetricsQuery
from helicone_sessions.local.drivers import DriverError, Limits, Result, Statement
from helicone_sessions.local.query.contract_sql import Unanswerable
from helicone_sessions.local.query.metrics_sql import OneScan, select
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.converter import converter
from tests.local import six_queries
from tests.local.nasty_rows import NAMES, SESSIONS, Row, rows_of
from tests.local.test_oracle import options_of, tree_of
from tests.local.test_service_semantics import body_of

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

FEW = 20


START = datetime(2026, 11, 1, tzinfo=UTC)


def _rows(chance: random.Random, count: int, sessions: int, costs: range, unit: int) -> list[Row]:
    """Requests of so many pairs of a session's id and name; a cost is a number of *costs* by *unit* nano."""
    ids = [*SESSIONS, *(f"t{number}" for number in range(sessions))]
    pairs = [(chance.choice(ids), chance.choice(NAMES)) for _ in range(sessions)]
    rows = rows_of(chance, count)
    for row in rows:
        properties = {
            key: value for key, value in row["properties"].items() if not key.startswith("Helicone")
        }
        session, name = chance.choice(pairs)
        row["properties"] = {
            **properties,
            **({"Helicone-Session-Id": session} if session else {}),
            **({"Helicone-Session-Name": name} if name else {}),
        }
        if not session:
            # A tag is one of a session.
            row.pop("session_tag", None)
        row["cost"] = Decimal(chance.choice(costs) * unit).scaleb(-9)
    return rows


def dyadic(chance: random.Random, count: int, sessions: int) -> list[Row]:
    """Rows whose costs are small multiples of a 512th of a dollar, many of them equal."""
    return _rows(chance, count, sessions, range(9), 10**9 // 512)


async def _both(held: Any, query: SessionMetricsQuery, wire: Any = None, **options: Any) -> list[Any]:
    """The answers of the one scan and of the six queries, or their errors."""
    answers: list[Any] = []
    for strategy in (OneScan().answer, six_queries.answer):
        try:
            answers.append(await held.ask(query, wire, strategy=strategy, **options))
        except Unanswerable as error:
            answers.append(str(error))
        except DriverError as error:
            answers.append(error.code)
    return answers


def _asked(chance: random.Random, oracle: Any) -> tuple[SessionMetricsQuery, Any, dict[str, Any]]:
    """Any query, with its filter's JSON, and any options of an engine."""
    options = {
        "semantics": chance.choice(["contract", "helicone"]),
        "include_unsessioned": chance.choice([True, False]),
    }
    if options["semantics"] == "contract":
        tree = tree_of(chance, chance.choice([1, 1, 2, 4]))
        return SessionMetricsQuery(oracle.built(tree), **options_of(chance)), None, options
    body = body_of(chance, chance.choice([0, 1, 2]))
    return converter.structure(body, SessionMetricsQuery), body.get("filter"), options


def _sent(answer: Any) -> str:
    return json.dumps(converter.unstructure(answer) if isinstance(answer, SessionMetrics) else answer)


def _near(oracle: Any, answer: Any) -> Any:
    """Totals, ends and averages with a tolerance."""
    if not isinstance(answer, SessionMetrics):
        return answer
    summary = oracle.summary(answer).items()
    return {name: value if value is None else pytest.approx(value, rel=1e-9) for name, value in summary}


def _summary(oracle: Any, answer: Any) -> Any:
    return oracle.summary(answer) if isinstance(answer, SessionMetrics) else answer


@pytest.fixture(scope="module")
def many(runner: asyncio.Runner, hold: Any) -> Iterator[Any]:
    """Tables that hold 1200 requests of 300 sessions."""
    holding = hold(dyadic(random.Random(300), 1200, 300))  # noqa: S311 - no secret
    yield runner.run(holding.__aenter__())
    runner.run(holding.__aexit__(None, None, None))


@pytest.mark.parametrize("seed", range(6))
async def test_up_to_twenty_sessions(hold: Any, oracle: Any, seed: int) -> None:
    """Up to twenty sessions the two plans answer the same, byte for byte, whatever is asked."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    async with hold(dyadic(chance, chance.choice([0, 1, 5, 60, 60]), FEW)) as held:
        for _ in range(3):
            query, wire, options = _asked(chance, oracle)
            one_scan, six = await _both(held, query, wire, **options)
            assert _sent(one_scan) == _sent(six)


@pytest.mark.parametrize("seed", range(2))
async def test_all_of_few_sessions(hold: Any, seed: int) -> None:
    """The same of all sessions, at every cut."""
    async with hold(dyadic(random.Random(seed), 100, FEW)) as held:  # noqa: S311 - no secret
        for p_size in ("p50", "p75", "p95", "p99", "p99.9"):
            for use_interquartile in (False, True):
                query = SessionMetricsQuery(p_size=p_size, use_interquartile=use_interquartile)
                one_scan, six = await _both(held, query)
                assert _sent(one_scan) == _sent(six)


@pytest.mark.parametrize("seed", range(2))
async def test_costs_of_any_kind(hold: Any, seed: int) -> None:
    """Histograms are the same for costs of any kind too, and averages to the last digits."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    async with hold(_rows(chance, 50, FEW, range(1, 10**11), 1)) as held:
        for p_size in ("p50", "p75", "p95", "p99", "p99.9"):
            one_scan, six = await _both(held, SessionMetricsQuery(p_size=p_size))
            assert one_scan.session_cost == six.session_cost
            assert pytest.approx(one_scan.average.session_cost, rel=1e-12) == six.average.session_cost


@pytest.mark.parametrize("seed", range(12))
def test_many_sessions(runner: asyncio.Runner, many: Any, oracle: Any, seed: int) -> None:
    """Of many sessions the two plans draw as many, between the same ends, with the same averages."""
    query, wire, options = _asked(random.Random(seed), oracle)  # noqa: S311 - no secret
    one_scan, six = runner.run(_both(many, query, wire, **options))
    assert _near(oracle, one_scan) == _summary(oracle, six)


def test_all_of_many_sessions(runner: asyncio.Runner, many: Any, oracle: Any) -> None:
    """The same of all of them."""
    one_scan, six = runner.run(_both(many, SessionMetricsQuery(p_size="p95", use_interquartile=True)))
    assert 250 < one_scan.session_count.total
    assert _near(oracle, one_scan) == oracle.summary(six)


def one_name_each(count: int) -> list[Row]:
    """Requests of sessions that have one name each."""
    return [
        {
            "request_created_at": START + timedelta(seconds=number),
            "cost": number / 512,
            "session_id": f"s{number % 40}",
            "session_name": f"n{number % 40 % 3}",
        }
        for number in range(count)
    ]


async def test_rows_read(hold: Any) -> None:
    """The service's queries read the table nine times, the one scan once."""
    async with hold(one_name_each(1200)) as held:
        before = held.rows_read
        await held.ask(SessionMetricsQuery(F.status != 7), strategy=OneScan().answer)
        assert 1200 == held.rows_read - before
        await held.ask(SessionMetricsQuery(F.status != 7), strategy=six_queries.answer)
        assert 10 * 1200 == held.rows_read - before


def oracle_rows(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows with their session in the properties, as the oracle looks for it."""
    names = {"session_id": "Helicone-Session-Id", "session_name": "Helicone-Session-Name"}
    return [{**row, "properties": {key: row[name] for name, key in names.items()}} for row in rows]


@pytest.mark.parametrize("is_known", [True, False])
async def test_sessions_of_several_names(hold: Any, oracle: Any, is_known: bool) -> None:
    """A session counts once for each name; if the tables do not tell, one more scan finds out, once."""
    rows = one_name_each(400)
    other = {**rows[0], "session_name": "other", "model": "o3"}
    async with hold([*rows, other]) as held:
        engine = held.engine()
        if not is_known:
            engine = attrs.evolve(engine, tables=attrs.evolve(engine.tables, has_several_names=None))
        expected = oracle(oracle_rows([*rows, other])).answer()
        plain = SessionMetricsQuery(F.model != "o3")
        read = []
        for query in (plain, SessionMetricsQuery(), SessionMetricsQuery(), plain):
            before = held.rows_read
            metrics = await engine.answer(query, held.organization_id)
            read.append(held.rows_read - before)
            assert (oracle(oracle_rows(rows)).answer() if query is plain else expected) == oracle.summary(
                metrics
            )
    assert [401, 401 if is_known else 802, 401, 401] == read


async def test_no_sessions(hold: Any) -> None:
    """Of nothing the two plans answer the same: no bars, and no averages."""
    async with hold([]) as held:
        assert [SessionMetrics.empty()] * 2 == await _both(held, SessionMetricsQuery())


class Refusing:
    """A driver that answers histograms, and refuses an average while another one still runs."""

    def __init__(self) -> None:
        self.ended = 0

    async def open(self) -> None:
        raise NotImplementedError

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:  # noqa: ARG002
        if "avg(" not in statement.text:
            return Result([])
        if "count()" in statement.text:
            raise DriverError("no memory left", 241)
        await asyncio.sleep(0)
        self.ended += 1
        return Result([[1.0]])

    async def aclose(self) -> None:
        raise NotImplementedError


async def test_refused_average() -> None:
    """If one of the queries is refused, that is the answer once none of them runs any more."""
    driver, query = Refusing(), SessionMetricsQuery()
    selection = select(query, Tables.own("d"), UUID(int=1))
    with pytest.raises(DriverError, match=r"^no memory left$"):
        await six_queries.answer(driver, selection, query)
    assert 2 == driver.ended
