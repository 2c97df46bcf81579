"""`sacro-ray simulate OUT`: simulated cohorts in the input format, for trying the product without a patient's data."""

import logging
from pathlib import Path

from sacro_ray import command

log = logging.getLogger(__name__)


def main(argv: list[str]) -> Path:
    """Write the simulated cohorts; returns their folder."""
    from sacro_ray.simulation.studies import PROOF

    arguments = command.parser(
        "simulate",
        "Draw simulated pelvic radiographs of two studies, with readers and baseline characteristics, in the input format of prepare.",
        "sacro-ray simulate data/demo --patients 300",
    )
    arguments.add_argument(
        "out", type=Path, metavar="OUT", help="new folder; the same command again goes on after an interruption"
    )
    arguments.add_argument(
        "--patients", type=int, default=PROOF.radiographs, help="size of the PROOF-like cohort (default: %(default)s)"
    )
    arguments.add_argument(
        "--test-patients", type=int, help="size of the GESPIC-like cohort (default: 458 for every 1553 patients)"
    )
    arguments.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default: %(default)s)")
    arguments.add_argument("--size-px", type=int, default=640, help="longest side of a radiograph (default: %(default)s)")
    arguments.add_argument("--workers", type=int, help="processes (default: one a CPU)")
    given = arguments.parse_args(argv)
    log.info("simulate: %d radiographs, and a second cohort -> %s", given.patients, given.out)
    from sacro_ray.simulation.cohort import write_cohorts

    write_cohorts(given.out, given.patients, given.test_patients, given.seed, given.size_px, given.workers)
    log.info("two simulated cohorts; truth.csv beside each cohort.csv holds the grades that were drawn")
    return Path(given.out)


def cli(argv: list[str] | None = None) -> None:
    """Run the command; see `command.run` for its exit status."""
    command.run(main, argv, kept="finished radiographs are kept")


if __name__ == "__main__":
    cli()
