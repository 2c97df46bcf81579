"""`evaluate RUN_DIR`: the external test set scored once, and what the report tells of it; other hardware rewrites nothing."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sacro_ray import evaluate
from sacro_ray.cluster import final_evaluation, runtime
from sacro_ray.cluster.evaluate_driver import evaluate_run
from sacro_ray.cluster.final_evaluation import FinalEvaluation, baseline_table, gallery, in_order
from sacro_ray.cluster.train_driver import train
from sacro_ray.config import build_experiment
from sacro_ray.dataset.shards import read_samples
from sacro_ray.errors import UserError
from sacro_ray.evaluation.files import digest
from sacro_ray.evaluation.predictions import read_predictions
from sacro_ray.learning import predictions
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder

HERE = Place(torch.device("cpu"))
# Read from the shards, which is a warning: it comes from the actor's process.
QUICK = ["evaluation.bootstrap_repetitions=20", "evaluation.cutoff_repeats=1", "training.cache_gib=1e-6"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def evaluated(local_ray, random_run, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run evaluated by the command on Ray, and what was on the console."""
    run = tmp_path_factory.mktemp("evaluated") / "small"
    shutil.copytree(random_run.path, run)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("sacro_ray")
    logger.addHandler(handler)
    before, _ = logger.level, logger.setLevel(logging.INFO)
    try:
        report = evaluate.main([str(run), "--cutoff", "half=0.5", *(word for value in QUICK for word in ("--set", value))])
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert report == run / "evaluation" / "report.html"
    return run, said


@pytest.mark.ray
def test_every_test_radiograph_is_scored_once_and_the_numbers_are_about_them(evaluated, experiment):
    run, _ = evaluated
    table = pd.read_csv(run / "predictions" / "test.csv")
    records = [sample.record for sample in read_samples(experiment.prepare.shards, "theirs", "test")]
    assert table["radiograph_id"].tolist() == [record["radiograph_id"] for record in records]
    assert table["label"].tolist() == [record["label"] for record in records]
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert list(metrics["cutoffs"]) == ["sensitivity", "specificity", "balanced", "half"]
    assert (metrics["validation"]["n"], metrics["test"]["n"], metrics["test"]["positives"]) == (24, 16, 8)
    order = table["probability"].rank()
    area = (order[table["label"] == 1].sum() - 8 * 9 / 2) / 64
    assert metrics["test"]["auc"]["estimate"] == pytest.approx(area)


@pytest.mark.ray
def test_the_report_has_gallery_baseline_table_robustness_and_training(evaluated, experiment):
    run, _ = evaluated
    report = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    sections = [line.split('"')[1] for line in report.splitlines() if line.startswith("<section id=")]
    assert sections == [
        "summary", "participants", "discrimination", "cutoffs", "confusion", "agreement", "calibration", "subgroups", "errors",
        "robustness", "training", "methods",
    ]  # fmt: skip
    table = pd.read_csv(run / "predictions" / "test.csv")
    balanced = json.loads((run / "evaluation" / "metrics.json").read_text())["cutoffs"]["balanced"]
    called = table["probability"] >= balanced
    shown = sum(min(4, int(((table["label"] == label) & (called == call)).sum())) for label in (0, 1) for call in (False, True))
    assert report.count('<figure class="picture">') == shown
    assert report.count('alt="The same with its Grad-CAM map"') == shown
    characteristics = pd.read_csv(run / "evaluation" / "tables" / "table_1.csv")
    assert list(characteristics.columns) == [
        "characteristic", "ours (n = 72)", "ours, training (n = 48)", "ours, validation (n = 24)", "theirs (n = 16)",
    ]  # fmt: skip
    assert {"Age, years, mean (SD)", "Sex: F, n (%)"} <= set(characteristics["characteristic"])
    robustness = pd.read_csv(run / "evaluation" / "tables" / "robustness.csv")
    assert len(robustness) > 1
    test_auc = json.loads((run / "evaluation" / "metrics.json").read_text())["test"]["auc"]["estimate"]
    assert float(robustness["AUC"].iloc[0]) == pytest.approx(test_auc, abs=1e-3)


@pytest.mark.ray
def test_remarks_and_the_actors_own_warnings_are_on_the_console_and_remarks_in_the_report(evaluated):
    run, said = evaluated
    remarks = json.loads((run / "evaluation" / "metrics.json").read_text())["remarks"]
    assert any("test: 16 radiographs, 8 positive and 8 negative" in remark for remark in remarks)
    report = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    for remark in remarks:
        assert said.count(f"remark: {remark}") == 1
        assert remark in report
    assert any("radiographs of test at 48 px are read from the shards" in line for line in said)
    assert [line.split(",")[0] for line in said if ": AUC " in line] == ["validation", "test"]


