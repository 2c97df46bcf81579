"""The tables: rows once, shown as text with intervals in the report and as plain numbers in a CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sacro_ray.evaluation.cutoffs import Cutoff

HEADINGS = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV", "agreement": "agreement"}
Cell = str | int | float | Mapping[str, Any] | None  # a mapping is an estimate as in metrics.json


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: File name without ending.
        title: One line above it.
        rows: One mapping a row, all with the same columns.
        note: What a reader must know to read it.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, Cell]]
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """The headings."""
        return list(self.rows[0]) if self.rows else []

    def text_rows(self) -> list[list[str]]:
        """The cells as they are shown."""
        return [[shown(row[column], column) for column in self.columns] for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """The cells as plain values; an estimate takes three columns, its value and the ends of its interval."""
        return pd.DataFrame([_plain(row) for row in self.rows])


def number(value: float, digits: int = 2) -> str:
    """A number as text: a real minus sign, and none before what is shown as zero."""
    return f"{value:z.{digits}f}".replace("-", "−")


def with_interval(estimate: Mapping[str, Any], digits: int = 2) -> str:
    """An estimate of metrics.json as text, such as 0.92 (0.89–0.94) or −0.21 (−0.31 to −0.11)."""
    if estimate["estimate"] is None:
        return "–"
    if estimate["low"] is None:
        return number(estimate["estimate"], digits)
    return f"{number(estimate['estimate'], digits)} ({_ends(estimate, digits)})"


def interval(estimate: Mapping[str, Any], digits: int = 2) -> str:
    """The interval alone, such as 95 % CI 0.89–0.94."""
    if estimate["estimate"] is None or estimate["low"] is None:
        return "not defined"
    return f"95 % CI {_ends(estimate, digits)}"


def _ends(estimate: Mapping[str, Any], digits: int) -> str:
    low, high = number(estimate["low"], digits), number(estimate["high"], digits)
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


def shown(cell: Cell, column: str = "") -> str:
    """A cell as text; in a column whose heading ends in `p`, small p values as <0.001."""
    if cell is None:
        return "–"
    if isinstance(cell, Mapping):
        return with_interval(cell)
    if column.endswith(" p") and isinstance(cell, float) and cell < 0.001:
        return "<0.001"
    return number(cell, 3) if isinstance(cell, float) else str(cell)


def performance(metrics: Mapping[str, Any]) -> Table:
    """AUC, average precision, Brier score and calibration error of each split."""
    rows = [
        {
            "set": split,
            "n": metrics[split]["n"],
            "positive": metrics[split]["positives"],
            "AUC": metrics[split]["auc"],
            "average precision": metrics[split]["average_precision"],
            "Brier score": metrics[split]["brier"],
            "calibration error": metrics[split]["expected_calibration_error"],
        }
        for split in ("validation", "test")
        if split in metrics
    ]
    return Table(
        "performance", "Performance over all cut-offs", rows, "95 % intervals: AUC DeLong; the others by bootstrap of patients."
    )


def chosen_cutoffs(cutoffs: Sequence[Cutoff]) -> Table:
    """The cut-offs, how far they moved between repeats, and how they did on radiographs they were not chosen on."""
    rows = [
        {
            "cut-off": cutoff.name,
            "value": cutoff.value,
            "lowest of repeats": cutoff.lowest,
            "highest of repeats": cutoff.highest,
            "held-out sensitivity": cutoff.held_out_sensitivity,
            "held-out specificity": cutoff.held_out_specificity,
        }
        for cutoff in cutoffs
    ]
    note = (
        "Those named sensitivity, specificity and balanced are chosen on validation; others were given beforehand. Held-out: on the folds "
        "that a cut-off was not chosen on, mean of the repeats; a given one has none."
    )
    return Table("cutoffs", "Chosen cut-offs", rows, note)


def at_cutoffs(split: str, metrics: Mapping[str, Any]) -> Table:
    """Proportions and kappa of one split at each cut-off."""
    rows = [
        {
            "cut-off": name,
            "value": at["cutoff"],
            "n": metrics["n"],
            **{h: at[p] for p, h in HEADINGS.items()},
            "kappa": at["kappa"],
        }
        for name, at in metrics["at_cutoff"].items()
    ]
    return Table(
        f"at_cutoff_{split}",
        f"At each cut-off, {split}",
        rows,
        "95 % intervals: proportions Wilson; kappa bootstrap of patients.",
    )


def confusion(split: str, metrics: Mapping[str, Any]) -> Table:
    """The study's Tables 2 and 3: model in rows, reference in columns."""
    rows: list[dict[str, Cell]] = []
    for name, at in metrics["at_cutoff"].items():
        tn, fp, fn, tp = (at[cell] for cell in ("tn", "fp", "fn", "tp"))
        for call, negative, positive in (("negative", tn, fn), ("positive", fp, tp), ("total", tn + fp, fn + tp)):
            rows.append(
                {"cut-off": name, "model predicts": call, "reference negative": negative, "reference positive": positive,
                 "total": negative + positive}
            )  # fmt: skip
    return Table(f"confusion_{split}", f"Confusion tables, {split}", rows)


