"""Scoring through Ray Data: the same scores as the training wrote, every radiograph once, in order, however the work is shared."""

import csv
import itertools
import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from sacro_ray.cluster import score_driver
from sacro_ray.cluster import scoring as scoring_by_ray
from sacro_ray.cluster.scoring_inputs import as_text, list_items
from sacro_ray.cluster.scoring_network import ScoringNetwork
from sacro_ray.cluster.scoring_results import PARTS
from sacro_ray.cluster.scoring_run import cutoffs_of
from sacro_ray.cluster.scoring_stream import Pool, pool_for, stream_parts
from sacro_ray.cluster.scoring_workers import Outputs
from sacro_ray.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

# Issue: a validation radiograph scored from its file and from its shard agree to this, at the same precision.
PARITY = 1e-4


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def probabilities(path: Path, name: str) -> dict[str, float]:
    return {row[name]: float(row["probability"]) for row in rows_of(path)}


ONE_WORKER = ["scoring.actors=1"]  # a worker takes seconds to start


@pytest.fixture(scope="module")
def whole(local_ray, experiment, random_run, tmp_path_factory) -> Path:
    """scores.csv of the development cohort, from its files, in one go."""
    out = tmp_path_factory.mktemp("whole")
    return score_driver.score_input(random_run.path, Path(experiment.cohorts["ours"].table), out, overrides=ONE_WORKER)


def test_validation_radiographs_score_from_their_files_as_in_training(whole, random_run):
    expected = probabilities(random_run.validation_predictions, "radiograph_id")
    found = probabilities(whole, "input")
    assert max(abs(found[name] - expected[name]) for name in expected) <= PARITY
    assert np.ptp(list(expected.values())) > 100 * PARITY, "the scores must differ for this to mean anything"


