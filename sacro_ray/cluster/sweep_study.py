"""The Optuna study of a sweep, made anew from the sweep's folder at each start.

What is on the disk is all there is: a trial is on it with its values before it begins, and with its end as soon as it has ended. The
sampler of trial N is seeded by (seed, N) and sees the trials before it, so a resumed sweep proposes what an undisturbed one would have.
"""

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from itertools import accumulate
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from sacro_ray.cluster.space import distributions, own_values
from sacro_ray.cluster.sweep_folder import Record, SweepFolder
from sacro_ray.config import Experiment

log = logging.getLogger("sacro_ray")
DATABASE_PATIENCE_S = 5.0


class SweepStudy:
    """Proposes trials and hears how they ended."""

    def __init__(self, experiment: Experiment, folder: SweepFolder) -> None:
        """Take in what the folder holds; trials that began and did not end come first again, with the values they had.

        Raises:
            UserError: A trial's folder is missing.
        """
        self._space, self._own, self._seed = distributions(experiment), own_values(experiment), experiment.seed
        self._folder = folder
        self._study = optuna.create_study(direction="maximize")
        self._running: dict[int, optuna.trial.Trial] = {}
        self._unfinished: deque[int] = deque()
        ended = {record["number"]: record for record in folder.records()}
        for number, values in enumerate(folder.begun()):
            if number in ended:
                self._study.add_trial(frozen(ended[number], self._space))
                continue
            self._study.enqueue_trial(values)
            self._running[number] = self._study.ask(self._space)
            self._unfinished.append(number)

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The number and the values of the next trial; they are on the disk when this returns."""
        if self._unfinished:
            number = self._unfinished.popleft()
            return number, self._running[number].params
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = _sampler(self._seed, number)
        if number == 0:
            self._study.enqueue_trial(self._own)
        trial = self._study.ask(self._space)
        self._folder.begin(number, trial.params)
        self._running[number] = trial
        return number, trial.params

    def tell(self, record: Record) -> None:
        """Note how a trial ended; a second time changes nothing."""
        trial = self._running.pop(record["number"], None)
        if trial is None:
            return
        for epoch, best in enumerate(running_best(record), 1):
            trial.report(best, epoch)
        state = state_of(record)
        self._study.tell(trial, record["best_auc"] if state == TrialState.COMPLETE else None, state)


def _sampler(seed: int, number: int) -> TPESampler:
    own_seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    return TPESampler(multivariate=True, constant_liar=True, seed=own_seed)


def running_best(record: Record) -> list[float]:
    """The objective after each epoch: the best validation AUC so far."""
    return list(accumulate(record["aucs"], max))


def state_of(record: Record) -> TrialState:
    """How Optuna calls the end of a trial."""
    return TrialState[record["state"]]


def frozen(record: Record, space: Mapping[str, Any]) -> FrozenTrial:
    """An ended trial as Optuna keeps it."""
    return optuna.trial.create_trial(
        state=state_of(record),
        value=record["best_auc"],
        params=record["values"],
        distributions=dict(space),
        intermediate_values=dict(enumerate(running_best(record), 1)),
        user_attrs={"error": record["error"]} if record["error"] else {},
    )


def write_database(experiment: Experiment, folder: SweepFolder) -> None:
    """Write study.db for optuna-dashboard, one way only: the sweep never reads it.

    Made anew beside it and then copied into it in one transaction: a dashboard that has it open sees the new trials, which it does not
    where the file is replaced.
    """
    path, temporary = folder.path / "study.db", folder.path / ".study.db.tmp"
    temporary.unlink(missing_ok=True)
    study = optuna.create_study(storage=f"sqlite:///{temporary}", study_name=experiment.name, direction="maximize")
    space, ended = distributions(experiment), {record["number"]: record for record in folder.records()}
    study.add_trials(
        [
            frozen(ended[number], space)
            if number in ended
            else optuna.trial.create_trial(state=TrialState.RUNNING, params=values, distributions=dict(space))
            for number, values in enumerate(folder.begun())
        ]
    )
    deadline = time.monotonic() + DATABASE_PATIENCE_S

    def give_up(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise TimeoutError

    with closing(sqlite3.connect(temporary)) as source, closing(sqlite3.connect(path, DATABASE_PATIENCE_S)) as target:
        try:
            source.backup(target, progress=give_up)
        except TimeoutError:
            log.warning("%s is held by another program; it is written after a later trial", path)
    temporary.unlink()
