"""Which radiographs form which batch: a pure function of cohort size, batch size, seed, epoch and ranks.

Every radiograph is in exactly one batch an epoch, over all ranks. No batch is a small rest: the sizes of an epoch's batches differ by
at most one, and so do the shares of the ranks, so that batch normalisation never meets a single radiograph.
"""

import numpy as np
from numpy.typing import NDArray

from sacro_ray.errors import UserError

SMALLEST_SHARE = 2
"""Radiographs that a rank needs in each batch: batch normalisation has no variance over one."""


def batch_sizes(radiographs: int, batch_size: int, ranks: int) -> list[int]:
    """Size of each batch of an epoch, over all ranks.

    Raises:
        UserError: There are too few radiographs, or too small a batch, for this many ranks.
    """
    if min(radiographs, batch_size) < SMALLEST_SHARE * ranks:
        raise UserError(
            f"{radiographs} training radiographs in batches of {batch_size} over {ranks} workers: every worker needs at least "
            f"{SMALLEST_SHARE} of each batch; use fewer workers or larger batches"
        )
    steps = min(-(-radiographs // batch_size), radiographs // (SMALLEST_SHARE * ranks))
    return [len(part) for part in np.array_split(np.arange(radiographs), steps)]


def training_batches(
    radiographs: int, batch_size: int, ranks: int, rank: int, seed: tuple[int, ...]
) -> list[NDArray[np.int64]]:
    """The batches of one epoch for one rank, in order.

    Args:
        radiographs: Size of the training set.
        batch_size: The global batch, over all ranks.
        ranks: World size.
        rank: From 0.
        seed: All that the order depends on, such as (seed, stage, epoch).

    Returns:
        One array of indices a step, in rising order; all ranks get the same number of steps.
    """
    order = np.random.default_rng(seed).permutation(radiographs)
    batches = np.array_split(order, len(batch_sizes(radiographs, batch_size, ranks)))
    # A rotation by step: the extra radiograph of an uneven batch does not always fall to the first rank.
    return [np.sort(np.array_split(batch, ranks)[(rank + step) % ranks]) for step, batch in enumerate(batches)]


def inference_batches(radiographs: int, batch_size: int, ranks: int, rank: int) -> list[NDArray[np.int64]]:
    """The batches one rank scores. Their members do not depend on the number of ranks, so neither does any score."""
    batches = [np.arange(start, min(start + batch_size, radiographs)) for start in range(0, radiographs, batch_size)]
    return batches[rank::ranks]
