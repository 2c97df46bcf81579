"""The arithmetic of docs/scaling.md: `python benchmarks/scaling_model.py [--images-per-s 1156] [--gb-per-s 1.25] ...` prints its tables.

Nothing is measured here. Each argument is one constant; those that this repository cannot measure without a GPU have published figures
as defaults, to be replaced by those of your machine (`python benchmarks/training.py` prints the rate of yours).
"""

import argparse
from dataclasses import dataclass

STAGES = ((224, 64), (512, 32), (768, 84))
"""Side in pixels and batch of the published stages; 100 frozen and 100 unfrozen epochs each."""
EPOCHS, TRAINING, VALIDATION = 100, 1324, 229
"""Epochs of a phase, and radiographs (Bressem et al. 2021, the development cohort)."""
GPUS = (1, 4, 16, 64)
GRADIENT_GB = 0.1024
"""ResNet-50 and its head: 25.6 million parameters, 4 bytes each."""
RANGE_STEPS = 80
"""Of the learning-rate range test before each phase: on the first GPU alone, with the whole batch."""
SMALLEST_SHARE = 2
"""Radiographs of a batch that each rank needs (`sacro_ray.dataset.batches`)."""


@dataclass(frozen=True)
class Constants:
    """See the arguments' help."""

    images_per_s: float
    floor_ms: float
    gb_per_s: float
    without_gradient: float
    checkpoint_s: float
    report_s: float
    start_s: float
    cold_ms: list[float]
    prepare_per_core_s: float
    read_core_ms: float
    cpus: int
    inference_per_s: float


def step_s(share: int, scale: float, gpus: int, frozen: bool, given: Constants) -> float:
    """Seconds of a step: forward, then backward with the gradients' sum over the ranks under it; each no faster than its launches."""
    image = scale / given.images_per_s
    forward = max(share * image / 3, given.floor_ms / 1e3)
    if frozen:
        return max(share * image / given.without_gradient, given.floor_ms / 1e3)
    backward = max(share * image * 2 / 3, 2 * given.floor_ms / 1e3)
    ring = 2 * (gpus - 1) / gpus * GRADIENT_GB / given.gb_per_s
    return forward + max(backward, ring)


def schedule(gpus: int, given: Constants) -> tuple[float, list[str]]:
    """Seconds of the published schedule and a cell for each stage."""
    total, cells = given.start_s, []
    for (size_px, published), cold_ms in zip(STAGES, given.cold_ms, strict=True):
        batch = max(published, SMALLEST_SHARE * gpus)
        steps, scale = -(-TRAINING // batch), (size_px / 224) ** 2
        share = -(-batch // gpus)
        validation = -(-VALIDATION // gpus) * scale / given.images_per_s / given.without_gradient
        each_epoch = validation + given.checkpoint_s + given.report_s
        seconds = EPOCHS * sum(steps * step_s(share, scale, gpus, frozen, given) + each_epoch for frozen in (True, False))
        seconds += RANGE_STEPS * sum(step_s(batch, scale, 1, frozen, given) for frozen in (True, False))
        # Every machine decodes all radiographs once for each size, in one process.
        seconds += (TRAINING + VALIDATION) * cold_ms / 1e3
        total += seconds
        cells.append(f"{seconds / 3600:.2f} h{'' if batch == published else f' (batch {batch})'}")
    return total, cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images-per-s", type=float, default=1156.0, help="of one GPU, training at 224 px, large batches")
    add("--floor-ms", type=float, default=13.0, help="of a forward pass of one GPU, however small the batch")
    add("--gb-per-s", type=float, default=1.25, help="between two GPUs of the ring, slowest link")
    add("--without-gradient", type=float, default=3.0, help="how many times faster the frozen body and inference are")
    add("--checkpoint-s", type=float, default=1.0, help="an epoch")
    add("--report-s", type=float, default=0.2, help="an epoch: until Ray Train has drained it")
    add("--start-s", type=float, default=30.0, help="a training: Ray, the workers, the weights")
    add("--cold-ms", type=float, nargs=3, default=[13.9, 15.4, 21.0], help="a radiograph, to fill the cache of each stage")
    add("--prepare-per-core-s", type=float, default=5.3, help="films that `prepare` gets through on a core")
    add("--read-core-ms", type=float, default=70.0, help="of a core to read and prepare a film for scoring")
    add("--cpus", type=int, default=4, help="of a GPU machine")
    add("--inference-per-s", type=float, default=2984.0, help="of one GPU at 224 px")
    given = Constants(**vars(parser.parse_args()))

    print("| GPUs | 224 px | 512 px | 768 px | in all | GPU-hours | efficiency |\n|---|---|---|---|---|---|---|")
    alone = schedule(1, given)[0]
    for gpus in GPUS:
        total, cells = schedule(gpus, given)
        hours = total / 3600
        row = [str(gpus), *cells, f"{hours:.2f} h", f"{hours * gpus:.1f}", f"{alone / total / gpus:.0%}"]
        print(f"| {' | '.join(row)} |")

    print("\n| machines | preparing 1,000,000 | scoring 1,000,000 | a GPU is busy |\n|---|---|---|---|")
    a_machine = min(given.cpus / given.read_core_ms * 1e3, given.inference_per_s)
    for machines in GPUS:
        prepare_h = 1e6 / (given.prepare_per_core_s * given.cpus * machines) / 3600
        score_h = 1e6 / (a_machine * machines) / 3600
        print(f"| {machines} | {prepare_h:.2f} h | {score_h:.2f} h | {a_machine / given.inference_per_s:.1%} |")


if __name__ == "__main__":
    main()
