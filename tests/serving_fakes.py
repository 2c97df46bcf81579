"""What stands in for the network where only what goes over the wire is tested."""

import base64
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from sacro_ray.serving.answers import Answer, Call, Refused
from sacro_ray.serving.app import About

ABOUT = About("a <run>", "9.9.9", {"sensitivity": 0.2, "specificity": 0.8, "balanced": 0.55}, 3 * 2**19)


async def score_brightness(data: bytes, overlay: bool) -> Answer:
    """The mean grey of a picture as its probability; refuses as the real one does."""
    if data == b"busy":
        raise Refused(503, "not_ready", "the network is being started anew; try again in a minute")
    if data == b"poison":
        raise Refused(422, "decoder_crashed", "the decoder ended over this file")
    try:
        grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    except (UnidentifiedImageError, OSError):
        raise Refused(415, "not_an_image", "neither a DICOM file nor a TIFF, PNG or JPEG picture") from None
    probability = float(grey.mean() / 255)
    return Answer(
        probability=probability,
        calls={name: Call(cutoff=cutoff, definite=probability >= cutoff) for name, cutoff in ABOUT.cutoffs.items()},
        quality=["small", "unfamiliar"] if max(grey.shape) < 100 else [],
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
