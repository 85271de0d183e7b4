"""The connections of a client, based on aiohttp."""

import asyncio
import platform
import warnings
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from helicone_sessions.errors import ConfigurationError, ConnectionFailed, RequestTimeout, TransportError
from helicone_sessions.filters.cautions import DataGaps
from helicone_sessions.messages import protocol
from helicone_sessions.messages.grid_query import offers_grid
from helicone_sessions.transport.endpoint import Settings
from helicone_sessions.transport.warn import Place

_USER_AGENT: Final = f"helicone-sessions/{version('helicone-sessions')} Python/{platform.python_version()}"
_HEADERS: Final = {**protocol.HEADERS, "User-Agent": _USER_AGENT}
# The timeouts of aiohttp are not used because they include the wait for a free connection.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
# The pure-Python parser of aiohttp raises `HttpProcessingError` for a malformed body.
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError)
_NOT_HTTP: Final = (aiohttp.ClientResponseError, HttpProcessingError)
_NO_CERTIFICATE: Final = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)
# The server closed the connection before responding, for example because it had been idle too long.
_CLOSED: Final = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientOSError,
    aiohttp.ClientConnectionResetError,
)


class TimeLimits:
    """One event loop timer for all active time limits.

    >>> async def hang(limits):
    ...     with TimeLimit(limits, 0.001):
    ...         await asyncio.Event().wait()
    >>> asyncio.run(hang(TimeLimits()))
    Traceback (most recent call last):
        ...
    TimeoutError
    """

    def __init__(self) -> None:
        self.running: set[TimeLimit] = set()
        self.fires_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def fire_at(self, when: float) -> None:
        """Set the timer to a time on the event loop's clock."""
        self._unset()
        self.fires_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._fire)

    def _fire(self) -> None:
        self._unset()
        now = asyncio.get_running_loop().time()
        for limit in [limit for limit in self.running if limit.ends <= now]:
            limit.expire()
        if self.running:
            self.fire_at(min(limit.ends for limit in self.running))

    def close(self) -> None:
        """Cancel the timer unless a block in progress needs it."""
        if not self.running:
            self._unset()

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self.fires_at = None, float("inf")


