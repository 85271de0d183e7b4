"""`Store`: SQL on a store, its results, its limits, and the process that runs it."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
import pytest_asyncio

from helicone_sessions import ConfigurationError
from helicone_sessions.local import Limits, LocalServer, Store
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS

pytest.importorskip("chdb", reason="the embedded engine is not installed")
pytestmark = pytest.mark.asyncio(loop_scope="module")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

SECRET: Final = "sk-helicone-of-the-environment"
ROWS: Final = [
    {
        "request_id": str(UUID(int=number)),
        "request_created_at": f"2026-11-{number:02}T12:00:00.5Z",
        "model": "gpt-4o" if number % 2 else "o3",
        "cost": number / 4,
        "latency": number * 100 if number < 9 else None,
        "properties": {"Helicone-Session-Id": f"s{number % 3}", "plan": "pro"},
    }
    for number in range(1, 11)
]
ENDLESS: Final = """
import asyncio, sys
from helicone_sessions.local import Limits, Store

async def main():
    async with Store(sys.argv[1], limits=Limits(seconds=None), unconfined=True) as store:
        print("open", flush=True)
        await store.sql("SELECT count() FROM system.numbers WHERE sipHash64(number) = 1")

asyncio.run(main())
"""
# Imitates a system without Landlock.
WITHOUT_LANDLOCK: Final = """
import helicone_sessions.local.sql.confinement as confinement
confinement.confine = lambda **_: False
"""


async def filled(directory: Path) -> Path:
    """The directory, with a store of ten requests."""
    async with LocalServer(ROWS, path=directory):
        pass
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a store that each test opens for itself."""
    return await filled(tmp_path_factory.mktemp("closed") / "store")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    """A store that is open."""
    directory = await filled(tmp_path_factory.mktemp("open") / "store")
    async with Store(directory, unconfined=True) as opened:
        yield opened


