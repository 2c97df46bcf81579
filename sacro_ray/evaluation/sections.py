"""The report's sections, in the order in which they are read: summary first."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sacro_ray.evaluation import figures, tables
from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.cutoffs import Cutoff
from sacro_ray.evaluation.metrics import evaluated
from sacro_ray.evaluation.predictions import sample_of
from sacro_ray.evaluation.report import Card, Section


def build(
    validation: pd.DataFrame, test: pd.DataFrame | None, cutoffs: list[Cutoff], metrics: Mapping[str, Any], context: ReportContext
) -> list[Section]:
    """All sections that have content.

    Args:
        validation: As `check_predictions` returns it.
        test: The same, or None.
        cutoffs: From `all_cutoffs`.
        metrics: From `compute_metrics`.
        context: What the run adds.
    """
    frames = {"validation": validation} | ({"test": test} if test is not None else {})
    samples = {split: sample_of(evaluated(table, split)) for split, table in frames.items()}
    values = dict(metrics["cutoffs"])
    against = metrics["readers_against_reference"]
    curves = [
        draw(split, sample, metrics[split], against[split])
        for split, sample in samples.items()
        for draw in (figures.roc, figures.precision_recall)
    ]
    spread = []
    for split, sample in samples.items():
        differ = frames[split].loc[frames[split]["subset"] == "discordant", "probability"].to_numpy() if split == "test" else sample.probabilities[:0]
        spread.append(figures.histogram(split, sample, differ, values))
    by_cutoff = [table(split, metrics[split]) for split in samples for table in (tables.confusion, tables.at_cutoffs)]
    pairs = [tables.agreement(split, metrics["readers"][split]) for split in samples]
    if test is not None and metrics["test"]["discordant"]["n"]:
        pairs.append(tables.discordant(metrics["test"]["discordant"]))
    return [
        Section("summary", "Summary", cards=_cards(metrics)),
        Section("discrimination", "ROC and precision-recall", charts=curves, tables=[tables.performance(metrics)]),
        Section("cutoffs", "Cut-offs", charts=[figures.over_cutoff(samples, values), *spread], tables=by_cutoff),
        Section("agreement", "Readers and model", tables=pairs),
        Section("calibration", "Calibration and decision curve", charts=[
            figures.calibration(samples), *(figures.decision_curve(split, sample) for split, sample in samples.items())
        ]),
    ]  # fmt: skip


def _cards(metrics: Mapping[str, Any]) -> list[Card]:
    cards = []
    for split in ("test", "validation"):
        if split not in metrics:
            continue
        part = metrics[split]
        balanced = part["at_cutoff"]["balanced"]
        who = f"{part['n']} radiographs, {part['positives']} positive"
        for label, estimate in (("AUC", part["auc"]), ("kappa, balanced cut-off", balanced["kappa"])):
            cards.append(Card(f"{label}, {split}", _two(estimate["estimate"]), f"95 % CI {_range(estimate)}; {who}"))
    return cards


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _range(estimate: Mapping[str, Any]) -> str:
    return f"{_two(estimate['low'])}–{_two(estimate['high'])}"
