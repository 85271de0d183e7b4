"""Where a ClickHouse server is and who asks it, read from a URL."""

import os
import re
from typing import Final, NoReturn
from urllib.parse import unquote

import attrs
from yarl import URL

from helicone_sessions.errors import ConfigurationError

PASSWORD_VARIABLE: Final = "HELICONE_SESSIONS_CLICKHOUSE_PASSWORD"  # noqa: S105 - its name
_SHAPE: Final = "http://user:password@host:8123/database"
_ADVICE: Final = (
    f"write it as {_SHAPE} (or https:), with special characters of the password as %XX,"
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

    def hidden_in(self, text: str) -> str:
        """*text* with stars in the place of the password."""
        return text.replace(self._text, "***") if self._text else text


@attrs.frozen
class Address:
    """Where a ClickHouse server is and who asks it.

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
        """The headers that say who asks; made when they are needed, so that nobody keeps the password."""
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
            "the user, the password or the database of the ClickHouse URL holds a control character,"
            " such as a newline at its end"
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
        raise ConfigurationError(f"the ClickHouse URL cannot be read: {_ADVICE}")
    if url.scheme not in ("http", "https"):
        raise ConfigurationError(
            "the ClickHouse URL does not begin with http:// or https://, and only ClickHouse's HTTP"
            f" interface is spoken: {_ADVICE}"
        )
    if not url.host:
        raise ConfigurationError(f"the ClickHouse URL names no host: {_ADVICE}")
    if url.raw_query_string or url.raw_fragment:
        raise ConfigurationError(
            f"the ClickHouse URL ends with '?…' or '#…', and settings are not given there: {_ADVICE}"
        )
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
        raise ConfigurationError(f"the path of the ClickHouse URL has several parts: {_ADVICE}")
    return path