def test_a_folder_of_good_and_bad_files_gives_a_row_each_in_order(local_ray, experiment, random_run, tmp_path, make_dicom):
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(0)
    studies = {
        i: {"StudyInstanceUID": f"1.2.3.{i}", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": f"1.2.5.{i}"} for i in range(20)
    }
    foreign = {17: "17\udce9", 38: "38\udce8.png"}  # names in Latin-1, as unzip leaves them
    for i in range(40):
        if i % 4 == 3:
            (folder / f"{i:02d}.dcm").write_bytes(b"" if i % 8 == 3 else b"damaged")
        elif i % 4 == 1:
            (folder / foreign.get(i, f"{i:02d}")).write_bytes(
                make_dicom(rng.integers(0, 4096, (50, 60)).astype(np.uint16), PatientName="Doe^Jane", **studies.get(i, {}))
            )
        else:
            Image.fromarray(rng.integers(0, 255, (60, 50), dtype=np.uint8)).save(folder / foreign.get(i, f"{i:02d}.png"))
    (folder / "readme.txt").write_text("not a film")
    out = tmp_path / "scores"
    path = score_driver.score_input(random_run.path, folder, out, overrides=ONE_WORKER, explain=True, dicom_out=True)
    rows = rows_of(path)
    assert [row["input"] for row in rows] == sorted(as_text(p.name) for p in folder.iterdir() if p.name != "readme.txt")
    assert (rows[17]["input"], rows[38]["input"]) == (r"17\xe9", r"38\xe8.png")
    cutoffs = cutoffs_of(random_run, experiment)
    for i, row in enumerate(rows):
        assert row["status"] == ("error" if i % 4 == 3 else "ok")
        assert bool(row["error"]) == (row["status"] == "error")
        for name, value in cutoffs.items():
            expected = str(int(float(row["probability"]) >= value)) if row["status"] == "ok" else ""
            assert row[f"definite_{name}"] == expected
        if row["status"] == "ok":
            assert Image.open(out / row["overlay"]).size == (384, 384)
        written = [row["secondary_capture"], row["report"]]
        if i % 4 == 1 and i in studies:
            capture, report = (pydicom.dcmread(out / name) for name in written)
            assert capture.StudyInstanceUID == report.StudyInstanceUID == f"1.2.3.{i}"
            assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == f"1.2.5.{i}"
            assert (capture.PatientName, report.Modality) == ("Doe^Jane", "SR")
        else:
            assert written == ["", ""]
        assert ("no_report" in row["quality"]) == (i % 4 == 1 and i not in studies)
    assert len(list((out / "dicom").iterdir())) == 10
    text = path.read_text() + (out / "scoring.json").read_text() + (out / "contact_sheet.html").read_text()
    assert "Doe" not in text
    shown = [
        float(line.split(">")[1].split("<")[0])
        for line in (out / "contact_sheet.html").read_text().splitlines()
        if '"probability"' in line
    ]
    assert len(shown) == 30
    assert shown == sorted(shown, reverse=True)


def test_only_what_is_missing_is_scored_and_the_table_is_the_same(whole, experiment, random_run, tmp_path, monkeypatch):
    table = Path(experiment.cohorts["ours"].table)
    scored: list[list[int]] = []

    def stops_after_five(*arguments):
        scored.append(list(arguments[5]))
        stream = stream_parts(*arguments)
        yield from itertools.islice(stream, 5)
        stream.close()
        raise KeyboardInterrupt

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(scoring_by_ray, "stream_parts", stops_after_five)
        with pytest.raises(KeyboardInterrupt):
            score_driver.score_input(random_run.path, table, out, overrides=ONE_WORKER)
    complete = {int(path.stem) for path in (out / PARTS).glob("*.parquet")}
    assert len(complete) == 5

    def watched(*arguments):
        scored.append(list(arguments[5]))
        yield from stream_parts(*arguments)

    monkeypatch.setattr(scoring_by_ray, "stream_parts", watched)
    again = score_driver.score_input(random_run.path, table, out, overrides=ONE_WORKER)
    parts = set(scored[0])
    assert scored == [sorted(parts), sorted(parts - complete)]
    assert again.read_bytes() == whole.read_bytes()
    assert (out / "scores.parquet").read_bytes() == whole.with_suffix(".parquet").read_bytes()


def test_complete_scores_are_left_alone_and_other_input_is_refused(whole, experiment, random_run, monkeypatch, caplog):
    monkeypatch.setattr(scoring_by_ray, "stream_parts", None)
    total = len(rows_of(whole))
    with caplog.at_level(logging.INFO):
        again = score_driver.score_input(
            random_run.path, Path(experiment.cohorts["ours"].table), whole.parent, overrides=ONE_WORKER
        )
    assert again == whole
    assert "complete" in caplog.text
    assert f"{total} radiographs: {total} scored, 0 could not be" in caplog.text
    with pytest.raises(UserError, match="another run or input"):
        score_driver.score_input(random_run.path, Path(experiment.cohorts["theirs"].table), whole.parent, overrides=ONE_WORKER)


def test_reading_apart_as_with_gpus_gives_the_same_rows(whole, experiment, random_run, tmp_path):
    items = list_items(str(Path(experiment.cohorts["ours"].table)), tmp_path)[:16]
    stream = stream_parts(random_run.path, experiment, 48, Outputs(), items, [0, 1, 2], 7, Pool(1, 0, reading_apart=True))
    parts = {number: rows.to_pylist() for number, rows in stream}
    assert [len(parts[number]) for number in range(3)] == [7, 7, 2]
    found = {row["input"]: row["probability"] for number in range(3) for row in parts[number]}
    expected = probabilities(whole, "input")
    assert max(abs(found[name] - expected[name]) for name in found) <= 1e-5  # batches of another size round otherwise


def test_a_pool_fits_the_cluster_and_the_wish(experiment):
    shared = experiment.scoring.model_copy(update={"gpus_per_actor": 0.25})
    fixed = experiment.scoring.model_copy(update={"actors": 3})
    large = experiment.scoring.model_copy(update={"gpus_per_actor": 0.6})
    assert pool_for(experiment, [{"CPU": 8}], 100) == Pool(8, 0, False)
    assert pool_for(experiment, [{"CPU": 8}], 2) == Pool(2, 0, False)
    assert pool_for(experiment, [{"CPU": 1.5}] * 4, 100) == Pool(4, 0, False)
    assert pool_for(experiment, [{"CPU": 8, "GPU": 2}], 100) == Pool(2, 1, True)
    assert pool_for(experiment, [{"CPU": 1, "GPU": 2}], 100) == Pool(1, 1, False)  # it would leave no CPU to read with
    assert pool_for(experiment.model_copy(update={"scoring": shared}), [{"CPU": 16, "GPU": 2}], 100) == Pool(8, 0.25, True)
    assert pool_for(experiment.model_copy(update={"scoring": large}), [{"CPU": 8, "GPU": 2}], 100) == Pool(2, 0.6, True)
    assert pool_for(experiment.model_copy(update={"scoring": large}), [{"CPU": 4, "GPU": 1}] * 3, 100) == Pool(3, 0.6, True)
    assert pool_for(experiment.model_copy(update={"scoring": fixed}), [{"CPU": 8}], 100) == Pool(3, 0, False)
    two = experiment.scoring.model_copy(update={"gpus_per_actor": 2.0})
    with pytest.raises(UserError, match=r"scoring.gpus_per_actor = 2, but no machine of this Ray has more than 1 GPUs"):
        pool_for(experiment.model_copy(update={"scoring": two}), [{"CPU": 4, "GPU": 1}] * 3, 100)


def test_familiarity_is_high_for_validation_and_zero_for_strangers(experiment, random_run, whole):
    checks = (np.indices((48, 48)).sum(axis=0) // 6 % 2 * 255).astype(np.uint8)
    (stranger,) = ScoringNetwork(random_run, experiment, gpu=False, threads=1).score(checks[None])
    assert (stranger.familiarity, "unfamiliar" in stranger.flags) == (0.0, True)
    validation = probabilities(random_run.validation_predictions, "radiograph_id").keys()
    known = [float(row["familiarity"]) for row in rows_of(whole) if row["input"] in validation]
    assert 40 < np.mean(known) < 65
    assert not any("unfamiliar" in row["quality"] for row in rows_of(whole))
