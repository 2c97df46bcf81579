"""The sweep: Optuna proposes, Ray Tune runs, ASHA stops early, and every trial is on the disk before it begins and as soon as it ends."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.search import Searcher

from sacro_ray.cluster.runtime import cluster_nodes, ray_session
from sacro_ray.cluster.space import distributions
from sacro_ray.cluster.storage import ray_storage
from sacro_ray.cluster.sweep_display import display
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.sweep_keeper import TrialKeeper
from sacro_ray.cluster.sweep_resources import TrialResources, fit_trials
from sacro_ray.cluster.sweep_results import Results, best_of
from sacro_ray.cluster.sweep_rungs import METRIC, MODE, scheduler
from sacro_ray.cluster.sweep_study import SweepStudy
from sacro_ray.cluster.trial import attempt, run_trial
from sacro_ray.config import Experiment
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.errors import UserError
from sacro_ray.evaluation.remarks import auc_remarks
from sacro_ray.learning.data import data_digests
from sacro_ray.learning.readiness import check_before_training
from sacro_ray.learning.stages import plan
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")
LONGEST_NAME = 64 - len("-best")


class AllTrialsFailedError(RuntimeError):
    """No trial of a sweep got to an AUC."""


class StudySearch(Searcher):  # type: ignore[misc]
    """The study as Ray Tune's searcher; how a trial ended the study hears from `TrialKeeper`, which knows more than Tune tells here."""

    def __init__(self, study: SweepStudy, keeper: TrialKeeper) -> None:
        super().__init__(metric=METRIC, mode=MODE)
        self._study, self._keeper = study, keeper

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Number and values of the next trial."""
        with self._keeper.problems_kept():
            number, values = self._study.ask()
        return {"number": number, "values": values}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing here."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed sweep reads its own folder."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason."""
        return {}


def search(
    experiment: Experiment, runs: str | Path, resume: bool, address: str | None = None, trial: Callable[..., None] = run_trial
) -> str | Path:
    """Run a sweep, or with `resume` what is left of one; answers where best.toml lies, a path or an address.

    Args:
        experiment: What is searched, and how.
        runs: The folder, or its address, in which NAME-sweep/ lies.
        resume: Go on with the sweep that is there.
        address: Of a Ray cluster; see `ray_session`.
        trial: What a trial does, with the arguments of `run_trial`; it must write the history and report it likewise.

    Raises:
        UserError: The space or the resources do not fit, the folder holds a sweep (without `resume`), holds none, or holds another
            (with it).
        AllTrialsFailedError: No trial ended with an AUC.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _check_name(experiment.name)
    folder = SweepFolder.at(below(runs, f"{experiment.name}-sweep"))
    distributions(experiment)
    check_before_training(experiment)
    digests = data_digests(experiment, experiment.cohorts_of("development"))
    began = experiment
    if resume:
        began = folder.check_same(experiment, digests)
    else:
        folder.check_free()
    simulated = any(read_manifest(experiment.prepare.shards, name).simulated for name in experiment.cohorts_of("development"))
    results = Results(experiment, folder, simulated)
    if len(folder.records()) < experiment.search.trials:
        with folder.alone(), ray_session(address):
            resources = fit_trials(experiment.search, cluster_nodes())
            if not resume:
                folder.claim(experiment, digests)
            _run(experiment, began, folder, results, resources, trial)
    trials = folder.records()
    results.write(trials, last=True)
    best = best_of(trials)
    if best is None:
        raise AllTrialsFailedError(f"all {len(trials)} trials failed; the first error: {trials[0]['error']}")
    for remark in auc_remarks("the best trial: ", {"estimate": best["best_auc"]}):
        log.warning("remark: %s", remark)
    return as_given(below(folder.location, "best.toml"))


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"name = {name!r} has {len(name)} characters, and best.toml of a sweep adds -best to it; "
            f"give at most {LONGEST_NAME}, such as --set name={name[:LONGEST_NAME]}"
        )


def _run(
    experiment: Experiment, began: Experiment, folder: SweepFolder, results: Results, resources: TrialResources,
    trial: Callable[..., None],
) -> None:  # fmt: skip
    """Run the trials that are left; `began` is the experiment as it was when the sweep began, which the trials' folders hold."""
    ended = folder.records()
    study = SweepStudy(experiment, folder)
    epochs = plan(experiment.of_a_trial().training)[-1].last_epoch
    # What Ray Tune keeps there is for a restore of its own, which cannot be relied on: it forgets the last seconds before a kill.
    folder.remove_files_of_ray()
    function = tune.with_parameters(
        attempt,
        run=trial,
        experiment=began.of_a_trial().as_dict(),
        trials=below(folder.location, folder.trials.name),
        worker=resources.worker,
    )
    try:
        with display(experiment.search.trials, epochs, ended) as shown:
            keeper = TrialKeeper(folder, experiment, study, results, shown)
            with keeper.problems_told():
                _tuner(experiment, folder, resources, function, StudySearch(study, keeper), keeper).fit()
    except KeyboardInterrupt:
        log.info("the sweep stops; `tune` with --resume goes on with it")
        raise
    folder.remove_files_of_ray()
    ended = folder.records()
    # Workers of a trial that was stopped early can have written once more.
    folder.drop_checkpoints(ended, experiment.search.keep_checkpoints)
    left = experiment.search.trials - len(ended)
    if left > 0:
        raise RuntimeError(f"Ray Tune ended with {left} trials to go; go on with --resume")


def _tuner(
    experiment: Experiment, folder: SweepFolder, resources: TrialResources, function: Any,
    searcher: StudySearch, keeper: TrialKeeper,
) -> tune.Tuner:  # fmt: skip
    ended = folder.records()
    return tune.Tuner(
        tune.with_resources(function, resources.own),
        tune_config=tune.TuneConfig(
            num_samples=experiment.search.trials - len(ended), search_alg=searcher,
            scheduler=scheduler(experiment, ended), max_concurrent_trials=resources.at_once,
            # A worker that has trained one trial has torch loaded and its memory mapped; with workers of its own a trial is a driver only.
            reuse_actors=not resources.worker,
        ),
        run_config=tune.RunConfig(
            name=str(time.time_ns()), **ray_storage(folder.location), verbose=0,
            failure_config=tune.FailureConfig(max_failures=experiment.training.max_failures),
            callbacks=[keeper],
        ),
    )  # fmt: skip
