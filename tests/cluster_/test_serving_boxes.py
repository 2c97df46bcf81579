"""Boxes on the page: asked for where the run needs them, in pixels of the file's picture, and as good as those of a table."""

import asyncio
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from serving_fakes import png_bytes

from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.cluster.scoring_reading import prepare_item
from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.cluster.serving import Reception, _about
from sacro_ray.cluster.serving_uploads import SHOWN_PX, decode_upload, show_upload
from sacro_ray.errors import UserError
from sacro_ray.serving.answers import Refused

CUT = {"boxes": {"share": 1.0, "width": 0.5, "height": 0.4}}
BOX = (40, 50, 400, 360)


@pytest.fixture
def film(make_dicom) -> bytes:
    """A radiograph of 1600 x 800 pixels."""
    return make_dicom(np.random.default_rng(0).integers(0, 4096, (800, 1600)).astype(np.uint16))


def test_the_page_asks_for_boxes_where_the_run_needs_them(random_run, caplog):
    run = ScoringRun.at(random_run.path)
    needing = _about(replace(run, description=CUT), 2**20)
    assert (needing.box_needed, needing.usual_box) == (True, (0.5, 0.4))
    for boxes in ({"share": 0.0, "width": None, "height": None}, {"share": 0.2, "width": 0.5, "height": 0.4}):
        assert not _about(replace(run, description={"boxes": boxes}), 2**20).box_needed
    assert not caplog.text
    assert not _about(replace(run, description={"data": {"ours": "of other shards"}}), 2**20).box_needed
    assert "does not say whether it was trained on radiographs cut" in caplog.text


def test_a_setting_that_leaves_boxes_aside_is_refused_where_they_are_needed(random_run):
    whole = replace(ScoringRun.at(random_run.path, ["prepare.crop=none"]), description=CUT)
    with pytest.raises(UserError, match="serve it without that setting"):
        _about(whole, 2**20)


def test_an_upload_with_a_box_gives_the_square_of_a_table_with_that_box(film, experiment, tmp_path):
    (tmp_path / "film.dcm").write_bytes(film)
    expected = prepare_item(Item("film", str(tmp_path / "film.dcm"), BOX), experiment, 48)
    found = decode_upload(film, BOX, "refused", experiment, 48)
    np.testing.assert_array_equal(found.square, expected.square)
    whole = decode_upload(film, (0, 0, 1600, 800), "refused", experiment, 48)
    assert (whole.square, whole.error.partition(":")[0]) == (None, "no_box")
    beyond = decode_upload(film, (0, 0, 1601, 800), "refused", experiment, 48)
    assert beyond.error == "crop_outside: the image is 1600 x 800 pixels"


def test_the_whole_picture_is_shown_with_the_size_of_the_file(film, experiment):
    shown = show_upload(film, experiment)
    assert (shown.width, shown.height, shown.error) == (1600, 800, "")
    assert Image.open(io.BytesIO(shown.png)).size == (SHOWN_PX, SHOWN_PX // 2)
    assert show_upload(b"%PDF-1.7", experiment).error.startswith("not_an_image: ")


def test_a_box_for_a_run_that_cuts_nothing_is_refused(experiment):
    reception = object.__new__(Reception)  # which would ask Ray for tasks; a box is refused before any
    reception.experiment = experiment.model_copy(update={"prepare": experiment.prepare.model_copy(update={"crop": "none"})})
    with pytest.raises(Refused) as refused:
        asyncio.run(reception.answer(png_bytes(np.zeros((8, 8), np.uint8)), (1, 1, 4, 4), False))
    assert (refused.value.status, refused.value.refusal.reason) == (422, "wrong_box")
