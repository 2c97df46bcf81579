"""The study's published tables, and what R says of the reference predictions."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sacro_ray.config import Evaluation
from sacro_ray.evaluation.agreement import ConfusionTable, kappa
from sacro_ray.evaluation.bootstrap import stream
from sacro_ray.evaluation.cutoffs import cross_validated_cutoffs
from sacro_ray.evaluation.discrimination import operating_points
from sacro_ray.evaluation.metrics import all_cutoffs, compute_metrics
from sacro_ray.evaluation.predictions import labelled, read_predictions

# Bressem et al. 2021, Tables 2 and 3: tn, fn, fp, tp; kappa with its interval as printed; accuracy in per cent.
PUBLISHED = {
    "validation 1": (15, 1, 64, 149, 0.22, 0.11, 0.33, 71.6),
    "validation 2": (78, 38, 1, 112, 0.66, 0.57, 0.76, 83.0),
    "validation 3": (75, 19, 4, 131, 0.79, 0.70, 0.87, 90.0),
    "test 1": (36, 4, 93, 219, 0.30, 0.21, 0.40, 72.4),
    "test 2": (120, 41, 9, 182, 0.70, 0.63, 0.77, 85.8),
    "test 3": (104, 19, 25, 204, 0.72, 0.65, 0.80, 87.5),
}


@pytest.mark.parametrize("table", PUBLISHED)
def test_the_studys_tables_give_its_printed_kappas_accuracies_and_intervals(table: str) -> None:
    tn, fn, fp, tp, printed, low, high, accuracy = PUBLISHED[table]
    reference = np.repeat([False, False, True, True], [tn, fp, fn, tp])
    calls = np.repeat([False, True, False, True], [tn, fp, fn, tp])
    patients = np.arange(reference.size)
    # 50,000 repetitions show the interval itself; 1000, as in the study, its end points give or take their own noise.
    found = kappa(reference, calls, patients, 50_000, stream(0, table))
    # The study cuts some kappas off after two digits and rounds others.
    assert printed in (round(found.estimate, 2), math.floor(100 * found.estimate) / 100)
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    agreement = ConfusionTable.of(reference, calls).proportions()["agreement"]
    assert round(100 * agreement.estimate, 1) == accuracy


def test_the_studys_text_and_table_differ_by_the_case_at_the_cutoff() -> None:
    # Sensitivity 0.880 in the text is 132 of 150, 0.873 from Table 2 is 131: one positive lies at the cut-off itself.
    probabilities = np.concatenate([np.full(131, 0.9), [0.724], np.full(18, 0.1)])
    assert round(float(np.mean(probabilities >= 0.724)), 3) == 0.880
    assert round(float(np.mean(probabilities > 0.724)), 3) == 0.873


@pytest.fixture(scope="module")
def by_r(reference: Path) -> dict[str, dict[str, tuple[float, float, float]]]:
    result: dict[str, dict[str, tuple[float, float, float]]] = {"validation": {}, "test": {}}
    with (reference / "expected.csv").open() as lines:
        for row in list(csv.reader(lines))[1:]:  # the source, last, holds commas of its own
            estimate, low, high = (float("nan") if value == "NA" else float(value) for value in row[2:5])
            result[row[0]][row[1]] = (estimate, low, high)
    return result


@pytest.fixture(scope="module")
def ours(reference: Path) -> dict:
    validation, test = read_predictions(reference / "validation.csv"), read_predictions(reference / "test.csv")
    settings = Evaluation()
    cutoffs = all_cutoffs(validation, settings, 0, {"half": 0.5})
    return compute_metrics(validation, test, cutoffs, settings, 0)


@pytest.mark.shared
@pytest.mark.parametrize("split", ["validation", "test"])
def test_agrees_with_r(split: str, by_r: dict, ours: dict) -> None:
    expected, found = by_r[split], ours[split]
    at_half = found["at_cutoff"]["half"]
    for name in ("sensitivity", "specificity", "ppv", "npv", "agreement"):
        estimate = at_half[name]
        assert [estimate["estimate"], estimate["low"], estimate["high"]] == pytest.approx(expected[f"{name}@0.5"], abs=1e-6), (
            name
        )
    auc = found["auc"]
    assert [auc["estimate"], auc["low"], auc["high"]] == pytest.approx(expected["auc"], abs=1e-6)
    assert at_half["kappa"]["estimate"] == pytest.approx(expected["kappa@0.5"][0], abs=1e-6)
    assert found["brier"]["estimate"] == pytest.approx(expected["brier"][0], abs=1e-6)


@pytest.mark.shared
def test_readers_and_discordant_radiographs_agree_with_r(by_r: dict, ours: dict) -> None:
    expected, pairs = by_r["test"], ours["readers"]["test"]
    assert pairs["reader_1|reader_2"]["kappa"]["estimate"] == pytest.approx(expected["kappa reader_1|reader_2"][0], abs=1e-6)
    for reader in ("reader_1", "reader_2"):
        found = pairs[f"{reader}|model"]["at_cutoff"]["half"]["kappa"]["estimate"]
        assert found == pytest.approx(expected[f"kappa reader:{reader}|model@0.5"][0], abs=1e-6)
        assert pairs[f"{reader}|model"]["n"] == 458
    assert ours["test"]["discordant"]["at_cutoff"]["half"]["positive"] == expected["discordant_positive@0.5"][0]


@pytest.mark.shared
@pytest.mark.parametrize("seed", range(5))
def test_the_balanced_cutoff_lies_at_the_optimum_that_r_finds(seed: int, by_r: dict, reference: Path) -> None:
    sample = labelled(read_predictions(reference / "validation.csv"), "validation")
    balanced = cross_validated_cutoffs(sample.labels, sample.probabilities, sample.patients, Evaluation(), seed)[2]
    assert balanced.value == pytest.approx(by_r["validation"]["youden_cutoff"][0], abs=1e-9)
    points = operating_points(sample.labels, sample.probabilities)
    assert (points.sensitivity + points.specificity).max() == pytest.approx(by_r["validation"]["youden_sum"][0], abs=1e-6)


@pytest.mark.shared
def test_the_test_set_never_moves_the_cutoffs(reference: Path, ours: dict) -> None:
    alone = all_cutoffs(read_predictions(reference / "validation.csv"), Evaluation(), 0, {})
    assert {cutoff.name: cutoff.value for cutoff in alone} == {k: v for k, v in ours["cutoffs"].items() if k != "half"}
    json.dumps(ours, allow_nan=False)
