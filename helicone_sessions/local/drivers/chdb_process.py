"""Loads chDB, locks its directory for this process, and prevents its use after a fork."""

import contextlib
import ctypes
import importlib.util
import os
import re
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
from helicone_sessions.local.private_files import create_private_directory, open_private
from helicone_sessions.masking import masked_repr, masked_text

# The signals that chDB handles.
_HANDLED: Final = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGTSTP")
# The number of bytes for C's `struct sigaction`, enough on every platform that chDB supports.
_SIGACTION_SIZE: Final = 256
_SUPPORT: Final = "libpybind11nonlimitedapi_chdb_"
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

LOCK_FILE: Final = "helicone-sessions.lock"
# chDB's lock, which exists while a directory is open, and all entries that chDB creates in a directory. It
# always creates the last two.
_ENGINE_LOCK: Final = "status"
_ENGINE_ENTRIES: Final = frozenset({_ENGINE_LOCK, "data", "tmp", "metadata", "store"})
_ENGINE_DATA: Final = frozenset({"metadata", "store"})
_MEMORY: Final = ":memory:"
_LONGEST_REASON: Final = 300
_LONGEST_LOCK: Final = 300
# The file is validated, because other programs may have written to it.
_SERVER_URL: Final = re.compile(r"https?://[\w.:\[\]-]+")
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
    """Restore the signal handlers after the block. With chDB's handlers, a crashed process does not exit."""
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
    """Check that chDB has a build for this Python. Without one, importing it would crash the interpreter.

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


class StoreInUse(ConfigurationError):
    """Another process has the directory open."""


@attrs.define
class _Opened:
    """The engine of this process: the location of its data, and the number of its users."""

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
    """A share in the engine. The engine stops when the last share is released.

    Args:
        where: The directory of the data, or ``":memory:"``.
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
        """Release the share. All of its connections must already be closed."""
        with _guard:
            try:
                self._anchor.close()
            finally:
                _leave()


def hold(path: str | os.PathLike[str] | None, connect: Connect) -> Hold:
    """Start the engine of this process, or share it if it is already running.

    Args:
        path: The directory of the data. If it is missing, it is created. None keeps the data in memory.
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
    """Write the server's URL to the lock file, for other processes that try to open the directory.

    Args:
        url: The URL; None if the server has stopped.
    """
    with _guard:
        if _process.opened is not None and _process.opened.lock is not None:
            _write_lock(_process.opened.lock, url or "")


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
        opened = _process.opened = _Opened(where, None if where == _MEMORY else _locked(Path(where)))
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
        raise _bad_path(f"must not contain question marks or unprintable characters, got {masked_repr(path)}")
    if not path:
        raise _bad_path("is empty", "Name a directory, or pass None for memory")
    return os.path.realpath(path)


def _locked(directory: Path) -> int | None:
    _create(directory)
    lock = directory / LOCK_FILE
    try:
        if not lock.exists():
            _refuse_foreign(directory)
        descriptor = open_private(lock, os.O_RDWR)
    except OSError as error:
        raise _bad_path(f"{str(lock)!r} cannot be written to: {error.strerror}") from error
    try:
        _lock(descriptor, directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _create(directory: Path) -> None:
    try:
        create_private_directory(directory)
    except FileExistsError as error:
        raise _bad_path(f"{str(directory)!r} is a file") from error
    except OSError as error:
        raise _bad_path(f"{str(directory)!r} cannot be created: {error.strerror}") from error


def _refuse_foreign(directory: Path) -> None:
    # A new volume may contain this directory.
    found = {entry.name for entry in directory.iterdir()} - {"lost+found"}
    if not (found <= _ENGINE_ENTRIES or found >= _ENGINE_DATA):
        raise _bad_path(
            f"{str(directory)!r} holds other files (for example {min(found)!r})",
            "Name an empty directory, or one that does not exist yet",
        )


def _lock(descriptor: int, directory: Path) -> None:
    try:
        is_locked = _try_lock(descriptor)
    except OSError:
        # The file system does not support locks.
        return
    if not is_locked:
        raise _in_use(str(directory), os.read(descriptor, _LONGEST_LOCK).decode(errors="replace"))
    _write_lock(descriptor)


def _write_lock(descriptor: int, url: str = "") -> None:
    """Write the id of this process and the URL of its server."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{os.getpid()}\n{url}".encode())


