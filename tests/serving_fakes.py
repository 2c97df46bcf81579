"""What stands in for the network where only what goes over the wire is tested."""

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image, UnidentifiedImageError

from sacro_ray.imaging.decode import Box
from sacro_ray.imaging.remarks import in_words
from sacro_ray.serving.answers import Answer, Call, Picture, Refused
from sacro_ray.serving.app import About

ABOUT = About("a <run>", "9.9.9", {"sensitivity": 0.2, "specificity": 0.8, "balanced": 0.55}, 3 * 2**19)


CUT_ABOUT = replace(ABOUT, box_needed=True, usual_box=(0.5, 0.4))
"""Of a run that was trained on radiographs cut to boxes."""


def _grey(data: bytes) -> np.ndarray:
    if data == b"busy":
        raise Refused(503, "not_ready", "the network is being started anew; try again in a minute")
    if data == b"poison":
        raise Refused(422, "decoder_crashed", "the decoder ended over this file")
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    except (UnidentifiedImageError, OSError):
        raise Refused(415, "not_an_image", "neither a DICOM file nor a TIFF, PNG or JPEG picture") from None


async def show_grey(data: bytes) -> Picture:
    """The picture as it is, as of a file with twice as many pixels a side."""
    grey = _grey(data)
    return Picture(picture=_data_url(grey), width=2 * grey.shape[1], height=2 * grey.shape[0])


async def score_brightness(data: bytes, box: Box | None, overlay: bool) -> Answer:
    """The mean grey of a picture, or of what is in the box, as its probability; refuses as the real one does."""
    grey = _grey(data)
    if box is not None:
        left, top, right, bottom = (edge // 2 for edge in box)
        grey = grey[top:bottom, left:right]
        if not grey.size:
            raise Refused(422, "crop_outside", "the box does not lie within the picture")
    probability = float(grey.mean() / 255)
    quality = ["small", "unfamiliar"] if max(grey.shape) < 100 else []
    return Answer(
        remarks=in_words(quality),
        probability=probability,
        calls={name: Call(cutoff=cutoff, definite=probability >= cutoff) for name, cutoff in ABOUT.cutoffs.items()},
        quality=quality,
        familiarity=12.5,
        run=ABOUT.run,
        checkpoint="ab" * 32,
        version=ABOUT.version,
        radiograph=_data_url(grey) if overlay else None,
        overlay=_data_url(np.stack([grey, 255 - grey, grey], axis=2)) if overlay else None,
    )


def noise() -> np.ndarray:
    """A radiograph of noise, uint8 (60, 80)."""
    return np.random.default_rng(0).integers(0, 255, (60, 80), dtype=np.uint8)


def png_bytes(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _data_url(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels)).decode("ascii")
