"""Hostile input: whatever is sent is answered or clearly refused, and the next query answered as before."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import pytest
import pytest_asyncio

from helicone_sessions.local import LocalServer

pytest.importorskip("chdb", reason="the extra `local` is not installed")

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("engine_kept_running")]

KEY = "sk-local-of-the-hostile"
PATH = "/v1/session/metrics/query"
PLAIN: dict[str, Any] = {"nameContains": "", "timezoneDifference": 0}
LONG = 10_000_000


@attrs.frozen
class Served:
    """A server, and what it answers to the plainest query."""

    server: LocalServer
    session: aiohttp.ClientSession
    usual: bytes

    async def post(self, body: Any, path: str = PATH, **headers: str) -> tuple[int, Any]:
        """The status and the JSON of the answer to a body."""
        if not isinstance(body, (bytes, AsyncIterator)):
            body = json.dumps(body).encode()
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self.session.post(path, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def raw(self, sent: bytes) -> bytes:
        """All that comes back for these bytes, after which no more are sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.server.url.rpartition(":")[2]))
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Served]:
    """A server with rows of three sessions."""
    rows = [
        {
            "request_created_at": "2026-11-01T12:00:00Z",
            "cost": number,
            "session_id": f"s{number}",
            "model": "m",
        }
        for number in range(1, 4)
    ]
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        LocalServer(rows, api_key=KEY) as server,
        aiohttp.ClientSession(server.url, headers=headers) as session,
    ):
        async with session.post(PATH, json=PLAIN) as answer:
            usual = await answer.read()
        yield Served(server, session, usual)


@pytest_asyncio.fixture(loop_scope="module")
async def served(running: Served) -> AsyncIterator[Served]:
    """The server; after the test it answers as before."""
    yield running
    async with running.session.post(PATH, json=PLAIN) as answer:
        assert (200, running.usual) == (answer.status, await answer.read())


def is_clear(status: int, answer: Any) -> bool:
    """Whether it is an answer, a refusal with its reason, or the envelope of a query that failed."""
    if status in (200, 500):
        return answer.keys() == {"data", "error"} and (answer["error"] is None) == (status == 200)
    return 400 <= status < 500 and answer.keys() == {"error"} and bool(answer["error"])


def leaf(column: str, **condition: Any) -> dict[str, Any]:
    return {"request_response_rmt": {column: condition}}


def chain(operator: str, leaves: list[Any]) -> Any:
    """A balanced filter, as clients send it."""
    if len(leaves) == 1:
        return leaves[0]
    half = len(leaves) // 2
    return {
        "left": chain(operator, leaves[:half]),
        "operator": operator,
        "right": chain(operator, leaves[half:]),
    }


def alternating(depth: int) -> bytes:
    """The JSON of a filter nested so deep on its left, "and" and "or" in turn."""
    end = json.dumps(leaf("latency", gt=1)).encode()
    levels = [b',"operator":"%s","right":%s}' % ((b"and", b"or")[level % 2], end) for level in range(depth)]
    return b'{"left":' * depth + end + b"".join(levels)


TEXTS = [
    "'",
    '"',
    "`",
    "\\",
    "\\\\",
    "\\'",
    "%",
    "_",
    "%%%\\",
    "'; DROP TABLE request_response_rmt; --",
    "') OR 1=1 --",
    "*/ 1 /*",
    "{x:String}",
    "{p0:String}",
    "{x:Identifier}",
    "\0",
    "a\0'; --",
    "\n",
    "\r\n\t\b\f\v",
    "\\N",
    "\\x00",
    "file('/etc/passwd')",
    "INTO OUTFILE '/tmp/x'",
    "%s%n{}{0}$1",
    "\u2028\u202e\ufeff",
    "😀\U0010ffff",
    "null",
    "__empty__",
    "NaN",
    "x" * 100_000,
    "\\" * 10_000,
    "%_" * 5_000,
]
PLACES = ["name", "equals", "not-equals", "contains", "like", "key", "score", "tag", "uuid", "time", "table"]


