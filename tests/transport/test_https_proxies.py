"""Proxies that are themselves reached over TLS."""

import asyncio
import os
import ssl
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import pytest
import trustme

from helicone_sessions.testing import FakeHelicone, metrics

KEY = "sk-helicone-example-key"
# A separate program, because aiohttp reads the trusted certificates when it is imported.
PROGRAM = """
import asyncio
from helicone_sessions import HeliconeClient

async def main():
    async with HeliconeClient(max_retries=0) as client:
        print((await client.get_metrics()).average.session_cost)

asyncio.run(main())
"""


Connection = tuple[StreamReader, StreamWriter]


async def relayed(first: Connection, second: Connection) -> None:
    """Pass bytes both ways until both sides end."""

    async def passed(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    await asyncio.gather(passed(first[0], second[1]), passed(second[0], first[1]))


def certified(authority: trustme.CA, host: str) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(made)
    return made


@attrs.define
class Proxy:
    """A TLS proxy that leads every host to one of two ports of this machine."""

    plain: int
    secure: int
    lines: list[str] = attrs.field(factory=list)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.lines.append(head.decode().partition("\r\n")[0])
        is_tunnel = head.startswith(b"CONNECT ")
        there = await asyncio.open_connection("127.0.0.1", self.secure if is_tunnel else self.plain)
        if is_tunnel:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            there[1].write(head)
        await relayed((reader, writer), there)


@asynccontextmanager
async def over_tls(authority: trustme.CA, host: str, plain: int) -> AsyncIterator[int]:
    """The port of a service with a certificate for *host* that passes everything to a plain port."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await relayed((reader, writer), await asyncio.open_connection("127.0.0.1", plain))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certified(authority, host)) as server:
        yield server.sockets[0].getsockname()[1]


async def run_program(**variables: str) -> tuple[str, str]:
    """The output and the errors of `PROGRAM` in an environment with only these proxies."""
    rest = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        env={**rest, "HELICONE_API_KEY": KEY, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    printed, failure = await program.communicate()
    return printed.decode(), failure.decode()


@pytest.mark.parametrize(
    ("scheme", "line"),
    [
        ("http", "POST http://service.test/v1/session/metrics/query HTTP/1.1"),
        ("https", "CONNECT service.test:443 HTTP/1.1"),
    ],
)
async def test_a_request_goes_through_a_proxy_that_is_reached_over_tls(
    tmp_path: Path, scheme: str, line: str
) -> None:
    """An https:// proxy receives requests to http addresses, and tunnels requests to https addresses."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with FakeHelicone(api_key=KEY) as service:
        service.otherwise(metrics(cost=7.0))
        plain = int(service.url.rpartition(":")[2])
        async with over_tls(authority, "service.test", plain) as secure:
            proxy = Proxy(plain, secure)
            tls = certified(authority, "localhost")
            async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls) as server:
                printed, failure = await run_program(
                    HELICONE_BASE_URL=f"{scheme}://service.test",
                    SSL_CERT_FILE=str(tmp_path / "authority.pem"),
                    **{f"{scheme.upper()}_PROXY": f"https://localhost:{server.sockets[0].getsockname()[1]}"},
                )

    assert "7.0\n" == printed, failure
    assert [line] == proxy.lines
