"""The figures of sweep.html: history, settings against the AUC, parallel coordinates, importances, learning curves.

Optuna draws the same with plotly, whose script alone is 4 MB; these are SVG in the report's style, with its hover texts.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import optuna
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from sacro_ray.cluster.sweep_display import values_text
from sacro_ray.cluster.sweep_folder import Record
from sacro_ray.cluster.sweep_study import frozen
from sacro_ray.evaluation.plotting import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, Chart, panel, style

Space = Mapping[str, BaseDistribution]
LOOKS: dict[str, dict[str, Any]] = {
    "COMPLETE": {"marker": "o", "color": BLUE, "label": "complete"},
    "PRUNED": {"marker": "v", "color": ORANGE, "markerfacecolor": PAPER, "label": "stopped early"},
    "FAIL": {"marker": "x", "color": MUTED, "label": "failed"},
}
BEST_COLOURS = (BLUE, ORANGE, PURPLE)
FEWEST_FOR_IMPORTANCE = 4


def figures(records: Sequence[Record], space: Space, phase_ends: Sequence[int]) -> list[Chart]:
    """All figures that these trials allow.

    Args:
        records: Ended trials.
        space: The search space.
        phase_ends: The epochs after which early stopping decides.
    """
    if not any(r["best_auc"] is not None for r in records):
        return []
    usable = [r for r in records if r["best_auc"] is not None]
    parts = [history(records), learning_curves(usable, phase_ends)]
    if len(usable) > 1:
        parts.append(parallel_coordinates(usable, space))
    shares = importances(usable, space)
    if shares:
        parts.append(importance_bars(shares, sum(r["state"] == "COMPLETE" for r in usable)))
    return parts + [against_auc(usable, name, space[name]) for name in space]


def history(records: Sequence[Record]) -> Chart:
    """The best AUC of each trial in order, and the best so far."""
    usable = [r for r in records if r["best_auc"] is not None]
    failed = [r["number"] for r in records if r["best_auc"] is None]
    numbers = [r["number"] for r in usable]
    with style():
        figure, axes = panel(4.6, 3.4)
        so_far = list(accumulate((r["best_auc"] for r in usable), max))
        axes.plot(numbers, so_far, drawstyle="steps-post", color=GREEN, linestyle="--", label="best so far")
        _points(axes, usable, lambda r: r["number"])
        if failed:
            foot = min(r["best_auc"] for r in usable)
            axes.plot(failed, [foot] * len(failed), linestyle="none", **LOOKS["FAIL"])
        axes.set(xlabel="trial", ylabel="best validation AUC")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(figure, axes)
    caption = "One point a trial, in the order in which they began; trial 0 has the experiment's own values."
    if failed:
        caption += " Crosses: trials that failed and have no AUC."
    return Chart("history", "History", caption, figure, [(axes, r["number"], r["best_auc"], _told(r)) for r in usable])


def against_auc(usable: Sequence[Record], name: str, distribution: BaseDistribution) -> Chart:
    """The AUC of the trials against one setting."""
    with style():
        figure, axes = panel(4.6, 3.0)
        if isinstance(distribution, CategoricalDistribution):
            axes.set_xticks(range(len(distribution.choices)), [str(choice) for choice in distribution.choices])
            axes.set_xlim(-0.5, len(distribution.choices) - 0.5)
        else:
            _scale(axes, distribution)
        _points(axes, usable, lambda r: _place(r["values"][name], distribution))
        axes.set(xlabel=name, ylabel="best validation AUC")
        _legend(figure, axes)
    hover = [(axes, _place(r["values"][name], distribution), r["best_auc"], _told(r)) for r in usable]
    return Chart("setting-" + name.replace(".", "-"), name, "One point a trial.", figure, hover)


def parallel_coordinates(usable: Sequence[Record], space: Space) -> Chart:
    """A line a trial through its values, with the AUC as the last axis; the best ones are in colour."""
    names = list(space)
    ranked = sorted(usable, key=lambda r: (-r["best_auc"], r["number"]))
    low, high = ranked[-1]["best_auc"], ranked[0]["best_auc"]
    top = {r["number"]: colour for r, colour in zip(ranked, BEST_COLOURS, strict=False)}
    hover: list[tuple[Any, float, float, str]] = []
    with style():
        figure, axes = panel(max(4.6, 1.25 * (len(names) + 1)), 3.8)
        for r in reversed(ranked):
            heights = [_height(r["values"][name], space[name]) for name in names]
            heights.append((r["best_auc"] - low) / (high - low) if high > low else 0.5)
            colour = top.get(r["number"])
            label = f"trial {r['number']}, {r['best_auc']:.3f}" if colour else None
            look = (
                {"color": colour, "linewidth": 2.0, "label": label}
                if colour
                else {"color": MUTED, "linewidth": 0.8, "alpha": 0.6}
            )
            axes.plot(range(len(heights)), heights, **look)
            hover += [(axes, float(x), y, _told(r)) for x, y in enumerate(heights)]
        for x, name in enumerate(names):
            axes.axvline(x, color=INK, linewidth=0.8)
            _ends(axes, x, space[name])
        axes.axvline(len(names), color=INK, linewidth=0.8)
        for y, value in ((0.0, low), (1.0, high)):
            _write(axes, len(names), y, f"{value:.3f}")
        shown = [name.removeprefix("training.").replace("_", "\n").replace(".", ".\n") for name in names]
        axes.set_xticks(range(len(names) + 1), [*shown, "best\nAUC"])
        axes.set(ylim=(-0.13, 1.13), xlim=(-0.3, len(names) + 0.3), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        _legend(figure, axes, reverse=True)
    caption = "A line a trial, through its values to its AUC; the best three in colour. Each axis spans its range of the search space."
    return Chart("parallel", "Parallel coordinates", caption, figure, hover)


def importances(usable: Sequence[Record], space: Space) -> dict[str, float]:
    """Share of the AUC's variance among complete trials that each setting explains (functional ANOVA on a random forest).

    Source: Hutter et al. 2014, as Optuna computes it; seeded. Empty where there are too few trials or their AUC does not differ.
    """
    complete = [r for r in usable if r["state"] == "COMPLETE"]
    if len(complete) < FEWEST_FOR_IMPORTANCE or len({r["best_auc"] for r in complete}) < 2:
        return {}
    varied = [name for name in space if len({r["values"][name] for r in complete}) > 1]
    study = optuna.create_study(direction="maximize")
    study.add_trials([frozen(r, space) for r in complete])
    return {
        name: float(share)
        for name, share in get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied).items()
    }


def importance_bars(shares: Mapping[str, float], trials: int) -> Chart:
    """A bar a setting, the most important on top."""
    names = sorted(shares, key=lambda name: -shares[name])
    with style():
        figure, axes = panel(4.6, 0.9 + 0.4 * len(names))
        axes.barh(range(len(names)), [shares[name] for name in names], color=BLUE, height=0.6)
        for place, name in enumerate(names):
            axes.annotate(f"{shares[name]:.2f}", (shares[name], place), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(names)), [name.removeprefix("training.").replace("_", " ") for name in names])
        axes.set(xlabel="share of the explained variance", ylim=(len(names) - 0.5, -0.5), xlim=(0, max(shares.values()) * 1.15))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    caption = (
        f"Functional ANOVA over the {trials} trials that ran to their end; with fewer than about twenty it is a hint only."
    )
    return Chart("importances", "Importances", caption, figure)


def learning_curves(usable: Sequence[Record], phase_ends: Sequence[int]) -> Chart:
    """The AUC of each trial over its epochs."""
    ranked = sorted(usable, key=lambda r: (-r["best_auc"], r["number"]))
    top = {r["number"]: colour for r, colour in zip(ranked, BEST_COLOURS, strict=False)}
    hover: list[tuple[Any, float, float, str]] = []
    with style():
        figure, axes = panel(4.6, 3.4)
        for end in phase_ends[:-1]:
            axes.axvline(end, color=MUTED, linewidth=1, linestyle=":")
        for r in reversed(ranked):
            epochs = np.arange(1, len(r["aucs"]) + 1)
            colour = top.get(r["number"])
            ending = {"marker": "v", "markevery": [len(epochs) - 1]} if r["state"] == "PRUNED" else {}
            if colour:
                axes.plot(epochs, r["aucs"], color=colour, zorder=3, label=f"trial {r['number']}", **ending)
            else:
                axes.plot(epochs, r["aucs"], color=MUTED, linewidth=0.8, alpha=0.7, markersize=4, **ending)
            hover += [
                (axes, float(i), auc, f"trial {r['number']}, epoch {i}: AUC {auc:.3f}") for i, auc in enumerate(r["aucs"], 1)
            ]
        axes.set(xlabel="epoch", ylabel="validation AUC", xlim=(0.7, phase_ends[-1] + 0.3))
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(figure, axes, reverse=True)
    caption = (
        "A line a trial, the best three in colour; a triangle where one was stopped early, a dotted line where phases end."
    )
    return Chart("curves", "Learning curves", caption, figure, hover)


def _points(axes: Any, usable: Sequence[Record], x: Any) -> None:
    for state, look in LOOKS.items():
        of_state = [r for r in usable if r["state"] == state]
        if of_state:
            axes.plot([x(r) for r in of_state], [r["best_auc"] for r in of_state], linestyle="none", markersize=5, **look)


def _legend(figure: Any, axes: Any, reverse: bool = False) -> None:
    """A legend above the axes, where it covers no trial."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), reverse=reverse)


