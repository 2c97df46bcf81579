"""Mixup and label-smoothed cross entropy.

Sources: Zhang et al. 2018, mixup: Beyond empirical risk minimization; Szegedy et al. 2016, Rethinking the Inception architecture
(label smoothing); both named in Bressem et al. 2021, Model training.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def mixing(count: int, alpha: float, generator: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Which images of a batch are blended, and by how much: shares from Beta(alpha, alpha), one a pair.

    Returns:
        The share that each image keeps, float32 (count,), and the one that it is blended with, int64 (count,). The first image of
        a pair keeps the larger share, so that a pair and its mirror image do not become the same sample. With an alpha of 0 each
        keeps all of itself.
    """
    if alpha == 0:
        return np.ones(count, dtype=np.float32), np.arange(count)
    share = generator.beta(alpha, alpha, size=count)
    return np.maximum(share, 1 - share).astype(np.float32), generator.permutation(count)


def mixup(values: Tensor, weights: Tensor, partners: Tensor) -> Tensor:
    """Blend every image, or its target, with another of the batch.

    Args:
        values: float (N, ...), images or targets.
        weights: float (N,) in [0.5, 1], as from `mixing`.
        partners: int64 (N,), as from `mixing`.

    Returns:
        float (N, ...).
    """
    return torch.lerp(values[partners], values, weights.reshape(-1, *[1] * (values.ndim - 1)))


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
