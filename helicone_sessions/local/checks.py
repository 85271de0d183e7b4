"""Arguments of a server, looked at before anything begins."""

import os
from typing import Any, Literal

from helicone_sessions.errors import ConfigurationError


def check_host(host: Any) -> None:
    """See that *host* is a text.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(host, str):
        raise ConfigurationError(f"host is the name or the address to listen on, a text, not {host!r}")


def check_seconds(name: str, value: Any, bounds: Literal["above 0", "from 0 up"]) -> None:
    """See that *value* is a number of seconds within the *bounds*.

    Raises:
        ConfigurationError: It is not.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf") or (bounds == "above 0" and not value):
        raise ConfigurationError(f"{name} is seconds {bounds}, not {value!r}")


def check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """See that *value* is one of those that are *known*.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, type(known[0])) or value not in known:
        raise ConfigurationError(f"{name} is {' or '.join(map(repr, known))}, not {value!r}")


def check_path(name: str, value: Any) -> None:
    """See that *value* is a path, or None.

    Raises:
        ConfigurationError: It is not.
    """
    if value is not None and (not isinstance(value, (str, os.PathLike)) or not os.fspath(value)):
        raise ConfigurationError(f"{name} is a path, not {value!r}")
