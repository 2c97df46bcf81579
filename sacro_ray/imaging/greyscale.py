"""From stored values to 8 grey levels, by a table of all grey values that occur and how often each does.

A radiograph has at most 65,536 different values, so curves, percentiles and checks are computed on the table and
the pixels are looked up once.
"""

import numpy as np
import numpy.typing as npt

from sacro_ray.imaging.channels import Values
from sacro_ray.imaging.exclusion import ExcludedRadiograph

# Robust extremes: 1 pixel of 200 at either end may be a marker, a screw or a dead detector element.
LOW_SHARE, HIGH_SHARE = 0.005, 0.995
# Share of pixels that a window may drive to black or white although their values are neither lowest nor highest.
MOSTLY_SATURATED = 0.5
# A value further from the robust extremes than these lie apart, so many times, is no grey level: no data, a dead element.
FAR = 10
# No detector measures as much: a float beyond it stands for "no data", as -3.4e38 often does.
NO_MEASUREMENT = 1e30
# CLAHE of 8 x 8 tiles, mild (Pizer et al. 1987).
CLAHE_TILES, CLAHE_CLIP = 8, 0.01

Grey = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.integer]
Levels = npt.NDArray[np.floating | np.integer]


def stretch(values: Levels, low: float, high: float) -> Grey:
    """Map `low` to 0 and `high` to 255, linearly, rounded half up and clipped. Any shape; `low` differs from `high`."""
    scaled = (np.asarray(values, dtype=np.float64) - low) * (255.0 / (high - low))
    # A billionth more than half: a tie rounds up although binary fractions may fall short of it.
    return np.clip(np.floor(scaled + (0.5 + 1e-9)), 0, 255).astype(np.uint8)


def robust_range(levels: Levels, counts: Counts) -> tuple[float, float] | None:
    """The lowest and highest level without the outer half percent of the pixels; None where all pixels are equal.

    Args:
        levels: Shape (n,), the values.
        counts: Shape (n,), how many pixels have each.
    """
    order = np.argsort(levels[counts > 0], kind="stable")
    present = levels[counts > 0][order]
    if present.size == 0 or present[0] == present[-1]:
        return None
    share = np.cumsum(counts[counts > 0][order]) / counts.sum()
    low, high = present[np.searchsorted(share, LOW_SHARE)], present[np.searchsorted(share, HIGH_SHARE)]
    if low == high:
        low, high = present[0], present[-1]
    return float(low), float(high)


def in_sixteen_bits(values: Values) -> npt.NDArray[np.uint16]:
    """Values of any type as at most 65,536 levels, so that a table of them can be made.

    Whole numbers that lie close enough together only move to zero. Others are scaled between their extremes, those that are far
    away (`FAR`) not counted; these are clipped, and what is no measurement (NaN, infinite, `NO_MEASUREMENT`) becomes the lowest.

    Returns:
        uint16, the same shape.

    Raises:
        ExcludedRadiograph: `blank` where all are equal.
    """
    if values.dtype.kind in "ui" and int(values.max()) - int(values.min()) <= 0xFFFF:
        return np.asarray(values - values.min(), dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        exact = values.astype(np.float64)
    measured = np.abs(exact) < NO_MEASUREMENT
    if not measured.any():
        raise ExcludedRadiograph("blank")
    known = exact[measured]
    low, high = float(known.min()), float(known.max())
    lower, upper = np.percentile(known, [100 * LOW_SHARE, 100 * HIGH_SHARE], method="inverted_cdf")
    if lower < upper:
        low, high = max(low, lower - FAR * (upper - lower)), min(high, upper + FAR * (upper - lower))
    if low == high:
        raise ExcludedRadiograph("blank")
    scaled = (np.clip(np.where(measured, exact, low), low, high) - low) / (high - low)
    return np.asarray(np.rint(scaled * 0xFFFF), dtype=np.uint16)


def spoilt(levels: Levels, grey: Grey, counts: Counts) -> bool:
    """Whether a header's window leaves a blank or mostly saturated picture.

    Pixels that hold the lowest or highest value of the picture (air, a shutter) may well be black or white.

    Args:
        levels: Shape (n,), values before the window.
        grey: Shape (n,), the grey level of each.
        counts: Shape (n,), how many pixels have each; not all zero.
    """
    present = counts > 0
    shown, before = grey[present], levels[present]
    if int(shown.max()) - int(shown.min()) <= 1:
        return True
    inner = (before > before.min()) & (before < before.max())
    lost = counts[present][inner & ((shown == 0) | (shown == 255))].sum()
    return bool(lost / counts.sum() > MOSTLY_SATURATED)


def equalise(pixels: Grey) -> Grey:
    """Contrast-limited adaptive histogram equalisation. Shape (height, width), uint8 in and out."""
    from skimage.exposure import equalize_adapthist

    tiles = [max(1, side // CLAHE_TILES) for side in pixels.shape]
    return stretch(equalize_adapthist(pixels, kernel_size=tiles, clip_limit=CLAHE_CLIP), 0.0, 1.0)
