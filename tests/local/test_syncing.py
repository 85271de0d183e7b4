"""Copies of an account: each request once, whatever the service does and whenever the sync ends."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from helicone_sessions import (
    AuthenticationError,
    ConfigurationError,
    HeliconeClient,
    SessionMetricsQuery,
    SyncReport,
    TimeFilter,
    sync,
    syncing,
)
from helicone_sessions.local import LocalServer
from helicone_sessions.local.dataset import opened_store
from helicone_sessions.local.drivers import rows_of
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.store_files import CHECKPOINT_FILE
from helicone_sessions.messages.query import RequestCountQuery, RequestsQuery
from helicone_sessions.report import metrics_grid
from helicone_sessions.testing import (
    FakeHelicone,
    Fault,
    Reply,
    Traps,
    failure,
    gateway_page,
    metrics,
    request,
)

pytest.importorskip("chdb", reason="the extra `local` is not installed")

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRAPS = Traps(
    numbers_as_text=True, repeats_rows=True, shuffles_ties=True, drops_fractions=True, slow_above=400
)
# `nox -s kills` kills a larger sync, and oftener.
REQUESTS = int(os.environ.get("HELICONE_SESSIONS_SYNC_REQUESTS", "3000"))
KILLS = 5 if REQUESTS < 100_000 else 20
AIM = max(200, REQUESTS // 20)
MODELS = ("gpt-4o", "o3", "claude-opus-4")


def account(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Requests at uneven times, many at the same millisecond, in sessions."""
    chance = random.Random(seed)  # noqa: S311 - the same requests at every run
    moment = START
    made = []
    for number in range(count):
        moment += timedelta(milliseconds=chance.choice([0, 0, 1, 400, 9_000, 90_000]))
        made.append(
            request(
                str(UUID(int=number + 1 + seed * 1_000_000)),
                created_at=moment,
                session_id=f"s{chance.randrange(count // 10 + 1)}",
                model=chance.choice(MODELS),
                cost=chance.randrange(1000) / 1000,
                delay_ms=chance.randrange(5000),
            )
        )
    return made


@pytest.fixture
async def fake() -> AsyncIterator[FakeHelicone]:
    async with FakeHelicone() as server:
        yield server


@pytest.fixture
async def client(fake: FakeHelicone) -> AsyncIterator[HeliconeClient]:
    async with HeliconeClient(fake.api_key, base_url=fake.url) as made:
        yield made


def page_conditions(fake: FakeHelicone) -> list[str]:
    """The filters of the pages that were requested."""
    return [str(one.query.filter) for one in fake.requests if isinstance(one.query, RequestsQuery)]


async def stored(path: Path, column: str = "request_id") -> list[Any]:
    """A column of the requests of a store."""
    async with opened_store(path) as store:
        found = await rows_of(store._driver, f"SELECT {column} FROM {store.tables.requests}")  # noqa: S608
        return sorted(value for (value,) in found)


