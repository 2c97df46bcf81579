"""The flow of participants (STARD): from the radiographs received to those that each number is about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sacro_ray.evaluation.tables import Cell, Table


@dataclass(frozen=True)
class FlowStep:
    """A box of the flow.

    Attributes:
        title: Such as `proof: received`.
        count: Radiographs.
        details: Lines below it.
        level: How far it is indented: 0 for what was received, 1 for what became of it.
        kind: `kept` or `excluded`.
    """

    title: str
    count: int
    details: Sequence[str]
    level: int
    kind: str


def flow(manifests: Sequence[Mapping[str, Any]], frames: Mapping[str, pd.DataFrame]) -> list[FlowStep]:
    """The boxes, cohort by cohort; without manifests, what the predictions alone tell.

    Args:
        manifests: The cohorts' manifest.json as plain values.
        frames: Checked predictions by split.
    """
    if manifests:
        return [step for manifest in manifests for step in _cohort(manifest)]
    steps = []
    for split, table in frames.items():
        labels = table["label"].dropna()
        patients = table.groupby(["cohort", "patient_id"]).ngroups
        steps.append(FlowStep(f"{split}: radiographs with predictions", len(table), [f"{patients} patients"], 0, "kept"))
        differ = (table["subset"] == "discordant") if split == "test" else table["label"].isna()
        judged = table["label"].notna() & ~differ
        positives = int(labels[judged[labels.index]].sum())
        steps.append(FlowStep("with a reference label", int(judged.sum()), [f"{positives} positive"], 1, "kept"))
        if differ.any():
            steps.append(
                FlowStep("readers differ, no reference label", int(differ.sum()), ["only the calls are counted"], 1, "excluded")
            )
    return steps


def _cohort(manifest: Mapping[str, Any]) -> list[FlowStep]:
    reasons = Counter(entry["reason"] for entry in manifest.get("excluded", []))
    kept = sum(split["radiographs"] for split in manifest["splits"].values())
    received = manifest.get("received", kept + sum(reasons.values()))
    steps = [FlowStep(f"{manifest['cohort']}: radiographs received", received, [], 0, "kept")]
    if reasons:
        details = [f"{reason.replace('_', ' ')}: {count}" for reason, count in sorted(reasons.items())]
        steps.append(FlowStep("excluded", sum(reasons.values()), details, 1, "excluded"))
    for name, split in manifest["splits"].items():
        details = [f"{split['patients']} patients"]
        words = {
            "positives": "positive",
            "discordant": "readers differ, no reference label",
            "adjudicated": "adjudicated",
            "reclassified": "re-classified",
        }
        details += [
            f"{split[field]} {text} ({100 * split[field] / split['radiographs']:.1f} %)"
            for field, text in words.items()
            if split.get(field)
        ]
        steps.append(FlowStep({"train": "training"}.get(name, name), split["radiographs"], details, 1, "kept"))
    return steps


def flow_table(steps: Sequence[FlowStep]) -> Table:
    """The same as a table."""
    rows: list[dict[str, Cell]] = [
        {"step": step.title, "radiographs": step.count, "details": "; ".join(step.details)} for step in steps
    ]
    return Table("participants", "Flow of participants", rows)
