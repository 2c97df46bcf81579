"""Radiographs to score held to how those of training were cut: a network that knows only pictures cut to boxes is given no others."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.config import Experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.boxes import Boxes

log = logging.getLogger("sacro_ray")

WHAT_TO_DO = (
    "Give a cohort.csv with crop_left, crop_top, crop_right, crop_bottom (the box around the joints, pixels of the file's picture, "
    "right and bottom exclusive), or accept whole radiographs with --whole-radiographs, which marks each of their scores not_cropped"
)


def held_to_training(
    items: Sequence[Item], boxes: Boxes | None, experiment: Experiment, given: str, whole_radiographs: bool
) -> list[Item]:
    """The items, each with what becomes of it where it is not cut to a box.

    Args:
        items: The input.
        boxes: How the training radiographs of the run were cut, see `boxes_of_run`.
        experiment: The run's configuration, with overrides.
        given: The input, as the user named it.
        whole_radiographs: The user accepts whole radiographs.

    Raises:
        UserError: The network needs boxes, and not one item has one.
    """
    crops = experiment.prepare.crop != "none"
    whole = sum(not (item.cut or (item.box is not None and crops)) for item in items)
    if boxes is None or not boxes.needed:
        _warn_of_another_cut(len(items), whole, boxes, experiment)
        return list(items)
    if whole == len(items) and not whole_radiographs:
        ignored = "" if crops else ' (prepare.crop = "none" leaves the boxes of a table aside)'
        raise UserError(
            f"the run {experiment.name} was trained on radiographs cut to the boxes of a table ({boxes.share:.0%} of them), and "
            f"none of the {len(items)} radiographs of {given} has a box{ignored}: their scores would mean nothing. {WHAT_TO_DO}"
        )
    if whole and whole_radiographs:
        log.warning(
            "%d of %d radiographs are scored whole, although %s knows only such as are cut to boxes: do not rely on these scores",
            whole, len(items), experiment.name,
        )  # fmt: skip
    elif whole:
        log.warning("%d of %d radiographs have no box and are not scored (no_box). %s", whole, len(items), WHAT_TO_DO)
    return [replace(item, whole="marked" if whole_radiographs else "refused") for item in items]


def _warn_of_another_cut(items: int, whole: int, boxes: Boxes | None, experiment: Experiment) -> None:
    if boxes is None and whole:
        log.warning(
            "%s does not say whether it was trained on radiographs cut to boxes, and its shards are not at hand; if it was, the scores "
            "of %d whole radiographs mean nothing",
            experiment.name, whole,
        )  # fmt: skip
    elif boxes is not None and boxes.share == 0 and whole < items:
        log.warning(
            "%s was trained on whole radiographs, and %d of these %d are cut to boxes; --set prepare.crop=none takes them whole",
            experiment.name, items - whole, items,
        )  # fmt: skip
