"""Permanently denies a Linux process access to files and to the network.

Landlock blocks access to files, and a system call filter (seccomp) blocks new sockets. Both apply to the
thread that sets them up and to all threads that it starts later. Landlock alone cannot block the network: it
restricts TCP only on newer kernels, and it never restricts DNS.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# These system calls have the same numbers on all architectures that chDB supports.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_IO_URING_SETUP: Final = 425
# The number of each architecture, and the number of its `socket` system call.
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
# On x86-64, a second system call table starts at this number.
_OTHER_TABLE: Final = 0x40000000

_GET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIRECTORY: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
# The number of file access rights in each version of Landlock.
_KINDS_OF_ACCESS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_KINDS_SINCE_5: Final = 16

_SET_NO_NEW_PRIVILEGES: Final = 38
_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
# The instructions and return values of a seccomp filter.
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_DENY: Final = 0x00050001  # EPERM
_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4

_library: Final = ctypes.CDLL(None, use_errno=True)


def confine(*, readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Restrict this thread, and the threads that it starts, to the given files, and deny new sockets.

    Args:
        readable: The directories that remain readable.
        writable: The files that remain writable.

    Returns:
        Whether the system supports confinement, which requires Linux with Landlock on x86-64 or ARM64.

    Raises:
        OSError: A path does not exist, or a system call fails.
    """
    if platform.system() != "Linux" or platform.machine() not in _ARCHITECTURES:
        return False
    try:
        version = _call("syscall", _CREATE_RULESET, None, 0, _GET_VERSION)
    except OSError:
        return False
    _call("prctl", _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    accesses = (1 << _KINDS_OF_ACCESS.get(version, _KINDS_SINCE_5)) - 1
    ruleset = _call("syscall", _CREATE_RULESET, struct.pack("Q", accesses), 8, 0)
    for directory in readable:
        _allow(ruleset, directory, _READ_FILE | _READ_DIRECTORY)
    for file in writable:
        _allow(ruleset, file, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & accesses)
    _call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    _deny_sockets()
    return True


def _allow(ruleset: int, path: Path, accesses: int) -> None:
    descriptor = os.open(path, os.O_PATH)
    try:
        rule = struct.pack("=Qi", accesses, descriptor)
        _call("syscall", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _deny_sockets() -> None:
    architecture, socket = _ARCHITECTURES[platform.machine()]
    # A jump has two offsets: the number of instructions to skip if the test is true, and if it is false.
    instructions = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 4, architecture),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_JUMP_IF_AT_LEAST, 2, 0, _OTHER_TABLE),
        (_JUMP_IF_EQUAL, 1, 0, socket),
        (_JUMP_IF_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
    header = struct.pack("HP", len(instructions), ctypes.addressof(program))
    _call("prctl", _SET_SECCOMP, _MODE_FILTER, header, 0, 0)


def _call(function: str, *arguments: int | bytes | None) -> int:
    result = int(getattr(_library, function)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
