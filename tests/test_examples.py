"""The programs of `examples/`, run unchanged with an embedded engine."""

import asyncio
import csv
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import aiohttp
import attrs
import pytest

from helicone_sessions import (
    F,
    HeliconeClient,
    SessionAverages,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
)
from helicone_sessions.testing import FakeHelicone, Reply, metrics, request

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[1] / "examples"
BERLIN = ZoneInfo("Europe/Berlin")
NO_SESSIONS = attrs.evolve(metrics(), average=SessionAverages(None, None, None))
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "claude-opus-4")


@attrs.frozen
class Done:
    """The exit code and output of a program."""

    code: int
    out: str
    err: str


def environment(server: Any) -> dict[str, str]:
    return {**os.environ, "HELICONE_API_KEY": server.api_key, "HELICONE_BASE_URL": server.url}


async def run(
    name: str, *arguments: str, env: Mapping[str, str], folder: Path, python: Iterable[str] = ()
) -> Done:
    """Run an example in *folder*, or Python with the arguments *python*."""
    command = (*python, *arguments) if python else (str(EXAMPLES / name), *arguments)
    program = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=env, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    out, err = await program.communicate()
    return Done(program.returncode or 0, out.decode(), err.decode())


def engine(data: Any = (), **options: Any) -> Any:
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    from helicone_sessions.local import LocalServer

    return LocalServer(data, **options)


def sample(end: datetime) -> list[dict[str, Any]]:
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    from helicone_sessions.local import LocalServer

    return list(LocalServer.sample(end))


def lately(end: datetime) -> list[dict[str, Any]]:
    """Some days of the sample, which load faster."""
    return sample(end)[-2_000:]


def files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def this_month(zone: ZoneInfo) -> datetime:
    now = datetime.now(zone)
    return datetime(now.year, now.month, 1, tzinfo=zone)


async def test_cost_report(tmp_path: Path) -> None:
    """The report has the dollars of each model on each day of last month, as in the requests."""
    end = this_month(BERLIN)
    first = (end - timedelta(days=1)).replace(day=1)
    rows = sample(end.astimezone(UTC))
    spent: Counter[tuple[date, str]] = Counter()
    for row in rows:
        made = row["request_created_at"].astimezone(BERLIN)
        if first <= made < end:
            spent[made.date(), row["model"]] += row["cost"]
    async with engine(rows) as server:
        done = await run(
            "cost_report.py", "--time-zone", "Europe/Berlin", env=environment(server), folder=tmp_path
        )
    assert (0, "") == (done.code, done.err)

    lines = list(csv.DictReader(files(tmp_path)[f"costs-{first:%Y-%m}.csv"].splitlines()))
    days = {date.fromisoformat(line["day"]) for line in lines}
    assert {first.date() + timedelta(days=day) for day in range((end.date() - first.date()).days)} == days
    told = {(date.fromisoformat(line["day"]), line["model"]): float(line["dollars"]) for line in lines}
    assert {model for _, model in told} == {*MODELS, "other"}
    assert told == pytest.approx({place: spent[place] for place in told}, rel=1e-6, abs=1e-9)

    *_, sums = done.out.splitlines()
    monthly = [sum(cost for (_, model), cost in spent.items() if model == name) for name in MODELS]
    assert sums.split() == ["together", *(f"{cost:.2f}" for cost in monthly), "0.00"]
    assert 1 == len(files(tmp_path))


