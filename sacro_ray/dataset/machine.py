"""What this machine has: processors, memory, disks, and what lies in the folder of caches."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sacro_ray.dataset.decoded import GIB, Decoded, decoded_caches
from sacro_ray.dataset.files import cache_root

CGROUP = Path("/sys/fs/cgroup")
LIMITLESS = 2**60
"""Bytes: what version 1 of Linux's control groups writes for no limit is a little above."""


@dataclass(frozen=True)
class Memory:
    """Bytes of the machine, or of the container where that may have less, and what of them is free."""

    total: int
    free: int


def processors() -> int:
    """How many this process may use: those it is bound to, or fewer where a container has a quota."""
    bound = len(os.sched_getaffinity(0))
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    return max(1, min(bound, round(int(quota) / int(period)))) if quota.isdigit() and period.strip().isdigit() else bound


def memory() -> Memory:
    """Of this machine or container."""
    lines = (line.split() for line in _read(Path("/proc/meminfo")).splitlines())
    known = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}
    total, free = known.get("MemTotal", 0), known.get("MemAvailable", 0)
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        most, now = _read(CGROUP / limit).strip(), _read(CGROUP / used).strip()
        if most.isdigit() and int(most) < min(total, LIMITLESS):
            total, free = int(most), min(free, int(most) - int(now or 0))
    return Memory(total, free)


def disk_text(path: Path) -> str:
    """Size and free room of the disk that a path lies on."""
    usage = shutil.disk_usage(path)
    return f"{usage.total / GIB:.1f} GiB, {usage.free / GIB:.1f} GiB free"


def size_text(size: int) -> str:
    """Bytes in words."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def cache_lines() -> list[str]:
    """What lies in this node's folder of caches: a line each of the decoded caches, and one on the fetched shards."""
    root, decoded = cache_root(), decoded_caches()
    lines = [f"{len(decoded)} decoded, {size_text(sum(cache.bytes for cache in decoded))}, in {root}"]
    lines += [_line(cache) for cache in decoded]
    shards = [file.stat().st_size for file in root.glob("shards/*/*/*/*.tar")]
    if shards:
        lines.append(f"{len(shards)} shards fetched from a bucket, {size_text(sum(shards))}, in {root / 'shards'}")
    return lines


def _line(cache: Decoded) -> str:
    state = "in use" if cache.in_use else f"last used {_ago(cache.unused_s)} ago"
    return f"{cache.folder.name}  {size_text(cache.bytes)}  {state}  {_about(cache.folder)}"


def _about(folder: Path) -> str:
    try:
        count, size_px, _ = np.load(folder / "images.npy", mmap_mode="r").shape
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        return f"{count} radiographs at {size_px} px: {about['split']} of {', '.join(about['cohorts'])}"
    except (OSError, ValueError, KeyError, EOFError):
        return "of an earlier version, half made, or not to be read"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