def _scale(axes: Any, distribution: Any) -> None:
    """An axis over the range of a setting; a logarithmic one with plain numbers, three a decade where few decades are seen."""
    low, high = distribution.low, distribution.high
    if not distribution.log:
        margin = 0.03 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    axes.set_xscale("log")
    margin = (high / low) ** 0.03
    axes.set_xlim(low / margin, high * margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _place(value: Any, distribution: BaseDistribution) -> float:
    """Where a value stands on an axis: itself, or the place of a choice."""
    return float(distribution.to_internal_repr(value))


def _height(value: Any, distribution: BaseDistribution) -> float:
    """Where a value stands on an axis of length 1."""
    place = _place(value, distribution)
    if isinstance(distribution, CategoricalDistribution):
        return place / max(1, len(distribution.choices) - 1)
    low, high = distribution.low, distribution.high
    if distribution.log:
        place, low, high = np.log([place, low, high])
    return float((place - low) / (high - low))


def _ends(axes: Any, x: int, distribution: BaseDistribution) -> None:
    """Write the ends of an axis, or its choices."""
    if isinstance(distribution, CategoricalDistribution):
        for choice in distribution.choices:
            _write(axes, x, _height(choice, distribution), str(choice))
        return
    for y, value in ((0.0, distribution.low), (1.0, distribution.high)):
        _write(axes, x, y, f"{value:.3g}")


def _write(axes: Any, x: int, y: float, text: str) -> None:
    inside = 0.0 < y < 1.0
    place = {"xytext": (4, 0), "va": "center"} if inside else {"xytext": (0, -12 if y <= 0 else 4), "ha": "center"}
    box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    axes.annotate(text, (x, y), textcoords="offset points", fontsize=8.5, color=INK, bbox=box, **place)


def _told(record: Record) -> str:
    """What hovering over a trial says."""
    return f"trial {record['number']}: AUC {record['best_auc']:.3f} in epoch {record['epoch']}; {values_text(record['values'])}"
