"""The rows of a running server: later additions, their organisations, and their store."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from helicone_sessions import ConfigurationError, F, HeliconeClient, QueryFailed
from helicone_sessions.local import LocalServer
from helicone_sessions.local.storage.table import create_statements
from tests.local.clickhouse_server import ClickHouseServer, execute

pytest.importorskip("chdb", reason="the extra `local` is not installed")

TIME = "2026-11-01T12:00:00Z"
ONE, OTHER, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)
KEYS = {"sk-one": ONE, "sk-other": str(OTHER)}
ROWS = "/v1/rows"


def row(cost: float, **fields: Any) -> dict[str, Any]:
    return {"request_created_at": TIME, "cost": cost, "session_id": f"s{cost}"} | fields


@asynccontextmanager
async def served(data: Any = (), **options: Any) -> AsyncIterator[tuple[LocalServer, aiohttp.ClientSession]]:
    async with LocalServer(data, **options) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with aiohttp.ClientSession(server.url, headers=headers) as session:
            yield server, session


async def posted(session: aiohttp.ClientSession, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(ROWS, data=data, headers=headers) as answer:
        return answer.status, await answer.json()


async def costs(server: LocalServer, key: str = "", *asked: Any) -> tuple[float, float | None]:
    """How many sessions the key's owner has, and the mean of their dollars."""
    async with HeliconeClient(key or server.api_key, base_url=server.url, max_retries=0) as client:
        found = await client.get_metrics(*asked, p_size="p99.9") if asked else await client.get_metrics()
        every = await client.get_metrics(p_size="p99.9")
    # Each is of one request, so that no quantile cuts any.
    return sum(bar.value for bar in every.session_count), found.average.session_cost


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([row(1), row(3)]).encode(),
        b"\n".join(json.dumps(each).encode() for each in (row(1), row(3))),
        b"\r\n \r\n" + b"\r\n".join(json.dumps(each).encode() for each in (row(1), row(3))) + b"\r\n\r\n",
        b" \n" + json.dumps([row(1), row(3)], indent=1).encode(),
    ],
    ids=["list", "lines", "lines with empty ones", "list over lines"],
)
async def test_rows_are_added(body: bytes) -> None:
    """Rows that are posted, as a list or line by line, are in the next answer."""
    async with served() as (server, session):
        status, answer = await posted(session, body)
        assert (200, None) == (status, answer["error"])
        assert (2, 0) == (answer["data"]["rows"], answer["data"]["replaced"])
        assert (2.0, 2.0) == await costs(server)


async def test_nothing_to_add() -> None:
    """A body without rows adds none."""
    async with served([row(1)]) as (server, session):
        for body in (b"[]", b"", b"\n"):
            status, answer = await posted(session, body)
            assert (200, 0) == (status, answer["data"]["rows"])
        assert (1.0, 1.0) == await costs(server)


async def test_rows_that_replace() -> None:
    """A row with the id of an earlier one takes its place, and the answer says so."""
    async with served([row(1, request_id=str(UUID(int=7)))]) as (server, session):
        status, answer = await posted(session, [row(5, request_id=str(UUID(int=7)))])
        assert (200, 1, 1) == (status, answer["data"]["rows"], answer["data"]["replaced"])
        assert (1.0, 5.0) == await costs(server)


