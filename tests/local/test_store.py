"""The store: what a load keeps, replaces, rejects and takes back."""

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from helicone_sessions import ConfigurationError
from helicone_sessions.local.drivers import DriverError, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.storage.rows import DEFAULT_ORGANIZATION, Loaded
from helicone_sessions.local.storage.store import Store

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytestmark = pytest.mark.usefixtures("engine_kept_running")

Row = dict[str, Any]

START = datetime(2026, 11, 1, tzinfo=UTC)


class Probe(Store):
    """A store that can be asked what it holds."""

    async def ask(self, columns: str = "count()", source: str | None = None) -> list[list[Any]]:
        text = f"SELECT {columns} FROM {source or self.tables.requests}"  # noqa: S608 - of these tests alone
        return (await self._driver.query(Statement(text))).rows

    async def count(self) -> int:
        return int((await self.ask())[0][0])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of ten rows, so that a few rows are several."""
    monkeypatch.setattr("helicone_sessions.local.storage.rows._BATCH", 10)


@pytest.fixture
async def store() -> AsyncIterator[Probe]:
    """A store in memory, which nothing is in."""
    driver = ChdbDriver()
    await driver.open()
    try:
        store = Probe(driver)
        await store.open()
        yield store
        await store.aclose()
    finally:
        await driver.aclose()


def _row(number: int, **more: Any) -> Row:
    return {
        "request_id": str(UUID(int=number + 1)),
        "request_created_at": START + timedelta(seconds=number),
        **more,
    }


def _rows(count: int, **more: Any) -> list[Row]:
    return [_row(number, **more) for number in range(count)]


BAD = {"request_created_at": START, "cost": "dear"}


async def test_rows_are_counted(store: Probe) -> None:
    """A load tells how many rows it took in, and of what organisation they are."""
    loaded = await store.load(_rows(25))
    assert (25, 0, 0) == (loaded.rows, loaded.replaced, loaded.rejected)
    assert 25 == await store.count()
    assert {DEFAULT_ORGANIZATION} == store.organizations


async def test_requests_without_a_session_are_counted(store: Probe) -> None:
    """The report of a load has the number of its rows without a session id, empty ones among them."""
    rows = [{"request_created_at": START, "session_id": name} for name in ("a", "b", "", None, "a")]
    loaded = await store.load([*rows, {"request_created_at": START}])
    assert loaded.without_session == 3
    assert loaded.remarks()[0].startswith("3 of 6 requests have no session id")
    assert (await store.load(rows[:2])).without_session == 0


async def test_nothing_to_load(store: Probe) -> None:
    """A load of no rows is none."""
    assert 0 == (await store.load([])).rows
    assert frozenset() == store.organizations
    assert DEFAULT_ORGANIZATION == store.organization_id


@pytest.mark.parametrize("later", [0, 1, 40 * 86400, -40 * 86400])
@pytest.mark.parametrize("is_one_load", [True, False])
async def test_sent_again(store: Probe, later: int, is_one_load: bool) -> None:
    """A request that comes again replaces the one there, in the same load or another, at whatever time."""
    moved = [
        row | {"request_created_at": row["request_created_at"] + timedelta(seconds=later), "status": 7}
        for row in _rows(15)
    ]
    if is_one_load:
        loaded = await store.load([*_rows(25), *moved])
        assert (40, 15) == (loaded.rows, loaded.replaced)
    else:
        await store.load(_rows(25))
        loaded = await store.load(moved)
        assert (15, 15) == (loaded.rows, loaded.replaced)
    assert [[25, 25, 15]] == await store.ask("count(), uniqExact(request_id), countIf(status = 7)")
    moments = await store.ask(
        "dateDiff('second', toDateTime64('2026-11-01 00:00:00', 3, 'UTC'), min(request_created_at)),"
        " dateDiff('second', min(request_created_at), max(request_created_at))",
        f"{store.tables.requests} WHERE status = 7",
    )
    assert [[later, 14]] == moments


async def test_last_of_many(store: Probe) -> None:
    """Of a request that comes many times, in one batch and over several, the last counts."""
    times = [5, 3, 9, 3, 1, 7, 3] * 5
    rows = [_row(0, status=place) | {"request_created_at": START + timedelta(days=day)}
            for place, day in enumerate(times)]  # fmt: skip
    loaded = await store.load(rows)
    assert (35, 34) == (loaded.rows, loaded.replaced)
    assert [[34]] == await store.ask("status")


@pytest.mark.parametrize(("limit", "patch"), [(1000, 1000), (5, 1000), (30, 0)])
async def test_whatever_the_sizes(
    store: Probe, monkeypatch: pytest.MonkeyPatch, limit: int, patch: int
) -> None:
    """Replacing does not depend on how many ids are looked up at a time, nor on how rows are deleted."""
    monkeypatch.setattr("helicone_sessions.local.storage.loader._IDS", limit)
    monkeypatch.setattr("helicone_sessions.local.storage.loader._PATCH", patch)
    await store.load(_rows(30, status=1))
    again = [row | {"request_created_at": START - timedelta(days=50), "status": 2} for row in _rows(20)]
    loaded = await store.load([*again, *again[:5]])
    assert (25, 25) == (loaded.rows, loaded.replaced)
    third = await store.load(_rows(35, status=3)[10:])
    assert (25, 20) == (third.rows, third.replaced)
    assert [[1, 0], [2, 10], [3, 25]] == [
        [status, (await store.ask(f"countIf(status = {status})"))[0][0]] for status in (1, 2, 3)
    ]


async def test_random_loads(store: Probe) -> None:
    """Over many loads the store holds what a dict by id would."""
    chance = random.Random(7)  # noqa: S311 - the same rows at every run
    known: dict[int, int] = {}
    for load in range(12):
        rows = []
        replaced = 0
        for _ in range(chance.choice([1, 3, 30])):
            number, status = chance.randrange(40), chance.randrange(10**6)
            replaced += number in known
            known[number] = status
            moment = START + timedelta(days=chance.choice([0, 0, 30, 60]))
            rows.append(_row(number, status=status) | {"request_created_at": moment})
        loaded = await store.load(rows)
        assert (len(rows), replaced) == (loaded.rows, loaded.replaced), load
    found = await store.ask("request_id, status")
    assert sorted(([str(UUID(int=number + 1)), status] for number, status in known.items())) == sorted(found)


async def test_another_organisation_replaces_nothing(store: Probe) -> None:
    """The same id in another organisation is another request."""
    first, second = UUID(int=1), UUID(int=2)
    rows = [row | {"organization_id": each} for row in _rows(12) for each in (first, second)]
    loaded = await store.load(rows, organizations=[first, second])
    again = await store.load([_row(0, organization_id=second)], organizations=[first, second])
    assert (24, 0, 1) == (loaded.rows, loaded.replaced, again.replaced)
    assert [[24, 12]] == await store.ask(f"count(), countIf(organization_id = '{first}')")
    assert {first, second} == store.organizations
    with pytest.raises(ConfigurationError, match="several organisations"):
        _ = store.organization_id


@pytest.mark.parametrize(
    ("allowed", "row", "problem"),
    [
        ([UUID(int=1), UUID(int=2)], {}, "has no organization_id, which is required with 2 organisations"),
        (
            [UUID(int=1), UUID(int=2)],
            {"organization_id": UUID(int=3)},
            "must be one of the 2 organisations",
        ),
        ([UUID(int=1)], {"organization_id": UUID(int=3)}, f"must be {UUID(int=1)}"),
        ([], {}, "has no organization_id"),
    ],
)
async def test_organisations_that_rows_may_name(
    store: Probe, allowed: list[UUID], row: Row, problem: str
) -> None:
    """A row of another organisation than those asked for is refused, as is one that could be of several."""
    with pytest.raises(ConfigurationError, match=problem):
        await store.load([_row(0, **row)], organizations=allowed)


async def test_rows_of_the_one_organisation(store: Probe) -> None:
    """Rows without an organisation are of the one that is asked for, or that the store has."""
    await store.load(_rows(1), organizations=[UUID(int=5)])
    await store.load(_rows(3))
    assert [[3]] == await store.ask(f"countIf(organization_id = '{UUID(int=5)}')")
    with pytest.raises(ConfigurationError, match="row 0, field 'organization_id' must be"):
        await store.load([_row(9, organization_id=UUID(int=6))])


@pytest.mark.parametrize("place", [0, 5, 10, 25, 30])
async def test_a_bad_row_refuses_the_load(store: Probe, place: int) -> None:
    """A load with a bad row keeps and replaces nothing, however many batches came before."""
    await store.load(_rows(20, status=1, session_tag="old", session_id="s"))
    rows = _rows(30, status=2, session_tag="new", session_id="s")
    rows.insert(place, BAD)
    told: list[int] = []
    with pytest.raises(ConfigurationError, match=rf"row {place}, field 'cost' must be a number, got 'dear'"):
        await store.load(rows, on_progress=told.append)
    assert [[20, 20]] == await store.ask("count(), countIf(status = 1)")
    assert [["old"]] == await store.ask("tag", store.tables.tags)
    # The undone load does not affect the next one.
    assert 10 == (await store.load(_rows(30, status=3)[20:])).rows
    assert 30 == await store.count()


async def test_an_error_of_the_data_refuses_the_load(store: Probe) -> None:
    """An exception of the user's generator is raised, and nothing is kept."""

    def rows() -> Iterator[Row]:
        yield from _rows(25)
        raise LookupError("the user's own")

    with pytest.raises(LookupError, match="the user's own"):
        await store.load(rows())
    assert 0 == await store.count()


