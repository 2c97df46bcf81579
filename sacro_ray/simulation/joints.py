"""One sacroiliac joint at a modified New York grade: what is added to, and taken from, the attenuation of the bone around it.

The grades follow the study (Assessment of radiographic sacroiliitis) and its reference 1: 0 normal; 1 suspicious changes; 2 small
localised erosion or sclerosis, joint width unaltered; 3 erosions, sclerosis, widening, narrowing or partial ankylosis; 4 total ankylosis.
The severity is continuous, and its rounded value is the grade: a joint at 2.4 has more sclerosis than one at 1.6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sacro_ray.simulation.anatomy import JOINT_BOTTOM_MM, JOINT_TOP_MM, Joint

Plane = NDArray[np.float32]

LENGTH_MM = JOINT_BOTTOM_MM - JOINT_TOP_MM
SPACE_DEPTH, MARGIN_HEIGHT = 0.42, 0.24  # attenuation taken by the joint space and added by a cortical margin


@dataclass(frozen=True)
class Appearance:
    """What one joint looks like. Attenuations are in units of the average soft tissue depth; places run from 0 (top) to 1 (bottom)."""

    space: float
    width_factor: float
    margin: float
    margin_blur_mm: float
    sclerosis: tuple[tuple[float, float, float], ...]  # place, spread along the joint, attenuation
    sclerosis_depth_mm: float
    erosions: tuple[tuple[float, int, float, float], ...]  # place, side (-1 sacral, 1 iliac), radius mm, attenuation
    bridges: tuple[tuple[float, float], ...]  # place and half length of ankylosed stretches


def grade_of(severity: float) -> int:
    """The modified New York grade, 0 to 4, of a severity between 0 and 4."""
    return int(np.clip(np.floor(severity + 0.5), 0, 4))


def sample_appearance(rng: np.random.Generator, severity: float) -> Appearance:
    """Draw the lesions of a joint of this severity (0 to 4)."""
    grade = grade_of(severity)
    within = float(np.clip(severity - grade, -0.5, 0.5))
    strength = rng.uniform(0.8, 1.2) * (1.0 + 0.5 * within)
    space, width, margin, blur = 1.0, 1.0, 1.0, 0.8
    sclerosis: list[tuple[float, float, float]] = []
    erosions: list[tuple[float, int, float, float]] = []
    bridges: list[tuple[float, float]] = []
    depth_mm = rng.uniform(6.0, 9.0)

    def erode(count: int, low_mm: float, high_mm: float, attenuation: float) -> None:
        # The iliac cartilage is the thinner one, so erosions begin there; they prefer the synovial lower two thirds.
        for _ in range(count):
            side = 1 if rng.random() < 0.7 else -1
            erosions.append((rng.uniform(0.35, 0.97), side, rng.uniform(low_mm, high_mm), attenuation * rng.uniform(0.7, 1.2)))

    if grade == 0:
        space *= rng.uniform(0.9, 1.1)
        if rng.random() < 0.3:  # the faint density of load that healthy joints show
            sclerosis.append((rng.uniform(0.5, 0.9), 0.15, 0.06))
    elif grade == 1:
        space, margin, blur = 0.92, 0.65, 1.5
        sclerosis.append((rng.uniform(0.4, 0.9), 0.14, 0.11 * strength))
        erode(int(rng.integers(0, 2)), 1.2, 1.8, 0.15)
    elif grade == 2:
        space, margin, blur = 0.85, 0.5, 1.6
        sclerosis += [
            (rng.uniform(0.4, 0.92), rng.uniform(0.12, 0.18), rng.uniform(0.26, 0.36) * strength)
            for _ in range(int(rng.integers(1, 3)))
        ]
        erode(int(rng.integers(2, 5)), 1.5, 2.6, 0.26)
        depth_mm = rng.uniform(7.0, 11.0)
    elif grade == 3:
        margin, blur = 0.25, 2.0
        width = rng.uniform(1.7, 2.4) if rng.random() < 0.5 else rng.uniform(0.4, 0.6)
        space = 0.8 - 0.3 * within
        sclerosis.append((rng.uniform(0.55, 0.75), rng.uniform(0.28, 0.4), rng.uniform(0.42, 0.6) * strength))
        sclerosis.append((rng.uniform(0.3, 0.9), 0.15, rng.uniform(0.1, 0.25) * strength))
        erode(int(rng.integers(6, 12)), 2.0, 4.2, 0.34)
        bridges = [(rng.uniform(0.4, 0.95), rng.uniform(0.05, 0.1)) for _ in range(int(rng.integers(0, 3) + (within > 0)))]
        depth_mm = rng.uniform(10.0, 16.0)
    else:
        space, margin = 0.08 * rng.random(), 0.06 * rng.random()
        sclerosis.append((rng.uniform(0.5, 0.7), 0.5, rng.uniform(0.1, 0.26)))
        depth_mm = rng.uniform(10.0, 16.0)
    return Appearance(space, width, margin, blur, tuple(sclerosis), depth_mm, tuple(erosions), tuple(bridges))


def joint_attenuation(rng: np.random.Generator, joint: Joint, look: Appearance, x_mm: Plane, y_mm: Plane) -> Plane:
    """The attenuation that a joint adds (margins, sclerosis) and takes away (joint space, erosions).

    Args:
        rng: Draws the unevenness of the margins.
        joint: Its course.
        look: Its lesions.
        x_mm: Distance from the midline to this side, float32 (height, width).
        y_mm: Position towards the feet, the same shape.

    Returns:
        Attenuation to add, float32 (height, width), in units of the average soft tissue depth.
    """
    place = (y_mm - JOINT_TOP_MM) / LENGTH_MM
    within = _ramp(place, -0.02, 0.06) * _ramp(1.02 - place, 0.0, 0.06)
    # Worn margins are uneven: a sum of short waves, stronger where erosions are.
    roughness_mm = 0.15 + 0.09 * len(look.erosions)
    waves = np.zeros_like(place)
    for frequency in (5.0, 9.0, 14.0):
        waves += np.sin(np.float32(2 * np.pi * frequency) * place + np.float32(rng.uniform(0, 2 * np.pi)))
    across: Plane = np.asarray(x_mm - joint.line(y_mm) + roughness_mm / 2 * waves, dtype=np.float32)
    half = joint.width_mm * look.width_factor / 2.0
    open_share = np.ones_like(place)
    for at, length in look.bridges:
        open_share *= 1.0 - np.exp(-(((place - at) / length) ** 4))

    # Below, the beam runs along the joint and the space is darkest; above it crosses obliquely, and two fainter lines appear.
    lower = 0.55 + 0.45 * _ramp(place, 0.25, 0.6)
    total: Plane = -SPACE_DEPTH * look.space * lower * open_share * _band(across, half, 0.7)
    for edge in (-half - 0.9, half + 0.9):
        total += MARGIN_HEIGHT * look.margin * open_share * _gauss(across - edge, look.margin_blur_mm)
    across_second: Plane = x_mm - joint.second_line(y_mm)
    upper = 1.0 - _ramp(place, 0.4, 0.62)
    total -= 0.5 * SPACE_DEPTH * look.space * upper * _band(across_second, 0.8 * joint.width_mm / 2, 0.9)
    for edge in (-2.6, 2.6):
        total += 0.45 * MARGIN_HEIGHT * look.margin * upper * _gauss(across_second - edge, look.margin_blur_mm)

    total *= within

    outside = np.maximum(np.abs(across) - half, 0.0)
    fading = _ramp(place, -0.05, 0.15) * _ramp(1.08 - place, 0.0, 0.22)
    iliac = np.where(across > 0, 1.0, 0.55)
    inside_bone = np.clip(np.abs(across) / (half + 0.5), 0.0, 1.0)
    for at, spread, attenuation in look.sclerosis:
        along = fading * np.exp(-0.5 * ((place - at) / spread) ** 2)
        total += attenuation * along * iliac * inside_bone * np.exp(-((outside / look.sclerosis_depth_mm) ** 2))
    for at, side, radius, attenuation in look.erosions:
        distance = ((across - side * (half + 0.5 * radius)) / radius) ** 2 + ((place - at) * LENGTH_MM / (1.3 * radius)) ** 2
        total -= attenuation * np.exp(-(distance**2))
    return total


def _ramp(value: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def _band(across: Plane, half: float, edge: float) -> Plane:
    return np.asarray(0.5 * (np.tanh((across + half) / edge) - np.tanh((across - half) / edge)), dtype=np.float32)


def _gauss(across: Plane, sigma: float) -> Plane:
    return np.asarray(np.exp(-0.5 * (across / sigma) ** 2), dtype=np.float32)
