"""The steps of an epoch, with all that is random about them: decided before the first, and moved to the device at once.

A step that drew and sent for itself would make a GPU wait: at 224 px a batch takes it 5 ms (body fixed) to 20 ms.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sacro_ray.config import Training
from sacro_ray.dataset.batches import batch_sizes, training_batches
from sacro_ray.learning.augmentation import changes_from, draw
from sacro_ray.learning.objective import mixing, mixup
from sacro_ray.learning.place import Place, sent

BATCH_STREAM, MIXUP_STREAM, DROPOUT_STREAM, RANGE_STREAM = 1, 2, 3, 4
"""Names of independent random streams under one seed."""


@dataclass(frozen=True)
class Step:
    """One step for one rank, but for the pixels.

    Attributes:
        indices: The rank's radiographs, int64 (n,), in rising order.
        radiographs: Size of the batch over all ranks.
        changes: For `augment`, float (n, CHANGES) on the device.
        targets: Labels after `mixup`, float (n,) on the device.
        weights: For `mixup`, float (n,) on the device.
        partners: For `mixup`, int64 (n,) on the device.
    """

    indices: NDArray[np.int64]
    radiographs: int
    changes: Tensor
    targets: Tensor
    weights: Tensor
    partners: Tensor


def steps_of(
    epoch: int, labels: NDArray[np.float32], batch_size: int, training: Training, seed: int, place: Place
) -> list[Step]:
    """The steps of an epoch, a pure function of these: a run that goes on and an undisturbed one take the same.

    Args:
        epoch: From 1.
        labels: float32 (radiographs,), of the training set.
        batch_size: Over all ranks.
        training: Its augmentation and its mixup.
        seed: Of the experiment.
        place: The rank, and the device to which all is sent.
    """
    count = len(labels)
    order = training_batches(count, batch_size, place.ranks, place.rank, (seed, BATCH_STREAM, epoch))
    mine = torch.from_numpy(np.concatenate(order))
    # One row of random numbers a radiograph, the same whatever the number of ranks.
    draws = draw(count, torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**64))
    generator = np.random.default_rng((seed, MIXUP_STREAM, epoch, place.rank))
    mixed = [mixing(len(indices), training.mixup_alpha, generator) for indices in order]
    known = torch.from_numpy(labels)
    targets = [mixup(known[indices], *map(torch.from_numpy, mix)) for indices, mix in zip(order, mixed, strict=True)]
    weights, partners = (torch.from_numpy(np.concatenate(part)) for part in zip(*mixed, strict=True))
    every = (changes_from(draws[mine], training.augmentation), torch.cat(targets), weights, partners)
    on_device = [sent(values, place.device) for values in every]
    ends = list(accumulate(len(indices) for indices in order))
    return [
        Step(indices, radiographs, *(values[end - len(indices) : end] for values in on_device))
        for indices, radiographs, end in zip(order, batch_sizes(count, batch_size, place.ranks), ends, strict=True)
    ]
