"""A driver for the HTTP interface of ClickHouse servers and clusters."""

import asyncio
import io
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, NoReturn, Self
from urllib.parse import unquote
from uuid import uuid4

import aiohttp
import attrs
from yarl import URL

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import (
    LARGE_FILTER_SETTINGS,
    LIMIT_SETTING_NAMES,
    DriverError,
    Limits,
    Result,
    Statement,
    limit_settings,
)
from helicone_sessions.masking import masked_text

_LOG: Final = logging.getLogger(__name__)

_VARIABLE: Final = "HELICONE_SESSIONS_CLICKHOUSE_PASSWORD"
_SHAPE: Final = "http://user:password@host:8123/database"
_REMEDY: Final = (
    f"Write it as {_SHAPE} (or https:), with special characters of the password as %XX,"
    f" or leave the password out and set {_VARIABLE}"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

LEAST_VERSION: Final = "22.3"
# The number of seconds after the timeout of a query during which the server can still report the timeout.
_MARGIN: Final = 10.0
_SECONDS_TO_CONNECT: Final = 10.0
# The timeout for all checks that run when the driver is opened.
_SECONDS_TO_OPEN: Final = 10.0
# Statements are encoded on a thread if their text or their values have more characters than this.
_LARGE: Final = 100_000
_SECONDS_TO_KILL: Final = 5.0
# This is enough for a page of requests, even if JSON represents every character by a six-character escape.
_LARGEST_RESPONSE: Final = 128 * 1024 * 1024
# Older versions of ClickHouse close idle connections after 3 seconds.
_SECONDS_IDLE: Final = 2.0
_RESPONSE_SETTINGS: Final = {"default_format": "JSONCompact", "wait_end_of_query": "1"}
_WRONG_USER: Final = (192, 193, 194, 516)
# Error codes for unknown functions, types, parameters and syntax.
_LACKING: Final = (36, 42, 43, 44, 46, 47, 48, 50, 62, 63, 115, 344, 456, 457)
# A statement with all constructs that the engine uses. The word checks that parameters arrive unchanged.
_NEEDED: Final = Statement(
    """
SELECT {word:String}, mapContains(map('a', 1), 'a'), CAST(1 AS Bool), 'a' ILIKE 'A',
  fromUnixTimestamp64Milli({moment:Int64}, 'UTC'), arrayReduce('quantileExactInclusive(0.75)', [1.5, 2.5]),
  arrayReduce('histogram(10)', [1.5, 2.5]), sum(1) OVER (PARTITION BY dummy)
FROM system.one""",
    {"word": "a\\\\b\\tc\\nd'{x:String}", "moment": 0},
)
_WORD: Final = "a\\b\tc\nd'{x:String}"

_SETTINGS: Final = {
    "output_format_json_quote_64bit_integers": 0,
    "http_write_exception_in_output_format": 0,
    **LARGE_FILTER_SETTINGS,
}
# Together, these settings stop a query when its caller disconnects. The first alone has no effect.
_CANCEL: Final = "cancel_http_readonly_queries_on_client_close"
_READ_ONLY: Final = "readonly"
_SETTING_NAMES: Final = (*_SETTINGS, *LIMIT_SETTING_NAMES, _CANCEL, _READ_ONLY)

# A form field can have up to 128 KiB (`http_max_field_value_size`), and a character up to four bytes.
_LARGEST_FIELD: Final = 100_000
# A form can have up to 1000 fields (`http_max_fields`), including the fields in the URL.
_MOST_VALUES: Final = 800
_LONGEST_SHARED: Final = 500
_PLACEHOLDER: Final = re.compile(r"\{(\w+):([^{}]+)\}")
_LONGEST_TEXT: Final = 1_000
_WRONG_PORT: Final = "Check that host and port are those of ClickHouse's HTTP interface"
_CODE: Final = re.compile(r"Code: (\d+)\. DB::Exception: ")
_TOO_MANY_FIELDS: Final = ("Too many form fields", "Field value too long")
_WHOLE: Final = re.compile(r"(?:Nullable\()?U?Int(?:64|128|256)\)?")


class Password:
    """A password that cannot be printed, logged or pickled by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password is not pickled")

    def reveal(self) -> str:
        """Return the password as plain text."""
        return self._text


@attrs.frozen
class Address:
    """The address and the user of a ClickHouse server.

    Args:
        url: The URL without the user, the password and the database.
        user: The user; None means the server's default user.
        password: The password, which may be empty.
        database: The database; None means the user's default database.
        has_port: Whether the URL includes a port.
    """

    url: URL
    user: str | None
    password: Password
    database: str | None
    has_port: bool

    @property
    def place(self) -> str:
        """The host and the port, for messages."""
        host = self.url.host or ""
        return f"{f'[{host}]' if ':' in host else host}:{self.url.port}"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{self.url.scheme}://{user}{self.place}/{self.database or ''}"

    def headers(self) -> dict[str, str]:
        """Build the authentication headers. They are never stored, because they contain the password."""
        headers = {"X-ClickHouse-User": self.user or "default"}
        if self.password.reveal():
            headers["X-ClickHouse-Key"] = self.password.reveal()
        if self.database:
            headers["X-ClickHouse-Database"] = self.database
        return headers


def parse_address(text: str, password: str | None = None) -> Address:
    """Parse the URL of a ClickHouse server.

    Args:
        text: The URL, such as ``http://user:password@host:8123/database``. User, password and database are
            optional.
        password: The password. By default, it is taken from *text* or, if the URL has no password, from the
            environment variable ``HELICONE_SESSIONS_CLICKHOUSE_PASSWORD``.

    Raises:
        ConfigurationError: The URL is invalid. The message does not repeat the URL, because it may contain a
            password.
    """
    url = _url(text)
    database = unquote(_path(url)) or None
    if password is None:
        password = url.password
    if password is None:
        password = os.environ.get(_VARIABLE, "")
    if any(_CONTROL.search(part) for part in (url.user, password, database) if part):
        raise ConfigurationError(
            argument="clickhouse",
            problem="has a control character in its user, password or database",
            remedy="Check for a newline at the end",
        )
    return Address(
        url=URL.build(scheme=url.scheme, host=url.host or "", port=url.port, path="/"),
        user=url.user or None,
        password=Password(password),
        database=database,
        has_port=url.explicit_port is not None,
    )


def _url(text: str) -> URL:
    # The error is raised outside the `except` block, because yarl's error repeats parts of the text.
    url = _parsed(text)
    if url is None:
        raise _wrong("is not a valid URL")
    if url.scheme not in ("http", "https"):
        raise _wrong("must begin with http:// or https://, for ClickHouse's HTTP interface")
    if not url.host:
        raise _wrong("has no host")
    if url.raw_query_string or url.raw_fragment:
        raise _wrong("has a query string or a fragment, which have no effect")
    return url


def _parsed(text: str) -> URL | None:
    try:
        url = URL(text.strip())
        _ = url.port, url.user, url.password
    except (ValueError, TypeError, AttributeError):
        return None
    return url


def _path(url: URL) -> str:
    # The path is not decoded, because the name of a database may contain a slash (%2F).
    path = url.raw_path.strip("/")
    if "/" in path:
        raise _wrong("has a path with several parts")
    return path


def _wrong(problem: str) -> ConfigurationError:
    # The error never repeats the URL, because it may contain a password.
    return ConfigurationError(argument="clickhouse", problem=problem, remedy=_REMEDY)


@attrs.frozen
class UserRights:
    """The settings that may be sent with a user's queries: none until the server reports them.

    Args:
        settable: The settings that the server supports and the user may change, by name. Each value is the
            highest value that the user may set, or None if there is no maximum.
        is_read_only: Whether the user's profile is read-only.
        stops_on_close: Whether a query stops when its connection is closed.
    """

    statement: ClassVar[Statement] = Statement(
        "SELECT name, value, max, readonly FROM system.settings"
        f" WHERE name IN ({', '.join(map(repr, _SETTING_NAMES))})"
    )

    settable: dict[str, float | None] = attrs.field(factory=dict)
    is_read_only: bool = False
    stops_on_close: bool = False

    @classmethod
    def read(cls, rows: list[list[Any]]) -> Self:
        """Read the rights of a user from the rows that `statement` returns."""
        values = {name: value for name, value, _, _ in rows}
        mode = values.get(_READ_ONLY)
        settable = {
            name: _number(greatest)
            for name, _, greatest, is_fixed in rows
            # A user with `readonly = 1` must not send any settings.
            if mode != "1" and not int(is_fixed)
        }
        only_reads = mode != "0" or _READ_ONLY in settable
        cancels = values.get(_CANCEL) == "1" or _CANCEL in settable
        return cls(settable, is_read_only=mode != "0", stops_on_close=only_reads and cancels)

    def settings(self, limits: Limits) -> dict[str, str]:
        """Return the settings to send with a query that has these limits."""
        wanted: dict[str, float] = {**_SETTINGS, _CANCEL: 1, **limit_settings(limits)}
        if not self.is_read_only:
            wanted[_READ_ONLY] = 2
        return {name: self._written(name, value) for name, value in wanted.items() if name in self.settable}

    def _written(self, name: str, value: float) -> str:
        greatest = self.settable[name]
        if greatest is not None:
            value = min(value, greatest)
        # A smaller value would be written as 0, which means unlimited.
        return str(int(value)) if value == int(value) else f"{max(value, 0.001):.6f}"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


class _TimedOut(DriverError):
    """No response arrived in time, so the query may still be running."""


class _TooLarge(Exception):
    """A response is too large to be the result of one of the engine's queries."""


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = io.BytesIO()
    async for chunk in response.content.iter_any():
        body.write(chunk)
        if body.tell() > _LARGEST_RESPONSE:
            raise _TooLarge
    return body.getvalue()


class ClickHouseDriver:
    """A driver that queries a ClickHouse server or cluster over HTTP.

    To query a cluster, connect to any of its servers and use a database with ``Distributed`` tables.

    Args:
        url: The URL, such as ``http://user:password@host:8123/database``. For ``https``, the system must
            trust the server's certificate. By default, the user is ``default``, and the database is the
            user's default database.
        limits: The limits for one query. A user with ``readonly = 1`` must not send settings, so only
            ``seconds`` and the limits of the user's profile apply to such a user.
        password: The password, if it is not in the URL. By default, it is taken from the environment variable
            ``HELICONE_SESSIONS_CLICKHOUSE_PASSWORD``.
        session: An aiohttp session to use. The driver does not close it. By default, the driver creates a
            session.

    Raises:
        ConfigurationError: The URL is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        limits: Limits = Limits(),
        password: str | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._address = parse_address(url, password)
        self._limits = limits
        self._session = session
        self._is_ours = session is None
        self._is_closed = False
        # Until the server has responded once, no query can be running there, so there is none to kill.
        self._was_answered = False
        self._rights = UserRights()
        self._pending: set[asyncio.Task[Any]] = set()
        self._kills: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"ClickHouseDriver({str(self._address)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a driver cannot be pickled; create one where it is used")

    async def open(self) -> None:
        """Connect, check that the server supports all required functions, and read the user's rights.

        Raises:
            ConfigurationError: The server cannot be used. The message explains why, and what to do.
        """
        if self._is_closed:
            raise ConfigurationError(problem="the ClickHouse driver is closed", remedy="Create a new one")
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
            late = DriverError(f"it did not answer within {_SECONDS_TO_OPEN:g} s", remedy=self._hint())
            raise self._cannot_open(late) from None
        except DriverError as error:
            await self._let_go()
            raise self._cannot_open(error) from None
        except BaseException:
            await self._let_go()
            raise

    async def _look(self) -> None:
        version = (await self._ask(Statement("SELECT version()"), {}, self._limits)).rows[0][0]
        try:
            found = (await self._ask(_NEEDED, {}, self._limits)).rows[0][0]
        except DriverError as error:
            if error.code not in _LACKING:
                raise
            raise _unusable(
                f"has version {version} at {self._address.place}, which lacks functions that the queries"
                f" need ({error.problem})",
                f"Use {LEAST_VERSION} or later",
            ) from None
        if found != _WORD:
            raise _unusable(
                f"(version {version}) at {self._address.place} receives modified parameters: {_WORD!r} became"
                f" {found!r}",
                "Check for a proxy in between",
            )
        rows = (await self._ask(UserRights.statement, {}, self._limits)).rows
        self._rights = UserRights.read(rows)
        self._was_answered = True

    def _cannot_open(self, error: DriverError) -> ConfigurationError:
        place, user = self._address.place, self._address.user or "default"
        if error.code in _WRONG_USER:
            return _unusable(
                f"at {place} rejects user {user!r}: {error.problem}",
                f"Check user and password in the URL, or the password in {_VARIABLE}",
            )
        return _unusable(f"at {place} cannot be used: {error.problem}", error.remedy)

    async def query(self, statement: Statement, limits: Limits | None = None) -> Result:
        """Run *statement*.

        Raises:
            DriverError: ClickHouse rejected the statement or did not finish it, or no response arrived.
            ConfigurationError: The driver is not open.
        """
        limits = limits or self._limits
        return await self._ask(statement, self._rights.settings(limits), limits)

    async def _ask(self, statement: Statement, settings: dict[str, str], limits: Limits) -> Result:
        if self._is_closed or self._session is None or self._session.closed:
            raise ConfigurationError(
                problem="the ClickHouse driver is not open", remedy="Await its open() first"
            )
        task = asyncio.create_task(self._answer(self._session, statement, settings, limits))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not self._is_closed or caller is None or caller.cancelling():
                raise
        raise DriverError("the ClickHouse driver was closed before the response arrived")

    async def _answer(
        self, session: aiohttp.ClientSession, statement: Statement, settings: dict[str, str], limits: Limits
    ) -> Result:
        query_id = uuid4().hex
        settings = {"query_id": query_id, **_RESPONSE_SETTINGS, **settings}
        seconds = None if limits.seconds is None else limits.seconds + _MARGIN
        try:
            answer = await self._post(session, statement, settings, seconds)
        except (asyncio.CancelledError, _TimedOut):
            if self._was_answered and not self._rights.stops_on_close:
                self._kill(session, query_id)
            raise
        return result(*answer, self._address.password.reveal())

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
        failure: DriverError
        try:
            async with session.post(
                self._address.url,
                params=parameters,
                data=io.BytesIO(body),
                headers=self._address.headers()
                | {"Content-Type": content_type, "Accept-Encoding": "identity"},
                # Nothing is decompressed, so the limit on the size of a response also limits its memory.
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_SECONDS_TO_CONNECT),
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                return response.status, response.headers, await _body(response)
        except aiohttp.ConnectionTimeoutError:
            failure = DriverError(f"no connection within {_SECONDS_TO_CONNECT:g} s", remedy=self._hint())
        except _TooLarge:
            failure = DriverError(
                f"the response has more than {_LARGEST_RESPONSE // 1024**2} MB",
                remedy=_WRONG_PORT,
            )
        except TimeoutError:
            failure = _TimedOut(f"no response from ClickHouse within {seconds:g} s; the query was abandoned")
        except (aiohttp.ClientError, OSError) as error:
            failure = self._explained(error)
        # The error is raised here, so that it does not chain aiohttp's error, which contains the headers.
        raise failure

    def _explained(self, error: Exception) -> DriverError:
        place = self._address.place
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return DriverError(
                    f"the certificate of {place} is not trusted: {error.certificate_error}",
                    remedy="Add its authority to the trusted certificates of the system",
                )
            case aiohttp.ClientConnectorSSLError():
                problem = f"no TLS connection to {place}: {error.os_error}"
            case aiohttp.ClientConnectorError():
                problem = f"no connection to {place}: {error.os_error}"
            case _:
                kind = type(error).__name__
                problem = f"the connection to {place} broke before the response was complete ({kind})"
        return DriverError(problem, remedy=self._hint())

    def _hint(self) -> str:
        if self._address.has_port:
            return f"Check host and port, and that the server speaks {self._address.url.scheme} there"
        return "Add a port to the URL: ClickHouse usually listens on 8123 (http) or 8443 (https)"

    def _kill(self, session: aiohttp.ClientSession, query_id: str) -> None:
        task = asyncio.create_task(self._send_kill(session, query_id))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def _send_kill(self, session: aiohttp.ClientSession, query_id: str) -> None:
        # The driver chose this id, and every user may kill their own queries.
        statement = Statement(f"KILL QUERY WHERE query_id = '{query_id}' ASYNC")
        try:
            await self._post(session, statement, {}, _SECONDS_TO_KILL)
        except DriverError as error:
            _LOG.warning("an abandoned query could not be killed: %s", error)

    async def aclose(self) -> None:
        """Close all connections and stop running queries."""
        self._is_closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        for pending in self._pending:
            pending.cancel()
        # The order matters: a cancelled request starts the task that kills its query on the server.
        await asyncio.gather(*self._pending, return_exceptions=True)
        await asyncio.gather(*self._kills)
        if self._is_ours and self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _is_large(statement: Statement) -> bool:
    values = statement.parameters.values()
    return len(statement.text) + sum(len(value) for value in values if isinstance(value, str)) > _LARGE


def _unusable(problem: str, remedy: str | None = None) -> ConfigurationError:
    return ConfigurationError(argument="clickhouse", problem=problem, remedy=remedy)


def form(statement: Statement) -> tuple[str, bytes]:
    """Encode *statement* as a multipart form, and return the content type and the body of the request.

    The URL never contains the statement, because servers and proxies log URLs. A long text is split into
    several fields, which ClickHouse joins. If there are many values, several of them share a field.
    """
    if len(statement.parameters) > _MOST_VALUES:
        statement = _packed(statement)
    text = statement.text
    fields: list[tuple[str, str]] = []
    for name, value in statement.parameters.items():
        pieces = list(_pieces(str(value)))
        if len(pieces) == 1 or f"{{{name}:String}}" not in text:
            fields.append((f"param_{name}", str(value)))
            continue
        fields.extend((f"param_{name}_{place}", piece) for place, piece in enumerate(pieces))
        whole = ", ".join(f"{{{name}_{place}:String}}" for place in range(len(pieces)))
        text = text.replace(f"{{{name}:String}}", f"concat({whole})")
    fields.extend(("query", piece) for piece in _pieces(text))
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    body = "".join([*parts, f"--{boundary}--\r\n"])
    return f"multipart/form-data; boundary={boundary}", body.encode("utf-8", "surrogatepass")


def _packed(statement: Statement) -> Statement:
    """Pack the short values of a statement into arrays.

    The arrays are small, because ClickHouse copies an array to every place that uses one of its values.
    """
    parameters = {name: str(value) for name, value in statement.parameters.items()}
    short = [name for name, value in parameters.items() if len(value) <= _LONGEST_SHARED]
    places: dict[str, str] = {}
    size = len(short) // _MOST_VALUES + 1
    for start in range(0, len(short), size):
        together, array = short[start : start + size], f"packed_{start}"
        # The values are already escaped, but inside quotes the quote must be escaped too.
        quoted = ",".join("'" + parameters.pop(name).replace("'", "\\'") + "'" for name in together)
        parameters[array] = f"[{quoted}]"
        for place, name in enumerate(together, 1):
            places[name] = f"{{{array}:Array(String)}}[{place}]"

    def taken(found: re.Match[str]) -> str:
        name, kind = found.groups()
        if name not in places:
            return found[0]
        return places[name] if kind == "String" else f"CAST({places[name]} AS {kind})"

    return Statement(_PLACEHOLDER.sub(taken, statement.text), parameters)


def _pieces(value: str) -> Iterator[str]:
    size = _LARGEST_FIELD if value.isascii() else _LARGEST_FIELD // 4
    start = 0
    while True:
        end = start + size
        piece = value[start:end]
        # A backslash must stay with the character that it escapes.
        if end < len(value) and (len(piece) - len(piece.rstrip("\\"))) % 2:
            piece = piece[:-1]
        yield piece
        start += len(piece)
        if start >= len(value):
            return


def result(status: int, headers: Mapping[str, str], body: bytes, secret: str = "") -> Result:
    """Decode a response.

    Args:
        status: The HTTP status.
        headers: The headers.
        body: The body.
        secret: The password, which is removed from error messages.

    Raises:
        DriverError: The response is an error, or it does not contain a result.
    """
    code = headers.get("X-ClickHouse-Exception-Code")
    answer = _answer(body)
    if isinstance(answer, dict) and "exception" in answer:
        raise _refusal(str(answer["exception"]), code, status, secret)
    if code is not None or status >= 400:
        raise _refusal(body.decode(errors="replace"), code, status, secret)
    if status >= 300:
        location = masked_text(headers.get("Location", ""), secret, most=200)
        raise DriverError(
            f"the server redirects to {location!r}, which would receive the password",
            remedy="Use that address if you trust it",
        )
    try:
        rows, read = answer["data"], int(answer["statistics"]["rows_read"])
        return Result(_with_numbers(rows, [column["type"] for column in answer["meta"]]), read)
    except (KeyError, TypeError, ValueError):
        pass
    text = body.decode(errors="replace")
    # If a statement fails after it has sent rows, the status is 200 and the body ends with the error.
    if found := _CODE.search(text):
        raise _refusal(text[found.start() :], None, status, secret)
    begin = masked_text(text, secret, most=100)
    raise DriverError(
        f"the response (status {status}) is not from ClickHouse: it starts with {begin!r}", remedy=_WRONG_PORT
    )


def _answer(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _with_numbers(rows: list[list[Any]], types: list[str]) -> list[list[Any]]:
    """Convert quoted integers to `int`. By default, older servers quote integers of 64 bits or more."""
    places = [place for place, kind in enumerate(types) if _WHOLE.fullmatch(kind)]
    for row in rows:
        for place in places:
            if isinstance(row[place], str):
                row[place] = int(row[place])
    return rows


def _refusal(text: str, header: str | None, status: int, secret: str) -> DriverError:
    found = _CODE.search(text)
    if header is not None and header.isdecimal():
        code: int | None = int(header)
    else:
        code = int(found[1]) if found else None
    if code is None:
        begin = masked_text(text, secret, most=200)
        return DriverError(f"status {status} without an error from ClickHouse: {begin!r}", remedy=_WRONG_PORT)
    remedy = None
    if any(words in text for words in _TOO_MANY_FIELDS):
        remedy = (
            "The filter has more or longer values than the server accepts: increase http_max_fields and"
            " http_max_field_value_size in its default profile"
        )
    return DriverError(masked_text(" ".join(text.split()), secret, most=_LONGEST_TEXT), code, remedy)
