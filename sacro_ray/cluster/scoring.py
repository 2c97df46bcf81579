"""Score a new cohort: Ray Data streams the input in parts through a pool of workers that hold the network."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.scoring_inputs import Item, list_items
from sacro_ray.cluster.scoring_results import ScoresFolder, counts_of, input_digest
from sacro_ray.cluster.scoring_workers import Attempts, Scorer
from sacro_ray.config import Experiment
from sacro_ray.dataset.progress import Progress
from sacro_ray.errors import UserError
from sacro_ray.evaluation.metrics import all_cutoffs
from sacro_ray.evaluation.predictions import read_predictions
from sacro_ray.learning.run_folder import RunFolder

log = logging.getLogger("sacro_ray")

FEWEST_PARTS = 16


def score(run: Path, given: str, out: Path, overrides: Sequence[str] = (), address: str | None = None) -> Path:
    """Score all radiographs of an input with a run's best network; answers the path of scores.csv.

    Started again with the same input, it goes on from the parts that are complete; what is complete altogether is left alone.

    Raises:
        UserError: The run folder is none or its training is not complete, the input has no image, or `out` holds other scores.
    """
    folder = RunFolder(run.resolve())
    experiment = folder.experiment(overrides)
    _, description = folder.load_best()
    cutoffs = cutoffs_of(folder, experiment)
    out = out.resolve()
    items = list_items(given, without=out)
    results = ScoresFolder(out, part_size(len(items), experiment.scoring.batch_size))
    results.claim(_identity(experiment, description, cutoffs, given, items, results))
    if results.scores.exists():
        log.info("the scores in %s are complete", out)
        counts = counts_of(results.scores)
    else:
        missing = results.missing(len(items))
        if missing:
            # Ray's core reports on the driver's terminal what Ray Data does on purpose (restartable actors with large arguments).
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            with ray_session(address):
                _score_parts(folder, experiment, items, results, missing)
        counts = results.finish(len(items), cutoffs)
    _report(counts, cutoffs, len(items))
    return results.scores


def part_size(radiographs: int, batch_size: int) -> int:
    """Radiographs a part: a batch, or fewer where there are few, so that several workers have something to do."""
    return min(batch_size, -(-radiographs // FEWEST_PARTS))


def cutoffs_of(folder: RunFolder, experiment: Experiment) -> dict[str, float]:
    """The run's cut-offs by name: those of its evaluation, or, where it was not evaluated, of its validation predictions.

    Raises:
        UserError: There are neither.
    """
    metrics = folder.path / "evaluation" / "metrics.json"
    if metrics.is_file():
        found: dict[str, float] = json.loads(metrics.read_text(encoding="utf-8"))["cutoffs"]
        return found
    if not folder.validation_predictions.is_file():
        raise UserError(
            f"the training of {folder.path} is not complete (no predictions/validation.csv, from which the cut-offs come); "
            "start train again, it goes on"
        )
    validation = read_predictions(folder.validation_predictions)
    return {cutoff.name: cutoff.value for cutoff in all_cutoffs(validation, experiment.evaluation, experiment.seed, {})}


def _identity(
    experiment: Experiment,
    description: Mapping[str, Any],
    cutoffs: Mapping[str, float],
    given: str,
    items: Sequence[Item],
    results: ScoresFolder,
) -> dict[str, Any]:
    """What makes two scorings the same: network, preparation, cut-offs, and input."""
    training = experiment.training
    return {
        "run": experiment.name,
        "checkpoint": description["sha256"],
        "size_px": description["size_px"],
        "precision": training.precision,
        "flip_at_inference": training.flip_at_inference,
        "fit": experiment.model.fit,
        "prepare": experiment.prepare.model_dump(mode="json"),
        "cutoffs": dict(cutoffs),
        "batch_size": results.part_size,
        "input": given,
        "radiographs": len(items),
        "files": input_digest(items),
    }


def _score_parts(
    folder: RunFolder, experiment: Experiment, items: list[Item], results: ScoresFolder, missing: list[int]
) -> None:
    """Score the missing parts and keep each as soon as it is there."""
    size = results.part_size
    lengths = {number: min(size, len(items) - number * size) for number in missing}
    done = len(items) - sum(lengths.values())
    if done:
        log.info("going on: %d of %d radiographs are scored", done, len(items))
    progress = Progress("scored", sum(lengths.values()))
    waiting: dict[int, list[pa.Table]] = {}
    for table in _scored(folder, experiment, _as_tables(items, missing, size), size):
        for number in table["part"].unique().to_pylist():
            rows = table.filter(pa.compute.equal(table["part"], number)).drop_columns("part")
            waiting.setdefault(number, []).append(rows)
            if sum(len(rows) for rows in waiting[number]) == lengths[number]:
                results.write_part(number, pa.concat_tables(waiting.pop(number)))
                progress.advance(lengths[number])
    progress.close()
    assert not waiting


def _scored(folder: RunFolder, experiment: Experiment, parts: list[pa.Table], size: int) -> Iterator[pa.Table]:
    """The rows of all parts as they come from the pool of workers: one a GPU, or, without GPUs, one a CPU."""
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    asked = experiment.scoring.actors
    workers = min(asked if asked != "auto" else gpus or cpus, len(parts))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    dataset = ray.data.from_arrow(parts).map_batches(
        Scorer,
        fn_constructor_args=(folder.path, experiment, attempts),
        batch_size=size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def _as_tables(items: Sequence[Item], parts: Iterable[int], size: int) -> list[pa.Table]:
    """The parts as tables: the fields of `Item`, the place in the input, the number of the part."""
    schema = pa.schema(
        [
            ("index", pa.int64()), ("part", pa.int64()), ("input", pa.string()), ("path", pa.string()),
            ("box", pa.list_(pa.int64())), ("offset", pa.int64()), ("size", pa.int64()), ("stamp", pa.string()),
        ]
    )  # fmt: skip
    return [
        pa.Table.from_pylist(
            [
                asdict(item) | {"index": part * size + i, "part": part}
                for i, item in enumerate(items[part * size : (part + 1) * size])
            ],
            schema=schema,
        )
        for part in parts
    ]


def _report(counts: Counter[str], cutoffs: Iterable[str], total: int) -> None:
    log.info("%d radiographs: %d scored, %d could not be", total, counts["ok"], counts["error"])
    for name in cutoffs:
        log.info(
            "  cut-off %-12s %d called definite sacroiliitis, %d not",
            name,
            counts[f"definite_{name}"],
            counts["ok"] - counts[f"definite_{name}"],
        )
