"""`tune EXPERIMENT.toml`: an Optuna sweep on Ray Tune."""

import logging
import sys
from pathlib import Path

from sacro_ray import command, interruption
from sacro_ray.locations import below, checked_location

log = logging.getLogger("sacro_ray")


def main(argv: list[str]) -> str | Path:
    """Run a sweep, or go on with one."""
    parser = command.parser(
        "tune",
        "Search settings of an experiment for the best validation AUC; writes trials.csv, sweep.html and a best.toml that train takes.",
        "python -m sacro_ray.tune experiments/demo.toml --trials 6",
    )
    parser.add_argument("experiment", help="experiments/NAME.toml")
    parser.add_argument("--trials", type=int, default=None, metavar="N", help="number of trials (default: search.trials)")
    parser.add_argument("--resume", action="store_true", help="go on with a sweep that was stopped, or with more --trials")
    parser.add_argument(
        "--runs", default="experiments/runs", metavar="DIR", help="where NAME-sweep/ lies, or s3://... (default: %(default)s)"
    )
    command.add_common(parser)
    arguments = parser.parse_args(argv)
    overrides = [*arguments.set, *([f"search.trials={arguments.trials}"] if arguments.trials is not None else [])]
    experiment = command.experiment_of(arguments.experiment, overrides)
    runs = checked_location(arguments.runs)
    log.info("tune: %s -> %s", arguments.experiment, below(runs, f"{experiment.name}-sweep"))
    from sacro_ray.cluster.search import AllTrialsFailedError, search

    try:
        return search(
            experiment,
            runs,
            arguments.resume,
            arguments.address,
            claimed=lambda: interruption.goes_on_with("--resume"),
        )
    except AllTrialsFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def cli(argv: list[str] | None = None) -> None:
    """Entry of the command."""
    command.run(main, argv, kept="finished trials and epochs are kept")


if __name__ == "__main__":
    cli()
