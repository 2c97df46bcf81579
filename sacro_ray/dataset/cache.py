"""The decode-once cache: the radiographs of a stage as one memory-mapped array on the node's disk.

Built once a node, by whichever process comes first, under a lock; shared by all workers and by all trials of a sweep. Its folder's name
is a digest of the shards and of the geometry, so a changed cohort never meets an old cache.
"""

import errno
import hashlib
import json
import logging
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacro_ray.dataset.decoded import discard, hold, reserve
from sacro_ray.dataset.files import cache_root, locked
from sacro_ray.dataset.geometry import Fit, to_square
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.shards import read_samples
from sacro_ray.dataset.staging import cohort_folder
from sacro_ray.dataset.streaming import DECODERS, Images, ShardImages, index_split
from sacro_ray.disk import DiskError, write_atomically
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")
LAYOUT = 1
"""Raised whenever what a cache holds changes, so that older caches are not read."""
DECODED_AT_ONCE = 64
"""Radiographs that are in memory together while a cache is built."""
FULL = (errno.ENOSPC, errno.EDQUOT)


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

    Where the decoded caches of this node would pass the budget even without those that are not in use, or the disk has no room, the
    radiographs are read from the shards in every epoch.

    Args:
        shards: The folder of all shards, or its address.
        cohorts: Whose.
        split: train, validation or test.
        size_px: Side of the squares.
        fit: How a radiograph becomes a square.
        budget_gib: Of all decoded caches of this node together.

    Raises:
        UserError: A cohort has not been prepared, its shards have changed since, or the split is empty.
    """
    manifests = [read_manifest(shards, cohort) for cohort in cohorts]
    count = sum(manifest.splits[split].radiographs for manifest in manifests if split in manifest.splits)
    if count == 0:
        raise UserError(f"no radiographs in the split {split} of {', '.join(cohorts)} under {shards}; run prepare first")
    identity = [LAYOUT, split, size_px, fit, [(m.cohort, m.digest) for m in manifests]]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    folder, shape = cache_root() / name, (count, size_px, size_px)
    with locked(cache_root() / f"{name}.lock"):
        if (found := _open(folder, shape)) is not None:
            return found
        handle, reason = reserve(folder, count * size_px**2, budget_gib)
        if reason is None:
            log.info("decoding %d radiographs of %s to %d px, once", count, split, size_px)
            reason = _build(folder, handle, shards, cohorts, split, fit, shape)
        if reason is None:
            return _loaded(folder, handle, shape)
    log.warning("%s radiographs of %s at %d px are read from the shards in every epoch: %s", count, split, size_px, reason)
    members, records = index_split(shards, cohorts, split)
    return CachedSplit(ShardImages(members, size_px, fit), records)


def _open(folder: Path, shape: tuple[int, int, int]) -> CachedSplit | None:
    """The cache that is there; one that cannot be read, as after a crash of the machine, is removed."""
    handle = hold(folder)
    if handle is None:
        return None
    try:
        return _loaded(folder, handle, shape)
    except (OSError, ValueError, EOFError) as error:
        log.warning("the decoded radiographs in %s cannot be read (%s) and are made anew", folder, error)
        discard(folder)
        return None


def _loaded(folder: Path, handle: int, shape: tuple[int, int, int]) -> CachedSplit:
    """A cache, held by this open file for as long as its images live.

    Raises:
        OSError, ValueError, EOFError: It is not whole.
    """
    try:
        records = json.loads((folder / "records.json").read_text(encoding="utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r")
        if images.shape != shape or images.dtype != np.uint8 or len(records) != len(images):
            raise ValueError(f"{images.shape} {images.dtype} and {len(records)} records, not {shape}")
    except BaseException:
        os.close(handle)
        raise
    weakref.finalize(images, os.close, handle)
    return CachedSplit(images, records)


def _build(
    folder: Path, handle: int, shards: str | Path, cohorts: Sequence[str], split: str, fit: Fit, shape: tuple[int, int, int]
) -> str | None:
    """Make a cache where `reserve` has begun it; answers None, or why the disk does not take it."""
    building = folder.with_suffix(".tmp")
    try:
        for cohort in cohorts:
            cohort_folder(shards, cohort, check=True)
        records = _write_images(building / "images.npy", shards, cohorts, split, fit, shape)
        write_atomically(building / "records.json", json.dumps(records).encode())
        write_atomically(building / "about.json", json.dumps({"cohorts": list(cohorts), "split": split}).encode())
        building.rename(folder)
    except BaseException as error:
        os.close(handle)
        discard(building)
        if isinstance(error, DiskError) or (isinstance(error, OSError) and error.errno in FULL):
            return f"they could not be kept ({error})"
        raise
    return None


def _write_images(
    path: Path, shards: str | Path, cohorts: Sequence[str], split: str, fit: Fit, shape: tuple[int, int, int]
) -> list[dict[str, Any]]:
    """Decode into an array of this shape; answers the records. Written, not mapped: a full disk ends a process that writes into a map."""
    count, size_px, _ = shape
    records: list[dict[str, Any]] = []
    samples = (sample for cohort in cohorts for sample in read_samples(shards, cohort, split))
    with path.open("r+b") as file, ThreadPoolExecutor(DECODERS) as pool:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        while some := list(islice(samples, DECODED_AT_ONCE)):
            for sample, square in zip(some, pool.map(lambda s: to_square(s.pixels, size_px, fit), some), strict=True):
                file.write(np.ascontiguousarray(square).data)
                records.append(sample.record)
        if len(records) != count:
            raise UserError(
                f"the shards of {split} hold {len(records)} radiographs, their manifest says {count}; run prepare --verify"
            )
        file.flush()
        os.fsync(file.fileno())
    return records
