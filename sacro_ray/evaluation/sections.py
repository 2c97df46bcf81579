"""The report's sections, in the order in which they are read: summary first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sacro_ray.evaluation import figures, run_figures, tables
from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.cutoffs import Cutoff
from sacro_ray.evaluation.failures import most_confident_errors
from sacro_ray.evaluation.gallery import pictures
from sacro_ray.evaluation.metrics import evaluated
from sacro_ray.evaluation.participants import flow, flow_table
from sacro_ray.evaluation.predictions import Sample, sample_of
from sacro_ray.evaluation.report import Card, Confusion, Section
from sacro_ray.evaluation.subgroups import characteristics, subgroup_rows, table_1
from sacro_ray.evaluation.words import NAMES, STUDY_PLACES, methods, outcome, partitions, summary


@dataclass(frozen=True)
class Results:
    """What the sections are made of.

    Attributes:
        frames: Checked predictions by split, validation first.
        cutoffs: From `all_cutoffs`.
        metrics: From `compute_metrics`.
        context: What the run adds.
        small_subgroup: Subgroups with fewer radiographs are marked.
    """

    frames: Mapping[str, pd.DataFrame]
    cutoffs: Sequence[Cutoff]
    metrics: Mapping[str, Any]
    context: ReportContext
    small_subgroup: int

    @property
    def samples(self) -> dict[str, Sample]:
        """The radiographs with labels that each split is judged on."""
        return {split: sample_of(evaluated(table, split)) for split, table in self.frames.items()}

    @property
    def last(self) -> str:
        """The split that counts: the test set where there is one."""
        return list(self.frames)[-1]


def build(results: Results) -> list[Section]:
    """All sections that have content."""
    parts = (_summary, _participants, _discrimination, _cutoffs, _confusions, _agreement, _calibration, _subgroups, _errors, _robustness,
             _training, _methods)  # fmt: skip
    return [section for part in parts if (section := part(results)) is not None]


def _summary(results: Results) -> Section:
    cards = []
    for split in reversed(list(results.frames)):
        part = results.metrics[split]
        balanced = part["at_cutoff"]["balanced"]
        who = f"{split}, n = {part['n']}"
        for label, estimate in (("AUC", part["auc"]), ("Sensitivity", balanced["sensitivity"]), ("Specificity", balanced["specificity"]),
                                ("Cohen's kappa", balanced["kappa"])):  # fmt: skip
            cards.append(Card(label, tables.with_interval(estimate).split(" ")[0], tables.interval(estimate), who))
    text = summary(results.metrics, outcome(results.context))
    return Section("summary", "Summary", text, results.metrics["remarks"], cards)


def _participants(results: Results) -> Section:
    steps = flow(results.context.manifests, results.frames)
    baseline = results.context.baseline
    listed = [table_1(baseline)] if baseline is not None and characteristics(baseline) else []
    text = partitions(results.context.manifests)
    return Section("participants", "Participants", text, flow=steps, tables=listed, files=[flow_table(steps)])


def _discrimination(results: Results) -> Section:
    against = results.metrics["readers_against_reference"]
    charts = [
        draw(split, sample, results.metrics[split], against[split])
        for split, sample in results.samples.items()
        for draw in (figures.roc, figures.precision_recall)
    ]
    own = sorted({name for readers in against.values() for name, rates in readers.items() if rates["own_reference"]})
    text = [f"Not drawn: {', '.join(own)}, whose readings are the reference itself where there is one."] if own else []
    return Section(
        "discrimination", "ROC and precision-recall", text, charts=charts, tables=[tables.performance(results.metrics)]
    )


def _cutoffs(results: Results) -> Section:
    values = results.metrics["cutoffs"]
    spread = []
    for split, sample in results.samples.items():
        table = results.frames[split]
        differ = (
            table.loc[table["subset"] == "discordant", "probability"].to_numpy(np.float64) if split == "test" else np.empty(0)
        )
        spread.append(figures.histogram(split, sample, differ, values))
    listed = [tables.chosen_cutoffs(results.cutoffs)]
    listed += [tables.at_cutoffs(split, results.metrics[split]) for split in results.samples]
    return Section("cutoffs", "Cut-offs", charts=[figures.over_cutoff(results.samples, values), *spread], tables=listed)


def _confusions(results: Results) -> Section:
    grids = []
    for split in results.samples:
        for name, at in results.metrics[split]["at_cutoff"].items():
            title = f"{NAMES.get(name, name).capitalize()}, cut-off {at['cutoff']:.3f}"
            right = at["tn"] + at["tp"]
            accuracy = f"{right}/{results.metrics[split]['n']} ({100 * at['agreement']['estimate']:.1f} %)"
            kappa = tables.with_interval(at["kappa"])
            grids.append(Confusion(split, title, at["tn"], at["fp"], at["fn"], at["tp"], kappa, accuracy))
    files = [tables.confusion(split, results.metrics[split]) for split in results.samples]
    return Section("confusion", "Confusion tables", confusions=grids, files=files)


def _agreement(results: Results) -> Section | None:
    listed = [tables.agreement(split, results.metrics["readers"][split]) for split in results.samples]
    if "test" in results.frames and results.metrics["test"]["discordant"]["n"]:
        listed.append(tables.discordant(results.metrics["test"]["discordant"]))
    listed += [
        tables.against_reference(split, results.metrics["readers_against_reference"][split]) for split in results.samples
    ]
    return Section("agreement", "Readers and model", tables=listed) if any(table.rows for table in listed) else None


def _calibration(results: Results) -> Section:
    curves = [figures.decision_curve(split, sample) for split, sample in results.samples.items()]
    return Section("calibration", "Calibration and decision curve", charts=[figures.calibration(results.samples), *curves])


def _subgroups(results: Results) -> Section | None:
    split = results.last
    judged = evaluated(results.frames[split], split)
    given = results.context.baseline
    baseline = given if given is not None else judged[["radiograph_id", "cohort"]]
    rows = subgroup_rows(judged, baseline, results.metrics["cutoffs"]["balanced"], results.small_subgroup)
    if len(rows) == 1:  # all radiographs alone
        return None
    note = "Sensitivity and specificity at the balanced cut-off. Quarters of numbers. No correction for many comparisons."
    table = tables.Table("subgroups", f"Subgroups, {split}", rows, note)
    return Section("subgroups", "Subgroups", charts=[run_figures.forest(rows, split)], tables=[table])


def _errors(results: Results) -> Section | None:
    cutoff = results.metrics["cutoffs"]["balanced"]
    listed = [
        most_confident_errors(split, evaluated(table, split), cutoff) for split, table in reversed(list(results.frames.items()))
    ]
    shown = pictures(results.context.examples)
    text = (
        ["Left the radiograph as the network sees it, right with its Grad-CAM map: what raised the score most is brightest."]
        if shown
        else []
    )
    if not shown and not any(table.rows for table in listed):
        return None
    return Section("errors", "Examples and errors", text, pictures=shown, tables=listed)


def _robustness(results: Results) -> Section | None:
    rows = list(results.context.robustness)
    if not rows:
        return None
    table = tables.robustness(rows)
    return Section("robustness", "Robustness", charts=[run_figures.robustness(rows)], tables=[table])


def _training(results: Results) -> Section | None:
    history = results.context.history
    if history is None or history.empty:
        return None
    best = history.iloc[int(history["val_auc"].argmax())]
    epoch = f"epoch {best['epoch']:.0f}, AUC {best['val_auc']:.4f}"
    text = f"Evaluated are the weights of the epoch with the highest AUC on validation: {epoch}."
    return Section("training", "Training", [text], charts=run_figures.training_curves(history))


def _methods(results: Results) -> Section:
    context = results.context
    sees = ["The network sees the radiograph alone; what else is known of a patient only describes cohorts and subgroups."]
    facts = [f"Data digest: {context.data_digest}"] if context.data_digest else []
    if context.versions:
        facts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(context.versions.items())))
    places = tables.Table("study_places", "Where the published study's tables and figures are", STUDY_PLACES)
    text = [*(sees if context.config else []), *methods(), *facts]
    return Section("methods", "Methods and configuration", text, tables=[places], code=context.config or "")