def evaluate_here(run: Path, *overrides: str) -> None:
    """As the actor does, in this process."""
    experiment = RunFolder(run).experiment([*QUICK, *overrides])
    FinalEvaluation(str(run), experiment.as_toml()).evaluate({})


@pytest.fixture
def without_drawing(monkeypatch):
    """No examples and no figures: they take the time, and are looked at above."""
    monkeypatch.setattr(final_evaluation, "own_cpus", lambda: 1)  # as where Ray says how many
    monkeypatch.setattr(final_evaluation, "gallery", lambda *_: [])
    monkeypatch.setattr(FinalEvaluation, "_robustness", lambda *_: [])
    monkeypatch.setattr("sacro_ray.evaluation.pipeline.sections.build", lambda results: [])


@pytest.fixture
def other_hardware(monkeypatch):
    """A machine that rounds otherwise in the eighth decimal."""
    score = predictions.score_split
    monkeypatch.setattr(predictions, "score_split", lambda *given: score(*given) + 1e-8)


@pytest.mark.usefixtures("without_drawing")
def test_evaluated_again_on_other_hardware_no_prediction_is_rewritten(random_run, tmp_path, request, caplog):
    run = tmp_path / "small"
    shutil.copytree(random_run.path, run)
    evaluate_here(run)
    before = contents(run)
    request.getfixturevalue("other_hardware")
    evaluate_here(run)
    assert contents(run) == before
    # Other statistics of the same predictions replace the results alone.
    evaluate_here(run, "evaluation.bootstrap_repetitions=30")
    after = contents(run)
    assert after["predictions/test.csv"] == before["predictions/test.csv"]
    assert after["evaluation/metrics.json"] != before["evaluation/metrics.json"]
    # Predictions that were removed are made anew, and the results are those of the same run still.
    (run / "predictions" / "test.csv").unlink()
    evaluate_here(run)
    assert (run / "predictions" / "test.csv").read_bytes() != before["predictions/test.csv"]


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("weights", r"predictions/test.csv .* come from something else: they differ in checkpoint \("),
        ("shards", r"predictions/test.csv .* come from something else: they differ in shards.theirs \("),
        ("evaluation", "holds results that are not of this evaluation"),
        ("other evaluation", "holds the evaluation of other predictions"),
    ],
)
def test_results_of_something_else_are_refused_before_anything_is_written_or_started(
    random_run, tmp_path, monkeypatch, change, said
):
    run = tmp_path / "small"
    shutil.copytree(random_run.path, run)
    evaluate_here(run)
    folder = RunFolder(run)
    if change == "weights":
        weights, description = folder.load_best()
        folder.save_best({name: value * 2 for name, value in weights.items()}, description)
    elif change == "shards":
        experiment = folder.experiment()
        root = tmp_path / "shards"
        shutil.copytree(experiment.prepare.shards, root)
        manifest = json.loads((root / "theirs" / "manifest.json").read_text())
        manifest["splits"]["test"]["shards"][0]["sha256"] = "0" * 64
        (root / "theirs" / "manifest.json").write_text(json.dumps(manifest))
        (run / "config.toml").write_text(build_experiment(experiment.as_dict(), [f"prepare.shards={root}"]).as_toml())
    elif change == "evaluation":
        (run / "evaluation" / "inputs.json").unlink()
    else:
        (run / "evaluation" / "inputs.json").write_text('{"validation": "0", "test": "1"}')
    before = contents(run)
    monkeypatch.setattr(runtime, "ray_session", None)
    with pytest.raises(UserError, match=said):
        evaluate_run(run, [], None, {})
    assert contents(run) == before


@pytest.mark.usefixtures("without_drawing")
def test_predictions_of_an_earlier_version_are_taken_if_they_are_those_of_the_run(random_run, tmp_path, request):
    """It left no test.json, and the digest of the predictions in inputs.json."""
    run = tmp_path / "small"
    shutil.copytree(random_run.path, run)
    evaluate_here(run)
    digests = {name: digest(read_predictions(run / "predictions" / f"{name}.csv")) for name in ("validation", "test")}
    (run / "evaluation" / "inputs.json").write_text(json.dumps(digests))
    (run / "predictions" / "test.json").unlink()
    before = contents(run)
    request.getfixturevalue("other_hardware")
    evaluate_here(run)
    after = contents(run)
    assert after["predictions/test.csv"] == before["predictions/test.csv"]
    assert "shards" in json.loads(after["predictions/test.json"])
    # Those of other weights are kept and refused.
    (run / "predictions" / "test.json").unlink()
    table = pd.read_csv(run / "predictions" / "test.csv", dtype=str)
    table["probability"] = [f"{(float(value) + 0.3) % 1:.8f}" for value in table["probability"]]
    table.to_csv(run / "predictions" / "test.csv", index=False)
    (run / "evaluation" / "inputs.json").unlink()
    before = contents(run)
    with pytest.raises(UserError, match=r"have no test\.json beside them and are not those of its weights and shards.*move"):
        evaluate_here(run)
    assert contents(run) == before


