"""Grad-CAM: where on a radiograph the network found what speaks for definite radiographic sacroiliitis.

Source: Bressem et al. 2021, Model evaluation and explanation; Selvaraju et al. 2017 (doi:10.1109/ICCV.2017.74), computed by captum.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import interpolate

from sacro_ray.learning.augmentation import as_input
from sacro_ray.learning.network import SacroiliitisNet
from sacro_ray.learning.place import Place

EXPLANATION_BATCH = 8
"""Radiographs explained at a time, in 32-bit floating point."""


def grad_cam(network: SacroiliitisNet, images: NDArray[np.uint8], place: Place) -> NDArray[np.float32]:
    """Grad-CAM maps of the last convolutional block for the logit of definite sacroiliitis.

    Args:
        network: In evaluation mode, on the place's device; left as it was.
        images: uint8 (N, H, W), as the network is given them.
        place: Whose device computes.

    Returns:
        float32 (N, H, W) in [0, 1] at the size of the input: 1 at the place that speaks most for sacroiliitis, 0 where nothing does.
        A radiograph on which nothing speaks for it has zeros throughout.
    """
    maps = np.empty(images.shape, dtype=np.float32)
    with _only_last_gradients(network), torch.enable_grad():
        explainer = LayerGradCam(network, network.body.layer4)
        for start in range(0, len(images), EXPLANATION_BATCH):
            chosen = slice(start, start + EXPLANATION_BATCH)
            batch = as_input(torch.from_numpy(np.ascontiguousarray(images[chosen])).to(place.device))
            coarse = explainer.attribute(batch, relu_attributions=True).detach().float()
            maps[chosen] = interpolate(coarse, size=images.shape[1:], mode="bilinear", align_corners=False)[:, 0].cpu().numpy()
    largest = maps.max(axis=(1, 2), keepdims=True)
    maps /= np.where(largest > 0, largest, 1)
    return maps


@contextmanager
def _only_last_gradients(network: nn.Module) -> Iterator[None]:
    """No gradient reaches the parameters: the backward pass ends at the explained block, and the body's activations are not kept."""
    needed = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        network.requires_grad_(False)
        yield
    finally:
        for parameter, before in needed:
            parameter.requires_grad_(before)
