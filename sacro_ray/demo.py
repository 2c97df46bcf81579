"""`demo`: the whole path on simulated cohorts, with no input and no download."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sacro_ray import command

if TYPE_CHECKING:
    from sacro_ray.config import Experiment

EXPERIMENT = Path(__file__).parent / "simulation" / "demo.toml"
DEVELOPMENT_PATIENTS, TEST_PATIENTS = 500, 160
RADIOGRAPH_PX = 400

log = logging.getLogger("sacro_ray")


def main(argv: list[str]) -> str | Path:
    """Simulate, prepare, train, tune, evaluate and score; returns the report's path."""
    parser = command.parser(
        "demo",
        "The whole path on simulated cohorts: simulate, prepare, tune, train, evaluate, score. No input, no download, two CPU cores,\n"
        "under ten minutes. Stopped and started again, it goes on.",
        "python -m sacro_ray.demo --out demo",
    )
    parser.add_argument(
        "--out", default="demo", type=Path, metavar="DIR", help="folder of all that it makes (default: %(default)s)"
    )
    command.add_common(parser)
    arguments = parser.parse_args(argv)
    experiment = demo_experiment(arguments.out, arguments.set)
    log.info("demo: six steps on simulated radiographs -> %s", arguments.out)

    from sacro_ray.cluster.evaluate_driver import evaluate_run
    from sacro_ray.cluster.prepare_driver import prepare_cohorts
    from sacro_ray.cluster.runtime import ray_session
    from sacro_ray.cluster.score_driver import score_input
    from sacro_ray.cluster.scoring_stream import quiet_ray
    from sacro_ray.cluster.search import search
    from sacro_ray.cluster.train_driver import train
    from sacro_ray.evaluate import tell
    from sacro_ray.simulation.cohort import write_cohorts

    data, runs = arguments.out / "data", arguments.out / "runs"
    log.info("1/6 simulate: %d + %d pelvic radiographs drawn by a program", DEVELOPMENT_PATIENTS, TEST_PATIENTS)
    write_cohorts(data, DEVELOPMENT_PATIENTS, TEST_PATIENTS, experiment.seed, RADIOGRAPH_PX)
    quiet_ray()
    with ray_session(arguments.address):
        log.info("2/6 prepare: tables and DICOM files into shards")
        prepare_cohorts(experiment, arguments.address)
        log.info("3/6 tune: %d short trials, to show a sweep", experiment.search.trials)
        search(experiment, runs, resume=(runs / f"{experiment.name}-sweep" / "sweep.toml").exists(), address=arguments.address)
        log.info("4/6 train: ResNet at two sizes")
        run = train(experiment, runs, arguments.address)
        log.info("5/6 evaluate: the other site's radiographs, which training never saw")
        report = tell(evaluate_run(run, [], arguments.address, {}))
        log.info("6/6 score: the other site's radiographs as a new cohort")
        # The table, not the folder of files: it holds the boxes to which the network's radiographs are cut.
        cohort = data / "gespic" / "cohort.csv"
        scores = score_input(run, cohort, arguments.out / "scores", arguments.address)
    log.info("scores of %s: %s", cohort, scores)
    # By the table again: a folder of whole radiographs is refused, for the network has only seen them cut to boxes.
    log.info(
        "the same by hand: sacro-ray score --run %s --input %s --out scores/gespic --explain; one radiograph at a time: "
        "sacro-ray serve --run %s, which asks for the box around the joints",
        run, cohort, run,
    )  # fmt: skip
    return report


def demo_experiment(out: Path, overrides: list[str]) -> "Experiment":
    """The demo's experiment with all of its paths below `out`."""
    from sacro_ray.config import load_experiment

    paths = [
        *(
            f"cohorts.{cohort}.{key}={out.as_posix()}/data/{cohort}/{name}.csv"
            for cohort in ("proof", "gespic")
            for key, name in (("table", "cohort"), ("readings", "readings"))
        ),
        f"prepare.shards={out.as_posix()}/shards",
    ]
    return load_experiment(EXPERIMENT, [*paths, *overrides])


def cli(argv: list[str] | None = None) -> None:
    """Entry of the command."""
    command.run(main, argv, kept="finished steps are kept, and what is finished of this one")


if __name__ == "__main__":
    cli()
