"""Digests of files, locks on them, and where this node keeps copies of its own."""

import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from sacro_ray.disk import explained
from sacro_ray.errors import UserError
from sacro_ray.home import home, private_folder, writable

log = logging.getLogger("sacro_ray")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no locks, as some network disks."""


class NotARegularFile(OSError):  # noqa: N818 - named as it is shown
    """A pipe, a socket, a device or a folder."""


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file. Anything else is not opened: reading a pipe may never end.

    Raises:
        OSError: It is not there, may not be read, or is no regular file (`NotARegularFile`).
    """
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotARegularFile
    return path.read_bytes()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_root() -> Path:
    """Where this node keeps its caches: SACRO_RAY_CACHE, or else the user's cache folder.

    Where there is no home, or it cannot be written, a folder of the temporary directory takes its place.
    """
    if given := os.environ.get("SACRO_RAY_CACHE"):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given, "sacro_ray")
    found = home()
    return _usable(found / ".cache" / "sacro_ray" if found else None)


@cache
def _usable(folder: Path | None) -> Path:
    if folder is not None:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if writable(folder):
                return folder
    return private_folder() / "cache" / "sacro_ray"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, waiting for it; the kernel drops it when the process ends, however it ends."""
    with _held(path, fcntl.LOCK_EX):
        yield


@contextmanager
def alone(path: Path, command: str, place: str | Path) -> Iterator[None]:
    """Keep other processes out for as long as the block lasts; the kernel lets go when this one ends, however it ends.

    The lock's file, and folders that were made for it and that nothing was put into, are gone afterwards.

    Args:
        path: The lock's file.
        command: Who works there.
        place: Where, as the user knows it.

    Raises:
        UserError: Another process is at work there.
        DiskError: Nothing can be written there.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    with _held(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
        if not free:
            raise UserError(f"another `{command}` is at work in {place}; wait for its end, or stop it first")
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
                for folder in made:
                    folder.rmdir()


@contextmanager
def _held(path: Path, operation: int) -> Iterator[bool]:
    """Whether the lock could be had, of the file that is at this path then: who had it before may have removed that one."""
    while True:
        with _opened(path) as handle:
            free = lock(handle, operation)
            if not free or _is_at(handle, path):
                yield free
                return


def _is_at(handle: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def lock(handle: IO[Any] | int, operation: int) -> bool:
    """`flock`; answers False where somebody else has it. A disk without locks is taken as one where nobody has."""
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks()
    return True


@cache
def _warn_of_no_locks() -> None:
    log.warning("this disk has no locks: see that only one command at a time works in a folder")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise explained(error) or error from None
    with handle:
        yield handle
