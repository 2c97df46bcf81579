"""The decode-once cache: the radiographs of a stage as one memory-mapped array on the node's disk.

Built once a node, by whichever process comes first, under a lock; shared by all workers and by all trials of a sweep. Its folder's name
is a digest of the shards and of the geometry, so a changed cohort never meets an old cache.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacro_ray.dataset.geometry import Fit, to_square
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.shards import read_samples
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")
LAYOUT = 1
"""Raised whenever what a cache holds changes, so that older caches are not read."""


@dataclass(frozen=True)
class CachedSplit:
    """A split at one size.

    Attributes:
        images: uint8 (radiographs, size_px, size_px), read-only memory map, MONOCHROME2 sense.
        records: The samples' JSON, in the order of `images`.
    """

    images: NDArray[np.uint8]
    records: list[dict[str, Any]]

    @property
    def labels(self) -> NDArray[np.float32]:
        """float32 (radiographs,): 0, 1, or NaN where there is no label."""
        return np.array([np.nan if r["label"] is None else r["label"] for r in self.records], dtype=np.float32)


def cache_root() -> Path:
    """Where this node keeps its caches: SACRO_RAY_CACHE, or else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SACRO_RAY_CACHE") or Path(base) / "sacro_ray")


def open_split(
    shards: str | Path, cohorts: Sequence[str], split: str, size_px: int, fit: Fit, budget_gib: float
) -> CachedSplit:
    """The radiographs of a split over several cohorts, decoded and resized; builds the cache where there is none.

    Raises:
        UserError: A cohort has not been prepared, the split is empty, or the array would pass the byte budget.
    """
    manifests = [read_manifest(shards, cohort) for cohort in cohorts]
    count = sum(manifest.splits[split].radiographs for manifest in manifests if split in manifest.splits)
    if count == 0:
        raise UserError(f"no radiographs in the split {split} of {', '.join(cohorts)} under {shards}; run prepare first")
    needed_gib = count * size_px**2 / 2**30
    if needed_gib > budget_gib:
        raise UserError(
            f"{count} radiographs at {size_px} px need {needed_gib:.1f} GiB of cache, training.cache_gib allows {budget_gib:g}; raise it"
        )
    identity = [LAYOUT, split, size_px, fit, [(m.cohort, m.digest) for m in manifests]]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    folder = cache_root() / name
    with _lock(cache_root() / f"{name}.lock"):
        if not folder.exists():
            _build(folder, Path(shards), cohorts, split, size_px, fit, count)
    records = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    return CachedSplit(np.load(folder / "images.npy", mmap_mode="r"), records)


def _build(folder: Path, shards: Path, cohorts: Sequence[str], split: str, size_px: int, fit: Fit, count: int) -> None:
    log.info("decoding %d radiographs of %s to %d px, once", count, split, size_px)
    building = folder.with_suffix(".tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    images = np.lib.format.open_memmap(building / "images.npy", mode="w+", dtype=np.uint8, shape=(count, size_px, size_px))
    records: list[dict[str, Any]] = []
    for cohort in cohorts:
        for sample in read_samples(shards, cohort, split):
            images[len(records)] = to_square(sample.pixels, size_px, fit)
            records.append(sample.record)
    if len(records) != count:
        raise UserError(
            f"the shards of {split} hold {len(records)} radiographs, their manifest says {count}; run prepare --verify"
        )
    images.flush()
    (building / "records.json").write_text(json.dumps(records), encoding="utf-8")
    building.rename(folder)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the file's lock; the kernel drops it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
