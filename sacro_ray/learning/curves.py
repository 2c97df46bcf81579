"""The training curves of a run as one picture."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sacro_ray.disk import whole


def draw_curves(history: Path) -> Path:
    """Draw loss and validation AUC over the epochs of `history.csv`, phases shaded, as curves.png beside it."""
    rows = pd.read_csv(history)
    figure = Figure(figsize=(8, 5), layout="constrained")
    loss, auc = figure.subplots(2, 1, sharex=True)
    loss.plot(rows["epoch"], rows["train_loss"], marker="o", markersize=3)
    loss.set_ylabel("training loss")
    auc.plot(rows["epoch"], rows["val_auc"], marker="o", markersize=3, label="each epoch")
    auc.plot(rows["epoch"], rows["best_val_auc"], linestyle="--", label="best so far")
    auc.set(xlabel="epoch", ylabel="validation AUC")
    auc.legend(loc="lower right")
    for number, (_, part) in enumerate(rows.groupby(["stage", "phase"], sort=False)):
        first, last = part["epoch"].iloc[0] - 0.5, part["epoch"].iloc[-1] + 0.5
        for axes in (loss, auc):
            axes.axvspan(first, last, color="tab:blue" if number % 2 else "tab:orange", alpha=0.08, linewidth=0)
        name = f"{part['size_px'].iloc[0]} px\n{part['phase'].iloc[0]}"
        loss.text((first + last) / 2, 0.97, name, transform=loss.get_xaxis_transform(), ha="center", va="top", fontsize=8)
    path = history.with_name("curves.png")
    with whole(path, durable=False) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path
