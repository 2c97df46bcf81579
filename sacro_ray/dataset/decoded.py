"""The decoded caches of a node: a folder each, under one budget, the least recently used removed first and never one in use.

A file in a cache's folder is locked, shared, by every process that has the cache open; the kernel drops the lock when the process ends.
The folder's time of change is that of its last use. Whoever begins, opens or removes a cache holds the lock of all for that moment.
"""

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sacro_ray.dataset.files import cache_root, lock, locked

log = logging.getLogger("sacro_ray")
GOING = ".going"
NAME = re.compile(r"[0-9a-f]{24}(\.tmp)?(\.going)?")
IN_USE, ALL = "in_use", "budget.lock"
SPARED_GIB = 1.0
"""Of free disk that caches leave alone."""
GIB = 2**30


@dataclass(frozen=True)
class Decoded:
    """A decoded cache as it lies on the disk.

    Attributes:
        folder: Its folder; with the ending .tmp while it is made, and .going while it is removed.
        bytes: What it takes, or will when it is made.
        unused_s: Seconds since it was opened last.
        in_use: Whether a process of this machine has it open.
    """

    folder: Path
    bytes: int
    unused_s: float
    in_use: bool


def decoded_caches() -> list[Decoded]:
    """All decoded caches of this node, the least recently used first; a folder without any is left as it is."""
    if not (cache_root() / ALL).exists():
        return _caches()
    with _all_locked():
        return _caches()


def _caches() -> list[Decoded]:
    root = cache_root()
    folders = [path for path in root.iterdir() if NAME.fullmatch(path.name) and path.is_dir()] if root.is_dir() else []
    found = []
    for folder in folders:
        try:
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(Decoded(folder, size, max(0.0, time.time() - folder.stat().st_mtime), _in_use(folder)))
        except FileNotFoundError:
            continue  # removed by another process in this moment
    return sorted(found, key=lambda cache: -cache.unused_s)


def hold(folder: Path) -> int | None:
    """Take a cache into use; answers the open file that holds it, or None where there is no such cache."""
    with _all_locked():
        return _hold(folder)


def reserve(folder: Path, needed: int, budget_gib: float) -> tuple[int, str | None]:
    """Make room for a cache within the budget and on the disk, and begin it as FOLDER.tmp.

    Args:
        folder: Where it will be.
        needed: Bytes of its images.
        budget_gib: Of all decoded caches of this node together.

    Returns:
        The open file that holds it and None; or, where there is no room, -1 and the reason in words.
    """
    with _all_locked():
        building = folder.with_suffix(".tmp")
        _remove(building)  # what a killed process left; who makes this one has its lock
        if reason := _no_room(needed, budget_gib):
            return -1, reason
        building.mkdir(parents=True)
        with (building / "images.npy").open("wb") as file:
            file.truncate(needed)  # so that others, who look meanwhile, count it
        handle = _hold(building)
        assert handle is not None
        return handle, None


def discard(folder: Path) -> None:
    """Remove a cache, such as one that cannot be read."""
    with _all_locked():
        _remove(folder)


def _no_room(needed: int, budget_gib: float) -> str | None:
    """Why there is no room even without the caches that nobody uses; where there is, those are removed that must be."""
    caches = _caches()
    idle = [cache for cache in caches if not cache.in_use]
    held = sum(cache.bytes for cache in caches if cache.in_use)
    free = shutil.disk_usage(cache_root()).free
    to_spare = sum(cache.bytes for cache in idle)
    if needed + held > budget_gib * GIB:
        others = f" beside {held / GIB:.1f} GiB that are in use" if held else ""
        return f"decoded they take {needed / GIB:.1f} GiB{others}, and training.cache_gib allows {budget_gib:g} in all"
    if needed > free + to_spare - SPARED_GIB * GIB:
        return f"decoded they take {needed / GIB:.1f} GiB, and {cache_root()} has {free / GIB:.1f} GiB free"
    while idle and (needed + held + to_spare > budget_gib * GIB or needed > free - SPARED_GIB * GIB):
        oldest = idle.pop(0)
        log.info(
            "removing decoded radiographs that were last used %.1f days ago (%.2f GiB), to make room",
            oldest.unused_s / 86400,
            oldest.bytes / GIB,
        )
        _remove(oldest.folder)
        to_spare -= oldest.bytes
        free += oldest.bytes
    return None


@contextmanager
def _all_locked() -> Iterator[None]:
    with locked(cache_root() / ALL):
        yield


def _hold(folder: Path) -> int | None:
    try:
        handle = os.open(folder / IN_USE, os.O_CREAT | os.O_RDWR, 0o666)
    except (FileNotFoundError, NotADirectoryError):
        return None
    lock(handle, fcntl.LOCK_SH)
    os.utime(folder)
    return handle


def _in_use(folder: Path) -> bool:
    try:
        handle = os.open(folder / IN_USE, os.O_RDWR)
    except FileNotFoundError:
        return False  # of an earlier version, or not yet begun
    except PermissionError:
        return True  # of another user, and not ours to remove
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True  # or on a disk without locks, where nobody knows
    finally:
        os.close(handle)
    return False


def _remove(folder: Path) -> None:
    """Remove a cache's folder, which is gone under its name at once; processes that have it open keep what they have."""
    going = folder.with_name(folder.name.removesuffix(GOING) + GOING)
    if going != folder:
        shutil.rmtree(going, ignore_errors=True)
        try:
            folder.rename(going)
        except FileNotFoundError:
            return
    shutil.rmtree(going, ignore_errors=True)
