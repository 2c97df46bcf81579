"""The pelvis seen from the front: outlines in millimetres, different from patient to patient.

Coordinates are the patient's own: the origin is the middle of the second sacral segment, y points to the feet, and x points away from
the midline on either side (the outlines of one half are mirrored). The measures are those of an adult pelvis, about 280 mm between the
iliac crests; the female pelvis is wider at the inlet and less tall.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sex = Literal["male", "female"]
Points = NDArray[np.float64]

JOINT_TOP_MM, JOINT_BOTTOM_MM = -42.0, 38.0

# One half of each bone, x away from the midline and y to the feet, millimetres.
SACRUM = [(0, -45), (24, -49), (30, -43), (41, -46), (53, -42), (51, -20), (45, 8), (36, 38), (31, 50), (21, 68), (10, 82)]
COCCYX = [(0, 78), (9, 82), (6, 94), (4, 106), (0, 110)]
ILIUM = [
    (53, -42), (51, -20), (45, 8), (36, 38), (41, 50), (54, 66), (66, 82), (73, 100), (82, 96), (94, 84), (110, 84), (120, 90),
    (115, 68), (120, 50), (127, 30), (139, 8), (147, -14), (143, -48), (126, -80), (102, -97), (80, -97), (63, -84), (54, -64),
]  # fmt: skip
PUBIS = [
    (66, 84), (48, 103), (24, 118), (4, 125), (3, 162), (14, 168), (30, 184), (48, 206), (66, 208), (78, 194), (80, 160),
    (86, 128), (78, 100),
]  # fmt: skip
POSTERIOR_ILIUM = [(54, -60), (46, -54), (41, -40), (40, -26), (43, -14), (49, -12), (53, -30)]  # behind the sacral ala
OBTURATOR_FORAMEN = [(28, 136), (46, 122), (64, 130), (66, 156), (54, 182), (40, 172), (27, 154)]
FEMUR = [
    (104, 88), (120, 104), (136, 100), (148, 104), (154, 122), (150, 150), (144, 200), (116, 200), (118, 160), (108, 140), (92, 132),
]  # fmt: skip
FEMORAL_HEAD = (96.0, 110.0, 24.0)
VERTEBRA = [(0, -14), (24, -14), (27, -12), (24, 0), (27, 12), (24, 14), (0, 14)]
TRANSVERSE_PROCESS = [(23, -9), (38, -12), (52, -14), (53, -8), (40, -3), (24, 3)]
FORAMINA = [(20.0, -23.0, 6.0), (17.5, -2.0, 5.5), (15.0, 18.0, 5.0), (13.0, 35.0, 4.0)]


@dataclass(frozen=True)
class Joint:
    """The course of one sacroiliac joint: x of its line, in mm from the midline, as a polynomial of y in mm."""

    side: Literal[-1, 1]
    course: Points
    divergence_mm: float
    width_mm: float

    def line(self, y_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance of the joint line from the midline at each y, mm, as float32."""
        return np.polyval(self.course, y_mm).astype(np.float32)

    def second_line(self, y_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """The posterior border of the oblique joint: medial of the anterior one above, and one with it in the lower third."""
        share = np.clip((12.0 - y_mm) / (12.0 - JOINT_TOP_MM), 0.0, 1.0)
        return np.asarray(self.line(y_mm) - self.divergence_mm * share, dtype=np.float32)


@dataclass(frozen=True)
class Anatomy:
    """One patient's pelvis.

    Attributes:
        outlines: Bone name to closed polygons, each float64 (n, 2) of x and y in mm, x negative on the patient's right.
        foramina: (n, 4) of x, y, radius in mm and depth (share of the usual contrast) of the sacral foramina.
        joints: The patient's right and left joint.
        half_width_mm: Half the breadth of the body.
        thickness: Depth of soft tissue over that of an average patient.
    """

    outlines: dict[str, list[Points]]
    foramina: Points
    joints: tuple[Joint, Joint]
    half_width_mm: float
    thickness: float


def smooth_outline(points: Points, per_segment: int = 6) -> Points:
    """A closed Catmull-Rom curve through (n, 2) points: (n * per_segment, 2), still through each of them."""
    before, after, second = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = (np.arange(per_segment) / per_segment)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, points, after, second))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return np.asarray(curve.reshape(-1, 2))


