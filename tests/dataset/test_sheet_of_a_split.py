"""The contact sheet of a split: each radiograph as its file has it and as it was stored."""

import io
import tarfile
from pathlib import Path

import numpy as np
from cohorts import cohort_settings, prepare_here, write_cohort
from PIL import Image

from sacro_ray.config import build_experiment
from sacro_ray.dataset.contact_sheet import CELL_PX, PAPER, contact_sheet
from sacro_ray.dataset.plan import plan_cohort


def test_a_file_that_has_gone_since_leaves_its_half_empty(tmp_path):
    given = cohort_settings(write_cohort(tmp_path / "ours", 8, 1, ["a"]), "development", ["a"])
    found = build_experiment({"name": "small", "cohorts": {"ours": given}, "prepare": {"shards": str(tmp_path / "shards")}})
    shards = sorted((prepare_here(found) / "ours" / "train").glob("*.tar"))
    with tarfile.open(shards[0]) as tar:
        key = tar.getnames()[0].partition(".")[0]
    (radiograph,) = (r for r in plan_cohort("ours", found).radiographs if r.key == key)

    def dark_shares() -> tuple[float, float]:
        sheet = np.asarray(Image.open(io.BytesIO(contact_sheet("title", [radiograph], shards, found.prepare))))
        halves = sheet[60:CELL_PX, 20:CELL_PX], sheet[60:CELL_PX, CELL_PX + 30 : 2 * CELL_PX]
        return tuple(float((half != PAPER).mean()) for half in halves)

    left, right = dark_shares()
    assert left > 0.5
    Path(radiograph.path).unlink()
    assert dark_shares() == (0.0, right)