class TimeLimit:
    """A context manager that raises `TimeoutError` a number of seconds after its creation.

    Like `asyncio.timeout`, it distinguishes its own cancellation from others. `asyncio.timeout` would add 4
    µs to a query of 90 µs (CPython 3.11), because it creates and cancels a timer each time.
    """

    __slots__ = ("_cancelling", "_limits", "_task", "ends")

    def __init__(self, limits: TimeLimits, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._limits = limits
        self._task = task
        self._cancelling = task.cancelling()
        self.ends = ends = loop.time() + seconds
        limits.running.add(self)
        # An earlier timer also covers this block: when it fires, it is set to the next limit.
        if ends < limits.fires_at:
            limits.fire_at(ends)

    def __enter__(self) -> Self:
        return self

    def expire(self) -> None:
        """Cancel the task that runs the block."""
        self._limits.running.remove(self)
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = self._limits.running
        if self in running:
            running.remove(self)
        elif self._task.uncancel() <= self._cancelling and kind and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error


class Connection:
    """The connections of a client, opened on first use.

    A session that the caller passed in is never closed.

    Args:
        session: The session that the caller passed in, or None.
        settings: The address of the service, the API key and the proxy.
        size: The maximum number of connections.
        made_at: The line that created the client, for the warning about an unclosed client.
    """

    def __init__(
        self, session: aiohttp.ClientSession | None, settings: Settings, size: int, made_at: Place
    ) -> None:
        # Features that the server has announced in response headers.
        self.follows_contract = False
        self.offers_grid = False
        self.gaps = DataGaps()
        # False once a response announces that the data has no gaps.
        self.may_have_gaps = True
        self._session = session
        self._is_ours = session is None
        self._settings = settings
        self._size = size
        self._made_at = made_at
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._limits = TimeLimits()
        # The sessions to close: the one in use and, if it was needed, one without keep-alive.
        self._ours: list[aiohttp.ClientSession] = []
        self._urls: dict[str, URL] = {}

    def __repr__(self) -> str:
        return f"Connection({self._settings.masked(str(self._settings.base_url))!r}, api_key='***')"

    def _url(self, path: str) -> URL:
        if (url := self._urls.get(path)) is None:
            url = self._urls[path] = self._settings.base_url / path
        return url

    def shown_url(self, path: str) -> str:
        """The URL of an endpoint, as shown in messages: without the key that some users put into the URL."""
        return self._settings.masked(str(self._url(path)))

    def claim(self) -> None:
        """Bind the client to the running loop.

        Raises:
            ConfigurationError: The client is closed or was first used on another event loop, or asyncio is
                not running.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                problem="the client needs asyncio, and no asyncio event loop is running",
                remedy="Run it with asyncio.run(); it does not work under trio",
            ) from None
        if self._is_closed:
            raise ConfigurationError(problem="the client is closed", remedy="Create a new one")
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigurationError(
                    problem="the client was first used on another event loop",
                    remedy="Create one client per loop, inside the function that asyncio.run() runs",
                )
            self._loop = loop

    def _open(self) -> aiohttp.ClientSession:
        self.claim()
        session = self._session
        if session is None:
            session = self._session = self._made(force_close=False)
        elif not self._is_ours and session.closed:
            raise ConfigurationError(
                argument="session",
                problem="is closed",
                remedy="Pass an open one, and close it after the client",
            )
        return session

    def _made(self, *, force_close: bool) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._size, force_close=force_close),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Headers of the session are merged once, not for each request. The key is not among them because
            # aiohttp would also send it to a proxy.
            headers=_HEADERS,
        )
        self._ours.append(session)
        return session

    def _request_headers(self) -> dict[str, str]:
        # Built for each request: if the headers were stored, dumps of the client would contain the key.
        key = {"Authorization": f"Bearer {self._settings.api_key.reveal()}"}
        return key if self._is_ours else {**_HEADERS, **key}

    async def send(
        self, call: protocol.Call, seconds: float, limit: str, whole: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a call, and return the status, headers and body of the response.

        If the connection closes before a response arrives, the request is immediately repeated once on a new
        connection, because the server may have closed the first one while it was idle.

        Args:
            call: The endpoint and the request body.
            seconds: The time left for receiving the complete response, in seconds.
            limit: The name of the time limit, for the error.
            whole: The full time limit in seconds, for the error.

        Raises:
            RequestTimeout: No complete response arrived in time.
            ConnectionFailed: The connection could not be opened, or it broke.
            ConfigurationError: The client is closed or was first used on another event loop.
        """
        session = self._open()
        try:
            with TimeLimit(self._limits, seconds):
                try:
                    response = await self._post(session, call)
                except _CLOSED as error:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    response = await self._post(self._spare_session(), call)
                content = response.content
                # A small body usually arrives together with the headers.
                raw = content.read_nowait() if content.is_eof() else await _read(response)
        except _FAILURES as error:
            failed, cause = self._failure(error, limit, whole)
        else:
            self._note(response.headers)
            return response.status, response.headers, raw
        # Raised outside the handlers so that the caught error does not become its context.
        raise failed from cause

    def _note(self, headers: Mapping[str, str]) -> None:
        """Record the features and data gaps that the server announces in the headers of a response."""
        if protocol.follows_the_contract(headers):
            self.follows_contract = True
            self.offers_grid = offers_grid(headers)
            self.gaps = protocol.announced_gaps(headers)
            self.may_have_gaps = bool(self.gaps)
        elif not self.follows_contract:
            self.may_have_gaps = False

    def _post(self, session: aiohttp.ClientSession, call: protocol.Call) -> Awaitable[aiohttp.ClientResponse]:
        return session.post(
            self._url(call.endpoint.path),
            data=call.body,
            headers=self._request_headers(),
            proxy=self._settings.proxy,
            timeout=_NO_TIMEOUT,
            allow_redirects=False,
            raise_for_status=False,
            # The protocol module decompresses the body, with a limit on its size.
            auto_decompress=False,
        )

    def _spare_session(self) -> aiohttp.ClientSession:
        """Return a session that opens new connections, or the caller's session if there is one."""
        if not self._is_ours:
            return self._open()
        return self._ours[1] if len(self._ours) > 1 else self._made(force_close=True)

    def _failure(self, error: Exception, limit: str, whole: float) -> tuple[TransportError, Exception | None]:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            scope = "per attempt" if limit == "timeout" else "all attempts"
            what = f"no complete response within {whole:g} s ({limit}, {scope})"
            return RequestTimeout(what, limit=limit, seconds=whole), error
        origin = self._settings.base_url.origin()
        failed = ConnectionFailed(f"{_what_failed(error, origin)}: {self._settings.masked(_words(error))}")
        failed.is_lasting = isinstance(error, (*_NO_CERTIFICATE, UnicodeError)) or (
            isinstance(error, aiohttp.ClientHttpProxyError) and error.status < 500
        )
        # Other aiohttp errors contain parts of a request or response and, behind a proxy, its password.
        has_no_secret = isinstance(error, OSError) and self._settings.proxy is None
        return failed, error if has_no_secret else None

    async def close(self) -> None:
        """Close all sessions except the caller's."""
        self._is_closed = True
        self._limits.close()
        for session in self._ours:
            await session.close()

    def __del__(self) -> None:
        open_sessions = [session for session in self.__dict__.get("_ours", ()) if not session.closed]
        if not open_sessions:
            return
        try:
            warnings.warn_explicit(
                "a HeliconeClient was never closed: use it with `async with`, or end it with"
                f" `await client.aclose()`; it was created at {self._made_at.filename}:{self._made_at.line}",
                category=ResourceWarning,
                filename=self._made_at.filename,
                lineno=self._made_at.line,
                source=self,
            )
        finally:
            # Otherwise aiohttp warns about each session and connector again, without the line that created
            # the client.
            for session in open_sessions:
                connector = session.connector
                session.detach()
                _close_at_once(connector)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read the raw body; stop after `protocol.LARGEST_RESPONSE` bytes."""
    content, connection = response.content, response.connection
    if connection is not None and connection.protocol is not None:
        _watch(content, connection.protocol.closed)
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= protocol.LARGEST_RESPONSE and (piece := await content.readany()):
            pieces.append(piece)
            size += len(piece)
    finally:
        # After a complete body this has no effect: aiohttp has already released the connection.
        response.close()
    return b"".join(pieces)


def _watch(content: aiohttp.StreamReader, closed: "asyncio.Future[None] | None") -> None:
    """Stop reading a body when its connection closes.

    If aiohttp cannot parse a chunk, it closes the connection but reports no error to the reader.
    """

    def end(closed: "asyncio.Future[None]") -> None:
        if not closed.cancelled():
            closed.exception()
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the response is broken"))

    if closed is not None:
        closed.add_done_callback(end)


def _what_failed(error: Exception, origin: URL) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the connection to {origin} with status {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the connection to the proxy on the way to {origin} failed"
    if isinstance(error, _NOT_HTTP):
        return f"the response from {origin} is not HTTP"
    return f"the connection to {origin} failed"


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed it without a complete response"
    words = error.message if isinstance(error, _NOT_HTTP) else str(error)
    return words or type(error).__name__


def _close_at_once(connector: aiohttp.BaseConnector | None) -> None:
    """Close the connections without awaiting anything.

    The first step of ``close()`` closes the connections. The remaining steps only wait and are skipped.
    """
    if connector is not None:
        closing = connector.close().__await__()
        with suppress(StopIteration, RuntimeError):
            next(closing)
        closing.close()
