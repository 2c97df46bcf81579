"""One readable line an epoch on the driver's log, read from the history that the run folder keeps."""

import csv
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import Phase

log = logging.getLogger("sacro_ray")
POLL_S = 0.5
BUCKET_POLL_S = 5.0


class EpochLines:
    """Logs each row of a run's history.csv once; a row that was written anew, because workers went on from an earlier epoch, once more."""

    def __init__(self, folder: RunFolder, phases: list[Phase]) -> None:
        self._folder, self._phases = folder, phases
        self._history = folder.path / "history.csv"
        self._seen = _rows(self._history)

    def look(self) -> None:
        """Log what the history holds beyond the rows that were seen before."""
        with suppress(UserError):  # a bucket that does not answer stops the training, not this
            self._folder.bring("history.csv")
        rows = _rows(self._history)
        known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(rows, self._seen, strict=False)))
        for number, row in enumerate(rows[known:], known + 1):
            if rate := describe_rate(row, self._phases):
                log.info("%s", rate)
            log.info("%s", describe_epoch(row, rows[:number], self._phases))
        self._seen = rows


@contextmanager
def epochs_logged(folder: RunFolder, phases: list[Phase]) -> Iterator[None]:
    """While the block lasts, log each new row of the run's history.csv; rows that were there before are not repeated."""
    lines = EpochLines(folder, phases)
    finished = threading.Event()

    def follow() -> None:
        last_look = False
        while not last_look:
            last_look = finished.wait(BUCKET_POLL_S if folder.in_bucket else POLL_S)
            lines.look()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        finished.set()
        follower.join()


def describe_epoch(row: dict[str, str], rows: list[dict[str, str]], phases: list[Phase]) -> str:
    """The line of one epoch, which fits a terminal of 80 columns; history.csv has more, the radiographs per second among it.

    The time left assumes that radiographs per second fall with the pixels, as measured in each kind of phase.
    """
    epochs = phases[-1].last_epoch
    return (
        f"epoch {row['epoch']}/{epochs}  {row['size_px']} px {row['phase']:<8}  loss {float(row['train_loss']):.3f}  "
        f"AUC {float(row['val_auc']):.3f}  best {float(row['best_val_auc']):.3f}  {duration_text(seconds_left(rows, phases))} left"
    )


def describe_rate(row: dict[str, str], phases: list[Phase]) -> str | None:
    """A line on the rate that a range test chose, where this is the first epoch of a phase that had one."""
    for phase in phases:
        if phase.lr == "auto" and int(row["epoch"]) == phase.first_epoch:
            epochs = f"epochs {phase.first_epoch}-{phase.last_epoch}" if phase.epochs > 1 else f"epoch {phase.first_epoch}"
            return f"learning rate of {epochs}: {float(row['lr']):.1e}, by the range test (range_test/epoch_{phase.first_epoch:04d}.png)"
    return None


def seconds_left(rows: list[dict[str, str]], phases: list[Phase]) -> float:
    """Time for the epochs still to come, from the seconds of the last epoch of the same kind, or else of the last epoch."""
    done = len(rows)
    by_name = {row["phase"]: float(row["seconds"]) / int(row["size_px"]) ** 2 for row in rows}
    fallback = float(rows[-1]["seconds"]) / int(rows[-1]["size_px"]) ** 2
    return sum(
        max(0, p.last_epoch - max(done, p.first_epoch - 1)) * by_name.get(p.name, fallback) * p.size_px**2 for p in phases
    )


def duration_text(seconds: float) -> str:
    """Hours, or minutes or seconds where there are few."""
    if seconds >= 5970:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _rows(history: Path) -> list[dict[str, str]]:
    if not history.exists():
        return []
    with history.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
