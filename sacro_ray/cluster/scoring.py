"""Score a new cohort with a trained run: what is there, what is complete, and the tables at the end."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from sacro_ray import __version__
from sacro_ray.cluster.gauges import count_scored
from sacro_ray.cluster.runtime import answer, ray_session
from sacro_ray.cluster.scoring_boxes import held_to_training
from sacro_ray.cluster.scoring_inputs import Item, list_items
from sacro_ray.cluster.scoring_overlays import write_contact_sheet
from sacro_ray.cluster.scoring_results import ScoresFolder, counts_of, input_digest
from sacro_ray.cluster.scoring_stream import pool_for, quiet_ray, stream_parts
from sacro_ray.cluster.scoring_workers import Outputs
from sacro_ray.config import Experiment
from sacro_ray.dataset.progress import Progress
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import read_kept, remove_leftovers
from sacro_ray.errors import UserError
from sacro_ray.evaluation.metrics import all_cutoffs
from sacro_ray.evaluation.predictions import read_predictions
from sacro_ray.evaluation.remarks import cutoff_remarks
from sacro_ray.imaging.exclusion import REASONS
from sacro_ray.imaging.results_model import Model
from sacro_ray.learning.boxes import boxes_of_run
from sacro_ray.learning.familiarity import load_familiarity, write_familiarity
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")

FEWEST_PARTS = 16


def score_input(
    run: str | Path,
    given: str | Path,
    out: str | Path,
    address: str | None = None,
    overrides: Sequence[str] = (),
    explain: bool = False,
    dicom_out: bool = False,
    whole_radiographs: bool = False,
) -> str | Path:
    """Score all radiographs of an input with a run's best network; answers where scores.csv lies, a path or an address.

    With `explain`, a Grad-CAM overlay of each goes into overlays/, and contact_sheet.html shows them sorted by probability.
    With `dicom_out`, a Secondary Capture of the overlay and a structured report of each DICOM file go into dicom/.
    Started again with the same input, it goes on from the parts that are complete; what is complete altogether is left alone, but
    for overlays and DICOM objects that are asked for later: these are added, and no score changes.
    With `whole_radiographs`, a run that knows only radiographs cut to boxes scores whole ones, and marks them.

    Raises:
        UserError: The run folder is none or its training is not complete, the input has no image, or none with the box that the run
            needs, or `out` holds other scores.
    """
    folder = RunFolder.at(run)
    experiment = folder.experiment(overrides)
    _, description = folder.load_best()
    cutoffs = cutoffs_of(folder, experiment)
    kept = WorkingFolder(out)
    items = list_items(str(given), without=kept.path)
    items = held_to_training(items, boxes_of_run(folder, description), experiment, str(given), whole_radiographs)
    with kept.alone("score", "--out"):
        kept.bring_all()
        remove_leftovers(kept.path)
        identity = _identity(experiment, description, cutoffs, str(given), items, whole_radiographs)
        return _score(folder, experiment, description, cutoffs, identity, items, kept, address, explain, dicom_out)


def _score(
    folder: RunFolder,
    experiment: Experiment,
    description: Mapping[str, Any],
    cutoffs: Mapping[str, float],
    identity: Mapping[str, Any],
    items: Sequence[Item],
    kept: WorkingFolder,
    address: str | None,
    explain: bool,
    dicom_out: bool,
) -> str | Path:
    """Score what is listed into a folder in which nobody else works."""
    results = ScoresFolder(kept.path, part_size(len(items), experiment.scoring.batch_size), kept.location)
    model = Model(experiment.name, str(description["sha256"]), __version__, dict(cutoffs)) if dicom_out else None
    outputs = Outputs(explain, model)
    files = ["overlay"] * explain + ["secondary_capture", "report"] * dicom_out
    results.claim({**identity, "batch_size": results.part_size})
    if results.complete(files):
        log.info("the scores in %s are complete", kept.location)
        counts = counts_of(results.scores, len(items))
    else:
        if results.scores.exists():
            log.info("the scores in %s are complete; what was not asked for then is added", kept.location)
            results.reopen(len(items))
        missing = results.missing(len(items), files)
        if missing:
            quiet_ray()
            with ray_session(address):
                ensure_familiarity(folder)
                _score_parts(folder, experiment, int(description["size_px"]), outputs, files, items, results, missing, kept)
        counts = results.finish(len(items), cutoffs, files)
    if "overlay" in results.files():
        sheet = "contact_sheet.html"
        write_contact_sheet(kept.path / sheet, results.rows(), cutoffs, experiment.name)
        log.info("overlays sorted by probability: %s", below(kept.location, sheet))
    kept.send(results.scores.name)
    _report(counts, cutoffs, len(items))
    return as_given(below(kept.location, results.scores.name))


def ensure_familiarity(folder: RunFolder) -> None:
    """See that the statistic of training features is there; without the prepared training cohorts scoring goes on without it."""
    if load_familiarity(folder) is not None:
        return
    log.info("looking at training and validation radiographs once, to know what is familiar")
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus)(_write_familiarity)
    try:
        answer(task.remote(folder.location))
    except UserError as error:
        log.warning("no familiarity in these scores: %s", error)


def _write_familiarity(run: str) -> None:
    folder = RunFolder.at(run)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(int(ray.cluster_resources().get("CPU", 1)))
    write_familiarity(folder, Place(device))
    folder.send()


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
        return read_kept(
            metrics,
            lambda data: {str(name): float(value) for name, value in json.loads(data)["cutoffs"].items()},
            f"Run `evaluate {folder.location}` again, which makes it anew",
        )
    folder.require_predictions()
    validation = read_predictions(folder.validation_predictions)
    for remark in cutoff_remarks(validation, experiment.evaluation):
        log.warning("remark: %s", remark)
    return {cutoff.name: cutoff.value for cutoff in all_cutoffs(validation, experiment.evaluation, experiment.seed, {})}


def _identity(
    experiment: Experiment,
    description: Mapping[str, Any],
    cutoffs: Mapping[str, float],
    given: str,
    items: Sequence[Item],
    whole_radiographs: bool,
) -> dict[str, Any]:
    """What makes two scorings the same: network, preparation, cut-offs, and input; not the files that are made beside the scores."""
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
        # Where it was not asked for it is not named: folders from before it could be asked for go on.
        **({"whole_radiographs": True} if whole_radiographs else {}),
        "input": os.path.abspath(given),
        "radiographs": len(items),
        "files": input_digest(items),
    }


def _score_parts(
    folder: RunFolder,
    experiment: Experiment,
    size_px: int,
    outputs: Outputs,
    files: Sequence[str],
    items: Sequence[Item],
    results: ScoresFolder,
    missing: Sequence[int],
    kept: WorkingFolder,
) -> None:
    """Score the missing parts and keep each as soon as it is there."""
    left = sum(results.length(number, len(items)) for number in missing)
    if left < len(items):
        log.info("going on: %d of %d radiographs are scored", len(items) - left, len(items))
    progress = Progress("scored", left)
    pool = pool_for(experiment, ray.cluster_resources(), len(missing))
    size = results.part_size
    for number, rows in stream_parts(folder.location, experiment, size_px, outputs, items, missing, size, pool, results.known):
        results.write_part(number, rows, files)
        kept.send(results.part(number).relative_to(kept.path).as_posix())
        count_scored(experiment.name, rows["status"].to_pylist())
        progress.advance(len(rows))
    progress.close()


def _report(counts: Counter[str], cutoffs: Iterable[str], total: int) -> None:
    log.info("%d radiographs: %d scored, %d could not be", total, counts["ok"], counts["error"])
    reasons = sorted((-count, key.removeprefix("error:")) for key, count in counts.items() if key.startswith("error:"))
    for count, reason in reasons:
        log.info("  %6d %-24s %s", -count, reason, REASONS.get(reason, ""))
    if not counts["ok"]:
        log.warning("not one of the %d radiographs could be scored", total)
        return
    for name in cutoffs:
        log.info(
            "  cut-off %-12s %d called definite sacroiliitis, %d not",
            name,
            counts[f"definite_{name}"],
            counts["ok"] - counts[f"definite_{name}"],
        )
