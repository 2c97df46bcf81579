"""The figures about performance: ROC and precision-recall, the cut-offs, the scores, calibration, decision curve."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sacro_ray.evaluation.calibration import calibration_bins, expected_calibration_error, net_benefit
from sacro_ray.evaluation.discrimination import OperatingPoints, operating_points
from sacro_ray.evaluation.estimates import Floats
from sacro_ray.evaluation.plotting import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, Chart, panel, style, thinned
from sacro_ray.evaluation.predictions import Sample
from sacro_ray.evaluation.tables import with_interval

COLOURS = {"validation": BLUE, "test": ORANGE}
MARKERS = "osD^vP*X"


def roc(split: str, sample: Sample, metrics: Mapping[str, Any], readers: Mapping[str, Any]) -> Chart:
    """The ROC curve with the cut-offs and the readers whose reference is not their own (study, Fig. 2)."""
    points = operating_points(sample.labels, sample.probabilities)
    x, y = np.append(0, 1 - points.specificity), np.append(0, points.sensitivity)
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        axes.plot(x, y, color=COLOURS[split], label=f"model, AUC {with_interval(metrics['auc'], 3)}")
        _mark(axes, metrics, readers, lambda rates: (_one_minus(rates["specificity"]), rates["sensitivity"]))
        _unit_square(axes, "1 − specificity", "sensitivity", "lower right")
    hover = _curve_hover(axes, points, 1 - points.specificity, points.sensitivity)
    return Chart(
        f"roc_{split}",
        f"ROC curve, {split}",
        f"{_who(metrics)} AUC {with_interval(metrics['auc'], 3)} (DeLong).",
        figure,
        hover,
    )


def precision_recall(split: str, sample: Sample, metrics: Mapping[str, Any], readers: Mapping[str, Any]) -> Chart:
    """The precision-recall curve with the cut-offs and the readers whose reference is not their own (study, Fig. 2)."""
    points = operating_points(sample.labels, sample.probabilities)
    text = with_interval(metrics["average_precision"], 3)
    with style():
        figure, axes = panel()
        axes.axhline(sample.labels.mean(), color=MUTED, linewidth=1, linestyle=":")
        recall, precision = np.append(0, points.sensitivity), np.append(points.precision[0], points.precision)
        # Steps, not slopes: average precision is the area of the steps, and slopes between points would promise more.
        axes.plot(recall, precision, color=COLOURS[split], drawstyle="steps-pre", label=f"model, AP {text}")
        _mark(axes, metrics, readers, lambda rates: (rates["sensitivity"], rates["ppv"]))
        _unit_square(axes, "sensitivity (recall)", "positive predictive value (precision)", "lower left")
    hover = _curve_hover(axes, points, points.sensitivity, points.precision)
    caption = (
        f"{_who(metrics)} Average precision {text}; the dotted line is the share of positives, {sample.labels.mean():.2f}."
    )
    return Chart(f"precision_recall_{split}", f"Precision-recall curve, {split}", caption, figure, hover)


def over_cutoff(samples: Mapping[str, Sample], cutoffs: Mapping[str, float]) -> Chart:
    """Sensitivity and specificity at every cut-off, validation and test (study, Fig. 3)."""
    hover: list[tuple[Any, float, float, str]] = []
    with style():
        figure, axes = panel(5.4, 4.5)
        for split, sample in samples.items():
            points = operating_points(sample.labels, sample.probabilities)
            cutoff = np.concatenate([[1.0], points.cutoff, [0.0]])
            sensitivity = np.concatenate([[0.0], points.sensitivity, [1.0]])
            specificity = np.concatenate([[1.0], points.specificity, [0.0]])
            axes.step(cutoff, sensitivity, where="post", color=COLOURS[split], label=f"sensitivity, {split}")
            axes.step(cutoff, specificity, where="post", color=COLOURS[split], linestyle="--", label=f"specificity, {split}")
            for i in thinned(points.cutoff.size, 100):
                at = f"{split}, cut-off {points.cutoff[i]:.3f}: "
                both = f"sensitivity {points.sensitivity[i]:.3f}, specificity {points.specificity[i]:.3f}"
                hover += [(axes, points.cutoff[i], rate[i], at + both) for rate in (points.sensitivity, points.specificity)]
        _cutoff_lines(axes, cutoffs)
        axes.set(xlabel="cut-off (probability)", ylabel="proportion", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        figure.legend(loc="outside lower center", ncols=2)
    caption = (
        "The vertical lines are the cut-offs from validation. " + "; ".join(f"{n} {v:.3f}" for n, v in cutoffs.items()) + "."
    )
    return Chart("over_cutoff", "Sensitivity and specificity over the cut-off", caption, figure, hover)


def histogram(split: str, sample: Sample, discordant: Floats, cutoffs: Mapping[str, float]) -> Chart:
    """How the scores are spread, by reference label, with the cut-offs."""
    edges = np.linspace(0, 1, 26)
    groups = [
        ("negative", BLUE, sample.probabilities[~sample.labels]),
        ("positive", ORANGE, sample.probabilities[sample.labels]),
    ]
    with style():
        figure, axes = panel(4.6, 3.8)
        for name, colour, scores in groups:
            axes.hist(scores, edges, color=colour, alpha=0.55, label=f"{name}, n = {scores.size}")
            axes.hist(scores, edges, color=colour, histtype="step", linewidth=1.2)
        if discordant.size:
            axes.hist(
                discordant, edges, color=INK, histtype="step", linestyle="--", label=f"readers differ, n = {discordant.size}"
            )
        _cutoff_lines(axes, cutoffs)
        axes.set(xlabel="score (probability)", ylabel="radiographs", xlim=(0, 1))
        figure.legend(loc="outside lower center", ncols=2)
    return Chart(
        f"scores_{split}", f"Scores, {split}", "Score by reference label; the vertical lines are the cut-offs.", figure
    )


def calibration(samples: Mapping[str, Sample]) -> Chart:
    """Observed share of positives against the mean score, in ten groups of equal size, with Wilson's intervals."""
    hover: list[tuple[Any, float, float, str]] = []
    errors = []
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        for (split, sample), marker in zip(samples.items(), MARKERS, strict=False):
            bins = calibration_bins(sample)
            x = np.array([group.mean_probability for group in bins])
            y, low, high = (np.array([getattr(group.observed, end) for group in bins]) for end in ("estimate", "low", "high"))
            ends = np.maximum(0.0, [y - low, high - y])
            axes.errorbar(x, y, yerr=ends, color=COLOURS[split], marker=marker, capsize=2, elinewidth=1, label=split)
            hover += [
                (axes, px, py, f"{split}: mean score {px:.2f}, positive {py:.2f} of n = {group.observed.n}")
                for px, py, group in zip(x, y, bins, strict=True)
            ]
            errors.append(f"{split} {expected_calibration_error(bins):.3f}")
        _unit_square(axes, "mean score", "share of positives", "upper left")
    caption = (
        "On the dotted line a score is the probability of a positive radiograph. Expected calibration error: "
        + ", ".join(errors)
        + "."
    )
    return Chart("calibration", "Calibration", caption, figure, hover)


