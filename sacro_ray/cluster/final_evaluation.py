"""The final evaluation: a Ray actor with the run's best network scores the external test shards and writes the report."""

import io
import json
import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from matplotlib import colormaps
from PIL import Image

from sacro_ray.cluster.losses import Losses
from sacro_ray.cluster.sizing import cluster_nodes, largest_share, own_cpus
from sacro_ray.config import Experiment, build_experiment
from sacro_ray.dataset.cache import CachedSplit, open_split
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.evaluation.context import Example, Group, ReportContext
from sacro_ray.evaluation.cutoffs import cross_validated_cutoffs
from sacro_ray.evaluation.pipeline import evaluate_predictions
from sacro_ray.evaluation.predictions import labelled, read_predictions
from sacro_ray.evaluation.robustness import robustness_rows
from sacro_ray.evaluation.subgroups import BASELINE
from sacro_ray.learning.explanation import grad_cam
from sacro_ray.learning.inference import score_split
from sacro_ray.learning.network import SacroiliitisNet
from sacro_ray.learning.origin import origin_of, write_test_predictions
from sacro_ray.learning.perturbation import perturbed
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.locations import below

log = logging.getLogger("sacro_ray")

MOST_CPUS = 8
"""Of the actor that evaluates: more do not make one network faster."""
EXAMPLES_A_GROUP = 4
OVERLAY_OPACITY = 0.45


def evaluate_on_ray(folder: RunFolder, experiment: Experiment, fixed_cutoffs: Mapping[str, float]) -> str:
    """Evaluate a run in an actor of the Ray that this process has joined; returns where report.html lies."""

    def begin() -> Any:
        """Sized by the machines there are now: the largest may be the one that was lost."""
        cpus, gpus = largest_share(cluster_nodes(), MOST_CPUS)
        actor = ray.remote(FinalEvaluation).options(num_gpus=gpus, num_cpus=cpus).remote(folder.location, experiment.as_toml())
        return actor.evaluate.remote(dict(fixed_cutoffs))

    report, warnings = Losses().outlived("evaluating", begin)
    for warning in warnings:
        log.warning("%s", warning)
    return str(report)


class FinalEvaluation:
    """A Ray actor: holds the best network of a run, next to a GPU where the cluster has one."""

    def __init__(self, run: str, experiment_toml: str) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cpu":
            torch.set_num_threads(own_cpus())
        self.run, self.place = run, Place(device)
        self.experiment = build_experiment(tomllib.loads(experiment_toml))

    def evaluate(self, fixed_cutoffs: dict[str, float]) -> tuple[str, list[str]]:
        """Score the external test cohorts, and write tables, figures and the report.

        Returns:
            Where the report lies, and the warnings on the log of this process, which nobody reads.
        """
        with _warnings_kept() as warnings:
            return self._evaluate(RunFolder.at(self.run), fixed_cutoffs), warnings

    def _evaluate(self, folder: RunFolder, fixed_cutoffs: dict[str, float]) -> str:
        experiment = self.experiment
        external = experiment.cohorts_of("external_test")
        test, origin = None, None
        if external:
            origin = origin_of(folder, experiment, external)
            write_test_predictions(folder, experiment, self.place, origin)
            test = read_predictions(folder.test_predictions)
        validation = read_predictions(folder.validation_predictions)
        context = self._context(folder, validation, test, external)
        out = folder.path / "evaluation"
        report = evaluate_predictions(
            validation, test, experiment.evaluation, experiment.seed, out, fixed_cutoffs, context, origin
        )
        folder.send("evaluation/metrics.json", "evaluation/report.html")
        return below(folder.location, report.relative_to(folder.path).as_posix())

    def _context(
        self, folder: RunFolder, validation: pd.DataFrame, test: pd.DataFrame | None, external: list[str]
    ) -> ReportContext:
        experiment = self.experiment
        cohorts = [*experiment.cohorts_of("development"), *external]
        manifests = [read_manifest(experiment.prepare.shards, cohort) for cohort in cohorts]
        network, _, size_px = load_best_network(folder, self.place)
        _, description = folder.load_best()
        splits = [(experiment.cohorts_of("development"), "train"), (experiment.cohorts_of("development"), "validation")]
        opened = [self._open(names, split, size_px) for names, split in (*splits, *([(external, "test")] if external else []))]
        sample = labelled(validation, str(folder.validation_predictions))
        chosen = cross_validated_cutoffs(
            sample.labels, sample.probabilities, sample.patients, experiment.evaluation, experiment.seed
        )
        balanced = next(cutoff.value for cutoff in chosen if cutoff.name == "balanced")
        shown, table = (opened[-1], test) if test is not None else (opened[1], validation)
        return ReportContext(
            title=experiment.name,
            config=(folder.path / "config.toml").read_text(encoding="utf-8"),
            history=pd.read_csv(folder.path / "history.csv"),
            manifests=[json.loads(manifest.model_dump_json()) for manifest in manifests],
            baseline=baseline_table(opened),
            examples=gallery(network, shown, table, balanced, self.place),
            robustness=self._robustness(network, shown, table),
            simulated=any(manifest.simulated for manifest in manifests),
            versions=description["versions"],
            data_digest=", ".join(f"{manifest.cohort} {manifest.digest[:12]}" for manifest in manifests),
        )

    def _robustness(self, network: SacroiliitisNet, split: CachedSplit, predictions: pd.DataFrame) -> list[dict[str, Any]]:
        """AUC of the test images as they are and slightly changed, on as many as the configuration says."""
        table = in_order(predictions, split)
        labels = table["label"].to_numpy(np.float64)
        known = np.flatnonzero(~np.isnan(labels))
        wanted = min(len(known), self.experiment.evaluation.robustness_radiographs)
        chosen = np.sort(np.random.default_rng(self.experiment.seed).permutation(known)[:wanted])
        positive = labels[chosen] == 1
        if positive.all() or not positive.any():
            return []
        training = self.experiment.training
        scores = {
            name: score_split(network, images, self.place, training.precision, training.flip_at_inference)
            for name, images in perturbed(split.images[chosen])
        }
        return robustness_rows(positive, table["probability"].to_numpy(np.float64)[chosen], scores)

    def _open(self, cohorts: list[str], split: str, size_px: int) -> CachedSplit:
        experiment: Experiment = self.experiment
        budget = experiment.training.cache_gib
        return open_split(experiment.prepare.shards, cohorts, split, size_px, experiment.model.fit, budget)


