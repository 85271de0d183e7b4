"""Creates and opens files and directories that only their owner can read. Symbolic links are not followed."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

# Windows has no such flag, but creating a link there requires a privilege.
_NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0)


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file and return its descriptor. If the file is new, only its owner can read it.

    Args:
        path: The file.
        flags: The flags for `os.open`; ``O_CREAT`` is added.

    Raises:
        OSError: The file cannot be opened, or is a symbolic link.
    """
    try:
        return os.open(path, flags | os.O_CREAT | _NO_LINKS, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a symbolic link", os.fspath(path)) from None
        raise


def replace_durably(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically and durably.

    After a power failure, the file has either the old content or the new content, never a mix of both.
    When this function returns, the new content is durable.

    Raises:
        OSError: The file cannot be written.
    """
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(open_private(new, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the creation, renaming and deletion of files in a directory durable."""
    if os.name == "nt":
        # Windows cannot open directories.
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private_directory(path: Path) -> None:
    """Create a directory and its parents. If it is new or empty, make it accessible only to its owner.

    Raises:
        OSError: The directory cannot be created.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(path.iterdir()):
        # An existing empty directory, such as the root of a volume, may belong to another user.
        with suppress(PermissionError):
            path.chmod(path.stat().st_mode & 0o700)
