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
    cases, controls = probabilities[labels], probabilities[~labels]
    m, n = cases.size, controls.size
    ranks = rankdata(np.concatenate([cases, controls]))
    of_cases = (ranks[:m] - rankdata(cases)) / n
    of_controls = 1 - (ranks[m:] - rankdata(controls)) / m
    area = float(of_cases.mean())
    if min(m, n) < 2:
        return Estimate(area, None, None, "DeLong", m + n)
    half_width = Z * math.sqrt(of_cases.var(ddof=1) / m + of_controls.var(ddof=1) / n)
    return Estimate(area, max(0.0, area - half_width), min(1.0, area + half_width), "DeLong", m + n)


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
