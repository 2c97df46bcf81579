import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacro_ray.dataset.manifest import read_manifest, verify
from sacro_ray.dataset.shards import add_sample, iterate_shards, key_of, png_bytes, read_samples, shard_paths
from sacro_ray.errors import UserError


@given(st.text(min_size=1, max_size=80))
def test_keys_are_plain_and_stable(radiograph_id):
    key = key_of(radiograph_id)
    assert key == key_of(radiograph_id)
    assert key.isascii()
    assert key.replace("-", "a").replace("_", "a").isalnum()


def test_keys_stay_apart():
    ids = ["1.2.840.1", "1.2.840.2", "1_2_840_1", "a b", "a/b", "a_b", "ä", "ö"]
    assert len({key_of(i) for i in ids}) == len(ids)
    assert key_of("9000296R") == "9000296R"


def test_what_is_written_is_read(experiment):
    for split, count in (("train", 48), ("validation", 24)):
        samples = list(read_samples(experiment.prepare.shards, "ours", split))
        assert len({s.key for s in samples}) == len(samples) == count
        for sample in samples:
            assert sample.pixels.dtype == np.uint8
            assert sample.pixels.shape == (sample.record["height"], sample.record["width"])
            assert sample.record["split"] == split
            assert sample.record["label"] == sample.record["readings"]["a"]
            assert sample.record["baseline"].keys() == {"age_years", "sex"}
    assert list(read_samples(experiment.prepare.shards, "ours", "test")) == []
    assert [p.name for p in shard_paths(experiment.prepare.shards, "ours", "train")] == [f"{i:06d}.tar" for i in range(5)]


def test_nothing_is_unpickled(tmp_path):
    """A shard from elsewhere may hold a pickle: it is not opened."""

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "000000.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        add_sample(tar, "a", png_bytes(np.eye(4, dtype=np.uint8)), {"label": 1})
        trap = pickle.dumps(Trap())
        member = tarfile.TarInfo("a.pkl")
        member.size = len(trap)
        tar.addfile(member, io.BytesIO(trap))
    (sample,) = iterate_shards([path])
    assert sample.record == {"label": 1}
    np.testing.assert_array_equal(sample.pixels, np.eye(4))


def test_manifest(experiment):
    manifest = read_manifest(experiment.prepare.shards, "ours")
    train = manifest.splits["train"]
    assert (train.radiographs, train.patients, train.positives, train.negatives, train.discordant) == (48, 24, 24, 24, 0)
    assert manifest.received == sum(s.radiographs for s in manifest.splits.values()) + len(manifest.excluded)
    assert sum(shard.samples for shard in train.shards) == 48
    assert len(manifest.digest) == 64
    plain = json.loads(manifest.as_json())
    assert plain["settings"]["store_size"] == 1024
    assert plain["splits"]["train"]["shards"][0].keys() == {"file", "sha256", "samples", "bytes"}
    with pytest.raises(UserError, match="run prepare"):
        read_manifest(experiment.prepare.shards, "nowhere")


def test_a_file_that_went_away_is_excluded(experiment, tmp_path):
    from dataclasses import replace

    from sacro_ray.dataset.parts import finished_part, write_shard
    from sacro_ray.dataset.plan import plan_cohort

    shard = plan_cohort("ours", experiment).shards[0]
    gone = replace(shard.radiographs[0], path=str(tmp_path / "gone.png"))
    shard = replace(shard, radiographs=(gone, *shard.radiographs[1:]))
    part = write_shard(shard, tmp_path, experiment.prepare)
    assert part.excluded == {gone.radiograph_id: "unreadable_file"}
    assert len(part.written) == len(shard.radiographs) - 1
    assert finished_part(shard, tmp_path) == part
    (tmp_path / part.file).write_bytes(b"half a shard")
    assert finished_part(shard, tmp_path) is None


def test_verify_finds_every_change(experiment, tmp_path):
    import shutil
    from pathlib import Path

    folder = Path(shutil.copytree(Path(experiment.prepare.shards) / "ours", tmp_path / "ours"))
    verify(folder)
    shard = folder / "train/000001.tar"
    original = shard.read_bytes()
    for data, says in ((original[:-1], "bytes, not"), (original[:700] + b"?" + original[701:], "SHA-256")):
        shard.write_bytes(data)
        with pytest.raises(UserError, match=f"train/000001.tar.*{says}"):
            verify(folder)
    shard.unlink()
    with pytest.raises(UserError, match=r"train/000001.tar is missing"):
        verify(folder)
    shard.write_bytes(original)
    (folder / "train/000099.tar").write_bytes(original)
    with pytest.raises(UserError, match=r"000099.tar is not in the manifest"):
        verify(folder)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="not a manifest"):
        verify(folder)
