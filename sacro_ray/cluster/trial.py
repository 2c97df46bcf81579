"""One trial of a sweep: the same training run as `train`, in a folder of its own, reporting to Ray Tune.

In an importable module and not in a command: Ray pickles what lives in `__main__` by value.
"""

import logging
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import ray.tune
import torch
from ray.train import ScalingConfig
from ray.tune.integration.ray_train import TuneReportCallback

from sacro_ray.cluster.gauges import shown
from sacro_ray.cluster.sizing import own_cpus
from sacro_ray.cluster.space import with_values
from sacro_ray.cluster.storage import OWN_FILES
from sacro_ray.cluster.sweep_folder import ERROR, note_error, noted_error
from sacro_ray.cluster.sweep_rungs import reporter
from sacro_ray.cluster.training import run_trainer, sent_before, train_worker
from sacro_ray.config import Experiment, build_experiment
from sacro_ray.dataset.files import locked
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import DiskError, remove_leftovers
from sacro_ray.errors import UserError
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.locations import below

log = logging.getLogger("sacro_ray")


def attempt(
    config: dict[str, Any], run: Callable[..., None], experiment: dict[str, Any], trials: str, worker: dict[str, float]
) -> None:
    """Run a trial, as Ray Tune calls it: again and again when the process was lost, but once only when the trial itself failed.

    The error is on the disk before Ray Tune hears of it; called again, this ends at once, and the process is there for the next trial. An
    error can leave a GPU unusable for the process that met it, so that process never trains another trial.
    """
    # When the driver alone is killed, its trials train on for a moment.
    with WorkingFolder(below(trials, f"{config['number']:04d}")) as folder, locked(folder.lock):
        remove_leftovers(folder.path)
        folder.bring(ERROR)
        if noted_error(folder.path) is not None:
            return
        try:
            run(config, experiment=experiment, trials=trials, worker=worker)
        except DiskError:
            raise  # not the trial's fault: the sweep ends, and goes on with this trial when there is room
        except Exception as error:
            note_error(folder.path, error)
            folder.send()
            raise


def run_trial(config: dict[str, Any], experiment: dict[str, Any], trials: str, worker: dict[str, float]) -> None:
    """Train with one set of values; killed and called again, it goes on from its own folder.

    The epochs that its folder holds are reported again first, so that a sweep that was killed decides about them as it would have.

    Args:
        config: The trial's `number`, and its `values` by dotted name.
        experiment: The experiment of a trial as plain values.
        trials: Path or address of the folder of the trials' run folders.
        worker: Resources of each worker (CPU, GPU) where a trial has several; empty for a trial in this process.
    """
    mine = with_values(build_experiment(experiment), config["values"], name=f"trial-{config['number']:04d}")
    folder = RunFolder.at(below(trials, f"{config['number']:04d}"))
    try:
        drop_damaged(folder)
        folder.claim(mine)
        if worker:
            _run_workers(mine, folder, worker)
        else:
            _run_here(mine, folder)
    finally:
        folder.close()


def drop_damaged(folder: RunFolder) -> None:
    """A trial whose files a crash of the machine has cut short begins anew: its values are elsewhere, and no failure is its fault."""
    config = folder.path / "config.toml"
    try:
        folder.load_latest()
        if config.exists():
            folder.experiment()
    except DiskError:
        raise
    except UserError as problem:
        log.warning("%s (the trial begins anew)", problem)
        folder.remove(folder.checkpoints.name)
        config.unlink(missing_ok=True)


def _run_here(mine: Experiment, folder: RunFolder) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(own_cpus())
    report = shown(mine.name, True, reporter(mine, ray.tune.report))
    _report_again(folder, report)
    place = Place(device)
    TrainingRun(mine, folder, place).fit(on_epoch=sent_before(report, folder, place))


def _report_again(folder: RunFolder, report: Any) -> None:
    state = folder.load_latest()
    for row in state["history"] if state else []:
        report(row)


def _run_workers(experiment: Experiment, folder: RunFolder, worker: dict[str, float]) -> None:
    scaling = ScalingConfig(
        num_workers=experiment.search.workers_per_trial, use_gpu="GPU" in worker, resources_per_worker=worker
    )
    try:
        run_trainer(experiment, folder, scaling, train_trial_worker, [TuneReportCallback()])
    finally:
        folder.remove(OWN_FILES)


def train_trial_worker(config: dict[str, Any]) -> None:
    """One rank of a trial with several workers; the errors of `train_worker`."""
    report = reporter(build_experiment(config["experiment"]), ray.train.report)
    folder = RunFolder.at(config["folder"])
    _report_again(folder, report)
    folder.close()
    train_worker({**config, "report": report})
