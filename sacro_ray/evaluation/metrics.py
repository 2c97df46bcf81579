"""metrics.json: every number of an evaluation, with its interval and its n."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sacro_ray.config import Evaluation
from sacro_ray.errors import UserError
from sacro_ray.evaluation.agreement import ConfusionTable, kappa
from sacro_ray.evaluation.bootstrap import stream
from sacro_ray.evaluation.calibration import brier, calibration_bins, expected_calibration_error
from sacro_ray.evaluation.cutoffs import RULES, Cutoff, cross_validated_cutoffs
from sacro_ray.evaluation.discrimination import auc_delong, average_precision
from sacro_ray.evaluation.predictions import Sample, labelled
from sacro_ray.evaluation.readers import against_reference, pairwise_agreement

SCHEMA_VERSION = 1


def evaluated(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The radiographs that a split is judged on: those with a label, in the test set only the concordant ones."""
    rows = table["label"].notna()
    return table[rows & (table["subset"] == "concordant")] if split == "test" else table[rows]


def all_cutoffs(validation: pd.DataFrame, settings: Evaluation, seed: int, fixed: Mapping[str, float]) -> list[Cutoff]:
    """The three cut-offs from validation, then those given by name.

    Raises:
        UserError: A given name is one of the three, or a given value is not from 0 to 1.
    """
    for name, value in fixed.items():
        if name in RULES:
            raise UserError(f"--cutoff {name}={value}: {name} is chosen on validation; give the fixed cut-off another name")
        if not 0 <= value <= 1:
            raise UserError(f"--cutoff {name}={value}: a cut-off is a probability from 0 to 1")
    sample = labelled(evaluated(validation, "validation"), "validation")
    chosen = cross_validated_cutoffs(sample.labels, sample.probabilities, sample.patients, settings, seed)
    return chosen + [Cutoff(name, value) for name, value in fixed.items()]


def compute_metrics(
    validation: pd.DataFrame, test: pd.DataFrame | None, cutoffs: list[Cutoff], settings: Evaluation, seed: int
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        validation: As `check_predictions` returns it.
        test: The same, or None.
        cutoffs: From `all_cutoffs`.
        settings: Bootstrap repetitions.
        seed: The experiment's seed.

    Raises:
        UserError: A split has labels of one class only.
    """
    values = {cutoff.name: cutoff.value for cutoff in cutoffs}
    result: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "cutoffs": values}
    readers: dict[str, Any] = {}
    performance: dict[str, Any] = {}
    for split, table in (("validation", validation), ("test", test)):
        if table is None:
            continue
        judged = evaluated(table, split)
        result[split] = _split_metrics(labelled(judged, split), values, settings.bootstrap_repetitions, seed, split)
        discordant = table[table["subset"] == "discordant"]
        if split == "test":
            result[split]["discordant"] = _discordant(discordant, values)
        readers[split] = pairwise_agreement(table, values, settings.bootstrap_repetitions, seed, split)
        performance[split] = against_reference(judged, values["balanced"])
    return {**result, "readers": readers, "readers_against_reference": performance}


def _split_metrics(sample: Sample, cutoffs: Mapping[str, float], repetitions: int, seed: int, split: str) -> dict[str, Any]:
    precision = average_precision(
        sample.labels, sample.probabilities, sample.patients, repetitions, stream(seed, f"{split}/average_precision")
    )
    return {
        "n": len(sample),
        "positives": int(sample.labels.sum()),
        "patients": int(sample.patients.max()) + 1,
        "auc": auc_delong(sample.labels, sample.probabilities).as_dict(),
        "average_precision": precision.as_dict(),
        "brier": brier(sample, repetitions, stream(seed, f"{split}/brier")).as_dict(),
        "expected_calibration_error": expected_calibration_error(calibration_bins(sample)),
        "at_cutoff": {name: _at_cutoff(sample, value, repetitions, seed, f"{split}/kappa") for name, value in cutoffs.items()},
    }


def _at_cutoff(sample: Sample, cutoff: float, repetitions: int, seed: int, statistic: str) -> dict[str, Any]:
    calls = sample.probabilities >= cutoff
    table = ConfusionTable.of(sample.labels, calls)
    rates = {name: rate.as_dict() for name, rate in table.proportions().items()}
    agreement = kappa(sample.labels, calls, sample.patients, repetitions, stream(seed, statistic))
    counts = {"tn": table.tn, "fp": table.fp, "fn": table.fn, "tp": table.tp}
    return {"cutoff": cutoff, **counts, **rates, "kappa": agreement.as_dict()}


def _discordant(table: pd.DataFrame, cutoffs: Mapping[str, float]) -> dict[str, Any]:
    calls = {name: int((table["probability"] >= value).sum()) for name, value in cutoffs.items()}
    return {
        "n": len(table),
        "at_cutoff": {name: {"negative": len(table) - positive, "positive": positive} for name, positive in calls.items()},
    }
