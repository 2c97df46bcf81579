"""A contact sheet: radiographs of a split to look at, each before and after its grey levels were adjusted."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sacro_ray.config import Prepare
from sacro_ray.dataset.plan import PlannedRadiograph
from sacro_ray.imaging.decode import read_radiograph
from sacro_ray.imaging.exclusion import ExcludedRadiograph

RADIOGRAPHS = 24
COLUMNS, CELL_PX, CAPTION_PX, GAP_PX = 4, 190, 34, 8
PAPER, INK = 245, 30


def contact_sheet(title: str, radiographs: Sequence[PlannedRadiograph], settings: Prepare) -> bytes:
    """Draw radiographs in pairs: left the file's full range of grey values, right as stored in the shard.

    Args:
        title: The heading.
        radiographs: At most `RADIOGRAPHS` of these are drawn; one that cannot be read is left out.
        settings: The preparation's.

    Returns:
        A grey PNG.
    """
    small = settings.model_copy(update={"store_size": max(32, CELL_PX)})
    cells = [cell for r in radiographs[:RADIOGRAPHS] if (cell := _cell(r, small)) is not None]
    rows = max(1, -(-len(cells) // COLUMNS))
    width, height = 2 * CELL_PX + GAP_PX, CELL_PX + CAPTION_PX
    sheet = Image.new("L", (COLUMNS * (width + 2 * GAP_PX) + GAP_PX, rows * (height + GAP_PX) + 2 * CAPTION_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * GAP_PX, GAP_PX), title, fill=INK, font=ImageFont.load_default(18))
    for place, cell in enumerate(cells):
        left = GAP_PX + (place % COLUMNS) * (width + 2 * GAP_PX)
        sheet.paste(cell, (left, CAPTION_PX + GAP_PX + (place // COLUMNS) * (height + GAP_PX)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _cell(radiograph: PlannedRadiograph, settings: Prepare) -> Image.Image | None:
    data = Path(radiograph.path).read_bytes()
    try:
        before = read_radiograph(data, settings, radiograph.box, plain=True)
        after = read_radiograph(data, settings, radiograph.box)
    except ExcludedRadiograph:
        return None
    cell = Image.new("L", (2 * CELL_PX + GAP_PX, CELL_PX + CAPTION_PX), PAPER)
    for left, pixels in ((0, before.pixels), (CELL_PX + GAP_PX, after.pixels)):
        cell.paste(_centred(pixels), (left, 0))
    label = {0: "negative", 1: "positive", None: "discordant"}[radiograph.label]
    name = radiograph.radiograph_id if len(radiograph.radiograph_id) <= 28 else f"{radiograph.radiograph_id[:27]}…"
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(13)
    draw.text((0, CELL_PX + 1), f"{name}  {label}", fill=INK, font=font)
    height, width = after.source_size
    draw.text((0, CELL_PX + 16), f"{after.greyscale}  {' '.join(after.notes)}  {width} x {height}", fill=INK, font=font)
    return cell


def _centred(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    picture, square = Image.fromarray(pixels), Image.new("L", (CELL_PX, CELL_PX), 0)
    square.paste(picture, ((CELL_PX - picture.width) // 2, (CELL_PX - picture.height) // 2))
    return square
