"""What can be known to be wrong with a training before anything is written and before a worker starts, the quick checks first.

PyTorch, which takes seconds to import, is imported only when all has passed that can be told without it.
"""

import logging
import shutil
from pathlib import Path

from sacro_ray.config import Experiment, Model
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.disk import check_writable
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")
PUBLISHED = {
    "resnet18": ("IMAGENET1K_V1", "DEFAULT"),
    "resnet34": ("IMAGENET1K_V1", "DEFAULT"),
    "resnet50": ("IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT"),
}
"""Names of weights that torchvision has for each architecture."""
CHECKPOINT_COPIES = 12
"""Of the weights on the disk at most: best.pt (1), latest.pt (network, two moments, average, best of the phase: 5); each is there
twice while it is replaced."""


def check_data_and_weights_exist(experiment: Experiment) -> None:
    """All that can be known to be wrong without PyTorch.

    Raises:
        UserError: A cohort is not prepared, a split lacks a class, or the first weights are neither a known name nor a file.
    """
    _check_classes(experiment)
    check_weights_exist(experiment.model)


def check_weights_load(settings: Model) -> None:
    """Build the network with its first weights; those that have to be downloaded are.

    Raises:
        UserError: The first weights cannot be fetched or read, or belong to another architecture.
    """
    if settings.weights != "none":
        log.info("reading the first weights, %s", settings.weights)
    from sacro_ray.learning.network import build_network

    build_network(settings)


def _check_classes(experiment: Experiment) -> None:
    manifests = [read_manifest(experiment.prepare.shards, cohort) for cohort in experiment.cohorts_of("development")]
    for split in ("train", "validation"):
        parts = [manifest.splits[split] for manifest in manifests if split in manifest.splits]
        count, positives = sum(part.radiographs for part in parts), sum(part.positives for part in parts)
        if positives in (0, count):
            raise UserError(
                f"the {split} split has {positives} positive of {count} radiographs; training and its AUC need both classes. "
                "Look at the rule and the readings of the cohort"
            )


def check_weights_exist(settings: Model) -> None:
    """See that `model.weights` is something that can be loaded.

    Raises:
        UserError: It is neither a known name nor a file.
    """
    known = PUBLISHED[settings.architecture]
    if settings.weights in ("none", *known) or Path(settings.weights).is_file():
        return
    raise UserError(
        f"model.weights = {settings.weights!r} is neither a file nor one of {', '.join(known)} "
        f'(those of {settings.architecture}); give one of these, "none", or the path of a state_dict file'
    )


def check_disk(experiment: Experiment, path: Path) -> None:
    """Room for the checkpoints and the right to write them, before hours have gone into them.

    Raises:
        UserError: There is less than they take, or nothing can be written there.
    """
    check_writable(path, "--runs")
    from sacro_ray.learning.network import empty_network

    network = empty_network(experiment.model)
    needed = CHECKPOINT_COPIES * sum(value.numel() * value.element_size() for value in network.state_dict().values())
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{path} has {free / 2**30:.2f} GiB free, and the checkpoints of {experiment.model.architecture} take up to "
            f"{needed / 2**30:.2f} GiB; make room, or give another folder with --runs"
        )