async def test_cost_report_resumes(tmp_path: Path) -> None:
    """After a report with missing cells, the same command queries only these and completes it."""
    days = (this_month(ZoneInfo("UTC")) - timedelta(days=1)).day
    async with FakeHelicone() as server:
        env = environment(server)
        server.answers(lambda query: 'model == "o3"' in str(query.filter), Reply(501, "not today"))
        begun = await run("cost_report.py", "--models", "gpt-4o,o3", env=env, folder=tmp_path)
        assert (5, 3 * days) == (begun.code, len(server.requests))
        assert f"{days} figures are missing" in begun.err
        # Each day, and the sum.
        assert days + 1 == begun.out.count("no answer")

        server.answers(lambda query: 'model == "o3"' in str(query.filter), metrics(cost=2.0))
        ended = await run("cost_report.py", "--models", "gpt-4o,o3", env=env, folder=tmp_path)
        assert (0, 4 * days) == (ended.code, len(server.requests))
        assert "no answer" not in ended.out
    assert [".csv"] == [Path(name).suffix for name in files(tmp_path)]


async def test_cost_report_with_gaps(tmp_path: Path) -> None:
    """A sum with a missing day is marked."""
    async with FakeHelicone() as server:
        server.will_answer(Reply(501, "not today"))
        done = await run("cost_report.py", "--models", "o3", env=environment(server), folder=tmp_path)
    assert (5, 1, 1) == (done.code, done.out.count("no answer"), done.out.count(" + gaps"))


async def test_cost_report_without_an_answer(tmp_path: Path) -> None:
    """If no query succeeds there is no report, and the previous one is kept."""
    name = f"costs-{this_month(ZoneInfo('UTC')) - timedelta(days=1):%Y-%m}.csv"
    (tmp_path / name).write_text("of before", "utf-8")
    async with FakeHelicone() as server:
        server.otherwise(Reply(501, "not today"))
        done = await run("cost_report.py", "--models", "o3", env=environment(server), folder=tmp_path)
    assert (1, "") == (done.code, done.out)
    assert done.err.startswith("there is no report: ")
    assert {name: "of before"} == files(tmp_path)


async def test_cost_report_with_a_wrong_key(tmp_path: Path) -> None:
    """A rejected key is reported, and no report is written."""
    async with FakeHelicone() as server:
        env = environment(server) | {"HELICONE_API_KEY": "sk-helicone-wrong"}
        done = await run("cost_report.py", env=env, folder=tmp_path)
    assert 1 == done.code
    assert done.err.startswith("there is no report: ")
    assert {} == files(tmp_path)


@pytest.mark.parametrize(
    ("models", "zone"), [("o3", "UTC"), ("gpt-4o", "America/New_York")], ids=["models", "zone"]
)
async def test_cost_report_begins_anew(models: str, zone: str, tmp_path: Path) -> None:
    """A saved report of other models or another time zone is ignored."""
    days = (this_month(ZoneInfo(zone)) - timedelta(days=1)).day
    async with FakeHelicone() as server:
        env = environment(server)
        server.will_answer(Reply(501, "not today"))
        assert 5 == (await run("cost_report.py", "--models", "gpt-4o", env=env, folder=tmp_path)).code
        before = len(server.requests)
        asked = ("--models", models, "--time-zone", zone)
        done = await run("cost_report.py", *asked, env=env, folder=tmp_path)
        assert (0, 2 * days) == (done.code, len(server.requests) - before)
    assert zone != "UTC" or "has other models or days: starting again" in done.err
    assert ["", models, "other"] == ["", *done.out.splitlines()[0].split()]


async def test_cost_report_after_a_broken_file(tmp_path: Path) -> None:
    """An unreadable saved report is reported, and the report starts again."""
    name = f"costs-{this_month(ZoneInfo('UTC')) - timedelta(days=1):%Y-%m}"
    (tmp_path / f"{name}.json").write_text('{"version": 1, "que', "utf-8")
    async with FakeHelicone() as server:
        done = await run("cost_report.py", "--models", "o3", env=environment(server), folder=tmp_path)
    assert (0, f"{name}.json cannot be read: starting again\n") == (done.code, done.err)
    assert {f"{name}.csv"} == files(tmp_path).keys()


