"""ClickHouse's HTTP interface over chDB: the true engine behind the protocol that the driver speaks.

It has no ``Distributed`` tables, and queries do not end by ``KILL``: these need a server.
"""

import asyncio
import re
from types import TracebackType
from typing import Any, Self

import aiohttp
import attrs
import pytest
from aiohttp import web

from helicone_sessions.local.drivers.clickhouse import parse_address

chdb = pytest.importorskip("chdb", reason="the extra `local` is not installed")

# Parameters of a request that are not settings.
_RESERVED = ("query", "query_id", "default_format", "wait_end_of_query", "database")
_STATUSES = {516: 403, 46: 404, 47: 404, 60: 404, 81: 404, 115: 404, 159: 408, 36: 400, 62: 400}
_FIELD_LIMIT = 131_072
_FIELDS_LIMIT = 1_000


@attrs.frozen
class Refused(Exception):
    """A request that ends with an error of ClickHouse's."""

    code: int
    text: str


@attrs.define
class ClickHouseServer:
    """A server on loopback; use it with ``async with``.

    Args:
        users: Passwords and the value of ``readonly`` by user.
        replaced: Texts of statements that are changed before they run, as an older server reads them.
        replies: Answers to the next requests in the place of ClickHouse's own.
        asked: The text of each request with the parameters in its URL.
        headers: The headers of each request.
        held: While it is not set, requests whose text begins with "SELECT 'held'" are not answered.
        waits: Is set when such a request is there.
        abandoned: The query ids of those whose connection was closed.
    """

    users: dict[str, tuple[str, int]] = attrs.field(factory=lambda: {"default": ("", 0)})
    replaced: dict[str, str] = attrs.field(factory=dict)
    replies: list[web.Response] = attrs.field(factory=list)
    asked: list[tuple[str, dict[str, str]]] = attrs.field(factory=list)
    headers: list[dict[str, str]] = attrs.field(factory=list)
    held: asyncio.Event = attrs.field(factory=asyncio.Event)
    waits: asyncio.Event = attrs.field(factory=asyncio.Event)
    abandoned: asyncio.Queue[str] = attrs.field(factory=asyncio.Queue)
    port: int = 0
    _runner: Any = None
    _memory: Any = None

    async def __aenter__(self) -> Self:
        # The tables live as long as one connection is open.
        self._memory = chdb.connect(":memory:")
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/", self._answer)
        app.router.add_get("/ping", self._ping)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, max_line_size=2**20)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held.set()
        await self._runner.cleanup()
        self._memory.close()

    def url(self, user: str = "", password: str = "", database: str = "") -> str:
        """The address for a driver."""
        name = f"{user}{f':{password}' if password else ''}@" if user else ""
        return f"http://{name}127.0.0.1:{self.port}/{database}"

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        try:
            readonly = self._let_in(request)
            text, parameters = await self._read(request)
            self.asked.append((text, dict(request.query)))
            if self.replies:
                return self.replies.pop(0)
            await self._wait(text, request.query.get("query_id", ""))
            settings = {
                name: value
                for name, value in request.query.items()
                if name not in _RESERVED and not name.startswith("param_")
            }
            _check_settings(settings, readonly)
            database = request.headers.get("X-ClickHouse-Database", "")
            form = request.query.get("default_format", "TabSeparated")
            if readonly:
                settings["readonly"] = str(readonly)
            body = await asyncio.to_thread(_run, text, parameters, settings, database, form)
        except Refused as refused:
            text = f"Code: {refused.code}. DB::Exception: {refused.text} (version 26.9.2.1)\n"
            headers = {"X-ClickHouse-Exception-Code": str(refused.code)}
            return web.Response(status=_STATUSES.get(refused.code, 500), text=text, headers=headers)
        return web.Response(body=body, headers={"X-ClickHouse-Summary": "{}"})

    def _let_in(self, request: web.Request) -> int:
        user = request.headers.get("X-ClickHouse-User", "default")
        password, readonly = self.users.get(user, (None, 0))
        if password != request.headers.get("X-ClickHouse-Key", ""):
            raise Refused(
                516, f"{user}: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            )
        return readonly

    async def _read(self, request: web.Request) -> tuple[str, dict[str, str]]:
        fields = list(request.query.items())
        if request.content_type == "multipart/form-data":
            fields += _fields(await request.read())
            rest = ""
        else:
            rest = await request.text()
        if len(fields) > _FIELDS_LIMIT:
            raise Refused(1000, "HTML Form Exception: Too many form fields")
        if any(len(value.encode()) > _FIELD_LIMIT for _, value in fields):
            raise Refused(1000, "HTML Form Exception: Field value too long")
        text = "".join(value for name, value in fields if name == "query") + rest
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text, {name[6:]: value for name, value in fields if name.startswith("param_")}

    async def _wait(self, text: str, query_id: str) -> None:
        if not text.startswith("SELECT 'held'"):
            return
        self.waits.set()
        try:
            await self.held.wait()
        except asyncio.CancelledError:
            self.abandoned.put_nowait(query_id)
            raise


def _fields(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form; of large ones aiohttp's own reader warns about itself."""
    boundary = body[: body.index(b"\r\n")]
    parts = [part.partition(b"\r\n\r\n") for part in body.split(boundary)[1:-1]]
    return [(head.split(b'"')[1].decode(), value[:-2].decode()) for head, _, value in parts]


def _check_settings(settings: dict[str, str], readonly: int) -> None:
    if readonly == 1 and settings:
        raise Refused(164, f"Cannot modify '{min(settings)}' setting in readonly mode. (READONLY)")
    if readonly == 2 and "readonly" in settings:
        raise Refused(164, "Cannot modify 'readonly' setting in readonly mode. (READONLY)")


def _run(text: str, parameters: dict[str, str], settings: dict[str, str], database: str, form: str) -> bytes:
    connection = chdb.connect(":memory:")
    try:
        for name, value in sorted(settings.items(), key=lambda setting: setting[0] == "readonly"):
            connection.query(f"SET {name} = {value}")
        if database:
            connection.query(f"USE {quoted(database)}")
        answer: bytes = connection.query(text, form, params=parameters).bytes()
    except Exception as error:  # noqa: BLE001 - its class is not the same in all versions
        found = re.search(r"Code: (\d+)\. DB::Exception: (.*)", str(error), re.DOTALL)
        raise Refused(int(found[1]) if found else 1000, found[2] if found else str(error)) from None
    else:
        return answer
    finally:
        connection.close()


def quoted(name: str) -> str:
    """A name as SQL."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


async def execute(url: str, text: str) -> None:
    """Run a statement that answers nothing, as the user in *url*."""
    address = parse_address(url)
    async with (
        aiohttp.ClientSession() as session,
        session.post(address.url, data=text.encode(), headers=address.headers()) as response,
    ):
        assert response.status == 200, await response.text()
