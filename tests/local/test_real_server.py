"""Cautions and the engine's reading, held to what the open-source server really answered.

Its own code of July 2026 was run over ClickHouse 26.9 with 72 requests of nasty values; the file beside the
tests holds these, some 3,200 filters with the requests that each selects, and whole answers.
"""

import asyncio
import gzip
import json
import math
import re
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from helicone_sessions import Filter
from helicone_sessions.filters.cautions import DataGaps, data_cautions
from helicone_sessions.filters.schema import SESSIONS
from helicone_sessions.local import LocalServer, dataset
from helicone_sessions.local.drivers import DriverError, Statement
from helicone_sessions.local.http.service_form import Invalid, read_query
from helicone_sessions.local.query.contract_sql import Parameters
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.query.service_sql import service_condition
from helicone_sessions.local.storage import value_parsers
from helicone_sessions.local.storage.fields import Form
from tests.local import six_queries

FILE = Path(__file__).parents[1] / "data" / "real_server_answers.jsonl.gz"
RECORDED = [json.loads(line) for line in gzip.decompress(FILE.read_bytes()).splitlines()]
FILTERS = [each for each in RECORDED if each["kind"] == "filter"]
ANSWERS = [each for each in RECORDED if each["kind"] == "answer"]
# These depend on the version of ClickHouse, on the age of the requests, and on their values.
DEPENDS = {"version", "age", "missing"}
# Filters that are tried in one statement.
AT_ONCE = 40


def rows() -> list[dict[str, Any]]:
    """The requests, as a user would load them."""
    (tags,) = [dict(each["tags"]) for each in RECORDED if each["kind"] == "tags"]
    loaded = []
    for recorded in (each for each in RECORDED if each["kind"] == "row"):
        row = {name: value for name, value in recorded.items() if name not in ("kind", "i", "nanodollars")}
        row["organization_id"] = RECORDED[0]["organization_id"]
        row["cost"] = str(Decimal(recorded["nanodollars"]).scaleb(-9))
        row["session_tag"] = tags.pop(row["properties"].get("Helicone-Session-Id"), [])
        loaded.append(row)
    return loaded


RECORDED_ROWS = [each for each in RECORDED if each["kind"] == "row"]
ROWS = rows()
NUMBERS = {row["request_id"]: number for number, row in enumerate(ROWS)}


def conditions(wire: Any) -> Iterator[tuple[str, str, str, Any]]:
    """Of each leaf the table, the column, the operator and the constant."""
    if "operator" in wire:
        yield from conditions(wire["left"])
        yield from conditions(wire["right"])
        return
    ((table, columns),) = wire.items()
    ((name, below),) = columns.items()
    if name in ("properties", "search_properties", "scores"):
        (below,) = below.values()
    ((operator, constant),) = below.items()
    yield table, name, operator, constant


def effects(recorded: dict[str, Any]) -> set[str]:
    """The effects of the cautions of a recorded filter."""
    return {caution.effect for caution in Filter.from_wire(recorded["wire"]).cautions()}


# Cautions


def test_what_is_read_differently_has_a_caution() -> None:
    """Every filter with which the server fails or selects other requests has a caution."""
    different = [each for each in FILTERS if each["matched"] is None or "meant" in each]
    assert len(different) > 1000
    assert [] == [each["wire"] for each in different if not effects(each) - {"missing"}]


@pytest.mark.parametrize(("column", "stored"), [("cost", 0), ("status", 0), ("model", "")])
def test_what_matches_missing_values_is_said_to(column: str, stored: object) -> None:
    """A single condition is cautioned exactly if the server selects a request with the stored 0 or ""."""
    missing = {
        number
        for number, row in enumerate(RECORDED_ROWS)
        if row[{"cost": "nanodollars"}.get(column, column)] == stored
    }
    gaps = DataGaps(some=frozenset({column}))
    tried = 0
    for each in FILTERS:
        if "operator" in each["wire"] or each["status"] != 200 or "meant" in each:
            continue
        ((_, name, operator, constant),) = conditions(each["wire"])
        # A pattern that matches everything, and a value that names the missing ones, are not cautioned.
        if name == column and operator not in ("like", "ilike") and constant not in ("", "__empty__", "null"):
            tried += 1
            cautioned = {
                caution.effect for caution in data_cautions(Filter.from_wire(each["wire"]).node, gaps)
            }
            assert ("missing" in cautioned) == bool(missing & set(each["matched"])), each["wire"]
    assert tried > 30


def test_what_fails_is_said_to_fail() -> None:
    """A single condition has a caution that it fails if the server fails with it, and only then."""
    single = [each for each in FILTERS if "operator" not in each["wire"]]
    assert len(single) > 2000
    assert [] == [each["wire"] for each in single if ("fails" in effects(each)) != (each["status"] != 200)]


def may_differ(table: str, name: str, operator: str, constant: Any) -> bool:
    """Whether the server's reading of a condition differs from the contract's on some requests."""
    if table == SESSIONS:
        return name != "session_tag" or operator in ("contains", "not-equals", "not-contains")
    if isinstance(constant, bool):
        return name == "helicone-score-feedback" and not constant
    if isinstance(constant, (int, float)):
        sent = constant * 1e9 if name == "cost" else constant
        is_cut = name == "cost" and sent != math.floor(sent)
        return is_cut or (sent == math.floor(sent) and not -(2**31) <= sent < 2**31)
    if name.endswith("_created_at"):
        return not constant.endswith(".000Z")
    if name == "scores":
        return not re.fullmatch("0|-?[1-9][0-9]*", constant)
    return constant == "__empty__" or constant.endswith("\\")


