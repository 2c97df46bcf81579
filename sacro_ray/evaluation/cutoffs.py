"""Cut-offs from the validation predictions alone, by repeated stratified cross-validation.

In each repeat the patients are dealt into folds, positives and negatives apart. Each fold is left out once: the rule below picks its
cut-off on the other folds, and the left-out fold tells how the choice carries over (`held_out_*`). A repeat's cut-off is the median over
its folds, the result the median over the repeats: the cut-off that does not hang on a single radiograph.

Rules, on the radiographs at hand; a radiograph is called positive when `probability >= cutoff`, candidates are the scores seen:

- `sensitivity`: among the cut-offs that reach the target sensitivity the one with the highest specificity.
- `specificity`: among the cut-offs that reach the target specificity the one with the highest sensitivity.
- `balanced`: the largest sensitivity + specificity; of equals the one where the two differ least.

One more candidate lies just above the highest score: none is positive. Where that score is 1 it is 1.0000000000000002, not 1, at which
a radiograph of probability 1 would be positive.

Where the median misses its target on the whole validation set, the rule's choice on the whole set is taken in its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sacro_ray.config import Evaluation
from sacro_ray.evaluation.bootstrap import stream
from sacro_ray.evaluation.discrimination import OperatingPoints, operating_points
from sacro_ray.evaluation.estimates import Bools, Floats, Ints

RULES = ("sensitivity", "specificity", "balanced")


@dataclass(frozen=True)
class Cutoff:
    """A cut-off on the probability, and how steady its choice was.

    Attributes:
        name: One of `RULES`, or the name under which it was given.
        value: Radiographs with `probability >= value` are called positive.
        lowest: The lowest cut-off of a repeat (None where it was given).
        highest: The highest cut-off of a repeat.
        held_out_sensitivity: Sensitivity of the folds' cut-offs on the radiographs they were not chosen on, mean of the repeats.
        held_out_specificity: The same for specificity.
    """

    name: str
    value: float
    lowest: float | None = None
    highest: float | None = None
    held_out_sensitivity: float | None = None
    held_out_specificity: float | None = None


def choose(points: OperatingPoints, rule: str, target: float) -> float:
    """The rule's cut-off at given operating points.

    Args:
        points: At least one, with both classes present.
        rule: One of `RULES`.
        target: Sensitivity or specificity to reach, above 0 to 1; not used by `balanced`.
    """
    # Counts are compared as whole numbers, so that equal operating points are equal whatever the rounding of their ratios.
    tp, fp = np.append(0, points.tp), np.append(0, points.fp)
    cutoff = np.append(np.nextafter(points.cutoff[0], 2.0), points.cutoff)
    positives, negatives = int(tp[-1]), int(fp[-1])
    if rule == "sensitivity":
        reached = np.flatnonzero(tp >= target * positives - 1e-9)
        return float(cutoff[np.flatnonzero(fp == fp[reached[0]])[-1]])
    if rule == "specificity":
        reached = np.flatnonzero(negatives - fp >= target * negatives - 1e-9)
        return float(cutoff[np.flatnonzero(tp == tp[reached[-1]])[0]])
    gain = tp * negatives - fp * positives
    best = np.flatnonzero(gain == gain.max())
    difference = np.abs(tp[best] * negatives - (negatives - fp[best]) * positives)
    return float(cutoff[best[np.argmin(difference)]])


def cross_validated_cutoffs(
    labels: Bools, probabilities: Floats, patients: Ints, settings: Evaluation, seed: int
) -> list[Cutoff]:
    """The three cut-offs, in the order of `RULES`.

    Args:
        labels: Shape (n,), reference labels of the validation radiographs; both classes must be present.
        probabilities: Shape (n,), 0 to 1.
        patients: Shape (n,), a patient's number from 0 for each radiograph; a patient is never on both sides of a split.
        settings: Targets, folds and repeats.
        seed: The experiment's seed.
    """
    targets = {"sensitivity": settings.target_sensitivity, "specificity": settings.target_specificity, "balanced": 0.0}
    whole = operating_points(labels, probabilities)
    per_repeat: dict[str, list[float]] = {rule: [] for rule in RULES}
    held_out: dict[str, list[tuple[float, float]]] = {rule: [] for rule in RULES}
    for folds in _repeats(labels, patients, settings, stream(seed, "cutoffs")):
        splits = [(folds != fold, folds == fold) for fold in range(int(folds.max()) + 1)]
        trainings = [
            (operating_points(labels[kept], probabilities[kept]), left) for kept, left in splits if _both(labels[kept])
        ]
        for rule in RULES:
            chosen = [choose(points, rule, targets[rule]) for points, _ in trainings]
            if not chosen:
                continue
            calls = np.zeros(labels.size, dtype=np.bool_)
            judged = np.zeros(labels.size, dtype=np.bool_)
            for value, (_, left) in zip(chosen, trainings, strict=True):
                calls[left], judged[left] = probabilities[left] >= value, True
            per_repeat[rule].append(float(np.median(chosen)))
            if _both(labels[judged]):
                held_out[rule].append((float(calls[judged & labels].mean()), float(1 - calls[judged & ~labels].mean())))
    return [_summary(rule, targets[rule], whole, per_repeat[rule], held_out[rule]) for rule in RULES]


def _summary(
    rule: str, target: float, whole: OperatingPoints, per_repeat: list[float], held_out: list[tuple[float, float]]
) -> Cutoff:
    on_all = choose(whole, rule, target)
    if not per_repeat:
        return Cutoff(rule, on_all)
    value = float(np.median(per_repeat))
    called = whole.cutoff >= value
    tp, fp = (int(counts[called][-1]) if called.any() else 0 for counts in (whole.tp, whole.fp))
    positives, negatives = int(whole.tp[-1]), int(whole.fp[-1])
    misses_sensitivity = rule == "sensitivity" and tp < target * positives - 1e-9
    misses_specificity = rule == "specificity" and negatives - fp < target * negatives - 1e-9
    if misses_sensitivity or misses_specificity:
        value = on_all
    sensitivity, specificity = np.mean(held_out, axis=0).tolist() if held_out else (None, None)
    return Cutoff(rule, value, min(per_repeat), max(per_repeat), sensitivity, specificity)


def fold_count(labels: Bools, patients: Ints, settings: Evaluation) -> tuple[int, int]:
    """Patients of the smaller class, and into how many folds they are dealt; with fewer than two, cut-offs are chosen on the whole set."""
    smallest = min((group.size for group in _strata(labels, patients) if group.size), default=0)
    return smallest, min(settings.cutoff_folds, smallest)


def _strata(labels: Bools, patients: Ints) -> list[Ints]:
    """The patients by class; one counts as positive with one positive radiograph."""
    positive = np.zeros(int(patients.max()) + 1, dtype=np.bool_)
    positive[patients[labels]] = True
    return [np.flatnonzero(positive), np.flatnonzero(~positive)]


def _repeats(labels: Bools, patients: Ints, settings: Evaluation, generator: np.random.Generator) -> Iterator[Ints]:
    """Fold numbers of the radiographs, shape (n,), for each repeat; none where a class is too small to be split at all."""
    strata = _strata(labels, patients)
    _, count = fold_count(labels, patients, settings)
    if count < 2:
        return
    for _ in range(settings.cutoff_repeats):
        fold = np.empty(int(patients.max()) + 1, dtype=np.int64)
        start = 0
        for group in strata:
            fold[generator.permutation(group)] = (np.arange(group.size) + start) % count
            start += group.size  # the second class goes on dealing where the first stopped: folds of even size
        yield fold[patients]


def _both(labels: Bools) -> bool:
    return bool(labels.any() and not labels.all())
