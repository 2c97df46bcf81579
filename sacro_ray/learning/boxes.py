"""Whether a network was trained on radiographs cut to the boxes of a table: it has then never seen a whole one."""

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.streaming import index_split
from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import RunFolder

NEEDED_FROM = 0.5
"""Share of the training radiographs, cut to boxes, from which the network is taken to need boxes. A decision, not a measurement."""


@dataclass(frozen=True)
class Boxes:
    """How the training radiographs were cut.

    Attributes:
        share: Of the training radiographs, 0 to 1, those cut to a box of their table that is smaller than the picture.
        width: Median width of these boxes over the width of the picture, 0 to 1; None where there are none.
        height: The same for the height.
    """

    share: float
    width: float | None = None
    height: float | None = None

    @property
    def needed(self) -> bool:
        """Whether a radiograph must be cut to a box for its score to mean anything."""
        return self.share >= NEEDED_FROM


def kept_share(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """Of a sample's record: width and height of the table's box over those of the picture; None where the picture was not cut to one.

    Records written before they named the box tell it by what was kept of the picture.
    """
    box = record["box"] if "box" in record else record["crop"]
    left, top, right, bottom = box or (0, 0, record["source_width"], record["source_height"])
    width, height = (right - left) / record["source_width"], (bottom - top) / record["source_height"]
    return None if width == height == 1 else (width, height)


def boxes_in(shards: str | Path, cohorts: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Boxes | None:
    """How the radiographs of these records, all of the training split of these cohorts, were cut; None where that is not known.

    Raises:
        UserError: A cohort is not prepared.
    """
    if not all({"crop", "source_width", "source_height"} <= record.keys() for record in records):
        return None  # shards of another program
    if any("box" not in record for record in records):
        # What was kept may then be what was left of the exposed field, which scoring finds by itself.
        settings = [read_manifest(shards, cohort).settings for cohort in cohorts]
        if any(one.get("crop") == "collimation" for one in settings):
            return None
    kept = [share for record in records if (share := kept_share(record)) is not None]
    if not kept:
        return Boxes(0.0)
    width, height = (round(median(sizes), 3) for sizes in zip(*kept, strict=True))
    return Boxes(round(len(kept) / len(records), 4), width, height)


def boxes_of_run(folder: RunFolder, description: Mapping[str, Any]) -> Boxes | None:
    """How the training radiographs of a run were cut; None where neither the run nor its shards say.

    Args:
        folder: The run's.
        description: Its best.json. Runs from before it told the boxes are judged by their shards, if they are still those of the training.
    """
    if description.get("boxes") is not None:
        return Boxes(**description["boxes"])
    experiment = folder.experiment()
    if experiment.prepare.crop == "none":
        return Boxes(0.0)
    shards, cohorts = experiment.prepare.shards, experiment.cohorts_of("development")
    trained_on = description.get("data", {})
    try:
        if any(read_manifest(shards, cohort).digest != trained_on.get(cohort) for cohort in cohorts if cohort in trained_on):
            return None
        _, records = index_split(shards, cohorts, "train")
        return boxes_in(shards, cohorts, records) if records else None
    except (UserError, OSError, tarfile.TarError, ValueError):
        return None
