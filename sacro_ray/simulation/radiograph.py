"""Render one AP pelvic radiograph: bone, joints and soft tissue add up to attenuation, the site's style turns it into 12-bit grey."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from skimage.draw import polygon

from sacro_ray.simulation.acquisition import MAXIMUM, Style, collimated, develop
from sacro_ray.simulation.anatomy import JOINT_BOTTOM_MM, JOINT_TOP_MM, Anatomy, Points, Sex, sample_anatomy
from sacro_ray.simulation.joints import joint_attenuation, sample_appearance

Plane = NDArray[np.float32]

# Attenuation of each bone in units of the average soft tissue depth; the overlap of bones adds up.
BONE = {
    "sacrum": 0.62,
    "ilium": 0.62,
    "coccyx": 0.22,
    "vertebra": 0.42,
    "transverse_process": 0.16,
    "pubis": 0.5,
    "femur": 0.48,
    "femoral_head": 0.34,
}
BONE_BLUR_MM, CORTEX_MM = 0.7, 2.4


@dataclass(frozen=True)
class Position:
    """Where the pelvis lies in the image: mm to pixels by spacing, rotation and shift."""

    height: int
    width: int
    spacing_mm: float
    angle: float
    centre_px: tuple[float, float]

    def to_pixels(self, points_mm: Points) -> Points:
        """(n, 2) of x and y in mm to (n, 2) of x and y in pixels."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = points_mm @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned / self.spacing_mm + self.centre_px)

    def grid_mm(self) -> tuple[Plane, Plane]:
        """X and y in mm of each pixel, float32 (height, width) each."""
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        x, y = (x - self.centre_px[0]) * self.spacing_mm, (y - self.centre_px[1]) * self.spacing_mm
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (x * cos + y * sin).astype(np.float32), (y * cos - x * sin).astype(np.float32)


def sample_position(rng: np.random.Generator, style: Style, size_px: int) -> Position:
    """Draw field, rotation and shift; the image's longest side is at most `size_px`."""
    field_mm, aspect = rng.uniform(*style.field_mm), rng.uniform(*style.aspect)
    longest = round(size_px * rng.uniform(*style.relative_size))
    width = round(longest / max(1.0, aspect))
    height = round(width * aspect)
    spacing = field_mm / width
    # The pelvis is centred a little below the sacroiliac joints, as the central ray is.
    shift = rng.normal(0.0, 7.0, 2) + [0.0, -14.0]
    centre = (width / 2 + shift[0] / spacing, height / 2 + shift[1] / spacing)
    return Position(height, width, spacing, float(np.deg2rad(rng.normal(0.0, 2.2))), centre)


def render_radiograph(
    rng: np.random.Generator, severity_right: float, severity_left: float, sex: Sex, style: Style, size_px: int = 640
) -> tuple[NDArray[np.uint16], float]:
    """Render one radiograph.

    Args:
        rng: The only source of chance: the same state gives the same pixels.
        severity_right: Severity of the patient's right joint (left in the image), 0 to 4; rounded it is the modified New York grade.
        severity_left: The same of the patient's left joint.
        sex: Shapes the pelvis.
        style: The site's way of taking radiographs.
        size_px: Longest side at most.

    Returns:
        uint16 (height, width), 0 to 4095, bone bright, and the pixel spacing in mm.
    """
    anatomy = sample_anatomy(rng, sex)
    position = sample_position(rng, style, size_px)
    x_mm, y_mm = position.grid_mm()
    tissue = _soft_tissue(rng, anatomy, x_mm, y_mm)
    bone = _bones(rng, anatomy, position, x_mm, y_mm)
    for joint, severity in zip(anatomy.joints, (severity_right, severity_left), strict=True):
        rows, columns = _window(position, joint.side)
        look = sample_appearance(rng, severity)
        bone[rows, columns] += joint_attenuation(rng, joint, look, x_mm[rows, columns] * joint.side, y_mm[rows, columns])
    attenuation = tissue + np.maximum(bone, 0.0) - _bowel_gas(rng, x_mm, y_mm)
    exposed = collimated(rng, position.height, position.width, style)
    grey = develop(rng, np.maximum(attenuation, 0.0).astype(np.float32), style, exposed)
    return np.rint(grey * MAXIMUM).astype(np.uint16), position.spacing_mm


def _window(position: Position, side: int) -> tuple[slice, slice]:
    """The pixels around one joint: rows and columns."""
    corners = np.array([[side * x, y] for x in (10.0, 85.0) for y in (JOINT_TOP_MM * 1.2, JOINT_BOTTOM_MM * 1.2)])
    pixels = position.to_pixels(corners)
    low, high = np.floor(pixels.min(0)).astype(int), np.ceil(pixels.max(0)).astype(int)
    rows = slice(max(0, low[1]), max(0, min(position.height, high[1])))
    return rows, slice(max(0, low[0]), max(0, min(position.width, high[0])))


def _fill(position: Position, outline_mm: Points) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    points = position.to_pixels(outline_mm)
    rows, columns = polygon(points[:, 1], points[:, 0], shape=(position.height, position.width))
    return rows, columns


