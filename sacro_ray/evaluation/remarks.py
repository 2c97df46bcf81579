"""What must be said beside the numbers of an evaluation: few radiographs, wide intervals, an order no better than chance."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sacro_ray.config import Evaluation
from sacro_ray.evaluation.cutoffs import fold_count
from sacro_ray.evaluation.metrics import evaluated
from sacro_ray.evaluation.predictions import sample_of

FEW_OF_A_CLASS = 30
"""Radiographs of a class below which one of them moves sensitivity or specificity by more than three percentage points."""
WIDE_AUC = 0.2
"""Width of an AUC's 95 % interval from which the estimate alone says little: 0.70 to 0.90 is from fair to excellent."""


def remarks(validation: pd.DataFrame, test: pd.DataFrame | None, metrics: Mapping[str, Any], settings: Evaluation) -> list[str]:
    """Sentences, the most general first; none where there is nothing to say.

    Args:
        validation: As `check_predictions` returns it.
        test: The same, or None.
        metrics: From `compute_metrics`.
        settings: How many folds the cut-offs were to be chosen with.
    """
    found = [] if test is None else shared_patients(validation, test)
    found += cutoff_remarks(validation, settings)
    for split in ("validation", "test"):
        if split in metrics:
            part = metrics[split]
            found += few_radiographs(split, part["n"], part["positives"])
            found += auc_remarks(f"{split}: ", part["auc"])
    return found


def shared_patients(validation: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """A patient of both sets makes the test easier than it is; two cohorts may number their patients alike, so this is no error."""
    columns = ["cohort", "patient_id"]
    shared = len(validation[columns].drop_duplicates().merge(test[columns].drop_duplicates(), on=columns))
    if not shared:
        return []
    return [f"{shared} patient_id(s) of one cohort stand in validation and in test: make sure that they are different patients"]


def cutoff_remarks(validation: pd.DataFrame, settings: Evaluation) -> list[str]:
    """What is wrong with the choice of cut-offs on these validation predictions: fewer folds than asked for, or none."""
    sample = sample_of(evaluated(validation, "validation"))
    smallest, count = fold_count(sample.labels, sample.patients, settings)
    if count < 2:
        return ["the smaller class of the validation set is a single patient: cut-offs are chosen without cross-validation"]
    if count < settings.cutoff_folds:
        return [f"the smaller class of the validation set has {smallest} patients: cut-offs are chosen with {count} folds"]
    return []


def few_radiographs(split: str, n: int, positives: int) -> list[str]:
    """Whether a class is so small that single radiographs decide."""
    if min(positives, n - positives) >= FEW_OF_A_CLASS:
        return []
    return [
        f"{split}: {n} radiographs, {positives} positive and {n - positives} negative; with fewer than {FEW_OF_A_CLASS} of a class, "
        "single radiographs decide the numbers"
    ]


def auc_remarks(where: str, auc: Mapping[str, Any]) -> list[str]:
    """What an AUC does not show.

    Args:
        where: Put before the sentence, such as `test: `.
        auc: `estimate`, and where they are known `low` and `high`, the ends of its 95 % interval.
    """
    estimate, low, high = auc["estimate"], auc.get("low"), auc.get("high")
    interval = "" if low is None else f" (95 % interval {low:.2f} to {high:.2f})"
    if estimate < 0.5:
        return [
            f"{where}the AUC of {estimate:.2f}{interval} is worse than chance (0.5): check that 1 stands for a positive reference "
            "label, and that radiographs and readings belong together"
        ]
    if low is not None and low <= 0.5:
        return [f"{where}the AUC of {estimate:.2f}{interval} is not distinguishable from chance (0.5)"]
    if low is not None and high - low > WIDE_AUC:
        return [f"{where}the AUC of {estimate:.2f}{interval} is uncertain: more radiographs are needed to know it better"]
    return []
