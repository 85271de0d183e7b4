"""A ClickHouse server or cluster, asked through its HTTP interface."""

import asyncio
import io
import logging
from typing import Any, Final, NoReturn
from uuid import uuid4

import aiohttp

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import BackendError, Limits, Result, Statement
from helicone_sessions.local.drivers.clickhouse_address import PASSWORD_VARIABLE, parse_address
from helicone_sessions.local.drivers.clickhouse_protocol import form, result
from helicone_sessions.local.drivers.clickhouse_rights import Rights
from helicone_sessions.local.drivers.limits import check

_LOG: Final = logging.getLogger(__name__)

LEAST_VERSION: Final = "22.3"
# Seconds beyond the limit of a query, within which the server says itself that it is over.
_MARGIN: Final = 10.0
_SECONDS_TO_CONNECT: Final = 10.0
# For all that is looked at when it is opened.
_SECONDS_TO_OPEN: Final = 10.0
# Statements of more characters, or with more of them in their values, are made into a form in a thread.
_LARGE: Final = 100_000
_SECONDS_TO_KILL: Final = 5.0
# ClickHouse closes idle connections after 3 seconds in its older versions.
_SECONDS_IDLE: Final = 2.0
_FORM_OF_ANSWERS: Final = {"default_format": "JSONCompact", "wait_end_of_query": "1"}
_WRONG_USER: Final = (192, 193, 194, 516)
# What a server says to what it does not know: functions, types, parameters, words.
_LACKING: Final = (36, 42, 43, 44, 46, 47, 48, 50, 62, 63, 115, 344, 456, 457)
# What the engine's statements are made of; the text also shows that parameters arrive as they were sent.
_NEEDED: Final = Statement(
    """
SELECT {word:String}, mapContains(map('a', 1), 'a'), CAST(1 AS Bool), 'a' ILIKE 'A',
  fromUnixTimestamp64Milli({moment:Int64}, 'UTC'), arrayReduce('quantileExactInclusive(0.75)', [1.5, 2.5]),
  arrayReduce('histogram(10)', [1.5, 2.5]), sum(1) OVER (PARTITION BY dummy)
FROM system.one""",
    {"word": "a\\\\b\\tc\\nd'{x:String}", "moment": 0},
)
_WORD: Final = "a\\b\tc\nd'{x:String}"


class _TimedOut(BackendError):
    """No answer came in time; the query may still be running."""