async def test_an_error_of_progress_refuses_the_load(store: Probe) -> None:
    """An exception of on_progress is raised, and nothing is kept."""

    def refuse(_rows: int) -> None:
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await store.load(_rows(25), on_progress=refuse)
    assert 0 == await store.count()
    assert 25 == (await store.load(_rows(25))).rows


async def _under_way(store: Store, rows: Iterator[Row]) -> asyncio.Task[Loaded]:
    """A load that has taken in a batch."""
    came = asyncio.Event()
    loading = asyncio.create_task(store.load(rows, on_progress=lambda _: came.set()))
    await came.wait()
    return loading


async def test_a_cancelled_load_keeps_nothing(store: Probe) -> None:
    """A load that is cancelled on its way keeps nothing, and the store can be used again."""
    goes_on = threading.Event()

    def rows() -> Iterator[Row]:
        yield from _rows(25)
        goes_on.wait(10)

    task = await _under_way(store, rows())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    goes_on.set()
    assert 0 == await store.count()
    assert 5 == (await store.load(_rows(5))).rows
    assert 5 == await store.count()


class Failing(ChdbDriver):
    """A driver that refuses what begins with a word, and goes no further at another until it may."""

    refused = ""
    times = 1_000_000
    held = ""

    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def execute(self, text: str) -> None:
        if self.refused and text.startswith(self.refused) and self.times:
            self.times -= 1
            raise DriverError("the disk is full", 243)
        if self.held and text.startswith(self.held):
            self.came.set()
            await self.may_go_on.wait()
        await super().execute(text)


