"""The trials of a sweep on Ray Tune: Optuna proposes, ASHA stops early, every trial is on the disk before it begins and once it ends."""

import time
from collections.abc import Callable
from typing import Any

import optuna
from ray import tune
from ray.tune.search import Searcher

from sacro_ray.cluster.storage import ray_storage
from sacro_ray.cluster.sweep_display import display
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.sweep_keeper import TrialKeeper
from sacro_ray.cluster.sweep_resources import TrialResources
from sacro_ray.cluster.sweep_results import Results
from sacro_ray.cluster.sweep_rungs import METRIC, MODE, scheduler
from sacro_ray.cluster.sweep_study import SweepStudy
from sacro_ray.cluster.trial import attempt, run_trial
from sacro_ray.config import Experiment
from sacro_ray.learning.stages import plan
from sacro_ray.locations import below


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


def run_trials(
    experiment: Experiment, began: Experiment, folder: SweepFolder, results: Results, resources: TrialResources,
    trial: Callable[..., None] | None,
) -> None:  # fmt: skip
    """Run the trials that are left.

    Args:
        experiment: What is searched.
        began: The same as it was when the sweep began, which the trials' folders hold.
        folder: The sweep's.
        results: What is written as trials end.
        resources: Of each trial.
        trial: What a trial does; by default `run_trial`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended = folder.records()
    study = SweepStudy(experiment, folder)
    epochs = plan(experiment.of_a_trial().training)[-1].last_epoch
    # What Ray Tune keeps there is for a restore of its own, which cannot be relied on: it forgets the last seconds before a kill.
    folder.remove_files_of_ray()
    function = tune.with_parameters(
        attempt,
        run=trial or run_trial,
        experiment=began.of_a_trial().as_dict(),
        trials=below(folder.location, folder.trials.name),
        worker=resources.worker,
    )
    with display(experiment.search.trials, epochs, ended) as shown:
        keeper = TrialKeeper(folder, experiment, study, results, shown)
        with keeper.problems_told():
            _tuner(experiment, folder, resources, function, StudySearch(study, keeper), keeper).fit()
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
