"""Radiographs with their Grad-CAM maps, for the report."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sacro_ray.evaluation.context import Example

GROUPS = ("true_positive", "true_negative", "false_positive", "false_negative")


@dataclass(frozen=True)
class Picture:
    """One radiograph of the gallery, its images as data addresses."""

    group: str
    caption: str
    image: str
    overlay: str


def pictures(examples: Sequence[Example]) -> list[Picture]:
    """The examples in the order of `GROUPS`, with what stands below each."""
    ordered = sorted(examples, key=lambda example: GROUPS.index(example.group))
    return [
        Picture(
            group=example.group.replace("_", " "),
            caption=f"{example.radiograph_id}, score {example.probability:.3f}"
            + (f", {example.caption}" if example.caption else ""),
            image=_address(example.image),
            overlay=_address(example.overlay),
        )
        for example in ordered
    ]


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
