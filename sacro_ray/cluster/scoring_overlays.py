"""Explanations on paper: an overlay a radiograph, and a contact sheet of all, sorted by probability."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sacro_ray.disk import write_whole
from sacro_ray.imaging.remarks import gravest_first, in_words

SMALLEST_SIDE_PX = 384
"""Overlays are enlarged to at least this, for the eye."""
TEMPLATE = Path(__file__).with_name("contact_sheet.html")


def overlay_picture(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A Grad-CAM map in colour over the radiograph.

    Args:
        image: uint8 (H, W), as the network saw it.
        heat: float32 (H, W) in [0, 1], from `grad_cam`.

    Returns:
        uint8 (height, width, 3), enlarged like `enlarged`.
    """
    from sacro_ray.cluster.final_evaluation import overlay  # matplotlib, which scoring alone does not need

    larger = enlarged(image)
    size = (larger.shape[1], larger.shape[0])
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
    return overlay(larger, smooth.clip(0, 1))


def enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The radiograph, uint8 (H, W), with a longest side of at least `SMALLEST_SIDE_PX`."""
    factor = max(1.0, SMALLEST_SIDE_PX / max(image.shape))
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W) or (H, W, 3) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def write_contact_sheet(path: Path, rows: Iterable[Mapping[str, Any]], cutoffs: Mapping[str, float], title: str) -> None:
    """Write the contact sheet: the radiographs with a score, the highest first, and those without one, with the reason.

    Args:
        path: The HTML file; the overlays are referred to relative to it.
        rows: Rows of scores.csv with `overlay`.
        cutoffs: Cut-off by name.
        title: Name of the run.
    """
    every = list(rows)
    failed = [row for row in every if row["status"] != "ok"]
    scored = sorted((row for row in every if row["status"] == "ok"), key=lambda row: (-row["probability"], row["input"]))
    counts = Counter(flag for row in scored for flag in row["quality"].split())
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        rows=scored,
        failed=failed,
        remarked=[row for row in scored if row["quality"]],
        remarks={words: counts[flag] for flag in gravest_first(counts) for words in in_words([flag])},
        cutoffs=cutoffs,
        title=title,
        in_words=in_words,
    )
    write_whole(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
