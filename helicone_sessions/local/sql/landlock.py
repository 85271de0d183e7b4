"""Landlock, by which a process of Linux gives up its access to files and to the network for good."""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# The numbers of the system calls are the same on all architectures of chDB.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_FOR_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_SET_NO_NEW_PRIVILEGES: Final = 38

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIRECTORY: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
# The number of kinds of access to files that each version of Landlock knows.
_KINDS_OF_ACCESS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_KINDS_SINCE_5: Final = 16
# Versions from which it knows TCP, and sockets and signals of other processes.
_WITH_TCP: Final = 4
_WITH_SCOPES: Final = 6
_TWO_KINDS: Final = 0b11


def confine(*, readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Take from this thread, and from those that it starts, all other files, and TCP where Landlock knows it.

    Args:
        readable: The directories that can still be read.
        writable: The files that can still be written.

    Returns:
        False, with nothing changed, on a system without Landlock.

    Raises:
        OSError: A path is missing, or Landlock refuses.
    """
    try:
        version = _system_call(_CREATE_RULESET, None, 0, _ASK_FOR_VERSION)
    except (OSError, AttributeError):
        return False
    accesses = (1 << _KINDS_OF_ACCESS.get(version, _KINDS_SINCE_5)) - 1
    tcp = _TWO_KINDS if version >= _WITH_TCP else 0
    scopes = _TWO_KINDS if version >= _WITH_SCOPES else 0
    size = 24 if version >= _WITH_SCOPES else 16 if version >= _WITH_TCP else 8
    ruleset = _system_call(_CREATE_RULESET, struct.pack("QQQ", accesses, tcp, scopes), size, 0)
    for directory in readable:
        _allow(ruleset, directory, _READ_FILE | _READ_DIRECTORY)
    for file in writable:
        _allow(ruleset, file, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & accesses)
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
    _system_call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, accesses: int) -> None:
    descriptor = os.open(path, os.O_PATH)
    try:
        _system_call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", accesses, descriptor), 0)
    finally:
        os.close(descriptor)


def _system_call(number: int, *arguments: int | bytes | None) -> int:
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock refuses")
    return result
