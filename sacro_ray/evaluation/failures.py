"""The most confident errors: what someone who mistrusts the network looks at first."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sacro_ray.evaluation.tables import Table

LISTED = 10


def most_confident_errors(split: str, judged: pd.DataFrame, cutoff: float) -> Table:
    """The errors at the balanced cut-off that lie farthest from it.

    Args:
        split: `validation` or `test`.
        judged: Radiographs with labels, as `check_predictions` returns them.
        cutoff: The balanced one.
    """
    wrong = judged[(judged["probability"] >= cutoff) != (judged["label"] == 1)]
    distance = (wrong["probability"] - cutoff).abs()
    first = wrong.assign(distance=distance).sort_values(["distance", "radiograph_id"], ascending=[False, True]).head(LISTED)
    rows: list[Mapping[str, Any]] = [
        {
            "radiograph": row["radiograph_id"],
            "cohort": row["cohort"],
            "error": "false negative" if row["label"] == 1 else "false positive",
            "score": float(row["probability"]),
        }
        for row in first.to_dict("records")
    ]
    note = f"{len(wrong)} of {len(judged)} radiographs are called wrongly at the balanced cut-off; the {len(rows)} farthest from it."
    return Table(f"errors_{split}", f"Most confident errors, {split}", rows, note)
