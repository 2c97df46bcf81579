"""Reading from the shards in place of the cache: the same radiographs, in any order."""

import json
import logging

import numpy as np
import pytest

from sacro_ray.dataset import decoded, streaming
from sacro_ray.dataset.cache import open_split
from sacro_ray.dataset.streaming import ShardImages, ahead
from sacro_ray.errors import UserError


def opened(experiment, budget_gib, split="train", size_px=32):
    return open_split(experiment.prepare.shards, ["ours"], split, size_px, "pad", budget_gib)


def test_beyond_the_budget_the_same_radiographs_come_from_the_shards(experiment, caplog):
    cached = opened(experiment, 8.0)
    with caplog.at_level(logging.WARNING):
        streamed = opened(experiment, 1e-9, size_px=33), opened(experiment, 1e-9, size_px=34)
    assert "read from the shards in every epoch: decoded they take" in caplog.text
    assert all(isinstance(split.images, ShardImages) for split in streamed)
    everything = ShardImages(streamed[0].images._members, 32, "pad")
    assert len(everything) == len(cached.images)
    assert streamed[0].records == cached.records
    assert np.array_equal(everything[:], cached.images)
    chosen = np.random.default_rng(0).permutation(len(everything))[:7]
    assert np.array_equal(everything[chosen], cached.images[chosen])
    assert np.array_equal(everything[3], cached.images[3])


def test_a_full_disk_is_no_end(experiment, monkeypatch):
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
    assert isinstance(opened(experiment, 8.0, size_px=35).images, ShardImages)


def test_ahead_gives_every_batch_once_and_in_order_and_passes_errors_on():
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1)
    order = [np.array([5, 2]), np.array([0]), np.array([11, 3, 4])]
    for pixels, wanted in zip(ahead(images, order, np.asarray), order, strict=True):
        assert np.array_equal(pixels.ravel(), wanted)
    assert list(ahead(images, [], np.asarray)) == []
    with pytest.raises(IndexError):
        list(ahead(images, [np.array([1]), np.array([99])], np.asarray))


def test_a_flipped_byte_in_a_shard_is_found_before_training(experiment, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "cache"))
    shutil.copytree(experiment.prepare.shards, tmp_path / "shards")
    shard = next((tmp_path / "shards" / "ours" / "train").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"has changed \(SHA-256\)"):
        open_split(tmp_path / "shards", ["ours"], "train", 32, "pad", 8.0)


def test_members_are_read_at_their_place(experiment):
    members, records = streaming.index_split(experiment.prepare.shards, ["ours"], "validation")
    assert len(members) == len(records) == len({(m.shard, m.offset) for m in members})
    for member in members:
        with member.shard.open("rb") as handle:
            handle.seek(member.offset)
            assert handle.read(8) == b"\x89PNG\r\n\x1a\n"
    assert json.dumps(records)
