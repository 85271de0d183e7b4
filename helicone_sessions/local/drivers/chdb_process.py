"""Loads chDB once per process, shares the engine between drivers, and prevents queries after a fork."""

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from helicone_sessions.errors import ConfigurationError, MissingExtra
from helicone_sessions.local.drivers.directory_lock import (
    ENGINE_LOCK,
    bad_path,
    in_use,
    is_locked,
    lock_directory,
    unlock_here,
    write_lock,
)
from helicone_sessions.masking import masked_repr, masked_text

# The signals that chDB handles.
_HANDLED: Final = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGTSTP")
# The number of bytes for C's `struct sigaction`, enough on every platform that chDB supports.
_SIGACTION_SIZE: Final = 256
_SUPPORT: Final = "libpybind11nonlimitedapi_chdb_"
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

_MEMORY: Final = ":memory:"
_LONGEST_REASON: Final = 300
_SECONDS_FOR_REASON: Final = 60.0


class Connection(Protocol):
    """The methods of a chDB connection that this package uses."""

    def query(self, text: str, output_format: str = ..., /, *, params: Any = ...) -> Any:
        """Run a statement."""

    def send_insert(self, text: str, input_format: str = ..., /) -> Any:
        """Start an insert."""

    def close(self) -> None:
        """Close the connection."""


Connect = Callable[[str], Connection]


def load_chdb() -> Connect:
    """Import chDB and return its `connect` function.

    Raises:
        MissingExtra: chDB is not installed, or has no build for this Python.
    """
    if "chdb" not in sys.modules:
        _require_build()
    elif not _process.has_loaded:
        # The program imported chDB itself, so chDB's signal handlers are already installed.
        for name in _HANDLED:
            ctypes.CDLL(None).signal(signal.Signals[name], signal.SIG_DFL.value)
    try:
        with kept_signal_handlers():
            from chdb import connect
    except ImportError as error:
        raise _missing_extra(_platform_without_build()) from error
    _process.has_loaded = True
    return connect


@contextmanager
def kept_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers after the block. With chDB's handlers, a crashed process would not exit."""
    sigaction = ctypes.CDLL(None).sigaction
    handlers = {signal.Signals[name]: ctypes.create_string_buffer(_SIGACTION_SIZE) for name in _HANDLED}
    for number, handler in handlers.items():
        sigaction(number, None, handler)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            sigaction(number, handler, None)


def _require_build() -> None:
    """Check that chDB has a build for this Python. Otherwise, importing chDB would crash the interpreter.

    Raises:
        MissingExtra: chDB has no build for this Python.
    """
    spec = importlib.util.find_spec("chdb")
    if spec is None:
        raise _missing_extra(_platform_without_build())
    directories = [Path(each) for each in spec.submodule_search_locations or ()]

    def has(pattern: str) -> bool:
        return any(any(directory.glob(pattern)) for directory in directories)

    # A build for specific Python versions has one such library per version; a build for all has none.
    if not has("_chdb.*") or (has(f"{_SUPPORT}*") and not has(f"{_SUPPORT}{_PYTHON}.*")):
        raise _missing_extra(_platform_without_build() or f"Python {_PYTHON}")


def _missing_extra(lacking: str | None) -> MissingExtra:
    error = MissingExtra("local", package="chdb", purpose="the embedded engine")
    if lacking is not None:
        error.add_note(
            f"chDB has no build for {lacking}. It runs on Linux with glibc and on macOS;"
            " elsewhere, use a ClickHouse server"
        )
    return error


def _platform_without_build() -> str | None:
    if sys.platform == "win32":
        return "Windows"
    if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        return "musl (Alpine Linux)"
    return None


@attrs.define
class _Opened:
    """The engine of this process: the location of the data, the lock, and the number of references."""

    where: str
    lock: int | None
    users: int = 0


@attrs.define
class _Process:
    """The state of chDB in this process."""

    has_loaded: bool = False
    is_forked: bool = False
    opened: _Opened | None = None


_guard: Final = threading.Lock()
_process: Final = _Process()


class Hold:
    """A reference to the engine. The engine stops when the last reference is released.

    Args:
        where: The data directory, or ``":memory:"``.
        connect: A function that opens a connection.
    """

    def __init__(self, where: str, connect: Connect) -> None:
        self._where = where
        self._connect = connect
        # Data in memory is lost when the last connection closes.
        with kept_signal_handlers():
            self._anchor = connect(where)

    def connect(self) -> Connection:
        """Open another connection."""
        return self._connect(self._where)

    def release(self) -> None:
        """Release the reference. All connections opened through it must already be closed."""
        with _guard:
            try:
                self._anchor.close()
            finally:
                _leave()


