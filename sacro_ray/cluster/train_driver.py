"""A training as the command sees it: what is checked, when the run folder becomes this run's, and what is left to do.

Ray and PyTorch are imported when all has passed that can be told without them.
"""

import logging
from pathlib import Path

from sacro_ray.cluster.storage import OWN_FILES
from sacro_ray.config import Experiment
from sacro_ray.learning.readiness import check_data_and_weights_exist, check_disk, check_weights_load
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import plan
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")
TAKES_LESS = "lower batch_size in training.stages or training.workers, or give a smaller model.architecture"


def train(experiment: Experiment, runs: str | Path, address: str | None = None) -> str | Path:
    """Train an experiment on the Ray at `address`; returns the run folder, as a path or, where `runs` is one, as an address.

    A run folder of the same configuration is gone on with, or left alone where it is complete.

    Raises:
        UserError: The data, the weights or the number of workers do not allow it, or the folder is another run's. Nothing is written
            then.
        DivergedError: The loss is no longer finite.
    """
    folder = RunFolder.at(below(runs, experiment.name))
    folder.refuse_another(experiment)
    if folder.validation_predictions.exists():
        log.info("the run %s is complete", folder.location)
    else:
        _train(experiment, folder, address)
    from sacro_ray.evaluation.remarks import auc_remarks

    for remark in auc_remarks("validation: ", {"estimate": folder.load_description()["auc"]}):
        log.warning("remark: %s", remark)
    if not (folder.path / "curves.png").exists():
        from sacro_ray.learning.curves import draw_curves

        folder.bring("history.csv")
        draw_curves(folder.path / "history.csv")
        folder.send()
    folder.remove(OWN_FILES)
    return as_given(folder.location)


def _train(experiment: Experiment, folder: RunFolder, address: str | None) -> None:
    check_data_and_weights_exist(experiment)
    check_weights_load(experiment.model)
    check_disk(experiment, folder.path)
    from sacro_ray.cluster.progress import epochs_logged
    from sacro_ray.cluster.runtime import ray_session
    from sacro_ray.cluster.training import check_batches, run_trainer, scaling_config, train_worker

    with ray_session(address, TAKES_LESS):
        scaling = scaling_config(experiment)
        check_batches(experiment, scaling)
        folder.claim(experiment)
        with epochs_logged(folder, plan(experiment.training)):
            run_trainer(experiment, folder, scaling, train_worker)
