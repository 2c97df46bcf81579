"""Random changes of a training batch, on the device: one resampling for all of the geometry, one affine change of grey levels.

Source: Bressem et al. 2021, Model training: flipping, rotation of up to 10 degrees, magnification of up to 1.1, lighting and warping.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sacro_ray.config import Augmentation

DRAWS = 15
"""Random numbers a radiograph: flip, rotation, zoom, two for its centre, eight for the corners of the warp, brightness, contrast."""
CHANGES = 11
"""Numbers that come of these: nine of a homography, brightness, contrast."""


def draw(count: int, generator: torch.Generator) -> Tensor:
    """All random numbers of `count` radiographs: float (count, DRAWS), uniform in [0, 1)."""
    return torch.rand((count, DRAWS), generator=generator)


def geometry(draws: Tensor, settings: Augmentation) -> Tensor:
    """Homographies from places in the output to places in the input, both in [-1, 1] as in `grid_sample`.

    Args:
        draws: float (N, DRAWS) in [0, 1), from `draw`.
        settings: Strengths; all zero (zoom 1) gives identities.

    Returns:
        float (N, 3, 3), acting on columns (x, y, 1).
    """
    count = len(draws)
    flip = torch.where(draws[:, 0] < settings.flip_probability, -1.0, 1.0)
    angle = torch.deg2rad((2 * draws[:, 1] - 1) * settings.rotation_degrees)
    zoom = 1 + draws[:, 2] * (settings.zoom - 1)
    # The magnified view may lie anywhere inside the picture.
    centre = (2 * draws[:, 3:5] - 1) * (1 - 1 / zoom)[:, None]
    matrix = torch.zeros(count, 3, 3)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = flip * angle.cos() / zoom, -flip * angle.sin() / zoom, centre[:, 0]
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = angle.sin() / zoom, angle.cos() / zoom, centre[:, 1]
    matrix[:, 2, 2] = 1
    return matrix @ warp((2 * draws[:, 5:13] - 1).reshape(count, 4, 2) * settings.warp)


def changes_from(draws: Tensor, settings: Augmentation) -> Tensor:
    """What `augment` does to each radiograph: float (N, CHANGES), its homography row by row, brightness, contrast."""
    lighting = (2 * draws[:, 13:15] - 1) * settings.lighting
    return torch.cat([geometry(draws, settings).flatten(1), lighting[:, :1] / 2, 1 + lighting[:, 1:]], dim=1)


def warp(shift: Tensor) -> Tensor:
    """The homography that moves the corners (-1,-1), (1,-1), (1,1), (-1,1) by `shift`: float (N, 4, 2) -> (N, 3, 3)."""
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], device=shift.device)
    u, v = (corners + shift).unbind(-1)
    x, y = corners.unbind(-1)
    one, zero = torch.ones_like(u), torch.zeros_like(u)
    x, y = x.expand_as(u), y.expand_as(v)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    solution = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], dim=1).reshape(-1, 3, 3)


def resample(images: Tensor, homographies: Tensor) -> Tensor:
    """Move images: output(p) = image(homography(p)), bilinear, mirrored beyond the border.

    Args:
        images: float (N, 1, H, W).
        homographies: float (N, 3, 3), from `geometry`, on the device of the images.
    """
    height, width = images.shape[-2:]
    x, y = pixel_centres(width, images.device), pixel_centres(height, images.device)
    # No matrix product: GPUs may round its factors to ten bits, which would move a point by a fifth of a pixel.
    columns = homographies[..., None, None]
    moved = columns[:, :, 0] * x + (columns[:, :, 1] * y[:, None] + columns[:, :, 2])
    grid = (moved[:, :2] / moved[:, 2:]).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@cache
def pixel_centres(count: int, device: torch.device) -> Tensor:
    """Of a row or a column in [-1, 1], as in grid_sample with align_corners=False: float (count,)."""
    return (torch.arange(count, device=device) + 0.5) * (2 / count) - 1


def augment(batch: Tensor, changes: Tensor) -> Tensor:
    """A training batch as the network takes it.

    Args:
        batch: uint8 (N, H, W).
        changes: float (N, CHANGES), from `changes_from`, on the device of the batch.

    Returns:
        float32 (N, 1, H, W) in [0, 1].
    """
    images = resample(as_input(batch), changes[:, :9].unflatten(1, (3, 3)))
    brightness, contrast = changes[:, 9:, None, None, None].unbind(1)
    mean = images.mean(dim=(2, 3), keepdim=True)
    return torch.addcmul(mean * (1 - contrast) + brightness, images, contrast).clamp_(0, 1)


def as_input(batch: Tensor) -> Tensor:
    """uint8 (N, H, W) -> float32 (N, 1, H, W) in [0, 1]."""
    return batch.unsqueeze(1).to(torch.float32).div_(255)
