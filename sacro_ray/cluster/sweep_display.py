"""What a running sweep shows on standard error: a live table on a terminal, plain lines in a log."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from sacro_ray.cluster.progress import duration_text
from sacro_ray.cluster.sweep_folder import Record

log = logging.getLogger("sacro_ray")
BEST_SHOWN = 8


class Display:
    """Plain lines: a line when a trial begins and one when it ends."""

    def __init__(self, trials: int, epochs: int) -> None:
        self.trials, self.epochs = trials, epochs

    def began(self, number: int, values: Mapping[str, Any]) -> None:
        """A trial begins."""
        log.info("trial %d: %s", number, values_text(values))

    def epoch(self, number: int, epoch: int, auc: float, best_auc: float) -> None:
        """An epoch of a trial is over."""

    def redraw(self) -> None:
        """Some time has passed."""

    def ended(self, record: Record, ended: Sequence[Record]) -> None:
        """A trial ended; `ended` holds it and all that ended before."""
        top = max((r["best_auc"] for r in ended if r["best_auc"] is not None), default=None)
        log.info(
            "trial %d %s: AUC %s after %d epochs; %d of %d trials ended, best AUC %s%s",
            record["number"], record["state"], auc_text(record["best_auc"]), record["epochs"],
            len(ended), self.trials, auc_text(top), f"; {record['error']}" if record["error"] else "",
        )  # fmt: skip


class LiveTable(Display):
    """A table that is drawn anew: the running trials, and the best of those that ended. Only failures are lines as well."""

    def __init__(self, trials: int, epochs: int, live: Live, records: Sequence[Record]) -> None:
        super().__init__(trials, epochs)
        self._live, self._ended = live, list(records)
        self._running: dict[int, dict[str, Any]] = {}
        self._started = time.monotonic()

    def began(self, number: int, values: Mapping[str, Any]) -> None:
        """A trial begins."""
        self._running[number] = {"values": values, "epoch": 0, "auc": None, "best_auc": None}
        self.redraw()

    def epoch(self, number: int, epoch: int, auc: float, best_auc: float) -> None:
        """An epoch of a trial is over."""
        if number in self._running:
            self._running[number].update(epoch=epoch, auc=auc, best_auc=best_auc)
            self.redraw()

    def ended(self, record: Record, ended: Sequence[Record]) -> None:
        """A trial ended."""
        self._running.pop(record["number"], None)
        self._ended = list(ended)
        if record["error"]:
            log.info("trial %d failed: %s", record["number"], record["error"])
        self.redraw()

    def redraw(self) -> None:
        """Some time has passed."""
        self._live.update(Group(self.summary(), self.table()))

    def summary(self) -> str:
        """The line above the table."""
        states = [r["state"] for r in self._ended]
        return (
            f"{len(self._ended)} of {self.trials} trials ended"
            f" ({states.count('PRUNED')} stopped early, {states.count('FAIL')} failed), {duration_text(time.monotonic() - self._started)}"
        )

    def table(self) -> Table:
        """The table as it stands."""
        table = Table()
        for name, justify in (
            ("trial", "right"),
            ("state", "left"),
            ("epoch", "right"),
            ("AUC", "right"),
            ("best AUC", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        table.add_column("values", overflow="fold")
        for number, row in sorted(self._running.items()):
            progress = f"{row['epoch']}/{self.epochs}"
            table.add_row(
                str(number), "running", progress, auc_text(row["auc"]), auc_text(row["best_auc"]), values_text(row["values"])
            )
        ranked = sorted((r for r in self._ended if r["best_auc"] is not None), key=lambda r: (-r["best_auc"], r["number"]))
        for place, r in enumerate(ranked[:BEST_SHOWN]):
            last = r["aucs"][-1] if r["aucs"] else None
            table.add_row(
                str(r["number"]), "stopped" if r["state"] == "PRUNED" else "complete", f"{r['epochs']}/{self.epochs}",
                auc_text(last), auc_text(r["best_auc"]), values_text(r["values"]), style="bold" if place == 0 else None,
            )  # fmt: skip
        return table


@contextmanager
def display(trials: int, epochs: int, records: Sequence[Record]) -> Iterator[Display]:
    """The display that fits standard error, for as long as the block lasts.

    Args:
        trials: The sweep's budget.
        epochs: Epochs of a trial that is not stopped.
        records: Trials that ended before.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Display(trials, epochs)
        return
    stream = sys.stderr
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]
    with Live(console=console, refresh_per_second=2) as live:
        # Live stands in for sys.stderr; a log that wrote past it would tear the table.
        for handler in handlers:
            handler.setStream(sys.stderr)
        try:
            yield LiveTable(trials, epochs, live, records)
        finally:
            for handler in handlers:
                handler.setStream(stream)


def values_text(values: Mapping[str, Any]) -> str:
    """Values of a trial in one line, by name; the section `training`, which most belong to, is left out."""
    return ", ".join(
        f"{name.removeprefix('training.')} = {value:.4g}"
        if isinstance(value, float)
        else f"{name.removeprefix('training.')} = {value}"
        for name, value in sorted(values.items())
    )


def auc_text(auc: float | None) -> str:
    """An AUC, or a dash."""
    return "–" if auc is None else f"{auc:.4f}"
