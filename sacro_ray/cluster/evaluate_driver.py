"""An evaluation of a run as the command sees it: what is checked, and when the run folder is this command's alone.

Ray and PyTorch are imported when all has passed that can be told without them.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from sacro_ray.config import Experiment
from sacro_ray.learning.origin import origin_of, refuse_other_predictions
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.locations import as_given

log = logging.getLogger("sacro_ray")


def evaluate_run(
    run: str | Path, overrides: Sequence[str], address: str | None, fixed_cutoffs: Mapping[str, float]
) -> str | Path:
    """Evaluate a run folder, a path or an address, on the Ray at `address`; returns where report.html lies.

    Raises:
        UserError: The folder is not a run folder, its training is not complete, its external test cohorts are not prepared, or it holds
            results of something else.
    """
    folder = RunFolder.at(run)
    experiment = folder.experiment(overrides)
    folder.require_predictions()
    if not folder.in_bucket:  # from there the actor fetches the weights, and looks
        folder.best_description()
    _refuse_other_results(folder, experiment)
    with folder.alone("evaluate"):
        from sacro_ray.cluster.final_evaluation import evaluate_on_ray
        from sacro_ray.cluster.runtime import ray_session

        with ray_session(address, "lower evaluation.robustness_radiographs"):
            return as_given(evaluate_on_ray(folder, experiment, fixed_cutoffs))


def _refuse_other_results(folder: RunFolder, experiment: Experiment) -> None:
    """Before anything is written or started: what the run folder holds must come from these weights, shards and settings."""
    external = experiment.cohorts_of("external_test")
    origin = origin_of(folder, experiment, external) if external else None
    from sacro_ray.evaluation.files import refuse_other
    from sacro_ray.evaluation.predictions import read_predictions

    test = None
    if origin is not None:
        refuse_other_predictions(folder, origin)
        if folder.test_predictions.exists():
            if folder.test_predictions.with_suffix(".json").exists():
                log.info("the external test radiographs are scored already; their predictions are used as they are")
            test = read_predictions(folder.test_predictions)
    refuse_other(folder.path / "evaluation", read_predictions(folder.validation_predictions), test, origin)
