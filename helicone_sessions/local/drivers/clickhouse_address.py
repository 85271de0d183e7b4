"""The address and the user of a ClickHouse server, parsed from a URL."""

import os
import re
from typing import Final, NoReturn
from urllib.parse import unquote

import attrs
from yarl import URL

from helicone_sessions.errors import ConfigurationError

PASSWORD_VARIABLE: Final = "HELICONE_SESSIONS_CLICKHOUSE_PASSWORD"  # noqa: S105 - its name
_SHAPE: Final = "http://user:password@host:8123/database"
_REMEDY: Final = (
    f"Write it as {_SHAPE} (or https:), with special characters of the password as %XX,"
    f" or leave the password out and set {PASSWORD_VARIABLE}"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Password:
    """A password that is not shown, logged or pickled by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password is not pickled")

    def reveal(self) -> str:
        """The password itself."""
        return self._text


@attrs.frozen
class Address:
    """The address and the user of a ClickHouse server.

    Args:
        url: Its URL, without user, password and database.
        user: The user; None is the server's default one.
        password: The password; empty if there is none.
        database: The database; None is the user's default one.
        has_port: Whether the URL names the port.
    """

    url: URL
    user: str | None
    password: Password
    database: str | None
    has_port: bool

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        host = self.url.host or ""
        return f"{f'[{host}]' if ':' in host else host}:{self.url.port}"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{self.url.scheme}://{user}{self.place}/{self.database or ''}"

    def headers(self) -> dict[str, str]:
        """The headers for authentication; built for each request, so that nothing keeps the password."""
        headers = {"X-ClickHouse-User": self.user or "default"}
        if self.password.reveal():
            headers["X-ClickHouse-Key"] = self.password.reveal()
        if self.database:
            headers["X-ClickHouse-Database"] = self.database
        return headers


def parse_address(text: str, password: str | None = None) -> Address:
    """The address that *text* names.

    Args:
        text: ``http://user:password@host:8123/database``; user, password and database may be left out.
        password: Goes before the password in *text*, which goes before that of the environment variable
            ``HELICONE_SESSIONS_CLICKHOUSE_PASSWORD``.

    Raises:
        ConfigurationError: It is no such URL. The message does not repeat it, as it may hold a password.
    """
    url = _url(text)
    database = unquote(_path(url)) or None
    if password is None:
        password = url.password
    if password is None:
        password = os.environ.get(PASSWORD_VARIABLE, "")
    if any(_CONTROL.search(part) for part in (url.user, password, database) if part):
        raise ConfigurationError(
            argument="clickhouse",
            problem="has a control character in its user, password or database",
            remedy="Look for a newline at its end",
        )
    return Address(
        url=URL.build(scheme=url.scheme, host=url.host or "", port=url.port, path="/"),
        user=url.user or None,
        password=Password(password),
        database=database,
        has_port=url.explicit_port is not None,
    )


def _url(text: str) -> URL:
    # Made outside of `except`, as yarl's own error repeats parts of the text.
    url = _parsed(text)
    if url is None:
        raise _wrong("is not a valid URL")
    if url.scheme not in ("http", "https"):
        raise _wrong("must begin with http:// or https://, for ClickHouse's HTTP interface")
    if not url.host:
        raise _wrong("has no host")
    if url.raw_query_string or url.raw_fragment:
        raise _wrong("has a query string or a fragment, which cannot set anything")
    return url


def _parsed(text: str) -> URL | None:
    try:
        url = URL(text.strip())
        _ = url.port, url.user, url.password
    except (ValueError, TypeError, AttributeError):
        return None
    return url


def _path(url: URL) -> str:
    # Not decoded: the name of a database may hold a slash, as %2F.
    path = url.raw_path.strip("/")
    if "/" in path:
        raise _wrong("has a path of several parts")
    return path


def _wrong(problem: str) -> ConfigurationError:
    # Never with the URL, which may hold a password.
    return ConfigurationError(argument="clickhouse", problem=problem, remedy=_REMEDY)
