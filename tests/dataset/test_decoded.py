"""Decoded caches: one budget for all of a node, the least recently used removed first, none in use; those that are damaged made anew."""

import gc
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from disks import CUTS, cut, make_read_only, small_disk

from sacro_ray.dataset import decoded
from sacro_ray.dataset.cache import open_split
from sacro_ray.dataset.decoded import decoded_caches, hold, reserve
from sacro_ray.dataset.machine import cache_lines
from sacro_ray.dataset.streaming import ShardImages
from sacro_ray.disk import DiskError

KIB = 1024
GIB_OF = 1 / 2**30


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded, "SPARED_GIB", 0.0)
    return tmp_path / "cache"


def name(number):
    return f"{number:024x}"


def made(root, number, size, days):
    """A finished cache that was last used so many days ago."""
    folder = root / name(number)
    folder.mkdir(parents=True)
    (folder / "images.npy").write_bytes(bytes(size))
    os.utime(folder, (time.time() - days * 86400,) * 2)
    return folder


def there(root):
    return {int(path.name[:24], 16) for path in root.iterdir() if path.is_dir()}


def test_the_least_recently_used_goes_and_never_one_in_use(root):
    oldest, *_ = (made(root, number, 100 * KIB, days=10 - number) for number in range(4))
    held = hold(oldest)
    os.utime(oldest, (0, 0))
    handle, reason = reserve(root / name(9), 150 * KIB, 400 * KIB * GIB_OF)
    assert reason is None
    assert there(root) == {0, 3, 9}
    os.close(held)
    handle, reason = reserve(root / name(10), 150 * KIB, 400 * KIB * GIB_OF)
    assert reason is None
    assert there(root) == {3, 9, 10}  # the one in use before, and no more than must
    os.close(handle)


def test_one_held_by_another_process_stays(root):
    folder = made(root, 1, 100 * KIB, days=1)
    program = "import sys; from pathlib import Path; from sacro_ray.dataset.decoded import hold; hold(Path(sys.argv[1])); print(); input()"
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        handle, reason = reserve(root / name(2), 100 * KIB, 150 * KIB * GIB_OF)
        assert handle == -1
        assert "GiB that are in use, and training.cache_gib allows" in reason
        other.kill()
    assert reserve(root / name(2), 100 * KIB, 150 * KIB * GIB_OF)[1] is None
    assert there(root) == {2}


def test_what_cannot_be_had_removes_nothing(root):
    made(root, 1, 100 * KIB, days=1)
    assert reserve(root / name(2), 500 * KIB, 400 * KIB * GIB_OF)[1] is not None
    assert there(root) == {1}


def test_those_that_begin_at_once_keep_the_budget_together(root):
    root.mkdir()
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda number: reserve(root / name(number), 100 * KIB, 250 * KIB * GIB_OF), range(8)))
    assert sum(reason is None for _, reason in begun) == 2
    assert sum(cache.bytes for cache in decoded_caches()) == 200 * KIB


def test_what_a_killed_process_began_counts_no_longer(root):
    handle, _ = reserve(root / name(1), 100 * KIB, 150 * KIB * GIB_OF)
    os.close(handle)  # as the kernel does
    assert reserve(root / name(2), 100 * KIB, 150 * KIB * GIB_OF)[1] is None
    assert [cache.folder.name for cache in decoded_caches()] == [f"{name(2)}.tmp"]


def opened(experiment, size_px, budget_kib=2**20, split="train"):
    return open_split(experiment.prepare.shards, ["ours"], split, size_px, "pad", budget_kib * KIB * GIB_OF)


def test_the_budget_is_that_of_all_sizes_and_splits_together(experiment, root, caplog):
    """48 radiographs at 32 px take 48 KiB, at 40 px 75 KiB; the validation split half of it."""
    first = opened(experiment, 32, 110)
    with caplog.at_level(logging.WARNING):
        assert isinstance(opened(experiment, 40, 110).images, ShardImages)
    assert "beside 0.0 GiB that are in use, and training.cache_gib allows" in caplog.text
    assert isinstance(opened(experiment, 32, 110).images, np.memmap)
    del first
    gc.collect()
    assert isinstance(opened(experiment, 40, 110).images, np.memmap)
    assert len(decoded_caches()) == 1


def test_the_doctor_tells_what_lies_there(experiment, root):
    held = opened(experiment, 32)
    opened(experiment, 40, split="validation")
    gc.collect()
    first, *lines = cache_lines()
    assert first.startswith("2 decoded, 0.")
    assert str(root) in first
    told = "\n".join(lines)
    assert "in use  48 radiographs at 32 px: train of ours" in told
    assert "ago  24 radiographs at 40 px: validation of ours" in told
    del held


@pytest.mark.parametrize("file", ["images.npy", "records.json"])
@pytest.mark.parametrize("left", CUTS)
def test_a_cache_that_cannot_be_read_is_made_anew(experiment, root, caplog, file, left):
    images = np.array(opened(experiment, 32).images)
    gc.collect()
    cut(next(root.glob(f"*/{file}")), left)
    again = opened(experiment, 32)
    assert "cannot be read" in caplog.text
    assert "made anew" in caplog.text
    assert np.array_equal(again.images, images)
    assert len(again.records) == 48
    assert len(decoded_caches()) == 1


def test_a_cache_that_is_damaged_under_a_reader_is_made_anew_beside_it(experiment, root):
    reader = opened(experiment, 32)
    images = np.array(reader.images)
    next(root.glob("*/records.json")).write_text("[")
    assert np.array_equal(opened(experiment, 32).images, images)
    assert np.array_equal(reader.images, images)


def test_a_disk_that_fills_while_radiographs_are_decoded_is_no_end(experiment, tmp_path, monkeypatch, caplog):
    """Written into a memory map, a full disk ended the process with SIGBUS."""
    with small_disk(tmp_path / "disk", "128k") as disk:
        monkeypatch.setenv("SACRO_RAY_CACHE", str(disk))
        usage = decoded.shutil.disk_usage("/")
        monkeypatch.setattr(decoded.shutil, "disk_usage", lambda path: usage)
        found = opened(experiment, 64)
        assert isinstance(found.images, ShardImages)
        assert len(found.images[:]) == 48
        assert decoded_caches() == []
    assert "they could not be kept" in caplog.text


def test_a_folder_of_caches_that_is_read_only_is_named(experiment, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("SACRO_RAY_CACHE", str(disk / "cache"))
        make_read_only(disk)
        with pytest.raises(DiskError, match=r"disk: the disk is read-only.*SACRO_RAY_CACHE"):
            opened(experiment, 32)
