"""`evaluate`: cut-offs, tables, figures, metrics.json and report.html of a run, or of predictions given as CSV."""

import json
import logging
import re
from argparse import Namespace
from pathlib import Path

from sacro_ray import command
from sacro_ray.errors import UserError
from sacro_ray.locations import below, checked_location, in_store

log = logging.getLogger("sacro_ray")

EXAMPLES = """
  sacro-ray evaluate experiments/runs/demo
  sacro-ray evaluate --validation validation.csv --test test.csv --out evaluation --cutoff half=0.5"""


def main(argv: list[str]) -> str | Path:
    """Evaluate a run folder, or tables of predictions; answers the report's path."""
    arguments = command.parser(
        "evaluate",
        "Cut-offs from validation, then every number with its interval on validation and test: tables, figures, metrics.json, report.html.",
        EXAMPLES,
    )
    arguments.add_argument(
        "run",
        nargs="?",
        metavar="RUN_DIR",
        help="a run folder, or s3://...; its external test shards are scored first",
    )
    arguments.add_argument("--validation", metavar="CSV", help="predictions: radiograph_id, probability, label, ...")
    arguments.add_argument("--test", metavar="CSV", help="the same for the external test cohort")
    arguments.add_argument("--out", metavar="DIR", help="where the evaluation of --validation and --test goes")
    arguments.add_argument(
        "--cutoff",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a fixed cut-off to report beside the three; repeatable",
    )
    command.add_common(arguments)
    given = arguments.parse_args(argv)
    fixed = _fixed_cutoffs(given.cutoff)
    if given.run is None:
        return _evaluate_tables(given, fixed)
    if given.validation or given.test or given.out:
        raise UserError(
            "give either RUN_DIR, or --validation, --test and --out, not both; a run's evaluation goes into its folder"
        )
    run = checked_location(given.run)
    log.info("evaluate: %s -> %s", given.run, below(run, "evaluation"))
    from sacro_ray.cluster.evaluate_driver import evaluate_run

    return tell(evaluate_run(run, given.set, given.address, fixed))


def tell(report: str | Path) -> str | Path:
    """Say on the log how well the model did, one line per split, and every remark; returns where the report lies, a path or an address."""
    from sacro_ray.dataset.store import Store
    from sacro_ray.evaluation.words import in_short

    folder = str(report).rpartition("/")[0]
    text = Store(folder).read("metrics.json") if in_store(folder) else Path(folder, "metrics.json").read_bytes()
    metrics = json.loads(text or "{}")
    for split in ("validation", "test"):
        if split in metrics:
            log.info("%s", in_short(split, metrics[split]))
    for remark in metrics.get("remarks", ()):
        log.warning("remark: %s", remark)
    return report


def _evaluate_tables(given: Namespace, fixed: dict[str, float]) -> str | Path:
    if not given.validation or not given.out:
        raise UserError("give a run folder, or --validation CSV and --out DIR (and --test CSV); see evaluate --help")
    for override in given.set:
        if not override.startswith(("seed", "evaluation.")):
            key = override.partition("=")[0]
            raise UserError(f"--set {override}: predictions are evaluated with seed and evaluation.*; {key} has no part in it")
    place = checked_location(given.out)
    if in_store(place):
        raise UserError(f"--out {place}: the evaluation of tables goes into a folder of this machine; give a path")
    log.info("evaluate: %s -> %s", " and ".join(filter(None, [given.validation, given.test])), place)
    from sacro_ray.config import EvaluationOnly
    from sacro_ray.dataset.working_folder import WorkingFolder
    from sacro_ray.evaluation.predictions import read_predictions, refuse_overlap
    from sacro_ray.settings import build_settings

    settings = build_settings(EvaluationOnly, {}, given.set, "--set")
    validation = read_predictions(given.validation)
    test = read_predictions(given.test) if given.test else None
    if test is not None:
        refuse_overlap(validation, test, ["radiograph_id"])
    from sacro_ray.evaluation.pipeline import evaluate_predictions

    with WorkingFolder(place) as out, out.alone("evaluate", "--out"):
        return tell(evaluate_predictions(validation, test, settings.evaluation, settings.seed, Path(place), fixed))


def _fixed_cutoffs(texts: list[str]) -> dict[str, float]:
    result: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or not 0 <= number <= 1:
            allowed = "a name of letters, digits, '_', '-' and '.', and a value from 0 to 1"
            raise UserError(f"--cutoff {text}: expected NAME=VALUE with {allowed}, such as --cutoff half=0.5")
        if name in result:
            raise UserError(f"--cutoff {text}: {name} is given twice; each cut-off needs its own name")
        result[name] = number
    return result


def cli(argv: list[str] | None = None) -> None:
    """Run the command."""
    command.run(main, argv)


if __name__ == "__main__":
    cli()
