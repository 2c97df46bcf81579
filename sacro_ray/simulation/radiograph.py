"""Render one AP pelvic radiograph: tissue, bone and joints add up to attenuation, the site's style turns it into 12-bit grey.

And the box that somebody draws on it by hand: the published study cropped its radiographs so (Bressem et al. 2021, Image selection
and pre-processing).
"""

import numpy as np
from numpy.typing import NDArray

from sacro_ray.simulation.acquisition import MAXIMUM, Style, collimated, develop, side_marker
from sacro_ray.simulation.anatomy import Sex, sample_anatomy
from sacro_ray.simulation.bones import bone_attenuation
from sacro_ray.simulation.joints import joint_attenuation, sample_appearance
from sacro_ray.simulation.position import sample_position
from sacro_ray.simulation.tissue import tissue_attenuation

STREAMS = 7
"""Of chance: patient, place, right and left joint, surroundings, exposure, the hand that draws the box."""
BOX_MARGIN_MM = np.array([[-32.0, -16.0], [32.0, 8.0]])
"""Left, top; right, bottom: of the box beyond the sacrum, so that the iliac side of both joints is in it with what surrounds it."""
BOX_SD_MM = 5.0
"""Of each side of a box drawn by hand."""


def render_radiograph(
    rng: np.random.Generator, severity_right: float, severity_left: float, sex: Sex, style: Style, size_px: int = 640
) -> tuple[NDArray[np.uint16], float]:
    """Render one radiograph.

    Patient, place, joints, surroundings and exposure have streams of chance of their own: the same generator with another severity
    gives the same picture but for the joints.

    Args:
        rng: A fresh generator; the same seed gives the same pixels.
        severity_right: Severity of the patient's right joint (on the image's left), 0 to 4; rounded it is the modified
            New York grade.
        severity_left: The same of the patient's left joint.
        sex: Shapes the pelvis.
        style: The site's way of taking radiographs.
        size_px: Longest side at most.

    Returns:
        uint16 (height, width), 0 to 4095, bone bright, and the pixel spacing in mm.
    """
    patient, place, right, left, surroundings, exposure, _ = rng.spawn(STREAMS)
    anatomy = sample_anatomy(patient, sex)
    position = sample_position(place, style, size_px)
    bone = bone_attenuation(surroundings, anatomy, position)
    for chance, joint, severity in zip((right, left), anatomy.joints, (severity_right, severity_left), strict=True):
        window, x_mm, y_mm = position.around(joint.side * 48.0, -2.0, 34.0, 48.0)
        bone[window] += joint_attenuation(chance, joint, sample_appearance(chance, severity), x_mm * joint.side, y_mm)
    attenuation = np.maximum(tissue_attenuation(surroundings, anatomy, position) + np.maximum(bone, 0), 0)
    grey = develop(exposure, attenuation, style, collimated(exposure, position.height, position.width, style))
    side_marker(exposure, grey)
    return np.rint(grey * MAXIMUM).astype(np.uint16), position.spacing_mm


def hand_drawn_box(rng: np.random.Generator, sex: Sex, style: Style, size_px: int = 640) -> tuple[int, int, int, int]:
    """The box around sacrum and sacroiliac joints that somebody drew on the radiograph of the same generator.

    Args:
        rng: A fresh generator, as for `render_radiograph`.
        sex: As there.
        style: As there.
        size_px: As there.

    Returns:
        Left, top, right, bottom in pixels of the radiograph, right and bottom exclusive.
    """
    patient, place, *_, hand = rng.spawn(STREAMS)
    anatomy, position = sample_anatomy(patient, sex), sample_position(place, style, size_px)
    sacrum = position.to_pixels(np.concatenate(anatomy.outlines["sacrum"]))
    margin = (BOX_MARGIN_MM + hand.normal(0.0, BOX_SD_MM, (2, 2))) / position.spacing_mm
    corners = np.rint([sacrum.min(0) + margin[0], sacrum.max(0) + margin[1]]).astype(int)
    (left, top), (right, bottom) = np.clip(corners, 0, (position.width, position.height)).tolist()
    return left, top, right, bottom
