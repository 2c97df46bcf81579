"""Speed of `score`: against the forward pass alone, and against a plain loop of read, prepare, forward; ratios within one run.

    python benchmarks/scoring.py --run experiments/runs/knee --films FOLDER --dicom FOLDER

One Ray, one process at a time. For each folder it prints radiographs a second of
- `limit`: the network alone, on prepared tensors in memory, batches of 32, all CPUs or the GPU, the run's precision;
- `plain`: one process that reads, prepares and scores batch after batch;
- `stream`: Ray Data as `score` uses it, from the first finished part on; the seconds until then stand apart as `start_up_s`.
Folders with few files are read several times over (`--at-least`), so that the stream has something to stream.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.scoring_inputs import Item, list_items
from sacro_ray.cluster.scoring_reading import prepare_item
from sacro_ray.cluster.scoring_stream import pool_for, quiet_ray, stream_parts
from sacro_ray.cluster.scoring_workers import Outputs
from sacro_ray.cluster.sizing import cluster_nodes
from sacro_ray.config import Experiment
from sacro_ray.learning.inference import score_batch
from sacro_ray.learning.place import Place, resolved_precision
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import RunFolder

BATCH = 32
REPETITIONS = 3


def plain_loop(
    items: list[Item], network, experiment: Experiment, size_px: int, place: Place
) -> tuple[float, list[np.ndarray]]:
    """Seconds of read, prepare, forward, and the prepared squares."""
    training, squares, start = experiment.training, [], time.perf_counter()
    for first in range(0, len(items), BATCH):
        prepared = [prepare_item(item, experiment, size_px).square for item in items[first : first + BATCH]]
        batch = [square for square in prepared if square is not None]
        if batch:
            score_batch(network, np.stack(batch), place, training.precision, training.flip_at_inference)
        squares += batch
    return time.perf_counter() - start, squares


def forward_alone(squares: list[np.ndarray], network, experiment: Experiment, place: Place) -> float:
    """Radiographs a second of the network on tensors in memory, the best of some passes."""
    training, best = experiment.training, 0.0
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        for first in range(0, len(squares), BATCH):
            batch = np.stack(squares[first : first + BATCH])
            score_batch(network, batch, place, training.precision, training.flip_at_inference)
        best = max(best, len(squares) / (time.perf_counter() - start))
    return best


def streamed(items: list[Item], run: Path, experiment: Experiment, size_px: int) -> tuple[float, float]:
    """Radiographs a second after the first finished parts, one of each worker, and the seconds until then."""
    parts = range(-(-len(items) // BATCH))
    pool = pool_for(experiment, cluster_nodes(), len(parts))
    start, counted, first_s = time.perf_counter(), 0, 0.0
    for done, (_, rows) in enumerate(stream_parts(run, experiment, size_px, Outputs(), items, parts, BATCH, pool), start=1):
        if done <= pool.workers:
            first_s = time.perf_counter() - start
        else:
            counted += len(rows)
    return counted / (time.perf_counter() - start - first_s), first_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--films", help="a folder of images that are cheap to decode")
    parser.add_argument("--dicom", help="a folder of DICOM files")
    parser.add_argument("--at-least", type=int, default=640, metavar="N", help="radiographs a folder (default: %(default)s)")
    parser.add_argument("--at-most", type=int, default=1600, metavar="N", help="radiographs a folder (default: %(default)s)")
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run.resolve())
    place = Place(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    network, experiment, size_px = load_best_network(folder, place)
    quiet_ray()
    with ray_session():
        for name, given in (("films", arguments.films), ("dicom", arguments.dicom)):
            if not given:
                continue
            readable = [i for i in list_items(given, folder.path) if prepare_item(i, experiment, size_px).square is not None]
            times = -(-arguments.at_least // len(readable))
            items = [replace(item, input=f"{k}/{item.input}") for k in range(times) for item in readable][: arguments.at_most]
            sample = items[: max(len(readable), 4 * BATCH)][: arguments.at_least]
            plain_s, squares = plain_loop(sample, network, experiment, size_px, place)
            limit = forward_alone(squares, network, experiment, place)
            stream, start_up_s = streamed(items, folder.path, experiment, size_px)
            plain = len(sample) / plain_s
            line = {
                "input": name, "radiographs": len(items), "size_px": size_px, "architecture": experiment.model.architecture,
                "precision": resolved_precision(place.device, experiment.training.precision), "threads": torch.get_num_threads(),
                "limit_per_s": round(limit, 1), "plain_per_s": round(plain, 1), "stream_per_s": round(stream, 1),
                "stream_over_limit": round(stream / limit, 2), "stream_over_plain": round(stream / plain, 2),
                "start_up_s": round(start_up_s, 1),
            }  # fmt: skip
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