def test_what_is_read_alike_has_no_caution() -> None:
    """A filter with which the server selects the same has no caution, unless that is a coincidence."""
    alike = [each for each in FILTERS if each["status"] == 200 and "meant" not in each]
    assert len(alike) > 1500
    false_alarms = []
    for each in alike:
        suspects = {condition[1] for condition in conditions(each["wire"]) if may_differ(*condition)}
        for caution in Filter.from_wire(each["wire"]).cautions():
            is_known = caution.column in suspects or (not caution.column and suspects)
            if caution.effect not in DEPENDS and not is_known:
                false_alarms.append(str(caution))
    assert [] == false_alarms


# The engine


@contextmanager
def any_quantity() -> Iterator[None]:
    """Load negative quantities too, which the recorded rows have and a load refuses."""
    with pytest.MonkeyPatch.context() as patched:
        for form in (Form.COUNT, Form.MILLISECONDS):
            patched.setitem(value_parsers._PARSERS, form, value_parsers._PARSERS[Form.STATUS])
        yield


@pytest.fixture(scope="module")
def engine(runner: asyncio.Runner, hold: Any) -> Iterator[Engine]:
    """An engine that holds the requests and reads filters as the server does."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    holding = hold(ROWS)
    with any_quantity():
        held = runner.run(holding.__aenter__())
    yield held.engine(semantics="helicone")
    runner.run(holding.__aexit__(None, None, None))


async def selected(engine: Engine, wires: list[Any]) -> list[list[int] | int | None]:
    """Of each filter the requests that it selects, or the number of ClickHouse's error."""
    parameters = Parameters()
    found = [service_condition(wire, parameters, engine.tables).text for wire in wires]
    columns = ", ".join(f"groupArrayIf(request_id, {condition})" for condition in found)
    try:
        text = f"SELECT {columns} FROM {engine.tables.requests}"  # noqa: S608 - the engine's own words
        result = await engine.driver.query(Statement(text, parameters.values))
    except DriverError as error:
        if len(wires) == 1:
            return [error.code]
        middle = len(wires) // 2
        return [*await selected(engine, wires[:middle]), *await selected(engine, wires[middle:])]
    return [sorted(NUMBERS[request] for request in column) for column in result.rows[0]]


@pytest.mark.once
def test_every_filter_selects_the_same_requests(runner: asyncio.Runner, engine: Engine) -> None:
    """With every filter the engine selects what the server selects, or fails with the same error."""
    taken, refused = [], []
    for each in FILTERS:
        body = {"nameContains": "", "timezoneDifference": 0, "filter": each["wire"]}
        try:
            taken.append((each, read_query(json.dumps(body).encode()).wire_filter))
        except Invalid:
            refused.append(each)
    assert refused == [each for each in FILTERS if each["status"] == 422]

    async def all_of_them() -> list[Any]:
        wires = [wire for _, wire in taken]
        parts = [wires[start : start + AT_ONCE] for start in range(0, len(wires), AT_ONCE)]
        return [found for part in parts for found in await selected(engine, part)]

    different = []
    for (each, _), found in zip(taken, runner.run(all_of_them()), strict=True):
        # The engine's table has no index over the values of scores, which is what refuses them there.
        code = {170: 53}.get(each.get("code"), each.get("code"))
        if found != (code if each["matched"] is None else each["matched"]):
            different.append((each["wire"], found))
    assert [] == different


def is_near(recorded: Any, found: Any) -> bool:
    """Whether JSON is the same, in the same order of keys, with numbers equal to twelve digits."""
    if isinstance(recorded, dict):
        return list(recorded) == list(found) and all(
            is_near(recorded[name], found[name]) for name in recorded
        )
    if isinstance(recorded, list):
        return len(recorded) == len(found) and all(map(is_near, recorded, found))
    if isinstance(recorded, (int, float)):
        return math.isclose(recorded, found, rel_tol=1e-12)
    return bool(recorded == found)


@pytest.mark.once
@pytest.mark.parametrize("strategy", ["one scan", "six queries"])
async def test_every_body_has_the_same_answer(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every recorded body the server of this package answers what the real one answers."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    if strategy == "six queries":
        monkeypatch.setattr(dataset, "Engine", partial(Engine, strategy=six_queries.answer))
    different = []
    server = LocalServer(ROWS, semantics="helicone")
    with any_quantity():
        await server.start()
    async with (
        aclosing(server),
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {server.api_key}"}) as session,
    ):
        for each in ANSWERS:
            async with session.post("/v1/session/metrics/query", json=each["body"]) as answer:
                found = await answer.json()
            if answer.status == 422:
                # The recorded answer is without them.
                assert found.pop("details")
            if (each["status"], True) != (answer.status, is_near(each["answer"], found)):
                different.append((each["body"], answer.status, found))
    assert len(ANSWERS) > 100
    assert [] == different
