"""Which patient is in training and which in validation: a function of seed and patient alone."""

import hashlib
from collections.abc import Mapping


def draw(seed: int, patient: str) -> float:
    """A patient's own number in [0, 1), from SHA-256: uniform over patients, the same on every machine."""
    digest = hashlib.sha256(f"{seed}\n{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_patients(
    labels: Mapping[str, int], fraction: float, seed: int, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Split patients into `train` and `validation`.

    A patient goes to validation when their own draw lies below `fraction`. So no patient's place depends on who else is in the cohort:
    adding, removing or relabelling patients moves no one. The same share of positive and of negative patients is expected in
    validation; where a label has at least two patients but chance leaves one split without it (small cohorts only), its patient
    with the lowest draw moves to validation, or the one with the highest to training.

    Args:
        labels: 0 or 1 a patient.
        fraction: Expected share of validation, between 0 and 1.
        seed: The experiment's seed.
        given: The table's own splits, which win.

    Returns:
        `train` or `validation` a patient.
    """
    given = given or {}
    splits = {
        patient: given.get(patient) or ("validation" if draw(seed, patient) < fraction else "train") for patient in labels
    }
    for label in (0, 1):
        stratum = sorted((p for p in labels if labels[p] == label), key=lambda p: (draw(seed, p), p))
        free = [p for p in stratum if p not in given]
        if len(stratum) < 2 or not free:
            continue
        present = {splits[p] for p in stratum}
        if "validation" not in present:
            splits[free[0]] = "validation"
        elif "train" not in present:
            splits[free[-1]] = "train"
    return splits
