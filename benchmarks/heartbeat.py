"""How long one request to the embedded server blocks its event loop, in milliseconds.

python benchmarks/heartbeat.py [--quick]
"""

import asyncio
import gc
import gzip
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final
from uuid import UUID

from measure import Bar, is_quick, report
from workers import Worker

KEY: Final = "sk-local-of-the-heartbeat"
MEGABYTE: Final = 1024 * 1024
QUERY: Final = "/v1/session/metrics/query"
ROWS: Final = "/v1/rows"
PAGE: Final = "/v1/request/query-clickhouse"
# Seconds between two beats.
BEAT: Final = 0.002
MOST: Final = 50.0


def _query(filter_: str) -> bytes:
    return f'{{"nameContains": "", "timezoneDifference": 0, "filter": {filter_}}}'.encode()


def _conditions(count: int) -> str:
    leaves = [
        f'{{"request_response_rmt": {{"model": {{"contains": "gpt-{number}"}}}}}}' for number in range(count)
    ]
    while len(leaves) > 1:
        pairs = zip(leaves[::2], leaves[1::2], strict=False)
        joined = [f'{{"left": {left}, "operator": "or", "right": {right}}}' for left, right in pairs]
        leaves = joined + leaves[len(joined) * 2 :]
    return leaves[0]


def _requests() -> Iterator[tuple[str, str, bytes]]:
    row = {"request_created_at": "2026-11-01T00:00:00Z", "properties": {"a": "b"}, "request_body": "x" * 500}
    listed = f"[{','.join([json.dumps(row)] * 20_000)}]".encode()
    yield "a query", QUERY, _query('"all"')
    yield "10 MB of empty lists", QUERY, _query("[" + "[]," * (3 * MEGABYTE) + "[]]")
    yield "most values that are decoded", QUERY, _query("[" + "[]," * 37_000 + "[]]")
    yield "1,000 conditions", QUERY, _query(_conditions(1_000))
    yield "10,000 conditions", QUERY, _query(_conditions(10_000))
    text = "x" * 9 * MEGABYTE
    yield "a text of 9 MB", QUERY, _query(f'{{"request_response_rmt": {{"model": {{"equals": "{text}"}}}}}}')
    yield "20,000 rows of a list", ROWS, listed
    yield "20,000 rows on lines", ROWS, "\n".join([json.dumps(row)] * 20_000).encode()
    yield "a row of 15 MB", ROWS, json.dumps([row | {"request_body": '"' * (7 * MEGABYTE)}]).encode()
    yield "50 MB of lists in a row", ROWS, b"[" + b"[]," * (16 * MEGABYTE) + b"[]]"
    yield "50 MB of empty lines", ROWS, b"\n" * (50 * MEGABYTE)
    yield "50 MB of spaces", ROWS, b"[{}" + b" " * (49 * MEGABYTE) + b"]"
    yield (
        "a filter text of 60 KB",
        "/v1/filter",
        json.dumps({"text": " or ".join(["cost > 1"] * 5_000)}).encode(),
    )
    yield "a page of 15 MB", PAGE, b'{"filter": "all", "limit": 1000, "offset": 0}'


def _page() -> list[dict[str, str]]:
    """Rows with 15 MB of bodies."""
    row = {"request_created_at": "2026-11-01T00:00:00Z", "request_body": "é" * 7_500}
    return [row | {"request_id": str(UUID(int=number))} for number in range(1_000)]


def _send(url: str, path: str, body: bytes) -> None:
    packed = gzip.compress(body, 1)
    headers = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }
    request = urllib.request.Request(url + path, data=packed, headers=headers)  # noqa: S310 - on loopback
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request).read()  # noqa: S310 - as above


def bars(rounds: int) -> Iterator[Bar]:
    for name, path, body in _requests():
        late: list[float] = []
        for _ in range(rounds):
            with Worker("heartbeat", "serve") as worker:
                url = worker.answer()
                _send(url, QUERY, _query('"all"'))
                if path == PAGE:
                    _send(url, ROWS, json.dumps(_page()).encode())
                worker.ask()
                _send(url, path, body)
                late.append(worker.ask())
        yield Bar.of(f"{name}, ms late", *late, most=MOST)


def _waited() -> float:
    """Seconds for which this thread was ready to run and had no processor (Linux; elsewhere 0)."""
    try:
        return int(os.pread(_schedstat(), 100, 0).split()[1]) / 1e9
    except OSError:
        return 0.0


@cache
def _schedstat() -> int:
    # Kept open, because each call of the system may wait for the interpreter's lock.
    return os.open("/proc/thread-self/schedstat", os.O_RDONLY)


async def _serve() -> None:
    """Run a server as `serve` does, and answer each line of the input with the latest beat since the last."""
    from helicone_sessions.local import LocalServer  # noqa: PLC0415 - only the worker needs it

    latest = 0.0

    async def beat() -> None:
        nonlocal latest
        loop = asyncio.get_running_loop()
        while True:
            waited, used = _waited(), time.process_time()
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            # Other processes also delay a beat: while this thread waits for a processor, or all threads do.
            late = loop.time() - due - (_waited() - waited)
            latest = max(latest, min(late, time.process_time() - used))

    def tell(value: Any) -> None:
        print(json.dumps(value), flush=True)

    async with LocalServer(api_key=KEY) as server:
        gc.collect()
        gc.freeze()
        beating = asyncio.create_task(beat())
        tell(server.url)
        while await asyncio.to_thread(sys.stdin.readline):
            tell(round(1000 * latest, 1))
            latest = 0.0
        beating.cancel()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_serve())
    else:
        rounds = 1 if is_quick(__doc__) else 5
        sys.exit(report("The latest beat of the loop during one request", list(bars(rounds))))
