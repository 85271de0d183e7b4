"""The service in a separate process, with a rate limit and faults, and as little work as possible.

    python benchmarks/service.py --limit 200 --window 60 --faults 0.15

It sends recorded answers of the open-source server in turn. It prints its address and answers until its
standard input ends. ``GET /stats`` returns counts of the requests.
"""

import argparse
import asyncio
import http.client
import json
import math
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Final, cast
from urllib.parse import urlsplit

import attrs
from recorded import FORMS, compact

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REASONS: Final = {
    200: "OK",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Busy",
}
_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
# With it closing sends a reset at once instead of the orderly end.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def with_cost(body: bytes, cost: float) -> bytes:
    """The answer with another average cost, its keys in the order in which they were."""
    answer = json.loads(body)
    answer["data"]["average"]["session_cost"] = [{"average": cost}]
    return compact(answer)


def failure(text: str) -> bytes:
    return json.dumps({"data": None, "error": text}).encode()


@attrs.frozen(kw_only=True)
class Options:
    """How the service behaves.

    Args:
        form: The form of its answers, a key of `recorded.FORMS`.
        echo: Answer with the number that was asked as nameContains as the average cost.
        limit: How many requests a window takes; 0 is no limit, and no headers about it.
        window: Seconds of a window.
        faults: The share of requests that meet a fault.
        seed: Which of them.
        stall: Seconds that a stalled answer takes.
        latency: Seconds that an answer without a fault takes.
        closes: ``announced`` or ``silent``: close each connection after its answer, with or without a header
            that says so.
    """

    form: str = "recorded"
    echo: bool = False
    limit: int = 0
    window: float = 60.0
    faults: float = 0.0
    seed: int = 1
    stall: float = 3.0
    latency: float = 0.0
    closes: str = ""


@attrs.define
class Limit:
    """Fixed windows as express-rate-limit has them: one opens at the first request after the last is over."""

    most: int
    window: float
    _ends: float = attrs.field(default=-math.inf, init=False)
    _hits: int = attrs.field(default=0, init=False)

    def hit(self) -> tuple[bool, str]:
        """Whether a request is within the limit, and the headers that say so."""
        now = time.monotonic()
        if now >= self._ends:
            self._ends, self._hits = now + self.window, 0
        # A request that is rejected counts like any other.
        self._hits += 1
        reset = math.ceil(self._ends - now)
        is_within = self._hits <= self.most
        headers = (
            f"RateLimit-Policy: {self.most};w={math.ceil(self.window)}\r\nRateLimit-Limit: {self.most}\r\n"
            f"RateLimit-Remaining: {max(0, self.most - self._hits)}\r\nRateLimit-Reset: {reset}\r\n"
        )
        return is_within, headers if is_within else f"{headers}Retry-After: {reset}\r\n"


