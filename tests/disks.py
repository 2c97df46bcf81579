"""Disks with real faults, for tests: small, full, read-only, forbidden."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(where: Path, size: str = "1m") -> Iterator[Path]:
    """A disk of its own in memory; skips where this process may not mount one."""
    where.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this process may not mount a disk ({done.stderr.strip()})")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; returns the file that takes them."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(2**20)) == 2**20:
            pass
        while file.write(bytes(4096)):
            pass
    return filler


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, for whom no folder is forbidden."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def cut(path: Path, left: str) -> None:
    """Leave nothing, half or all but the last byte of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: {"nothing": 0, "half": len(data) // 2, "all but a byte": len(data) - 1}[left]])


CUTS = ("nothing", "half", "all but a byte")
