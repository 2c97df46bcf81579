"""Scores of radiographs: probabilities of definite radiographic sacroiliitis."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sacro_ray.dataset.batches import inference_batches
from sacro_ray.dataset.streaming import Images, ahead
from sacro_ray.learning.augmentation import as_input
from sacro_ray.learning.network import SacroiliitisNet
from sacro_ray.learning.place import Place, autocast, sent

INFERENCE_BATCH = 32
"""Fixed, so that a radiograph's score does not depend on the number of workers or on the training batch."""


@torch.inference_mode()
def score_batch(
    network: SacroiliitisNet, batch: NDArray[np.uint8], place: Place, precision: str, flip: bool
) -> NDArray[np.float32]:
    """Score one batch.

    Args:
        network: In evaluation mode, on the place's device.
        batch: uint8 (N, H, W).
        place: Whose device computes.
        precision: As `training.precision`.
        flip: Average the logits of the image and of its mirror image.

    Returns:
        Logits, float32 (N,).
    """
    images = as_input(sent(torch.from_numpy(np.require(batch, requirements=("C", "W"))), place.device))
    images = images.contiguous(memory_format=torch.channels_last)
    with autocast(place.device, precision):
        logits = network(images).float()
        if flip:
            logits = (logits + network(images.flip(-1)).float()) / 2
    result: NDArray[np.float32] = logits.cpu().numpy()
    return result


def score_split(network: SacroiliitisNet, images: Images, place: Place, precision: str, flip: bool) -> NDArray[np.float64]:
    """Probabilities of a whole split, float64 (radiographs,) in [0, 1]: every rank scores its part, every rank gets all of them."""
    batches = inference_batches(len(images), INFERENCE_BATCH, place.ranks, place.rank)
    network.eval()
    pixels = ahead(images, batches, np.asarray)
    mine = [
        (indices, score_batch(network, some, place, precision, flip)) for indices, some in zip(batches, pixels, strict=True)
    ]
    logits = np.empty(len(images), dtype=np.float64)
    for indices, values in (pair for part in place.gather(mine) for pair in part):
        logits[indices] = values
    return probability(logits)


def probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, float64, rounded to 8 decimals: what is written is what is used."""
    return np.round(1 / (1 + np.exp(-logits.astype(np.float64))), 8)


def area_under_roc(labels: NDArray[np.float32], probabilities: NDArray[np.float64]) -> float:
    """AUC over the radiographs that have a label."""
    known = ~np.isnan(labels)
    return float(roc_auc_score(labels[known], probabilities[known]))


def prediction_rows(
    records: Sequence[dict[str, Any]], probabilities: NDArray[np.float64], readers: Iterable[str]
) -> list[dict[str, str]]:
    """Rows of a predictions file, in the order of the records, with one column a reader."""
    return [
        {
            **{key: str(record[key]) for key in ("radiograph_id", "patient_id", "cohort", "split", "subset")},
            "probability": f"{value:.8f}",
            "label": "" if record["label"] is None else str(record["label"]),
            **{f"reader:{reader}": str(record["readings"].get(reader, "")) for reader in readers},
        }
        for record, value in zip(records, probabilities, strict=True)
    ]
