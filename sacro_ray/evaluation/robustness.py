"""How the AUC changes when the images are changed slightly and the model is not."""

from collections.abc import Mapping
from typing import Any

from sacro_ray.evaluation.discrimination import auc_change, auc_delong
from sacro_ray.evaluation.estimates import Bools, Floats


def robustness_rows(labels: Bools, unchanged: Floats, changed: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """The rows of `ReportContext.robustness`, the unchanged images first.

    Args:
        labels: Shape (n,); both classes must be present.
        unchanged: Shape (n,), scores of the images as they are.
        changed: By the perturbation's name, such as `rotation 5°`: shape (n,), scores of the same radiographs.
    """
    rows = []
    for name, scores in {"unchanged": unchanged, **changed}.items():
        area, change = auc_delong(labels, scores), auc_change(labels, unchanged, scores)
        paired = name != "unchanged"
        rows.append(
            {
                "perturbation": name,
                "n": len(labels),
                "auc": area.estimate,
                "low": area.low,
                "high": area.high,
                "change": change.estimate,
                "change_low": change.low if paired else None,
                "change_high": change.high if paired else None,
            }
        )
    return rows