async def test_cost_report_ended_while_it_writes(tmp_path: Path) -> None:
    """A run that cannot finish writing keeps the previous file."""
    pytest.importorskip("resource", reason="this system has no limit for the size of files")
    # More than the CSV file has, and less than what is kept.
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14));"
        "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    python = ("-c", limited, str(EXAMPLES / "cost_report.py"))
    async with FakeHelicone() as server:
        env = environment(server)
        server.answers(lambda query: 'model == "o3"' in str(query.filter), Reply(501, "not today"))
        await run("cost_report.py", "--models", "o3", env=env, folder=tmp_path)
        (kept,) = (name for name in files(tmp_path) if name.endswith(".json"))
        text = files(tmp_path)[kept]
        ended = await run("", "--models", "o3", env=env, folder=tmp_path, python=python)
    assert 1 == ended.code
    assert "File too large" in ended.err
    assert text == files(tmp_path)[kept]


@pytest.mark.parametrize("zone", ["Europe/Berln", "../Berlin", "Europe"])
async def test_cost_report_in_no_zone(zone: str, tmp_path: Path) -> None:
    """An unknown time zone is a usage error."""
    done = await run("cost_report.py", "--time-zone", zone, env=os.environ, folder=tmp_path)
    assert (2, "") == (done.code, done.out)
    assert f"argument --time-zone: no zone '{zone}' is known" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("factor", "code"), [("2", 1), ("100", 0)])
async def test_alert(factor: str, code: int, tmp_path: Path) -> None:
    """The alert compares the last hour with the day before, and exits with 1 if a figure has grown."""
    now = datetime.now(UTC)
    rows = [
        {"request_created_at": now - timedelta(minutes=30), "session_id": "late", "cost": 0.75},
        *(
            {
                "request_created_at": now - timedelta(hours=hours),
                "session_id": f"{hours}",
                "cost": 0.01 * hours,
            }
            for hours in range(2, 22)
        ),
    ]
    async with engine(rows) as server:
        done = await run("alert.py", "--factor", factor, env=environment(server), folder=tmp_path)
    assert (code, "") == (done.code, done.err)
    alarm = " - ALARM" if code else ""
    assert f"dollars a session, mean: 0.75, the day before 0.115{alarm}\n" in done.out
    assert f"dollars a session, p95: 0.75, the day before 0.2{alarm}\n" in done.out
    assert "seconds a session, mean: 0, the day before 0\n" in done.out


async def test_alert_without_an_answer(tmp_path: Path) -> None:
    """Without a result the exit code is 3."""
    async with FakeHelicone() as server:
        server.otherwise(Reply(501, "not today"))
        done = await run("alert.py", env=environment(server), folder=tmp_path)
    assert 3 == done.code
    assert done.err.startswith("not known: ")


async def test_four_workers_on_the_engine(tmp_path: Path) -> None:
    """Four processes with a share each query every hour of a week once."""
    week_ends = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    async with engine(lately(week_ends), rate_limit=200) as server:
        done = await run("four_workers.py", "--share", "50", env=environment(server), folder=tmp_path)
        told = re.search(r"sessions: ([\d.]+) dollars, from ([\d :-]+) UTC", done.out)
        assert told is not None
        start = datetime.fromisoformat(f"{told[2]}+00:00")
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            found = await client.get_metrics(time_filter=TimeFilter(start, start + timedelta(hours=1)))
    assert (0, "") == (done.code, done.err)
    assert "168 of 168 hours answered, 0 sent repeatedly" in done.out
    assert f"{found.average.session_cost:.4f}" == told[1]


