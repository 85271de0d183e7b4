"""Reads request and response bodies, which are stored outside the service under signed URLs.

The client does not trust these URLs, because they come from the service. It sends no key with the requests,
connects only to public addresses over https, and limits the size of the responses.
"""

import asyncio
import json
import socket
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from helicone_sessions.clock import current
from helicone_sessions.transport.endpoint import Settings

_CONCURRENCY: Final = 10
_MOST_BYTES: Final = 16 * 1024 * 1024
_PIECE: Final = 64 * 1024
_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SECONDS: Final = 60.0
# The seconds to wait before each retry.
_WAITS: Final = (0.5, 2.0)


class BodyUnavailable(Exception):
    """Raised when a body cannot be read.

    Args:
        reason: The problem. It must not contain the URL, which is a secret.
        is_transient: Whether a retry may succeed.
    """

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_transient = is_transient


@attrs.frozen
class SignedBody:
    """The bodies of a request.

    Args:
        request: The request body, as text or JSON.
        response: The response body, as text or JSON.
        size: The total size of both bodies, in bytes.
    """

    request: Any
    response: Any
    size: int


class SignedBodies:
    """A reader of bodies; use it with ``async with``.

    Args:
        settings: The address of the service, and the proxy. The host of the service may use http and a
            private address.
        most_bytes: The maximum size of a body, in bytes.
    """

    def __init__(self, settings: Settings, *, most_bytes: int = _MOST_BYTES) -> None:
        self._proxy = settings.proxy
        self._host = settings.base_url.host
        self._most_bytes = most_bytes
        self._slots = asyncio.Semaphore(_CONCURRENCY)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trusted = {self._host, self._proxy and self._proxy.host}
        connector = aiohttp.TCPConnector(
            limit=_CONCURRENCY, resolver=_PublicResolver(frozenset(host for host in trusted if host))
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, address: object) -> SignedBody:
        """Read the bodies of a request.

        Args:
            address: The ``signed_body_url`` of a request.

        Raises:
            BodyUnavailable: The body cannot be read.
        """
        async with self._slots:
            for wait in _WAITS:
                try:
                    return await self._read(address)
                except BodyUnavailable as error:
                    if not error.is_transient:
                        raise
                await current().sleep(wait)
            return await self._read(address)

    async def _read(self, address: object) -> SignedBody:
        url = self._checked(address)
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                found = await self._get(url)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = "timeout" if isinstance(error, TimeoutError) else "no connection"
                raise BodyUnavailable(reason, is_transient=True) from None
            if not isinstance(found, str):
                return _parsed(bytes(found))
            target = self._checked(found, url)
            if target.host != url.host:
                raise BodyUnavailable("a redirect to another host")
            url = target
        raise BodyUnavailable("too many redirects")

    async def _get(self, url: URL) -> bytearray | str:
        """Request a URL, and return the body or, for a redirect, the target."""
        assert self._session is not None
        async with self._session.get(
            url, allow_redirects=False, proxy=self._proxy if url.host != self._host else None
        ) as response:
            if response.status in _REDIRECTS:
                return response.headers.get("Location", "")
            if response.status != 200:
                is_transient = response.status >= 500 or response.status == 429
                raise BodyUnavailable(f"status {response.status}", is_transient=is_transient)
            body = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                body += piece
                if len(body) > self._most_bytes:
                    raise BodyUnavailable(f"more than {self._most_bytes:,} bytes")
            return body

    def _checked(self, address: object, base: URL | None = None) -> URL:
        try:
            url = URL(address) if isinstance(address, str) else URL()
            url = url if base is None else base.join(url)
        except ValueError:
            url = URL()
        if not url.host:
            raise BodyUnavailable("no address")
        if url.scheme != "https" and not (url.scheme == "http" and url.host == self._host):
            raise BodyUnavailable("an address without https")
        if url.host != self._host and _is_private(url.host):
            raise BodyUnavailable("a private address")
        return url


class _PublicResolver(AbstractResolver):
    """Resolves hosts, and rejects a host if any of its addresses is not public.

    Args:
        trusted: Hosts that may have any address.
    """

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        # Check all addresses, because the connector may use any of them.
        if host not in self._trusted and any(_is_private(one["host"]) for one in found):
            raise BodyUnavailable("a private address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _is_private(host: str) -> bool:
    """Whether the host is a numeric IP address that is not public.

    >>> [_is_private(host) for host in ("10.0.0.1", "::1", "2130706433", "8.8.8.8", "example.com")]
    [True, True, True, False, False]
    """
    try:
        address = ip_address(host)
    except ValueError:
        # aiohttp does not resolve such numbers, and the operating system reads 2130706433 as 127.0.0.1.
        return ":" in host or host.replace(".", "").isdigit()
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return not address.is_global


def _parsed(raw: bytes) -> SignedBody:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping):
        raise BodyUnavailable("unexpected content")
    return SignedBody(content.get("request"), content.get("response"), len(raw))