def names_in(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


def worker_of(path: Path) -> int:
    """The number of the process that runs the statements on this store."""

    def numbers() -> Iterator[int]:
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            words = each.read_bytes().split(b"\0")
            if str(path).encode() in words and b"helicone_sessions.local.sql.worker" in words:
                yield int(each.parent.name)

    return max(numbers())


async def test_a_result_has_rows_and_types(store: Store) -> None:
    """Values are those of the store, under the names and with the types that ClickHouse gives."""
    result = await store.sql(
        "SELECT model, count() AS requests, sum(cost) AS dollars, max(request_created_at) AS latest"
        " FROM requests GROUP BY model ORDER BY dollars DESC"
    )

    assert [
        {
            "model": "o3",
            "requests": 5,
            "dollars": 7.5,
            "latest": datetime(2026, 11, 10, 12, 0, 0, 500_000, UTC),
        },
        {
            "model": "gpt-4o",
            "requests": 5,
            "dollars": 6.25,
            "latest": datetime(2026, 11, 9, 12, 0, 0, 500_000, UTC),
        },
    ] == result.to_rows()
    assert {
        "model": "LowCardinality(String)",
        "requests": "UInt64",
        "dollars": "Float64",
        "latest": "DateTime64(3, 'UTC')",
    } == result.columns
    assert not result.is_cut


async def test_the_table_has_the_columns_of_requests(store: Store) -> None:
    """The columns are those of Helicone's table and two of sessions, and none of the store's own."""
    result = await store.sql("SELECT * FROM requests LIMIT 0")

    assert (*REQUEST_COLUMNS, "session_id", "session_name") == result.column_names


@pytest.mark.parametrize(
    ("limit", "rows", "is_cut"), [(0, 0, True), (3, 3, True), (10, 10, False), (None, 10, False)]
)
async def test_a_limit_cuts_and_reports_it(
    store: Store, limit: int | None, rows: int, *, is_cut: bool
) -> None:
    """The first rows in the order of the statement are returned, and `is_cut` says whether there are more."""
    result = await store.sql("SELECT cost FROM requests ORDER BY cost DESC", limit=limit)

    assert [cost / 4 for cost in range(10, 10 - rows, -1)] == [cost for (cost,) in result.values]
    assert is_cut == result.is_cut


async def test_a_result_as_csv_and_json(store: Store) -> None:
    """Times are ISO 8601, a missing value is an empty field or null, and nested values are JSON."""
    result = await store.sql(
        "SELECT request_created_at AS t, latency, [1, 2] AS a, properties FROM requests ORDER BY t DESC",
        limit=1,
    )

    assert (
        't,latency,a,properties\n2026-11-10T12:00:00.500000+00:00,,"[1, 2]",'
        '"{""Helicone-Session-Id"": ""s1"", ""plan"": ""pro""}"\n'
    ) == result.to_csv()
    assert (
        '[{"t": "2026-11-10T12:00:00.500000+00:00", "latency": null, "a": [1, 2],'
        ' "properties": {"Helicone-Session-Id": "s1", "plan": "pro"}}]'
    ) == result.to_json()


@pytest.mark.parametrize("limit", [None, 0])
async def test_the_types_of_frames_do_not_depend_on_rows(store: Store, limit: int | None) -> None:
    """Numbers and times are numbers and times in frames, also without rows."""
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    result = await store.sql(
        "SELECT toStartOfHour(request_created_at, 'Europe/Berlin') AS hour, latency, status, cost, model,"
        " toDecimal64(cost, 2) AS d, properties FROM requests",
        limit=limit,
    )

    assert ["float64", "int64", "float64", "float64"] == [
        str(result.to_pandas()[name].dtype) for name in ("latency", "status", "cost", "d")
    ]
    assert ["Float64", "Int64", "Float64", "String", "Float64", "String"] == [
        str(kind) for kind in result.to_polars().dtypes[1:]
    ]
    assert str(result.to_polars().dtypes[0]).startswith("Datetime")


async def test_large_integers_are_text_in_frames(store: Store) -> None:
    """A hash does not fit the integers of frames."""
    pytest.importorskip("polars")
    result = await store.sql("SELECT toUInt64(18446744073709551615) AS hash")

    assert [(18446744073709551615,)] == list(result.values)
    assert ["18446744073709551615"] == result.to_polars()["hash"].to_list()


async def test_two_columns_of_one_name_are_refused(store: Store) -> None:
    """A dict could have only one of them."""
    with pytest.raises(ConfigurationError, match="two columns with the name 'count\\(\\)'"):
        await store.sql("SELECT count(), count() FROM requests")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT costs FROM requests", "`costs`"),
        ("SELECT cost FROM request", "Unknown table expression identifier 'request'"),
        ("SELECT cost FROM requests WHERE", "Syntax error"),
        ("DROP TABLE requests", "one SELECT"),
    ],
)
async def test_a_rejected_statement_says_why(store: Store, text: str, problem: str) -> None:
    """The error has ClickHouse's reason without its stack, and the next statement runs."""
    with pytest.raises(ConfigurationError, match=problem) as raised:
        await store.sql(text)

    assert "DB::Exception" not in str(raised.value)
    assert ((10,),) == (await store.sql("SELECT count() FROM requests")).values


async def test_a_limit_that_is_exceeded_is_named(path: Path) -> None:
    """The error names the limit, its value and its unit."""
    limits = Limits(seconds=30, memory=32 * 1024 * 1024)
    async with Store(path, limits=limits, unconfined=True) as store:
        with pytest.raises(ConfigurationError, match=r"limits\.memory is 33554432 bytes"):
            await store.sql("SELECT groupArray(number) FROM numbers(100000000)")


async def test_statements_run_one_after_the_other(store: Store) -> None:
    """Each of several concurrent statements gets its own result."""
    results = await asyncio.gather(*(store.sql(f"SELECT {number} AS n") for number in range(5)))

    assert [((number,),) for number in range(5)] == [result.values for result in results]