class ClickHouseBackend:
    """A ClickHouse server or cluster, asked through its HTTP interface.

    A cluster needs nothing special: ask any of its servers for a database with ``Distributed`` tables.

    Args:
        url: ``http://user:password@host:8123/database``, or with ``https`` (the certificate is checked
            against those that the system trusts). Without a user it is ``default``, without a database the
            user's own default one.
        limits: What one query may take. A user with ``readonly = 1`` may send no settings: then the limits
            are those of its profile, and of these only the seconds are kept.
        password: The password, if it is not in the URL; else the environment variable
            ``HELICONE_SESSIONS_CLICKHOUSE_PASSWORD`` is read.
        session: A session of one's own, which is not closed; without it one is made.

    Raises:
        ConfigurationError: The URL is none that can be used, or a limit is not above zero.
    """

    def __init__(
        self,
        url: str,
        *,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        password: str | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        check(limits)
        self._address = parse_address(url, password)
        self._limits = limits
        self._session = session
        self._is_ours = session is None
        self._is_closed = False
        # Before that, nothing is known to be there that a query could be ended on.
        self._was_answered = False
        self._rights = Rights()
        self._asked: set[asyncio.Task[Any]] = set()
        self._kills: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"ClickHouseBackend({str(self._address)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a backend is not pickled; make one where it is used")

    async def open(self) -> None:
        """Connect, and look whether the server knows what is needed and what the user may set.

        Raises:
            ConfigurationError: It cannot be used; the message says why, and what to do.
        """
        if self._is_closed:
            raise ConfigurationError("the ClickHouse backend is closed; make a new one")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(keepalive_timeout=_SECONDS_IDLE),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with asyncio.timeout(_SECONDS_TO_OPEN):
                await self._look()
        except TimeoutError:
            await self._let_go()
            late = BackendError(f"it did not answer within {_SECONDS_TO_OPEN:g} s{self._hint()}")
            raise ConfigurationError(self._unusable(late)) from None
        except BackendError as error:
            await self._let_go()
            raise ConfigurationError(self._unusable(error)) from None
        except BaseException:
            await self._let_go()
            raise

    async def _look(self) -> None:
        version = (await self._ask(Statement("SELECT version()"), {}, self._limits)).rows[0][0]
        try:
            found = (await self._ask(_NEEDED, {}, self._limits)).rows[0][0]
        except BackendError as error:
            if error.code not in _LACKING:
                raise
            raise ConfigurationError(
                f"ClickHouse at {self._address.place} is version {version} and lacks what the queries need;"
                f" {LEAST_VERSION} or later is due. It says: {error}"
            ) from None
        if found != _WORD:
            raise ConfigurationError(
                f"ClickHouse at {self._address.place} (version {version}) does not get parameters as they are"
                f" sent: {_WORD!r} became {found!r}; look at what stands between"
            )
        rows = (await self._ask(Rights.asked_for, {}, self._limits)).rows
        self._rights = Rights.read(rows)
        self._was_answered = True

    def _unusable(self, error: BackendError) -> str:
        place, user = self._address.place, self._address.user or "default"
        if error.code in _WRONG_USER:
            return (
                f"ClickHouse at {place} does not let user {user!r} in: check user and password in the URL, or"
                f" the password in {PASSWORD_VARIABLE}. It says: {error}"
            )
        return f"ClickHouse at {place} cannot be used: {error}"

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        """What *statement* selects.

        Raises:
            BackendError: ClickHouse refused or gave up, or no answer came.
            ConfigurationError: The backend is not open.
        """
        if limits is None:
            limits = self._limits
        else:
            check(limits)
        return await self._ask(statement, self._rights.settings(limits), limits)

    async def _ask(self, statement: Statement, settings: dict[str, str], limits: Limits) -> Result:
        if self._is_closed or self._session is None or self._session.closed:
            raise ConfigurationError("the ClickHouse backend is not open")
        task = asyncio.create_task(self._answer(self._session, statement, settings, limits))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not self._is_closed or caller is None or caller.cancelling():
                raise
        raise BackendError("the ClickHouse backend was closed before the answer came")

    async def _answer(
        self, session: aiohttp.ClientSession, statement: Statement, settings: dict[str, str], limits: Limits
    ) -> Result:
        query_id = uuid4().hex
        settings = {
            "query_id": query_id,
            "default_format": "JSONCompact",
            "wait_end_of_query": "1",
        } | settings
        seconds = None if limits.seconds is None else limits.seconds + _MARGIN
        try:
            answer = await self._post(session, statement, settings, seconds)
        except (asyncio.CancelledError, _TimedOut):
            if self._was_answered and not self._rights.stops_on_close:
                self._kill(session, query_id)
            raise
        return result(*answer, self._address.password.hidden_in)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        statement: Statement,
        parameters: dict[str, str],
        seconds: float | None,
    ) -> tuple[int, Any, bytes]:
        if _is_large(statement):
            content_type, body = await asyncio.to_thread(form, statement)
        else:
            content_type, body = form(statement)
        failure: BackendError
        try:
            async with session.post(
                self._address.url,
                params=parameters,
                data=io.BytesIO(body),
                headers=self._address.headers() | {"Content-Type": content_type},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_SECONDS_TO_CONNECT),
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                return response.status, response.headers, await response.read()
        except aiohttp.ConnectionTimeoutError:
            failure = BackendError(f"no connection within {_SECONDS_TO_CONNECT:g} s{self._hint()}")
        except TimeoutError:
            failure = _TimedOut(f"no answer of ClickHouse within {seconds:g} s; the query was given up")
        except (aiohttp.ClientError, OSError) as error:
            failure = BackendError(self._explained(error))
        # Raised here, so that no error of aiohttp, which knows the headers, hangs on it.
        raise failure

    def _explained(self, error: Exception) -> str:
        place = self._address.place
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return (
                    f"the certificate of {place} is not trusted: {error.certificate_error}; add the authority"
                    " behind it to those that the system trusts"
                )
            case aiohttp.ClientConnectorSSLError():
                return f"no TLS connection to {place}: {error.os_error}{self._hint()}"
            case aiohttp.ClientConnectorError():
                return f"no connection to {place}: {error.os_error}{self._hint()}"
        kind = type(error).__name__
        return f"the connection to {place} broke before the answer was whole ({kind}){self._hint()}"

    def _hint(self) -> str:
        if self._address.has_port:
            return f"; check host and port, and that the server speaks {self._address.url.scheme} there"
        return "; the URL names no port: ClickHouse mostly listens on 8123 (http) or 8443 (https)"

    def _kill(self, session: aiohttp.ClientSession, query_id: str) -> None:
        task = asyncio.create_task(self._send_kill(session, query_id))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def _send_kill(self, session: aiohttp.ClientSession, query_id: str) -> None:
        # The id is ours; every user may end queries of its own.
        statement = Statement(f"KILL QUERY WHERE query_id = '{query_id}' ASYNC")
        try:
            await self._post(session, statement, {}, _SECONDS_TO_KILL)
        except BackendError as error:
            _LOG.warning("a query that nobody waits for could not be ended: %s", error)

    async def aclose(self) -> None:
        """Let go of all connections; queries under way are ended."""
        self._is_closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        for asked in self._asked:
            asked.cancel()
        # In this order: those that are cancelled start what ends their queries on the server.
        await asyncio.gather(*self._asked, return_exceptions=True)
        await asyncio.gather(*self._kills)
        if self._is_ours and self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _is_large(statement: Statement) -> bool:
    values = statement.parameters.values()
    return len(statement.text) + sum(len(value) for value in values if isinstance(value, str)) > _LARGE
