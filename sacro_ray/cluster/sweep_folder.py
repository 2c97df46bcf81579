"""The sweep's folder: what was asked, which trials began and how they ended.

Layout: sweep.toml, data.json, trials/NNNN/ (a run folder each, with values.json from before its start and trial.json once it has ended),
and of all trials trials.csv, best.toml, sweep.html and study.db.
"""

import fcntl
import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from ray.tune import Callback

from sacro_ray.cluster.gauges import show_trials
from sacro_ray.cluster.space import with_values
from sacro_ray.config import Experiment, build_experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import differences, write_whole
from sacro_ray.learning.stages import plan

if TYPE_CHECKING:
    from sacro_ray.cluster.sweep_display import Display
    from sacro_ray.cluster.sweep_results import Results
    from sacro_ray.cluster.sweep_study import SweepStudy

Record = dict[str, Any]


@dataclass(frozen=True)
class SweepFolder:
    """Paths and files of one sweep."""

    path: Path

    @property
    def trials(self) -> Path:
        """The folder of the trials' run folders."""
        return self.path / "trials"

    def trial(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.trials / f"{number:04d}"

    def check_free(self) -> None:
        """See that a new sweep may be put here.

        Raises:
            UserError: The folder holds a sweep.
        """
        if (self.path / "sweep.toml").exists():
            raise UserError(
                f"{self.path} holds a sweep already; go on with it by --resume, choose another name with --set name=NAME, "
                "or remove that folder"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out for as long as the block lasts; the kernel lets go when this one ends, however it ends.

        Raises:
            UserError: Another process is at work here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another `tune` is at work in {self.path}; wait for its end, or stop it first") from None
            yield

    def claim(self, experiment: Experiment, digests: Mapping[str, str]) -> None:
        """Make the folder this sweep's.

        Raises:
            UserError: It holds a sweep.
        """
        self.check_free()
        self.trials.mkdir(parents=True, exist_ok=True)
        write_whole(
            self.path / "data.json", lambda t: t.write_text(json.dumps(dict(digests), sort_keys=True), encoding="utf-8")
        )
        write_whole(self.path / "sweep.toml", lambda t: t.write_text(experiment.as_toml(), encoding="utf-8"))

    def check_same(self, experiment: Experiment, digests: Mapping[str, str]) -> Experiment:
        """See that the folder holds this very sweep, whatever the number of trials; answers the experiment that it began with.

        Raises:
            UserError: There is no sweep, or it has another configuration, search space or data.
        """
        asked = self.path / "sweep.toml"
        if not asked.exists():
            raise UserError(f"no sweep to resume at {self.path}; start one without --resume")
        began = build_experiment(tomllib.loads(asked.read_text(encoding="utf-8")), source=str(asked))
        found = differences(_without_budget(began), _without_budget(experiment))
        if found:
            raise UserError(
                f"the sweep at {self.path} was another: it differs in {', '.join(found[:5])}; resume it with the same settings, "
                "or start another with --set name=NAME"
            )
        if json.loads((self.path / "data.json").read_text(encoding="utf-8")) != dict(digests):
            raise UserError(
                f"the shards have changed since the sweep at {self.path} began; bring them back, or start a sweep with another name"
            )
        return began

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        """Put a trial's values on the disk, before it starts."""
        path = self.trial(number) / "values.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda t: t.write_text(json.dumps(dict(values), sort_keys=True), encoding="utf-8"))

    def begun(self) -> list[dict[str, Any]]:
        """Values of the trials that have begun, by number.

        Raises:
            UserError: A trial is missing between others.
        """
        found = {int(path.parent.name): path for path in self.trials.glob("*/values.json")}
        missing = sorted(set(range(len(found))) - found.keys())
        if missing:
            raise UserError(
                f"{self.trial(missing[0])} is missing, and later trials build on it; put it back, or start a sweep with another name"
            )
        return [json.loads(found[number].read_text(encoding="utf-8")) for number in range(len(found))]

    def records(self) -> list[Record]:
        """How each trial that has ended did, by number."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in self.trials.glob("*/trial.json")]
        return sorted(found, key=lambda record: record["number"])

    def keep(self, record: Record) -> None:
        """Put the end of a trial on the disk."""
        folder = self.trial(record["number"])
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "trial.json", lambda t: t.write_text(json.dumps(record, sort_keys=True), encoding="utf-8"))

    def drop_checkpoints(self, records: list[Record], keep: int) -> None:
        """Remove what ended trials left for a restart, and the weights of all but the best `keep` of them."""
        ranked = sorted((r for r in records if r["best_auc"] is not None), key=lambda r: (-r["best_auc"], r["number"]))
        best = {r["number"] for r in ranked[:keep]}
        for record in records:
            checkpoints = self.trial(record["number"]) / "checkpoints"
            (checkpoints / "latest.pt").unlink(missing_ok=True)
            if record["number"] not in best:
                shutil.rmtree(checkpoints, ignore_errors=True)


def _without_budget(experiment: Experiment) -> dict[str, Any]:
    settings = experiment.as_dict()
    return {**settings, "search": {key: value for key, value in settings["search"].items() if key != "trials"}}


class TrialKeeper(Callback):  # type: ignore[misc]
    """Ray Tune's messages about trials: kept in the sweep's folder, told to the study and shown, as they come."""

    def __init__(
        self, folder: SweepFolder, experiment: Experiment, study: "SweepStudy", results: "Results", display: "Display"
    ) -> None:
        self.folder, self.experiment = folder, experiment
        self.study, self.results, self.display = study, results, display

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray writes its callbacks down for a restore of its own, which a sweep never uses."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins."""
        self.display.began(trial.config["number"], trial.config["values"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Record, **info: Any) -> None:
        """An epoch of a trial is over."""
        self.display.epoch(trial.config["number"], result["epoch"], result["auc"], result["best_auc"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ran to its end or was stopped early."""
        self._end(trial, error=None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed; the sweep goes on."""
        error_file = Path(trial.error_file) if trial.error_file else None
        lines = error_file.read_text(encoding="utf-8").strip().splitlines() if error_file and error_file.exists() else []
        self._end(trial, error=lines[-1] if lines else "unknown error")

    def _end(self, trial: Any, error: str | None) -> None:
        number, values = trial.config["number"], trial.config["values"]
        history = self.folder.trial(number) / "history.csv"
        rows = pd.read_csv(history) if history.exists() else pd.DataFrame(columns=["epoch", "val_auc", "seconds"])
        own = with_values(self.experiment.of_a_trial(), values)
        done = len(rows) >= plan(own.training)[-1].last_epoch
        usable = error is None and len(rows) > 0
        best = rows.iloc[int(rows["val_auc"].to_numpy().argmax())] if usable else None
        record: Record = {
            "number": number, "state": ("COMPLETE" if done else "PRUNED") if usable else "FAIL", "values": values,
            "best_auc": None if best is None else float(best["val_auc"]), "epoch": None if best is None else int(best["epoch"]),
            "epochs": len(rows), "seconds": round(float(rows["seconds"].sum()), 1), "aucs": rows["val_auc"].tolist(),
            "error": error if usable or error else "it ended without an epoch",
        }  # fmt: skip
        self.folder.keep(record)
        self.study.tell(record)
        ended = self.folder.records()
        self.folder.drop_checkpoints(ended, self.experiment.search.keep_checkpoints)
        self.results.write(ended)
        self.display.ended(record, ended)
        show_trials(self.experiment.name, ended)
