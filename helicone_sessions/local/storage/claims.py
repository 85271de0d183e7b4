"""Which databases of this process have a store: two would mix what comes in."""

import threading
from typing import Final
from weakref import WeakValueDictionary

from helicone_sessions.errors import ConfigurationError

# A process has one engine, so a name says which database it is. Who is forgotten unclosed holds nothing.
_owners: Final[WeakValueDictionary[str, object]] = WeakValueDictionary()
_guard: Final = threading.Lock()


def claim(database: str, owner: object) -> None:
    """Take a database.

    Raises:
        ConfigurationError: Another has it.
    """
    with _guard:
        if _owners.setdefault(database, owner) is not owner:
            raise ConfigurationError(
                "another server of this process has these data open already, and two would mix what comes in:"
                " add rows to that one, or close it first"
            )


def give_back(database: str, owner: object) -> None:
    """Let others take a database, if it is *owner* who has it."""
    with _guard:
        if _owners.get(database) is owner:
            del _owners[database]
