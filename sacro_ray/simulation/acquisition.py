"""How a site takes and stores a radiograph: field, exposure, noise, collimation, grey curve.

Two styles differ enough that a network trained on one meets a change of appearance on the other: direct digital radiographs, and
film that was digitised afterwards (study, Assessment of radiographic sacroiliitis: images were digitised where necessary).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Plane = NDArray[np.float32]
MAXIMUM = 4095  # 12 bits stored


@dataclass(frozen=True)
class Style:
    """What a site's radiographs have in common; ranges are drawn from uniformly for each radiograph.

    Attributes:
        field_mm: Width of the exposed field.
        aspect: Height over width of the field.
        relative_size: Longest side over the size asked for.
        contrast: Steepness of the grey curve.
        level: Attenuation shown as middle grey, relative to the patient's own average.
        noise: Standard deviation of the noise at average attenuation.
        blur_px: Unsharpness.
        collimation: Share of the image that a collimator leaf may hide on each side.
        collimated_share: How many radiographs show collimation borders.
        border: Grey of what the collimator hid, share of the full range.
        monochrome1_share: How many radiographs are stored with bone dark (DICOM PS3.3 C.7.6.3.1.2).
        curve: "sigmoid" (film) or "linear" (digital).
    """

    field_mm: tuple[float, float]
    aspect: tuple[float, float]
    relative_size: tuple[float, float]
    contrast: tuple[float, float]
    level: tuple[float, float]
    noise: tuple[float, float]
    blur_px: tuple[float, float]
    collimation: tuple[float, float]
    collimated_share: float
    border: tuple[float, float]
    monochrome1_share: float
    curve: str


DIGITAL = Style(
    field_mm=(320, 410), aspect=(0.8, 0.95), relative_size=(0.85, 1.0), contrast=(0.85, 1.15), level=(-0.08, 0.08), noise=(0.015, 0.035),
    blur_px=(0.4, 0.7), collimation=(0.0, 0.07), collimated_share=0.6, border=(0.0, 0.02), monochrome1_share=0.06, curve="linear",
)  # fmt: skip
DIGITISED_FILM = Style(
    field_mm=(290, 370), aspect=(0.75, 1.1), relative_size=(0.7, 0.85), contrast=(0.95, 1.35), level=(-0.14, 0.14), noise=(0.03, 0.06),
    blur_px=(0.6, 1.0), collimation=(0.0, 0.1), collimated_share=0.85, border=(0.75, 0.95), monochrome1_share=0.2, curve="sigmoid",
)  # fmt: skip


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
    # Fewer photons behind more tissue: the relative noise grows with the square root of the attenuation factor.
    noise = gaussian_filter(rng.standard_normal(attenuation.shape, dtype=np.float32), rng.uniform(*style.blur_px))
    noise *= np.float32(rng.uniform(*style.noise) / max(float(noise.std()), 1e-6))
    seen = attenuation + noise * np.exp(0.5 * (attenuation - 1.2))
    middle = float(np.median(attenuation[exposed])) + rng.uniform(*style.level)
    contrast = rng.uniform(*style.contrast)
    relative = (seen - np.float32(middle)) * np.float32(contrast)
    if style.curve == "sigmoid":
        grey = 1.0 / (1.0 + np.exp(-2.6 * relative))
    else:
        # A digital system maps log exposure in a straight line and rolls off softly at its ends.
        grey = 0.5 + 0.5 * np.tanh(1.15 * relative) * 0.96
    grey = np.where(exposed, grey, np.float32(rng.uniform(*style.border)))
    return np.clip(grey, 0.0, 1.0, dtype=np.float32)


def collimated(rng: np.random.Generator, height: int, width: int, style: Style) -> NDArray[np.bool_]:
    """The exposed field: bool (height, width), False behind the collimator's leaves, which may stand a little oblique."""
    exposed = np.ones((height, width), dtype=bool)
    if rng.random() > style.collimated_share:
        return exposed
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    tilt = np.float32(rng.normal(0.0, 0.008))
    left, right, top, bottom = rng.uniform(*style.collimation, size=4)
    exposed &= x + tilt * y > left * width
    exposed &= x + tilt * y < (1.0 - right) * width
    exposed &= y - tilt * x > top * height
    exposed &= y - tilt * x < (1.0 - bottom) * height
    return exposed