@pytest.mark.usefixtures("without_drawing")
def test_a_note_without_predictions_refuses_nothing(random_run, tmp_path):
    """As an evaluation leaves it that was stopped while it scored."""
    run = tmp_path / "small"
    shutil.copytree(random_run.path, run)
    (run / "predictions" / "test.json").write_text('{"checkpoint": "of weights that are gone"}')
    evaluate_here(run)
    noted = json.loads((run / "predictions" / "test.json").read_text())
    assert noted["checkpoint"] == RunFolder(run).load_description()["sha256"]


@pytest.mark.usefixtures("without_drawing")
def test_without_external_test_cohorts_validation_is_evaluated_and_evaluated_again(random_run, tmp_path):
    run = tmp_path / "small"
    shutil.copytree(random_run.path, run)
    values = RunFolder(run).experiment().as_dict()
    del values["cohorts"]["theirs"]
    (run / "config.toml").write_text(build_experiment(values).as_toml())
    evaluate_here(run)
    assert "test" not in json.loads((run / "evaluation" / "metrics.json").read_text())
    before = contents(run)
    evaluate_here(run)
    assert contents(run) == before


@pytest.mark.parametrize(("auc", "said"), [(0.36, True), (0.6, False)])
def test_a_training_whose_best_is_worse_than_chance_ends_with_a_remark(random_run, tmp_path, caplog, auc, said):
    folder = RunFolder(tmp_path / "small")
    shutil.copytree(random_run.path, folder.path)
    weights, description = folder.load_best()
    folder.save_best(weights, {**description, "auc": auc})
    (folder.path / "curves.png").touch()
    assert train(folder.experiment(), tmp_path) == folder.path
    assert ("remark: validation: the AUC of 0.36 is worse than chance" in caplog.text) is said


def two_cohorts() -> tuple[SimpleNamespace, pd.DataFrame]:
    """A split of two cohorts that number their radiographs alike, one image each as bright as its place, and its predictions turned."""
    records = [{"cohort": cohort, "radiograph_id": f"r{i}"} for cohort in ("a", "b") for i in range(10)]
    table = pd.DataFrame(records).assign(
        label=[float(i % 2) for i in range(20)], probability=[round(0.04 * i + 0.1, 2) for i in range(20)]
    )
    images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    return SimpleNamespace(images=images, records=records), table.iloc[::-1]


def test_predictions_come_in_the_order_of_the_images_though_two_cohorts_number_alike():
    split, turned = two_cohorts()
    table = in_order(turned, split)
    assert list(zip(table["cohort"], table["radiograph_id"], strict=True)) == [
        (record["cohort"], record["radiograph_id"]) for record in split.records
    ]
    assert table["probability"].is_monotonic_increasing


def test_the_gallery_shows_the_most_confident_of_each_group_with_their_own_image(monkeypatch):
    split, turned = two_cohorts()
    monkeypatch.setattr(final_evaluation, "grad_cam", lambda network, pixels, place: np.zeros(pixels.shape, np.float32))
    monkeypatch.setattr(final_evaluation, "as_png", lambda pixels: bytes([int(pixels.flat[0])]))
    examples = gallery(None, split, turned, 0.5, HERE)
    shown = {
        group: [(e.image[0], e.probability) for e in examples if e.group == group] for group in {e.group for e in examples}
    }
    assert shown == {
        "true_positive": [(19, 0.86), (17, 0.78), (15, 0.7), (13, 0.62)],
        "true_negative": [(0, 0.1), (2, 0.18), (4, 0.26), (6, 0.34)],
        "false_positive": [(18, 0.82), (16, 0.74), (14, 0.66), (12, 0.58)],
        "false_negative": [(1, 0.14), (3, 0.22), (5, 0.3), (7, 0.38)],
    }
    assert all(example.overlay == example.image for example in examples), "no colour where nothing counts"


def test_a_baseline_table_needs_a_characteristic():
    record = {"radiograph_id": "a", "cohort": "c", "split": "test", "label": 1}
    assert baseline_table([SimpleNamespace(records=[record])]) is None
    table = baseline_table(
        [SimpleNamespace(records=[{**record, "baseline": {"age_years": 30}}]), SimpleNamespace(records=[record])]
    )
    assert table is not None
    assert table["baseline:age_years"].tolist()[0] == 30
    assert table["baseline:age_years"].isna().tolist() == [False, True]