async def test_four_workers_without_sessions(tmp_path: Path) -> None:
    """Without sessions no most expensive hour is named."""
    async with FakeHelicone() as server:
        server.otherwise(NO_SESSIONS)
        done = await run("four_workers.py", env=environment(server), folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    assert "168 of 168 hours answered, 0 sent repeatedly\nno sessions\n" == done.out


async def test_four_workers_at_the_limit(tmp_path: Path) -> None:
    """Four processes wait for a limit that is reached repeatedly, and lose no query."""
    async with FakeHelicone() as server:
        server.limit(requests=60, per=1)
        done = await run("four_workers.py", env=environment(server), folder=tmp_path)
        answered, refused = len(server.requests) - server.refused, server.refused
    assert (0, "") == (done.code, done.err)
    assert 168 == answered
    assert done.out.startswith("168 of 168 hours answered")
    assert bool(refused) == ("answered, 0 asked more" not in done.out)


async def test_four_workers_with_failures(tmp_path: Path) -> None:
    """Each reason for missing hours is reported once."""
    async with FakeHelicone() as server:
        server.will_answer(Reply(501, "not today"), Reply(501, "not today"))
        done = await run("four_workers.py", env=environment(server), folder=tmp_path)
    assert 1 == done.code
    assert done.out.startswith("166 of 168 hours answered")
    (line,) = done.err.splitlines()
    assert line.startswith("2 without an answer: ServerError: ")


async def test_four_workers_with_a_wrong_key(tmp_path: Path) -> None:
    """A rejected key ends all processes with the service's message."""
    async with FakeHelicone() as server:
        env = environment(server) | {"HELICONE_API_KEY": "sk-helicone-wrong"}
        done = await run("four_workers.py", env=env, folder=tmp_path)
    assert (1, "") == (done.code, done.out)
    assert done.err.startswith("no hour answered: Unauthorized (status 401). Check the key")


@pytest.mark.parametrize(
    ("wish", "filter_"),
    [
        (("text", 'cost > 0.01 and model contains "gpt"'), (F.cost > 0.01) & F.model.contains("gpt")),
        (("text", 'model == "o3" or not cached'), (F.model == "o3") | ~F.cached),
        (("form", "model=gpt-4o", "min_cost=0.01", "name="), (F.model == "gpt-4o") & (F.cost >= 0.01)),
        (("form",), None),
    ],
    ids=["text", "or", "form", "empty form"],
)
async def test_user_filters(wish: tuple[str, ...], filter_: Any, tmp_path: Path) -> None:
    """A user's filter only matches the requests of that customer, however its conditions are joined."""
    own = F.properties["plan"] == "pro"
    async with engine(lately(datetime.now(UTC))) as server:
        done = await run("user_filters.py", "pro", *wish, env=environment(server), folder=tmp_path)
        async with HeliconeClient(server.api_key, base_url=server.url) as client:
            found = await client.get_metrics(own if filter_ is None else own & filter_)
    assert (0, "") == (done.code, done.err)
    assert f"dollars a session: {found.average.session_cost}\n" in done.out


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (("text", "cost > 0.1 or modle = 3"), "line 1, column 15: there is no column 'modle'"),
        (("text", 'cost > 1 or session_tag = "a"'), "session_tag cannot be used"),
        (("text", 'all) or (user_id = "ada"'), "line 1, column 4: "),
        (("form", "color=red"), "there is no field color; there are model, name, min_cost, status"),
        (("form", "min_cost=cheap"), "min_cost: 'cheap' cannot be used: could not convert"),
        (("form", "status=200,ok"), "status: '200,ok' cannot be used: invalid literal"),
        (("form", "model"), "'model' has no value; write it as model=gpt-4o\n"),
    ],
)
async def test_user_filters_refused(wish: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """An invalid filter exits with 2 and a message for the user, without a query."""
    async with FakeHelicone() as server:
        done = await run("user_filters.py", "pro", *wish, env=environment(server), folder=tmp_path)
        assert [] == server.requests
    assert (2, "") == (done.code, done.out)
    assert done.err.startswith(message)


async def test_user_filters_without_a_customer(tmp_path: Path) -> None:
    """If nobody is logged in, that is reported without a query."""
    async with FakeHelicone() as server:
        done = await run("user_filters.py", "", "text", "all", env=environment(server), folder=tmp_path)
        assert [] == server.requests
    assert (2, "", "nobody is logged in\n") == (done.code, done.out, done.err)


@pytest.mark.parametrize(
    ("scheme", "reason"),
    # The server speaks no TLS. That lasts, so the client does not try again.
    [("http", "AuthenticationError: Unauthorized"), ("https", "ConnectionFailed: ")],
    ids=["wrong key", "no connection"],
)
async def test_user_filters_without_an_answer(scheme: str, reason: str, tmp_path: Path) -> None:
    """If a query fails, the user sees one sentence and the log has the reason."""
    async with FakeHelicone() as server:
        env = environment(server) | {"HELICONE_API_KEY": "sk-helicone-wrong"}
        env["HELICONE_BASE_URL"] = server.url.replace("http", scheme)
        done = await run("user_filters.py", "pro", "text", "all", env=env, folder=tmp_path)
    assert (1, "") == (done.code, done.out)
    log, told = done.err.splitlines()
    assert log.startswith(f"no answer: {reason}")
    assert "there is no answer now, try again later" == told


async def test_user_filters_without_arguments(tmp_path: Path) -> None:
    """Without a customer and a filter it exits with 2 and shows its usage."""
    done = await run("user_filters.py", env=os.environ, folder=tmp_path)
    assert (2, "") == (done.code, done.out)
    assert done.err.startswith("usage: user_filters.py ")


async def test_fastapi_app(tmp_path: Path) -> None:
    """The application returns the client's figures, and errors in the form that callers need."""
    async with engine(lately(datetime.now(UTC))) as server, application(server, tmp_path) as session:
        await _look_at(session, server)


@asynccontextmanager
async def application(server: Any, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """The application in a separate process, which queries *server*."""
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    command = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "fastapi_app:app")
    app = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment(server), cwd=folder, stdout=DEVNULL, stderr=PIPE
    )
    try:
        async with aiohttp.ClientSession(await _address(app)) as session:
            yield session
    finally:
        app.terminate()
        await app.communicate()


