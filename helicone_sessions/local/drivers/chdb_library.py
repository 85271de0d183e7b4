"""Loading chDB: only where it has a build for this Python, and without its signal handlers."""

import ctypes
import importlib.util
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from helicone_sessions.errors import MissingExtra

# The signals that chDB handles.
_HANDLED: Final = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGTSTP")
# Bytes that hold C's `struct sigaction` on every platform of chDB.
_SIGACTION_SIZE: Final = 256
# chDB has one of these libraries for each Python.
_SUPPORT: Final = "libpybind11nonlimitedapi_chdb_"
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_is_loaded = False


class Connection(Protocol):
    """The part of chDB's connection that is used."""

    def query(self, query: str, format: str = ..., params: Any = ...) -> Any:  # noqa: A002 - chDB's name
        """Run a statement."""

    def send_insert(self, query: str, format: str = ...) -> Any:  # noqa: A002 - chDB's name
        """Begin an insert."""

    def close(self) -> None:
        """Let go of it."""


Connect = Callable[[str], Connection]


def load_chdb() -> Connect:
    """The function of chDB that connects.

    Raises:
        MissingExtra: chDB is not installed, or has no build for this Python.
    """
    global _is_loaded  # noqa: PLW0603 - a process imports a module once
    if "chdb" not in sys.modules:
        _require_build()
    elif not _is_loaded:
        # The program has imported it before, and the handlers are those of chDB.
        for name in _HANDLED:
            ctypes.CDLL(None).signal(signal.Signals[name], signal.SIG_DFL.value)
    try:
        with kept_signal_handlers():
            from chdb import connect
    except ImportError as error:
        raise _missing_extra(_platform_without_build()) from error
    _is_loaded = True
    return connect


@contextmanager
def kept_signal_handlers() -> Iterator[None]:
    """Undo changes of signal handlers: with those of chDB, a process that crashes does not end."""
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
    """Raise where importing chDB would end the interpreter, because a part of it is not there.

    Raises:
        MissingExtra: It has no build for this Python.
    """
    spec = importlib.util.find_spec("chdb")
    if spec is None:
        raise _missing_extra(_platform_without_build())
    directories = [Path(each) for each in spec.submodule_search_locations or ()]
    names = {file.name for directory in directories for file in directory.iterdir()}
    has_module = any(name.startswith("_chdb.") for name in names)
    supported = [name for name in names if name.startswith(_SUPPORT)]
    if not has_module or (
        supported and not any(name.startswith(f"{_SUPPORT}{_PYTHON}.") for name in supported)
    ):
        raise _missing_extra(_platform_without_build() or f"Python {_PYTHON}")


def _missing_extra(lacking: str | None) -> MissingExtra:
    error = MissingExtra("local", package="chdb", purpose="the embedded engine")
    if lacking is not None:
        error.add_note(
            f"chDB has no build for {lacking}. It runs on Linux with glibc and on macOS;"
            " elsewhere, answer from a ClickHouse server"
        )
    return error


def _platform_without_build() -> str | None:
    if sys.platform == "win32":
        return "Windows"
    if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        return "musl (Alpine Linux)"
    return None
