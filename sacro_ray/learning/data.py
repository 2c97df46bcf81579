"""What a stage is trained and validated on, and the checks before the first epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sacro_ray.config import Experiment
from sacro_ray.dataset.cache import CachedSplit, open_split
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.errors import UserError


@dataclass(frozen=True)
class StageData:
    """The two splits of the development cohorts at the size of a stage."""

    training: CachedSplit
    validation: CachedSplit


def open_stage(experiment: Experiment, size_px: int) -> StageData:
    """Both splits at one size; every radiograph of both has a label.

    Raises:
        UserError: A cohort is not prepared, a split is empty, or the cache would pass its budget.
    """
    cohorts, fit, budget = experiment.cohorts_of("development"), experiment.model.fit, experiment.training.cache_gib
    training, validation = (
        open_split(experiment.prepare.shards, cohorts, split, size_px, fit, budget) for split in ("train", "validation")
    )
    return StageData(training, validation)


def data_digests(experiment: Experiment, cohorts: Sequence[str]) -> dict[str, str]:
    """A digest of the shards of each cohort."""
    return {cohort: read_manifest(experiment.prepare.shards, cohort).digest for cohort in cohorts}


def check_classes(data: StageData) -> None:
    """Both classes must be in both splits, or there is nothing to learn and no AUC.

    Raises:
        UserError: A split has one class only.
    """
    for name, split in (("train", data.training), ("validation", data.validation)):
        positives = int(np.nansum(split.labels))
        if positives in (0, len(split.labels)):
            raise UserError(
                f"the {name} split has {positives} positive of {len(split.labels)} radiographs; training and its AUC need both "
                "classes. Look at the rule and the readings, or prepare with another split"
            )