async def _address(app: asyncio.subprocess.Process) -> str:
    assert app.stderr is not None
    said = b""
    while line := await app.stderr.readline():
        said += line
        if found := re.search(rb"running on (http://[\d.:]+)", line):
            return found[1].decode()
    raise AssertionError(said.decode())


async def _look_at(session: aiohttp.ClientSession, server: Any) -> None:
    asked = {"models": "gpt-4o,o3", "where": "cost > 0.01", "days": "60"}
    async with session.get("/models", params=asked) as answer:
        assert 200 == answer.status
        told = await answer.json()
    async with HeliconeClient(server.api_key, base_url=server.url) as client:
        query = SessionMetricsQuery((F.model == "gpt-4o") & (F.cost > 0.01), p_size="p95")
        found: SessionMetrics = await client.get_metrics(query)
    tile = told["models"]["gpt-4o"]
    assert found.average.session_cost == tile["dollars"]
    assert [(bar.range_start, bar.range_end, bar.value) for bar in found.session_cost] == [
        tuple(bar) for bar in tile["costs"]
    ]
    assert None is told["models"]["o3"]["dollars"]
    assert [] == told["cautions"]

    async with session.get("/models", params=asked | {"where": "cost > 3"}) as answer:
        assert "it is read as -1.294967296" in (await answer.json())["cautions"][0]
    async with session.get("/models", params=asked | {"where": "cost > 0.1 or modle"}) as answer:
        assert 400 == answer.status
        assert "Did you mean 'model'?" in (await answer.json())["error"]
    async with session.get("/models", params=asked | {"days": "0"}) as answer:
        assert 422 == answer.status


