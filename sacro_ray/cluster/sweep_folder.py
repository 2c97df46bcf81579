"""The sweep's folder: what was asked, how each trial ended, and the tables and pictures made of that.

Layout: sweep.toml, data.json, trials/<id>/ (a run folder each, with trial.json once it has ended), and of all trials trials.csv,
sweep.png, study.db and best.toml.
"""

import json
import logging
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.trial import TrialState
from ray.tune import Callback

from sacro_ray.cluster.space import distributions, with_values
from sacro_ray.config import Experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import differences, write_whole
from sacro_ray.learning.stages import plan

log = logging.getLogger("sacro_ray")
Record = dict[str, Any]


@dataclass(frozen=True)
class SweepFolder:
    """Paths and files of one sweep."""

    path: Path

    @property
    def trials(self) -> Path:
        """The folder of the trials' run folders."""
        return self.path / "trials"

    def claim(self, experiment: Experiment, digests: Mapping[str, str]) -> None:
        """Make the folder this sweep's.

        Raises:
            UserError: It holds a sweep.
        """
        if (self.path / "sweep.toml").exists():
            raise UserError(
                f"{self.path} holds a sweep already; go on with it by --resume, choose another name with --set name=NAME, "
                "or remove that folder"
            )
        self.trials.mkdir(parents=True, exist_ok=True)
        write_whole(
            self.path / "data.json", lambda t: t.write_text(json.dumps(dict(digests), sort_keys=True), encoding="utf-8")
        )
        write_whole(self.path / "sweep.toml", lambda t: t.write_text(experiment.as_toml(), encoding="utf-8"))

    def check_same(self, experiment: Experiment, digests: Mapping[str, str]) -> None:
        """See that the folder holds this very sweep.

        Raises:
            UserError: There is no sweep, or it has another configuration, search space or data.
        """
        asked = self.path / "sweep.toml"
        if not asked.exists():
            raise UserError(f"no sweep to resume at {self.path}; start one without --resume")
        found = differences(tomllib.loads(asked.read_text(encoding="utf-8")), experiment.as_dict())
        if found:
            raise UserError(
                f"the sweep at {self.path} was another: it differs in {', '.join(found[:5])}; resume it with the same settings"
            )
        if json.loads((self.path / "data.json").read_text(encoding="utf-8")) != dict(digests):
            raise UserError(
                f"the shards have changed since the sweep at {self.path} began; bring them back, or start a sweep with another name"
            )

    def records(self) -> list[Record]:
        """How each trial that has ended did, by number."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in self.trials.glob("*/trial.json")]
        return sorted(found, key=lambda record: record["number"])

    def number_of(self, trial_id: str) -> int:
        """The trial's number in the order of first starts, from 0; a trial that is started again keeps its own."""
        path = self.trials / trial_id / "number"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(len(list(self.trials.glob("*/number")))), encoding="utf-8")
        return int(path.read_text(encoding="utf-8"))

    def keep(self, trial_id: str, record: Record) -> None:
        """Put the end of a trial on the disk."""
        folder = self.trials / trial_id
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "trial.json", lambda t: t.write_text(json.dumps(record, sort_keys=True), encoding="utf-8"))

    def drop_checkpoints(self, keep: int) -> None:
        """Remove what ended trials left for a restart, and the weights of all but the best `keep` of them."""
        ended = [r for r in self.records() if r["best_auc"] is not None]
        best = {r["trial_id"] for r in sorted(ended, key=lambda r: (-r["best_auc"], r["number"]))[:keep]}
        for record in self.records():
            checkpoints = self.trials / record["trial_id"] / "checkpoints"
            (checkpoints / "latest.pt").unlink(missing_ok=True)
            if record["trial_id"] not in best:
                shutil.rmtree(checkpoints, ignore_errors=True)

    def write_tables(self, experiment: Experiment) -> Path:
        """Write trials.csv, sweep.png and best.toml; answers best.toml's path."""
        records = self.records()
        rows = [
            {"number": r["number"], "state": r["state"], **r["values"], "best_auc": r["best_auc"], "epoch": r["epoch"],
             "epochs": r["epochs"], "seconds": r["seconds"], "error": r["error"]}
            for r in records
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        write_whole(self.path / "trials.csv", lambda t: table.to_csv(t, index=False))
        best = max((r for r in records if r["best_auc"] is not None), key=lambda r: (r["best_auc"], -r["number"]))
        draw_sweep(table, list(experiment.search.space), self.path / "sweep.png")
        chosen = with_values(experiment, best["values"], name=f"{experiment.name}-best")
        header = f"# The best of {len(records)} trials: number {best['number']}, validation AUC {best['best_auc']:.4f}.\n"
        write_whole(self.path / "best.toml", lambda t: t.write_text(header + chosen.as_toml(), encoding="utf-8"))
        return self.path / "best.toml"

    def write_study(self, experiment: Experiment) -> None:
        """Write study.db for optuna-dashboard, anew each time and one way only: the sweep never reads it."""
        path, temporary = self.path / "study.db", self.path / ".study.db.tmp"
        temporary.unlink(missing_ok=True)
        study = optuna.create_study(storage=f"sqlite:///{temporary}", study_name=experiment.name, direction="maximize")
        space = distributions(experiment)
        for record in self.records():
            failed = record["best_auc"] is None
            frozen = optuna.trial.create_trial(
                state=TrialState.FAIL if failed else TrialState[record["state"]],
                value=None if failed else record["best_auc"],
                params=record["values"],
                distributions=space,
                intermediate_values=dict(enumerate(record["aucs"], 1)),
            )
            study.add_trial(frozen)
        temporary.replace(path)


class TrialKeeper(Callback):  # type: ignore[misc]
    """Ray Tune's messages about trials, kept in the sweep's folder as they come and told on the log."""

    def __init__(self, folder: SweepFolder, experiment: Experiment) -> None:
        self.folder, self.experiment = folder, experiment

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say which values a trial tries."""
        log.info("trial %d: %s", self.folder.number_of(trial.trial_id), _values_text(trial.config))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ran to its end or was stopped early."""
        self._end(trial, error=None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed; the sweep goes on."""
        error_file = Path(trial.error_file) if trial.error_file else None
        lines = error_file.read_text(encoding="utf-8").strip().splitlines() if error_file and error_file.exists() else []
        self._end(trial, error=lines[-1] if lines else "unknown error")

    def _end(self, trial: Any, error: str | None) -> None:
        history = self.folder.trials / trial.trial_id / "history.csv"
        rows = pd.read_csv(history) if history.exists() else pd.DataFrame(columns=["epoch", "val_auc", "seconds"])
        done = len(rows) >= plan(self.experiment.of_a_trial().training)[-1].last_epoch
        usable = error is None and len(rows) > 0
        best = rows.iloc[int(rows["val_auc"].to_numpy().argmax())] if usable else None
        record: Record = {
            "number": self.folder.number_of(trial.trial_id), "trial_id": trial.trial_id,
            "state": ("COMPLETE" if done else "PRUNED") if usable else "FAIL", "values": dict(trial.config),
            "best_auc": None if best is None else float(best["val_auc"]), "epoch": None if best is None else int(best["epoch"]),
            "epochs": len(rows), "seconds": round(float(rows["seconds"].sum()), 1), "aucs": rows["val_auc"].tolist(), "error": error,
        }  # fmt: skip
        self.folder.keep(trial.trial_id, record)
        self.folder.drop_checkpoints(self.experiment.search.keep_checkpoints)
        ended = self.folder.records()
        top = max((r["best_auc"] for r in ended if r["best_auc"] is not None), default=None)
        if top is not None:
            self.folder.write_tables(self.experiment)
        log.info(
            "trial %d %s: AUC %s after %d epochs; %d of %d trials ended, best AUC %s",
            record["number"], record["state"], _auc_text(record["best_auc"]), record["epochs"],
            len(ended), self.experiment.search.trials, _auc_text(top),
        )  # fmt: skip


def draw_sweep(table: pd.DataFrame, dimensions: list[str], path: Path) -> None:
    """Best AUC of each trial in order, and against each dimension of the space."""
    figure = Figure(figsize=(4 * (len(dimensions) + 1), 3.6), layout="constrained")
    panels = figure.subplots(1, len(dimensions) + 1, sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, ["number", *dimensions], strict=True):
        for state, part in table.dropna(subset="best_auc").groupby("state"):
            axes.scatter(part[name], part["best_auc"], label=state, s=24)
        axes.set_xlabel(name)
        if name.endswith("lr"):
            axes.set_xscale("log")
    best_so_far = table["best_auc"].cummax()
    panels[0].plot(table["number"], best_so_far, drawstyle="steps-post", alpha=0.6, label="best so far")
    panels[0].set_ylabel("best validation AUC")
    panels[0].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=120)


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}" for name, value in values.items()
    )


def _auc_text(auc: float | None) -> str:
    return "none" if auc is None else f"{auc:.4f}"
