"""Shared by the tests of the embedded engine: a server with its client, rows in tables, and an oracle.

The oracle works the answer of a query out from the rows, one request at a time, and knows nothing of the
engine, of the wire or of SQL. Filters come to it as plain trees: ``(column, operator, constant)``, with a
map's key behind them, ``("and", *trees)``, ``("or", *trees)`` and ``("not", tree)``.
"""

import asyncio
import math
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions import (
    F,
    Filter,
    HeliconeClient,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
    all_of,
    any_of,
)
from helicone_sessions.filters.schema import COLUMNS, Kind
from helicone_sessions.local import LocalServer
from helicone_sessions.local.drivers import Driver
from helicone_sessions.local.query.engine import Engine
from helicone_sessions.local.storage.store import Store
from helicone_sessions.messages.grid_query import GridFigures, GridQuery, grid_figures_from_wire
from tests.local.counting_driver import CountingDriver
from tests.strategies import COMPARISONS, METHODS

# The other tests of the engine are about its SQL and its rules: one set of versions is enough for them.
OF_VERSIONS = ("test_both_ways", "test_chdb", "test_client_on_engine", "test_store_on_disk")

Row = Mapping[str, Any]
Tree = tuple[Any, ...]
Serve = Callable[..., AbstractAsyncContextManager[HeliconeClient]]

