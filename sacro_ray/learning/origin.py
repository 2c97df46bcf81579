"""What a run's predictions come from: known before they are made, and the same on any hardware, unlike their last digits."""

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sacro_ray.config import Experiment
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.disk import read_kept, whole_lines, write_atomically
from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.settings import differences

if TYPE_CHECKING:
    from sacro_ray.learning.place import Place

log = logging.getLogger("sacro_ray")
AGAIN = "rerun evaluate, which makes it anew"
MOST_ROUNDING = 0.02
"""Of a probability between machines, of which one computes in bf16 and the other in fp32. A decision, not a measurement."""


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
    """Keep test predictions that come from something else.

    Those without a note, as earlier versions left them, `write_test_predictions` compares with what it finds itself.

    Raises:
        UserError: The run folder holds such.
    """
    if not folder.test_predictions.exists() or not _note(folder).is_file():
        return
    noted = read_kept(_note(folder), json.loads, f"Remove it and {folder.test_predictions.name} beside it, and {AGAIN}")
    if differing := differences(noted, origin):
        raise _another(folder, f"come from something else: they differ in {', '.join(differing[:5])}")


def _another(folder: RunFolder, reason: str) -> UserError:
    return UserError(
        f"the predictions/{folder.test_predictions.name} of {folder.location} {reason}. They are kept; to evaluate anew, move "
        f"predictions/{folder.test_predictions.name}, predictions/{_note(folder).name} and evaluation/ away"
    )


def write_test_predictions(folder: RunFolder, experiment: Experiment, place: "Place", origin: Mapping[str, Any]) -> None:
    """Score the external test cohorts, unless they are scored: a rounding of other hardware replaces nothing.

    Raises:
        UserError: See `refuse_other_predictions`; or what is there without a note differs by more than rounding.
    """
    refuse_other_predictions(folder, origin)
    path, note = folder.test_predictions, (json.dumps(origin, indent=1, sort_keys=True) + "\n").encode()
    kept = read_kept(path, whole_lines, f"Remove it and {AGAIN}") if path.exists() else None
    if kept is not None and _note(folder).is_file():
        return
    from sacro_ray.learning.predictions import write_predictions

    external = experiment.cohorts_of("external_test")
    if kept is None:
        write_atomically(_note(folder), note)
        write_predictions(experiment, folder, place, external, "test", path)
        return
    log.info("comparing the test predictions of an earlier version, which left no %s, with new ones", _note(folder).name)
    with TemporaryDirectory() as there:
        anew = Path(there, path.name)
        write_predictions(experiment, folder, place, external, "test", anew)
        if not _same_but_for_rounding(kept, anew.read_text(encoding="utf-8")):
            raise _another(folder, f"have no {_note(folder).name} beside them and are not those of its weights and shards")
    write_atomically(_note(folder), note)


def _same_but_for_rounding(one: str, other: str) -> bool:
    """Whether two tables of predictions have the same radiographs, labels and readings, and nearly the same probabilities."""
    first, second = (list(csv.DictReader(io.StringIO(text, newline=""))) for text in (one, other))
    if len(first) != len(second):
        return False
    for before, after in zip(first, second, strict=True):
        try:
            apart = abs(float(before.pop("probability")) - float(after.pop("probability")))
        except (KeyError, TypeError, ValueError):
            return False
        if before != after or not apart <= MOST_ROUNDING:
            return False
    return True


def _note(folder: RunFolder) -> Path:
    return folder.test_predictions.with_suffix(".json")