@pytest.fixture
async def failing() -> AsyncIterator[Failing]:
    """A driver in memory that can be made to fail."""
    driver = Failing()
    await driver.open()
    try:
        yield driver
    finally:
        driver.refused = ""
        driver.may_go_on.set()
        await driver.aclose()


@pytest.fixture
async def troubled(failing: Failing) -> AsyncIterator[Probe]:
    """A store on it, with twenty rows of status 1."""
    store = Probe(failing)
    await store.open()
    await store.load(_rows(20, status=1))
    yield store
    failing.refused = ""
    failing.may_go_on.set()
    await store.aclose()


@pytest.mark.parametrize("refused", ["ALTER", "DELETE"])
async def test_a_load_that_came_in_is_finished(troubled: Probe, failing: Failing, refused: str) -> None:
    """Where the last step fails, no query is answered until one or another load has finished it."""
    failing.refused = refused
    with pytest.raises(DriverError, match=r"could not be moved.* tries again: the disk is full") as caught:
        await troubled.load(_rows(30, status=2))
    assert 243 == caught.value.code
    with pytest.raises(DriverError, match="the disk is full"):
        async with troubled.reading():
            pytest.fail("the requests are half there")
    with pytest.raises(DriverError, match="the disk is full"):
        await troubled.load([])
    failing.refused = ""
    async with troubled.reading():
        assert [[30, 30]] == await troubled.ask("count(), countIf(status = 2)")
    # A later load is the later one of the two.
    await troubled.load([_row(0, status=3)])
    assert [[30, 29]] == await troubled.ask("count(), countIf(status = 2)")


