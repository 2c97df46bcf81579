"""The whole evaluation: predictions in; metrics.json, tables, figures and report.html out."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sacro_ray.config import Evaluation
from sacro_ray.evaluation import sections
from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.documents import checklists, model_card
from sacro_ray.evaluation.files import claim, write_bytes, write_json, write_text
from sacro_ray.evaluation.metrics import all_cutoffs, compute_metrics
from sacro_ray.evaluation.predictions import check_predictions, refuse_overlap
from sacro_ray.evaluation.remarks import remarks
from sacro_ray.evaluation.report import render
from sacro_ray.evaluation.words import outcome

log = logging.getLogger(__name__)


def evaluate_predictions(
    validation: pd.DataFrame,
    test: pd.DataFrame | None,
    settings: Evaluation,
    seed: int,
    out: Path,
    fixed_cutoffs: Mapping[str, float],
    context: ReportContext = ReportContext(),  # noqa: B008 (frozen)
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Evaluate predictions and write everything into a folder.

    Args:
        validation: Predictions as `read_predictions` returns them; the cut-offs come from these alone.
        test: The same of the external test cohort, or None.
        settings: Targets, folds and repetitions.
        seed: Of the cross-validation and the bootstraps; the same seed gives the same files.
        out: The folder; made where it is missing.
        fixed_cutoffs: Given cut-offs by name, reported beside the three.
        context: What the run adds to the report.
        origin: What the test predictions come from; see `claim`.

    Returns:
        The path of report.html.

    Raises:
        UserError: The predictions cannot be evaluated, or `out` holds the evaluation of other predictions.
    """
    validation = check_predictions(validation, "validation")
    if test is not None:
        test = check_predictions(test, "test")
        refuse_overlap(validation, test, ["cohort", "radiograph_id"])
    sizes = f"{len(validation)} validation" + ("" if test is None else f" and {len(test)} test")
    log.info("evaluating %s radiographs", sizes)
    cutoffs = all_cutoffs(validation, settings, seed, fixed_cutoffs)
    metrics = compute_metrics(validation, test, cutoffs, settings, seed)
    metrics["remarks"] = remarks(validation, test, metrics, settings)
    claim(out, validation, test, origin)
    write_json(out / "metrics.json", metrics)
    frames = {"validation": validation} | ({} if test is None else {"test": test})
    parts = sections.build(sections.Results(frames, cutoffs, metrics, context, settings.small_subgroup))
    for part in parts:
        for table in (*part.tables, *part.files):
            if table.rows:
                write_text(out / "tables" / f"{table.name}.csv", table.frame().to_csv(index=False))
        for chart in part.charts:
            write_text(out / "figures" / f"{chart.name}.svg", chart.svg)
            write_bytes(out / "figures" / f"{chart.name}.png", chart.png())
    card, page = model_card(metrics, context), render(context.title, outcome(context), parts, context.simulated)
    write_text(out / "model_card.md", card)
    for name, text in checklists(page, parts, card, context).items():
        write_text(out / "checklists" / name, text)
    report = out / "report.html"
    write_text(report, page)
    return report
