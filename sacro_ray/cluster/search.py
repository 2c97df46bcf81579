"""The sweep: Optuna proposes, Ray Tune runs, ASHA stops early, and every finished trial is on the disk at once."""

import logging
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.space import distributions, own_values
from sacro_ray.cluster.sweep_folder import SweepFolder, TrialKeeper
from sacro_ray.cluster.training import check_before_training
from sacro_ray.cluster.trial import run_trial
from sacro_ray.config import Experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.data import data_digests
from sacro_ray.learning.stages import plan

log = logging.getLogger("sacro_ray")
SWEEP = "ray"
"""Name of Ray Tune's own folder inside the sweep's."""


class AllTrialsFailedError(RuntimeError):
    """No trial of a sweep got to an AUC."""


class PhaseSearch(OptunaSearch):  # type: ignore[misc]
    """Optuna as Ray Tune's searcher, with trials that ASHA stopped early stored as PRUNED, which Ray stores as COMPLETE."""

    def __init__(self, experiment: Experiment) -> None:
        sampler = TPESampler(multivariate=True, constant_liar=True, seed=experiment.seed)
        super().__init__(space=distributions(experiment), metric="best_auc", mode="max", sampler=sampler)
        self.epochs = plan(experiment.of_a_trial().training)[-1].last_epoch
        self._ot_study.enqueue_trial(own_values(experiment))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended."""
        if result and not error and result["epoch"] < self.epochs and trial_id not in self._completed_trials:
            self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.PRUNED)
            self._completed_trials.add(trial_id)
        else:
            super().on_trial_complete(trial_id, result, error)


def search(experiment: Experiment, runs: Path, resume: bool, address: str | None = None) -> Path:
    """Run a sweep, or with `resume` what is left of one; answers the path of best.toml.

    Raises:
        UserError: The space or the resources do not fit, the folder holds a sweep (without `resume`), holds none, or holds another
            (with it).
        AllTrialsFailedError: No trial ended with an AUC.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = SweepFolder((runs / f"{experiment.name}-sweep").resolve())
    distributions(experiment)
    check_before_training(experiment)
    digests = data_digests(experiment, experiment.cohorts_of("development"))
    if resume:
        folder.check_same(experiment, digests)
    else:
        folder.claim(experiment, digests)
    if len(folder.records()) < experiment.search.trials:
        with ray_session(address):
            restorable = resume and tune.Tuner.can_restore(str(folder.path / SWEEP))
            (_restored(experiment, folder) if restorable else _new(experiment, folder)).fit()
    trials = folder.records()
    if not any(record["best_auc"] is not None for record in trials):
        raise AllTrialsFailedError(
            f"all {len(trials)} trials failed; the first error: {trials[0]['error'] if trials else 'none began'}"
        )
    folder.write_study(experiment)
    return folder.write_tables(experiment)


def trial_resources(experiment: Experiment) -> tuple[dict[str, float], dict[str, float], int]:
    """Resources of a trial's own process, of each of its workers (empty where it has none), and how many trials fit at once.

    Raises:
        UserError: A trial asks for more than the cluster has.
    """
    resources = ray.cluster_resources()
    gpus, cpus = float(resources.get("GPU", 0)), float(resources.get("CPU", 1))
    settings = experiment.search
    workers = settings.workers_per_trial
    gpu = settings.gpus_per_trial if gpus else 0.0
    default_cpus = max(1.0, cpus // max(1.0, gpus / gpu)) if gpu else cpus
    cpu = (settings.cpus_per_trial or default_cpus) / workers
    for kind, asked, there in (("GPUs", gpu, gpus), ("CPUs", cpu * workers, cpus)):
        if asked > there:
            raise UserError(f"a trial asks for {asked:g} {kind}, this Ray has {there:g}; lower search.{kind.lower()}_per_trial")
    fit_at_once = int(min(cpus / (cpu * workers), gpus / gpu if gpu else float("inf")))
    share = {"CPU": cpu, **({"GPU": gpu / workers} if gpu else {})}
    if workers == 1:
        return share, {}, fit_at_once
    # A driver that held a CPU of its own would starve the workers it waits for.
    return {"CPU": 0.01}, {**share, "CPU": max(1.0, cpu // 1)}, max(1, fit_at_once)


def _trainable(experiment: Experiment, folder: SweepFolder) -> tuple[Any, int]:
    own, worker, at_once = trial_resources(experiment)
    function = tune.with_parameters(
        run_trial, experiment=experiment.of_a_trial().as_dict(), trials=str(folder.trials), worker=worker
    )
    return tune.with_resources(function, own), at_once


def _new(experiment: Experiment, folder: SweepFolder) -> tune.Tuner:
    trainable, at_once = _trainable(experiment, folder)
    settings, phases = experiment.search, plan(experiment.of_a_trial().training)
    scheduler: Any = FIFOScheduler()
    if settings.early_stopping and len(phases) > 1:
        scheduler = ASHAScheduler(
            time_attr="halving_time", grace_period=1, max_t=settings.reduction_factor ** len(phases),
            reduction_factor=settings.reduction_factor, stop_last_trials=False,
        )  # fmt: skip
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="best_auc", mode="max", num_samples=settings.trials, search_alg=PhaseSearch(experiment),
            scheduler=scheduler, max_concurrent_trials=at_once, reuse_actors=False,
        ),
        run_config=tune.RunConfig(
            name=SWEEP, storage_path=str(folder.path), callbacks=[TrialKeeper(folder, experiment)], verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )  # fmt: skip


def _restored(experiment: Experiment, folder: SweepFolder) -> tune.Tuner:
    trainable, _ = _trainable(experiment, folder)
    return tune.Tuner.restore(str(folder.path / SWEEP), trainable=trainable, resume_unfinished=True)
