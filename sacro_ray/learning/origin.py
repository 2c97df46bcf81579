"""What a run's predictions come from: known before they are made, and the same on any hardware, unlike their last digits."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sacro_ray.config import Experiment
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.disk import read_kept, whole_lines, write_atomically
from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.settings import differences

if TYPE_CHECKING:
    from sacro_ray.learning.place import Place

AGAIN = "rerun evaluate, which makes it anew"


def origin_of(folder: RunFolder, experiment: Experiment, cohorts: Sequence[str]) -> dict[str, Any]:
    """Weights, shards and settings of inference that decide the predictions of some cohorts, but for rounding.

    Args:
        folder: The run.
        experiment: Its configuration, with overrides; says where the shards are.
        cohorts: Whose predictions.

    Raises:
        UserError: The run has no best checkpoint, or a cohort is not prepared.
    """
    trained = folder.experiment()
    return {
        "checkpoint": folder.load_description()["sha256"],
        "shards": {cohort: read_manifest(experiment.prepare.shards, cohort).digest for cohort in cohorts},
        "fit": trained.model.fit,
        "precision": trained.training.precision,
        "flip_at_inference": trained.training.flip_at_inference,
    }


def refuse_other_predictions(folder: RunFolder, origin: Mapping[str, Any]) -> None:
    """Keep test predictions that come from something else, or from nobody knows what.

    Raises:
        UserError: The run folder holds such.
    """
    note = _note(folder)
    if note.is_file():
        differing = differences(
            read_kept(note, json.loads, f"Remove it and {folder.test_predictions.name} beside it, and {AGAIN}"), origin
        )
        reason = f"come from something else: they differ in {', '.join(differing[:5])}" if differing else ""
    else:
        reason = f"were written by something that left no {note.name} beside them" if folder.test_predictions.exists() else ""
    if reason:
        raise UserError(
            f"the predictions/{folder.test_predictions.name} of {folder.location} {reason}. They are kept; to evaluate anew, move "
            f"predictions/{folder.test_predictions.name}, predictions/{note.name} and evaluation/ away"
        )


def write_test_predictions(folder: RunFolder, experiment: Experiment, place: "Place", origin: Mapping[str, Any]) -> None:
    """Score the external test cohorts, unless they are scored: a rounding of other hardware replaces nothing.

    Raises:
        UserError: See `refuse_other_predictions`.
    """
    refuse_other_predictions(folder, origin)
    if folder.test_predictions.exists():
        read_kept(folder.test_predictions, whole_lines, f"Remove it and {AGAIN}")
        return
    from sacro_ray.learning.predictions import write_predictions

    write_atomically(_note(folder), (json.dumps(origin, indent=1, sort_keys=True) + "\n").encode())
    write_predictions(experiment, folder, place, experiment.cohorts_of("external_test"), "test", folder.test_predictions)


def _note(folder: RunFolder) -> Path:
    return folder.test_predictions.with_suffix(".json")
