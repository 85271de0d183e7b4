"""Locks a directory, so that only one process at a time can open it with chDB."""

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from helicone_sessions.errors import ConfigurationError, MissingExtra
from helicone_sessions.local.private_files import create_private_directory, open_private

LOCK_FILE: Final = "helicone-sessions.lock"
# chDB's lock, which exists while a directory is open, and all entries that chDB creates in a directory. It
# always creates the last two.
ENGINE_LOCK: Final = "status"
_ENGINE_ENTRIES: Final = frozenset({ENGINE_LOCK, "data", "tmp", "metadata", "store"})
_ENGINE_DATA: Final = frozenset({"metadata", "store"})
_LONGEST_LOCK: Final = 300
# The file is validated, because other programs may have written to it.
_SERVER_URL: Final = re.compile(r"https?://[\w.:\[\]-]+")


class StoreInUse(ConfigurationError):
    """Another process has the directory open."""


def lock_directory(directory: Path) -> int:
    """Create a directory if it is missing, and lock it for this process.

    Args:
        directory: The directory to lock.

    Returns:
        The descriptor of the lock file. Closing it releases the lock.

    Raises:
        StoreInUse: Another process has the directory open.
        ConfigurationError: The directory cannot be used.
    """
    _create(directory)
    lock = directory / LOCK_FILE
    try:
        if not lock.exists():
            _refuse_foreign(directory)
        descriptor = open_private(lock, os.O_RDWR)
    except OSError as error:
        raise bad_path(f"{str(lock)!r} cannot be written to: {error.strerror}") from error
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
        raise bad_path(f"{str(directory)!r} is a file") from error
    except OSError as error:
        raise bad_path(f"{str(directory)!r} cannot be created: {error.strerror}") from error


def _refuse_foreign(directory: Path) -> None:
    # A new volume may contain this directory.
    found = {entry.name for entry in directory.iterdir()} - {"lost+found"}
    if not (found <= _ENGINE_ENTRIES or found >= _ENGINE_DATA):
        raise bad_path(
            f"{str(directory)!r} holds other files (for example {min(found)!r})",
            "Name an empty directory, or one that does not exist yet",
        )


def _lock(descriptor: int, directory: Path) -> None:
    try:
        has_lock = _try_lock(descriptor)
    except OSError:
        # The file system does not support locks.
        return
    if not has_lock:
        raise in_use(str(directory), os.read(descriptor, _LONGEST_LOCK).decode(errors="replace"))
    write_lock(descriptor)


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


def write_lock(descriptor: int, url: str = "") -> None:
    """Write the id of this process and the URL of its server to the lock file."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{os.getpid()}\n{url}".encode())


def in_use(where: str, holder: str = "") -> ConfigurationError:
    """Build the error for a directory that another process has open.

    Args:
        where: The directory.
        holder: The content of the lock file in the directory.
    """
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


def bad_path(problem: str, remedy: str | None = "Name another directory") -> ConfigurationError:
    """Build the error for a directory that cannot be used."""
    return ConfigurationError(argument="path", problem=problem, remedy=remedy)


def is_locked(path: Path) -> bool:
    """Whether another process has locked a file."""
    try:
        with path.open("rb+") as file:
            return not _try_lock(file.fileno())
    except OSError:
        return False


def unlock_here(directory: Path) -> None:
    """In a forked child, close the inherited lock files of a directory.

    Otherwise, the directory would stay locked while the child runs, even after the parent has ended.
    """
    for name in (LOCK_FILE, ENGINE_LOCK):
        with contextlib.suppress(OSError):
            lock = (directory / name).stat()
            for descriptor in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
                with contextlib.suppress(OSError):
                    if os.path.samestat(lock, os.fstat(descriptor)):
                        os.close(descriptor)