@pytest.mark.parametrize("refused", ["ALTER", "DELETE"])
async def test_the_last_step_is_tried_twice(troubled: Probe, failing: Failing, refused: str) -> None:
    """Where the last step fails once, the load goes on, and its figures are those of its rows."""
    failing.refused, failing.times = refused, 1
    loaded = await troubled.load(_rows(30, status=2))
    assert (30, 20) == (loaded.rows, loaded.replaced)
    async with troubled.reading():
        assert [[30, 30]] == await troubled.ask("count(), countIf(status = 2)")


async def test_what_is_left_over(troubled: Probe, failing: Failing) -> None:
    """Where what came in cannot be cleared after its move, the load is done, and the next one clears it."""
    failing.refused = "TRUNCATE"
    loaded = await troubled.load(_rows(30, status=2))
    assert (30, 20) == (loaded.rows, loaded.replaced)
    async with troubled.reading():
        assert [[30, 30]] == await troubled.ask("count(), countIf(status = 2)")
    failing.refused = ""
    loaded = await troubled.load([_row(0, status=3)])
    assert (1, 1) == (loaded.rows, loaded.replaced)
    assert [[30, 29]] == await troubled.ask("count(), countIf(status = 2)")


async def test_what_could_not_be_taken_back(troubled: Probe, failing: Failing) -> None:
    """Where a refused load cannot be taken back at once, the next load does it first."""
    failing.refused = "TRUNCATE"
    with pytest.raises(DriverError, match="the disk is full"):
        await troubled.load([*_rows(30), BAD])
    async with troubled.reading():
        assert 20 == await troubled.count()
    failing.refused = ""
    assert 25 == (await troubled.load(_rows(25))).rows
    assert 25 == await troubled.count()


@pytest.mark.parametrize("step", ["DELETE", "ALTER", "TRUNCATE"])
async def test_readers_wait_for_the_last_step(troubled: Probe, failing: Failing, step: str) -> None:
    """Who reads while a load replaces requests sees all of them as before or all as after."""
    failing.held = step
    loading = asyncio.create_task(troubled.load(_rows(30, status=2)))
    await failing.came.wait()

    async def read() -> list[list[Any]]:
        async with troubled.reading():
            return await troubled.ask("count(), countIf(status = 2)")

    reading = asyncio.create_task(read())
    if step == "TRUNCATE":
        # The requests are in their place: the rest of the load holds up nobody.
        assert [[30, 30]] == await reading
    else:
        for _ in range(100):
            await asyncio.sleep(0)
        assert not reading.done()
    failing.may_go_on.set()
    await loading
    assert [[30, 30]] == await reading


async def test_readers_do_not_wait_for_rows(troubled: Probe) -> None:
    """Who reads while a load still comes in is answered, without anything of it."""
    came, goes_on = asyncio.Event(), asyncio.Event()

    async def rows() -> AsyncIterator[Row]:
        for row in _rows(30, status=2):
            yield row
        came.set()
        await goes_on.wait()

    loading = asyncio.create_task(troubled.load(rows()))
    await came.wait()
    async with asyncio.timeout(10), troubled.reading():
        assert [[20, 0]] == await troubled.ask("count(), countIf(status = 2)")
    goes_on.set()
    await loading


