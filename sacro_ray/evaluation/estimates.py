"""A number with its 95 % confidence interval, and the interval of a proportion."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Z = 1.959963984540054  # the normal quantile at 0.975

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval; None where it is not defined (such as 0 of 0).

    Attributes:
        estimate: The point estimate, on its own scale (proportions 0 to 1).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        method: How the interval was computed, in words.
        n: Radiographs behind the number (for a proportion: its denominator).
    """

    estimate: float | None
    low: float | None
    high: float | None
    method: str
    n: int

    def as_dict(self) -> dict[str, Any]:
        """The plain values, in the order in which they stand in metrics.json."""
        return asdict(self)


def proportion(successes: int, total: int) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927), without continuity correction.

    Args:
        successes: 0 to `total`.
        total: The denominator; with 0 the estimate and its interval are None.
    """
    if total == 0:
        return Estimate(None, None, None, "Wilson", 0)
    share = successes / total
    centre = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half_width = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    low = 0.0 if successes == 0 else centre - half_width
    high = 1.0 if successes == total else centre + half_width
    return Estimate(share, low, high, "Wilson", total)


def percentile_interval(estimate: float, repetitions: Floats, method: str, n: int) -> Estimate:
    """The bootstrap percentile interval: the 2.5 and 97.5 percentiles of the repetitions that are defined.

    Args:
        estimate: The statistic on the sample itself; not a number where it is not defined.
        repetitions: Shape (repetitions,), the statistic on each resample; not a number where it is not defined there.
        method: In words.
        n: Radiographs behind the number.
    """
    if math.isnan(estimate):
        return Estimate(None, None, None, method, n)
    defined = repetitions[~np.isnan(repetitions)]
    if not defined.size:
        return Estimate(float(estimate), None, None, method, n)
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(estimate), float(low), float(high), method, n)
