"""A trained run as `score` and `serve` take it up, checked without Ray and PyTorch."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sacro_ray.config import Experiment
from sacro_ray.disk import read_kept
from sacro_ray.learning.run_folder import RunFolder

log = logging.getLogger("sacro_ray")


@dataclass(frozen=True)
class ScoringRun:
    """A run that can score.

    Attributes:
        folder: The run's.
        experiment: Its configuration, with overrides.
        description: Of its best weights, best.json.
        cutoffs: Cut-off by name.
    """

    folder: RunFolder
    experiment: Experiment
    description: dict[str, Any]
    cutoffs: dict[str, float]

    @classmethod
    def at(cls, location: str | Path, overrides: Iterable[str] = ()) -> Self:
        """The run at a path or an address.

        Raises:
            UserError: It is not a run folder, its training is not complete, or a file of it is damaged.
        """
        folder = RunFolder.at(location)
        experiment = folder.experiment(overrides)
        return cls(folder, experiment, folder.best_description(), cutoffs_of(folder, experiment))


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
    from sacro_ray.evaluation.metrics import all_cutoffs
    from sacro_ray.evaluation.predictions import read_predictions
    from sacro_ray.evaluation.remarks import cutoff_remarks

    validation = read_predictions(folder.validation_predictions)
    for remark in cutoff_remarks(validation, experiment.evaluation):
        log.warning("remark: %s", remark)
    return {cutoff.name: cutoff.value for cutoff in all_cutoffs(validation, experiment.evaluation, experiment.seed, {})}