@contextmanager
def _warnings_kept() -> Iterator[list[str]]:
    """The program's warnings while the block lasts, each once, in their order."""
    kept: dict[str, None] = {}
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.setdefault(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("sacro_ray")
    logger.addHandler(handler)
    found: list[str] = []
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        found += kept


def baseline_table(splits: Sequence[CachedSplit]) -> pd.DataFrame | None:
    """One row per radiograph: `radiograph_id`, `cohort`, `split`, `label`, and `baseline:NAME` columns; None where there are none."""
    rows = [
        {
            **{key: record[key] for key in ("radiograph_id", "cohort", "split", "label")},
            **{f"{BASELINE}{name}": value for name, value in record.get("baseline", {}).items()},
        }
        for split in splits
        for record in split.records
    ]
    table = pd.DataFrame(rows)
    return table if len(table.columns) > 4 else None


def in_order(predictions: pd.DataFrame, split: CachedSplit) -> pd.DataFrame:
    """The predictions in the order of the split's radiographs; two cohorts may give the same id to different ones."""
    wanted = pd.MultiIndex.from_tuples([(record["cohort"], record["radiograph_id"]) for record in split.records])
    return predictions.set_index(["cohort", "radiograph_id"]).loc[wanted].rename_axis(["cohort", "radiograph_id"]).reset_index()


def gallery(network: Any, split: CachedSplit, predictions: pd.DataFrame, cutoff: float, place: Place) -> list[Example]:
    """The most confident radiographs of each group of the confusion table, with their Grad-CAM maps.

    Args:
        network: In evaluation mode.
        split: The radiographs.
        predictions: As `read_predictions` answers.
        cutoff: The balanced cut-off: positive when probability >= cutoff.
        place: Whose device computes.
    """
    table = in_order(predictions, split)
    table["place"] = np.arange(len(table))
    examples: list[Example] = []
    groups: tuple[tuple[Group, int, bool], ...] = (
        ("true_positive", 1, True), ("true_negative", 0, False), ("false_positive", 0, True), ("false_negative", 1, False),
    )  # fmt: skip
    for group, label, called in groups:
        chosen = table[(table["label"] == label) & ((table["probability"] >= cutoff) == called)]
        chosen = chosen.sort_values(["probability", "radiograph_id"], ascending=[not called, True]).head(EXAMPLES_A_GROUP)
        for name, probability, number in zip(chosen["radiograph_id"], chosen["probability"], chosen["place"], strict=True):
            pixels = split.images[number]
            heat = grad_cam(network, pixels[None], place)[0]
            examples.append(Example(name, group, float(probability), as_png(pixels), as_png(overlay(pixels, heat))))
    return examples


def overlay(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], heat: np.ndarray[Any, np.dtype[np.float32]]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Colour a Grad-CAM map over a radiograph: uint8 (H, W) and float (H, W) in [0, 1] -> uint8 (H, W, 3); no colour where it is 0."""
    colour = np.asarray(colormaps["inferno"](heat))[..., :3] * 255
    strength = OVERLAY_OPACITY * heat[..., None]
    return np.asarray(np.round(pixels[..., None] * (1 - strength) + colour * strength), dtype=np.uint8)


def as_png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """uint8 (H, W) or (H, W, 3) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
