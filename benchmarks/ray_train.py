"""What Ray Train costs: `train` beside the same training loop called directly, alternating, in one run.

    python benchmarks/ray_train.py experiments/knee.toml [--set KEY=VALUE ...] [--repetitions 2]

The experiment must be prepared. Both train the same epochs with one worker and as many threads, to the same weights (checked), validate,
keep checkpoints and write the validation predictions. One JSON line a pair: seconds of the whole, and of each epoch. At the end: what
`train` adds to a second of an epoch (the median over epochs), what it adds once (its checks, the start and end of Ray, the first steps of a
new process), and what that makes of a training of 20 minutes.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sacro_ray.cluster.train_driver import train
from sacro_ray.config import Experiment, load_experiment
from sacro_ray.learning.curves import draw_curves
from sacro_ray.learning.data import open_stage
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import write_validation_predictions
from sacro_ray.learning.run_folder import RunFolder

TRAINING_S = 20 * 60


def directly(experiment: Experiment, runs: Path) -> Path:
    """Train in this process, without Ray; answers the run folder."""
    place, folder = Place(torch.device("cuda" if torch.cuda.is_available() else "cpu")), RunFolder(runs / experiment.name)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    folder.claim(experiment)
    TrainingRun(experiment, folder, place).fit()
    write_validation_predictions(experiment, folder, place)
    draw_curves(folder.path / "history.csv")
    return folder.path


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs kept the same best weights, to the bit."""
    first, second = (RunFolder(path).load_best()[0] for path in (one, other))
    return all(torch.equal(value, second[name]) for name, value in first.items())


def seconds(how: str, experiment: Experiment, runs: Path) -> dict[str, Any]:
    """Seconds of a training from nothing to its predictions, and of its epochs."""
    start = time.perf_counter()
    path = directly(experiment, runs) if how == "direct" else Path(train(experiment, runs, "local"))
    whole = time.perf_counter() - start
    return {"whole_s": round(whole, 2), "epochs_s": pd.read_csv(path / "history.csv")["seconds"].round(2).tolist()}


def main() -> None:
    """Print one line a pair, and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--repetitions", type=int, default=2)
    given = parser.parse_args()
    experiment = load_experiment(given.experiment, [*given.set, "training.workers=1"])
    for stage in experiment.training.stages:
        open_stage(experiment, stage.size_px)  # the cache is filled for both
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.repetitions):
            order = ("direct", "ray") if number % 2 == 0 else ("ray", "direct")
            pair = {how: seconds(how, experiment, Path(folder) / f"{how}-{number}") for how in order}
            runs = [Path(folder) / f"{how}-{number}" / experiment.name for how in order]
            assert same_weights(*runs), "the two trained something else"
            print(json.dumps(pair), flush=True)
            pairs.append(pair)
    slower = (
        statistics.median(r / d for p in pairs for d, r in zip(p["direct"]["epochs_s"], p["ray"]["epochs_s"], strict=True)) - 1
    )
    once_s = statistics.median(
        p["ray"]["whole_s"] - p["direct"]["whole_s"] - slower * sum(p["direct"]["epochs_s"]) for p in pairs
    )
    summary = {
        "of_an_epoch": round(slower, 4),
        "once_s": round(once_s, 2),
        "of_a_training_of_20_min": round(slower + once_s / TRAINING_S, 4),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