async def test_fastapi_app_with_many_models(tmp_path: Path) -> None:
    """A request has at most twenty models, and empty names do not count."""
    names = [f"model-{number}" for number in range(21)]
    async with FakeHelicone() as server, application(server, tmp_path) as session:
        for models in (",".join(names), " , "):
            async with session.get("/models", params={"models": models}) as answer:
                assert 400 == answer.status
                assert "1 to 20 names, not" in (await answer.json())["detail"]
        assert [] == server.requests
        async with session.get("/models", params={"models": ", ".join(names[:20]) + ",,"}) as answer:
            assert 200 == answer.status
            assert names[:20] == list((await answer.json())["models"])
        assert 20 == len(server.requests)


async def test_fastapi_app_without_an_answer(tmp_path: Path) -> None:
    """Failures of Helicone have different statuses, and callers do not see the reason."""
    async with FakeHelicone() as server, application(server, tmp_path) as session:
        for reply, status, text in [
            (Reply(401, {"error": "no"}), 502, "refused"),
            (Reply(501, "no"), 502, "refused"),
            (Reply(429, {"error": "Too many requests"}, {"Retry-After": "150"}), 503, "busy"),
        ]:
            server.otherwise(reply)
            async with session.get("/models", params={"models": "o3"}) as answer:
                assert status == answer.status
                assert text in (await answer.json())["error"]
        assert "150" == answer.headers["Retry-After"]


async def test_clickhouse(tmp_path: Path) -> None:
    """The engine answers from a ClickHouse with Helicone's tables; the password is in the environment."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    from helicone_sessions.local.storage.table import create_statements
    from tests.local.clickhouse_server import ClickHouseServer, execute

    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=12)
    async with ClickHouseServer(users={"default": ("", 0), "reader": ("open sesame", 0)}) as server:
        for statement in create_statements("prod"):
            await execute(server.url(), statement)
        for number, dollars in enumerate((0.25, 0.75)):
            row = {"organization_id": str(UUID(int=1)), "cost": int(dollars * 10**9)}
            row |= {
                "request_id": str(UUID(int=number)),
                "request_created_at": f"{yesterday:%Y-%m-%d %H:%M:%S}",
            }
            row |= {"properties": {"Helicone-Session-Id": f"s{number}"}}
            await execute(
                server.url(), f"INSERT INTO prod.request_response_rmt FORMAT JSONEachRow {json.dumps(row)}"
            )
        env = {**os.environ, "CLICKHOUSE_URL": server.url("reader", database="prod")}
        right = env | {"HELICONE_SESSIONS_CLICKHOUSE_PASSWORD": "open sesame"}
        done = await run("clickhouse.py", env=right, folder=tmp_path)
        wrong = await run("clickhouse.py", env=env, folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    assert done.out.startswith("2 requests\n")
    assert f"{yesterday:%Y-%m-%d} 0.5000 dollars a session\n" in done.out
    assert 1 == wrong.code
    assert wrong.err.startswith("the ClickHouse cannot be queried: ")


async def test_clickhouse_without_an_address(tmp_path: Path) -> None:
    """Without the address of a ClickHouse it names the variable to set."""
    env = {name: value for name, value in os.environ.items() if name != "CLICKHOUSE_URL"}
    done = await run("clickhouse.py", env=env, folder=tmp_path)
    assert (1, "set CLICKHOUSE_URL, for example https://reader@host:8443/default\n") == (done.code, done.err)


async def test_sync_and_report(tmp_path: Path) -> None:
    """It copies what is new, and shows the dollars of each model in this week and in the week before."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    today = datetime.now(BERLIN).replace(hour=0, minute=0, second=0, microsecond=0)
    arguments = ("store", "--time-zone", "Europe/Berlin")
    async with FakeHelicone() as server:
        server.stored_requests = [
            request(model=model, cost=cost, created_at=today - timedelta(days=days, hours=-12))
            for model, cost, days in [("o3", 1.5, 0), ("o3", 1.0, 7), ("o3", 0.5, 8), ("gpt-4o", 0.25, 1)]
        ]
        begun = await run("sync_and_report.py", *arguments, env=environment(server), folder=tmp_path)
        server.stored_requests = [
            *server.stored_requests,
            request(model="gpt-4o", cost=0.5, created_at=datetime.now(UTC) - timedelta(minutes=5)),
        ]
        ended = await run("sync_and_report.py", *arguments, env=environment(server), folder=tmp_path)
    assert (0, "") == (begun.code, begun.err)
    first, _, *lines = begun.out.splitlines()
    assert first.endswith(" new requests")
    assert [["gpt-4o", "1", "0.25", "0.00", "new"], ["o3", "1", "1.00", "0.50", "+100%"]] == sorted(
        line.split() for line in lines
    )
    assert ended.out.startswith("1 new requests\n")


