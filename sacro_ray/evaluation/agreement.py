"""Agreement of two yes/no ratings: the 2 x 2 table, Cohen's kappa with its bootstrap interval, McNemar's test."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from sacro_ray.evaluation.bootstrap import resampled_counts
from sacro_ray.evaluation.estimates import Bools, Estimate, Floats, Ints, percentile_interval, proportion


@dataclass(frozen=True)
class ConfusionTable:
    """Counts of radiographs: reference (or first rater) negative or positive, model (or second rater) negative or positive."""

    tn: int
    fp: int
    fn: int
    tp: int

    @classmethod
    def of(cls, reference: Bools, calls: Bools) -> "ConfusionTable":
        """Count; both of shape (n,)."""
        tn, fp, fn, tp = np.bincount(_cells(reference, calls), minlength=4).tolist()
        return cls(tn, fp, fn, tp)

    @property
    def n(self) -> int:
        """Radiographs in the table."""
        return self.tn + self.fp + self.fn + self.tp

    def proportions(self) -> dict[str, Estimate]:
        """Sensitivity, specificity, predictive values and agreement (accuracy), each with Wilson's interval."""
        return {
            "sensitivity": proportion(self.tp, self.tp + self.fn),
            "specificity": proportion(self.tn, self.tn + self.fp),
            "ppv": proportion(self.tp, self.tp + self.fp),
            "npv": proportion(self.tn, self.tn + self.fn),
            "agreement": proportion(self.tp + self.tn, self.n),
        }


def cohen_kappa(tables: Ints) -> Floats:
    """Cohen's kappa (Cohen 1960) of each 2 x 2 table.

    Args:
        tables: Shape (k, 4), counts in the order tn, fp, fn, tp.

    Returns:
        Shape (k,); not a number where chance agreement is complete (both raters gave one and the same answer throughout).
    """
    tn, fp, fn, tp = tables.astype(np.float64).T
    total = tn + fp + fn + tp
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (tn + tp) / total
        by_chance = ((tn + fp) * (tn + fn) + (fn + tp) * (fp + tp)) / total**2
        return np.asarray(np.where(by_chance < 1, (observed - by_chance) / (1 - by_chance), np.nan), dtype=np.float64)


def kappa(first: Bools, second: Bools, patients: Ints, repetitions: int, generator: np.random.Generator) -> Estimate:
    """Cohen's kappa with the bootstrap percentile interval over patients (study, Statistical analysis: 1000 repetitions).

    Args:
        first: Shape (n,), the reference or the first reader.
        second: Shape (n,), the model's calls or the second reader.
        patients: Shape (n,), a patient's number from 0 for each radiograph.
        repetitions: Bootstrap samples.
        generator: This statistic's own stream.
    """
    method = "bootstrap percentile, patients resampled"
    if not first.size:
        return Estimate(None, None, None, method, 0)
    cells = _cells(first, second)
    point = float(cohen_kappa(np.bincount(cells, minlength=4)[None, :])[0])
    resampled = cohen_kappa(resampled_counts(cells, 4, patients, repetitions, generator))
    return percentile_interval(point, resampled, method, first.size)


def mcnemar(reference: Bools, first: Bools, second: Bools) -> dict[str, float | int]:
    """McNemar's exact test (two-sided binomial on the discordant pairs): do two raters err equally often?

    Args:
        reference: Shape (n,), the reference label.
        first: Shape (n,), such as a reader.
        second: Shape (n,), such as the model's calls.

    Returns:
        `only_first_right`, `only_second_right` (radiographs) and `p_value` (1 where the two never differ).
    """
    only_first = int(np.sum((first == reference) & (second != reference)))
    only_second = int(np.sum((first != reference) & (second == reference)))
    total = only_first + only_second
    p_value = float(binomtest(only_first, total).pvalue) if total else 1.0
    return {"only_first_right": only_first, "only_second_right": only_second, "p_value": p_value}


def _cells(first: Bools, second: Bools) -> Ints:
    return 2 * first.astype(np.int64) + second.astype(np.int64)