def hold(path: str | os.PathLike[str] | None, connect: Connect) -> Hold:
    """Start the engine of this process, or share it if it is already running.

    Args:
        path: The data directory, which is created if it does not exist. None keeps the data in memory.
        connect: A function that opens a connection.

    Raises:
        ConfigurationError: The process was forked or has other data open, or the directory cannot be used.
    """
    refuse_fork()
    where = _MEMORY if path is None else _checked_path(os.fspath(path))
    with _guard:
        _enter(where)
        try:
            return Hold(where, connect)
        except Exception as error:
            _leave()
            raise _explained(error, where) from error


def announce_server(url: str | None) -> None:
    """Write the server's URL to the lock file, so that other processes can name the server in errors.

    Args:
        url: The URL; None if the server has stopped.
    """
    with _guard:
        if _process.opened is not None and _process.opened.lock is not None:
            write_lock(_process.opened.lock, url or "")


def refuse_fork() -> None:
    """Check that this process was not forked after chDB was loaded.

    Raises:
        ConfigurationError: This process was forked. A query would wait forever for threads that exist only in
            the parent process.
    """
    if _process.is_forked:
        raise ConfigurationError(
            problem="this process was forked after the embedded engine was loaded",
            remedy="Start processes with multiprocessing.get_context('spawn'), and open the engine in them",
        )


def is_forked() -> bool:
    """Whether this process was forked after chDB was loaded."""
    return _process.is_forked


def _enter(where: str) -> None:
    opened = _process.opened
    if opened is None:
        opened = _process.opened = _Opened(where, None if where == _MEMORY else lock_directory(Path(where)))
    elif opened.where != where:
        raise ConfigurationError(
            argument="path",
            problem=f"cannot be {_named(where)}: the engine of this process has {_named(opened.where)} open",
            remedy="Close the other one first, or use another process",
        )
    opened.users += 1


def _leave() -> None:
    opened = _process.opened
    if opened is None:
        return
    opened.users -= 1
    if opened.users == 0:
        if opened.lock is not None:
            os.close(opened.lock)
        _process.opened = None


def _checked_path(path: str) -> str:
    if "?" in path or not path.isprintable():
        # chDB parses the text after a question mark as options.
        raise bad_path(f"must not contain question marks or unprintable characters, got {masked_repr(path)}")
    if not path:
        raise bad_path("is empty", "Name a directory, or pass None for memory")
    return os.path.realpath(path)


def _explained(error: Exception, where: str) -> ConfigurationError:
    text = str(error)
    if "already initialized with path" in text:
        return bad_path(
            f"cannot be {_named(where)}: chDB is in use in this process with other data",
            "Close its connections first, or use another process",
        )
    if text.endswith("Error initializing EmbeddedServer: . (BAD_ARGUMENTS)"):
        # chDB writes the reason only to standard error, so a lock of another process must be detected here.
        if is_locked(Path(where) / ENGINE_LOCK):
            return in_use(where)
        text = _reason(where)
    # The innermost of several nested errors is the cause.
    cause = text.partition(", Stack trace")[0].rpartition("DB::Exception: ")[2]
    reason = masked_text(cause, most=_LONGEST_REASON)
    return bad_path(
        f"cannot be {_named(where)}, because the embedded engine does not start: {reason}",
        "If its files are damaged, restore them from a backup or load the data into another directory",
    )


def _reason(where: str) -> str:
    """Start chDB on *where* in a new process, and return the reason for the failure from standard error."""
    command = [sys.executable, "-c", "import sys, chdb; chdb.connect(sys.argv[1])", where]
    try:
        ended = subprocess.run(  # noqa: S603 - a fixed program
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS_FOR_REASON, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "it gives no reason"
    lines = [line for line in ended.stderr.decode(errors="replace").splitlines() if "DB::Exception" in line]
    return lines[0].strip() if lines else "it gives no reason"


def _named(where: str) -> str:
    return "data in memory" if where == _MEMORY else f"the directory {where!r}"


def _after_fork() -> None:
    # If chDB was imported before the fork, even without being used, the child hangs in its first query.
    _process.is_forked = _process.is_forked or "chdb" in sys.modules
    if _process.opened is not None and _process.opened.where != _MEMORY:
        unlock_here(Path(_process.opened.where))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
