"""The figures that a run adds: training curves, subgroups as a forest plot, robustness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sacro_ray.evaluation.plotting import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PAPER, Chart, panel, style
from sacro_ray.evaluation.tables import with_interval


def training_curves(history: pd.DataFrame) -> list[Chart]:
    """Validation AUC and training loss over the epochs, the frozen phases shaded.

    Args:
        history: The rows of history.csv.
    """
    epoch = np.arange(1, len(history) + 1)
    charts = []
    lines = {
        "val_auc": ("training_auc", "Validation AUC", "AUC", BLUE, "validation AUC"),
        "train_loss": ("training_loss", "Training loss", "loss", ORANGE, "training loss"),
    }
    for column, (name, title, unit, colour, label) in lines.items():
        values = history[column].to_numpy(dtype=np.float64)
        with style():
            figure, axes = panel(4.6, 3.4)
            _phases(axes, history)
            axes.plot(epoch, values, color=colour, marker="o", markersize=3, label=label)
            if column == "val_auc":
                axes.plot(epoch, history["best_val_auc"], color=GREEN, linestyle="--", label="best so far")
            axes.set(xlabel="epoch", ylabel=unit, xlim=(0.5, len(history) + 0.5))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")
        hover = [
            (axes, float(i), float(value), f"epoch {i}, {size} px, {phase}: {label} {value:.3f}")
            for i, value, size, phase in zip(epoch, values, history["size_px"], history["phase"], strict=True)
        ]
        caption = "One point an epoch; shaded: only the head is trained. A dotted line is a change of image size."
        charts.append(Chart(name, title, caption, figure, hover))
    return charts


def forest(rows: Sequence[Mapping[str, Any]], split: str) -> Chart:
    """AUC with its interval in each subgroup.

    Args:
        rows: From `subgroup_rows`, all radiographs first.
        split: `validation` or `test`.
    """
    drawn = [row for row in rows if row["AUC"]["estimate"] is not None]
    lines: list[tuple[str, Mapping[str, Any] | None]] = []
    for member in drawn:
        if member["group"] and (member["characteristic"], None) not in lines:
            lines.append((str(member["characteristic"]), None))
        lines.append((f"{member['group'] or member['characteristic']} (n = {member['n']})", member))
    hover: list[tuple[Any, float, float, str]] = []
    with style():
        figure, axes = panel(4.6, 0.8 + 0.24 * len(lines))
        axes.axvline(drawn[0]["AUC"]["estimate"], color=MUTED, linewidth=1, linestyle=":")
        for place, (_, row) in enumerate(lines):
            if row is None:
                continue
            auc, colour = row["AUC"], MUTED if row["remark"] else BLUE
            if auc["low"] is not None:
                axes.plot([auc["low"], auc["high"]], [place, place], color=colour, linewidth=1.4)
            filled = colour if not row["remark"] else PAPER
            axes.plot(auc["estimate"], place, "s", color=colour, markerfacecolor=filled, markersize=5)
            name = f"{row['characteristic']} {row['group']}".strip()
            text = f"{name}: AUC {with_interval(auc)}, n = {row['n']}, {row['positive']} positive"
            hover.append((axes, auc["estimate"], place, text))
        axes.set_yticks(range(len(lines)), [label for label, _ in lines])
        for label, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_fontweight("bold" if row is None else "normal")
        # Small groups do not set the scale: one whose interval is all of 0 to 1 would squeeze the others into a corner.
        large = [row["AUC"] for row in drawn if not row["remark"]] or [row["AUC"] for row in drawn]
        lowest = min(
            [auc["low"] if auc["low"] is not None else auc["estimate"] for auc in large]
            + [row["AUC"]["estimate"] for row in drawn]
        )
        axes.set(xlabel="AUC", ylim=(len(lines) - 0.5, -0.5), xlim=(max(0.0, min(0.75, lowest) - 0.02), 1.01))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    caption = (
        "Squares: AUC with DeLong's interval; the dotted line is that of all radiographs. Hollow and grey: small groups, whose intervals "
        "may reach beyond the left edge."
    )
    return Chart("subgroups", f"AUC by subgroup, {split}", caption, figure, hover)


def robustness(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """AUC with its interval under each perturbation of the test images.

    Args:
        rows: `perturbation`, `auc`, `low`, `high`, `change`; the first one is the unchanged images.
    """
    with style():
        figure, axes = panel(4.6, 0.8 + 0.27 * len(rows))
        axes.axvline(float(rows[0]["auc"]), color=MUTED, linewidth=1, linestyle=":")
        for place, row in enumerate(rows):
            axes.plot([row["low"], row["high"]], [place, place], color=ORANGE, linewidth=1.4)
            axes.plot(row["auc"], place, "s", color=ORANGE, markersize=5)
        axes.set_yticks(range(len(rows)), [str(row["perturbation"]) for row in rows])
        axes.set(xlabel="AUC", ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
    hover = [(axes, float(r["auc"]), float(i), f"{r['perturbation']}: AUC {r['auc']:.3f}") for i, r in enumerate(rows)]
    return Chart(
        "robustness", "AUC under changes of the test images", "DeLong's intervals; dotted: the first row.", figure, hover
    )


def _phases(axes: Any, history: pd.DataFrame) -> None:
    for place, phase in enumerate(history["phase"], start=1):
        if phase == "frozen":
            axes.axvspan(place - 0.5, place + 0.5, color=GRID, alpha=0.45, linewidth=0)
    for before in np.flatnonzero(history["size_px"].diff().fillna(0).to_numpy()):
        axes.axvline(int(before) + 0.5, color=INK, linewidth=1, linestyle=":")