async def test_a_cancelled_statement_leaves_no_result(store: Store) -> None:
    """The statement after one that was cancelled gets its own result."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await store.sql("SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1")

    assert ((1,),) == (await store.sql("SELECT 1")).values


@only_linux
@pytest.mark.parametrize(
    ("number", "problem"),
    [(signal.SIGKILL, "ended unexpectedly"), (signal.SIGSTOP, r"limits\.seconds is 2 s")],
)
async def test_a_process_that_dies_or_hangs_is_replaced(
    path: Path, number: signal.Signals, problem: str
) -> None:
    """The statement ends in an error, and the next one runs in a new process."""
    async with Store(path, limits=Limits(seconds=2), unconfined=True) as store:
        os.kill(worker_of(path), number)
        with pytest.raises(ConfigurationError, match=problem):
            await store.sql("SELECT 1")

        assert ((10,),) == (await store.sql("SELECT count() FROM requests")).values


@only_linux
async def test_a_statement_ends_with_its_program(path: Path) -> None:
    """The process of an endless statement does not outlive a program that is killed."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ENDLESS, str(path)), stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    await program.stdout.readline()
    process = os.pidfd_open(worker_of(path))
    program.kill()
    # The descriptor is readable when the process has ended.
    poll = select.poll()
    poll.register(process, select.POLLIN)
    ended = await asyncio.to_thread(poll.poll, 60_000)
    os.close(process)
    await program.wait()

    assert [process] == [descriptor for descriptor, _ in ended]


@only_linux
async def test_the_environment_stays_outside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a statement has none of the variables in which keys are."""
    monkeypatch.setenv("HELICONE_API_KEY", SECRET)
    async with Store(path, unconfined=True):
        environment = await asyncio.to_thread(Path(f"/proc/{worker_of(path)}/environ").read_text)

    assert SECRET not in environment


async def test_a_store_of_a_server_is_in_use(path: Path) -> None:
    """The error names the process that has the store, and how to run the statement."""
    async with LocalServer(path=path):
        with pytest.raises(ConfigurationError, match=rf"another process \({os.getpid()}\)") as raised:
            await Store(path, unconfined=True).__aenter__()

    assert "Stop that process, run the statement, and restart the process" == raised.value.remedy


async def test_a_store_is_free_after_the_block(path: Path) -> None:
    """A server can open the store that statements have read."""
    async with Store(path, unconfined=True) as store:
        await store.sql("SELECT 1")

    async with LocalServer(path=path) as server:
        assert server.url


async def test_without_landlock_a_store_does_not_open(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system that cannot confine the process, `unconfined` has to be passed."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_LANDLOCK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="no Landlock") as raised:
        await Store(path).__aenter__()
    assert raised.value.remedy is not None
    assert "`unconfined`" in raised.value.remedy

    async with Store(path, unconfined=True) as store:
        assert ((10,),) == (await store.sql("SELECT count() FROM requests")).values


async def test_a_store_that_is_not_open_is_refused(path: Path) -> None:
    """Before and after the block there is no process."""
    store = Store(path, unconfined=True)
    with pytest.raises(ConfigurationError, match="the store is closed"):
        await store.sql("SELECT 1")


async def test_a_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    """Neither a missing directory nor one with other files becomes a store."""
    with pytest.raises(ConfigurationError) as caught:
        Store(tmp_path / "missing")
    assert "path" == caught.value.argument
    (tmp_path / "letter.txt").write_text("Dear reader", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"holds other files \(for example 'letter.txt'\)"):
        await Store(tmp_path).__aenter__()
    assert ["letter.txt"] == names_in(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"text": "SELECT '\ud800'"}, "text must be a string of Unicode"),
        ({"text": 5}, "got 5"),
        ({"text": "SELECT 1", "limit": -1}, "limit must be a whole number, 0 or more, got -1"),
        ({"text": "SELECT 1", "limit": True}, "got True"),
    ],
)
async def test_wrong_arguments_are_named(store: Store, arguments: dict[str, object], problem: str) -> None:
    """The error names the argument and the value."""
    with pytest.raises(ConfigurationError, match=problem):
        await store.sql(**arguments)  # type: ignore[arg-type]
