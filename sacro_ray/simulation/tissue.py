"""Attenuation of what surrounds the bones: the body's depth, the psoas, uneven fat, and the bowel gas that takes some away."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sacro_ray.simulation.anatomy import Anatomy
from sacro_ray.simulation.position import Position

Plane = NDArray[np.float32]


def tissue_attenuation(rng: np.random.Generator, anatomy: Anatomy, position: Position) -> Plane:
    """Attenuation of soft tissue, float32 (height, width), about 1 in the middle of an average patient, and less behind gas."""
    x, y = position.coarse_mm()
    body = np.clip(1 - (x / anatomy.half_width_mm) ** 2, 0, 1)
    depth = anatomy.thickness * (0.25 * np.sqrt(body) + 0.75 * body)
    depth *= 1 - 0.6 * np.clip((y - 165) / 25, 0, 1) * np.exp(-((x / 22) ** 2))  # between the thighs
    psoas_edge = 60 + 0.35 * (y + 100) - np.abs(x)
    depth += 0.06 * np.clip(psoas_edge / 6, 0, 1) * np.clip((40 - y) / 80, 0, 1)
    # The anode's heel and uneven fat.
    depth *= 1 + rng.normal(0, 0.05) * x / 150 + rng.normal(0, 0.05) * y / 150
    fat = gaussian_filter(rng.standard_normal((20, 20), dtype=np.float32), 2.0)
    tissue = position.refine(depth.astype(np.float32)) + position.refine(0.05 * fat / fat.std())
    _take_gas(rng, position, tissue)
    return tissue


def _take_gas(rng: np.random.Generator, position: Position, tissue: Plane) -> None:
    """Take away gas in place: ascending and descending colon, rectum, and loops that may lie over a joint."""
    places = [(-108.0, -70.0), (114.0, -55.0), (rng.normal(0, 12), 50.0)]
    places += [(rng.normal(0, 55), rng.normal(-45, 35)) for _ in range(int(rng.integers(0, 5)))]
    for x0, y0 in places:
        if rng.random() < 0.25:
            continue
        window, x, y = position.around(x0, y0, 50.0, 50.0)
        cluster = np.zeros_like(x)
        for _ in range(int(rng.integers(2, 7))):
            angle, (rx, ry) = rng.uniform(0, np.pi), rng.uniform(5, 15, 2)
            dx, dy = x - np.float32(rng.normal(x0, 11)), y - np.float32(rng.normal(y0, 14))
            cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            distance = ((dx * cos + dy * sin) / np.float32(rx)) ** 2 + ((dy * cos - dx * sin) / np.float32(ry)) ** 2
            np.maximum(cluster, np.clip(1.6 * (1 - distance), 0, 1), out=cluster)
        tissue[window] -= np.float32(rng.uniform(0.08, 0.32)) * cluster
