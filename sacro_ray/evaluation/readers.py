"""Readers against each other, against the model, and against the reference label."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sacro_ray.evaluation.agreement import ConfusionTable, kappa, mcnemar
from sacro_ray.evaluation.bootstrap import stream
from sacro_ray.evaluation.estimates import proportion
from sacro_ray.evaluation.predictions import READER, patient_numbers, reader_names


def pairwise_agreement(
    table: pd.DataFrame, cutoffs: Mapping[str, float], repetitions: int, seed: int, split: str
) -> dict[str, dict[str, Any]]:
    """Kappa and agreement of every pair of readers, and of each reader with the model, where both have rated.

    The whole cohort counts, radiographs without a reference label included (study, Model performance on the independent dataset).

    Args:
        table: As `check_predictions` returns it.
        cutoffs: By name; `balanced` makes the model's calls, the others stand in `at_cutoff`.
        repetitions: Bootstrap samples.
        seed: The experiment's seed.
        split: Names the streams of random numbers.

    Returns:
        By `first|second`, the fields of metrics.json.
    """
    names = reader_names(table)
    calls = {name: table["probability"].to_numpy() >= value for name, value in cutoffs.items()}

    def compare(rows: pd.Series, first: Any, second: Any, statistic: str) -> dict[str, Any]:
        both = rows.to_numpy()
        one, other = np.asarray(first)[both] == 1, np.asarray(second)[both] == 1
        patients = patient_numbers(table[both]) if both.any() else np.empty(0, dtype=np.int64)
        same = proportion(int(np.sum(one == other)), int(both.sum()))
        chance_corrected = kappa(one, other, patients, repetitions, stream(seed, f"{split}/kappa/{statistic}"))
        return {"n": int(both.sum()), "kappa": chance_corrected.as_dict(), "agreement": same.as_dict()}

    result: dict[str, dict[str, Any]] = {}
    for first, second in combinations(names, 2):
        one, other = table[READER + first], table[READER + second]
        result[f"{first}|{second}"] = compare(one.notna() & other.notna(), one, other, f"{first}|{second}")
    for name in names:
        reading = table[READER + name]
        at_cutoff = {c: compare(reading.notna(), reading, call, f"{name}|model") for c, call in calls.items()}
        result[f"{name}|model"] = {**at_cutoff["balanced"], "at_cutoff": at_cutoff}
    return result


def against_reference(table: pd.DataFrame, balanced: float) -> dict[str, dict[str, Any]]:
    """Each reader's operating point against the reference label, and McNemar's test against the model at the balanced cut-off.

    A reader whose readings never differ from the label is the reference's own source (such as under the `agreement` consensus):
    `own_reference` is true, and there is no test, for it could only favour the reader.

    Args:
        table: As `check_predictions` returns it, radiographs with a label only.
        balanced: The balanced cut-off.

    Returns:
        By reader: `n`, `tn`, `fp`, `fn`, `tp`, `sensitivity`, `specificity`, `ppv`, `own_reference`, and `mcnemar` or None.
    """
    result: dict[str, dict[str, Any]] = {}
    for name in reader_names(table):
        read = table[table[READER + name].notna()]
        if read.empty:
            continue
        labels, readings = read["label"].to_numpy() == 1, read[READER + name].to_numpy() == 1
        confusion = ConfusionTable.of(labels, readings)
        own = bool((labels == readings).all())
        rates = confusion.proportions()
        result[name] = {
            "n": confusion.n,
            **{cell: getattr(confusion, cell) for cell in ("tn", "fp", "fn", "tp")},
            **{rate: rates[rate].as_dict() for rate in ("sensitivity", "specificity", "ppv")},
            "own_reference": own,
            "mcnemar": None if own else mcnemar(labels, readings, read["probability"].to_numpy() >= balanced),
        }
    return result