NANO = 10**9
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_ID = str(UUID(int=0))
LEVELS = {None: 0.75, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
OPPOSITES = {
    "equals": "not-equals",
    "not-equals": "equals",
    "contains": "not-contains",
    "not-contains": "contains",
    "gt": "lte",
    "lte": "gt",
    "lt": "gte",
    "gte": "lt",
}
UUIDS = ("request_id", "organization_id", "cache_reference_id")
# The values of the table if a row has none; None is null.
MISSING: dict[str, Any] = {
    **dict.fromkeys(
        ("response_created_at", "latency", "time_to_first_token", "prompt_tokens", "completion_tokens")
    ),
    **dict.fromkeys(("target_url", "country_code", "threat")),
    **dict.fromkeys(("prompt_cache_read_tokens", "prompt_cache_write_tokens", "status", "cost"), 0),
    **dict.fromkeys(("model", "provider", "user_id", "request_body", "response_body"), ""),
    **dict.fromkeys(("prompt_id", "prompt_version", "request_referrer"), ""),
    **dict.fromkeys(("cache_enabled", "is_passthrough_billing"), False),
    "cache_reference_id": NO_ID,
    "properties": {},
    "scores": {},
    "assets": [],
    "session_tag": [],
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests for which one Python and one set of versions is enough."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem not in OF_VERSIONS:
            item.add_marker(pytest.mark.once)


def as_kept(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows with what the table holds where they say nothing."""
    return [MISSING | {name: value for name, value in row.items() if value is not None} for row in rows]


class Oracle:
    """The answers to queries about *rows*, which are dicts under the table's column names."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = as_kept(rows)
        self._tags: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            self._tags[session_id_of(row)].update(row["session_tag"])

    def answer(
        self,
        tree: Tree = ("and",),
        *,
        name_contains: str = "",
        time_filter: TimeFilter | None = None,
        p_size: str | None = None,
        use_interquartile: bool | None = None,
        include_unsessioned: bool = True,
    ) -> dict[str, Any]:
        """The answer in the form of `summary`; averages are exact to the twelfth digit, ends wholly."""

        def is_in_scope(row: Row) -> bool:
            is_named = name_contains.lower() in session_name_of(row).lower()
            return is_named and bool(include_unsessioned or session_id_of(row))

        kept = self.requests(tree, time_filter, is_in_scope)
        return expected(kept, LEVELS[p_size], use_interquartile=bool(use_interquartile))

    def requests(
        self,
        tree: Tree = ("and",),
        time_filter: TimeFilter | None = None,
        is_in_scope: Callable[[Row], bool] = lambda _row: True,
    ) -> list[dict[str, Any]]:
        """The requests for which *tree* is true; sessions are the requests in scope at that time."""
        asked = [
            row
            for row in self.rows
            if is_in_scope(row)
            and (time_filter is None or time_filter.start < row["request_created_at"] < time_filter.end)
        ]
        sessions = {name: _totals(rows) for name, rows in _by_session(asked).items()}
        return [row for row in asked if self._holds(tree, row, sessions[session_id_of(row)])]

    def _holds(self, tree: Tree, row: Row, session: Row, *, negated: bool = False) -> bool:
        match tree:
            case ("and" | "or" as word, *parts):
                every = (word == "and") != negated
                return (all if every else any)(
                    self._holds(part, row, session, negated=negated) for part in parts
                )
            case ("not", part):
                return self._holds(part, row, session, negated=not negated)
            case (name, word, value, *key):
                if not negated:
                    return self._condition(name, word, value, key, {**row, **session})
                if COLUMNS[name].kind is Kind.BOOLEAN:
                    return self._condition(name, word, not value, key, {**row, **session})
                if COLUMNS[name].kind is Kind.TIMESTAMP and word == "equals":
                    return any(
                        self._condition(name, side, value, key, {**row, **session}) for side in ("lt", "gt")
                    )
                if value == "__empty__" and word == "equals" and value in COLUMNS[name].sentinels:
                    # The word is read under == only; what is not empty differs from the empty text.
                    value = ""
                return self._condition(name, OPPOSITES[word], value, key, {**row, **session})
        raise AssertionError(tree)

    def _condition(self, name: str, word: str, value: Any, key: list[str], row: Row) -> bool:
        if name in ("assets", "session_tag"):
            several = row["assets"] if name == "assets" else self._tags[session_id_of(row)]
            if word in ("not-equals", "not-contains"):
                return not any(_text(OPPOSITES[word], one, value, words=False) for one in several)
            return any(_text(word, one, value, words=False) for one in several)
        if name == "property_key":
            return value in row["properties"]
        if name == "scores":
            return key[0] in row["scores"] and _text(word, str(row["scores"][key[0]]), value, words=False)
        found = _value(name, key, row)
        if COLUMNS[name].kind in (Kind.TEXT, Kind.MAP):
            if name in UUIDS and word in ("equals", "not-equals"):
                value = _normal(value)
            return _text(word, found, value, words=name != "properties")
        if name in ("cost", "session_total_cost"):
            value = Fraction(Decimal(repr(value)))
        return found is not None and COMPARISONS[word](found, value)

    @staticmethod
    def summary(metrics: SessionMetrics) -> dict[str, float | None]:
        """An answer of the engine in the form that can be compared: totals, ends and averages."""
        found: dict[str, float | None] = {}
        for name in ("session_count", "session_duration", "session_cost"):
            bars = getattr(metrics, name)
            found[f"{name} drawn"] = bars.total
            found[f"{name} from"] = bars[0].range_start if bars else None
            found[f"{name} to"] = bars[-1].range_end if bars else None
            found[f"{name} average"] = getattr(metrics.average, name)
        return found

    @staticmethod
    def built(tree: Tree) -> Filter:
        """The filter that *tree* stands for, made with `F` and its methods."""
        match tree:
            case ("and", *parts):
                return all_of(*map(Oracle.built, parts))
            case ("or", *parts):
                return any_of(*map(Oracle.built, parts))
            case ("not", part):
                return ~Oracle.built(part)
            case (name, word, value, *key):
                column = F[name][key[0]] if key else F[name]
                made: Filter = getattr(column, METHODS[word])(value)
                return made
        raise AssertionError(tree)


def expected(rows: Iterable[Row], level: float, *, use_interquartile: bool) -> dict[str, Any]:
    """Totals and ends of the histograms and the averages, of the requests that count."""
    sessions = list(_by_session(rows).values())
    values: dict[str, list[float]] = {
        "session_count": sorted(Counter((session_id_of(row), session_name_of(row)) for row in rows).values()),
        "session_duration": sorted(_seconds(session) for session in sessions),
        "session_cost": sorted(sum(nano_of(row) for row in session) / NANO for session in sessions),
    }
    result: dict[str, Any] = {}
    for name, ordered in values.items():
        low = quantile(ordered, 1 - level) if use_interquartile else -math.inf
        high = quantile(ordered, level)
        drawn = [value for value in ordered if low <= value <= high]
        # Bars have fractional heights, whose sum is rounded.
        result[f"{name} drawn"] = pytest.approx(len(drawn), rel=1e-12)
        result[f"{name} from"] = min(drawn, default=None)
        result[f"{name} to"] = max(drawn, default=None)
        # By name and id there may be more counts than sessions; the average is by id alone.
        average = math.fsum(ordered) / len(sessions) if sessions else None
        result[f"{name} average"] = average and pytest.approx(average, rel=1e-12, abs=0)
    return result


def quantile(ordered: list[float], level: float) -> float:
    """The quantile by linear interpolation at (n - 1) * level; of nothing it is not a number."""
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * level
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def session_id_of(row: Row) -> str:
    return str(row["properties"].get("Helicone-Session-Id") or "")


def session_name_of(row: Row) -> str:
    return str(row["properties"].get("Helicone-Session-Name") or "")


def nano_of(row: Row) -> int:
    return int(Decimal(str(row["cost"])) * NANO)


def _by_session(rows: Iterable[Row]) -> dict[str, list[Row]]:
    sessions: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sessions[session_id_of(row)].append(row)
    return sessions


def _seconds(rows: list[Row]) -> int:
    whole: list[int] = [(row["request_created_at"] - EPOCH) // timedelta(seconds=1) for row in rows]
    return max(whole) - min(whole)


def _totals(rows: list[Row]) -> dict[str, Any]:
    """The session columns of a session of these requests; null tokens count as 0."""
    sent = sum(row["prompt_tokens"] or 0 for row in rows)
    received = sum(row["completion_tokens"] or 0 for row in rows)
    return {
        "session_total_cost": Fraction(sum(map(nano_of, rows)), NANO),
        "session_prompt_tokens": sent,
        "session_completion_tokens": received,
        "session_total_tokens": sent + received,
        "session_total_requests": len(rows),
        "session_created_at": min(row["request_created_at"] for row in rows),
        "session_latest_request_created_at": max(row["request_created_at"] for row in rows),
    }


def _value(name: str, key: list[str], row: Row) -> Any:
    match name:
        case "properties":
            return row["properties"].get(key[0]) or ""
        case "session_session_id":
            return session_id_of(row)
        case "session_session_name":
            return session_name_of(row)
        case "cost":
            return Fraction(nano_of(row), NANO)
        case "total_tokens":
            parts = (row["prompt_tokens"], row["completion_tokens"])
            return None if None in parts else sum(parts)
        case "cached":
            return row["cache_reference_id"] != NO_ID
        case "helicone-score-feedback":
            feedback = row["scores"].get("helicone-score-feedback")
            return None if feedback is None else feedback == 1
    return row[name]


def _normal(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return text


def _text(word: str, found: str | None, value: str, *, words: bool = True) -> bool:
    if words and value == "null" and word in ("equals", "not-equals"):
        return (found is None) == (word == "equals")
    if found is None:
        return False
    match word:
        case "equals":
            return found == ("" if words and value == "__empty__" else value)
        case "not-equals":
            return found != value
        case "contains":
            return value.lower() in found.lower()
        case "not-contains":
            return value.lower() not in found.lower()
    return _pattern(value, re.IGNORECASE if word == "ilike" else re.NOFLAG).fullmatch(found) is not None


def _pattern(like: str, flags: re.RegexFlag) -> re.Pattern[str]:
    wildcards = {"%": ".*", "_": "."}
    steps = re.findall(r"\\[\\%_]|.", like, re.DOTALL)
    return re.compile(
        "".join(wildcards.get(step) or re.escape(step[-1]) for step in steps), flags | re.DOTALL
    )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of a module whose tests are not async, such as tests with random input."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    """The class that answers queries about rows in plain Python."""
    return Oracle


class Held:
    """Rows in tables of the engine, which can be asked without a server."""

    def __init__(self, driver: Driver, store: Store) -> None:
        self._driver = CountingDriver(driver)
        self._store = store

    async def data_of(self, name: str, query: Any, wire_filter: Any = None, **options: Any) -> Any:
        """The ``data`` of a response to a query for the listing of this name."""
        engine = self.engine(**options)
        listings = engine.listings(self._store.organization_id, wire_filter)
        return await engine.answer_listing(getattr(listings, name)(query))

    async def grid(self, grid: GridQuery, **options: Any) -> GridFigures:
        """The figures of a grid."""
        return grid_figures_from_wire(await self.engine(**options).answer_grid(grid, self.organization_id))

    async def ask(
        self, query: SessionMetricsQuery, wire_filter: Any = None, **options: Any
    ) -> SessionMetrics:
        """The answer of an `Engine` with these options."""
        return await self.engine(**options).answer(query, self._store.organization_id, wire_filter)

    @property
    def rows_read(self) -> int:
        """How many table rows all queries have read so far."""
        return self._driver.rows_read

    def engine(self, **options: Any) -> Engine:
        """A separate engine."""
        return Engine(self._driver, self._store.tables, **options)

    @property
    def organization_id(self) -> UUID:
        """Whose the rows are."""
        return self._store.organization_id


@pytest.fixture(scope="session")
def hold() -> Callable[..., AbstractAsyncContextManager[Held]]:
    """Puts rows into separate tables."""

    @asynccontextmanager
    async def held(rows: Iterable[Row], **options: Any) -> AsyncIterator[Held]:
        from helicone_sessions.local.drivers.chdb import ChdbDriver

        driver = ChdbDriver()
        await driver.open()
        store = Store(driver)
        try:
            await store.open()
            await store.load(rows, **options)
            yield Held(driver, store)
        finally:
            await store.aclose()
            await driver.aclose()

    return held


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Clients, each with its own server of the given rows."""

    @asynccontextmanager
    async def client_of(data: Any = (), **options: Any) -> AsyncIterator[HeliconeClient]:
        async with (
            LocalServer(data, **options) as server,
            HeliconeClient(server.api_key, base_url=server.url, max_retries=0, cautions="ignore") as client,
        ):
            yield client

    return client_of
