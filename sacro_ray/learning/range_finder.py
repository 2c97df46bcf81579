"""The range test on the real network: writes its curve into the run folder and answers the rate of a phase."""

from itertools import cycle

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sacro_ray.config import Experiment
from sacro_ray.dataset.batches import training_batches
from sacro_ray.disk import whole, write_atomically
from sacro_ray.learning.augmentation import augment, changes_from, draw
from sacro_ray.learning.data import StageData
from sacro_ray.learning.network import SacroiliitisNet, folded
from sacro_ray.learning.objective import smoothed_cross_entropy
from sacro_ray.learning.optimisation import build_optimizer, group_rates, range_test, set_rate, suggested_rate
from sacro_ray.learning.place import Place, autocast, sent
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import Phase, body_is_fixed
from sacro_ray.learning.steps import RANGE_STREAM


def find_rate(
    network: SacroiliitisNet, phase: Phase, data: StageData, experiment: Experiment, place: Place, folder: RunFolder
) -> float:
    """Run the range test of Smith 2017 on a copy of the network, which it spoils, with the phase's layers and batches.

    Returns:
        The suggested rate of the head; range_test/epoch_NNNN.csv and .png in the run folder show the curve.
    """
    training, seed = experiment.training, experiment.seed
    network.train()
    if body_is_fixed(phase, training):
        network = folded(network)
    # Dropout, too, must not depend on what ran before: a run that goes on here finds the rate of an undisturbed one.
    torch.manual_seed(int(np.random.SeedSequence((seed, RANGE_STREAM, phase.first_epoch)).generate_state(1)[0]))
    optimizer = build_optimizer(network, training, 1.0)
    ratios = group_rates(1.0, 3, training.discriminative_ratio)[-len(optimizer.param_groups) :]
    count = len(data.training.images)
    alone = min(phase.batch_size, count)
    batches = cycle(training_batches(count, alone, 1, 0, (seed, RANGE_STREAM, phase.first_epoch)))
    draws = draw(count, torch.Generator().manual_seed(seed))
    labels = torch.from_numpy(data.training.labels)

    def step(rate: float) -> Tensor:
        chosen = torch.from_numpy(next(batches))
        pixels = sent(torch.from_numpy(data.training.images[chosen.numpy()]), place.device)
        images = augment(pixels, sent(changes_from(draws[chosen], training.augmentation), place.device))
        set_rate(optimizer, [rate * ratio for ratio in ratios])
        with autocast(place.device, training.precision):
            logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = smoothed_cross_entropy(logits, sent(labels[chosen], place.device), training.label_smoothing).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    rates, losses = range_test(step)
    chosen_rate = suggested_rate(rates, losses)
    path = folder.path / "range_test" / f"epoch_{phase.first_epoch:04d}.csv"
    text = "lr,loss\n" + "".join(f"{rate:.6e},{loss:.6f}\n" for rate, loss in zip(rates, losses, strict=True))
    write_atomically(path, text.encode(), durable=False)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(rates, losses)
    axes.axvline(chosen_rate, linestyle="--", label=f"chosen: {chosen_rate:.1e}")
    axes.set(xlabel="learning rate of the head", ylabel="running mean of the loss", title=f"{phase.name}, {phase.size_px} px")
    axes.legend()
    with whole(path.with_suffix(".png"), durable=False) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return chosen_rate
