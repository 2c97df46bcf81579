"""An upload decoded in a process of its own, for the network and for the eye: these functions run as Ray tasks."""

import resource
from dataclasses import dataclass

from sacro_ray.cluster.scoring_inputs import Whole
from sacro_ray.cluster.scoring_overlays import as_png
from sacro_ray.cluster.scoring_reading import Prepared, ended_when_stuck, prepare_bytes
from sacro_ray.config import Experiment
from sacro_ray.imaging.decode import Box, read_radiograph
from sacro_ray.imaging.exclusion import ExcludedRadiograph

LONGEST_DECODING_S = 30.0
"""Somebody waits: a decoder that takes longer for one upload is taken for stuck. The largest plain radiographs take about a second."""
SHOWN_PX = 1024
"""Longest side of the picture on which a box is drawn."""


@dataclass(frozen=True)
class Shown:
    """A whole radiograph to look at, or the reason why it cannot be shown.

    Attributes:
        png: The bytes of a PNG file.
        width: Of the file's picture, pixels; that of `png` may be smaller.
        height: The same.
        error: Blank where there is a picture; never text from a header.
    """

    png: bytes = b""
    width: int = 0
    height: int = 0
    error: str = ""


def decode_upload(data: bytes, box: Box | None, whole: Whole, experiment: Experiment, size_px: int) -> Prepared:
    """An upload's bytes as the square the network takes, or the reason why it cannot be scored."""
    _leave_no_core()
    with ended_when_stuck(LONGEST_DECODING_S):
        return prepare_bytes(data, experiment, size_px, box, whole)


def show_upload(data: bytes, experiment: Experiment) -> Shown:
    """An upload's bytes as a picture, whole, in the grey levels that the network gets."""
    _leave_no_core()
    settings = experiment.prepare.model_copy(update={"crop": "none", "store_size": SHOWN_PX})
    try:
        with ended_when_stuck(LONGEST_DECODING_S):
            radiograph = read_radiograph(data, settings)
    except ExcludedRadiograph as error:
        return Shown(error=str(error))
    height, width = radiograph.source_size
    return Shown(as_png(radiograph.pixels), width, height)


def _leave_no_core() -> None:
    """A decoder that dies must not leave its memory, and the upload in it, behind as a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