def sample_anatomy(rng: np.random.Generator, sex: Sex) -> Anatomy:
    """Draw a patient's pelvis: size and proportions by sex, then the outlines moved by a millimetre or two, each side for itself."""
    size = rng.normal(1.0, 0.045)
    breadth = size * (1.03 if sex == "female" else 1.0) * rng.normal(1.0, 0.025)
    height = size * (0.93 if sex == "female" else 1.0) * rng.normal(1.0, 0.03)
    scale = np.array([breadth, height])

    def both_sides(half: list[tuple[int, int]], midline: bool, shift: tuple[float, float] = (0.0, 0.0)) -> list[Points]:
        """Left and right outline with jitter of their own; bones that cross the midline become one outline."""
        points = (np.array(half, dtype=float) + shift) * scale
        sides = [points + rng.normal(0.0, 1.2, points.shape) * (points[:, :1] > 1.0) for _ in range(2)]
        right = sides[0] * [-1, 1]
        if midline:
            return [smooth_outline(np.concatenate([right, sides[1][::-1]]))]
        return [smooth_outline(right), smooth_outline(sides[1])]

    lumbar_tilt = rng.normal(0.0, 1.5)
    outlines = {
        "sacrum": both_sides(SACRUM, midline=True),
        "coccyx": both_sides(COCCYX, midline=True),
        "ilium": both_sides(ILIUM, midline=False),
        "posterior_ilium": both_sides(POSTERIOR_ILIUM, midline=False),
        "pubis": both_sides(PUBIS, midline=False),
        "obturator_foramen": both_sides(OBTURATOR_FORAMEN, midline=False),
        "femur": both_sides(FEMUR, midline=False),
        "vertebra": [
            outline + np.array([lumbar_tilt * level, 0.0])
            for level, y in enumerate((-68.0, -108.0, -148.0))
            for outline in both_sides(VERTEBRA, midline=True, shift=(0.0, y))
        ],
        "transverse_process": [
            outline + np.array([lumbar_tilt * level, 0.0])
            for level, y in enumerate((-68.0, -108.0, -148.0))
            for outline in both_sides(TRANSVERSE_PROCESS, midline=False, shift=(0.0, y))
        ],
        "femoral_head": [_circle(side * FEMORAL_HEAD[0], *FEMORAL_HEAD[1:]) * scale for side in (-1, 1)],
    }
    foramina = [
        (
            side * x * breadth + rng.normal(0, 0.8),
            y * height + rng.normal(0, 0.8),
            r * rng.uniform(0.8, 1.2),
            rng.uniform(0.5, 1.2),
        )
        for side in (-1, 1)
        for x, y, r in FORAMINA
    ]
    divergence, width = rng.normal(10.0, 2.0), rng.normal(3.4, 0.3)
    right, left = (_sample_joint(rng, side, scale, divergence, width) for side in (-1, 1))
    thickness = float(np.clip(rng.normal(1.0, 0.14), 0.72, 1.45))
    half_width = (178.0 if sex == "female" else 170.0) * breadth * np.sqrt(thickness)
    return Anatomy(outlines, np.array(foramina), (right, left), float(half_width), thickness)


def _sample_joint(rng: np.random.Generator, side: int, scale: Points, divergence: float, width: float) -> Joint:
    y = np.array([-42.0, -20.0, 8.0, 38.0]) * scale[1]
    x = np.array([53.0, 51.0, 45.0, 36.0]) * scale[0]
    course = np.polyfit(y, x + rng.normal(0.0, 0.7, 4), 3)
    return Joint(-1 if side < 0 else 1, course, max(4.0, divergence + rng.normal(0, 1.0)), max(2.5, width + rng.normal(0, 0.2)))


def _circle(x: float, y: float, radius: float) -> Points:
    angle = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