def with_text(place: str, text: str) -> dict[str, Any]:
    """A query with the text in some place."""
    sessions = {"sessions_request_response_rmt": {"session_tag": {"equals": text}}}
    filters: dict[str, Any] = {
        "key": leaf("properties", **{text: {"equals": text}}),
        "score": leaf("scores", **{text: {"equals": "1"}}),
        "tag": sessions,
        "uuid": leaf("request_id", equals=text),
        "time": leaf("request_created_at", gt=text),
        "table": {text: {"model": {"equals": "m"}}},
    }
    if place == "name":
        return {**PLAIN, "nameContains": text}
    return {**PLAIN, "filter": filters.get(place) or leaf("model", **{place: text})}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
async def test_texts(served: Served, text: str) -> None:
    """Text of any kind, in any place, is answered or refused."""
    asked = (served.post(with_text(place, text)) for place in PLACES)
    answers = dict(zip(PLACES, await asyncio.gather(*asked), strict=True))
    assert not {place: answer for place, answer in answers.items() if not is_clear(*answer)}
    refused = {place for place, (status, _) in answers.items() if status == 400}
    assert {"time", "table"} <= refused <= {"time", "table"}


@pytest.mark.parametrize("place", ["equals", "contains", "tag"])
async def test_ten_megabytes_of_text(served: Served, place: str) -> None:
    """A text of ten megabytes is answered."""
    status, answer = await served.post(with_text(place, "x" * LONG))
    assert (200, []) == (status, answer["data"]["session_count"])


NUMBERS = [
    "1e400",
    "-1e400",
    "1e308",
    "5e-324",
    "1e-400",
    "-0",
    "-0.0",
    "0.1e1",
    str(10**400),
    str(-(10**18)),
    str(2**63),
    str(2**64),
    "9" * 5_000,
    "0." + "3" * 10_000,
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "01",
    "+1",
    ".5",
    "1.",
    "0x10",
    "1_000",
    '"1"',
    "true",
    "null",
    "[1]",
    "{}",
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:20])
async def test_numbers(served: Served, number: str) -> None:
    """Numbers of any size and spelling, and what is none, are answered or refused."""
    places = [
        {**PLAIN, "timezoneDifference": "HERE"},
        {**PLAIN, "timeFilter": {"startTimeUnixMs": "HERE", "endTimeUnixMs": 2e12}},
        {**PLAIN, "timeFilter": {"startTimeUnixMs": 0, "endTimeUnixMs": "HERE"}},
        {**PLAIN, "filter": leaf("cost", gte="HERE")},
        {**PLAIN, "filter": leaf("latency", equals="HERE")},
        {**PLAIN, "filter": {"sessions_request_response_rmt": {"session_total_cost": {"lt": "HERE"}}}},
    ]
    bodies = [json.dumps(body).replace('"HERE"', number).encode() for body in places]
    for status, answer in await asyncio.gather(*map(served.post, bodies)):
        assert is_clear(status, answer)
        assert status != 500