def decision_curve(split: str, sample: Sample) -> Chart:
    """Net benefit of acting on the score, against acting on all or none (Vickers 2006)."""
    thresholds = np.linspace(0.01, 0.99, 99)
    model, everyone = net_benefit(sample, thresholds)
    with style():
        figure, axes = panel()
        axes.plot(thresholds, model, color=COLOURS[split], label="by the model's score")
        axes.plot(thresholds, everyone, color=MUTED, linestyle="--", label="all as positive")
        axes.axhline(0, color=INK, linewidth=1, linestyle=":", label="none as positive")
        top = max(float(sample.labels.mean()), 0.05)
        axes.set(xlabel="threshold probability", ylabel="net benefit", xlim=(0, 1), ylim=(-0.25 * top, 1.15 * top))
        axes.legend(loc="lower left")
    hover = [
        (axes, t, m, f"threshold {t:.2f}: net benefit {m:.3f}, all as positive {e:.3f}")
        for t, m, e in zip(thresholds, model, everyone, strict=True)
        if m >= -0.25 * top
    ]
    caption = (
        "Net true positives a radiograph; the threshold is the probability at which acting on a finding is worth its harm."
    )
    return Chart(f"decision_{split}", f"Decision curve, {split}", caption, figure, hover)


def _mark(axes: Any, metrics: Mapping[str, Any], readers: Mapping[str, Any], place: Any) -> None:
    for (name, at), marker in zip(metrics["at_cutoff"].items(), MARKERS, strict=False):
        x, y = place(at)
        if x["estimate"] is not None and y["estimate"] is not None:
            label = f"{name}, cut-off {at['cutoff']:.3f}"
            axes.plot(
                x["estimate"], y["estimate"], marker, color=INK, markerfacecolor=PAPER, markersize=7, label=label, zorder=4
            )
    others = {name: rates for name, rates in readers.items() if not rates["own_reference"]}
    for (name, rates), marker in zip(others.items(), reversed(MARKERS), strict=False):
        x, y = place(rates)
        if x["estimate"] is not None and y["estimate"] is not None:
            width, height = ([[max(0.0, e["estimate"] - e["low"])], [max(0.0, e["high"] - e["estimate"])]] for e in (x, y))
            axes.errorbar(
                x["estimate"], y["estimate"], xerr=width, yerr=height, fmt=marker, color=PURPLE, capsize=2, elinewidth=1,
                markersize=7, label=f"reader {name}", zorder=5,
            )  # fmt: skip


def _one_minus(rate: Mapping[str, Any]) -> dict[str, Any]:
    if rate["estimate"] is None:
        return dict(rate)
    return {"estimate": 1 - rate["estimate"], "low": 1 - rate["high"], "high": 1 - rate["low"]}


def _cutoff_lines(axes: Any, cutoffs: Mapping[str, float]) -> None:
    for (name, value), dash in zip(cutoffs.items(), ["-.", "--", "-"] + [":"] * len(cutoffs), strict=False):
        axes.axvline(value, color=GREEN, linewidth=1.2, linestyle=dash, label=f"cut-off {name} {value:.3f}")


def _unit_square(axes: Any, x: str, y: str, legend: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc=legend)


def _curve_hover(axes: Any, points: OperatingPoints, x: Floats, y: Floats) -> Sequence[tuple[Any, float, float, str]]:
    return [
        (axes, x[i], y[i], f"cut-off {points.cutoff[i]:.3f}: sensitivity {points.sensitivity[i]:.3f}, "
         f"specificity {points.specificity[i]:.3f}, precision {points.precision[i]:.3f}")
        for i in thinned(points.cutoff.size)
    ]  # fmt: skip


def _who(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['n']} radiographs, {metrics['positives']} positive."
