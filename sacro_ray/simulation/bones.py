"""Attenuation of the bones: flat shapes of different thickness, bright cortical rims, foramina and processes, trabecular texture."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sacro_ray.simulation.anatomy import Anatomy
from sacro_ray.simulation.position import Position

Plane = NDArray[np.float32]

# Attenuation in units of the average soft tissue depth; where bones overlap it adds up.
ATTENUATION = {
    "coccyx": 0.2,
    "vertebra": 0.36,
    "transverse_process": 0.14,
    "pubis": 0.46,
    "posterior_ilium": 0.09,
}
PELVIC_RING = 0.62  # sacrum and ilium, which meet without an edge: the joint between them is drawn by its own grade
FEMUR = 0.44  # head and shaft are one bone
EDGE_MM, CORTEX_MM = 0.7, 2.4  # unsharpness of an outline, and the depth of the cortical bone that shows beside it
SPINOUS_PROCESSES_MM = [(-30, 9), (-9, 8), (11, 7), (29, 6), (-58, 11), (-98, 11)]  # y and half length, at the midline
PEDICLES_MM = [(side * 16.0, y) for y in (-70.0, -110.0) for side in (-1, 1)]


def bone_attenuation(rng: np.random.Generator, anatomy: Anatomy, position: Position) -> Plane:
    """Attenuation of all bones without the sacroiliac joints, float32 (height, width)."""
    shape = (position.height, position.width)
    ring, femora, others = (np.zeros(shape, np.float32) for _ in range(3))
    for name, outlines in anatomy.outlines.items():
        for outline in outlines:
            window, inside = position.inside(outline)
            if name in ("sacrum", "ilium"):
                ring[window][inside] = PELVIC_RING
            elif name in ("femur", "femoral_head"):
                femora[window][inside] = FEMUR
            elif name == "obturator_foramen":
                others[window][inside] = 0.0
            else:
                others[window][inside] += np.float32(ATTENUATION[name])
    flat = ring * position.refine(_thickness(*position.coarse_mm())) + femora + others
    bone: Plane = gaussian_filter(flat, EDGE_MM / position.spacing_mm, truncate=2.5)
    wide = gaussian_filter(bone, CORTEX_MM / position.spacing_mm, truncate=2.0)
    texture = _texture(rng, position) * np.minimum(wide, 0.8)
    bone += np.maximum(bone - wide, 0.0) * 1.1 + 0.05 * texture
    _add_details(rng, anatomy, position, bone)
    return bone


def _thickness(x_mm: Plane, y_mm: Plane) -> Plane:
    """Relative thickness: thin in the iliac fossa and the lower sacrum, thick beside the joint and above the acetabulum."""
    x = np.abs(x_mm)
    fossa = np.exp(-(((x - 94) / 28) ** 2) - ((y_mm + 34) / 42) ** 2)
    beside_joint = np.exp(-(((x - 60) / 15) ** 2) - (y_mm / 50) ** 2)
    column = np.exp(-(((x - 88) / 20) ** 2) - ((y_mm - 72) / 26) ** 2)
    lower_sacrum = np.exp(-((x / 30) ** 2)) * np.clip((y_mm + 10) / 90, 0, 1)
    return np.asarray(1 - 0.6 * fossa + 0.12 * beside_joint + 0.35 * column - 0.35 * lower_sacrum, dtype=np.float32)


def _texture(rng: np.random.Generator, position: Position) -> Plane:
    """Trabecular texture of standard deviation 1: noise between 1 and 3 mm."""
    grain = rng.standard_normal((position.height, position.width), dtype=np.float32)
    fine = gaussian_filter(grain, 0.8 / position.spacing_mm, truncate=2.0)
    fine -= gaussian_filter(fine, 1.8 / position.spacing_mm, truncate=2.0)
    return np.asarray(fine / (fine.std() + 1e-6), dtype=np.float32)


def _add_details(rng: np.random.Generator, anatomy: Anatomy, position: Position, bone: Plane) -> None:
    """Add sacral foramina (dark, with a bright arcuate line above), spinous processes and pedicles in place."""
    for x0, y0, radius, depth in anatomy.foramina:
        window, x, y = position.around(x0, y0, 2.2 * radius, 2.2 * radius)
        distance = np.hypot(x - x0, (y - y0) * 1.25) / radius
        arc = np.exp(-(((distance - 1.25) / 0.24) ** 2)) * np.clip((y0 - y) / radius + 0.6, 0, 1)
        bone[window] += depth * (0.13 * arc - 0.2 * np.clip(1.25 - distance, 0, 1))
    for y0, half_length in SPINOUS_PROCESSES_MM:
        window, x, y = position.around(0.0, y0, 7.0, 1.5 * half_length)
        bone[window] += 0.14 * np.exp(-((((x - rng.normal(0, 1.2)) / 3.2) ** 2 + ((y - y0) / half_length) ** 2) ** 2))
    for x0, y0 in PEDICLES_MM:
        window, x, y = position.around(x0, y0, 10.0, 12.0)
        bone[window] += 0.1 * np.exp(-(((np.hypot((x - x0) / 0.75, y - y0) - 6) / 1.6) ** 2))
