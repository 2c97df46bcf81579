"""The decode-once cache: the radiographs of a stage as one memory-mapped array on the node's disk.

Built once a node, by whichever process comes first, under a lock; shared by all workers and by all trials of a sweep. Its folder's name
is a digest of the shards and of the geometry, so a changed cohort never meets an old cache.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacro_ray.dataset.files import cache_root, locked
from sacro_ray.dataset.geometry import Fit, to_square
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.shards import read_samples
from sacro_ray.dataset.staging import cohort_folder
from sacro_ray.dataset.streaming import DECODERS, Images, ShardImages, index_split
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")
LAYOUT = 1
"""Raised whenever what a cache holds changes, so that older caches are not read."""
DECODED_AT_ONCE = 64
"""Radiographs that are in memory together while a cache is built."""
SPARED_GIB = 1.0
"""Of free disk that a cache leaves alone."""


@dataclass(frozen=True)
class CachedSplit:
    """A split at one size.

    Attributes:
        images: uint8 (radiographs, size_px, size_px), MONOCHROME2 sense: a read-only memory map, or read from the shards when asked for.
        records: The samples' JSON, in the order of `images`.
    """

    images: Images
    records: list[dict[str, Any]]

    @property
    def labels(self) -> NDArray[np.float32]:
        """float32 (radiographs,): 0, 1, or NaN where there is no label."""
        return np.array([np.nan if r["label"] is None else r["label"] for r in self.records], dtype=np.float32)


def open_split(
    shards: str | Path, cohorts: Sequence[str], split: str, size_px: int, fit: Fit, budget_gib: float
) -> CachedSplit:
    """The radiographs of a split over several cohorts, decoded and resized; builds the cache where there is none.

    Where the cache would pass the byte budget, or the disk has no room for it, the radiographs are read from the shards in every epoch.

    Raises:
        UserError: A cohort has not been prepared, its shards have changed since, or the split is empty.
    """
    manifests = [read_manifest(shards, cohort) for cohort in cohorts]
    count = sum(manifest.splits[split].radiographs for manifest in manifests if split in manifest.splits)
    if count == 0:
        raise UserError(f"no radiographs in the split {split} of {', '.join(cohorts)} under {shards}; run prepare first")
    identity = [LAYOUT, split, size_px, fit, [(m.cohort, m.digest) for m in manifests]]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    folder = cache_root() / name
    with locked(cache_root() / f"{name}.lock"):
        if not folder.exists() and (reason := _no_room(count * size_px**2, budget_gib)):
            log.warning(
                "%s radiographs of %s at %d px are read from the shards in every epoch: %s", count, split, size_px, reason
            )
            members, records = index_split(shards, cohorts, split)
            return CachedSplit(ShardImages(members, size_px, fit), records)
        if not folder.exists():
            _build(folder, shards, cohorts, split, size_px, fit, count)
    records = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    return CachedSplit(np.load(folder / "images.npy", mmap_mode="r"), records)


def _no_room(needed: int, budget_gib: float) -> str | None:
    """Why an array of so many bytes is not kept, or None."""
    needed_gib, free_gib = needed / 2**30, shutil.disk_usage(cache_root()).free / 2**30
    if needed_gib > budget_gib:
        return f"decoded they take {needed_gib:.1f} GiB, and training.cache_gib allows {budget_gib:g}"
    if needed_gib > free_gib - SPARED_GIB:
        return f"decoded they take {needed_gib:.1f} GiB, and {cache_root()} has {free_gib:.1f} GiB free"
    return None


def _build(folder: Path, shards: str | Path, cohorts: Sequence[str], split: str, size_px: int, fit: Fit, count: int) -> None:
    for cohort in cohorts:
        cohort_folder(shards, cohort, check=True)
    log.info("decoding %d radiographs of %s to %d px, once", count, split, size_px)
    building = folder.with_suffix(".tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    images = np.lib.format.open_memmap(building / "images.npy", mode="w+", dtype=np.uint8, shape=(count, size_px, size_px))
    records: list[dict[str, Any]] = []
    samples = (sample for cohort in cohorts for sample in read_samples(shards, cohort, split))
    with ThreadPoolExecutor(DECODERS) as pool:
        while some := list(islice(samples, DECODED_AT_ONCE)):
            for sample, square in zip(some, pool.map(lambda s: to_square(s.pixels, size_px, fit), some), strict=True):
                images[len(records)] = square
                records.append(sample.record)
    if len(records) != count:
        raise UserError(
            f"the shards of {split} hold {len(records)} radiographs, their manifest says {count}; run prepare --verify"
        )
    images.flush()
    (building / "records.json").write_text(json.dumps(records), encoding="utf-8")
    building.rename(folder)