@pytest.mark.parametrize("step", ["DELETE", "ALTER", "TRUNCATE"])
async def test_cancelled_in_the_last_step(troubled: Probe, failing: Failing, step: str) -> None:
    """A load that is cancelled, however often, when all has come in is finished with all that it knows."""
    other = UUID(int=77)
    failing.held = step
    rows = [*_rows(30, status=2, organization_id=DEFAULT_ORGANIZATION), _row(99, organization_id=other)]
    allowed = [DEFAULT_ORGANIZATION, other]
    loading = asyncio.create_task(troubled.load(rows, organizations=allowed))
    await failing.came.wait()
    loading.cancel()
    for _ in range(100):
        await asyncio.sleep(0)
    loading.cancel()
    failing.may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert {DEFAULT_ORGANIZATION, other} == troubled.organizations
    async with troubled.reading():
        assert [[31, 30]] == await troubled.ask("count(), countIf(status = 2)")
    # The next rows are later ones.
    await troubled.load([_row(0, status=3)], organizations=[DEFAULT_ORGANIZATION])
    assert [[31, 3]] == await troubled.ask("count(), max(status)")


async def test_closed_while_rows_come() -> None:
    """A store that is closed ends the load in progress, even where its rows never come."""
    driver = ChdbDriver()
    await driver.open()
    store = Store(driver)
    await store.open()
    goes_on = threading.Event()

    def rows() -> Iterator[Row]:
        yield from _rows(10)
        goes_on.wait(60)

    loading = await _under_way(store, rows())
    following = asyncio.create_task(store.load(_rows(3)))
    await asyncio.sleep(0)
    await store.aclose()
    for task in (loading, following):
        with pytest.raises(ConfigurationError, match="the server was stopped before the rows were stored"):
            await task
    goes_on.set()
    await driver.aclose()


async def test_rows_that_are_not_wanted_any_more(store: Probe) -> None:
    """After a cancel no more rows are taken than the one that comes next."""
    goes_on = threading.Event()
    left, taken = threading.Event(), []

    def rows() -> Iterator[Row]:
        try:
            yield from _rows(10)
            for row in _rows(10):
                goes_on.wait(10)
                taken.append(row)
                yield row
        finally:
            left.set()

    loading = await _under_way(store, rows())
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    goes_on.set()
    del loading
    assert await asyncio.to_thread(left.wait, 10)
    assert 1 >= len(taken)