def _try_lock(descriptor: int) -> bool:
    """Try to lock a file. Return False if another process has locked it.

    Raises:
        MissingExtra: The ``local`` extra is not installed.
        OSError: The file system does not support locks.
    """
    try:
        from filelock import lock_descriptor
    except ImportError as error:
        raise MissingExtra("local", package="filelock", purpose="keeping data in a directory") from error
    return lock_descriptor(descriptor, blocking=False)


def _in_use(where: str, holder: str = "") -> ConfigurationError:
    process, _, url = holder.partition("\n")
    who = f"another process ({process})" if process.isdigit() else "another process"
    remedy = "Wait until that process ends, or stop it"
    if _SERVER_URL.fullmatch(url):
        who = f"{who}, a server at {url}"
        remedy = (
            f"Query that server: set HELICONE_BASE_URL={url} and HELICONE_API_KEY to its key, and leave out"
            " `path`. Or stop it"
        )
    return StoreInUse(argument="path", problem=f"{where!r} is open in {who}", remedy=remedy)


def _explained(error: Exception, where: str) -> ConfigurationError:
    text = str(error)
    if "already initialized with path" in text:
        return _bad_path(
            f"cannot be {_named(where)}: chDB is in use in this process with other data",
            "Close its connections first, or use another process",
        )
    if text.endswith("Error initializing EmbeddedServer: . (BAD_ARGUMENTS)"):
        # chDB writes the reason only to standard error, so a lock of another process must be detected here.
        if _is_locked(Path(where) / _ENGINE_LOCK):
            return _in_use(where)
        text = _reason(where)
    # The innermost of several nested errors is the cause.
    cause = text.partition(", Stack trace")[0].rpartition("DB::Exception: ")[2]
    reason = masked_text(cause, most=_LONGEST_REASON)
    return _bad_path(
        f"cannot be {_named(where)}, because the embedded engine does not start: {reason}",
        "If its files are damaged, restore them from a backup or load the data into another directory",
    )


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb+") as file:
            return not _try_lock(file.fileno())
    except OSError:
        return False


def _reason(where: str) -> str:
    """Find out why chDB cannot open *where*: start it in another process and read its standard error."""
    command = [sys.executable, "-c", "import sys, chdb; chdb.connect(sys.argv[1])", where]
    try:
        ended = subprocess.run(  # noqa: S603 - a fixed program
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS_FOR_REASON, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "it gives no reason"
    lines = [line for line in ended.stderr.decode(errors="replace").splitlines() if "DB::Exception" in line]
    return lines[0].strip() if lines else "it gives no reason"


def _bad_path(problem: str, remedy: str | None = "Name another directory") -> ConfigurationError:
    return ConfigurationError(argument="path", problem=problem, remedy=remedy)


def _named(where: str) -> str:
    return "data in memory" if where == _MEMORY else f"the directory {where!r}"


def _after_fork() -> None:
    # If chDB was imported before the fork, even without being used, the child hangs in its first query.
    _process.is_forked = _process.is_forked or "chdb" in sys.modules
    if _process.opened is not None and _process.opened.where != _MEMORY:
        _unlock_here(Path(_process.opened.where))


def _unlock_here(directory: Path) -> None:
    # Otherwise, the directory would stay locked as long as a child runs, even after the parent has ended.
    for name in (LOCK_FILE, _ENGINE_LOCK):
        with contextlib.suppress(OSError):
            lock = (directory / name).stat()
            for descriptor in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
                with contextlib.suppress(OSError):
                    if os.path.samestat(lock, os.fstat(descriptor)):
                        os.close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
