"""sweep.html: one file with everything in it about a sweep, in the report's style."""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sacro_ray.cluster.space import distributions
from sacro_ray.cluster.sweep_display import values_text
from sacro_ray.cluster.sweep_figures import figures
from sacro_ray.cluster.sweep_folder import Record
from sacro_ray.config import Experiment
from sacro_ray.evaluation.remarks import auc_remarks
from sacro_ray.evaluation.report import banner
from sacro_ray.evaluation.tables import shown
from sacro_ray.learning.stages import plan


def render_page(experiment: Experiment, records: Sequence[Record], simulated: bool = False) -> str:
    """The page as an HTML document.

    Args:
        experiment: The sweep's.
        records: The trials that have ended, by number.
        simulated: Whether a banner says that the radiographs are simulated.
    """
    house, own = files("sacro_ray.evaluation"), files("sacro_ray.cluster")
    phase_ends = [phase.last_epoch for phase in plan(experiment.of_a_trial().training)]
    charts = figures(records, distributions(experiment), phase_ends)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(own.joinpath("sweep_page.html").read_text(encoding="utf-8")).render(
        name=experiment.name,
        banner=banner() if simulated else "",
        trials=experiment.search.trials,
        cards=_cards(records, phase_ends[-1]),
        charts=[
            {"title": c.title, "caption": c.caption, "svg": Markup(c.inline_svg()), "hover": json.dumps(c.hover_points()), "wide": c.wide}
            for c in charts
        ],
        columns=["trial", "state", "best AUC", "epoch of it", "epochs", "seconds", *experiment.search.space],
        rows=[_row(r, list(experiment.search.space)) for r in _ranked(records)],
        errors=[(r["number"], r["error"]) for r in records if r["error"]],
        config=experiment.as_toml(),
        css=Markup(house.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(house.joinpath("hover.html").read_text(encoding="utf-8")),
    )  # fmt: skip


def _cards(records: Sequence[Record], epochs: int) -> list[tuple[str, str, str]]:
    """(label, value, detail) of the numbers at the top."""
    states = [r["state"] for r in records]
    run = sum(r["epochs"] for r in records)
    saved = sum(epochs - r["epochs"] for r in records if r["state"] == "PRUNED")
    seconds = sum(r["seconds"] for r in records)
    ranked = [r for r in _ranked(records) if r["best_auc"] is not None]
    cards = [
        ("trials ended", str(len(records)),
         f"{states.count('COMPLETE')} complete, {states.count('PRUNED')} stopped early, {states.count('FAIL')} failed"),
        ("epochs run", str(run), f"{saved} more saved by early stopping"),
        ("time in epochs", f"{seconds / 60:.1f} min", "summed over the trials"),
    ]  # fmt: skip
    if ranked:
        best, own = ranked[0], next((r for r in ranked if r["number"] == 0), None)
        against = f"; the experiment's own values {own['best_auc']:.4f}" if own and own["number"] != best["number"] else ""
        details = [f"trial {best['number']}, epoch {best['epoch']}{against}", *auc_remarks("", {"estimate": best["best_auc"]})]
        cards.insert(0, ("best validation AUC", f"{best['best_auc']:.4f}", "; ".join(details)))
        cards.insert(1, ("its values", "", values_text(best["values"])))
    return cards


def _ranked(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda r: (r["best_auc"] is None, -(r["best_auc"] or 0.0), r["number"]))


def _row(record: Record, names: Sequence[str]) -> list[str]:
    state = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}[record["state"]]
    auc = "–" if record["best_auc"] is None else f"{record['best_auc']:.4f}"
    counts = [shown(record["epoch"]), str(record["epochs"]), f"{record['seconds']:.0f}"]
    return [str(record["number"]), state, auc, *counts, *(_value(record["values"][name]) for name in names)]


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
