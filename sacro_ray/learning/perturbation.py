"""Slight changes of test images, as another room, tube or technician might bring them: does the model hold?"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

NOISE_SEED = 0


def _noise(images: Tensor) -> Tensor:
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
    return (images.float() + drawn * (0.05 * 255)).round().clamp(0, 255).to(torch.uint8)


def _half_resolution(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    small = F.resize(images, [max(1, height // 2), max(1, width // 2)], antialias=True)
    whole: Tensor = F.resize(small, [height, width], antialias=True)
    return whole


PERTURBATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "rotation 5°": lambda images: F.rotate(images, 5.0, InterpolationMode.BILINEAR),
    "blur, SD 1 px": lambda images: F.gaussian_blur(images, [7, 7], [1.0, 1.0]),
    "noise, SD 5 % of the range": _noise,
    "contrast 0.8": lambda images: F.adjust_contrast(images, 0.8),
    "half the resolution": _half_resolution,
}
"""By name: uint8 (N, 1, H, W) -> the same shape and type."""


def perturbed(images: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Each perturbation's name and the images, uint8 (N, H, W), that it makes of `images`."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1)
    for name, change in PERTURBATIONS.items():
        yield name, change(batch).squeeze(1).numpy()
