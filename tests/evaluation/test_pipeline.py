import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sacro_ray.config import Evaluation
from sacro_ray.errors import UserError
from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.files import claim
from sacro_ray.evaluation.metrics import all_cutoffs, compute_metrics
from sacro_ray.evaluation.pipeline import evaluate_predictions
from sacro_ray.evaluation.predictions import check_predictions

QUICK = Evaluation(bootstrap_repetitions=100, cutoff_repeats=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_everything_is_written_and_the_same_bytes_again(
    report: Path, validation: pd.DataFrame, external: pd.DataFrame, context: ReportContext, tmp_path: Path
) -> None:
    first = contents(report.parent)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "roc_test.svg").write_text("half a")  # left by an evaluation that was killed
    claim(tmp_path, check_predictions(validation, "v"), check_predictions(external, "t"))
    again = evaluate_predictions(validation, external, QUICK, 0, tmp_path, {"half": 0.5}, context)
    assert again == tmp_path / "report.html"
    assert contents(tmp_path) == first
    names = set(first)
    assert {
        "metrics.json",
        "model_card.md",
        "checklists/claim.md",
        "checklists/tripod_ai.md",
        "checklists/stard_ai.md",
    } <= names
    for figure in (
        "roc_test",
        "precision_recall_validation",
        "over_cutoff",
        "calibration",
        "subgroups",
        "training_auc",
        "robustness",
    ):
        assert {f"figures/{figure}.svg", f"figures/{figure}.png"} <= names
    for table in (
        "participants",
        "table_1",
        "confusion_test",
        "agreement_test",
        "subgroups",
        "errors_test",
        "against_reference_validation",
    ):
        assert f"tables/{table}.csv" in names
    assert not [name for name in names if name.endswith(".part")]


def test_metrics_have_the_promised_shape(validation: pd.DataFrame, external: pd.DataFrame) -> None:
    found = compute_metrics(validation, external, all_cutoffs(validation, QUICK, 0, {"half": 0.5}), QUICK, 0)
    json.dumps(found, allow_nan=False)
    assert found["schema_version"] == 1
    assert list(found["cutoffs"]) == ["sensitivity", "specificity", "balanced", "half"]
    for split, n in (("validation", 90), ("test", 80)):
        part = found[split]
        assert part["n"] == n
        for name in ("auc", "average_precision", "brier"):
            assert list(part[name]) == ["estimate", "low", "high", "method", "n"]
        assert list(part["at_cutoff"]) == list(found["cutoffs"])
        for name, at in part["at_cutoff"].items():
            assert at["cutoff"] == found["cutoffs"][name]
            assert at["tn"] + at["fp"] + at["fn"] + at["tp"] == n
            for rate in ("sensitivity", "specificity", "ppv", "npv", "agreement", "kappa"):
                assert at[rate]["low"] <= at[rate]["estimate"] <= at[rate]["high"]
    discordant = found["test"]["discordant"]
    assert discordant["n"] == 20
    assert all(calls["negative"] + calls["positive"] == 20 for calls in discordant["at_cutoff"].values())
    assert list(found["readers"]["test"]) == ["one|two", "one|model", "two|model"]
    assert found["readers"]["test"]["one|two"]["n"] == 100
    assert found["readers"]["test"]["one|two"]["agreement"]["estimate"] == 0.8
    assert set(found["readers"]["test"]["one|model"]["at_cutoff"]) == set(found["cutoffs"])
    assert found["readers_against_reference"]["test"]["one"]["own_reference"]
    local = found["readers_against_reference"]["validation"]["local"]
    assert local["mcnemar"]["p_value"] < 0.01  # one reading in four is turned round
    assert (local["fn"] + local["fp"], local["n"]) == (23, 90)


def test_the_test_set_and_other_statistics_never_move_a_number(validation: pd.DataFrame, external: pd.DataFrame) -> None:
    alone = compute_metrics(validation, None, all_cutoffs(validation, QUICK, 0, {}), QUICK, 0)
    both = compute_metrics(validation, external, all_cutoffs(validation, QUICK, 0, {"half": 0.5}), QUICK, 0)
    assert both["validation"]["at_cutoff"].pop("half")
    assert both["validation"] == alone["validation"]


def test_a_later_radiograph_of_a_patient_is_resampled_with_the_first(validation: pd.DataFrame) -> None:
    twice = pd.concat([validation, validation.assign(radiograph_id=validation["radiograph_id"] + " again")])
    apart = twice.assign(patient_id=twice["radiograph_id"])
    cutoffs = all_cutoffs(validation, QUICK, 0, {})

    def width(table: pd.DataFrame) -> float:
        kappa = compute_metrics(table, None, cutoffs, Evaluation(), 0)["validation"]["at_cutoff"]["specificity"]["kappa"]
        return kappa["high"] - kappa["low"]

    # Doubling every radiograph adds nothing: the interval of 180 radiographs of 90 patients is that of 90.
    assert width(twice) == pytest.approx(width(validation), rel=0.15)
    assert width(apart) < 0.85 * width(twice)


def test_the_other_evaluation_in_a_folder_is_kept(validation: pd.DataFrame, external: pd.DataFrame, tmp_path: Path) -> None:
    first, other = check_predictions(validation, "v"), check_predictions(external, "t")
    claim(tmp_path, first, None)
    (tmp_path / "figures" / "roc.svg").write_text("")
    (tmp_path / "metrics.json").write_text("{}")
    before = contents(tmp_path)
    for one, test in ((first, other), (other, None), (first.iloc[1:], None)):
        with pytest.raises(
            UserError, match=r"evaluation of other predictions and is kept; .*same predictions may be evaluated there again"
        ):
            claim(tmp_path, one, test)
    assert contents(tmp_path) == before
    claim(tmp_path, first, None)
    assert "figures/roc.svg" not in contents(tmp_path)


def test_results_of_unknown_origin_are_kept(validation: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="is kept"):
        evaluate_predictions(validation, None, QUICK, 0, tmp_path, {})
    with pytest.raises(UserError, match="is a file"):
        evaluate_predictions(validation, None, QUICK, 0, tmp_path / "metrics.json", {})


def test_twenty_radiographs_and_perfect_separation_are_enough(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"radiograph_id": range(20), "probability": [i / 19 for i in range(20)], "label": [i // 10 for i in range(20)]}
    )
    report = evaluate_predictions(table, None, QUICK, 0, tmp_path, {})
    found = json.loads((report.parent / "metrics.json").read_text())["validation"]
    assert found["auc"]["estimate"] == 1
    assert found["at_cutoff"]["balanced"]["kappa"]["estimate"] == 1


def test_constant_scores_and_a_baseline_of_blanks_are_no_crash(
    validation: pd.DataFrame, context: ReportContext, tmp_path: Path
) -> None:
    flat = validation.assign(probability=0.5)
    blank = context.baseline.assign(age_years=None, sex="")
    report = evaluate_predictions(flat, None, QUICK, 0, tmp_path, {}, replace(context, baseline=blank))
    found = json.loads((report.parent / "metrics.json").read_text())["validation"]
    assert found["auc"]["estimate"] == 0.5
    assert (
        found["at_cutoff"]["balanced"]["npv"]["estimate"] is None or found["at_cutoff"]["balanced"]["ppv"]["estimate"] is None
    )
