"""A run knows whether its training radiographs were cut to boxes of a table: from training on, or from the shards of older runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort_settings, prepare_here, write_cohort
from PIL import Image

from sacro_ray.config import Experiment, build_experiment
from sacro_ray.dataset.shards import read_samples
from sacro_ray.learning.boxes import Boxes, boxes_in, boxes_of_run, kept_share
from sacro_ray.learning.data import data_digests
from sacro_ray.learning.run_folder import RunFolder

BOX = (6, 5, 30, 25)


def experiment_in(folder: Path, crop: str, boxed: int) -> Experiment:
    """A prepared cohort of 24 radiographs, 48 x 40 pixels with black borders, of which the first `boxed` have a box in the table."""
    write_cohort(folder / "ours", 24, 1, ["a"], splits=True)
    table = folder / "ours" / "cohort.csv"
    lines = table.read_text().splitlines()
    boxes = [",".join(map(str, BOX)) if number < boxed else ",,," for number in range(24)]
    header = lines[0] + ",crop_left,crop_top,crop_right,crop_bottom"
    table.write_text("\n".join([header, *(f"{line},{box}" for line, box in zip(lines[1:], boxes, strict=True))]) + "\n")
    rng = np.random.default_rng(3)
    for line in lines[1:]:
        pixels = np.pad(rng.integers(20, 250, (36, 44)).astype(np.uint8), 2)
        Image.fromarray(pixels).save(folder / "ours" / line.split(",")[2])
    settings = cohort_settings(folder / "ours", "development", ["a"])
    found = build_experiment(
        {"name": "cut", "cohorts": {"ours": settings}, "prepare": {"shards": str(folder / "shards"), "crop": crop}}
    )
    prepare_here(found)
    return found


def records_of(experiment: Experiment) -> list[dict]:
    return [sample.record for sample in read_samples(experiment.prepare.shards, "ours", "train")]


def run_of(experiment: Experiment, folder: Path) -> RunFolder:
    run = RunFolder(folder / "run")
    run.claim(experiment)
    return run


@pytest.mark.parametrize(
    ("crop", "boxed", "share"),
    [("table", 24, 1.0), ("table", 0, 0.0), ("none", 24, 0.0), ("collimation", 24, 1.0), ("collimation", 0, 0.0)],
)
def test_shards_say_whether_they_were_cut_to_boxes(tmp_path, crop, boxed, share):
    experiment = experiment_in(tmp_path, crop, boxed)
    found = boxes_in(experiment.prepare.shards, ["ours"], records_of(experiment))
    assert found.share == share
    assert found.needed == (share == 1)
    assert (found.width, found.height) == ((0.5, 0.5) if share else (None, None))


def test_a_mixture_is_decided_by_share(tmp_path):
    experiment = experiment_in(tmp_path, "table", 6)
    records = records_of(experiment)
    found = boxes_in(experiment.prepare.shards, ["ours"], records)
    assert 0 < found.share == round(sum(record["box"] is not None for record in records) / len(records), 4) < 0.5
    assert [Boxes(share).needed for share in (0.0, 0.49, 0.5, 1.0)] == [False, False, True, True]


def test_a_box_around_the_whole_picture_cuts_nothing():
    record = {"crop": [0, 0, 48, 40], "box": [0, 0, 48, 40], "source_width": 48, "source_height": 40}
    assert kept_share(record) is None
    assert kept_share({**record, "box": None}) is None
    assert kept_share({**record, "box": [0, 0, 24, 40]}) == (0.5, 1.0)


def old(records: list[dict]) -> list[dict]:
    """Records as earlier versions wrote them."""
    return [{key: value for key, value in record.items() if key != "box"} for record in records]


def test_older_shards_say_it_by_what_was_kept_unless_that_is_the_exposed_field(tmp_path):
    cut = experiment_in(tmp_path / "cut", "table", 24)
    whole = experiment_in(tmp_path / "whole", "table", 0)
    field = experiment_in(tmp_path / "field", "collimation", 0)
    assert boxes_in(cut.prepare.shards, ["ours"], old(records_of(cut))) == Boxes(1.0, 0.5, 0.5)
    assert boxes_in(whole.prepare.shards, ["ours"], old(records_of(whole))) == Boxes(0.0)
    assert boxes_in(field.prepare.shards, ["ours"], old(records_of(field))) is None


def test_shards_of_another_program_say_nothing_and_damaged_ones_neither(tmp_path):
    experiment = experiment_in(tmp_path, "table", 24)
    assert boxes_in(experiment.prepare.shards, ["ours"], [{"radiograph_id": "a", "height": 4, "width": 4}]) is None
    for shard in (tmp_path / "shards" / "ours" / "train").glob("*.tar"):
        shard.write_bytes(shard.read_bytes()[:700])
    assert boxes_of_run(run_of(experiment, tmp_path), {}) is None


def test_a_run_is_asked_first_and_then_its_shards(tmp_path):
    experiment = experiment_in(tmp_path, "table", 24)
    run = run_of(experiment, tmp_path)
    digests = data_digests(experiment, ["ours"])
    assert boxes_of_run(run, {"boxes": {"share": 0.25, "width": 0.5, "height": 0.5}}) == Boxes(0.25, 0.5, 0.5)
    assert boxes_of_run(run, {"data": digests}).needed
    assert boxes_of_run(run, {"data": {"ours": "other"}}) is None, "the shards are not those of the training"
    shutil.rmtree(experiment.prepare.shards)
    assert boxes_of_run(run, {"data": digests}) is None


def test_a_run_that_cuts_nothing_needs_no_shards(tmp_path):
    run = run_of(experiment_in(tmp_path, "none", 24), tmp_path)
    shutil.rmtree(tmp_path / "shards")
    assert boxes_of_run(run, {}) == Boxes(0.0)


def test_best_json_can_hold_it(tmp_path):
    experiment = experiment_in(tmp_path, "table", 24)
    found = boxes_in(experiment.prepare.shards, ["ours"], records_of(experiment))
    assert boxes_of_run(run_of(experiment, tmp_path), {"boxes": json.loads(json.dumps(vars(found)))}) == found
