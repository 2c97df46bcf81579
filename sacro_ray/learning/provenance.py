"""Where a checkpoint comes from: the configuration, the data, the versions and the revision that made it."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sacro_ray import __version__
from sacro_ray.config import Experiment
from sacro_ray.learning.boxes import Boxes
from sacro_ray.learning.place import resolved_precision

PACKAGES = ("torch", "torchvision", "ray", "numpy", "pydicom")
SOURCE = Path(__file__).resolve().parents[2]


def describe(
    experiment: Experiment, digests: Mapping[str, str], device: torch.device, row: Mapping[str, Any], boxes: Boxes | None
) -> dict[str, Any]:
    """What stands beside the best weights, in best.json.

    Args:
        experiment: The resolved configuration.
        digests: SHA-256 of each cohort's shards.
        device: Where it was trained.
        row: Of history.csv, the epoch of the weights.
        boxes: How the training radiographs were cut; None where the shards do not say.
    """
    return {
        "schema_version": 1, "epoch": row["epoch"], "auc": row["val_auc"], "size_px": row["size_px"],
        "stage": row["stage"], "phase": row["phase"], "seed": experiment.seed, "data": dict(digests),
        "precision": resolved_precision(device, experiment.training.precision),
        "boxes": None if boxes is None else asdict(boxes),
        "config": experiment.as_dict(),
        "versions": {"sacro_ray": __version__, "python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "git_revision": git_revision(),
    }  # fmt: skip


@cache
def git_revision(source: Path = SOURCE) -> str | None:
    """The commit that the package runs from, with `-dirty` where files differ from it; None where it runs from no clone."""
    if not (source / ".git").exists():
        return None
    try:
        said = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
