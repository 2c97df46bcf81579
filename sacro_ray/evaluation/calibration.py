"""Whether a score of 0.7 means that 70 of 100 are positive, and what acting on the scores would gain."""

from dataclasses import dataclass

import numpy as np

from sacro_ray.evaluation.bootstrap import patient_weights
from sacro_ray.evaluation.discrimination import operating_points
from sacro_ray.evaluation.estimates import Estimate, Floats, percentile_interval, proportion
from sacro_ray.evaluation.predictions import Sample

BINS = 10  # of the calibration curve and of the expected calibration error


@dataclass(frozen=True)
class CalibrationBin:
    """Radiographs of similar score.

    Attributes:
        mean_probability: 0 to 1.
        observed: The share that is positive, with Wilson's interval and n.
    """

    mean_probability: float
    observed: Estimate


def brier(sample: Sample, repetitions: int, generator: np.random.Generator) -> Estimate:
    """Brier score (mean squared difference of score and label, 0 is best) with the bootstrap percentile interval over patients."""
    squared = (sample.probabilities - sample.labels) ** 2
    resampled = [
        weights @ squared / weights.sum(axis=1) for weights in patient_weights(sample.patients, repetitions, generator)
    ]
    method = "bootstrap percentile, patients resampled"
    return percentile_interval(float(squared.mean()), np.concatenate(resampled), method, len(sample))


def calibration_bins(sample: Sample) -> list[CalibrationBin]:
    """Up to `BINS` groups of equal size in the order of the scores (equal scores stay together)."""
    edges = np.quantile(sample.probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), sample.probabilities, side="right")
    return [
        CalibrationBin(
            float(sample.probabilities[group == number].mean()),
            proportion(int(sample.labels[group == number].sum()), int((group == number).sum())),
        )
        for number in np.unique(group)
    ]


def expected_calibration_error(bins: list[CalibrationBin]) -> float:
    """Mean distance of observed share and mean score over the bins, weighted by their n (Guo 2017, here with bins of equal size)."""
    sizes = np.array([group.observed.n for group in bins])
    distances = np.array([abs((group.observed.estimate or 0.0) - group.mean_probability) for group in bins])
    return float(np.sum(sizes * distances) / sizes.sum())


def net_benefit(sample: Sample, thresholds: Floats) -> tuple[Floats, Floats]:
    """Decision curve (Vickers 2006): net true positives a radiograph when `probability >= threshold` is acted on, and when all are.

    Args:
        sample: Radiographs with labels.
        thresholds: Shape (k,), above 0 and below 1: the probability at which acting is worth its harm.

    Returns:
        The model's and treat-all's net benefit, each of shape (k,).
    """
    points = operating_points(sample.labels, sample.probabilities)
    place = np.searchsorted(-points.cutoff, -thresholds, side="right")
    tp, fp = np.append(0, points.tp)[place], np.append(0, points.fp)[place]
    odds = thresholds / (1 - thresholds)
    everyone = points.tp[-1] - points.fp[-1] * odds
    return np.asarray((tp - fp * odds) / len(sample)), np.asarray(everyone / len(sample))