def discordant(metrics: Mapping[str, Any]) -> Table:
    """How the model calls the radiographs on which the readers differ."""
    rows = [
        {"cut-off": name, "n": metrics["n"], "called negative": calls["negative"], "called positive": calls["positive"]}
        for name, calls in metrics["at_cutoff"].items()
    ]
    return Table(
        "discordant",
        "Radiographs on which the readers differ, test",
        rows,
        "Without a reference label; only the calls are counted.",
    )


def agreement(split: str, readers: Mapping[str, Any]) -> Table:
    """Kappa and agreement of readers and model."""
    rows = [
        {"pair": pair.replace("|", " – "), "n": both["n"], "kappa": both["kappa"], "agreement": both["agreement"]}
        for pair, both in readers.items()
    ]
    note = "The whole cohort, radiographs without a reference label included; the model at the balanced cut-off."
    return Table(f"agreement_{split}", f"Readers and model, {split}", rows, note)


def against_reference(split: str, readers: Mapping[str, Any]) -> Table:
    """Each reader against the reference, and McNemar's test of reader against model."""
    rows: list[dict[str, Cell]] = []
    for name, rates in readers.items():
        if rates["own_reference"]:
            continue
        test = rates["mcnemar"]
        rows.append(
            {
                "reader": name,
                "n": rates["n"],
                **{HEADINGS[rate]: rates[rate] for rate in ("sensitivity", "specificity", "ppv")},
                "only reader right": test["only_first_right"],
                "only model right": test["only_second_right"],
                "McNemar p": test["p_value"],
            }
        )
    note = (
        "Model at the balanced cut-off; McNemar's exact test. Where a reader took part in the consensus, the reference leans towards that "
        "reader."
    )
    return Table(f"against_reference_{split}", f"Readers against the reference, {split}", rows, note)


def robustness(rows: Sequence[Mapping[str, Any]]) -> Table:
    """AUC, and its change, under each perturbation of the images; rows as from `robustness_rows`."""
    listed: list[dict[str, Cell]] = [
        {
            "images": str(row["perturbation"]),
            "n": row.get("n"),
            "AUC": {"estimate": row["auc"], "low": row["low"], "high": row["high"]},
            "change": {"estimate": row["change"], "low": row.get("change_low"), "high": row.get("change_high")},
        }
        for row in rows
    ]
    note = "The images changed slightly, the model not at all. Intervals: DeLong, for the change paired."
    return Table("robustness", "Robustness", listed, note)


def _plain(row: Mapping[str, Cell]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, cell in row.items():
        if isinstance(cell, Mapping):
            result |= {name: cell["estimate"], f"{name} low": cell["low"], f"{name} high": cell["high"]}
        else:
            result[name] = cell
    return result
