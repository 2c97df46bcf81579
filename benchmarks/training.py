"""Speed of training: our loop against a bare PyTorch loop on one fixed batch in memory; ratios within one run, alternating.

    python benchmarks/training.py [--cases 224:32 512:8 768:4] [--architecture resnet50] [--batches 6] [--repetitions 5]

Same network (its body folded where it is frozen), weights, precision, batch and optimiser in both. Ours reads each batch from a
memory-mapped file as training does, changes it, mixes it, follows the schedule and keeps the losses; the bare loop computes forward, loss,
backward and the optimiser's step, on a batch that is a tensor of the network's input already. One JSON line a case: radiographs a second of
both, and the median of the ratios.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sacro_ray.config import Experiment, Training, build_experiment
from sacro_ray.dataset.cache import CachedSplit
from sacro_ray.learning import loop
from sacro_ray.learning.data import StageData
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.objective import smoothed_cross_entropy
from sacro_ray.learning.optimisation import build_optimizer, build_schedule
from sacro_ray.learning.place import Place, autocast, resolved_precision
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import Phase

WARM_UP = 2


def experiment_of(architecture: str) -> Experiment:
    """An experiment with the published recipe's regularisation; its cohort is never opened."""
    cohort = {
        "table": "none",
        "readings": "none",
        "role": "development",
        "rule": "grade_at_least:2",
        "consensus": "agreement",
        "readers": ["a"],
    }
    return build_experiment(
        {"name": "benchmark", "cohorts": {"none": cohort}, "model": {"architecture": architecture, "weights": "none"}}
    )


def stage_data(count: int, size_px: int, folder: Path) -> StageData:
    """Noise in a memory-mapped file, half of it positive."""
    path = folder / f"{size_px}.npy"
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size_px, size_px))
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    images.flush()
    split = CachedSplit(np.load(path, mmap_mode="r"), [{"label": i % 2, "radiograph_id": str(i)} for i in range(count)])
    return StageData(split, split)


def bare(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    place: Place,
    training: Training,
) -> float:
    """Seconds of `steps` bare steps."""
    synchronise(place)
    start = time.perf_counter()
    for _ in range(steps):
        with autocast(place.device, training.precision):
            logits = network(batch)
        loss = smoothed_cross_entropy(logits, labels, training.label_smoothing).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    synchronise(place)
    return time.perf_counter() - start


def synchronise(place: Place) -> None:
    """Wait for the device."""
    if place.device.type == "cuda":
        torch.cuda.synchronize()


def case(size_px: int, batch_size: int, phase_name: str, given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """One line."""
    place = Place(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    experiment = experiment_of(given.architecture)
    training, steps = experiment.training, given.batches
    count = steps * batch_size
    data = stage_data(count, size_px, folder)
    run = TrainingRun(experiment, RunFolder(folder), place)
    frozen = phase_name == "frozen"
    run.network.body.requires_grad_(not frozen)
    phase = Phase(0, "frozen" if frozen else "unfrozen", size_px, batch_size, 1, 10**6, 1e-4)
    optimizer = build_optimizer(run.network, training, 1e-4)
    schedule = build_schedule(optimizer, training, 10**6)
    network = run.trained_in(phase).train()
    batch = torch.rand(batch_size, 1, size_px, size_px).to(place.device).contiguous(memory_format=torch.channels_last)
    labels = (torch.arange(batch_size) % 2).float().to(place.device)
    ours_s, bare_s = [], []
    for number in range(WARM_UP + given.repetitions):
        synchronise(place)
        start = time.perf_counter()
        run.train_epoch(network, phase, data, number + 1, optimizer, schedule, None)
        synchronise(place)
        ours_s.append(time.perf_counter() - start)
        bare_s.append(bare(network, optimizer, batch, labels, steps, place, training))
    ours_s, bare_s = ours_s[WARM_UP:], bare_s[WARM_UP:]
    return {
        "phase": phase_name, "size_px": size_px, "batch": batch_size, "precision": resolved_precision(place.device, training.precision),
        "ours_per_s": round(count / statistics.median(ours_s), 2), "bare_per_s": round(count / statistics.median(bare_s), 2),
        "ratio": round(statistics.median(b / o for o, b in zip(ours_s, bare_s, strict=True)), 3),
        "ratios": [round(b / o, 3) for o, b in zip(ours_s, bare_s, strict=True)],
    }  # fmt: skip


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["224:32", "512:8", "768:4"], metavar="SIZE:BATCH")
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--batches", type=int, default=6, help="a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    # The data are noise of our own: there are no shards to take a digest of.
    loop.data_digests = lambda *_: {}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.processor() or platform.machine()}, CPU"
    print(json.dumps({"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}), flush=True)
    for text in given.cases:
        size_px, batch_size = map(int, text.split(":"))
        for phase_name in ("frozen", "unfrozen"):
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(case(size_px, batch_size, phase_name, given, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
