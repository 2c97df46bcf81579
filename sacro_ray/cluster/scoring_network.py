"""A run's best network as `score` and `serve` use it: probabilities, familiarity and overlays of prepared radiographs."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sacro_ray.cluster.scoring_overlays import overlay_picture
from sacro_ray.config import Experiment
from sacro_ray.learning.explanation import grad_cam
from sacro_ray.learning.familiarity import Tap, load_familiarity, tapped
from sacro_ray.learning.inference import probability, score_batch
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import RunFolder

UNFAMILIAR_DISTANCE = 1.5
"""Of the distance that 99 % of the validation radiographs keep; farther is marked as `unfamiliar`. docs/scoring.md has what that marks."""


@dataclass(frozen=True)
class Scored:
    """What the network says of a radiograph.

    Attributes:
        probability: Of definite radiographic sacroiliitis.
        familiarity: Share of the validation radiographs, percent, that lie at least as far from training; None where not known.
        flags: `unfamiliar`, or nothing.
    """

    probability: float
    familiarity: float | None
    flags: tuple[str, ...]


class ScoringNetwork:
    """The best network of a run, on a GPU or on a number of CPU threads.

    Attributes:
        size_px: Side of its input, pixels.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, gpu: bool, threads: int) -> None:
        self.place = Place(torch.device("cuda" if gpu else "cpu"))
        if not gpu:
            torch.set_num_threads(max(1, threads))
        self.training = experiment.training
        self.network, _, self.size_px = load_best_network(folder, self.place)
        self.familiarity = load_familiarity(folder)

    def score(self, images: NDArray[np.uint8]) -> list[Scored]:
        """Score prepared radiographs, uint8 (N, size_px, size_px), N at least 1."""
        with tapped(self.network) as tap:
            logits = score_batch(self.network, images, self.place, self.training.precision, self.training.flip_at_inference)
        found = probability(logits.astype(np.float64))
        percentages, strange = self._familiar(tap)
        return [
            Scored(float(value), percentage, ("unfamiliar",) if far else ())
            for value, percentage, far in zip(found, percentages, strange, strict=True)
        ]

    def overlays(self, images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Grad-CAM maps in colour over the radiographs, uint8 (H, W, 3) each."""
        heats = grad_cam(self.network, images, self.place)
        return [overlay_picture(image, heat) for image, heat in zip(images, heats, strict=True)]

    def _familiar(self, tap: Tap) -> tuple[list[float | None], list[bool]]:
        features = tap.features()
        if self.familiarity is None:
            return [None] * len(features), [False] * len(features)
        far = self.familiarity.relative_distances(features) > UNFAMILIAR_DISTANCE
        return self.familiarity.percentages(features).round(1).tolist(), far.tolist()