WRONG = [
    None,
    True,
    0,
    -1.5,
    "",
    "all",
    [],
    [[]],
    {},
    {"": {}},
    ["all"],
    {"left": "all"},
    {"operator": "and"},
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
async def test_types(served: Served, value: Any) -> None:
    """A value of any type in any place is answered or refused."""
    bodies = [
        value,
        *({**PLAIN, name: value} for name in ("nameContains", "timezoneDifference", "pSize", "timeFilter")),
        *({**PLAIN, name: value} for name in ("useInterquartile", "filter", "limit", "")),
        {**PLAIN, "timeFilter": {"startTimeUnixMs": value, "endTimeUnixMs": value}},
        {**PLAIN, "filter": {"left": value, "operator": "and", "right": "all"}},
        {**PLAIN, "filter": {"left": "all", "operator": value, "right": "all"}},
        {**PLAIN, "filter": {"left": "all", "operator": "or", "right": value}},
        {**PLAIN, "filter": {"left": "all", "operator": "or", "right": "all", "filter": value}},
        {**PLAIN, "filter": {"request_response_rmt": value}},
        {**PLAIN, "filter": {"sessions_request_response_rmt": value}},
        *({**PLAIN, "filter": leaf(name, equals=value)} for name in ("model", "cost", "threat", "assets")),
        *({**PLAIN, "filter": leaf(name, gt=value)} for name in ("request_created_at", "latency")),
        *({**PLAIN, "filter": leaf(name, env=value)} for name in ("properties", "scores", "property_key")),
        {**PLAIN, "filter": {"request_response_rmt": {"model": value}}},
    ]
    for body, answer in zip(bodies, await asyncio.gather(*map(served.post, bodies)), strict=True):
        assert is_clear(*answer), body


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "space": b" \r\n\t ",
    "NUL": b"\0",
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(),
    "UTF-16": json.dumps(PLAIN).encode("utf-16"),
    "UTF-32": json.dumps(PLAIN).encode("utf-32"),
    "invalid UTF-8": b'{"nameContains":"\xff\xfe","timezoneDifference":0}',
    "overlong UTF-8": b'{"nameContains":"\xc0\xaf","timezoneDifference":0}',
    "surrogate in UTF-8": b'{"nameContains":"\xed\xa0\x80","timezoneDifference":0}',
    "half a pair": b'{"nameContains":"\\ud800","timezoneDifference":0}',
    "half a pair as a key": b'{"nameContains":"","timezoneDifference":0,"\\udfff":1}',
    "half a pair as a column": b'{"nameContains":"","timezoneDifference":0,"filter":{"\\udfff":{}}}',
    "pair": b'{"nameContains":"\\ud83d\\ude00","timezoneDifference":0}',
    "raw line feed in text": b'{"nameContains":"\n","timezoneDifference":0}',
    "single quotes": b"{'nameContains':'','timezoneDifference':0}",
    "trailing comma": b'{"nameContains":"","timezoneDifference":0,}',
    "two bodies": json.dumps(PLAIN).encode() * 2,
    "cut short": json.dumps(PLAIN).encode()[:-1],
    "form": b"nameContains=&timezoneDifference=0",
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]><x>&x;</x>',
    "open brackets": b"[" * 100_000,
    "brackets": b"[" * 100_000 + b"]" * 100_000,
    "braces": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "brackets in the filter": b'{"nameContains":"","timezoneDifference":0,"filter":%s}'
    % (b"[" * 100_000 + b"]" * 100_000),
    "deep alternation": b'{"nameContains":"","timezoneDifference":0,"filter":%s}' % alternating(100_000),
    "alternation of 900": b'{"nameContains":"","timezoneDifference":0,"filter":%s}' % alternating(900),
    "a million zeros": b"[" + b"0," * 1_000_000 + b"0]",
    "many keys": b"{" + b",".join(b'"k%d":0' % number for number in range(100_000)) + b"}",
    "long key": b'{"' + b"k" * LONG + b'":0}',
    "__proto__": b'{"nameContains":"","timezoneDifference":0,"__proto__":{},"constructor":{}}',
}


@pytest.mark.parametrize("name", BODIES)
async def test_bodies(served: Served, name: str) -> None:
    """Bodies that are no JSON, or JSON of an odd kind, are answered or refused."""
    status, answer = await served.post(BODIES[name])
    assert is_clear(status, answer)
    assert len(json.dumps(answer)) < 20_000
    if name not in ("pair", "alternation of 900", "byte order mark", "UTF-16", "UTF-32"):
        assert 400 == status


@pytest.mark.parametrize("name", BODIES)
async def test_bodies_of_rows(served: Served, name: str) -> None:
    """The same where rows are added: none of them is one."""
    status, answer = await served.post(BODIES[name], "/v1/rows")
    assert status in (200, 400)
    assert status == 400 or answer["data"]["rows"] == 0
    assert len(json.dumps(answer)) < 20_000