async def test_a_sync_after_kills_has_every_request_once(tmp_path: Path) -> None:
    """With kills, faults, traps and a rate limit requests are stored once, and metrics are right."""
    chance = random.Random(1)  # noqa: S311 - the same moments at every run
    faults = [gateway_page(502), gateway_page(500), failure("too many simultaneous queries"), *Fault]
    faults = [fault for fault in faults if fault not in (Fault.STALL, Fault.GOES_STALE)]

    async def unreliable(_request: object) -> Any:
        return chance.choice(faults) if chance.random() < 0.15 else metrics()

    with FakeHelicone(traps=TRAPS, strict=False) as fake:
        fake.stored_requests = account(REQUESTS)
        fake.otherwise(unreliable)
        fake.limit(requests=100, per=1)
        for _ in range(KILLS):
            step = chance.randrange(20, 150 + AIM // 40)
            assert await asyncio.to_thread(_killed, tmp_path, fake.url, step)
        assert not await asyncio.to_thread(_killed, tmp_path, fake.url, 0)
        fake.requests.clear()
        assert not await asyncio.to_thread(_killed, tmp_path, fake.url, 0)
        again = page_conditions(fake)
        expected = fake.stored_requests
    # The second sync has requested the time from the newest request on.
    newest = expected[-1]["request_created_at"][:19]
    assert {"request_created_at >= "} == {condition[:22] for condition in again}
    assert newest == min(condition[22:41] for condition in again)
    assert len(again) < 50
    assert sorted(one["request_id"] for one in expected) == await stored(tmp_path)
    async with (
        LocalServer(path=tmp_path) as server,
        HeliconeClient(server.api_key, base_url=server.url) as local,
    ):
        await _compare(local, expected)


async def _compare(local: HeliconeClient, expected: list[dict[str, Any]]) -> None:
    """Compare metrics, lists and totals with those of the requests, worked out in plain Python."""
    time = TimeFilter(START - MINUTE, datetime.now(UTC))
    sessions = defaultdict(list)
    for one in expected:
        sessions[one["request_properties"]["Helicone-Session-Id"]].append(one)
    values = {
        "session_count": [len(group) for group in sessions.values()],
        "session_duration": [_seconds(group[0], group[-1]) for group in sessions.values()],
        "session_cost": [sum(one["cost"] for one in group) for group in sessions.values()],
    }
    found = await local.get_metrics(p_size="p95")
    for name, each in values.items():
        assert getattr(found.average, name) == pytest.approx(fmean(each), rel=1e-9)
        # The largest session at or below the quantile.
        largest = sorted(each)[int(0.95 * (len(each) - 1))]
        assert getattr(found, name).quantile(0.95) == pytest.approx(largest, rel=1e-9)
    count = await local.count_sessions(time_filter=time)
    assert count.count == len(sessions)
    assert count.total_cost == pytest.approx(sum(values["session_cost"]), rel=1e-9)

    listed = {one.session_id: one for one in await local.get_sessions(time_filter=time, limit=None)}
    assert listed.keys() == sessions.keys()
    for name, group in sessions.items():
        session = listed[name]
        assert session.created_at == datetime.fromisoformat(group[0]["request_created_at"])
        assert session.latest_request_created_at == datetime.fromisoformat(group[-1]["request_created_at"])
        assert (session.total_requests, session.total_tokens) == (len(group), 150 * len(group))
        assert session.total_cost == pytest.approx(sum(one["cost"] for one in group), rel=1e-9)
        assert session.avg_latency == pytest.approx(fmean(one["delay_ms"] for one in group), rel=1e-9)
    ids = [one["request_id"] async for one in local.stream_requests()]
    assert sorted(ids) == sorted(one["request_id"] for one in expected)

    grid = await metrics_grid(local, SessionMetricsQuery(time_filter=time), by="model")
    for model in MODELS:
        some = [one for one in expected if one["model"] == model]
        (cell,) = grid[model]
        sums = cell.sums
        assert sums is not None
        assert sums.requests == len(some)
        assert sums.dollars == pytest.approx(sum(one["cost"] for one in some), rel=1e-9)


def _seconds(first: dict[str, Any], last: dict[str, Any]) -> int:
    """The boundaries of seconds between two requests."""
    begin, end = (datetime.fromisoformat(one["request_created_at"][:19]) for one in (first, last))
    return int((end - begin).total_seconds())


def _killed(path: Path, address: str, step: int) -> bool:
    """Whether a sync was killed at a step of its work, rather than completed."""
    program = str(Path(__file__).with_name("killed_sync.py"))
    arguments = [str(path), str(step), address, str(AIM)]
    done = subprocess.run([sys.executable, program, *arguments], check=False)
    assert done.returncode in (0, -9)
    return done.returncode == -9


async def test_a_second_sync_reads_the_overlap_only(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """After a complete sync the next one requests the hour before it, and replaces its requests."""
    now = datetime.now(UTC)
    fake.stored_requests = [request(created_at=now - 10 * MINUTE * number) for number in range(1, 100)]
    first = await sync(client, tmp_path)
    assert (first.requests, first.replaced, first.since) == (99, 0, None)
    fake.requests.clear()
    second = await sync(client, tmp_path)
    assert (second.requests, second.replaced) in ((5, 5), (6, 6))
    assert second.since is not None
    assert abs(now - syncing.OVERLAP - second.since) < 5 * MINUTE
    assert all(str(second.since.year) in condition for condition in page_conditions(fake))
    assert len(fake.requests) < 8
    assert len(await stored(tmp_path)) == 99


async def test_late_requests_are_copied(tmp_path: Path, fake: FakeHelicone, client: HeliconeClient) -> None:
    """A request that the service stores up to an hour late is in the next sync."""
    now = datetime.now(UTC)
    fake.stored_requests = [request(created_at=now - MINUTE)]
    await sync(client, tmp_path)
    fake.stored_requests = [*fake.stored_requests, request(created_at=now - 55 * MINUTE)]
    report = await sync(client, tmp_path)
    assert (report.requests, report.replaced) == (2, 1)


async def test_an_earlier_since_copies_what_is_missing(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """An earlier start copies the time before, and not again the time that is covered."""
    now = datetime.now(UTC)
    fake.stored_requests = [request(created_at=now - timedelta(days=day)) for day in range(1, 60)]
    assert (await sync(client, tmp_path, since=now - timedelta(days=9.5))).requests == 9
    report = await sync(client, tmp_path, since=now - timedelta(days=29.5))
    assert (report.requests, report.replaced) == (20 + 1, 1)
    report = await sync(client, tmp_path)
    assert (report.requests, report.replaced) == (30 + 1, 1)
    assert len(await stored(tmp_path)) == 59


async def test_until_ends_the_copy(tmp_path: Path, fake: FakeHelicone, client: HeliconeClient) -> None:
    """Requests at the end or after it are not copied until a later sync includes them."""
    fake.stored_requests = account(50)
    middle = datetime.fromisoformat(fake.stored_requests[25]["request_created_at"]).replace(microsecond=0)
    before = [
        one for one in fake.stored_requests if datetime.fromisoformat(one["request_created_at"]) < middle
    ]
    report = await sync(client, tmp_path, until=middle)
    assert (report.requests, report.until) == (len(before), middle)
    await sync(client, tmp_path)
    assert len(await stored(tmp_path)) == 50


async def test_a_wrong_clock_loses_nothing(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this machine's clock is ahead, requests that are made later are copied all the same."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=5)

    now = datetime.now(UTC)
    fake.stored_requests = [request(created_at=now - 2 * MINUTE)]
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "datetime", Ahead)
        await sync(client, tmp_path)
    fake.stored_requests = [*fake.stored_requests, request(created_at=now - MINUTE)]
    await sync(client, tmp_path)
    assert len(await stored(tmp_path)) == 2


async def test_an_account_without_requests(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """An empty account is copied at once, and its first request by the next sync."""
    assert (await sync(client, tmp_path)).requests == 0
    assert len(fake.requests) < 6
    fake.stored_requests = [request(created_at=START)]
    assert (await sync(client, tmp_path)).requests == 1


async def test_periods_have_a_suitable_length(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Periods grow over quiet times and shrink over busy ones."""
    monkeypatch.setattr(syncing, "_AIM", 100)
    quiet = [request(created_at=START + timedelta(days=day)) for day in range(200)]
    busy = [request(created_at=START + timedelta(days=200, seconds=second)) for second in range(0, 9000, 5)]
    fake.stored_requests = [*quiet, *busy]
    report = await sync(client, tmp_path)
    assert report.requests == 2000
    assert 18 <= report.periods <= 60


async def test_a_period_that_takes_too_long_is_halved(tmp_path: Path, fake: FakeHelicone) -> None:
    """If even single requests of a period time out, shorter periods are tried."""

    async def slow(received: Any) -> Any:
        times = [leaf for leaf in received.conditions if "request_created_at" in str(leaf)]
        return (
            metrics()
            if times and received.json["limit"] and _length(received) < 31 * MINUTE
            else (gateway_page(504))
        )

    def _length(received: Any) -> timedelta:
        ends = sorted(set(_moments(received.json["filter"])))
        return datetime.fromisoformat(ends[-1]) - datetime.fromisoformat(ends[0])

    fake.answers(lambda query: isinstance(query, RequestsQuery) and query.sort == "asc", slow)
    start = datetime.now(UTC) - timedelta(hours=6)
    fake.stored_requests = [request(created_at=start + 10 * MINUTE * number) for number in range(36)]
    async with HeliconeClient(fake.api_key, base_url=fake.url, max_retries=0) as client:
        report = await sync(client, tmp_path, since=start - MINUTE)
    assert report.requests - report.replaced == 36


def _moments(wire: Any) -> list[str]:
    """The texts that are times, anywhere in a filter."""
    if isinstance(wire, dict):
        return [text for part in wire.values() for text in _moments(part)]
    return [wire] if isinstance(wire, str) and wire.startswith("20") else []


async def test_costs_that_differ_are_counted(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """`cost` is stored, as the service's metrics sum it, and the report counts where `costUSD` differs."""
    fake.stored_requests = [
        request(cost=0.5, costUSD=0.25),
        request(cost=0.125, costUSD=0.125),
        request(cost=None, costUSD=2.0),
    ]
    report = await sync(client, tmp_path)
    assert report.cost_differences == 1
    assert await stored(tmp_path, "cost / 1e9") == [0.125, 0.5, 2.0]


async def test_requests_that_cannot_be_stored_are_skipped(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """The report counts skipped requests by reason, without their values."""
    fake.stored_requests = [request(), request("no uuid"), request(delay_ms="soon"), request(delay_ms="late")]
    report = await sync(client, tmp_path)
    assert report.requests == 1
    assert report.skipped == {"'request_id' cannot be read": 1, "'delay_ms' cannot be read": 2}


async def test_bodies_are_not_stored(tmp_path: Path, fake: FakeHelicone, client: HeliconeClient) -> None:
    """Bodies in the rows, which are mostly placeholders, are left out."""
    fake.stored_requests = [request(request_body={"messages": []}, response_body="text")]
    await sync(client, tmp_path)
    assert await stored(tmp_path, "concat(request_body, response_body)") == [""]


async def test_bodies_are_read_from_their_addresses(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """With bodies=True they come from the signed addresses or, as the service prefers, from the rows."""
    contents = {
        "text": {"request": "hi", "response": "hello"},
        "json": {"request": {"n": 1}, "response": [1, "\ud800"]},
        "number": {"request": 5, "response": None},
    }

    async def answer(received: web.Request) -> web.Response:
        assert "Authorization" not in received.headers
        return web.json_response(contents[received.match_info["name"]])

    app = web.Application()
    app.router.add_get("/{name}", answer)
    placeholder = {"request_body": "placeholder", "response_body": "placeholder"}
    async with TestServer(app, host="127.0.0.1") as storage:
        addresses = [str(storage.make_url(name)) for name in [*contents, "unknown"]]
        fake.stored_requests = [
            *(
                request(signed_body_url=address, storage_location="s3", **placeholder)
                for address in addresses[:3]
            ),
            request(signed_body_url="http://storage.example/body", **placeholder),
            request(signed_body_url=None, **placeholder),
            request(storage_location="clickhouse", request_body="kept", response_body={"is": "kept"}),
        ]
        report = await sync(client, tmp_path, bodies=True)
    assert report.requests == 6
    assert report.skipped == {"bodies: an address without https": 1, "bodies: no address": 1}
    assert await stored(tmp_path, "concat(request_body, '|', response_body)") == [
        "5|",
        "hi|hello",
        'kept|{"is":"kept"}',
        '{"n":1}|[1,"?"]',
        "|",
        "|",
    ]


async def test_bodies_are_loaded_in_bounded_parts(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load has no more bodies than fit into the memory that is set for them."""
    monkeypatch.setattr(syncing, "_MOST_BYTES", 1000)
    sizes: list[int] = []
    load = Store.load

    async def counted(store: Store, data: Any, **options: Any) -> Any:
        rows = list(data)
        sizes.append(len(rows))
        return await load(store, rows, **options)

    async def answer(_received: web.Request) -> web.Response:
        return web.json_response({"request": "x" * 100})

    monkeypatch.setattr(Store, "load", counted)
    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app, host="127.0.0.1") as storage:
        fake.stored_requests = [{**one, "signed_body_url": str(storage.make_url("/"))} for one in account(90)]
        assert (await sync(client, tmp_path, bodies=True)).requests == 90
    assert sum(sizes) == 90
    assert max(sizes) <= 20


async def test_two_organizations_in_one_store(tmp_path: Path) -> None:
    """Accounts with the same times and ids stay apart, each with its own checkpoint."""
    ids = [UUID(int=1), UUID(int=2)]
    for number, organization in enumerate(ids):
        async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
            fake.stored_requests = account(20 + number)
            report = await sync(client, tmp_path, organization_id=organization)
            assert (report.requests, report.replaced) == (20 + number, 0)
    keys = {"sk-one": ids[0], "sk-two": ids[1]}
    async with LocalServer(path=tmp_path, api_key=keys) as server:
        for number, key in enumerate(keys):
            async with HeliconeClient(key, base_url=server.url) as local:
                assert await local.count_requests() == 20 + number


async def test_a_store_of_several_organizations_needs_a_name(tmp_path: Path, client: HeliconeClient) -> None:
    """Without a name a sync into a store of several organisations is refused."""
    async with opened_store(tmp_path) as store:
        for number in (1, 2):
            row = {"request_created_at": START, "organization_id": str(UUID(int=number))}
            await store.load([row], organizations={UUID(int=number)})
    with pytest.raises(ConfigurationError, match="several organisations") as caught:
        await sync(client, tmp_path)
    assert caught.value.argument == "organization_id"


async def test_progress(tmp_path: Path, fake: FakeHelicone, client: HeliconeClient) -> None:
    """Progress begins with the number to copy, and ends with all copied."""
    fake.stored_requests = account(30)
    told: list[tuple[int, int | None]] = []
    await sync(client, tmp_path, on_progress=lambda *numbers: told.append(numbers))
    assert told[0] == (0, 30)
    assert told[-1] == (30, 30)


async def test_a_service_that_does_not_count(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient
) -> None:
    """Without a count the total is unknown, and all requests are copied."""
    fake.answers(lambda query: isinstance(query, RequestCountQuery), Reply(404, "no such path"))
    fake.stored_requests = account(30)
    totals: set[int | None] = set()
    await sync(client, tmp_path, on_progress=lambda _done, total: totals.add(total))
    assert totals == {None}
    assert len(await stored(tmp_path)) == 30


async def test_a_wrong_key_ends_a_sync(tmp_path: Path, fake: FakeHelicone) -> None:
    """A key that the service rejects is an error at once."""
    async with HeliconeClient("sk-wrong", base_url=fake.url) as client:
        with pytest.raises(AuthenticationError):
            await sync(client, tmp_path)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_running_server_is_kept_current(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient, in_thread: bool
) -> None:
    """A sync into a server makes it answer from the new requests, and has the checkpoint of its directory."""
    fake.stored_requests = account(30)
    async with LocalServer(path=tmp_path, in_thread=in_thread) as server:
        assert (await sync(client, server)).requests == 30
        async with HeliconeClient(server.api_key, base_url=server.url) as local:
            assert await local.count_requests() == 30
    report = await sync(client, tmp_path)
    assert (report.requests, report.replaced) == (1, 1)


async def test_a_server_in_memory_is_refused(client: HeliconeClient) -> None:
    """A server without a directory has no place for the checkpoint."""
    async with LocalServer() as server:
        with pytest.raises(ConfigurationError, match="in memory"):
            await sync(client, server)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001 - without a zone on purpose
        ({"since": "90d"}, "since"),
        ({"until": 5}, "until"),
        ({"since": datetime(2999, 1, 1, tzinfo=UTC)}, "since"),
        ({"since": START, "until": START}, "since"),
        ({"organization_id": "acme"}, "organization_id"),
    ],
)
async def test_arguments_are_checked(
    tmp_path: Path, client: HeliconeClient, options: dict[str, Any], argument: str
) -> None:
    """A wrong argument is named before anything is opened."""
    with pytest.raises(ConfigurationError) as caught:
        await sync(client, tmp_path / "new", **options)
    assert caught.value.argument == argument
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{", b'{"%s": {"covered": 5}}'])
async def test_a_damaged_checkpoint_reads_all_again(
    tmp_path: Path, fake: FakeHelicone, client: HeliconeClient, damage: bytes
) -> None:
    """Without a readable checkpoint everything is copied again, and replaces itself."""
    fake.stored_requests = account(10)
    await sync(client, tmp_path)
    file = tmp_path / CHECKPOINT_FILE
    (organization,) = json.loads(file.read_bytes())
    file.write_bytes(damage.replace(b"%s", organization.encode()))
    report = await sync(client, tmp_path)
    assert (report.requests, report.replaced) == (10, 10)


def test_the_report_is_a_value() -> None:
    """Reports with equal parts are equal."""
    make: Callable[[], SyncReport] = lambda: SyncReport(1, 0, {}, 0, None, START, 1)  # noqa: E731
    assert make() == make()
