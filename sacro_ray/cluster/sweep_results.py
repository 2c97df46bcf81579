"""What a sweep leaves behind: trials.csv, best.toml, sweep.html and study.db, made anew from the records of its trials."""

import time
from collections.abc import Sequence

import pandas as pd

from sacro_ray.cluster.space import with_values
from sacro_ray.cluster.sweep_folder import Record, SweepFolder
from sacro_ray.cluster.sweep_page import render_page
from sacro_ray.cluster.sweep_study import write_database
from sacro_ray.config import Experiment
from sacro_ray.disk import write_whole

SHARE = 0.02
"""Share of a running sweep's time that the page and the database may take; they grow with the trials."""


class Results:
    """Writes the results of a sweep as its trials end; of `simulated` radiographs the page says so."""

    def __init__(self, experiment: Experiment, folder: SweepFolder, simulated: bool = False) -> None:
        self._experiment, self._folder, self._simulated = experiment, folder, simulated
        self._due = 0.0

    def write(self, records: Sequence[Record], last: bool = False) -> None:
        """Write the table and the best experiment; now and then, and at the `last`, the page and the database, too."""
        path = self._folder.path
        table = trials_table(records)
        write_whole(path / "trials.csv", lambda t: table.to_csv(t, index=False), durable=False)
        best = best_of(records)
        if best is not None:
            chosen = with_values(self._experiment, best["values"], name=f"{self._experiment.name}-best")
            header = f"# The best of {len(records)} trials: number {best['number']}, validation AUC {best['best_auc']:.4f}.\n"
            write_whole(path / "best.toml", lambda t: t.write_text(header + chosen.as_toml(), encoding="utf-8"), False)
        started = time.monotonic()
        if last or started >= self._due:
            page = render_page(self._experiment, records, self._simulated)
            write_whole(path / "sweep.html", lambda t: t.write_text(page, encoding="utf-8"), False)
            write_database(self._experiment, self._folder)
            ended = time.monotonic()
            self._due = ended + (ended - started) / SHARE
        self._folder.send()


def trials_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a trial, as in trials.csv."""
    return pd.DataFrame(
        [
            {"number": r["number"], "state": r["state"], **r["values"], "best_auc": r["best_auc"], "epoch": r["epoch"],
             "epochs": r["epochs"], "seconds": r["seconds"], "error": r["error"]}
            for r in records
        ]
    ).astype({"epoch": "Int64"})  # fmt: skip


def best_of(records: Sequence[Record]) -> Record | None:
    """The trial with the highest AUC, the first of equals; None where none has any."""
    usable = [r for r in records if r["best_auc"] is not None]
    return max(usable, key=lambda r: (r["best_auc"], -r["number"]), default=None)
