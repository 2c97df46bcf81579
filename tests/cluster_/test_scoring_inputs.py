"""What is found to be scored, in which order, and what is refused."""

import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sacro_ray.cluster.scoring_inputs import list_items
from sacro_ray.cluster.scoring_results import input_digest
from sacro_ray.dataset.shards import read_samples
from sacro_ray.errors import UserError


@pytest.fixture
def films(tmp_path, make_dicom) -> Path:
    """Images in folders of several depths, with known endings, without, and files that are no images."""
    folder = tmp_path / "films"
    (folder / "b" / "deep").mkdir(parents=True)
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("z.png", "b/deep/x.jpg", "b/a.tif"):
        Image.fromarray(picture).save(folder / name)
    (folder / "b" / "IM0001").write_bytes(make_dicom(picture.astype(np.uint16)))
    (folder / "broken.dcm").write_bytes(b"nothing of the kind")
    (folder / "empty.PNG").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / "b" / "table.csv").write_text("a,b\n")
    return folder


EXPECTED = ["b/IM0001", "b/a.tif", "b/deep/x.jpg", "broken.dcm", "empty.PNG", "z.png"]


def names(given: object, without: Path = Path("/nowhere")) -> list[str]:
    return [item.input for item in list_items(str(given), without)]


def test_every_image_of_a_folder_is_listed_once_in_the_order_of_paths(films, caplog):
    with caplog.at_level(logging.INFO):
        assert names(films) == EXPECTED
    assert "left out: 2 files without a known image ending" in caplog.text


def test_the_folder_of_the_results_is_not_searched(films):
    (films / "scores").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(films / "scores" / "overlay.png")
    assert names(films, without=(films / "scores").resolve()) == EXPECTED
    assert "scores/overlay.png" in names(films)


def test_a_link_in_a_circle_is_not_followed(films):
    os.symlink(films, films / "b" / "again")
    assert names(films) == EXPECTED


def test_a_glob_names_files_from_its_first_wildcard(films):
    assert names(films / "**" / "*.png") == ["z.png"]
    assert names(films / "b" / "*") == ["IM0001", "a.tif"]


def test_a_single_file(films):
    (item,) = list_items(str(films / "b" / "a.tif"), Path("/nowhere"))
    assert (item.input, Path(item.path)) == ("a.tif", films / "b" / "a.tif")


def test_a_cohort_table_gives_ids_and_crops_in_its_order(films):
    table = films / "cohort.csv"
    table.write_text(
        "radiograph_id,patient_id,path,crop_left,crop_top,crop_right,crop_bottom\nr2,p,z.png,1,2,7,8\nr1,p,b/a.tif,,,,\n"
    )
    first, second = list_items(str(table), Path("/nowhere"))
    assert (first.input, first.box, Path(first.path).name) == ("r2", (1, 2, 7, 8), "z.png")
    assert (second.input, second.box) == ("r1", None)


@pytest.mark.parametrize("below", ["", "ours", "theirs/test", "ours/train/000000.tar"])
def test_samples_of_shards_are_found_with_the_bytes_of_their_pictures(experiment, below):
    root = Path(experiment.prepare.shards)
    items = list_items(str(root / below), Path("/nowhere"))
    pixels = {s.record["radiograph_id"]: s for split in ("train", "validation") for s in read_samples(root, "ours", split)}
    pixels |= {s.record["radiograph_id"]: s for s in read_samples(root, "theirs", "test")}
    ours = {name for name, sample in pixels.items() if sample.record["cohort"] == "ours"}
    expected = {"": pixels.keys(), "ours": ours, "theirs/test": pixels.keys() - ours}
    if below in expected:
        assert {item.input for item in items} == expected[below]
    assert len({item.input for item in items}) == len(items) > 0
    for item in items:
        with open(item.path, "rb") as file:
            file.seek(item.offset)
            found = np.asarray(Image.open(io.BytesIO(file.read(item.size)), formats=["PNG"]))
        np.testing.assert_array_equal(found, pixels[item.input].pixels)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing", "nothing at"),
        (lambda folder: folder / "*.gif", "no image"),
        (lambda folder: folder / "notes.txt", "no image"),
    ],
)
def test_no_image_is_the_users_to_mend(films, make, says):
    with pytest.raises(UserError, match=says):
        list_items(str(make(films)), Path("/nowhere"))


def test_an_empty_folder_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="no image"):
        list_items(str(tmp_path), Path("/nowhere"))


def test_a_tar_that_is_no_shard_is_the_users_to_mend(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(UserError, match="no shard"):
        list_items(str(tmp_path / "x.tar"), Path("/nowhere"))


def test_the_digest_changes_with_a_file_that_changes(films):
    before = input_digest(list_items(str(films), Path("/nowhere")))
    assert input_digest(list_items(str(films), Path("/nowhere"))) == before
    (films / "broken.dcm").write_bytes(b"nothing of the kin2")
    os.utime(films / "broken.dcm", ns=(1, 1))
    assert input_digest(list_items(str(films), Path("/nowhere"))) != before


def test_items_hold_nothing_that_json_cannot(films):
    assert json.dumps([vars(item) for item in list_items(str(films), Path("/nowhere"))])
