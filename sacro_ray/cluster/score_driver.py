"""Score a new cohort with a trained run, as the command sees it: what is there, what is complete, and the tables at the end.

Ray and PyTorch are imported when something is left to score.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sacro_ray import __version__
from sacro_ray.cluster.scoring_boxes import held_to_training
from sacro_ray.cluster.scoring_inputs import Item, input_digest, list_items
from sacro_ray.cluster.scoring_results import ScoresFolder, counts_of
from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import remove_leftovers
from sacro_ray.imaging.exclusion import REASONS
from sacro_ray.imaging.results_model import Model
from sacro_ray.learning.boxes import boxes_of_run
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
    """Score all radiographs of an input with a run's best network; returns where scores.csv lies, a path or an address.

    With `explain`, a Grad-CAM overlay of each goes into overlays/, and contact_sheet.html shows them sorted by probability.
    With `dicom_out`, a Secondary Capture of the overlay and a structured report of each DICOM file go into dicom/.
    Started again with the same input, it goes on from the parts that are complete; what is complete altogether is left alone, but
    for overlays and DICOM objects that are asked for later: these are added, and no score changes.
    With `whole_radiographs`, a run that knows only radiographs cut to boxes scores whole ones, and marks them.

    Raises:
        UserError: The run is not a run folder or its training is not complete, the input has no image, or none with the box that
            the run needs, or `out` holds other scores.
    """
    scoring = ScoringRun.at(run, overrides)
    kept = WorkingFolder(out)
    items = list_items(str(given), without=kept.path)
    boxes = boxes_of_run(scoring.folder, scoring.description)
    items = held_to_training(items, boxes, scoring.experiment, str(given), whole_radiographs)
    with kept.alone("score", "--out"):
        kept.bring_all()
        remove_leftovers(kept.path)
        identity = _identity(scoring, str(given), items, whole_radiographs)
        return _score(scoring, identity, items, kept, address, explain, dicom_out)


def _score(
    scoring: ScoringRun,
    identity: Mapping[str, Any],
    items: Sequence[Item],
    kept: WorkingFolder,
    address: str | None,
    explain: bool,
    dicom_out: bool,
) -> str | Path:
    """Score what is listed into a folder in which nobody else works."""
    experiment, cutoffs = scoring.experiment, scoring.cutoffs
    results = ScoresFolder(kept.path, part_size(len(items), experiment.scoring.batch_size), kept.location)
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
            from sacro_ray.cluster.runtime import ray_session
            from sacro_ray.cluster.scoring import ensure_familiarity, score_parts
            from sacro_ray.cluster.scoring_stream import quiet_ray
            from sacro_ray.cluster.scoring_workers import Outputs

            model = Model(experiment.name, str(scoring.description["sha256"]), __version__, cutoffs) if dicom_out else None
            quiet_ray()
            with ray_session(address, "lower scoring.actors or scoring.batch_size"):
                ensure_familiarity(scoring.folder)
                score_parts(scoring, Outputs(explain, model), files, items, results, missing, kept)
        counts = results.finish(len(items), cutoffs, files)
    if "overlay" in results.files():
        from sacro_ray.cluster.scoring_overlays import write_contact_sheet

        sheet = "contact_sheet.html"
        write_contact_sheet(kept.path / sheet, results.rows(), cutoffs, experiment.name)
        log.info("overlays sorted by probability: %s", below(kept.location, sheet))
    kept.send(results.scores.name)
    _report(counts, cutoffs, len(items))
    return as_given(below(kept.location, results.scores.name))


def part_size(radiographs: int, batch_size: int) -> int:
    """Radiographs a part: a batch, or fewer where there are few, so that several workers have something to do."""
    return min(batch_size, -(-radiographs // FEWEST_PARTS))


def _identity(scoring: ScoringRun, given: str, items: Sequence[Item], whole_radiographs: bool) -> dict[str, Any]:
    """What makes two scorings the same: network, preparation, cut-offs, and input; not the files that are made beside the scores."""
    experiment, description = scoring.experiment, scoring.description
    training = experiment.training
    return {
        "run": experiment.name,
        "checkpoint": description["sha256"],
        "size_px": description["size_px"],
        "precision": training.precision,
        "flip_at_inference": training.flip_at_inference,
        "fit": experiment.model.fit,
        "prepare": experiment.prepare.model_dump(mode="json"),
        "cutoffs": dict(scoring.cutoffs),
        # Where it was not asked for it is not named: folders from before it could be asked for go on.
        **({"whole_radiographs": True} if whole_radiographs else {}),
        "input": os.path.abspath(given),
        "radiographs": len(items),
        "files": input_digest(items),
    }


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