async def test_slow_rows_end_a_batch(store: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends by its time too, so that rows which come slowly are kept soon."""
    monkeypatch.setattr("helicone_sessions.local.storage.rows._BATCH_SECONDS", 0.0)
    told: list[int] = []
    await store.load(_rows(3), on_progress=told.append)
    assert [1, 2, 3] == told


async def test_progress(store: Probe) -> None:
    """on_progress is called after each batch with the rows so far."""
    told: list[int] = []
    await store.load(_rows(25), on_progress=told.append)
    assert [10, 20, 25] == told


async def test_rejects(store: Probe, tmp_path: Path) -> None:
    """With a file of rejects bad rows are counted and written there with their place and reason."""
    rows: list[Any] = _rows(25)
    rows[3] = BAD
    rows[12] = 5
    rows[24] = {"cost": float("nan"), ("a", 1): {1}}
    told: list[int] = []
    loaded = await store.load(rows, rejects=tmp_path / "rejects.jsonl", on_progress=told.append)
    assert (22, 3) == (loaded.rows, loaded.rejected)
    assert [9, 18, 22] == told
    assert 22 == await store.count()
    first, second, third = map(json.loads, (tmp_path / "rejects.jsonl").read_text().splitlines())
    reason = {"where": "row 3", "field": "cost", "reason": "must be a number, got 'dear'"}
    assert {"request_created_at": str(START), "cost": "dear", "_rejected": reason} == first
    assert {"where": "row 12", "field": None, "reason": "must be an object, got 5", "content": 5} == (
        second["_rejected"]
    )
    assert ("nan", "{1}") == (third["cost"], third["('a', 1)"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no file that is always full")
async def test_rejects_on_a_full_disk(store: Probe) -> None:
    """Where the rejects cannot be written any more the load is refused, and nothing of it is kept."""
    with pytest.raises(ConfigurationError, match=r"cannot be written to /dev/full: No space"):
        await store.load([*_rows(25), BAD], rejects="/dev/full")
    assert 0 == await store.count()


@pytest.mark.promise(name="S11")
async def test_rejects_are_private(store: Probe, tmp_path: Path) -> None:
    """Only its owner can read a new file of rejects, and a link is not followed."""
    path, link, target = tmp_path / "rejects.jsonl", tmp_path / "link", tmp_path / "target"
    await store.load([BAD], rejects=path)
    assert 0o600 == path.stat().st_mode & 0o777
    link.symlink_to(target)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="it is a symbolic link"):
            await store.load([BAD], rejects=link)
        assert "precious" == target.read_text() if target.exists() else True
        target.write_text("precious")


async def test_only_rejects(store: Probe, tmp_path: Path) -> None:
    """Data of which no row can be read leaves nothing but the file of rejects."""
    loaded = await store.load([BAD] * 25, rejects=str(tmp_path / "rejects.jsonl"))
    assert (0, 25) == (loaded.rows, loaded.rejected)
    assert 25 == len((tmp_path / "rejects.jsonl").read_text().splitlines())


async def test_rejected_lines_of_a_file(store: Probe, tmp_path: Path) -> None:
    """Lines that are no JSON or no UTF-8 are rejects as they stand."""
    path = tmp_path / "r.jsonl"
    good = b'{"request_created_at": "2026-11-01T12:00:00Z"}\n'
    path.write_bytes(b"\xef\xbb\xbf" + good + b"{oh\n" + b'{"model": "\xff"}\n' + good)
    loaded = await store.load(path, rejects=tmp_path / "rejects.jsonl")
    assert (2, 2) == (loaded.rows, loaded.rejected)
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [("r.jsonl, line 2", "{oh"), ("r.jsonl, line 3", '{"model": "\\xff"}')] == [
        (line["_rejected"]["where"], line["_rejected"]["content"]) for line in lines
    ]


async def test_rejected_rows_of_a_csv_file(store: Probe, tmp_path: Path) -> None:
    """Rows of a CSV file with a stray quote, or with what is not UTF-8, are rejects as they stand."""
    time = b"2026-11-01T12:00:00Z"
    lines = [b"request_created_at,model", time + b',"a\nb"', time + b',"x"y', time + b",\xff", time + b",c"]
    (tmp_path / "r.csv").write_bytes(b"\r\n".join([*lines, time + b',"open\n1,2\n']))
    loaded = await store.load(tmp_path / "r.csv", rejects=tmp_path / "rejects.jsonl")
    assert (2, 3) == (loaded.rows, loaded.rejected)
    lines = (tmp_path / "rejects.jsonl").read_text().splitlines()
    told = [json.loads(line)["_rejected"] for line in lines]
    stamp = time.decode()
    assert [
        ("r.csv, line 4", f'{stamp},"x"y'),
        ("r.csv, line 5", f"{stamp},\\xff"),
        ("r.csv, line 8", f'{stamp},"open\n1,2'),
    ] == [(each["where"], each["content"]) for each in told]
    assert ["is not CSV: ", "is not UTF-8", "is not CSV: "] == [each["reason"][:12] for each in told]
    assert "(the row begins at line 7)" in told[2]["reason"]


async def test_rejects_of_before(store: Probe, tmp_path: Path) -> None:
    """A load without rejects leaves the file of those before as it is; one with some begins it anew."""
    path = tmp_path / "rejects.jsonl"
    path.write_text("of before\n")
    await store.load(_rows(5), rejects=path)
    assert "of before\n" == path.read_text()
    await store.load([BAD] * 12, rejects=path)
    assert 12 == len(path.read_text().splitlines())
    await store.load(_rows(5), rejects=tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


async def test_rejects_in_a_directory(store: Probe, tmp_path: Path) -> None:
    """A directory in the place of the file of rejects is refused with its whole path."""
    with pytest.raises(ConfigurationError, match=f"cannot be written to {tmp_path}: "):
        await store.load(_rows(5), rejects=tmp_path)


async def test_remedy_for_bad_rows(store: Probe) -> None:
    """The error of a load has the remedy that the caller gives."""
    with pytest.raises(ConfigurationError) as caught:
        await store.load([BAD], remedy="Leave it out")
    assert "Leave it out" == caught.value.remedy


async def test_two_stores_of_one_name(store: Probe) -> None:
    """A second store with the tables of another is refused as long as that is open."""
    first, second = Store(store._driver, "kept_once"), Store(store._driver, "kept_once")
    await first.open()
    with pytest.raises(ConfigurationError, match="open in another server"):
        await second.open()
    await second.aclose()
    await first.load(_rows(5))
    await first.aclose()
    await second.open()
    assert {DEFAULT_ORGANIZATION} == second.organizations
    await second.aclose()
    await store._driver.execute("DROP DATABASE kept_once")


async def test_rejects_are_no_data(store: Probe, tmp_path: Path) -> None:
    """The data is not overwritten with its own rejects."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"cost": -1}\n')
    with pytest.raises(ConfigurationError, match=r"is the data itself .*r\.jsonl"):
        await store.load(path, rejects=str(path))
    assert '{"cost": -1}\n' == path.read_text()


async def test_rejects_that_cannot_be_written(store: Probe, tmp_path: Path) -> None:
    """A file of rejects that cannot be made is refused before anything is taken in."""
    with pytest.raises(ConfigurationError, match=r"gone/rejects\.jsonl: there is no such directory"):
        await store.load(_rows(5), rejects=tmp_path / "gone" / "rejects.jsonl")
    assert 0 == await store.count()


async def test_rejects_that_are_nested_too_deeply(store: Probe, tmp_path: Path) -> None:
    """A row that neither JSON nor Python can write out whole is a reject all the same."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    loaded = await store.load([_row(0, cost=nested)], rejects=tmp_path / "rejects.jsonl")
    assert (0, 1) == (loaded.rows, loaded.rejected)
    told = json.loads((tmp_path / "rejects.jsonl").read_text())
    assert ("row 0", "cost") == (told["_rejected"]["where"], told["_rejected"]["field"])
    assert "[[[" in told["cost"]


async def test_names_that_differ(store: Probe) -> None:
    """Columns with another name in the table are reported with it, and unknown ones by name."""
    row = _row(0, delay_ms=5, session_id="s", session_tags=["a"], colour=1, cost=1) | {"scores.a b": 1}
    loaded = await store.load([row])
    assert {
        "delay_ms": "latency",
        "session_id": "properties['Helicone-Session-Id']",
        "session_tags": "session_tag",
        "scores.a b": "scores['a b']",
    } == loaded.mapped
    assert {"colour"} == loaded.ignored


async def test_rows_whose_columns_all_differ(store: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows may have different columns, and all unknown ones are reported."""
    monkeypatch.setattr("helicone_sessions.local.storage.rows._PLANS", 4)
    loaded = await store.load([_row(number) | {f"c{number}": 1} for number in range(12)])
    assert ({f"c{number}" for number in range(12)}, 12) == (loaded.ignored, loaded.rows)


async def test_rows_without_ids(store: Probe, tmp_path: Path) -> None:
    """Rows without ids: a file again replaces, another adds, equal rows of one file count each."""
    row = '{"request_created_at": "2026-11-01T12:00:00Z", "cost": 1}\n'
    for name, content in (("a.jsonl", row * 3), ("b.jsonl", row * 2)):
        (tmp_path / name).write_text(content)
    loads = [await store.load(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "a.jsonl")]
    assert [(3, 0), (2, 0), (3, 3)] == [(each.rows, each.replaced) for each in loads]
    (tmp_path / "a.jsonl").write_text(row.replace("1}", "2}") + row)
    changed = await store.load(tmp_path / "a.jsonl")
    assert (2, 1) == (changed.rows, changed.replaced)
    assert 6 == await store.count()


async def test_live_rows(store: Probe) -> None:
    """Rows that are added one by one are there at once."""
    await store.load(_rows(20))
    for number in range(18, 23):
        loaded = await store.load([_row(number, status=9)])
        assert (1, int(number < 20)) == (loaded.rows, loaded.replaced)
    assert [[23, 5]] == await store.ask("count(), countIf(status = 9)")


async def test_loads_at_the_same_time(store: Probe) -> None:
    """Loads that are started together come one after the other and all count."""
    loads = await asyncio.gather(*(store.load(_rows(15, status=place)) for place in range(4)))
    assert [0, 15, 15, 15] == sorted(each.replaced for each in loads)
    assert [[15, 1]] == await store.ask("count(), uniqExact(status)")


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25])
async def test_asynchronous_rows(store: Probe, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Rows may come from an asynchronous iterable."""
    monkeypatch.setattr("helicone_sessions.local.storage.loader._COLLECTED", 9)

    async def rows() -> AsyncIterator[Row]:
        for row in _rows(count):
            await asyncio.sleep(0)
            yield row

    assert count == (await store.load(rows())).rows == await store.count()


async def test_an_asynchronous_bad_row(store: Probe) -> None:
    """A bad row of an asynchronous iterable is named by its place."""

    async def rows() -> AsyncIterator[Row]:
        for row in [*_rows(12), BAD]:
            yield row

    with pytest.raises(ConfigurationError, match="row 12, field 'cost'"):
        await store.load(rows())
    assert 0 == await store.count()


async def test_long_rows_end_a_batch(store: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends by its size too, so that long bodies do not fill the memory."""
    monkeypatch.setattr("helicone_sessions.local.storage.rows._BATCH_CHARACTERS", 1000)
    told: list[int] = []
    await store.load(_rows(6, request_body="x" * 600), on_progress=told.append)
    assert [2, 4, 6] == told


async def test_more_than_a_hundred_months(store: Probe) -> None:
    """Requests may be of more months than ClickHouse takes in one insert by itself."""
    rows = [row | {"request_created_at": START - timedelta(days=31 * place)}
            for place, row in enumerate(_rows(150))]  # fmt: skip
    assert 150 == (await store.load(rows)).rows == await store.count()


@pytest.mark.parametrize("name", ["", "a b", "1a", "a;b", "a`b", "a" * 65, "ä"])
def test_names_of_databases(name: str) -> None:
    """The name of a database is one that needs no quotes."""
    with pytest.raises(ConfigurationError, match="letters, digits and underscores"):
        Store(None, name)  # type: ignore[arg-type]


async def test_stores_in_memory_are_apart(store: Probe) -> None:
    """Two stores of one engine share nothing, and one that is closed leaves nothing."""
    await store.load(_rows(5))
    other = Probe(store._driver)
    await other.open()
    await other.load(_rows(7))
    assert (5, 7) == (await store.count(), await other.count())
    await other.aclose()
    await other.aclose()
    assert [[0]] == await store.ask(f"countIf(name = '{other._database}')", "system.databases")


@pytest.mark.parametrize(
    ("comment", "remedy"),
    [
        ("helicone-sessions, layout 1", "Rebuild it with `helicone-sessions rebuild --path PATH`"),
        ("helicone-sessions, layout 999", "Use the version that made them, or another path"),
        ("", "Use the version that made them, or another path"),
    ],
)
async def test_a_store_of_another_layout(store: Probe, comment: str, remedy: str) -> None:
    """Tables of another layout are refused with what to do, and are left as they are."""
    await store.load(_rows(5))
    await store._driver.execute(f"ALTER TABLE {store.tables.requests} MODIFY COMMENT '{comment}'")
    with pytest.raises(ConfigurationError) as caught:
        await Store(store._driver, store._database).open()
    assert remedy == caught.value.remedy
    assert 5 == await store.count()


async def test_the_loop_goes_on(store: Probe) -> None:
    """Rows are made on another thread than the loop's."""
    threads: set[int] = set()

    def rows() -> Iterator[Row]:
        for row in _rows(25):
            threads.add(threading.get_ident())
            yield row

    await store.load(rows())
    assert threading.get_ident() not in threads
