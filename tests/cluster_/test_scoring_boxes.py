"""A run that knows only radiographs cut to boxes takes no whole ones without being told to, and marks those that it takes."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sacro_ray import score
from sacro_ray.cluster.scoring_boxes import held_to_training
from sacro_ray.cluster.scoring_inputs import Item, list_items
from sacro_ray.cluster.scoring_reading import prepare_bytes, prepare_item
from sacro_ray.config import Experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.boxes import Boxes
from sacro_ray.learning.network import build_network
from sacro_ray.learning.run_folder import RunFolder

CUT, UNCUT = Boxes(1.0, 0.5, 0.4), Boxes(0.0)
BOX = (4, 5, 40, 36)


@pytest.fixture
def items(tmp_path) -> list[Item]:
    """Three pictures, 50 x 40: without a box, with one, and with one around all of it."""
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 255, (40, 50), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    boxes = (None, BOX, (0, 0, 50, 40))
    return [Item(name, str(tmp_path / f"{name}.png"), box) for name, box in zip("abc", boxes, strict=True)]


def with_crop(experiment: Experiment, crop: str) -> Experiment:
    return experiment.model_copy(update={"prepare": experiment.prepare.model_copy(update={"crop": crop})})


def outcomes(items: list[Item], experiment: Experiment) -> list[str]:
    """Of each item the reason why it is not scored, or whether it is marked."""
    found = [prepare_item(item, experiment, 32) for item in items]
    return [one.error.partition(":")[0] or " ".join(flag for flag in one.flags if flag == "not_cropped") for one in found]


def test_an_input_without_any_box_is_refused_with_what_to_do(items, experiment):
    with pytest.raises(
        UserError, match=r"trained on radiographs cut.*none of the 1 radiographs of films has a box.*--whole-rad"
    ):
        held_to_training(items[:1], CUT, experiment, "films", whole_radiographs=False)


@pytest.mark.parametrize("boxes", [UNCUT, Boxes(0.3, 0.5, 0.4), None], ids=["whole", "mostly whole", "not known"])
def test_a_run_that_knows_whole_radiographs_takes_them_as_ever(items, experiment, boxes):
    held = held_to_training(items, boxes, experiment, "films", whole_radiographs=False)
    assert held == items
    assert outcomes(held, experiment) == ["", "", ""]


def test_where_it_is_not_known_the_log_says_so(items, experiment, caplog):
    held_to_training(items[:1], None, experiment, "films", whole_radiographs=False)
    assert "does not say whether it was trained on radiographs cut" in caplog.text


def test_boxes_for_a_run_that_knows_only_whole_ones_are_told(items, experiment, caplog):
    held_to_training(items, UNCUT, experiment, "films", whole_radiographs=False)
    assert "2 of these 3 are cut to boxes; --set prepare.crop=none" in caplog.text


def test_in_a_table_with_boxes_those_without_are_errors_and_the_rest_is_scored(items, experiment):
    held = held_to_training(items, CUT, experiment, "films", whole_radiographs=False)
    assert outcomes(held, experiment) == ["no_box", "", "no_box"]


def test_whole_radiographs_that_are_accepted_are_marked(items, experiment, caplog):
    with caplog.at_level(logging.WARNING):
        held = held_to_training(items, CUT, experiment, "films", whole_radiographs=True)
    assert outcomes(held, experiment) == ["not_cropped", "", "not_cropped"]
    assert "do not rely on these scores" in caplog.text


def test_boxes_that_a_setting_leaves_aside_are_none(items, experiment):
    whole = with_crop(experiment, "none")
    with pytest.raises(UserError, match=r'crop = "none" leaves the boxes of a table aside'):
        held_to_training(items, CUT, whole, "films", whole_radiographs=False)
    held = held_to_training(items, CUT, whole, "films", whole_radiographs=True)
    assert outcomes(held, whole) == ["not_cropped"] * 3


def test_a_cut_to_the_exposed_field_is_not_a_box(experiment):
    pixels = np.pad(np.random.default_rng(0).integers(20, 250, (40, 50)).astype(np.uint8), 8)
    path = Path(experiment.prepare.shards).parent / "field.png"
    Image.fromarray(pixels).save(path)
    found = prepare_bytes(path.read_bytes(), with_crop(experiment, "collimation"), 32, None, "marked")
    assert found.flags[0] == "not_cropped"


def test_samples_of_shards_that_were_not_cut_are_refused_too(experiment):
    items = list_items(str(Path(experiment.prepare.shards) / "theirs"), Path("/nowhere"))
    with pytest.raises(UserError, match="none of the 16 radiographs"):
        held_to_training(items, CUT, experiment, "theirs", whole_radiographs=False)
    held = held_to_training(items, CUT, experiment, "theirs", whole_radiographs=True)
    assert set(outcomes(held, experiment)) == {"not_cropped"}


def test_the_command_refuses_a_folder_before_it_makes_anything(items, experiment, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(experiment)
    run.save_best(build_network(experiment.model).state_dict(), {"size_px": 48, "boxes": vars(CUT)})
    run.validation_predictions.parent.mkdir()
    run.validation_predictions.write_text("radiograph_id,probability,label\na,0.2,0\nb,0.4,1\nc,0.3,0\nd,0.6,1\n")
    table = tmp_path / "cohort.csv"
    table.write_text("radiograph_id,patient_id,path\na,p,a.png\n")
    for given in (tmp_path, tmp_path / "*.png", tmp_path / "a.png", table):
        with pytest.raises(UserError, match="cut to the boxes of a table"):
            score.main(["--run", str(run.path), "--input", str(given), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
