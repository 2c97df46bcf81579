"""A folder that may lie in a bucket: this process works on a copy of its own, and sends there what it has written.

The bucket holds the truth. A copy goes with its process, so a command that was killed goes on, on this machine or on another, from what
had been sent.
"""

import atexit
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from sacro_ray.dataset.files import alone, cache_root, lock
from sacro_ray.dataset.store import Store
from sacro_ray.disk import check_writable
from sacro_ray.locations import in_store

AT_ONCE = 8
"""Files that are fetched at the same time."""

Stamp = tuple[int, int]
"""Time of change, nanoseconds, and bytes."""


class WorkingFolder:
    """A folder to work in. One on the disk is itself, and there is nothing to bring or to send.

    Attributes:
        location: Its path or address, for other processes, which may be on other machines.
        path: Where its files are for this process; for a folder in a bucket, those that were brought.
        store: The bucket's side of it; None on the disk.
    """

    def __init__(self, location: str | Path) -> None:
        self.store = Store(str(location)) if in_store(location) else None
        if self.store is None:
            self.path = Path(location).resolve()
            self.location = str(self.path)
        else:
            own, self._lock = _folder_of_this_process()
            self.path = own / self.store.address.rpartition("/")[2]
            self.path.mkdir()
            self.location = self.store.address
        self._known: dict[str, Stamp] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def lock(self) -> Path:
        """A file to lock by those who work here; of a folder in a bucket it keeps apart only those on this machine."""
        if self.store is None:
            return self.path / "lock"
        return cache_root() / "locks" / hashlib.sha256(self.location.encode()).hexdigest()[:24]

    @contextmanager
    def alone(self, command: str, setting: str) -> Iterator[None]:
        """The folder for this command alone, for as long as the block lasts.

        Args:
            command: Its name.
            setting: What names the folder, for messages.

        Raises:
            UserError: Another process is at work here, on this machine or, where all see this disk, on another.
            DiskError: Nothing can be written here.
        """
        if self.store is None:
            check_writable(self.path, setting)
        with alone(self.lock, command, self.location):
            yield

    def bring(self, *names: str) -> None:
        """Fetch files as the bucket has them now; those that it has not are left out."""
        if self.store is None:
            return
        for name in names:
            try:
                self.store.fetch(name, self.path / name)
            except FileNotFoundError:
                continue
            self._known[name] = _stamp(self.path / name)

    def bring_all(self, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Fetch all files, or those whose names are wanted."""
        if self.store is None:
            return
        names = [name for name in self.store.sizes() if wanted(name)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.bring, names))

    def send(self, *last: str) -> None:
        """Put into the bucket what was written here since, in the order in which it was written; remove there what was removed here.

        Args:
            last: Files that say that others are complete: they go after all others, in this order.
        """
        if self.store is None:
            return
        present = {path.relative_to(self.path).as_posix(): _stamp(path) for path in self.path.rglob("*") if _is_whole(path)}
        changed = [name for name, stamp in present.items() if self._known.get(name) != stamp]
        for name in sorted(changed, key=lambda name: (last.index(name) + 1 if name in last else 0, present[name], name)):
            self.store.put(self.path / name, name)
            self._known[name] = present[name]
        for name in self._known.keys() - present.keys():
            self.store.delete(name)
            del self._known[name]

    def remove(self, *folders: str) -> None:
        """Remove folders below, on the disk or in the bucket, whoever wrote them."""
        for folder in folders:
            shutil.rmtree(self.path / folder, ignore_errors=True)
            if self.store is not None:
                self.store.delete_folder(folder)

    def close(self) -> None:
        """Remove this process's copy of a folder in a bucket."""
        if self.store is not None:
            shutil.rmtree(self.path.parent, ignore_errors=True)
            self.path.parent.with_suffix(".lock").unlink(missing_ok=True)
            os.close(self._lock)
            self.store = None


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _is_whole(path: Path) -> bool:
    return path.is_file() and not (path.name.startswith(".") and path.name.endswith(".tmp"))


def _folder_of_this_process() -> tuple[Path, int]:
    """A new folder on this node's disk, and the open file whose lock says that it is in use; those of killed processes are removed."""
    copies = cache_root() / "copies"
    copies.mkdir(parents=True, exist_ok=True)
    for left in copies.glob("*.lock"):
        _remove_if_left(left)
    folder = copies / uuid4().hex
    handle = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    # Kept for as long as this process lives, and let go by the kernel when it ends, however it ends.
    lock(handle, fcntl.LOCK_EX)
    folder.mkdir()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, handle


def _remove_if_left(left: Path) -> None:
    try:
        handle = os.open(left, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # in use, or on a disk without locks, where nobody knows
    else:
        shutil.rmtree(left.with_suffix(""), ignore_errors=True)
        left.unlink(missing_ok=True)
    finally:
        os.close(handle)
