"""Ray Tune's messages about trials, kept in the sweep's folder, told to the study and shown."""

import csv
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.tune import Callback

from sacro_ray.cluster.gauges import show_trials
from sacro_ray.cluster.memory import memory_words
from sacro_ray.cluster.sizing import cluster_nodes
from sacro_ray.cluster.space import with_values
from sacro_ray.cluster.sweep_display import Display
from sacro_ray.cluster.sweep_folder import Record, SweepFolder
from sacro_ray.cluster.sweep_results import Results
from sacro_ray.cluster.sweep_study import SweepStudy
from sacro_ray.config import Experiment
from sacro_ray.disk import DiskError
from sacro_ray.errors import UserError
from sacro_ray.learning.stages import plan

log = logging.getLogger("sacro_ray")
REDRAW_S, LOOK_S = 1.0, 30.0


class TrialKeeper(Callback):  # type: ignore[misc]
    """Hears from Ray Tune how trials begin, go and end."""

    def __init__(
        self, folder: SweepFolder, experiment: Experiment, study: SweepStudy, results: Results, display: Display
    ) -> None:
        self.folder, self.experiment = folder, experiment
        self.study, self.results, self.display = study, results, display
        self._problem: UserError | None = None
        self._drawn = self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray writes its callbacks down for a restore of its own, which a sweep never uses."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Some tenths of a second have passed."""
        now = time.monotonic()
        if now - self._drawn > REDRAW_S:
            self.display.redraw()
            self._drawn = now
        if now - self._looked > LOOK_S:
            if not cluster_nodes():
                raise RuntimeError("this Ray has lost all its machines, and Ray Tune would wait for ever; go on with --resume")
            self._looked = now

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or begins again in another process."""
        if self.folder.error_of(trial.config["number"]) is None:
            self.display.began(trial.config["number"], trial.config["values"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Record, **info: Any) -> None:
        """An epoch of a trial is over."""
        self.display.epoch(trial.config["number"], result["epoch"], result["auc"], result["best_auc"])

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process has ended before the trial, and another goes on."""
        if self.folder.error_of(trial.config["number"]) is None:
            log.info("trial %d lost its process (%s); another goes on with it", trial.config["number"], _last_words(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ran to its end, was stopped early, or noted its error."""
        self._end(trial, self.folder.error_of(trial.config["number"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed; the sweep goes on, unless the disk is to blame."""
        if words := _words_of_the_disk(trial):
            with self.problems_kept():
                raise DiskError(words)
        lost = f"its process was lost more than {self.experiment.training.max_failures} times: {_last_words(trial)}"
        self._end(trial, self.folder.error_of(trial.config["number"]) or lost)

    def _end(self, trial: Any, error: str | None) -> None:
        number = trial.config["number"]
        if self.folder.has_ended(number):
            return
        with self.problems_kept():
            record = self._record(number, trial.config["values"], error)
            self.folder.keep(record)
            self.study.tell(record)
            ended = self.folder.records()
            self.folder.drop_checkpoints(ended, self.experiment.search.keep_checkpoints)
            self.results.write(ended)
        self.display.ended(record, ended)
        show_trials(self.experiment.name, ended)

    @contextmanager
    def problems_kept(self) -> Iterator[None]:
        """A `UserError` in the block, such as a full disk, ends the sweep: Tune hands on only the text of what it hears."""
        try:
            yield
        except UserError as problem:
            self._problem = problem
            raise

    @contextmanager
    def problems_told(self) -> Iterator[None]:
        """What the sweep ends with is the error that was kept, where there is one."""
        try:
            yield
        except Exception:
            if self._problem is None:
                raise
            raise UserError(f"{self._problem}; `tune` goes on with --resume") from None

    def _record(self, number: int, values: dict[str, Any], error: str | None) -> Record:
        self.folder.bring(number, "history.csv")
        rows = history_rows(self.folder.trial(number) / "history.csv")
        aucs = [float(row["val_auc"]) for row in rows]
        if error is None and not rows:
            error = "it ended without an epoch"
        record: Record = {
            "number": number, "state": "FAIL", "values": values, "best_auc": None, "epoch": None, "epochs": len(rows),
            "seconds": round(sum(float(row["seconds"]) for row in rows), 1), "aucs": aucs, "error": error,
        }  # fmt: skip
        if error is None:
            done = len(rows) >= plan(with_values(self.experiment.of_a_trial(), values).training)[-1].last_epoch
            best = max(aucs)
            record |= {"state": "COMPLETE" if done else "PRUNED", "best_auc": best, "epoch": aucs.index(best) + 1}
        return record


def history_rows(history: Path) -> list[dict[str, str]]:
    """The rows of a history.csv that may not be there yet."""
    if not history.exists():
        return []
    with history.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _last_words(trial: Any) -> str:
    """What Ray Tune knows of the end of a trial's process: the first sentence of the last line, which the guesses at causes follow."""
    return memory_words(_last_text(trial)) or _last_line(trial).partition(". ")[0] or "unknown error"


def _words_of_the_disk(trial: Any) -> str:
    """The message of a disk that refused, where that is what ended a trial; or else nothing."""
    kind, _, message = _last_line(trial).partition(": ")
    return message if kind == f"{DiskError.__module__}.{DiskError.__qualname__}" else ""


def _last_line(trial: Any) -> str:
    lines = _last_text(trial).strip().splitlines()
    return lines[-1].strip() if lines else ""


def _last_text(trial: Any) -> str:
    path = Path(trial.error_file) if trial.error_file else None
    return path.read_text(encoding="utf-8") if path and path.exists() else ""
