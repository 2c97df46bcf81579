"""The run folder: its files, written whole or not at all.

Layout (see CONTRACT in the README): config.toml, history.csv, checkpoints/{best.pt, best.json, latest.pt}, predictions/, evaluation/.
"""

import csv
import hashlib
import io
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacro_ray.config import Experiment, build_experiment
from sacro_ray.errors import UserError

HISTORY_COLUMNS = (
    "epoch", "stage", "size_px", "phase", "lr", "train_loss", "val_auc", "best_val_auc", "images_per_s", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of best.pt and latest.pt."""
        return self.path / "checkpoints"

    @property
    def validation_predictions(self) -> Path:
        """Written last by training: where it stands, the run is complete."""
        return self.path / "predictions" / "validation.csv"

    @property
    def test_predictions(self) -> Path:
        """Written by the evaluation."""
        return self.path / "predictions" / "test.csv"

    def claim(self, experiment: Experiment) -> None:
        """Make the folder this experiment's.

        Raises:
            UserError: It holds a run with another configuration.
        """
        config = self.path / "config.toml"
        if config.exists():
            differing = differences(tomllib.loads(config.read_text(encoding="utf-8")), experiment.as_dict())
            if differing:
                raise UserError(
                    f"{self.path} holds another run; it differs in {', '.join(differing[:5])}. "
                    "Choose another name with --set name=NAME, or remove that folder"
                )
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(config, lambda temporary: temporary.write_text(experiment.as_toml(), encoding="utf-8"))

    def experiment(self, overrides: Iterable[str] = ()) -> Experiment:
        """The run's configuration.

        Raises:
            UserError: The folder is no run folder.
        """
        config = self.path / "config.toml"
        if not config.is_file():
            raise UserError(
                f"{self.path} is not a run folder (no config.toml in it); give one that train wrote, experiments/runs/NAME"
            )
        return build_experiment(tomllib.loads(config.read_text(encoding="utf-8")), list(overrides), source=str(config))

    def save_latest(self, state: Mapping[str, Any]) -> None:
        """Keep all that a resumed run needs."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_whole(self.checkpoints / "latest.pt", lambda temporary: torch.save(dict(state), temporary))

    def load_latest(self) -> dict[str, Any] | None:
        """What `save_latest` kept, or None before the first epoch."""
        path = self.checkpoints / "latest.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def save_best(self, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Replace best.pt, a plain state_dict, and best.json beside it, which carries the digest of best.pt."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        path = self.checkpoints / "best.pt"
        write_whole(path, lambda temporary: torch.save(dict(weights), temporary))
        text = json.dumps({**description, "sha256": _digest(path)}, indent=1, sort_keys=True)
        write_whole(path.with_suffix(".json"), lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))

    def load_best(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The best weights and their description.

        Raises:
            UserError: There are none, or the two files do not belong together.
        """
        path = self.checkpoints / "best.pt"
        if not path.is_file() or not path.with_suffix(".json").is_file():
            raise UserError(f"{self.path} has no best checkpoint yet; run train first")
        description: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if description["sha256"] != _digest(path):
            raise UserError(
                f"{path} is damaged or was stopped in the middle of a save; start train again, it goes on and mends it"
            )
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return weights, description

    def save_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write history.csv anew."""
        text = io.StringIO()
        writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / "history.csv", lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and rename it: a process that is killed leaves the old file or the new one.

    No fsync: it takes seconds for the state of a ResNet-50, and a machine that loses power loses an epoch at most.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    temporary.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings in which two configurations differ, with both values."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key} ({before} there, {after} now)")
    return found
