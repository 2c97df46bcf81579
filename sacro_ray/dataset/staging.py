"""Shards of a bucket on this node's disk: fetched once, checked by their digests, and shared by all that work here.

A cohort's folder is named by a digest of its shards, so a cohort that was prepared anew never meets older shards.
"""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sacro_ray.dataset.files import cache_root, locked, sha256_of
from sacro_ray.dataset.manifest import NAME, Shard, read_manifest, verify
from sacro_ray.dataset.store import Store
from sacro_ray.disk import write_atomically
from sacro_ray.errors import UserError
from sacro_ray.locations import below, in_store

log = logging.getLogger("sacro_ray")
AT_ONCE = 8
"""Shards that are fetched at the same time."""


def cohort_folder(shards_root: str | Path, cohort: str, check: bool = False) -> Path:
    """The folder of a prepared cohort on this machine; one that lies in a bucket is fetched first, by whichever process comes first.

    Args:
        shards_root: The folder of all shards, or its address.
        cohort: Whose.
        check: Read every shard once more and compare it with the manifest; what was fetched earlier and has changed since on this
            disk is fetched again.

    Raises:
        UserError: The cohort is not prepared, a shard is not what its manifest says, or the disk has no room.
    """
    if not in_store(shards_root):
        folder = Path(shards_root) / cohort
        if check:
            verify(folder)
        return folder
    manifest = read_manifest(shards_root, cohort)
    name = hashlib.sha256(f"{cohort}\n{manifest.digest}".encode()).hexdigest()[:24]
    folder = cache_root() / "shards" / name / cohort
    with locked(cache_root() / "shards" / f"{name}.lock"):
        shards = [shard for split in manifest.splits.values() for shard in split.shards]
        missing = [shard for shard in shards if not _is_here(folder, shard, check or not (folder / NAME).exists())]
        if missing:
            _fetch(Store(below(shards_root, cohort)), folder, missing)
        if missing or not (folder / NAME).exists():
            # Last, as in a bucket: it says that all is here.
            write_atomically(folder / NAME, manifest.as_json().encode())
    return folder


def _fetch(store: Store, folder: Path, shards: Sequence[Shard]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    size, free = sum(shard.bytes for shard in shards), shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"the shards of {store.address} take {size / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f} GiB free; make room, or "
            "set SACRO_RAY_CACHE to a folder on a larger disk"
        )
    log.info("fetching %d shards of %s (%.2f GiB), once", len(shards), store.address, size / 2**30)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(store.fetch, shard.file, folder / shard.file, shard.sha256) for shard in shards]:
            done.result()


def _is_here(folder: Path, shard: Shard, check: bool) -> bool:
    path = folder / shard.file
    return path.is_file() and path.stat().st_size == shard.bytes and (not check or sha256_of(path) == shard.sha256)