def _bones(rng: np.random.Generator, anatomy: Anatomy, position: Position, x_mm: Plane, y_mm: Plane) -> Plane:
    """Attenuation of the bones: flat shapes, bright cortical rims, foramina, trabecular texture."""
    shape = (position.height, position.width)
    ring, others = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for name, outlines in anatomy.outlines.items():
        for outline in outlines:
            rows, columns = _fill(position, outline)
            if name in ("sacrum", "ilium"):
                # Sacrum and ilium meet without an edge: the joint between them is drawn by its own grade.
                ring[rows, columns] = BONE[name]
            elif name == "obturator_foramen":
                others[rows, columns] = 0.0
            else:
                others[rows, columns] += BONE[name]
    # The wing is thin in the iliac fossa and thick along crest, joint and acetabular roof.
    ax = np.abs(x_mm)
    fossa = np.exp(-(((ax - 92.0) / 30.0) ** 2) - ((y_mm + 32.0) / 48.0) ** 2)
    beside_joint = np.exp(-(((ax - 58.0) / 16.0) ** 2) - ((y_mm - 0.0) / 50.0) ** 2)
    column = np.exp(-(((ax - 88.0) / 20.0) ** 2) - ((y_mm - 72.0) / 26.0) ** 2)
    coarse = ring * (1.0 - 0.55 * fossa + 0.12 * beside_joint + 0.4 * column) + others
    blur = BONE_BLUR_MM / position.spacing_mm
    fine = gaussian_filter(coarse, blur, truncate=2.5)
    wide = gaussian_filter(fine, CORTEX_MM / position.spacing_mm, truncate=2.5)
    rim = np.maximum(fine - wide, 0.0)
    for x, y, radius, depth in anatomy.foramina:
        distance = np.hypot(x_mm - x, (y_mm - y) * 1.25) / radius
        inside = np.clip(1.25 - distance, 0.0, 1.0)
        arc = np.exp(-(((distance - 1.25) / 0.22) ** 2)) * (y_mm < y + 0.2 * radius)
        fine += np.float32(depth) * (0.14 * arc - 0.2 * inside)
    for y, length in ((-30.0, 9.0), (-9.0, 8.0), (11.0, 7.0), (29.0, 6.0), (-62.0, 11.0), (-100.0, 11.0)):  # spinous processes
        middle = rng.normal(0.0, 1.2)
        fine += 0.16 * np.exp(-((((x_mm - middle) / 3.2) ** 2 + ((y_mm - y) / length) ** 2) ** 2))
    for y in (-77.0, -115.0):  # pedicles
        for side in (-1, 1):
            distance = np.hypot((x_mm - side * 16.0) / 0.75, y_mm - y)
            fine += 0.12 * np.exp(-(((distance - 6.0) / 1.6) ** 2))
    grain = rng.standard_normal(shape, dtype=np.float32)
    texture = gaussian_filter(grain, 0.6 / position.spacing_mm, truncate=2.5) - gaussian_filter(
        grain, 2.0 / position.spacing_mm, truncate=2.5
    )
    texture /= max(float(texture.std()), 1e-6)
    return np.asarray(fine + 0.9 * rim + 0.055 * texture * np.minimum(wide, 0.8), dtype=np.float32)


def _soft_tissue(rng: np.random.Generator, anatomy: Anatomy, x_mm: Plane, y_mm: Plane) -> Plane:
    """Body outline, psoas and gluteal shadows, uneven fat: attenuation about 1 in the middle of an average patient."""
    across = np.clip(1.0 - (x_mm / anatomy.half_width_mm) ** 2, 0.0, 1.0)
    total = anatomy.thickness * (0.25 * np.sqrt(across) + 0.75 * across)
    for side in (-1, 1):
        psoas = 45.0 + 0.35 * (y_mm + 100.0)
        total += 0.07 * np.clip((psoas + 14.0 - np.abs(x_mm * 1.0)) / 6.0, 0.0, 1.0) * (y_mm < 60.0) * (np.sign(x_mm) == side)
    between_thighs = np.clip((y_mm - 165.0) / 25.0, 0.0, 1.0) * np.exp(-((x_mm / 22.0) ** 2))
    total *= 1.0 - 0.6 * between_thighs
    coarse = gaussian_filter(rng.standard_normal((20, 20), dtype=np.float32), 2.0)
    clouds = zoom(coarse / coarse.std(), (x_mm.shape[0] / 20, x_mm.shape[1] / 20), order=1)
    heel = rng.normal(0.0, 0.05) * x_mm / 150.0 + rng.normal(0.0, 0.05) * y_mm / 150.0
    return np.asarray(total * (1.0 + heel) + 0.05 * clouds[: x_mm.shape[0], : x_mm.shape[1]], dtype=np.float32)


def _bowel_gas(rng: np.random.Generator, x_mm: Plane, y_mm: Plane) -> Plane:
    """Attenuation that gas takes away: ascending and descending colon, rectum and loops that may lie over a joint."""
    gas = np.zeros_like(x_mm)
    places = [(-105.0, -70.0), (112.0, -55.0), (rng.normal(0.0, 12.0), 45.0)]
    places += [(rng.normal(0.0, 50.0), rng.normal(-40.0, 35.0)) for _ in range(int(rng.integers(1, 5)))]
    for x0, y0 in places:
        if rng.random() < 0.3:
            continue
        depth = rng.uniform(0.08, 0.3)
        cluster = np.zeros_like(gas)
        for _ in range(int(rng.integers(2, 6))):
            x, y = rng.normal(x0, 11.0), rng.normal(y0, 14.0)
            rx, ry, angle = rng.uniform(5.0, 13.0), rng.uniform(5.0, 13.0), rng.uniform(0.0, np.pi)
            u = (x_mm - x) * np.cos(angle) + (y_mm - y) * np.sin(angle)
            v = (y_mm - y) * np.cos(angle) - (x_mm - x) * np.sin(angle)
            np.maximum(cluster, np.clip(3.0 * (1.0 - (u / rx) ** 2 - (v / ry) ** 2), 0.0, 1.0), out=cluster)
        gas += np.float32(depth) * cluster
    return gas
