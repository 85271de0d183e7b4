"""The aiohttp session behind a client; the one place of the core that imports aiohttp."""

import asyncio
import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from typing import Final

import aiohttp

from helicone_sessions.errors import ConfigurationError, ConnectionFailed, RequestTimeout, TransportError
from helicone_sessions.messages import protocol
from helicone_sessions.transport.endpoint import Settings
from helicone_sessions.transport.time_limit import TimeLimit, TimeLimits
from helicone_sessions.transport.warn import Place

_USER_AGENT: Final = f"helicone-sessions/{version('helicone-sessions')} Python/{platform.python_version()}"
_HEADERS: Final = {**protocol.HEADERS, "User-Agent": _USER_AGENT}
_LASTING: Final = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)
# aiohttp's own timeout would count the wait for a connection as well.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)


class Connection:
    """The connections of a client: made when first used, and closed only if they are ours.

    Args:
        session: A session of the caller's, or None for one of our own.
        settings: Where the service is, which key opens it, and by which proxy it is reached.
        size: How many connections there are at most.
        made_at: Where the client was made, for the warning about one that was not closed.
    """

    def __init__(
        self, session: aiohttp.ClientSession | None, settings: Settings, size: int, made_at: Place
    ) -> None:
        # Whether the server says that it reads filters as the contract does.
        self.follows_contract = False
        self._session = session
        self._is_ours = session is None
        self._settings = settings
        self._size = size
        self._made_at = made_at
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._limits = TimeLimits()
        self._url = settings.base_url / protocol.PATH

    def __repr__(self) -> str:
        return f"Connection({self.shown_url!r}, api_key='***')"

    @cached_property
    def shown_url(self) -> str:
        """Where the requests go, as it may be shown: some put the key into the address too."""
        return self._settings.masked(str(self._url))

    def claim(self) -> None:
        """Bind the client to the running loop.

        Raises:
            ConfigurationError: It is closed, or was used on another loop.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise ConfigurationError(problem="the client is closed", remedy="Make a new one")
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigurationError(
                    "the client was first used on another event loop; make one client per loop,"
                    " inside the function that asyncio.run() runs"
                )
            self._loop = loop

    def _open(self) -> None:
        self.claim()
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._size),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Merged once, and not into each request. The key is not among them: aiohttp would send it to a
            # proxy as well.
            headers=_HEADERS,
        )

    def _request_headers(self) -> dict[str, str]:
        # Made when they are needed: kept, they would show the key to whoever dumps the client.
        key = {"Authorization": f"Bearer {self._settings.api_key.reveal()}"}
        return key if self._is_ours else {**_HEADERS, **key}

    async def send(
        self, body: bytes, seconds: float, limit: str, whole: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the response to a request with *body*.

        Args:
            body: The request's body.
            seconds: The time limit, from here to the end of the response.
            limit: The name of the limit.
            whole: The length of the limit in seconds, of which some may have passed.

        Raises:
            RequestTimeout: There is no complete response in time.
            ConnectionFailed: There is no connection, or it broke.
            ConfigurationError: The client is closed, or was used on another loop.
        """
        if self._session is None or self._loop is not asyncio.get_running_loop() or self._is_closed:
            self._open()
        session = self._session
        assert session is not None  # noqa: S101 - for type checkers
        if session.closed:
            raise ConfigurationError("the session that was passed to the client is closed")
        try:
            with TimeLimit(self._limits, seconds):
                response = await session.post(
                    self._url,
                    data=body,
                    headers=self._request_headers(),
                    proxy=self._settings.proxy,
                    timeout=_NO_TIMEOUT,
                    allow_redirects=False,
                    raise_for_status=False,
                )
                # Read to its end it gives its connection back, and closes it when that fails.
                raw = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            failed, cause = self._failure(error, limit, whole)
        else:
            if not self.follows_contract:
                self.follows_contract = protocol.follows_the_contract(response.headers)
            return response.status, response.headers, raw
        # Here, and not above, so that what was caught is not its context.
        raise failed from cause

    def _failure(self, error: Exception, limit: str, whole: float) -> tuple[TransportError, Exception | None]:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            scope = "per attempt" if limit == "timeout" else "all attempts"
            what = f"no complete response within {whole:g} s ({limit}, {scope})"
            return RequestTimeout(what, limit=limit, seconds=whole), error
        said = self._settings.masked(str(error) or type(error).__name__)
        what = f"the connection to {self._settings.base_url.origin()} failed: {said}"
        # One error of aiohttp shows all headers in its repr, and others the password of a proxy.
        is_telling = hasattr(error, "request_info") or self._settings.proxy is not None
        failed = ConnectionFailed(what)
        failed.is_lasting = isinstance(error, _LASTING)
        return failed, None if is_telling else error

    async def close(self) -> None:
        """Close what is ours."""
        self._is_closed = True
        self._limits.close()
        if self._session is not None and self._is_ours:
            await self._session.close()

    def __del__(self) -> None:
        session = self.__dict__.get("_session")
        if session is None or not self._is_ours or session.closed:
            return
        try:
            warnings.warn_explicit(
                "a HeliconeClient was never closed: use it with `async with`, or end it with"
                f" `await client.aclose()`; it was made at {self._made_at.filename}:{self._made_at.line}",
                category=ResourceWarning,
                filename=self._made_at.filename,
                lineno=self._made_at.line,
                source=self,
            )
        finally:
            # aiohttp would say so again, without the place, of the session and of its connector.
            connector = session.connector
            session.detach()
            _close_at_once(connector)


def _close_at_once(connector: aiohttp.BaseConnector | None) -> None:
    """Close the connections from where nothing can be awaited: closing begins with that, and then waits."""
    if connector is not None:
        closing = connector.close().__await__()
        with suppress(StopIteration, RuntimeError):
            next(closing)
        closing.close()
