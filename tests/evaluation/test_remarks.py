import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sacro_ray import evaluate
from sacro_ray.config import Evaluation
from sacro_ray.evaluation.metrics import all_cutoffs, compute_metrics
from sacro_ray.evaluation.predictions import check_predictions
from sacro_ray.evaluation.remarks import auc_remarks, few_radiographs, remarks


@pytest.mark.parametrize(
    ("auc", "said"),
    [
        ({"estimate": 0.36}, "AUC of 0.36 is worse than chance"),
        ({"estimate": 0.36, "low": 0.20, "high": 0.52}, "AUC of 0.36 (95 % interval 0.20 to 0.52) is worse than chance"),
        ({"estimate": 0.46, "low": 0.06, "high": 0.86}, "is worse than chance"),
        ({"estimate": 0.56, "low": 0.26, "high": 0.86}, "0.26 to 0.86) is not distinguishable from chance"),
        ({"estimate": 0.80, "low": 0.64, "high": 0.96}, "is uncertain"),
        ({"estimate": 0.80, "low": 0.75, "high": 0.85}, None),
        ({"estimate": 0.80, "low": None, "high": None}, None),
        ({"estimate": 0.50}, None),
        ({"estimate": 1.0, "low": 1.0, "high": 1.0}, None),
    ],
)
def test_what_an_auc_does_not_show(auc: dict[str, float | None], said: str | None) -> None:
    found = auc_remarks("test: ", auc)
    assert len(found) == (said is not None)
    assert all(remark.startswith("test: the AUC") and str(said) in remark for remark in found)


@pytest.mark.parametrize(
    ("n", "positives", "few"), [(13, 6, True), (60, 30, False), (59, 30, True), (500, 29, True), (2, 1, True)]
)
def test_few_radiographs_of_either_class(n: int, positives: int, few: bool) -> None:
    assert bool(few_radiographs("test", n, positives)) == few


def small_tables(folder: Path) -> tuple[Path, Path]:
    """13 radiographs of validation, scores turned round; a test set of 100 that holds one of its patients."""
    generator = np.random.default_rng(0)
    validation = pd.DataFrame({"radiograph_id": [f"v{i}" for i in range(13)], "label": [int(i < 4) for i in range(13)]})
    validation["probability"] = generator.random(13) - 0.3 * validation["label"]
    test = pd.DataFrame({"radiograph_id": [f"t{i}" for i in range(100)], "label": [i % 2 for i in range(100)]})
    test["probability"] = generator.random(100) + 0.8 * test["label"]
    tables = (validation, test)
    for table in tables:
        table["probability"] = np.clip(table["probability"], 0, 1)
        table["patient_id"] = table["radiograph_id"]
        table.loc[0, "patient_id"] = "Somebody"
    paths = (folder / "validation.csv", folder / "test.csv")
    for table, path in zip(tables, paths, strict=True):
        table.to_csv(path, index=False)
    return paths


def test_remarks_are_on_the_console_in_the_report_in_the_card_and_in_the_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    validation, test = small_tables(tmp_path)
    out = tmp_path / "out"
    quick = ["--set", "evaluation.bootstrap_repetitions=20", "--set", "evaluation.cutoff_repeats=1"]
    evaluate.main(["--validation", str(validation), "--test", str(test), "--out", str(out), *quick])
    found = json.loads((out / "metrics.json").read_text())["remarks"]
    for part, remark in zip(
        ("1 patient_id(s) of one cohort", "with 4 folds", "13 radiographs, 4 positive and 9 negative", "worse than chance"),
        found,
        strict=True,
    ):
        assert part in remark
    console = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert console == [f"remark: {remark}" for remark in found], "each once"
    for name in ("report.html", "model_card.md"):
        text = (out / name).read_text(encoding="utf-8")
        assert all(remark in text for remark in found), name
        assert "Somebody" not in text


def test_a_large_good_evaluation_has_no_remark() -> None:
    labels = np.arange(400) % 2
    scores = np.clip(np.random.default_rng(1).normal(0.4 + 0.2 * labels, 0.1), 0, 1)
    given = pd.DataFrame({"radiograph_id": np.arange(400), "probability": scores, "label": labels})
    table, quick = check_predictions(given, "validation"), Evaluation(bootstrap_repetitions=20, cutoff_repeats=1)
    assert remarks(table, None, compute_metrics(table, None, all_cutoffs(table, quick, 0, {}), quick, 0), quick) == []
