"""What a process may do with chDB: one directory, alone, and never after a fork."""

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from helicone_sessions.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

LOCK_FILE: Final = "helicone-sessions.lock"
# chDB's own lock, there while a directory is open; and what it makes in one, the last two of them always.
_ENGINE_LOCK: Final = "status"
_ENGINE_ENTRIES: Final = frozenset({_ENGINE_LOCK, "data", "tmp", "metadata", "store"})
_ENGINE_DATA: Final = frozenset({"metadata", "store"})
_MEMORY: Final = ":memory:"


class Connection(Protocol):
    """What is used of a connection of chDB."""

    def query(self, query: str, format: str = ..., params: Any = ...) -> Any:  # noqa: A002 - chDB's name
        """Run a statement."""

    def send_insert(self, query: str, format: str = ...) -> Any:  # noqa: A002 - chDB's name
        """Begin an insert."""

    def close(self) -> None:
        """Let go of it."""


Connect = Callable[[str], Connection]


@attrs.define
class _Opened:
    """The engine of this process: where its data is, and how many use it."""

    where: str
    lock: int | None
    users: int = 0


_guard: Final = threading.Lock()
_opened: _Opened | None = None
_is_forked = False


class Hold:
    """One user's share of the engine; the engine lives until the last is released.

    Args:
        where: A directory as chDB is told it, or its word for memory.
        connect: Makes a connection.
    """

    def __init__(self, where: str, connect: Connect) -> None:
        self._where = where
        self._connect = connect
        # Data in memory is gone when the last connection closes.
        self._anchor = connect(where)

    def connect(self) -> Connection:
        """Make one more connection."""
        return self._connect(self._where)

    def release(self) -> None:
        """Give the share back; all connections made from it are closed by then."""
        with _guard:
            try:
                self._anchor.close()
            finally:
                _leave()


def hold(path: str | os.PathLike[str] | None, connect: Connect) -> Hold:
    """Start the engine of this process, or share it.

    Args:
        path: A directory, which is made if there is none; None is memory.
        connect: Makes a connection.

    Raises:
        ConfigurationError: The process was forked, it has other data open, or the directory cannot be used.
    """
    refuse_fork()
    where = _MEMORY if path is None else _spelled(os.fspath(path))
    with _guard:
        _enter(where)
        try:
            return Hold(where, connect)
        except Exception as error:
            _leave()
            raise _explained(error, where) from error


def refuse_fork() -> None:
    """Raise if this process was forked from one that had chDB.

    Raises:
        ConfigurationError: It was; a query would wait forever for threads that are not here.
    """
    if _is_forked:
        raise ConfigurationError(
            "this process was forked from one that had loaded the embedded engine, which does not survive"
            " a fork: start processes with multiprocessing.get_context('spawn'), and open the engine in them"
        )


def is_forked() -> bool:
    """Whether this process was forked from one that had chDB."""
    return _is_forked


def _enter(where: str) -> None:
    global _opened  # noqa: PLW0603 - chDB has one engine for the process
    if _opened is None:
        _opened = _Opened(where, None if where == _MEMORY else _taken(Path(where)))
    elif _opened.where != where:
        raise ConfigurationError(
            f"the embedded engine of this process has {_named(_opened.where)} open and cannot open"
            f" {_named(where)} beside it: close what uses it first, or open this one in another process"
        )
    _opened.users += 1


def _leave() -> None:
    global _opened  # noqa: PLW0603 - as above
    if _opened is None:
        return
    _opened.users -= 1
    if _opened.users == 0:
        if _opened.lock is not None:
            os.close(_opened.lock)
        _opened = None


def _spelled(path: str) -> str:
    if "?" in path or not path.isprintable():
        raise ConfigurationError(
            f"the embedded engine cannot keep data in {path!r}: a path must not hold question marks"
            " (chDB reads options behind them) or unprintable characters; choose another name"
        )
    if not path:
        raise ConfigurationError("the path of the data is empty: name a directory, or None for memory")
    return os.path.realpath(path)


def _taken(directory: Path) -> int | None:
    _make(directory)
    lock = directory / LOCK_FILE
    try:
        if not lock.exists():
            _refuse_foreign(directory)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"the directory {str(directory)!r} cannot be written to: {error.strerror};"
            " the embedded engine needs one that is yours to write"
        ) from error
    try:
        _lock(descriptor, directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{str(directory)!r} is a file: the embedded engine keeps its data in a directory, name one"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the directory {str(directory)!r} cannot be made: {error.strerror}; name another one"
        ) from error


def _refuse_foreign(directory: Path) -> None:
    # A volume that was just made is not empty either.
    found = {entry.name for entry in directory.iterdir()} - {"lost+found"}
    if not (found <= _ENGINE_ENTRIES or found >= _ENGINE_DATA):
        raise ConfigurationError(
            f"the directory {str(directory)!r} holds other things ({min(found)!r} for one) and no data of the"
            " embedded engine: name an empty directory, or one that does not exist yet"
        )


def _lock(descriptor: int, directory: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        # The system lets go of it however the process ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            raise _in_use(str(directory), os.pread(descriptor, 20, 0).decode(errors="replace")) from error
        # A file system without locks: chDB has a lock of its own, if with a poorer message.
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _in_use(where: str, process: str = "") -> ConfigurationError:
    who = f"another process ({process})" if process.isdigit() else "another process"
    return ConfigurationError(
        f"{who} has this directory open: {where!r}; one process at a time can use the data of the embedded"
        " engine, so end that one, or ask it over HTTP"
    )


def _explained(error: Exception, where: str) -> ConfigurationError:
    text = str(error)
    if "already initialized with path" in text:
        return ConfigurationError(
            f"chDB is in use in this process with other data, so {_named(where)} cannot be opened beside it:"
            " close its connections first, or open this one in another process"
        )
    # chDB's lock is taken, and it does not say so.
    if text.endswith("Error initializing EmbeddedServer: . (BAD_ARGUMENTS)"):
        return _in_use(where)
    reason = text.partition(", Stack trace")[0]
    return ConfigurationError(f"the embedded engine cannot open {_named(where)}: {reason}")


def _named(where: str) -> str:
    return "data in memory" if where == _MEMORY else f"the directory {where!r}"


def _after_fork() -> None:
    global _is_forked  # noqa: PLW0603 - a process is forked or it is not
    # A child hangs in its first query even if chDB was only imported before the fork.
    _is_forked = _is_forked or "chdb" in sys.modules
    if _opened is not None and _opened.where != _MEMORY:
        _unlock_here(Path(_opened.where))


def _unlock_here(directory: Path) -> None:
    # Else the directory would stay locked for as long as a child lives, though its parent is gone.
    for name in (LOCK_FILE, _ENGINE_LOCK):
        with contextlib.suppress(OSError):
            lock = (directory / name).stat()
            for descriptor in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
                with contextlib.suppress(OSError):
                    if os.path.samestat(lock, os.fstat(descriptor)):
                        os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
