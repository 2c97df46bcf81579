"""A contact sheet: radiographs of a split to look at, each before and after its grey levels were adjusted."""

import contextlib
import io
import json
import tarfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sacro_ray.config import Prepare
from sacro_ray.dataset.files import read_file
from sacro_ray.dataset.plan import PlannedRadiograph
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph

RADIOGRAPHS = 24
COLUMNS, CELL_PX, CAPTION_PX, GAP_PX = 4, 190, 34, 8
PAPER, INK = 245, 30


def contact_sheet(title: str, radiographs: Sequence[PlannedRadiograph], shards: Sequence[Path], settings: Prepare) -> bytes:
    """Draw radiographs in pairs: left the file's full range of grey values, right as stored in the shard.

    Args:
        title: The heading.
        radiographs: At most `RADIOGRAPHS` of these are drawn.
        shards: The tar files that hold them.
        settings: The preparation's.

    Returns:
        A grey PNG.
    """
    small = settings.model_copy(update={"store_size": CELL_PX})
    wanted = {radiograph.key: radiograph for radiograph in radiographs[:RADIOGRAPHS]}
    cells = [_cell(wanted[key], pixels, record, small) for key, pixels, record in _stored(shards, wanted)]
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


def _stored(shards: Sequence[Path], wanted: Collection[str]) -> Iterator[tuple[str, Image.Image, dict[str, Any]]]:
    """Key, picture and record of the wanted samples, in shard order."""
    for path in shards:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                if key in wanted and ending == "png":
                    picture = Image.open(io.BytesIO(_member(tar, member)))
                    yield key, picture, json.loads(_member(tar, tar.getmember(f"{key}.json")))


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _cell(radiograph: PlannedRadiograph, stored: Image.Image, record: dict[str, Any], settings: Prepare) -> Image.Image:
    cell = Image.new("L", (2 * CELL_PX + GAP_PX, CELL_PX + CAPTION_PX), PAPER)
    cell.paste(_centred(stored), (CELL_PX + GAP_PX, 0))
    # A file that has gone since its shard was written leaves its half empty.
    with contextlib.suppress(OSError, ExcludedRadiograph):
        before = read_radiograph(read_file(radiograph.path), settings, radiograph.box, plain=True)
        cell.paste(_centred(Image.fromarray(before.pixels)), (0, 0))
    label = {0: "negative", 1: "positive", None: "discordant"}[radiograph.label]
    name = radiograph.radiograph_id if len(radiograph.radiograph_id) <= 28 else f"{radiograph.radiograph_id[:27]}…"
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(13)
    draw.text((0, CELL_PX + 1), f"{name}  {label}", fill=INK, font=font)
    words = (record["greyscale"], *record["notes"], f"{record['source_width']} x {record['source_height']}")
    draw.text((0, CELL_PX + 16), "  ".join(words), fill=INK, font=font)
    return cell


def _centred(picture: Image.Image) -> Image.Image:
    square = Image.new("L", (CELL_PX, CELL_PX), 0)
    picture.thumbnail((CELL_PX, CELL_PX), Image.Resampling.BICUBIC)
    square.paste(picture, ((CELL_PX - picture.width) // 2, (CELL_PX - picture.height) // 2))
    return square
