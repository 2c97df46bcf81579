"""`prepare`: cohort tables and image files to WebDataset shards."""

import logging
from pathlib import Path

from sacro_ray import command
from sacro_ray.locations import as_given, checked_location

log = logging.getLogger("sacro_ray")


def main(argv: list[str]) -> str | Path | None:
    """Prepare the cohorts of an experiment, or verify a prepared one; returns where the shards lie, or None after --check."""
    arguments = command.parser(
        "prepare",
        "Bring the cohorts of an experiment into WebDataset shards: one reference label, one split and one grey image per radiograph.\n"
        "The same command again does only what is missing. Nothing is overwritten unasked: where tables, files or settings have changed,\n"
        "--replace writes again the shards that differ. --check reads tables and headers, says what would be done, and writes nothing.\n"
        "--verify checks prepared shards against their manifest.",
        "sacro-ray prepare experiments/demo.toml --set prepare.store_size=768",
    )
    arguments.add_argument("experiment", nargs="?", help="experiment file, such as experiments/demo.toml")
    arguments.add_argument("--verify", metavar="SHARDS/COHORT", help="check every shard of a prepared cohort")
    arguments.add_argument(
        "--check", action="store_true", help="read tables and headers, say what would be done, write nothing"
    )
    arguments.add_argument("--replace", action="store_true", help="write again what has changed of cohorts that are complete")
    command.add_common(arguments)
    options = arguments.parse_args(argv)
    if options.verify is not None:
        folder = as_given(checked_location(options.verify))
        log.info("prepare: checking %s", folder)
        from sacro_ray.dataset.completion import log_flow
        from sacro_ray.dataset.manifest import verify

        log_flow(verify(folder))
        return folder
    if options.experiment is None:
        arguments.error("give an experiment file, or --verify with a prepared cohort")
    from sacro_ray.config import load_experiment

    experiment = load_experiment(options.experiment, options.set)
    log.info("prepare: %s -> %s", options.experiment, experiment.prepare.shards)
    if options.check:
        from sacro_ray.dataset.check import check_experiment

        check_experiment(experiment)
        return None
    from sacro_ray.cluster.prepare_driver import prepare_cohorts

    return prepare_cohorts(experiment, options.address, options.replace)


def cli(argv: list[str] | None = None) -> None:
    """Run the command."""
    command.run(main, argv, kept="finished shards are kept")


if __name__ == "__main__":
    cli()
