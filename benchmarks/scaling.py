"""What can be checked of scaling on one small machine: the shares of many ranks, and what reports cost the head.

    python benchmarks/scaling.py shares
    python benchmarks/scaling.py reports [--workers 1 8 32] [--seconds 30]
    python benchmarks/scaling.py constants

`shares` plans epochs of a large cohort for 64 ranks: the steps, and the fewest and most radiographs that a rank gets of a step and of an
epoch; and of 10,000 shards as tasks, the fewest and most that fall to each of 64 machines when each takes the next as soon as it is free.
`reports` runs Ray Train with workers that do nothing but report once a second, as epochs of one second would; it prints CPU seconds of the
head's own processes (control store, raylet, dashboard, the training's controller and this driver) for each second, and for each report.
`constants` times, with films of `benchmarks/prepare.py` in shards of 1024 px: a shard's digest, filling the cache of a stage for one
radiograph, and keeping an epoch's checkpoint of ResNet-50. `benchmarks/scaling_model.py` reckons with them.
"""

import argparse
import heapq
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import ray
import ray.train
import torch
from prepare import prepare, write_cohort
from ray.train import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from sacro_ray.cluster.runtime import ENVIRONMENT
from sacro_ray.config import Model, Training
from sacro_ray.dataset.batches import batch_sizes, training_batches
from sacro_ray.dataset.cache import open_split
from sacro_ray.dataset.files import sha256_of
from sacro_ray.learning.network import build_network
from sacro_ray.learning.optimisation import build_optimizer
from sacro_ray.learning.run_folder import RunFolder

RADIOGRAPHS, BATCH, RANKS, SHARDS = 1_000_000, 256, 64, 10_000
EPOCH_S = 1.0


def shares() -> None:
    sizes = batch_sizes(RADIOGRAPHS, BATCH, RANKS)
    start = time.perf_counter()
    plans = [training_batches(RADIOGRAPHS, BATCH, RANKS, rank, (0, 1, 1)) for rank in (0, 1, RANKS - 1)]
    seconds = (time.perf_counter() - start) / len(plans)
    a_step = [len(batch) for plan in plans for batch in plan]
    an_epoch = [sum(map(len, plan)) for plan in plans]
    print(
        f"{RADIOGRAPHS} radiographs, batch {BATCH}, {RANKS} ranks: {len(sizes)} steps; {min(a_step)} to {max(a_step)} a step, "
        f"{min(an_epoch)} to {max(an_epoch)} an epoch; the plan of a rank takes {seconds:.2f} s"
    )
    for spread in (0.0, 0.2, 1.0):
        durations = np.random.default_rng(0).lognormal(0.0, spread, SHARDS)
        free = [(0.0, machine) for machine in range(RANKS)]
        counts = np.zeros(RANKS, np.int64)
        for duration in durations:
            now, machine = heapq.heappop(free)
            counts[machine] += 1
            heapq.heappush(free, (now + duration, machine))
        ends = [end for end, _ in free]
        idle = 1 - durations.sum() / (max(ends) * RANKS)
        print(
            f"{SHARDS} shards on {RANKS} machines, times log-normal with sigma {spread}: "
            f"{counts.min()} to {counts.max()} shards, {idle:.2%} idle"
        )


def report_each_epoch(config: dict[str, float]) -> None:
    end = time.monotonic() + config["seconds"]
    while time.monotonic() < end:
        time.sleep(EPOCH_S)
        ray.train.report({"epoch": 1, "val_auc": 0.5, "train_loss": 0.7})


def cpu_seconds() -> float:
    """Of this process and all that its Ray started, but for the training's workers."""
    parents, used = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            worker = b"RayTrainWorker" in (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(folder.name)] = int(fields[1])
        used[int(folder.name)] = 0.0 if worker else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ours(process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return sum(seconds for process, seconds in used.items() if ours(process))


def reports(counts: list[int], seconds: float) -> None:
    os.environ.update(ENVIRONMENT)
    ray.init(address="local", num_cpus=max(counts), include_dashboard=True, log_to_driver=False, logging_level="ERROR")
    time.sleep(10)
    before = cpu_seconds()
    time.sleep(10)
    idle = (cpu_seconds() - before) / 10
    print(f"no training: {idle:.3f} CPU seconds a second")
    for count in counts:
        with tempfile.TemporaryDirectory() as storage:
            trainer = DataParallelTrainer(
                report_each_epoch,
                train_loop_config={"seconds": seconds},
                scaling_config=ScalingConfig(num_workers=count, resources_per_worker={"CPU": 1}),
                run_config=RunConfig(storage_path=storage, name=f"reports-{count}"),
            )
            before, start = cpu_seconds(), time.monotonic()
            trainer.fit()
            took, used = time.monotonic() - start, cpu_seconds() - before
        made = count * seconds / EPOCH_S
        print(
            f"{count} workers: {took:.0f} s for {seconds:.0f} s of epochs; {used / took:.3f} CPU seconds a second on the head, "
            f"{(used - idle * took) / made * 1e3:.1f} ms a report beyond the idle head, start and end included"
        )
    ray.shutdown()


def constants(films: int = 60) -> None:
    """Fill caches cold, then keep a checkpoint; every figure is of one process."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        os.environ["SACRO_RAY_CACHE"] = str(base / "cache")
        write_cohort(base / "films", films, 1500, 1200)
        prepare(base / "films", base / "shards", 2, films)
        tars = sorted((base / "shards").rglob("*.tar"))
        size = sum(tar.stat().st_size for tar in tars)
        print(f"{films} films of 1500 x 1200 in shards of 1024 px: {size / films / 1e6:.2f} MB a radiograph")
        start = time.perf_counter()
        for tar in tars:
            sha256_of(tar)
        print(f"digest of shards in the page cache: {size / 1e6 / (time.perf_counter() - start):.0f} MB/s")
        for size_px in (224, 512, 768):
            start = time.perf_counter()
            counts = [
                len(open_split(base / "shards", ["ours"], s, size_px, "pad", 1e9).records) for s in ("train", "validation")
            ]
            print(f"cold cache at {size_px} px: {(time.perf_counter() - start) / sum(counts) * 1e3:.1f} ms a radiograph")
        state_bytes, seconds = checkpoint(base / "run")
        print(f"checkpoint of ResNet-50: {state_bytes / 1e6:.0f} MB, {min(seconds):.2f} to {max(seconds):.2f} s an epoch")


def checkpoint(path: Path, repetitions: int = 5) -> tuple[int, list[float]]:
    """Bytes of best.pt and latest.pt, and seconds to write both, each time."""
    network = build_network(Model(architecture="resnet50", weights="none"))
    optimizer = build_optimizer(network, Training(), 1e-4)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weights, folder, seconds = network.state_dict(), RunFolder(path), []
    for _ in range(repetitions):
        start = time.perf_counter()
        folder.save_best(weights, {})
        folder.save_latest(
            {
                "network": weights,
                "optimizer": optimizer.state_dict(),
                "phase_best": {name: value.clone() for name, value in weights.items()},
            }
        )
        seconds.append(time.perf_counter() - start)
    return sum(file.stat().st_size for file in folder.checkpoints.iterdir()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["shares", "reports", "constants"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    if arguments.what == "reports":
        reports(arguments.workers, arguments.seconds)
    else:
        {"shares": shares, "constants": constants}[arguments.what]()


if __name__ == "__main__":
    main()
