"""Request bodies are limited in bytes and in values, on every route, before they are held or decoded."""

import asyncio
import gzip
import io
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helicone_sessions import FilterError
from helicone_sessions.local import LocalServer
from helicone_sessions.local.http import request_body
from helicone_sessions.local.http.request_body import LARGEST_ROW, MOST_SEPARATORS, rows_in

pytest.importorskip("chdb", reason="the extra `local` is not installed")

KEY = "sk-local-of-the-bodies"
QUERY, ROWS, FILTER = "/v1/session/metrics/query", "/v1/rows", "/v1/filter"
VALUES = 4 * MOST_SEPARATORS
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ROW = st.dictionaries(st.text(max_size=5), JSON, max_size=4)


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer(api_key=KEY, max_concurrency=1, max_queued=0, patience=600) as server:
        yield server


async def _post(server: LocalServer, path: str, body: bytes) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post(path, data=io.BytesIO(body), headers={"Content-Type": "application/json"}) as response,
    ):
        return response.status, json.dumps(await response.json(content_type=None))


def _list_of(value: str, count: int) -> bytes:
    return f"[{','.join([value] * count)}]".encode()


def _cut(body: bytes, size: int) -> list[bytes]:
    """The body in pieces. The first is larger, because it shows whether the body is a list."""
    return [body[: 3 * size], *(body[i : i + size] for i in range(3 * size, len(body), size))]


@pytest.mark.parametrize("value", ["[]", "{}", "1", '""', '{"a":1}'])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (QUERY, b'{"nameContains": "", "timezoneDifference": 0, "filter": %s}'),
        (ROWS, b"[%s]"),
        (ROWS, b'{"request_created_at": "2026-11-01T00:00:00Z", "scores": %s}'),
        (ROWS, b'[{"request_created_at": "2026-11-01T00:00:00Z", "scores": %s}]'),
    ],
)
async def test_many_values_are_refused(server: LocalServer, path: str, body: bytes, value: str) -> None:
    """A query or a row with more values than one decoding may take is refused, whatever its bytes."""
    status, answer = await _post(server, path, body % _list_of(value, VALUES))
    assert 400 == status
    assert f"more than {MOST_SEPARATORS:,} values" in answer
    assert 0 == await server.count()


async def test_signs_in_texts_are_no_values(server: LocalServer) -> None:
    """A text may hold any number of commas and brackets."""
    row = {"request_created_at": "2026-11-01T00:00:00Z", "request_body": '[{"\\"'.join("," * VALUES)}
    body = json.dumps([row, row | {"cost": 1}]).encode()
    assert 200 == (await _post(server, ROWS, body))[0]
    assert 200 == (await _post(server, ROWS, json.dumps(row).encode()))[0]
    assert 3 == await server.count()


async def test_many_rows_are_taken(server: LocalServer) -> None:
    """The limit is on each row, not on their number."""
    row = b'{"request_created_at": "2026-11-01T00:00:00Z", "scores": {"a": 1, "b": 2, "c": 3}}'
    count = MOST_SEPARATORS // 5
    assert 200 == (await _post(server, ROWS, b"[" + b", ".join([row] * count) + b"]"))[0]
    assert count == await server.count()


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])]
)
@pytest.mark.parametrize(
    "form", [json.dumps, lambda rows: "\n".join(map(json.dumps, rows))], ids=["list", "lines"]
)
async def test_large_bodies_arrive_and_return_unchanged(
    server: LocalServer, form: Callable[[Any], str], pack: Callable[[bytes], bytes]
) -> None:
    """Rows of several megabytes, packed or not, are stored and returned as they were sent."""
    chance = random.Random(1)  # noqa: S311 - no secret
    texts = ["".join(chance.choices('aé😀"\\\n,[{', k=400_000)) for _ in range(3)]
    rows = [
        {"request_created_at": f"2026-11-01T00:00:0{second}Z", "request_body": text}
        for second, text in enumerate(texts)
    ]
    body = pack(form(rows).encode())
    headers = {"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
    async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {KEY}"}) as session:
        async with session.post(ROWS, data=io.BytesIO(body), headers=headers) as response:
            assert 200 == response.status
        page = {"filter": "all", "limit": 3, "sort": {"created_at": "asc"}}
        async with session.post("/v1/request/query-clickhouse", json=page) as response:
            assert texts == [row["request_body"] for row in (await response.json())["data"]]


@pytest.mark.parametrize("body", [b'[{"request_body": "%s"}]', b'{"request_body": "%s"}'])
async def test_row_that_is_too_long(server: LocalServer, body: bytes) -> None:
    """A row of more than 16 MB is refused, and the error says how to load it."""
    status, answer = await _post(server, ROWS, body % (b"x" * LARGEST_ROW))
    assert 400 == status
    assert "longer than 16 MB. Load it from a file" in answer


@pytest.mark.promise(name="S7")
@pytest.mark.parametrize(("path", "size"), [(QUERY, "10 MB"), (ROWS, "50 MB"), (FILTER, "64 KB")])
async def test_every_route_has_a_limit_and_a_queue(server: LocalServer, path: str, size: str) -> None:
    """A body that announces too many bytes is refused unread, and so is one that finds no place."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: %d\r\n\r\n"
    address = "127.0.0.1", int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(*address)
    writer.write((head % 60_000_000).encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert f"must not be longer than {size}".encode() in answer
    writer.close()
    connections = [await asyncio.open_connection(*address) for _ in range(2)]
    for _, writer in connections:
        # The body does not arrive, so that an accepted request keeps its place.
        writer.write((head % 10).encode())
    answers = [asyncio.create_task(reader.readline()) for reader, _ in connections]
    (refused,), (waiting,) = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert refused.result().startswith(b"HTTP/1.1 503 ")
    for _, writer in connections:
        writer.close()
    await waiting


@given(st.lists(ROW, max_size=8), st.sampled_from([None, 1]), st.integers(1, 40))
def test_lists_are_read_in_windows(rows: list[dict[str, Any]], indent: int | None, window: int) -> None:
    """Whatever the window in which a list is decoded, its rows are those of the whole list."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_body, "_WINDOW", window)
        assert rows == list(rows_in([json.dumps(rows, indent=indent).encode()]))
        assert rows == list(rows_in(_cut(json.dumps(rows, ensure_ascii=False).encode(), window)))
        lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
        assert rows == list(rows_in(_cut(lines, window)))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[{}", "no comma follows row 0"),
        (b"[{},]", "row 1 is not JSON"),
        (b"[{} {}]", "no comma follows row 0"),
        (b"[{}] x", "text after the list"),
        (b"[{}, {]", "row 1 is not JSON"),
        (b'[{}, {"a": nope}]', "row 1 is not JSON"),
        (b'[{}, {"a": "', "row 1 is not JSON: it has no end"),
        (b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
        (b"[{}, 1]", "row 1 must be an object, got 1"),
        (b'[{"a": NaN}]', "NaN is not JSON"),
        (b'{"a": 1}\n{"a"', "line 2 is not JSON"),
        (b'\n \n{"a": 1}\n\n{"a"', "line 5 is not JSON"),
        (b'[{"a": "\xff"}]', "not UTF-8"),
    ],
)
def test_bodies_that_are_no_rows(body: bytes, problem: str) -> None:
    """The error names the row or the line that is wrong, whatever the pieces of the body."""
    for pieces in ([body], [body[:1], body[1:]]):
        with pytest.raises(FilterError, match=problem):
            list(rows_in(pieces))
