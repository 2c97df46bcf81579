"""The run folder: its files, written whole or not at all; where it lies in a bucket, of a copy that this process works on.

Layout (see CONTRACT in the README): config.toml, history.csv, checkpoints/{best.pt, best.json, latest.pt}, predictions/, evaluation/.
"""

import csv
import io
import json
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sacro_ray.config import Experiment, build_experiment
from sacro_ray.dataset.files import locked, sha256_of
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import damaged, explained, read_kept, remove_leftovers, whole, whole_lines, write_atomically
from sacro_ray.errors import UserError
from sacro_ray.locations import below
from sacro_ray.settings import differences

if TYPE_CHECKING:
    from torch import Tensor

HISTORY_COLUMNS = (
    "epoch", "stage", "size_px", "phase", "lr", "train_loss", "val_auc", "best_val_auc", "images_per_s", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run.

    Attributes:
        path: Where its files are for this process.
        kept: Where they are kept, if that may be a bucket.
    """

    path: Path
    kept: WorkingFolder | None = None

    @classmethod
    def at(cls, location: str | Path) -> Self:
        """The run at a path or an address. Of one in a bucket all but the weights is brought now; those when they are asked for."""
        kept = WorkingFolder(location)
        kept.bring_all(lambda name: not name.endswith(".pt") and not name.startswith("ray/"))
        return cls(kept.path, kept)

    @property
    def location(self) -> str:
        """Path or address, as other processes and the user are told."""
        return self.kept.location if self.kept else str(self.path)

    @property
    def in_bucket(self) -> bool:
        """Whether what is written here must be sent."""
        return self.kept is not None and self.kept.store is not None

    def bring(self, *names: str) -> None:
        """Fetch files from the bucket anew, where there is one."""
        if self.kept:
            self.kept.bring(*names)

    def send(self, *last: str) -> None:
        """Put into the bucket, where there is one, what was written here since; `last` are files that make others complete."""
        if self.kept:
            self.kept.send(*last)

    def remove(self, folder: str) -> None:
        """Remove a folder of this run, with all that is in it."""
        if self.kept:
            self.kept.remove(folder)
        else:
            shutil.rmtree(self.path / folder, ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits until no other process trains here: where the driver alone is killed, its workers go on for a moment."""
        with locked(self.kept.lock if self.kept else self.path / "lock"):
            remove_leftovers(self.path)
            yield

    @contextmanager
    def alone(self, command: str) -> Iterator[None]:
        """The folder for this command alone.

        Raises:
            UserError: Another process is at work here.
            DiskError: Nothing can be written here.
        """
        with (self.kept or WorkingFolder(self.path)).alone(command, "--runs"):
            yield

    def close(self) -> None:
        """End the work on a copy of a run in a bucket, and remove the copy."""
        if self.kept:
            self.kept.close()

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

    def require_predictions(self) -> None:
        """Raise a UserError where the training has not come to its predictions of the validation split, or they are cut short."""
        if self.validation_predictions.is_file():
            for path in (self.validation_predictions, self.path / "history.csv"):
                if path.exists():
                    read_kept(path, whole_lines, "Remove predictions/validation.csv and rerun train, which writes both anew")
            return
        raise UserError(
            f"{self.location} has no predictions/validation.csv, from which the cut-offs come. A training that was stopped goes on when "
            "train is started again; a trial of a sweep keeps no predictions: train its config.toml under a name of its own "
            "(--set name=NAME), and give that run"
        )

    @property
    def trained(self) -> bool:
        """Whether an epoch has been trained here. Without one the folder is not a run yet, whatever its config.toml says."""
        files = (self.checkpoints / "best.json", self.checkpoints / "latest.pt", self.validation_predictions)
        return any(file.exists() for file in files)

    def refuse_another(self, experiment: Experiment) -> None:
        """Raise a UserError where the folder holds a run with another configuration."""
        differing = self._differing(experiment)
        if differing and self.trained:
            raise UserError(
                f"{self.location} holds another run; it differs in {', '.join(differing[:5])}. "
                "Choose another name with --set name=NAME, or remove that folder"
            )

    def _differing(self, experiment: Experiment) -> list[str]:
        """How the run's settings differ; where its config.toml was removed, as one that was cut short is, best.json knows them."""
        if (self.path / "config.toml").exists():
            return differences(self._configuration(), experiment.as_dict())
        known = self.load_description().get("config") if (self.checkpoints / "best.json").exists() else None
        return differences(known, experiment.as_dict()) if known else ["config.toml"]

    def claim(self, experiment: Experiment) -> None:
        """Make the folder this experiment's.

        Raises:
            UserError: It holds a run with another configuration, one is in its first epoch, or nothing can be written there.
        """
        self.refuse_another(experiment)
        config = self.path / "config.toml"
        if config.exists() and not self._differing(experiment):
            return
        # Of a first epoch that is being trained nothing is here but the lock of its workers.
        with self.alone("train") if config.exists() else nullcontext():
            write_atomically(config, experiment.as_toml().encode())
        self.send()

    def experiment(self, overrides: Iterable[str] = ()) -> Experiment:
        """The run's configuration.

        Raises:
            UserError: The folder is not a run folder, or its config.toml is cut short.
        """
        config = self.path / "config.toml"
        if not config.is_file():
            raise UserError(
                f"{self.location} is not a run folder (no config.toml in it); give one that train wrote, experiments/runs/NAME"
            )
        return build_experiment(self._configuration(), list(overrides), source=str(config))

    def _configuration(self) -> dict[str, Any]:
        def parsed(data: bytes) -> dict[str, Any]:
            found = tomllib.loads(whole_lines(data))
            return {**found, "scoring": found["scoring"]}  # the last table: without it the file ends too early

        return read_kept(
            self.path / "config.toml",
            parsed,
            "Remove it and rerun train with the experiment file of this run, which writes it anew",
        )

    def save_latest(self, state: Mapping[str, Any]) -> None:
        """Keep all that a resumed run needs."""
        from sacro_ray.learning.state_files import save_state

        with whole(self.checkpoints / "latest.pt") as temporary:
            save_state(state, temporary)

    def load_latest(self) -> dict[str, Any] | None:
        """What `save_latest` kept, or None before the first epoch.

        Raises:
            UserError: It cannot be read.
        """
        self.bring("checkpoints/latest.pt")
        path = self.checkpoints / "latest.pt"
        if not path.exists():
            return None
        from sacro_ray.learning.state_files import load_state

        try:
            return load_state(path)
        except Exception as error:
            if isinstance(error, OSError) and (told := explained(error, path)):
                raise told from None  # a disk that refuses says nothing of the file
            # torch.load raises whatever its zip reader and its unpickler raise.
            raise damaged(
                path,
                "The epochs before cannot be gone on with: remove this file and rerun the same command, which trains from the first "
                "epoch",
            ) from None

    def save_best(self, weights: "Mapping[str, Tensor]", description: Mapping[str, Any]) -> None:
        """Replace best.pt, a plain state_dict, and best.json beside it, which carries the digest of best.pt."""
        from sacro_ray.learning.state_files import save_state

        path = self.checkpoints / "best.pt"
        # Both are written before either is replaced: a disk that is full leaves the two that belong together.
        with whole(path.with_suffix(".json")) as note, whole(path) as temporary:
            save_state(weights, temporary)
            text = json.dumps({**description, "sha256": sha256_of(temporary)}, indent=1, sort_keys=True)
            note.write_text(text + "\n", encoding="utf-8")

    def load_best(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """The best weights and their description; the errors of `best_description`."""
        description = self.best_description()
        import torch

        weights: dict[str, Tensor] = torch.load(self.checkpoints / "best.pt", map_location="cpu", weights_only=True)
        return weights, description

    def best_description(self) -> dict[str, Any]:
        """What is known of the best weights, which are here then.

        Raises:
            UserError: There are none, one cannot be read, or the two files do not belong together.
        """
        path = self.checkpoints / "best.pt"
        self._bring_best(path)
        if not path.is_file():
            raise UserError(f"{self.location} has no best checkpoint yet; run train first")
        description = self.load_description()
        if description["sha256"] != sha256_of(path):
            raise UserError(
                f"{below(self.location, 'checkpoints', path.name)} is damaged or was stopped in the middle of a save. {RETRAIN}"
            )
        return description

    def load_description(self) -> dict[str, Any]:
        """What stands beside the best weights: best.json, which carries their digest.

        Raises:
            UserError: There is none.
        """
        path = self.checkpoints / "best.json"
        self.bring(f"checkpoints/{path.name}")
        if not path.is_file():
            raise UserError(f"{self.location} has no best checkpoint yet; run train first")
        return _description(path)

    def _bring_best(self, path: Path) -> None:
        """Fetch the best weights from the bucket, where there is one, unless they are here already."""
        if not self.in_bucket:
            return
        note = path.with_suffix(".json")
        self.bring(f"checkpoints/{note.name}")
        if not (path.is_file() and note.is_file() and _description(note)["sha256"] == sha256_of(path)):
            self.bring(f"checkpoints/{path.name}")

    def save_history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write history.csv anew."""
        text = io.StringIO()
        writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "history.csv", text.getvalue().encode(), durable=False)  # the state holds it, too


RETRAIN = "Where the training is not complete, rerun train, which goes on and writes it anew; or else remove the run folder and train again"


def _description(note: Path) -> dict[str, Any]:
    def parsed(data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(data)
        return {**found, "sha256": str(found["sha256"])}

    return read_kept(note, parsed, RETRAIN)
