"""Mixup and label-smoothed cross entropy.

Sources: Zhang et al. 2018, mixup: Beyond empirical risk minimization; Szegedy et al. 2016, Rethinking the Inception architecture
(label smoothing); both named in Bressem et al. 2021, Model training.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def mixup(images: Tensor, targets: Tensor, alpha: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Blend every image, and its target, with another of the batch, each pair by its own share from Beta(alpha, alpha).

    Args:
        images: float (N, 1, H, W).
        targets: float (N,) in [0, 1].
        alpha: 0 leaves the batch as it is.
        generator: Draws the shares and the partners, on the CPU.

    Returns:
        Blended images (N, 1, H, W) and targets (N,). The first image of a pair keeps the larger share, so that a pair and its
        mirror image do not become the same sample.
    """
    count = len(targets)
    if alpha == 0 or count < 2:
        return images, targets
    share = generator.beta(alpha, alpha, size=count)
    weight = torch.from_numpy(np.maximum(share, 1 - share).astype(np.float32)).to(images.device, non_blocking=True)
    partner = torch.from_numpy(generator.permutation(count)).to(images.device, non_blocking=True)
    blended = torch.lerp(images[partner], images, weight[:, None, None, None])
    return blended, torch.lerp(targets[partner], targets, weight)


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross entropy of each sample against targets pulled towards one half: t (1 - s) + s / 2.

    Args:
        logits: float (N,).
        targets: float (N,) in [0, 1].
        smoothing: s in [0, 1).

    Returns:
        float32 (N,), not averaged.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), targets * (1 - smoothing) + smoothing / 2, reduction="none")
