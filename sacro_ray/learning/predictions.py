"""Predictions of a trained run, as files that the evaluation and any other program can read."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sacro_ray.config import Experiment
from sacro_ray.dataset.cache import open_split
from sacro_ray.disk import write_atomically
from sacro_ray.learning.inference import prediction_rows, score_split
from sacro_ray.learning.network import SacroiliitisNet, empty_network, folded
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder


def load_best_network(folder: RunFolder, place: Place) -> tuple[SacroiliitisNet, Experiment, int]:
    """The best network of a run, folded and in evaluation mode, the run's configuration, and the side of its input in pixels."""
    experiment = folder.experiment()
    weights, description = folder.load_best()
    network = empty_network(experiment.model)
    network.load_state_dict(weights)
    network.to(place.device).to(memory_format=torch.channels_last)
    return folded(network).eval(), experiment, int(description["size_px"])


def write_validation_predictions(experiment: Experiment, folder: RunFolder, place: Place) -> None:
    """Score the validation split with the best weights; the last act of training, on all ranks."""
    write_predictions(
        experiment, folder, place, experiment.cohorts_of("development"), "validation", folder.validation_predictions
    )


def write_predictions(
    experiment: Experiment, folder: RunFolder, place: Place, cohorts: Sequence[str], split: str, path: Path
) -> None:
    """Score a split of some cohorts with the best weights and write the predictions file.

    Args:
        experiment: Says where the shards are and what may be cached; how the network was trained to see, the run folder says.
        folder: The run.
        place: Whose device computes.
        cohorts: Whose radiographs.
        split: `validation` or `test`.
        path: The file.
    """
    network, trained, size_px = load_best_network(folder, place)
    training = trained.training
    data = open_split(experiment.prepare.shards, cohorts, split, size_px, trained.model.fit, experiment.training.cache_gib)
    probabilities = score_split(network, data.images, place, training.precision, training.flip_at_inference)
    if place.first:
        readers = dict.fromkeys(reader for cohort in cohorts for reader in experiment.cohorts[cohort].readers)
        write_rows(path, prediction_rows(data.records, probabilities, readers))


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows with the same columns as a CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
