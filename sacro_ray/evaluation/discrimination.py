"""How well the scores order negatives and positives: operating points, AUC with DeLong's interval, average precision."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from sacro_ray.evaluation.bootstrap import patient_weights
from sacro_ray.evaluation.estimates import Bools, Estimate, Floats, Ints, Z, percentile_interval


@dataclass(frozen=True)
class OperatingPoints:
    """What calling `probability >= cutoff` gives, for each distinct score, from the highest down.

    Attributes:
        cutoff: Shape (k,), the distinct scores, descending.
        tp: Shape (k,), true positives at each.
        fp: Shape (k,), false positives at each.
    """

    cutoff: Floats
    tp: Ints
    fp: Ints

    @property
    def sensitivity(self) -> Floats:
        """Shape (k,), 0 to 1."""
        return np.asarray(self.tp / self.tp[-1], dtype=np.float64)

    @property
    def specificity(self) -> Floats:
        """Shape (k,), 0 to 1."""
        return np.asarray(1 - self.fp / self.fp[-1], dtype=np.float64)

    @property
    def precision(self) -> Floats:
        """Shape (k,), positive predictive value at each cut-off, 0 to 1."""
        return np.asarray(self.tp / (self.tp + self.fp), dtype=np.float64)


def operating_points(labels: Bools, probabilities: Floats) -> OperatingPoints:
    """Count true and false positives at every distinct score.

    Args:
        labels: Shape (n,), the reference label; both classes must be present.
        probabilities: Shape (n,), 0 to 1.
    """
    order = np.argsort(-probabilities, kind="stable")
    scores, positive = probabilities[order], labels[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)
    tp = np.cumsum(positive)[ends]
    return OperatingPoints(scores[ends], tp, ends + 1 - tp)


def auc_delong(labels: Bools, probabilities: Floats) -> Estimate:
    """Area under the ROC curve with DeLong's interval, in n log n (DeLong 1988; Sun and Xu 2014).

    The interval treats radiographs as independent, ends at 0 and 1, and has no width where the classes are wholly separated.

    Args:
        labels: Shape (n,); both classes must be present.
        probabilities: Shape (n,); ties count one half.
    """
    of_cases, of_controls = _placements(labels, probabilities)
    area, half_width = float(of_cases.mean()), _half_width(of_cases, of_controls)
    if half_width is None:
        return Estimate(area, None, None, "DeLong", labels.size)
    return Estimate(area, max(0.0, area - half_width), min(1.0, area + half_width), "DeLong", labels.size)


def auc_change(labels: Bools, before: Floats, after: Floats) -> Estimate:
    """AUC of `after` minus AUC of `before` on the same radiographs, with DeLong's paired interval (DeLong 1988).

    Args:
        labels: Shape (n,); both classes must be present.
        before: Shape (n,), such as scores of the images as they are.
        after: Shape (n,), such as scores of the same images slightly changed.
    """
    first, second = _placements(labels, before), _placements(labels, after)
    of_cases, of_controls = second[0] - first[0], second[1] - first[1]
    change, half_width = float(of_cases.mean()), _half_width(of_cases, of_controls)
    if half_width is None:
        return Estimate(change, None, None, "DeLong, paired", labels.size)
    return Estimate(change, change - half_width, change + half_width, "DeLong, paired", labels.size)


def _placements(labels: Bools, probabilities: Floats) -> tuple[Floats, Floats]:
    """For each case the share of controls below it, and for each control the share of cases above it; ties count one half."""
    cases, controls = probabilities[labels], probabilities[~labels]
    m, n = cases.size, controls.size
    ranks = rankdata(np.concatenate([cases, controls]))
    return (ranks[:m] - rankdata(cases)) / n, 1 - (ranks[m:] - rankdata(controls)) / m


def _half_width(of_cases: Floats, of_controls: Floats) -> float | None:
    if min(of_cases.size, of_controls.size) < 2:
        return None
    return Z * math.sqrt(of_cases.var(ddof=1) / of_cases.size + of_controls.var(ddof=1) / of_controls.size)


def average_precision(
    labels: Bools, probabilities: Floats, patients: Ints, repetitions: int, generator: np.random.Generator
) -> Estimate:
    """Average precision (the step-wise sum, not interpolated) with the bootstrap percentile interval over patients.

    Args:
        labels: Shape (n,); both classes must be present.
        probabilities: Shape (n,).
        patients: Shape (n,), a patient's number from 0 for each radiograph.
        repetitions: Bootstrap samples.
        generator: This statistic's own stream.
    """
    order = np.argsort(-probabilities, kind="stable")
    scores, positive = probabilities[order], labels[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)

    def area(weights: Floats) -> Floats:
        tp = np.cumsum(weights * positive, axis=1)[:, ends]
        called = np.cumsum(weights, axis=1)[:, ends]
        precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
        gained = np.sum(np.diff(tp, axis=1, prepend=0.0) * precision, axis=1)
        found = np.divide(gained, tp[:, -1], out=np.full(len(tp), np.nan), where=tp[:, -1] > 0)
        return np.asarray(found, dtype=np.float64)

    resampled = [area(weights) for weights in patient_weights(patients[order], repetitions, generator)]
    point = float(area(np.ones((1, scores.size)))[0])
    return percentile_interval(point, np.concatenate(resampled), "bootstrap percentile, patients resampled", scores.size)
