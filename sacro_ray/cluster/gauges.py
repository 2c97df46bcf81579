"""What a running command tells Prometheus, by way of Ray: training by the epoch, sweeps by the trial, scoring by the radiograph.

Ray puts `ray_` before each name and shows them on every node's metrics port, which asks for no token. A tag therefore holds the name of
a run, a state or a status, and nothing else. deploy/grafana/sacro_ray.json draws them.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from ray.util.metrics import Counter, Gauge

Row = Mapping[str, Any]

TRAINING = {
    "training_loss": ("train_loss", "mean training loss of the last epoch"),
    "training_auc": ("val_auc", "validation AUC of the last epoch"),
    "training_best_auc": ("best_val_auc", "highest validation AUC so far"),
    "training_images_per_second": ("images_per_s", "radiographs trained on a second, over all workers, in the last epoch"),
    "training_epoch": ("epoch", "epochs done"),
    "training_stage": ("stage", "stage of the last epoch, from 1"),
    "training_size_px": ("size_px", "side of the training images in the last epoch, pixels"),
}
"""Gauges of a training run: the column of history.csv that each shows, and what it says."""
PREFIX = "sacro_ray_"
TRIAL_STATES = ("COMPLETE", "PRUNED", "FAIL")


def show_epoch(run: str, row: Row) -> None:
    """Show an epoch of the run of this name; `row` is its row of history.csv."""
    for name, (column, description) in TRAINING.items():
        _gauge(name, description, ("run",)).set(float(row[column]), tags={"run": run})


def shown(run: str, first: bool, report: Callable[[Any], None]) -> Callable[[Any], None]:
    """`report`, which the first rank's epochs are shown before."""

    def tell(row: Row) -> None:
        if first:
            show_epoch(run, row)
        report(row)

    return tell


def show_trials(sweep: str, ended: Iterable[Row]) -> None:
    """Show how many trials of a sweep have ended in which state (COMPLETE, PRUNED, FAIL), and the best AUC of them.

    Args:
        sweep: The experiment's name.
        ended: The records of all trials that have ended: `state`, and `best_auc` (or None).
    """
    records = list(ended)
    counts = Tally(record["state"] for record in records)
    best_auc = max((record["best_auc"] for record in records if record["best_auc"] is not None), default=None)
    for state in TRIAL_STATES:
        _gauge("sweep_trials", "trials that have ended, by state", ("run", "state")).set(
            counts[state], tags={"run": sweep, "state": state}
        )
    if best_auc is not None:
        _gauge("sweep_best_auc", "highest validation AUC of the trials that have ended", ("run",)).set(
            best_auc, tags={"run": sweep}
        )


def count_scored(run: str, statuses: Iterable[str]) -> None:
    """Count radiographs that a run's network has scored, by status (ok, error)."""
    for status, count in Tally(statuses).items():
        _scored().inc(count, tags={"run": run, "status": status})


@cache
def _gauge(name: str, description: str, tags: tuple[str, ...]) -> Gauge:
    return Gauge(PREFIX + name, description=description, tag_keys=tags)


@cache
def _scored() -> Counter:
    return Counter(PREFIX + "scored_radiographs", description="radiographs scored, by status", tag_keys=("run", "status"))
