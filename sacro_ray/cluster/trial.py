"""One trial of a sweep: the same training run as `train`, in a folder of its own, reporting to Ray Tune.

In an importable module and not in a command: Ray pickles what lives in `__main__` by value.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.tune
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from sacro_ray.cluster.space import with_values
from sacro_ray.cluster.training import train_worker
from sacro_ray.config import Experiment, build_experiment
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import plan

Row = dict[str, Any]


def run_trial(config: dict[str, Any], experiment: dict[str, Any], trials: str, worker: dict[str, float]) -> None:
    """Train with one set of values, as Ray Tune calls it; killed and called again, it goes on from its own folder.

    Args:
        config: Values by dotted name.
        experiment: The sweep's experiment as plain values.
        trials: Folder of the trials' run folders.
        worker: Resources of each worker (CPU, GPU) where a trial has several; empty for a trial in this process.
    """
    trial_id = ray.tune.get_context().get_trial_id()
    assert trial_id is not None
    mine = with_values(build_experiment(experiment), config, name=trial_id.replace("_", "-"))
    folder = RunFolder(Path(trials) / trial_id)
    folder.claim(mine)
    if worker:
        _run_workers(mine, folder, worker)
        return
    device = torch.device("cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
    TrainingRun(mine, folder, Place(device)).fit(on_epoch=_reporter(mine, ray.tune.report))


def _reporter(experiment: Experiment, report: Callable[[Row], None]) -> Callable[[Row], None]:
    """Reports an epoch as the sweep reads it: `halving_time` stands only at the end of a phase, where ASHA decides.

    An AUC at 224 px says little beside one at 768 px, so trials are compared at the same phase's end. ASHA's rungs lie at powers of its
    reduction factor; reporting that power makes the ends of the phases its rungs.
    """
    phases, factor = plan(experiment.training), experiment.search.reduction_factor
    ends = {phase.last_epoch: factor**number for number, phase in enumerate(phases)}

    def tell(row: Row) -> None:
        at_rung = {"halving_time": ends[row["epoch"]]} if row["epoch"] in ends else {}
        report({"epoch": row["epoch"], "auc": row["val_auc"], "best_auc": row["best_val_auc"], **at_rung})

    return tell


def _run_workers(experiment: Experiment, folder: RunFolder, worker: dict[str, float]) -> None:
    TorchTrainer(
        train_trial_worker,
        train_loop_config={"experiment": experiment.as_dict(), "folder": str(folder.path)},
        scaling_config=ScalingConfig(
            num_workers=experiment.search.workers_per_trial, use_gpu="GPU" in worker, resources_per_worker=worker
        ),
        run_config=RunConfig(name="ray", storage_path=str(folder.path), callbacks=[TuneReportCallback()]),
    ).fit()


def train_trial_worker(config: dict[str, Any]) -> None:
    """One rank of a trial with several workers."""
    train_worker({**config, "report": _reporter(build_experiment(config["experiment"]), ray.train.report)})
