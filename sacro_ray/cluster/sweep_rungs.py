"""Where a sweep stops trials early: ASHA with its rungs at the ends of the phases.

An AUC at 224 px says little beside one at 768 px, so trials are compared at the same phase's end. ASHA's rungs lie at powers of its
reduction factor; reporting that power as `halving_time`, there and nowhere else, makes the ends of the phases its rungs.
"""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from sacro_ray.cluster.space import with_values
from sacro_ray.cluster.sweep_folder import Record
from sacro_ray.cluster.sweep_study import running_best
from sacro_ray.config import Experiment
from sacro_ray.learning.stages import plan

Row = dict[str, Any]
METRIC, MODE = "best_auc", "max"


def scheduler(experiment: Experiment, ended: Iterable[Record]) -> Any:
    """Ray Tune's scheduler, which has seen the trials that ended before this start."""
    settings, trial_experiment = experiment.search, experiment.of_a_trial()
    if not settings.early_stopping:
        return FIFOScheduler()
    places = 2 * len(trial_experiment.training.stages)
    asha = ASHAScheduler(
        time_attr="halving_time", metric=METRIC, mode=MODE, grace_period=1, max_t=settings.reduction_factor**places,
        reduction_factor=settings.reduction_factor, stop_last_trials=False,
    )  # fmt: skip
    for record in ended:
        trial, best = SimpleNamespace(trial_id=f"ended-{record['number']}"), running_best(record)
        if not best:
            continue
        asha.on_trial_add(None, trial)
        for epoch, power in rungs(with_values(trial_experiment, record["values"])).items():
            if epoch <= len(best):
                asha.on_trial_result(None, trial, {"halving_time": power, METRIC: best[epoch - 1]})
    return asha


def rungs(experiment: Experiment) -> dict[int, float]:
    """The power of the reduction factor that the last epoch of each phase of a trial stands for; `experiment` is the trial's own.

    It counts two a stage, so that the same phase is the same rung where the sweep searches numbers of epochs and a trial has none there.
    """
    return {
        phase.last_epoch: experiment.search.reduction_factor ** (2 * phase.stage + (phase.name == "unfrozen"))
        for phase in plan(experiment.training)
    }


def reporter(experiment: Experiment, report: Callable[[Row], None]) -> Callable[[Row], None]:
    """Reports a row of the history as the sweep reads it; `halving_time` stands only at the end of a phase, where ASHA decides."""
    ends = rungs(experiment)

    def tell(row: Row) -> None:
        at_rung = {"halving_time": ends[row["epoch"]]} if row["epoch"] in ends else {}
        report({"epoch": row["epoch"], "auc": row["val_auc"], METRIC: row["best_val_auc"], **at_rung})

    return tell
