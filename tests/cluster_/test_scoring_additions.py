"""Overlays and DICOM objects that are asked for later: made of the scores that are there, whatever the network would say now."""

import csv
import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pydicom
import pytest

from sacro_ray.cluster import score_driver
from sacro_ray.cluster.scoring_inputs import list_items
from sacro_ray.cluster.scoring_network import Scored
from sacro_ray.cluster.scoring_stream import ITEMS, _tables
from sacro_ray.cluster.scoring_workers import Outputs, Scorer, item_of
from sacro_ray.imaging.results_model import Model

MODEL = Model("a run", "ab" * 32, "1.0", {"balanced": 0.5})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def films(tmp_path, make_dicom) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 4096, (50, 60)).astype(np.uint16)
    for i in range(3):
        uids = {"StudyInstanceUID": f"1.2.3.{i}", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": f"1.2.5.{i}"}
        (folder / f"{i}.dcm").write_bytes(make_dicom(pixels, **uids) if i else b"")
    return folder


def scorer(outputs: Outputs, score) -> Scorer:
    """A worker with a network that overlays in grey and scores by this."""
    made = object.__new__(Scorer)
    made.outputs = outputs
    made.network = SimpleNamespace(
        size_px=48, score=score, overlays=lambda images: [np.full((64, 64, 3), 90, np.uint8) for _ in images]
    )
    return made


def read_table(films: Path, known: list[dict]) -> pa.Table:
    """What `Reader` hands on for these files, with what is known of them."""
    items = list_items(str(films), Path("/nowhere"))
    (table,) = _tables(items, [0], len(items), lambda number: known)
    assert table.schema == ITEMS
    squares = [None if i == 0 else bytes(48 * 48) for i in range(len(items))]
    errors = ["empty_file: the file has no bytes" if square is None else "" for square in squares]
    table = table.append_column("error", pa.array(errors)).append_column("quality", pa.array(["", "small", ""]))
    return table.append_column("file", table["path"]).append_column("square", pa.array(squares, pa.binary()))


def known_row(index: int, probability: float | None, quality: str = "") -> dict:
    status = "error" if probability is None else "ok"
    return {"index": index, "status": status, "probability": probability, "familiarity": 12.5, "quality": quality}


def test_what_was_scored_is_not_scored_again_and_its_objects_say_the_old_number(films):
    def score(images):
        raise AssertionError("nothing is scored")

    known = [known_row(0, None), known_row(1, 0.25, "unfamiliar small"), known_row(2, 0.75)]
    rows = scorer(Outputs(True, MODEL), score)(read_table(films, known)).to_pylist()
    assert [row["probability"] for row in rows] == [None, 0.25, 0.75]
    assert rows[1]["quality"].split() == ["small", "unfamiliar"]
    assert rows[1]["familiarity"] == 12.5
    assert all(rows[i][name] for i in (1, 2) for name in ("overlay", "secondary_capture", "report"))
    capture = pydicom.dcmread(pydicom.filebase.DicomBytesIO(rows[1]["secondary_capture"]))
    assert "do not rely" in capture.ImageComments


def test_what_is_not_known_is_scored(films):
    rows = scorer(Outputs(True), lambda images: [Scored(0.5, 1.0, ("unfamiliar",)) for _ in images])(read_table(films, []))
    assert rows["probability"].to_pylist() == [None, 0.5, 0.5]
    mixed = [known_row(0, None), known_row(1, None), known_row(2, 0.75)]
    rows = scorer(Outputs(True), lambda images: [Scored(0.5, 1.0, ()) for _ in images])(read_table(films, mixed))
    assert rows["probability"].to_pylist() == [None, 0.5, 0.75], "what could not be read then is no reason to change another"


def test_items_travel_with_all_they_have(films):
    items = list_items(str(films), Path("/nowhere"))
    (table,) = _tables(items, [0], len(items), lambda number: [])
    assert [item_of({name: row[name] for name in vars(items[0])}) for row in table.to_pylist()] == items


def test_the_log_says_why_radiographs_could_not_be_scored(caplog):
    with caplog.at_level(logging.INFO):
        score_driver._report(Counter({"error": 3, "error:truncated": 2, "error:wrong_modality": 1}), {"balanced": 0.5}, 3)
    assert "3 radiographs: 0 scored, 3 could not be" in caplog.text
    lines = [line.split() for line in caplog.messages]
    assert ["2", "truncated", "fewer", "pixels", "than", "the", "header", "promises"] in lines
    assert lines.index(["2", *["truncated", "fewer", "pixels", "than", "the", "header", "promises"]]) < next(
        place for place, line in enumerate(lines) if "wrong_modality" in line
    )
    assert "not one of the 3 radiographs could be scored" in caplog.text
    assert "cut-off" not in caplog.text


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_adds_to_finished_scores(local_ray, random_run, films, tmp_path):
    out, alone = tmp_path / "scores", ["scoring.actors=1"]
    before = rows_of(score_driver.score_input(random_run.path, films, out, overrides=alone))
    assert "overlay" not in before[0]
    after = rows_of(score_driver.score_input(random_run.path, films, out, overrides=alone, explain=True))
    both = rows_of(score_driver.score_input(random_run.path, films, out, overrides=alone, dicom_out=True))
    assert [{name: row[name] for name in before[0]} for row in both] == before
    assert [row["overlay"] for row in both] == [row["overlay"] for row in after] == ["", *(row["overlay"] for row in both[1:])]
    for row in both[1:]:
        assert (out / row["overlay"]).exists()
        assert pydicom.dcmread(out / row["report"]).Modality == "SR"
    made = [(path, path.stat().st_mtime_ns) for path in sorted(out.rglob("*.dcm"))]
    score_driver.score_input(random_run.path, films, out, overrides=alone, explain=True, dicom_out=True)
    assert [(path, path.stat().st_mtime_ns) for path, _ in made] == made, "nothing is made twice"
