"""Files that are either complete or absent, and what a disk that refuses means to the user."""

import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sacro_ray.errors import UserError

T = TypeVar("T")
FOLDERS = "--out, --runs, prepare.shards, or SACRO_RAY_CACHE for what is cached"
"""What says where files go."""
PROBLEMS = {
    errno.ENOSPC: ("the disk is full", "Make room there"),
    errno.EDQUOT: ("this user's quota of the disk is used up", "Make room there"),
    errno.EROFS: ("the disk is read-only", "Mount it for writing"),
    errno.EACCES: ("this user has no permission there", "Give this user the right to it"),
    errno.EPERM: ("this user has no permission there", "Give this user the right to it"),
    errno.ENOTDIR: ("a part of this path is a file", "Correct the path"),
    errno.EEXIST: ("it is a file", "Correct the path"),
    errno.ENAMETOOLONG: ("this name is too long for the disk", "Correct the path"),
    errno.EIO: ("the disk reports an error of its own", "Look at the disk"),
    errno.ESTALE: ("the network disk has lost it", "Mount it again"),
}
"""What the user can put right: what it is, and what to do."""
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Of the disk as a whole, whatever the file."""


class DiskError(UserError):
    """A folder cannot be written or read, through no fault of what was asked."""


def explained(error: OSError, where: str | Path | None = None, setting: str = FOLDERS) -> DiskError | None:
    """An error of the system as one that says which folder and what to do; None where it is not one of `PROBLEMS`."""
    if error.errno not in PROBLEMS:
        return None
    if where is None and isinstance(error.filename, str | bytes):
        name = Path(os.fsdecode(error.filename))
        where = name.parent if error.errno in OF_THE_DISK or name.name.endswith(".tmp") else name
    if where is None and error.errno not in OF_THE_DISK:
        return None  # it may be of no file at all
    problem, remedy = PROBLEMS[error.errno]
    if error.errno == errno.EEXIST:
        name = Path(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else where or "")
        if name.is_symlink() and not name.exists():
            where, problem, remedy = name, "it is a link to something that is not there", "Mount or make what it leads to"
        elif not name.is_file():
            return None
    return DiskError(
        f"{where or 'a folder that is written to'}: {problem}. {remedy}, or give another folder ({setting}). What is complete is kept, and "
        "the same command goes on from it"
    )


def for_the_user(error: BaseException) -> UserError | None:
    """The user's error, or the disk's, at the bottom of one that may have come back from another process; None where there is neither."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        seen.add(id(current))
        causes = [getattr(current, name, None) for name in ("cause", "controller_failure", "__cause__")]
        causes += list(dict(getattr(current, "worker_failures", None) or {}).values())
        below = [cause for cause in causes if isinstance(cause, BaseException) and id(cause) not in seen]
        if not below and isinstance(current, UserError):
            return current
        if not below and isinstance(current, OSError) and (found := explained(current)):
            return found
        waiting += below
    return None


@contextmanager
def whole(path: Path, mode: int = 0o666, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it is there under its own name when the block has ended, or not at all.

    Args:
        path: The file; its folder is made where it is missing.
        mode: Of the new file, before the user's mask.
        durable: A machine that loses its power leaves no half of it, either: for states and for what says that others are complete.
            Some milliseconds; what can be made anew from such files does without.

    Raises:
        DiskError: The disk is full, read-only or forbidden.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(temporary)
        raise explained(error) or error from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], object], durable: bool = True) -> Path:
    """`whole` for a function that writes to a path."""
    with whole(path, durable=durable) as temporary:
        write(temporary)
    return path


def write_atomically(path: Path, data: bytes, mode: int = 0o666, durable: bool = True) -> Path:
    """`whole` for bytes that are there."""
    with whole(path, mode, durable) as temporary:
        temporary.write_bytes(data)
    return path


def _sync(path: Path) -> None:
    """See that a file, or the names in a folder, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written below a folder in which nobody else writes."""
    for path in folder.rglob(".*.tmp"):
        with suppress(OSError):
            path.unlink()


def check_writable(folder: str | Path, setting: str) -> None:
    """See that files can be written into a folder that may not be there yet, before work goes into them; nothing is left behind.

    Args:
        folder: On this machine's disk.
        setting: What names the folder, for the message.

    Raises:
        DiskError: They cannot.
    """
    try:
        there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if _exists(path))
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(bytes(4096))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise explained(error, folder, setting) or error from None


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():  # in whose place no folder can be made
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        return False
    return True


def read_kept(path: Path, parse: Callable[[bytes], T], remedy: str) -> T:
    """What a file holds that an earlier command wrote.

    Args:
        path: The file.
        parse: Its bytes to what is wanted; a ValueError, KeyError, TypeError or EOFError of it means that the file is not as it was
            written, as after a crash of the machine.
        remedy: What the user can do then, a sentence without its full stop.

    Raises:
        UserError: It cannot be read, or is not whole.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise explained(error) or error from None
    except (ValueError, KeyError, TypeError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(path, remedy) from None


def damaged(path: Path, remedy: str) -> UserError:
    """The error about a file that is not as it was written."""
    return UserError(f"{path} is empty, cut short or changed, as a crash of the machine can leave it. {remedy}")


def whole_lines(data: bytes) -> str:
    """Text of which every line was ended.

    Raises:
        ValueError: The last one was not: the file is cut short.
    """
    text = data.decode("utf-8")
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    return text
