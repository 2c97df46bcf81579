"""What a run can add to its report beyond the predictions; every part is optional."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

Group = Literal["true_positive", "true_negative", "false_positive", "false_negative"]


@dataclass(frozen=True)
class Example:
    """One radiograph of the gallery.

    Attributes:
        radiograph_id: As in the predictions.
        group: The model's call at the balanced cut-off against the reference label.
        probability: 0 to 1.
        image: PNG bytes of the radiograph as the network saw it.
        overlay: PNG bytes of the same with its Grad-CAM map.
        caption: More to say, such as the grade.
    """

    radiograph_id: str
    group: Group
    probability: float
    image: bytes
    overlay: bytes
    caption: str = ""


@dataclass(frozen=True)
class ReportContext:
    """What a run knows about itself.

    Attributes:
        title: The experiment's name.
        config: The resolved configuration as TOML text.
        history: The rows of history.csv.
        manifests: The cohorts' manifest.json, as plain values.
        baseline: `radiograph_id`, `cohort`, `split`, `label` and one column `baseline:NAME` per characteristic.
        examples: Radiographs with Grad-CAM maps.
        simulated: Whether the radiographs are simulated: the report then says so at its top.
        robustness: From `robustness_rows`: one row a perturbation of the test images, the unchanged ones first.
        versions: By package.
        data_digest: Of the shards that were read.
    """

    title: str = "Evaluation"
    config: str | None = None
    history: pd.DataFrame | None = None
    manifests: Sequence[Mapping[str, Any]] = ()
    baseline: pd.DataFrame | None = None
    examples: Sequence[Example] = ()
    simulated: bool = False
    robustness: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    data_digest: str | None = None