@pytest.mark.parametrize(
    ("body", "sessions"),
    [
        (b'{"nameContains":"nobody","nameContains":"","timezoneDifference":0}', 3),
        (
            b"""{"nameContains":"","timezoneDifference":0,"filter":"all",
            "filter":{"request_response_rmt":{"cost":{"gt":5,"gt":2.5}}}}""",
            1,
        ),
    ],
)
async def test_duplicate_keys(served: Served, body: bytes, sessions: float) -> None:
    """Of a key that is there twice the last one counts, as in JavaScript."""
    status, answer = await served.post(body)
    assert (200, sessions) == (status, sum(bar["value"] for bar in answer["data"]["session_count"]))


@pytest.mark.parametrize(
    ("operator", "made"),
    [
        ("or", [leaf("model", equals=f"m{number}") for number in range(10_000)]),
        ("and", [leaf("model", **{"not-equals": f"m{number}"}) for number in range(10_000)]),
        ("or", [leaf("properties", **{f"k{number}": {"equals": "v"}}) for number in range(2_000)]),
        ("and", [{"left": leaf("cost", gt=0), "operator": "or", "right": leaf("latency", lt=1)}] * 2_000),
    ],
    ids=["10,000 or", "10,000 and", "2,000 keys", "2,000 pairs"],
)
async def test_many_terms(served: Served, operator: str, made: list[Any]) -> None:
    """Filters of thousands of terms are answered."""
    status, answer = await served.post({**PLAIN, "filter": chain(operator, made)})
    assert 200 == status, answer


async def test_content_types(served: Served) -> None:
    """A body is read as JSON, whatever its type is called."""
    body = json.dumps(PLAIN).encode()
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=klingon",
        "\\",
    ):
        assert 200 == (await served.post(body, **{"Content-Type": kind}))[0]


async def test_packed_bodies(served: Served) -> None:
    """A packed body is unpacked; one that is not what it says is refused."""
    body = json.dumps(PLAIN).encode()
    assert 200 == (await served.post(gzip.compress(body), **{"Content-Encoding": "gzip"}))[0]
    assert 200 == (await served.post(zlib.compress(body), **{"Content-Encoding": "deflate"}))[0]
    for encoding, sent in (
        ("gzip", body),
        ("gzip", gzip.compress(body)[:-12]),
        ("gzip", b""),
        ("deflate", gzip.compress(body)),
        ("gzip, gzip", gzip.compress(gzip.compress(body))),
        ("zip-of-mine", zlib.compress(body)),
    ):
        async with served.session.post(PATH, data=sent, headers={"Content-Encoding": encoding}) as answer:
            assert 400 == answer.status, (encoding, await answer.text())


async def test_chunked_body(served: Served) -> None:
    """A body that comes in chunks is read whole."""

    async def chunks() -> AsyncIterator[bytes]:
        for byte in json.dumps(PLAIN).encode():
            yield bytes([byte])

    assert 200 == (await served.post(chunks()))[0]


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n".encode()
RAW: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
    "no version": b"POST /\r\n\r\n",
    "odd version": b"POST / HTTP/9.9\r\nHost: x\r\n\r\n",
    "long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": HEAD + b"".join(b"X%d: y\r\n" % number for number in range(10_000)) + b"\r\n",
    "NUL in a header": HEAD + b"X: a\0b\r\n\r\n",
    "line feed in a header": HEAD + b"X: a\nb\r\n\r\n",
    "header without a colon": HEAD + b"nothing\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "length in words": HEAD + b"Content-Length: two\r\n\r\n{}",
    "huge length": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "length and chunks": HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "broken chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "huge chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    "cut short": HEAD + b"Content-Length: 100\r\n\r\n{}",
    "odd expectation": HEAD + b"Expect: miracles\r\nContent-Length: 2\r\n\r\n{}",
    "upgrade": HEAD + b"Upgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
    "other address": b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "path upwards": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "encoded NUL": b"GET /%00%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_protocol(served: Served, name: str) -> None:
    """Invalid HTTP is refused, or its connection closed."""
    answer = await served.raw(RAW[name])
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/0.9 4"))
    assert KEY.encode() not in answer
    assert b"Traceback" not in answer
