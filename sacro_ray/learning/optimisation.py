"""Optimiser, discriminative rates, the two schedules, and the learning-rate range test.

Sources: Smith 2017, Cyclical learning rates (range test, triangular policy); Smith and Topin 2018, Super-convergence (one cycle);
Howard and Ruder 2018, ULMFiT (discriminative rates); Loshchilov and Hutter 2019 (AdamW). All but AdamW are named in
Bressem et al. 2021, Model training.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR

from sacro_ray.config import Training
from sacro_ray.learning.network import SacroiliitisNet

SHORTEST_CYCLE_STEPS = 5
RANGE_TEST_LOWEST_LR = 1e-6
RANGE_TEST_HIGHEST_LR = 1.0
RANGE_TEST_STEPS = 80
RANGE_TEST_SMOOTHING = 0.9
"""Share of the past in the running mean of the loss."""
RANGE_TEST_STOP = 4.0
"""The test ends when the loss passes this many times its lowest value."""


def group_rates(lr: float, groups: int, ratio: float) -> list[float]:
    """A rate a layer group, in equal steps of the logarithm from lr * ratio (first layers) to lr (head)."""
    return [lr * ratio ** ((groups - 1 - number) / max(1, groups - 1)) for number in range(groups)]


def build_optimizer(network: SacroiliitisNet, training: Training, lr: float) -> AdamW:
    """AdamW over what requires a gradient, one parameter group a layer group."""
    groups = network.layer_groups()
    rates = group_rates(lr, len(groups), training.discriminative_ratio)
    trained = [
        {"params": [p for p in parameters if p.requires_grad], "lr": rate}
        for parameters, rate in zip(groups, rates, strict=True)
    ]
    return AdamW([group for group in trained if group["params"]], weight_decay=training.weight_decay, fused=True)


def build_schedule(optimizer: AdamW, training: Training, steps: int) -> LRScheduler:
    """The rate of each step of a phase: one cycle over the whole phase, or triangles of a tenth of it."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if training.schedule == "one_cycle":
        # PyTorch divides by the steps of the rise less one: with 4 steps in all, by zero.
        total = max(SHORTEST_CYCLE_STEPS, steps)
        return OneCycleLR(optimizer, rates, total_steps=total, pct_start=0.25, div_factor=25, final_div_factor=1e4)
    lowest = [rate / 25 for rate in rates]
    return CyclicLR(optimizer, lowest, rates, step_size_up=max(1, steps // 20), mode="triangular", cycle_momentum=False)


def range_test(step: Callable[[float], Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raise the rate exponentially, a step each, until the loss runs away.

    Args:
        step: Trains one batch at the given rate and answers its loss.

    Returns:
        Rates and running mean losses, float64 (steps,).
    """
    rates = np.geomspace(RANGE_TEST_LOWEST_LR, RANGE_TEST_HIGHEST_LR, RANGE_TEST_STEPS)
    mean, losses = 0.0, []
    for number, rate in enumerate(rates):
        loss = float(step(float(rate)))
        if not math.isfinite(loss):
            break
        mean = RANGE_TEST_SMOOTHING * mean + (1 - RANGE_TEST_SMOOTHING) * loss
        losses.append(mean / (1 - RANGE_TEST_SMOOTHING ** (number + 1)))
        if losses[-1] > RANGE_TEST_STOP * min(losses):
            break
    return rates[: len(losses)], np.array(losses)


def suggested_rate(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """The rate a tenth of that with the lowest loss: well inside the range in which training still converges."""
    if len(rates) == 0:
        return RANGE_TEST_LOWEST_LR
    return float(rates[int(np.argmin(losses))]) / 10


def set_rate(optimizer: AdamW, rates: list[float]) -> None:
    """Give every parameter group its rate."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def first_not_finite(losses: list[Tensor]) -> int | None:
    """The first step whose loss is not finite, or None; the only look at the losses in an epoch, so the device never waits."""
    bad = torch.nonzero(~torch.isfinite(torch.stack(losses)))
    return int(bad[0]) if len(bad) else None
