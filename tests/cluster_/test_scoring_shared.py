"""All reference images, good and bad, DICOM and pictures, in one input: a row each, in the order of the paths, with its own outcome."""

import csv
from pathlib import Path

import pytest

from sacro_ray.cluster import score_driver
from sacro_ray.cluster.scoring_inputs import list_items
from sacro_ray.cluster.scoring_reading import prepare_item

pytestmark = [pytest.mark.ray, pytest.mark.shared, pytest.mark.slow, pytest.mark.timeout(1200)]
FOLDERS = ("chest_hires", "dicom", "knee_gornale", "knee_oai", "pelvis_ddh")
KNOWN = {".dcm", ".jpeg", ".jpg", ".png", ".tif", ".tiff"}


def test_every_reference_image_is_a_row_in_order_with_its_own_outcome(local_ray, shared_dir, experiment, random_run, tmp_path):
    data = shared_dir / "data"
    path = score_driver.score_input(random_run.path, data, tmp_path / "scores")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Sorted folder by folder, and in each of them by name.
    found = (path.relative_to(data) for path in data.rglob("*") if path.suffix.lower() in KNOWN)
    expected = [path.as_posix() for path in sorted(found, key=lambda path: path.parts)]
    assert [row["input"] for row in rows] == expected
    assert {row["input"].split("/")[0] for row in rows} == set(FOLDERS)
    outcomes = {
        item.input: prepare_item(item, experiment, 48).error
        for item in list_items(str(data), Path("/nowhere"))
        if not item.input.startswith("knee_oai")  # which are all of one kind
    }
    for row in rows:
        assert row["error"] == outcomes.get(row["input"], ""), row["input"]
        assert (row["status"] == "error") == bool(row["error"])
        assert bool(row["probability"]) == (row["status"] == "ok")
    assert sum(row["status"] == "error" for row in rows if row["input"].startswith("dicom/")) == 11