@attrs.define
class Service:
    """The state of all connections: the limit, the faults and the counts."""

    options: Options
    requests: int = 0
    rejected: int = 0
    first: float | None = None
    last: float | None = None
    attempts: Counter[str] = attrs.field(factory=Counter)
    faults: Counter[str] = attrs.field(factory=Counter)
    _limit: Limit | None = None
    _random: random.Random = attrs.field(factory=random.Random)
    _bodies: Iterator[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bodies = cycle(FORMS[self.options.form]())
        self._random.seed(self.options.seed)
        if self.options.limit:
            self._limit = Limit(self.options.limit, self.options.window)

    def stats(self) -> bytes:
        names = ("requests", "rejected", "first", "last", "attempts", "faults")
        return json.dumps({name: getattr(self, name) for name in names}).encode()

    def take(self, connection: "Connection", body: bytes) -> None:
        self.requests += 1
        self.last = time.monotonic()
        self.first = self.first or self.last
        name = json.loads(body)["nameContains"]
        self.attempts[name] += 1
        is_within, headers = self._limit.hit() if self._limit else (True, "")
        if not is_within:
            self.rejected += 1
            too_many(connection, headers)
        elif self.options.faults and self._random.random() < self.options.faults:
            # By turns, so that a short run meets all of them.
            kind = list(FAULTS)[self.faults.total() % len(FAULTS)]
            self.faults[kind] += 1
            FAULTS[kind](connection, headers, self.body_for(name))
        elif self.options.latency:
            connection.after(self.options.latency, connection.send, 200, self.body_for(name), headers)
        elif self.options.closes:
            announced = "Connection: close\r\n" if self.options.closes == "announced" else ""
            connection.send(200, self.body_for(name), headers + announced)
            connection.transport.close()
        else:
            connection.send(200, self.body_for(name), headers)

    def body_for(self, name: str) -> bytes:
        body = next(self._bodies)
        return with_cost(body, float(name)) if self.options.echo else body


class Connection(asyncio.Protocol):
    """One keep-alive connection; what HTTP a client of one endpoint needs, and nothing more."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.transport: asyncio.Transport
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n") + 4) > 3:
            found = _LENGTH.search(self._received, 0, end)
            whole = end + (int(found[1]) if found else 0)
            if len(self._received) < whole:
                return
            body, is_query = self._received[end:whole], self._received.startswith(b"POST")
            self._received = self._received[whole:]
            if is_query:
                self.service.take(self, body)
            else:
                self.send(200, self.service.stats())

    def send(self, status: int, body: bytes, headers: str = "", *, kind: str = "application/json") -> None:
        # In one piece, so that a client is woken once for each answer.
        self.transport.write(head(status, len(body), headers, kind) + body)

    def after(self, seconds: float, do: Callable[..., object], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(seconds, do, *arguments)


def head(status: int, length: int, headers: str, kind: str = "application/json") -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n"
    ).encode()


def too_many(connection: Connection, headers: str) -> None:
    connection.send(429, b'{"error":"Too many requests, please try again later."}', headers)


def reset(connection: Connection, _headers: str, _body: bytes) -> None:
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    connection.transport.abort()


def truncated(connection: Connection, headers: str, body: bytes) -> None:
    connection.transport.write(head(200, len(body), headers) + body[: len(body) // 2])
    connection.transport.close()


def stale(connection: Connection, headers: str, body: bytes) -> None:
    connection.send(200, body, headers)
    # Late enough for the next request to be on its way.
    connection.after(0.001, connection.transport.close)


FAULTS: Final[dict[str, Callable[[Connection, str, bytes], object]]] = {
    "dropped": lambda c, _headers, _body: c.transport.close(),
    "reset": reset,
    "truncated": truncated,
    "page": lambda c, headers, _body: c.send(502, _PAGE, headers, kind="text/html"),
    "busy": lambda c, headers, _body: c.send(503, _PAGE, f"{headers}Retry-After: 1\r\n", kind="text/html"),
    "passing": lambda c, headers, _body: c.send(500, failure("Timeout exceeded"), headers),
    "lasting": lambda c, headers, _body: c.send(500, failure("Invalid timezone difference"), headers),
    "no JSON": lambda c, headers, body: c.send(200, body[:-1], headers),
    "stalled": lambda c, headers, body: c.after(c.service.options.stall, c.send, 200, body, headers),
    "stale": stale,
    "too many": lambda c, headers, _body: too_many(c, f"{headers}Retry-After: 1\r\n"),
}


async def serve(options: Options) -> None:
    loop, ended, service = asyncio.get_running_loop(), asyncio.Event(), Service(options)
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    # So it never outlives whoever started it.
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


@contextmanager
def running(**options: Any) -> Iterator[str]:
    """The address of a service with these `Options`, which ends with the block."""
    given = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, __file__, *given]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdin  # noqa: S101 - for type checkers
        assert process.stdout  # noqa: S101
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


def stats(url: str) -> dict[str, Any]:
    """The counts of the service so far."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", "/stats")
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def options_given() -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field in attrs.fields(Options):
        if field.type is bool:
            parser.add_argument(f"--{field.name}", action="store_true")
        else:
            parser.add_argument(f"--{field.name}", type=field.type or str, default=field.default)
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    asyncio.run(serve(options_given()))
