"""From files to squares: the same as from shards, and no file that stops the rest."""

import os
from pathlib import Path

import numpy as np
import pytest
from cohorts import prepare_here as prepare_cohorts_here
from PIL import Image

from sacro_ray.cluster.scoring_inputs import Item, list_items
from sacro_ray.cluster.scoring_quality import quality_flags, stored_quality_flags
from sacro_ray.cluster.scoring_reading import prepare_apart, prepare_here, prepare_item
from sacro_ray.dataset.geometry import to_square
from sacro_ray.dataset.shards import read_samples
from sacro_ray.demo import demo_experiment
from sacro_ray.imaging.decode import Radiograph
from sacro_ray.simulation.cohort import write_cohorts


def test_a_file_and_its_sample_in_a_shard_give_the_same_square(experiment):
    table = Path(experiment.cohorts["theirs"].table)
    files = {item.input: item for item in list_items(str(table), Path("/nowhere"))}
    stored = {item.input: item for item in list_items(str(Path(experiment.prepare.shards) / "theirs"), Path("/nowhere"))}
    assert files.keys() == stored.keys()
    for sample in read_samples(experiment.prepare.shards, "theirs", "test"):
        name = sample.record["radiograph_id"]
        expected = to_square(sample.pixels, 48, experiment.model.fit)
        np.testing.assert_array_equal(prepare_item(files[name], experiment, 48).square, expected)
        np.testing.assert_array_equal(prepare_item(stored[name], experiment, 48).square, expected)


def test_dicom_files_cut_to_the_exposed_field_give_the_squares_of_their_shards(tmp_path):
    write_cohorts(tmp_path / "data", 10, 4, seed=0, size_px=160, workers=1)
    experiment = demo_experiment(tmp_path, [])
    prepare_cohorts_here(experiment)
    for name, cohort in experiment.cohorts.items():
        files = {item.input: item for item in list_items(cohort.table, Path("/nowhere"))}
        stored = list_items(str(tmp_path / "shards" / name), Path("/nowhere"))
        assert len(stored) >= 4
        for item in stored:
            found, expected = (prepare_item(one, experiment, 112).square for one in (files[item.input], item))
            np.testing.assert_array_equal(found, expected)


@pytest.fixture
def mixed(tmp_path, make_dicom) -> list[Item]:
    rng = np.random.default_rng(5)
    films = {
        "fine.dcm": make_dicom(rng.integers(0, 4096, (40, 50)).astype(np.uint16)),
        "other_modality.dcm": make_dicom(np.ones((8, 8), np.uint16), Modality="CT"),
        "empty.png": b"",
        "text.jpg": b"not a picture at all",
    }
    for name, data in films.items():
        (tmp_path / name).write_bytes(data)
    Image.fromarray(rng.integers(0, 255, (30, 40), dtype=np.uint8)).save(tmp_path / "fine.png")
    return [*list_items(str(tmp_path), Path("/nowhere")), Item("gone.png", str(tmp_path / "gone.png"))]


def test_what_cannot_be_read_is_an_answer_with_its_reason(mixed, experiment):
    found = dict(zip([item.input for item in mixed], prepare_here(mixed, experiment, 32), strict=True))
    reasons = {name: prepared.error.split(":")[0] for name, prepared in found.items()}
    assert reasons == {
        "fine.dcm": "", "fine.png": "", "empty.png": "empty_file", "text.jpg": "not_an_image",
        "other_modality.dcm": "wrong_modality", "gone.png": "unreadable_file",
    }  # fmt: skip
    for name, prepared in found.items():
        assert (prepared.square is None) == bool(prepared.error), name
    assert found["fine.png"].square.shape == (32, 32)


def test_a_header_of_another_body_part_or_one_side_is_a_flag(make_dicom, experiment, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    for number, (header, expected) in enumerate(
        [
            ({"BodyPartExamined": "KNEE"}, ("other_body_part",)),
            ({"BodyPartExamined": "HIP"}, ()),
            ({"BodyPartExamined": "LEFT THUMB"}, ()),
            ({"Modality": "CR", "Laterality": "L", "ViewPosition": "LL"}, ("view_not_frontal", "one_side_only")),
        ]
    ):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(make_dicom(pixels, **header))
        assert prepare_item(Item(path.name, str(path)), experiment, 32).flags == expected


def test_reading_in_a_process_apart_gives_the_same(mixed, experiment):
    here, apart = list(prepare_here(mixed, experiment, 32)), list(prepare_apart(mixed, experiment, 32))
    for one, other in zip(here, apart, strict=True):
        assert (one.error, one.flags) == (other.error, other.flags)
        if one.square is not None:
            np.testing.assert_array_equal(one.square, other.square)


SPY = """
import os, pathlib, signal
whole = pathlib.Path.read_bytes
def read_bytes(self):
    if "poison" in self.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self)
pathlib.Path.read_bytes = read_bytes
"""


def test_a_file_that_takes_its_decoder_down_is_one_row(tmp_path, mixed, experiment, monkeypatch):
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "spy"), os.environ.get("PYTHONPATH", "")]))
    poison = tmp_path / "poison.png"
    poison.write_bytes(b"x")
    items = [mixed[0], Item("poison.png", str(poison)), Item("poison.png", str(poison)), mixed[2]]
    errors = [prepared.error.split(":")[0] for prepared in prepare_apart(items, experiment, 32)]
    assert errors == ["empty_file", "decoder_crashed", "decoder_crashed", ""]


def radiograph(pixels: np.ndarray, **header: str) -> Radiograph:
    return Radiograph(pixels, None, "stored", (), (0, 0, 1, 1), pixels.shape, header)


def test_flags_of_header_and_pixels():
    ordinary = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
    assert quality_flags(radiograph(ordinary, ViewPosition="AP", BodyPartExamined="PELVIS"), 64) == ()
    assert quality_flags(radiograph(ordinary), 64) == ()
    strange = radiograph(ordinary, ViewPosition="LL", BodyPartExamined="CHEST", ImageLaterality="L")
    assert quality_flags(strange, 64) == ("view_not_frontal", "one_side_only", "other_body_part")
    assert quality_flags(radiograph(ordinary, Laterality="R"), 64) == ("one_side_only",)
    assert quality_flags(radiograph(ordinary, ImageLaterality="B", Laterality=""), 64) == ()
    assert stored_quality_flags(ordinary, 65) == ("small",)
    assert stored_quality_flags(np.where(ordinary > 100, 255, ordinary).astype(np.uint8), 64) == ("saturated",)
    assert stored_quality_flags((ordinary // 12 + 100).astype(np.uint8), 64) == ("low_contrast",)
