"""Files that are either complete or absent, their digests, and where this node keeps copies of its own."""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> Path:
    """Write under a temporary name beside `path`, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


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
    """Where this node keeps its caches: SACRO_RAY_CACHE, or else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SACRO_RAY_CACHE") or Path(base) / "sacro_ray")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock; the kernel drops it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