async def test_rows_without_an_id_are_new_ones() -> None:
    """Rows without an id are different requests, even if they are equal."""
    async with served([row(1)]) as (server, session):
        for _ in range(2):
            await posted(session, [row(1), row(1, request_id=None)])
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            assert 5.0 == (await client.get_metrics()).average.session_count


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(1) | {"cost": "dear"}, r"row 2, field 'cost' .*'dear'"),
        ({"cost": 1}, "row 2 has no request_created_at"),
        (5, "row 2 must be an object, got 5"),
        (None, "row 2 must be an object, got null"),
        (row(1, organization_id=str(THIRD)), "row 2, field 'organization_id' must be"),
        (row(1, request_id="none"), "row 2, field 'request_id'"),
        (row(1, session_id="\ud800"), "row 2, field 'session_id'"),
    ],
    ids=str,
)
async def test_bad_row_keeps_none(bad: object, message: str) -> None:
    """A row that cannot be read is named, and none of those beside it is kept."""
    async with served([row(1)]) as (server, session):
        status, answer = await posted(session, [row(2), row(3), bad])
        assert (400, {"error"}) == (status, set(answer))
        with pytest.raises(ValueError, match=message):
            raise ValueError(answer["error"])
        assert (1.0, 1.0) == await costs(server)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "line 1 is not JSON"),
        (json.dumps(row(1)).encode() + b"\n{]", "line 2 is not JSON"),
        (b"[", "row 0 is not JSON: it has no end"),
        (b"[" * 100_000, "row 0 has more than 75,000 values"),
        (b'[{"cost": NaN}]', "row 0 is not JSON"),
        (b'"text"', "row 0 must be an object"),
        (b"\xff", "line 1 is not JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_body_that_holds_no_rows(body: bytes, message: str) -> None:
    """A body that is neither a list nor lines of JSON is refused with the place."""
    async with served() as (_, session):
        status, answer = await posted(session, body)
        assert 400 == status
        assert answer["error"].startswith(message)


async def test_rows_are_added_from_python() -> None:
    """Rows are added in Python too, and told in the same figures."""
    async with served([row(1)]) as (server, _):
        assert 1 == (await server.add(iter([row(3)]))).rows
        assert (2.0, 2.0) == await costs(server)
        with pytest.raises(ConfigurationError, match="row 0 has no request_created_at"):
            await server.add([{}])
    with pytest.raises(ConfigurationError, match=r"is not running|was stopped"):
        await server.add([row(3)])


async def test_many_add_at_once() -> None:
    """Rows of many callers at once are all kept."""
    async with served() as (server, session):
        answers = await asyncio.gather(*(posted(session, [row(number)]) for number in range(1, 21)))
        assert {200} == {status for status, _ in answers}
        assert (20.0, 10.5) == await costs(server)


@pytest.mark.promise(name="S3")
async def test_adding_needs_the_key() -> None:
    """Nobody adds rows without the key."""
    async with served() as (server, session):
        status, _ = await posted(session, [row(1)], Authorization="Bearer wrong")
        assert 401 == status
        assert (0, None) == await costs(server)


# Several organisations


@pytest.mark.promise(name="S9")
async def test_organisations_do_not_see_each_other() -> None:
    """Each key only sees the rows and tags of its organisation, whatever the query."""
    rows = [
        row(1, organization_id=str(ONE), session_tag="of one"),
        row(2, organization_id=str(OTHER), session_tag="of the other"),
        row(4, organization_id=str(OTHER)),
    ]
    async with served(rows, api_key=KEYS) as (server, _):
        assert "sk-one" == server.api_key
        assert (1.0, 1.0) == await costs(server, "sk-one")
        assert (2.0, 3.0) == await costs(server, "sk-other")
        assert (1.0, None) == await costs(server, "sk-one", F.session_tag == "of the other")
        assert (2.0, 2.0) == await costs(server, "sk-other", F.session_tag == "of the other")
        assert (1.0, None) == await costs(server, "sk-one", F.organization_id == str(OTHER))
        assert (1.0, 1.0) == await costs(server, "sk-one", (F.organization_id == str(OTHER)) | (F.cost > 0))


@pytest.mark.promise(name="S9")
async def test_rows_belong_to_whose_key_adds_them() -> None:
    """Rows are added to the caller's organisation; rows that name another one are refused."""
    async with served(api_key=KEYS) as (server, session):
        assert 200 == (await posted(session, [row(1), row(3, organization_id=str(ONE).upper())]))[0]
        assert 200 == (await posted(session, [row(8)], Authorization="Bearer sk-other"))[0]
        for named in (OTHER, THIRD):
            status, answer = await posted(session, [row(5, organization_id=str(named))])
            assert 400 == status
            assert str(named) in answer["error"]
        assert (2.0, 2.0) == await costs(server, "sk-one")
        assert (1.0, 8.0) == await costs(server, "sk-other")


async def test_same_id_in_two_organisations() -> None:
    """A request is replaced within its organisation alone."""
    ids = {"request_id": str(UUID(int=7))}
    async with served([row(1, organization_id=str(ONE), **ids)], api_key=KEYS) as (server, session):
        await posted(session, [row(5, **ids)], Authorization="Bearer sk-other")
        assert (1.0, 1.0) == await costs(server, "sk-one")
        assert (1.0, 5.0) == await costs(server, "sk-other")


async def test_whose_rows_from_python() -> None:
    """Where there are several organisations, rows from Python say whose they are, or the call does."""
    async with served(api_key=KEYS) as (server, _):
        await server.add([row(1)], organization_id=str(ONE))
        await server.add([row(3, organization_id=str(OTHER)), row(5, organization_id=str(OTHER))])
        with pytest.raises(ConfigurationError, match="row 0 has no organization_id"):
            await server.add([row(9)])
        with pytest.raises(ConfigurationError, match="row 0, field 'organization_id'"):
            await server.add([row(9, organization_id=str(THIRD))])
        assert (1.0, 1.0) == await costs(server, "sk-one")
        assert (2.0, 4.0) == await costs(server, "sk-other")


@pytest.mark.parametrize("options", [{"organization_id": ONE}, {"api_key": KEYS}, {}])
async def test_rows_that_nobody_could_ask_for(options: dict[str, Any]) -> None:
    """Rows of an organisation that the server does not answer for are refused, and it goes on."""
    async with served([row(1, organization_id=str(ONE))], **options) as (server, _):
        with pytest.raises(ConfigurationError, match=rf"organization_id.*{THIRD}"):
            await server.add([row(3)], organization_id=THIRD)
        await server.add([row(5)], organization_id=ONE)
        assert (2.0, 3.0) == await costs(server)


async def test_two_organisations_at_once() -> None:
    """Of rows of two organisations that come together to an empty server, one alone has it."""
    async with served() as (server, _):
        adding = [server.add([row(each.int)], organization_id=each) for each in (ONE, OTHER)]
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        assert 1 == sum(isinstance(each, ConfigurationError) for each in outcomes)
        assert 1.0 == (await costs(server))[0]


async def test_queries_beside_rows_that_replace() -> None:
    """A query that runs while rows replace others sees all of them as before or all as after."""
    ids = [{"request_id": str(UUID(int=number + 1))} for number in range(300)]
    # Of several months, which are several inserts.
    rows = [
        {"request_created_at": f"2026-{number % 9 + 1:02}-01T12:00:00Z", **each}
        for number, each in enumerate(ids)
    ]
    seen = set()
    async with served([each | {"cost": 1} for each in rows]) as (server, _):
        adding = True

        async def ask() -> None:
            async with HeliconeClient(server.api_key, base_url=server.url) as client:
                while adding:
                    average = (await client.get_metrics()).average
                    seen.add((average.session_count, average.session_cost))

        asking = [asyncio.create_task(ask()) for _ in range(3)]
        for cost in range(2, 7):
            await server.add([each | {"cost": cost} for each in rows])
        adding = False
        await asyncio.gather(*asking)
    assert seen <= {(300.0, 300.0 * cost) for cost in range(1, 7)}, seen


async def test_data_of_an_organisation_without_a_key() -> None:
    """Data of an organisation that no key speaks for is refused at the start."""
    with pytest.raises(ConfigurationError, match=f"row 0, field 'organization_id' must be .* got {THIRD}"):
        await LocalServer([row(1, organization_id=str(THIRD))], api_key=KEYS).start()


async def test_named_organisation() -> None:
    """The organisation that is named answers, and takes the rows that name none."""
    async with served([row(1)], organization_id=OTHER) as (server, session):
        assert 200 == (await posted(session, [row(3, organization_id=str(OTHER))]))[0]
        assert 400 == (await posted(session, [row(3, organization_id=str(ONE))]))[0]
        assert (2.0, 2.0) == await costs(server)


async def test_first_rows_name_the_organisation() -> None:
    """An empty server belongs to the organisation of the first rows that it is given."""
    async with served() as (server, session):
        assert 200 == (await posted(session, [row(3, organization_id=str(THIRD))]))[0]
        assert (1.0, 3.0) == await costs(server)
        assert 400 == (await posted(session, [row(3, organization_id=str(ONE))]))[0]


# Where they are kept


async def test_path_keeps_rows(tmp_path: Path) -> None:
    """Rows in a directory, loaded or added, are there at the next start, and are not loaded twice."""
    data = [row(1, request_id=str(UUID(int=7)))]
    async with served(data, path=tmp_path / "store") as (server, session):
        await posted(session, [row(3)])
        assert (2.0, 2.0) == await costs(server)
    async with served(path=tmp_path / "store") as (server, _):
        assert 0 == server.loaded.rows
        assert (2.0, 2.0) == await costs(server)
    async with served(data, path=tmp_path / "store") as (server, _):
        assert (1, 1) == (server.loaded.rows, server.loaded.replaced)
        assert (2.0, 2.0) == await costs(server)


async def test_one_server_for_a_path(tmp_path: Path) -> None:
    """A second server on the path of another is refused, and the first goes on."""
    async with served([row(1)], path=tmp_path) as (server, session):
        with pytest.raises(ConfigurationError, match="open in another server"):
            await LocalServer([row(5)], path=tmp_path).start()
        assert 200 == (await posted(session, [row(3)]))[0]
        assert (2.0, 2.0) == await costs(server)
    async with served(path=tmp_path) as (server, _):
        assert (2.0, 2.0) == await costs(server)


async def test_start_that_is_cancelled(tmp_path: Path) -> None:
    """If the start is cancelled during a load into a path, the reported rows are there at the next start."""
    told, came, goes_on = [], asyncio.Event(), threading.Event()

    def progress(rows: int) -> None:
        told.append(rows)
        came.set()

    def rows() -> Iterator[dict[str, Any]]:
        yield from (row(1, request_id=str(UUID(int=number + 1))) for number in range(25_000))
        goes_on.wait(60)

    starting = asyncio.create_task(LocalServer(rows(), path=tmp_path, on_progress=progress).start())
    await came.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    goes_on.set()
    async with served(path=tmp_path) as (server, _):
        assert told[-1] == (await costs(server))[1]


async def test_nothing_of_it_is_shown() -> None:
    """The parts of the server do not show the data or a password."""
    made = LocalServer(clickhouse="http://u:sekret@localhost:8123/x")
    assert "sekret" not in repr(vars(made))
    assert "prompt" not in repr(vars(LocalServer([row(1, request_body="prompt")])))


async def test_path_with_several_organisations(tmp_path: Path) -> None:
    """Where a directory holds several organisations, one has to be named."""
    rows = [row(1, organization_id=str(ONE)), row(3, organization_id=str(OTHER))]
    async with served(rows, api_key=KEYS, path=tmp_path):
        pass
    with pytest.raises(ConfigurationError, match=rf"several organisations \({ONE}, {OTHER}\)"):
        await LocalServer(path=tmp_path).start()
    async with served(organization_id=OTHER, path=tmp_path) as (server, _):
        assert (1.0, 3.0) == await costs(server)


async def test_rejects(tmp_path: Path) -> None:
    """With a file for them, rows that cannot be read do not end the load."""
    rejects = tmp_path / "rejects.jsonl"
    async with served([row(1), {"cost": 5}], rejects=rejects) as (server, _):
        assert (1, 1) == (server.loaded.rows, server.loaded.rejected)
    assert 1 == len(rejects.read_text().splitlines())


# A ClickHouse that is there already


@asynccontextmanager
async def clickhouse(*organizations: UUID) -> AsyncIterator[str]:
    """The address of a ClickHouse with a request of each organisation, of as many dollars as its number."""
    async with ClickHouseServer() as server:
        url = server.url()
        for statement in create_statements("prod"):
            await execute(url, statement)
        for organization in organizations:
            row = {"organization_id": str(organization), "cost": organization.int * 10**9}
            row |= {"request_id": str(organization), "request_created_at": "2026-11-01 12:00:00"}
            await execute(url, f"INSERT INTO prod.request_response_rmt FORMAT JSONEachRow {json.dumps(row)}")
        try:
            yield server.url(database="prod")
        finally:
            await execute(url, "DROP DATABASE prod")


async def test_clickhouse_answers() -> None:
    """The tables of a ClickHouse with one organisation are asked as they are."""
    async with clickhouse(THIRD) as url, served(clickhouse=url) as (server, session):
        assert (1.0, 3.0) == await costs(server)
        status, answer = await posted(session, [row(1)])
        assert 400 == status
        assert "existing ClickHouse" in answer["error"]
        with pytest.raises(ConfigurationError, match="existing ClickHouse"):
            await server.add([row(1)])


async def test_clickhouse_with_several_organisations() -> None:
    """Where a ClickHouse holds several organisations one is named, or each key names its own."""
    async with clickhouse(ONE, OTHER) as url:
        with pytest.raises(ConfigurationError, match="several organisations") as caught:
            await LocalServer(clickhouse=url).start()
        assert str(ONE) in str(caught.value)
        assert "organization_id" in str(caught.value)
        async with served(clickhouse=url, organization_id=OTHER) as (server, _):
            assert (1.0, 2.0) == await costs(server)
        async with served(clickhouse=url, api_key=KEYS) as (server, _):
            assert (1.0, 1.0) == await costs(server, "sk-one")
            assert (1.0, 2.0) == await costs(server, "sk-other")


async def test_clickhouse_without_requests() -> None:
    """Of an empty table nobody can say whose it is."""
    async with clickhouse() as url:
        with pytest.raises(ConfigurationError, match="no request in the table"):
            await LocalServer(clickhouse=url).start()
        async with served(clickhouse=url, organization_id=ONE) as (server, _):
            assert (0, None) == await costs(server)


async def test_clickhouse_that_goes_away() -> None:
    """Where the ClickHouse fails after the start, queries fail with its reason and without its password."""
    async with clickhouse(ONE) as url:
        started = LocalServer(clickhouse=url.replace("http://", "http://default:@"))
        await started.start()
    async with HeliconeClient(started.api_key, base_url=started.url, max_retries=0) as client:
        with pytest.raises(QueryFailed, match="no connection to 127"):
            await client.get_metrics()
    await started.aclose()
