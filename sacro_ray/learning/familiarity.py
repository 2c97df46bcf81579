"""How far a radiograph lies from those of training, in the network's own features: whether its score means anything.

The features are the channel means of the four blocks of the body. Their distribution over the training set is a probabilistic principal
component model (Tipping and Bishop 1999, doi:10.1111/1467-9868.00196); the distance is Mahalanobis' under it, which counts both what lies
far along the directions in which training varies and what lies outside of them. A small statistic beside the checkpoint holds it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sacro_ray.dataset.cache import open_split
from sacro_ray.disk import write_whole
from sacro_ray.learning.inference import INFERENCE_BATCH, score_batch
from sacro_ray.learning.network import SacroiliitisNet
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import RunFolder

log = logging.getLogger("sacro_ray")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
COMPONENTS = 32
"""Directions of the training set that are kept; the rest counts as noise of one size."""
SMALLEST_VARIANCE = 1e-6
"""Of the largest, below which a variance is taken for rounding."""
LARGEST_SAMPLE = 512
"""Radiographs of a split that are looked at, evenly spread over it."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Familiarity:
    """The distribution of training features.

    Attributes:
        checkpoint: SHA-256 of the weights whose features these are.
        mean: Shape (features,), of the training set.
        scale: Shape (features,), standard deviations of the training set, none zero.
        components: Shape (components, features), orthonormal directions of the scaled features.
        variances: Shape (components,), along these.
        noise: Variance along each of the other directions.
        validation: Shape (n,), distances of the validation radiographs, rising.
    """

    checkpoint: str
    mean: Floats
    scale: Floats
    components: Floats
    variances: Floats
    noise: float
    validation: Floats

    def distances(self, features: Floats) -> Floats:
        """Mahalanobis distances from the training set, per feature: (n, features) -> (n,); about 1 for the training set itself."""
        scaled = (features - self.mean) / self.scale
        along = scaled @ self.components.T
        outside = (scaled**2).sum(axis=1) - (along**2).sum(axis=1)
        squares = (along**2 / self.variances).sum(axis=1) + outside.clip(0) / self.noise
        return np.asarray(np.sqrt(squares / features.shape[1]))

    def percentages(self, features: Floats) -> Floats:
        """Which share of the validation radiographs, in percent, lies at least as far: 100 as familiar as can be, 0 farther than all."""
        nearer = np.searchsorted(self.validation, self.distances(features), side="left")
        return np.asarray(100 * (1 - nearer / len(self.validation)))

    def relative_distances(self, features: Floats) -> Floats:
        """Distances over that which 99 % of the validation radiographs keep: above 1 lies farther than nearly all of them."""
        return np.asarray(self.distances(features) / np.quantile(self.validation, 0.99))

    def save(self, path: Path) -> None:
        """Write the statistic as an .npz file without pickles."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **asdict(self))

        write_whole(path, write)


def fit_familiarity(training: Floats, validation: Floats, checkpoint: str) -> Familiarity:
    """The statistic from the features of training and validation radiographs, shape (n, features) each, at least 3 of training."""
    mean, scale = training.mean(axis=0), training.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    _, singular, directions = np.linalg.svd((training - mean) / scale, full_matrices=False)
    spectrum = singular**2 / len(training)
    kept = min(COMPONENTS, len(training) // 2)
    noise = float(spectrum[kept:].sum() / max(1, training.shape[1] - kept))
    floor = max(noise, SMALLEST_VARIANCE * float(spectrum[0]), np.finfo(np.float64).tiny)
    model = Familiarity(checkpoint, mean, scale, directions[:kept], np.maximum(spectrum[:kept], floor), floor, np.zeros(1))
    return Familiarity(**{**vars(model), "validation": np.sort(model.distances(validation))})


def load_familiarity(folder: RunFolder) -> Familiarity | None:
    """The statistic of a run's best checkpoint; None where there is none, it cannot be read, or it is of earlier weights."""
    path = familiarity_path(folder)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        model = Familiarity(**{**found, "checkpoint": str(found["checkpoint"]), "noise": float(found["noise"])})
    except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
        log.warning("%s cannot be read (%s) and is made anew", path, error)
        return None
    return model if model.checkpoint == folder.load_best()[1]["sha256"] else None


def write_familiarity(folder: RunFolder, place: Place) -> Familiarity:
    """Look at training and validation radiographs through the best network, and keep the statistic beside it.

    Raises:
        UserError: The run has no checkpoint, or its cohorts are not prepared here.
    """
    network, experiment, size_px = load_best_network(folder, place)
    training = experiment.training
    features: list[Floats] = []
    for split in ("train", "validation"):
        cohorts = experiment.cohorts_of("development")
        images = open_split(experiment.prepare.shards, cohorts, split, size_px, experiment.model.fit, training.cache_gib).images
        chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), LARGEST_SAMPLE)).round().astype(np.int64))
        found: list[Floats] = []
        for start in range(0, len(chosen), INFERENCE_BATCH):
            with tapped(network) as tap:
                score_batch(network, images[chosen[start : start + INFERENCE_BATCH]], place, training.precision, flip=False)
            found.append(tap.features())
        features.append(np.concatenate(found))
    model = fit_familiarity(features[0], features[1], folder.load_best()[1]["sha256"])
    model.save(familiarity_path(folder))
    return model


def familiarity_path(folder: RunFolder) -> Path:
    """Beside the best checkpoint."""
    return folder.checkpoints / "familiarity.npz"


@dataclass
class Tap:
    """What passed through the blocks of a network: channel means of the first forward pass."""

    means: dict[str, Tensor] = field(default_factory=dict)

    def features(self) -> Floats:
        """Shape (n, features): the channel means of all blocks, side by side."""
        return torch.cat([self.means[name] for name in LAYERS], dim=1).cpu().numpy().astype(np.float64)


@contextmanager
def tapped(network: SacroiliitisNet) -> Iterator[Tap]:
    """Note the features of the network's first forward pass in this block; nothing about the pass changes."""
    tap = Tap()

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            # Summed in 32 bits: bf16 has three digits.
            tap.means.setdefault(name, output.float().mean(dim=(2, 3)))

        return hook

    handles = [getattr(network.body, name).register_forward_hook(note(name)) for name in LAYERS]
    try:
        yield tap
    finally:
        for handle in handles:
            handle.remove()
