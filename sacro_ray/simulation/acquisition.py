"""How a site takes and stores a radiograph: field, exposure, noise, collimation, grey curve.

Two styles differ enough that a network trained on one meets another look in the other: direct digital radiographs, and film that
was digitised afterwards (study, Assessment of radiographic sacroiliitis: images were digitised where necessary).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Plane = NDArray[np.float32]
Range = tuple[float, float]

MAXIMUM = 4095  # of 12 stored bits
LETTER_R = np.array([[int(dot) for dot in row] for row in ("11110", "10001", "10001", "11110", "10100", "10010", "10001")])


@dataclass(frozen=True)
class Style:
    """What a site's radiographs have in common; each draws its own value uniformly from the ranges.

    Attributes:
        field_mm: Width of the field.
        aspect: Height over width of the field.
        relative_size: Longest side over the size asked for.
        contrast: Steepness of the grey curve.
        level: Attenuation shown as middle grey, relative to the radiograph's own median.
        noise: Standard deviation of the noise at average attenuation.
        blur_px: Unsharpness.
        collimation: Share of the image that a collimator leaf hides on each side.
        collimated_share: How many radiographs show collimation borders.
        border: Grey of what the collimator hid, 0 to 1.
        monochrome1_share: How many radiographs are stored with bone dark (DICOM PS3.3 C.7.6.3.1.2).
        curve: Straight line with soft ends (digital), or the characteristic curve of film.
    """

    field_mm: Range
    aspect: Range
    relative_size: Range
    contrast: Range
    level: Range
    noise: Range
    blur_px: Range
    collimation: Range
    collimated_share: float
    border: Range
    monochrome1_share: float
    curve: Literal["digital", "film"]


DIGITAL = Style(
    field_mm=(310, 390),
    aspect=(0.8, 0.95),
    relative_size=(0.85, 1.0),
    contrast=(0.85, 1.15),
    level=(-0.08, 0.08),
    noise=(0.01, 0.025),
    blur_px=(0.4, 0.7),
    collimation=(0.0, 0.07),
    collimated_share=0.6,
    border=(0.0, 0.02),
    monochrome1_share=0.06,
    curve="digital",
)
DIGITISED_FILM = Style(
    field_mm=(280, 350),
    aspect=(0.75, 1.1),
    relative_size=(0.7, 0.85),
    contrast=(0.95, 1.35),
    level=(-0.14, 0.14),
    noise=(0.02, 0.04),
    blur_px=(0.6, 1.0),
    collimation=(0.0, 0.1),
    collimated_share=0.85,
    border=(0.75, 0.95),
    monochrome1_share=0.2,
    curve="film",
)


def develop(rng: np.random.Generator, attenuation: Plane, style: Style, exposed: NDArray[np.bool_]) -> Plane:
    """Turn attenuation into the grey levels of this style, bone bright.

    Args:
        rng: Draws exposure and noise.
        attenuation: float32 (height, width), about 0 in air, 1 in average soft tissue, 2 in thick bone.
        style: How the site takes its radiographs.
        exposed: bool (height, width), False where the collimator covers.

    Returns:
        float32 (height, width), 0 to 1.
    """
    grain = gaussian_filter(rng.standard_normal(attenuation.shape, dtype=np.float32), rng.uniform(*style.blur_px), truncate=2.5)
    # Fewer photons pass thicker tissue, and so the relative noise grows behind it.
    noise = grain * np.float32(rng.uniform(*style.noise) / (grain.std() + 1e-6)) * np.exp(0.5 * (attenuation - 1.2))
    middle = np.median(attenuation[::4, ::4][exposed[::4, ::4]]) + rng.uniform(*style.level)
    relative = (attenuation + noise - np.float32(middle)) * np.float32(rng.uniform(*style.contrast))
    grey = 1 / (1 + np.exp(-2.6 * relative)) if style.curve == "film" else 0.47 + 0.49 * np.tanh(1.15 * relative)
    return np.where(exposed, grey, np.float32(rng.uniform(*style.border))).astype(np.float32)


def collimated(rng: np.random.Generator, height: int, width: int, style: Style) -> NDArray[np.bool_]:
    """The exposed field: bool (height, width), False behind the collimator's leaves, which may stand a little oblique."""
    if rng.random() > style.collimated_share:
        return np.ones((height, width), dtype=bool)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    tilt = np.float32(rng.normal(0.0, 0.008))
    left, right, top, bottom = rng.uniform(*style.collimation, size=4)
    across, down = x + tilt * y, y - tilt * x
    within = (across > left * width) & (across < (1 - right) * width) & (down > top * height) & (down < (1 - bottom) * height)
    return np.asarray(within)


def side_marker(rng: np.random.Generator, grey: Plane) -> None:
    """Put the lead letter R beside the patient's right side, upper or lower corner, in place."""
    dot = max(1, round(grey.shape[0] / 150))
    letter = np.kron(LETTER_R, np.ones((dot, dot), dtype=int)).astype(bool)
    top = int(grey.shape[0] * (rng.uniform(0.09, 0.15) if rng.random() < 0.6 else rng.uniform(0.78, 0.84)))
    left = int(grey.shape[1] * rng.uniform(0.08, 0.12))
    grey[top : top + letter.shape[0], left : left + letter.shape[1]][letter] = 0.98
