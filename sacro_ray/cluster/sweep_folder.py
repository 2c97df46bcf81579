"""The sweep's folder: what was asked, which trials began and how they ended.

Layout: sweep.toml, data.json, trials/NNNN/ (a run folder each, with values.json from before its start, error.txt if it fails and trial.json
once it has ended), and of all trials trials.csv, best.toml, sweep.html and study.db.
"""

import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sacro_ray.cluster.storage import OWN_FILES
from sacro_ray.config import Experiment, build_experiment
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import read_kept, whole_lines, write_atomically
from sacro_ray.errors import UserError
from sacro_ray.settings import differences

Record = dict[str, Any]
ERROR = "error.txt"
ANOTHER = "Put it back from a copy, or start a sweep with another name (--set name=NAME)"


@dataclass(frozen=True)
class SweepFolder:
    """Paths and files of one sweep.

    Attributes:
        path: Where its files are for this process.
        kept: Where they are kept, if that may be a bucket.
    """

    path: Path
    kept: WorkingFolder | None = None

    @classmethod
    def at(cls, location: str | Path) -> Self:
        """The sweep at a path or an address. Of one in a bucket all but the checkpoints is brought."""
        kept = WorkingFolder(location)
        kept.bring_all(lambda name: "/checkpoints/" not in name and not name.startswith("ray/"))
        return cls(kept.path, kept)

    @property
    def location(self) -> str:
        """Path or address, as trials and the user are told."""
        return self.kept.location if self.kept else str(self.path)

    def send(self) -> None:
        """Put into the bucket, where there is one, what was written here since."""
        if self.kept:
            self.kept.send()

    def bring(self, number: int, file: str) -> None:
        """Fetch a file of a trial from the bucket, where there is one; the trial, on another machine, has sent it."""
        if self.kept:
            self.kept.bring(f"{self.trials.name}/{number:04d}/{file}")

    @property
    def trials(self) -> Path:
        """The folder of the trials' run folders."""
        return self.path / "trials"

    def trial(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.trials / f"{number:04d}"

    def check_free(self) -> None:
        """See that a new sweep may be put here. A folder in which no trial has begun holds none, whatever its sweep.toml says.

        Raises:
            UserError: The folder holds a sweep.
        """
        if (self.path / "sweep.toml").exists() and any(self.trials.glob("*/values.json")):
            raise UserError(
                f"{self.location} holds a sweep already; go on with it by --resume, choose another name with --set name=NAME, "
                "or remove that folder"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out for as long as the block lasts; the kernel lets go when this one ends, however it ends.

        Raises:
            UserError: Another process is at work here.
            DiskError: Nothing can be written here.
        """
        with (self.kept or WorkingFolder(self.path)).alone("tune", "--runs"):
            yield

    def claim(self, experiment: Experiment, digests: Mapping[str, str]) -> None:
        """Make the folder this sweep's.

        Raises:
            UserError: It holds a sweep.
        """
        self.check_free()
        self.trials.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "data.json", json.dumps(dict(digests), sort_keys=True).encode())
        write_atomically(self.path / "sweep.toml", experiment.as_toml().encode())
        self.send()

    def check_same(self, experiment: Experiment, digests: Mapping[str, str]) -> Experiment:
        """See that the folder holds this very sweep, whatever the number of trials; returns the experiment that it began with.

        Raises:
            UserError: There is no sweep, or it has another configuration, search space or data.
        """
        asked = self.path / "sweep.toml"
        if not asked.exists():
            raise UserError(f"no sweep to resume at {self.location}; start one without --resume")
        began = build_experiment(read_kept(asked, lambda data: tomllib.loads(whole_lines(data)), ANOTHER), source=str(asked))
        found = differences(_without_budget(began), _without_budget(experiment))
        if found:
            raise UserError(
                f"the sweep at {self.location} was another: it differs in {', '.join(found[:5])}; resume it with the same settings, "
                "or start another with --set name=NAME"
            )
        if read_kept(self.path / "data.json", json.loads, ANOTHER) != dict(digests):
            raise UserError(
                f"the shards have changed since the sweep at {self.location} began; bring them back, or start a sweep with another name"
            )
        return began

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        """Put a trial's values on the disk, before it starts."""
        write_atomically(self.trial(number) / "values.json", json.dumps(dict(values), sort_keys=True).encode())
        self.send()

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
        return [read_kept(found[number], json.loads, ANOTHER) for number in range(len(found))]

    def has_ended(self, number: int) -> bool:
        """Whether the end of a trial is on the disk."""
        return (self.trial(number) / "trial.json").exists()

    def records(self) -> list[Record]:
        """How each trial that has ended did, by number.

        Raises:
            UserError: The end of a trial cannot be read.
        """
        remedy = "Remove this file and rerun `tune` with --resume, which trains this trial again"
        found = [read_kept(path, json.loads, remedy) for path in self.trials.glob("*/trial.json")]
        return sorted(found, key=lambda record: record["number"])

    def keep(self, record: Record) -> None:
        """Put the end of a trial on the disk."""
        write_atomically(self.trial(record["number"]) / "trial.json", json.dumps(record, sort_keys=True).encode())
        self.send()

    def error_of(self, number: int) -> str | None:
        """The error that a trial noted, or None."""
        self.bring(number, ERROR)
        return noted_error(self.trial(number))

    def drop_checkpoints(self, records: list[Record], keep: int) -> None:
        """Remove what ended trials left for a restart, and the weights of all but the best `keep` of them."""
        ranked = sorted((r for r in records if r["best_auc"] is not None), key=lambda r: (-r["best_auc"], r["number"]))
        best = {r["number"] for r in ranked[:keep]}
        for record in records:
            checkpoints = self.trial(record["number"]) / "checkpoints"
            (checkpoints / "latest.pt").unlink(missing_ok=True)
            if record["number"] not in best:
                shutil.rmtree(checkpoints, ignore_errors=True)
        if self.kept and self.kept.store:
            ended = {record["number"] for record in records}
            for name in self.kept.store.sizes(self.trials.name):
                number, folder, file = [*name.split("/")[1:], "", ""][:3]
                if folder == "checkpoints" and int(number) in ended and (file == "latest.pt" or int(number) not in best):
                    self.kept.store.delete(name)

    def remove_files_of_ray(self) -> None:
        """Remove what Ray Tune keeps here for itself."""
        shutil.rmtree(self.path / OWN_FILES, ignore_errors=True)
        if self.kept:
            self.kept.remove(OWN_FILES)


def note_error(trial: Path, error: Exception) -> None:
    """Put the error of a trial into its folder, as one line."""
    text = str(error).strip()
    line = text.splitlines()[-1] if "Traceback" in text else " ".join(text.split())
    kind = "" if isinstance(error, UserError) else type(error).__name__
    write_atomically(trial / ERROR, ": ".join(filter(None, [kind, line])).encode())


def noted_error(trial: Path) -> str | None:
    """What `note_error` put there, or None."""
    path = trial / ERROR
    return (path.read_text(encoding="utf-8", errors="replace") or "an error that was lost") if path.exists() else None


def _without_budget(experiment: Experiment) -> dict[str, Any]:
    settings = experiment.as_dict()
    return {**settings, "search": {key: value for key, value in settings["search"].items() if key != "trials"}}
