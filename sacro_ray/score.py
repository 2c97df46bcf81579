"""`score --run RUN_DIR --input PATH --out DIR`: probabilities and calls for a new cohort."""

import logging
from pathlib import Path

from sacro_ray import command
from sacro_ray.locations import as_given, checked_location, hidden

log = logging.getLogger("sacro_ray")


def main(argv: list[str]) -> str | Path:
    """Score an input; answers the path of scores.csv."""
    parser = command.parser(
        "score",
        "Score new radiographs with a trained run: a row a file in scores.csv and scores.parquet, readable or not. "
        "Started again after a stop, it goes on from what is complete. Research use only.",
        "python -m sacro_ray.score --run experiments/runs/mine --input new_films/ --out scores/new_films",
    )
    parser.add_argument(
        "--run", required=True, metavar="RUN_DIR", help="the run folder that train wrote, or its s3://... address"
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="a folder of DICOM, TIFF, PNG or JPEG files, a glob, a cohort.csv, or shards",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where scores.csv and scores.parquet go, or s3://...")
    parser.add_argument(
        "--explain", action="store_true", help="also a Grad-CAM overlay a radiograph, and a contact sheet of all"
    )
    parser.add_argument(
        "--dicom-out",
        action="store_true",
        help="also, for each DICOM file, a Secondary Capture of the overlay and a structured report for the same study",
    )
    parser.add_argument(
        "--whole-radiographs",
        action="store_true",
        help="score radiographs without a box although the run knows only radiographs cut to boxes; each is marked not_cropped",
    )
    command.add_common(parser)
    arguments = parser.parse_args(argv)
    run, out = (as_given(checked_location(given)) for given in (arguments.run, arguments.out))
    log.info("score: %s with %s -> %s", hidden(arguments.input), run, out)
    from sacro_ray.cluster.score_driver import score_input

    return score_input(
        run,
        arguments.input,
        out,
        arguments.address,
        arguments.set,
        explain=arguments.explain,
        dicom_out=arguments.dicom_out,
        whole_radiographs=arguments.whole_radiographs,
    )


def cli(argv: list[str] | None = None) -> None:
    """Entry of the command."""
    command.run(main, argv, kept="scored radiographs are kept")


if __name__ == "__main__":
    cli()
