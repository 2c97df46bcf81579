"""`train EXPERIMENT.toml`: shards into a trained network and its run folder."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sacro_ray import command
from sacro_ray.locations import below, checked_location

if TYPE_CHECKING:
    from sacro_ray.config import Experiment

log = logging.getLogger("sacro_ray")


def main(argv: list[str]) -> Path | str:
    """Train, or with --dry-run print the resolved configuration and the plan."""
    parser = command.parser(
        "train",
        "Train the network of an experiment on its prepared shards; started again, it goes on where it was stopped.",
        "python -m sacro_ray.train experiments/demo.toml --set training.mixup_alpha=0.2",
    )
    parser.add_argument("experiment", help="experiments/NAME.toml, or the best.toml of a sweep")
    parser.add_argument(
        "--runs",
        default="experiments/runs",
        metavar="DIR",
        help="where run folders lie, or s3://... (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and the plan, and stop")
    command.add_common(parser)
    arguments = parser.parse_args(argv)
    experiment = command.experiment_of(arguments.experiment, arguments.set)
    if arguments.dry_run:
        print(experiment.as_toml(), file=sys.stdout)
        return describe_plan(experiment)
    runs = checked_location(arguments.runs)
    log.info("train: %s -> %s", arguments.experiment, below(runs, experiment.name))
    from sacro_ray.cluster.train_driver import train

    return train(experiment, runs, arguments.address)


def describe_plan(experiment: "Experiment") -> str:
    """The phases of a run, one line each, as comments below the configuration."""
    from sacro_ray.learning.stages import plan

    lines = [
        f"# epochs {phase.first_epoch}-{phase.last_epoch}: {phase.size_px} px, batch {phase.batch_size}, "
        f"{'head alone' if phase.name == 'frozen' else 'all layers'}, learning rate {phase.lr}"
        for phase in plan(experiment.training)
    ]
    return "\n".join(lines)


def cli(argv: list[str] | None = None) -> None:
    """Entry of the command."""
    command.run(main, argv, kept="finished epochs are kept")


if __name__ == "__main__":
    cli()