async def test_sync_and_report_without_the_service(tmp_path: Path) -> None:
    """If the service fails, the report is that of the data that is there, and the exit code is 1."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    async with FakeHelicone() as server:
        env = environment(server)
        wrong = env | {"HELICONE_API_KEY": "sk-helicone-wrong"}
        none = await run("sync_and_report.py", "store", env=wrong, folder=tmp_path)
        yesterday = datetime.now(UTC) - timedelta(days=1)
        server.stored_requests = [request(model="o3", cost=0.5, created_at=yesterday)]
        await run("sync_and_report.py", "store", env=env, folder=tmp_path)
        old = await run("sync_and_report.py", "store", env=wrong, folder=tmp_path)
    assert (1, "") == (none.code, none.out)
    assert "there is no report: " in none.err
    assert (1, ["o3", "1", "0.50"]) == (old.code, old.out.splitlines()[1].split()[:3])
    assert "the copy is not complete: Unauthorized" in old.err


async def test_two_organizations(tmp_path: Path) -> None:
    """Each organisation is copied with its own key, and queried apart from the other."""
    keys = {"sk-of-shop": UUID(int=1), "sk-of-app": UUID(int=2)}
    made = datetime.now(UTC) - timedelta(days=1)
    rows = [
        {"request_created_at": made, "cost": cost, "session_id": session, "organization_id": str(keys[key])}
        for key, session, cost in [
            ("sk-of-shop", "a", 0.5),
            ("sk-of-shop", "b", 0.25),
            ("sk-of-app", "a", 2.0),
        ]
    ]
    async with engine(rows, api_key=keys) as server:
        env = {**os.environ, "HELICONE_BASE_URL": server.url}
        env |= {"HELICONE_API_KEY_SHOP": "sk-of-shop", "HELICONE_API_KEY_APP": "sk-of-app"}
        done = await run("two_organizations.py", "shop", "app", env=env, folder=tmp_path)
        env["HELICONE_API_KEY_APP"] = ""
        failed = await run("two_organizations.py", "shop", "app", env=env, folder=tmp_path)
    assert (0, "") == (done.code, done.err)
    shown = ["shop: 2 sessions, $0.75", "app: 1 sessions, $2.00"]
    assert ["shop: 2 new requests", "app: 1 new requests", *shown] == done.out.splitlines()
    assert (1, shown) == (failed.code, failed.out.splitlines()[-2:])
    assert failed.err.startswith("app: the copy is not complete: ")


async def test_tests_of_ones_own(tmp_path: Path) -> None:
    """The file of tests passes unchanged, in a folder with the program that it tests."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    for name in ("alert.py", "test_my_code.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", "utf-8")
    python = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "test_my_code.py")
    done = await run("", env=os.environ, folder=tmp_path, python=python)
    assert "4 passed" in done.out
    assert 0 == done.code


def test_every_example_is_tried_and_shown() -> None:
    """Each example is tested here and shown by a page of the documentation."""
    here = Path(__file__).read_text(encoding="utf-8")
    pages = "".join(page.read_text(encoding="utf-8") for page in (EXAMPLES.parent / "docs").rglob("*.md"))
    for example in EXAMPLES.glob("*.py"):
        assert example.stem in here
        assert f"examples/{example.name}" in pages
